"""Requests in flight: never more than a client and a host may have, one after a sign of overload, slowly back."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from etl import shutdown
from etl.client import odata, throttle
from etl.client.client import Api
from etl.client.throttle import Throttle
from etl.errors import Unreachable
from etl.models import Clock
from etl.testing.emulator import Emulator, World, serve
from etl.testing.emulator.service_options import ServiceOptions
from tests.support.scene import TOKEN, a_source
from tests.support.waiting import PATIENCE, eventually

NEVER = threading.Event()
_numbers = count()


@pytest.fixture
def host() -> str:
    """The address of a host that no other test of this process speaks to."""
    return f"https://host-{next(_numbers)}.example"


class Meter:
    """Counts who is inside of a slot, and holds them there until `most` are or nobody else comes."""

    def __init__(self) -> None:
        self.now = self.peak = self.passed = 0
        self._lock = threading.Lock()
        self.open = threading.Event()

    def go_through(self, *throttles: Throttle) -> None:
        """Take a slot of one of these, by turns."""
        with self._lock:
            self.passed += 1
            chosen = throttles[self.passed % len(throttles)]
        with chosen.slot(NEVER):
            with self._lock:
                self.now += 1
                self.peak = max(self.peak, self.now)
            assert self.open.wait(PATIENCE)
            with self._lock:
                self.now -= 1


@pytest.fixture
def meter() -> Iterator[Meter]:
    """It; whoever it still holds is let go at the end."""
    meter = Meter()
    yield meter
    meter.open.set()


def crowd(threads: int, meter: Meter, expected: int, *throttles: Throttle) -> None:
    """So many threads want in at the same time, twice each: exactly so many are."""
    with ThreadPoolExecutor(threads) as pool:
        done = [pool.submit(meter.go_through, *throttles) for _ in range(2 * threads)]
        eventually(lambda: (meter.now, meter.passed) == (expected, threads))
        meter.open.set()
    for future in done:
        future.result()
    assert meter.peak == expected


@pytest.mark.parametrize("most", [1, 4, 8])
def test_no_more_are_in_flight_than_are_set(host: str, meter: Meter, most: int) -> None:
    """Of twenty threads, so many at a time; all of them come to their turn."""
    crowd(20, meter, most, Throttle(host, most))


@pytest.mark.parametrize(("set_to", "expected"), [((4, 4, 4), 8), ((8, 8), 8), ((2, 2), 4), ((4, 4, 12), 12)])
def test_one_host_has_eight_of_all_clients_unless_set(
    host: str, meter: Meter, set_to: tuple[int, ...], expected: int
) -> None:
    """However many sources this process has there; one that is set to more raises it."""
    clients = [Throttle(host, most) for most in set_to]
    for client, most in zip(clients, set_to, strict=True):
        for _ in range(200):
            client.raise_limit()
        assert client.limit == most
    crowd(30, meter, expected, *clients)


def test_hosts_are_counted_apart(host: str, meter: Meter) -> None:
    """The other region's requests are its own; the case of a name, and a path behind it, make no other host."""
    crowd(30, meter, 16, Throttle(host, 8), Throttle(host + ".elsewhere", 8), Throttle(host.upper() + "/base", 8))


def test_it_begins_with_eight_at_the_most(host: str) -> None:
    """Whatever is set beyond comes with good answers, one by one."""
    flow = Throttle(host, 16)
    assert flow.limit == 8
    for _ in range(10):
        flow.raise_limit()
    assert flow.limit == 9
    for _ in range(200):
        flow.raise_limit()
    assert flow.limit == 16
    assert Throttle(host, 4).limit == 4


def grown(flow: Throttle, answers: int) -> list[int]:
    """The limit after each tenth of so many good answers."""
    limits = []
    for number in range(1, answers + 1):
        flow.raise_limit()
        if number % 10 == 0:
            limits.append(flow.limit)
    return limits


def test_it_goes_down_to_one_and_comes_back(host: str) -> None:
    """One more for ten good answers."""
    flow = Throttle(host, 4)
    flow.drop_limit(4, too_many=False)
    assert flow.limit == 1
    assert grown(flow, 50) == [2, 3, 4, 4, 4]


def test_overload_that_answers_several_requests_counts_once(host: str) -> None:
    """Eight were under way when it began; that it goes on with one in flight makes the way back longer."""
    flow = Throttle(host, 8)
    for _ in range(8):
        flow.drop_limit(8, too_many=False)
    assert grown(flow, 10) == [2]
    flow.drop_limit(2, too_many=False)
    flow.raise_limit()
    flow.drop_limit(1, too_many=False)
    assert grown(flow, 20) == [1, 2]
    for _ in range(10):
        flow.drop_limit(1, too_many=False)
        flow.raise_limit()
    flow.drop_limit(1, too_many=False)
    assert grown(flow, 160) == [1] * 15 + [2]


