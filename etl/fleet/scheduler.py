"""The schedule: when a source's turn comes, and what is due for it.

A turn is a point of a grid as far apart as is set, spread by the source's name: however many sources are synced each
minute, each has a second of its own in it, the same on every machine. So nothing needs to be remembered or agreed upon,
and a source that was added moves no other. What is due (an increment, a slice of its first scan, its purge, its deep
passes) is asked of the ledger alone, by one statement for all sources; a sync by hand counts as well.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from zlib import crc32

from etl.config.settings import Source
from etl.models import CLOCK_TOLERANCE
from etl.pipeline import run_context
from etl.pipeline.purge_step import ASK_EVERY
from etl.postgres.connection import Connection

_BEGAN = datetime(2020, 1, 1, tzinfo=UTC)
_LONGEST_HELD = timedelta(minutes=30) + CLOCK_TOLERANCE  # a longer back-off was noted by a clock that was wrong
# Of runs that read what changed; those that purge or go deep have turns of their own.
_STANDINGS = """
SELECT
    s.name, last.started_at, s.complete_through, s.watermark IS NULL AS is_empty,
    EXISTS (
        SELECT FROM etl.scans AS c WHERE c.source_id = s.source_id AND c.lane = 'sync' AND c.kind = 'full'
    ) AS is_read_whole,
    s.purge_asked_at, s.reread_due_at, s.reconcile_due_at, s.failures, s.not_before,
    s.deep_not_before
FROM etl.sources AS s
LEFT JOIN LATERAL (
    SELECT r.started_at
    FROM etl.runs AS r
    WHERE r.source_id = s.source_id AND r.kind IN ('incremental', 'full')
    ORDER BY r.run_id DESC
    LIMIT 1
) AS last ON true
"""
_STANDING = _STANDINGS + "WHERE s.name = %s\n"


def spread(name: str) -> float:
    """Where in the time between two points a source has its own: from 0 to less than 1."""
    return crc32(name.encode()) / 2**32


def latest(name: str, every: timedelta, now: datetime) -> datetime:
    """The last point of a source's grid that has come."""
    began = _BEGAN + spread(name) * every
    return began + (now - began) // every * every


class Work(StrEnum):
    """What a run is for, the most urgent first: nothing may keep an increment waiting."""

    SYNC = "sync"
    PURGE = "purge"
    DEEPEN = "deepen"
    BACKFILL = "backfill"


class Standing(NamedTuple):
    """How far a source is, by the ledger."""

    name: str
    started_at: datetime | None
    complete_through: datetime | None
    is_empty: bool  # it never showed a job
    is_read_whole: bool
    purge_asked_at: datetime | None
    reread_due_at: datetime | None
    reconcile_due_at: datetime | None
    failures: int
    not_before: datetime | None
    deep_not_before: datetime | None = None  # since runs failed that only purge or go deep

    @property
    def is_backfilled(self) -> bool:
        """Whether the source is still to be read whole, or once more."""
        return self.complete_through is None or self.is_read_whole

    def held_back_until(self, now: datetime) -> datetime | None:
        """Until when it is paused, since its runs failed; None where it isn't, or where a clock was wrong once."""
        until = self.not_before
        return until if until is not None and now < until <= now + _LONGEST_HELD else None


def standings(db: Connection) -> dict[str, Standing]:
    """How far each source is that ever ran, by its name."""
    found = (Standing._make(row) for row in db.execute(_STANDINGS).fetchall())
    return {standing.name: standing for standing in found}


def standing(db: Connection, name: str) -> Standing | None:
    """How far one source is; None where it never ran."""
    row = db.execute(_STANDING, (name,)).fetchone()
    return None if row is None else Standing._make(row)


def due(source: Source, standing: Standing | None, now: datetime) -> list[Work]:
    """What a source wants done now, the most urgent first. One whose runs failed is left alone for a while."""
    if standing is None:
        return [Work.BACKFILL]
    if standing.held_back_until(now):
        return []
    began = None if _is_of_a_wrong_clock(standing.started_at, now) else standing.started_at
    asked = None if _is_of_a_wrong_clock(standing.purge_asked_at, now) else standing.purge_asked_at
    is_its_turn = began is None or began < latest(source.name, source.every, now)
    if standing.is_backfilled:
        return [Work.BACKFILL] if is_its_turn else []
    if standing.is_empty:
        return [Work.SYNC] if is_its_turn else []
    until = standing.deep_not_before
    goes_on = until is None or not now < until <= now + source.every + _LONGEST_HELD
    wanted = {
        Work.SYNC: is_its_turn,
        Work.PURGE: goes_on and _is_past(asked, latest(source.name, ASK_EVERY, now)),
        Work.DEEPEN: goes_on and _goes_deep(source, standing, now),
    }
    return [work for work, is_due in wanted.items() if is_due]


def _goes_deep(source: Source, standing: Standing, now: datetime) -> bool:
    """Whether a deep pass is due, by this machine's clock."""
    rereads = bool(source.reread) and run_context.is_due(standing.reread_due_at, source.reread_every, now)
    return rereads or run_context.is_due(standing.reconcile_due_at, source.reconcile_every, now)


def _is_of_a_wrong_clock(moment: datetime | None, now: datetime) -> bool:
    """Whether a moment that has passed lies in the future: it counts as none."""
    return moment is not None and moment > now + CLOCK_TOLERANCE


def _is_past(moment: datetime | None, point: datetime) -> bool:
    return moment is None or moment < point
