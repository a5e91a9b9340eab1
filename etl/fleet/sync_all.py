"""`sync --all`: every source once, side by side, so many at a time.

    increment   of each source that was read whole, of those whose last runs failed at the end
    purge       the source is asked about jobs past their date, where that is due
    deep        the deep passes that are due, of a source for ten minutes at most
    backfill    sources that were never read whole, a slice of each in turn, until all are

What stands further up is begun first, and no run lasts longer than its source's time limit: so nobody waits for a
source that hangs, and no increment for a backfill. A source has one run at a time; what it wants next comes after that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import NamedTuple

from etl import error_report, shutdown
from etl.config.settings import Source
from etl.errors import ConfigError, EtlError, Locked, result_of
from etl.event_log import Log
from etl.fleet.executor import Desks
from etl.fleet.results import Ended, Ending, Outcome
from etl.fleet.scheduler import Standing, Work, due
from etl.models import Clock, Run, Verdict
from etl.pipeline.sync import DEEP_AT_MOST, Order
from etl.text import utc

_LOOKED_AT_EVERY = 1.0  # seconds, though nothing ended
_NEVER = datetime(1, 1, 1, tzinfo=UTC)
_AFTER = {
    Work.SYNC: (Work.PURGE, Work.DEEPEN),
    Work.BACKFILL: (Work.PURGE, Work.DEEPEN),
    Work.PURGE: (Work.DEEPEN,),
    Work.DEEPEN: (),
}


class Fleet(NamedTuple):
    """The sources, what is wrong with those that can't be read, how far each is, and how many are disabled."""

    sources: Mapping[str, Source]
    problems: Mapping[str, str]
    standings: Mapping[str, Standing]
    disabled: int = 0


class Wish(NamedTuple):
    """What is asked of a call: so many runs at a time, what the first of each source does, and whom it leaves alone."""

    at_a_time: int
    order: Order = Order()
    anyway: bool = False  # also sources whose last runs failed


class Listener(NamedTuple):
    """Whoever wants to know: of what ended, with its error; now and then, how many of all sources are done.

    `log`, called in a run's thread, is that of the source of that name.
    """

    ended: Callable[[Ended, BaseException | None], None]
    moved: Callable[[int, int], None]
    log: Callable[[str], Log]


class _Turn(NamedTuple):
    """A run to be made."""

    source: Source
    work: Work
    order: Order


_Result = tuple[Run, Standing | None]


def sync_all(fleet: Fleet, desks: Desks, clock: Clock, wish: Wish, listener: Listener) -> Outcome:
    """Syncs all sources. Where the process is told to end, what is in hand is finished first, and nothing begun."""
    began = clock.monotonic()
    call = _Call(fleet, desks, clock, wish, listener)
    call.begin()
    with ThreadPoolExecutor(wish.at_a_time, "sync") as threads:
        call.carry_on(threads)
    return Outcome(call.ended, call.through, fleet.disabled, round(clock.monotonic() - began, 3))


