"""Day totals of jobs that are gone: `purged_daily`, and the tombstones that say what each job added to it.

One statement adds tombstones to the totals and takes them off again, so that the two can't disagree.
"""

from collections.abc import Sequence
from datetime import datetime

from psycopg import sql

from etl.database import Connection
from etl.model import DURATION_BOUNDS

_SUMS: dict[str, str] = {"jobs": "count(*)", "attempts": "sum(attempts)", "documents": "sum(documents)"}
for _what in ("queued", "run"):
    _SUMS[f"{_what}_count"] = f"count({_what}_seconds)"
    _SUMS[f"{_what}_seconds"] = f"coalesce(sum({_what}_seconds), 0)"
    for _bound in DURATION_BOUNDS:
        _SUMS[f"{_what}_le_{_bound}"] = f"count(*) FILTER (WHERE {_what}_seconds <= {_bound})"

_ADD = sql.SQL("""
INSERT INTO aims360.purged_daily AS d
    (source_id, day, account_code, category_name, sub_category_name, job_status, {names})
SELECT source_id, day, account_code, category_name, sub_category_name, job_status, {sums}
FROM aims360.purged_jobs
WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s)
GROUP BY source_id, day, account_code, category_name, sub_category_name, job_status
ON CONFLICT (
    source_id, coalesce(day, '-infinity'), coalesce(account_code, ''), coalesce(category_name, ''),
    coalesce(sub_category_name, ''), coalesce(job_status, '')
)
DO UPDATE SET {additions}
""").format(
    names=sql.SQL(", ").join(map(sql.Identifier, _SUMS)),
    sums=sql.SQL(", ").join(sql.SQL("%(sign)s * ({})").format(sql.SQL(text)) for text in _SUMS.values()),
    additions=sql.SQL(", ").join(sql.SQL("{0} = d.{0} + excluded.{0}").format(sql.Identifier(n)) for n in _SUMS),
)

# Empty texts and missing ones are one group, here and in bi.job_daily.
_BURY = """
INSERT INTO aims360.purged_jobs (
    source_id, job_id, row_version, purge_date_time, purged_at, reason, day,
    account_code, category_name, sub_category_name, job_status,
    attempts, documents, queued_seconds, run_seconds
)
SELECT
    j.source_id, j.job_id, j.row_version, j.purge_date_time, %(now)s, %(reason)s,
    aims360.day_of(j.created_date, s.time_zone),
    nullif(j.account_code, ''), nullif(j.category_name, ''), nullif(j.sub_category_name, ''), nullif(j.job_status, ''),
    coalesce(j.number_of_attempts, 0),
    (SELECT count(*) FROM aims360.job_documents AS d WHERE d.source_id = j.source_id AND d.job_id = j.job_id),
    aims360.seconds_since_creation(j.created_date, j.start_date, j.number_of_attempts),
    aims360.seconds_between(j.start_date, j.completed_date)
FROM aims360.jobs AS j
JOIN etl.sources AS s USING (source_id)
WHERE j.source_id = %(source_id)s AND j.job_id = ANY(%(job_ids)s)
"""
_REMOVE = (
    "DELETE FROM aims360.job_documents WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s)",
    "DELETE FROM aims360.job_status_history WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s)",
    "DELETE FROM aims360.jobs WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s)",
)
_UNEARTH = "DELETE FROM aims360.purged_jobs WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s)"
_EMPTY_DAYS = "DELETE FROM aims360.purged_daily WHERE source_id = %(source_id)s AND jobs = 0"


def bury(db: Connection, source_id: int, job_ids: Sequence[str], reason: str, now: datetime) -> None:
    """Removes jobs with all that hangs on them; a tombstone and their share of the day totals stay.

    `reason` is `purged` or `missing_at_source`. Runs inside the caller's transaction.
    """
    given = {"source_id": source_id, "job_ids": list(job_ids), "reason": reason, "now": now, "sign": 1}
    for statement in (_BURY, _ADD, *_REMOVE):
        db.execute(statement, given)


def unearth(db: Connection, source_id: int, job_ids: Sequence[str]) -> None:
    """Jobs came back: takes their share off the day totals and drops their tombstones, in the caller's transaction."""
    given = {"source_id": source_id, "job_ids": list(job_ids), "sign": -1}
    for statement in (_ADD, _UNEARTH, _EMPTY_DAYS):
        db.execute(statement, given)
