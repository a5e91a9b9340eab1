"""Scenarios: rows there before, rows here before, what happens, a sync, rows here after."""

import json
import os
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from etl.config.secrets import PasswordGrant, Secret
from etl.errors import ConfigError, Locked, SignInFailed, Unreachable
from etl.load.upsert import _KNOWN
from etl.models import Verdict
from etl.pipeline.run_context import record
from etl.postgres.connection import Connection, connected
from etl.testing.chaos.oracle import differences
from etl.testing.emulator import ABSENT, FAULT_KINDS, Faults, Generation, World, populated
from tests.support.scene import BASE, Scene, a_source

_NAMES = {"orderby": "orderby", "filter": "filter_dates"}
_PAGES = "SELECT count(*) > 0 FROM etl.scans"
A_MOMENT = timedelta(milliseconds=700)


def churn(changes: int, seed: int = 1) -> Callable[[World], None]:
    """What the source does between any two page requests: so many rows change, and the next purge date comes."""
    rng = random.Random(seed)
    known: list[str] = []

    def live(world: World) -> None:
        world.advance(A_MOMENT)
        known.extend(() if known else sorted(str(job["jobID"]) for job in world.jobs()))
        for job_id in rng.sample(known, changes):
            if world.get(job_id) is not None:
                world.change(job_id, percentCompleted=rng.randint(0, 100), jobStatusText=f"changed at {world.now}")

    return live


