"""A scene: a pretend AIMS360, a mirror of it, and the oracle that holds one against the other.

The oracle reads the source's payloads on its own: it shares no code with the pipeline.
"""

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from etl.api import Api
from etl.database import Connection
from etl.emulator import Emulator, World
from etl.model import Clock, Run
from etl.reconcile import Wish
from etl.settings import Source, read
from etl.sync import DryRun, Order, purge_now, reconcile_now, sync, what_is_due

BASE = "https://api.aims360.example"
TOKEN = "static-token"

# The source's property for each column that is carried over as it is.
TEXTS = {
    "job_id": "jobID",
    "id": "ID",
    "job_category_id": "jobCategoryID",
    "category_name": "categoryName",
    "job_sub_category_id": "jobSubCategoryID",
    "sub_category_name": "subCategoryName",
    "job_description": "jobDescription",
    "client_request_id": "clientRequestId",
    "job_status": "jobStatus",
    "job_status_text": "jobStatusText",
    "percent_completed": "percentCompleted",
    "response_type": "responseType",
    "publish_link": "publishLink",
    "request_url": "requestURL",
    "purge_days": "purgeDays",
    "client_id": "clientID",
    "database_name": "DatabaseName",
    "account_code": "accountCode",
    "number_of_attempts": "numberOfAttempts",
    "created_by": "createdBy",
    "modified_by": "modifiedBy",
}
TIMES = {
    "start_date": "startDate",
    "completed_date": "completedDate",
    "created_date": "createdDate",
    "modified_date": "modifiedDate",
    "purge_date_time": "purgeDateTime",
    "maximum_date_time_to_execute_job": "maximumDateTimeToExecuteJob",
}
ANSWERS = {"can_rerun": "canReRun", "can_publish": "CanPublish"}


