"""Rows kept in the order of one property: the index of a table."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from typing import Any

from etl.testing.emulator.job_version import Job
from etl.testing.emulator.property_readers import reader

Entries = list[tuple[Any, int]]

_NULL = -1
"""Stands for a null date; no date is that early."""
_LAST = 1 << 62


class Order:
    """Entries (value, row number), ascending; nulls first, ties by row number."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries: Entries = []
        self._read = reader(name)

    def entry(self, job: Job) -> tuple[Any, int]:
        """Where this version of a row belongs."""
        value = self._read(job)
        return (_NULL if value is None else value, job.number)

    def replace(self, old: Job | None, new: Job | None) -> None:
        """Put one version of a row in the place of another; None for a row that comes or goes."""
        gone = None if old is None else self.entry(old)
        come = None if new is None else self.entry(new)
        if gone == come:
            return
        if gone is not None:
            del self.entries[bisect_left(self.entries, gone)]
        if come is not None:
            insort(self.entries, come)

    def replace_many(self, numbers: set[int], jobs: Iterable[Job]) -> None:
        """The same for many rows at once: one pass and one sort instead of thousands of insertions."""
        kept = [entry for entry in self.entries if entry[1] not in numbers] if numbers else self.entries[:]
        kept.extend(map(self.entry, jobs))
        kept.sort()
        self.entries = kept

    def span(self, op: str, value: Any) -> tuple[int, int]:
        """The slice (start, stop) of the entries for which `property op value` is true."""
        start, stop = bisect_left(self.entries, (_NULL, _LAST)) if self.name == "modifiedDate" else 0, len(self.entries)
        low, high = bisect_left(self.entries, (value, -1)), bisect_right(self.entries, (value, _LAST))
        match op:
            case "gt":
                start = max(start, high)
            case "ge":
                start = max(start, low)
            case "lt":
                stop = low
            case "le":
                stop = high
            case _:
                start, stop = max(start, low), high
        return start, max(start, stop)
