"""A service that refuses what it may refuse: the mirror is right, says how it was read, and removes nothing on a guess.

Each refusal alone and the sets that come together go through the life of a source: a first scan, changes, inserts, a
purge, deletions, a comparison, a kill and what follows, while the source changes between any two requests.
"""

import random
import re
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from etl.client.client import Api
from etl.models import Run, Verdict
from etl.pipeline.sync import sync
from etl.postgres.connection import Connection
from etl.testing.chaos.oracle import compare, may_wait
from etl.testing.emulator import World, populated
from etl.testing.emulator.service_options import ServiceOptions
from tests.support.quiet_mirror import SHALLOW
from tests.support.refusal_sets import EACH, KEY_TOKENS, OPTIONS, RANGES, Refusals, refused
from tests.support.scene import Scene, a_source

ROOT = Path(__file__).parents[2]
A_MOMENT = timedelta(milliseconds=700)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
each = pytest.mark.parametrize("service", EACH, ids=[service.name for service in EACH])


class Churn:
    """What the source does between any two requests: rows change, one is born, now and then one goes."""

    def __init__(self, seed: int, removes: bool = True) -> None:
        self._rng = random.Random(seed)
        self._removes = removes
        self.left = 35  # requests: a source that outpaces its reader for ever can't be followed

    def __call__(self, world: World) -> None:
        self.left -= 1
        if self.left < 0:
            return
        world.advance(A_MOMENT)
        jobs = sorted(job.job_id for job in world.jobs())
        for job_id in self._rng.sample(jobs, min(3, len(jobs))):
            world.change(job_id, percentCompleted=self._rng.randint(0, 100))
        world.add()
        if self._removes and self._rng.random() < 0.3:
            world.delete(self._rng.choice(jobs))


class Cut(Exception):
    """The process is killed here."""


class Killer(httpx.BaseTransport):
    """Passes requests on until it kills the run."""

    def __init__(self, inner: httpx.BaseTransport, after: int) -> None:
        self._inner, self._left = inner, after

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._left -= 1
        if self._left < 0:
            raise Cut
        return self._inner.handle_request(request)


def build(db: Connection, service: Refusals) -> Scene:
    """Return a source of some jobs whose service has a page size of 20."""
    world = populated(60, seed=len(service.name), rate=10)
    return Scene(db, world, page_size=20, options=ServiceOptions(**service.options))


def sync_under_churn(scene: Scene, seed: int, removes: bool = True) -> Run:
    scene.emulator.between_pages = Churn(seed, removes)
    run = scene.sync()
    scene.emulator.between_pages = None
    return run


def kill(scene: Scene, after: int) -> None:
    """Kill a run after so many requests."""

    def api() -> Api:
        return Api(scene.source, scene.clock, Killer(httpx.WSGITransport(app=scene.emulator), after))

    with pytest.raises(Cut):
        sync(scene.source, api, scene.db, scene.clock)


def settle(scene: Scene) -> None:
    """Let all be quiet, and sync until the look-back has passed."""
    for _ in range(2):
        scene.world.advance(HOUR)
        scene.world.add()
        scene.world.change(next(iter(scene.world.jobs())).job_id, percentCompleted=50)  # not in the order of dates
        scene.sync()


def find_differences(scene: Scene) -> list[str]:
    """Return how mirror and source differ, but for jobs whose purge date has passed within the look-back."""
    there = {payload["jobID"]: payload for payload in map(scene.world.payload, scene.world.jobs())}
    return compare(scene.db, there, may_wait(scene.world.now, scene.source.look_back)).sentences


@each
def test_the_mirror_is_right_whatever_the_service_refuses(db: Connection, service: Refusals) -> None:
    """The life of a source, under churn; runs succeed, nothing is lost, and what can be known to be gone goes."""
    scene = build(db, service)
    scene.set(reconcile_every=timedelta())
    kill(scene, after=4)
    first = sync_under_churn(scene, 1, removes=service.removes)
    assert first.verdict is Verdict.COMPLETE
    for round_ in range(2):
        scene.world.advance(HOUR)
        run = sync_under_churn(scene, 10 + round_, removes=service.removes)
        assert run.verdict is Verdict.COMPLETE
    kill(scene, after=2)
    scene.world.advance(HOUR)
    sync_under_churn(scene, 100, removes=service.removes)
    scene.world.advance(2 * DAY)
    settle(scene)
    for _ in range(3):  # without $count two comparisons, a look-back apart, must lack a job
        scene.world.advance(HOUR)
        scene.world.add()
        scene.sync()
        run = scene.reconcile(repair=True, force=True)
        assert run.counts.missing + run.counts.stale == 0
    assert find_differences(scene) == []
    scene.world.advance(timedelta(days=31))
    settle(scene)
    assert find_differences(scene) == []
    assert scene.rows("SELECT paging, window_by FROM etl.sources") == [(service.paging, service.window_by)]


COSTS = re.compile(r"^\| (.+?) \|[^|]*\| (\d+)[^|]*\|[^|]*\|$", re.MULTILINE)
ROWS = {
    "nothing": {},
    "`$top`": refused("top"),
    "`$select`": refused("select"),
    "`or`": refused("or"),
    "`pagesize`": {"pagesize": "refused"},
    "`$orderby`": refused("orderby"),
    "`$orderby` and `$count`": refused("orderby", "count"),
    "filters on ID": refused("ID"),
    "filters on keys": refused("ID", "jobID"),
    "filters on keys, `$orderby`": refused("ID", "jobID", "orderby"),
    "filters on keys, `$count`": refused("ID", "jobID", "count"),
    "filters on dates": refused("modifiedDate", "createdDate"),
    "`$count`": refused("count"),
    "`and`": refused("and"),
    "`$skip`": refused("skip"),
    "all but `jobId eq` and `$skip`": refused(*RANGES, *OPTIONS),
    "all but `jobId eq` and nextLink": refused(*RANGES, *OPTIONS, "skip", **KEY_TOKENS),
}


def read_costs() -> dict[str, int]:
    """Return the requests of a run that docs/correctness.md tells of each refusal."""
    page = (ROOT / "docs" / "correctness.md").read_text()
    table = page.partition("| refused |")[2].partition("\n\n")[0]
    return {name: int(requests) for name, requests in COSTS.findall(table)}


@pytest.mark.parametrize("refusal", ROWS)
def test_the_documented_costs_are_those_of_a_run(db: Connection, refusal: str) -> None:
    """A thousand jobs, fifty of which have changed: as many requests as the table of refusals says."""
    world = World(seed=1)
    for _ in range(1_000):
        world.advance(timedelta(minutes=20))
        world.add(purgeDateTime=None)
    for job in list(world.jobs())[::7]:
        world.change(job, percentCompleted=3)
    scene = Scene(db, world, a_source(**SHALLOW), options=ServiceOptions(**ROWS[refusal]))
    scene.sync()
    for percent in (1, 2):
        world.advance(HOUR)
        for job in list(world.jobs())[:50]:
            world.change(job, percentCompleted=percent)
        run = scene.sync()
    assert run.requests == read_costs()[refusal]
    assert scene.differences() == []
