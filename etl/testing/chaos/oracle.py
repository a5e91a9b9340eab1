"""The oracle: holds the mirror against the source's payloads, column by column.

It reads payloads on its own: it shares no code with the pipeline, so that a mistake can't cancel out.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg

Connection = psycopg.Connection[tuple[object, ...]]
Payloads = Mapping[str, Mapping[str, Any]]

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
# Of values that don't decide whether a row can be read at all: what columns they go to.
NUMBERS = ("job_category_id", "job_sub_category_id", "percent_completed", "purge_days", "number_of_attempts")
WORDS = {name for name, key in TEXTS.items() if key not in {"jobID", "ID", "jobStatus", "clientID", "DatabaseName"}}
WORDS -= {"account_code", *NUMBERS}
STATUSES = {status.lower(): status for status in ("Queued", "Inprogress", "Completed", "Failed")}
_A_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
UNREAD = object()
"""In place of a column's value: it stands in `extra` as it came."""
# Whole rows: all, or those of one source.
_JOBS = "SELECT * FROM aims360.jobs"
_DOCUMENTS = "SELECT * FROM aims360.job_documents ORDER BY job_id, position"
_JOBS_OF = "SELECT * FROM aims360.jobs WHERE source_id = (SELECT source_id FROM etl.sources WHERE name = %s)"
_DOCUMENTS_OF = """
SELECT *
FROM aims360.job_documents
WHERE source_id = (SELECT source_id FROM etl.sources WHERE name = %s)
ORDER BY job_id, position
"""
_KNOWN = {*TEXTS.values(), *TIMES.values(), *ANSWERS.values(), "publishLinkAccessScope", "response", "rowversion"}
_KNOWN_OF_DOCUMENTS = frozenset(
    "documentName DownloadLink SizeInMB Type DocumentID DocumentGUID ExpiryDate Version".split()
)


@dataclass(frozen=True, slots=True)
class Difference:
    """How mirror and source differ: keys of jobs, and sentences on what is wrong with those that are stale.

    `waiting` jobs are gone from the source, and excused.
    """

    compared: int = 0
    missing: list[str] = field(default_factory=list)
    stale: dict[str, list[str]] = field(default_factory=dict)
    ghosts: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    @property
    def sentences(self) -> list[str]:
        """All of it, for people."""
        found = [f"{job_id} is missing" for job_id in self.missing]
        found += [f"{job_id} is a ghost" for job_id in self.ghosts]
        return found + [said for sentences in self.stale.values() for said in sentences]


def differences(db: Connection, there: Payloads) -> list[str]:
    """Sentences on what differs between the mirror and the payloads of the source, with nothing excused."""
    return compare(db, there).sentences


def compare(
    db: Connection, there: Payloads, excused: tuple[datetime, datetime] | None = None, source: str | None = None
) -> Difference:
    """What differs. `excused`: jobs that the source no longer shows may wait if their purge date lies between these.

    Then what a milder purge kept is excused too: it is in the mirror for its owner alone. `source`: whose rows are
    meant where the database mirrors several.
    """
    given = () if source is None else (source,)
    here = {row["job_id"]: row for row in named(db, _JOBS_OF if given else _JOBS, *given)}
    documents: dict[str, list[dict[str, Any]]] = {}
    for row in named(db, _DOCUMENTS_OF if given else _DOCUMENTS, *given):
        documents.setdefault(row["job_id"], []).append(row)
    gone = [row for job_id, row in sorted(here.items()) if job_id not in there]
    gone = [row for row in gone if excused is None or row["purged_at"] is None]
    waiting = [row["job_id"] for row in gone if _is_between(row["purge_date_time"], excused)]
    pairs = ((job_id, here[job_id]) for job_id in sorted(there.keys() & here.keys()))
    stale = {job_id: list(_stale(row, documents.get(job_id, []), there[job_id])) for job_id, row in pairs}
    return Difference(
        compared=len(there),
        missing=sorted(there.keys() - here.keys()),
        stale={job_id: sentences for job_id, sentences in stale.items() if sentences},
        ghosts=[row["job_id"] for row in gone if row["job_id"] not in waiting],
        waiting=waiting,
    )


def may_wait(now: datetime, look_back: timedelta) -> tuple[datetime, datetime]:
    """Return between which purge dates jobs may still be in the mirror.

    The source tells its time to the second, and a date as much as half a tick later than it is.
    """
    return now.replace(microsecond=0) - look_back, now + timedelta(milliseconds=2)


def _is_between(moment: datetime | None, bounds: tuple[datetime, datetime] | None) -> bool:
    return moment is not None and bounds is not None and bounds[0] < moment <= bounds[1]


def _stale(row: dict[str, Any], documents: list[dict[str, Any]], payload: Mapping[str, Any]) -> Iterator[str]:
    job_id = row["job_id"]
    wanted = expected_documents(payload)
    columns = {**expected(payload), "documents": len(wanted)}
    yield from _unlike(job_id, row, columns, {"source_id", "synced_at", "purged_at", "reruns_seen"})
    if len(wanted) != len(documents):
        yield f"{job_id} has {len(documents)} documents, not {len(wanted)}"
    for document, columns in zip(documents, wanted, strict=False):
        ends = [end for end in (columns["expiry_date"], _plain_time(payload.get("purgeDateTime"))) if end]
        until = min(ends, default=None) if row["purged_at"] is None else None
        columns |= {"available_until": until, "account_code": payload.get("accountCode")}
        yield from _unlike(f"{job_id}, document {columns['position']}", document, columns, {"source_id", "job_id"})


