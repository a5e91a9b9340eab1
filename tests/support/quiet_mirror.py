"""A mirror of jobs that stand still, which no full re-check heals unasked."""

from datetime import timedelta
from typing import Any

from etl.postgres.connection import Connection
from etl.testing.emulator import Generation, World
from tests.support.scene import Scene, a_source

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NEVER = timedelta()
SHALLOW: dict[str, Any] = {"reread": NEVER, "reconcile_every": NEVER}


def a_mirror(db: Connection, jobs: int = 30, generation: Generation = "2019-06", **settings: Any) -> Scene:
    """A mirror of jobs that were made one after the other, an hour ago; no deep pass heals it unasked."""
    world = World(seed=1, generation=generation)
    for _ in range(jobs):
        world.advance(MINUTE)
        world.add()
    scene = Scene(db, world, a_source(**{**SHALLOW, **settings}))
    world.advance(HOUR)
    scene.sync()
    world.advance(MINUTE)
    return scene
