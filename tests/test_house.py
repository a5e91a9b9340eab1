"""The house holds together: README, commands, settings, tables, migrations and views say the same."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
import sqlalchemy as sa
from alembic import command as alembic
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from etl import lock, scans, schema, sources
from etl.cli import EXIT_CODES, main
from etl.database import Connection, connect
from etl.emulator import populated
from etl.errors import EtlError, Locked
from etl.model import Counts, Cursor, DocumentRow, JobRow
from etl.prove.laws import Laws
from etl.settings import SETTINGS
from etl.tables import metadata
from tests.scene import Scene

HOUSE = Path(__file__).parent.parent
# Arguments, and what README tells of by itself.
_EVERYWHERE = ("database", "debug", "insecure_http", "name", "log_format", "verbose")
_US = "aims360-etl "
README = (HOUSE / "README.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
VIEWS = sorted(path.stem for path in (HOUSE / "sql" / "views").glob("*.sql"))


def commands(group: click.Group = main, words: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command with its words."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} ")
        else:
            yield words + name, command


def test_readme_names_every_setting_with_its_default_and_meaning() -> None:
    """The table of settings is the one in etl/settings.py."""
    for setting in SETTINGS:
        cell = f" {setting.default} " if setting.default else " "
        assert f"| `{setting.name}` |{cell}| {setting.help} |" in README


def test_readme_names_every_command_and_exit_code() -> None:
    """The tables of commands and exit codes are those of the program; the pretend service's habits are in its help."""
    for name, command in commands():
        [line] = [line for line in README.splitlines() if line.startswith("|") and f"`{name}`" in line.replace(_US, "")]
        for option in command.params if name != "emulator" else ():
            assert option.name in _EVERYWHERE or f"`{option.opts[0]}`" in line, option.opts
    assert "`--debug`" in README
    assert "`--insecure-http`" in README
    for code, meaning in EXIT_CODES:
        assert f"| {code} | {meaning} |" in README


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
    """What the migrations made is what etl/tables.py says, comments included."""
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


@contextmanager
def released(url: str, revision: str) -> Iterator[sa.Connection]:
    """A database as an earlier release left it, in a transaction."""
    with schema.engine(url).begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(schema.folder("migrations")))
        config.attributes["connection"] = connection
        alembic.upgrade(config, revision)
        yield connection


def test_an_open_scan_outlives_the_upgrade(empty_database: str) -> None:
    """A database of the release before, with a scan under way: migrated, and the scan is gone on with."""
    with released(empty_database, "0002") as connection:
        connection.exec_driver_sql("""
            INSERT INTO etl.sources (name, base_url, flatten_version, purge_mode, time_zone)
            VALUES ('aims360', 'https://host', 1, 'delete', 'UTC')
        """)
        connection.exec_driver_sql("""
            INSERT INTO etl.scans (source_id, run_id, kind, key, as_of, rewrite, opaque, delivered, cursors)
            VALUES (1, 1, 'full', 'ID', now(), false, false, 5, '[[0, 7, null, false]]')
        """)
    assert schema.migrate(empty_database) == ("0002", schema.newest())
    with connect(empty_database) as db:
        scan = scans.find(db, 1)
        state = sources.find(db, "aims360")
    assert scan is not None
    assert (scan.cursors, scan.trusting, scan.lane) == ((Cursor(0, 7, None),), False, "sync")
    assert state is not None
    assert (state.strategy, state.highest, state.reconcile_due_at) == ("key", {}, None)


