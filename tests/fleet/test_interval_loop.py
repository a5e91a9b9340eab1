"""The service: when its runs begin, what it outlives, how it ends, what it tells systemd."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory

import pytest

from etl.client.retry import back_off
from etl.fleet import interval_loop
from etl.fleet.interval_loop import Ending, next_start
from etl.models import Clock
from etl.postgres.connection import Connection
from etl.testing.chaos.oracle import differences
from etl.testing.emulator import Emulator, World
from tests.support.command import Command

_PATIENCE = 60.0  # seconds: a deadline, met within one


@pytest.mark.parametrize(
    ("now", "failures", "start"),
    [
        (0.2, 0, 60.0),
        (59.9, 0, 60.0),
        (60.0, 0, 120.0),
        (185.0, 0, 240.0),  # slept through two
        (0.2, 1, 60.0),
        (60.2, 2, 180.0),
        (180.2, 3, 420.0),
        (420.2, 9, 720.0),
    ],
)
def test_runs_begin_on_a_grid_that_does_not_drift(now: float, failures: int, start: float) -> None:
    """However long a run takes, the next begins at a multiple of the interval; after failures at a later one."""
    assert next_start(0.0, 60.0, now, back_off(60.0, failures)) == start


def test_the_back_off_is_bounded() -> None:
    """What comes back is noticed within five minutes; an interval that is longer stays as it is."""
    assert [back_off(60.0, failures) for failures in (0, 1, 2, 3, 4, 100)] == [0, 0, 60, 180, 240, 240]
    assert [back_off(900.0, failures) for failures in (0, 1, 2, 100)] == [0, 0, 0, 0]


def test_an_account_is_not_locked_by_a_wrong_password() -> None:
    """Where the source turns us away, it is asked more and more seldom, up to twice an hour."""
    assert [back_off(60.0, failures, turned_away=True) for failures in (1, 2, 5, 6, 100)] == [0, 60, 900, 1740, 1740]


class Pretence:
    """A machine whose time passes by sleeping, and by the runs, which take so many seconds each."""

    def __init__(self, *endings: tuple[Ending, float]) -> None:
        self.now, self.began, self.waits = 1_000.0, list[float](), list[tuple[float, int]]()
        self._endings = iter(endings)
        self.alive = 0

    def once(self) -> Ending:
        self.began.append(self.now - 1_000.0)
        ending, seconds = next(self._endings, (None, 0.0))
        if ending is None:
            raise KeyboardInterrupt
        self.now += seconds
        return ending

    def serve(self, every: float, late: Callable[[float], float]) -> None:
        clock = Clock(lambda: datetime.now(UTC), lambda: self.now, self._sleep)
        with pytest.raises(KeyboardInterrupt):
            interval_loop.serve(self.once, timedelta(seconds=every), clock, self._wait, self._live, late)

    def _sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 1.0
        self.now += seconds

    def _wait(self, seconds: float, failures: int) -> None:
        self.waits.append((seconds, failures))

    def _live(self) -> None:
        self.alive += 1


def test_a_run_that_takes_long_and_chance_move_no_later_run() -> None:
    """Each begins up to the jitter after its point of the grid, never before it."""
    machine = Pretence((Ending.DONE, 3.0), (Ending.DONE, 75.0), (Ending.HELD, 0.0), (Ending.DONE, 59.0))
    machine.serve(60.0, lambda _: 4.0)
    assert machine.began == [0.0, 64.0, 184.0, 244.0, 364.0]
    assert machine.alive >= 4 * 5


def test_failures_make_it_wait_longer_and_a_success_forgets_them() -> None:
    """One that finds the source held is no failure."""
    failed, done = (Ending.FAILED, 1.0), (Ending.DONE, 1.0)
    machine = Pretence(failed, failed, failed, (Ending.HELD, 1.0), failed, done)
    machine.serve(60.0, lambda _: 0.0)
    assert machine.began == [0.0, 60.0, 180.0, 420.0, 480.0, 540.0, 600.0]
    assert [failures for _, failures in machine.waits] == [1, 2, 3, 0, 1, 0]


def test_the_jitter_is_a_small_part_of_the_interval() -> None:
    """A tenth of it, and never more than half a minute."""
    assert all(0 <= interval_loop.jitter(60.0) <= 6.0 for _ in range(100))
    assert all(0 <= interval_loop.jitter(86_400.0) <= 30.0 for _ in range(100))


@contextmanager
def running(command: Command, *words: str) -> Iterator["Popen[str]"]:
    """The service, killed if it doesn't end by itself."""
    process = command.start("sync", *words)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def events(process: "Popen[str]", wanted: Callable[[dict[str, object]], bool]) -> list[dict[str, object]]:
    """The events of its log, up to the first one that is wanted."""
    assert process.stderr is not None
    found = []
    for line in process.stderr:
        found.append(json.loads(line))
        if wanted(found[-1]):
            return found
    raise AssertionError(f"it ended, and said {found}")


def ended(process: "Popen[str]") -> tuple[int, list[dict[str, object]]]:
    """Its exit code, and what it said at last."""
    process.terminate()
    _, errors = process.communicate(timeout=_PATIENCE)
    return process.returncode, [json.loads(line) for line in errors.splitlines()]


def until(db: Connection, statement: str) -> None:
    """Waits until the statement finds a row."""
    for _ in range(int(_PATIENCE / 0.02)):
        if db.execute(statement).fetchone() is not None:
            return
        db.execute("SELECT pg_sleep(0.02)")
    raise AssertionError(f"in vain: {statement}")


