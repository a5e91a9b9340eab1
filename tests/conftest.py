"""A real Postgres for every test: the one DATABASE_URL names, else an embedded one that is made and stopped here.

Each test process has a database of its own, migrated once and emptied before each test that asks for it.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from psycopg import sql

from etl.config import settings
from etl.postgres import embedded, migrations
from etl.postgres.connection import Connection, connect, sibling
from etl.postgres.tables import definitions, metadata, queue
from etl.testing.emulator import Emulator, Server, World, populated, serve
from tests.support.command import Command
from tests.support.rounds import PROFILE
from tests.support.scene import TOKEN

# A shell makes what it starts in the background (`nohup make test &`) ignore SIGINT and SIGQUIT, and children inherit
# that: a child that a test ends with SIGINT would go on.
for _signal, _default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _default)

# HYPOTHESIS_PROFILE=long is what `make prove` runs. No database of examples: a failure prints its blob.
for _profile, _examples, _steps in (("quick", 6, 10), ("long", 150, 25)):
    hypothesis_settings.register_profile(
        _profile,
        max_examples=_examples,
        stateful_step_count=_steps,
        deadline=None,
        database=None,
        print_blob=True,
        # To explain a failure takes as long as to find it many times over.
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if _profile == "long" else [])],
        suppress_health_check=list(HealthCheck),
    )
hypothesis_settings.load_profile(PROFILE)

# All tables but the two in which `migrate` writes down what it made; those first that refer to others.
_TABLES = [f"queue.procrastinate_{name}" for name in ("events", "periodic_defers", "jobs", "workers")]
_TABLES += [
    f"{table.schema}.{table.name}" for table in reversed(metadata.sorted_tables) if table not in (definitions, queue)
]
# Only what a test filled, and a few rows are deleted: to truncate their tables takes five times as long. What was
# analysed is truncated, so that Postgres knows as little of it as of a new table; and the queue, which has triggers.
_EMPTY = sql.SQL("""
DO $$
DECLARE
    filled record;
    large text := (
        SELECT string_agg(name, ', ')
        FROM unnest({tables}::text[]) AS name
        JOIN pg_class AS t ON t.oid = name::regclass
        WHERE pg_relation_size(t.oid) > CASE WHEN t.reltuples > 0 OR name LIKE 'queue.%' THEN 0 ELSE 1000000 END
    );
BEGIN
    IF large IS NOT NULL THEN
        EXECUTE 'TRUNCATE ' || large || ' CASCADE';
    END IF;
    FOR filled IN
        SELECT name
        FROM unnest({tables}::text[]) WITH ORDINALITY AS t (name, place)
        WHERE pg_relation_size(name::regclass) > 0
        ORDER BY place
    LOOP
        EXECUTE 'DELETE FROM ' || filled.name;
    END LOOP;
    PERFORM setval(s.seqrelid, s.seqstart, false)
    FROM unnest({tables}::text[]) AS name
    JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = name::regclass
        AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    JOIN pg_sequence AS s ON s.seqrelid = d.objid
    WHERE pg_sequence_last_value(s.seqrelid) IS NOT NULL;
END $$
""").format(tables=sql.Literal(_TABLES))


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Postgres in which databases can be made."""
    if given := os.environ.get("DATABASE_URL"):
        yield settings.libpq_url(given)
        return
    data_dir = tmp_path_factory.mktemp("embedded")
    try:
        url = settings.libpq_url(embedded.start(data_dir, {"fsync": "off"}).url)
        _hash_cheaply(url)
        yield url
    finally:
        embedded.remove(data_dir)


def _hash_cheaply(url: str) -> None:
    """Set the password again, hashed in one round: that makes each of thousands of logins cheaper."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET scram_iterations = 1")
        role, password = sql.Identifier(db.info.user), sql.Literal(db.info.password)
        db.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, password))


@pytest.fixture
def empty_database(server_url: str) -> Iterator[str]:
    """The address of a database with nothing in it."""
    yield from a_database(server_url, "empty")


@pytest.fixture(scope="session")
def _migrated(server_url: str) -> Iterator[str]:
    for url in a_database(server_url, "mirror"):
        migrations.migrate(url)
        yield url


def a_database(server_url: str, kind: str) -> Iterator[str]:
    """The address of a new database, which is dropped at the end."""
    name = f"etl_test_{kind}_{os.getpid()}"
    with psycopg.connect(server_url, autocommit=True) as db:
        db.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield sibling(server_url, name)
    finally:
        with psycopg.connect(server_url, autocommit=True) as db:
            db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def url(_migrated: str) -> str:
    """The address of a migrated database without rows."""
    with psycopg.connect(_migrated, autocommit=True) as db:
        db.execute(_EMPTY)
    return _migrated


@pytest.fixture
def db(url: str) -> Iterator[Connection]:
    """A connection as the program makes it, to a migrated database without rows."""
    connection = connect(url)
    yield connection
    connection.close()


@pytest.fixture
def samples() -> Path:
    """The documented payloads."""
    return Path(__file__).parent / "samples"


@pytest.fixture
def world() -> World:
    """Some jobs that stand still."""
    return populated(300, seed=1, rate=0)


@pytest.fixture
def emulator(world: World) -> Emulator:
    """A pretend AIMS360 with those jobs."""
    return Emulator(world, token=TOKEN)


@pytest.fixture
def service(emulator: Emulator) -> Iterator[Server]:
    """It, on a socket."""
    with serve(emulator) as server:
        yield server


@pytest.fixture
def command(service: Server, url: str, tmp_path: Path) -> Command:
    """The command for that service and a migrated, empty database."""
    return Command(service.url, url, tmp_path)
