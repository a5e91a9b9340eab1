"""Whether a run asked again for pages whose cursor was committed: a kill must cost what was in flight, no more."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import dropwhile, takewhile
from typing import NamedTuple

from etl.testing.chaos.oracle import Connection
from etl.testing.emulator import Request

_OPEN = "SELECT key, cursors FROM etl.scans WHERE lane = 'sync'"
_BOUND = r"\b{} {} (\S+?)(?:\)|$| and )"


class Open(NamedTuple):
    """The open scan as it was committed: what it goes by, and [part, after, up_to, done] of its ranges."""

    key: str
    cursors: Sequence[Sequence[object]]


def committed(db: Connection) -> Open | None:
    """The scan that a killed or failed run left open; None where there is none."""
    row = db.execute(_OPEN).fetchone()
    return Open(str(row[0]), row[1]) if row and isinstance(row[1], list) else None


def asked_again(before: Open | None, requests: Iterable[Request]) -> list[str]:
    """The filters of requests that a run made for pages of this scan that were committed before it."""
    if before is None:
        return []
    answered = [request.query for request in requests if request.fault in ("", "slow")]
    filters = [query.get("$filter", "") for query in _of_the_scan(answered) if _is_page(query, before.key)]
    return [text for text in filters if not _went_on(text, before)]


def _of_the_scan(queries: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The requests between a run's first probe and its second: what follows is another scan's."""
    from_the_first = list(dropwhile(lambda query: not _is_probe(query), queries))[1:]
    return list(takewhile(lambda query: not _is_probe(query), from_the_first))


def _is_probe(query: Mapping[str, str]) -> bool:
    return query.get("$orderby") == "modifiedDate desc"


def _is_page(query: Mapping[str, str], key: str) -> bool:
    plain = not query.keys() & {"$top", "$skip", "$select"}
    return plain and query.get("$orderby") == key and " eq " not in query.get("$filter", "")


def _went_on(text: str, before: Open) -> bool:
    """Whether a request lies inside of what is left of a range that isn't done."""
    if before.key == "modifiedDate":
        after = _bound(text, before.key, "ge")
        return any(not done and _is_past(after, began) for _, began, _, done in before.cursors)
    after, up_to = _bound(text, before.key, "gt"), _bound(text, before.key, "le")
    return any(
        not done and _is_past(after, began) and (end is None or (up_to is not None and not _is_beyond(up_to, end)))
        for _, began, end, done in before.cursors  # or in a part of one: ranges are split on the way
    )


def _is_past(after: str | None, began: object) -> bool:
    if began in (None, ""):  # at its beginning
        return True
    if after is None:
        return False
    return int(after) >= began if isinstance(began, int) else after >= str(began)


def _is_beyond(up_to: str, end: object) -> bool:
    return int(up_to) > end if isinstance(end, int) else up_to > str(end)


def _bound(text: str, key: str, word: str) -> str | None:
    found = re.search(_BOUND.format(key, word), text)
    return found and found[1].strip("'")
