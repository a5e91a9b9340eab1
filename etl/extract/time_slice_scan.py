"""The scan where a source refuses to filter on its keys: by pieces of time, each as large as an answer holds.

A piece is good when the source counts as many jobs in it as came. One that holds more is cut before the last date that
came; jobs of one instant that no page holds are read by `$skip` between two equal counts, again until that holds
(correctness.md, "Fallback"). Rows only ever move towards now, which is read last: what changes meanwhile is there. Only
what is dated in the far future is read before, since the way to it would lead past now.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from etl.client import odata
from etl.errors import BrokenPromise, KeyRefused, Refused
from etl.models import BY_TIME, SHOWN_PLAY, TICK_PLAY, Cursor, Key, Page, Scan

if TYPE_CHECKING:
    from etl.client.client import Api, Reply

_TRIES = 5  # for jobs of one instant that change while they are read
_CUTS = 60  # of a piece: each leaves out what is beyond the page that came
_AHEAD = timedelta(days=1)  # of the source's time: what is dated beyond is the far future
_CHASED_AT_MOST = 500  # pieces that came up while the scan was under way
_DATED = ""  # the cursor after the jobs without a date: those with one come from the first on
_UNCOUNTED = "the source refuses to filter on its keys, and answers no $count to read by time instead"


@dataclass(frozen=True, slots=True)
class Piece:
    """The jobs modified from `lower` on and before `upper`, each as the source writes it ("" and None: no bound)."""

    lower: str
    upper: str | None

    @property
    def conditions(self) -> list[str]:
        """What `$filter` says of it. The same literal ends one piece and begins the next: nothing lies between."""
        bounds = (("ge", self.lower), ("lt", self.upper))
        return [f"{BY_TIME} {word} {bound}" for word, bound in bounds if bound] or [f"{BY_TIME} ne null"]

    def holds(self, moment: datetime) -> bool:
        """Whether a shown date can lie inside."""
        begin = odata.readable_instant(self.lower) or moment
        end = odata.readable_instant(self.upper)
        return moment >= begin - SHOWN_PLAY and (end is None or moment <= odata.plus(end, SHOWN_PLAY))


def by_time(scan: Scan) -> Scan:
    """The same scan from its beginning, by pieces of time: of the far future first, then all up to now."""
    future = odata.literal(odata.plus(scan.window.as_of, _AHEAD))
    first = None if scan.window.lower is None else odata.literal(scan.window.lower)
    return replace(scan.anew(), key=BY_TIME, opaque=False, cursors=(Cursor(0, future, None), Cursor(1, first, None)))


def pages(api: Api, scan: Scan) -> Generator[Page, None, None]:
    """The scan's pages from where its cursors stand. Raises SourceError, BrokenPromise among them."""
    now, begun = scan.window.as_of, odata.literal(scan.window.as_of)
    chased = 0
    for cursor in scan.cursors:
        while not cursor.done:
            page = _undated(api, scan, cursor) if cursor.after is None else _next(api, scan, cursor, _end(cursor, now))
            cursor, now = page.cursor, max(now, page.answered_at)
            yield page
            chased += cursor.part == 1 and begun < str(cursor.after or "")
            if chased > _CHASED_AT_MOST and not cursor.done:
                raise BrokenPromise(f"the source changes faster than it can be read by {BY_TIME}")


def _end(cursor: Cursor, now: datetime) -> str | None:
    """Where the pieces of a range end: of what is up to now, beyond any date that isn't the far future's."""
    if cursor.up_to is not None:
        return str(cursor.up_to)
    return None if cursor.part == 0 else odata.literal(odata.plus(now, _AHEAD))


def _undated(api: Api, scan: Scan, cursor: Cursor) -> Page:
    """The jobs without a date, where all rows are asked for; the cursor that begins those with one."""
    after = Cursor(cursor.part, _DATED, cursor.up_to, done=cursor.up_to == _DATED)
    conditions = [f"{BY_TIME} eq null"]
    _check_null(api, scan, conditions[0])
    try:
        reply = _asked(api, scan, conditions)
    except Refused:  # there are none, the counts say
        return Page((), after, scan.window.as_of)
    if any(odata.stamp(row).modified for row in reply.answer.rows):
        raise BrokenPromise(f"the source ignores $filter: asked for [{conditions[0]}], dated jobs came")
    return _page(reply, after) if _is_whole(api, scan, conditions, reply) else _crowd(api, scan, conditions, after)


