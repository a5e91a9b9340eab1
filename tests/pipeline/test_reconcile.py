"""The comparison of all keys, the deep passes of a sync, and a source that was restored."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from etl.errors import ConfigError, Unreachable
from etl.models import FLATTEN_VERSION, Run, Verdict
from etl.postgres.connection import Connection
from etl.testing.emulator import ABSENT, Generation, World, populated
from etl.testing.emulator.service_options import ServiceOptions
from tests.support.day_totals import TOTALS
from tests.support.gateway import behind
from tests.support.quiet_mirror import DAY, HOUR, MINUTE, NEVER, SHALLOW, a_mirror
from tests.support.refusals import refuse_option
from tests.support.scene import Scene, a_source


def an_hour_later(scene: Scene) -> None:
    """Another job comes, so that what happened before lies beyond the next increment's window."""
    for _ in range(2):
        scene.world.advance(HOUR)
        scene.world.add()
        scene.sync()


def found(run: Run) -> tuple[int, int, int]:
    """Missing, stale and ghosts."""
    return run.counts.missing, run.counts.stale, run.counts.ghosts


@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
def test_equal_is_nothing_found_and_nothing_written(db: Connection, generation: Generation) -> None:
    """Only what tells versions apart is asked for, and no tuple of the mirror is touched."""
    scene = a_mirror(db, 250, generation)
    scene.emulator.reset_log()
    run = scene.reconcile(repair=True)
    assert (found(run), run.counts.repaired, run.verdict) == ((0, 0, 0), 0, Verdict.COMPLETE)
    asked = [request.query for request in scene.emulator.requests if "$top" not in request.query]
    assert len(asked) == 4
    assert all("jobDescription" not in query["$select"] and "jobID" in query["$select"] for query in asked)
    assert scene.one("SELECT count(*) FROM aims360.jobs WHERE synced_at > %s", scene.world.now - HOUR) == 250
    assert scene.rows("SELECT * FROM etl.compared") == []


@pytest.mark.parametrize("refuse", [(), ("ID", "jobID")])
@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
def test_what_no_watermark_can_tell_is_found_and_repaired(
    db: Connection, generation: Generation, refuse: tuple[str, ...]
) -> None:
    """A change that left modifiedDate alone, rows that came back-dated: found by a dry run, set right by repair."""
    scene = a_mirror(db, 250, generation)
    world = scene.world
    world.change(list(world.jobs())[100], touch=False, jobStatusText="behind the watermark")
    world.add(modifiedDate=world.now - 5 * DAY)
    world.add(modifiedDate=None)
    an_hour_later(scene)
    assert len({sentence.split(" ")[0].rstrip(":") for sentence in scene.differences()}) == 3
    scene.emulator.refuse = frozenset(name.lower() for name in refuse)
    before = scene.differences()
    assert found(scene.reconcile()) == (2, 1, 0)
    assert scene.differences() == before
    run = scene.reconcile(repair=True)
    assert (found(run), run.counts.repaired) == ((2, 1, 0), 3)
    assert scene.differences() == []
    assert found(scene.reconcile()) == (0, 0, 0)


def test_what_the_next_increment_brings_is_no_difference(db: Connection) -> None:
    """Jobs inside of its window are on their way."""
    scene = a_mirror(db)
    scene.world.add()
    scene.world.change(next(scene.world.jobs()), jobStatusText="changed just now")
    assert found(scene.reconcile()) == (0, 0, 0)
    scene.sync()
    assert scene.differences() == []


def test_ghosts_are_told_apart_and_removed_with_their_totals_kept(db: Connection) -> None:
    """Deleted before its date, deleted without one, and purged while nobody followed."""
    scene = a_mirror(db)
    world = scene.world
    early, vanished, late = list(world.jobs())[:3]
    world.change(vanished, purgeDateTime=None)
    world.change(late, purgeDateTime=world.now + HOUR)
    scene.sync()
    for job in (early, vanished):
        world.delete(job["jobID"])
    world.advance(3 * HOUR)
    before = scene.rows(TOTALS)
    run = scene.reconcile()
    counts = run.counts
    assert (counts.ghosts_purged, counts.ghosts_early, counts.ghosts_vanished, counts.repaired) == (1, 1, 1, 0)
    assert scene.one("SELECT ghosts_early FROM bi.runs WHERE run_id = %s", run.run_id) == 1
    assert scene.reconcile(repair=True).counts.repaired == 3
    assert scene.differences() == []
    assert scene.rows(TOTALS) == before
    reasons = scene.rows("SELECT reason, count(*) FROM aims360.purged_jobs GROUP BY reason ORDER BY reason")
    assert reasons == [("missing_at_source", 2), ("purged", 1)]


