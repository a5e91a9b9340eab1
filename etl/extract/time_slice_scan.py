"""The scan where a source refuses to filter on its keys: by time slices, each as large as an answer holds.

A slice is good when the source counts as many jobs in it as came. One that holds more is cut before the last date that
came, or in half where the service doesn't order by dates; jobs of one instant that no page holds are read by `$skip`
between two equal counts, again until that holds (docs/correctness.md, "The scan by time"). Rows only ever move towards
now, which is read last: what changes meanwhile is there. Only what is dated in the far future is read before, since the
way to it would lead past now.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from etl.client import odata
from etl.errors import AskForLess, BrokenPromise, OptionIgnored, PagingRefused, Refused, Unreachable
from etl.extract.page_checks import find_latest
from etl.extract.row_count import count_rows, read_total
from etl.models import BY_TIME, SHOWN_PLAY, TICK_PLAY, USUAL_PAGE, Cursor, Key, Page, Scan

if TYPE_CHECKING:
    from etl.client.attempts import Reply
    from etl.client.client import Api

_TRIES = 5  # for jobs of one instant that change while they are read
_FILLED = 0.8  # of a page, by a slice whose length is guessed
_GROWTH = 4  # from one slice to the next; where it were more, a larger answer tells better
_CUTS = 60  # of a slice: each leaves out what is beyond the page that came
_AHEAD = timedelta(days=1)  # of the source's time: what is dated beyond is the far future
_CHASED_AT_MOST = 500  # slices that came up while the scan was under way
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)  # of what is halved where a slice has no bound
_A_YEAR = timedelta(days=366)
_DATED = ""  # the cursor after the jobs without a date: those with one come from the first on
_UNCOUNTED = "the source answers no $count, which a scan by time needs"
_BY_PLACE = f"{BY_TIME},jobID"  # the order of jobs that a page doesn't hold


@dataclass(frozen=True, slots=True)
class TimeSlice:
    """The jobs modified from `lower` on and before `upper`, each as the source writes it ("" and None: no bound)."""

    lower: str
    upper: str | None

    @property
    def conditions(self) -> list[str]:
        """What `$filter` says of it. The same literal ends one slice and begins the next: nothing lies between."""
        bounds = (("ge", self.lower), ("lt", self.upper))
        return [f"{BY_TIME} {word} {bound}" for word, bound in bounds if bound] or [f"{BY_TIME} ne null"]

    def holds(self, moment: datetime) -> bool:
        """Whether a shown date can lie inside."""
        begin = odata.readable_instant(self.lower) or moment
        end = odata.readable_instant(self.upper)
        return moment >= begin - SHOWN_PLAY and (end is None or moment <= odata.plus(end, SHOWN_PLAY))


@dataclass(slots=True)
class _Limit:
    """How much is asked for at a time, where the service can't serve more: rows, and how long a slice is at most.

    The slice may be twice as long after each that it serves; or as long as `most` rows take, the most that a page held
    of a larger slice, where rows don't come in the order of their dates.
    """

    page_size: int | None = None
    span: timedelta | None = None
    most: int = 0

    def shorten(self, slice_: TimeSlice, now: datetime, error: AskForLess) -> TimeSlice:
        """Return half of a slice that can't be served, to be asked for in half as many rows.

        Raises Unreachable where it is one row of one instant.
        """
        is_least = self.page_size == 1
        self.page_size = max(1, (self.page_size or USUAL_PAGE) // 2)
        begin = max(odata.readable_instant(slice_.lower) or _BEGINNING, _BEGINNING)
        # A slice without an end begins in the far future, perhaps.
        end = odata.readable_instant(slice_.upper) or max(odata.plus(now, _AHEAD), odata.plus(begin, _A_YEAR))
        self.span = (end - begin) / 2
        upper = odata.literal(odata.plus(begin, self.span))
        if self.span < 2 * TICK_PLAY or upper <= slice_.lower:
            if not is_least:
                return slice_
            raise Unreachable(
                f"{error}. Jobs modified at {slice_.lower or 'the beginning'} can't be served, and no shorter time can "
                "be asked for; the next run tries again"
            ) from None
        return TimeSlice(slice_.lower, upper)

    def cut(self, slice_: TimeSlice) -> TimeSlice:
        """Return a slice no longer than the limit."""
        begin = odata.readable_instant(slice_.lower)
        if self.span is None or begin is None:
            return slice_
        upper = odata.literal(odata.plus(begin, self.span))
        self.span = None if self.span > _A_YEAR else 2 * self.span
        return TimeSlice(slice_.lower, upper) if slice_.upper is None or upper < slice_.upper else slice_

    def fit(self, slice_: TimeSlice, rows: int) -> None:
        """Let the next slice hold about a page, after one that came whole with so many rows."""
        begin, end = odata.readable_instant(slice_.lower), odata.readable_instant(slice_.upper)
        if self.most and begin is not None and end is not None:
            is_sparse = _FILLED * self.most >= _GROWTH * rows
            self.span = None if is_sparse else (end - begin) * _FILLED * self.most / rows


def by_time(scan: Scan) -> Scan:
    """Return the same scan from its beginning, by time slices: of the far future first, then all up to now."""
    future = odata.literal(odata.plus(scan.window.as_of, _AHEAD))
    first = None if scan.window.lower is None else odata.literal(scan.window.lower)
    return replace(scan.anew(), key=BY_TIME, opaque=False, cursors=(Cursor(0, future, None), Cursor(1, first, None)))


def pages(api: Api, scan: Scan) -> Generator[Page, None, None]:
    """Yield the scan's pages from where its cursors stand. Raises SourceError: PagingRefused, BrokenPromise too."""
    has_rows = scan.done > 0
    try:
        for page in _read(api, scan):
            has_rows = has_rows or bool(page.rows)
            yield page
    except OptionIgnored as error:
        if has_rows:  # it was heeded before in this scan
            raise BrokenPromise(str(error)) from None
        raise


