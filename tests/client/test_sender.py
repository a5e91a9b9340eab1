"""One request and its whole answer: of a bounded size, and told without secrets."""

import gzip
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import httpx
import pytest

from etl.client import odata, sender
from etl.client.attempts import COLLECTION
from etl.client.auth import sign_in
from etl.client.client import Api
from etl.client.retry import Again
from etl.client.sender import Sender
from etl.config.settings import Source
from etl.errors import AskForLess, OutOfTime, Unreachable
from etl.models import Clock
from etl.testing.emulator import Emulator, World, serve
from etl.testing.emulator.service_options import ServiceOptions
from tests.client.wire import Wire
from tests.support.scene import TOKEN, a_source
from tests.support.waiting import PATIENCE

NEVER = threading.Event()
CLOCK = Clock(lambda: datetime.now(UTC), monotonic, lambda _: None)
MB = 2**20


@contextmanager
def sending(source: Source, transport: httpx.BaseTransport | None = None) -> Iterator[Sender]:
    """A sender, closed at the end."""
    sends = Sender(source, CLOCK, sign_in(source, CLOCK), transport, None, None)
    try:
        yield sends
    finally:
        sends.close()


def ask(sends: Sender, source: Source) -> Any:
    """One request for a page."""
    return sends.send("GET", source.base_url + COLLECTION, {}, NEVER)


@contextmanager
def bombing(size: int) -> Iterator[Source]:
    """A service whose pages unpack to more than so many bytes."""
    emulator = Emulator(World(seed=1), token=TOKEN, options=ServiceOptions(gzip=True, bomb=size))
    with serve(emulator) as server:
        yield a_source(base_url=server.url)


def test_a_bomb_is_not_unpacked_to_its_end() -> None:
    """A gigabyte in a megabyte: what it takes stays bounded, and half of it may be answered."""
    with bombing(1024 * MB) as source, sending(source) as sends:
        tracemalloc.start()
        try:
            with pytest.raises(Again, match="or is larger than 64 MB") as caught:
                ask(sends, source)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (caught.value.is_too_large, caught.value.is_spoilt, caught.value.was_sent) == (True, True, True)
    assert peak < 250 * MB


def test_a_page_beyond_the_limit_is_asked_for_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, where it can be; else it is no answer."""
    monkeypatch.setattr(sender, "_LARGEST_ANSWER", MB)
    with bombing(2 * MB) as source, Api(source, CLOCK) as api:
        with pytest.raises(AskForLess, match=r"larger than 1 MB \(asked once\)") as caught:
            api.page(odata.query(), can_shrink=True)
        assert caught.value.is_too_large
        assert api.usage.requests == 1
        with pytest.raises(Unreachable, match="larger than 1 MB"):
            api.page(odata.query(), attempts=2)


@pytest.mark.parametrize(("size", "fits"), [(MB - 14, True), (MB + 1, False)])
def test_the_limit_is_of_what_is_unpacked(size: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small it came."""
    monkeypatch.setattr(sender, "_LARGEST_ANSWER", MB)
    body = b'{"value": []' + b" " * (size - 13) + b"}"
    app = answering(gzip.compress(body), "gzip")
    with sending(a_source(), httpx.WSGITransport(app=app)) as sends:
        if fits:
            answer, in_flight = ask(sends, a_source())
            assert (answer.status, answer.body, in_flight) == (200, body, 1)
        else:
            with pytest.raises(Again, match="larger than 1 MB"):
                ask(sends, a_source())


def answering(body: bytes, encoding: str) -> Callable[..., Any]:
    """A service that answers with these bytes."""

    def app(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Encoding", encoding)])
        return [body]

    return app


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip,deflate", "gzip, identity"])
def test_what_is_packed_twice_is_not_unpacked(encoding: str) -> None:
    """Each time a thousandfold: the second would be more than any machine has."""
    packed = gzip.compress(gzip.compress(b" " * (16 * MB)))
    with sending(a_source(), httpx.WSGITransport(app=answering(packed, encoding))) as sends:
        tracemalloc.start()
        try:
            with pytest.raises(Again, match="compressed more than once"):
                ask(sends, a_source())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < MB


def test_what_cannot_be_unpacked_is_spoilt() -> None:
    """On its way perhaps: it is asked for again."""
    with sending(a_source(), httpx.WSGITransport(app=answering(b"no gzip", "gzip"))) as sends:
        with pytest.raises(Again, match="DecodingError") as caught:
            ask(sends, a_source())
        assert (caught.value.is_spoilt, caught.value.is_too_large) == (True, False)


@pytest.mark.parametrize(
    ("error", "was_sent", "is_too_large"),
    [
        (httpx.ReadTimeout, True, True),
        (httpx.WriteTimeout, True, True),
        (httpx.ReadError, True, False),
        (httpx.RemoteProtocolError, True, False),
        (ConnectionResetError, True, False),
        (httpx.ConnectError, False, False),
        (httpx.ConnectTimeout, False, False),
        (httpx.PoolTimeout, False, False),
    ],
)
def test_what_the_network_does_is_worth_another_attempt(
    error: Callable[[str], Exception], was_sent: bool, is_too_large: bool
) -> None:
    """Only what was sent can have failed for what it asks; only what took too long, for how much."""

    def fails(_request: httpx.Request) -> httpx.Response:
        raise error("in the way")

    with sending(a_source(), httpx.MockTransport(fails)) as sends:
        with pytest.raises(Again) as caught:
            ask(sends, a_source())
        assert sends.usage.statuses == {"none": 1}
    failed = caught.value
    assert (failed.was_sent, failed.is_spoilt, failed.is_too_large) == (was_sent, was_sent, is_too_large)


def test_a_request_is_told_with_those_that_were_in_flight_when_its_answer_came() -> None:
    """The second may have come first, so that the first was one too many."""
    is_there, may_go = threading.Event(), threading.Event()

    def answers(request: httpx.Request) -> httpx.Response:
        if "second" in str(request.url):
            is_there.set()
            assert may_go.wait(PATIENCE)
        else:
            asked.append(pool.submit(sends.send, "GET", a_source().base_url + "/second", {}, NEVER))
            assert is_there.wait(PATIENCE)
        return httpx.Response(403)

    asked: list[Future[Any]] = []
    with sending(a_source(), httpx.MockTransport(answers)) as sends, ThreadPoolExecutor(1) as pool:
        _, in_flight = ask(sends, a_source())
        may_go.set()
        assert (in_flight, asked[0].result()[1]) == (2, 2)


def test_a_run_without_time_sends_nothing() -> None:
    """And a wait that would outlast it isn't begun."""
    wire = Wire()
    wire.api.begin_anew(within=5.0)
    wire.api.page(odata.query())
    wire.emulator.fail_next("429-seconds", "429-seconds", "429-seconds", "429-seconds")
    with pytest.raises(OutOfTime, match="within the 5 s that a run of a fleet may take"):
        wire.api.page(odata.query())
    assert sum(wire.slept) <= 5.0
    wire.clock.sleep(5.0)
    asked = len(wire.asked)
    with pytest.raises(OutOfTime):
        wire.api.page(odata.query())
    assert len(wire.asked) == asked
