"""A run in the making: its lock, its row in the ledger, and what moves together with a page and at a scan's end.

Rows and the cursor that covers them are saved in one transaction, so that a kill at any instruction costs what was in
flight and no more.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
from msgspec.structs import replace

from etl import error_report, shutdown
from etl.client import odata, payload
from etl.config.settings import Source
from etl.errors import (
    BrokenPromise,
    CredentialsRefused,
    EtlError,
    OptionIgnored,
    PagingRefused,
    SourceError,
    in_run,
)
from etl.extract import restore_detection, strategy
from etl.extract.keyset_scan import passed, settle
from etl.extract.probe import Probe
from etl.load import purge, unread_values
from etl.load.merge_policy import Rules
from etl.load.upsert import load
from etl.models import (
    BY_TIME,
    CLOCK_TOLERANCE,
    FLATTEN_VERSION,
    SYNC,
    TICK_PLAY,
    Batch,
    Clock,
    Counts,
    Page,
    Paging,
    Run,
    Scan,
    ScanKind,
    Span,
    Support,
    Usage,
    Verdict,
    Window,
)
from etl.pipeline.paging import PagingChoice, is_cheaper
from etl.postgres import daily_aggregates, locks
from etl.postgres.connection import Connection, said
from etl.state import ask_schedule, circuit_breaker, rejects, run_log, scan_checkpoints, sign_in, source_state
from etl.state.ask_schedule import Waiting
from etl.state.source_state import State
from etl.text import most_frequent, rows_that, utc

if TYPE_CHECKING:
    from etl.client.capabilities import Capabilities
    from etl.client.client import Api

PURGE = "purge"  # the kind of a run that only purges
JOB = "job"  # the kind of a run that only brings one job up to date
_WITHOUT_A_WINDOW = (PURGE, JOB)
_DEEP = (PURGE, ScanKind.REREAD, ScanKind.RECONCILE)  # what keeps no source fresh, and is no reason to keep none so
OLDER_RELEASE = (
    "rows were last written by a release that read less of them; the next weekly comparison writes them anew, "
    "`aims360-etl sync --full --rewrite` does it now"
)
# Of a mirror without statistics, or read into while it was empty, Postgres keeps plans that read whole tables: for each
# row, even, to check a foreign key. What a run asks it asks by key. And rows, cursor and ledger are in Postgres' log in
# the order of their commits: what a crash of the server takes away is the end of a run, and the next one goes on before
# it. So no commit waits for the disk but the last, by which all before it are there.
_AS_A_WRITER = "SET enable_seqscan = off; SET synchronous_commit = off"
_AS_BEFORE = "RESET enable_seqscan; RESET synchronous_commit"
_SAVE_EVERY_PAGE_AFTER = 20  # a short quiet scan is cheaper read again than saved
_FOR_PAGES = 0.75  # of the time that a run may take; the rest is for what was asked last
_NEVER, _A_DAY = timedelta(), timedelta(days=1)
_ADDRESS_IS_KNOWN = timedelta(days=30)
_NAMED = 5  # rejects that a note names
_MANY = 20  # rows of a run that can't be read: if that is more than half of them, their form has changed
_PLAY = timedelta(minutes=1)  # of two clocks, and of the way of an answer: no sign that one is off


class Recorder:
    """A run in the making: what it has done so far, what is known of its source, and its row in the ledger."""

    def __init__(self, db: Connection, source: Source, state: State, run_id: int, kind: str, clock: Clock) -> None:
        self.db = db
        self.source = source
        self.source_id = state.source_id
        self.state = state
        self.run_id = run_id
        self.kind = kind
        self.counts = Counts()
        self.pages = 0
        self.notes: list[str] = []
        self.checks: list[str] = []
        self.strategy: str | None = None
        self.window: Window | None = None
        self.verdict = None if kind in _WITHOUT_A_WINDOW else Verdict.INCOMPLETE
        self.is_sure = True  # of what a comparison found
        self._wrote = False  # since the cursors moved
        self.has_rejects = True  # as far as is known
        self.waiting = Waiting(rejects=True, unread=True, marks=True)  # until it is looked at
        self.new_rejects = 0
        self._unread: Counter[tuple[str, str]] = Counter()  # values that could not be read, by property and form
        self._paging: PagingChoice | None = None
        self._clock = clock
        self._began, self._began_at = clock.monotonic(), clock.now()
        self._before_scan = (0, 0)  # rows that could not be read, and that could, before the scan began anew
        self._until = math.inf
        self._lag = _NEVER  # of the source's clock behind ours, where it is off
        self._usage: Callable[[], Usage] = Usage
        self._phases: dict[str, float] = {}

    @contextmanager
    def using(self, service: AbstractContextManager[Api], within: timedelta | None = None) -> Iterator[Api]:
        """The client of the run, whose requests from here on are the run's; `within` so long the run is to end.

        At a page, if there are some, well before the client stops waiting for answers.
        """
        with service as api:
            seconds = math.inf if within is None else within.total_seconds()
            self._until = self._began + _FOR_PAGES * seconds
            api.begin_anew(self._began + seconds - self.monotonic(), is_known=self._knows_the_address())
            api.capabilities.begin(self.state.capabilities)
            self._paging = PagingChoice(api.capabilities, self._began_at)
            before = api.usage
            self._usage = lambda: api.usage.since(before)
            yield api

    def _knows_the_address(self) -> bool:
        """Whether the address was read from in the last 30 days."""
        last = self.state.complete_through
        return (
            last is not None
            and self.state.base_url == self.source.base_url
            and self._clock.now() - last < _ADDRESS_IS_KNOWN
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction of the run: what is noted in one that fails is forgotten with it."""
        before = self.counts, self.pages, self.state, self.verdict, self.notes[:], self.new_rejects, self._unread.copy()
        with shutdown.afterwards():
            try:
                with self.db.transaction():
                    yield
            except BaseException:
                self.counts, self.pages, self.state, self.verdict, self.notes, self.new_rejects, self._unread = before
                raise

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A part of the run whose seconds are told."""
        began = self._clock.monotonic()
        try:
            yield
        finally:
            self._phases[name] = round(self._phases.get(name, 0.0) + self._clock.monotonic() - began, 3)

    def monotonic(self) -> float:
        """Seconds, for what has only so much time."""
        return self._clock.monotonic()

    def until(self, at_most: float) -> float:
        """When, in seconds of `monotonic`, what may take so many seconds more is over, or the run itself."""
        return min(self._until, self.monotonic() + at_most)

    def is_over(self, until: float = math.inf) -> bool:
        """Whether the time is over, of the run or until then: it ends where it is, and the next goes on."""
        return self.monotonic() > min(until, self._until)

    def recognise(self, found: Probe, same_source: bool) -> Probe:
        """Stops before the mirror is touched where the source shows another account's jobs. Raises ConfigError."""
        self.paging.probe = found
        if found.row is not None and not same_source:
            source_state.judge_client(self.state, self.source, found.row.clientID)
        self.state = source_state.follow_settings(self.db, self.state, self.source)
        lag = self._clock.now() - found.as_of
        self._lag = lag if lag > _PLAY else _NEVER
        due, soon = (
            self.state.reconcile_due_at,
            odata.plus(self.by_our_clock(found.as_of), max(self.source.look_back, _A_DAY)),
        )
        if self.source.reconcile_every == _NEVER and due is not None and due > soon:  # what a restore wants is sooner
            self.state = source_state.reconcile_is_due(self.db, self.state, None)
        return found

    def by_our_clock(self, moment: datetime) -> datetime:
        """A moment by the source's clock as this machine has it: by that, what is due is told."""
        return odata.plus(moment, self._lag)

    def begin(self, scan: Scan) -> None:
        """A scan is begun or gone on with. The run has the kind of its first, and the window of its last."""
        self.paging.begin()
        self.kind = self.kind if self.window else scan.kind
        self.window = scan.window
        self.verdict = Verdict.INCOMPLETE

    def goes_deep(self, scan: Scan) -> None:
        """A deep pass; where it is all that the run does, the run is of its kind."""
        if self.window is None:
            self.begin(scan)

    def open(self, scan: Scan, trusting: bool = False) -> Scan:
        """Return a scan that this run opens, to be read in the cheapest way that the service supports."""
        return self.paging.open(replace(scan, opened_by=self.run_id, trusting=trusting))

    def find_unserved(self, scan: Scan) -> list[Span]:
        """Return where records lie that the service couldn't serve: `ask_again` asks for them, and no scan."""
        return rejects.find_unserved(self.db, self.source_id, scan.key) if self.has_rejects else []

    def count_stepped_over(self, scan: Scan) -> int:
        """Return how many of them a scan stepped over, since they were known before it was opened."""
        return len(rejects.find_unserved(self.db, self.source_id, scan.key, scan.opened_by)) if self.has_rejects else 0

    def rules(self, scan: Scan, page: Page) -> Rules:
        """How the rows of a page of this scan are judged; `scan` as it stood before the page."""
        trusts = scan.kind in (ScanKind.FULL, ScanKind.RECONCILE)
        trust_before = odata.plus(scan.window.as_of, -self.source.look_back) if trusts else None
        brings_again = (page.repeated or page.opaque) and scan.has_key
        return Rules(
            look_back=self.source.look_back,
            seen_at=page.answered_at,
            not_seen_before=self.state.complete_through,
            trust_before=odata.LAST if scan.trusting else trust_before,
            repeated_up_to=(scan.key, scan.cursors[page.cursor.part].after) if brings_again else None,
            rewrite=scan.rewrite,
            beyond=self.begins_next if scan.lane != SYNC else None,
            has_marks=self.waiting.marks,
            has_unread=self.waiting.unread,
        )

    @property
    def begins_next(self) -> datetime | None:
        """Where the window of the next increment begins: what was modified before is beyond it."""
        watermark = self.state.watermark
        return None if watermark is None else odata.plus(watermark, -(self.source.look_back + TICK_PLAY))

    def learn(self, scan: Scan, page: Page, batch: Batch) -> None:
        """In the transaction of a page, before it is loaded: what its rows tell beside themselves."""
        self._remember(batch)
        highest, at = self.state.highest, page.answered_at
        if not scan.trusting and not self.state.went_back:
            told = restore_detection.tell(self.db, self.source_id, highest, batch.jobs, at, self.source.look_back)
            self.state = source_state.remember_went_back(self.db, self.state, told)
        if scan.trusting or not self.state.went_back:
            self.state = source_state.raise_highest(
                self.db, self.state, restore_detection.raised(highest, batch.jobs, at)
            )

    def look_for_a_restore(self, api: Api, found: Probe) -> str | None:
        """What tells that the source was restored: a row that was read before, or jobs that are newer here than there.

        The same newest row is doubted once.
        """
        watermark = self.state.watermark
        if watermark is not None and self.is_watermark_wrong(found.as_of):
            return f"the watermark, {utc(watermark)}, lies in the future: a clock was wrong once"
        return self._doubt(api, found.newest)

    def look_for_a_restore_in(self, api: Api, scan: Scan) -> None:
        """Look for the same at the end of a scan that found the newest row itself, where it could not be asked for."""
        if scan.window.upper is None and scan.kind is ScanKind.INCREMENTAL and not self.state.went_back:
            watermark = self.state.watermark
            if scan.latest is not None:
                told = self._doubt(api, scan.latest)
            else:  # nothing of the look-back is there any more: perhaps it was purged
                told = restore_detection.served_older(api, self.db, self.source_id, odata.FIRST, watermark)
            self.state = source_state.remember_went_back(self.db, self.state, told)

    def _doubt(self, api: Api, newest: datetime | None) -> str | None:
        watermark = self.state.watermark
        is_behind = newest is not None and watermark is not None and newest < watermark
        if self.state.went_back or (is_behind and newest == self.state.doubted):
            return self.state.went_back
        told = restore_detection.served_older(api, self.db, self.source_id, newest, watermark)
        self.state = source_state.remember_doubt(self.db, self.state, newest if is_behind and not told else None)
        return told

    def is_watermark_wrong(self, as_of: datetime) -> bool:
        """Whether the watermark lies so far in the future that a window which begins a look-back before it is empty."""
        watermark = self.state.watermark
        return watermark is not None and watermark > odata.plus(as_of, min(CLOCK_TOLERANCE, self.source.look_back))

    def went_back(self, told: str) -> None:
        """The source was restored: said, and remembered until it is followed. What was highest there counts no more."""
        self.notes.append(
            f"the source went back to an earlier state: {told}. All its rows are read again, its word counts, and jobs "
            "that it has no more are looked for"
        )
        with self.transaction():
            self.state = source_state.remember_went_back(self.db, self.state, told)
            self.state = source_state.raise_highest(self.db, self.state, {})
            self._write()

    def loaded(self, page: Page, batch: Batch, counts: Counts, pages: int = 1, *, is_trusted: bool = False) -> None:
        """In the transaction that loaded a page, or several as one: counts what happened, keeps their rejects.

        `is_trusted`: the source's word counted, also for older versions.
        """
        self.pages += pages
        self.counts += counts + Counts(duplicates=page.repeated)
        if self.has_rejects:
            rejects.drop_read(self.db, self.source_id, batch.jobs, is_trusted=is_trusted)
        self.new_rejects += rejects.keep(
            self.db, self.source_id, self.run_id, batch.rejects, page.answered_at, renew=is_trusted
        )
        self.has_rejects = self.has_rejects or bool(batch.rejects)
        if unread := [value for job in batch.jobs for value in job.unread]:
            self._unread.update(unread)
            self.waiting = self.waiting._replace(marks=True)
        self._wrote = self._wrote or bool(counts.written or batch.rejects)

    def moved(self, scan: Scan) -> None:
        """In the same transaction, after its last page: the cursors move, where that is worth a write."""
        if self._wrote or scan.kind is not ScanKind.INCREMENTAL or self.pages > _SAVE_EVERY_PAGE_AFTER:
            self.save(scan)
        self._wrote = False

    def save(self, scan: Scan) -> None:
        """Where the scan stands, in the transaction that loaded its page."""
        scan_checkpoints.save(self.db, self.source_id, self.run_id, scan)
        self._write()

    def leaves_open(self, scan: Scan) -> None:
        """The run's time is over before the scan's end: where it stands is kept, however little was written."""
        with self.transaction():
            self.save(scan)

    def complete(self, scan: Scan) -> None:
        """The scan came to its end: watermark, complete_through and result move in the transaction that closes it."""
        if scan.kind is ScanKind.FULL and self.counts.refused:
            self.notes.append(
                f"{self.counts.refused} rows changed here within the look-back are newer than the source's; "
                "if the source was restored, run `aims360-etl sync --full` again after a look-back"
            )
        is_first = self.state.complete_through is None
        self._check_form(scan)
        scan = settle(scan)
        self.window = scan.window
        with self.transaction():
            self.verdict = self._judge()
            self.state = source_state.advance(self.db, self.state, scan)
            if is_first:
                daily_aggregates.count_all(self.db, self.source_id)
            self._goes_by(scan)
            if scan.window.lower is None:
                self._read_all(scan)
            scan_checkpoints.close(self.db, self.source_id)
            self._write()
        if self.state.flatten_version < FLATTEN_VERSION and OLDER_RELEASE not in self.notes:
            self.notes.append(OLDER_RELEASE)

    def _judge(self) -> Verdict:
        """Return what a run can promise at its end: rows that can't be read are missing as long as they wait."""
        self.has_rejects = self.has_rejects and rejects.any_wait(self.db, self.source_id)
        return Verdict.COMPLETE_WITH_REJECTS if self.has_rejects else Verdict.COMPLETE

    def _check_form(self, scan: Scan) -> None:
        """Raise BrokenPromise where most rows of the run can't be read: the watermark stays, the scan begins anew."""
        rejected, read = _count_rows(self.counts)
        rejected, read = rejected - self._before_scan[0], read - self._before_scan[1]
        if rejected <= max(_MANY, read):
            return
        scan_checkpoints.close(self.db, self.source_id, scan.lane)
        raise BrokenPromise(
            f"{rejected} of {rejected + read} rows can't be read: the form of the source's rows has "
            "changed. The watermark stays where it was, and the rows wait in etl.rejects with the reasons; "
            "`aims360-etl doctor` shows them, and a newer release may read them"
        )

    def _read_all(self, scan: Scan) -> None:
        """What a scan of all rows did of the deep passes' work; after a restore the ghosts are to be found."""
        self._drop_unmet(scan)
        self.verdict = self._judge()
        as_of = self.by_our_clock(scan.window.as_of)
        self.state = source_state.reread_is_due(self.db, self.state, odata.plus(as_of, self.source.reread_every))
        if scan.trusting:
            self.state = source_state.remember_went_back(self.db, self.state, None)
            self.state = source_state.reconcile_is_due(self.db, self.state, as_of)
            for lane in (ScanKind.REREAD, ScanKind.RECONCILE):  # begun in another state of the source
                scan_checkpoints.close(self.db, self.source_id, lane)
        elif self.state.reconcile_due_at is None and self.source.reconcile_every > _NEVER:
            due = odata.plus(as_of, self.source.reconcile_every)
            self.state = source_state.reconcile_is_due(self.db, self.state, due)

    def _drop_unmet(self, scan: Scan) -> None:
        """Forget what a scan of all keys would have met again."""
        if self.has_rejects:
            is_whole = not scan.select
            unmet = rejects.drop_unmet(self.db, self.source_id, scan.opened_by, is_whole=is_whole)
            self.note_forgotten(unmet, "a scan of all rows didn't show them any more")

    def reread(self, scan: Scan) -> None:
        """The last days were read once more."""
        with self.transaction():
            due = odata.plus(self.by_our_clock(scan.window.as_of), self.source.reread_every)
            self.state = source_state.reread_is_due(self.db, self.state, due)
            self._goes_by(scan)
            self._judge_rejects()
            scan_checkpoints.close(self.db, self.source_id, scan.lane)
            self._write()

    def deepened(self, is_done: bool) -> None:
        """A run of nothing but deep passes: all that were due came to their end, or not yet."""
        if is_done and self.is_sure:
            self.verdict = self._judge()

    def _judge_rejects(self) -> None:
        """Rows that a deep pass can't read are no less rejects."""
        if self.verdict is Verdict.COMPLETE:
            self.verdict = self._judge()

    def compared(self, counts: Counts, is_new: bool) -> None:
        """In its transaction: a page of keys was compared, one that wasn't loaded (and counted) if it `is_new`."""
        self.pages += is_new
        self.counts += counts

    def reconciled(self, scan: Scan, repairs: bool, again_after: timedelta | None) -> None:
        """In its transaction: all keys were compared. One that only tells doesn't count as the weekly one.

        `again_after`: where something was left open, sooner than the next one would be due.
        """
        self._goes_by(scan)
        if repairs:
            self._drop_unmet(scan)
        if self.kind == ScanKind.RECONCILE and self.is_sure:
            self.verdict = Verdict.COMPLETE
        self._judge_rejects()
        if self.verdict is Verdict.COMPLETE_WITH_REJECTS and self.kind == ScanKind.RECONCILE:
            waiting = rejects.count(self.db, self.source_id)
            said = "that can't be read could not be compared; they wait in etl.rejects"
            self.notes.append(rows_that(waiting, said))
        if not repairs:
            return
        every = self.source.reconcile_every
        waits = [wait for wait in (every, again_after) if wait]
        due = odata.plus(self.by_our_clock(scan.window.as_of), min(waits)) if waits else None
        self.state = source_state.reconcile_is_due(self.db, self.state, due)
        if scan.rewrite:
            self.state = source_state.written_anew(self.db, self.state, scan)
        scan_checkpoints.close(self.db, self.source_id, scan.lane)
        self._write()

    def asked_again(self) -> None:
        """In its transaction: rows that could not be read were asked for again, and fewer may wait now."""
        self.has_rejects = True
        if self.verdict in (Verdict.COMPLETE, Verdict.COMPLETE_WITH_REJECTS):
            self.verdict = self._judge()
        self._write()

    def found(self, counts: Counts) -> None:
        """In their transaction: what a comparison found and set right."""
        self.counts += counts
        self._write()

    def change_paging(self, api: Api, scan: Scan, error: PagingRefused | OptionIgnored) -> Scan:
        """Return the scan from its beginning in the next way that works, since the service refuses this one."""
        changed, note = self.paging.change(api, scan, error)
        if note:
            self._before_scan = _count_rows(self.counts)
            self.notes.append(note)
        return changed

    @property
    def paging(self) -> PagingChoice:
        """How the run's scans ask for their pages."""
        assert self._paging is not None, "the client was not opened yet"
        return self._paging

    @property
    def capabilities(self) -> Capabilities:
        """What the service is known to support."""
        return self.paging.capabilities

    def _goes_by(self, scan: Scan) -> None:
        """What the scan went by, and the checks that its answers passed."""
        self.strategy = scan.key
        self.checks = sorted({*self.checks, *passed(scan)})
        if scan.lane != SYNC:  # which may go by another paging
            return
        if scan.kind is not ScanKind.FULL and is_cheaper(scan.paging, self.state.paging):
            self.notes.append(f"the source is read {strategy.describe(scan)} again")
        way = self.paging.find_next(scan)
        name = {Paging.TIME: "time", Paging.SKIP: "skip"}.get(way.paging, "key")
        window_by = BY_TIME if way.has_window else "none"
        self.state = source_state.remember_paging(self.db, self.state, name, way.paging, window_by)

    def retry_rejects(self, as_of: datetime, key: str = "ID") -> None:
        """Loads the rejects that this program can read, where an older one could not; counts down for the others."""
        self.waiting = ask_schedule.find_waiting(self.db, self.source_id)
        self.has_rejects = self.waiting.rejects
        if not (self.waiting.rejects or self.waiting.unread):
            return
        rules = Rules(
            self.source.look_back,
            as_of,
            self.state.complete_through,
            has_marks=self.waiting.marks,
            has_unread=self.waiting.unread,
        )
        with self.transaction():
            ask_schedule.count_down(self.db, self.source_id, self.waiting)
            # As it was last time: a refusal that is a day old is tried again later in the run. The plain path may have
            # no answer for a job that is gone.
            way = self.capabilities.find("job_filter")
            can_ask = way.at is None or way.support is Support.YES
            gone = rejects.expire(self.db, self.source_id, as_of, can_ask=can_ask, key=key)
            self.note_forgotten(gone, "their purge date has passed, or 30 days")
            for key, batch in rejects.readable(self.db, self.source_id):
                self.counts += load(self.db, self.source_id, batch, rules)
                self._remember(batch)
                rejects.drop(self.db, self.source_id, [key])
                self._write()

    def note_forgotten(self, names: Sequence[str], why: str) -> None:
        """Say which rejects were forgotten without having been read."""
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            listed = (name if odata.comparable(name) else payload.harmless(name) for name in names[:_NAMED])
            self.notes.append(
                rows_that(len(names), f"that could not be read: forgotten, since {why}: {', '.join(listed)}{more}")
            )

    def follow_purge_mode(self, as_of: datetime) -> None:
        """Where AIMS360_PURGE has become stricter, what was kept until now is due again, and ghosts go at once."""
        mode, before = self.source.purge, self.state.purge_mode
        if mode == before:
            return
        with self.transaction():
            if purge.is_stricter(mode, before):
                ghosts = purge.kept_ghosts(self.db, self.source_id)
                purge.remove(self.db, self.source_id, mode, ghosts, as_of, "missing_at_source")
                purge.reconsider(self.db, self.source_id)
            self.state = source_state.remember_purge_mode(self.db, self.state, mode)

    def purged(self, jobs: int) -> None:
        """In the transaction that purged them: so many jobs went."""
        self.counts += Counts(purged=jobs)
        self._write()

    def asked_about_purge(self, as_of: datetime) -> None:
        """The source was asked about jobs past their purge date."""
        self.state = source_state.asked_about_purge(self.db, self.state, self.by_our_clock(as_of))

    def finish(self, outcome: str, error: str | None = None, request_id: str | None = None) -> None:
        """The run's last word in the ledger."""
        self._note_unread()
        self._write(outcome, error, self._clock.now(), request_id)

    def _note_unread(self) -> None:
        """Say which values could not be read, unless that is how the source writes them."""
        waiting = unread_values.find_waiting(self.db, self.source_id, self._unread) if self._unread else set()
        if new := Counter(
            {f"{name}: {form}": n for (name, form), n in self._unread.items() if (name, form) in waiting}
        ):
            self.notes.append(
                f"values that could not be read: {most_frequent(new)}; the source is asked for them again, and "
                "etl.unread_values lists their jobs"
            )

    def result(self) -> Run:
        """The run as a value."""
        usage = self._usage()
        return Run(
            run_id=self.run_id,
            source=self.source.name,
            kind=self.kind,
            verdict=self.verdict,
            pages=self.pages,
            requests=usage.requests,
            seconds=round(self._clock.monotonic() - self._began, 3),
            counts=self.counts,
            watermark=self.state.watermark,
            complete_through=self.state.complete_through,
            strategy=self.strategy,
            checks=tuple(self.checks),
            notes=tuple(self.notes),
            retries=usage.retries,
            statuses=usage.statuses,
            phases=dict(self._phases),
            new_rejects=self.new_rejects,
        )

    def _remember(self, batch: Batch) -> None:
        """Client ids and unknown properties not met before are remembered; the properties are reported once."""
        clients = {job.row.client_id.lower() for job in batch.jobs if job.row.client_id}
        unknown = batch.unknown.difference(self.state.unknown_properties)
        if unknown:
            said = payload.harmless(", ".join(sorted(unknown)))
            self.notes.append(f"the source shows properties not known here, kept in `extra`: {said}")
        self.state = source_state.learn(self.db, self.state, clients, unknown)

    def _write(
        self,
        outcome: str = "running",
        error: str | None = None,
        finished_at: datetime | None = None,
        request_id: str | None = None,
    ) -> None:
        entry = run_log.Entry(
            kind=self.kind,
            window=self.window,
            watermark=self.state.watermark,
            pages=self.pages,
            requests=self._usage().requests,
            strategy=self.strategy,
            checks=self.checks,
            notes=[payload.storable(note) for note in self.notes],
            verdict=self.verdict,
            counts=self.counts,
            outcome=outcome,
            error=error,
            finished_at=finished_at,
            request_id=request_id,
        )
        run_log.write(self.db, self.source_id, self.run_id, entry)
        if self._paging is not None:
            self.state = source_state.remember_capabilities(self.db, self.state, self.capabilities.known)


