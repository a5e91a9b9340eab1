"""(j) What BI tools ask of the views, on the largest mirror: each question as Postgres times it, planning included."""

from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.bench.asked import GIVEN, TYPICAL, Asked
from tests.bench.mirror import Mirror
from tests.bench.stage import OFTEN, Stage
from tests.bench.table import Figure, Line, Target

QUICK = 300.0  # ms: a tile that answers at once
TENANT = "bench_tenant"
_READERS = """
DROP ROLE IF EXISTS bench_tenant;
CREATE ROLE bench_tenant;
GRANT USAGE ON SCHEMA bi TO bench_tenant;
GRANT SELECT ON ALL TABLES IN SCHEMA bi TO bench_tenant;
"""
_HELD = "INSERT INTO bi.account_access (role_name, account_code) VALUES ('bench_tenant', %s)"
_NO_READERS = """
RESET ROLE;
DELETE FROM bi.account_access;
DROP OWNED BY bench_tenant;
DROP ROLE bench_tenant;
"""


def asked(stage: Stage, mirror: Mirror) -> None:
    """The questions as who sees all, and those to whole accounts as a tenant that sees one of them."""
    with psycopg.connect(mirror.cluster.address(mirror.name), autocommit=True) as db:
        given = db.cursor(row_factory=dict_row).execute(GIVEN).fetchone() or {}
        for each in TYPICAL:
            stage.note(_line(stage, db, each, given, mirror))
        db.execute(_READERS)
        db.execute(_HELD, (given["account"],))
        db.execute("SET ROLE bench_tenant")
        for each in TYPICAL:
            if each.share and "account_code =" not in each.statement:
                stage.note(_line(stage, db, each, given, mirror, " (a tenant)"))
        db.execute(_NO_READERS)


def _line(
    stage: Stage, db: psycopg.Connection[Any], each: Asked, given: dict[str, Any], mirror: Mirror, who: str = ""
) -> Line:
    statement = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {each.statement}".encode()

    def work() -> float:
        [([found],)] = psycopg.ClientCursor(db).execute(statement, given).fetchall()
        return float(found["Planning Time"]) + float(found["Execution Time"])

    work()  # what is read the first time is read from the disk
    what = f"j bi.{each.view}, {mirror.source.jobs:,} jobs: {each.what}{who}"
    command = "psql: EXPLAIN (ANALYZE, TIMING OFF) " + " ".join(each.statement.split())
    return Line(Figure(what, "ms", tuple(stage.repeated(work, OFTEN)), command), target=Target("300", QUICK))
