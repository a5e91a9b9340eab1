"""A raw page becomes a batch: jobs with their documents, and rejects. Pure.

The quick way reads a row, and the documents in its `response`, straight into their types where all properties are
known and in the documented form; any other row goes the careful way, which keeps unknown properties in `extra`, and
reads values of another form as what they plainly mean. A row that can't be read is a value (`Reject`), never an
exception.

What decides is the key, the version, the dates of creation, change and purge, the status, whose job it is, and the
response where it begins like JSON: the row is a reject where one of them can't be read. Any other value that can't be
read leaves its column empty: it stands in `extra`, and the job says so (`Job.unread`).
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from etl.client import odata, payload
from etl.client.odata import read_date
from etl.models import ENDED_STATES, OPEN_STATES, REPLACED_TEXT, Batch, DocumentRow, Job, JobRow, Page, Reject
from etl.transform import value_readers

# The bounds of the columns they go to: one row out of range must not make Postgres refuse its whole page.
_Integer = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
_BigInteger = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Label = Annotated[str, Meta(max_length=value_readers.LONGEST_LABEL)]
_Number = Annotated[str, Meta(max_length=value_readers.LONGEST_NUMBER)]
_JobId = Annotated[str, Meta(min_length=1, max_length=odata.LONGEST_JOB_ID)]
_SCOPES = {scope.lower(): scope for scope in ("Public", "Private", "PeopleInOrganization")}
_YES_NO = {"yes": True, "no": False}
# By themselves, so that one look finds those that are spelt as documented; and in lower case.
_STATUSES = {spelt: status for status in (*OPEN_STATES, *ENDED_STATES) for spelt in (status, status.lower())}
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
    odata_etag: str | None = msgspec.field(default=None, name="@odata.etag")
    plain_etag: str | None = msgspec.field(default=None, name="@etag")  # its name in OData 4.01


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
_BEGINS_AN_OBJECT = re.compile(r'\s*"?\s*(?:\[\s*\{|\{\s*\\?["}])')  # or a list of them: no plain text does
# How other forms of a value are read, by property; those without a reader decide.
_INTEGERS = ("jobCategoryID", "jobSubCategoryID", "percentCompleted", "purgeDays", "numberOfAttempts")
_LABELS = ("categoryName", "subCategoryName")
_TEXTS = (
    *("jobDescription", "clientRequestId", "jobStatusText", "responseType", "publishLink", "publishLinkAccessScope"),
    *("requestURL", "createdBy", "modifiedBy"),
)
_DATES = ("startDate", "completedDate", "maximumDateTimeToExecuteJob")
_JOB_READERS: dict[str, value_readers.Reader] = {
    "ID": value_readers.read_key,
    "rowversion": value_readers.read_version,
    **dict.fromkeys(_INTEGERS, value_readers.read_integer),
    **dict.fromkeys(_LABELS, value_readers.read_label),
    **dict.fromkeys(_TEXTS, value_readers.read_text),
    **dict.fromkeys(_DATES, value_readers.read_date),
    **dict.fromkeys(("canReRun", "CanPublish"), value_readers.read_answer),
    **dict.fromkeys(("@odata.etag", "@etag"), value_readers.read_etag),
}
_REPLACEMENT = "\ufffd".encode()
_REPLACED = (REPLACED_TEXT, "replaced characters")  # in the place of a property and its form
_SPELLINGS = {name.lower(): name for name in _DOCUMENT_PROPERTIES}
_TELL_A_DOCUMENT = {"documentname", "downloadlink"}
_DOCUMENT_READERS: dict[str, value_readers.Reader] = {
    **dict.fromkeys(_DOCUMENT_PROPERTIES, value_readers.read_text),
    "SizeInMB": value_readers.read_size,
    "ExpiryDate": value_readers.read_date,
}


class _Response(msgspec.Struct, frozen=True):
    """What the `response` of a job holds: documents, or other JSON (as text), or text."""

    documents: tuple[DocumentRow, ...] = ()
    json: str | None = None
    text: str | None = None
    replaced: int = 0
    unknown: frozenset[str] = frozenset()
    unread: tuple[tuple[str, str], ...] = ()


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
    duplicates, count = 0, replaced_characters
    for raw in rows:
        read = _read(raw)
        if isinstance(read, Reject):
            rejects.append(read)
            continue
        count += read.replaced
        unknown |= read.unknown
        job = _mark_replaced(read.job, raw) if replaced_characters else read.job
        known = jobs.get(job.row.job_id)
        duplicates += known is not None
        if known is None or _is_newer(job.row, known.row):
            jobs[job.row.job_id] = job
    unread = {reject.job_id: reject for reject in rejects}
    return Batch(tuple(jobs.values()), tuple(unread.values()), duplicates, count, frozenset(unknown))


def _mark_replaced(job: Job, raw: bytes) -> Job:
    """Return the job as not wholly read where its page had characters replaced: they may be spoilt on their way."""
    has_some = _REPLACEMENT in raw or b"\\ufffd" in raw
    return replace(job, unread=(*job.unread, _REPLACED)) if has_some else job


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
        if b"u0000" not in raw:  # perhaps an escaped NUL; lone surrogates msgspec refuses
            job = _job.decode(raw)
            return _shape(job, _response_quickly(job.response, job.responseType))
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        pass
    try:
        return _read_carefully(raw)
    except (json.JSONDecodeError, payload.NoJSONError) as error:
        return _reject(raw, f"the row is no JSON: {error}")
    except (ValueError, RecursionError) as error:
        return _reject(raw, str(error))


def _read_carefully(raw: bytes) -> _Read:
    """A row with unknown properties, values of other forms, or characters Postgres can't store. Raises ValueError."""
    value, replaced = payload.decode(raw)
    if not isinstance(value, dict):
        raise ValueError("the row is not an object")
    unknown = {name: item for name, item in value.items() if name not in _JOB_PROPERTIES and "@" not in name}
    known = {name: item for name, item in value.items() if name in _JOB_PROPERTIES}
    # Documents that are in order are read quickly, unless they may hold a NUL.
    respond = _response if b"u0000" in raw else _response_quickly
    try:
        return _read_known(known, unknown, {}, replaced, respond)
    except ValueError:
        readable, unread = value_readers.read_values(known, _JOB_READERS)
        return _read_known(readable, unknown, unread, replaced, respond)


