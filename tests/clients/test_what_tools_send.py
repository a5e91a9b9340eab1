"""What BI tools send by themselves, before and around the queries that people make: none of it may break."""

from collections.abc import Iterator

import psycopg
import pytest

from etl.postgres.connection import Connection
from tests.clients.expected import LINKS, VIEWS, Login

# Power BI's navigator, and the columns of a chosen view.
_NAVIGATOR = """
    select TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE
    from INFORMATION_SCHEMA.tables
    where TABLE_SCHEMA not in ('information_schema', 'pg_catalog')
    order by TABLE_SCHEMA, TABLE_NAME
"""
_COLUMNS = """
    select COLUMN_NAME, ORDINAL_POSITION, IS_NULLABLE, DATA_TYPE
    from INFORMATION_SCHEMA.columns
    where TABLE_SCHEMA = 'bi' and TABLE_NAME = 'jobs'
    order by TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION
"""

# Power BI: an incremental refresh of a month, and a picture by DirectQuery.
_REFRESH = """
    select "_"."source", "_"."job_id", "_"."job_status", "_"."created_at_utc", "_"."modified_at_utc"
    from "bi"."jobs" "_"
    where "_"."created_at_utc" >= timestamp '2020-01-01 00:00:00'
      and "_"."created_at_utc" < timestamp '2100-01-01 00:00:00'
"""
_CHANGES = """
    select max("rows"."modified_at_utc") as "a0"
    from "bi"."jobs" "rows"
    where "rows"."created_at_utc" >= timestamp '2020-01-01 00:00:00'
"""
_PICTURE = """
    select "rows"."day" as "day", sum("rows"."jobs") as "a0"
    from (select "day", "jobs" from "bi"."job_daily" "$Table") "rows"
    group by "day"
    limit 1000001
"""

# Tableau: a count, a picture by month, and values of a filter.
_COUNT = 'SELECT COUNT(1) AS "COL" FROM "bi"."jobs" "jobs" HAVING (COUNT(1) > 0)'
_BY_MONTH = """
    SELECT CAST(DATE_TRUNC('MONTH', "jobs"."created_at_utc") AS DATE) AS "tmn", SUM("jobs"."run_seconds") AS "sum"
    FROM "bi"."jobs" "jobs"
    GROUP BY 1
"""
_VALUES = 'SELECT "jobs"."account_code" AS "account_code" FROM "bi"."jobs" "jobs" GROUP BY 1 ORDER BY 1 ASC NULLS FIRST'

# Metabase: a preview, a fingerprint of texts, the time zone; Superset: a series by day.
_PREVIEW = 'SELECT * FROM "bi"."jobs" LIMIT 1000'
_FINGERPRINT = """
    SELECT "source"."substring1" FROM (
        SELECT SUBSTRING("bi"."jobs"."job_status_text", 1, 1234) AS "substring1" FROM "bi"."jobs" LIMIT 10000
    ) AS "source" LIMIT 10000
"""
_ZONE = "SHOW TIME ZONE"
_SERIES = """
    SELECT DATE_TRUNC('day', created_at_utc) AS created_at_utc, count(*) AS count
    FROM bi.jobs
    WHERE created_at_utc >= TO_TIMESTAMP('2020-01-01 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US')
    GROUP BY DATE_TRUNC('day', created_at_utc)
    ORDER BY count DESC
    LIMIT 10000
"""
_STATEMENTS = {
    "Power BI, navigator": _NAVIGATOR,
    "Power BI, columns": _COLUMNS,
    "Power BI, incremental refresh": _REFRESH,
    "Power BI, changes": _CHANGES,
    "Power BI, DirectQuery": _PICTURE,
    "Tableau, count": _COUNT,
    "Tableau, by month": _BY_MONTH,
    "Tableau, filter": _VALUES,
    "Metabase, preview": _PREVIEW,
    "Metabase, fingerprint": _FINGERPRINT,
    "Metabase, time zone": _ZONE,
    "Superset, series": _SERIES,
}


@pytest.fixture
def session(reader: Login) -> Iterator[Connection]:
    """The reader's."""
    with psycopg.connect(reader.url, autocommit=True) as db:
        yield db


@pytest.mark.parametrize("name", _STATEMENTS)
def test_it_is_answered(session: Connection, name: str) -> None:
    """Each has rows; Postgres of every version reads it."""
    assert session.execute(_STATEMENTS[name].encode()).fetchall()


def test_the_navigator_shows_what_may_be_read_and_nothing_else(session: Connection) -> None:
    """No table of the mirror, no ledger, no links."""
    shown = {(schema, name) for schema, name, _ in session.execute(_NAVIGATOR).fetchall()}
    assert {("bi", view) for view in VIEWS} <= shown
    assert {schema for schema, _ in shown} == {"bi"}
    assert ("bi", LINKS) not in shown


def test_tableaus_probe_does_no_harm(session: Connection, reader: Login) -> None:
    """Tableau makes a table of its own to see whether it may: it may, and nobody else ever sees that table."""
    probe = 'CREATE LOCAL TEMPORARY TABLE "#Tableau_1_1_Connect" ("COL" INTEGER) ON COMMIT PRESERVE ROWS'
    session.execute(probe)
    session.execute('INSERT INTO "#Tableau_1_1_Connect" ("COL") VALUES (1)')
    session.execute('DROP TABLE "#Tableau_1_1_Connect"')
    assert session.execute(_COUNT.encode()).fetchone()


def test_readers_write_nothing(session: Connection) -> None:
    """Neither into views nor beside them."""
    for statement in (
        "DELETE FROM bi.jobs",
        "UPDATE bi.jobs SET job_status = 'Completed'",
        "CREATE TABLE bi.mine (n integer)",
        "CREATE VIEW bi.mine AS SELECT 1 AS n",
    ):
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)):
            session.execute(statement)
