"""The purge: what goes, what stays, and what comes back."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from etl.errors import ConfigError, Unreachable
from etl.load import purge, tombstones
from etl.pipeline.purge_step import DryRun
from etl.postgres.connection import Connection
from etl.testing.emulator import World, populated
from tests.support.day_totals import TOTALS
from tests.support.scene import Scene, a_source

DAY = timedelta(days=1)


def a_month_old(db: Connection, **settings: Any) -> tuple[Scene, Any]:
    """A mirror of a job that is a day from its purge and of one that stays, and the leaving job."""
    world = World(seed=1)
    leaving = world.add(purgeDateTime=world.now + DAY, numberOfAttempts=2)
    scene = Scene(db, world, a_source(**settings))
    scene.sync()
    return scene, leaving


def a_day_passes(scene: Scene) -> None:
    """A day and a half later, with a new job at the end of it: the source is alive, the leaving job is gone there."""
    scene.world.advance(1.5 * DAY)
    scene.world.add()


def hold(world: World) -> None:
    """The source is slow to purge."""
    world.stop_life()


def test_a_purged_job_leaves_a_tombstone_and_its_day_totals(db: Connection) -> None:
    """Job, documents and history go; the tombstone stays, and no total changes when the purge runs."""
    scene, job = a_month_old(db)
    before = scene.rows(TOTALS)
    a_day_passes(scene)
    run = scene.sync()
    assert run.counts.purged == 1
    assert scene.differences() == []
    assert scene.rows("SELECT job_id, reason, attempts FROM aims360.purged_jobs") == [(job["jobID"], "purged", 2)]
    for table in ("job_documents", "job_status_history"):
        assert scene.one(f"SELECT count(*) FROM aims360.{table} WHERE job_id = %s", job["jobID"]) == 0  # noqa: S608
    assert [row for row in scene.rows(TOTALS) if row in before] == before


def test_totals_never_change_when_a_purge_runs(db: Connection) -> None:
    """Over a populated month: what bi.job_daily says of every group is the same before and after the purge."""
    world = populated(800, seed=2)
    scene = Scene(db, world, a_source(purge="keep"))
    scene.sync()
    world.advance(5 * DAY)
    scene.sync()
    before = scene.rows(TOTALS)
    scene.set(purge="delete")
    assert scene.purge().counts.purged > 50
    assert scene.rows(TOTALS) == before
    assert scene.one("SELECT sum(jobs) FROM aims360.purged_daily") > 50


def test_batches_begin_where_the_last_one_ended(db: Connection) -> None:
    """Each due job comes once, in the order of its date, several of one date among them."""
    world = World(seed=4)
    world.ties(12, purgeDateTime=world.now + DAY)
    world.ties(12, purgeDateTime=world.now + 2 * DAY)
    Scene(db, world).sync()
    until, after, found = world.now + 3 * DAY, purge.FIRST, []
    while some := purge.due(db, 1, until, after, most=5):
        found += some
        after = some[-1]
    assert found == purge.due(db, 1, until)
    assert len(found) == 24


def test_the_purge_goes_by_keys_whatever_is_known_of_the_tables(db: Connection) -> None:
    """They were just emptied, and nobody has counted their rows since: no row is looked at for another's sake."""
    given = {"source_id": 1, "job_ids": ["a", "b"], "reason": "purged", "now": None, "sign": 1}
    with db.transaction():
        db.execute(tombstones.BY_KEY)
        plan = psycopg.ClientCursor(db).execute(b"EXPLAIN " + tombstones.BURY, given).fetchall()
    assert not any("Seq Scan" in str(line) or "Nested Loop" in str(line) for line in plan)


def test_a_dry_run_says_what_would_go(db: Connection) -> None:
    """Due by the watermark, to be asked about, and what a milder mode kept: the numbers of the purge that follows."""
    scene, _ = a_month_old(db, purge="keep")
    assert scene.dry_run() == DryRun(0, 0)
    a_day_passes(scene)
    scene.sync()
    assert scene.dry_run() == DryRun(0, 0)
    scene.set(purge="delete")
    assert scene.dry_run() == DryRun(1, 0)
    assert scene.sync().counts.purged == 1
    scene.world.add(purgeDateTime=scene.world.now + timedelta(minutes=1))
    scene.sync()
    scene.world.advance(DAY)
    assert scene.dry_run() == DryRun(0, 1)
    assert scene.purge().counts.purged == 1


