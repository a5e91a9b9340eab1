"""Strategies of change: which events come together, and what must find them.

Where increments must find everything, nothing else runs: no deep pass, no comparison, so that no defect of the main
scan is healed before it is seen.
"""

from dataclasses import dataclass

from etl.testing.chaos import mutations
from etl.testing.chaos.mutations import Event, FoundBy


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way in which a source changes. `restores`: its database goes back to earlier states, too."""

    name: str
    events: tuple[Event, ...]
    restores: bool = False

    @property
    def needs_sweep(self) -> bool:
        """Whether something happens that no watermark can tell."""
        return self.restores or any(event.found_by is FoundBy.SWEEP for event in self.events)

    @property
    def loses_jobs(self) -> bool:
        """Whether jobs vanish that no purge date explains."""
        return self.restores or not {mutations.DELETE, mutations.PURGE_DATE}.isdisjoint(self.events)

    @property
    def loses_jobs_only(self) -> bool:
        """Whether all that a sweep may find is ghosts."""
        return not self.restores and {e for e in self.events if e.found_by is FoundBy.SWEEP} == {mutations.DELETE}


_QUIET_LIFE = (mutations.INSERT, mutations.ARRIVE, mutations.CHANGE)

STRATEGIES = (
    Strategy("steady", (*_QUIET_LIFE, mutations.BULK)),
    Strategy("bulk", (mutations.BULK, mutations.BULK, mutations.INSERT)),
    Strategy("late", (mutations.LATE, mutations.LATE, mutations.LATE_INSERT, mutations.CHANGE, mutations.ARRIVE)),
    Strategy("rerun", (mutations.RERUN, mutations.DOCUMENTS, mutations.FEWER, mutations.FEWER, mutations.ARRIVE)),
    Strategy("purge", (mutations.SHORT_LIVED, mutations.CHANGE, mutations.BULK, mutations.RERUN)),
    Strategy(
        "extend",
        (mutations.SHORT_LIVED, mutations.EXTEND, mutations.EXTEND_LATE, mutations.LAST_MOMENT, mutations.CHANGE),
    ),
    Strategy(
        "odd rows",
        (mutations.ADD_PROPERTY, mutations.REMOVE_PROPERTY, mutations.MISTYPE, mutations.FUTURE, *_QUIET_LIFE),
    ),
    Strategy("another database", (mutations.ANOTHER_DATABASE, mutations.ANOTHER_DATABASE, *_QUIET_LIFE)),
    Strategy("unbumped", (mutations.UNBUMPED, mutations.BACK_DATED, mutations.UNDATED, *_QUIET_LIFE)),
    Strategy("delete", (mutations.DELETE, *_QUIET_LIFE, mutations.BULK)),
    Strategy("restore", (*_QUIET_LIFE, mutations.BULK, mutations.RERUN, mutations.EXTEND), restores=True),
    Strategy("everything", mutations.ALL, restores=True),
)
BY_NAME = {strategy.name: strategy for strategy in STRATEGIES}
