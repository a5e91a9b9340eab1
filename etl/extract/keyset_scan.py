"""The scan: asks the source for a window of its jobs, page by page along an immutable key, and checks every page.

Why it misses nothing (docs/correctness.md, "The scan"): the key never changes, so nothing can shift under the cursor;
what is committed after the probe is stamped later than the next window's beginning; what was committed before and is
still current is on the page that contains its key. It stops only at an empty page, or where a range of numbers was read
to its very last; nextLink is never followed.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from etl.client import odata
from etl.errors import AskForLess, BrokenPromise, OptionIgnored, PagingRefused, Refused
from etl.extract import skip_scan, strategy, time_slice_scan
from etl.extract.page_checks import counts_before
from etl.extract.page_fetcher import PageFetcher, write_window
from etl.extract.prefetch import Ahead, Brought
from etl.extract.probe import Probe
from etl.extract.row_count import count_rows
from etl.models import TICK_PLAY, Cursor, Key, Page, Paging, Scan, ScanKind, Span, Window

if TYPE_CHECKING:
    from etl.client.client import Api

_WAY_OUT = "The watermark stays where it was; `aims360-etl doctor` says what the service honours"
_SLOW = 0.05  # seconds; a source whose quickest answer takes longer is far away: that can be waited for side by side
_LARGE_ROW = 8_192  # bytes; a larger one counts as several where memory is concerned
_HIGHEST_GUID = 0xFFFFFFFF  # its first eight digits

T = TypeVar("T")


def window(kind: ScanKind, found: Probe, watermark: datetime | None, look_back: timedelta) -> Window:
    """The window of a new scan. A row dated in the future must not blind the mirror: the source's clock bounds it."""
    upper = watermark if found.is_newest or found.row is None else None  # found at the end of the scan, see `settle`
    if found.newest is not None:
        upper = min(found.newest, found.as_of)
    incremental = kind is ScanKind.INCREMENTAL and watermark is not None
    lower = odata.plus(watermark, -(look_back + TICK_PLAY)) if incremental and watermark else None
    return Window(lower, upper, found.as_of)


def plan(api: Api, kind: ScanKind, found: Probe, span: Window, rewrite: bool = False) -> Scan:
    """A new scan. Of one of all rows it is asked how many they are, for the progress shown, and how far they go."""
    expected = highest = None
    if span.lower is None and found.row is not None:
        order = f"{found.key} desc" if api.capabilities.supports("orderby") else ""
        with suppress(Refused, AskForLess):
            query = odata.query(order=order, top=1, count=True)
            answer = api.page(query, can_shrink=True, can_do_without=True, optional=("top", "count")).answer
            expected = answer.total
            highest = odata.stamp(answer.rows[0]).key(found.key) if answer.rows and order else None
    return Scan(kind, span, found.key, (Cursor(0, None, None),), rewrite, expected=expected, highest=highest)


def settle(scan: Scan) -> Scan:
    """Return a scan at its end with the upper bound of its window, where the newest row could not be asked for."""
    window = scan.window
    if window.upper is not None or scan.latest is None:
        return scan
    return replace(scan, window=replace(window, upper=min(scan.latest, window.as_of)))


def pages(
    api: Api,
    scan: Scan,
    read: Callable[[Page], T],
    at_least: Callable[[], int] = lambda: 1,
    left_out: Sequence[Span] = (),
) -> Generator[list[tuple[Page, T]], None, None]:
    """The scan's pages from where its cursors stand, each checked: as many at a time as came while the last were taken.

    With each comes what `read` makes of it: by the threads that read ahead, several at a time, so that it must share
    nothing that changes (by time, in the caller's). A page carries the cursor to save with its rows; the last page of a
    range says done. `at_least`: so many rows at a time, where there are as many. `left_out`: where records lie that the
    service couldn't serve: they aren't asked for. Raises SourceError: among them BrokenPromise, and PagingRefused where
    the source can't be asked like that.
    """
    try:
        if scan.paging is Paging.TIME:
            yield from ([(page, read(page))] for page in time_slice_scan.pages(api, scan))
        elif scan.paging is Paging.SKIP:
            yield from ([(page, read(page))] for page in skip_scan.pages(api, scan))
        else:
            yield from _side_by_side(api, scan, read, at_least, left_out)
    except OptionIgnored:  # another way is taken
        raise
    except BrokenPromise as error:
        raise BrokenPromise(f"{error}. {_WAY_OUT}") from None


