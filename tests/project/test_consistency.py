"""The project is consistent: README, commands, errors, tables, migrations and views say the same."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from etl.cli import EXIT_CODES
from etl.errors import EtlError
from etl.models import Counts, DocumentRow, JobRow
from etl.postgres.connection import Connection
from etl.postgres.tables import metadata
from etl.testing.emulator import populated
from tests.support.cli_commands import commands
from tests.support.paths import ROOT
from tests.support.scene import Scene

README = (ROOT / "README.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
VIEWS = sorted(path.stem for path in (ROOT / "sql" / "views").glob("*.sql"))


def test_every_command_and_option_has_help() -> None:
    """`--help` says something everywhere; an argument is spoken of in the command's own text."""
    for name, command in commands():
        assert command.help, name
        for parameter in command.params:
            said = parameter.help if isinstance(parameter, click.Option) else parameter.human_readable_name
            assert said, (name, parameter.name)
            assert said in " ".join(command.get_help(click.Context(command)).split()), said


def test_every_error_has_an_exit_code_that_is_documented() -> None:
    """The tree of errors uses only known codes."""
    pending = [EtlError]
    while pending:
        error = pending.pop()
        pending += error.__subclasses__()
        assert error.exit_code in dict(EXIT_CODES)


@pytest.mark.parametrize("query", QUERIES)
def test_readme_queries_run(db: Connection, query: str) -> None:
    """Each of the analyst's queries has an answer on a populated mirror; its numbers are those of the mirror."""
    Scene(db, populated(300, seed=1, now=datetime.now(UTC))).sync()
    assert len(QUERIES) == 3
    rows = db.execute(query).fetchall()
    assert len(rows) > 1
    if "failed_percent" in query:
        ended = db.execute("SELECT count(*) FROM bi.jobs WHERE job_status IN ('Completed', 'Failed')").fetchone()
        assert ended == (sum(int(str(row[2])) for row in rows),)
    if "job_daily" in query:
        assert sum(int(str(row[1])) for row in rows) == 300


def test_migrations_make_the_tables(url: str) -> None:
    """What the migrations made is what etl/postgres/tables.py says, comments included."""
    engine = sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg"),
        connect_args={"options": "-csearch_path=public"},
        poolclass=sa.NullPool,
    )
    ours = {"aims360", "etl", "bi"}
    options = {
        "include_schemas": True,
        "version_table_schema": "etl",
        "compare_type": True,
        "include_name": lambda name, kind, _: name in ours if kind == "schema" else True,
    }
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_rows_and_counts_are_columns_of_their_tables() -> None:
    """The row types are the tables' columns, in their order; every counter of a run has its column."""
    jobs = [column.name for column in metadata.tables["aims360.jobs"].columns]
    assert jobs == ["source_id", *JobRow._fields, "synced_at", "purged_at", "documents", "reruns_seen"]
    documents = [column.name for column in metadata.tables["aims360.job_documents"].columns]
    assert documents == ["source_id", "job_id", *DocumentRow._fields, "available_until", "account_code"]
    assert set(Counts.__struct_fields__) <= {column.name for column in metadata.tables["etl.runs"].columns}


def test_every_table_and_column_has_a_comment(db: Connection) -> None:
    """Tables and views, mirror, ledger and BI alike."""
    bare = db.execute("""
        SELECT c.oid::regclass, a.attname
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE n.nspname IN ('aims360', 'etl', 'bi') AND c.relkind IN ('r', 'v') AND c.relname <> 'alembic_version'
          AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid, 'pg_class') IS NULL)
    """).fetchall()
    assert bare == []


@pytest.mark.parametrize("name", VIEWS)
def test_views_say_question_grain_and_notes_and_show_no_secret(db: Connection, name: str) -> None:
    """A header that says what the view is for; no link, request address or response in any of its columns."""
    text = (ROOT / "sql" / "views" / f"{name}.sql").read_text(encoding="utf-8")
    for word in ("-- Question:", "-- Grain:", "-- Columns:", "-- Notes:"):
        assert word in text
    rows = db.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'bi' AND table_name = %s", (name,)
    )
    columns = {str(row[0]) for row in rows.fetchall()}
    assert columns
    secret = {"publish_link", "download_link", "request_url", "response_json", "response_text", "extra", "raw"}
    assert not columns & secret


