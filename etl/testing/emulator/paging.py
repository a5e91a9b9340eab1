"""How many rows a page has, and its nextLink. Pure."""

import re
from collections.abc import Container, Mapping
from typing import NamedTuple

from etl.testing.emulator.odata_query import BadQuery, Query
from etl.testing.emulator.query_executor import Found
from etl.testing.emulator.requests import address
from etl.testing.emulator.service_options import NextLinkHabit, ServiceOptions
from etl.testing.emulator.skip_tokens import write_position

ELSEWHERE = "https://elsewhere.example.net"
"""The host of a foreign nextLink. A client that follows it gives its token away."""

INNER = "http://jobsmanagement.internal:8080"
"""The host of a service behind a gateway, as the service itself knows it."""

_PREFIX, _PLACE = "/jobsmanagement", "/odata/v1.0/"
_MAX_PAGE_SIZE = re.compile(r"(?:odata\.)?maxpagesize\s*=\s*\"?(\d{1,9})", re.IGNORECASE)


class PageSize(NamedTuple):
    """Rows of a full page, and the preference that was applied, if any."""

    rows: int
    preferred: int | None = None


def choose_page_size(
    asked: Mapping[str, str], prefer: str, usual: int, options: ServiceOptions, ignored: Container[str]
) -> PageSize:
    """Return the page size for these query options and this Prefer header. Raises BadQuery if it is refused."""
    rows = _read_parameter(asked, usual, options)
    preferred = _MAX_PAGE_SIZE.search(prefer)
    is_heeded = options.prefer == "honoured" and "maxpagesize" not in ignored
    size = int(preferred[1]) if preferred and is_heeded else 0
    return PageSize(size, size) if 0 < size < rows else PageSize(rows)  # a preference only makes pages smaller


def _read_parameter(asked: Mapping[str, str], usual: int, options: ServiceOptions) -> int:
    requested = next((value for name, value in asked.items() if name.lower() == "pagesize"), None)
    if requested is None or options.pagesize == "ignored":
        return usual
    if options.pagesize == "refused" or not re.fullmatch(r"[1-9]\d{0,8}", requested, re.ASCII):
        raise BadQuery(f"The query parameter 'pagesize' can't be '{requested}'.")
    return int(requested) if options.pagesize == "honoured" else min(int(requested), options.max_pagesize)


def service_root(base: str, habit: NextLinkHabit) -> str:
    """Return the address of the OData service as its own answers write it."""
    host = INNER if habit in ("inner", "inner-no-prefix") else base
    return f"{host}{_PLACE}" if habit in ("no-prefix", "inner-no-prefix") else f"{host}{_PREFIX}{_PLACE}"


def write_next_link(
    base: str, asked: Mapping[str, str], query: Query, size: PageSize, found: Found, options: ServiceOptions
) -> str | None:
    """Return the nextLink of a page, or None if it has none. It repeats what was `asked`, but for the position."""
    habit, rows = options.next_link, len(found.rows)
    if not _has_next_link(query, size, rows, found.more, habit):
        return None
    # an older framework subtracts the page size, not the number of rows
    taken = size.rows if habit == "negative-top" else rows
    repeated = {name: value for name, value in asked.items() if name not in ("$skip", "$skiptoken")}
    left = {} if query.top is None else {"$top": str(query.top - taken)}
    position = write_position(query, taken, found.rows, options.next_link_by)
    place = service_root(ELSEWHERE if habit == "foreign" else base, habit)
    return address(f"{place}backgroundjob", {**repeated, **left, **position})


def _has_next_link(query: Query, size: PageSize, rows: int, more: bool, habit: NextLinkHabit) -> bool:
    match habit:
        case "never":
            return False
        case "always":
            return True
        case "on-last":
            return rows > 0
        case "on-full":
            return rows == size.rows
        case "negative-top":
            return more or (query.top is not None and 0 < rows == query.top < size.rows)
    return more
