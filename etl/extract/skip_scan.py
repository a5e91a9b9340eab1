"""The scan of a source that can't be asked by its keys nor by time: by `$skip`, on pages that overlap.

A row that comes or goes before the cursor moves all that follow, so each page begins some rows before the end of the
last one, and has to show one of these in the same version: what follows it in the order of the service has no gap. A
page without any is asked for further back, and where even the first page has none the scan begins anew
(docs/correctness.md, "By overlapping pages").

A service that refuses `$skip` may page by its nextLink. Of that only the query is taken. A shorter form of the page
before leads to a page that overlaps; else the page before, asked for once more, has to end as it did, with the same
link. A link that names the last row by its key needs no such check.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from msgspec.structs import replace

from etl.client import odata, payload
from etl.errors import AskForLess, BrokenPromise, OptionIgnored, PagingRefused, Refused, Unreachable
from etl.extract.page_checks import check_dates, find_latest
from etl.extract.page_fetcher import write_window
from etl.extract.page_size import OFFER
from etl.extract.row_count import count_rows
from etl.models import USUAL_PAGE, Cursor, Page, Scan

if TYPE_CHECKING:
    from etl.client.attempts import Reply
    from etl.client.client import Api

OVERLAP = 10  # rows of a page that the next one begins with, at most half of it; and that are remembered
BEYOND = 1_000_000  # rows to skip: more than there are
_BEGINNINGS = 20  # times that a scan begins anew, because nothing of the page before was to be found
_STEPS_A_PAGE, _STEPS = 10, 400  # back: to find one place again, and in one run
_SMALLEST = 2  # rows of a page: of one row nothing can overlap
_GROW_AFTER = 10  # good pages, before twice as many rows are asked for again

_Row = tuple[str, str]  # key and version


class _LinkRefused(PagingRefused):
    """The service refuses a query that it wrote itself, in a nextLink."""


class _Seen(NamedTuple):
    """A page as it came, with key and version of each row."""

    reply: Reply
    rows: Sequence[_Row]

    def find(self, tail: Sequence[_Row]) -> int | None:
        """Return where the last row of a tail stands that is here unchanged; None without any, or in another order."""
        places = {row: place for place, row in enumerate(self.rows)}
        found = [places[row] for row in tail if row in places]
        return found[-1] if found and found == sorted(found) else None


@dataclass(slots=True)
class _Limits:
    """How many rows are asked for (`most`: as it is set; `offer`: may come), and how often the scan has gone back."""

    page_size: int | None
    most: int | None = None
    offer: int | None = None
    longest: int = 0  # page that came, in rows
    last: int = 0  # page that came, in rows
    taken: int = 0  # rows of the last page that was taken by a link
    good: int = 0  # pages in a row
    steps: int = 0
    beginnings: int = 0

    @property
    def overlap(self) -> int:
        """How many rows the next page is to begin before the end of the last one."""
        return min(OVERLAP, max(1, self.last // 2)) if self.last else OVERLAP

    def heed(self, rows: int) -> None:
        """Take in a page that came: after some, twice as many rows are asked for, up to the longest that came."""
        self.last, self.longest, self.good = rows, max(self.longest, rows), self.good + 1
        if self.page_size is not None and self.good >= _GROW_AFTER:
            self.page_size, self.good = 2 * self.page_size, 0
            if self.page_size >= (self.most or USUAL_PAGE):
                self.page_size = self.most

    def shrink(self) -> None:
        """Ask for half the rows from now on."""
        self.page_size, self.good = max(_SMALLEST, (self.page_size or self.longest or USUAL_PAGE) // 2), 0

    def step_back(self) -> None:
        """Count a step back. Raises BrokenPromise after too many."""
        self.steps += 1
        if self.steps > _STEPS and self.longest < _SMALLEST:
            raise BrokenPromise("the source sends pages of one row, which can't overlap")
        if self.steps > _STEPS:
            raise BrokenPromise("the source changes faster than it can be read by overlapping pages")

    def begin_anew(self) -> None:
        """Count a new beginning. Raises BrokenPromise after too many."""
        self.beginnings += 1
        if self.beginnings > _BEGINNINGS:
            raise BrokenPromise("the source changes faster than it can be read by overlapping pages")


def pages(api: Api, scan: Scan) -> Generator[Page, None, None]:
    """Yield the scan's pages from where its cursor stands. Raises SourceError: PagingRefused and OptionIgnored too."""
    (cursor,) = stored = scan.cursors
    most = api.page_size  # as it is set
    limits = _Limits(scan.page_size or most, most, None if most or scan.window.lower else OFFER)
    while not cursor.done:
        goes_by_link = isinstance(cursor.after, str) or not api.capabilities.supports("skip")
        try:
            page = (_read_by_link if goes_by_link else _read_by_skip)(api, scan, cursor, limits)
        except OptionIgnored as error:
            if cursor.tail and error.capability == "filter_dates":  # it was heeded before in this scan
                raise BrokenPromise(str(error)) from None
            raise
        except _LinkRefused as error:
            if cursor is stored[0]:  # a link of an earlier run: the service may write others by now
                cursor = Cursor(0, None, None)
                continue
            api.capabilities.refuse("next_link", error.words)
            raise
        cursor = page.cursor
        yield replace(page, page_size=limits.page_size)


