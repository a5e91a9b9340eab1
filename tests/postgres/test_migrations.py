"""Upgrades: from every release with rows in it, by `migrate` and by the script that it prints; who is in the way."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from etl.errors import DatabaseError, Locked
from etl.models import DURATION_BOUNDS, Cursor, Verdict
from etl.postgres import daily_aggregates, locks, migration_sql, migrations, roles
from etl.postgres.connection import Connection, connect
from etl.state import scan_checkpoints, source_state
from etl.testing.chaos.invariants import Laws
from etl.testing.chaos.oracle import compare
from tests.conftest import a_database
from tests.support.command import Command
from tests.support.logins import a_login, as_role
from tests.support.migrating import BRINGING, by_script
from tests.support.released import (
    REVISIONS,
    a_scene,
    bare,
    catalog,
    columns,
    compared,
    lost,
    restored,
    rows,
    scenes,
    unlike,
)
from tests.support.scene import Scene
from tests.tools.write_release import dumped, live_and_tell

A_MOMENT = timedelta(milliseconds=50)
# A view that was written anew has another row there.
WRITTEN = "SELECT xmin::text FROM pg_class WHERE oid = 'bi.jobs'::regclass"
OF_SOURCE = "SELECT count(*) FROM aims360.jobs JOIN etl.sources USING (source_id) WHERE name = %s"
NEED_THE_SCHEMA = (
    "sync",
    "sync --migrate",
    "purge",
    "purge --dry-run",
    "reconcile",
    "status",
    "grant --bi somebody",
    "migrate",
    "migrate --sql",
)
# Both held what the pipeline alone reads, and only while a scan is under way.
CONTRACTED = {("etl.scans", "cursors", "jsonb"), ("etl.compared", "job_id", "text")}
BEGAN = "SELECT to_char(xact_start, 'YYYY-MM-DD HH24:MI:SS') FROM pg_stat_activity WHERE pid = %s"
OWNERS = """
SELECT DISTINCT relowner::regrole::text FROM pg_class
WHERE relnamespace::regnamespace::text IN ('aims360', 'bi', 'etl')
"""


def test_every_revision_but_the_newest_has_its_database() -> None:
    """A release without one would not be upgraded from by any test: `python -m tests.tools.write_release` writes it."""
    assert [*REVISIONS, migrations.newest()] in (migrations.revisions(), [*migrations.revisions(), migrations.newest()])


@BRINGING
@pytest.mark.parametrize("revision", REVISIONS)
def test_every_release_is_brought_up_to_date_with_all_its_rows(
    empty_database: str, url: str, revision: str, bring: Callable[[str], None]
) -> None:
    """The schema is that of a new database; no row and no value is lost; `migrate` has nothing left to do."""
    restored(empty_database, revision)
    with connect(empty_database) as db, connect(url) as fresh:
        before, keys = rows(db), compared(db, revision)
        assert migrations.revision(db) == revision
        bring(empty_database)
        migrations.require(db)
        assert unlike(catalog(db), catalog(fresh)) == []
        assert lost(before, rows(db)) == []
        assert len(before["aims360", "jobs"]) > 100
        assert compared(db, migrations.newest()) == keys
        assert Laws().broken(db) == []
        written = db.execute(WRITTEN).fetchall()
        assert migrations.migrate(empty_database) == (migrations.newest(), migrations.newest())
        assert db.execute(WRITTEN).fetchall() == written


@pytest.mark.parametrize("revision", REVISIONS)
def test_tables_only_grow(empty_database: str, url: str, revision: str) -> None:
    """Expand, then contract: a column that a release had is there with its type, but for those named here."""
    restored(empty_database, revision)
    with connect(empty_database) as db, connect(url) as fresh:
        assert columns(db) - columns(fresh) <= CONTRACTED


def test_new_definitions_alone_are_a_script_without_migrations(empty_database: str) -> None:
    """Where tables are as they should be, only views, comments, grants and totals are written."""
    migrations.migrate(empty_database)
    with connect(empty_database) as db:
        written = db.execute(WRITTEN).fetchall()
        db.execute("UPDATE etl.definitions SET digest = 'of another release'")
        said = migration_sql.of_database(empty_database)
        assert ("CREATE OR REPLACE VIEW" in said, "Running upgrade" in said) == (True, False)
        by_script(empty_database)
        assert db.execute(WRITTEN).fetchall() != written
        assert migration_sql.of_database(empty_database).startswith("-- aims360-etl")
        assert "nothing to do" in migration_sql.of_database(empty_database)


def test_the_next_release_can_leave_its_database(empty_database: str, url: str, db: Connection) -> None:
    """What `python -m tests.tools.write_release` writes of today's program is put up again whole, rows and sources."""
    told = live_and_tell(db)
    with psycopg.connect(empty_database, autocommit=True) as empty:
        empty.execute(dumped(url).encode())
    with connect(empty_database) as other:
        differing = unlike(catalog(other), catalog(db))
        assert [row for row in differing if row[:2] != ("relations", "v")] == []  # Postgres may tell a view otherwise
        assert lost(rows(db), rows(other)) == []
        assert rows(other)["bi", "account_access"] != []
        found = {name: a_scene(other, name, state) for name, state in told.items()}
        assert [scene.sync().verdict for scene in found.values()].count(Verdict.COMPLETE) >= 2
        assert Laws().broken(other) == []


