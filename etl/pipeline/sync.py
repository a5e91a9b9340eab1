"""One run of one source, from the first question to the last row that is purged.

    probe    what is newest, and what time is it there?
    scan     the window, page by page along a key that never changes       (or the scan that was left open)
    flatten  what of a page isn't here becomes rows and rejects
    load     what is new or newer is written, with the cursor, in one transaction
    complete the watermark moves: everything committed by then is here
    purge    what the source has purged goes, its day totals stay
    deep     now and then the last days once more, and all keys: what no watermark can tell

A run that may take so long and no longer (`within`) ends at a page, wherever it is: it was a slice, and the next run
goes on. Purge, deep passes and comparison are runs by themselves too: `purge_now`, `deepen_now`, `reconcile_now`.

The promise, and why each step is as it is: `docs/correctness.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import reduce
from typing import TYPE_CHECKING

from etl.client import odata
from etl.config.settings import Source
from etl.errors import BrokenPromise, ConfigError, OptionIgnored, OutOfTime, PagingRefused
from etl.extract import restore_detection
from etl.extract.keyset_scan import lost_its_key, pages, plan, shortfall, window
from etl.extract.probe import Probe, probe
from etl.load.upsert import load
from etl.models import Clock, Page, Progress, Run, Scan, ScanKind, Watch, Window, silent
from etl.pipeline.ask_again import ask_again
from etl.pipeline.change_filter import Changes, Read
from etl.pipeline.purge_step import Asking, follow_purge
from etl.pipeline.reconcile import Wish, comparison, reconcile
from etl.pipeline.run_context import PURGE, Recorder, is_due, record
from etl.postgres.connection import Connection
from etl.state import scan_checkpoints
from etl.transform.flatten import together

if TYPE_CHECKING:  # the client costs as much time as all else: it is loaded when the source is ours
    from etl.client.client import Api

DEEP_AT_MOST = 600.0  # seconds of a run for deep passes: freshness never waits for them
_BEGINS = "jobs: asking the source"

# Opens the client of the source. Called under the lock, so that a run that finds its source held ends at once.
Service = Callable[[], AbstractContextManager["Api"]]


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of a run: all rows instead of the window, written anew, from a source that has moved."""

    full: bool = False
    rewrite: bool = False
    same_source: bool = False
    trusting: bool = False  # of a source that was restored: its word counts for every row
    within: timedelta | None = None  # the run ends by then, at a page, and the next goes on; None: at its end
    deep: bool = True  # also what an increment doesn't need: deep passes, and asking about purges

    def with_all_of(self, scan: Scan) -> Order:
        """What is asked, and what a scan that is dropped was to do."""
        return replace(
            self,
            full=self.full or scan.kind is ScanKind.FULL,
            rewrite=self.rewrite or scan.rewrite,
            trusting=self.trusting or scan.trusting,
        )


def sync(
    source: Source, service: Service, db: Connection, clock: Clock, order: Order = Order(), watch: Watch = silent
) -> Run:
    """Brings the mirror of a source up to date. Raises EtlError; whatever happens, the next run goes on from here."""
    with record(db, source, ScanKind.INCREMENTAL, clock) as run, run.using(service(), order.within) as api:
        watch(Progress(run.run_id, _BEGINS))
        if order.full:  # which tries again what the service has refused
            api.capabilities.begin({})
        with run.phase("probe"):
            found = run.recognise(probe(api), order.same_source)
            run.retry_rejects(found.as_of, found.key)
            told = run.look_for_a_restore(api, found)
        with run.phase("scan"):
            found = _catch_up(run, api, found, _follow_restore(run, order, told), watch)
            if not told and (told := run.state.went_back) and not run.is_over():  # by rows that were just read
                again = run.recognise(probe(api), order.same_source)
                found = _catch_up(run, api, again, _follow_restore(run, order, told), watch)
            ask_again(run, api, found)
        with run.phase("purge"):
            follow_purge(run, api, found, watch, Asking.HOURLY if order.deep else Asking.NOT)
        with run.phase("deep"):
            if order.deep:
                _go_deep(run, api, found, watch, DEEP_AT_MOST)
    return run.result()


def purge_now(
    source: Source,
    service: Service,
    db: Connection,
    clock: Clock,
    watch: Watch = silent,
    within: timedelta | None = None,
) -> Run:
    """Only the purge, as of the last sync; the source is asked again about jobs past their date. Raises EtlError."""
    with _begun(source, service, db, clock, PURGE, watch, within) as (run, api, found), run.phase("purge"):
        follow_purge(run, api, found, watch, Asking.NOW)
    return run.result()


