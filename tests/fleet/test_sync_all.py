"""`sync --all`: every source of a file, side by side; what is in trouble holds up nobody, and is told."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from msgspec.structs import replace

from etl.config import settings
from etl.event_log import Log
from etl.fleet import source_registry
from etl.fleet.executor import Desks
from etl.fleet.results import Ended, Ending, Outcome, as_object, by_source, exit_code, summary
from etl.fleet.scheduler import standings
from etl.fleet.sync_all import Fleet, Listener, Wish, sync_all
from etl.models import Clock, Counts, Run, Verdict
from etl.postgres import locks
from etl.postgres.connection import Connection
from etl.testing.chaos.oracle import differences
from etl.testing.emulator import Emulator, Faults, World, populated, serve
from tests.support.command import Command
from tests.support.scene import TOKEN
from tests.support.waiting import PATIENCE, eventually

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
_ROWS = "SELECT s.name, count(*) FROM aims360.jobs AS j JOIN etl.sources AS s USING (source_id) GROUP BY s.name"
_READS = "FROM etl.runs AS r JOIN etl.sources AS s USING (source_id) WHERE r.kind IN ('full', 'incremental')"
_RUNS = f"SELECT s.name, r.kind {_READS} ORDER BY r.run_id"
_AT_WORK = """
SELECT (SELECT count(*) FROM etl.runs WHERE outcome = 'running'),
       (SELECT count(DISTINCT source_id) FROM aims360.jobs)
