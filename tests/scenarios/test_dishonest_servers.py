"""Servers that lie or can do less: a run believes nothing that it can check, and loses nothing to what it can't ask."""

import json
import random
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from etl.config.secrets import PasswordGrant, Secret
from etl.errors import BrokenPromise, SignInFailed, Unreachable
from etl.models import Run, Verdict
from etl.pipeline.reconcile import Wish
from etl.pipeline.sync import reconcile_now
from etl.postgres.connection import Connection
from etl.testing.emulator import Comparison, Faults, Generation, NextLink, World, populated
from etl.testing.emulator.service_options import ServiceOptions
from tests.support.gateway import App, behind
from tests.support.refusals import refuse_option, refuse_property
from tests.support.scene import BASE, GRANT, TOKEN, Scene, a_source

KEYS = frozenset({"ID", "jobID"})
HOUR = timedelta(hours=1)
A_MOMENT = timedelta(milliseconds=700)
A_JOB_ID = "00000000-650a-4ff2-b2b1-acab3c7472ea-20260301090000000"

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
def test_a_source_that_refuses_its_keys_is_mirrored_by_time_slices(
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
    assert sum("read by slices of modifiedDate" in note for note in first.notes) == 1
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
        scene.emulator.fail_next(*["503"] * 20) if len(scene.emulator.requests) == 5 else None
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
        lambda total, rows: f"{total} rows",
        lambda total, rows: None,
    ],
    ids=["page", "capped", "zero", "less", "more", "huge", "negative", "text", "none"],
)
def test_a_wrong_count_loses_no_row_by_time(db: Connection, count: Callable[[int, int], object]) -> None:
    """What a service counts decides there which rows come: where it can't be right, another way is taken, or none."""
    world = World(seed=7)
    for _ in range(50):
        world.advance(A_MOMENT)
        world.add()
    scene = Scene(db, world, refuse=KEYS, page_size=20)
    with suppress(BrokenPromise):
        assert scene.sync(behind(scene, counted(count))).strategy == "$skip"
    if scene.one("SELECT watermark FROM etl.sources") is None:
        scene.sync()
    assert len(scene.emulator.requests) < 400
    assert scene.differences() == []


@by_generation
@pytest.mark.parametrize(
    "count", [lambda total, rows: rows, lambda total, rows: 0, lambda total, rows: f"{total} rows"]
)
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
    world.advance(HOUR)
    world.add()
    scene.sync(full=True)  # which asks again for a count, and compares again
    reconciled(scene, repair=True)
    assert scene.differences() == []


def test_skip_that_is_ignored_freezes_nothing(db: Connection) -> None:
    """Rows of one instant that come again and again, and a count without end: told, not read for ever."""
    world = World(seed=9)
    world.ties(50)
    scene = Scene(db, world, refuse=KEYS, page_size=20, ignore={"skip"})
    with pytest.raises(BrokenPromise, match=r"jobs of one instant|shows none with a date"):
        scene.sync(behind(scene, counted(lambda total, rows: 10**12)))
    assert len(scene.emulator.requests) < 200
    with pytest.raises(BrokenPromise, match=r"jobs of one instant|shows none with a date"):
        scene.sync()


@pytest.mark.parametrize("says", ["refused", "nothing"])
def test_rows_without_a_date_are_not_lost_where_null_cannot_be_asked_for(db: Connection, says: str) -> None:
    """`eq null` is refused, or answered as SQL compares with NULL: by time only while there are no such jobs."""
    world = World(seed=10)
    world.ties(5)
    job = world.add(modifiedDate=None)
    scene = Scene(db, world, refuse=KEYS)

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        if "eq null" not in query_of(environ):
            return "200 OK", body
        return (
            ("400 Bad Request", refuse_property("modifiedDate"))
            if says == "refused"
            else ("200 OK", b'{"@odata.count": 0, "value": []}')
        )

    run = scene.sync(behind(scene, answer))
    assert any("counts 1 jobs more" in note for note in run.notes)
    assert (run.strategy, scene.differences()) == ("$skip", [])
    world.change(job, percentCompleted=1)
    run = scene.sync(behind(scene, answer), full=True)
    assert run.strategy == ("modifiedDate" if says == "nothing" else "$skip")  # where the refusal names the property
    assert scene.differences() == []


