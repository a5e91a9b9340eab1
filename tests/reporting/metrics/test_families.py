"""What a run adds to the samples that stood before it: values in, values out."""

from datetime import UTC, datetime
from typing import Any

import pytest

from etl.errors import ConfigError, EtlError, Locked, Unreachable
from etl.models import Counts, Run, Verdict
from etl.reporting.metrics import families
from etl.reporting.metrics.families import FAMILIES, Series, Standing, after, beginning, caught_up, with_lag

NOW = 1_800_000_000.0
THROUGH = datetime.fromtimestamp(NOW - 90, UTC)


NOTHING = Counts()


def a_run(counts: Counts = NOTHING, verdict: Verdict | None = Verdict.COMPLETE, **other: Any) -> Run:
    """A run of the source `west`."""
    given = {
        "kind": "incremental",
        "pages": 1,
        "requests": 3,
        "seconds": 2.5,
        "watermark": None,
        "complete_through": THROUGH,
        **other,
    }
    return Run(run_id=7, source="west", verdict=verdict, counts=counts, **given)


def of(told: families.Samples, name: str, *values: str, source: str = "west") -> float | None:
    """The value of a sample, None where there is none."""
    return told.get(Series(name, source, values))


def test_counters_add_up_over_runs() -> None:
    """Rows by outcome, requests by status, retries, seconds by phase, purged jobs, differences."""
    run = a_run(
        Counts(inserted=5, updated=2, unchanged=9, purged=4, missing=1, ghosts_early=2, repaired=3, returned=1),
        retries=2,
        statuses={"200": 3, "none": 1},
        phases={"scan": 1.5},
    )
    told = after(after({}, "west", run, None, None, NOW), "west", run, None, None, NOW + 60)
    assert of(told, families.ROWS, "inserted") == 10
    assert of(told, families.ROWS, "unchanged") == 18
    assert of(told, families.ROWS, "returned") is None  # they are among the inserted
    assert of(told, families.PURGED) == 8
    assert (of(told, families.DIFFERENCES, "missing"), of(told, families.DIFFERENCES, "ghost")) == (2, 4)
    assert of(told, families.REPAIRED) == 6
    assert (of(told, families.REQUESTS, "200"), of(told, families.REQUESTS, "none")) == (6, 2)
    assert of(told, families.RETRIES) == 4
    assert of(told, families.PHASES, "scan") == 3.0
    assert of(told, families.RUNS, "incremental", "succeeded") == 2
    assert of(told, families.DURATION) == 2.5
    assert of(told, families.LAST_RUN) == of(told, families.LAST_SUCCESS) == NOW + 60


def test_a_failed_run_counts_what_it_did_and_is_no_success() -> None:
    """The time of the last success stays, requests and retries are counted, the outcome is told."""
    before = after({}, "west", a_run(), None, None, NOW)
    failed = a_run(verdict=Verdict.INCOMPLETE, retries=7, statuses={"503": 8})
    told = after(before, "west", failed, Unreachable("down"), None, NOW + 60)
    assert of(told, families.RUNS, "incremental", "failed") == 1
    assert of(told, families.REQUESTS, "503") == 8
    assert of(told, families.LAST_SUCCESS) == NOW
    assert of(told, families.LAST_RUN) == NOW + 60
    assert of(told, families.EXIT_CODE) == 1


