"""What all the work is done with: the cluster, how much of everything, how often; and the figures as they come."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.bench.databases import Cluster
from tests.bench.measure import progress
from tests.bench.table import Figure, Line

T = TypeVar("T")
OFTEN, SELDOM = 5, 3  # repeats of what is quick, and of what takes longer than ten seconds


@dataclass
class Stage:
    """`scale` 1 is the size of the targets; `runs` None leaves the number of repeats to each piece of work."""

    cluster: Cluster
    folder: Path
    scale: float = 1.0
    runs: int | None = None
    lines: list[Line] = field(default_factory=list)
    floors: list[Figure] = field(default_factory=list)

    def size(self, jobs: int) -> int:
        """So many jobs, at this scale."""
        return max(300, round(jobs * self.scale))

    def repeated(self, work: Callable[[], T], runs: int, before: Callable[[], object] | None = None) -> list[T]:
        """What each repeat gave; `before` prepares each of them."""
        found = []
        for _ in range(self.runs or runs):
            if before is not None:
                before()
            found.append(work())
        return found

    def floor(self, what: str, unit: str, values: Iterable[float], command: str) -> Figure:
        """A floor, noted."""
        figure = Figure(what, unit, tuple(values), command)
        progress(f"floor {figure}")
        self.floors.append(figure)
        return figure

    def note(self, *lines: Line) -> None:
        """Lines of the table."""
        for line in lines:
            progress(str(line.figure))
        self.lines.extend(lines)
