"""How old mirrors are: `now() - complete_through` of each source, and what that comes to over sources and samples.

`complete_through` is by the account's own clock, so that an age is off by its skew, two seconds at most.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from math import ceil
from typing import NamedTuple

from etl.postgres.connection import Connection

# How old each source's mirror is by the database's clock. One row a source that was complete once: name, seconds.
_AGES = """
SELECT name, extract(epoch FROM clock_timestamp() - complete_through)::float8
FROM etl.sources
WHERE complete_through IS NOT NULL
"""
_COMPLETE = "SELECT name, complete_through FROM etl.sources WHERE complete_through IS NOT NULL"


class Ages(NamedTuple):
    """What ages came to: seconds that 50, 95 and 99 of 100 are not above, and the oldest; NaN where there are none."""

    p50: float
    p95: float
    p99: float
    oldest: float


def sample(db: Connection, leave_out: Collection[str]) -> list[float]:
    """The age of each source's mirror in seconds, but for those left out."""
    return [float(str(age)) for name, age in db.execute(_AGES).fetchall() if name not in leave_out]


def told(ages: list[float]) -> Ages:
    """The ages in four figures: each is one of the ages, none is made up between two."""
    if not ages:
        return Ages(*[float("nan")] * 4)
    ordered = sorted(ages)
    return Ages(*(ordered[ceil(share * len(ordered)) - 1] for share in (0.5, 0.95, 0.99, 1)))


def behind(db: Connection, wanted: Mapping[str, datetime]) -> set[str]:
    """The sources that are not yet complete through the moment that is wanted of them."""
    there = {str(name): moment for name, moment in db.execute(_COMPLETE).fetchall()}
    found = {name: there.get(name) for name in wanted}
    return {name for name, moment in found.items() if not isinstance(moment, datetime) or moment < wanted[name]}