@pytest.mark.parametrize(
    ("run", "error", "outcome", "code"),
    [
        (None, Locked("held"), "held", 3),
        (None, ConfigError("wrong"), "failed", 2),
        (None, ValueError("a bug"), "failed", 1),
        (a_run(), EtlError("the disk is full"), "failed", 1),
        (a_run(), KeyboardInterrupt(), "interrupted", None),
        (a_run(Counts(rejected=1), Verdict.COMPLETE_WITH_REJECTS, new_rejects=1), None, "succeeded", 4),
        (a_run(Counts(rejected=1), Verdict.COMPLETE_WITH_REJECTS), None, "succeeded", 0),
        (a_run(NOTHING, Verdict.COMPLETE_WITH_REJECTS, kind="reconcile"), None, "succeeded", 4),
        (a_run(Counts(stale=2, repaired=1)), None, "succeeded", 4),
        (a_run(Counts(stale=2, repaired=2)), None, "succeeded", 0),
        (a_run(verdict=Verdict.INCOMPLETE), None, "succeeded", 4),
        (a_run(verdict=None, kind="purge"), None, "succeeded", 0),
    ],
)
def test_outcome_and_exit_code_are_the_commands(
    run: Run | None, error: BaseException | None, outcome: str, code: int | None
) -> None:
    """Held by another, failed, told to stop, done with and without a rest."""
    told = after({}, "west", run, error, None, NOW)
    assert of(told, families.RUNS, run.kind if run else "none", outcome) == 1
    assert of(told, families.EXIT_CODE) == code


def test_a_run_that_never_was_ends_at_no_time() -> None:
    """Another run was at work: that one tells when it ended."""
    assert of(after({}, "west", None, Locked("held"), None, NOW), families.LAST_RUN) is None


def test_standing_replaces_what_was_known_and_unknown_leaves_it() -> None:
    """Gauges follow the mirror; where Postgres can't be asked, complete_through stays, so that the lag grows."""
    standing = Standing(THROUGH, 2, 5, 1, True, THROUGH, None)
    told = after({}, "west", a_run(), None, standing, NOW)
    found = [of(told, name) for name in (families.REJECTS, families.OPEN_JOBS, families.STUCK_JOBS, families.SCAN_OPEN)]
    assert found == [2, 5, 1, 1]
    assert of(told, families.NEXT_REREAD) == NOW - 90
    assert of(told, families.NEXT_COMPARISON) is None
    unknown = after(told, "west", None, Unreachable("no Postgres"), None, NOW + 60)
    assert [of(unknown, name) for name in (families.REJECTS, families.COMPLETE_THROUGH)] == [2, NOW - 90]
    never = after(told, "west", None, None, Standing(None, 0, 0, 0, False, None, None), NOW + 60)
    assert of(never, families.COMPLETE_THROUGH) is None
    assert of(never, families.NEXT_REREAD) is None


def test_the_oldest_reject_is_told_while_one_waits() -> None:
    """When it was first met, so that alerts reckon its age; nothing once none waits."""
    waits = Standing(THROUGH, 2, 5, 1, True, THROUGH, None, oldest_reject_at=THROUGH)
    told = after({}, "west", a_run(), None, waits, NOW)
    assert of(told, families.OLDEST_REJECT) == NOW - 90
    unknown = after(told, "west", None, Unreachable("no Postgres"), None, NOW + 60)
    assert of(unknown, families.OLDEST_REJECT) == NOW - 90
    none_waits = after(told, "west", a_run(), None, waits._replace(oldest_reject_at=None), NOW)
    assert of(none_waits, families.OLDEST_REJECT) is None


def test_how_a_source_is_read_is_told_with_what_the_service_supports() -> None:
    """The paging in force, its rank, the requests of the run; a capability that was forgotten is told no more."""
    standing = Standing(THROUGH, 0, 0, 0, False, None, None)
    told = after({}, "west", a_run(requests=3), None, standing._replace(capabilities={"top": True}), NOW)
    assert of(told, families.PAGING, "key", "modifiedDate") == 1
    assert (of(told, families.RANK), of(told, families.LAST_REQUESTS)) == (0, 3)
    assert of(told, families.CAPABILITY, "top") == 1
    dearer = standing._replace(paging="skip", window_by="none", capabilities={"filter_dates": False})
    told = after(told, "west", a_run(requests=11), None, dearer, NOW)
    assert of(told, families.PAGING, "skip", "none") == 1
    assert of(told, families.PAGING, "key", "modifiedDate") is None
    assert (of(told, families.RANK), of(told, families.LAST_REQUESTS)) == (7, 11)
    assert (of(told, families.CAPABILITY, "filter_dates"), of(told, families.CAPABILITY, "top")) == (0, None)
    assert of(after(told, "east", a_run(), None, standing, NOW), families.PAGING, "skip", "none") == 1


