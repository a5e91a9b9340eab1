"""Counts rows by the service's own `$count`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from etl.client import odata
from etl.errors import AskForLess

if TYPE_CHECKING:
    from etl.client.client import Api

_SLOW = 3  # answers that came too late, or not at all
# A row comes along, and it may be one that the service can't serve: then its key alone, or another row.
_ROWS: tuple[dict[str, Any], ...] = ({}, {"select": ("jobID",)}, {"skip": 1}, {"skip": 2})


def count_rows(api: Api, conditions: Sequence[str]) -> int | None:
    """Return how many rows meet the conditions, None where the service doesn't say. Raises SourceError."""
    slow = 0
    for row in _ROWS:
        query = odata.query(conditions, top=1, count=True, **row)
        while slow < _SLOW:
            try:
                return api.page(query, can_shrink=True).answer.total
            except AskForLess as error:
                if not error.is_too_large:
                    break
                slow += 1  # another row makes a slow count no faster
    return None