@pytest.mark.parametrize("purge", ["delete", "scrub", "keep"])
def test_a_job_that_was_missing_and_shows_again_is_loaded_again(db: Connection, purge: str) -> None:
    """Whatever became of it here: it was the source that had lost it."""
    scene = a_mirror(db, purge=purge)
    backup = scene.world.snapshot()
    scene.world.delete(next(scene.world.jobs()))
    scene.world.advance(HOUR)
    assert scene.reconcile(repair=True).counts.ghosts_early == 1
    assert found(scene.reconcile()) == (0, 0, 0)
    scene.world.restore(backup)
    run = scene.reconcile(repair=True)
    assert (run.counts.missing + run.counts.stale, run.counts.repaired) == (1, 1)
    assert scene.differences() == []
    assert scene.rows("SELECT * FROM aims360.purged_jobs") == []


def test_many_ghosts_are_not_removed_unasked(db: Connection) -> None:
    """More than a tenth of the mirror, or 20 jobs if that is more: told, and removed by force."""
    scene = a_mirror(db, 60)
    for job in list(scene.world.jobs())[:21]:
        scene.world.delete(job)
    run = scene.reconcile(repair=True)
    assert (run.counts.ghosts, run.counts.repaired) == (21, 0)
    assert any("--force" in note for note in run.notes)
    assert scene.one("SELECT notes LIKE '%%--force%%' FROM bi.runs WHERE run_id = %s", run.run_id)
    assert scene.one("SELECT count(*) FROM aims360.jobs") == 60
    assert scene.reconcile(repair=True, force=True).counts.repaired == 21
    assert scene.differences() == []


def hiding(scene: Scene, hidden: int, what: str) -> Callable[..., Any]:
    """A service that leaves rows out of its pages, of its answers by key too, or of its counts."""
    job_ids = {str(job["jobID"]) for job in list(scene.world.jobs())[:hidden]}

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        query = environ["QUERY_STRING"]
        if "createdDate%20lt" in query:
            return "200 OK", body if what != "no count" else body.replace(b'"@odata.count"', b'"count"')
        if "jobID%20eq" in query and what == "pages":
            return "200 OK", body
        page = json.loads(body)
        kept = [row for row in page["value"] if row["jobID"] not in job_ids]
        return "200 OK", json.dumps({**page, "value": kept}).encode()

    return behind(scene, answer)


def test_rows_that_the_source_counts_and_hides_are_no_ghosts(db: Connection) -> None:
    """Keys came fewer than were counted: nothing is deleted on such a word, even if asking by key says the same."""
    scene = a_mirror(db)
    run = scene.reconcile(hiding(scene, 3, "everywhere"), repair=True)
    assert (run.counts.ghosts, run.counts.repaired) == (3, 0)
    assert any("left alone" in note for note in run.notes)
    assert scene.differences() == []


def test_rows_that_show_when_asked_for_by_key_are_no_ghosts(db: Connection) -> None:
    """Left out of the pages, and there."""
    scene = a_mirror(db)
    run = scene.reconcile(hiding(scene, 3, "pages"), repair=True)
    assert (run.counts.ghosts, run.counts.repaired) == (0, 0)
    assert scene.differences() == []


def test_without_a_count_one_comparison_deletes_nothing(db: Connection) -> None:
    """By one comparison: it is said that another one decides, and that one may come a look-back later."""
    scene = a_mirror(db)
    scene.world.delete(next(scene.world.jobs()))
    for wait, repaired in ((0 * MINUTE, 0), (MINUTE, 0), (scene.source.look_back, 1)):
        scene.world.advance(wait)
        run = scene.reconcile(hiding(scene, 0, "no count"), repair=True)
        assert (run.counts.ghosts, run.counts.repaired) == (repaired, repaired)
        assert any("the source counts no rows" in note for note in run.notes) is not bool(repaired)