@contextmanager
def record(db: Connection, source: Source, kind: str, clock: Clock) -> Iterator[Recorder]:
    """A run under the source's lock, in the ledger from its first moment; a failure is recorded, then raised.

    Raises Locked at once where another run holds the source, ConfigError where the settings contradict the mirror.
    """
    with locks.held(db, source.name, source_state.register(db, source)):
        state = source_state.find(db, source.name)  # under the lock: another run may have ended just before
        assert state is not None
        source_state.judge_time_zone(db, state, source)
        now = clock.now()
        db.execute(_AS_A_WRITER)
        begun = run_log.begin(db, state.source_id, kind, now, state.watermark)
        run = Recorder(db, source, state, begun.run_id, kind, clock)
        try:
            run_log.tidy(db, state.source_id, begun, now, source.keep_runs, source.fold_after)
            sign_in.check_sign_in(db, state, source, now)
            yield run
            db.execute(_AS_BEFORE)
            run.finish("succeeded")
            sign_in.forget_refusal(db, state)
            circuit_breaker.succeeded(db, state, is_deep=kind in _DEEP)
        except BaseException as error:
            in_run(error, run.run_id, run.result())
            with suppress(psycopg.Error):  # where the connection itself is gone, the next run says "interrupted"
                db.execute(_AS_BEFORE)
                run.finish("failed", _said(error), error.request_id if isinstance(error, SourceError) else None)
                if isinstance(error, CredentialsRefused):
                    sign_in.remember_refusal(db, state, source, clock.now())
                circuit_breaker.failed(db, source, state, error, clock.now(), is_deep=kind in _DEEP)
            raise


def _said(error: BaseException) -> str:
    """What the ledger keeps of a failure: our own words, or Postgres' first line, never a row."""
    if isinstance(error, EtlError):
        return payload.storable(str(error))
    if isinstance(error, psycopg.Error):
        return f"Postgres: {said(error)}"
    return "stopped by a signal" if isinstance(error, KeyboardInterrupt) else error_report.kind(error)


def _count_rows(counts: Counts) -> tuple[int, int]:
    """Return how many rows could not be read, and how many could."""
    return counts.rejected, counts.written + counts.unchanged + counts.refused + counts.skipped


def is_due(due: datetime | None, every: timedelta, now: datetime) -> bool:
    """Whether a deep pass is due at our time: by its date, by a shorter interval since, or for the first time.

    Without an interval only what a restore asks for, which says when.
    """
    if due is None:
        return every > _NEVER
    return now >= due or _NEVER < every < due - now