@by_generation
def test_a_purge_that_cannot_be_asked_about_fails_no_run(db: Connection, generation: Generation) -> None:
    """Where no single job can be asked for, those past their date wait for the watermark, and the run says so."""
    world = World(seed=11, generation=generation)
    world.add(purgeDateTime=world.now + HOUR)
    world.add()
    options = ServiceOptions(has_plain_path=False)
    scene = Scene(db, world, refuse=KEYS, options=options)
    scene.sync()
    world.advance(2 * HOUR)
    run = scene.sync()
    assert (run.verdict, run.counts.purged) == (Verdict.COMPLETE, 0)
    assert any("can't be trusted" in note for note in run.notes)
    world.add()
    assert scene.sync().counts.purged == 1
    assert scene.differences() == []


# -- options that are ignored, and clocks that are wrong -------------------------------------------------------------


@by_generation
@by_strategy
@pytest.mark.parametrize("option", ["filter", "orderby"])
def test_an_option_that_is_ignored_from_the_first_answer_on_counts_as_refused(
    db: Connection, generation: Generation, refuse: frozenset[str], option: str
) -> None:
    """The run says what was asked and what came, and reads all in another way; the next one begins with that."""
    world = World(seed=14, generation=generation)
    for number in (3, 1, 2, 5, 4):
        moment = world.now + number * HOUR
        world.add(modifiedDate=moment, createdDate=moment)
    world.advance(6 * HOUR)
    scene = Scene(db, world, refuse=refuse)
    scene.sync()
    world.advance(24 * HOUR)
    for minutes in (10, 5):
        world.add(modifiedDate=world.now - timedelta(minutes=minutes), jobID=f"{minutes:08x}" + A_JOB_ID[8:])
    unordered = rows_changed(lambda query, rows: rows if "desc" in query else rows[::-1])
    app = behind(scene, unordered) if option == "orderby" else scene.emulator
    scene.emulator.ignore = frozenset({option} - {"orderby"})
    run = scene.sync(app)
    assert re.search(rf"ignores \$({option}|filter).*asked for|ignores \$orderby", " ".join(run.notes))
    assert run.verdict is Verdict.COMPLETE
    assert scene.differences() == []
    world.advance(HOUR)
    world.add()
    assert not any("ignores" in note for note in scene.sync(app).notes)
    assert scene.differences() == []


@pytest.mark.parametrize("option", ["filter", "orderby"])
def test_an_option_that_is_ignored_later_in_a_scan_fails_the_run(db: Connection, option: str) -> None:
    """What a scan has seen honoured is no refusal: the watermark stays, and the next run goes on."""
    world = World(seed=15, generation="2019-08")  # by jobID, which isn't the order of the rows themselves
    for _ in range(60):
        world.advance(A_MOMENT)
        world.add()
    scene = Scene(db, world, page_size=20)
    first = scene.sync()
    world.advance(HOUR)
    world.change_many(list(world.jobs()), percentCompleted=1)
    asked = []

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        if "jobID gt" in query_of(environ):
            asked.append(environ)
            scene.emulator.ignore = frozenset({option})
        return "200 OK", body

    scene.set(concurrency=1)
    with pytest.raises(BrokenPromise, match=rf"ignores \$({option}|filter)"):
        scene.sync(behind(scene, answer))
    assert asked
    assert scene.one("SELECT watermark FROM etl.sources") == first.watermark
    scene.emulator.ignore = frozenset()
    scene.sync()
    assert scene.differences() == []


@by_generation
@by_strategy
def test_a_probe_that_does_not_show_the_newest_row_loses_nothing(
    db: Connection, generation: Generation, refuse: frozenset[str]
) -> None:
    """It can't be noticed: the watermark only stands lower, and later windows are larger."""
    world = World(seed=15, generation=generation)
    for _ in range(150):
        world.advance(timedelta(minutes=1))
        world.add()
    scene = Scene(db, world, refuse=refuse)

    def unordered(query: str) -> str:
        return query.replace("$orderby=modifiedDate%20desc&", "")

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        return scene.emulator({**environ, "QUERY_STRING": unordered(environ["QUERY_STRING"])}, start_response)

    first = scene.sync(app)
    assert first.watermark is not None
    assert first.watermark < world.now - HOUR
    assert (first.verdict, first.complete_through) == (Verdict.COMPLETE, world.now)
    world.advance(HOUR)
    world.change(list(world.jobs())[50], percentCompleted=1)
    assert scene.sync(app).watermark == first.watermark
    assert scene.differences() == []


