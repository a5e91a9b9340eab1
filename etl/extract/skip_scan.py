"""The scan of a source that can't be asked by its keys nor by time: by `$skip`, on pages that overlap.

A row that comes or goes before the cursor moves all that follow, so each page begins some rows before the end of the
last one, and has to show one of these in the same version: what follows it in the order of the service has no gap. A
page without any is asked for further back, and where even the first page has none the scan begins anew
(docs/correctness.md, "By overlapping pages").

A service that refuses `$skip` may page by its nextLink. Of that only the query is taken; and the page before, asked
for once more, has to end as it did, with the same link, unless the link itself names the last row.
"""

from __future__ import annotations

import re
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
from etl.extract.row_count import count_rows
from etl.models import USUAL_PAGE, Cursor, Page, Scan, Support

if TYPE_CHECKING:
    from etl.client.attempts import Reply
    from etl.client.client import Api

OVERLAP = 10  # rows of a page that the next one begins with, at most half of it; and that are remembered
_OFFER = 250  # rows that a scan of all rows offers to take a page; the service may ignore that
_BEYOND = 1_000_000  # rows to skip: more than there are
_BEGINNINGS = 20  # times that a scan begins anew, because nothing of the page before was to be found
_STEPS = 200  # back, in one run
_SMALLEST = 2  # rows of a page: of one row nothing can overlap
_GROW_AFTER = 10  # good pages, before twice as many rows are asked for again

_Row = tuple[str, str]  # key and version


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
    """How many rows are asked for (`offer`: may come), and how often the scan has gone back."""

    page_size: int | None
    offer: int | None = None
    longest: int = 0  # page that came, in rows
    last: int = 0  # page that came, in rows
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
            if self.page_size >= USUAL_PAGE:
                self.page_size = None

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
    (cursor,) = scan.cursors
    limits = _Limits(scan.page_size, None if scan.window.lower else _OFFER)
    while not cursor.done:
        goes_by_link = isinstance(cursor.after, str) or not api.capabilities.supports("skip")
        try:
            page = (_read_by_link if goes_by_link else _read_by_skip)(api, scan, cursor, limits)
        except OptionIgnored as error:
            if cursor.tail and error.capability == "filter_dates":  # it was heeded before in this scan
                raise BrokenPromise(str(error)) from None
            raise
        cursor = page.cursor
        yield replace(page, page_size=limits.page_size)


# -- by $skip --------------------------------------------------------------------------------------------------------


def _read_by_skip(api: Api, scan: Scan, cursor: Cursor, limits: _Limits) -> Page:
    """Return the next page, or an empty one with the cursor to go on with."""
    end = cursor.after if isinstance(cursor.after, int) else 0
    if not cursor.tail:
        return _read_first(api, scan, cursor, limits)
    skip = max(0, end - min(len(cursor.tail), limits.overlap))
    while True:
        seen = _ask(api, scan, skip, limits)
        place = seen.find(cursor.tail)
        if place is not None:
            break
        if skip == 0:
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
        return _go_on(scan, seen, end - len(seen.rows), cursor)
    beyond = _ask(api, scan, end - 1, limits)
    if list(beyond.rows) == [last] and (limits.longest >= _SMALLEST or not _ask(api, scan, end, limits).rows):
        return _make_page(scan, beyond, Cursor(0, end, None, done=True), [])
    if beyond.find([last]) is not None and beyond.rows[-1] != last:
        return _go_on(scan, beyond, end - 1, Cursor(0, end, None, tail=(last,)))
    limits.step_back()  # rows have moved meanwhile: from here on once more
    return _make_page(scan, beyond, Cursor(0, end, None, tail=cursor.tail), [])


def _check_skip(api: Api, scan: Scan, limits: _Limits) -> None:
    """Raise OptionIgnored where rows come beyond the last: a page came as if from the first row on."""
    if _ask(api, scan, _BEYOND, limits).rows:
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


