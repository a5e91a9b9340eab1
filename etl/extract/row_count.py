"""Counts rows by the service's own `$count`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from etl.client import odata
from etl.errors import AskForLess

if TYPE_CHECKING:
    from etl.client.client import Api

# A row comes along, and it may be one that the service can't serve: then its key alone, or another row.
_ROWS: tuple[dict[str, Any], ...] = ({}, {"select": ("jobID",)}, {"skip": 1}, {"skip": 2})


def count_rows(api: Api, conditions: Sequence[str]) -> int | None:
    """Return how many rows meet the conditions, None where the service doesn't say. Raises SourceError."""
    for row in _ROWS:
        with suppress(AskForLess):
            query = odata.query(conditions, top=1, count=True, **row)
            return api.page(query, can_shrink=True, is_least=True).answer.total
    return None
