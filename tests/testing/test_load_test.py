"""The simulation of a fleet: what its figures mean, and that its checks find what they are there to find."""

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.client.client import Api
from etl.config.secrets import Secret
from etl.errors import EtlError
from etl.models import Clock
from etl.pipeline.sync import sync
from etl.postgres import embedded
from etl.postgres.connection import Connection
from etl.testing.emulator import Fleet, Tenant, serve_fleet, tenants
from etl.testing.emulator.fleet import Addresses
from etl.testing.load_test import cpu_time
from etl.testing.load_test.checks import Ran, judged, overlaps
from etl.testing.load_test.emulator_client import Wheel
from etl.testing.load_test.environment import Used
from etl.testing.load_test.freshness import Ages, behind, sample, told
from etl.testing.load_test.processes import Process, Workers, environment
from etl.testing.load_test.runner import Phase, phase, ratios
from tests.support.command import Command
from tests.support.scene import a_source
from tests.support.waiting import eventually

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
CLOCK = Clock(now=lambda: datetime.now(UTC), monotonic=time.monotonic, sleep=time.sleep)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


# -- figures -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=400))
def test_of_a_hundred_ages_so_many_are_not_above(ages: list[float]) -> None:
    """Each figure is an age that was seen; at least that share is not above it, and less than that is below."""
    found = told(ages)
    assert found.oldest == max(ages)
    for share, figure in zip((0.5, 0.95, 0.99), found, strict=False):
        assert figure in ages
        assert sum(age <= figure for age in ages) >= share * len(ages) > sum(age < figure for age in ages)


def test_no_ages_are_no_figures() -> None:
    """Nothing seen is not zero."""
    assert all(map(math.isnan, told([])))


def test_a_phase_is_what_happened_in_it() -> None:
    """Differences of two readings; CPU in cores."""
    before, after = Used(10, 5, 100, 1.0, 2.0, 0.5), Used(30, 45, 300, 11.0, 7.0, 1.5)
    found = phase(2, False, 20, Ages(1, 2, 3, 4), before, after)
    assert (found.seconds, found.runs, found.requests) == (20, 40, 200)
    assert (found.worker_cores, found.postgres_cores, found.emulator_cores) == (0.5, 0.25, 0.05)


def test_the_ratio_is_of_the_same_number_of_workers() -> None:
    """With bad neighbours to without; none where only one of the two was measured."""

    def one(workers: int, neighbours: bool, p99: float) -> Phase:
        return Phase(workers, neighbours, 1, 1, Ages(0, 0, p99, 0), 0, 0, 0, 0, 0)

    assert ratios([one(1, False, 20), one(1, True, 25), one(2, False, 10), one(2, True, 11)]) == {1: 1.25, 2: 1.1}
    assert ratios([one(3, True, 20)]) == {}


def test_ages_are_those_of_sources_that_were_complete_once(db: Connection) -> None:
    """By the database's clock; whoever is left out, or never complete has none. Who is behind is behind a moment."""
    db.execute("""
        INSERT INTO etl.sources (name, base_url, flatten_version, purge_mode, time_zone, complete_through)
        SELECT name, 'http://x', 1, 'delete', 'UTC', through
        FROM (VALUES ('a', now() - interval '40 s'), ('b', now()), ('c', NULL), ('d', now())) AS s (name, through)
    """)
    ages = sorted(sample(db, leave_out=["d"]))
    assert len(ages) == 2
    assert 0 <= ages[0] < 20 <= 40 <= ages[1] < 60
    since = datetime.now(UTC) - timedelta(seconds=20)
    assert behind(db, dict.fromkeys("abcx", since)) == {"a", "c", "x"}


def test_the_cpu_of_processes_is_known() -> None:
    """Our own is what Python says it is; one that is gone has none; a family's is no less than its head's."""
    sum(range(3_000_000))
    before, told, after = time.process_time(), cpu_time.by_process(os.getpid()), time.process_time()
    assert before - 0.1 < told <= after  # whatever is tidied up in between; Linux tells it in hundredths
    assert cpu_time.by_process(2**22 + 1) == 0
    assert cpu_time.by_family(os.getpid()) >= cpu_time.by_process(os.getpid())


# -- what is checked at the end ----------------------------------------------------------------------------------------


def test_runs_at_once_are_found() -> None:
    """A run that begins before the one before it is over; sources don't concern each other."""
    alone = [Ran("a", 1, 7, at(0), at(5)), Ran("a", 3, 8, at(5), at(9)), Ran("b", 2, 9, at(1), at(20))]
    assert list(overlaps(alone, [])) == []
    [said] = overlaps([*alone, Ran("a", 4, 7, at(8.9), at(12))], [])
    assert said.startswith("a: run 4 began at")
    assert "run 3 was over" in said


def test_a_killed_run_lasted_as_long_as_its_process() -> None:
    """Nobody wrote its end: while its process lived, no other may have begun."""
    runs = [Ran("a", 1, 7, at(0), None), Ran("a", 2, 8, at(3), at(4))]
    assert list(overlaps(runs, [(7, at(2.9))])) == []
    assert len(list(overlaps(runs, [(7, at(3.1))]))) == 1


