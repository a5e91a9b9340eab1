"""What a service refuses, in runs: what is learnt of it, what is kept through resumes, and what is never a reason."""

import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx
import pytest

from etl.client.client import Api
from etl.errors import Refused, SourceError
from etl.models import Verdict
from etl.pipeline.sync import sync
from etl.postgres.connection import Connection
from etl.testing.emulator import World, populated
from etl.testing.emulator.service_options import ServiceOptions
from tests.support.gateway import behind
from tests.support.quiet_mirror import DAY, HOUR, MINUTE, SHALLOW
from tests.support.refusal_sets import OPTIONS, RANGES
from tests.support.scene import Scene, a_source

BY_SKIP = frozenset({"id", "jobid", "count", "orderby"})
REFUSED = (
    "SELECT array_agg(key ORDER BY key) FROM etl.sources, jsonb_each(capabilities) WHERE value ->> 'support' = 'no'"
)


class Cut(Exception):
    """The process is killed here."""


def a_scene(db: Connection, jobs: int = 60, **options: Any) -> Scene:
    """Return a mirror of some jobs, on pages of twenty."""
    world = World(seed=1)
    for _ in range(jobs):
        world.advance(MINUTE)
        world.add(purgeDateTime=None)
    world.change(next(world.jobs()), percentCompleted=1)  # so that a page shows by what it is ordered
    world.advance(HOUR)
    return Scene(db, world, a_source(**SHALLOW, concurrency=1), page_size=20, options=ServiceOptions(**options))


def cut(scene: Scene, after: int, page: str = "modifiedDate%20ge") -> None:
    """Kill a run before it asks for one more page than so many of its scan."""

    class Killer(httpx.BaseTransport):
        left = after

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if page in str(request.url):
                self.left -= 1
            if self.left < 0:
                raise Cut
            return httpx.WSGITransport(app=scene.emulator).handle_request(request)

    with pytest.raises(Cut):
        sync(scene.source, lambda: Api(scene.source, scene.clock, Killer()), scene.db, scene.clock)


def test_a_resumed_scan_keeps_the_time_of_its_probe(db: Connection) -> None:
    """Where it finds the newest row itself: what changed in the pause, behind its cursor, is in the next window."""
    scene = a_scene(db, refused=BY_SKIP)
    scene.sync()
    world = scene.world
    jobs = [job.job_id for job in world.jobs()]
    world.advance(HOUR)
    world.change_many(jobs, percentCompleted=2)
    world.advance(MINUTE)
    cut(scene, after=2)
    assert scene.one("SELECT key FROM etl.scans") == "$skip"
    world.advance(HOUR)
    world.change_many(jobs[:5], percentCompleted=3)
    world.advance(3 * HOUR)
    world.change(jobs[50], percentCompleted=4)
    world.advance(MINUTE)
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.differences() == []


def test_an_open_scan_keeps_its_paging_though_refusals_are_forgotten(db: Connection) -> None:
    """A day later it goes on where it stood; the increment after it tries what was refused."""
    scene = a_scene(db, refused=BY_SKIP)
    scene.sync()
    world = scene.world
    world.advance(HOUR)
    world.change_many(list(world.jobs()), percentCompleted=2)
    world.advance(MINUTE)
    cut(scene, after=2)
    scene.emulator.options = ServiceOptions()
    world.advance(2 * DAY)
    scene.emulator.reset_log()
    run = scene.sync()
    asked = [request.query for request in scene.emulator.requests if "modifiedDate" in request.query.get("$filter", "")]
    assert int(asked[0]["$skip"]) >= 20
    assert run.strategy == "ID"
    assert scene.differences() == []


@pytest.mark.parametrize("code", ["Request_ProcessingFailed", None])
@pytest.mark.parametrize("option", ["$orderby", "$filter", "$top"])
def test_overload_teaches_nothing(db: Connection, option: str, code: str | None) -> None:
    """A 400 that means busy, for one option alone and time after time: the run fails, and nothing is refused."""
    scene = a_scene(db)
    scene.sync()
    world = scene.world
    body = {"requestId": "r", "error": {"code": code, "message": f"Query option '{option}' is not allowed"}}

    def answer(environ: dict[str, Any], good: bytes) -> tuple[str, bytes]:
        busy = json.dumps(body if code else {"Message": "An error has occurred."}).encode()
        return ("400 Bad Request", busy) if f"{option}=" in environ["QUERY_STRING"] else ("200 OK", good)

    for _ in range(2):
        world.advance(HOUR)
        world.change(next(world.jobs()), percentCompleted=5)
        with suppress(SourceError):
            scene.sync(behind(scene, answer))
        assert scene.one(REFUSED) is None
    scene.sync()
    assert scene.rows("SELECT paging, window_by FROM etl.sources") == [("key", "modifiedDate")]
    assert scene.differences() == []


