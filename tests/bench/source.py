"""The pretend AIMS360 of the bench: its process, what it is told, and all its pages read one after another."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO
from urllib.parse import quote

import httpx

from tests.bench.measure import environment

LONGEST_ROW = 1 << 16  # bytes
_ID = re.compile(rb'"ID":(\d+)')
COLLECTION = "/jobsmanagement/odata/v1.0/backgroundjob"


@dataclass(frozen=True)
class Service:
    """A running service of so many jobs."""

    jobs: int
    url: str
    token: str
    _orders: IO[str]
    _answers: IO[str]

    @property
    def environ(self) -> dict[str, str]:
        """The settings that point at it."""
        return {"AIMS360_BASE_URL": self.url, "AIMS360_TOKEN": self.token}

    def tell(self, command: str) -> str:
        """A command (see `service`) and its answer."""
        print(command, file=self._orders, flush=True)
        answer = self._answers.readline()
        if not answer:
            raise RuntimeError(f"the service ended at {command!r}")
        return answer.strip()

    def warm(self) -> int:
        """All that is asked again and again is made once: the rows, and their orders. How many rows there are."""
        with self._client() as client:
            for query in ("$orderby=modifiedDate%20desc&$top=1", "$orderby=ID%20desc&$top=1&$count=true"):
                client.get(f"{self.url}{COLLECTION}?{query}").raise_for_status()
        return int(self.tell("warm"))

    def read_all(self, select: str = "") -> int:
        """All pages, with one client, one after another and thrown away: how many there were, the empty one too.

        Thrown away as they come: the bench must stay small (`measure.run`).
        """
        chosen = f"&$select={quote(select)}" if select else ""
        pages, after = 0, 0
        with self._client() as client:
            while after >= 0:
                query = f"$filter=ID%20gt%20{after}&$orderby=ID{chosen}"
                end = b""
                with client.stream("GET", f"{self.url}{COLLECTION}?{query}") as response:
                    for piece in response.raise_for_status().iter_raw():
                        end = (end + piece)[-LONGEST_ROW:]
                pages, after = pages + 1, last_id(end)
        return pages

    def _client(self) -> httpx.Client:
        return httpx.Client(headers={"Authorization": f"Bearer {self.token}"}, timeout=60, trust_env=False)


def last_id(body: bytes) -> int:
    """The ID of a page's last row, found without reading the page; -1 for an empty page."""
    found = _ID.match(body, max(0, body.rfind(b'"ID":')))
    return int(found[1]) if found else -1


@contextmanager
def service(jobs: int, page_size: int = 1_000) -> Iterator[Service]:
    """A service in a process of its own, ended at the end."""
    command = [sys.executable, "-m", "tests.bench.service", str(jobs), str(page_size)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment({})) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url, token = process.stdout.readline().split()
            yield Service(jobs, url, token, process.stdin, process.stdout)
        finally:
            process.kill()
