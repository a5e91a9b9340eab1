"""No answer is waited for without end, however it drips."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic

import pytest

from etl.client import deadline, sender
from etl.client.client import Api
from etl.config.secrets import PasswordGrant, Secret
from etl.config.settings import Source
from etl.errors import Unreachable
from etl.jobs import wait
from etl.jobs.documents import download
from etl.jobs.documents.download import Downloads, Wanted
from etl.models import Clock
from tests.support.scene import GRANT, a_source

CLOCK = Clock(lambda: datetime.now(UTC), monotonic, lambda _: None)
OK = b"HTTP/1.1 200 OK\r\n"


class Kept:
    """What came of an output."""

    size = 0
    version: str | None = None

    def restart(self, version: str | None) -> None:
        """Nothing is kept."""

    def write(self, piece: bytes) -> None:
        """So many bytes more."""
        self.size += len(piece)


@contextmanager
def dripping(head: bytes, drop: bytes) -> Iterator[Source]:
    """A service that answers with this head, and then with such a drop ten times a second."""
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65_536)
            connection.sendall(head)
            while not over.wait(0.1):
                connection.sendall(drop)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield a_source(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}")
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "_EVERY", 0.1)


DRIPS = pytest.mark.parametrize(
    ("head", "drop"),
    [
        (OK, b"x"),  # of a header
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),  # of a chunk's size
        (OK + b"Content-Length: 100000\r\n\r\n", b" "),
    ],
)


@DRIPS
@pytest.mark.parametrize("credentials", [Secret("token"), GRANT])
def test_a_page_that_drips_is_given_up(
    head: bytes, drop: bytes, credentials: Secret | PasswordGrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in the answer it does, and while signing in too: the lock of the source is let go, and it is told."""
    monkeypatch.setattr(sender, "WHOLE_ANSWER", 0.5)
    told = pytest.raises(Unreachable, match="the answer takes longer than 0 s")
    with dripping(head, drop) as source, Api(replace(source, credentials=credentials), CLOCK) as client, told:
        client.page("$top=1", attempts=1)


@DRIPS
def test_an_output_that_drips_is_given_up(head: bytes, drop: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next call goes on."""
    monkeypatch.setattr(download, "_SLOW", (0.3, 64 * 2**10))
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    with dripping(head, drop) as source, Downloads(source, CLOCK) as way:
        wanted = Wanted(Secret(f"{source.base_url}/a"), "Public", ".txt", 1.0)
        with pytest.raises(Unreachable, match="no whole answer in several tries"):
            way.fetch(wanted, Kept(), None, threading.Event())


def test_who_waits_for_a_job_waits_no_longer_than_wished() -> None:
    """A source that takes the question and says nothing doesn't keep the one who asks for a minute."""
    with dripping(b"", b"") as source, Api(source, CLOCK) as client:
        waited = wait.wait(client, "d29fac30", CLOCK, wait.Wish(timeout=0.5))
    assert waited.outcome == wait.Outcome.TIMED_OUT
    assert waited.seconds < 30