def test_a_job_made_while_keys_are_compared_is_no_ghost(db: Connection) -> None:
    """It came after its range had been passed."""
    scene = a_mirror(db, 250)
    before = len(scene.world)
    scene.emulator.between_pages = lambda world: world.add() if len(world) < before + 5 else None
    assert found(scene.reconcile(repair=True)) == (0, 0, 0)
    scene.emulator.between_pages = None
    scene.sync()
    assert scene.differences() == []


def test_a_source_that_shows_no_versions_is_compared_by_whole_rows(db: Connection) -> None:
    """Keys and dates alone wouldn't tell a change that left the date alone."""
    scene = a_mirror(db, 0, "2019-08")
    jobs = [scene.world.add(overrides={"@odata.etag": ABSENT}) for _ in range(5)]
    an_hour_later(scene)
    scene.world.change(jobs[2], touch=False, jobStatusText="changed", overrides={"@odata.etag": ABSENT})
    scene.world.add(overrides={"@odata.etag": ABSENT})
    an_hour_later(scene)
    scene.world.add(overrides={"@odata.etag": ABSENT})
    assert found(scene.reconcile()) == (0, 1, 0)
    scene.reconcile(repair=True)
    scene.sync()
    assert scene.differences() == []


def test_a_row_that_waits_in_rejects_is_neither_missing_nor_stale(db: Connection) -> None:
    """It can't be repaired, and is told elsewhere."""
    scene = a_mirror(db)
    scene.world.add(accountCode=22)
    an_hour_later(scene)
    assert found(scene.reconcile()) == (0, 0, 0)
    run = scene.reconcile(repair=True)
    assert (found(run), run.counts.ghosts) == ((0, 0, 0), 0)


def test_there_is_nothing_to_compare_before_the_first_sync(db: Connection) -> None:
    """It says what to run."""
    with pytest.raises(ConfigError, match="aims360-etl sync"):
        Scene(db, World(seed=2)).reconcile()


def test_a_select_that_is_refused_is_done_without(db: Connection) -> None:
    """Whole rows come instead."""
    scene = a_mirror(db, 150)
    scene.world.change(next(scene.world.jobs()), touch=False, jobStatusText="changed")
    an_hour_later(scene)

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        return (
            ("400 Bad Request", refuse_option("Select")) if "$select" in environ["QUERY_STRING"] else ("200 OK", body)
        )

    assert found(scene.reconcile(behind(scene, answer), repair=True)) == (0, 1, 0)
    assert scene.differences() == []


# -- deep passes -------------------------------------------------------------------------------------------------------


def test_a_sync_rereads_the_last_days_once_a_day(db: Connection) -> None:
    """A change that left modifiedDate alone is there a day later, counted as a repair; the interval is kept."""
    scene = a_mirror(db, reread=2 * DAY, reread_every=DAY)
    scene.world.change(next(scene.world.jobs()), touch=False, jobStatusText="behind the watermark")
    an_hour_later(scene)
    assert scene.differences() != []
    scene.world.advance(DAY)
    scene.world.add()
    run = scene.sync()
    assert (run.counts.stale, run.counts.repaired, run.kind) == (1, 1, "incremental")
    assert scene.differences() == []
    scene.emulator.reset_log()
    scene.sync()
    assert len(scene.emulator.requests) == 3
    scene.world.advance(DAY)
    scene.emulator.reset_log()
    scene.sync()
    assert len(scene.emulator.requests) > 3


def test_a_sync_compares_all_keys_once_a_week_and_repairs(db: Connection) -> None:
    """Ghosts, missing and stale rows of any age; one cron line is enough."""
    scene = a_mirror(db, reconcile_every=7 * DAY)
    world = scene.world
    world.delete(next(world.jobs()))
    world.add(modifiedDate=world.now - 5 * DAY)
    an_hour_later(scene)
    world.advance(6.5 * DAY)
    assert scene.sync().counts.differences == 0
    world.advance(DAY)
    run = scene.sync()
    assert (found(run), run.counts.repaired) == ((1, 0, 1), 2)
    assert scene.differences() == []
    due = scene.one("SELECT reconcile_due_at FROM etl.sources")
    assert due == world.now + 7 * DAY


