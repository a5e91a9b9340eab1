"""Fetches the pages of a scan by key, smaller ones where the service can't serve a whole page.

Two things keep a page from coming for good, while other requests are answered. It is too large: then half the rows are
asked for, and more again after a while. Or it holds a record that the service can't serve: then its rows are asked for
in ever smaller parts, until that record alone is left out, as a reject. The rules: docs/correctness.md, "Pages that
don't come".
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from msgspec.structs import replace

from etl.client import odata, payload
from etl.errors import AskForLess, BrokenPromise, OptionIgnored, PagingRefused, Refused, Unreachable
from etl.extract.page_checks import Ends, NoKeyError, check_page
from etl.extract.page_size import OFFER, PageSize
from etl.extract.unserved_records import Suspect, find_next, list_beyond, name_range, name_reject, step_over
from etl.models import Cursor, Key, Page, Reject, Scan, Span

if TYPE_CHECKING:
    from etl.client.client import Api

_MOST_REJECTS, _MOST_IN_A_ROW = 10, 3  # records that one run may leave out
_MOST_NAMELESS = 1_000  # rows in a row without a readable key: more are another form of the key
_NO_CHANCE = 10  # rows that kept to what was asked: fewer may do so by chance
_HIGHEST = 0xFFFFFFFF  # the first eight digits of a GUID
_WIDER = 4  # times as wide is the range after one without rows
_EMPTY_AT_MOST = 32  # ranges in a row without rows, before one without an end is asked for


class _Request(NamedTuple):
    """How a page is asked for: so many rows (None: as many as the service sends), up to a key, beyond some rows."""

    size: int | None = None
    bound: Key | None = None
    skip: int = 0
    is_least: bool = False  # nothing smaller can be asked for


@dataclass(slots=True)
class _Range:
    """What is known of one key range: how wide a part of it is asked for, and how many parts had no rows."""

    width: int
    empty: int = 0


class PageFetcher:
    """The pages of one scan. Safe to use from several threads, each with ranges of its own."""

    def __init__(self, api: Api, scan: Scan, left_out: Sequence[Span] = ()) -> None:
        self._api = api
        self._scan = scan
        # To step over a record takes a range of keys that ends before it.
        self._left_out = sorted(left_out) if api.capabilities.supports("and") else []
        self._size = PageSize(scan, api.page_size)
        self._offer = None if api.page_size or scan.window.lower is not None else OFFER
        self._suspects: dict[int, Suspect] = {}
        self._ranges: dict[int, _Range] = {}
        self._rejected = 0
        self._ends = Ends()
        # What this scan has seen the service keep to.
        is_resumed = any(cursor.after is not None for cursor in scan.cursors)
        self._honoured = {"filter_dates", "orderby"} if is_resumed else set[str]()
        self._lock = threading.Lock()

    def fetch(self, cursor: Cursor, ended: threading.Event) -> Page:
        """Return the next page of a range, checked. Raises SourceError: among them BrokenPromise and PagingRefused."""
        cursor = step_over(self._left_out, cursor)
        while True:
            request = self._plan(cursor)
            page: Page | None
            try:
                page = self._ask(cursor, request, ended)
            except AskForLess as error:
                page = self._ask_for_less(cursor, request, error, ended)
            if page is None:
                continue
            whole = min(request.size or self._size.usual, self._size.usual)
            with self._lock:
                is_doubtful = self._ends.is_doubtful(
                    page, cursor, whole, is_bounded=request.bound is not None, is_narrow=self._size.is_narrowed
                )
            if not is_doubtful:
                return self._accept(cursor, request, page)

    # -- asking ------------------------------------------------------------------------------------------------------

    def _plan(self, cursor: Cursor) -> _Request:
        """How the next page of a range is asked for."""
        suspect = self._suspects.get(cursor.part)
        size = self._size.rows if suspect is None else max(1, suspect.rows // 2)
        left_out = find_next(self._left_out, cursor)
        if suspect is None and left_out is not None and not self._size.is_narrowed:
            return _Request(size, left_out.last, is_least=size == 1)
        if suspect is not None and suspect.keys:
            bound = suspect.keys[min(size or 1, len(suspect.keys)) - 1].key(self._scan.key)
            return _Request(size, bound, is_least=size == 1)
        if not self._size.is_narrowed or size is None:
            return _Request(size, is_least=size == 1)
        bound = self._bound(cursor, size)
        width = self._ranges[cursor.part].width if cursor.part in self._ranges else 1
        return _Request(size, bound, is_least=size == 1 and (bound is None or width == 1))

    def _bound(self, cursor: Cursor, size: int) -> Key | None:
        """Where a part of a range ends that holds about so many rows; None where the rest may be asked for."""
        if cursor.after is not None and not self._api.capabilities.supports("and"):
            return None
        is_guid = self._scan.key != "ID"
        begin = odata.place_of(cursor.after)
        if begin is None:
            if cursor.after is not None:
                return None  # keys of another form have no places
            begin = -1 if not is_guid else 0
        density = _HIGHEST // max(self._scan.expected or 1_000, 1) if is_guid else 1
        found = self._ranges.setdefault(cursor.part, _Range(max(1, size * density)))
        end = begin + found.width
        last = odata.place_of(cursor.up_to)
        if (last is not None and end >= last) or (is_guid and end >= _HIGHEST) or found.empty > _EMPTY_AT_MOST:
            return None
        return f"{end:08x}" if is_guid else end

    def _ask(self, cursor: Cursor, request: _Request, ended: threading.Event) -> Page:
        """Ask for a page once, as the client does. Raises AskForLess where less may be answered."""
        scan = self._scan
        query = self._write(cursor, request, scan.select)
        is_joined = "%20and%20" in query
        try:
            answer, answered_at = self._api.page(
                query,
                ended,
                page_size=request.size,
                offer=self._offer,
                can_shrink=True,
                is_least=request.is_least,
            )
        except Refused as error:
            was_honoured = {"filter_keys", "and"} if is_joined else {"filter_keys"}
            if error.is_query and error.option is None and was_honoured <= self._honoured:
                raise Unreachable(f"{error}. It was answered before in this scan; the next run goes on") from None
            if error.is_query:
                raise PagingRefused.by(error, is_joined=is_joined) from None
            raise
        if is_joined:
            self._honoured.add("and")
        end = cursor if request.bound is None else replace(cursor, up_to=request.bound)
        try:
            page = check_page(scan, end, answer, answered_at)
        except NoKeyError as error:
            page = self._skip_nameless(cursor, request, answer, error, ended)
        except OptionIgnored as error:
            raise self._judge_ignored(error, query) from None
        except BrokenPromise as error:
            raise BrokenPromise(f"{error}; asked for [{query.replace('%20', ' ')}]") from None
        if request.bound is None:
            return page
        # A part of the range was read: what is beyond is still to come.
        after = page.cursor.after if page.rows else request.bound
        done = isinstance(after, int) and after == cursor.up_to
        return replace(page, cursor=Cursor(cursor.part, after, cursor.up_to, done=done))

    def _judge_ignored(self, error: OptionIgnored, query: str) -> BrokenPromise:
        """Return what becomes of an option without effect: it counts as refused, unless this scan has seen it work."""
        asked = f"asked for [{query.replace('%20', ' ')}]"
        if error.capability == "orderby" and not self._scan.is_ordered:
            said = f"the service doesn't give its rows in the order of {self._scan.key} by itself; {asked}"
            return OptionIgnored(said, "default_order")
        said = f"{error}; {asked}"
        return BrokenPromise(said) if error.capability in self._honoured else OptionIgnored(said, error.capability)

    def _skip_nameless(
        self, cursor: Cursor, request: _Request, answer: payload.Answer, error: NoKeyError, ended: threading.Event
    ) -> Page:
        """Return a page of rows without a readable key together with the page after it, which shows where it ends.

        Raises the error where the rows moved meanwhile: then the next run reads them.
        """
        beyond = request._replace(skip=request.skip + len(answer.rows))
        if beyond.skip > _MOST_NAMELESS:
            raise error
        page = self._ask(cursor, beyond, ended)
        again = self._api.page(self._write(cursor, request, self._scan.select), ended, page_size=request.size).answer
        if again.rows != answer.rows:
            raise error
        return replace(page, rows=(*answer.rows, *page.rows))

    def _write(self, cursor: Cursor, request: _Request, select: Sequence[str]) -> str:
        conditions = write_window(self._scan)
        if cursor.after is not None:
            conditions.append(f"{self._scan.key} gt {odata.literal(cursor.after)}")
        up_to = cursor.up_to if request.bound is None else request.bound
        if up_to is not None:
            conditions.append(f"{self._scan.key} le {odata.literal(up_to)}")
        order = self._scan.key if self._scan.is_ordered else ""
        return odata.query(conditions, order, skip=request.skip, select=select)

    # -- good pages --------------------------------------------------------------------------------------------------

    def _accept(self, cursor: Cursor, request: _Request, page: Page) -> Page:
        """Take in a page that came: how many rows the next may have, and how far a suspected record is."""
        with self._lock:
            self._honoured |= {"filter_id", "filter_keys"} if cursor.after is not None else set()
            self._honoured |= {"filter_dates", "orderby"} if len(page.rows) >= _NO_CHANCE else set()
            self._heed_suspect(cursor, page)
            if request.bound is not None and cursor.part in self._ranges:
                found = self._ranges[cursor.part]
                found.empty = 0 if page.rows else found.empty + 1
                found.width *= _WIDER if not page.rows else 2 if 2 * len(page.rows) < (request.size or 1) else 1
            self._size.heed(request.size, len(page.rows), may_grow=cursor.part not in self._suspects)
            return replace(page, page_size=self._size.stored, narrowed=self._size.is_narrowed)

    def _heed_suspect(self, cursor: Cursor, page: Page) -> None:
        suspect = self._suspects.get(cursor.part)
        if suspect is None:
            return
        had_keys = bool(suspect.keys)
        suspect.keys = list_beyond(suspect.keys, page.cursor.after, self._scan.key)
        suspect.rows = len(suspect.keys) if had_keys else suspect.rows - len(page.rows)
        suspect.largest = max(suspect.largest, len(page.rows))
        if suspect.rows <= 0 or page.rejects or page.cursor.done:
            del self._suspects[cursor.part]
            if not page.rejects:
                self._size.set(suspect.largest)

    # -- pages that don't come ---------------------------------------------------------------------------------------

    def _ask_for_less(
        self, cursor: Cursor, request: _Request, error: AskForLess, ended: threading.Event
    ) -> Page | None:
        """Decide how less is asked for next; or return the page beyond a record that can't be served."""
        if (found := self._ranges.get(cursor.part)) is not None:
            found.empty = 0
            found.width = max(1, found.width // 2)
        if error.is_too_large and not request.is_least:
            self._shrink(cursor, request)
            return None
        suspect = self._suspects.get(cursor.part)
        if suspect is None:
            rows = request.size or max(self._size.usual, self._offer or 0)
            suspect = Suspect(rows, self._list_keys(cursor, request, ended))
            suspect.rows = len(suspect.keys) or rows
            with self._lock:
                self._suspects[cursor.part] = suspect
            if not request.is_least and suspect.rows > 1:
                return None
        elif not request.is_least:
            suspect.rows = request.size or 1
            return None
        return self._leave_out(cursor, request, suspect, error, ended)

    def _shrink(self, cursor: Cursor, request: _Request) -> None:
        """Ask for half the rows from now on."""
        with self._lock:
            if (suspect := self._suspects.get(cursor.part)) is not None:
                suspect.rows = max(1, suspect.rows // 2)
            self._size.shrink(request.size, self._offer)

    def _list_keys(self, cursor: Cursor, request: _Request, ended: threading.Event) -> list[odata.Stamp]:
        """Return the keys of a page that can't be served, as far as they can be asked for alone."""
        names = sorted({"jobID", self._scan.key})
        query = self._write(cursor, request, names)
        try:
            reply = self._api.page(
                query, ended, page_size=request.size, offer=self._offer, attempts=2, can_do_without=True
            )
            rows = reply.answer.rows
            end = cursor if request.bound is None else replace(cursor, up_to=request.bound)
            undated = replace(self._scan, window=replace(self._scan.window, lower=None))
            if check_page(undated, end, reply.answer, reply.answered_at).repeated:
                return []
        except (AskForLess, BrokenPromise, Refused, Unreachable):
            return []
        stamps = [odata.stamp(row) for row in rows]
        keys = [stamp.key(self._scan.key) for stamp in stamps]
        return stamps if keys and all(key is not None for key in keys) else []

    def _leave_out(
        self, cursor: Cursor, request: _Request, suspect: Suspect, error: AskForLess, ended: threading.Event
    ) -> Page | None:
        """Leave out the one record that is left, once those beside it are answered: the page after it."""
        self._count_reject(suspect, error)
        if cursor.after is not None and not suspect.in_a_row:
            self._check_neighbour(cursor.after, ended)
        if suspect.keys:
            lost = suspect.keys.pop(0)
            after = lost.key(self._scan.key)
            reject = name_reject(error, self._scan.key, after, lost.key("jobID"))
        elif isinstance(request.bound, int) and request.bound - (odata.place_of(cursor.after) or 0) == 1:
            after = request.bound
            reject = name_reject(error, self._scan.key, after)
        elif (
            isinstance(request.bound, str)
            and (odata.place_of(request.bound) or 0) - (odata.place_of(cursor.after) or 0) == 1
        ):
            after = f"{request.bound}{odata.BEYOND}"
            reject = name_range(error, self._scan.key, cursor.after, after)
        else:
            return self._skip(cursor, suspect, error, ended)
        return self._go_on(replace(cursor, after=after), suspect, reject, ended)

    def _go_on(self, cursor: Cursor, suspect: Suspect, reject: Reject, ended: threading.Event) -> Page:
        """Return the page after a record that was left out. Another that can't be served may follow."""
        bound: Key | None = suspect.keys[0].key(self._scan.key) if suspect.keys else None
        if bound is None and self._size.is_narrowed and (place := odata.place_of(cursor.after)) is not None:
            bound = place + 1 if isinstance(cursor.after, int) else f"{place + 1:08x}"
        request = _Request(1, bound, is_least=True)
        page: Page | None
        try:
            page = self._ask(cursor, request, ended)
        except AskForLess as error:
            suspect.in_a_row += 1
            page = self._leave_out(cursor, request, suspect, error, ended)
            if page is None:
                self._fail(cursor, error)
        if not page.rows and not page.rejects:  # which is no end, before it is asked for by itself
            page = replace(page, cursor=replace(page.cursor, done=False))
        return replace(page, rejects=(reject, *page.rejects))

    def _skip(self, cursor: Cursor, suspect: Suspect, error: AskForLess, ended: threading.Event) -> Page | None:
        """Leave out a record that has no name: the page after it, which begins with the row that follows."""
        page: Page | None
        try:
            page = self._ask(cursor, _Request(1, None, skip=1, is_least=True), ended)
        except (AskForLess, Refused):
            page = None
        if page is None or len(page.rows) > 1:
            if self._size.is_narrowed:
                self._fail(cursor, error)
            # The service doesn't heed how many rows are asked for, it seems: by ranges of the key, then.
            with self._lock:
                self._size.narrow()
                suspect.rows = max(2, self._size.usual)
                self._rejected -= 1
            return None
        before = odata.stamp(page.rows[0]).key(self._scan.key) if page.rows else None
        return replace(page, rejects=(name_range(error, self._scan.key, cursor.after, before),))

    def _count_reject(self, suspect: Suspect, error: AskForLess) -> None:
        with self._lock:
            self._rejected += 1
            is_too_many = self._rejected > _MOST_REJECTS or suspect.in_a_row >= _MOST_IN_A_ROW
        if is_too_many:
            raise Unreachable(
                f"{error}; more than {_MOST_IN_A_ROW} records in a row, or {_MOST_REJECTS} in a run, can't be served. "
                "Nothing is lost, the next run goes on"
            )

    def _check_neighbour(self, key: Key, ended: threading.Event) -> None:
        """Raise Unreachable unless the row before is answered now: else it is an outage."""
        query = odata.query([f"{self._scan.key} eq {odata.literal(key)}"])
        if odata.comparable(key):
            self._api.page(query, ended)

    def _fail(self, cursor: Cursor, error: AskForLess) -> NoReturn:
        raise Unreachable(
            f"{error}. A record with {self._scan.key} beyond {cursor.after or 'the first'} can't be served, and no "
            "smaller page can be asked for; the next run tries again"
        ) from None


def write_window(scan: Scan) -> list[str]:
    """Return the condition of a scan's window."""
    lower = scan.window.lower
    return [] if lower is None else [f"modifiedDate ge {odata.literal(lower)}"]