def test_a_job_that_was_rerun_after_we_purged_it_comes_back(db: Connection) -> None:
    """The source was slower than its date: someone ran the job again, which moved the date."""
    scene, job = a_month_old(db)
    hold(scene.world)
    a_day_passes(scene)
    assert scene.sync().counts.purged == 1
    before = scene.rows("SELECT sum(jobs), sum(documents) FROM bi.job_daily")
    scene.world.advance(timedelta(minutes=1))
    scene.world.rerun(job["jobID"])
    assert scene.sync().counts.returned == 1
    assert scene.rows("SELECT sum(jobs) FROM bi.job_daily")[0][0] == before[0][0]
    assert scene.rows("SELECT * FROM aims360.purged_jobs") == []
    assert scene.differences() == []


def test_the_time_between_two_runs_is_no_time_in_the_queue(db: Connection) -> None:
    """A job that was rerun six hours later has a run time, and no queue time: not live, and not when it is purged."""
    world = World(seed=9)
    job = world.arrive()
    world.advance(timedelta(hours=6))
    world.rerun(job)
    world.advance(timedelta(hours=1))
    scene = Scene(db, world)
    scene.sync()
    [[queued, run, total, is_rerun]] = scene.rows(
        "SELECT queued_seconds, run_seconds, total_seconds, is_rerun FROM bi.jobs"
    )
    assert (queued, total, is_rerun) == (None, None, True)
    assert run > 0
    before = scene.rows(TOTALS)
    world.advance(31 * DAY)
    world.add()
    scene.sync()
    assert scene.one("SELECT queued_count FROM aims360.purged_daily") == 0
    assert [row for row in scene.rows(TOTALS) if row in before] == before


def test_the_purge_never_outruns_the_sync(db: Connection) -> None:
    """A job that the source extended in the last moment, committed late, is not lost."""
    world = World(seed=3)
    job = world.add(purgeDateTime=world.now + timedelta(minutes=30))
    world.add()
    scene = Scene(db, world)
    scene.sync()
    world.advance(timedelta(minutes=29))
    world.late(job, timedelta(minutes=5), purgeDateTime=world.now + 10 * DAY)
    world.advance(timedelta(minutes=2))
    world.add()
    assert scene.sync().counts.purged == 0
    world.advance(timedelta(hours=2))
    world.add()
    assert scene.sync().counts.purged == 0
    assert scene.differences() == []


def test_a_job_that_comes_back_is_loaded_again_with_its_totals_right(db: Connection) -> None:
    """Extended after we purged it: the tombstone goes, its counters come off, and it counts once."""
    scene, job = a_month_old(db)
    backup = scene.world.snapshot()
    a_day_passes(scene)
    scene.sync()
    totals = scene.rows("SELECT sum(jobs), sum(attempts), sum(documents), sum(run_seconds) FROM bi.job_daily")
    scene.world.restore(backup)
    scene.world.extend(job["jobID"], 30)
    run = scene.sync()
    assert run.counts.returned == 1
    assert scene.rows("SELECT * FROM aims360.purged_jobs") == []
    assert scene.rows("SELECT * FROM aims360.purged_daily") == []
    again = scene.rows("SELECT sum(jobs), sum(attempts), sum(documents), sum(run_seconds) FROM bi.job_daily")
    assert again == totals


def test_a_purged_job_that_is_still_shown_is_skipped(db: Connection) -> None:
    """The source is slow to delete: the job is not loaded again while its purge date is the same."""
    scene, job = a_month_old(db)
    a_day_passes(scene)
    scene.sync()
    scene.world.add(jobID=job["jobID"], purgeDateTime=job["purgeDateTime"])
    run = scene.sync()
    assert (run.counts.skipped, run.counts.inserted) == (1, 0)


def test_a_quiet_source_is_purged_on_time(db: Connection) -> None:
    """Nothing happens for days, so the watermark stands still: jobs past their date are asked for, and go."""
    world = World(seed=4)
    world.add(purgeDateTime=world.now + DAY)
    world.add()
    scene = Scene(db, world)
    scene.sync()
    world.advance(2 * DAY)
    run = scene.sync()
    assert run.counts.purged == 1
    assert scene.differences() == []


def test_a_quiet_source_that_still_shows_a_job_keeps_it(db: Connection) -> None:
    """Past its date but still served: it waits, and is asked for at most once an hour."""
    world = World(seed=5)
    world.add(purgeDateTime=world.now + DAY)
    world.add()
    scene = Scene(db, world)
    scene.sync()
    hold(world)
    world.advance(2 * DAY)
    assert scene.sync().counts.purged == 0
    assert any("jobID eq" in request.query.get("$filter", "") for request in scene.emulator.requests)
    scene.emulator.reset_log()
    scene.sync()
    assert not any("jobID eq" in request.query.get("$filter", "") for request in scene.emulator.requests)