def _read(api: Api, scan: Scan) -> Generator[Page, None, None]:
    now, begun = scan.window.as_of, odata.literal(scan.window.as_of)
    chased, limit = 0, _Limit(scan.page_size)
    for cursor in scan.cursors:
        while not cursor.done:
            page = (
                _undated(api, scan, cursor, limit)
                if cursor.after is None
                else _next(api, scan, cursor, _end(cursor, now), limit)
            )
            cursor, now = page.cursor, max(now, page.answered_at)
            yield page
            chased += cursor.part == 1 and begun < str(cursor.after or "")
            if chased > _CHASED_AT_MOST and not cursor.done:
                raise BrokenPromise(f"the source changes faster than it can be read by {BY_TIME}")


def _end(cursor: Cursor, now: datetime) -> str | None:
    """Return where the slices of a range end: of what is up to now, beyond any date that isn't the far future's."""
    if cursor.up_to is not None:
        return str(cursor.up_to)
    return None if cursor.part == 0 else odata.literal(odata.plus(now, _AHEAD))


def _undated(api: Api, scan: Scan, cursor: Cursor, limit: _Limit) -> Page:
    """Return the jobs without a date, where all rows are asked for; the cursor that begins those with one."""
    after = Cursor(cursor.part, _DATED, cursor.up_to, done=cursor.up_to == _DATED)
    conditions = [f"{BY_TIME} eq null"]
    _check_null(api, scan, conditions[0])
    try:
        reply = _ask_smaller(api, scan, conditions, limit)
    except Refused as error:
        if error.option not in (None, "eq"):
            raise
        # There are none, the counts say.
        return Page((), after, scan.window.as_of)
    if any(odata.find_date(odata.stamp(row).modifiedDate) for row in reply.answer.rows):
        raise OptionIgnored(f"the source ignores $filter: asked for [{conditions[0]}], dated jobs came", "filter_dates")
    is_whole = _is_whole(api, scan, conditions, reply, limit)
    return _page(scan, reply, after) if is_whole else _crowd(api, scan, conditions, after, limit)


def _check_null(api: Api, scan: Scan, is_null: str) -> None:
    """Raise PagingRefused where jobs have no date that can be asked for, `eq null` neither: they would be lost.

    All are counted first: what is born or moves on meanwhile only makes the others more.
    """
    apart = odata.literal(odata.plus(scan.window.as_of, _AHEAD))
    lacking = 0
    for _ in range(_TRIES):
        every = _count(api, [])
        undated = 0
        with suppress(Refused):
            undated = _count(api, [is_null])
        lacking = every - undated - _count(api, [f"{BY_TIME} lt {apart}"]) - _count(api, [f"{BY_TIME} ge {apart}"])
        if lacking <= 0:
            return
    said = (
        f"the source counts {lacking} jobs more than it has for [{is_null}], and before and after a date: read by time "
        "they would be lost"
    )
    api.capabilities.refuse("null_dates", said)
    raise PagingRefused(said, 0, is_query=True)


