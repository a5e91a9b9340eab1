"""What takes part in a simulation: a database made for it, the fleet, the workers; and what they have used so far."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from psycopg import sql

from etl.config.settings import CONFIG_FILE, libpq_url
from etl.postgres import connection, migrations
from etl.postgres.connection import Connection
from etl.postgres.embedded import Server
from etl.testing.load_test import cpu_time
from etl.testing.load_test.emulator_client import Wheel
from etl.testing.load_test.processes import Process, Workers, a_fleet, environment

DATABASE = "simulation"
_RUNS = "SELECT count(*) FROM etl.runs WHERE finished_at IS NOT NULL"
_ROWS = "SELECT count(*) FROM aims360.jobs"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is simulated. Times in seconds; `moods`: how many accounts are in each, `backfill`: rows of one more."""

    accounts: int
    workers: tuple[int, ...]
    concurrency: int
    every: int
    seconds: float
    latency: float
    moods: dict[str, int]
    backfill: int
    compares: bool
    kill_every: float | None
    seed: int


class Used(NamedTuple):
    """What was done and used up to a moment: runs, requests, seconds of CPU by part. `at` in seconds."""

    at: float
    runs: int
    requests: int
    workers: float
    postgres: float
    emulator: float


@dataclass(slots=True)
class Stage:
    """The parts, running. `neighbours`: accounts that are or will be bad company, which no figure is about."""

    db: Connection
    wheel: Wheel
    emulator: Process
    postmaster: int
    environ: dict[str, str]
    folder: Path
    wish: Wish
    names: list[str]

    @property
    def neighbours(self) -> dict[str, str]:
        """What becomes of the bad ones, by name: a mood, or `backfill`. They are the first, as far as there are any."""
        fates = [mood for mood, number in self.wish.moods.items() for _ in range(number)]
        fates += ["backfill"] if self.wish.backfill else []
        return dict(zip(self.names, fates, strict=False))

    def workers(self) -> Workers:
        """Workers, none of which is started yet."""
        return Workers(["worker", "--concurrency", str(self.wish.concurrency)], self.environ, self.folder)

    def used(self, workers: Workers, now: float) -> Used:
        """What was used so far."""
        return Used(
            now,
            self._number(_RUNS),
            self.wheel.requests(),
            workers.seconds(),
            cpu_time.by_family(self.postmaster),
            self.emulator.seconds(),
        )

    def rows(self) -> int:
        """The jobs that are mirrored."""
        return self._number(_ROWS)

    def spoil(self) -> None:
        """The bad neighbours begin."""
        for name, fate in self.neighbours.items():
            if fate == "backfill":
                self.wheel.backfill(name, self.wish.backfill)
            else:
                self.wheel.set_mood(name, fate)

    def mend(self) -> None:
        """They are well again."""
        for name in self.neighbours:
            self.wheel.set_mood(name, "well")

    def _number(self, statement: str) -> int:
        row = self.db.execute(statement).fetchone()
        return int(str(row[0])) if row else 0


@contextmanager
def put_up(wish: Wish, server: Server) -> Iterator[Stage]:
    """The stage; its database and folder are gone at the end. Raises EtlError."""
    with ExitStack() as parts:
        url = parts.enter_context(_a_database(libpq_url(server.url)))
        migrations.migrate(url)
        folder = Path(parts.enter_context(TemporaryDirectory()))
        emulator, steering = parts.enter_context(a_fleet(wish.accounts, wish.seed, wish.latency, folder))
        db = parts.enter_context(connection.connected(url))
        environ = environment(
            {
                "AIMS360_CONFIG": str(folder / CONFIG_FILE),
                "AIMS360_EVERY": f"{wish.every}s",
                "DATABASE_URL": url,
                "HOME": str(folder),
            }
        )
        postmaster = int((server.home / "cluster" / "postmaster.pid").read_text().split("\n", 1)[0])
        wheel = Wheel(steering)
        yield Stage(db, wheel, emulator, postmaster, environ, folder, wish, wheel.names())


@contextmanager
def _a_database(server_url: str) -> Iterator[str]:
    """The address of a database made anew, dropped at the end."""
    try:
        yield connection.made_anew(server_url, DATABASE)
    finally:
        with connection.connected(server_url) as db:
            db.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(DATABASE)))
