"""A service that answers wrongly in ways that look right: nothing it still shows is purged, nothing is lost unseen."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest

from etl.jobs.refresh import follow
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


def test_a_reject_outlasts_an_older_version_of_its_job(db: Connection) -> None:
    """A server that is behind shows the version before: the newer one is still to come."""
    scene = a_mirror(db)
    job = list(scene.world.jobs())[150]
    scene.world.change(job, jobStatusText="before")
    scene.sync()
    old = scene.world.payload(job)
    scene.world.advance(MINUTE)
    scene.world.change(job, jobStatusText="after")
    scene.emulator.options = ServiceOptions(spoilt=(Spoilt("nan", (job.job_id,)),))
    assert scene.sync().is_unwell
    scene.emulator.options = ServiceOptions()
    behind_by_one = rewriting(
        scene, lambda _, rows: [old if row["jobID"] == job.job_id else row for row in rows if "modifiedDate" in row]
    )
    assert scene.sync(behind_by_one).verdict is Verdict.COMPLETE_WITH_REJECTS
    assert live(scene, 4, MINUTE).verdict is Verdict.COMPLETE
    assert scene.differences() == []


def test_a_row_without_a_name_leaves_after_a_scan_of_all_rows(db: Connection) -> None:
    """It was spoilt once, and nobody can ask for it; one that is met again stays."""
    scene = a_mirror(db)
    jobs = list(scene.world.jobs())
    bad = {jobs[100].job_id: "once", jobs[200].job_id: "always"}

    def hide(how: str) -> App:
        hidden = {job_id for job_id, often in bad.items() if often in ("always", how)}
        nameless = {"jobID": [1], "ID": "none"}
        return rewriting(
            scene, lambda _, rows: [{**row, **nameless} if row["jobID"] in hidden else row for row in rows]
        )

    for job_id in bad:
        scene.world.change(job_id, jobStatusText="spoilt")
    scene.world.add()
    assert scene.sync(hide("once")).counts.rejected == 2
    run = scene.sync(hide("always"), full=True)
    assert scene.one("SELECT count(*) FROM etl.rejects") == 1
    assert any("a scan of all rows didn't show them" in note for note in run.notes)


def test_characters_spoilt_in_an_answer_about_one_job_are_read_again(db: Connection) -> None:
    """When a job is followed, and when a reject is asked for: what was replaced is marked there too."""
    scene = a_mirror(db)
    followed, asked = list(scene.world.jobs())[100:102]
    scene.world.change(asked, jobStatusText="a reject")
    scene.emulator.options = ServiceOptions(spoilt=(Spoilt("nan", (asked.job_id,), name="percentCompleted"),))
    scene.sync()
    for job in (followed, asked):
        scene.world.change(job, jobStatusText="good", touch=False)
    jobs = (followed.job_id, asked.job_id)
    scene.emulator.options = ServiceOptions(spoilt=(Spoilt("latin-1", jobs, times=1),))
    scene.world.advance(HOUR)
    scene.world.add()
    with scene.api() as api:
        follow(scene.source, api, db, scene.clock, followed.job_id)
    marked = "SELECT job_id FROM etl.unread_values WHERE property = '(text)'"
    assert scene.rows(marked) == [(followed.job_id,)]
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.rows(marked) == [(asked.job_id,)]
    live(scene, 4, HOUR)
    assert scene.rows("SELECT * FROM etl.unread_values") == []
    assert [said for said in scene.differences() if "is missing" not in said] == []  # whose purge date has passed


# -- one record that can't be served -----------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
def test_a_known_record_costs_later_runs_next_to_nothing(db: Connection, generation: Any) -> None:
    """It is stepped over, and asked for by itself; once it can be served it is there. Page sizes are ignored."""
    world = populated(300, seed=8, rate=0, generation=generation)
    world.stop_life()
    source = a_source(concurrency=1, reread=timedelta(), reconcile_every=timedelta())
    scene = Scene(db, world, source)
    scene.sync()
    world.advance(MINUTE)
    bad = list(world.jobs())[150]
    world.change(bad, jobStatusText="can't be served from now on")
    for job in list(world.jobs())[140:160]:
        world.change(job, jobStatusText="beside it")
    poison = ServiceOptions(poisoned=frozenset({bad.job_id}), prefer="ignored", pagesize="ignored")
    scene.emulator.options = poison
    assert scene.sync().verdict is Verdict.COMPLETE_WITH_REJECTS
    for _ in range(4):
        world.advance(MINUTE)
        run = scene.sync()
        assert (run.verdict, run.requests < 12) == (Verdict.COMPLETE_WITH_REJECTS, True)
    scene.emulator.options = ServiceOptions()
    world.advance(DAY)
    assert live(scene, 12, HOUR).verdict is Verdict.COMPLETE
    assert [said for said in scene.differences() if bad.job_id in said] == []


@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
def test_a_scan_of_all_rows_ends_beside_a_known_record(db: Connection, generation: Any) -> None:
    """The source counts it, and the scan steps over it: no row is lacking. Its neighbours are repaired for little."""
    world = populated(300, seed=8, rate=0, generation=generation)
    world.stop_life()
    bad, beside = list(world.jobs())[150:152]
    source = a_source(concurrency=1, reread=timedelta(), reconcile_every=timedelta())
    scene = Scene(db, world, source, options=ServiceOptions(poisoned=frozenset({bad.job_id})))
    assert scene.sync().verdict is Verdict.COMPLETE_WITH_REJECTS
    assert scene.sync(full=True).verdict is Verdict.COMPLETE_WITH_REJECTS
    world.change(beside, jobStatusText="no date tells", touch=False)
    run = scene.reconcile(repair=True)
    assert (run.counts.stale, run.counts.repaired) == (1, 1)
    assert (
        run.requests < 30 or generation == "2019-08"
    )  # there only its neighbours are known, and others may come between
    assert scene.one("SELECT count(*) FROM etl.rejects") == 1


def test_the_last_record_keeps_its_name(db: Connection) -> None:
    """Beyond it an empty page ends the scan: the reject lies between two keys, and holds up no other job."""
    scene = a_mirror(db)
    last = scene.world.add()
    scene.emulator.options = ServiceOptions(poisoned=frozenset({last.job_id}))
    live(scene, 2, MINUTE)
    [(after, before)] = scene.rows("SELECT key_after, key_before FROM etl.rejects")
    assert (after, before) == (str(last.number - 1), str(last.number + 1))


@pytest.mark.parametrize("place", [0, -1, -2])
def test_the_first_record_or_the_newest_ones_keep_no_run_from_beginning(db: Connection, place: int) -> None:
    """Nor a count, nor a comparison: that of the lowest key, and that of the newest two."""
    scene = a_mirror(db)
    jobs = list(scene.world.jobs())
    bad = jobs[:1] if place == 0 else jobs[place:]
    for job in bad:
        scene.world.change(job, jobStatusText="can't be served from now on")
    gone = jobs[100]
    scene.world.delete(gone)
    scene.emulator.options = ServiceOptions(poisoned=frozenset(job.job_id for job in bad))
    assert live(scene, 2, HOUR).verdict is Verdict.COMPLETE_WITH_REJECTS
    scene.reconcile(repair=True)
    scene.reconcile(repair=True)  # by now each is known by itself, and not as one of many
    assert scene.one("SELECT count(*) FROM aims360.jobs WHERE job_id = %s", gone.job_id) == 0
    assert [said for said in scene.differences() if not any(job.job_id in said for job in bad)] == []


def test_a_comparison_beside_a_record_that_cannot_be_served_comes_as_seldom_as_any(db: Connection) -> None:
    """Ghosts go, and the next one is due in a week."""
    scene = a_mirror(db)
    scene.set(reconcile_every=7 * DAY)
    scene.emulator.options = ServiceOptions(poisoned=frozenset({list(scene.world.jobs())[150].job_id}))
    scene.world.delete(list(scene.world.jobs())[100])
    scene.reconcile(repair=True)
    assert scene.one("SELECT reconcile_due_at FROM etl.sources") > scene.world.now + 6 * DAY


def test_one_job_that_cannot_be_answered_about_holds_up_no_purge(db: Connection) -> None:
    """It counts as shown, and the others are gone."""
    scene = a_mirror(db)
    soon = [str(job_id) for (job_id,) in scene.rows(_SOON)]
    due = scene.world.now + HOUR
    db.execute("UPDATE aims360.jobs SET purge_date_time = %s WHERE job_id = ANY(%s)", (due, soon))
    for job_id in soon[:3] + soon[4:]:
        scene.world.delete(job_id)
    scene.world.advance(2 * HOUR)
    scene.emulator.options = ServiceOptions(poisoned=frozenset({soon[3]}))
    assert scene.purge().counts.purged == 9
    assert scene.one(_GONE, soon) == 9


def test_a_storm_of_504_is_over_soon(db: Connection) -> None:
    """Pages grow again: a backfill takes no request a row."""
    scene = Scene(db, populated(3_000, seed=9, rate=0), a_source(concurrency=1))
    scene.emulator.between_pages = lambda _: (
        scene.emulator.fail_next(*["504"] * 7) if len(scene.emulator.requests) == 8 else None
    )
    run = scene.sync()
    assert (run.verdict, run.requests < 250) == (Verdict.COMPLETE, True)


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


def test_one_empty_page_does_not_end_an_increment_unseen(db: Connection) -> None:
    """The probe has just shown a row in the window: it is asked for once more."""
    scene = a_mirror(db)
    scene.world.add()
    pages: list[str] = []

    def drop(query: str, rows: list[Any]) -> list[Any]:
        pages.extend([query] if "modifiedDate ge" in query else [])
        return [] if len(pages) == 1 and "modifiedDate ge" in query else rows

    run = scene.sync(rewriting(scene, drop))
    assert (run.counts.inserted, scene.sync().requests) == (1, 3)
    assert scene.differences() == []


def test_one_empty_page_before_a_known_record_loses_nothing(db: Connection) -> None:
    """What lies before it is asked for by itself, and an empty answer about that is doubted like any other."""
    scene = a_mirror(db)
    jobs = list(scene.world.jobs())
    scene.world.change(jobs[250], jobStatusText="can't be served from now on")
    scene.emulator.options = ServiceOptions(poisoned=frozenset({jobs[250].job_id}))
    live(scene, 2, MINUTE)
    for job in jobs[100:110]:
        scene.world.change(job, jobStatusText="changed")
    pages: list[str] = []

    def drop(query: str, rows: list[Any]) -> list[Any]:
        pages.extend([query] if "modifiedDate ge" in query else [])
        return [] if len(pages) == 1 and "modifiedDate ge" in query else rows

    assert scene.sync(rewriting(scene, drop)).counts.updated == 10


def test_one_empty_page_after_a_full_one_does_not_end_a_comparison(db: Connection) -> None:
    """What lies beyond would not have been compared."""
    scene = a_mirror(db)
    job = list(scene.world.jobs())[250]
    scene.world.change(job, jobStatusText="no date tells", touch=False)
    pages: list[str] = []

    def drop(query: str, rows: list[Any]) -> list[Any]:
        pages.extend([query] if "ID gt" in query else [])
        return [] if len(pages) == 2 and "ID gt" in query else rows

    assert scene.reconcile(rewriting(scene, drop), repair=True).counts.stale == 1


@pytest.mark.parametrize("shown", [None, "n/a", "50999"])
def test_a_row_without_a_readable_key_at_the_end_fails_no_run(db: Connection, shown: Any) -> None:
    """What has a jobID is loaded; the scan ends beyond it."""
    scene = a_mirror(db)
    last = scene.world.add()
    app = rewriting(
        scene, lambda _, rows: [{**row, "ID": shown} if row.get("jobID") == last.job_id else row for row in rows]
    )
    run = scene.sync(app)
    assert scene.one("SELECT count(*) FROM aims360.jobs") + run.counts.rejected == 301
    assert live(scene, 4, MINUTE).verdict is Verdict.COMPLETE
    assert [said for said in scene.differences() if ": id is" not in said] == []


def test_a_date_of_the_far_future_is_corrected_where_no_version_is_shown(db: Connection) -> None:
    """Nothing that is right would ever be later."""
    world = populated(60, seed=4, rate=0, generation="2019-08")
    source = a_source(reread=timedelta(), reconcile_every=timedelta())
    scene = Scene(db, world, source, options=ServiceOptions(etag_form="hash"))
    job = next(world.jobs())
    world.change(job, modifiedDate="2099-12-31T23:59:59Z", jobStatusText="wrong")
    scene.sync()
    world.advance(HOUR)
    world.change(job, jobStatusText="right")
    scene.sync()
    assert scene.one("SELECT job_status_text FROM aims360.jobs WHERE job_id = %s", job.job_id) == "right"


@pytest.mark.parametrize("shown", ["", "00000000-0000-0000-0000-000000000000", "{%s}", " %s "])
def test_a_client_id_that_is_written_otherwise_is_no_stranger(db: Connection, shown: str) -> None:
    """Nor is one that says nothing."""
    scene = a_mirror(db)
    scene.world.add()
    app = rewriting(
        scene,
        lambda _, rows: [{**row, "clientID": shown.replace("%s", str(row.get("clientID")).upper())} for row in rows],
    )
    assert scene.sync(app).verdict is Verdict.COMPLETE


def test_a_rowversion_of_zero_is_no_restore(db: Connection) -> None:
    """No version of SQL Server is."""
    scene = a_mirror(db)
    job = scene.world.add()
    app = rewriting(
        scene,
        lambda _, rows: [{**row, "rowversion": "AAAAAAAAAAA="} if row["jobID"] == job.job_id else row for row in rows],
    )
    for _ in range(3):
        scene.world.advance(HOUR)
        scene.world.change(job, jobStatusText=f"at {scene.world.now}")
        assert scene.sync(app).kind == "incremental"


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
