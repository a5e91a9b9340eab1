"""The keys that an open comparison has seen at the source (`etl.compared`), and which of their versions are here.

A page tells its versions in columns, and Postgres answers with those that differ: where all is equal, nothing comes
back, and nothing is written but a row or two with the keys. A page may come twice, so keys are counted once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, compress
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from etl import odata
from etl.database import Connection, text_array
from etl.model import Scan

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
# Remembers them too. The same is what `load.choose` calls so: any other row is left to it.
_DIFFERING = """
WITH remembered AS (
    INSERT INTO etl.compared (source_id, opened_by, is_old, job_ids)
    VALUES (%(source_id)s, %(opened_by)s, %(is_old)s, %(job_ids)s::text[])
)
SELECT t.job_id
FROM unnest(%(job_ids)s::text[], %(row_versions)s::bigint[], %(modified)s::bigint[])
    AS t (job_id, row_version, modified)
WHERE NOT EXISTS (
    SELECT FROM aims360.jobs AS j
    WHERE j.source_id = %(source_id)s
      AND j.job_id = t.job_id
      AND j.row_version = t.row_version
      AND j.modified_date IS NOT DISTINCT FROM timestamptz '2000-01-01 00:00Z' + t.modified * interval '1 microsecond'
      AND j.purged_at IS NULL
)
"""
_COUNT_OLD = """
SELECT count(DISTINCT job_id)
FROM etl.compared AS c, unnest(c.job_ids) AS job_id
WHERE c.source_id = %s AND c.opened_by = %s AND c.is_old
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
_2000, _MICROSECOND = datetime(2000, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


class _Row(msgspec.Struct, gc=False):
    """A row of a few properties, as strictly typed as where `flatten` reads all of them."""

    jobID: Annotated[str, Meta(min_length=1, max_length=odata.LONGEST_JOB_ID)]
    modifiedDate: str | None
    ID: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    createdDate: str | None = None
    purgeDateTime: str | None = None
    rowversion: Annotated[bytes, Meta(min_length=8, max_length=8)] | None = None
    etag: str | None = msgspec.field(default=None, name="@odata.etag")


_rows = msgspec.json.Decoder(list[_Row])


class Told(NamedTuple):
    """The versions that the source tells of some jobs, column by column.

    `modified`: modifiedDate in microseconds since 2000 began. `is_old`: whether the job is old enough to be counted.
    """

    job_ids: Sequence[str] = ()
    row_versions: Sequence[int] = ()
    modified: Sequence[int | None] = ()
    is_old: Sequence[bool] = ()

    def only(self, is_old: bool) -> Told:
        """Those that are old, or those that aren't."""
        wanted = [each is is_old for each in self.is_old]
        return self if all(wanted) else _told(compress(column, wanted) for column in self)


def joined(some: Iterable[Told]) -> Told:
    """What several pages tell."""
    return _told(chain.from_iterable(columns) for columns in zip(*some, strict=True))


def _told(columns: Iterable[Iterable[Any]]) -> Told:
    return Told._make(map(tuple, columns))


class Unseen(NamedTuple):
    """A job of the mirror that didn't come, and whether it is old enough to be a ghost."""

    job_id: str
    purge_date_time: datetime | None
    is_old: bool


def told(rows: Sequence[bytes], old: datetime) -> Told | None:
    """What a page tells at a glance; None where any of its rows needs a closer look. Old is what was created before.

    That is a row without a version, or one that `flatten` couldn't read or would store otherwise.
    """
    try:
        read = _rows.decode(b"[" + b",".join(rows) + b"]")
        versions = Told(
            job_ids=[row.jobID for row in read],
            row_versions=[_version(row) for row in read],
            modified=[None if row.modifiedDate is None else _since_2000(row.modifiedDate) for row in read],
            is_old=[row.createdDate is not None and odata.instant(row.createdDate) < old for row in read],
        )
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    is_plain = min(versions.row_versions, default=0) >= 0 and "\x00" not in "".join(versions.job_ids)
    return versions if is_plain and len(read) == len(rows) else None


def _version(row: _Row) -> int:
    """The rowversion; below zero where none is told, or one that is too high. Raises ValueError."""
    if row.rowversion is None:
        return odata.etag_rowversion(row.etag or "") or -1
    return int.from_bytes(row.rowversion, "big", signed=True)


def _since_2000(text: str) -> int:
    return (odata.instant(text) - _2000) // _MICROSECOND


def differing(db: Connection, source_id: int, scan: Scan, versions: Told) -> set[str]:
    """The jobs of which the mirror doesn't hold the very version told. All the keys are remembered."""
    found: set[str] = set()
    for is_old in (True, False):
        some = versions.only(is_old)
        if some.job_ids:
            given = {
                "job_ids": text_array(some.job_ids),
                "row_versions": _numbers(some.row_versions),
                "modified": _numbers(some.modified),
            }
            key = {"source_id": source_id, "opened_by": scan.opened_by, "is_old": is_old}
            found.update(str(job_id) for (job_id,) in db.execute(_DIFFERING, given | key).fetchall())
    return found


def _numbers(numbers: Iterable[int | None]) -> str:
    """As Postgres writes an array of them."""
    return "{" + ",".join(["NULL" if number is None else str(number) for number in numbers]) + "}"


def remember(db: Connection, source_id: int, scan: Scan, created: Mapping[str, datetime | None], old: datetime) -> None:
    """The keys of a page that told nothing at a glance, in the transaction that moves the cursor."""
    for is_old in (True, False):
        job_ids = [key for key, moment in created.items() if (moment is not None and moment < old) is is_old]
        key = {"source_id": source_id, "opened_by": scan.opened_by, "is_old": is_old}
        if job_ids:
            db.execute(_REMEMBER, {**key, "job_ids": text_array(job_ids)})


def count_old(db: Connection, source_id: int, scan: Scan) -> int:
    """How many jobs came that are old, each counted once."""
    row = db.execute(_COUNT_OLD, (source_id, scan.opened_by)).fetchone()
    assert row is not None
    return int(str(row[0]))


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
