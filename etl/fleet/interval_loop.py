"""A sync again and again, in one process: when the next run begins, and what a failed one changes about that.

Runs begin on a grid, `every` apart, counted from the first: however long they take, the grid doesn't drift. A run that
takes longer than that leaves out what it slept through. Each begins a little late, by chance, so that many services
don't ask all at once; while a source or a database is down, fewer and fewer are tried.
"""

import random
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum

from etl import shutdown
from etl.client.retry import back_off
from etl.models import Clock

_JITTER = 0.1  # of the time between two runs, or
_LONGEST_JITTER = 30.0  # seconds
_PIECE = 1.0  # seconds slept at a time: signs of life go out between


class Ending(StrEnum):
    """How a run ended, as far as the next one depends on it."""

    DONE = "done"
    HELD = "held"  # another run was at work on the source: no failure
    FAILED = "failed"
    TURNED_AWAY = "turned away"  # the source refused to sign in


def next_start(began: float, every: float, now: float, waited: float) -> float:
    """When the next run begins, without jitter: a point of the grid that began at `began`; all in seconds.

    It is the first one that is as far away as is to be `waited`.
    """
    earliest = now + waited
    return began + (max(0.0, earliest - began) // every + 1) * every


def jitter(every: float) -> float:
    """Seconds by which a run begins late."""
    return random.uniform(0.0, min(every * _JITTER, _LONGEST_JITTER))  # noqa: S311 - no secret


def serve(
    once: Callable[[], Ending],
    every: timedelta,
    clock: Clock,
    waits: Callable[[float, int], None],
    alive: Callable[[], None],
    late: Callable[[float], float] = jitter,
) -> None:
    """Runs `once` for ever; KeyboardInterrupt ends it, and so does whatever else `once` raises.

    `waits` hears how many seconds it is until the next, and how many failed in a row; `alive` is called at least once
    a second while nothing happens.
    """
    apart, failures = every.total_seconds(), 0
    began = clock.monotonic()
    while True:
        ending = once()
        failures = failures + 1 if ending in (Ending.FAILED, Ending.TURNED_AWAY) else 0
        now = clock.monotonic()
        start = next_start(
            began, apart, now, back_off(apart, failures, turned_away=ending is Ending.TURNED_AWAY)
        ) + late(apart)
        waits(start - now, failures)
        shutdown.check()
        while (left := start - clock.monotonic()) > 0:
            shutdown.check()
            alive()
            clock.sleep(min(left, _PIECE))
