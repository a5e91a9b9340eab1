"""The comparison of all keys: what is missing, what is stale, what is a ghost; and its repair, under guard.

Missing and stale are jobs that no increment would bring: those inside its next window are only on their way. A ghost is
a job of the mirror that the source no longer shows, told by the keys that came (`etl.compared`). It is removed only if
the source's own count of old jobs, a set that can only shrink, agrees before and after; if the source doesn't show it
when asked for it by its key; and if there are not suspiciously many (docs/correctness.md, "What no watermark can
tell").
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from etl.client import odata
from etl.errors import OptionIgnored, PagingRefused, Refused
from etl.extract import key_lists
from etl.extract.keyset_scan import lost_its_key, pages, plan
from etl.extract.probe import Probe, probe
from etl.extract.row_count import count_rows
from etl.extract.strategy import can_select
from etl.load import purge, version_filter
from etl.load.upsert import compare, load
from etl.load.version_filter import Told
from etl.models import FLATTEN_VERSION, Batch, Counts, Page, Progress, Scan, ScanKind, Watch, Window
from etl.pipeline.change_filter import with_rejects
from etl.pipeline.run_context import Recorder
from etl.postgres.connection import Connection
from etl.state import rejects, seen_keys, unseen_jobs
from etl.text import rows_that
from etl.transform.flatten import flatten

if TYPE_CHECKING:
    from etl.client.client import Api

_A_DAY = timedelta(days=1)
_AT_A_TIME = 2_000  # keys compared with one question
_GHOSTS_AT_A_TIME = 2 * (key_lists.MOST_KEYS - 1)  # asked for in few requests, and removed in one transaction
_SHARE, _FEW = 0.1, 20  # of the mirror, or so many jobs: more are not removed unasked

_COUNT_MIRROR = "SELECT count(*) FROM aims360.jobs WHERE source_id = %s AND purged_at IS NULL"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a comparison: only to tell, or to repair too, also where many jobs would go; until when."""

    repair: bool = False
    force: bool = False
    until: float | None = None  # seconds of the run's monotonic clock; None: to its end


class _Ghost(NamedTuple):
    job_id: str
    purge_date_time: datetime | None

    def counted(self, as_of: datetime) -> Counts:
        if self.purge_date_time is None:
            return Counts(ghosts_vanished=1)
        return Counts(ghosts_purged=1) if self.purge_date_time <= as_of else Counts(ghosts_early=1)


def comparison(run: Recorder, api: Api, found: Probe, repair: bool, left_open: Scan | None = None) -> Scan:
    """The comparison that was left open, or one that begins now.

    It reads whole rows where keys alone don't tell versions apart, and where they are to be written anew.
    """
    if left_open is not None and not lost_its_key(left_open, found):
        is_short = not left_open.rewrite and can_select(run.capabilities, left_open.key)
        return replace(left_open, select=properties(found.row) if is_short else ())
    anew = repair and run.state.flatten_version < FLATTEN_VERSION
    span = Window(None, run.state.watermark, found.as_of)
    scan = plan(api, ScanKind.RECONCILE, found, span, anew)
    scan = replace(run.open(scan), counted=_count_old(run, api, scan))
    is_short = not anew and can_select(run.capabilities, scan.key)
    return replace(scan, select=properties(found.row) if is_short else ())


def properties(newest: odata.Stamp | None) -> tuple[str, ...]:
    """What a comparison asks of a row: none (all of it) where no version is shown that would tell a change."""
    if newest is None or (newest.rowversion is None and newest.etag is None):
        return ()
    optional = {"ID": newest.ID, "rowversion": newest.rowversion}
    names = [name for name, value in optional.items() if value is not None]
    return (*names, "jobID", "createdDate", "modifiedDate", "purgeDateTime")


def reconcile(run: Recorder, api: Api, scan: Scan, found: Probe, wish: Wish, watch: Watch) -> bool:
    """The comparison from where it stands, as far as its time allows; whether it came to its end."""
    seen_keys.forget(run.db, run.source_id)
    before = run.counts
    try:
        scan = _compared(run, api, scan, wish, watch)
    except (PagingRefused, OptionIgnored) as error:
        run.counts = run.counts if wish.repair else before  # what was only told will be told again
        return reconcile(run, api, run.change_paging(api, scan, error), found, wish, watch)
    if not scan.is_done:
        return False
    found = probe(api)  # a comparison may take long: purge dates pass meanwhile, and the newest job may go
    unseen = seen_keys.unseen(run.db, run.source_id, scan, found.as_of, run.source.look_back, _old(run, scan))
    # A record that the source can't serve looks like one that it has no more.
    held = purge.find_held(run.db, run.source_id, [job.job_id for job in unseen]) if unseen else set()
    ghosts = [_Ghost(job.job_id, job.purge_date_time) for job in unseen if job.is_old and job.job_id not in held]
    counted = None if scan.counted is None else _count_old(run, api, scan)
    ghosts, is_pending = _hold_against(run, scan, counted, ghosts, wish)
    is_young = any(not job.is_old for job in unseen)
    is_told = _lay(run, api, scan, counted, found, ghosts, wish)
    if is_told is None:
        return False
    with run.transaction():
        again_after = run.source.look_back if is_young or is_pending else None if is_told else _A_DAY
        run.reconciled(scan, wish.repair, again_after)
        seen_keys.forget(run.db, run.source_id)
    return True


