"""A role that keeps the mirror without owning it: all that the program does by itself works, and nothing else does."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest
from psycopg import sql

from etl.errors import ConfigError, DatabaseError
from etl.load import erase
from etl.postgres import migrations
from etl.postgres.connection import Connection, connect
from etl.postgres.roles import grant, grant_writer
from etl.reporting import reports, status
from etl.testing.chaos import mutations
from etl.testing.chaos.invariants import Laws
from etl.testing.emulator import Emulator, World, populated, serve
from tests.support.command import Command
from tests.support.logins import a_login, as_role
from tests.support.scene import TOKEN, Scene, a_source


@pytest.fixture
def roles(db: Connection) -> Iterator[Callable[[str], str]]:
    """Makes login roles for this test, whose names want quotes; they are gone after it."""
    with ExitStack() as made:
        yield lambda kind: made.enter_context(a_login(db, f"a {kind}"))


@pytest.fixture
def writer(db: Connection, url: str, roles: Callable[[str], str]) -> Iterator[Connection]:
    """The session of a role that was granted to write."""
    name = roles("writer")
    assert grant_writer(db, name) == f"{name} syncs, purges and reconciles; it doesn't migrate, grant or erase"
    with connect(as_role(url, name)) as session:
        yield session


def refused(session: Connection, statement: str) -> bool:
    """Whether the session has no right to do it; what it may do is undone."""
    try:
        with session.transaction(force_rollback=True):
            session.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


@pytest.mark.parametrize("mode", ["delete", "scrub", "keep"])
def test_a_writer_does_all_that_the_program_does_by_itself(writer: Connection, db: Connection, mode: str) -> None:
    """Weeks of a source's life with rejects, restores, deep passes and purges; and what people ask of the mirror."""
    world = populated(150, seed=1, rate=20, rerun_share=0.2)
    scene, rng = Scene(writer, world, a_source(purge=mode, keep_runs=timedelta(days=8))), Random(2)
    world.add(overrides={"percentCompleted": "many"})
    world.add(overrides={"accountCode": 22})
    assert scene.sync().counts.rejected == 1
    for event in mutations.ALL:
        event.happen(world, rng)
        world.advance(timedelta(days=3))
        scene.sync()
    scene.sync(full=True, rewrite=True)
    world.advance(timedelta(days=20))
    scene.reconcile(repair=True, force=True)
    scene.purge()
    assert scene.one("SELECT sum(purged) + sum(repaired) FROM etl.runs") > 20
    assert scene.one("SELECT min(run_id) FROM etl.runs") > 1  # the ledger was kept short
    assert Laws().broken(db) == []
    assert status.text(status.read(writer))
    assert writer.execute("SELECT count(*) FROM bi.job_links").fetchone() is not None
    assert scene.dry_run().due >= 0


def test_a_first_scan_that_was_cut_is_gone_on_with(writer: Connection) -> None:
    """Open scans are kept by a writer too."""
    scene = Scene(writer, populated(300, seed=5))
    calls = iter(range(10**6))

    def goes_away(environ: Any, start: Any) -> Any:
        if next(calls) > 2:
            raise ConnectionError
        return scene.emulator(environ, start)

    with pytest.raises(Exception, match="good answer"):
        scene.sync(app=goes_away)
    assert scene.one("SELECT count(*) FROM etl.scans") == 1
    assert scene.sync().counts.inserted > 0
    assert scene.differences() == []


def test_a_writer_asks_the_reports(writer: Connection, url: str) -> None:
    """All of them, as whoever reads bi."""
    Scene(writer, populated(60, seed=1)).sync()
    name = writer.info.user
    for report in reports.names():
        assert reports.ask(as_role(url, name), report, reports.Asked()) is not None, report