def test_a_deep_pass_goes_on_from_its_own_cursor(db: Connection) -> None:
    """Ten minutes a run, after the increment: the next run goes on, and freshness never waits."""
    scene = a_mirror(db, 250, reconcile_every=DAY, concurrency=1)
    world = scene.world
    scene.emulator.page_size = 20
    world.change(list(world.jobs())[200], touch=False, jobStatusText="behind the watermark")
    an_hour_later(scene)
    world.advance(2 * DAY)
    scene.emulator.between_pages = lambda world: world.advance(2 * MINUTE)
    runs = 0
    while scene.differences():
        before = scene.rows("SELECT cursors FROM etl.scans WHERE lane = 'reconcile'")
        run = scene.sync()
        runs += 1
        assert run.verdict is Verdict.COMPLETE
        assert run.complete_through is not None
        assert world.now - run.complete_through < HOUR
        assert scene.rows("SELECT cursors FROM etl.scans WHERE lane = 'reconcile'") != before or runs > 1
    assert 1 < runs < 5
    scene.emulator.between_pages = None
    scene.sync()
    assert scene.rows("SELECT * FROM etl.scans") == []
    assert scene.rows("SELECT * FROM etl.compared") == []


def test_a_dry_run_leaves_an_open_deep_pass_alone(db: Connection) -> None:
    """What it has seen so far stays, and nothing is taken for a ghost."""
    scene = a_mirror(db, 250, reconcile_every=DAY, concurrency=1)
    scene.emulator.page_size = 20
    scene.world.advance(2 * DAY)
    scene.emulator.between_pages = lambda world: world.advance(2 * MINUTE)
    scene.sync()
    seen = scene.one("SELECT sum(cardinality(job_ids)) FROM etl.compared")
    assert 0 < seen < 250
    scene.emulator.between_pages = None
    scene.reconcile()
    assert scene.one("SELECT sum(cardinality(job_ids)) FROM etl.compared") == seen
    scene.sync()
    assert scene.rows("SELECT * FROM etl.compared") == []
    assert scene.differences() == []


def test_a_newer_release_has_its_rows_written_anew_by_the_weekly_pass(db: Connection) -> None:
    """flatten_version is behind: every row is written, once."""
    scene = a_mirror(db, reconcile_every=7 * DAY)
    scene.db.execute("UPDATE etl.sources SET flatten_version = 0")
    scene.world.advance(8 * DAY)
    run = scene.sync()
    assert run.counts.updated == 30
    assert scene.one("SELECT flatten_version FROM etl.sources") == FLATTEN_VERSION
    assert scene.sync().counts.updated == 0


# -- a source that was restored ----------------------------------------------------------------------------------------


def a_restored_source(db: Connection, **settings: Any) -> Scene:
    """Mirrored as it was an hour after the backup: jobs had come, changed, and been purged since; then it went back."""
    scene = a_mirror(db, **settings)
    world = scene.world
    first, second, *_ = world.jobs()
    backup = world.snapshot()
    world.advance(HOUR)
    world.change(first, jobStatusText="after the backup")
    world.delete(second["jobID"])
    for _ in range(3):
        world.add()
        world.advance(HOUR)
    scene.sync()
    scene.reconcile(repair=True)
    assert scene.differences() == []
    world.advance(HOUR)
    world.restore(backup)
    return scene


def is_told(run: Run) -> bool:
    """Whether the run says that the source went back."""
    return any("went back to an earlier state" in note for note in run.notes)


def test_a_quiet_restored_source_is_noticed_by_an_older_version(db: Connection) -> None:
    """The newest row is before the watermark, and a job is served older: said in the ledger, and followed at once."""
    scene = a_restored_source(db)
    run = scene.sync()
    assert is_told(run)
    assert scene.one("SELECT notes LIKE '%%went back%%' FROM bi.runs WHERE run_id = %s", run.run_id)
    assert (run.counts.ghosts, run.counts.repaired, run.counts.returned) == (3, 3, 1)
    assert scene.differences() == []
    assert not is_told(scene.sync())


def test_a_busy_restored_source_is_noticed_by_its_rowversions(db: Connection) -> None:
    """A row stamped later bears a lower one."""
    scene = a_restored_source(db)
    scene.world.add()
    run = scene.sync()
    assert is_told(run)
    assert scene.differences() == []
    scene.world.advance(HOUR)
    scene.world.add()
    assert not is_told(scene.sync())


