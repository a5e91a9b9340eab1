"""The environment of an episode: a world, its service with its habits, a clock that is off, and a mirror in a database.

Everything happens in one process and by one source of chance, so that an episode can be played again.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from threading import RLock
from typing import Any

import httpx
import psycopg

from etl.client.client import Api
from etl.config import settings
from etl.config.settings import Source
from etl.errors import AskForLess, BrokenPromise, EtlError, Locked, Refused, Unreachable
from etl.jobs.refresh import follow
from etl.models import Clock, Progress, Run, Watch
from etl.pipeline.purge_step import ASK_EVERY
from etl.pipeline.reconcile import Wish
from etl.pipeline.sync import purge_now, reconcile_now, sync
from etl.postgres import connection
from etl.testing.chaos import fault_injection, oracle, resume_check
from etl.testing.chaos.fault_injection import Killed, Plan
from etl.testing.chaos.invariants import Laws
from etl.testing.chaos.mutations import LOOK_BACK, Event, mend
from etl.testing.chaos.process_kills import wait_for_the_lock
from etl.testing.chaos.scenarios import Strategy
from etl.testing.chaos.source_profile import UNREADABLE_FORMS, Habits, Tally, draw_refusals
from etl.testing.emulator import ALL_FAULT_KINDS, CREDENTIALS, Emulator, Faults, Job, Snapshot, World, populated
from etl.testing.emulator.property_readers import ALL_DATES

BASE = "https://api.aims360.example"
NAME = "prove"
_OFF = timedelta()
_CHURN_A_RUN = 30
_SWITCH = 0.2  # of the pauses between two requests
_MORE_COMPARISONS = 2  # where the source counts no rows: two must lack a job, which may be due at the first
_OUTAGE = 20  # calls in a row: more often than the client asks
_GONE_HERE = "SELECT job_id FROM aims360.purged_jobs UNION SELECT job_id FROM aims360.jobs WHERE purged_at IS NOT NULL"
_HAS_SYNCED = "SELECT FROM etl.sources WHERE watermark IS NOT NULL"
_ALARMS = "SELECT run_id FROM etl.runs WHERE array_to_string(notes, ' ') LIKE '%went back%'"
_PAGING = "SELECT paging FROM etl.sources"
_RUNS = "SELECT count(*) FROM etl.runs"
_WATERMARK = "SELECT watermark FROM etl.sources WHERE watermark IS NOT NULL"
_WAITING = "SELECT FROM etl.rejects UNION ALL SELECT FROM etl.unread_values WHERE NOT settled LIMIT 1"
_REFUSED = (400, 403, 501)  # statuses
_DAYS, _RUNS_A_DAY = 30, 8  # until each was asked for

_Act = Callable[[connection.Connection, Watch], Run | None]


class Stage:
    """One source and its mirror, which must be empty. `said`: sentences on what is wrong, if anything is."""

    def __init__(self, url: str, strategy: Strategy, habits: Habits, seed: str) -> None:
        self.url, self.strategy, self.habits, self.seed = url, strategy, habits, seed
        self.tally, self.said = Tally(), list[str]()
        self.world = a_world(habits, seed)
        self.emulator = an_emulator(self.world, habits)
        self.source = a_source(habits)
        self.db = connection.connect(url)
        self._laws = Laws()
        self._backups: list[Snapshot] = []
        self._lock = RLock()
        self._churned = 0
        self._unquiet_options = habits.service
        self._is_quiet = True
        self._slept = 0.0  # seconds while all was quiet

    def close(self) -> None:
        """Lets go of the database."""
        self.db.close()

    # -- the source --------------------------------------------------------------------------------------------------

    def happen(self, event: Event, rng: Random) -> None:
        """Something happens at the source."""
        self.tally.events += event.happen(self.world, rng)

    def live(self, span: timedelta) -> None:
        """Time passes, also for the source."""
        with self._lock:
            self.world.advance(span)

    def back_up(self) -> None:
        """The source's database is backed up."""
        self._backups.append(self.world.snapshot())

    def restore(self, rng: Random) -> None:
        """The source goes back to one of its backups, if it has any."""
        if self._backups:
            self.tally.events += 1
            self.live(timedelta(seconds=1))  # no two versions of one tick bear the same rowversion
            self.world.restore(rng.choice(self._backups))

    def unquiet(self, churn: bool = True) -> None:
        """From now on requests fail at the rate of the habits, and the source changes between them."""
        self._is_quiet = False
        ids = [job.job_id for job in self.world.jobs()]
        poisoned = Random(f"{self.seed}/{len(ids)}").sample(ids, min(len(ids), self.habits.poisoned))
        self._unquiet_options = replace(self.habits.service, poisoned=frozenset(poisoned))
        self.emulator.options = self._unquiet_options
        self.emulator.between_pages = self._churn if churn else None

    def outage(self, after: int) -> None:
        """The service will be gone for longer than a run has patience, after so many calls."""
        self.emulator.fail_next(*[""] * after, *["503"] * _OUTAGE)

    def _churn(self, world: World) -> None:
        """What happens between two requests. By a source of chance of its own, whichever thread asks."""
        self._churned += 1
        if self._churned > _CHURN_A_RUN:  # one that outpaces its reader for ever can't be followed
            return
        rng = Random(f"{self.seed}/{self.tally.syncs}/{self._churned}")
        with self._lock:
            if self.habits.changing_pages:
                self.emulator.page_size = rng.choice([3, 7, 20, 50])
            if self.habits.switching and rng.random() < _SWITCH:
                self._switch(rng)
            for _ in range(rng.choice([0, 1, 1, 2])):
                self.happen(rng.choice(self.strategy.events), rng)
            world.advance(timedelta(seconds=rng.choice([0, 1, 20, 100])))

    def _switch(self, rng: Random) -> None:
        """Begin or end refusals, in the middle of whatever is under way."""
        drawn = draw_refusals(rng, self.habits.refuse) if rng.random() < 0.5 else {}
        self.emulator.options = replace(self._unquiet_options, **drawn)

    # -- runs --------------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> Clock:
        """This machine's: off by the habits' skew; sleeping lets the world live."""
        return Clock(
            lambda: self.world.now + self.habits.skew,
            lambda: self.world.now.timestamp() + self._slept,
            self._sleep,
        )

    def _sleep(self, seconds: float) -> None:
        """Let the world live; but not while all is quiet, or it would change under the last run."""
        if self._is_quiet:
            self._slept += seconds
        else:
            self.live(timedelta(seconds=seconds))

    def api(self) -> Api:
        """The client of the source."""
        return Api(self.source, self.clock, httpx.WSGITransport(app=self.emulator))

    def sync(self, plan: Plan | None = None, overlapped: bool = False) -> Run | None:
        """A sync, struck as planned; its result, None if it has none. `overlapped`: a second one tries meanwhile."""

        def act(db: connection.Connection, watch: Watch) -> Run:
            return sync(self.source, self.api, db, self.clock, watch=watch)

        before = resume_check.committed(self.db)
        self.emulator.reset_log()
        run = self._run(act, plan, overlapped)
        if run is not None:
            paging = str(self.db.execute(_PAGING).fetchall()[0][0])
            setattr(self.tally, paging, getattr(self.tally, paging) + 1)
        is_refused = any(request.status in _REFUSED and not request.fault for request in self.emulator.requests)
        if not (self.strategy.restores or is_refused):  # where a scan may be begun anew
            again = resume_check.asked_again(before, self.emulator.requests)
            self.tally.twice += len(again)
            self.said += [f"asked again, after {before}: {text}" for text in again]
        return run

    def purge(self, plan: Plan | None = None) -> Run | None:
        """A purge by itself."""
        return self._run(lambda db, watch: purge_now(self.source, self.api, db, self.clock, watch), plan)

    def reconcile(self, plan: Plan | None = None, force: bool = True) -> Run | None:
        """A comparison of all keys, with repair."""
        wish = Wish(repair=True, force=force)
        return self._run(lambda db, watch: reconcile_now(self.source, self.api, db, self.clock, wish, watch), plan)

    def follow(self, rng: Random, plan: Plan | None = None) -> None:
        """Somebody waited for a job, or ran it again: the mirror follows that one."""
        job = rng.choice(list(self.world.jobs()) or [None])
        if job is None or not self.habits.can_be_asked:
            return

        def act(db: connection.Connection, _watch: Watch) -> None:
            with self.api() as api:
                follow(self.source, api, db, self.clock, job.job_id)

        self._run(act, plan)

    def _run(self, act: _Act, plan: Plan | None, overlapped: bool = False) -> Run | None:
        self.tally.syncs += 1
        self._churned = 0
        faults = Faults() if self._is_quiet else Faults(self.habits.fault_rate, ALL_FAULT_KINDS, self.tally.syncs)
        if not self.emulator.has_faults_waiting:
            self.emulator.set_faults(faults)
        asked = len(self.emulator.requests)
        run, failure = None, ""
        with closing(fault_injection.connect(self.url, plan)) as db:
            try:
                run = act(db, self._intruder() if overlapped else lambda _: None)
            except Killed:
                self.tally.kills += 1
            except (EtlError, psycopg.Error) as error:
                failure = f"{type(error).__name__}: {error}"
                self.tally.kills += db.struck
                # Some ways need a source that holds still for a moment.
                excused = db.struck or (not self._is_quiet and self._may_fail(error))
                failure = "" if excused else failure
        faulty = sum(bool(request.fault) for request in self.emulator.requests[asked:])
        self.tally.faults += faulty
        if failure and not faulty:
            self._say(f"a run failed for no reason: {failure}")
        wait_for_the_lock(self.db)
        self._judge()
        return run

    def _may_fail(self, error: Exception) -> bool:
        """Whether a run may fail: churn can get in the way of some pagings; so can a refusal of what was honoured."""
        if self.habits.switching:
            is_doubtful = isinstance(error, Unreachable) and error.is_doubtful  # words that were another's each time
            return is_doubtful or isinstance(error, Refused | BrokenPromise | AskForLess)
        refuses = self.habits.refuse or self.habits.service.refused
        return bool(refuses) and isinstance(error, BrokenPromise)

    @property
    def has_synced(self) -> bool:
        """Whether a scan of all rows ever came to its end: before that there is nothing to compare."""
        return self.db.execute(_HAS_SYNCED).fetchone() is not None

    def _intruder(self) -> Watch:
        """Watches a run; as soon as there is something to see, another one tries to get in."""
        tried: list[bool] = []

        def watch(_progress: Progress) -> None:
            if not tried:
                tried.append(True)
                self._intrude()

        return watch

    def _intrude(self) -> None:
        before = self.db.execute(_RUNS).fetchall()
        with closing(connection.connect(self.url)) as other:
            try:
                sync(self.source, self.api, other, self.clock)
            except Locked:
                if self.db.execute(_RUNS).fetchall() == before:
                    return
        self._say("a second run was not kept out")

    # -- the check ---------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """The quiet point: late commits land, the source stands still, runs come to their ends; all is compared."""
        self._is_quiet = True
        self.emulator.between_pages = None
        self.emulator.options = self.habits.service
        self.emulator.set_faults(Faults())
        self.live(LOOK_BACK)
        mend(self.world)
        self.live(timedelta(hours=2, minutes=20))
        self.world.add()  # so that the watermark moves, where the source can't be asked about its purge
        self._sync_well()
        if self.habits.deep:  # passes that were under way came to their end; now whole ones
            self.live(timedelta(hours=2, minutes=5))
            self.world.add()
            self._sync_well()
        self._wait_for_rejects()
        if self.strategy.needs_sweep and (not self.habits.deep or self.strategy.loses_jobs):
            self._sweep()
            self._wait_for_rejects()
        self._compare()

    def _wait_for_rejects(self) -> None:
        """Rows and values that were spoilt on their way are asked for again by later runs, until none is left."""
        self.emulator.options = replace(self.habits.service, spoilt=())
        spans = [timedelta(days=1), *[timedelta(minutes=1)] * _RUNS_A_DAY]  # each run asks for a few
        for span in spans * _DAYS:
            if self.db.execute(_WAITING).fetchone() is None:
                return
            self.live(span)
            self.world.add()
            self._sync_well()

    def _sync_well(self) -> None:
        if self.sync() is None:
            self._say("a sync came to nothing, though all was quiet")

    def _sweep(self) -> None:
        self._compare_keys()
        for _ in range(0 if self.habits.is_counted else _MORE_COMPARISONS):
            self.live(2 * LOOK_BACK)
            self.world.add()
            self._sync_well()
            self._compare_keys()

    def _compare_keys(self) -> None:
        run = self.reconcile()
        if run is None:
            self._say("a comparison came to nothing, though all was quiet")
        elif self.strategy.loses_jobs_only and run.counts.missing + run.counts.stale:
            self._say(f"syncs left {run.counts.missing} jobs missing and {run.counts.stale} stale")

    def _compare(self) -> None:
        there = {str(job["jobID"]): self._payload(job) for job in self.world.jobs()}
        if self.habits.service.etag_form != "documented":  # such an etag holds no rowversion
            there = {job_id: {**payload, "@odata.etag": None} for job_id, payload in there.items()}
        earliest, latest = oracle.may_wait(self.world.now, LOOK_BACK)
        found = oracle.compare(self.db, there, (min(earliest, self._find_purged_until(earliest)), latest))
        self.tally.count(found)
        self.said += found.sentences

    def _find_purged_until(self, earliest: datetime) -> datetime:
        """Return until when jobs are purged by the watermark alone: the source is asked about others hourly at most."""
        row = self.db.execute(_WATERMARK).fetchone()
        watermark = row[0] if row is not None else None  # where no sync came to its end
        return max(watermark - LOOK_BACK, earliest - ASK_EVERY) if isinstance(watermark, datetime) else earliest

    def _payload(self, job: Job) -> dict[str, Any]:
        """Return a job with the values that can be read from what is served."""
        payload, no_date = self.world.payload(job), self.habits.service.no_date
        if no_date is not None:
            payload.update((name, no_date) for name in ALL_DATES & payload.keys() if payload[name] is None)
        for drift in self.habits.service.drift:
            if drift.form in UNREADABLE_FORMS:
                drift.alter(payload, job)
        return payload

    def _judge(self) -> None:
        for sentence in self._laws.broken(self.db):
            self._say(sentence)
        if not self.strategy.restores:
            for row in self.db.execute(_ALARMS).fetchall():
                self._say(f"run {row[0]} says that the source went back, and it never did")
            gone = {str(row[0]) for row in self.db.execute(_GONE_HERE).fetchall()}
            for job in self.world.jobs():
                if job.job_id in gone:
                    self._say(f"{job.job_id} was purged here, and the source still shows it")

    def _say(self, sentence: str) -> None:
        self.tally.broken += 1
        self.said.append(sentence)