@by_generation
@by_strategy
@pytest.mark.parametrize("option", ["top", "count", "select"])
def test_other_options_that_are_ignored_cost_no_row(
    db: Connection, generation: Generation, refuse: frozenset[str], option: str
) -> None:
    """$top, $select: more comes than was asked for. $count: by key it's not needed, and without keys time is no way."""
    world = populated(150, seed=16, rate=0, generation=generation)
    scene = Scene(db, world, refuse=refuse, ignore={option})
    run = scene.sync()
    assert run.strategy == ("$skip" if refuse and option == "count" else "modifiedDate" if refuse else run.strategy)
    assert scene.differences() == []
    job = world.change(list(world.jobs())[7], touch=False, percentCompleted=1)
    world.advance(HOUR)
    assert reconciled(scene, repair=True).counts.stale == (job["modifiedDate"] is not None)
    assert scene.differences() == []


@by_generation
@pytest.mark.parametrize("left", [("jobID", "ID"), ("jobID", "ID", "modifiedDate"), ()])
def test_a_comparison_of_rows_without_their_version_reads_them_whole(
    db: Connection, generation: Generation, left: tuple[str, ...]
) -> None:
    """$select is refused, or leaves out what tells versions apart: nothing seems stale that isn't."""
    scene = Scene(db, populated(120, seed=17, rate=0, generation=generation))
    scene.sync()
    scene.world.advance(HOUR)

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        if "$select" not in query_of(environ):
            return "200 OK", body
        page = json.loads(body)
        page["value"] = [{name: row[name] for name in left if name in row} for row in page["value"]]
        return ("200 OK", json.dumps(page).encode()) if left else ("400 Bad Request", refuse_option("Select"))

    app = behind(scene, answer)
    assert reconciled(scene, app).counts.differences == 0
    scene.world.change(next(scene.world.jobs()), touch=False, percentCompleted=1)
    assert reconciled(scene, app).counts.stale == 1
    assert reconciled(scene, app, repair=True).counts.repaired == 1
    assert scene.differences() == []


@by_strategy
@pytest.mark.parametrize("date", [None, "yesterday", "Mon, 01 Jan 2001 00:00:00 GMT", "ahead", "far ahead"])
def test_a_wrong_clock_of_the_source_loses_no_row(db: Connection, refuse: frozenset[str], date: str | None) -> None:
    """No Date, garbage, the past, the future: with a row of 2099 the clock alone bounds the watermark."""
    world = World(seed=18)
    world.ties(3)
    world.add(modifiedDate=datetime(2099, 1, 1, tzinfo=UTC))
    scene = Scene(db, world, refuse=refuse)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        ahead = {"ahead": timedelta(minutes=50), "far ahead": timedelta(days=9_999)}.get(str(date))
        said = date if ahead is None else format_datetime(world.now + ahead, usegmt=True)

        def started(status: str, headers: list[tuple[str, str]]) -> None:
            kept = [(name, value) for name, value in headers if name != "Date"]
            start_response(status, [*kept, *([("Date", said)] if said else [])])

        return scene.emulator(environ, started)

    for _ in range(3):
        run = scene.sync(app)
        assert run.watermark is not None
        assert run.watermark <= world.now
        assert scene.differences() == []
        world.advance(timedelta(minutes=1))
        world.add()
        world.change(next(world.jobs()), percentCompleted=1)


# -- pages of changing size, and rows that come twice ----------------------------------------------------------------


@by_generation
@by_strategy
def test_pages_that_grow_shrink_and_fall_short_lose_nothing(
    db: Connection, generation: Generation, refuse: frozenset[str]
) -> None:
    """Another page size at every request, and now and then fewer rows than it."""
    world = World(seed=19, generation=generation)
    for _ in range(200):
        world.advance(timedelta(milliseconds=20))
        world.add()
    rng = random.Random(19)
    scene = Scene(db, world, refuse=refuse)
    scene.emulator.between_pages = lambda _: setattr(scene.emulator, "page_size", rng.choice([3, 20, 100]))
    short = rows_changed(lambda query, rows: rows[:-1] if len(rows) > 1 and rng.random() < 0.3 else rows)
    assert scene.sync(behind(scene, short)).verdict is Verdict.COMPLETE
    assert scene.differences() == []


