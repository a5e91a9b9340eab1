"""A still AIMS360 in a process of its own: `python -m tests.bench.service JOBS PAGE_SIZE`.

It says its address and its token, then answers a command a line, each with a line:

    warm             makes all rows JSON, so that no run pays for it
    change N         N jobs have run again, their links are new ones; 20 minutes have passed since the last change
    latency SECONDS  before each answer
    throttle N       lets N requests in a second, 0 for all of them; says how many came inside a Retry-After window,
                     and how many were refused, since the last time it was said
    first            when the first request since the last such question came, in seconds of the monotonic clock
    columns          the last $select that was asked for
"""

import gc
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Lock
from typing import Any

from etl.testing.emulator import Emulator, World, populated, serve
from tests.bench.gate import RETRY_AFTER, Gate

TOKEN = "bench"
A_DAY = 50_000  # jobs, however many there are: a look-back holds as many. A million are 20 days: none is purged
BETWEEN_CHANGES = timedelta(minutes=20)  # more than a look-back: each increment sees its own changes alone


class Front:
    """Stands before the emulator: latency, the throttle, and when requests came."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.latency = 0.0
        self.gate = Gate(0)
        self.first: float | None = None
        self._lock = Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        arrived = time.monotonic()
        if self.latency:
            time.sleep(self.latency)
        with self._lock:
            self.first = arrived if self.first is None else self.first
            is_admitted = self.gate.admits(arrived, time.monotonic())
        if is_admitted:
            return self.emulator(environ, start_response)
        start_response("429 Too Many Requests", [("Retry-After", f"{RETRY_AFTER:.0f}"), ("Content-Length", "0")])
        return []


def answered(front: Front, command: str, given: str) -> object:
    """What is said to a command."""
    world = front.emulator.world
    match command:
        case "warm":
            return warm(world)
        case "change":
            return change(world, int(given))
        case "latency":
            front.latency = float(given)
        case "throttle":
            told, front.gate = front.gate, Gate(int(given))
            return f"{told.inside} {told.refused}"
        case "first":
            first, front.first = front.first, None
            return first
        case "columns":
            asked = (request.query.get("$select") for request in reversed(front.emulator.requests))
            return next(filter(None, asked), "")
        case _:
            raise ValueError(f"no such command: {command}")
    return given


def warm(world: World) -> int:
    """Makes all rows JSON."""
    for job in world.jobs():
        world.table.rendered(job)
    return len(world)


def change(world: World, count: int) -> int:
    """So many jobs, anywhere in the table, have run once more."""
    world.advance(BETWEEN_CHANGES)
    keys = [job.job_id for job in world.jobs() if job.status == "Completed"]
    for key in Random(world.version).sample(keys, count):
        job = world.get(key)
        assert job is not None
        world.table.rendered(world.change(job, numberOfAttempts=job.attempts + 1))
    return count


def main(jobs: int, page_size: int) -> None:
    """Serves until it is left alone."""
    world = populated(jobs, rate=0, now=datetime.now(UTC) - timedelta(days=1), days=jobs / A_DAY)
    world.stop_life()
    world.table.rendered_at_most = 1_100_000  # a million whole rows, or 300,000 and what of them is compared
    gc.freeze()  # what the world is made of is never garbage
    front = Front(Emulator(world, page_size=page_size, token=TOKEN))
    with serve(front) as server:
        print(server.url, TOKEN, flush=True)
        for line in sys.stdin:
            command, _, given = line.strip().partition(" ")
            print(answered(front, command, given), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