def test_every_key_is_led_by_the_source() -> None:
    """So that sources never meet, and the tables can be distributed by source."""
    for table in metadata.tables.values():
        if table.schema == "aims360":
            unique = [list(index.columns) for index in table.indexes if index.unique]
            keys = [list(table.primary_key.columns), *unique]
            assert all(next(iter(key)).name == "source_id" for key in keys if key), table.name


def test_no_other_index_is_taken_for_the_primary_key() -> None:
    """Without statistics one that is led by the source seems as good, and a lookup would go through all its jobs."""
    indexes = metadata.tables["aims360.jobs"].indexes
    others = [index for index in indexes if index.dialect_options["postgresql"]["where"] is None]
    assert len(others) == 3
    assert not any("source_id" in index.columns for index in others)


def test_nothing_committed_names_a_package_host() -> None:
    """Pins are names, versions and hashes; an address would bind the project to one registry."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    # In an unpacked source distribution there is no git: what lies there is what was committed.
    unpacked = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if ".venv" not in path.parts]
    files = done.stdout.splitlines() or unpacked
    assert "README.md" in files
    hosts = re.compile(r"(?:pypi|pythonhosted|npmjs|registry\.npm|deb\.debian|crates)\s*\.\s*(?:org|io|com)")
    named = [f for f in files if (ROOT / f).is_file() and hosts.search((ROOT / f).read_text("utf-8", "replace"))]
    assert named == []


@pytest.mark.parametrize(
    "name",
    [
        "pins.txt",
        "tests/clients/pins.txt",
        "tests/clients/dbt-pins.txt",
        "tests/orchestrators/pins.txt",
        "docs/pins.txt",
    ],
)
def test_every_pin_has_its_version_and_hashes(name: str) -> None:
    """`make` installs with --require-hashes: a pin without one would stop it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    pins = re.findall(
        r"^([a-z0-9][a-z0-9._-]*(?:\[[a-z,]+\])?)==(\S+).*?(?=^[a-z0-9]|\Z)", text, re.MULTILINE | re.DOTALL
    )
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(pins) == len(blocks) > 0
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_tree_of_the_guide_is_that_of_the_code() -> None:
    """CONTRIBUTING.md names every package of `etl` and every module beside them, and none that is gone."""
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [tree] = re.findall(r"^```\netl/\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    named = re.findall(r"^  (\w+/|[\w, ]+$)", tree, re.MULTILINE)
    packages = {f"{path.parent.name}/" for path in (ROOT / "etl").glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / "etl").glob("*.py")} - {"__init__", "__main__"}
    assert {name for words in named for name in words.split(", ")} == packages | modules


@pytest.mark.parametrize(
    "package", sorted((ROOT / "etl").rglob("*/__init__.py")), ids=lambda path: str(path.parent.relative_to(ROOT))
)
def test_a_package_lists_its_modules(package: Path) -> None:
    """Its docstring has a line for each module and package in it, and none for what is gone."""
    listed = re.findall(r"^ *([a-z_]+)  +", package.read_text("utf-8").split('"""')[1], re.MULTILINE)
    inside = {path.stem for path in package.parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert sorted(listed) == sorted(inside - {"__init__"})


def test_tests_lie_in_the_folders_of_what_they_test() -> None:
    """Of packages of `etl`, or of what crosses them; what several tests share is in tests/support, and in no test."""
    beside = "bench clients orchestrators project scenarios sql".split()
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = path.parent.relative_to(ROOT / "tests")
        assert (ROOT / "etl" / folder / "__init__.py").is_file() or str(folder) in beside, path
        assert not re.search(r"^(from|import) tests\.\S*(?: import )?test_", path.read_text("utf-8"), re.MULTILINE), (
            path
        )
