"""The pretend database: jobs that are born, run, run again and are purged, by a clock that is only a value.

It keeps what makes a mirror hard. Every commit gives a row a new rowversion from one counter of the database; times
are ticks of 1/300 s; a change is stamped when it is made and seen when its transaction ends; many rows change on one
tick; a restore takes rows, counter and identity back. The same seed and the same calls give the same world.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

from etl.testing.emulator.job_edits import born, changed, passed, queued
from etl.testing.emulator.job_version import GENERATIONS, Generation, Home, Job
from etl.testing.emulator.sample_data import ACCOUNTS, Account, Stage, course
from etl.testing.emulator.sql_datetime import TICKS_A_DAY, TICKS_A_SECOND, moment_of, tick_of, ticks_in
from etl.testing.emulator.table import RENDERED_AT_MOST, Key, Rows, Table

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
FIRST_ID = 50_001
FIRST_VERSION = 0x80000


class Event(NamedTuple):
    """Something that is going to happen: when (tick), in which order, what, and to which row."""

    tick: int
    order: int
    what: str
    number: int = 0
    life: int = 0
    stages: tuple[Stage, ...] = ()
    base: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A backup of the database: committed rows, counters and what is due. Only for `World.restore`."""

    rows: Rows
    events: list[Event]
    version: int
    number: int


