"""Counts rows by the service's own `$count`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from etl.client import odata
from etl.errors import AskForLess, Refused

if TYPE_CHECKING:
    from etl.client.attempts import Reply
    from etl.client.client import Api

_SLOW = 3  # answers that came too late, or not at all
# A row comes along, and it may be one that the service can't serve: then its key alone, or another row.
_ROWS: tuple[dict[str, Any], ...] = ({}, {"select": ("jobID",)}, {"skip": 1}, {"skip": 2})


def count_rows(api: Api, conditions: Sequence[str]) -> int | None:
    """Return how many rows meet the conditions, None where the service doesn't say. Raises SourceError."""
    if not api.capabilities.supports("count"):
        return None
    slow = 0
    for row in _ROWS:
        query = odata.query(conditions, top=1, count=True, **row)
        while slow < _SLOW:
            try:
                return read_total(api, api.page(query, can_shrink=True, optional=("top", "select")))
            except Refused:
                if api.capabilities.supports("count"):
                    raise
                return None
            except AskForLess as error:
                if not error.is_too_large:
                    break
                slow += 1  # another row makes a slow count no faster
    return None


def read_total(api: Api, reply: Reply) -> int | None:
    """Return the count of an answer; a service that answers without one doesn't count, unless it did lately."""
    if reply.answer.total is None and not api.capabilities.was_honoured_lately("count"):
        api.capabilities.refuse("count", "a count was asked for, and the answer has none")
    return reply.answer.total