@pytest.mark.parametrize("purge", [Scene.sync, Scene.purge])
def test_a_source_that_answers_empty_causes_no_deletion(db: Connection, purge: Callable[[Scene], Any]) -> None:
    """All rows are hidden behind a 200: nothing is due on such a word."""
    scene, _ = a_month_old(db)
    scene.world.advance(40 * DAY)
    assert len(scene.world) == 0
    assert purge(scene).counts.purged == 0
    assert scene.one("SELECT count(*) FROM aims360.jobs") == 1


def test_a_source_that_is_down_freezes_the_purge(db: Connection) -> None:
    """No answer, no deletion."""
    scene, _ = a_month_old(db)
    a_day_passes(scene)
    scene.emulator.fail_next(*["503"] * 20)
    with pytest.raises(Unreachable):
        scene.purge()
    assert scene.one("SELECT count(*) FROM aims360.jobs") == 1


def test_a_job_with_an_open_reject_is_not_purged(db: Connection) -> None:
    """The version that couldn't be read may carry a later date."""
    scene, job = a_month_old(db)
    scene.world.advance(timedelta(minutes=1))
    scene.world.change(job["jobID"], clientID=5, purgeDateTime=scene.world.now + 9 * DAY)
    scene.sync()
    a_day_passes(scene)
    assert scene.sync().counts.purged == 0


def test_scrub_keeps_the_row_without_links_people_and_texts(db: Connection) -> None:
    """AIMS360_PURGE=scrub: what is secret or personal goes, the job is counted once."""
    scene, job = a_month_old(db, purge="scrub")
    before = scene.one("SELECT sum(jobs) FROM bi.job_daily")
    a_day_passes(scene)
    assert scene.sync().counts.purged == 1
    kept = scene.rows(
        "SELECT num_nonnulls(publish_link, request_url, created_by, modified_by, job_description, job_status_text, "
        "client_request_id, response_json, response_text, extra), purged_at IS NOT NULL FROM aims360.jobs "
        "WHERE job_id = %s",
        job["jobID"],
    )
    assert kept == [(0, True)]
    assert scene.one("SELECT count(download_link) FROM aims360.job_documents WHERE job_id = %s", job["jobID"]) == 0
    assert scene.one("SELECT sum(jobs) FROM bi.job_daily") == before + 1
    assert scene.sync().counts.purged == 0


def test_keep_only_marks_and_a_stricter_mode_takes_it_up_later(db: Connection) -> None:
    """AIMS360_PURGE=keep marks the row; changed to delete, what was kept goes with its totals kept."""
    scene, job = a_month_old(db, purge="keep")
    a_day_passes(scene)
    assert scene.sync().counts.purged == 1
    assert scene.one("SELECT purged_at IS NOT NULL FROM aims360.jobs WHERE job_id = %s", job["jobID"])
    before = scene.rows(TOTALS)
    scene.set(purge="delete")
    assert scene.sync().counts.purged == 1
    assert scene.differences() == []
    assert scene.rows(TOTALS) == before


def test_the_time_zone_is_fixed_once_days_were_counted(db: Connection) -> None:
    """Another zone after the first purge would count days twice: refused, with what to set."""
    scene, _ = a_month_old(db)
    scene.set(time_zone="America/Los_Angeles")
    scene.sync()
    a_day_passes(scene)
    scene.sync()
    scene.set(time_zone="UTC")
    with pytest.raises(ConfigError, match="AIMS360_TIME_ZONE=America/Los_Angeles"):
        scene.sync()


def test_an_answer_without_its_witness_is_not_believed(db: Connection) -> None:
    """Asked about jobs past their date, a source that hides a job it has just shown says nothing about the others."""
    world = World(seed=6)
    world.add(purgeDateTime=world.now + DAY)
    world.add()
    scene = Scene(db, world)
    scene.sync()
    world.advance(2 * DAY)
    served = scene.emulator

    def hiding(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if "jobID%20eq" in environ["QUERY_STRING"] or "jobID eq" in environ["QUERY_STRING"]:
            environ["QUERY_STRING"] = "$filter=jobID%20eq%20'none'"
        return served(environ, start_response)

    run = scene.sync(hiding)
    assert run.counts.purged == 0
    assert any("can't be trusted" in note for note in run.notes)


def test_a_small_page_of_the_source_hides_no_job_from_the_question(db: Connection) -> None:
    """Asked about many keys, the source answers over several pages: what is on the later ones is still there."""
    world = World(seed=7)
    first = world.add(purgeDateTime=None)
    leaving = [world.add(purgeDateTime=world.now + 30 * DAY) for _ in range(15)]
    world.change_many(leaving, purgeDateTime="2026-03-02T14:00:00Z")
    scene = Scene(db, world, page_size=10)
    scene.sync()
    hold(world)
    world.advance(timedelta(hours=4))
    world.change(first, jobStatusText="alive")
    scene.sync()
    world.advance(timedelta(hours=2))
    assert scene.sync().counts.purged == 0
    assert scene.differences() == []
