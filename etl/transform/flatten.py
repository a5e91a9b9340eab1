"""A raw page becomes a batch: jobs with their documents, and rejects. Pure.

The quick way reads a row, and the documents in its `response`, straight into their types where all properties are
known; any other row goes the careful way, which keeps unknown properties in `extra`. A row that can't be read is a
value (`Reject`), never an exception.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from etl.client import odata, payload
from etl.models import Batch, DocumentRow, Job, JobRow, Page, Reject

# The bounds of the columns they go to: one row out of range must not make Postgres refuse its whole page.
_Integer = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
_BigInteger = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Label = Annotated[str, Meta(max_length=150)]  # indexed: a btree entry holds 2,700 bytes
_Number = Annotated[str, Meta(max_length=40)]  # Postgres' numeric has an end
_JobId = Annotated[str, Meta(min_length=1, max_length=odata.LONGEST_JOB_ID)]
_SCOPES = {scope.lower(): scope for scope in ("Public", "Private", "PeopleInOrganization")}
_YES_NO = {"yes": True, "no": False}
_RANGE = "out of the years 1 to 9999 or of no known form"


class _SourceJob(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A row of either generation of the API, as typed as JSON allows (api.md, "The job")."""

    jobID: _JobId
    ID: _BigInteger | None = None
    jobCategoryID: _Integer | None = None
    categoryName: _Label | None = None
    jobSubCategoryID: _Integer | None = None
    subCategoryName: _Label | None = None
    jobDescription: str | None = None
    clientRequestId: str | None = None
    jobStatus: _Label | None = None
    jobStatusText: str | None = None
    percentCompleted: _Integer | None = None
    responseType: str | None = None
    response: object = None
    publishLink: str | None = None
    publishLinkAccessScope: str | None = None
    requestURL: str | None = None
    startDate: str | None = None
    completedDate: str | None = None
    createdDate: str | None = None
    modifiedDate: str | None = None
    purgeDateTime: str | None = None
    purgeDays: _Integer | None = None
    clientID: str | None = None
    DatabaseName: str | None = None
    accountCode: _Label | None = None
    canReRun: str | bool | None = None
    CanPublish: str | bool | None = None
    maximumDateTimeToExecuteJob: str | None = None
    numberOfAttempts: _Integer | None = None
    createdBy: str | None = None
    modifiedBy: str | None = None
    rowversion: str | None = None
    etag: str | None = msgspec.field(default=None, name="@odata.etag")


class _RejectLabel(msgspec.Struct):
    """What a row that can't be read is kept by, of whatever type it came."""

    jobID: object = None
    purgeDateTime: object = None


class _SourceDocument(msgspec.Struct, forbid_unknown_fields=True):
    """A document of the list inside `response`."""

    documentName: str | None = None
    DownloadLink: str | None = None
    SizeInMB: float | _Number | None = None
    Type: str | None = None
    DocumentID: str | None = None
    DocumentGUID: str | None = None
    ExpiryDate: str | None = None
    Version: str | int | float | None = None


_JOB_PROPERTIES = frozenset(_SourceJob.__struct_encode_fields__)
_DOCUMENT_PROPERTIES = frozenset(_SourceDocument.__struct_encode_fields__)
_job = msgspec.json.Decoder(_SourceJob)
_documents = msgspec.json.Decoder(list[_SourceDocument])
_BEGINS_JSON = re.compile(r'[ \t\r\n]*[\[{"\d\-tfn]')
_label = msgspec.json.Decoder(_RejectLabel)


class _Response(msgspec.Struct, frozen=True):
    """What the `response` of a job holds: documents, or other JSON (as text), or text."""

    documents: tuple[DocumentRow, ...] = ()
    json: str | None = None
    text: str | None = None
    replaced: int = 0
    unknown: frozenset[str] = frozenset()


_NONE: frozenset[str] = frozenset()
_NOTHING = _Response()


class _Read(msgspec.Struct, frozen=True):
    job: Job
    replaced: int
    unknown: frozenset[str]


def flatten(rows: Iterable[bytes], replaced_characters: int = 0) -> Batch:
    """The batch of a page's raw rows. Of rows with one jobID the newer is kept, the others are counted."""
    jobs: dict[str, Job] = {}
    rejects: list[Reject] = []
    unknown: set[str] = set()
    duplicates = 0
    for raw in rows:
        read = _read(raw)
        if isinstance(read, Reject):
            rejects.append(read)
            continue
        replaced_characters += read.replaced
        unknown |= read.unknown
        known = jobs.get(read.job.row.job_id)
        duplicates += known is not None
        if known is None or _is_newer(read.job.row, known.row):
            jobs[read.job.row.job_id] = read.job
    unread = {reject.job_id: reject for reject in rejects}
    return Batch(tuple(jobs.values()), tuple(unread.values()), duplicates, replaced_characters, frozenset(unknown))


