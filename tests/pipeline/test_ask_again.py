"""Rows that could not be read are asked for again: in few requests, and what comes is loaded as in any sync."""

from datetime import timedelta

import pytest

from etl.models import Verdict
from etl.postgres.connection import Connection
from etl.testing.emulator import World, populated
from etl.testing.emulator.service_options import ServiceOptions
from tests.support.quiet_mirror import DAY, HOUR, MINUTE, SHALLOW
from tests.support.scene import Scene, a_source

_NO_PATH = ServiceOptions(has_plain_path=False)
_WAITING = "SELECT job_id FROM etl.rejects ORDER BY job_id"


def a_scene(db: Connection, world: World, **options: object) -> Scene:
    """A mirror of a world whose rows an increment no longer reads: only one that is newer."""
    scene = Scene(db, world, a_source(**SHALLOW, concurrency=1), **options)
    scene.sync()
    world.advance(HOUR)
    world.add()
    scene.sync()
    world.advance(HOUR)
    return scene


def asked_for(scene: Scene, *job_ids: str) -> list[int]:
    """How many of these jobs each request of the last run had in its list of keys, where it had any."""
    lists = [request.query.get("$filter", "") for request in scene.emulator.requests]
    return [number for number in (sum(job_id in text for job_id in job_ids) for text in lists) if number]


def test_fourteen_jobs_are_asked_for_with_one_request(db: Connection) -> None:
    """Beside a job that the source has just shown; the others have their turn with the next run."""
    world = World(seed=1)
    bad = [str(world.add(accountCode=22)["jobID"]) for _ in range(18)]
    for _ in range(20):
        world.add()
    scene = Scene(db, world, a_source(**SHALLOW, concurrency=1))
    scene.sync()
    world.advance(HOUR)
    newest = str(world.add()["jobID"])
    scene.emulator.reset_log()
    scene.sync()
    assert asked_for(scene, *bad) == [14]
    assert asked_for(scene, newest) == [1]
    world.advance(HOUR)
    scene.emulator.reset_log()
    scene.sync()
    assert asked_for(scene, *bad) == [4]


def test_what_is_read_is_loaded_though_nothing_changed_at_the_source(db: Connection) -> None:
    """The rows had been spoilt on their way. Watermark, window and pages are the scan's alone."""
    world = World(seed=2)
    bad = [world.add(accountCode=22), world.add(percentCompleted="half")]
    scene = Scene(db, world, a_source(**SHALLOW, concurrency=1))
    assert scene.sync().verdict is Verdict.COMPLETE_WITH_REJECTS
    world.change(bad[0], touch=False, accountCode="AZ022")
    world.change(bad[1], touch=False, percentCompleted=50)
    world.advance(HOUR)
    world.add()
    run = scene.sync()
    assert (run.verdict, run.is_unwell, run.counts.inserted, run.counts.updated) == (Verdict.COMPLETE, False, 2, 1)
    assert run.pages == scene.one("SELECT pages FROM etl.runs ORDER BY run_id DESC LIMIT 1")
    assert scene.rows("SELECT verdict, inserted, updated FROM etl.runs ORDER BY run_id DESC LIMIT 1") == [
        ("complete", 2, 1)
    ]
    assert scene.rows(_WAITING) == scene.rows("SELECT * FROM etl.unread_values") == []
    assert scene.differences() == []


def test_a_row_that_the_scan_read_just_before_is_counted_once(db: Connection) -> None:
    """Inside of the look-back each run reads it, and asks for it too."""
    world = World(seed=3)
    world.add()
    world.add(accountCode=22)
    scene = Scene(db, world, a_source(**SHALLOW))
    assert [scene.sync().counts.rejected for _ in range(3)] == [1, 1, 1]


def test_records_without_a_name_are_asked_for_by_where_they_lie(db: Connection) -> None:
    """With three requests a run at the most, and once the service serves them they are there."""
    world = populated(600, seed=4, rate=0)
    lost = [list(world.jobs())[place] for place in (50, 150, 250, 350, 450)]
    options = ServiceOptions(poisoned=frozenset(job.job_id for job in lost))
    scene = a_scene(db, world, options=options)
    assert scene.one("SELECT count(*) FROM etl.rejects WHERE key_name = 'ID'") == len(lost)
    assert scene.one("SELECT sum(times_asked) FROM etl.rejects") == 3
    scene.sync()
    assert scene.one("SELECT sum(times_asked) FROM etl.rejects") == 5
    scene.emulator.options = ServiceOptions()
    world.advance(DAY)
    for _ in range(8):
        world.advance(MINUTE)
        run = scene.sync()
    assert (run.verdict, scene.rows(_WAITING)) == (Verdict.COMPLETE, [])
    assert [said for said in scene.differences() if "is a ghost" not in said] == []


def test_where_nobody_can_ask_the_next_full_pass_is_the_answer(db: Connection) -> None:
    """Keys can't be filtered on: the row waits, few requests find that out, and none is made twice for it."""
    world = World(seed=5)
    bad = world.add(accountCode=22)
    world.advance(HOUR)
    world.add()
    scene = Scene(db, world, a_source(**SHALLOW, concurrency=1), refuse={"ID", "jobID"}, options=_NO_PATH)
    scene.sync()
    world.change(bad, touch=False, accountCode="AZ022")
    scene.emulator.reset_log()
    assert scene.sync().verdict is Verdict.COMPLETE_WITH_REJECTS
    lists = [request.raw_query for request in scene.emulator.requests if "jobID" in request.query.get("$filter", "")]
    assert len(lists) == len(set(lists)) <= 3
    assert scene.sync(full=True).verdict is Verdict.COMPLETE
    assert scene.differences() == []


@pytest.mark.parametrize(("purge_date", "days"), [("2026-03-05T00:00:00Z", 3), (None, 30)])
def test_where_nobody_can_ask_a_reject_leaves_with_its_purge_date_or_after_30_days(
    db: Connection, purge_date: str | None, days: int
) -> None:
    """Not before; and the run that forgets it names it."""
    world = World(seed=6)
    bad = world.add(accountCode=22, overrides={"purgeDateTime": purge_date})
    world.add(purgeDateTime=None)
    scene = a_scene(db, world, refuse={"ID", "jobID"}, options=_NO_PATH)
    world.delete(bad)
    world.advance(timedelta(days=days - 1))
    scene.sync()
    assert scene.rows(_WAITING) == [(bad["jobID"],)]
    world.advance(timedelta(days=1))
    run = scene.sync()
    assert scene.rows(_WAITING) == []
    assert any(str(bad["jobID"]) in note for note in run.notes)
