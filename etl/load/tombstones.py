"""Tombstones: what stays of a job that leaves the mirror, and the way back.

One statement moves a job's share of the day totals with it, so that no total can disagree with what it counts.
"""

from collections.abc import Sequence
from datetime import datetime

from psycopg import sql

from etl.postgres.connection import Connection, compose, text_array
from etl.postgres.daily_aggregates import GROUP, SHARE, add, drop_empty_days, each, sums

# One statement, so that each table is gone through once; Postgres asks at its end whether a document lost its job.
# Tombstones come in the order of their index.
BURY = compose(
    """
WITH documents AS (
    DELETE FROM aims360.job_documents WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
),
history AS (
    DELETE FROM aims360.job_status_history WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
),
marks AS (
    DELETE FROM etl.unread_values WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
),
gone AS (
    DELETE FROM aims360.jobs WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
    RETURNING
        source_id, job_id, row_version, purge_date_time, created_date, start_date, completed_date,
        account_code, category_name, sub_category_name, job_status, number_of_attempts, reruns_seen, documents
),
shares AS (
    SELECT {share}, j.job_id, j.row_version, j.purge_date_time
    FROM gone AS j
    JOIN etl.sources AS s USING (source_id)
),
tombstones AS (
    INSERT INTO aims360.purged_jobs (
        source_id, job_id, row_version, purge_date_time, purged_at, reason, day,
        account_code, category_name, sub_category_name, job_status,
        attempts, documents, queued_seconds, run_seconds
    )
    SELECT
        source_id, job_id, row_version, purge_date_time, %(now)s, %(reason)s, day,
        account_code, category_name, sub_category_name, job_status,
        attempts, documents, queued_seconds, run_seconds
    FROM shares
    ORDER BY job_id
    RETURNING *
),
sums AS MATERIALIZED ({sums}),
live AS ({live})
{purged}
""",
    share=SHARE,
    sums=sums(sql.SQL("tombstones")),
    live=add(
        "live_daily",
        sql.SQL("""
        (
            SELECT {group}, {off}
            FROM sums
            JOIN etl.sources AS s USING (source_id)
            WHERE s.complete_through IS NOT NULL
        ) AS changes
        """).format(group=GROUP, off=each("-sums.{0} AS {0}")),
    ),
    purged=add("purged_daily", sql.SQL("sums")),
)
_UNEARTH = compose(
    """
WITH tombstones AS (
    DELETE FROM aims360.purged_jobs WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
    RETURNING *
),
sums AS ({sums})
{purged}
""",
    sums=sums(sql.SQL("tombstones")),
    purged=add("purged_daily", sql.SQL("(SELECT {}, {} FROM sums) AS changes").format(GROUP, each("-{0} AS {0}"))),
)
# What Postgres believes of a table that has just been filled, or of an array, mustn't lead it to look at every row for
# every key: the primary keys lead to the rows, and what was found is joined by its hash.
BY_KEY = "SET LOCAL enable_seqscan = off; SET LOCAL enable_nestloop = off"


def bury(db: Connection, source_id: int, job_ids: Sequence[str], reason: str, now: datetime) -> None:
    """Removes jobs with all that hangs on them; a tombstone and their share of the day totals stay.

    `reason` is `purged` or `missing_at_source`. Runs inside the caller's transaction.
    """
    if job_ids:
        db.execute(BY_KEY)
        given = {"source_id": source_id, "job_ids": text_array(job_ids), "reason": reason, "now": now}
        db.execute(BURY, given)
        drop_empty_days(db, source_id)


def unearth(db: Connection, source_id: int, job_ids: Sequence[str]) -> None:
    """Jobs came back: takes their share off the day totals and drops their tombstones, in the caller's transaction."""
    db.execute(_UNEARTH, {"source_id": source_id, "job_ids": text_array(job_ids)})
    drop_empty_days(db, source_id)
