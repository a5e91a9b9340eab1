"""Jobs and mirrors for reports."""

from datetime import UTC, datetime, timedelta
from typing import Any

from etl.postgres.connection import Connection
from etl.testing.emulator import World, populated
from tests.support.scene import Scene

HOSTILE = "'; DROP TABLE aims360.jobs; --"


def seconds(count: float) -> timedelta:
    """A span, briefly."""
    return timedelta(seconds=count)


def ran(created: datetime, waited: float = 1, took: float = 1, **fields: Any) -> dict[str, Any]:
    """The fields of a job that was created then, waited and ran so many seconds."""
    started = created + seconds(waited)
    dates = {"createdDate": created, "startDate": started, "completedDate": started + seconds(took)}
    kind = {"categoryName": "Exports", "subCategoryName": "EDI", "responseType": "Publishlink"}
    return {**dates, **kind, "accountCode": "A1", **fields}


def busy(db: Connection) -> World:
    """A month of jobs up to now, one that hangs and one that was run again, and their mirror."""
    now = datetime.now(UTC)
    world = populated(400, seed=3, now=now, rate=0)
    world.add(jobStatus="Inprogress", completedDate=None, modifiedDate=now - timedelta(hours=3))
    failed = world.add(jobStatus="Failed", createdDate=now - timedelta(days=1))
    world.add(jobStatus="Failed", canReRun="Yes", accountCode="AZ031")
    scene = Scene(db, world)
    scene.sync()
    world.change(failed, jobStatus="Completed", numberOfAttempts=1)
    scene.sync()
    return world
