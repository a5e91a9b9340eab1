"""What is told to Prometheus: one set of names, and what a run adds to the samples that stood before it. Pure.

Counters only grow; times are Unix seconds, durations seconds. Labels hold names of sources, of phases, of outcomes, of
pagings and capabilities, and HTTP statuses: nothing of a job, an account, a person or an address.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import product
from typing import Literal, NamedTuple

from etl.errors import EtlError, Locked
from etl.models import BY_TIME, CLOCK_TOLERANCE, Paging, Run, Verdict
from etl.reporting.refusals import rank_reading

PREFIX = "aims360_etl_"


class Family(NamedTuple):
    """A metric: its name, whether it only grows, what it means, and what its samples tell apart beside the source."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


class Series(NamedTuple):
    """A sample's name and its labels' values: the source's name, then those of its family."""

    name: str
    source: str
    values: tuple[str, ...] = ()


class Standing(NamedTuple):
    """How a source stands in the mirror after a run. Times are UTC, None where nothing is due or complete yet.

    `capabilities`: by name, whether the service supports it; without those of which that isn't known.
    """

    complete_through: datetime | None
    rejects: int
    open_jobs: int
    stuck_jobs: int
    scan_is_open: bool
    reread_due_at: datetime | None
    reconcile_due_at: datetime | None
    oldest_reject_at: datetime | None = None
    paging: str = Paging.KEY
    window_by: str = BY_TIME
    capabilities: Mapping[str, bool] = {}


Samples = Mapping[Series, float]

BUILD = f"{PREFIX}build_info"
RUNS = f"{PREFIX}runs_total"
ROWS = f"{PREFIX}rows_total"
PURGED = f"{PREFIX}purged_jobs_total"
DIFFERENCES = f"{PREFIX}differences_total"
REPAIRED = f"{PREFIX}repaired_total"
REQUESTS = f"{PREFIX}requests_total"
RETRIES = f"{PREFIX}retries_total"
PHASES = f"{PREFIX}phase_seconds_total"
DURATION = f"{PREFIX}last_run_duration_seconds"
LAST_REQUESTS = f"{PREFIX}last_run_requests"
EXIT_CODE = f"{PREFIX}last_run_exit_code"
LAST_RUN = f"{PREFIX}last_run_timestamp_seconds"
LAST_SUCCESS = f"{PREFIX}last_success_timestamp_seconds"
COMPLETE_THROUGH = f"{PREFIX}complete_through_timestamp_seconds"
LAG = f"{PREFIX}lag_seconds"
REJECTS = f"{PREFIX}rejects"
OLDEST_REJECT = f"{PREFIX}oldest_reject_timestamp_seconds"
OPEN_JOBS = f"{PREFIX}open_jobs"
STUCK_JOBS = f"{PREFIX}stuck_jobs"
SCAN_OPEN = f"{PREFIX}scan_open"
NEXT_REREAD = f"{PREFIX}next_reread_timestamp_seconds"
NEXT_COMPARISON = f"{PREFIX}next_comparison_timestamp_seconds"
PAGING = f"{PREFIX}paging_info"
RANK = f"{PREFIX}paging_rank"
CAPABILITY = f"{PREFIX}capability"