@contextmanager
def a_small_fleet() -> Iterator[tuple[list[Tenant], Addresses]]:
    everybody = [tenant for tenant in tenants(12, seed=3) if tenant.has_token and 5 < tenant.jobs < 300][:2]
    with serve_fleet(Fleet(everybody, CLOCK.now)) as at:
        yield everybody, at


def test_mirrors_are_compared_account_by_account(db: Connection) -> None:
    """Equal after a sync; a row that is lost, changed, or in another source's place is told with the source's name."""
    with a_small_fleet() as (everybody, at):
        wheel = Wheel(at.steering)
        wheel.stop_clocks()
        for tenant in everybody:
            base = at.west if tenant.region == "west" else at.east
            token = Secret(tenant.credentials.token or "")
            source = replace(a_source(), name=tenant.name, base_url=base, credentials=token)
            sync(source, lambda source=source: Api(source, CLOCK), db, CLOCK)  # type: ignore[misc]
        names = [tenant.name for tenant in everybody]
        good = judged(db, wheel, names, [])
        assert good.is_good
        assert good.compared == sum(len(wheel.jobs(name)[1]) for name in names) > 10
        assert good.runs == 2
        db.execute("UPDATE aims360.jobs SET job_status = 'Lost' WHERE source_id = 2 AND id = 50001")
        lost = db.execute("SELECT job_id FROM aims360.jobs WHERE source_id = 1 ORDER BY id LIMIT 1").fetchone()
        db.execute("DELETE FROM aims360.job_documents WHERE job_id = %s", lost)
        db.execute("DELETE FROM aims360.jobs WHERE job_id = %s", lost)
        bad = judged(db, wheel, names, [])
    assert not bad.is_good
    assert len(bad.differences) == 2
    assert bad.differences[0].startswith(f"{names[0]}: ")
    assert bad.differences[0].endswith("is missing")
    assert "job_status is 'Lost'" in bad.differences[1]


def test_the_wheel_tells_each_accounts_own_time() -> None:
    """Cut to the second, as its Date is; those that are left out are not told; requests are counted over all."""
    with a_small_fleet() as (everybody, at):
        wheel = Wheel(at.steering)
        wheel.stop_clocks()
        one, other = everybody
        assert wheel.names() == [one.name, other.name]
        now = wheel.now(leave_out=[other.name])
        assert now == {one.name: wheel.jobs(one.name)[0].replace(microsecond=0)}
        wheel.backfill(one.name, 500)
        assert len(wheel.jobs(one.name)[1]) >= 500
        assert wheel.requests() == 0


# -- processes ---------------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_followed_by_another(tmp_path: Path) -> None:
    """So many go on; who was killed when is remembered, and the CPU of the dead counts."""
    workers = Workers(["emulator", "--port", "0", "--jobs", "0"], environment({}), tmp_path)
    workers.start()
    eventually(lambda: "export" in workers.last_words())
    workers.must_live()
    before = workers.seconds()
    workers.kill_one(Random(1), NOON)
    assert [until for _, until in workers.killed] == [NOON]
    assert workers.seconds() >= before > 0
    workers.must_live()
    workers.stop()
    assert len(list(tmp_path.glob("worker-*.log"))) == 2


def test_a_process_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    """Not waited for until the end of days."""
    process = Process(["emulator", "--jobs", "many"], environment({}), tmp_path / "log")
    assert process.wait(60)
    with pytest.raises(EtlError, match=r"ended by itself with 2: (.|\n)*'many' is not a valid integer"):
        process.must_live()


def test_wishes_that_make_no_sense_are_refused(command: Command) -> None:
    """Before anything is started."""
    for words, said in (
        (("--compare",), "--compare: needs --moods"),
        (("--accounts", "2", "--moods", "hangs=1,backfill=10"), "leave none of 2 accounts"),
        (("--moods", "glad=1"), "'glad=1' is not NAME=NUMBER"),
    ):
        code, _, errors = command.run("simulate", *words)
        assert code == 2
        assert said in " ".join(errors.split())


# -- all of it ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_small_fleet_is_measured(command: Command, tmp_path: Path) -> None:
    """Real workers, one of which is killed, and bad neighbours: figures, all fresh at the end, mirrors equal."""
    command.environ["AIMS360_DATA_DIR"] = str(tmp_path / "data")
    fleet = ("--accounts", "6", "--latency", "0.02", "--every", "5s", "--moods", "refuses=1,backfill=300")
    try:
        code, output, errors = command.run("simulate", *fleet, "--minutes", "0.1", "--kill", "4", "--json")
    finally:
        embedded.remove(tmp_path / "data")
    assert code == 0, errors
    found = json.loads(output)
    [phase] = found["phases"]
    assert (phase["workers"], phase["neighbours"], found["kills"]) == (2, True, 1)
    assert 0 < phase["runs"] <= phase["requests"]
    assert -2 < phase["ages"]["p50"] <= phase["ages"]["p99"] <= phase["ages"]["oldest"] < 60
    assert found["verdict"]["overlaps"] == found["verdict"]["differences"] == []
    assert found["verdict"]["compared"] > 50
