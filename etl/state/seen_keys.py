"""The keys that an open comparison has seen at the source (`etl.compared`), and which of their versions are here.

Where all is equal, nothing is written but a row or two with the keys of some pages. A page may come twice, so keys are
counted once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from etl.client import odata
from etl.load import version_filter
from etl.load.version_filter import Told
from etl.models import Scan
from etl.postgres.connection import Connection, text_array

# What belongs to no open comparison: of runs that died, or have just ended.
_FORGET = """
DELETE FROM etl.compared AS c
WHERE c.source_id = %s
  AND NOT EXISTS (
      SELECT FROM etl.scans AS s
      WHERE s.source_id = c.source_id AND s.lane = 'reconcile' AND s.opened_by = c.opened_by
  )
"""
_REMEMBER = """
INSERT INTO etl.compared (source_id, opened_by, is_old, job_ids)
VALUES (%(source_id)s, %(opened_by)s, %(is_old)s, %(job_ids)s::text[])
"""
_DIFFERING = f"WITH remembered AS ({_REMEMBER}) {version_filter.DIFFERING}"
_DIFFERING_OR_UNREAD = f"WITH remembered AS ({_REMEMBER}) {version_filter.DIFFERING_OR_UNREAD}"
_COUNT_OLD = """
SELECT count(DISTINCT job_id) FILTER (WHERE c.is_old), count(DISTINCT job_id) FILTER (WHERE c.is_old IS NULL)
FROM etl.compared AS c, unnest(c.job_ids) AS job_id
WHERE c.source_id = %s AND c.opened_by = %s
"""
# Jobs that are due within the look-back wait for the purge, whether the source shows them or not.
_UNSEEN = """
SELECT j.job_id, j.purge_date_time, least(j.created_date, j.synced_at) < %(old)s
FROM aims360.jobs AS j
WHERE j.source_id = %(source_id)s
  AND j.purged_at IS NULL
  AND j.synced_at < %(as_of)s
  AND (j.purge_date_time IS NULL OR j.purge_date_time <= %(waits)s OR j.purge_date_time > %(now)s)
  AND NOT EXISTS (
      SELECT FROM etl.compared AS c, unnest(c.job_ids) AS seen (job_id)
      WHERE c.source_id = %(source_id)s AND c.opened_by = %(opened_by)s AND seen.job_id = j.job_id
  )
ORDER BY j.job_id
"""
# Postgres can't guess how many keys stand in the arrays; with few in mind it may go through all of them for every job.
_JOIN_BY_HASH = "SET LOCAL enable_nestloop = off; SET LOCAL enable_mergejoin = off; SET LOCAL work_mem = '32MB'"


class Unseen(NamedTuple):
    """A job of the mirror that didn't come, and whether it is old enough to be a ghost."""

    job_id: str
    purge_date_time: datetime | None
    is_old: bool


def differing(db: Connection, source_id: int, scan: Scan, told: Told, is_unread: bool = False) -> set[str]:
    """The jobs of which the mirror doesn't hold the very version told. All the keys are remembered.

    `is_unread`: with those one of whose values could not be read.
    """
    key = {"source_id": source_id, "opened_by": scan.opened_by}
    statement = _DIFFERING_OR_UNREAD if is_unread else _DIFFERING
    kinds = (
        version_filter.asked(db, statement, told.only(is_old), {**key, "is_old": is_old}) for is_old in (True, False)
    )
    return set().union(*kinds)


def remember(db: Connection, source_id: int, scan: Scan, keys: Mapping[str, bool | None]) -> None:
    """Store the keys of a page that needed a closer look, in the transaction that moves the cursor.

    Each with whether the job is old; None where its createdDate can't be read.
    """
    for is_old in (True, False, None):
        job_ids = [key for key, each in keys.items() if each is is_old]
        key = {"source_id": source_id, "opened_by": scan.opened_by, "is_old": is_old}
        if job_ids:
            db.execute(_REMEMBER, {**key, "job_ids": text_array(job_ids)})


def count_old(db: Connection, source_id: int, scan: Scan) -> tuple[int, int]:
    """How many jobs came that are old, each counted once; and of how many that isn't known."""
    row = db.execute(_COUNT_OLD, (source_id, scan.opened_by)).fetchone()
    assert row is not None
    return int(str(row[0])), int(str(row[1]))


def unseen(
    db: Connection, source_id: int, scan: Scan, now: datetime, look_back: timedelta, old: datetime
) -> list[Unseen]:
    """The jobs that were in the mirror before the scan, and didn't come."""
    waits = odata.plus(now, -look_back)
    given = {"source_id": source_id, "opened_by": scan.opened_by, "as_of": scan.window.as_of}
    with db.transaction():
        db.execute(_JOIN_BY_HASH)
        rows = db.execute(_UNSEEN, {**given, "now": now, "waits": waits, "old": old}).fetchall()
    return [Unseen._make(row) for row in rows]


def forget(db: Connection, source_id: int) -> None:
    """Drops the keys that belong to no open comparison."""
    db.execute(_FORGET, (source_id,))
