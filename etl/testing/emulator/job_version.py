"""One version of one row, and how the service shows it in either generation of its payload."""

import json
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Final, Literal

from etl.testing.emulator.sample_data import ACCOUNTS, Account, Kind
from etl.testing.emulator.sql_datetime import TICKS_A_DAY, shown, shown_hns, stamp, stored_hns

Generation = Literal["2019-06", "2019-08"]


# made once: `json.dumps` makes an encoder for every call that says anything special
_as_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class _Absent:
    """The type of `ABSENT`."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
"""Given as the value of a property, it makes the row appear without that property."""


@dataclass(slots=True)
class Home:
    """What all rows of a world share: host of links, payload generation, days until the purge, whose they may be."""

    links: str
    generation: Generation
    purge_days: int
    accounts: Sequence[Account] = ACCOUNTS


@dataclass(slots=True)
class Job:
    """A version of a row; never altered once made. Times are ticks.

    `job["jobStatus"]` gives what the service shows under that name (KeyError if it isn't shown). `raw` holds values
    that are shown verbatim; `verbatim` says that they are all there is.
    """

    home: Home
    number: int
    job_id: str
    kind: Kind
    account: Account
    created_by: str
    modified_by: str
    request: str | None
    status: str
    text: str
    percent: int
    created: int | None
    started: int | None
    completed: int | None
    modified: int | None
    purge: int | None
    attempts: int
    documents: int
    life: int
    version: int
    raw: dict[str, Any] | None = None
    verbatim: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.payload()[name]

    def but(self, **slots: Any) -> "Job":
        """A copy with other values; several times as fast as `dataclasses.replace`, and a world is made of these."""
        new = Job(*_values(self))
        for slot, value in slots.items():
            setattr(new, slot, value)
        return new

    def payload(self, select: Collection[str] = ()) -> dict[str, Any]:
        """The row as served, a new dict; or these properties of it, and its annotations."""
        raw = self.raw or {}
        if self.verbatim:
            return {name: raw[name] for name in _chosen(raw, select)}
        row = {name: COLUMNS[name](self) for name in _chosen(GENERATIONS[self.home.generation], select)}
        row.update((name, raw[name]) for name in _chosen(raw, select))
        return {name: value for name, value in row.items() if value is not ABSENT} if raw else row

    def rendered(self, select: Collection[str] = ()) -> bytes:
        """The row as JSON, or these properties of it; lone surrogates stay, as escapes."""
        return as_json(self.payload(select))


def as_json(value: Any) -> bytes:
    """Any JSON as the service writes it; lone surrogates stay, as escapes."""
    try:
        return _as_text(value).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def _chosen(names: Iterable[str], select: Collection[str]) -> Iterable[str]:
    return [name for name in names if name in select or name.startswith("@")] if select else names


_values = attrgetter(*(field.name for field in fields(Job)))


def rowversion_text(version: int) -> str:
    """A rowversion in base64: 8 bytes, big-endian, unsigned."""
    return b64encode(version.to_bytes(8, "big")).decode()


def etag(version: int) -> str:
    """The `@odata.etag` that carries a rowversion."""
    inner = b64encode(f"binary'{rowversion_text(version)}'".encode()).decode()
    return f'W/"{inner}"'


def _access_key(job: Job, position: int) -> str:
    # new for every attempt: a rerun replaces the outputs, and the old links are dead
    digest = blake2b(f"{job.job_id}/{job.attempts}/{position}".encode()).digest()
    return b64encode(digest[:57], altchars=b"Xx").decode() + stamp(job.completed or job.created or 0)


def _link(job: Job, position: int) -> str:
    return f"{job.home.links}/documentmanagement/v1.0/aimsdocument/{job.job_id}/{_access_key(job, position)}"


def _document(job: Job, position: int) -> dict[str, Any]:
    ended = job.completed or job.created or 0
    name = job.kind.name.replace(" ", "")
    document = {
        "documentName": f"{name}_{stamp(ended)[:14]}{f'_{position}' if position else ''}{job.kind.suffix}",
        "DownloadLink": _link(job, position),
        "SizeInMB": job.number * 37 % 500 / 100,
        "Type": job.kind.suffix,
        job.kind.identified_by: job.job_id,
        "ExpiryDate": shown_hns(stored_hns(ended + job.home.purge_days * TICKS_A_DAY) + job.number % 10_000),
    }
    return document if position % 3 == 2 else {**document, "Version": "1.0"}


def _response(job: Job) -> str | None:
    if job.status == "Failed":
        return job.text if job.number % 4 == 0 else None
    if job.status != "Completed":
        return None
    if job.kind.response_type == "In-line JSON":
        return _as_text({"updated": job.number % 900, "skipped": [], "note": job.text})
    return _as_text([_document(job, n) for n in range(job.documents)])


def _date(slot: str) -> Callable[[Job], str | None]:
    def show(job: Job) -> str | None:
        tick: int | None = getattr(job, slot)
        return None if tick is None else shown(tick)

    return show


def _request_url(job: Job) -> str:
    return f"{job.home.links}/documentmanagement/v1.0/aimsdocument/{job.job_id}"


COLUMNS: Final[Mapping[str, Callable[[Job], Any]]] = {
    "@odata.etag": lambda job: etag(job.version),
    "ID": lambda job: job.number,
    "jobCategoryID": lambda job: job.kind.category,
    "categoryName": lambda job: job.kind.category_name,
    "jobSubCategoryID": lambda job: job.kind.sub_category,
    "subCategoryName": lambda job: job.kind.name,
    "jobDescription": lambda job: job.kind.description,
    "clientRequestId": lambda job: job.request,
    "jobStatus": lambda job: job.status,
    "jobStatusText": lambda job: job.text,
    "publishLink": lambda job: _link(job, 0),
    "requestURL": _request_url,
    "publishLinkAccessScope": lambda job: job.kind.scope,
    "percentCompleted": lambda job: job.percent,
    "jobID": lambda job: job.job_id,
    "responseType": lambda job: job.kind.response_type,
    "response": _response,
    "startDate": _date("started"),
    "completedDate": _date("completed"),
    "purgeDateTime": _date("purge"),
    "clientID": lambda job: job.account.client,
    "DatabaseName": lambda job: job.account.database,
    "accountCode": lambda job: job.account.code,
    "purgeDays": lambda job: job.home.purge_days,
    "canReRun": lambda job: job.kind.can_rerun,
    "maximumDateTimeToExecuteJob": lambda job: None,
    "numberOfAttempts": lambda job: job.attempts,
    "CanPublish": lambda job: "No" if job.kind.response_type == "In-line JSON" else "Yes",
    "createdBy": lambda job: job.created_by,
    "createdDate": _date("created"),
    "modifiedBy": lambda job: job.modified_by,
    "modifiedDate": _date("modified"),
    "rowversion": lambda job: rowversion_text(job.version),
}

_ONLY_JUNE = frozenset(
    "ID jobCategoryID jobSubCategoryID purgeDays maximumDateTimeToExecuteJob numberOfAttempts CanPublish "
    "rowversion".split()
)
GENERATIONS: Final[Mapping[Generation, tuple[str, ...]]] = {
    "2019-06": tuple(name for name in COLUMNS if name != "@odata.etag"),
    "2019-08": tuple(name for name in COLUMNS if name not in _ONLY_JUNE),
}


def links_of(row: Mapping[str, Any]) -> Iterator[str]:
    """Every link of a served row under which an output can be had."""
    if isinstance(row.get("publishLink"), str):
        yield row["publishLink"]
    try:
        documents = json.loads(row["response"])
    except (KeyError, TypeError, ValueError):
        return
    for document in documents if isinstance(documents, list) else ():
        if isinstance(document, dict) and isinstance(document.get("DownloadLink"), str):
            yield document["DownloadLink"]
