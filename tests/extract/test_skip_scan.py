"""Overlapping pages: one pass loses nothing while rows come, go and change between any two requests."""

import json
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from etl.client.client import Api
from etl.errors import BrokenPromise, OptionIgnored, PagingRefused, Unreachable
from etl.extract import skip_scan
from etl.models import BY_SKIP, Clock, Cursor, Page, Scan, ScanKind, Support, Window
from etl.testing.emulator import Emulator, World
from etl.testing.emulator.service_options import ServiceOptions
from tests.support.gateway import App
from tests.support.scene import TOKEN, a_source

A_MOMENT = timedelta(milliseconds=700)
LINKS = {"refused": frozenset({"skip"}), "next_link": "inner-no-prefix"}
WAYS: dict[str, dict[str, Any]] = {
    "by key": {},
    "by date": {"default_order": "modifiedDate"},
    "a heap": {"default_order": "arrival"},
    "nextLink by key": {**LINKS, "next_link_by": "key-token"},
    "nextLink": {**LINKS, "next_link_by": "offset-token"},
}


def a_world(jobs: int, generation: str = "2019-06") -> World:
    world = World(seed=1, generation=generation)  # type: ignore[arg-type]
    for _ in range(jobs):
        world.advance(timedelta(minutes=1))
        world.add(purgeDateTime=None)
    world.advance(timedelta(hours=1))
    return world


def an_api(emulator: Emulator, app: App | None = None) -> Api:
    """Return a client that knows already whether `$skip` is refused."""
    world = emulator.world
    clock = Clock(lambda: world.now, lambda: world.now.timestamp(), lambda s: world.advance(timedelta(seconds=s)))
    api = Api(a_source(), clock, httpx.WSGITransport(app=app or emulator))
    if "skip" in emulator.options.refused:
        api.capabilities.refuse("skip", "no")
    return api


def a_scan(world: World) -> Scan:
    return Scan(ScanKind.FULL, Window(None, None, world.now), BY_SKIP, (Cursor(0, None, None),))


def read(api: Api, scan: Scan) -> list[Page]:
    """Return all pages of a scan."""
    return list(skip_scan.pages(api, scan))


def read_in_runs(api: Api, scan: Scan) -> list[Page]:
    """Return all pages of a scan, each by a run of its own that goes on where the last one stopped."""
    pages: list[Page] = []
    while not scan.is_done:
        page = next(skip_scan.pages(api, scan))
        pages.append(page)
        scan = scan.moved(page)
    return pages


def keys_of(pages: list[Page]) -> set[str]:
    return {json.loads(row)["jobID"] for page in pages for row in page.rows}


