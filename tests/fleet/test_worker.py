"""Workers as processes: a fleet is kept fresh, whoever of them dies, and no source is run by two at once."""

import json
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import httpx
import pytest

from etl.errors import ConfigError
from etl.event_log import Log
from etl.fleet.scheduler import Work
from etl.fleet.sd_notify import Systemd
from etl.fleet.source_registry import Roster
from etl.fleet.task_queue import Slots
from etl.fleet.worker import Sum, Worker, is_news, said
from etl.models import Clock, Counts, Run, Verdict
from etl.postgres import migrations
from etl.postgres.connection import Connection, connect
from etl.reporting.metrics import worker_metrics
from etl.testing.emulator import CREDENTIALS, Emulator, Faults, populated, serve
from tests.support.command import Command, program_with
from tests.support.paths import ROOT
from tests.support.scene import TOKEN, a_source
from tests.support.waiting import PATIENCE, eventually

NOBODY = "http://127.0.0.1:9"
STALLED_AFTER = 3.0
SOON = 20.0  # seconds: far below the 60 after which an answer that doesn't come is given up, and the 30 of a time-out
REAL_COMMAND = ("-m", "etl")
# The same with shorter intervals: what is due is looked up each second and not each five.
QUICK_COMMAND = program_with(
    {"etl.fleet.task_queue._DISPATCHED": "* * * * * *", "etl.fleet.task_queue._LOOKED_FOR_JOBS": 0.2}
)
BOTH_AT_ONCE = """
SELECT a.run_id, b.run_id
FROM etl.runs AS a
JOIN etl.runs AS b ON b.source_id = a.source_id AND b.run_id > a.run_id
WHERE tstzrange(a.started_at, coalesce(a.finished_at, b.started_at)) && tstzrange(b.started_at, b.finished_at)
"""
RUNS = "SELECT count(*) FROM etl.runs JOIN etl.sources USING (source_id) WHERE name = %s AND outcome = 'succeeded'"
REGISTERED = "SELECT count(*) FROM queue.procrastinate_workers"
UNDER_WAY = """
SELECT r.pid FROM etl.runs AS r JOIN etl.sources AS s USING (source_id) WHERE s.name = %s AND r.outcome = 'running'
"""