def test_a_service_outlives_what_fails_and_follows_the_source(
    command: Command, emulator: Emulator, world: World, db: Connection
) -> None:
    """A refused token, then the database's schema gone, are failures of runs; the next one goes on."""
    command.environ["AIMS360_LOG_FORMAT"] = "auto"
    with running(command, "--every", "1s") as process:
        events(process, lambda event: event["event"] == "run")
        emulator.fail_next("expired-token")
        [*_, failed] = events(process, lambda event: event["event"] == "failed")
        assert failed["level"] == "error"
        assert "AIMS360_TOKEN" in str(failed["message"])
        assert failed["exit_code"] == 1
        assert failed["run_id"] == int(str(failed["message"]).rpartition("(run ")[2][:-1])
        world.advance(timedelta(hours=1))
        world.add()
        [*_, run] = events(process, lambda event: event["event"] == "run" and event.get("inserted") == 1)
        assert {"time", "source", "run_id", "kind", "verdict", "seconds", "requests", "complete_through"} <= run.keys()
        code, said = ended(process)
    assert (code, said[-1]["event"], said[-1]["message"]) == (0, "service", "stopped; the next start goes on from here")
    assert differences(db, {p["jobID"]: p for p in map(world.payload, world.jobs())}) == []


def test_sigterm_lets_the_page_in_hand_be_committed(
    command: Command, emulator: Emulator, db: Connection, url: str
) -> None:
    """It comes while Postgres makes the page wait: once that goes on, page and cursor are there, and no other page."""
    from etl.postgres.connection import connect

    emulator.page_size = 50
    command.environ["AIMS360_CONCURRENCY"] = "1"
    with connect(url) as other, other.transaction(), running(command, "--every", "1h") as process:
        other.execute("LOCK TABLE aims360.job_status_history IN EXCLUSIVE MODE")
        until(db, "SELECT FROM pg_locks WHERE NOT granted AND relation = 'aims360.job_status_history'::regclass")
        process.terminate()
        db.execute("SELECT pg_sleep(0.2)")
        assert process.poll() is None
        other.execute("ROLLBACK")
        _, errors = process.communicate(timeout=_PATIENCE)
    [(jobs,)] = db.execute("SELECT count(*) FROM aims360.jobs").fetchall()
    [(pages, error)] = db.execute("SELECT pages, error FROM etl.runs").fetchall()
    [(cursor,)] = db.execute("SELECT cursors -> 0 ->> 1 FROM etl.scans").fetchall()
    assert (process.returncode, error) == (0, "stopped by a signal")
    assert jobs == 50 * int(str(pages)) > 0
    assert db.execute("SELECT max(id)::text FROM aims360.jobs").fetchall() == [(cursor,)]
    assert "stopped" in errors


def test_a_wish_to_end_is_never_lost() -> None:
    """Nothing is raised out of a destructor: one that is at work when SIGTERM comes keeps no service from ending."""
    program = """
import os, signal, time
from datetime import UTC, datetime, timedelta
from etl import shutdown
from etl.fleet import interval_loop
from etl.models import Clock

class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

shutdown.heed()
clock = Clock(lambda: datetime.now(UTC), time.monotonic, time.sleep)
interval_loop.serve(lambda: (Late(), interval_loop.Ending.DONE)[1], timedelta(hours=1), clock, print, print)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=_PATIENCE)
    assert ended.stderr.endswith("KeyboardInterrupt\n")
    assert "Exception ignored" in ended.stderr


def test_a_held_source_is_no_failure(command: Command, db: Connection) -> None:
    """Another run is at work: it is said, and tried again."""
    db.execute("SELECT pg_advisory_lock(360361, 1)")
    with running(command, "--every", "1s", "--log-format", "json") as process:
        [*_, held] = events(process, lambda event: event["event"] == "waiting")
        assert "is held by" in str(held["message"])
        db.execute("SELECT pg_advisory_unlock(360361, 1)")
        events(process, lambda event: event["event"] == "run")
        assert ended(process)[0] == 0


def test_systemd_hears_that_it_is_ready_alive_and_stopping(command: Command) -> None:
    """The datagrams of sd_notify: nothing before the settings are known to be good."""
    with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(Path(folder) / "notify"))
        manager.settimeout(_PATIENCE)
        command.environ["NOTIFY_SOCKET"] = str(Path(folder) / "notify")
        with running(command, "--every", "1s", "--log-format", "json") as process:
            heard = [manager.recv(4096).decode()]
            while not heard[-1].startswith("STATUS=aims360: run 1 (full) complete"):
                heard.append(manager.recv(4096).decode())
            assert heard[0] == "READY=1"
            assert "WATCHDOG=1" in heard
            process.terminate()
            while heard[-1] != "STOPPING=1":
                heard.append(manager.recv(4096).decode())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--every", "0"], "--every: a second at least"),
        (["--every", "soon"], "'soon' is not a duration"),
        (["--every", "60s", "--full"], "--full is for a single run"),
    ],
)
def test_a_service_that_could_never_do_well_does_not_begin(command: Command, words: list[str], said: str) -> None:
    """What is wrong with its order is told at once, with exit code 2."""
    code, _, errors = command.run("sync", *words)
    assert (code, said in errors) == (2, True), errors


def test_a_service_does_not_begin_on_a_database_that_is_not_migrated(command: Command, empty_database: str) -> None:
    """A supervisor sees it fail; one whose server is down begins, and waits for it."""
    command.environ["DATABASE_URL"] = empty_database
    code, _, errors = command.run("sync", "--every", "1s")
    assert (code, "run `aims360-etl migrate`" in errors) == (2, True)
    command.environ["DATABASE_URL"] = "postgresql://someone:secret@127.0.0.1:1/nowhere"
    with running(command, "--every", "1s", "--log-format", "json") as process:
        [first, failed] = events(process, lambda event: event["event"] == "failed")
        assert first["event"] == "service"
        assert "can't connect to nowhere" in str(failed["message"])
        assert ended(process)[0] == 0
