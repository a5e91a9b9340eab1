"""One job as the source shows it now: asked for, read, and judged. The mirror has no part in it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from etl.errors import UnreadableJob
from etl.models import COMPLETED, ENDED_STATES, OPEN_STATES, DocumentRow, Job, JobRow
from etl.text import utc
from etl.transform.flatten import flatten

if TYPE_CHECKING:
    from etl.client.client import Api
    from etl.postgres.connection import Row

_PATIENT = 8  # tries to get a good answer
_READS = 2  # of a row that can't be read: it may have been spoilt on its way


class Live(NamedTuple):
    """A job with its documents, and when the source showed it so, by the source's clock."""

    job: Job
    answered_at: datetime

    @property
    def row(self) -> JobRow:
        """The job itself."""
        return self.job.row


def look(api: Api, job_id: str, stop: threading.Event | None = None, attempts: int = _PATIENT) -> Live | None:
    """The job as the source shows it now; None where it shows none of that id. Raises SourceError."""
    reason = ""
    for _ in range(min(attempts, _READS)):
        shown = api.job(job_id, stop or threading.Event(), attempts=attempts)
        if shown is None:
            return None
        batch = flatten([shown.row])
        if not batch.rejects:
            return Live(batch.jobs[0], shown.answered_at)
        reason = batch.rejects[0].reason
    raise UnreadableJob(f"the source shows job {job_id} in a way that can't be read: {reason}")


def is_open(row: JobRow) -> bool:
    """Whether it is queued or in progress."""
    return row.job_status in OPEN_STATES


def is_ended(row: JobRow) -> bool:
    """Whether it came to an end, good or bad. A state that isn't known is an end once the source dates it."""
    return row.job_status in ENDED_STATES or (not is_open(row) and row.completed_date is not None)


def is_good(row: JobRow) -> bool:
    """Whether the end is a good one."""
    return row.job_status == COMPLETED


def is_another(row: JobRow, than: JobRow) -> bool:
    """Whether a job has changed: another version by what tells versions apart, or another state."""
    return _version(row) != _version(than)


def _version(row: JobRow) -> tuple[object, ...]:
    return (row.row_version, row.modified_date, row.job_status, row.number_of_attempts, row.start_date)


def gone(job_id: str, last: Live | None, now: datetime) -> str:
    """What is said of a job that the source shows no more; `last`: as it was seen before, if it was."""
    if last is None:
        return f"the source has no job {job_id}: it may have been purged there, or be another account's"
    due = last.row.purge_date_time
    if due is not None and due <= now + timedelta(minutes=1):
        return f"job {job_id} was purged by the source meanwhile: its time was up at {utc(due)}"
    return f"the source shows job {job_id} no more: it was deleted there meanwhile, before its purge date"


def as_shown(live: Live) -> Row:
    """The job by the names of `bi.jobs`, as far as they are the source's own; times with their zone."""
    row = live.row
    return {
        "job_id": row.job_id,
        "account_code": row.account_code,
        "database_name": row.database_name,
        "client_id": row.client_id,
        "category_name": row.category_name,
        "sub_category_name": row.sub_category_name,
        "job_description": row.job_description,
        "client_request_id": row.client_request_id,
        "created_by": row.created_by,
        "modified_by": row.modified_by,
        "job_status": row.job_status,
        "job_status_text": row.job_status_text,
        "percent_completed": row.percent_completed,
        "number_of_attempts": row.number_of_attempts,
        "response_type": row.response_type,
        "publish_link_access_scope": row.publish_link_access_scope,
        "can_rerun": row.can_rerun,
        "can_publish": row.can_publish,
        "created_at_utc": row.created_date,
        "started_at_utc": row.start_date,
        "completed_at_utc": row.completed_date,
        "modified_at_utc": row.modified_date,
        "purge_at_utc": row.purge_date_time,
        "rerun_until_utc": row.maximum_date_time_to_execute_job,
        "row_version": row.row_version,
        "documents": len(live.job.documents),
    }


def documents(live: Live) -> list[Row]:
    """Its documents by the names of `bi.job_documents`: no links."""
    return [_document(document) for document in live.job.documents]


def _document(row: DocumentRow) -> Row:
    return {
        "position": row.position,
        "document_name": row.document_name,
        "type": row.type,
        "size_in_mb": row.size_in_mb,
        "version": row.version,
        "document_id": row.document_id,
        "expires_at_utc": row.expiry_date,
    }


class Difference(NamedTuple):
    """What the mirror says of a job, and what the source does."""

    what: str
    here: object
    there: object


def differences(live: Live, here: Mapping[str, object], held: list[Row]) -> list[Difference]:
    """In which of its columns, and documents, the mirror differs from what the source shows now."""
    found = [
        Difference(name, here.get(name), there) for name, there in as_shown(live).items() if here.get(name) != there
    ]
    now = documents(live)
    for place in range(max(len(now), len(held))):
        ours = held[place] if place < len(held) else None
        theirs = now[place] if place < len(now) else None
        if theirs is None or ours is None or any(ours.get(name) != value for name, value in theirs.items()):
            found.append(Difference(f"document {place}", _named(ours), _named(theirs)))
    return found


def _named(document: Row | None) -> str | None:
    if document is None:
        return None
    ends = document["expires_at_utc"]
    until = f", until {utc(ends)}" if isinstance(ends, datetime) else ""
    return f"{document['document_name']}, {document['size_in_mb']} MB{until}"