def _compared(run: Recorder, api: Api, scan: Scan, wish: Wish, watch: Watch) -> Scan:
    """An armful after the other: what is missing or stale, and set right where it is wished."""
    old = _old(run, scan)

    def read(page: Page) -> Told | None:
        return version_filter.told(page.rows, old) if scan.select and not page.rejects else None

    def is_late() -> bool:
        return wish.until is not None and run.monotonic() > wish.until

    left_out = run.find_unserved(scan)
    with closing(pages(api, scan, read, lambda: 1 if is_late() else _AT_A_TIME, left_out)) as answers:
        for armful in answers:
            for look in _differing(run, scan, armful):
                scan = _looked_at(run, api, scan, look, wish) if look.rows else _passed(run, scan, look.page)
            if wish.repair:
                with run.transaction():
                    run.save(scan)
            watch(Progress(run.run_id, "keys compared", scan.done, scan.expected))
            if is_late():
                break
    return scan


class _Look(NamedTuple):
    """The rows of a page that need a closer look; `is_told`: what it told at a glance was compared, its keys kept."""

    page: Page
    rows: Sequence[bytes]
    is_told: bool


def _differing(run: Recorder, scan: Scan, armful: Sequence[tuple[Page, Told | None]]) -> list[_Look]:
    """Of each page the rows that need a closer look: not those whose version is told, and is here."""
    with run.transaction():
        told = version_filter.joined(told or Told() for _, told in armful)
        job_ids = seen_keys.differing(run.db, run.source_id, scan, told, is_unread=run.waiting.unread)
    return [
        _Look(page, page.rows if told is None else version_filter.rows_of(job_ids, page, told), told is not None)
        for page, told in armful
    ]


def _passed(run: Recorder, scan: Scan, page: Page) -> Scan:
    """All of a page is here."""
    run.compared(Counts(), is_new=True)
    return scan.moved(page)


def _looked_at(run: Recorder, api: Api, scan: Scan, look: _Look, wish: Wish) -> Scan:
    """A closer look at rows of a page; what is missing or stale is counted, and set right where it is wished."""
    page, rows, is_told = look
    if scan.select and not all(map(_tells_its_version, rows)):
        raise OptionIgnored("the source leaves out of $select what tells versions apart", "select")
    batch = with_rejects(flatten(rows, page.replaced_characters), page)
    rules = run.rules(scan, page)
    lacks, is_marked = compare(run.db, run.source_id, batch.jobs, rules)
    wanted = wish.repair and bool(lacks.differences or is_marked or batch.rejects or scan.rewrite)
    whole = _whole(run, api, scan, page, batch) if wanted else []
    after = scan.moved(page)
    with run.transaction():
        if not is_told:
            seen_keys.remember(run.db, run.source_id, scan, _list_keys(rows, batch, _old(run, scan)))
        for part, rows_of_it in whole:
            run.learn(after, part, rows_of_it)
            counts = load(run.db, run.source_id, rows_of_it, rules)
            run.loaded(part, rows_of_it, counts, is_trusted=rules.is_trusting)
        run.compared(Counts() if wanted else lacks, is_new=bool(scan.select or not whole))
        if wish.repair:
            run.save(after)
    return after


def _tells_its_version(row: bytes) -> bool:
    """Whether a row of a few properties has what versions are told by; without, every job would seem stale."""
    stamp = odata.stamp(row)
    return b'"modifiedDate"' in row and (stamp.rowversion is not None or stamp.etag is not None)


def _whole(run: Recorder, api: Api, scan: Scan, page: Page, batch: Batch) -> list[tuple[Page, Batch]]:
    """The rows of a page as a whole, where only what tells versions apart was asked for."""
    if not scan.select:
        return [(page, batch)]
    part = scan.between(scan.cursors[page.cursor.part], page)
    with closing(pages(api, part, _flattened, left_out=run.find_unserved(scan))) as answers:
        return list(chain.from_iterable(answers))


def _flattened(page: Page) -> Batch:
    return with_rejects(flatten(page.rows, page.replaced_characters), page)


def _list_keys(rows: Sequence[bytes], batch: Batch, old: datetime) -> dict[str, bool | None]:
    """Return the jobs of a page, each with whether it was created before then, as the source counts it.

    Those that can't be read too: None where their createdDate can't, or didn't come.
    """
    rejects = ((reject.job_id, odata.stamp(reject.raw.encode()).created) for reject in batch.rejects)
    keys = {job_id: None if created is None else created < old for job_id, created in rejects}
    for stamp in map(odata.stamp, rows):
        if (job_id := stamp.key("jobID")) is not None:
            is_old = stamp.created is not None and stamp.created < old
            keys[str(job_id)] = keys.get(str(job_id), is_old)
    return keys