@BRINGING
def test_an_empty_database_gets_its_schema(empty_database: str, url: str, bring: Callable[[str], None]) -> None:
    """By the script as by the command."""
    bring(empty_database)
    with connect(empty_database) as db, connect(url) as fresh:
        assert unlike(catalog(db), catalog(fresh)) == []


def live(scene: Scene) -> None:
    """What happens at a source until the next run: some jobs change, what can't be read is mended, some are purged."""
    world = scene.world
    world.advance(timedelta(minutes=20))
    for place, job in enumerate([*world.jobs()]):
        if place % 4 == 0 or world.payload(job)["percentCompleted"] == "a text":
            world.change(job, jobStatusText="after the upgrade", percentCompleted=100)
    world.advance(timedelta(days=3))


def filters(scene: Scene) -> list[str]:
    """The filters of the pages that were asked for."""
    return [request.query["$filter"] for request in scene.emulator.requests if "$filter" in request.query]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_mirror_of_every_release_is_gone_on_with(empty_database: str, revision: str) -> None:
    """Scans of then are gone on with, the next run reads only what changed; mirror equals source, totals and all."""
    restored(empty_database, revision)
    migrations.migrate(empty_database)
    with connect(empty_database) as db:
        found, laws = scenes(db, revision), Laws()
        west, south, east = (found[name] for name in ("west", "south", "east"))
        read, purged = east.one(OF_SOURCE, "east"), east.one("SELECT count(*) FROM aims360.purged_jobs")
        kinds = {name: scene.sync().kind for name, scene in found.items()}
        assert kinds == {"west": "incremental", "south": "incremental", "east": "full"}
        assert filters(east)[0].startswith("jobID gt '")  # from where it was left
        assert (read, east.one(OF_SOURCE, "east")) == (15, len(east.world))
        for scene in found.values():
            live(scene)
            assert scene.sync().verdict is not Verdict.INCOMPLETE
        assert laws.broken(db) == []
        there = {str(job["jobID"]): scene.world.payload(job) for scene in found.values() for job in scene.world.jobs()}
        for (job_id,) in db.execute("SELECT job_id FROM etl.rejects").fetchall():  # which can't be read by any release
            there.pop(str(job_id), None)
        assert compare(db, there, (west.world.now, west.world.now)).sentences == []
        assert south.reconcile(repair=True).counts.differences == 0
        assert db.execute("SELECT FROM etl.scans").fetchall() == []
        assert db.execute("SELECT FROM etl.compared").fetchall() == []
        assert west.one("SELECT count(*) FROM aims360.purged_jobs") > purged > 0