def _read_known(
    known: dict[str, object],
    unknown: dict[str, object],
    unread: dict[str, object],
    replaced: int,
    respond: Callable[[object, str | None], _Response],
) -> _Read:
    job = msgspec.convert(known, _SourceJob)
    read = _shape(job, respond(job.response, job.responseType), {**unknown, **unread})
    forms = {name: value_readers.describe_form(value) for name, value in unread.items()}
    return _Read(
        replace(read.job, unread=(*forms.items(), *read.job.unread)) if forms else read.job,
        read.replaced + replaced,
        read.unknown.union(unknown),
    )


def _shape(job: _SourceJob, response: _Response, extra: dict[str, object] | None = None) -> _Read:
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
        _spell_status(job.jobStatus),
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
        _yes(job.canReRun),
        _yes(job.CanPublish),
        _instant("maximumDateTimeToExecuteJob", job.maximumDateTimeToExecuteJob),
        job.numberOfAttempts,
        job.createdBy,
        job.modifiedBy,
        _row_version(job),
        response.json,
        response.text,
        payload.encode(extra) if extra else None,
    )
    row = JobRow._make(columns)
    return _Read(Job(row, response.documents, response.unread), response.replaced, response.unknown)


def _row_version(job: _SourceJob) -> int | None:
    if job.rowversion is not None:
        return odata.rowversion(job.rowversion)
    etag = job.plain_etag if job.odata_etag is None else job.odata_etag
    return None if etag is None else odata.etag_rowversion(etag)


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
    """Documents, other JSON or text, out of JSON that usually stands inside a string, now and then inside two.

    Raises ValueError where it begins like JSON and is none: it may have been spoilt on its way, with its documents.
    """
    replaced = 0
    for _ in range(2):
        if not isinstance(value, str):
            break
        if value and not _BEGINS_JSON.match(value):
            return _Response(text=value, replaced=replaced)
        try:
            inner, more = payload.decode(value)
        except ValueError as error:
            if _BEGINS_AN_OBJECT.match(value) and not isinstance(error, payload.TooDeepError):
                raise ValueError("response begins like JSON, and is none") from None
            return _Response(text=value or None, replaced=replaced)
        value, replaced = inner, replaced + more
    if isinstance(value, payload.Unbounded):
        return _Response(text=value.text, replaced=replaced)
    if value is None:
        return _Response(replaced=replaced)
    if isinstance(value, dict) and not _is_inline(response_type) and _is_document(value):
        value = [value]  # one, without its list
    if isinstance(value, list) and not _is_inline(response_type) and all(_is_document(item) for item in value):
        return replace(_read_documents(value), replaced=replaced)
    return _Response(json=payload.encode(value), replaced=replaced)