@pytest.mark.parametrize("answer", ["an empty list", "404 with HTML", "404 with JSON", "400"])
def test_an_answer_without_the_witness_removes_nothing(db: Connection, answer: str) -> None:
    """However often, and by whatever way single jobs are asked for: jobs that the source hides stay."""
    plain = answer != "an empty list"
    refused = (RANGES | OPTIONS | {"eq"}) if plain else (RANGES | OPTIONS)
    scene = a_scene(db, refused=refused)
    scene.sync()
    hidden = {job.job_id for job in list(scene.world.jobs())[10:15]}

    def lie(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        if "/backgroundjob/" in environ["PATH_INFO"]:
            return {
                "404 with HTML": ("404 Not Found", b"<html></html>"),
                "404 with JSON": ("404 Not Found", b'{"error": {"code": "NotFound", "message": "none"}}'),
                "400": ("400 Bad Request", b'{"error": {"code": "BadRequest", "message": "none"}}'),
            }[answer]
        if b'"value"' not in body:
            return "400 Bad Request", body
        page = json.loads(body)
        kept = [] if "eq" in environ["QUERY_STRING"] else [row for row in page["value"] if row["jobID"] not in hidden]
        return "200 OK", json.dumps({**page, "value": kept}).encode()

    for _ in range(4):
        scene.world.advance(HOUR)
        run = scene.reconcile(behind(scene, lie), repair=True, force=True)
        assert (run.counts.repaired, run.counts.ghosts) == (0, 0)
    assert scene.differences() == []
    assert any("can't be trusted" in note for note in run.notes)


def test_jobs_that_vanish_go_by_two_comparisons_that_lack_them(db: Connection) -> None:
    """A look-back apart: one that was hidden from one comparison alone stays."""
    scene = a_scene(db, refused=frozenset({"count"}))
    scene.sync()
    world = scene.world
    gone, hidden = (job.job_id for job in list(world.jobs())[10:12])
    world.delete(gone)

    def hide(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        if b'"value"' not in body:
            return "400 Bad Request", body
        page = json.loads(body)
        kept = [row for row in page["value"] if row["jobID"] != hidden]
        return "200 OK", json.dumps({**page, "value": kept}).encode()

    world.advance(HOUR)
    assert scene.reconcile(behind(scene, hide), repair=True).counts.repaired == 0
    assert scene.one("SELECT count(*) FROM etl.unseen_jobs") == 2
    world.advance(HOUR)
    assert scene.reconcile(repair=True).counts.repaired == 1
    assert scene.differences() == []
    assert scene.one("SELECT count(*) FROM etl.unseen_jobs") == 1
    world.advance(HOUR)
    scene.reconcile(repair=True)
    assert scene.rows("SELECT * FROM etl.unseen_jobs") == []


def test_where_no_way_is_left_the_run_says_so(db: Connection) -> None:
    """And it tries again with the next: what is allowed by then is used."""
    scene = a_scene(db, refused=RANGES | OPTIONS | {"skip"}, next_link="never")
    with pytest.raises(Refused, match=r"supports no way to read all jobs: it refuses .*\$count"):
        scene.sync()
    assert scene.one("SELECT complete_through FROM etl.sources") is None
    scene.emulator.options = ServiceOptions()
    scene.world.advance(MINUTE)
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.differences() == []


@pytest.mark.parametrize("words", ["unnamed", "html-403"])
@pytest.mark.parametrize("refused", ["orderby count", "ID jobID skip", "and", "modifiedDate", "skip count orderby"])
def test_refusals_without_a_reason_are_found_by_asking_for_the_parts(db: Connection, refused: str, words: str) -> None:
    """The first run ends well, and so does each of the days after it."""
    scene = a_scene(db, refused=frozenset(refused.split()), refusal_words=words)
    for _ in range(4):
        assert scene.sync().verdict is Verdict.COMPLETE
        assert scene.differences() == []
        scene.world.advance(13 * HOUR)
        scene.world.add(purgeDateTime=None)
        scene.world.change(list(scene.world.jobs())[7], percentCompleted=9)
        scene.world.advance(timedelta(seconds=1))


def test_an_instant_that_no_page_holds_is_read_by_links_where_skip_is_refused(db: Connection) -> None:
    """Slices of time don't do then, and the next scans don't try them either."""
    scene = a_scene(db, jobs=20, refused=frozenset({"ID", "jobID", "skip"}), next_link_by="key-token")
    scene.world.ties(50)
    scene.world.advance(HOUR)
    assert scene.sync().strategy == "$skip"
    assert scene.differences() == []
    scene.world.ties(30)
    scene.world.advance(MINUTE)
    assert (scene.sync().strategy, scene.differences()) == ("$skip", [])


@pytest.mark.parametrize(("before", "after"), [("key-token", "offset-token"), ("offset-token", "key-token")])
def test_a_stored_link_that_the_service_knows_no_more_begins_the_scan_anew(
    db: Connection, before: Any, after: Any
) -> None:
    """An upgrade of the service may write links in another way: nothing is refused by that."""
    refused = frozenset({*RANGES, *OPTIONS, "skip"})
    scene = a_scene(db, refused=refused, next_link="standard", next_link_by=before)
    cut(scene, 2, page="skiptoken")
    assert scene.one("SELECT cursors #>> '{0,1}' LIKE '%skiptoken%' FROM etl.scans") is True
    scene.emulator.options = ServiceOptions(refused=refused, next_link="standard", next_link_by=after)
    run = scene.sync()
    assert run.verdict is Verdict.COMPLETE
    assert not any("skiptoken" in note for note in run.notes)
    assert scene.differences() == []
    assert "next_link" not in scene.one(REFUSED)


@pytest.mark.parametrize("words", ["unnamed", "html-403", "named"])
def test_ranges_that_are_refused_for_their_and_are_read_without_in_the_same_run(db: Connection, words: Any) -> None:
    """The first pages had one condition each: that says nothing of two."""
    options = ServiceOptions(refused=frozenset({"and"}), refusal_words=words)
    scene = Scene(db, populated(1_500, seed=1, rate=0), a_source(**SHALLOW, concurrency=4), options=options)
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.differences() == []
