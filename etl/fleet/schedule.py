"""When a source's turn comes: points of a grid, as far apart as it is set, spread by its name. Pure.

However many sources are synced each minute, each has a second of its own in it, the same on every machine; so nothing
needs to be remembered or agreed upon, and a source that was added moves no other.
"""

from datetime import UTC, datetime, timedelta
from zlib import crc32

_BEGAN = datetime(2020, 1, 1, tzinfo=UTC)


def spread(name: str) -> float:
    """Where in the time between two points a source has its own: from 0 to less than 1."""
    return crc32(name.encode()) / 2**32


def latest(name: str, every: timedelta, now: datetime) -> datetime:
    """The last point of a source's grid that has come."""
    began = _BEGAN + spread(name) * every
    return began + (now - began) // every * every