def _ask_page(api: Api, query: str, limits: _Limits) -> Reply:
    size = limits.page_size
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
    """Return what tells a row of one version from any other: key, rowversion and date, or what else there is."""
    stamp = odata.stamp(row)
    version = odata.version_of(stamp)
    if version is None:  # perhaps it was spoilt on its way, and comes whole the next time
        version = odata.version_of(odata.Stamp(**payload.read_loosely(row, ("rowversion",))))
    digest = "" if version is not None else blake2b(row, digest_size=8).hexdigest()
    key = f"{stamp.key('ID') or ''}/{stamp.key('jobID') or ''}"
    return key, f"{version or ''} {stamp.modifiedDate or ''} {digest}".strip()


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
    """Return the page that a nextLink leads to, once the page before is known to end where it did."""
    first = odata.query(write_window(scan), select=scan.select)
    query = cursor.after if isinstance(cursor.after, str) else first
    seen = _follow(api, scan, query, limits)
    if not isinstance(cursor.after, str):
        _check_links(api, scan, seen)
    elif not (seen.rows and cursor.tail and _is_by_key(query, cursor.tail[-1])):
        before = _follow(api, scan, cursor.before or first, limits)
        place = before.find(cursor.tail)
        if place is None:
            limits.begin_anew()
            return _make_page(scan, before, Cursor(0, None, None), [])
        if place + 1 < len(before.rows) or before.reply.answer.next_query != query:
            limits.step_back()
            return _go_on_by_link(scan, before, cursor.before or first, place + 1)
    if seen.reply.answer.next_query is not None and seen.rows:
        return _go_on_by_link(scan, seen, query)
    again = _follow(api, scan, query, limits)
    if again.rows == seen.rows and again.reply.answer.next_query == seen.reply.answer.next_query:
        return _make_page(scan, seen, replace(cursor, done=True), range(len(seen.rows)))
    limits.step_back()  # the last page has changed: it is held against the page before once more
    return _make_page(scan, again, cursor, [])


def _go_on_by_link(scan: Scan, seen: _Seen, query: str, begin: int = 0) -> Page:
    """Return the rows of a page from one on, and the cursor behind them."""
    link = seen.reply.answer.next_query
    if link == query:
        raise BrokenPromise("the nextLink of a page leads to the page itself")
    # Without a link it was the last page, and is read as such once more.
    before = query if link is not None else None
    cursor = Cursor(0, link or query, None, tail=tuple(seen.rows[-OVERLAP:]), before=before)
    return _make_page(scan, seen, cursor, range(begin, len(seen.rows)))


def _check_links(api: Api, scan: Scan, seen: _Seen) -> None:
    """Raise PagingRefused where a first page has no nextLink, and it isn't known that others have.

    Unless the source counts no more rows than came.
    """
    if seen.reply.answer.next_query is not None or api.capabilities.find("next_link").support is Support.YES:
        return
    with suppress(Refused):
        if count_rows(api, write_window(scan)) == len(seen.rows):
            return
    if len(seen.rows) > 1 and api.page("", page_size=1).answer.next_query is not None:
        return
    api.capabilities.refuse("next_link", "a page has none, and it isn't known whether others follow")
    raise PagingRefused("the service has no nextLink", 0, is_query=True)


def _follow(api: Api, scan: Scan, query: str, limits: _Limits) -> _Seen:
    """Ask for the page of a nextLink, at our own address: its query alone is used."""
    while True:
        try:
            return _take_in(scan, _ask_page(api, query, limits), limits)
        except AskForLess as error:
            _shrink(limits, error, "of a nextLink")
        except PagingRefused as error:
            if isinstance(scan.cursors[0].after, str) or "$skip" in query:  # a query that the service wrote itself
                api.capabilities.refuse("next_link", error.said or str(error))
            raise


def _is_by_key(link: str, last: _Row) -> bool:
    """Whether a link goes on behind a row by its key, as ASP.NET Core writes it: then nothing can move what follows."""
    number, _, job_id = last[0].partition("/")
    token = next((part for part in unquote(link).split("&") if part.lower().startswith("$skiptoken=")), "")
    is_by_id = bool(number) and re.search(rf"\bID[-:=]{re.escape(number)}\b", token, re.IGNORECASE) is not None
    return is_by_id or (bool(job_id) and job_id.lower() in token.lower())
