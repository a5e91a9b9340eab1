"""Day totals: `live_daily` of the jobs that are here, `purged_daily` of those that are gone.

What a job adds is told in one place, and is added and taken off by the same words in the transaction that changes the
job, so that no total can disagree with what it counts. While a source is read for the first time its jobs are not
counted: at the end they are all at once, for a fraction of what they would cost page by page.
"""

from collections.abc import Sequence

from psycopg import sql

from etl.models import DURATION_BOUNDS
from etl.postgres.connection import Connection, compose, text_array

_KEYS = ("source_id", "day", "account_code", "category_name", "sub_category_name", "job_status")
_SUMS: dict[str, str] = {"jobs": "count(*)", "attempts": "sum(attempts)", "documents": "sum(documents)"}
for _what in ("queued", "run"):
    _SUMS[f"{_what}_count"] = f"count({_what}_seconds)"
    _SUMS[f"{_what}_seconds"] = f"coalesce(sum({_what}_seconds), 0)"
    for _bound in DURATION_BOUNDS:
        _SUMS[f"{_what}_le_{_bound}"] = f"count(*) FILTER (WHERE {_what}_seconds <= {_bound})"


def each(template: str) -> sql.Composed:
    """A list of all the counters, each put into the template."""
    return sql.SQL(", ").join(sql.SQL(template).format(sql.Identifier(name)) for name in _SUMS)


GROUP = sql.SQL(", ").join(map(sql.Identifier, _KEYS))
_NAMES = each("{}")

# What each job adds. Empty texts and missing ones are one group.
SHARE = sql.SQL("""
    s.source_id,
    aims360.day_of(j.created_date, s.time_zone) AS day,
    nullif(j.account_code, '') AS account_code,
    nullif(j.category_name, '') AS category_name,
    nullif(j.sub_category_name, '') AS sub_category_name,
    nullif(j.job_status, '') AS job_status,
    aims360.attempts(j.number_of_attempts, j.reruns_seen) AS attempts,
    j.documents,
    aims360.seconds_since_creation(
        j.created_date, j.start_date, aims360.attempts(j.number_of_attempts, j.reruns_seen)
    ) AS queued_seconds,
    aims360.seconds_between(j.start_date, j.completed_date) AS run_seconds
""")


def sums(shares: sql.Composable) -> sql.Composed:
    """Shares added up by group."""
    counters = sql.SQL(", ").join(sql.SQL(f"{text} AS {name}") for name, text in _SUMS.items())
    return sql.SQL("SELECT {}, {} FROM {} GROUP BY {}").format(GROUP, counters, shares, GROUP)


def add(table: str, changes: sql.Composable) -> sql.Composed:
    """Adds sums to day totals. A group may be told several times; where they come to nothing, nothing is written."""
    return sql.SQL("""
        INSERT INTO aims360.{table} AS d ({group}, {names})
        SELECT {group}, {totals}
        FROM {changes}
        GROUP BY {group}
        HAVING ({totals}) IS DISTINCT FROM ({zeros})
        ON CONFLICT (
            source_id, coalesce(day, '-infinity'), coalesce(account_code, ''), coalesce(category_name, ''),
            coalesce(sub_category_name, ''), coalesce(job_status, '')
        )
        DO UPDATE SET {additions}
    """).format(
        table=sql.Identifier(table),
        group=GROUP,
        names=_NAMES,
        totals=each("sum({})"),
        changes=changes,
        zeros=sql.SQL(", ").join([sql.SQL("0")] * len(_SUMS)),
        additions=each("{0} = d.{0} + excluded.{0}"),
    )


# OFFSET: a time is worked out once, and not anew for each counter that asks for it.
_LIVE = sql.SQL("""
(
    SELECT {share}
    FROM etl.sources AS s
    JOIN aims360.jobs AS j USING (source_id)
    WHERE s.source_id = %(source_id)s AND s.complete_through IS NOT NULL
    OFFSET 0
) AS shares
""").format(share=SHARE)
_EVERYTHING = sql.SQL("""
(
    SELECT {share}
    FROM etl.sources AS s
    JOIN aims360.jobs AS j USING (source_id)
    WHERE s.complete_through IS NOT NULL
    OFFSET 0
) AS shares
""").format(share=SHARE)
_CHOSEN = sql.SQL("""
(
    SELECT {share}
    FROM etl.sources AS s
    JOIN aims360.jobs AS j USING (source_id)
    WHERE s.source_id = %(source_id)s AND s.complete_through IS NOT NULL AND j.job_id = ANY(%(job_ids)s::text[])
    OFFSET 0
) AS shares
""").format(share=SHARE)
_TELL = compose("SELECT coalesce(json_agg(sums), '[]')::text FROM ({sums}) AS sums", sums=sums(_CHOSEN))
_RECOUNT = add(
    "live_daily",
    sql.SQL("""
    (
        {now}
        UNION ALL
        SELECT {group}, {off} FROM json_populate_recordset(NULL::aims360.live_daily, %(before)s::json)
    ) AS changes
    """).format(now=sums(_CHOSEN), group=GROUP, off=each("-{}")),
).as_bytes()  # see compose
# All jobs are read, so as they lie, and the groups find room; a run goes by keys else.
_ALL_AT_ONCE = "SET LOCAL enable_seqscan = on; SET LOCAL work_mem = '32MB'"
_FORGET = "DELETE FROM aims360.live_daily WHERE source_id = %(source_id)s"
_COUNT_ALL = add("live_daily", sql.SQL("({}) AS sums").format(sums(_LIVE)))
_EMPTY_DAYS = (
    "DELETE FROM aims360.live_daily WHERE source_id = %(source_id)s AND jobs = 0",
    "DELETE FROM aims360.purged_daily WHERE source_id = %(source_id)s AND jobs = 0",
)


def told(db: Connection, source_id: int, job_ids: Sequence[str]) -> str:
    """What these jobs add to the live totals, for `recount` after they were changed in the same transaction."""
    row = db.execute(_TELL, {"source_id": source_id, "job_ids": text_array(job_ids)}).fetchone()
    assert row is not None
    return str(row[0])


def recount(db: Connection, source_id: int, job_ids: Sequence[str], before: str = "[]") -> None:
    """These jobs are new or were changed: the live totals get what they add now, less what was told of them before."""
    db.execute(_RECOUNT, {"source_id": source_id, "job_ids": text_array(job_ids), "before": before})


def count_all(db: Connection, source_id: int) -> None:
    """The live totals anew from the jobs that are here, in the caller's transaction."""
    given = {"source_id": source_id}
    db.execute(_ALL_AT_ONCE)
    db.execute(_FORGET, given)
    db.execute(_COUNT_ALL, given)


def count_everything() -> tuple[str, ...]:
    """The live totals of all sources anew: statements of a migration, which has nothing to put into them."""
    count = add("live_daily", sql.SQL("({}) AS sums").format(sums(_EVERYTHING)))
    return (*_ALL_AT_ONCE.split("; "), "DELETE FROM aims360.live_daily", count.as_string())


def drop_empty_days(db: Connection, source_id: int) -> None:
    """Delete day totals that have reached zero."""
    for statement in _EMPTY_DAYS:
        db.execute(statement, {"source_id": source_id})
