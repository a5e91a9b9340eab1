"""Whether the source went back to an earlier state: its database was restored from a backup.

It shows in two ways, and only in these (docs/correctness.md, "A restored source"): a row stamped more than a look-back
after the highest rowversion of its database was seen bears a lower one; or the newest row of all is older than the
watermark, and a job that the mirror holds in a newer version is served in an older one. Jobs that go and commits that
cross are no sign of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from etl.client import odata
from etl.extract import key_lists
from etl.models import CLOCK_TOLERANCE, Job, JobRow, Window
from etl.postgres.connection import Connection
from etl.text import utc
from etl.transform.flatten import flatten

if TYPE_CHECKING:
    from etl.client.client import Api

# By database, the highest rowversion seen, and when that was (ISO 8601, by the source's clock).
Highest = Mapping[str, Sequence[str | int]]

_ENOUGH, _QUESTIONS = key_lists.MOST_KEYS, 60  # jobs to ask for: a request's worth; and requests
_IS_KNOWN = """
SELECT FROM aims360.jobs WHERE source_id = %s AND job_id = %s AND row_version = %s AND modified_date = %s
"""
_READ_SINCE = """
SELECT job_id, database_name, row_version, modified_date
FROM aims360.jobs
WHERE source_id = %s AND synced_at >= %s AND purged_at IS NULL
ORDER BY row_version DESC NULLS LAST, modified_date DESC
LIMIT %s
"""
_NEWER_HERE = """
SELECT job_id, database_name, row_version, modified_date
FROM aims360.jobs
WHERE source_id = %s AND modified_date > %s AND modified_date <= %s AND purged_at IS NULL
ORDER BY modified_date DESC, job_id
LIMIT %s OFFSET %s
"""


def raised(highest: Highest, jobs: Sequence[Job], answered_at: datetime) -> Highest:
    """The highest rowversions with these jobs seen."""
    found = {name: int(version) for name, (_, version) in highest.items()}
    rows: dict[str, JobRow] = {}
    for job in jobs:
        row = job.row
        name = row.database_name or ""
        if row.row_version is not None and row.row_version > found.get(name, -1):
            found[name], rows[name] = row.row_version, row
    return {**highest, **{name: (_seen_at(row, answered_at), found[name]) for name, row in rows.items()}}


def _seen_at(row: JobRow, answered_at: datetime) -> str:
    """Its own date counts where our clock is behind, but no date of the far future."""
    moment = min(max(row.modified_date or answered_at, answered_at), odata.plus(answered_at, CLOCK_TOLERANCE))
    return moment.isoformat()


def tell(
    db: Connection, source_id: int, highest: Highest, jobs: Sequence[Job], answered_at: datetime, look_back: timedelta
) -> str | None:
    """What a row says that can't be so unless the database went back; None where there is no such row.

    A version that was seen before says nothing: its date may have lain in the future then.
    """
    known = {
        name: (odata.plus(datetime.fromisoformat(str(when)), look_back), int(version))
        for name, (when, version) in highest.items()
    }
    for job in jobs:
        row = job.row
        name = row.database_name or ""
        if name not in known or not row.row_version or row.modified_date is None:  # 0 is no version of SQL Server
            continue
        end, version = known[name]
        is_odd = row.row_version < version and end < row.modified_date <= answered_at
        if is_odd and not db.execute(_IS_KNOWN, (source_id, row.job_id, row.row_version, row.modified_date)).fetchone():
            return f"job {row.job_id}, modified {utc(row.modified_date)}, has a lower rowversion than jobs had before"
    return None


def again(api: Api, db: Connection, source_id: int, span: Window) -> str | None:
    """The same while a restore is being followed: what was read for that is served in an older version."""
    return _older(api, db.execute(_READ_SINCE, (source_id, span.as_of, _ENOUGH)).fetchall())[0]


def served_older(
    api: Api, db: Connection, source_id: int, newest: datetime | None, watermark: datetime | None
) -> str | None:
    """The same, told by the jobs that are newer here than all that the source shows; None where none is older there.

    They are asked for from the newest on, until one is still there.
    """
    if newest is None or watermark is None or newest >= watermark:
        return None
    for question in range(_QUESTIONS):
        given = (source_id, newest, watermark, _ENOUGH, question * _ENOUGH)
        rows = db.execute(_NEWER_HERE, given).fetchall()
        told, is_there = _older(api, rows)
        if is_there or len(rows) < _ENOUGH:
            return told
    return None


def _older(api: Api, rows: Sequence[tuple[object, ...]]) -> tuple[str | None, bool]:
    """What one of these jobs tells that is served older than it is held, and whether any is there at all."""
    held = {str(job_id): version for job_id, *version in rows}
    if not held:
        return None, False
    jobs = flatten(key_lists.find_rows(api, sorted(held)) or ()).jobs
    for job in jobs:
        if job.row.job_id in held and _is_older(job, *held[job.row.job_id]):
            return f"job {job.row.job_id} is shown in an older version than before", True
    return None, bool(jobs)


def _is_older(job: Job, database: object, row_version: object, modified: object) -> bool:
    row = job.row
    if isinstance(row_version, int) and row.row_version is not None and row.database_name == database:
        return row.row_version < row_version
    return isinstance(modified, datetime) and (row.modified_date is None or row.modified_date < modified)
