"""PgBouncer, Debian's: readers are served by a pool of transactions; writers are refused there, and want sessions."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from etl.errors import ConfigError, DatabaseError
from etl.postgres import connection, locks, pooler
from etl.postgres.connection import Connection, connect
from etl.testing.emulator import Emulator, serve
from tests.clients.expected import MOVING, VIEWS, Login, all_of, comparable, rows
from tests.support.command import Command
from tests.support.ports import a_free_port
from tests.support.processes import Child

CONFIG = """
[databases]
* = host={host} port={server_port} {database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = {mode}
default_pool_size = 3
log_connections = 0
log_disconnections = 0
{more}
"""
IGNORING = "ignore_startup_parameters = options"
ROUND_ROBIN = "server_round_robin = 1"
LEFT_BEHIND = """
SELECT current_setting('search_path'), current_setting('lock_timeout'),
    current_setting('default_transaction_read_only'), (SELECT count(*) FROM pg_prepared_statements)
"""
LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
WRITTEN = """
SELECT (SELECT count(*) FROM etl.sources), (SELECT count(*) FROM etl.runs), (SELECT count(*) FROM aims360.jobs),
    (SELECT count(*) FROM etl.erasures)
"""


@contextmanager
def pgbouncer(url: str, mode: str, *more: str, users: Iterable[Login] = (), database: str = "") -> Iterator[str]:
    """The address of the same database behind a PgBouncer that pools like this; `more` are lines of its settings."""
    known = conninfo.conninfo_to_dict(url)
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    port = a_free_port()
    there = {"host": known.get("host") or "localhost", "server_port": known.get("port") or 5432}
    text = CONFIG.format(mode=mode, port=port, folder=folder, more="\n".join(more), database=database, **there)
    (folder / "pgbouncer.ini").write_text(text)
    logins = [(known["user"], known["password"]), *((login.user, login.password) for login in users)]
    (folder / "users.txt").write_text("".join(f'"{name}" "{password}"\n' for name, password in logins))
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = [program, *as_nobody, str(folder / "pgbouncer.ini")]
    with Child(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any("process up" in line for line in process.stderr), "it doesn't start"
            Thread(target=process.stderr.read, daemon=True).start()
            yield conninfo.make_conninfo(url, host="127.0.0.1", port=port)
        finally:
            process.terminate()
            shutil.rmtree(folder)


def as_url(given: str, user: str = "", password: str = "") -> str:
    """As DATABASE_URL is written."""
    known = conninfo.conninfo_to_dict(given)
    user, password = user or str(known["user"]), password or str(known["password"])
    return f"postgresql://{user}:{password}@{known['host']}:{known['port']}/{known['dbname']}"


def read_all(login: Login) -> dict[str, list[Any]]:
    """Every view, as the program reads."""
    with connection.reading(login.url) as db:
        found = {view: db.execute(all_of(view).encode()) for view in VIEWS}
        return {view: comparable(names(cursor), cursor.fetchall()) for view, cursor in found.items()}


def names(cursor: psycopg.Cursor[Any]) -> list[str]:
    """Its columns."""
    return [column.name for column in cursor.description or ()]


@pytest.mark.parametrize("more", ["", IGNORING])
def test_views_are_read_by_many_at_once_through_a_pool_of_transactions(mirror: str, reader: Login, more: str) -> None:
    """Eight clients on three sessions see what a client of Postgres sees, and leave nothing behind for others."""
    expected = {}
    with closing(psycopg.connect(reader.url)) as db:
        for view in VIEWS:
            expected[view] = comparable(names(db.execute(all_of(view).encode())), rows(reader, view))
    with pgbouncer(mirror, "transaction", more, users=[reader]) as pooled, ThreadPoolExecutor(8) as pool:
        login = reader._replace(port=str(conninfo.conninfo_to_dict(pooled)["port"]))
        for found in pool.map(read_all, [login] * 24):
            assert found == expected
        left = list(pool.map(left_behind, [login.url] * 24))
    assert set(left) == {('"$user", public', "0", "off", 0)}


def left_behind(url: str) -> tuple[Any, ...]:
    """What a stranger finds in a session of the pool."""
    with psycopg.connect(url) as db:
        row = db.execute(LEFT_BEHIND, prepare=False).fetchone()
        assert row is not None
        return row


@pytest.mark.parametrize("more", ["", IGNORING])
def test_commands_that_read_work_side_by_side_in_a_pool_of_transactions(
    mirror: str, reader: Login, command: Command, more: str, tmp_path: Path
) -> None:
    """Status, reports, the page, jobs: as often as two sessions serve them, with the answers of Postgres itself."""
    [job_id] = [row[0] for row in rows_of(mirror, "SELECT job_id FROM bi.jobs WHERE documents > 1 LIMIT 1")]
    asked = (
        ("jobs", "list", "--json", "--limit", "50"),
        ("jobs", "show", str(job_id), "--json"),
        ("report", "growth", "--format", "json"),
        ("report", "failing_reports", "--format", "csv"),
    )
    command.environ["DATABASE_URL"] = as_url(mirror, reader.user, reader.password)
    expected = [ended(command.start(*words)) for words in asked]
    assert {code for code, *_ in expected} == {0}
    with pgbouncer(mirror, "transaction", more, users=[reader]) as pooled:
        command.environ["DATABASE_URL"] = as_url(pooled, reader.user, reader.password)
        page = command.start("report", "--html", str(tmp_path / "page.html"))
        running = [command.start(*words) for words in asked * 2]
        assert [ended(process) for process in running] == expected * 2
        assert ended(page)[0] == 0
        command.environ["DATABASE_URL"] = as_url(pooled)
        code, output, errors = command.run("status")
    assert (code, errors) == (0, "")
    assert "west: complete through" in output


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit code, output and errors of a command at its end, without what moves with the clock."""
    output, errors = process.communicate(timeout=120)
    return process.returncode, re.sub(rf'"({"|".join(MOVING)})": [^,}}]+', "", output), errors


def rows_of(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement."""
    with psycopg.connect(url) as db:
        return db.execute(statement.encode()).fetchall()


@pytest.mark.parametrize(
    ("mode", "more"),
    [("transaction", ""), ("transaction", IGNORING), ("transaction", ROUND_ROBIN), ("statement", "")],
)
def test_what_writes_refuses_a_pool_of_transactions(command: Command, url: str, mode: str, more: str) -> None:
    """Exit code 2, what to do, and not a row: of a source that never ran, and of one that did."""
    with pgbouncer(url, mode, more) as pooled:
        command.environ["DATABASE_URL"] = as_url(pooled)
        assert_refused(command, url, ["sync"])
        command.environ["DATABASE_URL"] = as_url(url)
        assert command.run("sync")[0] == 0
        command.environ["DATABASE_URL"] = as_url(pooled)
        assert_refused(command, url, ["sync"])
        if mode == "transaction" and not more:
            assert_refused(command, url, ["purge"])
            assert_refused(command, url, ["reconcile", "--repair"])
            assert_refused(command, url, ["erase", "--account", "AZ022", "--yes"])
            assert_refused(command, url, ["documents", "fetch", "--to", str(command.folder / "kept")])
        code, output, _ = command.run("doctor")
        assert (code, "pool_mode = session" in output) == (1, True)


def assert_refused(command: Command, url: str, words: Sequence[str]) -> None:
    """A command ends with 2, says why, and leaves the database as it was."""
    before = rows_of(url, WRITTEN)
    code, _, errors = command.run(*words)
    assert (code, "DATABASE_URL" in errors, "pool_mode = session" in errors) == (2, True, True), errors
    assert (rows_of(url, WRITTEN), rows_of(url, LOCKS)) == (before, [(0,)])


@pytest.mark.parametrize("more", ["", ROUND_ROBIN])
def test_traffic_of_others_hides_nothing(url: str, more: str) -> None:
    """However busy the pool is, with more clients than sessions: each of many tries is refused."""
    with pgbouncer(url, "transaction", more) as pooled, traffic(pooled, 5):
        for _ in range(25):
            with closing(connect(as_url(pooled))) as db, pytest.raises(ConfigError, match="pool_mode = session"):
                pooler.require(db)
    assert rows_of(url, LOCKS) == [(0,)]


@contextmanager
def traffic(pooled: str, clients: int) -> Iterator[None]:
    """Other clients of the pool, who ask again and again."""
    over = Event()

    def ask() -> None:
        with closing(psycopg.connect(pooled, autocommit=True)) as db:
            while not over.is_set():
                db.execute("SELECT sum(g) FROM generate_series(1, 1000) AS g", prepare=False)

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask) for _ in range(clients)]
        try:
            yield
        finally:
            over.set()
    for each in asking:
        each.result()


@pytest.mark.parametrize("more", ["", IGNORING])
def test_two_syncs_exclude_each_other_in_a_pool_of_sessions(
    command: Command, url: str, emulator: Emulator, more: str
) -> None:
    """The second ends with 3 while the first is at work, and runs after it; nothing stays locked."""
    asked, go_on = Event(), Event()

    def held_up(environ: Any, start_response: Any) -> Iterable[bytes]:
        asked.set()
        go_on.wait(60)
        return emulator(environ, start_response)

    with pgbouncer(url, "session", more) as pooled, serve(held_up) as service:
        command.environ |= {"DATABASE_URL": as_url(pooled), "AIMS360_BASE_URL": service.url}
        first = command.start("sync")
        assert asked.wait(60)
        code, _, errors = command.run("sync")
        go_on.set()
        assert (code, f"process {first.pid}" in errors) == (3, True), errors
        assert ended(first)[0] == 0
        assert command.run("sync")[0] == 0
    assert rows_of(url, LOCKS) == [(0,)]
    assert rows_of(url, "SELECT outcome FROM etl.runs") == [("succeeded",), ("succeeded",)]
    assert rows_of(url, "SELECT count(*) FROM aims360.jobs") == [(300,)]


@pytest.mark.parametrize("more", ["", IGNORING])
def test_a_worker_works_in_a_pool_of_sessions(command: Command, url: str, emulator: Emulator, more: str) -> None:
    """Its queue too, whose names are found without the settings that a pooler doesn't take."""
    with pgbouncer(url, "session", more, database="pool_size=20") as pooled, serve(emulator) as service:
        command.environ |= {"DATABASE_URL": as_url(pooled), "AIMS360_BASE_URL": service.url}
        worker = command.start("worker", "--concurrency", "2", "--log-format", "json")
        assert worker.stderr is not None
        told = iter(worker.stderr.readline, "")
        assert any('"verdict":"complete"' in line for line in told), "it ended before it had synced"
        worker.terminate()
        assert ended(worker)[0] == 0
    assert rows_of(url, "SELECT count(*) FROM aims360.jobs") == [(300,)]


def test_a_session_of_a_pool_has_the_settings_of_a_writer(url: str) -> None:
    """Once it is found to be ours alone; who comes next finds none of them, nor takes our lock for theirs."""
    with pgbouncer(url, "session") as pooled:
        with closing(connect(as_url(pooled))) as db, locks.held(db, "any", 1):
            assert setting(db, "search_path", "lock_timeout", "TimeZone") == ["pg_catalog", "1min", "UTC"]
            assert rows_of(url, LOCKS) == [(1,)]
        with closing(connect(as_url(pooled))) as db:
            assert setting(db, "search_path", "lock_timeout") == ['"$user", public', "0"]
            assert pooler.IS_OURS.as_string() in locks._LOCK.as_string()
            assert db.execute(locks._LOCK, {"class": 1, "source_id": 1, "client": db.info.backend_pid}).fetchone() == (
                None,
            )


def setting(db: Connection, *names: str) -> list[Any]:
    """Settings of the session."""
    return [row[0] for name in names for row in db.execute("SELECT current_setting(%s)", (name,)).fetchall()]


def test_where_it_cannot_be_told_nothing_is_written(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool of sessions that has none left for a second client: what is in the way is said, and what to do."""
    monkeypatch.setattr(pooler, "_PATIENCE", 0.5)
    with (
        pgbouncer(url, "session", database="pool_size=1") as pooled,
        closing(connect(as_url(pooled))) as db,
        pytest.raises(DatabaseError, match="no session was free for a second client"),
    ):
        pooler.require(db)
