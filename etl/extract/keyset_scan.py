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
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from msgspec.structs import replace

from etl.client import odata
from etl.errors import AskForLess, BadAnswer, BrokenPromise, Refused, Unreachable
from etl.extract import time_slice_scan
from etl.extract.page_checks import counts_before
from etl.extract.page_fetcher import PageFetcher, write_window
from etl.extract.prefetch import Ahead, Brought
from etl.extract.row_count import count_rows
from etl.models import BY_TIME, TICK_PLAY, Cursor, Key, Page, Scan, ScanKind, Span, Window

if TYPE_CHECKING:
    from etl.client.attempts import Reply
    from etl.client.client import Api

_NEWEST = 5  # rows that are tried for the newest one
_WAY_OUT = "The watermark stays where it was; `aims360-etl doctor` says what the service honours"
_SLOW = 0.05  # seconds; a source whose quickest answer takes longer is far away: that can be waited for side by side
_LARGE_ROW = 8_192  # bytes; a larger one counts as several where memory is concerned
_HIGHEST_GUID = 0xFFFFFFFF  # its first eight digits

T = TypeVar("T")


class Probe(NamedTuple):
    """The newest row of the source (None: it shows none) and the time by its clock."""

    newest: odata.Stamp | None
    as_of: datetime

    @property
    def key(self) -> str:
        """The property that orders a scan: ID, or jobID where the source shows no ID."""
        return "ID" if self.newest is not None and self.newest.key("ID") is not None else "jobID"


def probe(api: Api) -> Probe:
    """Asks for the newest row, before anything else."""
    page = newest_row(api)
    rows = page.answer.rows
    return Probe(odata.stamp(rows[0]) if rows else None, page.answered_at)


def newest_row(api: Api, attempts: int = 8) -> Reply:
    """Return the newest row that the service can serve, if it has any. Raises SourceError."""
    first, second = (odata.query(order="modifiedDate desc", top=1, skip=skip) for skip in (0, 1))
    try:
        return api.page(first, can_shrink=True, is_least=True, another=second, attempts=attempts)
    except (AskForLess, Unreachable) as error:
        if isinstance(error, Unreachable) and not error.was_answered:
            raise
        return _next_newest(api, error)


def _next_newest(api: Api, error: AskForLess | Unreachable) -> Reply:
    """Return the newest row that the service can serve: an older one makes the window longer, which is always safe.

    Raises the error where no other is answered, each asked for once: it is an outage.
    """
    for skip in range(1, _NEWEST):
        with suppress(AskForLess, BadAnswer, Refused, Unreachable):
            return api.page(odata.query(order="modifiedDate desc", top=1, skip=skip), attempts=1)
    if isinstance(error, Unreachable):
        raise error
    raise Unreachable(f"{error}; nor the {_NEWEST - 1} rows after it. Nothing is lost, the next run goes on") from None


def window(kind: ScanKind, found: Probe, watermark: datetime | None, look_back: timedelta) -> Window:
    """The window of a new scan. A row dated in the future must not blind the mirror: the source's clock bounds it."""
    newest = found.newest.modified if found.newest else None
    upper = watermark if newest is None else min(newest, found.as_of)
    incremental = kind is ScanKind.INCREMENTAL and watermark is not None
    lower = odata.plus(watermark, -(look_back + TICK_PLAY)) if incremental and watermark else None
    return Window(lower, upper, found.as_of)


def plan(api: Api, kind: ScanKind, found: Probe, span: Window, rewrite: bool = False) -> Scan:
    """A new scan. Of one of all rows it is asked how many they are, for the progress shown, and how far they go."""
    expected = highest = None
    if span.lower is None and found.newest is not None:
        with suppress(Refused, AskForLess):
            answer = api.page(odata.query(order=f"{found.key} desc", top=1, count=True), can_shrink=True).answer
            expected = answer.total
            highest = odata.stamp(answer.rows[0]).key(found.key) if answer.rows else None
    return Scan(kind, span, found.key, (Cursor(0, None, None),), rewrite, expected=expected, highest=highest)


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
    service couldn't serve: they aren't asked for. Raises SourceError: among them BrokenPromise, and KeyRefused where
    the source can't be asked like that.
    """
    try:
        if scan.key == BY_TIME:
            yield from ([(page, read(page))] for page in time_slice_scan.pages(api, scan))
        else:
            yield from _side_by_side(api, scan, read, at_least, left_out)
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
        own, *others = split(scan, page, most)
        new = tuple(replace(cursor, part=next(parts)) for cursor in others)
        page = replace(page, cursor=own, split_off=new)
        rows = max(len(page.rows), sum(map(len, page.rows)) // _LARGE_ROW)
        return Brought((page, what), rows, () if own.done else (own, *new))

    todo = [cursor for cursor in scan.cursors if not cursor.done]
    # One of recent rows is short, and its rows lie close together.
    can_split = scan.window.lower is None
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
    if scan.expected is not None and scan.done < scan.expected and not scan.opaque and scan.key != BY_TIME:
        return max(0, _fewer_than_expected(api, scan) - left_out)
    end = counts_before(scan)
    if end is None or not scan.opaque:
        return 0
    conditions = [*write_window(scan), f"modifiedDate lt {odata.literal(end)}"]
    total = count_rows(api, conditions)
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
    if before is None:
        return 0
    with suppress(Refused):
        return max(0, (count_rows(api, [f"modifiedDate lt {odata.literal(before)}"]) or 0) - scan.delivered)
    return 0


def lost_its_key(scan: Scan, found: Probe) -> bool:
    """Whether the source no longer shows the key that an open scan goes by; one unreadable key is no sign of that."""
    return found.newest is not None and scan.key != BY_TIME and getattr(found.newest, scan.key) is None


def passed(scan: Scan) -> list[str]:
    """The checks that every answer of a scan that came to its end has passed, by name."""
    checks = {
        "dates": scan.window.lower is not None or scan.key == BY_TIME,  # inside of what was asked for
        "keys": scan.key != BY_TIME and not scan.opaque,  # ascending, and past the cursor
        # held against the source's own
        "count": scan.key == BY_TIME or (scan.opaque and counts_before(scan) is not None),
    }
    return [name for name, was_made in checks.items() if was_made]