"""
_ENDS = f"SELECT s.name {_READS} ORDER BY r.finished_at"


class Accounts:
    """Several accounts, each a world on a server of its own; `file` has them all, with their settings."""

    def __init__(self, url: str, folder: Path, stack: ExitStack) -> None:
        self.command = Command("", url, folder)
        del self.command.environ["AIMS360_BASE_URL"], self.command.environ["AIMS360_TOKEN"]
        self.command.environ["WORKING"] = TOKEN
        self.worlds: dict[str, World] = {}
        self.emulators: dict[str, Emulator] = {}
        self.are_quick = Event()
        self._stack, self._tables = stack, dict[str, dict[str, object]]()

    def add(
        self,
        name: str,
        jobs: int = 120,
        page_size: int = 100,
        between_pages: Callable[[World], None] | None = None,
        **settings: object,
    ) -> None:
        """Add an account of so many jobs, each with an id of its own.

        `between_pages` is called before each page but the first.
        """
        world = self.worlds[name] = populated(jobs, seed=1 + len(self.worlds), rate=0)
        emulator = self.emulators[name] = Emulator(world, token=TOKEN, page_size=page_size, between_pages=between_pages)
        server = self._stack.enter_context(serve(emulator))
        self.set(name, base_url=server.url, **settings)

    def add_slow(self, name: str, jobs: int, seconds: float, **settings: object) -> None:
        """Add an account whose pages of ten jobs take so many seconds each, until `are_quick` is set."""
        self.add(name, jobs, page_size=10, between_pages=lambda _: self._wait(seconds), concurrency=1, **settings)

    def _wait(self, seconds: float) -> None:
        self.are_quick.wait(seconds)

    def add_silent(self, name: str, **settings: object) -> None:
        """A service that takes connections and never says a word."""
        listening = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.set(name, base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", **settings)

    def set(self, name: str, **settings: object) -> None:
        """What the file says of a source."""
        self._tables[name] = self._tables.get(name, {}) | settings
        self._write()

    def taken_out(self, name: str) -> dict[str, object]:
        """What the file said of a source that it has no more."""
        table = self._tables.pop(name)
        self._write()
        return table

    def _write(self) -> None:
        lines = ["[defaults]", 'token_env = "WORKING"']
        for each, table in self._tables.items():
            lines += [f"[sources.{each}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
        (self.command.folder / "aims360.toml").write_text("\n".join(lines))

    def sync(self, *options: str) -> tuple[int, str, str]:
        """`sync --all` to its end."""
        return self.command.run("sync", "--all", *options)

    def told(self, *options: str) -> tuple[int, dict[str, Any]]:
        """Its exit code, and what it says to scripts."""
        code, output, errors = self.sync("--json", *options)
        assert output, errors
        found: dict[str, Any] = json.loads(output)
        assert found["exit_code"] == code
        return code, found

    def differences(self, db: Connection, *names: str) -> list[str]:
        """What differs between the mirror and all worlds, or those of these names and nothing else."""
        chosen = {name: world for name, world in self.worlds.items() if not names or name in names}
        there = {str(job["jobID"]): world.payload(job) for world in chosen.values() for job in world.jobs()}
        rows = {str(name): count for name, count in db.execute(_ROWS).fetchall()}
        assert rows.items() <= {name: len(list(world.jobs())) for name, world in chosen.items()}.items()
        return differences(db, there)


@pytest.fixture
def accounts(url: str, tmp_path: Path) -> Iterator[Accounts]:
    """None yet."""
    with ExitStack() as stack:
        yield Accounts(url, tmp_path, stack)


def quiet(errors: str) -> str:
    """What a call said on stderr, but for how far it was, which a busy machine makes it say."""
    return "".join(line for line in errors.splitlines(keepends=True) if " sources done, " not in line)


def test_fifty_sources_are_equal_to_their_worlds(accounts: Accounts, db: Connection) -> None:
    """One call reads them all, the next what changed; one line says what that came to."""
    for number in range(50):
        accounts.add(f"account-{number}", jobs=20)
    code, output, errors = accounts.sync()
    assert (code, quiet(errors)) == (0, "")
    assert output.startswith("50 sources: 50 complete: ")
    assert accounts.differences(db) == []
    for world in accounts.worlds.values():
        world.add()
    code, found = accounts.told("--parallel", "3")
    assert (found["sources"], found["complete"], found["failed"]) == (50, 50, 0)
    assert found["counts"]["inserted"] == 50
    assert found["requests"] == sum(run["requests"] for run in found["runs"])
    assert accounts.differences(db) == []


def test_sources_in_trouble_hold_up_nobody(accounts: Accounts, db: Connection) -> None:
    """One hangs, one answers 429 for ever, one has a wrong token, one a wrong setting: the others are done meanwhile.

    What is wrong with each is told without its secret. The worst code is that of the setting.
    """
    accounts.command.environ["MISTYPED"] = "very-secret-token"
    accounts.add_silent("hangs", time_limit="5s")
    accounts.add("busy", time_limit="7s")  # given up when the next of its pauses, 3 s at most, would be too long
    accounts.emulators["busy"].set_faults(Faults(rate=1.0, kinds=("429-seconds",)))
    accounts.add("stranger", token_env="MISTYPED")
    accounts.add("broken", look_back="soon", concurrency="many")
    for name in ("east", "north", "west"):
        accounts.add(name)
    code, output, errors = accounts.sync("--parallel", "3")
    assert code == 2
    [line, *told] = output.splitlines()
    assert line.startswith("7 sources: 3 complete, 4 failed: ")
    found = dict(one.strip().split(": ", 1) for one in told)
    assert "look_back" in found["broken"]
    assert "concurrency" in found["broken"]
    assert " s that a run of a fleet may take (it took too long to answer)" in found["hangs"]
    assert " s that a run of a fleet may take (last: HTTP 429" in found["busy"]
    assert found["stranger"].startswith("MISTYPED: the service refuses the token")
    assert "aims360-etl: hangs: http://127.0.0.1" in errors
    assert "very-secret-token" not in output + errors
    assert accounts.differences(db, "east", "north", "west") == []
    ends = [str(name) for (name,) in db.execute(_ENDS).fetchall()]
    assert sorted(ends[:4]) == ["east", "north", "stranger", "west"]


def test_sources_of_the_database_are_synced_as_those_of_the_file(accounts: Accounts, db: Connection) -> None:
    """All that is configured, wherever that is; what is disabled there is left alone."""
    for name in ("east", "west", "north"):
        accounts.add(name)
    for name in ("west", "north"):
        given = ("--base-url", str(accounts.taken_out(name)["base_url"]), "--token-env", "WORKING")
        code, output, errors = accounts.command.run("sources", "add", name, *given)
        assert code == 0, output + errors
    assert accounts.command.run("sources", "disable", "north")[0] == 0
    code, output, _ = accounts.sync()
    assert code == 0
    assert output.startswith("2 sources: 2 complete, 1 disabled: ")
    assert accounts.differences(db, "east", "west") == []


def test_without_a_broken_setting_the_code_is_that_of_a_failure(accounts: Accounts, db: Connection) -> None:
    """1 is worse than 3: a source that is held is nobody's trouble."""
    for name in ("held", "gone", "well"):
        accounts.add(name)
    assert accounts.sync()[0] == 0
    row = db.execute("SELECT source_id FROM etl.sources WHERE name = 'held'").fetchone()
    assert row is not None
    with locks.held(db, "held", int(str(row[0]))):
        code, found = accounts.told()
        assert (code, found["held"], found["complete"]) == (3, 1, 2)
        accounts.emulators["gone"].set_faults(Faults(rate=1.0, kinds=("503",)))
        accounts.set("gone", time_limit="1s")
        code, found = accounts.told()
    assert (code, found["held"], found["failed"], found["complete"]) == (1, 1, 1, 1)
    by_name = {run["name"]: run for run in found["runs"]}
    assert by_name["held"]["error"].startswith("source 'held' is held by aims360-etl on ")
    assert (by_name["gone"]["exit_code"], by_name["gone"]["kind"]) == (1, "incremental")


