"""Clients of the BI schema: a mirror that lived for two days, and readers who may see only what was granted."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg import conninfo

from etl.postgres import migrations, roles
from etl.postgres.connection import connect
from etl.testing.emulator import Emulator, populated
from tests.clients.expected import Login
from tests.conftest import a_database
from tests.support.logins import PASSWORD, a_login
from tests.support.scene import TOKEN, Scene, a_source

TENANT = "AZ022"
_START = datetime.now(UTC) - timedelta(days=2)
_WEST = "America/Los_Angeles"


@pytest.fixture(scope="session")
def mirror(server_url: str) -> Iterator[str]:
    """The address of a mirror of two sources, with all that a mirror has."""
    for url in a_database(server_url, "clients"):
        migrations.migrate(url)
        with connect(url) as db:
            _live(Scene(db, populated(400, seed=1, now=_START)))
            _live(Scene(db, populated(100, seed=2, now=_START), a_source(name="west", purge="keep", time_zone=_WEST)))
        yield url


def _live(scene: Scene) -> None:
    """Two days until now, from where views look back: jobs come, rerun, hang, are purged; documents are kept.

    One row can't be read.
    """
    world = scene.world
    world.add(jobStatus="Inprogress", completedDate=None)
    for _ in range(8):
        scene.sync()
        done = [job for job in world.jobs() if world.payload(job)["jobStatus"] == "Completed"]
        for job in done[-3:]:
            world.rerun(job)
        world.advance(timedelta(hours=6))
    world.add(
        jobStatus="Queued", startDate=None, completedDate=None, maximumDateTimeToExecuteJob="2030-01-01T00:00:00Z"
    )
    world.add(accountCode=22)
    scene.sync()
    scene.keep_documents()


@pytest.fixture
def emulator() -> Emulator:
    """A pretend AIMS360 of today, with some jobs: its clock is this machine's."""
    return Emulator(populated(300, seed=1, now=_now(), rate=0), token=TOKEN, clock=_now)


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="session")
def reader(mirror: str) -> Iterator[Login]:
    """Who makes reports: `aims360-etl grant --bi READER`."""
    yield from _login(mirror, "reader")


@pytest.fixture(scope="session")
def link_reader(mirror: str) -> Iterator[Login]:
    """Who may also open what the jobs made: with `--links`."""
    yield from _login(mirror, "link_reader", links=True)


@pytest.fixture(scope="session")
def tenant(mirror: str) -> Iterator[Login]:
    """Who may see one account and no other: with `--account`."""
    yield from _login(mirror, "tenant", accounts=[TENANT])


def _login(mirror: str, kind: str, **granted: Any) -> Iterator[Login]:
    known = conninfo.conninfo_to_dict(mirror)
    host, port = str(known.get("host", "localhost")), str(known.get("port", 5432))
    with connect(mirror) as db, a_login(db, kind) as name:
        roles.grant(db, name, **granted)
        yield Login(host, port, str(known["dbname"]), name, PASSWORD)