def _check_null(api: Api, scan: Scan, is_null: str) -> None:
    """Raises BrokenPromise where jobs have no date that can be asked for, `eq null` neither: they would be lost.

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
    raise BrokenPromise(
        f"the source counts {lacking} jobs more than it has for [{is_null}], and before and after a date: "
        "read by time they would be lost"
    )


def _count(api: Api, conditions: Sequence[str]) -> int:
    total = api.page(odata.query(conditions, top=1, count=True)).answer.total
    if total is None:
        raise BrokenPromise(_UNCOUNTED)
    return total


def _next(api: Api, scan: Scan, cursor: Cursor, end: str | None) -> Page:
    """The longest piece from the cursor on that an answer holds."""
    piece = Piece(str(cursor.after), end)
    for _ in range(_CUTS):
        reply = _asked(api, scan, piece.conditions)
        dates = _dates(piece, reply)
        after = Cursor(cursor.part, piece.upper or piece.lower, cursor.up_to, done=piece.upper == end)
        if _is_whole(api, scan, piece.conditions, reply):
            return _page(reply, after)
        cut = _cut(dates, piece)
        if cut is None:
            return _crowd(api, scan, piece.conditions, after)
        piece = Piece(piece.lower, cut)
    raise BrokenPromise(f"a piece of time can't be cut to the size of a page: asked for {piece.conditions}")


def _cut(dates: Sequence[datetime], piece: Piece) -> str | None:
    """Where a piece ends that a page holds, as far as the one that came can tell; None where it is one instant."""
    first, last = dates[0], dates[-1]
    cut = odata.plus(last, -TICK_PLAY)
    if cut <= first:
        cut = odata.plus(first, 2 * TICK_PLAY)
    end = odata.readable_instant(piece.upper)
    text = odata.literal(cut)
    return text if text > piece.lower and (end is None or cut < end) else None


def _dates(piece: Piece, reply: Reply) -> list[datetime]:
    """The dates of an answer's rows, in the order that was asked for and inside of the piece."""
    stamps = [odata.stamp(row) for row in reply.answer.rows]
    dates = [stamp.modified for stamp in stamps if stamp.modified is not None]
    if strays := [date for date in dates if not piece.holds(date)]:
        raise BrokenPromise(f"the source ignores $filter: asked for {piece.conditions}, a row of {strays[0]} came")
    if dates != sorted(dates):
        raise BrokenPromise(f"the source ignores $orderby={BY_TIME}: dates don't ascend")
    if not dates and reply.answer.total != len(reply.answer.rows):
        raise BrokenPromise(f"the source counts {reply.answer.total} jobs and shows none with a date that can be read")
    return dates


def _crowd(api: Api, scan: Scan, conditions: Sequence[str], after: Cursor) -> Page:
    """Jobs that nothing tells apart but their place: read by `$skip`, until nothing moved meanwhile."""
    keys: set[Key | bytes] = set()
    counted = 0
    for _ in range(_TRIES):
        rows: list[bytes] = []
        replaced = 0
        reply = _asked(api, scan, conditions, "modifiedDate,jobID")
        counted = reply.answer.total or 0
        keys = set()
        while not keys.issuperset(came := _keys(reply)) and len(rows) <= counted:
            keys |= came
            rows += reply.answer.rows
            replaced += reply.answer.replaced_characters
            reply = _asked(api, scan, conditions, "modifiedDate,jobID", skip=len(rows))
        if len(keys) == len(rows) == counted == reply.answer.total:
            return Page(tuple(rows), after, reply.answered_at, replaced_characters=replaced)
    raise BrokenPromise(
        f"the jobs of one instant changed {_TRIES} times while they were read, or are counted wrongly: "
        f"{len(keys)} came, {counted} were counted; asked for {list(conditions)}. The next run tries again"
    )


def _asked(api: Api, scan: Scan, conditions: Sequence[str], order: str = BY_TIME, skip: int = 0) -> Reply:
    try:
        reply = api.page(odata.query(conditions, order, skip=skip, count=True, select=scan.select))
    except Refused as error:
        raise KeyRefused(str(error), error.status) if scan.select else error from None
    if reply.answer.total is None:
        raise BrokenPromise(_UNCOUNTED)
    return reply


def _is_whole(api: Api, scan: Scan, conditions: Sequence[str], reply: Reply) -> bool:
    """Whether an answer holds all that there is: as many jobs as the source counts, and it shows none beyond them.

    A service may count its page instead of its jobs. Raises BrokenPromise where it does.
    """
    keys = _keys(reply)
    if reply.answer.total != len(keys):  # rows that came twice count once
        return False
    if not keys:
        return True
    beyond = _asked(api, scan, conditions, "modifiedDate,jobID", skip=len(reply.answer.rows))
    more = _keys(beyond) - keys
    if more and (beyond.answer.total or 0) <= len(keys):
        raise BrokenPromise(f"the source's $count is wrong: {len(keys)} for {list(conditions)}, and it shows more")
    return True


def _keys(reply: Reply) -> set[Key | bytes]:
    """The jobs of an answer; a row without a key stands for itself."""
    return {odata.stamp(row).key("jobID") or row for row in reply.answer.rows}


def _page(reply: Reply, after: Cursor) -> Page:
    return Page(reply.answer.rows, after, reply.answered_at, replaced_characters=reply.answer.replaced_characters)
