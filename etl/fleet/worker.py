"""A worker of a fleet: takes what is due from the queue that all workers share, until it is told to end.

The task queue says what it does when; here is how: which sources there are, a desk for each slot, and what is told of
it all. Of the quiet runs of many sources there is a line a minute.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from etl import error_report, shutdown
from etl.config.settings import Source
from etl.errors import ConfigError, DatabaseError, Locked, result_of
from etl.event_log import Log
from etl.fleet import scheduler
from etl.fleet.executor import Desks
from etl.fleet.scheduler import Work
from etl.fleet.sd_notify import Systemd
from etl.fleet.source_registry import Roster
from etl.fleet.task_queue import Slots
from etl.models import Clock, Run, Verdict
from etl.postgres import connection
from etl.postgres.connection import Connection
from etl.reporting.metrics.http_server import Heartbeat
from etl.reporting.metrics.worker_metrics import Crew

_READ_EVERY = 60.0  # seconds: the roster, and sooner for a name that isn't in it
_AT_MOST_EVERY = 5.0
# A sign of life comes each second. deploy/systemd/aims360-etl-worker@.service has the same bound (WatchdogSec).
_HUNG_AFTER = 120.0  # seconds
_NO_ROSTER = Roster({}, frozenset(), {})


class Sum(NamedTuple):
    """What came of the runs of a minute. The slowest is a source's name with its seconds."""

    runs: int = 0
    quiet: int = 0
    failed: int = 0
    held: int = 0  # by a run by hand
    slowest: tuple[float, str] = (0.0, "")

    def with_run(self, run: Run) -> Sum:
        """And this run."""
        slowest = max(self.slowest, (run.seconds, run.source))
        return self._replace(runs=self.runs + 1, quiet=self.quiet + (not is_news(run)), slowest=slowest)


def is_news(run: Run) -> bool:
    """Whether a run is worth a line of its own."""
    counts = run.counts
    changed = counts.written or counts.purged or counts.rejected or counts.differences
    return bool(changed or run.notes or run.verdict is Verdict.INCOMPLETE)


def said(told: Sum, waiting: int) -> str:
    """A minute in a line."""
    slowest = f"; the slowest was {told.slowest[1]} with {told.slowest[0]:.1f} s" if told.runs else ""
    held = f", {told.held} held by others" if told.held else ""
    runs = f"{told.runs} runs in a minute, {told.quiet} of them quiet"
    return f"{runs}; {told.failed} failed{held}; {waiting} jobs wait{slowest}"


def census(roster: Roster) -> str:
    """How many sources there are, in a line."""
    if not any(roster):
        return "no source is configured yet; the file and the database are looked at once a minute"
    others = {"disabled": len(roster.disabled), "with wrong settings": len(roster.problems)}
    told = [f"{number} {what}" for what, number in others.items() if number]
    return ", ".join([f"{len(roster.sources)} sources are kept fresh", *told])