def a_world(habits: Habits, seed: str) -> World:
    """A world that has been running for a month, livelier than usual."""
    number = Random(seed).randrange(2**32)
    return populated(
        habits.jobs, seed=number, rate=100, generation=habits.generation, late_share=habits.late_share, rerun_share=0.1
    )


def an_emulator(world: World, habits: Habits) -> Emulator:
    """The world's service."""
    return Emulator(
        world,
        page_size=habits.page_size,
        comparison=habits.comparison,
        refuse=habits.refuse,
        reset=httpx.ReadError,
        options=habits.service,
    )


def a_source(habits: Habits, base_url: str = BASE) -> Source:
    """The source as settings would describe it."""
    grant = {f"AIMS360_{name.upper()}": value for name, value in CREDENTIALS.items()}
    source = settings.read({"AIMS360_BASE_URL": base_url, **grant}, Path("/nowhere")).source()
    hours = {"reread_every": timedelta(hours=1), "reconcile_every": timedelta(hours=2)}
    deep = hours if habits.deep else {"reread": _OFF, "reconcile_every": _OFF}
    source = replace(source, name=NAME, concurrency=habits.concurrency, purge=habits.purge, look_back=LOOK_BACK)
    return replace(source, **deep)  # type: ignore[arg-type]  # durations, all of them
