"""A scene: a pretend AIMS360 and a mirror of it; `etl/testing/chaos/oracle.py` holds one against the other."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from etl.client.client import Api
from etl.config.secrets import PasswordGrant, Secret
from etl.config.settings import Source, read
from etl.models import Clock, Run
from etl.pipeline.purge_step import DryRun, what_is_due
from etl.pipeline.reconcile import Wish
from etl.pipeline.sync import Order, purge_now, reconcile_now, sync
from etl.postgres.connection import Connection
from etl.testing.chaos.oracle import differences
from etl.testing.emulator import Emulator, World

BASE = "https://api.aims360.example"
TOKEN = "static-token"
GRANT = PasswordGrant("client", Secret("secret"), "operator@example.com", Secret("password"))
_KEEP = """
INSERT INTO aims360.document_archive (
    source_id, job_id, position, document_name, account_code, link_sha256, path, bytes, sha256, fetched_at
)
SELECT source_id, job_id, position, document_name, account_code, 'digest', '/kept/' || job_id || position, 1, 'digest',
       now()
FROM aims360.job_documents
WHERE source_id = (SELECT source_id FROM etl.sources WHERE name = %s)
"""


class Scene:
    """A world served in-process and its mirror; `sync` runs on the world's clock, and sleeping lets the world live."""

    def __init__(self, db: Connection, world: World, source: Source | None = None, **emulator: Any) -> None:
        self.db = db
        self.world = world
        self.emulator = Emulator(world, token=TOKEN, reset=httpx.ReadError, **emulator)
        self.source = source or a_source()

    @property
    def clock(self) -> Clock:
        """The world's time."""
        return Clock(lambda: self.world.now, lambda: self.world.now.timestamp(), self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.world.advance(timedelta(seconds=seconds))

    def api(self, app: Callable[..., Any] | None = None) -> Api:
        """A client of the source, or of an application that stands before it."""
        return Api(self.source, self.clock, httpx.WSGITransport(app=app or self.emulator))

    def sync(self, app: Callable[..., Any] | None = None, **order: Any) -> Run:
        """One run."""
        return sync(self.source, lambda: self.api(app), self.db, self.clock, Order(**order))

    def purge(self) -> Run:
        """One run of the purge alone."""
        return purge_now(self.source, self.api, self.db, self.clock)

    def reconcile(self, app: Callable[..., Any] | None = None, **wish: Any) -> Run:
        """One comparison of all keys."""
        return reconcile_now(self.source, lambda: self.api(app), self.db, self.clock, Wish(**wish))

    def dry_run(self) -> DryRun:
        """What the purge would go over."""
        return what_is_due(self.source, self.db, self.clock)

    def set(self, **settings: Any) -> None:
        """The source with other settings from now on."""
        self.source = replace(self.source, **settings)

    def keep_documents(self) -> None:
        """Every document that the mirror knows, as if it had been fetched."""
        self.db.execute(_KEEP, (self.source.name,))

    def rows(self, statement: str, *given: object) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        return self.db.execute(statement, given or None).fetchall()

    def one(self, statement: str, *given: object) -> Any:
        """The only value of a statement."""
        [[value]] = self.rows(statement, *given)
        return value

    def differences(self) -> list[str]:
        """What is missing, stale or a ghost in the mirror, field by field; empty when mirror and source are equal."""
        there = {payload["jobID"]: payload for payload in map(self.world.payload, self.world.jobs())}
        return differences(self.db, there)


def a_source(**settings: Any) -> Source:
    """A source with the defaults of the settings."""
    environ = {"AIMS360_BASE_URL": BASE, "AIMS360_TOKEN": TOKEN}
    return replace(read(environ, Path("/nowhere")).source(), **settings)
