"""A service that answers wrongly in ways that look right: nothing it still shows is purged, nothing is lost unseen."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest

from etl.models import Run, Verdict
from etl.postgres.connection import Connection
from etl.testing.emulator import World, populated
from etl.testing.emulator.service_options import ServiceOptions
from etl.testing.emulator.spoilt_rows import Spoilt
from tests.support.gateway import App, behind
from tests.support.scene import Scene, a_source

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_SOON = "SELECT job_id FROM aims360.jobs ORDER BY purge_date_time, job_id LIMIT 10"
_GONE = "SELECT count(*) FROM aims360.purged_jobs WHERE job_id = ANY(%s)"


def a_mirror(db: Connection, jobs: int = 300, **options: Any) -> Scene:
    """A mirror of a company in which nothing happens by itself, but that jobs are purged."""
    world = populated(jobs, seed=1, rate=0)
    source = a_source(concurrency=1, reread=timedelta(), reconcile_every=timedelta())
    scene = Scene(db, world, source, options=ServiceOptions(**options))
    scene.sync()
    world.stop_life()
    world.advance(HOUR)
    return scene


def rewriting(scene: Scene, rewrite: Callable[[str, list[Any]], list[Any]]) -> App:
    """The service behind a gateway that changes the rows of its pages; it is told the query."""

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        page = json.loads(body)
        if "value" in page:
            page["value"] = rewrite(unquote(environ.get("QUERY_STRING", "")), page["value"])
        return "200 OK", json.dumps(page).encode()

    return behind(scene, answer)


def live(scene: Scene, times: int, span: timedelta, app: App | None = None) -> Run:
    """Time passes, a job comes, and a sync follows, so many times; the last run."""
    for _ in range(times):
        scene.world.advance(span)
        scene.world.add()
        run = scene.sync(app)
    return run


def postpone(scene: Scene) -> list[str]:
    """The purge of the next ten jobs is put off, and no modifiedDate tells; then their old dates pass."""
    soon = [str(job_id) for (job_id,) in scene.rows(_SOON)]
    for job_id in soon:
        scene.world.change(job_id, touch=False, purgeDateTime=scene.world.now + 50 * DAY)
    return soon


# -- purges ------------------------------------------------------------------------------------------------------------


def test_a_record_that_cannot_be_served_is_not_purged_while_others_of_its_range_come(db: Connection) -> None:
    """Its purge was put off in a version that never came: the range holds it, until it was read to its end."""
    scene = a_mirror(db)
    bad = sorted(scene.world.jobs(), key=lambda job: str(job.payload()["purgeDateTime"]))[120]
    scene.world.extend(bad, 60)
    scene.emulator.options = ServiceOptions(poisoned=frozenset({bad.job_id}))
    run = live(scene, 12, 10 * MINUTE)
    assert run.verdict is Verdict.COMPLETE_WITH_REJECTS
    live(scene, 35, DAY)
    assert scene.world.get(bad.job_id) is not None
    assert scene.one(_GONE, [bad.job_id]) == 0
    scene.emulator.options = ServiceOptions()
    assert live(scene, 3, DAY).verdict is Verdict.COMPLETE
    assert [said for said in scene.differences() if bad.job_id in said] == []


def test_a_row_with_an_id_and_an_unreadable_job_id_is_not_purged(db: Connection) -> None:
    """It has no name, but a place: the job that the mirror has there waits."""
    scene = a_mirror(db)
    bad = sorted(scene.world.jobs(), key=lambda job: str(job.payload()["purgeDateTime"]))[120]
    scene.world.extend(bad, 60)

    def hide(_query: str, rows: list[Any]) -> list[Any]:
        return [{**row, "jobID": [row["jobID"]]} if row.get("jobID") == bad.job_id else row for row in rows]

    live(scene, 30, DAY, rewriting(scene, hide))
    assert scene.world.get(bad.job_id) is not None
    assert scene.one(_GONE, [bad.job_id]) == 0


def test_pages_that_end_after_so_many_bytes_purge_nothing(db: Connection) -> None:
    """The witness, a large row, fills a page: that the others don't come says nothing about them."""
    scene = a_mirror(db)
    soon = postpone(scene)
    scene.world.add(response="x" * 60_000, purgeDateTime=scene.world.now + 90 * DAY)
    scene.world.advance(20 * DAY)

    def cut(query: str, rows: list[Any]) -> list[Any]:
        if "jobID eq" in query:
            rows = sorted(rows, key=lambda row: str(row["modifiedDate"]), reverse=True)
        sizes = [len(json.dumps(row)) for row in rows]
        return [row for place, row in enumerate(rows) if sum(sizes[:place]) <= 50_000]

    scene.sync(rewriting(scene, cut))
    assert scene.one(_GONE, soon) == 0