def test_a_writer_changes_no_table_and_no_right(
    writer: Connection, db: Connection, roles: Callable[[str], str]
) -> None:
    """No table or view is made, altered, emptied as a whole or dropped; nothing is granted, and nobody is read out."""
    Scene(writer, populated(60, seed=1)).sync()
    for statement in (
        "CREATE TABLE aims360.mine ()",
        "CREATE VIEW bi.mine AS SELECT 1 AS x",
        "CREATE FUNCTION etl.mine() RETURNS int LANGUAGE sql RETURN 1",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "ALTER TABLE aims360.jobs ADD COLUMN mine int",
        "CREATE INDEX ON aims360.jobs (created_by)",
        "CREATE TRIGGER mine AFTER INSERT ON aims360.jobs EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "TRUNCATE aims360.job_status_history",
        "DROP TABLE etl.rejects",
        "DROP VIEW bi.jobs",
        "COMMENT ON TABLE aims360.jobs IS ''",
        "DROP SCHEMA bi",
        "UPDATE etl.alembic_version SET version_num = '0001'",
        "DELETE FROM etl.definitions",
        "INSERT INTO etl.erasures (kind, erased_at, erased_by) VALUES ('person', now(), 'me')",
        "UPDATE etl.erasures SET erased_by = 'another'",
        "DELETE FROM etl.erasures",
        "INSERT INTO etl.roster VALUES ('mine', '{}', now(), now())",
        "UPDATE etl.roster SET settings = '{}'",
        "DELETE FROM etl.roster",
        "INSERT INTO bi.account_access VALUES ('me')",
        "GRANT aims360_writer TO pg_monitor",
        "SELECT rolpassword FROM pg_authid",
        "SELECT passwd FROM pg_shadow",
        "SELECT pg_read_file('PG_VERSION')",
        "COPY aims360.jobs TO PROGRAM 'cat'",
        "SET ROLE pg_read_server_files",
    ):
        assert refused(writer, statement), statement
    assert not refused(writer, "SELECT * FROM etl.alembic_version, etl.definitions, etl.erasures")
    # A right that can't be handed on is a warning to Postgres, no error: who got it is what counts.
    writer.execute("GRANT SELECT ON aims360.jobs TO PUBLIC")
    assert db.execute("SELECT has_table_privilege(%s, 'aims360.jobs', 'SELECT')", (roles("reader"),)).fetchone() == (
        False,
    )
    for give in (grant, grant_writer):
        with pytest.raises(DatabaseError, match="administrator"):
            give(writer, writer.info.user)


def test_doctor_finds_nothing_in_a_writers_way(
    writer: Connection, db: Connection, url: str, roles: Callable[[str], str], tmp_path: Path
) -> None:
    """And who misses a right is told what gives it."""
    with serve(Emulator(populated(60, seed=1), token=TOKEN)) as server:
        command = Command(server.url, as_role(url, writer.info.user), tmp_path)
        code, output, _ = command.run("doctor")
        assert (code, "may read and write every table of the mirror" in output) == (0, True)
        assert command.run("sync")[0] == 0
        command.environ["DATABASE_URL"] = as_role(url, name := roles("newcomer"))
        for right in ("USAGE ON SCHEMA etl", "SELECT ON etl.alembic_version"):
            db.execute(sql.SQL("GRANT {} TO {}").format(sql.SQL(right), sql.Identifier(name)))
        code, output, _ = command.run("doctor")
    assert code == 1
    assert f'let the owner of the mirror run `aims360-etl grant --writer "{name}"`' in output


def test_grant_takes_one_of_two(url: str, tmp_path: Path) -> None:
    """--bi or --writer; what narrows a reader is refused for a writer."""
    command = Command("http://127.0.0.1:1", url, tmp_path)
    for words, said in (
        ((), "--bi ROLE, which reads, or --writer ROLE, which syncs"),
        (("--bi", "a", "--writer", "b"), "one of the two"),
        (("--writer", "b", "--links"), "go with --bi"),
        (("--writer", "b", "--account", "AZ022"), "go with --bi"),
        (("--writer", "nobody"), "there is no role 'nobody' on this server; make it first: CREATE ROLE"),
    ):
        code, _, errors = command.run("grant", *words)
        assert (code, said in errors) == (2, True), errors


