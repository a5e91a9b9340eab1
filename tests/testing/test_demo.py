"""The demo and the embedded Postgres by hand, as a new user runs them: from an empty folder with an empty HOME."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from etl.postgres import embedded


class Shell:
    """The command with nothing in its environment but a data folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.folder = folder / "empty"
        self.folder.mkdir()
        self.environ = {"HOME": str(self.folder), "PATH": os.defpath, "AIMS360_DATA_DIR": str(self.data_dir)}

    def run(self, *arguments: str) -> str:
        """What the command says; it must exit 0 and leave nothing where it ran."""
        command = [sys.executable, "-m", "etl", *arguments]
        done = subprocess.run(command, env=self.environ, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not list(self.folder.iterdir())
        return done.stdout


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell; its Postgres is removed at the end."""
    found = Shell(tmp_path)
    yield found
    embedded.remove(found.data_dir)


@pytest.mark.slow
def test_the_demo_ends_with_an_equal_mirror_a_page_and_a_way_in(shell: Shell) -> None:
    """Nothing missing, stale or left over; the page is where it says; what it says of psql works."""
    said = shell.run("demo", "--jobs", "300")
    assert "0 missing, 0 stale, 0 ghosts" in said
    page = re.search(r"Charts: (\S+)", said)
    assert page is not None
    assert Path(page[1]).read_text(encoding="utf-8").count("<svg") == 12
    assert "db url demo" in said
    with psycopg.connect(shell.run("db", "url", "demo").strip()) as db:
        row = db.execute("SELECT count(*), count(DISTINCT source) FROM bi.jobs").fetchone()
    assert row is not None
    assert row[0] > 250
    assert row[1] == 1
    assert "0 missing, 0 stale, 0 ghosts" in shell.run("demo", "--jobs", "300")


def test_the_embedded_postgres_is_started_stopped_and_found_by_hand(shell: Shell) -> None:
    """`start` says how to stop it, `url` where it is, and a stopped one is no error."""
    assert f"AIMS360_DATA_DIR={shell.data_dir} " in shell.run("db", "start")
    assert shell.run("db", "start").startswith("runs already")
    assert shell.run("db", "url").startswith("postgresql://aims360:")
    assert shell.run("db", "stop") == "stopped\n"
    assert shell.run("db", "stop") == "it was not running\n"
    assert "schema is at" in shell.run("migrate")
    assert "nothing was synced yet" in shell.run("status")