def test_what_the_service_turns_away_is_not_tried_for_a_while(host: str) -> None:
    """The sixth was one too many: five are had again soon, six after four hundred good answers."""
    flow = Throttle(host, 16)
    flow.drop_limit(6, too_many=True)
    assert grown(flow, 40) == [2, 3, 4, 5]
    assert set(grown(flow, 390)) == {5}
    assert grown(flow, 10) == [6]
    flow.drop_limit(6, too_many=True)
    assert grown(flow, 60) == [2, 3, 4, 5, 5, 5]


def test_one_alone_that_is_turned_away_says_nothing_of_a_number(host: str) -> None:
    """There is no less than one."""
    flow = Throttle(host, 4)
    flow.drop_limit(1, too_many=True)
    assert grown(flow, 40) == [2, 3, 4, 4]


def test_another_run_begins_anew(host: str) -> None:
    """Busy then isn't busy now."""
    flow = Throttle(host, 8)
    flow.drop_limit(3, too_many=True)
    flow.reset()
    assert flow.limit == 8
    flow.drop_limit(8, too_many=False)
    assert grown(flow, 70)[-1] == 8


def test_a_slot_is_given_back_whatever_happens(host: str) -> None:
    """And says how many were taken with it."""
    flow = Throttle(host, 2)
    for _ in range(20):
        with pytest.raises(ZeroDivisionError), flow.slot(NEVER), flow.slot(NEVER):
            raise ZeroDivisionError
    with flow.slot(NEVER) as first, flow.slot(NEVER) as second:
        assert (first, second) == (1, 2)


def waits_in_vain(flow: Throttle, ended: threading.Event, end: Callable[[], None]) -> BaseException:
    """What comes of a thread that waits for a slot while `end` happens."""
    caught: list[BaseException] = []

    def waits() -> None:
        try:
            with flow.slot(ended):
                pass
        except BaseException as error:  # noqa: BLE001 - looked at below
            caught.append(error)

    thread = threading.Thread(target=waits)
    thread.start()
    end()
    thread.join(PATIENCE)
    return caught[0]


@pytest.mark.parametrize("is_full", ["client", "host"])
def test_who_waits_ends_with_the_run(host: str, is_full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the host is full of others; and what was taken so far is given back."""
    monkeypatch.setattr(throttle, "_LOOK", 0.01)
    flow, others, ended = Throttle(host, 1), Throttle(host, 8), threading.Event()
    with ThreadPoolExecutor(8) as pool:
        meter = Meter()
        held = [pool.submit(meter.go_through, flow if is_full == "client" else others) for _ in range(8)]
        eventually(lambda: meter.now == (1 if is_full == "client" else 8))
        error = waits_in_vain(flow, ended, ended.set)
        meter.open.set()
    for future in held:
        future.result()
    assert isinstance(error, Unreachable)
    with flow.slot(NEVER) as in_flight:
        assert in_flight == 1


def test_who_waits_ends_with_the_process(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though no signal reaches a thread."""
    monkeypatch.setattr(throttle, "_LOOK", 0.01)
    monkeypatch.setattr(shutdown, "_wished", False)
    flow = Throttle(host, 1)
    with flow.slot(NEVER):
        assert isinstance(waits_in_vain(flow, NEVER, shutdown.wish), KeyboardInterrupt)


@pytest.mark.parametrize(("concurrency", "bears"), [(16, 5), (16, 1), (8, 5), (4, 5)])
def test_a_service_that_counts_turns_few_away(concurrency: int, bears: int) -> None:
    """Sixteen at a time are set, it takes five: not more than ten of four hundred requests, and all are answered."""
    world = World(seed=1)
    world.ties(3)
    emulator = Emulator(world, token=TOKEN, options=ServiceOptions(most_in_flight=bears))
    clock = Clock(lambda: world.now, time.monotonic, lambda _: None)
    with serve(emulator, latency=0.002) as server:
        source = a_source(base_url=server.url, concurrency=concurrency)
        with Api(source, clock) as api, ThreadPoolExecutor(concurrency) as pool:
            api.page(odata.query())
            answered = list(pool.map(lambda _: len(api.page(odata.query(order="ID")).answer.rows), range(400)))
    assert answered == [3] * 400
    turned_away = sum(request.status == 403 for request in emulator.requests)
    assert turned_away <= 10
    assert (turned_away > 0) == (concurrency > bears)
    assert emulator.in_flight.peak == min(concurrency, bears)