def deepen_now(
    source: Source,
    service: Service,
    db: Connection,
    clock: Clock,
    watch: Watch = silent,
    within: timedelta | None = None,
) -> Run:
    """Only the deep passes that are due, from where they stand; incomplete where one isn't at its end. Raises EtlError.

    A source that was never synced has none.
    """
    with _begun(source, service, db, clock, ScanKind.REREAD, watch, within) as (run, api, found), run.phase("deep"):
        run.deepened(run.state.watermark is None or _go_deep(run, api, found, watch))
    return run.result()


def reconcile_now(
    source: Source,
    service: Service,
    db: Connection,
    clock: Clock,
    wish: Wish,
    watch: Watch = silent,
) -> Run:
    """Compares all keys with the source's; tells what differs, and sets it right if it is wished. Raises EtlError."""
    with _begun(source, service, db, clock, ScanKind.RECONCILE, watch) as (run, api, found):
        if run.state.complete_through is None:
            raise ConfigError("nothing was synced yet, so there is nothing to compare: run `aims360-etl sync` first")
        scan = comparison(run, api, found, wish.repair)
        run.begin(scan)
        with run.phase("deep"):
            reconcile(run, api, scan, found, wish, watch)
    return run.result()


@contextmanager
def _begun(
    source: Source,
    service: Service,
    db: Connection,
    clock: Clock,
    kind: str,
    watch: Watch,
    within: timedelta | None = None,
) -> Iterator[tuple[Recorder, Api, Probe]]:
    """A run that reads no window: it knows the source again, and then does the one thing that it is for."""
    with record(db, source, kind, clock) as run, run.using(service(), within) as api:
        watch(Progress(run.run_id, _BEGINS))
        with run.phase("probe"):
            found = run.recognise(probe(api), same_source=False)
        yield run, api, found


def _catch_up(run: Recorder, api: Api, found: Probe, order: Order, watch: Watch) -> Probe:
    """The scan that was left open, if it is what is wanted, and then one of what is new. The last probe."""
    left_open = scan_checkpoints.find(run.db, run.source_id)
    went_back_again = (
        left_open and left_open.trusting and restore_detection.again(api, run.db, run.source_id, left_open.window)
    )
    if left_open and _is_wanted(left_open, found, order) and not went_back_again:
        if not _read(run, api, left_open, watch):
            return found
        # What was asked for is done; what changed since is an increment.
        found, order = run.recognise(probe(api), order.same_source), Order()
    elif left_open:  # its place is taken by the scan that begins now, once that has a page to save
        order = order.with_all_of(left_open)
    kind = ScanKind.FULL if order.full or run.state.watermark is None else ScanKind.INCREMENTAL
    span = window(kind, found, run.state.watermark, run.source.look_back)
    scan = plan(api, kind, found, span, order.rewrite)
    _read(run, api, run.open(scan, order.trusting), watch)
    return found


def _follow_restore(run: Recorder, order: Order, told: str | None) -> Order:
    """What is to be done about a source that went back, said so that nobody wonders; else what was asked for."""
    if told is None:
        return order
    run.went_back(told)
    return replace(order, full=True, trusting=True)


def _is_wanted(scan: Scan, found: Probe, order: Order) -> bool:
    """Whether a scan that was left open is what is asked for, and can be gone on with."""
    newest, upper = found.newest, scan.window.upper
    went_back = newest is not None and upper is not None and newest < upper
    # Asked for all rows of a source that went back, an older scan would leave those behind its cursor as they were.
    does_as_much = scan.kind is ScanKind.FULL and scan.rewrite >= order.rewrite and scan.trusting >= order.trusting
    does_as_much = does_as_much and not went_back
    return (does_as_much or not order.full) and not lost_its_key(scan, found)


def _read(run: Recorder, api: Api, scan: Scan, watch: Watch) -> bool:
    """A scan to its end: every page flattened and loaded, and the watermark moved over it. Raises BrokenPromise.

    False where the run's time was over before: then the scan stays open.
    """
    run.begin(scan)
    scan = _pages(run, api, scan, watch)
    scan = _checked(run, api, scan, watch)
    if scan.is_done:
        run.look_for_a_restore_in(api, scan)
        run.complete(scan)
    else:
        run.leaves_open(scan)
    return scan.is_done