def interrupt_the_following(scene: Scene) -> None:
    """A sync that notices a restore, and whose source dies in the midst of the scan that follows it."""
    scene.emulator.between_pages = lambda _: (
        scene.emulator.fail_next(*["503"] * 20)
        if scene.one("SELECT count(*) FROM etl.scans WHERE trusting AND done > 0")
        else None
    )
    with pytest.raises(Unreachable):
        scene.sync()
    scene.emulator.between_pages = None


def test_following_a_restore_goes_on_where_it_was_interrupted(db: Connection) -> None:
    """The source dies in the midst of the full scan: the next run ends it, and removes the ghosts."""
    scene = a_mirror(db, 450, concurrency=1)
    world = scene.world
    backup = world.snapshot()
    world.advance(HOUR)
    world.change_many(list(world.jobs())[:300], jobStatusText="after the backup")
    world.add()
    scene.sync()
    world.advance(HOUR)
    world.restore(backup)
    interrupt_the_following(scene)
    scene.sync()
    assert scene.differences() == []
    assert scene.one("SELECT count(*) FROM etl.scans") == 0


def test_what_was_too_young_to_be_a_ghost_is_looked_for_again(db: Connection) -> None:
    """A job made in the last minutes before the restore: its comparison comes after a look-back, not after a week."""
    scene = a_mirror(db, reconcile_every=7 * DAY)
    world = scene.world
    backup = world.snapshot()
    world.advance(HOUR)
    world.change(next(world.jobs()), jobStatusText="after the backup")
    world.advance(HOUR)
    world.add()
    scene.sync()
    world.advance(MINUTE)
    world.restore(backup)
    assert is_told(scene.sync())
    assert [text.split(" is ")[1] for text in scene.differences()] == ["a ghost"]
    world.advance(20 * MINUTE)
    scene.sync()
    assert scene.differences() == []


def test_deletes_and_crossed_commits_are_no_alarm(db: Connection) -> None:
    """The newest job is deleted; a change is committed late, with a lower rowversion; a date lies in the future."""
    scene = a_mirror(db)
    world = scene.world
    jobs = list(world.jobs())
    world.advance(HOUR)
    newest = world.add()
    scene.sync()
    world.delete(newest)
    assert not is_told(scene.sync())
    world.late(jobs[0], 10 * MINUTE, jobStatusText="late")
    world.advance(MINUTE)
    world.change(jobs[1], jobStatusText="in time")
    assert not is_told(scene.sync())
    world.advance(10 * MINUTE)
    assert not is_told(scene.sync())
    world.change(jobs[2], modifiedDate=world.now + 5 * DAY)
    assert not is_told(scene.sync())
    world.change(jobs[3], touch=False, jobStatusText="behind the watermark")
    world.advance(HOUR)
    world.add()
    assert not is_told(scene.sync())
    world.advance(HOUR)
    world.add()
    assert not is_told(scene.sync())


def test_a_restore_of_a_source_without_rowversions_is_noticed_by_dates(db: Connection) -> None:
    """Neither property nor etag."""
    world = World(seed=3, generation="2019-08")
    jobs = [world.add(overrides={"@odata.etag": ABSENT}) for _ in range(5)]
    scene = Scene(db, world, a_source(**SHALLOW))
    world.advance(HOUR)
    scene.sync()
    backup = world.snapshot()
    world.advance(HOUR)
    world.change(jobs[0], jobStatusText="after the backup", overrides={"@odata.etag": ABSENT})
    scene.sync()
    world.advance(HOUR)
    world.restore(backup)
    assert is_told(scene.sync())
    assert scene.differences() == []


# -- where keys can't be filtered on -----------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
def test_a_source_that_refuses_its_keys_is_read_by_time(db: Connection, generation: Generation) -> None:
    """Full scan and increments, rows on one tick, none dated; told once, and in the ledger."""
    world = World(seed=4, generation=generation)
    world.ties(350)
    world.advance(HOUR)
    for _ in range(150):
        world.advance(MINUTE)
        world.add()
    world.ties(120, modifiedDate=None)
    scene = Scene(db, world, a_source(**SHALLOW), refuse=("ID", "jobID"))
    run = scene.sync()
    assert (run.strategy, run.checks) == ("modifiedDate", ("count", "dates"))
    assert any("by slices of modifiedDate" in note for note in run.notes)
    assert scene.differences() == []
    assert scene.rows("SELECT strategy, checks FROM bi.runs") == [("modifiedDate", "count, dates")]
    world.advance(HOUR)
    world.ties(120)
    again = scene.sync()
    assert (again.counts.inserted, again.strategy, again.notes) == (120, "modifiedDate", ())
    assert scene.differences() == []


