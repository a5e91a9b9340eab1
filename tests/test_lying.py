"""Servers that lie or can do less: a run believes nothing that it can check, and loses nothing to what it can't ask."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest

from etl import doctor
from etl.database import Connection
from etl.emulator import Comparison, Generation, World, populated
from etl.errors import BrokenPromise, Unreachable
from etl.model import Run, Verdict
from etl.reconcile import Wish
from etl.sync import reconcile_now
from tests.scene import Scene, a_source
from tests.test_hostile import App, behind

KEYS = frozenset({"ID", "jobID"})
HOUR = timedelta(hours=1)
A_MOMENT = timedelta(milliseconds=700)
OLD = {"purgeDateTime": None}

by_generation = pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
by_strategy = pytest.mark.parametrize("refuse", [frozenset(), KEYS], ids=["by key", "by time"])


def churn(changes: int, seed: int = 1) -> Callable[[World], None]:
    """What the source does between any two requests: so many rows change, one is born, now and then one goes."""
    rng = random.Random(seed)

    def live(world: World) -> None:
        world.advance(A_MOMENT)
        jobs = sorted(str(job["jobID"]) for job in world.jobs())
        for job_id in rng.sample(jobs, min(changes, len(jobs))):
            world.change(job_id, percentCompleted=rng.randint(0, 100))
        world.add()
        if rng.random() < 0.2:
            world.delete(jobs[0])

    return live


def settled(scene: Scene, runs: int = 2) -> list[str]:
    """What differs once the source is quiet and was synced, and compared, again."""
    scene.emulator.between_pages = None
    for _ in range(runs):
        scene.world.advance(HOUR)
        scene.sync()
    return scene.differences()


def reconciled(scene: Scene, app: App | None = None, **wish: bool) -> Run:
    """A comparison of all keys."""
    return reconcile_now(scene.source, lambda: scene.api(app), scene.db, scene.clock, Wish(**wish))


def query_of(environ: dict[str, Any]) -> str:
    """The query as it was meant."""
    return unquote(environ["QUERY_STRING"])


def rows_changed(change: Callable[[str, list[Any]], list[Any]]) -> Callable[[dict[str, Any], bytes], tuple[str, bytes]]:
    """What gives the rows of every page for its query, once changed."""

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        page = json.loads(body)
        if "value" not in page:
            return "200 OK", body
        return "200 OK", json.dumps({**page, "value": change(query_of(environ), page["value"])}).encode()

    return answer


def counted(count: Callable[[int, int], object]) -> Callable[[dict[str, Any], bytes], tuple[str, bytes]]:
    """What says another count, made of the true one and the number of rows on the page."""

    def answer(_environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        page = json.loads(body)
        if "@odata.count" in page:
            page["@odata.count"] = count(page["@odata.count"], len(page["value"]))
        return "200 OK", json.dumps(page).encode()

    return answer


# -- keys that can't be filtered on ----------------------------------------------------------------------------------


@by_generation
@pytest.mark.parametrize("comparison", ["datetime", "datetime2"])
@pytest.mark.parametrize("page_size", [1, 2, 3, 17, 100])
def test_a_source_that_refuses_its_keys_is_mirrored_by_pieces_of_time(
    db: Connection, generation: Generation, comparison: Comparison, page_size: int
) -> None:
    """Ties, rows without a date and of the future, on pages of any size: all of it, and nothing by another way."""
    world = World(seed=1, generation=generation)
    for _ in range(25):
        world.advance(timedelta(milliseconds=random.Random(page_size).randint(3, 40)))
        world.add()
    world.ties(7)
    world.add(modifiedDate=None)
    world.add(modifiedDate=None)
    world.add(modifiedDate=datetime(2099, 1, 1, tzinfo=UTC))
    scene = Scene(db, world, refuse=KEYS, comparison=comparison, page_size=page_size)
    first = scene.sync()
    assert scene.differences() == []
    assert (first.verdict, first.strategy, first.counts.inserted) == (Verdict.COMPLETE, "modifiedDate", 35)
    world.advance(timedelta(seconds=1))
    world.change_many(list(world.jobs())[3:9], percentCompleted=5)
    scene.sync()
    assert scene.differences() == []


@by_generation
@pytest.mark.parametrize("status", ["400 Bad Request", "501 Not Implemented"])
def test_the_strategy_in_force_is_in_the_ledger_and_told_once(
    db: Connection, generation: Generation, status: str
) -> None:
    """In the run, in its row and in what is known of the source; increments go by time at once, and say no more."""
    world = populated(250, seed=2, rate=0, generation=generation)
    scene = Scene(db, world, refuse=KEYS)

    def app(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        return (
            (status, b'{"error": {"message": "not on this property"}}')
            if b"cannot be used" in body
            else ("200 OK", body)
        )

    first = scene.sync(behind(scene, app))
    assert sum("read by pieces of modifiedDate" in note for note in first.notes) == 1
    assert scene.rows("SELECT strategy, 'count' = ANY(checks) FROM etl.runs") == [("modifiedDate", True)]
    assert scene.one("SELECT strategy FROM etl.sources") == "time"
    world.advance(timedelta(seconds=1))
    world.add()
    scene.emulator.reset_log()
    second = scene.sync(behind(scene, app))
    assert (second.strategy, second.notes) == ("modifiedDate", ())
    assert all(request.status == 200 for request in scene.emulator.requests)
    assert scene.differences() == []


def test_a_source_that_learns_to_filter_on_its_keys_is_read_by_them_again(db: Connection) -> None:
    """The next scan of all rows tries."""
    world = populated(150, seed=3, rate=0)
    scene = Scene(db, world, refuse=KEYS)
    scene.sync()
    scene.emulator.refuse = frozenset()
    assert scene.sync(full=True).strategy == "ID"
    assert scene.sync().strategy == "ID"
    assert scene.one("SELECT strategy FROM etl.sources") == "key"


@by_generation
@pytest.mark.parametrize(("page_size", "changes"), [(100, 3), (20, 1)])
def test_nothing_is_lost_by_time_while_the_source_changes(
    db: Connection, generation: Generation, page_size: int, changes: int
) -> None:
    """Between any two requests rows change, come and go."""
    world = World(seed=4, generation=generation)
    for _ in range(150 if page_size < 100 else 400):
        world.advance(timedelta(milliseconds=13))
        world.add()
    scene = Scene(db, world, refuse=KEYS, page_size=page_size, between_pages=churn(changes))
    for _ in range(3):
        scene.sync()
    # What was deleted before its time is a comparison's work, and that needs keys it can ask for.
    assert [text for text in settled(scene) if not text.endswith("is a ghost")] == []


def test_five_thousand_rows_on_one_tick_are_read_by_skip(db: Connection) -> None:
    """Between two equal counts; a row that leaves while they are read makes it begin anew."""
    world = World(seed=5, generation="2019-08")
    jobs = world.ties(5_000)
    world.advance(HOUR)
    scene = Scene(db, world, refuse=KEYS, page_size=500)
    left: list[str] = []

    def leave_once(world: World) -> None:
        if "$skip" in scene.emulator.requests[-1].query and not left:
            left.append(str(world.change(jobs[0], percentCompleted=1)["jobID"]))

    scene.emulator.between_pages = leave_once
    assert scene.sync().verdict is Verdict.COMPLETE
    assert left
    assert scene.differences() == []


@by_generation
def test_a_refusal_in_the_middle_of_an_open_scan_begins_it_anew_by_time(db: Connection, generation: Generation) -> None:
    """What was left open by key goes on by time, from its beginning."""
    world = populated(450, seed=6, rate=0, generation=generation)
    scene = Scene(db, world, a_source(concurrency=1))
    scene.emulator.between_pages = lambda _: (
        scene.emulator.fail_next(*["503"] * 8) if len(scene.emulator.requests) == 5 else None
    )
    with pytest.raises(Unreachable):
        scene.sync()
    scene.emulator.between_pages = None
    assert 0 < scene.one("SELECT count(*) FROM aims360.jobs") < 450
    scene.emulator.refuse = frozenset(name.lower() for name in KEYS)
    world.change_many(list(world.jobs())[:20], percentCompleted=1)
    scene.sync()
    assert scene.differences() == []
    assert scene.one("SELECT strategy FROM etl.sources") == "time"


# -- counts that lie -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "count",
    [
        lambda total, rows: rows,
        lambda total, rows: min(total, 20),
        lambda total, rows: 0,
        lambda total, rows: total - 1,
        lambda total, rows: total + 1,
        lambda total, rows: 10**12,
        lambda total, rows: -1,
        lambda total, rows: str(total),
        lambda total, rows: None,
    ],
    ids=["page", "capped", "zero", "less", "more", "huge", "negative", "text", "none"],
)
def test_a_wrong_count_loses_no_row_by_time(db: Connection, count: Callable[[int, int], object]) -> None:
    """What a service counts decides there which rows come: where it can't be right, the run fails and is told."""
    world = World(seed=7)
    for _ in range(50):
        world.advance(A_MOMENT)
        world.add()
    scene = Scene(db, world, refuse=KEYS, page_size=20)
    with pytest.raises(BrokenPromise, match="count"):
        scene.sync(behind(scene, counted(count)))
    assert scene.rows("SELECT watermark, complete_through FROM etl.sources") == [(None, None)]
    assert len(scene.emulator.requests) < 400
    scene.sync()
    assert scene.differences() == []