@by_generation
@by_strategy
@pytest.mark.parametrize("newer_first", [False, True])
@pytest.mark.parametrize("across", [False, True])
def test_rows_that_come_twice_are_kept_in_their_newer_version(
    db: Connection, generation: Generation, refuse: frozenset[str], newer_first: bool, across: bool
) -> None:
    """Within a page and across pages, in either order: counted, and no error."""
    world = World(seed=20, generation=generation)
    for _ in range(60):
        world.advance(timedelta(milliseconds=20))
        world.add()
    job = min(world.jobs(), key=lambda job: job["ID"] if generation == "2019-06" else str(job["jobID"]))
    older = world.payload(job)
    world.change(job, touch=False, percentCompleted=1)
    newer = world.payload(job)
    scene = Scene(db, world, refuse=refuse, page_size=20)
    passed = False

    def twice(query: str, rows: list[Any]) -> list[Any]:
        nonlocal passed
        found = [place for place, row in enumerate(rows) if row["jobID"] == newer["jobID"]]
        if "$top" in query or "$skip" in query:
            return rows
        if found:
            pair = [newer, older] if newer_first else [older, newer]
            passed = True
            return rows[: found[0]] + (pair[:1] if across else pair) + rows[found[0] + 1 :]
        if across and passed and rows and not refuse:
            return [older if newer_first else newer, *rows]
        return rows

    run = scene.sync(behind(scene, rows_changed(twice)))
    assert run.counts.duplicates > 0 or (across and refuse)
    assert [text for text in scene.differences() if not (across and refuse)] == []


@by_strategy
@pytest.mark.parametrize("next_link", ["always", "never", "foreign"])
def test_next_links_are_never_followed(db: Connection, refuse: frozenset[str], next_link: NextLink) -> None:
    """On an empty page too, in circles, to another host: the token goes to the source alone, nothing comes twice."""
    scene = Scene(db, populated(250, seed=21, rate=0), refuse=refuse, next_link=next_link)
    run = scene.sync()
    assert (run.counts.inserted, run.counts.duplicates) == (250, 0)
    assert {request.headers["host"] for request in scene.emulator.requests} == {httpx.URL(BASE).host}
    assert scene.differences() == []


# -- a source on which nothing is to be relied -----------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "credentials"), [(1, Secret(TOKEN)), (2, GRANT)], ids=["token", "grant"])
def test_a_source_that_fails_one_request_in_five_is_mirrored_in_the_end(
    db: Connection, seed: int, credentials: Secret | PasswordGrant
) -> None:
    """All kinds of faults, late commits, churn, four threads: equal when it is quiet, and never asked too early."""
    world = World(seed=seed, late_share=0.1)
    world.ties(2_100)
    scene = Scene(db, world, a_source(credentials=credentials, concurrency=4))
    scene.emulator.set_faults(Faults(rate=0.2, seed=seed))
    late = random.Random(seed)

    def live(world: World) -> None:
        world.advance(A_MOMENT)
        for job in late.sample(list(world.jobs()), 2):
            with suppress(ValueError):
                world.late(job, timedelta(seconds=5), percentCompleted=late.randint(0, 100))

    scene.emulator.between_pages = live
    for _ in range(4):
        with suppress(Unreachable, SignInFailed):
            scene.sync()
    scene.emulator.between_pages = None
    for _ in range(10):
        world.advance(timedelta(seconds=30))
        with suppress(Unreachable, SignInFailed):
            if scene.sync().verdict is Verdict.COMPLETE and not scene.differences():
                break
    assert scene.differences() == []
    log = scene.emulator.requests
    assert len({request.fault for request in log}) > 5
    asked_to_wait = [(at, r) for at, r in enumerate(log) if r.fault in ("429-seconds", "429-date")]
    for at, throttled in asked_to_wait:
        later = log[at + 1 :]
        until = throttled.time + timedelta(seconds=1 if throttled.fault == "429-date" else 2)
        # No clock goes on here: what the other three threads had sent by then can't be told from what came after.
        assert len([request for request in later if request.time < until]) <= 3