def _is_inline(response_type: str | None) -> bool:
    return response_type is not None and response_type.lower().startswith("in-line")


def _is_document(item: object) -> bool:
    return isinstance(item, dict) and not _TELL_A_DOCUMENT.isdisjoint(map(str.lower, item))


def _read_documents(items: list[dict[str, object]]) -> _Response:
    """Documents with unknown properties, or values of other forms, perhaps."""
    rows: list[DocumentRow] = []
    unknown: set[str] = set()
    forms: dict[str, str] = {}
    for position, item in enumerate(items):
        # By their lower case, unless the documented spelling is there too.
        names = {name: _SPELLINGS.get(name.lower(), name) for name in item}
        named = {name if names[name] in item else names[name]: value for name, value in item.items()}
        known = {name: value for name, value in named.items() if name in _DOCUMENT_PROPERTIES}
        extra = {name: value for name, value in named.items() if name not in _DOCUMENT_PROPERTIES}
        readable, unread = value_readers.read_values(known, _DOCUMENT_READERS)
        unknown.update(f"response.{name}" for name in extra)
        for name, value in unread.items():
            forms.setdefault(f"response.{name}", value_readers.describe_form(value))
        rows.append(_document(position, msgspec.convert(readable, _SourceDocument), {**extra, **unread}))
    return _Response(tuple(rows), unknown=frozenset(unknown), unread=tuple(forms.items()))


def _document(position: int, document: _SourceDocument, extra: dict[str, object] | None = None) -> DocumentRow:
    return DocumentRow(
        position,
        document.documentName,
        document.DownloadLink,
        _size(document.SizeInMB),
        document.Type,
        document.DocumentGUID if document.DocumentID is None else document.DocumentID,
        _instant("ExpiryDate", document.ExpiryDate),
        None if document.Version is None else str(document.Version),
        payload.encode(extra) if extra else None,
    )


def _size(value: float | str | None) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, float):  # JSON has none that isn't finite
        return Decimal(repr(value))
    if not value_readers.is_size(value):
        raise value_readers.UnreadableError
    return Decimal(value)


def _instant(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return read_date(text)
    except ValueError:
        raise ValueError(f"{name} is {_RANGE}") from None


def _yes(value: str | bool | None) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    answer = _YES_NO.get(value.lower())
    if answer is None:
        raise value_readers.UnreadableError
    return answer


def _spell_status(text: str | None) -> str | None:
    """The status as documented, however its letters are spelt; one that isn't known as it came."""
    return _STATUSES.get(text) or (None if text is None else _STATUSES.get(text.lower(), text))  # type: ignore[arg-type]


def _scope(text: str | None) -> str | None:
    return None if text is None else _SCOPES.get(text.lower(), text)


def _reject(raw: bytes, reason: str) -> Reject:
    """The raw row with the reason, under its jobID where that is readable, else under a digest of the row."""
    label = odata.stamp(raw)
    job_id = label.key("jobID") or "sha256:" + hashlib.sha256(raw).hexdigest()
    text = payload.storable(raw.decode("utf-8", "replace"))
    purge_date = odata.find_date(label.purgeDateTime)
    number = label.key("ID") if label.key("jobID") is None else None
    place = () if not isinstance(number, int) else ("ID", str(number - 1), str(number + 1))
    return Reject(payload.storable(str(job_id)), payload.storable(reason)[:500], text, purge_date, *place)
