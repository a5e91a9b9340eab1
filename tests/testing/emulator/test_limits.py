"""When there is too much of something: requests at a time, rows of an answer, rows that no answer can hold."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest

from etl.testing.emulator import Emulator, Server, ServiceOptions, World, serve
from tests.support.waiting import eventually
from tests.testing.emulator.asking import BEARER, COLLECTION, JOB, ask, in_process, served

_FOR_LONG = 100.0  # seconds: a server that is closed doesn't wait them out


def limited(most: int | None) -> Emulator:
    world = World()
    world.ties(3)
    return Emulator(world, options=ServiceOptions(most_in_flight=most))


@contextmanager
def under_way(server: Server, count: int) -> Iterator[httpx.Client]:
    """So many requests, which take until the server is closed at the end; a client for others."""

    def get() -> None:
        with suppress(httpx.TransportError):
            httpx.get(f"{server.url}{COLLECTION}", headers=BEARER, timeout=_FOR_LONG)

    with ThreadPoolExecutor(count) as pool, httpx.Client(base_url=server.url, headers=BEARER) as client:
        waiting = [pool.submit(get) for _ in range(count)]
        try:
            yield client
        finally:
            server.close()
    assert [each.exception() for each in waiting] == [None] * count


# -- requests at a time ------------------------------------------------------------------------------------------------


def test_too_many_at_a_time_are_turned_away() -> None:
    """A third of two gets a page of HTML at once; the two are answered, and then there is room again."""
    emulator = limited(2)
    with ThreadPoolExecutor(2) as pool:
        with emulator.still():
            inside = [pool.submit(ask, in_process(emulator)) for _ in range(2)]
            eventually(lambda: emulator.in_flight.now == 2)
            refused = ask(in_process(emulator))
        assert [each.result().status_code for each in inside] == [200, 200]
    assert (refused.status_code, refused.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert "Forbidden" in refused.text
    assert ask(in_process(emulator)).status_code == 200
    log = [(request.status, request.fault) for request in emulator.requests]
    assert log == [(403, "in-flight"), (200, ""), (200, ""), (200, "")]
    assert (emulator.in_flight.now, emulator.in_flight.peak) == (0, 2)


def test_without_a_limit_nobody_is_turned_away() -> None:
    """Which is the default; how many there were is counted all the same."""
    emulator = limited(None)
    with ThreadPoolExecutor(8) as pool:
        with emulator.still():
            inside = [pool.submit(ask, in_process(emulator)) for _ in range(8)]
            eventually(lambda: emulator.in_flight.now == 8)
        assert {each.result().status_code for each in inside} == {200}
    assert emulator.in_flight.peak == 8


def test_on_a_socket_requests_count_from_their_arrival() -> None:
    """The latency of an answer belongs to it; whoever is turned away doesn't wait, and takes up no room."""
    emulator = limited(2)
    with under_way(serve(emulator, latency=_FOR_LONG), 2) as client:
        eventually(lambda: emulator.in_flight.now == 2)
        assert [ask(client).status_code for _ in range(5)] == [403] * 5
        assert [request.fault for request in emulator.requests] == ["in-flight"] * 5


def test_on_a_socket_requests_count_to_the_end_of_their_answer() -> None:
    """A body that drips is under way until its last piece."""
    emulator = limited(1)
    emulator.fail_next("slow")
    with under_way(serve(emulator, drip=_FOR_LONG), 1) as client:
        eventually(lambda: bool(emulator.requests))
        assert ask(client).status_code == 403


def test_a_client_that_keeps_to_the_limit_is_never_turned_away() -> None:
    """An answer that came has made room already: two that ask without a pause are two, and not three."""
    emulator = limited(2)
    with (
        serve(emulator) as server,
        httpx.Client(base_url=server.url, headers=BEARER) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        codes = list(pool.map(lambda _: ask(client).status_code, range(200)))
    assert set(codes) == {200}


def test_the_limit_holds_for_every_call() -> None:
    """Signing in and documents too: a web server knows no difference."""
    emulator = limited(1)
    with ThreadPoolExecutor(1) as pool, emulator.still():
        pool.submit(ask, in_process(emulator))
        eventually(lambda: emulator.in_flight.now == 1)
        for call in (("POST", "/authentication/v1/authentication/token"), ("GET", f"{JOB}/x"), ("GET", "/")):
            assert in_process(emulator).request(*call).status_code == 403


# -- rows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("habit", "status", "kind"), [("504", 504, "text/html"), ("500", 500, "application/json")])
def test_an_answer_of_too_many_rows_fails(habit: str, status: int, kind: str) -> None:
    """However they are asked for; fewer are answered."""
    world = World()
    world.ties(50)
    emulator = Emulator(world, options=ServiceOptions(most_rows=20, too_many_rows=habit))  # type: ignore[arg-type]
    client = in_process(emulator)
    failed = ask(client)
    assert (failed.status_code, failed.headers["Content-Type"].split(";")[0]) == (status, kind)
    for fewer in (ask(client, top="20"), ask(client, {"Prefer": "odata.maxpagesize=20"}), ask(client, skip="30")):
        assert len(fewer.json()["value"]) == 20
    assert [request.fault for request in emulator.requests] == ["too-many-rows", "", "", ""]


@pytest.mark.parametrize("by", ["number", "job_id"])
def test_a_poisoned_record_fails_every_answer_that_would_hold_it(by: str) -> None:
    """By ID or jobID: pages, filters and the single job; pages beside it, and counts, are answered."""
    world = World()
    jobs = world.ties(30)
    emulator = Emulator(world, page_size=10, options=ServiceOptions(poisoned=frozenset({getattr(jobs[14], by)})))
    client = in_process(emulator)
    assert [ask(client, skip=skip).status_code for skip in ("0", "10", "20")] == [200, 500, 200]
    assert ask(client, filter=f"jobID eq '{jobs[14].job_id}'").status_code == 500
    assert ask(client, select="ID,jobID", skip="10").status_code == 500
    assert client.get(f"{JOB}/{jobs[14].job_id}").status_code == 500
    assert client.get(f"{JOB}/{jobs[15].job_id}").status_code == 200
    assert ask(client, count="true", top="0").json()["@odata.count"] == 30
    assert {request.fault for request in emulator.requests if request.status == 500} == {"poisoned"}


@pytest.mark.parametrize(("select", "status"), [("jobID", 200), ("ID,jobID", 200), ("ID,jobStatus", 500), ("", 500)])
def test_the_keys_of_a_poisoned_record_may_be_had(select: str, status: int) -> None:
    """Where what can't be served is another column."""
    world = World()
    options: dict[str, Any] = {"poisoned": frozenset({world.add().number}), "poison_spares_keys": True}
    client = served(world, **options)
    assert ask(client, **({"select": select} if select else {})).status_code == status