def test_a_mirror_of_the_release_before_is_counted_by_the_upgrade(empty_database: str) -> None:
    """Documents a job, until when they can be had, and the totals of each day: as if it had been loaded today."""
    with released(empty_database, "0004") as connection:
        connection.exec_driver_sql("""
            INSERT INTO etl.sources (name, base_url, flatten_version, purge_mode, time_zone, complete_through)
            VALUES ('west', 'https://host', 1, 'delete', 'America/Los_Angeles', now()),
                   ('half read', 'https://host', 1, 'delete', 'UTC', NULL);
            INSERT INTO aims360.jobs (source_id, job_id, account_code, job_status, number_of_attempts, created_date,
                                      start_date, completed_date, purge_date_time, purged_at, synced_at)
            SELECT source_id, job_id, 'A1', 'Completed', 0, '2026-03-02 02:00Z', '2026-03-02 02:00:05Z',
                   '2026-03-02 02:01Z', '2026-04-01Z', purged_at, now()
            FROM (VALUES (1, 'a', NULL), (1, 'kept', now()), (2, 'b', NULL)) AS j (source_id, job_id, purged_at);
            INSERT INTO aims360.job_documents (source_id, job_id, position, expiry_date)
            VALUES (1, 'a', 0, '2026-03-20Z'), (1, 'a', 1, '2026-05-01Z'), (1, 'kept', 0, NULL), (2, 'b', 0, NULL);
        """)
    schema.migrate(empty_database)
    with connect(empty_database) as db:
        assert [said for said in Laws().broken(db) if "live_daily" in said or "documents" in said] == []
        days = db.execute(
            "SELECT source, day::text, jobs, documents, queued_le_5, run_le_60 FROM bi.job_daily"
        ).fetchall()
        assert days == [("west", "2026-03-01", 2, 3, 2, 2)]
        ends = db.execute(
            "SELECT available_until::date::text, account_code FROM aims360.job_documents ORDER BY 1"
        ).fetchall()
        assert ends == [("2026-03-20", "A1"), ("2026-04-01", "A1"), ("2026-04-01", "A1"), (None, "A1")]


def test_tables_do_not_change_under_a_run(empty_database: str) -> None:
    """A run of an earlier release would go on writing, and count nothing of it: its source's lock is waited for."""
    with released(empty_database, "0004"):
        pass
    with connect(empty_database) as db:
        db.execute("""
            INSERT INTO etl.sources (name, base_url, flatten_version, purge_mode, time_zone)
            VALUES ('west', 'https://host', 1, 'delete', 'UTC')
        """)
        with lock.held(db, "west", 1), pytest.raises(Locked, match="'west' is held by aims360-etl on"):
            schema.migrate(empty_database)
        assert schema.revision(db) == "0004"
    assert schema.migrate(empty_database) == ("0004", schema.newest())


def test_migrating_twice_changes_nothing(url: str) -> None:
    """`migrate` can be run again at any time: where views are the same it leaves them, and their readers, alone."""
    made = "SELECT xmin::text FROM pg_class WHERE oid = 'bi.jobs'::regclass"
    commented = "SELECT xmin::text FROM pg_description WHERE objoid = 'bi.jobs'::regclass ORDER BY objsubid"
    with connect(url) as db:
        before = [db.execute(statement).fetchall() for statement in (made, commented)]
        assert schema.migrate(url) == (schema.newest(), schema.newest())
        assert [db.execute(statement).fetchall() for statement in (made, commented)] == before
        db.execute("UPDATE etl.definitions SET digest = 'of another release'")
        schema.migrate(url)
        assert [db.execute(statement).fetchall() for statement in (made, commented)] != before


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
    text = (HOUSE / "sql" / "views" / f"{name}.sql").read_text(encoding="utf-8")
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
    done = subprocess.run(["git", "ls-files"], cwd=HOUSE, capture_output=True, text=True, check=False)
    # In an unpacked source distribution there is no git: what lies there is what was committed.
    unpacked = [str(path.relative_to(HOUSE)) for path in HOUSE.rglob("*") if ".venv" not in path.parts]
    files = done.stdout.splitlines() or unpacked
    assert "README.md" in files
    hosts = re.compile(r"(?:pypi|pythonhosted|npmjs|registry\.npm|deb\.debian|crates)\s*\.\s*(?:org|io|com)")
    named = [f for f in files if (HOUSE / f).is_file() and hosts.search((HOUSE / f).read_text("utf-8", "replace"))]
    assert named == []


@pytest.mark.parametrize("name", ["pins.txt", "tests/clients/pins.txt", "tests/clients/dbt-pins.txt"])
def test_every_pin_has_its_version_and_hashes(name: str) -> None:
    """`make` installs with --require-hashes: a pin without one would stop it."""
    text = (HOUSE / name).read_text(encoding="utf-8")
    pins = re.findall(
        r"^([a-z0-9][a-z0-9._-]*(?:\[[a-z,]+\])?)==(\S+).*?(?=^[a-z0-9]|\Z)", text, re.MULTILINE | re.DOTALL
    )
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(pins) == len(blocks) > 0
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_rooms_are_in_the_guide() -> None:
    """CONTRIBUTING.md names every room of `etl`."""
    guide = (HOUSE / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = {path.name for path in (HOUSE / "etl").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert {room for room in rooms if f"`{room}`" not in guide} == set()
