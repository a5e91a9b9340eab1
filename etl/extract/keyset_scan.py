"""The scan: asks the source for a window of its jobs, page by page along an immutable key, and checks every page.

Why it misses nothing (correctness.md, "The scan"): the key never changes, so nothing can shift under the cursor; what
is committed after the probe is stamped later than the next window's beginning; what was committed before and is still
current is on the page that contains its key. It stops only at an empty page, or where a range of numbers was read to
its very last; nextLink is never followed.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from msgspec.structs import replace

from etl.client import odata, payload
from etl.errors import BrokenPromise, KeyRefused, Refused
from etl.extract import time_slice_scan
from etl.extract.prefetch import Ahead, Brought
from etl.models import BY_TIME, SHOWN_PLAY, SYNC, TICK_PLAY, Cursor, Key, Page, Scan, ScanKind, Window

if TYPE_CHECKING:
    from etl.client.client import Api

_KEYS_A_REQUEST = 20
CANT_BE_ASKED = (400, 501)  # what services say of a query that they understand and don't support
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
    page = api.page(odata.query(order="modifiedDate desc", top=1))
    rows = page.answer.rows
    return Probe(odata.stamp(rows[0]) if rows else None, page.answered_at)


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
        with suppress(Refused):
            answer = api.page(odata.query(order=f"{found.key} desc", top=1, count=True)).answer
            expected = answer.total
            highest = odata.stamp(answer.rows[0]).key(found.key) if answer.rows else None
    return Scan(kind, span, found.key, (Cursor(0, None, None),), rewrite, expected=expected, highest=highest)


def pages(
    api: Api, scan: Scan, read: Callable[[Page], T], at_least: Callable[[], int] = lambda: 1
) -> Generator[list[tuple[Page, T]], None, None]:
    """The scan's pages from where its cursors stand, each checked: as many at a time as came while the last were taken.

    With each comes what `read` makes of it: by the threads that read ahead, several at a time, so that it must share
    nothing that changes (by time, in the caller's). A page carries the cursor to save with its rows; the last page of a
    range says done. `at_least`: so many rows at a time, where there are as many. Raises SourceError: among them
    BrokenPromise, and KeyRefused where the source can't be asked like that.
    """
    try:
        if scan.key == BY_TIME:
            yield from ([(page, read(page))] for page in time_slice_scan.pages(api, scan))
        else:
            yield from _side_by_side(api, scan, read, at_least)
    except BrokenPromise as error:
        raise BrokenPromise(f"{error}. {_WAY_OUT}") from None


def _side_by_side(
    api: Api, scan: Scan, read: Callable[[Page], T], at_least: Callable[[], int]
) -> Generator[list[tuple[Page, T]], None, None]:
    """The pages of all key ranges, as they come; where that is of use, ranges are split on the way."""
    parts = itertools.count(len(scan.cursors))
    ends: set[tuple[int, Key | None]] = set()

    def fetch(cursor: Cursor, stop: threading.Event) -> tuple[Page, T]:
        page = _fetch(api, scan, cursor, stop)
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
    has_guids = isinstance(cursor.after, str)  # random ones: their rows lie as densely as anywhere
    last = scan.highest if cursor.up_to is None else cursor.up_to
    begin, end = _place(cursor.after), _HIGHEST_GUID if has_guids and cursor.up_to is None else _place(last)
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


def _place(key: Key | None) -> int | None:
    """Where a key lies among others: an ID by itself, a jobID by the first digits of its GUID; None where neither."""
    if key is None or isinstance(key, int):
        return key
    return int(key[:8], 16) if re.fullmatch(r"[0-9a-f]{8}", key[:8]) else None


def shortfall(api: Api, scan: Scan) -> int:
    """How many rows the source counts in the window beyond those delivered; needed where keys can't be compared.

    Rows can only leave the window, but for late commits. Raises BrokenPromise where the source doesn't count.
    """
    end = _counts_before(scan)
    if end is None or not scan.opaque:
        return 0
    conditions = [*_since(scan), f"modifiedDate lt {odata.literal(end)}"]
    total = api.page(odata.query(conditions, top=1, count=True)).answer.total
    if total is None:
        raise BrokenPromise(
            f"the source's keys can't be compared here, and it answers no $count to hold the scan against. {_WAY_OUT}"
        )
    return max(0, total - scan.delivered)


def shown(api: Api, job_ids: Sequence[str], witness: str) -> set[str] | None:
    """Which of these jobs the source still shows; None where its answer can't be trusted, or it can't be asked.

    `witness` is a job that the source has just shown: an answer without it says nothing about the others.
    """
    found: set[str] = set()
    for start in range(0, len(job_ids), _KEYS_A_REQUEST):
        asked = {*job_ids[start : start + _KEYS_A_REQUEST], witness}
        try:
            answered = _answered(api, asked)
        except Refused as error:
            if error.status not in CANT_BE_ASKED:
                raise
            return None
        if answered is None or witness not in answered:
            return None
        found |= answered
    return found & set(job_ids)


def _answered(api: Api, asked: set[str]) -> set[str] | None:
    """Those of the jobs that are shown, over as many pages as it takes; None where others come, or the same again."""
    answered: set[str] = set()
    conditions = [odata.any_of("jobID", sorted(asked))]
    while rows := api.page(odata.query(conditions, "jobID")).answer.rows:
        keys = [str(odata.stamp(row).jobID) for row in rows]
        if not asked.issuperset(keys) or answered.issuperset(keys):
            return None
        answered.update(keys)
        conditions = [conditions[0], f"jobID gt {odata.literal(keys[-1])}"]
    return answered


def lost_its_key(scan: Scan, found: Probe) -> bool:
    """Whether the source no longer shows the key that an open scan goes by; one unreadable key is no sign of that."""
    return found.newest is not None and scan.key != BY_TIME and getattr(found.newest, scan.key) is None


def passed(scan: Scan) -> list[str]:
    """The checks that every answer of a scan that came to its end has passed, by name."""
    checks = {
        "dates": scan.window.lower is not None or scan.key == BY_TIME,  # inside of what was asked for
        "keys": scan.key != BY_TIME and not scan.opaque,  # ascending, and past the cursor
        # held against the source's own
        "count": scan.key == BY_TIME or (scan.opaque and _counts_before(scan) is not None),
    }
    return [name for name, was_made in checks.items() if was_made]


def _counts_before(scan: Scan) -> datetime | None:
    """Rows modified before then are counted, to be held against the source's own count if need be; None: none are.

    By ID there is no need: numbers can always be compared.
    """
    upper = scan.window.upper
    return odata.plus(upper, TICK_PLAY) if upper and scan.lane == SYNC and scan.key != "ID" else None


def _since(scan: Scan) -> list[str]:
    lower = scan.window.lower
    return [] if lower is None else [f"modifiedDate ge {odata.literal(lower)}"]


def _fetch(api: Api, scan: Scan, cursor: Cursor, stop: threading.Event) -> Page:
    conditions = _since(scan)
    if cursor.after is not None:
        conditions.append(f"{scan.key} gt {odata.literal(cursor.after)}")
    if cursor.up_to is not None:
        conditions.append(f"{scan.key} le {odata.literal(cursor.up_to)}")
    query = odata.query(conditions, scan.key, select=scan.select)
    try:
        answer, answered_at = api.page(query, stop)
    except Refused as error:
        if error.status in CANT_BE_ASKED:
            raise KeyRefused(str(error), error.status) from None
        raise
    try:
        return checked(scan, cursor, answer, answered_at)
    except BrokenPromise as error:
        raise BrokenPromise(f"{error}; asked for [{query.replace('%20', ' ')}]") from None


def checked(scan: Scan, cursor: Cursor, answer: payload.Answer, answered_at: datetime) -> Page:
    """The page of an answer, once it keeps what was asked: the date filter, the order, the cursor. Pure."""
    if not answer.rows:
        return Page((), Cursor(cursor.part, cursor.after, cursor.up_to, done=True), answered_at)
    places = odata.places(answer.rows)
    _check_dates(scan, places)
    keys = [key for key in (place.key(scan.key) for place in places) if key is not None]
    if not keys:
        raise BrokenPromise(f"no row of a page shows a readable {scan.key}")
    opaque = not all(map(odata.comparable, keys))
    last, repeated = (_last_of_opaque(cursor, keys), 0) if opaque else _last_of_ordered(cursor, keys)
    return Page(
        rows=answer.rows,
        # A range of numbers that was read up to its very end has no more, and isn't asked for it.
        cursor=Cursor(cursor.part, last, cursor.up_to, done=isinstance(last, int) and last == cursor.up_to),
        answered_at=answered_at,
        opaque=opaque,
        delivered=_count_inside(scan, places),
        repeated=repeated,
        replaced_characters=answer.replaced_characters,
    )


def _check_dates(scan: Scan, places: Sequence[odata.Place]) -> None:
    lower = scan.window.lower
    if lower is None:
        return
    for place in places:
        modified = place.modified
        if modified is None and place.modifiedDate is not None:
            continue  # unreadable: flatten makes a reject of it
        if modified is None or modified < lower - SHOWN_PLAY:
            raise BrokenPromise(
                f"the source ignores $filter: a row modified {modified or 'at no time'} came, "
                f"asked for were rows since {odata.literal(lower)}"
            )


def _last_of_ordered(cursor: Cursor, keys: Sequence[Key]) -> tuple[Key, int]:
    """The last key of a page whose keys ascend, and how many of its rows an earlier page had brought already.

    Repeated rows are no error, as long as something new comes.
    """
    if _ascend_plainly(cursor, keys):
        return keys[-1], 0
    seen: set[Key] = set()
    last = cursor.after if cursor.after is None or odata.comparable(cursor.after) else None
    last = last if last is None or type(last) is type(keys[0]) else None
    begin = last
    for key in keys:
        if key in seen or (begin is not None and not odata.is_less(begin, key)):
            continue
        if last is not None and not odata.is_less(last, key):
            raise BrokenPromise("the source ignores $orderby: keys don't ascend")
        if _is_beyond(key, cursor.up_to):
            raise BrokenPromise("the source ignores $filter: a key beyond the range came")
        seen.add(key)
        last = key
    if not seen or last is None:
        raise BrokenPromise("a page brought nothing new: the source ignores $filter on the key")
    return last, sum(begin is not None and not odata.is_less(begin, key) for key in keys)


def _is_beyond(key: Key, up_to: Key | None) -> bool:
    """Whether a comparable key lies beyond its range; of a jobID the first digits tell, whatever ended the range."""
    if isinstance(up_to, str):
        return _place(up_to) is not None and str(key)[:8] > up_to[:8]
    return up_to is not None and odata.is_less(up_to, key)


def _ascend_plainly(cursor: Cursor, keys: Sequence[Key]) -> bool:
    """Whether keys are numbers that ascend one by one inside of their range: what nearly every page shows."""
    numbers = [key for key in (cursor.after, *keys, cursor.up_to) if key is not None]
    if set(map(type, numbers)) != {int}:
        return False
    end = len(numbers) - (cursor.up_to is not None)
    return all(map(operator.lt, numbers[:end], numbers[1:end])) and numbers[end - 1] <= numbers[-1]  # type: ignore[operator]


def _last_of_opaque(cursor: Cursor, keys: Sequence[Key]) -> Key:
    """The last key of a page whose keys only the server can order: at least it must not repeat the page before."""
    if keys[-1] == cursor.after:
        raise BrokenPromise("a page only repeats the one before: the source ignores $filter on the key")
    return keys[-1]


def _count_inside(scan: Scan, places: Sequence[odata.Place]) -> int:
    end = _counts_before(scan)
    if end is None:
        return 0
    return sum(moment is not None and moment < end for moment in (place.modified for place in places))
