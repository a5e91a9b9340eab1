"""Rows that can't be read wait in `etl.rejects`, and the source is asked for them again (`ask_schedule`).

A reject leaves when its job loads, from a newer row of the source, or from its own raw text by a program that reads
more; when the source no longer shows it, asked twice; or, where nobody can ask for it, when its purge date has passed,
or 30 days.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from etl.client import odata
from etl.models import FLATTEN_VERSION, Batch, Job, JobRow, Reject, Span
from etl.postgres.connection import Connection, text_array
from etl.state.ask_schedule import UNNAMED, Due, find_waiting
from etl.transform.flatten import flatten

_KEEP_FOR = timedelta(days=30)
_MISSING = 2  # times in a row that the source doesn't show a reject, and it leaves

_KEEP = """
INSERT INTO etl.rejects (
    source_id, job_id, run_id, reason, raw, purge_date_time, first_seen_at, key_name, key_after, key_before,
    flatten_version
)
VALUES (
    %(source_id)s, %(job_id)s, %(run_id)s, %(reason)s, %(raw)s, %(purge_date_time)s, %(seen_at)s, %(key_name)s,
    %(key_after)s, %(key_before)s, %(flatten_version)s
)
ON CONFLICT (source_id, job_id) DO UPDATE
SET run_id = excluded.run_id, reason = excluded.reason, raw = excluded.raw,
    purge_date_time = excluded.purge_date_time, key_name = excluded.key_name, key_after = excluded.key_after,
    key_before = excluded.key_before, flatten_version = excluded.flatten_version, times_missing = 0
WHERE (rejects.reason, rejects.raw, rejects.times_missing) IS DISTINCT FROM (excluded.reason, excluded.raw, 0)
   OR (%(renew)s AND rejects.run_id < excluded.run_id)
"""
# What bears no jobID, and wasn't met by a scan of all rows that was opened later.
_UNMET = """
SELECT job_id, true, key_name, key_after, key_before, raw = ''
FROM etl.rejects
WHERE source_id = %(source_id)s AND run_id < %(opened_by)s AND (key_name IS NOT NULL OR job_id ~ %(unnamed)s)
ORDER BY job_id
"""
_RAW = "SELECT job_id, raw FROM etl.rejects WHERE source_id = %s AND job_id = ANY(%s::text[])"
_KNOWN = "SELECT job_id FROM etl.rejects WHERE source_id = %s AND job_id = ANY(%s::text[])"
_RANGES = """
SELECT job_id, true, key_name, key_after, key_before FROM etl.rejects WHERE source_id = %s AND key_name IS NOT NULL
"""
_UNSERVED = """
SELECT job_id, true, key_name, key_after, key_before
FROM etl.rejects
WHERE source_id = %(source_id)s
  AND key_name = %(key_name)s
  AND raw = ''
  AND (%(before)s::bigint IS NULL OR run_id < %(before)s)
"""
_COUNT = "SELECT count(*) FROM etl.rejects WHERE source_id = %s"
_NARROW = "UPDATE etl.rejects SET key_after = %s WHERE source_id = %s AND job_id = %s"
_DROP = "DELETE FROM etl.rejects WHERE source_id = %s AND job_id = ANY(%s::text[])"
_LEAVE = """
DELETE FROM etl.rejects
WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[]) AND times_missing >= %(most)s
RETURNING job_id
"""
_MISS = """
UPDATE etl.rejects
SET times_missing = times_missing + 1
WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
"""
_EXPIRE = """
DELETE FROM etl.rejects
WHERE source_id = %(source_id)s
  AND coalesce(purge_date_time, first_seen_at + %(keep_for)s) < %(now)s
  AND NOT (
      %(can_ask)s AND CASE WHEN key_name IS NULL THEN job_id !~ %(unnamed)s ELSE key_name IN ('jobID', %(key)s) END
  )
RETURNING job_id
"""
_READ_BY_AN_OLDER_PROGRAM = """
UPDATE etl.rejects
SET flatten_version = %(flatten_version)s
WHERE source_id = %(source_id)s AND flatten_version < %(flatten_version)s
RETURNING job_id, raw
"""


class Readable(NamedTuple):
    """A reject that this program can read, under the key it was kept by."""

    key: str
    batch: Batch


def keep(
    db: Connection, source_id: int, run_id: int, rejects: Sequence[Reject], seen_at: datetime, *, renew: bool = False
) -> int:
    """Store what a page couldn't be read as, one row a job, in the caller's transaction; return how many are new.

    One that waits already keeps its place in the schedule, whatever its row is now. `renew`: note of each that this run
    met it, as a scan of all rows does (`drop_unmet`).
    """
    if not rejects:
        return 0
    names = {reject.job_id for reject in rejects}
    known = {str(job_id) for (job_id,) in db.execute(_KNOWN, (source_id, text_array(names))).fetchall()}
    ranges = [reject for reject in rejects if reject.key_name is not None and reject.job_id not in known]
    if ranges:  # one record, met beside other rows, bears another range each time
        held = [Due._make(row) for row in db.execute(_RANGES, (source_id,)).fetchall()]
        known |= {reject.job_id for reject in ranges if any(_overlap(reject, one) for one in held)}
    for reject in rejects:
        columns = {
            "job_id": reject.job_id,
            "reason": reject.reason,
            "raw": reject.raw,
            "purge_date_time": reject.purge_date_time,
            "key_name": reject.key_name,
            "key_after": reject.key_after,
            "key_before": reject.key_before,
        }
        ours = {
            "source_id": source_id,
            "run_id": run_id,
            "seen_at": seen_at,
            "flatten_version": FLATTEN_VERSION,
            "renew": renew,
        }
        db.execute(_KEEP, {**columns, **ours})
    return len(names - known)


def _overlap(one: Reject, other: Due) -> bool:
    """Whether two rejects may be the same record, by their ranges of one key."""
    if one.key_name != other.key_name:
        return False
    bounds = ((one.key_after, other.key_before), (other.key_after, one.key_before))
    return all(after is None or before is None or _place(after) < _place(before) for after, before in bounds)


def _place(key: str) -> tuple[int, str]:
    """Order keys: numbers by their length first."""
    return (len(key), key) if key.isdecimal() else (0, key)


def drop(db: Connection, source_id: int, keys: Sequence[str]) -> None:
    """Forget rejects, in the caller's transaction."""
    if keys:
        db.execute(_DROP, (source_id, text_array(keys)))


