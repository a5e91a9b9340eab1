"""What of a scan's pages is to be written: the same as if every row were looked at, whatever was expected of them."""

from datetime import timedelta

import pytest

from etl.postgres.connection import Connection
from etl.testing.emulator import World, populated
from tests.support.scene import Scene


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("change", [0, 3, 250])
@pytest.mark.parametrize("new", [0, 1, 400])
def test_what_is_new_or_changed_is_written_however_much_it_is(
    db: Connection, new: int, change: int, full: bool
) -> None:
    """None, few, most of a window: each row is counted once, and the mirror equals the source."""
    world = populated(300, seed=3, rate=0)
    world.stop_life()
    scene = Scene(db, world)
    scene.sync()
    world.advance(timedelta(hours=1))
    for job in list(world.jobs())[20 : 20 + change]:
        world.change(job, jobStatusText="again")
    for _ in range(new):
        world.add()
    counts = scene.sync(full=full).counts
    assert (counts.inserted, counts.updated) == (new, change)
    if full:  # an increment sees but a part of the others
        assert counts.unchanged == 300 - change
    assert scene.differences() == []


def test_a_reject_that_went_back_to_what_is_here_waits_no_more(db: Connection) -> None:
    """Its row is the same as the mirror's, and is looked at all the same."""
    world = World(seed=2)
    job = world.add(rowversion=7)
    scene = Scene(db, world)
    scene.sync()
    good = dict(world.payload(str(job["jobID"])))
    world.change(job, accountCode=22)
    assert scene.sync().counts.rejected == 1
    world.change(job, accountCode=good["accountCode"], modifiedDate=good["modifiedDate"], rowversion=7)
    scene.sync(full=True)
    assert scene.one("SELECT count(*) FROM etl.rejects") == 0


def test_a_job_that_a_purge_kept_is_no_news_and_not_the_same(db: Connection) -> None:
    """Whatever its version: `load` decides."""
    world = World(seed=5)
    world.add(purgeDateTime=world.now + timedelta(minutes=1))
    scene = Scene(db, world)
    scene.set(purge="keep")
    scene.sync()
    db.execute("UPDATE aims360.jobs SET purged_at = purge_date_time + interval '1 minute'")
    counts = scene.sync().counts
    assert (counts.skipped, counts.unchanged, counts.written) == (1, 0, 0)