def test_erasing_is_the_owners(writer: Connection, db: Connection) -> None:
    """A writer can't write the log of erasures, so it doesn't erase by the command either; nothing goes."""
    scene = Scene(writer, populated(60, seed=1))
    scene.sync()
    wish = erase.Wish(account=scene.one("SELECT min(account_code) FROM aims360.jobs"))
    before = scene.one("SELECT count(*) FROM aims360.jobs")
    assert erase.look(writer, wish).jobs > 0
    with pytest.raises(DatabaseError, match="erasing is for the owner of the mirror"):
        erase.erase(writer, wish, scene.clock)
    assert scene.one("SELECT count(*) FROM aims360.jobs") == before


def test_a_new_table_is_granted_with_the_migration(writer: Connection, url: str, db: Connection) -> None:
    """What an upgrade adds is written by those who write the mirror, without anybody granting anything."""
    db.execute("CREATE TABLE aims360.added (x int)")
    db.execute("UPDATE etl.definitions SET digest = 'of another release'")
    try:
        assert refused(writer, "INSERT INTO aims360.added VALUES (1)")
        migrations.migrate(url)
        assert not refused(writer, "INSERT INTO aims360.added VALUES (1)")
        assert refused(writer, "DELETE FROM etl.erasures")
    finally:
        db.execute("DROP TABLE aims360.added")


def test_a_writer_finds_nothing_to_migrate(writer: Connection, url: str, db: Connection) -> None:
    """`sync --migrate` is one schedule for every role: what is to be done is the owner's, and it says so."""
    assert writer.info.user != db.info.user
    as_writer = as_role(url, writer.info.user)
    assert migrations.migrate(as_writer) == (migrations.newest(), migrations.newest())
    db.execute("UPDATE etl.definitions SET digest = 'of another release'")
    try:
        with pytest.raises(DatabaseError, match="nothing was changed, run it as the owner of the mirror"):
            migrations.migrate(as_writer)
    finally:
        migrations.migrate(url)


def test_a_writer_of_one_mirror_is_none_of_another(writer: Connection, empty_database: str) -> None:
    """Roles belong to the server, rights to a database: only where it was granted does `migrate` go on granting."""
    migrations.migrate(empty_database)
    with connect(empty_database) as db:
        found = db.execute("SELECT has_table_privilege('aims360_writer', 'aims360.jobs', 'INSERT')").fetchone()
        assert found == (False,)


def test_a_writer_needs_no_right_of_everyones(empty_database: str, roles: Callable[[str], str]) -> None:
    """A database may take EXECUTE and schema public from PUBLIC: what day totals are worked out by is granted."""
    name = roles("writer")
    with connect(empty_database) as db:
        db.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
        db.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        database = sql.Identifier(db.info.dbname)
        db.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        db.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.Identifier(name)))
        migrations.migrate(empty_database)
        grant_writer(db, name)
        with connect(as_role(empty_database, name)) as session:
            scene = Scene(session, populated(60, seed=1))
            scene.sync()
            scene.world.advance(timedelta(days=40))
            scene.sync()
            assert scene.one("SELECT sum(jobs) FROM bi.job_daily") >= 60
        db.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))


def test_who_can_be_no_writer_is_told_why(db: Connection, url: str, roles: Callable[[str], str]) -> None:
    """No such role; a group; a tenant, who would see all; a role that inherits nothing. The owner needs no grant."""
    tenant, heir = roles("tenant"), roles("heir")
    Scene(db, World(seed=1)).sync()
    grant(db, tenant, accounts=["AZ022"])
    db.execute(sql.SQL("ALTER ROLE {} NOINHERIT").format(sql.Identifier(heir)))
    for name, said in (
        ("nobody", "--writer: there is no role 'nobody'"),
        ("aims360_writer", "name a role that logs in"),
        ("a\0", "name a role that logs in"),
        (tenant, "is held to accounts, and a writer reads all"),
        (heir, "run `ALTER ROLE .* INHERIT`, then this again"),
    ):
        with pytest.raises(ConfigError, match=said):
            grant_writer(db, name)
    assert db.execute("SELECT pg_has_role(%s, 'aims360_writer', 'MEMBER')", (heir,)).fetchone() == (False,)
    owner = db.info.user
    assert grant_writer(db, owner).endswith("it needs no grant, and got none")
