"""The purge: follows `purgeDateTime` in the mirror, in the way AIMS360_PURGE says (docs/correctness.md, "The purge").

`delete` removes jobs and leaves tombstones and day totals; `scrub` keeps the row without links, addresses, people and
texts; `keep` only marks it. Jobs go in batches of one transaction each, so that readers are never kept waiting.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from psycopg import sql

from etl.load.tombstones import bury
from etl.postgres.connection import Connection, text_array

BATCH = 50_000  # two or three seconds; keys of so many jobs lie close together in an index

# A job with an open reject stays: the version that couldn't be read may carry a later date. Of some rejects only a
# range is known that the record's key lies in, and a job whose ID isn't known may be any. These are few, mostly none:
# materialized, they cost the other jobs next to nothing.
_RANGES = sql.SQL("""
WITH ranges AS MATERIALIZED (
    SELECT key_name, key_after, key_before FROM etl.rejects WHERE source_id = %(source_id)s AND key_name IS NOT NULL
)""")
_IN_A_RANGE = sql.SQL("""EXISTS (
      SELECT FROM ranges AS r
      WHERE CASE r.key_name
          WHEN 'ID' THEN coalesce(j.id > r.key_after::bigint, true) AND coalesce(j.id < r.key_before::bigint, true)
          WHEN 'jobID' THEN
              coalesce(j.job_id > r.key_after COLLATE "C", true) AND coalesce(j.job_id < r.key_before COLLATE "C", true)
      END
  )""")
_DUE = sql.SQL("""{ranges}
SELECT j.purge_date_time, j.job_id
FROM aims360.jobs AS j
WHERE j.source_id = %(source_id)s
  AND j.purged_at IS NULL
  AND j.purge_date_time <= %(until)s
  AND (j.purge_date_time, j.job_id) > (%(after)s::timestamptz, %(after_job)s)
  AND NOT EXISTS (SELECT FROM etl.rejects AS r WHERE r.source_id = j.source_id AND r.job_id = j.job_id)
  AND NOT {in_a_range}
ORDER BY j.purge_date_time, j.job_id
LIMIT %(most)s
""").format(ranges=_RANGES, in_a_range=_IN_A_RANGE)
_COUNT_DUE = sql.SQL("""{ranges}
SELECT count(*)
FROM aims360.jobs AS j
WHERE j.source_id = %(source_id)s
  AND (j.purged_at IS NULL OR %(kept_too)s)
  AND j.purge_date_time <= %(until)s
  AND NOT EXISTS (SELECT FROM etl.rejects AS r WHERE r.source_id = j.source_id AND r.job_id = j.job_id)
  AND NOT {in_a_range}
""").format(ranges=_RANGES, in_a_range=_IN_A_RANGE)
_HELD = sql.SQL("""{ranges}
SELECT j.job_id
FROM aims360.jobs AS j
WHERE j.source_id = %(source_id)s
  AND j.job_id = ANY(%(job_ids)s::text[])
  AND (
      EXISTS (SELECT FROM etl.rejects AS r WHERE r.source_id = j.source_id AND r.job_id = j.job_id)
      OR {in_a_range}
  )
""").format(ranges=_RANGES, in_a_range=_IN_A_RANGE)
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
_DROP_MARKS = "DELETE FROM etl.unread_values WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])"
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


def find_held(db: Connection, source_id: int, job_ids: Sequence[str]) -> set[str]:
    """Return those of these jobs that an open reject is of, or may be of: the source may show them and not be read."""
    rows = db.execute(_HELD, {"source_id": source_id, "job_ids": text_array(job_ids)}).fetchall()
    return {str(job_id) for (job_id,) in rows}


def remove(
    db: Connection, source_id: int, mode: str, job_ids: Sequence[str], now: datetime, reason: str = "purged"
) -> None:
    """Purges these jobs in the way of `mode`, in the caller's transaction. `now` is the source's."""
    given = {"source_id": source_id, "job_ids": text_array(job_ids), "now": now}
    if mode == "delete":
        bury(db, source_id, job_ids, reason, now)
        return
    for statement in (_SCRUB, _SCRUB_DOCUMENTS) if mode == "scrub" else (_KEEP, _KEEP_DOCUMENTS):
        db.execute(statement, given)
    db.execute(_DROP_MARKS, given)


def is_stricter(mode: str, than: str) -> bool:
    """Whether jobs that were purged under one mode are due again under another."""
    return mode not in ("keep", than)


def kept_ghosts(db: Connection, source_id: int) -> list[str]:
    """Jobs that a milder purge left in place though they were not due: the source had lost them."""
    return [str(row[0]) for row in db.execute(_KEPT_GHOSTS, (source_id,)).fetchall()]


def reconsider(db: Connection, source_id: int) -> None:
    """What was kept until now is due again, in the caller's transaction."""
    db.execute(_RECONSIDER, (source_id,))
