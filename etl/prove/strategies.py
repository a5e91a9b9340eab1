"""Strategies of change: which events come together, and what must find them.

Where increments must find everything, nothing else runs: no deep pass, no comparison, so that no defect of the main
scan is healed before it is seen.
"""

from dataclasses import dataclass

from etl.prove import events
from etl.prove.events import Event, FoundBy


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
        return self.restores or not {events.DELETE, events.PURGE_DATE}.isdisjoint(self.events)

    @property
    def loses_jobs_only(self) -> bool:
        """Whether all that a sweep may find is ghosts."""
        return not self.restores and {e for e in self.events if e.found_by is FoundBy.SWEEP} == {events.DELETE}


_QUIET_LIFE = (events.INSERT, events.ARRIVE, events.CHANGE)

STRATEGIES = (
    Strategy("steady", (*_QUIET_LIFE, events.BULK)),
    Strategy("bulk", (events.BULK, events.BULK, events.INSERT)),
    Strategy("late", (events.LATE, events.LATE, events.LATE_INSERT, events.CHANGE, events.ARRIVE)),
    Strategy("rerun", (events.RERUN, events.DOCUMENTS, events.FEWER, events.FEWER, events.ARRIVE)),
    Strategy("purge", (events.SHORT_LIVED, events.CHANGE, events.BULK, events.RERUN)),
    Strategy("extend", (events.SHORT_LIVED, events.EXTEND, events.EXTEND_LATE, events.LAST_MOMENT, events.CHANGE)),
    Strategy("odd rows", (events.ADD_PROPERTY, events.REMOVE_PROPERTY, events.MISTYPE, events.FUTURE, *_QUIET_LIFE)),
    Strategy("another database", (events.ANOTHER_DATABASE, events.ANOTHER_DATABASE, *_QUIET_LIFE)),
    Strategy("unbumped", (events.UNBUMPED, events.BACK_DATED, events.UNDATED, *_QUIET_LIFE)),
    Strategy("delete", (events.DELETE, *_QUIET_LIFE, events.BULK)),
    Strategy("restore", (*_QUIET_LIFE, events.BULK, events.RERUN, events.EXTEND), restores=True),
    Strategy("everything", events.ALL, restores=True),
)
BY_NAME = {strategy.name: strategy for strategy in STRATEGIES}