class World:
    """A database of jobs at an instant.

    `rate`: jobs that arrive by themselves per simulated day. `rerun_share`, `late_share`: the part of finished jobs
    that someone runs again, and of life's changes that commit up to `late_by` after they are stamped. `accounts`: whose
    the jobs are. `rendered_at_most`: rows kept as JSON. An `Emulator` sets `moves_purge`: whether reruns put it off.
    """

    def __init__(
        self,
        seed: int = 0,
        now: datetime = START,
        generation: Generation = "2019-06",
        *,
        rate: float = 0.0,
        purge_days: int = 30,
        rerun_share: float = 0.03,
        late_share: float = 0.0,
        late_by: timedelta = timedelta(seconds=30),
        links: str = "https://api.aims360.rest",
        accounts: Sequence[Account] = ACCOUNTS,
        rendered_at_most: int = RENDERED_AT_MOST,
    ) -> None:
        self.home = Home(links, generation, purge_days, accounts)
        self.table = Table(GENERATIONS[generation], rendered_at_most)
        self.rng = Random(seed)
        self.rate, self.rerun_share = rate, rerun_share
        self.late_share, self.late_by = late_share, late_by
        self.moves_purge = True
        self.version = FIRST_VERSION
        self.number = FIRST_ID - 1
        self._now, self._tick = now.astimezone(UTC), tick_of(now)
        self._late: dict[int, tuple[Job, int]] = {}
        self._events: list[Event] = []
        self._order = 0
        self._expect_arrival()

    @classmethod
    def serving(cls, rows: Iterable[Mapping[str, Any]], *, now: datetime = START) -> "World":
        """A world whose rows are these, shown verbatim; only properties that they show can be asked for."""
        world = cls(now=now)
        world.table = Table(())
        for row in rows:
            bare = changed(world._stamped(world._born()), row)
            world._commit([bare.but(raw=dict(row), verbatim=True)])
        return world

    # -- the clock ---------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The instant this is, in UTC."""
        return self._now

    @property
    def tick(self) -> int:
        """The instant as the database writes it."""
        return self._tick

    def advance(self, span: timedelta) -> None:
        """Live for a while."""
        self.live_until(self._now + span)

    def live_until(self, moment: datetime) -> None:
        """Live up to and including a moment; one that has passed already changes nothing."""
        if moment <= self._now:
            return
        end = tick_of(moment)
        while self._events and self._events[0].tick <= end:
            event = heapq.heappop(self._events)
            # after a restore life has catching up to do: what is overdue happens now
            self._tick = max(self._tick, event.tick)
            self._now = max(self._now, moment_of(self._tick))
            self._happen(event)
        self._now, self._tick = moment.astimezone(UTC), end

    # -- reading -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.table.rows)

    def jobs(self) -> Iterator[Job]:
        """The committed rows, by ID."""
        return self.table.jobs()

    def get(self, job: Key) -> Job | None:
        """The committed version of a row, or None if there is none."""
        return self.table.get(job)

    def payload(self, job: Key) -> dict[str, Any]:
        """The committed version of a row as served. KeyError if there is none."""
        return self._row(job).payload()

    @property
    def links(self) -> str:
        """Scheme and host of the links inside rows."""
        return self.home.links

    @links.setter
    def links(self, base: str) -> None:
        self.home.links = base
        self.table.forget_rendered()

    # -- changing, by hand -------------------------------------------------------------------------------------------

    def add(self, *, overrides: Mapping[str, Any] | None = None, **fields: Any) -> Job:
        """Insert a job, by source names; a completed one, of some kind, if nothing else is said.

        Dates may be datetimes (rounded to a tick), timestamps in text (shown as written) or None. A value whose type
        doesn't fit, `ABSENT`, an unknown property and all other columns are shown verbatim. `overrides` is for names
        that aren't identifiers. The job has no life of its own but its purge.
        """
        return self.ties(1, overrides=overrides, **fields)[0]

    def ties(self, count: int, *, overrides: Mapping[str, Any] | None = None, **fields: Any) -> list[Job]:
        """Insert many jobs alike on one tick: a tie of any size."""
        given = {**fields, **(overrides or {})}
        jobs = [self._stamped(changed(self._born(), given)) for _ in range(count)]
        self._commit(jobs)
        return jobs

    def arrive(self) -> Job:
        """Queue a job that then lives: it runs, ends, is run again perhaps, and is purged."""
        return self._queue(self._born())

    def change(self, job: Key, *, touch: bool = True, overrides: Mapping[str, Any] | None = None, **fields: Any) -> Job:
        """Change and commit: a new rowversion, and `modifiedDate` is now unless given or `touch` is False.

        Setting `jobStatus` ends the job's own life. ValueError while a late change holds the row.
        """
        return self.change_many([job], touch=touch, overrides=overrides, **fields)[0]

    def change_many(
        self, jobs: Iterable[Key], *, touch: bool = True, overrides: Mapping[str, Any] | None = None, **fields: Any
    ) -> list[Job]:
        """Change many rows in one transaction, all on one tick."""
        given = {**fields, **(overrides or {})}
        new = [self._changed(self._unlocked(job), given, touch) for job in jobs]
        self._commit(new)
        return new

    def late(
        self, job: Key | None, delay: timedelta, *, overrides: Mapping[str, Any] | None = None, **fields: Any
    ) -> Job:
        """Change a row (or insert one: None) in a transaction that takes `delay` to commit.

        The version is stamped now, modifiedDate and rowversion, and is seen when the clock gets there; what others
        commit meanwhile is seen before. Until then the row is locked: ValueError for any other change by hand, and
        its own life waits.
        """
        given = {**fields, **(overrides or {})}
        if job is None:
            return self._hold(self._stamped(changed(self._born(), given)), delay)
        return self._hold(self._changed(self._unlocked(job), given, True), delay)

    def rerun(self, job: Key) -> Job:
        """Back to Queued: outputs replaced, one more attempt, purge put off (`moves_purge`); then it lives again."""
        return self._queue(self._unlocked(job))

    def extend(self, job: Key, days: float) -> Job:
        """Put the purge off, which is a change like any other. ValueError for a job without a purge date."""
        row = self._row(job)
        if row.purge is None:
            raise ValueError(f"job {row.job_id} has no purge date")
        return self.change(row, purgeDateTime=moment_of(row.purge) + timedelta(days=days))

    def delete(self, job: Key) -> None:
        """Remove a row, as the purge does, but before its time. ValueError while it is locked."""
        self.table.remove(self._unlocked(job))

    def is_locked(self, job: Key) -> bool:
        """Whether a transaction that hasn't committed holds the row. KeyError if there is none."""
        return self._row(job).number in self._late

    def stop_life(self) -> None:
        """From now on nothing happens by itself but what is queued or changed later: a database whose jobs hang."""
        self._events.clear()

    # -- backup ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """A backup of the database as it is; transactions under way are not in it."""
        return Snapshot(self.table.copy(), self._events[:], self.version, self.number)

    def restore(self, backup: Snapshot) -> None:
        """Go back to a backup, rowversion counter and identity too. The clock goes on; new jobs get new GUIDs."""
        self.table.replace(backup.rows)
        self._events = backup.events[:]
        self._late.clear()
        self.version, self.number = backup.version, backup.number

    # -- transactions ------------------------------------------------------------------------------------------------

    def next_version(self) -> int:
        """The next rowversion of the database; never given twice, but for a restore."""
        self.version += 1
        return self.version

    def _row(self, job: Key) -> Job:
        row = self.get(job)
        if row is None:
            raise KeyError(f"no such job: {job.job_id if isinstance(job, Job) else job}")
        return row

    def _unlocked(self, job: Key) -> Job:
        row = self._row(job)
        if row.number in self._late:
            raise ValueError(f"job {row.job_id} is locked by a transaction that hasn't committed")
        return row

    def _born(self) -> Job:
        self.number += 1
        return born(self.home, self.rng, self.number, self._tick)

    def _stamped(self, job: Job) -> Job:
        return job if job.version else job.but(version=self.next_version())

    def _changed(self, job: Job, given: Mapping[str, Any], touch: bool) -> Job:
        system: dict[str, Any] = {"rowversion": self.next_version()}
        if touch:
            system["modifiedDate"] = moment_of(self._tick)
        new = changed(job, {**system, **given})
        return new.but(life=0) if "jobStatus" in given else new

    def _commit(self, jobs: list[Job]) -> None:
        for job in jobs:
            old = self.table.rows.get(job.number)
            if job.purge is not None and (old is None or old.purge != job.purge):
                self.expect(job.purge, "purge", job.number)
        self.table.put(jobs)

    def _hold(self, job: Job, delay: timedelta) -> Job:
        seen = self._tick + ticks_in(delay)
        self._late[job.number] = (job, seen)
        self.expect(seen, "commit", job.number)
        return job

    def settle(self, jobs: list[Job]) -> None:
        """Commit rows that were made elsewhere, versions and all."""
        self._commit(jobs)

    # -- life --------------------------------------------------------------------------------------------------------

    def expect(
        self, tick: int, what: str, number: int = 0, life: int = 0, stages: tuple[Stage, ...] = (), base: int = 0
    ) -> None:
        """Note something that is going to happen."""
        self._order += 1
        heapq.heappush(self._events, Event(tick, self._order, what, number, life, stages, base))

    def _expect_arrival(self) -> None:
        if self.rate > 0:
            wait = self.rng.expovariate(self.rate / TICKS_A_DAY)
            self.expect(self._tick + max(1, round(wait)), "arrival")

    def _queue(self, job: Job) -> Job:
        self._order += 1
        new = queued(job, self._tick, self._order, self.next_version(), moves_purge=self.moves_purge)
        self._commit([new])
        stages = course(new.kind, self.rng)
        self.expect(self._tick + stages[0].after, "stage", new.number, new.life, stages, self._tick)
        return new

    def _happen(self, event: Event) -> None:
        if event.what == "arrival":
            self.arrive()
            self._expect_arrival()
        elif event.what == "commit":
            if event.number in self._late:
                self._commit([self._late.pop(event.number)[0]])
        elif event.number in self._late:
            # the row is locked: whatever comes next waits for the commit, which stands before it in the queue
            self.expect(self._late[event.number][1], *event[2:])
        elif job := self.table.rows.get(event.number):
            self._go_on(job, event)

    def _go_on(self, job: Job, event: Event) -> None:
        if event.what == "purge":
            if job.purge is not None and job.purge <= self._tick:
                self.table.remove(job)
        elif job.life != event.life:
            return  # run again or changed by hand since: this course is no longer its own
        elif event.what == "rerun":
            self._queue(job)
        else:
            self._pass(job, event)

    def _pass(self, job: Job, event: Event) -> None:
        stage, *rest = event.stages
        new = passed(job, stage, self._tick, self.next_version())
        if self.rng.random() < self.late_share:
            self._hold(new, self.late_by * self.rng.random())
        else:
            self._commit([new])
        if rest:
            tick = max(self._tick + 1, event.base + rest[0].after)
            self.expect(tick, "stage", job.number, job.life, tuple(rest), event.base)
        elif job.kind.can_rerun == "Yes" and self.rng.random() < self.rerun_share:
            wait = round(self.rng.expovariate(1 / (6 * 3600 * TICKS_A_SECOND)))
            self.expect(self._tick + 1 + wait, "rerun", job.number, job.life)
