"""How much the views read for what BI tools typically ask, and what a day leaves behind: told by rows, not by time."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from etl.postgres.connection import Connection, connect
from etl.testing.emulator import populated
from tests.bench.asked import GIVEN, TYPICAL, Asked
from tests.support.scene import Scene

JOBS = 20_000
FEW = 60  # rows of one job, or of what there are few of
KEPT = (
    ("aims360", "jobs"),
    ("aims360", "job_documents"),
    ("aims360", "job_status_history"),
    ("aims360", "live_daily"),
    ("etl", "sources"),
)
DEAD = "SELECT schemaname, relname, n_live_tup, n_dead_tup, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
COUNTED = {"jobs", "job_documents", "job_status_history"}


def scans(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The nodes of a plan that read a table."""
    if "Relation Name" in node:
        yield node
    for child in node.get("Plans", ()):
        yield from scans(child)


def read(node: Mapping[str, Any]) -> float:
    """Rows that a node looked at."""
    removed = sum(float(node.get(f"Rows Removed by {what}", 0)) for what in ("Filter", "Index Recheck"))
    return (float(node["Actual Rows"]) + removed) * float(node["Actual Loops"])


@pytest.mark.slow
def test_what_is_typically_asked_reads_no_more_than_it_must(db: Connection) -> None:
    """An index leads to the rows of a job, an account, a state, a day; what is counted is in an index or in totals."""
    scene = Scene(db, populated(JOBS, seed=1, now=datetime.now(UTC)), page_size=2_000)
    scene.sync()
    db.execute("VACUUM (ANALYZE)")
    given = db.cursor(row_factory=dict_row).execute(GIVEN).fetchone()
    assert given is not None
    said = [wrong for each in TYPICAL for wrong in judged(db, each, given)]
    assert said == []


def judged(db: Connection, each: Asked, given: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the plan of a question."""
    cursor: psycopg.ClientCursor[tuple[Any, ...]] = psycopg.ClientCursor(db)
    [(found,)] = cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {each.statement}".encode(), given).fetchall()
    nodes = [node for node in scans(found[0]["Plan"]) if node["Relation Name"] in COUNTED]
    rows = sum(map(read, nodes))
    heap = sum(read(node) for node in nodes if node["Node Type"] not in ("Index Only Scan", "Bitmap Index Scan"))
    skips = db.info.server_version >= 180000  # before, one job is looked for through all of an index led by the source
    for what, found_rows, share in (("rows", rows, each.share), ("rows of tables", heap, each.heap)):
        if found_rows > FEW + (share if share or skips or not each.is_of_one_job else 1.1) * JOBS:
            yield f"bi.{each.view}, {each.what}: {found_rows:.0f} {what} read, {share * JOBS:.0f} are allowed"


@pytest.mark.slow
def test_a_days_life_leaves_few_dead_rows(url: str) -> None:
    """Before any vacuum: little beyond what was purged; and what is updated in place stays on its page."""
    with connect(url) as db:
        db.execute("SELECT pg_stat_reset()")
        for table in KEPT:
            db.execute(sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = off)").format(sql.Identifier(*table)))
        world = populated(3_000, seed=1, now=datetime.now(UTC) - timedelta(days=1), rerun_share=0.05)
        scene = Scene(db, world)
        scene.sync()
        for _ in range(96):
            world.advance(timedelta(minutes=15))
            scene.sync()
    with connect(url) as db:  # the counters of a session are told when it ends
        counted = {(str(a), str(b)): row for a, b, *row in db.execute(DEAD).fetchall()}
        for table in KEPT:
            db.execute(sql.SQL("ALTER TABLE {} RESET (autovacuum_enabled)").format(sql.Identifier(*table)))
    for table in KEPT[:3]:
        live, dead, _, _ = map(int, map(str, counted[table]))
        assert 0 < dead <= 0.1 * live, (table, counted[table])
    for table in KEPT[3:]:
        _, _, updated, in_place = map(int, map(str, counted[table]))
        assert in_place >= 0.95 * updated > 0, (table, counted[table])