@by_generation
@pytest.mark.parametrize("count", [lambda total, rows: rows, lambda total, rows: 0, lambda total, rows: str(total)])
def test_a_wrong_count_is_nothing_to_a_scan_by_key(
    db: Connection, generation: Generation, count: Callable[[int, int], object]
) -> None:
    """It serves the progress shown and the ranges there; a comparison deletes nothing on its word."""
    world = populated(250, seed=8, rate=0, generation=generation)
    scene = Scene(db, world)
    app = behind(scene, counted(count))
    assert scene.sync(app).verdict is Verdict.COMPLETE
    assert scene.differences() == []
    world.delete(next(world.jobs()))
    world.advance(HOUR)
    assert reconciled(scene, app, repair=True).counts.repaired == 0
    assert reconciled(scene, repair=True).counts.repaired == 1
    assert scene.differences() == []


def test_skip_that_is_ignored_freezes_nothing(db: Connection) -> None:
    """Rows of one instant that come again and again, and a count without end: told, not read for ever."""
    world = World(seed=9)
    world.ties(50)
    scene = Scene(db, world, refuse=KEYS, page_size=20, ignore={"skip"})
    with pytest.raises(BrokenPromise, match="jobs of one instant"):
        scene.sync(behind(scene, counted(lambda total, rows: 10**12)))
    assert len(scene.emulator.requests) < 200
    with pytest.raises(BrokenPromise, match="jobs of one instant"):
        scene.sync()


