"""The law of day totals: a purge never changes one, whatever the source has been through; and they are the jobs'."""

from datetime import timedelta
from random import Random

import pytest

from etl.config.validation import PURGE_MODES
from etl.errors import EtlError
from etl.models import DURATION_BOUNDS
from etl.postgres import daily_aggregates
from etl.postgres.connection import Connection
from etl.testing.chaos import mutations
from etl.testing.chaos.invariants import Laws
from etl.testing.emulator import World, populated
from etl.testing.emulator.job_version import Generation
from tests.support.day_totals import TOTALS_BY_SOURCE
from tests.support.rounds import IS_LONG
from tests.support.scene import Scene, a_source

# `make prove` lives a thousand.
LIVES = 1_000 if IS_LONG else 16
AS_JOBS = """
SELECT source, created_day, account_code, category_name, sub_category_name, job_status,
       count(*), sum(attempts), sum(documents), count(queued_seconds), count(run_seconds),
       coalesce(sum(queued_seconds), 0), coalesce(sum(run_seconds), 0)
FROM bi.jobs
GROUP BY 1, 2, 3, 4, 5, 6
"""
AS_DAYS = """
SELECT source, day, account_code, category_name, sub_category_name, job_status,
       jobs, attempts, documents, queued_count, run_count, queued_seconds, run_seconds
FROM bi.job_daily
"""
ZONES = ("UTC", "America/Los_Angeles", "Pacific/Auckland", "Asia/Kolkata")


def live(scene: Scene, rng: Random) -> None:
    """Some days at the source: its own life, and what a week of accidents brings."""
    for _ in range(rng.randint(1, 6)):
        event = rng.choice(mutations.ALL)
        event.happen(scene.world, rng)
        scene.world.advance(timedelta(hours=rng.expovariate(1 / 8)))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_a_purge_changes_no_total_in_any_life(url: str, db: Connection, part: int) -> None:
    """Over random lives of the source: purged or not, every group of every day says the same; and so do the laws."""
    purged = 0
    for seed in range(part, LIVES, 8):
        purged += a_life(db, Random(seed))
    assert purged > LIVES // 8


def a_life(db: Connection, rng: Random) -> int:
    """A mirror of its own for a source of a few jobs, over some weeks. How many jobs were purged."""
    seed = rng.randrange(10**6)
    generation: Generation = "2019-06" if rng.random() < 0.5 else "2019-08"
    jobs = rng.randint(5, 40)
    world = populated(jobs, seed=seed, rate=jobs / 6, generation=generation, rerun_share=0.2, late_share=0.1)
    db.execute("TRUNCATE etl.sources, etl.runs, etl.scans, etl.rejects, etl.compared RESTART IDENTITY")
    db.execute(
        "TRUNCATE aims360.jobs, aims360.job_documents, aims360.job_status_history, aims360.purged_jobs, "
        "aims360.purged_daily, aims360.live_daily"
    )
    mode = rng.choice(PURGE_MODES)
    scene = Scene(db, world, a_source(purge=mode, time_zone=rng.choice(ZONES)))
    laws, purged = Laws(), 0
    for _ in range(rng.randint(3, 6)):
        live(scene, rng)
        scene.sync()
        world.advance(timedelta(days=rng.expovariate(1 / 3)))
        before = scene.rows(TOTALS_BY_SOURCE)
        purged += scene.purge().counts.purged
        assert scene.rows(TOTALS_BY_SOURCE) == before, seed
        assert laws.broken(db) == [], seed
    return purged


def test_days_add_up_to_the_jobs(db: Connection) -> None:
    """Summed up by an analyst, bi.jobs says what bi.job_daily says, after changes of every kind."""
    world = populated(300, seed=3, rerun_share=0.3)
    scene = Scene(db, world, a_source(time_zone="America/Los_Angeles", purge="keep"))
    rng = Random(3)
    for _ in range(3):
        scene.sync()
        live(scene, rng)
    scene.sync()
    assert scene.one("SELECT count(*) FROM bi.jobs WHERE attempts > 0") > 20
    assert sorted(scene.rows(AS_DAYS), key=str) == sorted(scene.rows(AS_JOBS), key=str)


def test_what_changes_no_total_writes_none(db: Connection) -> None:
    """A job that gets on by a few percent moves no counter: no row of the totals is touched for it."""
    world = World(seed=1)
    job = world.add(jobStatus="Inprogress", percentCompleted=10, completedDate=None)
    scene = Scene(db, world)
    scene.sync()
    where = "SELECT ctid::text, xmin::text FROM aims360.live_daily"
    before = scene.rows(where)
    world.change(job, percentCompleted=60)
    assert scene.sync().counts.updated == 1
    assert scene.rows(where) == before
    world.change(job, jobStatus="Failed")
    scene.sync()
    assert scene.rows("SELECT job_status, jobs FROM bi.job_daily") == [("Failed", 1)]


def test_a_first_scan_is_counted_when_it_ends(db: Connection) -> None:
    """Killed half way, its jobs are there and no day is; gone on with to its end, all days are."""
    world = populated(300, seed=5)
    scene = Scene(db, world)
    calls = iter(range(10**6))

    def goes_away(environ: object, start: object) -> object:
        if next(calls) > 2:
            raise ConnectionError
        return scene.emulator(environ, start)  # type: ignore[arg-type]

    with pytest.raises((EtlError, ConnectionError)):
        scene.sync(app=goes_away)
    assert scene.one("SELECT count(*) FROM bi.jobs") >= 100
    assert scene.rows("SELECT * FROM bi.job_daily") == []
    scene.sync()
    assert scene.one("SELECT sum(jobs) FROM bi.job_daily") == 300
    assert Laws().broken(db) == []


def test_another_time_zone_counts_all_days_anew(db: Connection) -> None:
    """Before anything was purged the zone may still be changed: each job then counts on the day that it has there."""
    world = World(seed=1)
    world.add(createdDate="2019-06-20T02:00:00Z", startDate=None, completedDate=None)
    scene = Scene(db, world)
    scene.sync()
    assert scene.one("SELECT day::text FROM bi.job_daily") == "2019-06-20"
    scene.set(time_zone="America/Los_Angeles")
    scene.sync()
    assert scene.rows("SELECT day::text, jobs FROM bi.job_daily") == [("2019-06-19", 1)]
    assert scene.rows("SELECT created_day::text, created_at_local::text FROM bi.jobs") == [
        ("2019-06-19", "2019-06-19 19:00:00")
    ]


def test_totals_can_be_counted_anew_at_any_time(db: Connection) -> None:
    """What `migrate` does after a change of definitions: the same, where they are."""
    scene = Scene(db, populated(200, seed=4))
    scene.sync()
    before = scene.rows(TOTALS_BY_SOURCE)
    with db.transaction():
        daily_aggregates.count_all(db, 1)
    assert scene.rows(TOTALS_BY_SOURCE) == before


def test_the_histogram_is_read_back_as_it_was_counted(db: Connection) -> None:
    """bi.percentile knows the bounds that jobs are counted by."""
    for place, bound in enumerate(DURATION_BOUNDS):
        counts = [0] * place + [10] * (len(DURATION_BOUNDS) - place)
        row = db.execute("SELECT bi.percentile(1, 10, VARIADIC %s::numeric[])", (counts,)).fetchone()
        assert row == (bound,)
    assert db.execute("SELECT bi.percentile(NULL, 10, 10), bi.percentile(0.5, NULL, 0)").fetchone() == (None, None)