FAMILIES = (
    Family(BUILD, "gauge", "Always 1: the release that made the last run.", ("version",)),
    Family(
        RUNS,
        "counter",
        "Runs by kind (none: it failed before it began) and outcome (held: another run was at work).",
        ("kind", "outcome"),
    ),
    Family(ROWS, "counter", "Rows of the source by what became of them.", ("outcome",)),
    Family(PURGED, "counter", "Jobs purged from the mirror, as the source purged them."),
    Family(DIFFERENCES, "counter", "Jobs that a deep pass found to differ from the source's.", ("kind",)),
    Family(REPAIRED, "counter", "Jobs that a deep pass found to differ, and set right."),
    Family(REQUESTS, "counter", "Requests by HTTP status of the answer (none: there was no answer).", ("status",)),
    Family(RETRIES, "counter", "Requests that repeated one that had failed."),
    Family(PHASES, "counter", "Seconds that runs took, by phase.", ("phase",)),
    Family(DURATION, "gauge", "Seconds that the last run took."),
    Family(LAST_REQUESTS, "gauge", "Requests that the last run made, retries included."),
    Family(EXIT_CODE, "gauge", "Exit code of the last run: 0 and 4 are done, 3 is held by another, 1 and 2 failed."),
    Family(LAST_RUN, "gauge", "When the last run ended, well or not."),
    Family(LAST_SUCCESS, "gauge", "When the last run ended that read all it was to read."),
    Family(COMPLETE_THROUGH, "gauge", "The mirror holds every change that was committed at the source by then."),
    Family(LAG, "gauge", "Seconds since then, when this was asked for or written."),
    Family(REJECTS, "gauge", "Rows that could not be read, and wait in etl.rejects."),
    Family(OLDEST_REJECT, "gauge", "When the oldest row in etl.rejects was first met; absent while none waits."),
    Family(OPEN_JOBS, "gauge", "Jobs queued or in progress."),
    Family(STUCK_JOBS, "gauge", "Open jobs that were not changed for over an hour."),
    Family(SCAN_OPEN, "gauge", "1 while a scan is half done, and the next run goes on with it."),
    Family(NEXT_REREAD, "gauge", "When the last days are to be read again."),
    Family(NEXT_COMPARISON, "gauge", "When all keys are to be compared with the source's."),
    Family(
        PAGING,
        "gauge",
        "Always 1: how pages are asked for, and what the window of a run goes by (none: each run reads all rows).",
        ("paging", "window_by"),
    ),
    Family(RANK, "gauge", "The same as a number: 0 is the cheapest way to read the source, 7 the dearest."),
    Family(
        CAPABILITY,
        "gauge",
        "1: the service supports it, 0: it refuses it; absent while that isn't known.",
        ("capability",),
    ),
)
LABELS = {family.name: ("source", *family.labels) for family in FAMILIES}

_NO_KIND = "none"
_KINDS = ("incremental", "full", "reconcile", "purge", _NO_KIND)
_OUTCOMES = ("succeeded", "failed", "held", "interrupted")
# What partitions the rows that were read. `returned` are among the inserted.
_ROWS = ("inserted", "updated", "unchanged", "refused", "skipped", "rejected", "duplicates")
_SEEN_OFTEN = ("200", "401", "429", "500", "503", "none")
_PHASES = ("probe", "scan", "purge", "deep")
_READ_ALL = (Verdict.COMPLETE, Verdict.COMPLETE_WITH_REJECTS)
_READING = (PAGING, RANK, CAPABILITY)  # their labels change: what is told of them replaces all that was


def beginning(source: str, version: str) -> Samples:
    """A source of which nothing was told yet: a counter that begins at 0 shows its first step too."""
    return {**dict.fromkeys(_zeros(source), 0.0), Series(BUILD, source, (version,)): 1.0}


def after(
    samples: Samples, source: str, run: Run | None, error: BaseException | None, standing: Standing | None, now: float
) -> Samples:
    """After a run of the source that ended at `now`.

    `run` is what it came to, None where it failed before it began; `standing` is None where Postgres couldn't be asked:
    then what was known stays.
    """
    found = dict(samples)
    for series, more in _steps(source, run, error):
        found[series] = found.get(series, 0.0) + max(0.0, more)
    if run is not None:
        found[Series(DURATION, source)] = run.seconds
        found[Series(LAST_REQUESTS, source)] = run.requests
        if run.complete_through is not None:
            found[Series(COMPLETE_THROUGH, source)] = run.complete_through.timestamp()
    if standing is not None:
        found = standing_of(found, source, standing)
    if not isinstance(error, Locked):
        found[Series(LAST_RUN, source)] = now
    if error is None and run is not None and run.verdict in _READ_ALL:
        found[Series(LAST_SUCCESS, source)] = now
    if (code := exit_code(run, error)) is not None:
        found[Series(EXIT_CODE, source)] = code
    return found


def standing_of(samples: Samples, source: str, standing: Standing) -> dict[Series, float]:
    """With a source's standing in place of what was known of it; what isn't so any more isn't told."""
    numbers = {
        REJECTS: standing.rejects,
        OPEN_JOBS: standing.open_jobs,
        STUCK_JOBS: standing.stuck_jobs,
        SCAN_OPEN: int(standing.scan_is_open),
    }
    times = {
        COMPLETE_THROUGH: standing.complete_through,
        OLDEST_REJECT: standing.oldest_reject_at,
        NEXT_REREAD: standing.reread_due_at,
        NEXT_COMPARISON: standing.reconcile_due_at,
    }
    told = {Series(name, source): float(number) for name, number in numbers.items()}
    told |= {Series(name, source): time.timestamp() for name, time in times.items() if time is not None}
    rest = {s: v for s, v in samples.items() if s.source != source or s.name not in (*times, *_READING)}
    return {**rest, **told, **dict(_reading(source, standing))}


