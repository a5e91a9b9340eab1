"""How a source is served, how it is asked, and how far this machine's clock is off; and what is counted meanwhile."""

from dataclasses import dataclass, fields
from datetime import timedelta
from random import Random
from typing import get_args

from etl.testing.chaos.oracle import Difference
from etl.testing.chaos.scenarios import Strategy
from etl.testing.emulator import Comparison, Generation, NextLink

_NONE = timedelta()


@dataclass(frozen=True, slots=True)
class Habits:
    """Of a service: payloads, pages, links, dates, filters refused, faults. Of us: concurrency, clock, purge.

    `skew`: our clock less the source's. `deep`: whether syncs make deep passes.
    """

    jobs: int = 200
    generation: Generation = "2019-06"
    page_size: int = 20
    changing_pages: bool = False
    next_link: NextLink = "standard"
    comparison: Comparison = "datetime"
    refuse: tuple[str, ...] = ()
    late_share: float = 0.0
    fault_rate: float = 0.0
    concurrency: int = 1
    skew: timedelta = _NONE
    purge: str = "delete"
    deep: bool = False

    @classmethod
    def by_chance(cls, rng: Random, strategy: Strategy, large: float = 0.05) -> "Habits":
        """Any habits under which the strategy's promise holds; `large`: how often a scan is split into ranges."""
        is_large = rng.random() < large
        # Without a filter on keys nobody can be asked about ghosts.
        refused = [(), (), (), ("id",), () if strategy.loses_jobs else ("id", "jobid")]
        return cls(
            jobs=2_100 if is_large else rng.randint(60, 160),
            generation=rng.choice(get_args(Generation)),
            page_size=200 if is_large else rng.choice([7, 20, 50]),
            changing_pages=rng.random() < 0.3,
            next_link=rng.choice(get_args(NextLink)),
            comparison=rng.choice(get_args(Comparison)),
            refuse=rng.choice(refused),
            late_share=rng.choice([0.0, 0.3]),
            fault_rate=rng.choice([0.0, 0.02, 0.1]),
            concurrency=4 if is_large or rng.random() < 0.1 else 1,
            skew=timedelta(minutes=rng.choice([0, -10, 5, 20 * 60])),  # behind by less than the look-back
            purge=rng.choice(["delete", "delete", "scrub", "keep"]),
            deep=strategy.needs_sweep and rng.random() < 0.5,
        )


@dataclass(slots=True)
class Tally:
    """What was done, and what was found: from `missing` on it must be zero."""

    events: int = 0
    syncs: int = 0
    kills: int = 0
    faults: int = 0
    compared: int = 0
    missing: int = 0
    stale: int = 0
    ghosts: int = 0
    twice: int = 0
    broken: int = 0

    def __iadd__(self, other: "Tally") -> "Tally":
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        return self

    def count(self, found: Difference) -> None:
        """Takes in what a comparison found."""
        self.compared += found.compared
        self.missing += len(found.missing)
        self.stale += len(found.stale)
        self.ghosts += len(found.ghosts)

    @property
    def wrong(self) -> int:
        """What must be zero."""
        return self.missing + self.stale + self.ghosts + self.twice + self.broken