def test_rows_that_can_not_be_read_are_told_by_the_code(accounts: Accounts, db: Connection) -> None:
    """4, where all else is well; the log says of which source."""
    accounts.add("east")
    accounts.add("west")
    accounts.worlds["west"].add(modifiedDate="never")
    code, output, errors = accounts.sync()
    assert code == 4
    assert ", 1 rejected; " in output
    assert "west: 1 row could not be read" in errors


def test_a_source_that_fails_is_left_alone_for_a_while(accounts: Accounts, db: Connection) -> None:
    """A wrong token isn't tried at each call of cron; which counts as failed all the same; unless somebody says so."""
    accounts.command.environ["MISTYPED"] = "very-secret-token"
    accounts.add("well")
    accounts.add("stranger", token_env="MISTYPED")
    assert [accounts.sync()[0] for _ in range(2)] == [1, 1]
    asked = len(accounts.emulators["stranger"].requests)
    code, output, _ = accounts.sync()
    assert code == 1
    assert output.startswith("2 sources: 1 complete, 1 held back: ")
    assert "  stranger: left alone until " in output
    assert len(accounts.emulators["stranger"].requests) == asked
    accounts.set("stranger", token_env="WORKING")
    assert accounts.told()[1]["held_back"] == 1
    assert accounts.told("--anyway")[1]["complete"] == 2
    assert accounts.told()[1]["complete"] == 2
    assert accounts.differences(db) == []