class Worker:
    """The chores of a worker at the database at `url`. `read` gives the sources as they are set now.

    Its methods are called by the threads of the task queue, in parallel. `crew` is what Prometheus may hear,
    `heartbeat` what probes ask.
    """

    def __init__(
        self, url: str, read: Callable[[Connection], Roster], slots: Slots, clock: Clock, log: Log, systemd: Systemd
    ) -> None:
        self._url, self._read, self._clock, self._log, self._systemd = url, read, clock, log, systemd
        self.crew = Crew(sum(slots), [*Work])
        self.heartbeat = Heartbeat(clock.monotonic, _HUNG_AFTER)
        self._desks = Desks(sum(slots), url, clock)
        self._roster, self._read_at = _NO_ROSTER, -_READ_EVERY
        self._reading, self._asking, self._counting = threading.Lock(), threading.Lock(), threading.Lock()
        self._house: Connection | None = None
        self._sum, self._failure = Sum(), ""

    def close(self) -> None:
        """Its connections end."""
        self._desks.close()
        if self._house is not None:
            self._house.close()

    def due(self) -> list[tuple[str, Work]]:
        """What is to be done now, for which source."""
        with self._asked() as db:
            self._refresh(db)
            known, now = scheduler.standings(db), self._clock.now()
        sources = self._roster.sources.values()
        return [
            (source.name, work) for source in sources for work in scheduler.due(source, known.get(source.name), now)
        ]

    def work(self, name: str, work: Work) -> bool:
        """One run of a source, if it is to be kept fresh still; whether there is more of it to do at once.

        Raises what the ledger doesn't know, so that it is tried again: Locked, a database that is gone, wrong settings.
        """
        shutdown.check()
        source, log = self._source(name), self._log.of(name)
        if source is None:
            return False
        began = self._clock.monotonic()
        try:
            with self.crew.busy(), self._desks.one() as desk:
                run = desk.run(source, work, log)
        except Locked as held:
            self._count(lambda told: told._replace(held=told.held + 1))
            self.crew.ended(work, "held", self._clock.monotonic() - began)
            if log.is_verbose:
                log.notice(str(held))
            raise
        except Exception as error:
            log.failed(error)
            self._count(lambda told: told._replace(failed=told.failed + 1))
            self.crew.ended(work, "failed", self._clock.monotonic() - began)
            if isinstance(error, DatabaseError) or result_of(error) is None:
                raise
            return False
        self._count(lambda told: told.with_run(run))
        self.crew.ended(work, "succeeded", run.seconds)
        if is_news(run) or log.is_verbose:
            log.ended(run)
            log.notes(run)
        return run.verdict is Verdict.INCOMPLETE

    def alive(self) -> None:
        """Give a sign of life, to systemd's watchdog and to probes."""
        self._systemd.alive(self._clock.monotonic())
        self.heartbeat.beat()

    def minute(self, waiting: int) -> None:
        """The line of a minute."""
        with self._counting:
            told, self._sum = self._sum, Sum()
            self._failure = ""
        self.crew.waits(waiting)
        seconds, slowest = told.slowest
        line = said(told, waiting)
        self._log.service(
            line,
            runs=told.runs,
            quiet=told.quiet,
            failed=told.failed,
            held=told.held,
            waiting=waiting,
            slowest=slowest or None,
            slowest_seconds=seconds,
        )
        self._systemd.doing(line)

    def failed(self, error: BaseException) -> None:
        """The queue can't be reached; said once, until it is there again or there is something else to say."""
        line = error_report.line(error)
        with self._counting:
            is_new, self._failure = line != self._failure, line
        if is_new:
            self._log.failed(error)
            self._systemd.doing(line)

    def _count(self, counted: Callable[[Sum], Sum]) -> None:
        with self._counting:
            self._sum = counted(self._sum)

    @contextmanager
    def _asked(self) -> Iterator[Connection]:
        """The connection by which the ledger and the roster are read, for one thread at a time."""
        with self._asking, connection.told(self._url):
            if self._house is None or self._house.closed:
                self._house = connection.connect(self._url)
            yield self._house

    def _source(self, name: str) -> Source | None:
        """The source of that name, where there is one to be kept fresh; by a roster that isn't older than a minute."""
        age = self._clock.monotonic() - self._read_at
        if age >= _READ_EVERY or (name not in self._roster.sources and age >= _AT_MOST_EVERY):
            with self._asked() as db:
                self._refresh(db, _AT_MOST_EVERY)
        return self._roster.sources.get(name)

    def _refresh(self, db: Connection, every: float = _READ_EVERY) -> None:
        """Sources that were added, taken out or set otherwise count from here on; each that is broken is told of once.

        Where none can be read, those that are known stay.
        """
        if self._clock.monotonic() - self._read_at < every:
            return
        self._read_at = self._clock.monotonic()
        try:
            roster = self._read(db)
        except ConfigError as error:
            self.failed(error)
            return
        before, self._roster = self._roster, roster
        if census(roster) != census(before) or before is _NO_ROSTER:
            self._log.service(census(roster))
        for name, problem in roster.problems.items():
            if before.problems.get(name) != problem:
                self._log.of(name).failed(ConfigError(problem))