class Together(NamedTuple):
    """Pages that are loaded as one: the last of them with the time of the latest, the batch of all, and themselves."""

    page: Page
    batch: Batch
    pages: tuple[Page, ...]


def together(read: Sequence[tuple[Page, Batch]]) -> Iterator[Together]:
    """Neighbouring pages as one, as long as none brings again what another brought: such a page stands by itself."""
    if len(read) == 1:
        yield _joined(read)
        return
    some: list[tuple[Page, Batch]] = []
    seen: set[str] = set()
    for page, batch in read:
        keys = {job.row.job_id for job in batch.jobs}.union(reject.job_id for reject in batch.rejects)
        is_alone = page.repeated > 0 or page.opaque
        if some and (is_alone or not seen.isdisjoint(keys)):
            yield _joined(some)
            some, seen = [], set()
        some.append((page, batch))
        seen |= keys
        if is_alone:
            yield _joined(some)
            some, seen = [], set()
    if some:
        yield _joined(some)


def _joined(some: Sequence[tuple[Page, Batch]]) -> Together:
    pages, batches = zip(*some, strict=True)
    if len(some) == 1:
        return Together(pages[0], batches[0], pages)
    batch = Batch(
        jobs=tuple(job for batch in batches for job in batch.jobs),
        rejects=tuple(reject for batch in batches for reject in batch.rejects),
        duplicates=sum(batch.duplicates for batch in batches),
        replaced_characters=sum(batch.replaced_characters for batch in batches),
        unknown=frozenset[str]().union(*(batch.unknown for batch in batches)),
        encoded=sum((batch.encoded for batch in batches), ()),
        same=sum(batch.same for batch in batches),
    )
    return Together(replace(pages[-1], answered_at=max(page.answered_at for page in pages)), batch, pages)


def _is_newer(row: JobRow, than: JobRow) -> bool:
    if row.row_version is not None and than.row_version is not None and row.row_version != than.row_version:
        return row.row_version > than.row_version
    return than.modified_date is None or (row.modified_date is not None and row.modified_date > than.modified_date)


def _read(raw: bytes) -> _Read | Reject:
    try:
        if b"u0000" in raw:  # perhaps an escaped NUL; lone surrogates msgspec refuses
            return _read_carefully(raw)
        job = _job.decode(raw)
        return _shape(job, _response_quickly(job.response, job.responseType), None, 0, _NONE)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        pass
    try:
        return _read_carefully(raw)
    except (ValueError, RecursionError) as error:
        return _reject(raw, str(error))


def _read_carefully(raw: bytes) -> _Read:
    """A row with unknown properties, or with characters Postgres can't store. Raises ValueError."""
    value, replaced = payload.decode(raw)
    if not isinstance(value, dict):
        raise ValueError("the row is not an object")
    extra = {name: item for name, item in value.items() if name not in _JOB_PROPERTIES and "@" not in name}
    known = {name: item for name, item in value.items() if name in _JOB_PROPERTIES}
    job = msgspec.convert(known, _SourceJob)
    response = _response(job.response, job.responseType)
    return _shape(job, response, _json(extra) if extra else None, replaced, frozenset(extra))


def _shape(job: _SourceJob, response: _Response, extra: str | None, replaced: int, unknown: frozenset[str]) -> _Read:
    # By position: names would take a tenth of a row's reading more. `_make` counts them.
    columns = (
        job.jobID,
        job.ID,
        job.jobCategoryID,
        job.categoryName,
        job.jobSubCategoryID,
        job.subCategoryName,
        job.jobDescription,
        job.clientRequestId,
        job.jobStatus,
        job.jobStatusText,
        job.percentCompleted,
        job.responseType,
        job.publishLink,
        _scope(job.publishLinkAccessScope),
        job.requestURL,
        _instant("startDate", job.startDate),
        _instant("completedDate", job.completedDate),
        _instant("createdDate", job.createdDate),
        _instant("modifiedDate", job.modifiedDate),
        _instant("purgeDateTime", job.purgeDateTime),
        job.purgeDays,
        job.clientID,
        job.DatabaseName,
        job.accountCode,
        _yes("canReRun", job.canReRun),
        _yes("CanPublish", job.CanPublish),
        _instant("maximumDateTimeToExecuteJob", job.maximumDateTimeToExecuteJob),
        job.numberOfAttempts,
        job.createdBy,
        job.modifiedBy,
        _row_version(job),
        response.json,
        response.text,
        extra,
    )
    row = JobRow._make(columns)
    return _Read(Job(row, response.documents), replaced + response.replaced, unknown | response.unknown)


