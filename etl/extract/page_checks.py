"""What a page must keep of what was asked: the date filter, the order of its keys, its place, a range's end. Pure."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from datetime import datetime

from etl.client import odata, payload
from etl.errors import BrokenPromise, OptionIgnored
from etl.models import SHOWN_PLAY, SYNC, TICK_PLAY, Cursor, Key, Page, Scan


class NoKeyError(BrokenPromise):
    """A page whose rows show no key that can be read, so that what comes after it isn't known."""


class Ends:
    """Tells where the ranges of a scan end: at an empty page, which is asked for once more where it is doubtful."""

    def __init__(self) -> None:
        self._lengths: dict[int, int] = {}  # rows of the last page of each range, unless a bound made it short
        self._longest = self._pages = 0  # rows of the longest page so far, of so many pages
        self._had_rows: set[int] = set()  # ranges whose last page had some
        self._confirmed: set[tuple[int, Key | None]] = set()  # places that were asked for twice

    def is_doubtful(self, page: Page, cursor: Cursor, whole: int, *, is_bounded: bool, is_narrow: bool) -> bool:
        """Whether a page is to be asked for once more: an empty one, unless the page before it was a short one.

        A gateway may have made it up, and what lies beyond would be lost. `cursor`: where the page begins. `whole`: the
        rows of a page as far as it alone tells. `is_bounded`: it was asked for up to a key; `is_narrow`: all are, and
        many have no rows.
        """
        part, place = cursor.part, (cursor.part, cursor.after)
        if page.rejects:
            return False
        if page.rows:
            self._had_rows.add(part)
            self._pages, self._longest = self._pages + 1, max(self._longest, len(page.rows))
            if is_bounded:
                self._lengths.pop(part, None)
            else:
                self._lengths[part] = len(page.rows)
            return False
        if place in self._confirmed or (is_bounded and is_narrow and part not in self._had_rows):
            return False
        last = self._lengths.get(part)
        if last is not None and last < (min(self._longest, whole) if self._pages > 1 else whole):
            return False
        self._confirmed.add(place)
        self._had_rows.discard(part)
        return True


def counts_before(scan: Scan) -> datetime | None:
    """Rows modified before then are counted, to be held against the source's own count if need be; None: none are.

    An increment by ID has no need of it: numbers can always be compared.
    """
    upper = scan.window.upper
    has_need = scan.key != "ID" or scan.window.lower is None or not scan.is_ordered
    if scan.lane != SYNC or not has_need:
        return None
    if upper is None:  # the newest row could not be asked for: what was there by the source's time
        return scan.window.as_of
    return odata.plus(upper, TICK_PLAY)


def check_page(scan: Scan, cursor: Cursor, answer: payload.Answer, answered_at: datetime) -> Page:
    """The page of an answer, once it keeps what was asked: the date filter, the order, the cursor. Pure."""
    if not answer.rows:
        return Page((), Cursor(cursor.part, cursor.after, cursor.up_to, done=True), answered_at)
    places = odata.places(answer.rows)
    check_dates(scan, places)
    keys = [key for key in (place.key(scan.key) for place in places) if key is not None]
    if not keys:
        raise NoKeyError(f"no row of a page shows a readable {scan.key}")
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
        latest=find_latest(scan, places),
    )


def find_latest(scan: Scan, places: Sequence[odata.Place]) -> datetime | None:
    """Return the latest date of some rows that isn't beyond the source's time, where the scan has need of it."""
    if scan.window.upper is not None:
        return None
    dates = (place.modified for place in places)
    return max((date for date in dates if date is not None and date <= scan.window.as_of), default=None)


def check_dates(scan: Scan, places: Sequence[odata.Place]) -> None:
    """Raise OptionIgnored where a row came that the date filter excludes."""
    lower = scan.window.lower
    if lower is None:
        return
    for place in places:
        modified = place.modified
        if modified is None and place.modifiedDate is not None:
            continue  # unreadable: flatten makes a reject of it
        if modified is None or modified < lower - SHOWN_PLAY:
            raise OptionIgnored(
                f"the source ignores $filter: a row modified {modified or 'at no time'} came, "
                f"asked for were rows since {odata.literal(lower)}",
                "filter_dates",
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
            raise OptionIgnored("the source ignores $orderby: keys don't ascend", "orderby")
        if _is_beyond(key, cursor.up_to):
            raise OptionIgnored("the source ignores $filter: a key beyond the range came", _name_filter(key))
        seen.add(key)
        last = key
    if not seen or last is None:
        said = "a page brought nothing new: the source ignores $filter on the key"
        raise OptionIgnored(said, _name_filter(keys[0]))
    return last, sum(begin is not None and not odata.is_less(begin, key) for key in keys)


def _name_filter(key: Key) -> str:
    """Return the capability of a filter on such keys: numbers are IDs."""
    return "filter_id" if isinstance(key, int) else "filter_keys"


def _is_beyond(key: Key, up_to: Key | None) -> bool:
    """Whether a comparable key lies beyond its range; of a jobID the first digits tell, whatever ended the range."""
    if isinstance(up_to, str):
        return odata.place_of(up_to) is not None and str(key)[:8] > up_to[:8]
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
        raise OptionIgnored("a page only repeats the one before: the source ignores $filter on the key", "filter_keys")
    return keys[-1]


def _count_inside(scan: Scan, places: Sequence[odata.Place]) -> int:
    end = counts_before(scan)
    if end is None:
        return 0
    return sum(moment is not None and moment < end for moment in (place.modified for place in places))