class Scene:
    """A world served in-process and its mirror; `sync` runs on the world's clock, and sleeping lets the world live."""

    def __init__(self, db: Connection, world: World, source: Source | None = None, **emulator: Any) -> None:
        self.db = db
        self.world = world
        self.emulator = Emulator(world, token=TOKEN, reset=httpx.ReadError, **emulator)
        self.source = source or a_source()

    @property
    def clock(self) -> Clock:
        """The world's time."""
        return Clock(lambda: self.world.now, lambda: self.world.now.timestamp(), self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.world.advance(timedelta(seconds=seconds))

    def api(self, app: Callable[..., Any] | None = None) -> Api:
        """A client of the source, or of an application that stands before it."""
        return Api(self.source, self.clock, httpx.WSGITransport(app=app or self.emulator))

    def sync(self, app: Callable[..., Any] | None = None, **order: bool) -> Run:
        """One run."""
        return sync(self.source, lambda: self.api(app), self.db, self.clock, Order(**order))

    def purge(self) -> Run:
        """One run of the purge alone."""
        return purge_now(self.source, self.api, self.db, self.clock)

    def reconcile(self, app: Callable[..., Any] | None = None, **wish: Any) -> Run:
        """One comparison of all keys."""
        return reconcile_now(self.source, lambda: self.api(app), self.db, self.clock, Wish(**wish))

    def dry_run(self) -> DryRun:
        """What the purge would go over."""
        return what_is_due(self.source, self.db, self.clock)

    def set(self, **settings: Any) -> None:
        """The source with other settings from now on."""
        self.source = replace(self.source, **settings)

    def rows(self, statement: str, *given: object) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        return self.db.execute(statement, given or None).fetchall()

    def one(self, statement: str, *given: object) -> Any:
        """The only value of a statement."""
        [[value]] = self.rows(statement, *given)
        return value

    def differences(self) -> list[str]:
        """What is missing, stale or a ghost in the mirror, field by field; empty when mirror and source are equal."""
        there = {payload["jobID"]: payload for payload in map(self.world.payload, self.world.jobs())}
        return list(differences(self.db, there))


def a_source(**settings: Any) -> Source:
    """A source with the defaults of the settings."""
    environ = {"AIMS360_BASE_URL": BASE, "AIMS360_TOKEN": TOKEN}
    return replace(read(environ, Path("/nowhere")).source(), **settings)


def differences(db: Connection, there: dict[str, dict[str, Any]]) -> Iterable[str]:
    """Sentences on what differs between the mirror and the payloads of the source, column by column."""
    here = {row["job_id"]: row for row in named(db, "SELECT * FROM aims360.jobs")}
    documents: dict[str, list[dict[str, Any]]] = {}
    for row in named(db, "SELECT * FROM aims360.job_documents ORDER BY job_id, position"):
        documents.setdefault(row["job_id"], []).append(row)
    yield from (f"{job_id} is missing" for job_id in there.keys() - here.keys())
    yield from (f"{job_id} is a ghost" for job_id in here.keys() - there.keys())
    for job_id in there.keys() & here.keys():
        yield from _unlike(job_id, here[job_id], expected(there[job_id]), {"source_id", "synced_at", "purged_at"})
        wanted, found = expected_documents(there[job_id]), documents.get(job_id, [])
        if len(wanted) != len(found):
            yield f"{job_id} has {len(found)} documents, not {len(wanted)}"
        for document, columns in zip(found, wanted, strict=False):
            yield from _unlike(f"{job_id}, document {columns['position']}", document, columns, {"source_id", "job_id"})


def _unlike(whose: str, found: dict[str, Any], wanted: dict[str, Any], ours: set[str]) -> Iterable[str]:
    """What differs in a row, every column of which is the source's but for `ours`."""
    assert found.keys() - ours == wanted.keys()
    for name, value in wanted.items():
        if found[name] != value:
            yield f"{whose}: {name} is {found[name]!r}, not {value!r}"


def expected(payload: dict[str, Any]) -> dict[str, Any]:
    """The columns that a payload of either generation should become."""
    wanted = {column: payload.get(name) for column, name in TEXTS.items()}
    wanted |= {column: a_time(payload.get(name)) for column, name in TIMES.items()}
    wanted |= {column: {"Yes": True, "No": False, None: None}[payload.get(name)] for column, name in ANSWERS.items()}
    scope = payload.get("publishLinkAccessScope")
    wanted["publish_link_access_scope"] = {"PUBLIC": "Public"}.get(scope, scope)  # type: ignore[arg-type]
    wanted["row_version"] = a_rowversion(payload)
    response = payload.get("response") or ""
    is_json, is_list = response[:1] in ("{", "["), payload.get("responseType") != "In-line JSON" and response[:1] == "["
    wanted["response_json"] = json.loads(response) if is_json and not is_list else None
    wanted["response_text"] = None if is_json else response or None
    known = {*TEXTS.values(), *TIMES.values(), *ANSWERS.values(), "publishLinkAccessScope", "response", "rowversion"}
    wanted["extra"] = {name: value for name, value in payload.items() if name not in known and "@" not in name} or None
    return wanted


def expected_documents(payload: dict[str, Any]) -> list[dict[str, Any]]:
    """The columns of the documents in a payload's response."""
    response = payload.get("response")
    if response is None or not response.startswith("[") or payload.get("responseType") == "In-line JSON":
        return []
    known = {"documentName", "DownloadLink", "SizeInMB", "Type", "DocumentID", "DocumentGUID", "ExpiryDate", "Version"}
    return [
        {
            "position": position,
            "document_name": document.get("documentName"),
            "download_link": document.get("DownloadLink"),
            "size_in_mb": Decimal(str(document["SizeInMB"])),
            "type": document.get("Type"),
            "document_id": document.get("DocumentID") or document.get("DocumentGUID"),
            "expiry_date": a_time(document.get("ExpiryDate")),
            "version": document.get("Version"),
            "extra": {name: value for name, value in document.items() if name not in known} or None,
        }
        for position, document in enumerate(json.loads(response))
    ]


def a_time(text: str | None) -> datetime | None:
    """A time of a payload, its fraction cut to microseconds."""
    if text is None:
        return None
    whole, _, fraction = text.removesuffix("Z").partition(".")
    moment = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return moment.replace(microsecond=int(fraction[:6].ljust(6, "0")))


def a_rowversion(payload: dict[str, Any]) -> int | None:
    """The number in a payload's rowversion, or in its etag."""
    text = payload.get("rowversion")
    if text is None and "@odata.etag" in payload:
        inner = payload["@odata.etag"].split('"')[1]
        text = base64.b64decode(inner).decode().split("'")[1]
    return None if text is None else int(base64.b64decode(text).hex(), 16)


def named(db: Connection, statement: str) -> list[dict[str, Any]]:
    """The rows of a statement by column name."""
    cursor = db.execute(statement)
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
