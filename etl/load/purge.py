"""The purge: follows `purgeDateTime` in the mirror, in the way AIMS360_PURGE says (correctness.md, "The purge").

`delete` removes jobs and leaves tombstones and day totals; `scrub` keeps the row without links, addresses, people and
texts; `keep` only marks it. Jobs go in batches of one transaction each, so that readers are never kept waiting.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from etl.load.tombstones import bury
from etl.postgres.connection import Connection, text_array

BATCH = 50_000  # two or three seconds; keys of so many jobs lie close together in an index

# A job with an open reject stays: the version that couldn't be read may carry a later date.
_DUE = """
SELECT j.purge_date_time, j.job_id
FROM aims360.jobs AS j
WHERE j.source_id = %(source_id)s
  AND j.purged_at IS NULL
  AND j.purge_date_time <= %(until)s
  AND (j.purge_date_time, j.job_id) > (%(after)s::timestamptz, %(after_job)s)
  AND NOT EXISTS (SELECT FROM etl.rejects AS r WHERE r.source_id = j.source_id AND r.job_id = j.job_id)
ORDER BY j.purge_date_time, j.job_id
LIMIT %(most)s
"""
_COUNT_DUE = """
SELECT count(*)
FROM aims360.jobs AS j
WHERE j.source_id = %(source_id)s
  AND (j.purged_at IS NULL OR %(kept_too)s)
  AND j.purge_date_time <= %(until)s
  AND NOT EXISTS (SELECT FROM etl.rejects AS r WHERE r.source_id = j.source_id AND r.job_id = j.job_id)
"""
_KEEP = """
UPDATE aims360.jobs SET purged_at = %(now)s WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
"""
_SCRUB = """
UPDATE aims360.jobs
SET purged_at = %(now)s,
    publish_link = NULL,
    request_url = NULL,
    created_by = NULL,
    modified_by = NULL,
    job_description = NULL,
    job_status_text = NULL,
    client_request_id = NULL,
    response_json = NULL,
    response_text = NULL,
    extra = NULL
WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
"""
_SCRUB_DOCUMENTS = """
UPDATE aims360.job_documents
SET download_link = NULL, extra = NULL, available_until = NULL
WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
"""
_KEEP_DOCUMENTS = """
UPDATE aims360.job_documents
SET available_until = NULL
WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
"""
_RECONSIDER = "UPDATE aims360.jobs SET purged_at = NULL WHERE source_id = %s AND purge_date_time <= purged_at"
_KEPT_GHOSTS = """
SELECT job_id
FROM aims360.jobs
WHERE source_id = %s AND purged_at IS NOT NULL AND (purge_date_time IS NULL OR purge_date_time > purged_at)
"""


class Due(NamedTuple):
    """A job whose purge date has come; the pair orders the purge."""

    purge_date_time: datetime
    job_id: str


FIRST = Due(datetime.min.replace(tzinfo=UTC), "")


def due(db: Connection, source_id: int, until: datetime, after: Due = FIRST, most: int = BATCH) -> list[Due]:
    """The jobs whose purge date is `until` or earlier, in order from `after` on, at most so many."""
    given = {"source_id": source_id, "until": until, "most": most}
    rows = db.execute(_DUE, {**given, "after": after.purge_date_time, "after_job": after.job_id})
    return [Due._make(row) for row in rows.fetchall()]


def count_due(db: Connection, source_id: int, until: datetime, kept_too: bool = False) -> int:
    """How many jobs have a purge date of `until` or earlier; with those that an earlier, milder purge kept."""
    row = db.execute(_COUNT_DUE, {"source_id": source_id, "until": until, "kept_too": kept_too}).fetchone()
    assert row is not None
    return int(str(row[0]))


def remove(
    db: Connection, source_id: int, mode: str, job_ids: Sequence[str], now: datetime, reason: str = "purged"
) -> None:
    """Purges these jobs in the way of `mode`, in the caller's transaction. `now` is the source's."""
    given = {"source_id": source_id, "job_ids": text_array(job_ids), "now": now}
    if mode == "delete":
        bury(db, source_id, job_ids, reason, now)
    elif mode == "scrub":
        db.execute(_SCRUB, given)
        db.execute(_SCRUB_DOCUMENTS, given)
    else:
        db.execute(_KEEP, given)
        db.execute(_KEEP_DOCUMENTS, given)


def is_stricter(mode: str, than: str) -> bool:
    """Whether jobs that were purged under one mode are due again under another."""
    return mode not in ("keep", than)


def kept_ghosts(db: Connection, source_id: int) -> list[str]:
    """Jobs that a milder purge left in place though they were not due: the source had lost them."""
    return [str(row[0]) for row in db.execute(_KEPT_GHOSTS, (source_id,)).fetchall()]


def reconsider(db: Connection, source_id: int) -> None:
    """What was kept until now is due again, in the caller's transaction."""
    db.execute(_RECONSIDER, (source_id,))