def test_how_a_source_is_read_is_told_once_though_another_process_told_it_otherwise() -> None:
    """What is kept is the newer: it replaces the paging and the capabilities that were known here."""
    standing = Standing(THROUGH, 0, 0, 0, False, None, None, capabilities={"top": False})
    here = after(beginning("west", "1.0"), "west", a_run(), None, standing, NOW)
    there = after({}, "west", a_run(), None, standing._replace(paging="time", capabilities={"or": False}), NOW)
    found = caught_up(here, there)
    assert [series.values for series in found if series.name == families.PAGING] == [("time", "modifiedDate")]
    assert [series.values for series in found if series.name == families.CAPABILITY] == [("or",)]
    assert of(found, families.RANK) == 2


def test_the_lag_grows_by_itself() -> None:
    """It is reckoned when it is asked for; a clock that is behind the source's gives none below zero."""
    told = after({}, "west", a_run(), None, None, NOW)
    assert of(with_lag(told, NOW + 10), families.LAG) == 100
    assert of(with_lag(told, NOW + 1_000), families.LAG) == 1_090
    assert of(with_lag(told, NOW - 1_000), families.LAG) == 0


def test_sources_do_not_meet() -> None:
    """What one source's run adds, the other's samples don't show."""
    west = after({}, "west", a_run(Counts(inserted=5)), None, None, NOW)
    both = after(west, "east", a_run(Counts(inserted=3)), None, None, NOW)
    assert of(both, families.ROWS, "inserted") == 5
    assert of(both, families.ROWS, "inserted", source="east") == 3
    assert families.of_others(both, ["east"]) == west


def test_counters_are_there_from_the_beginning() -> None:
    """At 0, so that the first step shows as an increase; an upgrade leaves one release named."""
    told = beginning("west", "1.0")
    assert of(told, families.BUILD, "1.0") == 1
    assert of(told, families.RUNS, "incremental", "failed") == 0
    counters = {family.name for family in FAMILIES if family.kind == "counter"}
    assert {series.name for series in told} == {families.BUILD, *counters}
    kept = after(told, "west", a_run(Counts(inserted=5)), None, None, NOW)
    again = caught_up(beginning("west", "2.0"), kept)
    assert of(again, families.ROWS, "inserted") == 5
    assert [series.values for series in again if series.name == families.BUILD] == [("2.0",)]


def test_counters_never_go_back() -> None:
    """Of what is known here and what is kept, the higher counts; gauges are as they were kept; others stay out."""
    here = after(beginning("west", "1.0"), "west", a_run(Counts(inserted=5, updated=1)), None, None, NOW)
    there = after({}, "west", a_run(Counts(inserted=3, updated=2), seconds=9.0), None, None, NOW)
    found = caught_up(here, after(there, "east", a_run(), None, None, NOW))
    assert (of(found, families.ROWS, "inserted"), of(found, families.ROWS, "updated")) == (5, 2)
    assert of(found, families.DURATION) == 9.0
    assert {series.source for series in found} == {"west"}


def test_every_outcome_of_a_row_is_a_counter_of_the_run() -> None:
    """What `rows_total` tells apart are fields of Counts; counters end in _total, and nothing else does."""
    run = a_run(Counts(**dict.fromkeys(Counts.__struct_fields__, 1)))
    rows = {series.values[0] for series in after({}, "west", run, None, None, NOW) if series.name == families.ROWS}
    assert rows < set(Counts.__struct_fields__)
    assert all((family.kind == "counter") is family.name.endswith("_total") for family in FAMILIES)
