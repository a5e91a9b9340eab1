"""What is checked when all is quiet: by the ledger no two runs of a source at once; mirrors equal to their accounts."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from etl.postgres.connection import Connection
from etl.testing.chaos import oracle
from etl.testing.load_test.emulator_client import Wheel

# Every run, as far as the ledger knows it. One row a run.
_RUNS = """
SELECT s.name, r.run_id, r.pid, r.started_at, r.finished_at
FROM etl.runs AS r
JOIN etl.sources AS s USING (source_id)
ORDER BY s.name, r.started_at, r.run_id
"""
# What the source no longer shows may wait for the next look at purges, which is an hour away at most.
_PURGED_WITHIN = timedelta(hours=2)


class Ran(NamedTuple):
    """A run in the ledger; of one that was killed nobody wrote the end."""

    source: str
    run_id: int
    pid: int
    started_at: datetime
    finished_at: datetime | None


@dataclass(slots=True)
class Verdict:
    """What was found: runs looked at; sentences on those that overlap; rows compared, and sentences on what differs.

    `waiting` rows are past their purge date and go with the next purge.
    """

    runs: int = 0
    overlaps: list[str] = field(default_factory=list)
    compared: int = 0
    waiting: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing was wrong."""
        return not self.overlaps and not self.differences


def judged(db: Connection, wheel: Wheel, names: Iterable[str], killed: Iterable[tuple[int, datetime]]) -> Verdict:
    """The runs of all sources, and the mirrors of these, whose accounts' clocks stand still."""
    runs = [Ran(*row) for row in db.execute(_RUNS).fetchall()]  # type: ignore[arg-type]
    verdict = Verdict(runs=len(runs), overlaps=list(overlaps(runs, killed)))
    for name in names:
        now, there = wheel.jobs(name)
        found = oracle.compare(db, there, (now - _PURGED_WITHIN, now), name)
        verdict.compared += found.compared
        verdict.waiting += len(found.waiting)
        verdict.differences += [f"{name}: {sentence}" for sentence in found.sentences]
    return verdict


def overlaps(runs: Iterable[Ran], killed: Iterable[tuple[int, datetime]]) -> Iterator[str]:
    """A sentence on each run that began before the source's run before it was over.

    `runs` by source and beginning; `killed`: which process was alive until when.
    """
    lived = dict(sorted(killed, key=lambda each: each[1]))
    for before, run in pairwise(sorted(runs, key=attrgetter("source", "started_at", "run_id"))):
        over = _end(before, lived)
        if before.source == run.source and run.started_at < over:
            yield f"{run.source}: run {run.run_id} began at {run.started_at}, run {before.run_id} was over at {over}"


def _end(run: Ran, lived: Mapping[int, datetime]) -> datetime:
    """When it ended at the latest that is known; a run that never ended is taken to have ended as it began."""
    return run.finished_at or max(run.started_at, lived.get(run.pid, run.started_at))
