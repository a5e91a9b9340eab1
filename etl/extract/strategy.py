"""Chooses how a scan asks for its rows, of what the service supports: its window and its paging, apart.

The first paging that works is taken (docs/correctness.md, "What the service may refuse"); a scan keeps its own to its
end, and only a refusal changes it, downwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from etl.client import odata
from etl.client.capabilities import KEY_FILTERS, Capabilities, list_needed
from etl.errors import AskForLess, BadAnswer, OutOfTime, Refused, Unreachable
from etl.extract import time_slice_scan
from etl.extract.probe import Probe
from etl.models import BY_SKIP, BY_TIME, KEYS, SYNC, Cursor, Paging, Scan, find_paging

if TYPE_CHECKING:
    from etl.client.client import Api

_ATTEMPTS = 4  # a page of HTML counts as a refusal after three, with other requests answered in between


class Way(NamedTuple):
    """How a scan asks: for the window of its dates or for all rows, and page by page along `key`."""

    key: str
    is_ordered: bool = True
    has_window: bool = True

    @property
    def paging(self) -> Paging:
        """How its pages are asked for."""
        return find_paging(self.key, is_ordered=self.is_ordered)


def choose(known: Capabilities, probe: Probe, scan: Scan) -> Way | None:
    """Return the cheapest way that the service supports for a scan; None where it supports none. Pure."""
    wants_window = scan.window.lower is not None
    windows = [True, False] if wants_window and known.supports("filter_dates") else [False]
    ways = (way for has_window in windows for way in _list_ways(known, probe, scan, has_window))
    return next(ways, None)


def _list_ways(known: Capabilities, probe: Probe, scan: Scan, has_window: bool) -> Iterator[Way]:
    """Yield the ways that work, the cheapest first."""
    can_filter = known.supports("and") or not has_window
    keys = [key for key in KEYS[KEYS.index(probe.key) :] if can_filter and known.supports(KEY_FILTERS[key])]
    if scan.opaque and scan.lane == SYNC and not can_count(known, has_window):
        keys = []  # which can't be compared here: nothing would tell that all rows came
    if known.supports("orderby"):
        yield from (Way(key, has_window=has_window) for key in keys)
    unordered: list[Way] = []
    if known.supports("default_order") and not known.supports("orderby"):
        # The source's count alone is no proof: rows that change after they came hide some that never did.
        unordered = [Way(key, False, has_window) for key in keys if key in probe.ascending]
    if scan.lane == SYNC:
        yield from unordered
    has_dates = known.supports("filter_dates", "count", "and", "slices")
    if has_dates and (has_window or (scan.window.lower is None and known.supports("null_dates"))):
        yield Way(BY_TIME, has_window=has_window)
    if known.supports("skip") or known.supports("next_link"):
        yield Way(BY_SKIP, has_window=has_window)
    if scan.lane != SYNC:  # a page that ascends is no proof for all times: another paging would find what it loses
        yield from unordered


def can_count(known: Capabilities, has_window: bool) -> bool:
    """Whether the source can be asked how many rows of a window were modified before a moment."""
    return known.supports("count", "filter_dates") and (known.supports("and") or not has_window)


def find_way(scan: Scan) -> Way:
    """Return the way that a scan goes."""
    return Way(scan.key, scan.is_ordered, scan.window.lower is not None)


def follow(scan: Scan, way: Way) -> Scan:
    """Return a scan from its beginning, in some way, with the same times."""
    window = scan.window if way.has_window else replace(scan.window, lower=None)
    scan = replace(scan, window=window, key=way.key, is_ordered=way.is_ordered, opaque=False, narrowed=False).anew()
    if way.key == BY_TIME:
        return time_slice_scan.by_time(scan)
    return replace(scan, cursors=(Cursor(0, None, None),))


def find_refused(api: Api, scan: Scan) -> list[str] | None:
    """Return what of a scan's query is refused, of one that was refused without a reason: its parts are asked alone.

    What was honoured lately isn't asked. None where a part has no answer: then nothing can be told.
    """
    refused: list[str] = []
    for query in _list_parts(scan):
        names = list_needed(query)
        if api.capabilities.was_honoured_lately(*names):
            continue
        try:
            api.page(query, page_size=1, attempts=_ATTEMPTS, can_do_without=True)
        except (AskForLess, Refused) as error:
            for name in names:
                api.capabilities.refuse(name, error.words)
            refused += names
        except OutOfTime:
            raise
        except (BadAnswer, Unreachable):
            return None
    return refused


def _list_parts(scan: Scan) -> Iterator[str]:
    """Yield queries of one option each, of those that a scan's paging needs."""
    lower = scan.window.lower
    if lower is not None:
        yield odata.query([f"modifiedDate ge {odata.literal(lower)}"])
    if scan.key in KEY_FILTERS:
        yield odata.query([f"{scan.key} gt {odata.literal(0 if scan.key == 'ID' else '0')}"])
        if scan.is_ordered:
            yield odata.query(order=scan.key)
    if scan.paging is Paging.TIME:
        yield odata.query([f"modifiedDate lt {odata.literal(scan.window.as_of)}"])
        yield odata.query(order=BY_TIME)
    if scan.paging in (Paging.TIME, Paging.SKIP):
        yield odata.query(skip=1)
    if scan.paging in (Paging.TIME, Paging.KEY_UNORDERED) or scan.opaque:
        yield odata.query(count=True)
    if scan.select:
        yield odata.query(select=scan.select)


def has_ranges_in_vain(known: Capabilities, scan: Scan) -> bool:
    """Whether a scan is read in ranges of its key, which takes `and`, though that is refused by now."""
    is_in_ranges = scan.narrowed or any(cursor.up_to is not None for cursor in scan.cursors)
    return scan.has_key and is_in_ranges and not known.supports("and")


def can_select(known: Capabilities, key: str) -> bool:
    """Whether a comparison by this key may ask for a few properties of each row.

    The whole rows of what differs are asked for again, by their keys (which takes `and`) or times. By overlapping pages
    nothing finds them again.
    """
    return known.supports("select", "and") and key != BY_SKIP


def describe(scan: Scan) -> str:
    """Say how the pages of a scan are asked for."""
    match scan.paging:
        case Paging.TIME:
            return "by slices of modifiedDate"
        case Paging.SKIP:
            return "by overlapping pages"
        case Paging.KEY_UNORDERED:
            return f"by {scan.key}, in the order that the service gives by itself"
    return f"by {scan.key}"