def a_tie(world: World, rows: int, purges: int) -> None:
    """So many rows on one tick, of which some have purge dates a moment apart, from now on."""
    jobs = world.ties(rows)
    for number, job in enumerate(jobs[:: rows // purges]):
        world.change(job, modifiedDate=job["modifiedDate"], purgeDateTime=world.now + number * A_MOMENT)


def fetched(scene: Scene) -> list[str]:
    """The filters of the pages that were asked for, in order."""
    return [request.query.get("$filter", "") for request in scene.emulator.requests]


def test_a_first_sync_brings_every_job_with_its_documents(db: Connection) -> None:
    """The mirror equals the source, field by field, and the run says complete."""
    scene = Scene(db, populated(900, seed=1))
    run = scene.sync()
    assert scene.differences() == []
    assert (run.verdict, run.kind, run.counts.inserted) == (Verdict.COMPLETE, "full", 900)
    assert run.complete_through is not None
    assert scene.one("SELECT count(*) FROM aims360.job_documents") > 0
    assert scene.one("SELECT count(*) FROM aims360.job_status_history") == 900


@pytest.mark.parametrize(
    ("generation", "comparison", "next_link"),  # every pair of habits; `prove` has the rest
    [
        ("2019-06", "datetime", "always"),
        ("2019-06", "datetime2", "never"),
        ("2019-06", "datetime2", "foreign"),
        ("2019-08", "datetime2", "always"),
        ("2019-08", "datetime", "never"),
        ("2019-08", "datetime", "foreign"),
    ],
)
def test_nothing_is_lost_while_the_source_changes_under_the_scan(
    db: Connection, generation: Generation, comparison: str, next_link: str
) -> None:
    """Between any two pages 3 rows change and 1 is purged, 1,000 lie on one tick: equal when it is quiet."""
    world = World(seed=2, generation=generation)
    a_tie(world, rows=1_000, purges=100)
    scene = Scene(db, world, page_size=25, comparison=comparison, next_link=next_link)
    scene.emulator.between_pages = churn(3)
    for _ in range(4):
        scene.sync()
    scene.emulator.between_pages = None
    for _ in range(2):
        world.advance(timedelta(hours=2))
        scene.sync()
    assert scene.differences() == []
    assert 700 < len(world) < 950
    assert {request.headers["host"] for request in scene.emulator.requests} == {httpx.URL(BASE).host}
    assert not any("$skip" in request.query for request in scene.emulator.requests)


def tuples(db: Connection) -> list[tuple[Any, ...]]:
    """Every tuple of the mirror by its place and its transactions: a write of any kind shows."""
    tables = ("jobs", "job_documents", "job_status_history", "purged_jobs", "purged_daily")
    found: list[tuple[Any, ...]] = []
    for table in tables:
        statement = sql.SQL("SELECT {}, ctid::text, xmin::text, xmax::text FROM aims360.{} ORDER BY ctid")
        found += db.execute(statement.format(sql.Literal(table), sql.Identifier(table))).fetchall()
    return found


@pytest.mark.parametrize(
    ("file", "row_version", "expiry", "scope"),
    [
        ("jobs-2019-06.json", 533541, "2019-07-07 06:09:22.659386+00", "Private"),
        ("jobs-2019-08.json", 724714, "2019-09-19 14:56:59.647186+00", "Public"),
    ],
)
def test_the_documented_samples_load_field_by_field(
    db: Connection, samples: Path, file: str, row_version: int, expiry: str, scope: str
) -> None:
    """Every property of a documented payload is in its column, the rowversion of the second out of its etag."""
    rows = json.loads((samples / file).read_text())["value"]
    scene = Scene(db, World.serving(rows, now=datetime(2019, 8, 21, tzinfo=UTC)), a_source(purge="keep"))
    scene.sync()
    assert list(differences(db, {rows[0]["jobID"]: rows[0]})) == []
    [job] = scene.rows("SELECT row_version, can_rerun, publish_link_access_scope FROM aims360.jobs")
    assert job == (row_version, True, scope)
    [document] = scene.rows("SELECT position, size_in_mb::text, expiry_date::text, type FROM aims360.job_documents")
    assert document == (0, "0.0", expiry, ".xlsx")


def test_a_second_sync_of_an_unchanged_source_writes_nothing(db: Connection) -> None:
    """No tuple is written, no more requests are made than the window has pages and 3; completeness moves on."""
    world = World(seed=3)
    world.ties(250)
    scene = Scene(db, world)
    first = scene.sync()
    before = tuples(db)
    world.advance(timedelta(minutes=5))
    scene.emulator.reset_log()
    second = scene.sync()
    assert tuples(db) == before
    assert len(scene.emulator.requests) <= 3 + 3
    assert (second.counts.written, second.counts.unchanged) == (0, 250)
    assert first.complete_through is not None
    assert second.complete_through == first.complete_through + timedelta(minutes=5)
    assert second.watermark == first.watermark


def test_a_large_first_scan_is_read_in_key_ranges_side_by_side(db: Connection) -> None:
    """2,500 jobs are split into ranges, with ID and without, and every row comes once."""
    generations: tuple[Generation, ...] = ("2019-06", "2019-08")
    for generation in generations:
        source = a_source(name=generation)
        scene = Scene(db, populated(2_500, seed=4, rate=0, generation=generation), source)
        run = scene.sync()
        assert run.counts.inserted == 2_500
        assert run.counts.unchanged == 0
        assert sum(" le " in text for text in fetched(scene)) > 3


def test_a_source_that_is_far_away_is_read_side_by_side_from_its_first_page_on(db: Connection) -> None:
    """Its answers take a tenth of a second: to split the rest of the range nobody has to wait for the loader."""
    scene = Scene(db, populated(1_500, seed=4, rate=0))

    def far_away(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        scene.world.advance(timedelta(seconds=0.1))
        return scene.emulator(environ, start_response)

    assert scene.sync(far_away).counts.inserted == 1_500
    assert [" le " in text for text in fetched(scene)[:4]] == [False, False, False, True]  # newest, highest, first page


def test_late_commits_are_found_by_the_look_back(db: Connection) -> None:
    """A change that is stamped before a scan and committed after it comes with the next one."""
    world = World(seed=5)
    jobs = world.ties(10)
    scene = Scene(db, world)
    world.late(jobs[3], timedelta(seconds=60), jobStatusText="late")
    world.advance(timedelta(seconds=30))
    world.change(jobs[4], jobStatusText="soon")
    scene.sync()
    world.advance(timedelta(seconds=60))
    scene.sync()
    assert scene.differences() == []


def test_a_job_whose_rowversion_went_down_is_refused_and_counted(db: Connection) -> None:
    """The mirror holds version 12, the source shows version 9: still 12, and the run says so."""
    world = World(seed=6)
    job = world.add(rowversion=12)
    scene = Scene(db, world)
    scene.sync()
    world.change(job, rowversion=9, jobStatusText="older")
    run = scene.sync()
    assert run.counts.refused == 1
    assert scene.one("SELECT row_version FROM aims360.jobs") == 12


def test_a_full_sync_takes_the_sources_word_over_old_rows(db: Connection) -> None:
    """A row went back to an older version, and nothing tells of a restore: `sync --full` follows it."""
    world = World(seed=7)
    job = world.add(jobStatusText="before")
    world.add()
    backup = world.snapshot()
    world.advance(timedelta(minutes=1))
    world.change(job, jobStatusText="after")
    scene = Scene(db, world)
    scene.sync()
    world.restore(backup)
    world.version += 2
    world.advance(timedelta(hours=1))
    world.add()
    assert scene.sync().counts.updated == 0
    assert scene.sync(full=True).counts.updated == 1
    assert scene.differences() == []


def test_a_rewrite_writes_every_row_anew_and_no_history(db: Connection) -> None:
    """`sync --full --rewrite` is for a release that reads more: rows are written, versions are the same."""
    scene = Scene(db, populated(50, seed=8, rate=0))
    scene.sync()
    run = scene.sync(full=True, rewrite=True)
    assert run.counts.updated == 50
    assert scene.one("SELECT count(*) FROM aims360.job_status_history") == 50
    assert scene.differences() == []


def test_documents_are_replaced_as_a_set(db: Connection) -> None:
    """A document that is gone from the list is gone from the table."""
    world = World(seed=9)
    three = [{"documentName": f"{n}.xlsx", "DownloadLink": f"https://x/{n}", "SizeInMB": n} for n in range(3)]
    job = world.add(response=json.dumps(three), responseType="Publishlink")
    scene = Scene(db, world)
    scene.sync()
    world.advance(timedelta(seconds=1))
    world.change(job, response=json.dumps(three[2:]))
    scene.sync()
    assert scene.rows("SELECT position, document_name FROM aims360.job_documents") == [(0, "2.xlsx")]


def test_a_source_without_rowversions_is_followed_by_dates_and_contents(db: Connection) -> None:
    """Neither property nor etag: a later date is taken, an equal one if the contents differ, the same is left alone."""
    world = World(seed=10, generation="2019-08")
    job = world.add(overrides={"@odata.etag": ABSENT})
    other = world.add(overrides={"@odata.etag": ABSENT})
    scene = Scene(db, world)
    scene.sync()
    before = tuples(db)
    assert (run := scene.sync()).counts.unversioned == 2
    assert run.counts.unchanged == 2
    assert tuples(db) == before
    world.change(job, touch=False, jobStatusText="changed without a new date", overrides={"@odata.etag": ABSENT})
    world.advance(timedelta(seconds=1))
    world.change(other, jobStatusText="changed", overrides={"@odata.etag": ABSENT})
    assert scene.sync().counts.updated == 2
    assert scene.differences() == []


def test_a_row_from_the_future_does_not_blind_the_mirror(db: Connection) -> None:
    """A job dated 2099 is mirrored, and so is what comes after it."""
    world = World(seed=11)
    world.add(modifiedDate=datetime(2099, 1, 1, tzinfo=UTC))
    scene = Scene(db, world)
    scene.sync()
    world.advance(timedelta(hours=1))
    world.add()
    scene.sync()
    assert scene.differences() == []


def test_an_empty_source_is_a_complete_mirror_of_nothing(db: Connection) -> None:
    """No jobs yet: the run succeeds, and the jobs that come are found."""
    world = World(seed=12)
    scene = Scene(db, world)
    assert scene.sync().verdict is Verdict.COMPLETE
    world.add()
    scene.sync()
    assert scene.differences() == []


@pytest.mark.parametrize("option", ["orderby", "filter"])
def test_what_a_server_ignores_it_is_not_asked_for_again(db: Connection, option: str) -> None:
    """A 200 that doesn't keep to $orderby or $filter is told with what was asked, and all is read in another way."""
    # Without an order asked for the emulator's rows come by ID, and jobID is what orders this scan.
    world = populated(300, seed=13, rate=0, generation="2019-08")
    scene = Scene(db, world)
    scene.sync()
    world.advance(timedelta(days=1))
    world.add()
    scene.emulator.ignore = frozenset({option})
    run = scene.sync(full=option == "orderby")
    assert re.search(r"ignores \$(orderby|filter).*asked for \[", run.notes[0])
    assert scene.differences() == []
    refused = scene.rows("SELECT capabilities -> %s ->> 'support' FROM etl.sources", _NAMES[option])
    assert refused == [("no",)]


def test_an_unreadable_row_waits_in_rejects_and_leaves_when_it_loads(db: Connection) -> None:
    """One wrong type doesn't hold up its page; the next good version takes the reject away."""
    world = World(seed=14)
    world.ties(3)
    bad = world.add(accountCode=22)
    scene = Scene(db, world)
    run = scene.sync()
    assert (run.verdict, run.counts.inserted, run.counts.rejected) == (Verdict.COMPLETE_WITH_REJECTS, 3, 1)
    [(job_id, reason)] = scene.rows("SELECT job_id, reason FROM etl.rejects")
    assert job_id == bad["jobID"]
    assert "accountCode" in reason
    world.advance(timedelta(seconds=1))
    world.change(bad, accountCode="AZ022")
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.rows("SELECT * FROM etl.rejects") == []
    assert scene.differences() == []


def test_unknown_properties_are_kept_and_told_once(db: Connection) -> None:
    """What the source adds one day is in `extra`, with a note in the first run that meets it."""
    world = World(seed=15)
    world.add(priority="high")
    scene = Scene(db, world)
    assert any("priority" in note for note in scene.sync().notes)
    assert scene.one("SELECT extra FROM aims360.jobs") == {"priority": "high"}
    world.advance(timedelta(seconds=1))
    world.add(priority="low")
    assert scene.sync().notes == ()


def test_another_clients_jobs_stop_the_run_before_it_writes(db: Connection) -> None:
    """The base URL points at another account: exit code 2, unless it is said that the source moved."""
    world = World(seed=16)
    world.add(clientID="11111111-0000-0000-0000-000000000000")
    scene = Scene(db, world)
    scene.sync()
    world.advance(timedelta(seconds=1))
    world.add(clientID="22222222-0000-0000-0000-000000000000")
    scene.set(base_url=BASE + "/moved", look_back=timedelta(minutes=1))
    all_but_the_failure = "SELECT to_jsonb(s) - 'failures' - 'not_before' FROM etl.sources AS s"
    known = scene.rows(all_but_the_failure)
    with pytest.raises(ConfigError, match="--same-source"):
        scene.sync()
    assert scene.one("SELECT count(*) FROM aims360.jobs") == 1
    assert scene.rows(all_but_the_failure) == known
    assert scene.sync(same_source=True).counts.inserted == 1


def test_the_second_of_two_syncs_is_told_who_holds_the_source(db: Connection, url: str) -> None:
    """One writer a source: the other run ends at once with exit code 3, and leaves no row in the ledger."""
    scene = Scene(db, World(seed=17))
    with connected(url) as other, record(other, scene.source, "incremental", scene.clock) as run:
        with pytest.raises(Locked, match=rf"process {os.getpid()} \(run {run.run_id}, since"):
            scene.sync()
        assert scene.one("SELECT count(*) FROM etl.runs") == 1
        # A row that a killed run left behind misleads nobody.
        scene.db.execute("UPDATE etl.runs SET pid = 1")
        with pytest.raises(Locked, match=rf"process {os.getpid()}; nothing was done"):
            scene.sync()
    assert scene.sync().verdict is Verdict.COMPLETE


@pytest.mark.parametrize("kind", sorted(FAULT_KINDS))
def test_every_kind_of_fault_is_overcome(db: Connection, kind: str) -> None:
    """Each fault at the first, second and third request: retried, and the mirror is equal."""
    source = a_source(credentials=PasswordGrant("client", Secret("secret"), "operator@example.com", Secret("password")))
    scene = Scene(db, populated(250, seed=18, rate=0), source)
    scene.emulator.fail_next(kind, kind if kind != "expired-token" else "", "", kind)
    scene.sync()
    assert scene.differences() == []


def test_nothing_is_asked_inside_a_retry_after_window(db: Connection) -> None:
    """A source that throttles is left alone for as long as it says, in seconds or until a date."""
    scene = Scene(db, populated(2_500, seed=19, rate=0), a_source(concurrency=1))
    scene.emulator.set_faults(Faults(rate=0.3, kinds=("429-seconds", "429-date"), seed=3))
    scene.sync()
    log = scene.emulator.requests
    throttled = [(this, after) for this, after in pairwise(log) if this.status == 429]
    assert len(throttled) > 5
    assert all(after.time >= this.time + timedelta(seconds=2) for this, after in throttled)
    scene.emulator.set_faults(Faults())
    scene.sync()
    assert scene.differences() == []


def test_a_failed_run_is_in_the_ledger_with_its_reason_and_without_secrets(db: Connection) -> None:
    """A dead token: the run failed, the error says what to do, and the token is nowhere."""
    scene = Scene(db, World(seed=20), a_source(credentials=Secret("very-secret-token")))
    with pytest.raises(SignInFailed, match="AIMS360_TOKEN"):
        scene.sync()
    [(outcome, verdict, error)] = scene.rows("SELECT outcome, verdict, error FROM etl.runs")
    assert (outcome, verdict) == ("failed", "incomplete")
    assert "AIMS360_TOKEN" in error
    assert "very-secret-token" not in error


def test_the_history_keeps_every_version_seen_with_its_bounds(db: Connection) -> None:
    """Each version seen has a row; between complete_through before and its own sight it came to be."""
    world = World(seed=21)
    job = world.add(jobStatus="Queued")
    scene = Scene(db, world)
    first = scene.sync()
    world.advance(timedelta(minutes=2))
    world.change(job, jobStatus="Completed")
    scene.sync()
    rows = scene.rows(
        "SELECT job_status, not_seen_before, seen_at >= modified_date - interval '1 second' "
        "FROM aims360.job_status_history ORDER BY history_id"
    )
    assert rows == [("Queued", None, True), ("Completed", first.complete_through, True)]


def test_keys_of_another_form_are_held_against_the_sources_count(db: Connection) -> None:
    """jobIDs that can't be ordered here: all come, and the run counts at the end."""
    world = World(seed=22, generation="2019-08")
    for number in range(250):
        world.add(jobID=f"Job_{number:04d}")
    scene = Scene(db, world)
    assert scene.sync().counts.inserted == 250
    assert any(request.query.get("$count") == "true" for request in scene.emulator.requests)
    assert scene.differences() == []


def test_an_interrupted_scan_goes_on_as_it_stands(db: Connection) -> None:
    """The source dies in the midst: the next run reads the rest under the old probe, then what changed since."""
    world = populated(900, seed=23, rate=0)
    scene = Scene(db, world, a_source(concurrency=1))
    scene.emulator.between_pages = lambda _: (
        scene.emulator.fail_next(*["503"] * 20) if len(scene.emulator.requests) == 6 else None
    )
    with pytest.raises(Unreachable, match="nothing is lost"):
        scene.sync()
    scene.emulator.between_pages = None
    kept = scene.one("SELECT count(*) FROM aims360.jobs")
    assert 0 < kept < 900
    opened = scene.one("SELECT as_of FROM etl.scans")
    world.advance(timedelta(minutes=1))
    run = scene.sync()
    assert run.kind == "full"
    assert run.counts.inserted == len(world) - kept
    assert run.complete_through is not None
    assert run.complete_through > opened
    assert scene.rows("SELECT * FROM etl.scans") == []
    assert scene.differences() == []


def test_an_unreadable_date_does_not_hold_up_increments(db: Connection) -> None:
    """The row waits in rejects; the next runs go on."""
    world = World(seed=24)
    world.ties(2)
    scene = Scene(db, world)
    scene.sync()
    world.advance(timedelta(seconds=1))
    world.add(overrides={"modifiedDate": "10000-01-01T00:00:00Z"})
    assert scene.sync().verdict is Verdict.COMPLETE_WITH_REJECTS
    assert scene.sync().verdict is Verdict.COMPLETE_WITH_REJECTS


def test_odd_json_without_a_rowversion_is_the_same_the_next_time(db: Connection) -> None:
    """A text in JSON twice over, a number that jsonb spells in full: read back equal, and not written again."""
    world = World(seed=25, generation="2019-08")
    for response in (json.dumps(json.dumps("text")), '{"a": 1e300}', '{"b": [1, 2.0, null]}'):
        world.add(response=response, overrides={"@odata.etag": ABSENT})
    scene = Scene(db, world)
    scene.sync()
    before = tuples(db)
    assert scene.sync().counts.unchanged == 3
    assert tuples(db) == before


def test_a_full_sync_after_a_restore_begins_anew(db: Connection) -> None:
    """A full scan left open before the restore isn't gone on with: its cursor has passed rows that went back."""
    world = World(seed=26)
    jobs = world.ties(400)
    scene = Scene(db, world, a_source(concurrency=1))
    scene.sync()
    world.advance(timedelta(hours=1))
    backup = world.snapshot()
    world.advance(timedelta(hours=1))
    world.change_many(jobs[:50], jobStatusText="after the backup")
    world.advance(timedelta(hours=1))
    scene.emulator.between_pages = lambda _: scene.emulator.fail_next(*["503"] * 20) if scene.one(_PAGES) else None
    with pytest.raises(Unreachable):
        scene.sync(full=True)
    scene.emulator.between_pages = None
    scene.emulator.set_faults(Faults())
    world.restore(backup)
    world.advance(timedelta(hours=1))
    scene.sync(full=True)
    assert scene.differences() == []


def test_a_date_header_of_the_far_future_is_not_believed(db: Connection) -> None:
    """It would move the watermark beyond all that comes."""
    world = World(seed=27)
    world.add(modifiedDate=datetime(2099, 1, 1, tzinfo=UTC))
    scene = Scene(db, world)

    def wrong(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        def started(status: str, headers: list[tuple[str, str]]) -> None:
            kept = [(name, value) for name, value in headers if name != "Date"]
            start_response(status, [*kept, ("Date", "Fri, 01 Jan 2100 00:00:00 GMT")])

        return scene.emulator(environ, started)

    run = scene.sync(wrong)
    assert run.complete_through == world.now
    world.advance(timedelta(hours=1))
    world.add()
    scene.sync()
    assert scene.differences() == []


def test_a_dropped_scan_is_begun_anew_as_what_it_was(db: Connection) -> None:
    """A full scan that goes by ID is left open, and then no row shows ID: all rows are read again, by jobID."""
    world = populated(900, seed=28, rate=0)
    scene = Scene(db, world, a_source(concurrency=1))
    scene.sync()
    world.change_many(list(world.jobs()), touch=False, jobStatusText="changed behind the watermark")
    scene.emulator.between_pages = lambda _: scene.emulator.fail_next(*["503"] * 20) if scene.one(_PAGES) else None
    with pytest.raises(Unreachable):
        scene.sync(full=True)
    scene.emulator.between_pages = None
    scene.emulator.set_faults(Faults())
    newer = World.serving([without_id(world.payload(job)) for job in world.jobs()], now=world.now)
    scene.emulator.world = scene.world = newer
    scene.emulator.fail_next("", *["503"] * 20)
    with pytest.raises(Unreachable):  # what was wanted isn't forgotten when the new scan doesn't come to its first page
        scene.sync()
    scene.emulator.set_faults(Faults())
    assert scene.sync().kind == "full"
    assert [name for name in scene.differences() if ": id is" not in name] == []


def without_id(payload: dict[str, Any]) -> dict[str, Any]:
    """A row as newer responses show it."""
    return {name: value for name, value in payload.items() if name != "ID"}


def test_one_unreadable_key_does_not_throw_a_scan_away(db: Connection) -> None:
    """The newest row's ID is a text: the open scan goes on by ID, and the row waits in rejects."""
    world = populated(900, seed=29, rate=0)
    scene = Scene(db, world, a_source(concurrency=1))
    scene.emulator.between_pages = lambda _: (
        scene.emulator.fail_next(*["503"] * 20) if len(scene.emulator.requests) == 6 else None
    )
    with pytest.raises(Unreachable):
        scene.sync()
    scene.emulator.between_pages = None
    kept = scene.one("SELECT count(*) FROM aims360.jobs")
    world.advance(timedelta(seconds=1))
    world.change(list(world.jobs())[-20], overrides={"ID": "x"})
    scene.emulator.reset_log()
    assert scene.sync().counts.inserted == 900 - kept - 1
    assert any("ID gt" in text and "modifiedDate" not in text for text in fetched(scene))


def test_a_full_scan_sets_the_watermark_back_after_a_restore(db: Connection) -> None:
    """An increment never does, nor does complete_through ever fall."""
    world = World(seed=30)
    world.ties(3)
    scene = Scene(db, world)
    backup = world.snapshot()
    world.advance(timedelta(hours=1))
    world.ties(3)
    first = scene.sync()
    world.restore(backup)
    world.advance(timedelta(hours=1))
    assert scene.sync().watermark == first.watermark
    again = scene.sync(full=True)
    assert again.watermark is not None
    assert first.watermark is not None
    assert again.watermark == first.watermark - timedelta(hours=1)
    assert again.complete_through == world.now


def test_a_reject_is_tried_again_and_leaves_when_it_loads(db: Connection) -> None:
    """From its raw row, by a release that reads more; the source needs not be asked."""
    world = World(seed=31)
    job = world.add(overrides={"accountCode": 22})
    world.advance(timedelta(hours=1))
    world.add()
    scene = Scene(db, world)
    assert scene.sync().counts.rejected == 1
    assert scene.one("SELECT job_id FROM etl.rejects") == job["jobID"]
    assert scene.sync().counts.inserted == 0
    raw = """replace(raw, '"accountCode":22', '"accountCode":"AZ022"')"""
    scene.db.execute(f"UPDATE etl.rejects SET flatten_version = 1, raw = {raw}".encode())  # noqa: S608
    world.advance(timedelta(hours=1))
    run = scene.sync()
    assert (run.counts.inserted, run.verdict) == (1, Verdict.COMPLETE)
    assert scene.rows("SELECT * FROM etl.rejects") == []
    assert scene.one("SELECT account_code FROM aims360.jobs WHERE job_id = %s", job["jobID"]) == "AZ022"


@pytest.mark.parametrize("purge_date", ["2026-03-05T00:00:00Z", "at no time"])
def test_a_reject_leaves_when_the_source_shows_it_no_more(db: Connection, purge_date: str) -> None:
    """Asked twice, whatever its purge date was; the run that forgets it names it."""
    world = World(seed=32)
    job = world.add(overrides={"accountCode": 22, "purgeDateTime": purge_date})
    world.add(purgeDateTime=None)
    scene = Scene(db, world)
    scene.sync()
    world.delete(job)
    for asked in (0, 1, 1):
        assert scene.one("SELECT times_missing FROM etl.rejects") == asked
        world.advance(timedelta(days=12))
        run = scene.sync()
    assert scene.rows("SELECT * FROM etl.rejects") == []
    assert [str(job["jobID"]) in note for note in run.notes] == [True]


def test_a_newer_readable_version_takes_the_rejects_place(db: Connection) -> None:
    """The job was mended at the source."""
    world = World(seed=33)
    job = world.add(overrides={"accountCode": 22})
    scene = Scene(db, world)
    scene.sync()
    world.advance(timedelta(seconds=1))
    world.change(job, accountCode="AZ022")
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.rows("SELECT * FROM etl.rejects") == []
    assert scene.differences() == []


def test_rows_without_a_version_on_either_side_are_judged_by_date_and_counted(db: Connection) -> None:
    """New ones are not judged; the same ones are."""
    world = World(seed=34, generation="2019-08")
    job = world.add(overrides={"@odata.etag": ABSENT})
    world.add()
    scene = Scene(db, world)
    assert scene.sync().counts.unversioned == 0
    assert scene.sync().counts.unversioned == 1
    world.advance(timedelta(seconds=1))
    world.change(job, jobStatusText="with a version from now on")
    run = scene.sync()
    assert (run.counts.unversioned, run.counts.updated) == (1, 1)
    assert scene.differences() == []


def test_what_was_rolled_back_is_not_counted(db: Connection, url: str) -> None:
    """The cursor can't be saved, and the page's rows go back with it: the ledger says that nothing came."""
    world = World(seed=37)
    world.ties(50)
    scene = Scene(db, world)
    db.execute("SET lock_timeout = '50ms'")
    with connected(url) as other, other.transaction():
        other.execute("LOCK TABLE etl.scans IN SHARE MODE")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            scene.sync()
    assert scene.one("SELECT count(*) FROM aims360.jobs") == 0
    assert scene.rows("SELECT outcome, verdict, inserted, pages FROM etl.runs") == [("failed", "incomplete", 0, 0)]
    assert scene.sync().counts.inserted == 50


def test_an_older_releases_rows_are_told_until_they_are_written_anew(db: Connection) -> None:
    """flatten_version is the program's that wrote all rows last."""
    world = World(seed=35)
    world.ties(3)
    scene = Scene(db, world)
    assert scene.sync().notes == ()
    scene.db.execute("UPDATE etl.sources SET flatten_version = 0")
    assert any("--full --rewrite" in note for note in scene.sync().notes)
    assert any("--full --rewrite" in note for note in scene.sync(full=True).notes)
    assert scene.sync(full=True, rewrite=True).notes == ()
    assert scene.sync().notes == ()


def test_a_young_mirror_is_asked_by_its_key(db: Connection) -> None:
    """Without statistics too: any other way would go through all jobs of the source, for each row of a page even."""
    db.execute("SET enable_seqscan = off")
    given = {"source_id": 1, "job_ids": "{a,b}"}
    of_the_foreign_key = "SELECT FROM aims360.jobs WHERE source_id = %(source_id)s AND job_id = 'a' FOR KEY SHARE"
    plans = [
        "\n".join(str(row[0]) for row in db.execute(f"EXPLAIN {query}", given).fetchall())
        for query in (_KNOWN, of_the_foreign_key)
    ]
    assert all("jobs_pkey" in plan for plan in plans)
    assert "purged_jobs_pkey" in plans[0]
    db.execute("RESET enable_seqscan")
