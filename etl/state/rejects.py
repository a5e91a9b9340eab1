"""Rows that can't be read wait in `etl.rejects` with their raw JSON; each run tries them again.

A reject leaves when its job loads, from itself or from a newer row of the source, or when its purge date, else 30 days,
has passed.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from etl.models import Batch, Reject
from etl.postgres.connection import Connection, text_array
from etl.transform.flatten import flatten

_KEEP_FOR = timedelta(days=30)

_KEEP = """
INSERT INTO etl.rejects (source_id, job_id, run_id, reason, raw, purge_date_time, first_seen_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (source_id, job_id) DO UPDATE
SET run_id = excluded.run_id, reason = excluded.reason, raw = excluded.raw, purge_date_time = excluded.purge_date_time
WHERE (rejects.reason, rejects.raw) IS DISTINCT FROM (excluded.reason, excluded.raw)
"""
_DROP = "DELETE FROM etl.rejects WHERE source_id = %s AND job_id = ANY(%s::text[])"
_ANY = "SELECT EXISTS (SELECT FROM etl.rejects WHERE source_id = %s)"
_WAITING = "SELECT job_id, raw FROM etl.rejects WHERE source_id = %s ORDER BY job_id"
_EXPIRE = """
DELETE FROM etl.rejects
WHERE source_id = %s AND coalesce(purge_date_time, first_seen_at + %s) < %s
"""


class Readable(NamedTuple):
    """A reject that this program can read, under the key it was kept by."""

    key: str
    batch: Batch


def keep(db: Connection, source_id: int, run_id: int, rejects: Sequence[Reject], seen_at: datetime) -> None:
    """Stores what a page couldn't be read as, one row a job, in the caller's transaction."""
    for reject in rejects:
        columns = (reject.job_id, run_id, reject.reason, reject.raw, reject.purge_date_time, seen_at)
        db.execute(_KEEP, (source_id, *columns))


def drop(db: Connection, source_id: int, keys: Sequence[str]) -> None:
    """Forgets rejects whose jobs were read, in the caller's transaction."""
    if keys:
        db.execute(_DROP, (source_id, text_array(keys)))


def any_wait(db: Connection, source_id: int) -> bool:
    """Whether there are any: most sources never show one."""
    row = db.execute(_ANY, (source_id,)).fetchone()
    return bool(row and row[0])


def expire(db: Connection, source_id: int, now: datetime) -> None:
    """Forgets rejects whose time has passed. `now` is the source's."""
    db.execute(_EXPIRE, (source_id, _KEEP_FOR, now))


def readable(db: Connection, source_id: int) -> Iterator[Readable]:
    """The rejects that can be read by now: after an upgrade of this program, say."""
    for key, raw in db.execute(_WAITING, (source_id,)).fetchall():
        batch = flatten([str(raw).encode()])
        if batch.jobs:
            yield Readable(str(key), batch)