def test_a_script_makes_what_the_owner_would_have_made(empty_database: str, server_url: str) -> None:
    """Whoever runs it: what is new belongs to the role that syncs, and those who read before read on."""
    with connect(empty_database) as db, a_login(db, "owner") as owner, a_login(db, "reader") as reader:
        database = sql.Identifier(str(db.info.dbname))
        db.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(database, sql.Identifier(owner)))
        restored(as_role(empty_database, owner), "0005")
        roles.grant(db, reader)
        by_script(empty_database)
        assert db.execute(OWNERS).fetchall() == [(owner,)]
        with connect(as_role(empty_database, reader)) as session:
            assert Scene(session, scenes(db, "0005")["west"].world).one("SELECT count(*) FROM bi.jobs") > 100
        db.execute(sql.SQL("DROP SCHEMA aims360, bi, etl CASCADE"))


def test_no_name_of_a_role_leads_out_of_a_scripts_comment(empty_database: str) -> None:
    """An administrator runs the script: what stands in its head is read, and never run."""
    migrations.migrate(empty_database)
    with connect(empty_database) as db, a_login(db, "etl\nDROP SCHEMA bi;") as owner:
        db.execute(sql.SQL("ALTER SCHEMA etl OWNER TO {}").format(sql.Identifier(owner)))
        db.execute("DELETE FROM etl.definitions")
        head = migration_sql.of_database(empty_database).partition("BEGIN;")[0]
        assert "DROP SCHEMA bi" in head
        assert [line for line in head.splitlines() if line and not line.startswith("--")] == []
        db.execute("ALTER SCHEMA etl OWNER TO CURRENT_USER")


def test_a_script_is_for_the_revision_that_it_says(empty_database: str, server_url: str) -> None:
    """On any other database it stops before it changes anything: also where it would find no schema, or one."""
    restored(empty_database, "0004")
    with psycopg.connect(empty_database, autocommit=True) as db:
        for since, why in (("0003", "for a schema at 0003, and here is another"), ("empty", "here is one")):
            with pytest.raises(psycopg.errors.RaiseException, match=why):
                db.execute(migration_sql.since_revision(since).encode())
            db.execute("ROLLBACK")
        assert db.execute("SELECT version_num FROM etl.alembic_version").fetchall() == [("0004",)]
        db.execute(migration_sql.since_revision("0004").encode())
    for other in a_database(server_url, "other"):
        with (
            psycopg.connect(other, autocommit=True) as db,
            pytest.raises(psycopg.errors.RaiseException, match="for a schema at 0004, and here is none"),
        ):
            db.execute(migration_sql.since_revision("0004").encode())


def test_a_script_changes_no_tables_under_a_run(empty_database: str) -> None:
    """It says whose sync is under way, as the command does."""
    restored(empty_database, "0005")
    with connect(empty_database) as db, locks.held(db, "west", 1):
        with pytest.raises(psycopg.errors.RaiseException, match="a sync of 'west' is under way"):
            by_script(empty_database)
        assert migrations.revision(db) == "0005"