def test_increments_come_before_backfills_which_take_turns(accounts: Accounts, db: Connection, url: str) -> None:
    """Those that were read whole are fresh before the first page of another; of those a slice each, till the end."""
    for name in ("east", "west"):
        accounts.add(name)
    assert accounts.sync()[0] == 0
    pages: list[World] = []  # each takes a second, of a clock that nobody waits for
    for name in ("large", "larger"):
        accounts.add(name, page_size=10, between_pages=pages.append, concurrency=1, time_limit="8s")
    db.execute("DELETE FROM etl.runs")
    clock = Clock(lambda: datetime.now(UTC), lambda: float(len(pages)), time.sleep)
    roster = source_registry.whole(settings.read(accounts.command.environ, accounts.command.folder), {})
    listener = Listener(lambda ended, error: None, lambda done, of: None, Log("json", clock).of)
    with closing(Desks(1, url, clock)) as desks:
        outcome = sync_all(Fleet(roster.sources, {}, standings(db)), desks, clock, Wish(1), listener)
    assert exit_code(outcome.ended) == 0
    runs = db.execute(_RUNS).fetchall()
    assert sorted(runs[:2]) == [("east", "incremental"), ("west", "incremental")]
    slices = [name for name, kind in runs[2:] if kind == "full"]  # whoever is through has its increment at once
    assert slices[:4] == [slices[0], slices[1]] * 2
    assert set(slices) == {"large", "larger"}
    assert accounts.differences(db) == []


def test_all_rows_of_all_sources_in_slices(accounts: Accounts, db: Connection) -> None:
    """--full, each in as many runs as its time limit makes of it."""
    accounts.add("small")
    accounts.add_slow("large", jobs=300, seconds=0.1, time_limit="3s")
    accounts.are_quick.set()
    assert accounts.sync()[0] == 0
    accounts.are_quick.clear()
    for world in accounts.worlds.values():
        world.change(next(iter(world.jobs())), touch=False, jobStatusText="changed, and nobody was told")
    db.execute("DELETE FROM etl.runs")
    code, found = accounts.told("--full")
    assert code == 0
    runs = [(run["name"], run["kind"], run["verdict"]) for run in found["runs"]]
    assert ("small", "full", "complete") in runs
    assert runs.count(("large", "full", "incomplete")) > 0
    assert accounts.differences(db) == []


def test_deep_passes_follow_where_they_are_due(accounts: Accounts, db: Connection) -> None:
    """As in a single sync: what no increment tells is found when its day has come."""
    accounts.add("east")
    world = accounts.worlds["east"]
    job = world.add()
    assert accounts.sync()[0] == 0
    world.advance(timedelta(hours=25))
    world.add()
    assert accounts.sync()[0] == 0
    world.change(job, touch=False, jobStatusText="changed, and nobody was told")
    db.execute("UPDATE etl.sources SET reread_due_at = %s", (world.now,))
    code, found = accounts.told()
    kinds = [run["kind"] for run in found["runs"]]
    assert (kinds[0], kinds[-1]) == ("incremental", "reread")
    assert (code, found["counts"]["repaired"]) == (0, 1)
    assert accounts.differences(db) == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_call_that_is_ended_loses_nothing(accounts: Accounts, db: Connection, how: signal.Signals) -> None:
    """Its threads end after their page, or where they wait; it says what was done. The next call goes on from there."""
    for name in ("east", "north", "west"):
        accounts.add_slow(name, jobs=400, seconds=0.2)
    accounts.add_silent("hangs")
    with accounts.command.start("sync", "--all") as process:
        eventually(lambda: db.execute(_AT_WORK).fetchone() == (4, 3))
        process.send_signal(how)
        output, errors = process.communicate(timeout=PATIENCE)
    accounts.are_quick.set()
    if how is signal.SIGKILL:
        assert process.returncode == -how
    else:
        assert process.returncode == 1
        assert output.startswith("4 sources: 0 complete, 4 not finished: ")
        assert quiet(errors) == "aims360-etl: stopped; nothing is lost, the next run goes on\n"
        assert db.execute("SELECT DISTINCT outcome, error FROM etl.runs").fetchall() == [
            ("failed", "stopped by a signal")
        ]
        assert db.execute("SELECT sum(failures) FROM etl.sources").fetchone() == (0,)
    accounts.set("hangs", disabled=True)
    code, output, errors = accounts.sync()
    assert (code, quiet(errors)) == (0, "")
    assert output.startswith("3 sources: 3 complete, 1 disabled: ")
    assert accounts.differences(db) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--all", "--source", "east"], "--source is for a single source"),
        (["--all", "--same-source"], "--same-source is for a single source"),
        (["--all", "--metrics-file", "file.prom"], "--metrics-file is for a single source"),
        (["--all", "--every", "60s"], "`aims360-etl worker`"),
        (["--parallel", "3"], "--parallel goes with --all"),
        (["--anyway"], "--anyway goes with --all"),
        (["--all", "--rewrite"], "--rewrite goes with --full"),
    ],
)
def test_what_does_not_go_together_is_refused(accounts: Accounts, options: list[str], said: str) -> None:
    """Before anything is asked of anybody."""
    accounts.add("east")
    code, _, errors = accounts.command.run("sync", *options)
    assert (code, said in errors) == (2, True)
    assert accounts.emulators["east"].requests == []


