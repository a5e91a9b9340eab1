"""docs/bi.md keeps its word: its statements run, its connection string connects, its backup comes back."""

import os
import re
import subprocess
from datetime import timedelta
from pathlib import Path

import psycopg
import pyodbc
import pytest

from etl.cli import main
from etl.postgres import embedded_binaries, migrations
from etl.postgres.connection import Connection, connect
from etl.testing.emulator import populated
from tests.clients.expected import LINKS, VIEWS, Login
from tests.support.paths import ROOT
from tests.support.scene import Scene

_DOCS = (ROOT / "docs" / "bi.md").read_text(encoding="utf-8")
_BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", _DOCS, re.DOTALL | re.MULTILINE)
_STATEMENTS = [block for kind, block in _BLOCKS if kind == "sql"]
_LINES = [line for kind, block in _BLOCKS if not kind for line in block.splitlines()]


def line(beginning: str) -> str:
    """The only line of the documentation's blocks that begins so."""
    [found] = [each for each in _LINES if each.startswith(beginning)]
    return found


@pytest.mark.parametrize("statement", _STATEMENTS)
def test_its_statements_are_answered(reader: Login, statement: str) -> None:
    """For a reader, with rows."""
    assert len(_STATEMENTS) == 3
    with psycopg.connect(reader.url) as db:
        assert db.execute(statement.encode()).fetchall()


def test_it_says_which_view_answers_what() -> None:
    """Each view has its line in the table."""
    named = set(re.findall(r"^\| [^|]* \| `bi\.(\w+)` \|", _DOCS, re.MULTILINE))
    assert named == {*VIEWS, LINKS}


def test_its_commands_are_the_programs() -> None:
    """Words and options."""
    said = re.findall(r"aims360-etl ([a-z]+)((?: --?[a-z]+(?: [A-Za-z]+)?)*)", _DOCS)
    assert {"grant", "migrate", "sync"} == {command for command, _ in said}
    for command, options in said:
        known = {word for option in main.commands[command].params for word in option.opts}
        assert set(re.findall(r"--[a-z]+", options)) <= known


def test_its_odbc_connection_string_connects(reader: Login) -> None:
    """With the options it tells to set; the driver's name is Windows', and this Postgres speaks no TLS."""
    way = (line("Driver=") + line("sslmode=")).replace("(x64)", "").replace("sslmode=require", "sslmode=prefer")
    for before, after in (
        ("Server=host", f"Server={reader.host}"),
        ("Port=5432", f"Port={reader.port}"),
        ("Database=aims360", f"Database={reader.database}"),
        ("Uid=reporting", f"Uid={reader.user};Pwd={reader.password}"),
    ):
        assert before in way
        way = way.replace(before, after)
    connection = pyodbc.connect(way, autocommit=True)
    assert {row[0] for row in connection.execute("SELECT can_rerun FROM bi.jobs")} == {False, True}
    connection.close()


def test_its_backup_comes_back_and_the_next_sync_goes_on(
    url: str, db: Connection, empty_database: str, tmp_path: Path
) -> None:
    """Day totals of purged jobs are there again, and what happened since the dump is fetched."""
    scene = Scene(db, populated(200, seed=1))
    scene.sync()
    scene.world.advance(timedelta(days=5))
    scene.sync()
    kept = scene.rows("TABLE aims360.purged_daily")
    assert kept
    shell(line("pg_dump"), url, tmp_path)
    scene.world.advance(timedelta(hours=1))

    shell(line("pg_restore"), empty_database, tmp_path)
    migrations.migrate(empty_database)
    with connect(empty_database) as restored:
        after = Scene(restored, scene.world)
        assert sorted(after.rows("TABLE aims360.purged_daily")) == sorted(kept)
        after.sync()
        assert after.differences() == []


def shell(command: str, url: str, place: Path) -> None:
    """Runs a line as people would, with the programs that belong to the server: our own, or those on PATH."""
    path = os.environ["PATH"]
    if "DATABASE_URL" not in os.environ:
        path = os.pathsep.join((str(embedded_binaries.tools_for(place).folder), path))
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=place,
        env={"PATH": path, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