def _side_by_side(
    api: Api, scan: Scan, read: Callable[[Page], T], at_least: Callable[[], int], left_out: Sequence[Span]
) -> Generator[list[tuple[Page, T]], None, None]:
    """The pages of all key ranges, as they come; where that is of use, ranges are split on the way."""
    parts = itertools.count(len(scan.cursors))
    ends: set[tuple[int, Key | None]] = set()
    fetcher = PageFetcher(api, scan, left_out)

    def fetch(cursor: Cursor, stop: threading.Event) -> tuple[Page, T]:
        page = fetcher.fetch(cursor, stop)
        return page, read(page)

    def settle(came: tuple[Page, T], most: int) -> Brought[tuple[Page, T]]:
        page, what = came
        end = (page.cursor.part, page.cursor.after)
        if page.opaque and end in ends:
            raise BrokenPromise(f"pages come in circles: one ended at {page.cursor.after!r} before")
        ends.update([end] if page.opaque else [])
        own, *others = split(scan, page, most if can_split else 1)
        new = tuple(replace(cursor, part=next(parts)) for cursor in others)
        page = replace(page, cursor=own, split_off=new)
        rows = max(len(page.rows), sum(map(len, page.rows)) // _LARGE_ROW)
        return Brought((page, what), rows, () if own.done else (own, *new))

    todo = [cursor for cursor in scan.cursors if not cursor.done]
    # One of recent rows is short, and its rows lie close together.
    can_split = scan.window.lower is None and scan.is_ordered and api.capabilities.supports("and")
    wanted = api.bears if can_split and _SLOW < api.latency < math.inf else 1

    def most() -> int:
        return api.bears if can_split else 1

    yield from Ahead(todo, fetch, settle, most, api.monotonic, at_least, wanted).taken()


def split(scan: Scan, page: Page, most: int) -> list[Cursor]:
    """The rest of a page's range as it is, or in up to `most` about equal ranges, each of two pages at least. Pure.

    Any bounds are right, also where keys have gaps: the ranges meet at them in whatever order the source sorts by.
    """
    cursor = page.cursor
    if not page.rows:
        return [cursor]
    has_guids = isinstance(cursor.after, str)  # random ones: their rows lie as densely as anywhere
    last = scan.highest if cursor.up_to is None else cursor.up_to
    begin, end = (
        odata.place_of(cursor.after),
        _HIGHEST_GUID if has_guids and cursor.up_to is None else odata.place_of(last),
    )
    if cursor.done or page.opaque or scan.window.lower is not None or begin is None or end is None:
        return [cursor]
    rows = (scan.expected or 0) * (end - begin) // _HIGHEST_GUID if has_guids else end - begin
    parts = min(most, rows // (2 * len(page.rows)))
    if parts < 2:
        return [cursor]
    places = [begin + (end - begin) * part // parts for part in range(1, parts)]
    bounds = [f"{place:08x}" if has_guids else place for place in places]
    edges = [cursor.after, *bounds, cursor.up_to]
    return [Cursor(cursor.part, edges[part], edges[part + 1]) for part in range(parts)]


def shortfall(api: Api, scan: Scan, left_out: int = 0) -> int:
    """How many rows the source counts beyond those delivered, and those `left_out` that it couldn't serve.

    It is asked where keys can't be compared, of the rows in the window, and where a scan of all rows brought fewer than
    were counted before it. Rows can only leave, but for late commits. Raises BrokenPromise where the source doesn't
    count.
    """
    has_order = not scan.opaque and scan.is_ordered
    if scan.expected is not None and scan.done < scan.expected and has_order and scan.has_key:
        return max(0, _fewer_than_expected(api, scan) - left_out)
    end = counts_before(scan)
    if end is None or has_order or scan.paging is Paging.SKIP:
        return 0
    if not strategy.can_count(api.capabilities, scan.window.lower is not None):
        if not scan.opaque:
            return 0  # a page has proven the order
        raise PagingRefused(
            "the source's keys can't be compared here, and it counts no rows to hold the scan against", 0
        )
    conditions = [*write_window(scan), f"modifiedDate lt {odata.literal(end)}"]
    try:
        total = count_rows(api, conditions)
    except Refused as error:
        raise (PagingRefused.by(error) if error.is_query else error) from None
    if total is None:
        raise BrokenPromise(
            f"the source's keys can't be compared here, and it answers no $count to hold the scan against. {_WAY_OUT}"
        )
    return max(0, total - scan.delivered - left_out)


def _fewer_than_expected(api: Api, scan: Scan) -> int:
    """How many rows are lacking of a scan of all rows that brought fewer than were counted before it.

    They may be gone by now; or one empty page, which a gateway made up, has ended a range. So the source counts those
    that were modified before the scan, a set that can only shrink.
    """
    before = counts_before(scan)
    if before is None or not strategy.can_count(api.capabilities, has_window=False):
        return 0
    with suppress(Refused):
        total = count_rows(api, [f"modifiedDate lt {odata.literal(before)}"])
        return 0 if total is None else max(0, total - scan.delivered)
    return 0


def lost_its_key(scan: Scan, found: Probe) -> bool:
    """Whether the source no longer shows the key that an open scan goes by; one unreadable key is no sign of that."""
    return found.row is not None and scan.has_key and getattr(found.row, scan.key) is None


def passed(scan: Scan) -> list[str]:
    """The checks that every answer of a scan that came to its end has passed, by name."""
    checks = {
        "dates": scan.window.lower is not None or scan.paging is Paging.TIME,  # inside of what was asked for
        "keys": scan.has_key and not scan.opaque,  # ascending, and past the cursor
        # held against the source's own
        "count": scan.paging is Paging.TIME or (scan.has_key and scan.opaque and counts_before(scan) is not None),
        "overlap": scan.paging is Paging.SKIP,  # each page shows rows of the one before, unchanged
    }
    return [name for name, was_made in checks.items() if was_made]
