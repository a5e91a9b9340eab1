"""The keys that a comparison has seen, and what Postgres says differs."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from etl.load import version_filter
from etl.load.version_filter import Told
from etl.models import Cursor, Scan, ScanKind, Window
from etl.postgres.connection import Connection
from etl.state import seen_keys
from etl.testing.emulator import World
from tests.support.quiet_mirror import DAY, HOUR, MINUTE, a_mirror
from tests.support.scene import Scene

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCAN = Scan(ScanKind.RECONCILE, Window(None, NOON, NOON), "jobID", (Cursor(0, None, None),), opened_by=1)


def mirrored(scene: Scene) -> Told:
    """The versions that the source tells of all its jobs."""
    rows = [json.dumps(scene.world.payload(job)).encode() for job in scene.world.jobs()]
    found = version_filter.told(rows, NOON)
    assert found is not None
    return found


@pytest.mark.parametrize("change", [{"row_versions": 1}, {"modified": None}, {"modified": 1}, {"job_ids": "another"}])
def test_only_what_differs_comes_back(db: Connection, change: dict[str, Any]) -> None:
    """A version lower or higher, another date, a job that isn't here; and one that a purge has kept."""
    scene = a_mirror(db)
    some = mirrored(scene)
    first, second, *_ = some.job_ids
    assert seen_keys.differing(db, 1, SCAN, some) == set()
    [(name, value)] = change.items()
    others = some._replace(**{name: (value, *getattr(some, name)[1:])})
    assert seen_keys.differing(db, 1, SCAN, others) == {value if name == "job_ids" else first}
    db.execute("UPDATE aims360.jobs SET purged_at = now() WHERE job_id = %s", (second,))
    assert seen_keys.differing(db, 1, SCAN, some) == {second}


def test_a_job_without_a_date_may_be_the_same(db: Connection) -> None:
    """Its rowversion tells."""
    world = World(seed=2)
    world.add(modifiedDate=None)
    scene = Scene(db, world)
    scene.sync()
    assert seen_keys.differing(db, 1, SCAN, mirrored(scene)) == set()


def test_keys_that_come_twice_are_counted_once(db: Connection) -> None:
    """And the old ones only."""
    numbers = range(10)
    some = Told(list(map(str, numbers)), numbers, numbers, [number % 2 == 0 for number in numbers])
    for _ in range(2):
        seen_keys.differing(db, 1, SCAN, some)
    seen_keys.remember(db, 1, SCAN, {"0": True, "11": True, "12": False, "13": None})
    seen_keys.differing(db, 1, replace(SCAN, opened_by=2), some)
    assert seen_keys.count_old(db, 1, SCAN) == (6, 1)


def test_what_came_is_not_unseen(db: Connection) -> None:
    """Jobs that are due within the look-back wait for the purge; those that came since are none of the comparison's."""
    scene = a_mirror(db)
    some = mirrored(scene)
    first, second, *_ = some.job_ids
    seen_keys.differing(db, 1, SCAN, Told._make(column[2:] for column in some))
    now = scene.world.now
    scan = replace(SCAN, window=Window(None, now, now))
    assert {job.job_id for job in seen_keys.unseen(db, 1, scan, now, HOUR, now)} == {first, second}
    db.execute("UPDATE aims360.jobs SET purge_date_time = %s WHERE job_id = %s", (now - MINUTE, first))
    [left] = seen_keys.unseen(db, 1, scan, now, HOUR, now)
    assert (left.job_id, left.is_old) == (second, True)
    earlier = replace(SCAN, window=Window(None, now, now - DAY))
    assert seen_keys.unseen(db, 1, earlier, now, HOUR, now) == []


def test_pages_that_come_again_after_a_kill_leave_the_count_as_it_is(db: Connection) -> None:
    """The keys were kept, the cursor wasn't: what came twice is no reason to leave a ghost alone."""
    scene = a_mirror(db, 250, reconcile_every=DAY, concurrency=1)
    scene.emulator.page_size = 20
    scene.world.advance(2 * DAY)
    scene.world.delete(list(scene.world.jobs())[200])
    scene.emulator.between_pages = lambda world: world.advance(timedelta(minutes=2))
    scene.sync()
    at_first = scene.one("SELECT cursors::text FROM etl.scans WHERE lane = 'reconcile'")
    scene.sync()
    scene.db.execute("UPDATE etl.scans SET cursors = %s::json WHERE lane = 'reconcile'", (at_first,))
    scene.emulator.between_pages = None
    run = scene.sync()
    assert (run.counts.ghosts, run.counts.repaired) == (1, 1)
    assert scene.differences() == []
