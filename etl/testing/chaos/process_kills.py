"""The command itself, as a process that the kernel kills again and again, by a service on a socket."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from etl.postgres import connection
from etl.testing.chaos import oracle, resume_check
from etl.testing.chaos.invariants import Laws
from etl.testing.chaos.mutations import BULK, CHANGE, INSERT, LOOK_BACK
from etl.testing.chaos.source_profile import Tally
from etl.testing.emulator import CREDENTIALS, Emulator, World, populated, serve

NAME = "processes killed"
_KILLS = 2
_LATENCY = 0.004  # seconds: enough to be met at work
_PAGES = "SELECT coalesce(sum(pages), 0) FROM etl.runs WHERE outcome = 'running'"
_IS_HELD = """
SELECT FROM pg_locks
WHERE locktype = 'advisory' AND classid = 360361
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_OVERLAP = """
SELECT EXISTS (SELECT FROM etl.runs AS a JOIN etl.runs AS b ON b.run_id > a.run_id AND b.started_at < a.finished_at)
"""
_HELD, _DONE, _OFF = 3, 0, "0"  # exit codes; a setting


class Killings:
    """A mirror whose runs are processes. `said`: sentences on what is wrong, if anything is."""

    def __init__(self, url: str, seed: str) -> None:
        self.url, self.rng = url, Random(seed)
        self.tally, self.said = Tally(), list[str]()
        # By the machine's own clock: the command has no other. Half a day behind, so that hours may pass.
        began = datetime.now(UTC) - timedelta(hours=12)
        self.world = populated(800, seed=self.rng.randrange(2**32), now=began, rate=100)
        self.emulator = Emulator(self.world, page_size=50, between_pages=self._churn)
        self._laws = Laws()

    def play(self) -> None:
        """Runs that are killed, two at once, and one that may end; then all is compared."""
        with (
            serve(self.emulator, latency=_LATENCY) as server,
            TemporaryDirectory() as folder,
            closing(connection.connect(self.url)) as db,
        ):
            start = _starter(server.url, self.url, Path(folder))
            for _ in range(_KILLS):
                self._kill(db, start)
            self._two_at_once(db, start)
            self.emulator.between_pages = None
            self.world.advance(timedelta(hours=3))
            # By a row of this moment the run knows what is due. The source isn't asked about purges twice an hour, and
            # by the clock of the processes only seconds have passed.
            self.world.add()
            self._ends(start())
            self._judge(db)

    def _churn(self, world: World) -> None:
        self.tally.events += self.rng.choice([INSERT, CHANGE, BULK]).happen(world, self.rng)

    def _kill(self, db: connection.Connection, start: "_Start") -> None:
        before = resume_check.committed(db)
        self.emulator.reset_log()
        with start() as process:
            self.tally.syncs += 1
            wait_for_pages(db, self.rng.randint(0, 4), process)
            db.execute("SELECT pg_sleep(%s)", (self.rng.uniform(0, 0.03),))
            process.kill()
        self.tally.kills += process.returncode == -signal.SIGKILL
        wait_for_the_lock(db)
        again = resume_check.asked_again(before, self.emulator.requests)
        self.tally.twice += len(again)
        self.said += [f"asked again, after {before}: {text}" for text in again]
        self._hold_to_the_laws(db)

    def _two_at_once(self, db: connection.Connection, start: "_Start") -> None:
        with start() as first:
            wait_for_pages(db, 1, first)
            with start() as second:
                self.tally.syncs += 2
        # On a busy machine the second one may come first, or when the first is done.
        codes = (first.returncode, second.returncode)
        if _HELD not in codes and (codes != (_DONE, _DONE) or db.execute(_OVERLAP).fetchone() == (True,)):
            self._say(f"a second process was not kept out: exit codes {codes}")

    def _ends(self, process: "subprocess.Popen[str]") -> None:
        self.tally.syncs += 1
        _, errors = process.communicate(timeout=120)
        if process.returncode != _DONE:
            self._say(f"a sync ended with {process.returncode}, though all was quiet: {errors.strip()}")

    def _judge(self, db: connection.Connection) -> None:
        self._hold_to_the_laws(db)
        there = {str(job["jobID"]): self.world.payload(job) for job in self.world.jobs()}
        found = oracle.compare(db, there, oracle.may_wait(self.world.now, LOOK_BACK))
        self.tally.count(found)
        self.said += found.sentences

    def _hold_to_the_laws(self, db: connection.Connection) -> None:
        for sentence in self._laws.broken(db):
            self._say(sentence)

    def _say(self, sentence: str) -> None:
        self.tally.broken += 1
        self.said.append(sentence)


class _Start:
    """Starts the command from an empty folder."""

    def __init__(self, environ: dict[str, str], folder: Path) -> None:
        self._environ, self._folder = environ, folder

    def __call__(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "etl", "sync"],
            env=self._environ,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


def _starter(service: str, url: str, folder: Path) -> _Start:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIMS360_")}
    ours = {"AIMS360_BASE_URL": service, "DATABASE_URL": url, "HOME": str(folder)}
    grant = {f"AIMS360_{name.upper()}": value for name, value in CREDENTIALS.items()}
    return _Start({**inherited, **ours, **grant, "AIMS360_REREAD": _OFF, "AIMS360_RECONCILE_EVERY": _OFF}, folder)


def wait_for_pages(db: connection.Connection, pages: int, process: "subprocess.Popen[str]") -> None:
    """Until the run has committed so many pages, or has ended."""
    while process.poll() is None:
        row = db.execute(_PAGES).fetchone()
        if row is not None and int(str(row[0])) >= pages:
            return
        db.execute("SELECT pg_sleep(0.001)")


def wait_for_the_lock(db: connection.Connection) -> None:
    """Until Postgres has noticed that a killed run is gone: a run before that would be kept out."""
    while db.execute(_IS_HELD).fetchone():
        db.execute("SELECT pg_sleep(0.001)")