def _reading(source: str, standing: Standing) -> Iterable[tuple[Series, float]]:
    """How pages are asked for, how dear that is, and what the service supports."""
    yield Series(PAGING, source, (standing.paging, standing.window_by)), 1.0
    if (rank := rank_reading(standing.paging, standing.window_by)) is not None:
        yield Series(RANK, source), float(rank)
    for name, is_supported in standing.capabilities.items():
        yield Series(CAPABILITY, source, (name,)), float(is_supported)


def with_lag(samples: Samples, now: float) -> Samples:
    """With how far each source is behind at this moment; that isn't known where a clock was wrong."""
    through = {series.source: value for series, value in samples.items() if series.name == COMPLETE_THROUGH}
    latest = now + CLOCK_TOLERANCE.total_seconds()
    lags = {Series(LAG, source): max(0.0, now - value) for source, value in through.items() if value <= latest}
    return {**samples, **lags}


def caught_up(samples: Samples, kept: Samples) -> Samples:
    """With what is kept elsewhere of the same sources: another process may have gone on. Counters never go back."""
    own = {series.source for series in samples}
    ours = {series: value for series, value in kept.items() if series.source in own and series.name != BUILD}
    newer = {s: max(v, samples.get(s, 0.0)) if s.name.endswith("_total") else v for s, v in ours.items()}
    read_anew = {series.source for series in ours if series.name == PAGING}
    rest = {s: v for s, v in samples.items() if s.name not in _READING or s.source not in read_anew}
    return {**rest, **newer}


def of_others(samples: Samples, sources: Iterable[str]) -> Samples:
    """What is told of other sources than these."""
    ours = set(sources)
    return {series: value for series, value in samples.items() if series.source not in ours}


def known(name: str, labels: Mapping[str, str], value: float) -> tuple[Series, float] | None:
    """A sample as it was written before; None for what isn't ours, or is reckoned anew each time."""
    if name == LAG or labels.keys() != set(LABELS.get(name, ())) or not math.isfinite(value) or value < 0:
        return None
    return Series(name, labels["source"], tuple(labels[label] for label in LABELS[name][1:])), value


def exit_code(run: Run | None, error: BaseException | None) -> int | None:
    """The exit code of the command that made this run; None for one that was told to stop."""
    if error is not None:
        stopped = isinstance(error, KeyboardInterrupt)
        return None if stopped else error.exit_code if isinstance(error, EtlError) else 1
    if run is None:
        return 0
    return 4 if run.is_unwell or run.verdict == Verdict.INCOMPLETE else 0


def _steps(source: str, run: Run | None, error: BaseException | None) -> Iterable[tuple[Series, float]]:
    """By how much counters grow."""
    yield Series(RUNS, source, (run.kind if run else _NO_KIND, _outcome(error))), 1
    if run is None:
        return
    counts = run.counts
    yield from ((Series(ROWS, source, (outcome,)), getattr(counts, outcome)) for outcome in _ROWS)
    yield Series(PURGED, source), counts.purged
    differences = (("missing", counts.missing), ("stale", counts.stale), ("ghost", counts.ghosts))
    yield from ((Series(DIFFERENCES, source, (kind,)), number) for kind, number in differences)
    yield Series(REPAIRED, source), counts.repaired
    yield from ((Series(REQUESTS, source, (status,)), number) for status, number in run.statuses.items())
    yield Series(RETRIES, source), run.retries
    yield from ((Series(PHASES, source, (phase,)), seconds) for phase, seconds in run.phases.items())


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "succeeded"
    if isinstance(error, Locked):
        return "held"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


def _zeros(source: str) -> Iterable[Series]:
    """The counters of a source before its first run."""
    runs = [pair for pair in product(_KINDS, _OUTCOMES) if pair != (_NO_KIND, "succeeded")]
    values: dict[str, Iterable[tuple[str, ...]]] = {
        RUNS: runs,
        ROWS: product(_ROWS),
        PURGED: [()],
        DIFFERENCES: product(("missing", "stale", "ghost")),
        REPAIRED: [()],
        REQUESTS: product(_SEEN_OFTEN),
        RETRIES: [()],
        PHASES: product(_PHASES),
    }
    return (Series(name, source, given) for name, each in values.items() for given in each)
