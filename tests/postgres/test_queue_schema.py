"""The queue's tables: made and brought up to date by Procrastinate's scripts, whoever runs them, and only once."""

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

from etl.errors import DatabaseError, SchemaError
from etl.postgres import migration_sql, migrations, queue_schema, roles
from etl.postgres.connection import Connection, connect
from tests.support.command import Command
from tests.support.logins import a_login, as_role
from tests.support.migrating import BRINGING
from tests.support.released import restored

# A release of Procrastinate in which workers already had heartbeats, but jobs were deferred one by one.
OLDER = "03.01.00_50_post_add_heartbeat.sql"
CATALOG = """
SELECT 'function', pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'queue'::regnamespace
UNION ALL
SELECT 'index', pg_get_indexdef(oid) FROM pg_class WHERE relnamespace = 'queue'::regnamespace AND relkind = 'i'
UNION ALL
SELECT 'trigger', pg_get_triggerdef(t.oid)
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'queue'::regnamespace AND NOT t.tgisinternal
UNION ALL
SELECT 'column', format('%s.%s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod))
FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
WHERE c.relnamespace = 'queue'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'value', format('%s %s', e.enumtypid::regtype, e.enumlabel)
FROM pg_enum AS e JOIN pg_type AS t ON t.oid = e.enumtypid
WHERE t.typnamespace = 'queue'::regnamespace
"""


def catalog(db: Connection) -> set[tuple[object, ...]]:
    """All that workers meet in the schema."""
    return set(db.execute(CATALOG).fetchall())


def put_a_job(db: Connection) -> None:
    """One that waits. Its triggers name Procrastinate's tables as they are called in their schema."""
    with db.transaction():
        db.execute("SET LOCAL search_path = queue")
        db.execute("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('fresh', 'sync')")


def newest() -> str:
    """The last script of the Procrastinate that is installed."""
    return [*queue_schema.scripts()][-1]


def aged(db: Connection) -> None:
    """The queue as an older release of Procrastinate made it."""
    with db.transaction():
        db.execute("DROP SCHEMA queue CASCADE")
        db.execute("CREATE SCHEMA queue")
        db.execute("SET LOCAL search_path = queue")
        for name, path in queue_schema.scripts().items():
            if name <= OLDER:
                db.execute(path.read_bytes())
        db.execute("SET LOCAL search_path = pg_catalog")
        db.execute("UPDATE etl.queue SET script = %s", (OLDER,))


def test_a_database_gets_a_queue_and_a_second_migrate_leaves_it_alone(empty_database: str) -> None:
    """What waits in it is there after that."""
    migrations.migrate(empty_database)
    with connect(empty_database) as db:
        queue_schema.require(db)
        assert queue_schema.at(db) == newest()
        put_a_job(db)
        migrations.migrate(empty_database)
        assert db.execute("SELECT count(*) FROM queue.procrastinate_jobs").fetchone() == (1,)
        assert "nothing to do" in migration_sql.of_database(empty_database)


@BRINGING
def test_an_older_release_gets_a_queue(empty_database: str, db: Connection, bring: Callable[[str], None]) -> None:
    """By the command, and by the script that it prints, it is that of a new database."""
    restored(empty_database, "0006")
    bring(empty_database)
    with connect(empty_database) as upgraded:
        queue_schema.require(upgraded)
        assert catalog(upgraded) == catalog(db)


@BRINGING
def test_an_older_queue_is_brought_up_to_date(
    empty_database: str, db: Connection, bring: Callable[[str], None]
) -> None:
    """By the scripts that it lacks, in their order, with what waits in it; then nothing is left to do."""
    migrations.migrate(empty_database)
    with connect(empty_database) as older:
        aged(older)
        put_a_job(older)
        assert catalog(older) != catalog(db)
        with pytest.raises(SchemaError, match=f"the queue is at {OLDER}.*needs {newest()}.*aims360-etl migrate"):
            queue_schema.require(older)
        bring(empty_database)
        queue_schema.require(older)
        assert catalog(older) == catalog(db)
        assert older.execute("SELECT count(*) FROM queue.procrastinate_jobs").fetchone() == (1,)
    assert "nothing to do" in migration_sql.of_database(empty_database)


def test_a_script_for_another_queue_is_refused(empty_database: str) -> None:
    """One that was printed before somebody else brought the queue up to date does nothing."""
    migrations.migrate(empty_database)
    with connect(empty_database) as db:
        aged(db)
        said = migration_sql.of_database(empty_database)
        migrations.migrate(empty_database)
        with psycopg.connect(empty_database, autocommit=True) as other:
            with pytest.raises(psycopg.errors.RaiseException, match="no longer as this was made for"):
                other.execute(said.encode())
            other.rollback()
        queue_schema.require(db)


def test_a_script_from_a_revision_on_makes_a_queue_where_there_was_none() -> None:
    """From 0007 on there may be one, and nobody says how far it is."""
    made = {since: "CREATE SCHEMA queue" in migration_sql.since_revision(since) for since in ("empty", "0006", "0007")}
    assert made == {"empty": True, "0006": True, "0007": False}


def test_a_queue_of_a_newer_procrastinate_is_left_alone(db: Connection, url: str, command: Command) -> None:
    """Neither `migrate` nor a worker goes on; what to do is said."""
    with db.transaction(force_rollback=True):
        db.execute("UPDATE etl.queue SET script = '99.00.00_01_pre_beyond.sql'")
        with pytest.raises(SchemaError, match=r"newer than Procrastinate \d.*upgrade it"):
            queue_schema.require(db)
        with pytest.raises(SchemaError, match="newer than Procrastinate"):
            queue_schema.statements(queue_schema.at(db))


def test_something_else_of_that_name_is_left_alone(empty_database: str) -> None:
    """A schema `queue` that isn't ours is told of; nothing is changed."""
    with connect(empty_database) as db:
        db.execute("CREATE SCHEMA queue")
        with pytest.raises(DatabaseError, match="give the mirror a database of its own"):
            migrations.migrate(empty_database)
        assert migrations.revision(db) is None


def test_a_writer_may_work_at_the_queue(url: str, db: Connection) -> None:
    """All that Procrastinate does; which scripts it has is the owner's to say."""
    with a_login(db, "a worker") as name:
        roles.grant_writer(db, name)
        with connect(as_role(url, name)) as session:
            queue_schema.require(session)
            session.execute("SET search_path = queue")
            session.execute("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('fresh', 'sync')")
            [(worker,)] = session.execute("SELECT worker_id FROM procrastinate_register_worker_v1()").fetchall()
            fetched = session.execute("SELECT id, task_name FROM procrastinate_fetch_job_v2(NULL, %s)", (worker,))
            [(job, task)] = fetched.fetchall()
            assert task == "sync"
            session.execute("SELECT procrastinate_finish_job_v1(%s, 'succeeded', true)", (job,))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute("UPDATE etl.queue SET script = 'another'")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute("CREATE TABLE queue.mine ()")


def test_a_queue_that_comes_later_is_the_writers_too(empty_database: str) -> None:
    """Granted with the queue, though the texts of the views are the same as before."""
    migrations.migrate(empty_database)
    with connect(empty_database) as db, a_login(db, "a worker") as name:
        roles.grant_writer(db, name)
        db.execute("DROP SCHEMA queue CASCADE")
        db.execute("DELETE FROM etl.queue")
        migrations.migrate(empty_database, timedelta(seconds=5))
        with connect(as_role(empty_database, name)) as session:
            assert session.execute("SELECT count(*) FROM queue.procrastinate_jobs").fetchone() == (0,)
