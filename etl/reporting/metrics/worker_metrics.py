"""What a worker of a fleet tells Prometheus: of all its sources together, since each by itself takes seventy series."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from etl.reporting.metrics.families import PREFIX

if TYPE_CHECKING:  # loaded where metrics are asked for
    from prometheus_client import Metric

RUNS = f"{PREFIX}worker_runs_total"
SECONDS = f"{PREFIX}worker_run_seconds_total"
SLOTS = f"{PREFIX}worker_slots"
BUSY = f"{PREFIX}worker_slots_busy"
WAITING = f"{PREFIX}worker_waiting_jobs"
NAMES = (RUNS, SECONDS, SLOTS, BUSY, WAITING)


class Crew:
    """The counts of a worker. Its methods are called by many threads."""

    def __init__(self, slots: int, works: list[str]) -> None:
        self._slots, self._busy, self._waiting = slots, 0, 0
        self._runs = Counter[tuple[str, str]]({(work, how): 0 for work in works for how in ("succeeded", "failed")})
        self._seconds = dict.fromkeys(works, 0.0)
        self._lock = threading.Lock()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """A run is under way."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def ended(self, work: str, outcome: str, seconds: float) -> None:
        """A run came to its end: succeeded, failed, or held by another."""
        with self._lock:
            self._runs[work, outcome] += 1
            self._seconds[work] += seconds

    def waits(self, jobs: int) -> None:
        """So many jobs wait in the queue, of all workers."""
        self._waiting = jobs

    def collect(self) -> Iterator[Metric]:
        """What is told at this moment, for prometheus_client."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        with self._lock:
            runs, seconds, busy = dict(self._runs), dict(self._seconds), self._busy
        told = CounterMetricFamily(
            RUNS, "Runs by work and outcome (held: another run was at it).", labels=("work", "outcome")
        )
        for (work, outcome), number in sorted(runs.items()):
            told.add_metric([work, outcome], number)
        took = CounterMetricFamily(SECONDS, "Seconds that runs took, by work.", labels=("work",))
        for work, lasted in sorted(seconds.items()):
            took.add_metric([work], lasted)
        yield told
        yield took
        yield GaugeMetricFamily(SLOTS, "Runs that this worker makes at a time.", self._slots)
        yield GaugeMetricFamily(BUSY, "Runs under way in this worker.", busy)
        yield GaugeMetricFamily(WAITING, "Jobs that wait in the queue, for any worker.", self._waiting)