def test_a_key_that_can_be_asked_for_again_is_gone_by_again(db: Connection) -> None:
    """A full scan tries, and so does the first scan of the next day; until then increments keep to what is known."""
    scene = Scene(db, populated(300, seed=5, rate=0), a_source(**SHALLOW), refuse=("ID", "jobID"))
    scene.sync()
    scene.emulator.refuse = frozenset()
    scene.world.advance(23 * HOUR)
    assert scene.sync().strategy == "modifiedDate"
    scene.world.advance(HOUR)
    run = scene.sync()
    assert run.strategy == "ID"
    assert any("read by ID again" in note for note in run.notes)
    scene.emulator.refuse = frozenset({"id", "jobid"})
    assert scene.sync().strategy == "modifiedDate"
    scene.emulator.refuse = frozenset()
    assert scene.sync(full=True).strategy == "ID"
    assert scene.sync().strategy == "ID"


# -- what a second pair of eyes found ----------------------------------------------------------------------------------


def test_a_reject_that_was_mended_behind_the_watermark_is_found(db: Connection) -> None:
    """It waits among the rejects in the version that couldn't be read; the one that can is missing here.

    A sync would find it too, once it is the reject's turn to be asked for.
    """
    scene = a_mirror(db)
    job = scene.world.add(accountCode=22)
    an_hour_later(scene)
    db.execute("UPDATE etl.rejects SET runs_to_wait = 9")
    scene.world.change(job, touch=False, accountCode="AZ022")
    an_hour_later(scene)
    assert found(scene.reconcile()) == (1, 0, 0)
    assert scene.reconcile(repair=True).counts.repaired == 1
    assert scene.differences() == []
    assert scene.rows("SELECT * FROM etl.rejects") == []


def test_a_job_that_is_purged_while_keys_are_compared_is_no_difference(db: Connection) -> None:
    """Its date came after the comparison had begun."""
    scene = a_mirror(db, 60, concurrency=1)
    world = scene.world
    scene.emulator.page_size = 25
    world.change(list(world.jobs())[55], purgeDateTime=world.now + DAY + 3 * MINUTE)
    scene.sync()
    world.advance(DAY)
    world.add()
    scene.sync()
    scene.emulator.between_pages = lambda world: world.advance(2 * MINUTE)
    assert scene.reconcile().counts.differences == 0


def test_a_comparison_begun_before_a_restore_is_begun_anew(db: Connection) -> None:
    """The keys it had seen were another state's."""
    scene = a_mirror(db, 250, "2019-08", concurrency=1)
    world = scene.world
    scene.emulator.page_size = 20
    backup = world.snapshot()
    world.advance(HOUR)
    world.change(next(world.jobs()), jobStatusText="after the backup")
    for _ in range(10):
        world.add()
    world.advance(HOUR)
    scene.sync()
    scene.set(reconcile_every=7 * DAY)
    scene.emulator.between_pages = lambda world: world.advance(2 * MINUTE)
    scene.sync()
    assert scene.one("SELECT count(*) FROM etl.scans WHERE lane = 'reconcile'") == 1
    scene.emulator.between_pages = None
    world.advance(HOUR)
    world.restore(backup)
    for _ in range(3):
        scene.sync()
        world.advance(HOUR)
    assert scene.differences() == []


@pytest.mark.parametrize("refuse", [(), ("ID", "jobID")])
def test_a_deep_pass_ends_where_select_is_refused(db: Connection, refuse: tuple[str, ...]) -> None:
    """Each slice goes on with whole rows from where the last one stood."""
    scene = a_mirror(db, 250, reconcile_every=7 * DAY, concurrency=1)
    scene.emulator.page_size = 20
    scene.emulator.refuse = frozenset(name.lower() for name in refuse)
    scene.sync(full=True)
    scene.world.advance(8 * DAY)
    scene.emulator.between_pages = lambda world: world.advance(2 * MINUTE)

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        return (
            ("400 Bad Request", refuse_option("Select")) if "$select" in environ["QUERY_STRING"] else ("200 OK", body)
        )

    for _ in range(10):
        scene.sync(behind(scene, answer))
        if not scene.rows("SELECT * FROM etl.scans"):
            break
    assert scene.rows("SELECT * FROM etl.scans") == []