def churn(changes: int, seed: int) -> Callable[[World], None]:
    """Up to so many changes between two requests: jobs change, come and go."""
    rng = random.Random(seed)

    def live(world: World) -> None:
        world.advance(A_MOMENT)
        for _ in range(rng.randint(0, changes)):
            jobs = sorted(job.job_id for job in world.jobs())
            match rng.randrange(3):
                case 0:
                    world.add()
                case 1:
                    world.change(rng.choice(jobs), percentCompleted=rng.randint(0, 100))
                case _:
                    world.delete(rng.choice(jobs))

    return live


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("page_size", [10, 20, 100])
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_nothing_is_lost_in_one_pass_under_churn(way: str, page_size: int, seed: int) -> None:
    """Whatever was there when the scan began, is still there and didn't change: it came."""
    world = a_world(120)
    before = {job.job_id: job.version for job in world.jobs()}
    emulator = Emulator(world, token=TOKEN, page_size=page_size, options=ServiceOptions(**WAYS[way]))
    emulator.between_pages = churn(page_size // 20 + 1, seed)
    how = read if seed % 2 else read_in_runs
    came = keys_of(how(an_api(emulator), a_scan(world)))
    stayed = {job.job_id for job in world.jobs() if before.get(job.job_id) == job.version}
    assert stayed <= came


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("jobs", [0, 1, 2, 9, 10, 11, 19, 20, 21, 40])
@pytest.mark.parametrize("page_size", [2, 3, 10, 20])
def test_every_row_comes_once_while_the_source_holds_still(way: str, jobs: int, page_size: int) -> None:
    """Of collections of any size, on pages of any size."""
    world = a_world(jobs)
    emulator = Emulator(world, token=TOKEN, page_size=page_size, options=ServiceOptions(**WAYS[way]))
    pages = read(an_api(emulator), a_scan(world))
    assert sum(len(page.rows) for page in pages) == len(keys_of(pages)) == jobs


def test_pages_of_another_size_each_time_end_where_the_rows_do() -> None:
    """A page that is shorter than the overlap is no end."""
    world = a_world(80)
    emulator = Emulator(world, token=TOKEN, page_size=20)
    sizes = random.Random(1)

    def change(_world: World) -> None:
        emulator.page_size = sizes.choice([3, 7, 20, 50])

    emulator.between_pages = change
    assert len(keys_of(read(an_api(emulator), a_scan(world)))) == 80


@pytest.mark.parametrize("at", range(1, 7))
def test_an_empty_page_that_a_gateway_made_up_is_no_end(at: int) -> None:
    """The end is a page with the last row alone: nothing is an answer to that."""
    world = a_world(60)
    emulator = Emulator(world, token=TOKEN, page_size=20)
    asked = 0

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        nonlocal asked
        asked += 1
        answer = emulator(environ, start_response)
        return [b'{"value": []}'] if asked == at else answer

    assert len(keys_of(read(an_api(emulator, app), a_scan(world)))) == 60


def test_where_all_remembered_rows_changed_the_scan_begins_anew() -> None:
    """Nothing shows then that no row lies between."""
    world = a_world(60)
    emulator = Emulator(world, token=TOKEN, page_size=20)
    api = an_api(emulator)
    scan = a_scan(world)
    page = next(skip_scan.pages(api, scan))
    scan = scan.moved(page)
    world.change_many(list(world.jobs())[:20], percentCompleted=1)
    again = next(skip_scan.pages(api, scan))
    assert (again.rows, again.cursor) == ((), Cursor(0, None, None))
    assert len(keys_of(read(api, scan.moved(again)))) == 60


def test_a_bulk_change_between_pages_makes_it_step_back() -> None:
    """A hundred rows that go before the cursor move what follows: it is found further back."""
    world = a_world(300)
    emulator = Emulator(world, token=TOKEN, page_size=100)
    api = an_api(emulator)
    scan = a_scan(world)
    scan = scan.moved(next(skip_scan.pages(api, scan)))
    scan = scan.moved(next(skip_scan.pages(api, scan)))
    for job in list(world.jobs())[:100]:
        world.delete(job)
    emulator.reset_log()
    left = keys_of(read(api, scan))
    assert {job.job_id for job in list(world.jobs())[90:]} <= left
    skips = [int(request.query["$skip"]) for request in emulator.requests if "$skip" in request.query]
    assert skips[:3] == sorted(skips[:3], reverse=True)


def test_a_service_that_ignores_skip_is_found_out() -> None:
    """The first page comes again, whatever is skipped: a refusal, not an end."""
    world = a_world(60)
    emulator = Emulator(world, token=TOKEN, page_size=20, ignore={"skip"})
    with pytest.raises(OptionIgnored, match=r"ignores \$skip") as caught:
        read(an_api(emulator), a_scan(world))
    assert caught.value.capability == "skip"


def test_pages_of_one_row_are_told_of() -> None:
    """They can't overlap; one row in all is no such page."""
    world = a_world(3)
    with pytest.raises(BrokenPromise, match="pages of one row"):
        list(skip_scan.pages(an_api(Emulator(world, token=TOKEN, page_size=1)), a_scan(world)))


@pytest.mark.parametrize("prefer", ["honoured", "ignored"])
def test_a_first_page_without_a_link_may_be_all_or_not(prefer: str) -> None:
    """A smaller page tells, if the service sends one; or its count. Else nobody knows, and nothing is claimed."""
    refused = frozenset({"skip"})
    for jobs, ends in ((40, False), (15, prefer == "honoured")):
        world = a_world(jobs)
        habit = "never" if jobs == 40 else "standard"
        options = ServiceOptions(refused=refused | {"count"}, next_link=habit, prefer=prefer)  # type: ignore[arg-type]
        api = an_api(Emulator(world, token=TOKEN, page_size=20, options=options))
        if ends:
            assert len(keys_of(read(api, a_scan(world)))) == jobs
            continue
        with pytest.raises(PagingRefused, match="no nextLink"):
            read(api, a_scan(world))
        assert api.capabilities.find("next_link").support is Support.NO


def test_a_link_is_followed_at_our_own_address() -> None:
    """Its query alone is used: the token goes nowhere else."""
    world = a_world(60)
    options = ServiceOptions(refused=frozenset({"skip"}), next_link="foreign", next_link_by="key-token")
    emulator = Emulator(world, token=TOKEN, page_size=20, options=options)
    assert len(keys_of(read(an_api(emulator), a_scan(world)))) == 60
    assert {request.headers.get("host") for request in emulator.requests} == {"api.aims360.example"}


def test_rows_that_cannot_be_served_are_named_by_their_place() -> None:
    """The pages before them come, and the run fails there."""
    world = a_world(60)
    poisoned = list(world.jobs())[30].job_id
    emulator = Emulator(world, token=TOKEN, page_size=20, options=ServiceOptions(poisoned=frozenset({poisoned})))
    api, scan = an_api(emulator), a_scan(world)
    pages = skip_scan.pages(api, scan)
    assert len(next(pages).rows) == 20
    with pytest.raises(Unreachable, match=r"Rows from row \d+ on can't be served"):
        list(pages)