def _count(api: Api, conditions: Sequence[str]) -> int:
    try:
        total = count_rows(api, conditions)
    except Refused as error:
        raise (PagingRefused.by(error) if error.is_query else error) from None
    if total is None:
        raise PagingRefused(_UNCOUNTED, 0, is_query=True, option="count")
    return total


def _next(api: Api, scan: Scan, cursor: Cursor, end: str | None, limit: _Limit) -> Page:
    """Return the longest slice from the cursor on that an answer holds."""
    slice_ = limit.cut(TimeSlice(str(cursor.after), end))
    for _ in range(_CUTS):
        try:
            reply = _asked(api, scan, slice_.conditions, limit=limit)
        except AskForLess as error:
            slice_ = limit.shorten(slice_, scan.window.as_of, error)
            continue
        dates = _dates(api, slice_, reply)
        after = Cursor(cursor.part, slice_.upper or slice_.lower, cursor.up_to, done=slice_.upper == end)
        if _is_whole(api, scan, slice_.conditions, reply, limit):
            if not api.capabilities.supports("orderby_dates"):
                limit.fit(slice_, len(dates))
            return _page(scan, reply, after)
        limit.most = len(dates)
        cut = _cut(dates, slice_, reply.answer.total or 0)
        if cut is None:
            return _crowd(api, scan, slice_.conditions, after, limit)
        slice_ = TimeSlice(slice_.lower, cut)
    raise BrokenPromise(f"a time slice can't be cut to the size of a page: asked for {slice_.conditions}")