def test_what_cannot_be_asked_for_is_not_called_equal(db: Connection) -> None:
    """A ghost of a source that answers about no single job: nothing is removed, and the comparison is incomplete."""
    scene = a_mirror(db)
    scene.world.delete(next(scene.world.jobs()))
    scene.emulator.refuse = frozenset({"id", "jobid"})
    scene.emulator.options = ServiceOptions(has_plain_path=False)
    run = scene.reconcile(repair=True)
    assert (run.verdict, run.counts.ghosts) == (Verdict.INCOMPLETE, 0)
    assert any("1 jobs came no more" in note for note in run.notes)


def test_a_second_restore_while_the_first_is_followed_is_noticed(db: Connection) -> None:
    """The scan that was left open had read rows that went back once more."""
    scene = a_mirror(db, 450, concurrency=1)
    world = scene.world
    first = world.snapshot()
    world.advance(HOUR)
    world.change_many(list(world.jobs())[:300], jobStatusText="between the backups")
    second = world.snapshot()
    world.advance(HOUR)
    world.change_many(list(world.jobs())[:300], jobStatusText="after both")
    scene.sync()
    world.advance(HOUR)
    world.restore(second)
    interrupt_the_following(scene)
    world.restore(first)
    world.advance(HOUR)
    scene.sync()
    assert scene.differences() == []


@pytest.mark.parametrize("before", ["scrub", "keep"])
def test_a_stricter_mode_takes_ghosts_too(db: Connection, before: str) -> None:
    """What had been missing goes with the change of mode, and is whole again if it comes back."""
    scene = a_mirror(db, purge=before)
    world = scene.world
    backup = world.snapshot()
    world.delete(next(world.jobs()))
    world.advance(HOUR)
    scene.reconcile(repair=True)
    scene.set(purge="delete")
    scene.sync()
    assert scene.differences() == []
    world.restore(backup)
    world.advance(HOUR)
    scene.reconcile(repair=True)
    assert scene.differences() == []


def test_never_is_never(db: Connection) -> None:
    """A comparison that was scheduled before AIMS360_RECONCILE_EVERY became 0 isn't made."""
    scene = a_mirror(db, reconcile_every=7 * DAY)
    scene.set(reconcile_every=NEVER)
    scene.world.delete(next(scene.world.jobs()))
    an_hour_later(scene)
    scene.world.advance(8 * DAY)
    assert scene.sync().counts.repaired == 0


def test_many_new_jobs_do_not_hide_a_restore(db: Connection) -> None:
    """More jobs than one question holds were made since the backup: they are asked for until one is there."""
    scene = a_mirror(db)
    world = scene.world
    backup = world.snapshot()
    world.advance(HOUR)
    world.change(next(world.jobs()), jobStatusText="after the backup")
    world.advance(HOUR)
    world.ties(25)
    scene.sync()
    world.advance(HOUR)
    world.restore(backup)
    assert is_told(scene.sync())


def test_a_newest_row_that_went_is_doubted_once(db: Connection) -> None:
    """On a quiet source the same question isn't asked at every sync."""
    scene = a_mirror(db)
    scene.world.delete(list(scene.world.jobs())[-1]["jobID"])
    scene.sync()
    for _ in range(2):
        scene.emulator.reset_log()
        scene.world.advance(MINUTE)
        scene.sync()
        assert not any("jobID eq" in request.query.get("$filter", "") for request in scene.emulator.requests)


def test_an_old_row_without_a_readable_key_blocks_no_ghosts_removal(db: Connection) -> None:
    """The source counts it, and so do we."""
    world = World(seed=6)
    world.add(overrides={"jobID": 12})
    for _ in range(30):
        world.add()
    scene = Scene(db, world, a_source(**SHALLOW))
    world.advance(HOUR)
    scene.sync()
    world.advance(MINUTE)
    world.delete(list(world.jobs())[5])
    assert scene.reconcile(repair=True).counts.repaired == 1


def test_a_page_that_is_read_whole_is_one_page(db: Connection) -> None:
    """Not one that was compared and another that was loaded."""
    scene = a_mirror(db, 0, "2019-08")
    for _ in range(5):
        scene.world.add(overrides={"@odata.etag": ABSENT})
    an_hour_later(scene)
    assert scene.reconcile(repair=True).pages == 2
