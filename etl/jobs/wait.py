"""Waiting for a job: the source is asked, less and less often, until the job has ended or the time is up."""

from __future__ import annotations

import itertools
import math
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from etl.errors import BadAnswer, SourceError, Unreachable, UnreadableJob
from etl.jobs import live
from etl.jobs.live import Live
from etl.models import Clock, JobRow

if TYPE_CHECKING:
    from etl.client.client import Api

_FIRST, _LONGEST, _GROWTH = 2.0, 10.0, 1.5  # seconds between two questions
_LEAST = 1.0  # seconds for an answer to the last one
_UNREADABLE = 5  # times in a row that a job can't be read, and waiting is of no use


class Outcome(StrEnum):
    """How waiting ended."""

    COMPLETED = "completed"
    FAILED = "failed"  # or ended in a state that isn't known, which nobody can call good
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class Waited:
    """How waiting ended, the job as it was seen last (None: never), and how long it took, in seconds.

    `is_silent`: the source didn't answer any more.
    """

    outcome: Outcome
    last: Live | None
    seconds: float
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """How long to wait, in seconds (infinity: for ever); and the version that is known, and counts as no end."""

    timeout: float = math.inf
    known: JobRow | None = None


@dataclass(frozen=True, slots=True)
class Ears:
    """Who hears of it: what the source shows each time, and of answers that don't come."""

    seen: Callable[[Live], None] = lambda _: None
    told: Callable[[str], None] = lambda _: None


def pause(asked: int, chance: float) -> float:
    """Seconds until the next question when so many were asked; `chance`, from 0 to 1, keeps many waiters apart."""
    grown = min(_LONGEST, _FIRST * _GROWTH ** min(asked - 1, 20))
    return grown * (0.8 + 0.2 * chance)


def wait(
    api: Api,
    job_id: str,
    clock: Clock,
    wish: Wish = Wish(),
    ears: Ears = Ears(),
    chance: Callable[[], float] = random.random,
) -> Waited:
    """Asks for the job until it has ended. An outage of the source is waited through, as long as there is time.

    Raises SourceError where the source refuses, shows the job no more (it must say so twice), or shows it again and
    again in a way that can't be read.
    """
    began = clock.monotonic()
    until = began + wish.timeout
    stop = _Until(clock, until)
    last: Live | None = None
    missing, unreadable, is_out = 0, 0, False
    for asked in itertools.count(1):
        try:
            with api.within(max(_LEAST, until - clock.monotonic())):
                found = live.look(api, job_id, stop, attempts=1)
        except (Unreachable, BadAnswer) as error:
            unreadable = unreadable + 1 if isinstance(error, UnreadableJob) else 0
            if unreadable == _UNREADABLE:
                raise
            if not is_out and clock.monotonic() < until:
                ears.told(f"{error}; waiting goes on")
            is_out = True
        else:
            if is_out:
                ears.told("the source answers again")
            missing, unreadable, is_out = (missing + 1 if found is None else 0), 0, False
            last = found or last
            if found is not None:
                ears.seen(found)
                if live.is_ended(found.row) and (wish.known is None or live.is_another(found.row, wish.known)):
                    outcome = Outcome.COMPLETED if live.is_good(found.row) else Outcome.FAILED
                    return Waited(outcome, found, clock.monotonic() - began)
            if missing == 2:
                raise SourceError(live.gone(job_id, last, clock.now()))
        left = until - clock.monotonic()
        if left <= 0:
            return Waited(Outcome.TIMED_OUT, last, clock.monotonic() - began, is_out)
        clock.sleep(min(pause(asked, chance()), left))
    raise AssertionError


class _Until(threading.Event):
    """Set once a moment has come: a client that was told to stay away doesn't wait beyond."""

    def __init__(self, clock: Clock, until: float) -> None:
        super().__init__()
        self._clock = clock
        self._until = until

    def is_set(self) -> bool:
        """Whether the time is up."""
        return self._clock.monotonic() >= self._until