def test_without_a_file_all_is_the_one_source_of_the_environment(command: Command) -> None:
    """Nothing else is configured."""
    code, output, _ = command.run("sync", "--all")
    assert code == 0
    assert output.startswith("1 sources: 1 complete: 300 new, ")


def a_run(name: str, **how: Any) -> Run:
    """A run that ended well."""
    return replace(Run(7, name, "incremental", Verdict.COMPLETE, 1, 3, 0.5, Counts(), NOW, NOW), **how)


@pytest.mark.parametrize(("codes", "worst"), [([], 0), ([0, 3], 3), ([3, 4, 0], 4), ([4, 1, 3], 1), ([1, 2, 4], 2)])
def test_the_worst_exit_code_is_the_one_to_hear_of_first(codes: list[int], worst: int) -> None:
    """A setting, a failure, what isn't well, what another has in hand."""
    assert exit_code(Ended("x", Ending.FAILED, code) for code in codes) == worst


def test_a_source_ended_as_the_worst_of_its_runs_did() -> None:
    """Slices that were gone on with don't count, a deep pass that failed does."""
    ended = [
        Ended("east", Ending.UNFINISHED, run=a_run("east", verdict=Verdict.INCOMPLETE)),
        Ended("east", Ending.COMPLETE, run=a_run("east")),
        Ended("west", Ending.COMPLETE, run=a_run("west")),
        Ended("west", Ending.FAILED, 1, "no answer"),
    ]
    found = by_source(Outcome(ended, dict.fromkeys(("east", "west", "north"), NOW), 0, 1.0))
    assert {name: each.ending for name, each in found.items()} == {
        "east": Ending.COMPLETE,
        "west": Ending.FAILED,
        "north": Ending.UNFINISHED,
    }


def test_a_summary_tells_the_first_ten_in_trouble_and_counts_the_others() -> None:
    """The worst come first; the object for scripts has them all."""
    names = [f"account-{number}" for number in range(13)]
    ended = [Ended(name, Ending.FAILED, 1, "no answer") for name in names[:11]]
    ended += [Ended(names[11], Ending.FAILED, 2, "wrong"), Ended(names[12], Ending.COMPLETE, run=a_run(names[12]))]
    outcome = Outcome(ended, dict.fromkeys(names) | {names[12]: NOW}, 2, 4.25)
    lines = summary(outcome).splitlines()
    assert lines[0] == (
        "13 sources: 1 complete, 12 failed, 2 disabled: 0 new, 0 changed, 0 purged; 3 requests made, 4.2 s; "
        "complete through 2026-03-02 09:00:00 UTC or later, 12 never read whole"
    )
    assert lines[1] == "  account-11: wrong"
    assert len(lines) == 12
    assert lines[-1] == "  and 2 more; --json has all, and bi.runs"
    found = as_object(outcome)
    assert (found["failed"], found["complete"], found["disabled"], found["exit_code"]) == (12, 1, 2, 2)
    runs: Any = found["runs"]
    assert (runs[0]["name"], runs[0]["error"], runs[12]["run_id"]) == ("account-0", "no answer", 7)