def _checked(run: Recorder, api: Api, scan: Scan, watch: Watch) -> Scan:
    """Return a scan that was held against the source's own count: read once more where rows are lacking.

    Raises BrokenPromise where they still are; a scan in the service's own order goes on in another way.
    """
    # A late commit, perhaps, or a record that it stepped over: once more, and the source must keep its word.
    left_out = 0 if scan.opaque and scan.window.lower is not None else run.count_stepped_over(scan)
    try:
        if not (scan.is_done and shortfall(api, scan, left_out)):
            return scan
        left_out = len(run.find_unserved(scan))
        scan = _pages(run, api, scan.anew(), watch)
        missing = shortfall(api, scan, left_out) if scan.is_done else 0
        if missing and not scan.is_ordered:
            said = f"rows don't come in the order of {scan.key} by themselves: {missing} that are counted never came"
            raise OptionIgnored(said, "default_order")
    except (PagingRefused, OptionIgnored) as error:
        scan = _pages(run, api, run.change_paging(api, scan, error), watch)
        return _checked(run, api, scan, watch)
    if missing:
        raise BrokenPromise(f"the source counts {missing} rows in the window that its pages never showed: run it again")
    return scan


def _pages(run: Recorder, api: Api, scan: Scan, watch: Watch, until: float = math.inf) -> Scan:
    """The scan's pages, to its end or as far as there is time. Where the service refuses its paging, by another."""
    what = "jobs read" if scan.kind is ScanKind.FULL else "recent jobs read"
    changes = Changes(run, scan)
    try:
        with closing(pages(api, scan, changes.read, left_out=run.find_unserved(scan))) as answers:
            for some in answers:
                scan = _loaded(run, scan, changes, some)
                some.clear()  # memory that is not needed while the next are waited for
                watch(Progress(run.run_id, what, scan.done, scan.expected))
                if run.is_over(until):
                    break
    except (PagingRefused, OptionIgnored) as error:
        return _pages(run, api, run.change_paging(api, scan, error), watch, until)
    except OutOfTime:  # half of a page may be answered in the time of a run
        run.leaves_open(scan.shrunk())
        raise
    return scan


def _loaded(run: Recorder, scan: Scan, changes: Changes, some: Sequence[tuple[Page, Read]]) -> Scan:
    """As many pages as came while the last were loaded, in one transaction: the scan after them."""
    with run.transaction():
        for page, batch, parts in together(changes.batches(some)):
            run.learn(scan, page, batch)
            rules, scan = run.rules(scan, page), reduce(Scan.moved, parts, scan)
            counts = load(run.db, run.source_id, batch, rules)
            run.loaded(page, batch, counts, len(parts), is_trusted=rules.is_trusting)
        run.moved(scan)
    changes.heed(some)
    return scan


def _go_deep(run: Recorder, api: Api, found: Probe, watch: Watch, at_most: float = math.inf) -> bool:
    """The deep passes that are due, each from its own cursor and as far as the time goes: whether to their end."""
    until = run.until(at_most)
    source, state, now = run.source, run.state, run.by_our_clock(found.as_of)
    is_done = True
    # Without a filter on dates each run reads all rows.
    can_reread = bool(source.reread) and run.capabilities.supports("filter_dates")
    if can_reread and is_due(state.reread_due_at, source.reread_every, now):
        is_done = _reread(run, api, found, until, watch)
    if is_due(state.reconcile_due_at, source.reconcile_every, now):
        if run.is_over(until):
            return False
        left_open = scan_checkpoints.find(run.db, run.source_id, ScanKind.RECONCILE)
        scan = comparison(run, api, found, repair=True, left_open=left_open)
        run.goes_deep(scan)
        is_done = reconcile(run, api, scan, found, Wish(repair=True, until=until), watch) and is_done
    return is_done


def _reread(run: Recorder, api: Api, found: Probe, until: float, watch: Watch) -> bool:
    """The last days once more: changes that left modifiedDate alone, or were committed later than the look-back."""
    scan = scan_checkpoints.find(run.db, run.source_id, ScanKind.REREAD)
    if scan is None or lost_its_key(scan, found):
        span = Window(odata.plus(found.as_of, -run.source.reread), run.state.watermark, found.as_of)
        scan = run.open(plan(api, ScanKind.REREAD, found, span))
    run.goes_deep(scan)
    scan = _pages(run, api, scan, watch, until)
    if scan.is_done:
        run.reread(scan)
    return scan.is_done