@pytest.mark.parametrize("says", ["refused", "nothing"])
def test_rows_without_a_date_are_not_lost_where_null_cannot_be_asked_for(db: Connection, says: str) -> None:
    """`eq null` is refused, or answered as SQL compares with NULL: an error while there are such jobs, none without."""
    world = World(seed=10)
    world.ties(5)
    job = world.add(modifiedDate=None)
    scene = Scene(db, world, refuse=KEYS)

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        if "eq null" not in query_of(environ):
            return "200 OK", body
        return ("400 Bad Request", b"{}") if says == "refused" else ("200 OK", b'{"@odata.count": 0, "value": []}')

    with pytest.raises(BrokenPromise, match="counts 1 jobs more"):
        scene.sync(behind(scene, answer))
    world.change(job, percentCompleted=1)
    scene.sync(behind(scene, answer))
    assert scene.differences() == []


@by_generation
def test_a_purge_that_cannot_be_asked_about_fails_no_run(db: Connection, generation: Generation) -> None:
    """Keys that can't be filtered on: the jobs past their date wait for the watermark, and the run says so."""
    world = World(seed=11, generation=generation)
    world.add(purgeDateTime=world.now + HOUR)
    world.add()
    scene = Scene(db, world, refuse=KEYS)
    scene.sync()
    world.advance(2 * HOUR)
    run = scene.sync()
    assert (run.verdict, run.counts.purged) == (Verdict.COMPLETE, 0)
    assert any("can't be trusted" in note for note in run.notes)
    world.add()
    assert scene.sync().counts.purged == 1
    assert scene.differences() == []


# -- what doctor says ------------------------------------------------------------------------------------------------


def looked_at(scene: Scene, app: App | None = None) -> dict[str, tuple[str, str]]:
    """What doctor says of the service, by check."""
    with scene.api(app) as api:
        return {check.name: (check.standing, check.detail) for check in doctor.service(api, scene.clock)}


@by_generation
def test_doctor_names_the_strategy_in_force(db: Connection, generation: Generation) -> None:
    """Scans go by the key, or by time, which is no failure."""
    scene = Scene(db, populated(150, seed=12, rate=0, generation=generation))
    key = "ID" if generation == "2019-06" else "jobID"
    assert looked_at(scene)["strategy"] == ("ok", f"scans go by {key}")
    scene.emulator.refuse = frozenset({"id", "jobid"})
    found = looked_at(scene)
    assert found["strategy"] == ("note", f"scans go by pieces of modifiedDate: {key} can't be filtered on")
    assert {standing for standing, _ in found.values()} == {"ok", "note"}
    assert {"pieces of modifiedDate", "modifiedDate eq null", "$skip"} <= found.keys()


@pytest.mark.parametrize(
    ("lie", "name"),
    [
        (lambda query, body: body.replace(b'"@odata.count"', b'"count"'), "pieces of modifiedDate"),
        (lambda query, body: None if " lt " in query else body, "pieces of modifiedDate"),
        (lambda query, body: None if "eq null" in query else body, "modifiedDate eq null"),
        (lambda query, body: None if "$skip" in query else body, "$skip"),
    ],
)
def test_doctor_fails_where_a_scan_by_time_lacks_what_it_needs(
    db: Connection, lie: Callable[[str, bytes], bytes | None], name: str
) -> None:
    """$count, bounds on both sides, null dates, $skip."""
    scene = Scene(db, populated(150, seed=13, rate=0), refuse=KEYS)

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        said = lie(query_of(environ), body)
        return ("400 Bad Request", b"{}") if said is None else ("200 OK", said)

    assert looked_at(scene, behind(scene, answer))[name][0] == "failed"