def drop_read(db: Connection, source_id: int, jobs: Sequence[Job], *, is_trusted: bool = False) -> None:
    """Forget the rejects of jobs that were read, in the caller's transaction; not of a version newer than the one read.

    `is_trusted`: the source's word counts, also where it shows an older version than before.
    """
    read = {job.row.job_id: job.row for job in jobs}
    waiting = db.execute(_RAW, (source_id, text_array(read))).fetchall()
    rows = [(str(job_id), odata.stamp(str(raw).encode())) for job_id, raw in waiting]
    drop(db, source_id, [job_id for job_id, stamp in rows if is_trusted or not _is_newer(stamp, read[job_id])])


def _is_newer(stamp: odata.Stamp, than: JobRow) -> bool:
    version = odata.version_of(stamp)
    if version is not None and than.row_version is not None:
        return version > than.row_version
    modified = odata.find_date(stamp.modifiedDate)
    return modified is not None and (than.modified_date is None or modified > than.modified_date)


def drop_unmet(db: Connection, source_id: int, opened_by: int, *, is_whole: bool) -> list[str]:
    """Forget the rejects without a jobID that a scan of all keys, opened by this run, didn't meet; return their names.

    A record that was met beside other rows has a reject of its own by now; one that the scan stepped over stays.
    `is_whole`: the scan read whole rows, and so would have met those without any key too.
    """
    given = {"source_id": source_id, "opened_by": opened_by, "unnamed": UNNAMED}
    names = []
    for *row, is_unserved in db.execute(_UNMET, given).fetchall():
        one = Due._make(row)
        would_be_met = one.span is None if is_unserved else is_whole
        names += [one.job_id] if would_be_met else []
    drop(db, source_id, names)
    return names


def narrow(db: Connection, source_id: int, key: str, after: str) -> None:
    """Note that a range was read up to a key, and nothing was lacking there."""
    db.execute(_NARROW, (after, source_id, key))


def find_unserved(db: Connection, source_id: int, key_name: str, before: int | None = None) -> list[Span]:
    """Return where records lie that the service couldn't serve, as far as that is known by this property.

    `before`: only those that were known before this run.
    """
    given = {"source_id": source_id, "key_name": key_name, "before": before}
    found = [Due._make(row) for row in db.execute(_UNSERVED, given).fetchall()]
    return [span for one in found if (span := one.span) is not None]


def any_wait(db: Connection, source_id: int) -> bool:
    """Whether any rejects wait: most sources never show one."""
    return find_waiting(db, source_id).rejects


def count(db: Connection, source_id: int) -> int:
    """Return how many rejects of a source wait."""
    row = db.execute(_COUNT, (source_id,)).fetchone()
    return int(str(row[0])) if row else 0


def note_missing(db: Connection, source_id: int, keys: Sequence[str]) -> list[str]:
    """Note that the source was asked for these rejects and doesn't show them; return those that leave therefore."""
    if not keys:
        return []
    given = {"source_id": source_id, "job_ids": text_array(keys)}
    left = db.execute(_LEAVE, {**given, "most": _MISSING - 1}).fetchall()
    db.execute(_MISS, given)
    return sorted(str(job_id) for (job_id,) in left)


def expire(db: Connection, source_id: int, now: datetime, *, can_ask: bool = False, key: str = "ID") -> list[str]:
    """Forget rejects whose time has passed, and return their names. `now` is the source's.

    `can_ask`: the source can be asked by key; then only those go that it can't be asked for. `key`: what it shows, an
    ID or none.
    """
    given = {
        "source_id": source_id,
        "now": now,
        "keep_for": _KEEP_FOR,
        "can_ask": can_ask,
        "key": key,
        "unnamed": UNNAMED,
    }
    return sorted(str(job_id) for (job_id,) in db.execute(_EXPIRE, given).fetchall())


def readable(db: Connection, source_id: int) -> Iterator[Readable]:
    """Yield the rejects of programs that read less than this one, as far as it can read them. Each is tried once."""
    given = {"source_id": source_id, "flatten_version": FLATTEN_VERSION}
    for key, raw in db.execute(_READ_BY_AN_OLDER_PROGRAM, given).fetchall():
        batch = flatten([str(raw).encode()])
        if batch.jobs:
            yield Readable(str(key), batch)