def test_one_empty_answer_about_a_single_job_purges_nothing(db: Connection) -> None:
    """Where `or` is refused each job is asked for by itself: it has to be missing twice."""
    scene = a_mirror(db, 100, refused=frozenset({"or"}))
    soon = postpone(scene)
    scene.world.advance(20 * DAY)
    asked: list[str] = []

    def forget(query: str, rows: list[Any]) -> list[Any]:
        if f"jobID eq '{soon[1]}'" not in query:
            return rows
        asked.append(query)
        return [] if len(asked) == 1 else rows

    scene.sync(rewriting(scene, forget))
    assert len(asked) > 1
    assert scene.one(_GONE, soon) == 0


# -- rejects -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
def test_a_record_that_comes_at_last_and_is_no_json_goes_on_waiting(db: Connection, generation: Any) -> None:
    """Its reject takes another reason, and isn't lost with the old one."""
    world = populated(200, seed=2, rate=0, generation=generation)
    bad = list(world.jobs())[100]
    poison = ServiceOptions(poisoned=frozenset({bad.job_id}), poison_spares_keys=True)
    source = a_source(concurrency=1, reread=timedelta(), reconcile_every=timedelta())
    scene = Scene(db, world, source, options=poison)
    scene.sync()
    scene.emulator.options = ServiceOptions(spoilt=(Spoilt("nan", (bad.job_id,)),))
    assert live(scene, 5, HOUR).verdict is Verdict.COMPLETE_WITH_REJECTS
    scene.emulator.options = ServiceOptions()
    assert live(scene, 5, DAY).verdict is Verdict.COMPLETE
    assert scene.one("SELECT count(*) FROM aims360.jobs WHERE job_id = %s", bad.job_id) == 1


def test_empty_lists_of_keys_forget_no_reject(db: Connection) -> None:
    """The newest job, which would be the witness, is a reject itself: an answer without it says nothing."""
    scene = a_mirror(db)
    lost = list(scene.world.jobs())[100]
    newest = scene.world.add(purgeDateTime=scene.world.now + 90 * DAY)
    scene.world.change(lost, jobStatusText="spoilt from now on")
    scene.world.change(newest, jobStatusText="spoilt too")
    scene.emulator.options = ServiceOptions(spoilt=(Spoilt("nan", (newest.job_id, lost.job_id)),))
    app = rewriting(scene, lambda query, rows: [] if "jobID eq" in query else rows)
    for _ in range(6):
        scene.world.advance(5 * MINUTE)
        run = scene.sync(app)
    assert run.verdict is Verdict.COMPLETE_WITH_REJECTS
    assert scene.one("SELECT count(*) FROM etl.rejects") == 2


def test_a_job_that_cannot_be_served_keeps_no_other_waiting(db: Connection) -> None:
    """Of ten spoilt rows nine are mended, and one can't be served at all: the nine are there soon."""
    world = populated(200, seed=3, rate=0)
    world.stop_life()
    ids = [job.job_id for job in list(world.jobs())[100:110]]
    source = a_source(concurrency=1, reread=timedelta(), reconcile_every=timedelta())
    scene = Scene(db, world, source, options=ServiceOptions(spoilt=(Spoilt("nan", tuple(ids)),)))
    scene.sync()
    scene.emulator.options = ServiceOptions(poisoned=frozenset({min(ids)}))
    live(scene, 8, HOUR)
    assert scene.one("SELECT count(*) FROM aims360.jobs WHERE job_id = ANY(%s)", ids) == 9


