"""Day totals of jobs that are gone: `purged_daily`, and the tombstones that say what each job added to it.

The same words add tombstones to the totals and take them off again, in the statement that makes or drops the
tombstones, so that the two can't disagree.
"""

from collections.abc import Sequence
from datetime import datetime

from psycopg import sql

from etl.database import Connection, text_array
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
FROM tombstones
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

# One statement, so that each table is gone through once; Postgres asks at its end whether a document lost its job.
# Tombstones come in the order of their index.
# Empty texts and missing ones are one group, here and in bi.job_daily.
BURY = sql.SQL("""
WITH documents AS (
    DELETE FROM aims360.job_documents WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
    RETURNING job_id
),
history AS (
    DELETE FROM aims360.job_status_history WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
),
gone AS (
    DELETE FROM aims360.jobs WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
    RETURNING
        source_id, job_id, row_version, purge_date_time, created_date, start_date, completed_date,
        account_code, category_name, sub_category_name, job_status, number_of_attempts
),
tombstones AS (
    INSERT INTO aims360.purged_jobs (
        source_id, job_id, row_version, purge_date_time, purged_at, reason, day,
        account_code, category_name, sub_category_name, job_status,
        attempts, documents, queued_seconds, run_seconds
    )
    SELECT
        source_id, job_id, row_version, purge_date_time, %(now)s, %(reason)s,
        aims360.day_of(created_date, s.time_zone),
        nullif(account_code, ''), nullif(category_name, ''), nullif(sub_category_name, ''), nullif(job_status, ''),
        coalesce(number_of_attempts, 0),
        coalesce(d.documents, 0),
        aims360.seconds_since_creation(created_date, start_date, number_of_attempts),
        aims360.seconds_between(start_date, completed_date)
    FROM gone
    JOIN etl.sources AS s USING (source_id)
    LEFT JOIN (SELECT job_id, count(*) AS documents FROM documents GROUP BY job_id) AS d USING (job_id)
    ORDER BY job_id
    RETURNING *
)
{add}
""").format(add=_ADD)
_UNEARTH = sql.SQL("""
WITH tombstones AS (
    DELETE FROM aims360.purged_jobs WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
    RETURNING *
)
{add}
""").format(add=_ADD)
# What Postgres believes of a table that has just been filled, or of an array, mustn't lead it to look at every row for
# every key: the primary keys lead to the rows, and what was found is joined by its hash.
BY_KEY = "SET LOCAL enable_seqscan = off; SET LOCAL enable_nestloop = off"
_EMPTY_DAYS = "DELETE FROM aims360.purged_daily WHERE source_id = %(source_id)s AND jobs = 0"


def bury(db: Connection, source_id: int, job_ids: Sequence[str], reason: str, now: datetime) -> None:
    """Removes jobs with all that hangs on them; a tombstone and their share of the day totals stay.

    `reason` is `purged` or `missing_at_source`. Runs inside the caller's transaction.
    """
    if job_ids:
        db.execute(BY_KEY)
        given = {"source_id": source_id, "job_ids": text_array(job_ids), "reason": reason, "now": now, "sign": 1}
        db.execute(BURY, given)


def unearth(db: Connection, source_id: int, job_ids: Sequence[str]) -> None:
    """Jobs came back: takes their share off the day totals and drops their tombstones, in the caller's transaction."""
    given = {"source_id": source_id, "job_ids": text_array(job_ids), "sign": -1}
    for statement in (_UNEARTH, _EMPTY_DAYS):
        db.execute(statement, given)
