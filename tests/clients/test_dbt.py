"""dbt: the sources that docs/bi.md gives, and what it says of their freshness."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.clients.expected import VIEWS, Login
from tests.support.paths import ROOT

_PROJECT = Path(__file__).parent / "dbt"
_SOURCES = (_PROJECT / "models" / "sources.yml").read_text(encoding="utf-8")
_DBT = os.environ.get("DBT", str(ROOT / ".venv-dbt" / "bin" / "dbt"))

_ANOTHER = """
    INSERT INTO etl.sources (name, base_url, flatten_version, purge_mode, time_zone)
    VALUES ('another', 'https://another.example', 1, 'delete', 'UTC')
"""

_BEHIND = "UPDATE etl.sources SET complete_through = now() - make_interval(hours => %s) WHERE name = 'west'"

Told = subprocess.CompletedProcess[str]


@pytest.fixture
def freshness(reader: Login, tmp_path: Path) -> Callable[[], Told]:
    """`dbt source freshness` of the reader's."""
    surroundings = {
        **os.environ,
        "PGHOST": reader.host,
        "PGPORT": reader.port,
        "PGUSER": reader.user,
        "PGPASSWORD": reader.password,
        "PGDATABASE": reader.database,
        "DBT_TARGET_PATH": str(tmp_path / "target"),
        "DBT_LOG_PATH": str(tmp_path / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    words = [_DBT, "--no-version-check", "--no-use-colors", "source", "freshness"]
    places = ["--project-dir", str(_PROJECT), "--profiles-dir", str(_PROJECT)]

    def run() -> Told:
        return subprocess.run(
            [*words, *places], env=surroundings, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture
def owner(mirror: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Who keeps the mirror; what is done to it here is undone."""
    with psycopg.connect(mirror, autocommit=True) as db:
        before = db.execute("SELECT complete_through, name FROM etl.sources").fetchall()
        yield db
        for row in before:
            db.execute("UPDATE etl.sources SET complete_through = %s WHERE name = %s", row)
        db.execute("DELETE FROM etl.sources WHERE name = 'another'")


def test_the_documentation_gives_the_sources_that_are_tested_here() -> None:
    """Its block is models/sources.yml, which names every view that readers have."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "bi.md").read_text(encoding="utf-8"), re.DOTALL)
    assert _SOURCES in blocks
    assert sorted(re.findall(r"^      - name: (\w+)$", _SOURCES, re.MULTILINE)) == VIEWS


def test_a_mirror_that_is_kept_is_fresh(freshness: Callable[[], Told]) -> None:
    """dbt asks for complete_through_utc, and is content."""
    told = freshness()
    assert told.returncode == 0, told.stdout
    assert "PASS freshness of aims360.freshness" in told.stdout


def test_a_mirror_that_is_behind_is_warned_of_and_then_an_error(
    freshness: Callable[[], Told], owner: psycopg.Connection[tuple[object, ...]]
) -> None:
    """After half an hour and after two hours, by UTC, though another account is up to date."""
    for hours, word, code in ((1, "WARN", 0), (3, "ERROR STALE", 1)):
        owner.execute(_BEHIND, (hours,))
        told = freshness()
        assert f"{word} freshness of aims360.freshness" in told.stdout
        assert told.returncode == code


def test_an_account_that_was_never_complete_is_not_hidden_by_one_that_is(
    freshness: Callable[[], Told], owner: psycopg.Connection[tuple[object, ...]]
) -> None:
    """The worst of all accounts counts."""
    owner.execute(_ANOTHER)
    told = freshness()
    assert "ERROR STALE freshness of aims360.freshness" in told.stdout
    assert told.returncode == 1