class Fleet:
    """Sources in a file, a service for each, and workers as processes of their own."""

    def __init__(self, command: Command, db: Connection) -> None:
        self.command, self.db = command, db
        self.sources: dict[str, dict[str, str]] = {}
        del command.environ["AIMS360_BASE_URL"], command.environ["AIMS360_TOKEN"]
        command.environ |= {"FLEETS_TOKEN": TOKEN, "AIMS360_LOG_FORMAT": "json"}

    def add(self, name: str, url: str, **settings: str) -> None:
        """Add a source that is due each second, unless `settings` say otherwise."""
        given = {"base_url": url, "token_env": "FLEETS_TOKEN", "every": "1s"} | settings
        self.sources[name] = {key: value for key, value in given.items() if value}
        self.write()

    def write(self) -> None:
        """The file, as it is to be from now on."""
        tables = (
            "\n".join((f"[sources.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in given.items())))
            for name, given in self.sources.items()
        )
        (self.command.folder / "aims360.toml").write_text("\n".join(tables))

    @contextmanager
    def worker(self, *words: str, program: Sequence[str] = QUICK_COMMAND) -> Iterator["Popen[str]"]:
        """Run one, and kill it if it doesn't end by itself."""
        words = ("worker", "--concurrency", "4", "--stalled-after", f"{STALLED_AFTER:g}s", *words)
        process = self.command.start(*words, program=program)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def runs(self, name: str) -> int:
        """How many of a source succeeded."""
        [(number,)] = self.db.execute(RUNS, (name,)).fetchall()
        return int(str(number))

    def worked(self, name: str, times: int = 1) -> None:
        """Waits until a source has so many more runs."""
        wanted = self.runs(name) + times
        eventually(lambda: self.runs(name) >= wanted)

    def under_way(self, name: str) -> int:
        """Waits for a run of a source: the process that makes it."""
        eventually(lambda: self.db.execute(UNDER_WAY, (name,)).fetchone() is not None)
        [(pid,)] = self.db.execute(UNDER_WAY, (name,)).fetchall()
        return int(str(pid))


@pytest.fixture
def fleet(command: Command, db: Connection) -> Fleet:
    """None so far."""
    return Fleet(command, db)


def ended(process: "Popen[str]") -> tuple[int, float, list[dict[str, Any]]]:
    """SIGTERM: its exit code, the seconds it took, and all that it said."""
    began = time.monotonic()
    process.terminate()
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, time.monotonic() - began, [json.loads(line) for line in errors.splitlines()]


class Gate:
    """An application before an emulator: every request waits until it is open."""

    def __init__(self, emulator: Emulator) -> None:
        self.is_open, self.came = Event(), Event()
        self._emulator = emulator

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if not self.is_open.is_set():
            self.came.set()
            self.is_open.wait(PATIENCE)
        return self._emulator(environ, start_response)


def test_two_workers_keep_all_sources_fresh(fleet: Fleet, db: Connection) -> None:
    """Mirrors are equal, both worked, no source was run by two at once, and both end well when they are told to.

    The command is the one that users run, with its own intervals.
    """
    worlds = [populated(60, seed=seed, rate=0) for seed in range(3)]
    with ExitStack() as stack:
        services = [stack.enter_context(serve(Emulator(world, token=TOKEN))) for world in worlds]
        for number in range(12):
            fleet.add(f"source-{number}", services[number % 3].url)
        workers = [stack.enter_context(fleet.worker(program=REAL_COMMAND)) for _ in range(2)]
        for number in range(12):
            eventually(lambda name=f"source-{number}": fleet.runs(name) >= 3)  # type: ignore[misc]
        at_work = {(worker.pid,) for worker in workers}
        eventually(lambda: {*db.execute("SELECT DISTINCT pid FROM etl.runs").fetchall()} == at_work)
        first_scans: set[str] = set()
        for worker in workers:
            code, _, told = ended(worker)
            assert (code, told[-1]["message"].startswith("stopped")) == (0, True)
            assert {event["event"] for event in told} <= {"service", "run"}
            first_scans |= {event["source"] for event in told if event["event"] == "run"}
    assert first_scans == {*fleet.sources}  # told of by whoever made them: it may have been one worker alone
    assert db.execute(BOTH_AT_ONCE).fetchall() == []
    assert db.execute("SELECT count(*) FROM aims360.jobs").fetchone() == (12 * 60,)
    assert db.execute(REGISTERED).fetchone() == (0,)
    jobs = db.execute("SELECT DISTINCT args ->> 'source', args - 'source' - 'timestamp' FROM queue.procrastinate_jobs")
    assert all(args == {} for _, args in jobs.fetchall())  # nothing of a source is in the queue but its name


def test_quiet_runs_say_nothing(fleet: Fleet, db: Connection) -> None:
    """A line for the first scan, none for the increments that found nothing; --verbose tells all."""
    with serve(Emulator(populated(20, seed=1, rate=0), token=TOKEN)) as service:
        fleet.add("west", service.url)
        with fleet.worker() as worker:
            eventually(lambda: fleet.runs("west") >= 4)
            _, _, told = ended(worker)
        assert [event["source"] for event in told if event["event"] == "run"] == ["west"]
        before = fleet.runs("west")
        with fleet.worker("--verbose") as worker:
            fleet.worked("west")
            _, _, told = ended(worker)
        assert len([event for event in told if event["event"] == "run"]) == fleet.runs("west") - before
        requests = [event for event in told if event["event"] == "request"]
        assert {event["source"] for event in requests} == {"west"}
        assert all(event.get("run_id") for event in requests)


def test_what_a_killed_worker_had_in_hand_is_done_by_another(fleet: Fleet, db: Connection) -> None:
    """kill -9 in mid-run: after the time-out the source is fresh again, and its ledger says what happened."""
    gate = Gate(Emulator(populated(60, seed=1, rate=0), token=TOKEN))
    with ExitStack() as stack:
        fleet.add("west", stack.enter_context(serve(gate)).url)
        workers = [stack.enter_context(fleet.worker()) for _ in range(2)]
        assert gate.came.wait(PATIENCE)
        pid = fleet.under_way("west")
        [victim] = [worker for worker in workers if worker.pid == pid]
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        killed_at = time.monotonic()
        gate.is_open.set()
        fleet.worked("west", 1)
        assert time.monotonic() - killed_at < SOON
        assert db.execute("SELECT pid FROM etl.runs WHERE outcome = 'interrupted'").fetchall() == [(pid,)]
        assert db.execute("SELECT count(*) FROM aims360.jobs").fetchone() == (60,)
        assert db.execute(BOTH_AT_ONCE).fetchall() == []


def test_a_worker_that_is_told_to_end_leaves_a_source_that_hangs(fleet: Fleet, db: Connection) -> None:
    """Within seconds, though no answer comes; that isn't the source's failure, and another worker goes on at once."""
    gate = Gate(Emulator(populated(60, seed=1, rate=0), token=TOKEN))
    with ExitStack() as stack:
        fleet.add("west", stack.enter_context(serve(gate)).url)
        worker = stack.enter_context(fleet.worker())
        assert gate.came.wait(PATIENCE)
        fleet.under_way("west")
        code, seconds, told = ended(worker)
        assert code == 0
        assert seconds < SOON
        assert [event for event in told if event["level"] == "error"] == []
        waits = "SELECT DISTINCT status::text FROM queue.procrastinate_jobs WHERE lock = 'source west'"
        assert db.execute(waits).fetchall() == [("todo",)]
        assert db.execute("SELECT failures FROM etl.sources").fetchall() == [(0,)]
        gate.is_open.set()
        with fleet.worker():
            fleet.worked("west")


def test_a_second_wish_ends_it_at_once(fleet: Fleet, db: Connection) -> None:
    """Though Postgres makes a page wait; nothing is lost."""
    with ExitStack() as stack:
        fleet.add("west", stack.enter_context(serve(Emulator(populated(60, seed=1, rate=0), token=TOKEN))).url)
        with connect(fleet.command.environ["DATABASE_URL"]) as other, other.transaction():
            other.execute("LOCK TABLE aims360.job_status_history IN EXCLUSIVE MODE")
            worker = stack.enter_context(fleet.worker())
            waits = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'aims360.job_status_history'::regclass"
            eventually(lambda: db.execute(waits).fetchone() is not None)
            eventually(lambda: db.execute(REGISTERED).fetchone() == (3,))
            worker.terminate()
            eventually(lambda: db.execute(REGISTERED).fetchone() == (1,))  # it heard, and waits for the run alone
            assert worker.poll() is None
            worker.terminate()
            _, errors = worker.communicate(timeout=PATIENCE)
        assert (worker.returncode, "ended at once" in errors) == (1, True)
        with fleet.worker():
            fleet.worked("west")
    assert db.execute("SELECT count(*) FROM aims360.jobs").fetchone() == (60,)


def test_a_source_in_trouble_leaves_the_others_alone(fleet: Fleet, db: Connection) -> None:
    """One with a wrong password, one whose service is down, and one that hangs: they keep nobody waiting."""
    gate = Gate(Emulator(populated(20, seed=4, rate=0), token=TOKEN))
    down = Emulator(populated(20, seed=3, rate=0), token=TOKEN)
    down.set_faults(Faults(rate=1.0, kinds=("503",)))
    fleet.command.environ |= {"RIGHT": CREDENTIALS["client_secret"], "WRONG": "of-another-account"}
    with ExitStack() as stack:
        good = stack.enter_context(serve(Emulator(populated(20, seed=2, rate=0), token=TOKEN))).url
        grant = {"client_id": CREDENTIALS["client_id"], "username": CREDENTIALS["username"], "token_env": ""}
        fleet.add("turned-away", good, client_secret_env="RIGHT", password_env="WRONG", **grant)
        fleet.add("down", stack.enter_context(serve(down)).url, time_limit="1s")
        fleet.add("hangs", stack.enter_context(serve(gate)).url, time_limit="1s")
        fleet.add("well", good)
        worker = stack.enter_context(fleet.worker())
        eventually(lambda: fleet.runs("well") >= 4)
        failing = "SELECT count(*) FROM etl.sources WHERE failures > 0"
        eventually(lambda: db.execute(failing).fetchone() == (3,))
        gate.is_open.set()
        _, _, told = ended(worker)
    failed = {event["source"] for event in told if event["event"] == "failed"}
    assert failed == {"turned-away", "down", "hangs"}
    assert "of-another-account" not in json.dumps(told)
    jobs = db.execute("SELECT count(*) FROM queue.procrastinate_jobs WHERE status = 'failed'").fetchone()
    assert jobs == (0,)  # the ledger has them


def test_changes_of_the_roster_are_seen(url: str, db: Connection, capsys: pytest.CaptureFixture[str]) -> None:
    """Each minute: a source that is added, one that is disabled; one that is broken is told of once."""
    west, east = (a_source(name=name, base_url="https://nowhere.example") for name in ("west", "east"))
    rosters = [
        Roster({"west": west}, frozenset(), {"broken": "broken: base_url: is no address"}),
        Roster({"east": east}, frozenset({"west"}), {"broken": "broken: base_url: is no address"}),
    ]
    passed = [0.0]
    clock = Clock(lambda: datetime.now(UTC), lambda: passed[0], time.sleep)
    worker = Worker(url, lambda _: rosters[passed[0] >= 60], Slots(1, 1), clock, Log("json", clock), Systemd({}))
    assert worker.due() == [("west", Work.BACKFILL)]
    passed[0] = 59.0
    assert worker.due() == [("west", Work.BACKFILL)]
    passed[0] = 60.0
    assert worker.due() == [("east", Work.BACKFILL)]
    assert worker.work("west", Work.SYNC) is False
    assert db.execute("SELECT count(*) FROM etl.runs").fetchone() == (0,)
    worker.close()
    [first, line, then] = map(json.loads, capsys.readouterr().err.splitlines())
    assert first["message"] == "1 sources are kept fresh, 1 with wrong settings"
    assert then["message"] == "1 sources are kept fresh, 1 disabled, 1 with wrong settings"
    assert (line["event"], line["source"], line["exit_code"]) == ("failed", "broken", 2)


def test_a_roster_that_cannot_be_read_leaves_the_last_one(
    url: str, db: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake in the file stops nobody who was there before; it is told."""
    found = [Roster({"west": a_source(name="west")}, frozenset(), {})]
    passed = [0.0]
    clock = Clock(lambda: datetime.now(UTC), lambda: passed[0], time.sleep)

    def read(_db: Connection) -> Roster:
        if not found:
            raise ConfigError("aims360.toml: line 3 is no TOML")
        return found.pop()

    worker = Worker(url, read, Slots(1, 1), clock, Log("human", clock), Systemd({}))
    for minute in range(4):
        passed[0] = minute * 60.0
        assert worker.due() == [("west", Work.BACKFILL)]
    worker.close()
    assert capsys.readouterr().err.count("line 3 is no TOML") == 1


def test_systemd_hears_of_a_worker(fleet: Fleet) -> None:
    """That it is ready, alive, and ends."""
    with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(Path(folder) / "notify"))
        manager.settimeout(PATIENCE)
        fleet.command.environ["NOTIFY_SOCKET"] = str(Path(folder) / "notify")
        fleet.add("west", NOBODY)
        with fleet.worker() as worker:
            heard = [manager.recv(4096).decode() for _ in range(2)]
            assert heard == ["READY=1", "WATCHDOG=1"]
            worker.terminate()
            while heard[-1] != "STOPPING=1":
                heard.append(manager.recv(4096).decode())


@pytest.mark.parametrize(
    ("prepare", "wanted"),
    [
        (lambda url: None, "has no aims360 schema yet: run `aims360-etl migrate`"),
        (
            lambda url: without_a_queue(url),
            r'has no queue yet: pip install "aims360-etl\[fleet\]".*`aims360-etl migrate`',
        ),
    ],
)
def test_a_worker_without_a_queue_does_not_begin(
    fleet: Fleet, empty_database: str, prepare: Callable[[str], None], wanted: str
) -> None:
    """Exit code 2, and what to do."""
    prepare(empty_database)
    fleet.add("west", NOBODY)
    fleet.command.environ |= {"DATABASE_URL": empty_database, "AIMS360_LOG_FORMAT": "human"}
    code, _, errors = fleet.command.run("worker")
    assert code == 2, errors
    assert re.search(wanted, errors)


def without_a_queue(url: str) -> None:
    """As `migrate` leaves a database where the extra isn't installed."""
    migrations.migrate(url)
    with connect(url) as db:
        db.execute("DROP SCHEMA queue CASCADE")
        db.execute("DELETE FROM etl.queue")


def test_a_worker_without_procrastinate_says_what_to_install(fleet: Fleet, tmp_path: Path) -> None:
    """The extra isn't installed: a program in which its package can't be found."""
    fleet.add("west", NOBODY)
    hidden = (
        "import importlib.metadata as m, sys; found = m.version\n"
        "def version(name):\n"
        "    if name == 'procrastinate': raise m.PackageNotFoundError(name)\n"
        "    return found(name)\n"
        "m.version = version\n"
        "from etl.cli import main; sys.argv[0] = 'aims360-etl'; main()"
    )
    code, _, errors = fleet.command.run("worker", "--log-format", "human", program=("-c", hidden))
    assert code == 2, errors
    assert 'pip install "aims360-etl[fleet]", then `aims360-etl migrate`' in errors


def a_run(**how: Any) -> Run:
    """A quiet one."""
    quiet: dict[str, Any] = {
        "run_id": 1,
        "source": "west",
        "kind": "incremental",
        "verdict": Verdict.COMPLETE,
        "pages": 1,
        "requests": 2,
        "seconds": 0.5,
        "counts": Counts(unchanged=7),
        "watermark": None,
        "complete_through": None,
    }
    return Run(**(quiet | how))


@pytest.mark.parametrize(
    ("how", "is_worth_a_line"),
    [
        ({}, False),
        ({"counts": Counts(inserted=1)}, True),
        ({"counts": Counts(purged=1)}, True),
        ({"counts": Counts(rejected=1)}, True),
        ({"counts": Counts(stale=1)}, True),
        ({"notes": ("something",)}, True),
        ({"verdict": Verdict.INCOMPLETE}, True),
    ],
)
def test_which_runs_are_news(how: dict[str, Any], is_worth_a_line: bool) -> None:
    """Those that found something, or weren't at their end."""
    assert is_news(a_run(**how)) is is_worth_a_line


def test_a_minute_in_a_line() -> None:
    """What is told of many runs at once."""
    told = Sum().with_run(a_run()).with_run(a_run(source="east", seconds=1.25, counts=Counts(updated=1)))
    line = "2 runs in a minute, 1 of them quiet; 0 failed; 3 jobs wait; the slowest was east with 1.2 s"
    assert said(told, 3) == line
    line = "0 runs in a minute, 0 of them quiet; 1 failed, 2 held by others; 0 jobs wait"
    assert said(Sum(failed=1, held=2), 0) == line


def test_prometheus_hears_of_all_sources_together(fleet: Fleet, db: Connection) -> None:
    """At the port, how many runs there were and how busy it is; docs/fleet.md names every metric."""
    with serve(Emulator(populated(20, seed=1, rate=0), token=TOKEN)) as service, socket.create_server(("", 0)) as free:
        fleet.add("west", service.url)
        port = str(free.getsockname()[1])
        free.close()
        with fleet.worker("--metrics-port", port) as worker:
            fleet.worked("west", 2)
            told = httpx.get(f"http://127.0.0.1:{port}/metrics").text
            health = httpx.get(f"http://127.0.0.1:{port}/healthz")
            ended(worker)
    assert (health.status_code, health.text) == (200, "ok\n")
    assert all(f"\n{name}" in told for name in worker_metrics.NAMES)
    assert f'\n{worker_metrics.RUNS}{{outcome="succeeded",work="backfill"}} 1.0' in told
    assert f"\n{worker_metrics.SLOTS} 4.0" in told
    assert "west" not in told
    page = (ROOT / "docs" / "fleet.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in worker_metrics.NAMES)
