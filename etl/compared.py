"""The keys that an open comparison has seen at the source (`etl.compared`), and which of their versions are here.

A page tells its versions in columns, and Postgres answers with those that differ: where all is equal, nothing comes
back, and nothing is written but one row with the page's keys. A page may come twice, so keys are counted once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from etl import odata
from etl.database import Connection
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
_REMEMBER = "INSERT INTO etl.compared (source_id, opened_by, old, young) VALUES (%b, %b, %b::text[], %b::text[])"
# The same is what `load.choose` calls so: any other row is left to it.
_DIFFERING = """
SELECT t.job_id
FROM unnest(%b::text[], %b::bigint[], %b::timestamptz[]) AS t (job_id, row_version, modified_date)
WHERE NOT EXISTS (
    SELECT FROM aims360.jobs AS j
    WHERE j.source_id = %b
      AND j.job_id = t.job_id
      AND j.row_version = t.row_version
      AND j.modified_date IS NOT DISTINCT FROM t.modified_date
      AND j.purged_at IS NULL
)
"""
_COUNT_OLD = """
SELECT count(DISTINCT job_id)
FROM etl.compared AS c, unnest(c.old) AS job_id
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
      SELECT FROM etl.compared AS c, unnest(c.old || c.young) AS seen (job_id)
      WHERE c.source_id = %(source_id)s AND c.opened_by = %(opened_by)s AND seen.job_id = j.job_id
  )
ORDER BY j.job_id
"""
# Postgres can't guess how many keys stand in the arrays; with few in mind it may go through all of them for every job.
_JOIN_BY_HASH = "SET LOCAL enable_nestloop = off"


class _Row(msgspec.Struct, gc=False):
    """A row of a few properties, as strictly typed as where `flatten` reads all of them."""

    jobID: Annotated[str, Meta(min_length=1, max_length=odata.LONGEST_JOB_ID)]
    modifiedDate: str | None
    ID: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    createdDate: str | None = None
    purgeDateTime: str | None = None
    rowversion: Annotated[bytes, Meta(min_length=8, max_length=8)] | None = None
    etag: str | None = msgspec.field(default=None, name="@odata.etag")


_row = msgspec.json.Decoder(_Row)


@dataclass(frozen=True, slots=True)
class Told:
    """The versions that the rows of a page tell, in columns; `created` by key."""

    job_ids: list[str]
    row_versions: list[int]
    modified: list[datetime | None]
    created: dict[str, datetime | None]


class Unseen(NamedTuple):
    """A job of the mirror that didn't come, and whether it is old enough to be a ghost."""

    job_id: str
    purge_date_time: datetime | None
    is_old: bool


def told(rows: Sequence[bytes]) -> Told | None:
    """What a page tells at a glance; None where any of its rows needs a closer look."""
    page = Told([], [], [], {})
    try:
        for raw in rows:
            row = _row.decode(raw)
            version = odata.etag_rowversion(row.etag or "") if row.rowversion is None else _number(row.rowversion)
            if version is None or "\x00" in row.jobID:
                return None
            _instant(row.purgeDateTime)
            page.job_ids.append(row.jobID)
            page.row_versions.append(version)
            page.modified.append(_instant(row.modifiedDate))
            page.created[row.jobID] = _instant(row.createdDate)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return page


def _number(rowversion: bytes) -> int | None:
    number = int.from_bytes(rowversion, "big", signed=True)
    return number if number >= 0 else None


def _instant(text: str | None) -> datetime | None:
    return None if text is None else odata.instant(text)


def differing(db: Connection, source_id: int, page: Told) -> set[str]:
    """The jobs of which the mirror doesn't hold the very version told."""
    given = (page.job_ids, page.row_versions, page.modified, source_id)
    return {str(job_id) for (job_id,) in db.execute(_DIFFERING, given).fetchall()}


def remember(db: Connection, source_id: int, scan: Scan, created: Mapping[str, datetime | None], old: datetime) -> None:
    """The keys that a page shows, and which were created before `old`, in the transaction that moves the cursor."""
    before = [job_id for job_id, moment in created.items() if moment is not None and moment < old]
    since = [job_id for job_id, moment in created.items() if moment is None or moment >= old]
    db.execute(_REMEMBER, (source_id, scan.opened_by, before, since))


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
