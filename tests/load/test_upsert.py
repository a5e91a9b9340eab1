"""Batches that are written: rows that were encoded ahead."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from etl.load.merge_policy import Rules
from etl.load.upsert import encoded_ahead, load
from etl.models import Batch, Cursor, Page
from etl.postgres.connection import Connection
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