def _cut(dates: Sequence[datetime], slice_: TimeSlice, total: int) -> str | None:
    """Return where a slice ends that a page holds, as far as the one that came can tell; None where it is one instant.

    Where dates don't ascend they are some of `total`, and a part of the slice that fits is guessed: as if they were any
    of its rows, and as if they were the first and its rows were spread evenly; the longer one is taken.
    """
    ordered = sorted(dates)
    first, last = ordered[0], ordered[-1]
    end = odata.readable_instant(slice_.upper)
    if list(dates) != ordered:
        sampled = ordered[min(len(dates) * len(dates) // (total + 1), len(dates) - 1)]
        begin = odata.readable_instant(slice_.lower) or first
        share = _FILLED * len(dates) / (total + 1)
        last = max(sampled, min(last, begin + (end - begin) * share)) if end is not None else sampled
    cut = odata.plus(last, -TICK_PLAY)
    if cut <= first:
        cut = odata.plus(first, 2 * TICK_PLAY)
    text = odata.literal(cut)
    return text if text > slice_.lower and (end is None or cut < end) else None


def _dates(api: Api, slice_: TimeSlice, reply: Reply) -> list[datetime]:
    """Return the dates of an answer's rows, in the order that was asked for and inside of the slice."""
    stamps = [odata.stamp(row) for row in reply.answer.rows]
    dates = [stamp.modified for stamp in stamps if stamp.modified is not None]
    if strays := [date for date in dates if not slice_.holds(date)]:
        said = f"the source ignores $filter: asked for {slice_.conditions}, a row of {strays[0]} came"
        raise OptionIgnored(said, "filter_dates")
    if dates != sorted(dates) and api.capabilities.supports("orderby_dates"):
        raise OptionIgnored(f"the source ignores $orderby={BY_TIME}: dates don't ascend", "orderby_dates")
    if not dates and reply.answer.total != len(reply.answer.rows):
        raise BrokenPromise(f"the source counts {reply.answer.total} jobs and shows none with a date that can be read")
    return dates


def _crowd(api: Api, scan: Scan, conditions: Sequence[str], after: Cursor, limit: _Limit) -> Page:
    """Return jobs that nothing tells apart but their place. Raises PagingRefused where `$skip` is refused.

    Then slices of time don't do for this source.
    """
    try:
        return _read_crowd(api, scan, conditions, after, limit)
    except PagingRefused as error:
        if not api.capabilities.supports("skip"):
            api.capabilities.refuse("slices", error.words)
        raise


def _read_crowd(api: Api, scan: Scan, conditions: Sequence[str], after: Cursor, limit: _Limit) -> Page:
    """Read jobs by `$skip`, until nothing moved meanwhile."""
    keys: set[Key | bytes] = set()
    counted = 0
    for _ in range(_TRIES):
        rows: list[bytes] = []
        replaced = 0
        reply = _ask_smaller(api, scan, conditions, limit, _BY_PLACE)
        counted = reply.answer.total or 0
        keys = set()
        while not keys.issuperset(came := _keys(reply)) and len(rows) <= counted:
            keys |= came
            rows += reply.answer.rows
            replaced += reply.answer.replaced_characters
            reply = _ask_smaller(api, scan, conditions, limit, _BY_PLACE, skip=len(rows))
        if len(keys) == len(rows) == counted == reply.answer.total:
            latest = find_latest(scan, odata.places(rows))
            return Page(tuple(rows), after, reply.answered_at, replaced_characters=replaced, latest=latest)
    raise BrokenPromise(
        f"the jobs of one instant changed {_TRIES} times while they were read, or are counted wrongly: "
        f"{len(keys)} came, {counted} were counted; asked for {list(conditions)}. The next run tries again"
    )


def _ask_smaller(
    api: Api, scan: Scan, conditions: Sequence[str], limit: _Limit, order: str = BY_TIME, skip: int = 0
) -> Reply:
    """Ask for rows of a slice that can't be cut, in smaller pages where the service can't serve larger ones."""
    while True:
        try:
            return _asked(api, scan, conditions, order, skip, limit=limit)
        except AskForLess as error:
            if limit.page_size == 1:
                raise Unreachable(f"{error}; no smaller page can be asked for, the next run tries again") from None
            limit.page_size = max(1, (limit.page_size or USUAL_PAGE) // 2)


def _asked(
    api: Api, scan: Scan, conditions: Sequence[str], order: str = BY_TIME, skip: int = 0, *, limit: _Limit
) -> Reply:
    size = limit.page_size
    order = order if api.capabilities.supports("orderby_dates") else ""
    query = odata.query(conditions, order, skip=skip, count=True, select=scan.select)
    try:
        reply = api.page(query, page_size=size, can_shrink=True, is_least=size == 1)
    except Refused as error:
        raise (PagingRefused.by(error, is_joined=len(conditions) > 1) if error.is_query else error) from None
    if read_total(api, reply) is None:
        raise PagingRefused(_UNCOUNTED, 0, is_query=True, option="count")
    return reply


def _is_whole(api: Api, scan: Scan, conditions: Sequence[str], reply: Reply, limit: _Limit) -> bool:
    """Whether an answer holds all that there is: as many jobs as the source counts, and it shows none beyond them.

    A service may count its page instead of its jobs. Raises OptionIgnored where it does.
    """
    keys = _keys(reply)
    if reply.answer.total != len(keys):  # rows that came twice count once
        return False
    if not keys or not api.capabilities.supports("skip"):
        return True
    try:
        beyond = _ask_smaller(api, scan, conditions, limit, _BY_PLACE, skip=len(reply.answer.rows))
    except PagingRefused as error:
        if error.option is None:  # all but `$skip` and this order was answered just now
            api.capabilities.refuse("skip", error.said)
        if not api.capabilities.supports("skip"):
            return True
        raise
    more = _keys(beyond) - keys
    if more and (beyond.answer.total or 0) <= len(keys):
        said = f"the source's $count is wrong: {len(keys)} for {list(conditions)}, and it shows more"
        raise OptionIgnored(said, "count")
    return True


def _keys(reply: Reply) -> set[Key | bytes]:
    """Return the keys of an answer's jobs; a row without a key stands for itself."""
    return {odata.stamp(row).key("jobID") or row for row in reply.answer.rows}


def _page(scan: Scan, reply: Reply, after: Cursor) -> Page:
    answer = reply.answer
    latest = find_latest(scan, odata.places(answer.rows))
    return Page(answer.rows, after, reply.answered_at, replaced_characters=answer.replaced_characters, latest=latest)