def _unlike(whose: str, found: dict[str, Any], wanted: dict[str, Any], ours: set[str]) -> Iterable[str]:
    """What differs in a row, every column of which is the source's but for `ours`."""
    assert found.keys() - ours == wanted.keys()
    for name, value in wanted.items():
        if found[name] != value:
            yield f"{whose}: {name} is {found[name]!r}, not {value!r}"


def expected(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a payload of either generation should become."""
    names = {**TEXTS, **TIMES, **ANSWERS}
    wanted = {column: _plain_text(column, payload.get(name)) for column, name in TEXTS.items()}
    wanted |= {column: _plain_time(payload.get(name)) for column, name in TIMES.items()}
    wanted |= {column: _plain_answer(payload.get(name)) for column, name in ANSWERS.items()}
    wanted["job_status"] = STATUSES.get(str(wanted["job_status"]).lower(), wanted["job_status"])
    unread = {names[column]: payload[names[column]] for column, value in wanted.items() if value is UNREAD}
    wanted = {column: None if value is UNREAD else value for column, value in wanted.items()}
    scope = payload.get("publishLinkAccessScope")
    wanted["publish_link_access_scope"] = {"PUBLIC": "Public"}.get(scope, scope)  # type: ignore[arg-type]
    wanted["row_version"] = a_rowversion(payload)
    response = payload.get("response") or ""
    is_json, is_list = response[:1] in ("{", "["), payload.get("responseType") != "In-line JSON" and response[:1] == "["
    wanted["response_json"] = json.loads(response) if is_json and not is_list else None
    wanted["response_text"] = None if is_json else response or None
    unknown = {name: value for name, value in payload.items() if name not in _KNOWN and "@" not in name}
    wanted["extra"] = {**unknown, **unread} or None
    return wanted


def _plain_text(column: str, value: Any) -> Any:
    """What a number or a text should become."""
    if column in NUMBERS:
        return _plain_number(value)
    if column in WORDS and value is not None:
        if isinstance(value, bool | list | dict):
            return UNREAD
        text = str(value)
        return UNREAD if column.endswith("category_name") and len(text) > 150 else text
    return value


def _plain_number(value: Any) -> Any:
    """A whole number; half a one goes to the even side."""
    try:
        number = round(Decimal(str(value).strip())) if isinstance(value, int | float | str) else None
    except (ArithmeticError, ValueError):
        return None if value == "" else UNREAD
    if number is None or isinstance(value, bool):
        return None if value is None else UNREAD
    return number if abs(number) < 2**31 else UNREAD


def _plain_time(value: Any) -> Any:
    """A time from 1980 on."""
    try:
        moment = a_time(value)
    except (AttributeError, ValueError):
        return UNREAD
    return None if moment is None or moment.year < 1980 else moment


def _plain_answer(value: Any) -> Any:
    """Yes or no."""
    said = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": None, "none": None}
    return said.get(str(value).lower(), UNREAD)


def expected_documents(payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The columns of the documents in a payload's response."""
    response = payload.get("response")
    if response is None or not response.startswith("[") or payload.get("responseType") == "In-line JSON":
        return []
    return [
        {
            "position": position,
            "document_name": document.get("documentName"),
            "download_link": document.get("DownloadLink"),
            "size_in_mb": Decimal(str(document["SizeInMB"])),
            "type": document.get("Type"),
            "document_id": document.get("DocumentID") or document.get("DocumentGUID"),
            "expiry_date": _plain_time(document.get("ExpiryDate")),
            "version": document.get("Version"),
            "extra": {name: value for name, value in document.items() if name not in _KNOWN_OF_DOCUMENTS} or None,
        }
        for position, document in enumerate(json.loads(response))
    ]


def a_time(text: str | None) -> datetime | None:
    """A time of a payload in UTC, its fraction cut to microseconds; None where there is none."""
    if text is None or text == "":
        return None
    whole, _, fraction = text.removesuffix("Z").removesuffix("+00:00").partition(".")
    if not _A_TIME.fullmatch(whole):
        raise ValueError(text)
    micros = int(fraction[:6].ljust(6, "0"))
    return datetime.fromisoformat(whole).replace(microsecond=micros, tzinfo=UTC)  # many times as fast as strptime


def a_rowversion(payload: Mapping[str, Any]) -> int | None:
    """The number in a payload's rowversion, or in its etag, if that has one."""
    text = payload.get("rowversion")
    etag = payload.get("@odata.etag", payload.get("@etag"))
    if text is None and isinstance(etag, str):
        inner = etag.split('"')[1]
        coded = _decoded(inner) if re.fullmatch(r"[A-Za-z0-9+/=_-]+", inner) else b""
        text = coded.decode().split("'")[1] if coded.startswith(b"binary'") else None
    return None if text is None else int(_decoded(text).hex(), 16)


def _decoded(text: str) -> bytes:
    """Base64 of either alphabet, padded or not; nothing where it is none."""
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    return b"" if len(plain) % 4 == 1 else base64.b64decode(plain + "=" * (-len(plain) % 4))


def named(db: Connection, statement: str, *given: str) -> list[dict[str, Any]]:
    """The rows of a statement by column name."""
    cursor = db.execute(statement, given)
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
