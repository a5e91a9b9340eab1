"""Slices of time where rows don't come in the order of their dates: their lengths are guessed, and guessed well."""

import json
import random
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from etl.client.client import Api
from etl.extract import time_slice_scan
from etl.models import BY_TIME, Clock, Cursor, Scan, ScanKind, Window
from etl.testing.emulator import Emulator, World
from etl.testing.emulator.service_options import DefaultOrder, ServiceOptions
from tests.support.scene import TOKEN, a_source

PAGES = 40
REQUESTS_A_PAGE = 5.5  # two for each slice, which is somewhat less than a page, and those that held too much
# Minutes from one job to the next.
SPREADS: dict[str, Callable[[random.Random], float]] = {
    "evenly": lambda rng: 10.0,
    "at random": lambda rng: rng.expovariate(1 / 10),
    "in bursts": lambda rng: 6_000.0 if rng.random() < 0.02 else 0.05,
    "denser by night": lambda rng: rng.choice((0.2, 0.2, 30.0)),
}


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("order", ["key", "arrival"])
@pytest.mark.parametrize("page_size", [1, 2, 5, 20])
def test_slices_hold_about_a_page_however_dates_are_spread(spread: str, order: DefaultOrder, page_size: int) -> None:
    """Each job comes, once, and by few requests: as many as pages would take, times what the checks take."""
    rng = random.Random(spread)
    world = World(seed=1)
    for _ in range(PAGES * page_size):
        world.advance(timedelta(minutes=SPREADS[spread](rng)))
        world.add(purgeDateTime=None)
    world.change(next(iter(world.jobs())).job_id, percentCompleted=50)  # the first page isn't in the order of dates
    world.advance(timedelta(hours=1))
    options = ServiceOptions(refused=frozenset({"orderby", "ID", "jobID"}), default_order=order)
    emulator = Emulator(world, token=TOKEN, page_size=page_size, options=options)
    clock = Clock(lambda: world.now, lambda: world.now.timestamp(), lambda s: world.advance(timedelta(seconds=s)))
    scan = Scan(ScanKind.FULL, Window(None, None, world.now), BY_TIME, (Cursor(0, None, None),))
    with Api(a_source(), clock, httpx.WSGITransport(app=emulator)) as api:
        api.capabilities.refuse("orderby", "no")
        pages = list(time_slice_scan.pages(api, time_slice_scan.by_time(scan)))
        requests = api.usage.requests
    came = [json.loads(row)["jobID"] for page in pages for row in page.rows]
    assert sorted(came) == sorted(job.job_id for job in world.jobs())
    assert requests <= REQUESTS_A_PAGE * PAGES