def test_one_record_met_under_several_ranges_is_new_once(db: Connection) -> None:
    """The rows beside it change from window to window: exit code 4 the first time alone."""
    scene = a_mirror(db)
    bad = list(scene.world.jobs())[150]
    scene.world.change(bad, jobStatusText="can't be served from now on")
    scene.emulator.options = ServiceOptions(poisoned=frozenset({bad.job_id}))
    others = list(scene.world.jobs())
    unwell = 0
    for number in range(8):
        scene.world.change(others[149 - number], jobStatusText="beside it")
        scene.world.advance(MINUTE)
        unwell += scene.sync().is_unwell
    assert unwell == 1


# -- scans -------------------------------------------------------------------------------------------------------------


def test_one_empty_page_does_not_end_a_first_scan_unseen(db: Connection) -> None:
    """The source had counted more: it is asked once more, and all rows are there."""
    scene = Scene(db, populated(900, seed=4, rate=0), a_source(concurrency=1))
    scene.world.stop_life()
    pages: list[str] = []

    def drop(query: str, rows: list[Any]) -> list[Any]:
        pages.extend([query] if "ID gt" in query else [])
        return [] if len(pages) == 3 and "ID gt" in query else rows

    assert scene.sync(rewriting(scene, drop)).verdict is Verdict.COMPLETE
    assert [said for said in scene.differences() if "is missing" in said] == []


@pytest.mark.parametrize("how", ["reversed", "ignores-filter"])
def test_keys_in_another_order_mislead_nobody(db: Connection, how: str) -> None:
    """`$select` of the keys of a page that can't be served is answered wrongly: no other record is left out."""
    world = populated(300, seed=5, rate=0)
    world.stop_life()
    bad = list(world.jobs())[150]
    options = ServiceOptions(poisoned=frozenset({bad.job_id}), poison_spares_keys=True)
    source = a_source(concurrency=1, reread=timedelta(), reconcile_every=timedelta())
    scene = Scene(db, world, source, options=options)
    first = [{"ID": job.number, "jobID": job.job_id} for job in list(world.jobs())[:100]]

    def mislead(query: str, rows: list[Any]) -> list[Any]:
        if "$select=" not in query:
            return rows
        return rows[::-1] if how == "reversed" else first

    scene.sync(rewriting(scene, mislead))
    assert len(scene.emulator.requests) < 300
    assert [said for said in scene.differences() if bad.job_id not in said] == []


def test_a_cache_before_lists_of_keys_is_no_endless_run(db: Connection) -> None:
    """Each list is answered as the first one was: the answer isn't trusted, and nothing is purged."""
    scene = a_mirror(db)
    soon = postpone(scene)
    scene.world.advance(20 * DAY)
    kept: list[Any] = []

    def cache(query: str, rows: list[Any]) -> list[Any]:
        if " or jobID eq " not in query:
            return rows
        kept.extend(rows[:2] if not kept else [])
        return kept

    run = scene.sync(rewriting(scene, cache))
    assert run.requests < 100
    assert scene.one(_GONE, soon) == 0


@pytest.mark.parametrize(
    "said",
    [
        "The request limit of the tenant has been exceeded. Activity ID: 7",
        "Concurrent reads on this connection are not supported. Correlation id 12",
    ],
)
def test_a_text_that_holds_the_name_of_a_key_by_accident_teaches_nothing(db: Connection, said: str) -> None:
    """The scan goes on by key."""
    scene = Scene(db, populated(600, seed=6, rate=0), a_source(concurrency=1))
    asked: list[str] = []

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        asked.append(environ.get("QUERY_STRING", ""))
        error = json.dumps({"error": {"code": "", "message": said}}).encode()
        return ("400 Bad Request", error) if len(asked) == 6 else ("200 OK", body)

    run = scene.sync(behind(scene, answer))
    assert (run.verdict, run.strategy, run.notes) == (Verdict.COMPLETE, "ID", ())


@pytest.mark.parametrize("first", [5_000_000_000, 10**15])
def test_ids_that_lie_far_from_zero_are_found_by_ranges_too(db: Connection, first: int) -> None:
    """More than 20 rows are a 504, and the service ignores the requested page size."""
    world = World(seed=7)
    world.number = first - 1
    for _ in range(60):
        world.advance(MINUTE)
        world.add()
    options = ServiceOptions(most_rows=20, prefer="ignored", pagesize="ignored")
    scene = Scene(db, world, a_source(concurrency=1), options=options)
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.differences() == []
