"""Asks for the newest row and the source's time, before anything else of a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from etl.client import odata
from etl.errors import AskForLess, BadAnswer, Refused, Unreachable
from etl.models import KEYS

if TYPE_CHECKING:
    from etl.client.attempts import Reply
    from etl.client.client import Api

_NEWEST = 5  # rows that are tried for the newest one
_SIZES = (None, 20, 5, 1)  # of a page, in rows
ENOUGH_ROWS = 20  # of a page, to tell by which property the service orders it by itself


class Probe(NamedTuple):
    """A row of the source (None: it shows none) and the time by its clock.

    The row is the newest one if `is_newest`; where the service doesn't order by dates, it is any. Then `ascending` are
    the keys in whose order a full page came that was not in the order of its dates.
    """

    row: odata.Stamp | None
    as_of: datetime
    is_newest: bool = True
    ascending: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """The property that a scan goes by: ID, or jobID where the source shows no ID."""
        return "ID" if self.row is not None and self.row.key("ID") is not None else "jobID"

    @property
    def newest(self) -> datetime | None:
        """The date of the newest row, None where it has none or isn't known."""
        return self.row.modified if self.row is not None and self.is_newest else None


def probe(api: Api) -> Probe:
    """Ask for the newest row; where the service doesn't order by dates, for any page. Raises SourceError."""
    reply = _ask_known(api)
    if reply is not None:
        rows = reply.answer.rows
        return Probe(odata.stamp(rows[0]) if rows else None, reply.answered_at)
    reply = _any_page(api)
    stamps = [odata.stamp(row) for row in reply.answer.rows]
    # Of these the one that was modified last is the least likely to be purged while the run asks for it.
    row = max(stamps, key=lambda stamp: stamp.modified or odata.FIRST, default=None)
    return Probe(row, reply.answered_at, is_newest=False, ascending=find_order(stamps))


def find_order(stamps: Sequence[odata.Stamp]) -> frozenset[str]:
    """Return the keys in whose order a page came, and not in that of its dates: see Probe."""
    return frozenset(name for name in KEYS if _is_in_order_of(name, stamps))


def _ask_known(api: Api) -> Reply | None:
    """Return the newest row, of an address that never answered too.

    There a page of HTML means a wrong address or a missing right; or a firewall refuses this query: if so, the plain
    request is answered.
    """
    try:
        return newest_row(api)
    except Refused as error:
        if error.is_query or api.is_known:
            raise
        _any_page(api)
        return newest_row(api)


def _any_page(api: Api) -> Reply:
    """Return a page in the service's own order: a smaller one where it can't serve more, else one of other rows.

    Where it answers neither, smaller ones are asked for once each: perhaps it can't serve more of any rows.
    """
    another = odata.query(skip=1)
    outage: Unreachable | None = None
    for size in _SIZES:
        try:
            return api.page("", page_size=size, attempts=1 if outage else None, can_shrink=True, another=another)
        except AskForLess:
            continue
        except Unreachable as error:
            if not error.was_answered or error.is_doubtful:  # a refusal, or a busy service: nothing smaller helps
                raise
            outage = outage or error
    if outage:
        raise outage
    for skip in range(1, _NEWEST):
        with suppress(AskForLess, BadAnswer, Refused, Unreachable):
            return api.page(odata.query(skip=skip), page_size=1, attempts=1)
    return api.page("", page_size=1, is_least=True)


def newest_row(api: Api, attempts: int | None = None) -> Reply | None:
    """Return the newest row that the service can serve, if it has any; None where it doesn't order by dates.

    Raises SourceError.
    """
    if not api.capabilities.supports("orderby_dates"):
        return None
    first, second = (odata.query(order="modifiedDate desc", top=1, skip=skip) for skip in (0, 1))
    try:
        return api.page(
            first,
            can_shrink=True,
            is_least=True,
            another=second,
            attempts=attempts,
            optional=("top",),
        )
    except Refused as error:
        if not error.is_query:
            raise
        if error.option is None:  # other requests were answered meanwhile, and nothing else is asked here
            api.capabilities.refuse("orderby_dates", error.said)
        if api.capabilities.supports("orderby_dates"):
            raise
        return None
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
            query = odata.query(order="modifiedDate desc", top=1, skip=skip)
            return api.page(query, attempts=1, optional=("top",))
    if isinstance(error, Unreachable):
        raise error
    raise Unreachable(f"{error}; nor the {_NEWEST - 1} rows after it. Nothing is lost, the next run goes on") from None


def _is_in_order_of(name: str, stamps: Sequence[odata.Stamp]) -> bool:
    """Whether a page ascends by a key and not by its dates: pages in the order of dates lose rows that change."""
    keys = [key for stamp in stamps if (key := stamp.key(name)) is not None and odata.comparable(key)]
    if len(keys) < max(ENOUGH_ROWS, len(stamps)) or len({type(key) for key in keys}) > 1:
        return False
    dates = [stamp.modified for stamp in stamps if stamp.modified is not None]
    return all(odata.is_less(*pair) for pair in pairwise(keys)) and any(one > two for one, two in pairwise(dates))
