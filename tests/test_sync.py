"""Scenarios: rows there before, rows here before, what happens, a sync, rows here after."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.database import Connection
from etl.emulator import World, populated
from etl.emulator.job import Generation
from etl.errors import BrokenPromise, ConfigError, SourceError
from etl.model import Run, Verdict
from tests.scene import Scene, a_source

A_MOMENT = timedelta(milliseconds=700)
_WRITES = """
SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)
FROM pg_stat_xact_user_tables
WHERE schemaname = 'aims360'
"""


def churn(changes: int, seed: int = 1) -> Callable[[World], None]:
    """What the source does between any two page requests: so many rows change, and the next purge date comes."""
    rng = random.Random(seed)
    known: list[str] = []

    def live(world: World) -> None:
        world.advance(A_MOMENT)
        known.extend(() if known else sorted(str(job["jobID"]) for job in world.jobs()))
        for job_id in rng.sample(known, changes):
            if world.get(job_id) is not None:
                world.change(job_id, percentCompleted=rng.randint(0, 100), jobStatusText=f"changed at {world.now}")

    return live


def a_tie(world: World, rows: int, purges: int) -> None:
    """So many rows on one tick, of which some have purge dates a moment apart, from now on."""
    jobs = world.ties(rows)
    for number, job in enumerate(jobs[:: rows // purges]):
        world.change(job, modifiedDate=job["modifiedDate"], purgeDateTime=world.now + number * A_MOMENT)


def fetched(scene: Scene) -> list[str]:
    """The filters of the pages that were asked for, in order."""
    return [request.query.get("$filter", "") for request in scene.emulator.requests]


def pages_of(scene: Scene, rows: int) -> int:
    """Pages that so many rows fill."""
    return -(-rows // scene.emulator.page_size)


def test_a_first_sync_brings_every_job_with_its_documents(db: Connection) -> None:
    """The mirror equals the source, field by field, and the run says complete."""
    scene = Scene(db, populated(900, seed=1))
    run = scene.sync()
    assert scene.differences() == []
    assert (run.verdict, run.kind, run.counts.inserted) == (Verdict.COMPLETE, "full", 900)
    assert run.complete_through is not None
    assert scene.one("SELECT count(*) FROM aims360.job_documents") > 0
    assert scene.one("SELECT count(*) FROM aims360.job_status_history") == 900


@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
@pytest.mark.parametrize("comparison", ["datetime", "datetime2"])
@pytest.mark.parametrize("next_link", ["always", "never", "foreign"])
def test_nothing_is_lost_while_the_source_changes_under_the_scan(
    db: Connection, generation: Generation, comparison: str, next_link: str
) -> None:
    """Between any two pages 3 rows change and 1 is purged, 5,000 lie on one tick: equal when it is quiet."""
    world = World(seed=2, generation=generation)
    a_tie(world, rows=5_000, purges=500)
    scene = Scene(db, world, comparison=comparison, next_link=next_link, between_pages=churn(3))
    for _ in range(4):
        scene.sync()
    scene.emulator.between_pages = None
    for _ in range(2):
        world.advance(timedelta(hours=2))
        scene.sync()
    assert scene.differences() == []
    assert 4_000 < len(world) < 4_900