class _Call:
    """A call in the making. Only the thread that made it touches it, but for what `_run` uses."""

    def __init__(self, fleet: Fleet, desks: Desks, clock: Clock, wish: Wish, listener: Listener) -> None:
        self._fleet, self._desks, self._clock, self._wish, self._listener = fleet, desks, clock, wish, listener
        self._waiting: dict[Work, deque[_Turn]] = {work: deque() for work in Work}  # the most urgent first
        self._under_way: dict[Future[_Result], _Turn] = {}
        self._deep = dict.fromkeys(fleet.sources, 0.0)  # seconds
        self._done = 0  # sources
        self.ended: list[Ended] = []
        self.through: dict[str, datetime | None] = {}

    def begin(self) -> None:
        """Each source gets its first turn, or the reason why it has none."""
        now = self._clock.now()
        for name, problem in self._fleet.problems.items():
            self._see(name)
            self._give_up(name, Ending.FAILED, ConfigError("; ".join(problem.splitlines())))
        for source in sorted(self._fleet.sources.values(), key=self._haste):
            standing = self._see(source.name)
            until = standing.held_back_until(now) if standing and not self._wish.anyway else None
            if standing and until:
                failed = standing.failures
                why = EtlError(f"left alone until {utc(until)}, since its last {failed} runs failed; --anyway tries it")
                self._give_up(source.name, Ending.HELD_BACK, why)
            else:
                self._wait(_Turn(source, _lane(standing, self._wish.order.full), self._wish.order))

    def carry_on(self, threads: ThreadPoolExecutor) -> None:
        """Until nothing waits and nothing is under way, or the process is to end."""
        try:
            while self._fill(threads):
                ended, _ = wait(self._under_way, _LOOKED_AT_EVERY, FIRST_COMPLETED)
                with shutdown.afterwards():
                    self._settle(ended)
                self._listener.moved(self._done, len(self.through))
                shutdown.check()
        except KeyboardInterrupt:
            shutdown.wish()  # heard by the threads, at a page's end or where they wait
            self._settle(wait(self._under_way).done)

    def _see(self, name: str) -> Standing | None:
        standing = self._fleet.standings.get(name)
        self.through[name] = standing.complete_through if standing else None
        return standing

    def _haste(self, source: Source) -> tuple[int, datetime]:
        """By which sources are sorted: one in trouble may take its whole time limit; else who waited longest."""
        standing = self._fleet.standings.get(source.name)
        return (standing.failures, standing.started_at or _NEVER) if standing else (0, _NEVER)

    def _wait(self, turn: _Turn) -> None:
        self._waiting[turn.work].append(turn)

    def _fill(self, threads: ThreadPoolExecutor) -> bool:
        """As many runs as may be are under way; whether there are any."""
        for waiting in self._waiting.values():
            while waiting and len(self._under_way) < self._wish.at_a_time:
                turn = waiting.popleft()
                self._under_way[threads.submit(self._run, turn)] = turn
        return bool(self._under_way)

    def _run(self, turn: _Turn) -> _Result:
        """In a thread: a run, and how far the source is after it."""
        shutdown.check()
        with self._desks.one() as desk:
            run = desk.run(turn.source, turn.work, self._listener.log(turn.source.name), turn.order)
            return run, desk.standing(turn.source)

    def _settle(self, futures: Iterable[Future[_Result]]) -> None:
        for future in futures:
            turn = self._under_way.pop(future)
            error = future.exception()
            if error is None:
                self._succeeded(turn, *future.result())
            else:
                self._failed(turn, error)

    def _succeeded(self, turn: _Turn, run: Run, standing: Standing | None) -> None:
        name, is_left_open = turn.source.name, run.verdict is Verdict.INCOMPLETE
        ending = Ending.UNFINISHED if is_left_open else Ending.COMPLETE
        self.through[name] = run.complete_through
        self._tell(Ended(name, ending, 4 if run.is_unwell else 0, run=run))
        if turn.work is Work.DEEPEN:
            self._deep[name] += run.seconds
        following = self._following(turn, is_left_open, standing)
        if following is None:
            self._done += 1
        else:
            self._wait(_Turn(turn.source, following, Order()))

    def _following(self, turn: _Turn, is_left_open: bool, standing: Standing | None) -> Work | None:
        """What a source wants after a run: the rest of it, or what comes next of all that a sync does."""
        if is_left_open and turn.work is not Work.DEEPEN:
            return _lane(standing)
        if is_left_open and self._deep[turn.source.name] < DEEP_AT_MOST:
            return Work.DEEPEN
        wanted = due(turn.source, standing, self._clock.now())
        return next((work for work in _AFTER[turn.work] if work in wanted), None)

    def _failed(self, turn: _Turn, error: BaseException) -> None:
        name, found = turn.source.name, result_of(error)
        run = found if isinstance(found, Run) else None
        if isinstance(error, KeyboardInterrupt):
            self._tell(Ended(name, Ending.UNFINISHED, run=run))
            return
        self._give_up(name, Ending.HELD if isinstance(error, Locked) else Ending.FAILED, error, run)

    def _give_up(self, name: str, ending: Ending, error: BaseException, run: Run | None = None) -> None:
        """No more of that source in this call."""
        code = error.exit_code if isinstance(error, EtlError) else 1
        self._done += 1
        self._tell(Ended(name, ending, code, error_report.line(error), run), error)

    def _tell(self, ended: Ended, error: BaseException | None = None) -> None:
        self.ended.append(ended)
        self._listener.ended(ended, error)


def _lane(standing: Standing | None, is_full: bool = False) -> Work:
    """Whether a source waits among those that are to be read whole."""
    return Work.BACKFILL if is_full or standing is None or standing.is_backfilled else Work.SYNC
