"""Batches that are written: rows that were encoded ahead."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from etl.load.merge_policy import Rules
from etl.load.upsert import compare, encoded_ahead, load
from etl.models import FLATTEN_VERSION, Batch, Counts, Cursor, Page
from etl.postgres import daily_aggregates
from etl.postgres.connection import Connection
from etl.state import rejects
from etl.testing.chaos.invariants import Laws
from etl.testing.emulator import World, populated
from etl.transform.flatten import flatten, together
from tests.support.scene import Scene

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LOOK_BACK = timedelta(minutes=15)
HOUR = timedelta(hours=1)


def pages_of(world: World, size: int) -> list[tuple[Page, Batch]]:
    """All jobs of a world, in pages of so many."""
    rows = [json.dumps(world.payload(job)).encode() for job in world.jobs()]
    pages = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [(Page(tuple(page), Cursor(0, None, None), NOON), flatten(page)) for page in pages]


def contents(scene: Scene, source_id: int) -> list[list[tuple[object, ...]]]:
    """What the tables of the mirror hold of a source."""
    tables = {"jobs": "job_id", "job_documents": "job_id, position", "job_status_history": "job_id"}
    statement = "SELECT to_jsonb(t) - 'source_id' - 'history_id' FROM aims360.{} AS t WHERE source_id = %s ORDER BY {}"
    return [scene.rows(statement.format(table, order), source_id) for table, order in tables.items()]


@pytest.mark.parametrize("seed", range(3))
def test_what_was_encoded_ahead_is_what_would_have_been_written(db: Connection, seed: int) -> None:
    """Of pages that are loaded as one too: jobs, documents and history are the same, value by value."""
    world = populated(60, seed=seed, now=NOON)
    world.add(
        jobStatusText="naïve \N{PILE OF POO}\t\n\\", response='{"a": [1, "é", null]}', modifiedDate=None, more=[1]
    )
    scene = Scene(db, world)
    pages = pages_of(world, 25)
    ahead = [(page, encoded_ahead(db, 1, batch, NOON, NOON - HOUR)) for page, batch in pages]
    rules = Rules(LOOK_BACK, NOON, not_seen_before=NOON - HOUR)
    for source_id, read in ((1, ahead), (2, pages)):
        [whole] = together(read)
        assert load(db, source_id, whole.batch, rules).inserted == 61
    assert [len(table) for table in contents(scene, 1)][::2] == [61, 61]
    assert contents(scene, 1) == contents(scene, 2)


def test_of_what_was_encoded_ahead_only_the_new_is_written(db: Connection) -> None:
    """Where a job is here already, the others are written without it."""
    [(_, batch)] = pages_of(populated(9, seed=4, now=NOON), 9)
    rules = Rules(LOOK_BACK, NOON)
    assert load(db, 1, Batch(batch.jobs[:4]), rules).inserted == 4
    counts = load(db, 1, encoded_ahead(db, 1, batch, NOON, None), rules)
    assert (counts.inserted, counts.unchanged) == (5, 4)
    assert Scene(db, World()).one("SELECT count(*) FROM aims360.job_status_history") == 9


def test_pages_of_which_one_was_not_encoded_are_encoded_together(db: Connection) -> None:
    """Half of the rows must not be taken for all."""
    first, second = pages_of(populated(10, seed=5, now=NOON), 5)
    [whole] = together([(first[0], encoded_ahead(db, 1, first[1], NOON, None)), second])
    assert load(db, 1, whole.batch, Rules(LOOK_BACK, NOON)).inserted == 10


# As an earlier release stored it, which knew no other date for a job that never ran.
_STORE_AS_BEFORE = """
UPDATE aims360.{} SET start_date = '0001-01-01Z', completed_date = '0001-01-01Z', modified_date = '1899-12-30Z'
WHERE job_id = %s
"""
_NO_DATES = (
    "SELECT num_nonnulls(start_date, completed_date, modified_date), reruns_seen FROM aims360.jobs WHERE job_id = %s"
)


def test_what_an_earlier_release_read_otherwise_is_read_anew_by_the_comparison_alone(db: Connection) -> None:
    """The version is the same: no run writes it anew before, and a rerun it isn't. The history follows."""
    world = World(seed=6)
    never = {"startDate": "0001-01-01T00:00:00Z", "completedDate": "", "modifiedDate": "1899-12-30T00:00:00Z"}
    job = world.add(jobStatus="Queued", overrides={**never, "numberOfAttempts": None})
    world.ties(5)
    scene = Scene(db, world)
    scene.sync()
    job_id = job["jobID"]
    assert scene.rows(_NO_DATES, job_id) == [(0, 0)]
    for table in ("jobs", "job_status_history"):
        db.execute(_STORE_AS_BEFORE.format(table).encode(), (job_id,))
    daily_aggregates.count_all(db, 1)
    db.execute("UPDATE etl.sources SET flatten_version = %s", (FLATTEN_VERSION - 1,))
    laws = Laws()
    assert laws.broken(db) == []
    for full in (False, True):
        world.advance(HOUR)
        world.add()
        counts = scene.sync(full=full).counts
        assert (counts.inserted, counts.updated, counts.refused) == (1, 0, 0)
    assert scene.rows(_NO_DATES, job_id) == [(3, 0)]
    assert scene.reconcile(repair=True).counts.differences == 0
    assert scene.rows(_NO_DATES, job_id) == [(0, 0)]
    assert scene.one("SELECT flatten_version FROM etl.sources") == FLATTEN_VERSION
    assert (laws.broken(db), scene.differences()) == ([], [])


@pytest.mark.parametrize(("spoilt", "missing"), [("NaN", 0), ("50", 1)])
def test_what_waits_in_rejects_is_not_missing_though_it_is_no_json(db: Connection, spoilt: str, missing: int) -> None:
    """Its date tells the version; that of another one may have been mended since."""
    row = {"jobID": "a", "rowversion": "AAAAAAAAAAE=", "modifiedDate": "2026-03-02T10:00:00Z", "clientID": "@@"}
    older = {**row, "modifiedDate": "2026-03-02T09:00:00Z"} if missing else row
    raw = json.dumps(older).replace('"@@"', spoilt).encode()
    rejects.keep(db, 1, 1, flatten([raw]).rejects, NOON)
    rules = Rules(LOOK_BACK, NOON, beyond=NOON + HOUR)
    assert compare(db, 1, flatten([json.dumps(row).encode()]).jobs, rules) == (Counts(missing=missing), False)