# -- by $skip --------------------------------------------------------------------------------------------------------


def _read_by_skip(api: Api, scan: Scan, cursor: Cursor, limits: _Limits) -> Page:
    """Return the next page, or an empty one with the cursor to go on with."""
    end = cursor.after if isinstance(cursor.after, int) else 0
    if not cursor.tail:
        return _read_first(api, scan, cursor, limits)
    skip, steps = max(0, end - min(len(cursor.tail), limits.overlap)), 0
    while True:
        seen = _ask(api, scan, skip, limits)
        place = seen.find(cursor.tail)
        if place is not None:
            break
        steps += 1
        if skip == 0 or steps > _STEPS_A_PAGE:
            limits.begin_anew()
            return _make_page(scan, seen, Cursor(0, None, None), [])
        limits.step_back()
        skip = max(0, skip - max(1, (len(seen.rows) or USUAL_PAGE) // 2))
    if skip and place == end - 1:
        _check_skip(api, scan, limits)
    if place + 1 < len(seen.rows):
        return _go_on(scan, seen, skip, cursor)
    return _find_end(api, scan, cursor, seen, skip + place + 1, limits)


def _read_first(api: Api, scan: Scan, cursor: Cursor, limits: _Limits) -> Page:
    """Return the first page. An empty one may be made up by a gateway: it is asked for twice."""
    seen = _ask(api, scan, 0, limits)
    if not seen.rows:
        seen = _ask(api, scan, 0, limits)
    if not seen.rows:
        return _make_page(scan, seen, Cursor(0, cursor.after, None, done=True), [])
    return _go_on(scan, seen, 0, cursor)


def _go_on(scan: Scan, seen: _Seen, skip: int, cursor: Cursor) -> Page:
    """Return the rows of a page that were not at the end of the last one, and the cursor behind them."""
    known = set(cursor.tail)
    new = [place for place, row in enumerate(seen.rows) if row not in known]
    before = [row for row in cursor.tail if row not in set(seen.rows)]
    tail = tuple([*before, *seen.rows][-OVERLAP:])
    return _make_page(scan, seen, Cursor(0, skip + len(seen.rows), None, tail=tail), new)


def _find_end(api: Api, scan: Scan, cursor: Cursor, seen: _Seen, end: int, limits: _Limits) -> Page:
    """Return the last page, where nothing follows the last row; else the cursor to go on with.

    The page that showed nothing new may have been cut short: so it is asked for what follows its last row alone.
    """
    last = seen.rows[-1]
    if last != cursor.tail[-1]:  # a shorter page than the one before
        known = cursor.tail[: cursor.tail.index(last) + 1]
        return _make_page(scan, seen, Cursor(0, end, None, tail=known), [])
    beyond = _ask(api, scan, end - 1, limits)
    if list(beyond.rows) == [last] and (limits.longest >= _SMALLEST or not _ask(api, scan, end, limits).rows):
        return _make_page(scan, beyond, Cursor(0, end, None, done=True), [])
    if beyond.find([last]) is not None and beyond.rows[-1] != last:
        return _go_on(scan, beyond, end - 1, cursor)
    limits.step_back()  # rows have moved meanwhile: from here on once more
    return _make_page(scan, beyond, Cursor(0, end, None, tail=cursor.tail), [])


def _check_skip(api: Api, scan: Scan, limits: _Limits) -> None:
    """Raise OptionIgnored where rows come beyond the last: a page came as if from the first row on."""
    if _ask(api, scan, BEYOND, limits).rows:
        raise OptionIgnored("the source ignores $skip: the first page came again", "skip")


def _ask(api: Api, scan: Scan, skip: int, limits: _Limits) -> _Seen:
    """Ask for the rows from a place on, for fewer where the service can't serve as many."""
    while True:
        query = odata.query(write_window(scan), skip=skip, select=scan.select)
        try:
            reply = _ask_page(api, query, limits)
        except AskForLess as error:
            _shrink(limits, error, f"from row {skip + 1} on")
            continue
        return _take_in(scan, reply, limits)


def _ask_page(api: Api, query: str, limits: _Limits, size: int | None = None) -> Reply:
    size = size or limits.page_size
    try:
        is_least = size is not None and size <= _SMALLEST
        return api.page(query, page_size=size, offer=limits.offer, can_shrink=True, is_least=is_least)
    except Refused as error:
        if error.is_query:
            raise PagingRefused.by(error) from None
        raise


def _shrink(limits: _Limits, error: AskForLess, where: str) -> None:
    """Ask for half the rows from now on. Raises Unreachable where that can't be."""
    if limits.page_size is not None and limits.page_size <= _SMALLEST:
        raise Unreachable(
            f"{error}. Rows {where} can't be served, and no smaller page can be asked for; the next run tries again"
        ) from None
    limits.shrink()


def _take_in(scan: Scan, reply: Reply, limits: _Limits) -> _Seen:
    check_dates(scan, odata.places(reply.answer.rows))
    limits.heed(len(reply.answer.rows))
    return _Seen(reply, [_identify(row) for row in reply.answer.rows])


def _identify(row: bytes) -> _Row:
    """Return what tells a row of one version from any other: its keys, rowversion and date, or all that it is."""
    stamp = odata.stamp(row)
    version = odata.version_of(stamp)
    if version is None:  # perhaps it was spoilt on its way, and comes whole the next time
        version = odata.version_of(odata.Stamp(**payload.read_loosely(row, ("rowversion",))))
    told = [str(each) for each in (version, stamp.modifiedDate) if each is not None]
    key = f"{stamp.key('ID') or ''}/{stamp.key('jobID') or ''}"
    return key, " ".join(told or [blake2b(row, digest_size=8).hexdigest()])


def _make_page(scan: Scan, seen: _Seen, cursor: Cursor, new: Sequence[int]) -> Page:
    """Return the page of some rows that came; rows that came before are counted."""
    answer = seen.reply.answer
    rows = tuple(answer.rows[place] for place in new)
    return Page(
        rows,
        cursor,
        seen.reply.answered_at,
        replaced_characters=answer.replaced_characters,
        latest=find_latest(scan, odata.places(rows)),
    )


# -- by nextLink -----------------------------------------------------------------------------------------------------


def _read_by_link(api: Api, scan: Scan, cursor: Cursor, limits: _Limits) -> Page:
    """Return the page that a nextLink leads to, once it is known that nothing lies between it and the page before."""
    if not isinstance(cursor.after, str):
        return _read_last_or_next(api, scan, cursor, _write_first(scan), limits)
    if cursor.tail and _is_by_key(cursor.after, cursor.tail[-1]):
        return _read_last_or_next(api, scan, cursor, cursor.after, limits)
    overlapping = _find_overlapping(api, scan, cursor, limits)
    if overlapping is not None:
        return overlapping
    return _read_between(api, scan, cursor, limits)


def _find_overlapping(api: Api, scan: Scan, cursor: Cursor, limits: _Limits) -> Page | None:
    """Return the page after a shorter form of the page before: it shows rows of that one, and what follows them.

    None where the service sends no shorter pages, or where rows have moved.
    """
    size = limits.taken - OVERLAP
    if size < 1:
        return None
    shorter = _follow(api, scan, cursor.before or _write_first(scan), limits, size)
    link = shorter.reply.answer.next_query
    if link is None or len(shorter.rows) != size:
        return None
    seen = _follow(api, scan, link, limits)
    if seen.reply.answer.next_query is None:  # the last page: asked for twice
        seen = _follow(api, scan, link, limits)
    place = seen.find(cursor.tail)
    if place is None or (place + 1 == len(seen.rows) and seen.reply.answer.next_query is not None):
        return None
    return _go_on_by_link(scan, seen, link, limits, place + 1)


def _read_between(api: Api, scan: Scan, cursor: Cursor, limits: _Limits) -> Page:
    """Return the page that a link leads to, if the page before ends in the same way before and after that."""
    query = cursor.before or _write_first(scan)
    before = _follow(api, scan, query, limits)
    place = before.find(cursor.tail)
    if place is None:
        limits.begin_anew()
        return _make_page(scan, before, Cursor(0, None, None), [])
    if not _ends_at(before, cursor):
        limits.step_back()
        if before.reply.answer.next_query is None:  # it is the last page by now: asked for twice
            return _read_last_or_next(api, scan, cursor, query, limits)
        return _go_on_by_link(scan, before, query, limits, place + 1)
    page = _read_last_or_next(api, scan, cursor, str(cursor.after), limits)
    after = _follow(api, scan, query, limits)
    if _ends_at(after, cursor):
        return page
    limits.step_back()
    return _make_page(scan, after, cursor, [])


def _ends_at(seen: _Seen, cursor: Cursor) -> bool:
    """Whether a page ends where the cursor stands, with the link to go on with."""
    place = seen.find(cursor.tail)
    return place is not None and place + 1 == len(seen.rows) and seen.reply.answer.next_query == cursor.after


def _read_last_or_next(api: Api, scan: Scan, cursor: Cursor, query: str, limits: _Limits) -> Page:
    """Return the page of a query. Without a link, or without rows, it is the last one, and asked for twice."""
    seen = _follow(api, scan, query, limits)
    if seen.reply.answer.next_query is not None and seen.rows:
        return _go_on_by_link(scan, seen, query, limits)
    if seen.reply.answer.next_query is None and (not cursor.tail or len(seen.rows) >= limits.longest):
        _check_links(api, scan, seen)
    again = _follow(api, scan, query, limits)
    has_more = again.reply.answer.next_query is not None and bool(again.rows)
    if not has_more and bool(again.rows) == bool(seen.rows):
        return _make_page(scan, again, replace(cursor, done=True), range(len(again.rows)))
    limits.step_back()  # it has changed: it is held against the page before once more
    return _make_page(scan, again, cursor, [])


def _go_on_by_link(scan: Scan, seen: _Seen, query: str, limits: _Limits, begin: int = 0) -> Page:
    """Return the rows of a page from one on, and the cursor behind them: done where it has no link."""
    link = seen.reply.answer.next_query
    if link == query:
        raise BrokenPromise("the nextLink of a page leads to the page itself")
    limits.taken = len(seen.rows)
    cursor = Cursor(0, link, None, done=link is None, tail=tuple(seen.rows[-OVERLAP:]), before=query)
    return _make_page(scan, seen, cursor, range(begin, len(seen.rows)))


def _check_links(api: Api, scan: Scan, seen: _Seen) -> None:
    """Raise PagingRefused where a page has no nextLink, and it isn't known that others would have one.

    Unless the source counts no more rows than came, or a shorter page has a link.
    """
    with suppress(Refused):
        if count_rows(api, write_window(scan)) == len(seen.rows):
            return
    if len(seen.rows) > 1 and api.page("", page_size=1).answer.next_query is not None:
        return
    if len(seen.rows) <= 1 and api.capabilities.was_honoured_lately("next_link"):
        return
    api.capabilities.refuse("next_link", "a page has none, and it isn't known whether others follow")
    raise PagingRefused("the service has no nextLink", 0, is_query=True)


def _write_first(scan: Scan) -> str:
    return odata.query(write_window(scan), select=scan.select)


def _follow(api: Api, scan: Scan, query: str, limits: _Limits, size: int | None = None) -> _Seen:
    """Ask for the page of a nextLink, at our own address: its query alone is used. `size`: of a shorter page."""
    while True:
        try:
            return _take_in(scan, _ask_page(api, query, limits, size), limits)
        except AskForLess as error:
            _shrink(limits, error, "of a nextLink")
        except PagingRefused as error:
            raise error if query == _write_first(scan) else _LinkRefused.by(error) from None


def _is_by_key(link: str, last: _Row) -> bool:
    """Whether a link goes on behind a row by its key alone, as ASP.NET Core writes it (`$skiptoken=ID-5`).

    Then nothing can move what follows.
    """
    parts = (unquote(part) for part in link.split("&"))
    token = next((part.partition("=")[2] for part in parts if part.lower().startswith("$skiptoken=")), "")
    name, _, value = token.partition("-")
    number, _, job_id = last[0].partition("/")
    key = {"id": number, "jobid": job_id}.get(name.lower(), "")
    return bool(key) and value.strip("'").lower() == key.lower()
