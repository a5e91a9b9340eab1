"""A mirror whose documents are downloaded."""

import json
from pathlib import Path
from typing import Any

import httpx

from etl.jobs.documents import selection, stores
from etl.jobs.documents.archive import Archive, Fetched
from etl.jobs.documents.download import Downloads
from etl.jobs.documents.selection import Wish
from etl.models import Clock
from etl.postgres.connection import Connection
from etl.testing.emulator import Emulator, World
from tests.support.gateway import App
from tests.support.scene import Scene


class Stage(Scene):
    """A mirror, and a folder to fetch into."""

    def __init__(self, db: Connection, world: World, to: str, **emulator: Any) -> None:
        super().__init__(db, world, **emulator)
        self.to = to
        self.resolved: dict[str, list[str]] = {}

    def downloads(self, app: App | None = None) -> Downloads:
        """The way to the outputs, at the world's pace."""
        clock = Clock(lambda: self.world.now, lambda: self.world.now.timestamp(), self._sleep)
        transport = httpx.WSGITransport(app=app or self.emulator)
        return Downloads(self.source, clock, transport, lambda host: self.resolved.get(host, []))

    def fetch(self, app: App | None = None, at_most: int | None = None, **wish: Any) -> Fetched:
        """One call."""
        number = selection.source_id(self.db, self.source.name)
        wanted = selection.choose(self.db, number, Wish(**wish), self.world.now)
        store = stores.at(self.to, lambda: Path(self.to.replace("://", "-")))
        with self.downloads(app) as downloads:
            return Archive(self.db, (number, self.source.name), store, downloads, self.clock).fetch(wanted, at_most)

    def emulator_that_admits(self, token: str) -> Emulator:
        """The source, with another long-lived token."""
        return Emulator(self.world, token=token, reset=httpx.ReadError)

    def document(self, scope: str = "Public", **given: Any) -> str:
        """Adds a completed job with a document, and gives its link."""
        job = self.world.add(responseType="File Attachment", publishLink=None, publishLinkAccessScope=scope)
        own = f"{self.world.links}/documentmanagement/v1.0/aimsdocument/{job['jobID']}/key-{job['ID']}"
        link = str(given.pop("link", own))
        document = {"documentName": "a report.xlsx", "DownloadLink": link, "SizeInMB": 0.02, "Type": ".xlsx", **given}
        self.world.change(job, response=json.dumps([document]))
        return link