def _row_version(job: _SourceJob) -> int | None:
    if job.rowversion is not None:
        return odata.rowversion(job.rowversion)
    return None if job.etag is None else odata.etag_rowversion(job.etag)


def _response_quickly(value: object, response_type: str | None) -> _Response:
    """The same as `_response`, in a row without escaped NULs; what is no plain list of documents goes there.

    A NUL of the documents may be escaped twice over: `\\\\\\u00750000` in the row.
    """
    if value is None:
        return _NOTHING
    if isinstance(value, str) and value.startswith("[") and "u0000" not in value and not _is_inline(response_type):
        try:
            documents = _documents.decode(value)
            if all(document.documentName or document.DownloadLink for document in documents):
                return _Response(tuple(map(_document, range(len(documents)), documents)))
        except (ValueError, RecursionError):  # which of them, and why, is said there
            pass
    return _response(value, response_type)


def _response(value: object, response_type: str | None) -> _Response:
    """Documents, other JSON or text, out of JSON that usually stands inside a string, now and then inside two."""
    replaced = 0
    for _ in range(2):
        if not isinstance(value, str):
            break
        if value and not _BEGINS_JSON.match(value):
            return _Response(text=value, replaced=replaced)
        try:
            inner, more = payload.decode(value)
        except ValueError:
            return _Response(text=value or None, replaced=replaced)
        value, replaced = inner, replaced + more
    if value is None:
        return _Response(replaced=replaced)
    if isinstance(value, list) and not _is_inline(response_type) and all(_is_document(item) for item in value):
        documents = tuple(_document_carefully(position, item) for position, item in enumerate(value))
        unknown = frozenset(f"response.{name}" for item in value for name in item.keys() - _DOCUMENT_PROPERTIES)
        return _Response(documents, replaced=replaced, unknown=unknown)
    return _Response(json=_json(value), replaced=replaced)


def _is_inline(response_type: str | None) -> bool:
    return response_type is not None and response_type.lower().startswith("in-line")


def _is_document(item: object) -> bool:
    return isinstance(item, dict) and ("documentName" in item or "DownloadLink" in item)


def _document_carefully(position: int, item: dict[str, object]) -> DocumentRow:
    """A document with unknown properties, perhaps. Raises ValueError that says which."""
    known = {name: value for name, value in item.items() if name in _DOCUMENT_PROPERTIES}
    extra = {name: value for name, value in item.items() if name not in _DOCUMENT_PROPERTIES}
    try:
        return _document(position, msgspec.convert(known, _SourceDocument), _json(extra) if extra else None)
    except ValueError as error:
        raise ValueError(f"response, document {position}: {error}") from None


def _document(position: int, document: _SourceDocument, extra: str | None = None) -> DocumentRow:
    return DocumentRow(
        position,
        document.documentName,
        document.DownloadLink,
        _size(document.SizeInMB),
        document.Type,
        document.DocumentGUID if document.DocumentID is None else document.DocumentID,
        _instant("ExpiryDate", document.ExpiryDate),
        None if document.Version is None else str(document.Version),
        extra,
    )


def _size(value: float | str | None) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, float):  # JSON has none that isn't finite
        return Decimal(repr(value))
    try:
        size = Decimal(value)
    except ArithmeticError:
        raise ValueError("SizeInMB is no size") from None
    if not (size.is_finite() and abs(size.adjusted()) < 400):
        raise ValueError("SizeInMB is no size")
    return size


def _json(value: object) -> str:
    """JSON text for a jsonb column."""
    return msgspec.json.encode(value).decode()


def _instant(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return odata.instant(text)
    except ValueError:
        raise ValueError(f"{name} is {_RANGE}") from None


def _yes(name: str, value: str | bool | None) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    try:
        return _YES_NO[value.lower()]
    except KeyError:
        raise ValueError(f'{name} is neither "Yes" nor "No"') from None


def _scope(text: str | None) -> str | None:
    return None if text is None else _SCOPES.get(text.lower(), text)


def _reject(raw: bytes, reason: str) -> Reject:
    """The raw row with the reason, under its jobID where that is readable, else under a digest of the row."""
    try:
        label = _label.decode(payload.shallow(raw))
    except (msgspec.MsgspecError, UnicodeError):
        label = _RejectLabel()
    job_id = label.jobID
    if not isinstance(job_id, str) or not 0 < len(job_id) <= odata.LONGEST_JOB_ID:
        job_id = "sha256:" + hashlib.sha256(raw).hexdigest()
    purge_date = odata.readable_instant(label.purgeDateTime)
    text = payload.storable(raw.decode("utf-8", "replace"))
    return Reject(payload.storable(job_id), payload.storable(reason)[:500], text, purge_date)