@pytest.mark.slow
def test_the_command_prints_the_script(empty_database: str, tmp_path: Path) -> None:
    """`migrate --sql` reads the database and changes nothing; `--from` asks none; what can't be meant is refused."""
    command = Command("https://host", empty_database, tmp_path)
    restored(empty_database, "0005")
    code, output, errors = command.run("migrate", "--sql", "--lock-timeout", "5m")
    assert (code, errors) == (0, "")
    assert output == migration_sql.of_database(empty_database, timedelta(minutes=5))
    assert "SET LOCAL lock_timeout = '300000ms';" in output
    assert "-- Contents: 0006: Documents that were fetched before they went" in output
    migrations.migrate(empty_database)
    code, output, _ = command.run("migrate", "--sql")
    assert (code, output.count("\n"), "nothing to do" in output) == (0, 1, True)
    command.environ["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"
    assert command.run("migrate", "--sql", "--from", "empty") == (0, migration_sql.since_revision("empty"), "")
    for words, why in (
        (["--sql", "--from", "0042"], "there is no revision '0042'; there are empty, 0001, 0002"),
        (["--from", "0004"], "--from goes with --sql"),
        (["--lock-timeout", "0"], "--lock-timeout: lies between 1s and 1d"),
        (["--lock-timeout", "soon"], "'soon' is not a duration"),
    ):
        code, output, errors = command.run("migrate", *words)
        assert (code, output, why in errors) == (2, "", True)


def test_who_is_in_the_way_of_a_migration_is_named(empty_database: str, tmp_path: Path) -> None:
    """Which session, since when, in which state, but not what it asked; nothing was changed, and what to do is said."""
    restored(empty_database, "0005")
    with (
        connect(empty_database) as db,
        psycopg.connect(empty_database, application_name="a report", options="-c timezone=Asia/Tokyo") as reader,
    ):
        before = catalog(db)
        reader.execute("SELECT 'a secret' FROM bi.jobs")
        with pytest.raises(DatabaseError) as caught:
            migrations.migrate(empty_database, A_MOMENT)
        [[since]] = db.execute(BEGAN, (pid := reader.info.backend_pid,)).fetchall()
        said = str(caught.value)
        assert f"waited 0.05s for tables that are held by process {pid} (a report, since {since} UTC, idle in" in said
        assert "nothing was changed. Run it again after that, or with a longer --lock-timeout; SELECT pg_term" in said
        assert "secret" not in said
        with pytest.raises(psycopg.errors.LockNotAvailable):
            db.execute(migration_sql.of_database(empty_database, A_MOMENT).encode())
        db.execute("ROLLBACK")
        code, _, errors = Command("https://host", empty_database, tmp_path).run("migrate", "--lock-timeout", "1s")
        assert (code, f"waited 1s for tables that are held by process {pid} (a report" in errors) == (1, True)
        assert unlike(catalog(db), before) == []
        reader.rollback()
        assert migrations.migrate(empty_database, A_MOMENT) == ("0005", migrations.newest())


def test_a_migration_waits_for_another_no_longer_than_it_may(url: str) -> None:
    """Two at once are one after the other; a second that would wait too long says who the first is."""
    with psycopg.connect(url, application_name="the other") as other:
        other.execute(migrations.ONE_AT_A_TIME)
        with pytest.raises(DatabaseError, match=r"held by process \d+ \(the other, since"):
            migrations.migrate(url, A_MOMENT)


@pytest.mark.parametrize(
    "theirs",
    ["CREATE SCHEMA aims360; CREATE TABLE aims360.jobs (a int)", "CREATE SCHEMA bi; CREATE TABLE bi.jobs (a int)"],
)
def test_a_database_with_others_tables_is_left_alone(empty_database: str, theirs: str) -> None:
    """Where something else has a name of ours, another database is advised: to run it again wouldn't help."""
    with connect(empty_database) as db:
        db.execute(theirs.encode())
        with pytest.raises(DatabaseError, match="nothing was changed, something else has that name"):
            migrations.migrate(empty_database)
        assert db.execute("SELECT to_regnamespace('etl')").fetchone() == (None,)


@pytest.mark.slow
def test_a_newer_schema_is_refused_by_all_that_write_or_read_it(empty_database: str, tmp_path: Path) -> None:
    """A program that is older than the database touches nothing, and says what to upgrade."""
    migrations.migrate(empty_database)
    command = Command("https://host", empty_database, tmp_path)
    with connect(empty_database) as db:
        db.execute("UPDATE etl.alembic_version SET version_num = '9999'")
        before = rows(db)
        started = {words: command.start(*words.split()) for words in NEED_THE_SCHEMA}
        for words, process in started.items():
            with process:
                output, errors = process.communicate(timeout=120)
            assert (words, process.returncode, output) == (words, 2, "")
            assert (
                f"the schema is at 9999, newer than this program's {migrations.newest()}: upgrade aims360-etl" in errors
            )
        code, output, _ = command.run("doctor")
        assert (code, f"newer than this program's {migrations.newest()}: upgrade aims360-etl" in output) == (1, True)
        assert rows(db) == before
        assert command.run("report", "runs_per_day")[0] == 0  # schema bi only grows: who reads it goes on


def test_an_open_scan_outlives_the_upgrade(empty_database: str) -> None:
    """A database of the release before, with a scan under way: migrated, and the scan is gone on with."""
    with bare(empty_database, "0002") as connection:
        connection.exec_driver_sql("""
            INSERT INTO etl.sources (name, base_url, flatten_version, purge_mode, time_zone)
            VALUES ('aims360', 'https://host', 1, 'delete', 'UTC')
        """)
        connection.exec_driver_sql("""
            INSERT INTO etl.scans (source_id, run_id, kind, key, as_of, rewrite, opaque, delivered, cursors)
            VALUES (1, 1, 'full', 'ID', now(), false, false, 5, '[[0, 7, null, false]]')
        """)
    assert migrations.migrate(empty_database) == ("0002", migrations.newest())
    with connect(empty_database) as db:
        scan = scan_checkpoints.find(db, 1)
        state = source_state.find(db, "aims360")
    assert scan is not None
    assert (scan.cursors, scan.trusting, scan.lane) == ((Cursor(0, 7, None),), False, "sync")
    assert state is not None
    assert (state.strategy, state.highest, state.reconcile_due_at) == ("key", {}, None)


def test_a_mirror_of_the_release_before_is_counted_by_the_upgrade(empty_database: str) -> None:
    """Documents a job, until when they can be had, and the totals of each day: as if it had been loaded today."""
    with bare(empty_database, "0004") as connection:
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
    migrations.migrate(empty_database)
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


# A status in one of the spellings that a service may write; some jobs have a status that isn't known, or none.
_SPELL = """
UPDATE aims360.{table}
SET job_status = CASE abs(hashtext(job_id)) % 9
    WHEN 0 THEN upper(job_status)
    WHEN 1 THEN lower(job_status)
    WHEN 2 THEN 'InProgress'
    WHEN 3 THEN 'Inprogress'
    WHEN 4 THEN 'Cancelled by user'
    WHEN 5 THEN NULL
    ELSE job_status
END
"""
_BURY_ALIKE = """
UPDATE aims360.purged_jobs
SET day = '2026-03-01', account_code = NULL, category_name = NULL, sub_category_name = 'all'
"""
_SUMS = """
SELECT key, sum(value::numeric)
FROM bi.job_daily AS d, jsonb_each_text(to_jsonb(d) - ARRAY['source', 'day', 'account_code', 'category_name',
     'sub_category_name', 'job_status', 'failed', 'ended'])
GROUP BY key
ORDER BY key
"""
_STATUSES = """
SELECT DISTINCT job_status FROM aims360.{} WHERE job_status IS NOT NULL ORDER BY job_status
"""
_GROUPS = "SELECT count(*) FROM aims360.{}"
_TABLES_WITH_STATUS = ("jobs", "job_status_history", "purged_jobs", "purged_daily", "live_daily")
_WRITINGS = "SELECT job_id, xmin::text FROM aims360.jobs WHERE job_status = 'Completed' ORDER BY job_id"


def spell_statuses(db: Connection) -> None:
    """A mirror of a service that writes its statuses in several ways. What is gone differs by nothing else."""
    for table in ("jobs", "job_status_history", "purged_jobs"):
        db.execute(_SPELL.format(table=table).encode())
    db.execute(_BURY_ALIKE)
    for statement in (*daily_aggregates.count_everything(), "DELETE FROM aims360.purged_daily"):
        db.execute(statement.encode())
    buried = sql.SQL("({}) AS sums").format(daily_aggregates.sums(sql.SQL("aims360.purged_jobs")))
    db.execute(daily_aggregates.add("purged_daily", buried))


def test_statuses_are_brought_to_one_spelling_and_no_total_changes(empty_database: str) -> None:
    """What was counted apart is counted together; other statuses, and rows that need nothing, are left alone."""
    restored(empty_database, "0007")
    documented, laws = ["Completed", "Failed", "Inprogress", "Queued"], Laws()
    known = {*documented, "Cancelled by user"}
    with connect(empty_database) as db:

        def statuses(table: str) -> list[object]:
            return [status for (status,) in db.execute(_STATUSES.format(table).encode()).fetchall()]

        spell_statuses(db)
        assert laws.broken(db) == []
        assert {"InProgress", "completed", "COMPLETED", *documented[:3]} <= set(statuses("jobs"))
        assert all(set(statuses(table)) - known for table in _TABLES_WITH_STATUS)
        before, writings = db.execute(_SUMS).fetchall(), db.execute(_WRITINGS).fetchall()
        groups = [db.execute(_GROUPS.format(table).encode()).fetchall() for table in ("live_daily", "purged_daily")]
        with migrations.engine(empty_database).begin() as connection:
            migrations.upgrade(connection=connection)
        assert db.execute(_SUMS).fetchall() == before
        assert len(before) == 3 + 2 * (2 + len(DURATION_BOUNDS))
        assert all(value > 0 for name, value in before if "le_" not in str(name) and name != "attempts")  # type: ignore[operator]
        for table in _TABLES_WITH_STATUS:
            assert set(statuses(table)) <= known
        for table, were in zip(("live_daily", "purged_daily"), groups, strict=True):
            assert db.execute(_GROUPS.format(table).encode()).fetchall() < were
        assert set(writings) < set(db.execute(_WRITINGS).fetchall())
        assert laws.broken(db) == []
        migrations.migrate(empty_database)
        assert db.execute(_SUMS).fetchall() == before
        assert laws.broken(db) == []


def test_tables_do_not_change_under_a_run(empty_database: str) -> None:
    """A run of an earlier release would go on writing, and count nothing of it: its source's lock is waited for."""
    with bare(empty_database, "0004"):
        pass
    with connect(empty_database) as db:
        db.execute("""
            INSERT INTO etl.sources (name, base_url, flatten_version, purge_mode, time_zone)
            VALUES ('west', 'https://host', 1, 'delete', 'UTC')
        """)
        with locks.held(db, "west", 1), pytest.raises(Locked, match="'west' is held by aims360-etl on"):
            migrations.migrate(empty_database)
        assert migrations.revision(db) == "0004"
    assert migrations.migrate(empty_database) == ("0004", migrations.newest())


def test_migrating_twice_changes_nothing(url: str) -> None:
    """`migrate` can be run again at any time: where views are the same it leaves them, and their readers, alone."""
    made = "SELECT xmin::text FROM pg_class WHERE oid = 'bi.jobs'::regclass"
    commented = "SELECT xmin::text FROM pg_description WHERE objoid = 'bi.jobs'::regclass ORDER BY objsubid"
    with connect(url) as db:
        before = [db.execute(statement).fetchall() for statement in (made, commented)]
        assert migrations.migrate(url) == (migrations.newest(), migrations.newest())
        assert [db.execute(statement).fetchall() for statement in (made, commented)] == before
        db.execute("UPDATE etl.definitions SET digest = 'of another release'")
        migrations.migrate(url)
        assert [db.execute(statement).fetchall() for statement in (made, commented)] != before