def _lay(
    run: Recorder,
    api: Api,
    scan: Scan,
    counted: int | None,
    found: Probe,
    ghosts: Sequence[_Ghost],
    wish: Wish,
) -> bool | None:
    """Ghosts are asked for by their keys, counted, and removed where nothing speaks against it: whether nothing did.

    None where the run's time is over before: fewer are left for the next.
    """
    objection = _objection(run, scan, counted, found, ghosts, wish) if ghosts else None
    witness = found.row.key("jobID") if found.row else None
    left = iter(ghosts)
    while some := list(islice(left, _GHOSTS_AT_A_TIME)):
        job_ids = [ghost.job_id for ghost in some]
        there = key_lists.find_shown(api, job_ids, witness) if isinstance(witness, str) else None
        if there is None:
            doubtful = len(some) + sum(1 for _ in left)
            run.notes.append(f"{doubtful} jobs came no more, but the source's answer about them can't be trusted")
            run.is_sure = False
            return False
        gone = [ghost for ghost in some if ghost.job_id not in there]
        with run.transaction():
            run.found(sum((ghost.counted(found.as_of) for ghost in gone), Counts()))
            if wish.repair and objection is None:
                _remove(run, gone, found.as_of)
        if run.is_over():  # with some of them done, however little time there is
            return None if wish.repair and objection is None else False
    if objection and run.counts.ghosts:
        run.notes.append(objection)
        return False
    return True


def _hold_against(
    run: Recorder, scan: Scan, counted: int | None, ghosts: Sequence[_Ghost], wish: Wish
) -> tuple[list[_Ghost], bool]:
    """Return the ghosts that another comparison lacked too, where the source counts no rows; and whether others wait.

    Where it counts them, before and after (`counted`), that is the proof: then all of them.
    """
    is_counted = scan.counted is not None and counted is not None
    job_ids = [ghost.job_id for ghost in ghosts]
    as_of = scan.window.as_of
    proven = (
        set(job_ids)
        if is_counted
        else unseen_jobs.find_unseen_before(run.db, run.source_id, job_ids, as_of, run.source.look_back)
    )
    if wish.repair:
        with run.transaction():
            unseen_jobs.remember(run.db, run.source_id, [] if is_counted else job_ids, as_of)
    waiting = len(ghosts) - len(proven)
    if waiting:
        run.notes.append(
            f"{rows_that(waiting, 'came no more')}: the source counts no rows to hold the keys against, so another "
            "comparison with repair, a look-back later, decides"
        )
    return [ghost for ghost in ghosts if ghost.job_id in proven], waiting > 0


def _remove(run: Recorder, ghosts: Sequence[_Ghost], as_of: datetime) -> None:
    for reason, is_due in (("purged", True), ("missing_at_source", False)):
        job_ids = [g.job_id for g in ghosts if (g.purge_date_time is not None and g.purge_date_time <= as_of) is is_due]
        purge.remove(run.db, run.source_id, run.source.purge, job_ids, as_of, reason)
    rejects.drop(run.db, run.source_id, [ghost.job_id for ghost in ghosts])
    run.found(Counts(repaired=len(ghosts)))


def _objection(
    run: Recorder, scan: Scan, after: int | None, found: Probe, ghosts: Sequence[_Ghost], wish: Wish
) -> str | None:
    """What speaks against removing ghosts; None where nothing does."""
    before = scan.counted
    came, unknown = seen_keys.count_old(run.db, run.source_id, scan)
    unknown += run.count_stepped_over(scan)  # of those it isn't known either
    if before is not None and after is not None and not after - unknown <= came <= before:
        return (
            f"jobs that came no more are left alone: {came} old keys came, where the source counted {before} before "
            f"and {after} afterwards; compare again"
        )
    early = sum(ghost.counted(found.as_of).ghosts_purged == 0 for ghost in ghosts)
    most = max(_FEW, int(_number(run.db, _COUNT_MIRROR, run.source_id) * _SHARE))
    if early > most and not wish.force:
        return (
            f"{early} jobs came no more, more than {most}: too many to remove unasked; if the source has truly lost "
            "them, run `aims360-etl reconcile --repair --force`"
        )
    return None


def _old(run: Recorder, scan: Scan) -> datetime:
    """Jobs created before then are a set that can only shrink. A whole second, so that no rounding moves it."""
    return odata.plus(scan.window.as_of, -run.source.look_back).replace(microsecond=0)


def _count_old(run: Recorder, api: Api, scan: Scan) -> int | None:
    if not _can_count_old(run):
        return None
    condition = f"createdDate lt {odata.literal(_old(run, scan))}"
    with suppress(Refused):
        return count_rows(api, [condition])
    return None


def _can_count_old(run: Recorder) -> bool:
    return run.capabilities.supports("count", "filter_dates")


def _number(db: Connection, statement: str, *given: object) -> int:
    row = db.execute(statement, given).fetchone()
    assert row is not None
    return int(str(row[0]))
