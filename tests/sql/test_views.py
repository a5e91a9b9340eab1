"""The views of `bi`: their promise, what they say of jobs, and how little they read for it."""

import json
import threading
import tomllib
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from etl.errors import DatabaseError
from etl.models import CAPABILITIES
from etl.postgres import daily_aggregates, migrations
from etl.postgres.connection import Connection, connect
from etl.testing.chaos.invariants import Laws
from etl.testing.emulator import World, populated
from etl.testing.emulator.service_options import ServiceOptions
from tests.support.paths import ROOT
from tests.support.rounds import IS_LONG
from tests.support.scene import Scene, a_source
from tests.tools import write_docs

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_names_and_types_are_those_of_the_contract(db: Connection) -> None:
    """What others build on changes by growing alone: a new column is added to the file, and none is taken away."""
    assert write_docs.contract(db) == write_docs.CONTRACT.read_text(encoding="utf-8")


def test_the_contract_tells_a_column_that_changes_its_type(db: Connection) -> None:
    """One column of one view becomes another type, and that line alone isn't what was promised."""
    with db.transaction(force_rollback=True):
        db.execute("ALTER VIEW bi.job_links RENAME TO before")
        db.execute("ALTER VIEW bi.before SET SCHEMA etl")
        db.execute("CREATE VIEW bi.job_links AS SELECT * FROM etl.before")
        promised = write_docs.CONTRACT.read_text(encoding="utf-8")
        assert write_docs.contract(db) == promised
        db.execute("DROP VIEW bi.job_links")
        db.execute("""
            CREATE VIEW bi.job_links AS
            SELECT source, job_id, account_code, kind, position::bigint, document_name, link, access_scope,
                   available_until_utc
            FROM etl.before
        """)
        found = write_docs.contract(db)
    assert set(found.splitlines()) ^ set(promised.splitlines()) == {
        "job_links position integer",
        "job_links position bigint",
    }


def test_no_text_is_of_a_column_that_is_not_there() -> None:
    """sql/columns.toml speaks of the contract's columns; what all views share is used by one of them at least."""
    texts = tomllib.loads((ROOT / "sql" / "columns.toml").read_text(encoding="utf-8"))
    columns = {tuple(line.split()[:2]) for line in write_docs.CONTRACT.read_text(encoding="utf-8").splitlines()}
    own = {(view, name) for view in texts if view != "every" for name in texts[view] if "{bound}" not in name}
    assert own - columns == set()
    assert set(texts["every"]) - {name for view, name in columns - own} == set()


def test_a_view_of_ones_own_in_bi_is_left_alone(url: str, db: Connection) -> None:
    """Nobody should make one there; but where somebody did, an upgrade works all the same."""
    db.execute("CREATE VIEW bi.mine AS SELECT 1 AS n")
    try:
        db.execute("UPDATE etl.definitions SET digest = 'of another release'")
        migrations.migrate(url)
    finally:
        db.execute("DROP VIEW bi.mine")


def test_a_view_that_would_lose_a_column_stops_the_upgrade_in_a_line(empty_database: str) -> None:
    """Postgres replaces a view only by one that has grown: what it refuses is said, and nothing was changed."""
    migrations.migrate(empty_database)
    with connect(empty_database) as db:
        db.execute("DROP VIEW bi.job_links")
        db.execute("CREATE VIEW bi.job_links AS SELECT 1 AS source, 2 AS another")
        db.execute("UPDATE etl.definitions SET digest = 'of another release'")
        with pytest.raises(DatabaseError, match=r"can't migrate: cannot change .*; nothing was changed"):
            migrations.migrate(empty_database)
        assert db.execute("SELECT digest FROM etl.definitions").fetchone() == ("of another release",)


def test_the_page_of_views_is_what_the_database_says(db: Connection) -> None:
    """docs/views.md and the comments that BI tools show are one text."""
    assert write_docs.page(db) == write_docs.PAGE.read_text(encoding="utf-8")


def test_a_job_is_stuck_by_what_the_mirror_last_knew(db: Connection) -> None:
    """Open and unchanged for an hour when the mirror was last complete; a mirror that isn't fed calls none stuck."""
    world = World(seed=1)
    names = {}
    for status, age in (
        ("Inprogress", 90),
        ("Queued", 90),
        ("Inprogress", 30),
        ("Completed", 90),
        ("Paused", 90),
        (None, 90),
    ):
        job = world.add(jobStatus=status, modifiedDate=world.now - timedelta(minutes=age))
        names[job["jobID"]] = (status, age)
    scene = Scene(db, world)
    scene.sync()
    stuck = [names[row[0]] for row in scene.rows("SELECT job_id FROM bi.jobs WHERE is_stuck ORDER BY row_version")]
    assert stuck == [("Inprogress", 90), ("Queued", 90)]
    assert scene.rows(
        "SELECT count(*) FILTER (WHERE is_open), count(*) FILTER (WHERE is_open IS NULL) FROM bi.jobs"
    ) == [(3, 0)]
    world.advance(HOUR)
    assert scene.one("SELECT count(*) FROM bi.jobs WHERE is_stuck") == 2
    scene.sync()
    assert scene.one("SELECT count(*) FROM bi.jobs WHERE is_stuck") == 3


@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
def test_each_run_of_a_job_is_told_whether_the_source_counts_them_or_not(db: Connection, generation: Any) -> None:
    """It failed, was run again and went well: two attempts with their own times, and no queue time for either."""
    world = World(seed=1, generation=generation)
    start = world.now
    job = world.add(
        createdDate=start - HOUR,
        startDate=start - HOUR / 2,
        completedDate=start,
        jobStatus="Failed",
        numberOfAttempts=0,
    )
    once = world.add(createdDate=start - HOUR, startDate=start - HOUR / 2, completedDate=start, numberOfAttempts=0)
    scene = Scene(db, world)
    scene.sync()
    assert scene.one("SELECT bool_and(queued_seconds = 1800) FROM bi.jobs")
    world.advance(HOUR)
    world.change(job, jobStatus="Queued", startDate=None, completedDate=None, numberOfAttempts=1)
    scene.sync()
    began = world.now
    world.advance(timedelta(minutes=5))
    world.change(job, jobStatus="Completed", startDate=began, completedDate=world.now)
    scene.sync()
    attempts = scene.rows("""
        SELECT job_id, attempt, is_last, job_status, run_seconds FROM bi.job_attempts ORDER BY attempt, run_seconds DESC
    """)
    assert sorted(attempts) == sorted(
        [
            (once["jobID"], 0, True, "Completed", 1800),
            (job["jobID"], 0, False, "Failed", 1800),
            (job["jobID"], 1, True, "Completed", 300),
        ]
    )
    jobs = "SELECT attempts, is_rerun, queued_seconds, total_seconds, run_seconds FROM bi.jobs ORDER BY attempts"
    assert scene.rows(jobs) == [(0, False, 1800, 3600, 1800), (1, True, None, None, 300)]
    assert scene.one("SELECT sum(attempts) FROM bi.job_daily") == 1
    assert scene.one("SELECT sum(queued_count) FROM bi.job_daily") == 1


def test_a_state_was_entered_between_the_looks_around_it(db: Connection) -> None:
    """Bounds by the source's clock; where a change moved no date, those at which the mirror looked."""
    world = World(seed=1)
    job = world.add(jobStatus="Queued", createdDate=world.now, modifiedDate=world.now)
    queued = world.now
    scene = Scene(db, world)
    scene.sync()
    world.advance(timedelta(minutes=5))
    world.change(job, jobStatus="Inprogress", percentCompleted=5)
    began = world.now
    world.advance(timedelta(minutes=5))
    scene.sync()
    world.change(job, jobStatus="Inprogress", percentCompleted=50)
    scene.sync()
    world.advance(timedelta(minutes=5))
    world.change(job, touch=False, jobStatus="Completed")
    world.advance(timedelta(minutes=5))
    scene.sync(full=True)
    rows = scene.rows("""
        SELECT job_status, previous_status, is_entry, entered_after_utc, entered_by_utc
        FROM bi.job_status_history ORDER BY version_seen
    """)
    assert [row[:3] for row in rows] == [
        ("Queued", None, True),
        ("Inprogress", "Queued", True),
        ("Inprogress", "Inprogress", False),
        ("Completed", "Inprogress", True),
    ]
    bounds = [tuple(moment and moment.replace(tzinfo=UTC) for moment in row[3:]) for row in rows]
    assert bounds[1] == (queued, began)
    assert bounds[2] == (None, None)
    after, by = bounds[3]
    assert after < began + timedelta(minutes=15) <= by  # the true moment


def test_documents_end_with_their_own_date_or_with_their_job(db: Connection) -> None:
    """Whichever comes first, also when only the purge date moves; what a milder purge kept can't be had any more."""
    world = World(seed=1)
    now = datetime.now(UTC).replace(microsecond=0)
    soon, late = now + 2 * DAY, now + 9 * DAY
    for expiry, purge in ((soon, late), (late, soon), (None, late)):
        listed = [{"documentName": "a", "DownloadLink": "https://x/secret", "SizeInMB": 1}]
        if expiry:
            listed[0]["ExpiryDate"] = expiry.strftime("%Y-%m-%dT%H:%M:%SZ")
        world.add(response=json.dumps(listed), responseType="Publishlink", purgeDateTime=purge)
    scene = Scene(db, world, a_source(purge="keep"))
    scene.sync()
    ends = "SELECT ends_by, available_until_utc FROM bi.documents_expiring ORDER BY job_created_at_utc, job_id, 1, 2"
    expected = {("expiry", soon), ("purge", soon), ("purge", late)}
    assert {(row[0], row[1].replace(tzinfo=UTC)) for row in scene.rows(ends)} == expected
    for job in list(world.jobs()):
        world.change(job, purgeDateTime=now + DAY)
    scene.sync()
    assert {(row[0], row[1].replace(tzinfo=UTC)) for row in scene.rows(ends)} == {("purge", now + DAY)}
    assert scene.differences() == []
    db.execute("UPDATE aims360.jobs SET purge_date_time = '2019-01-01'")
    scene.purge()
    assert scene.rows(ends) == []


def test_links_are_those_of_jobs_and_documents(db: Connection) -> None:
    """One row a link, with the scope under which it opens; bi shows them nowhere else."""
    scene = Scene(db, populated(100, seed=1))
    scene.sync()
    kinds = dict(scene.rows("SELECT kind, count(*) FROM bi.job_links GROUP BY kind"))
    assert kinds == {"publish": 100, "document": scene.one("SELECT count(*) FROM bi.job_documents")}
    assert scene.one("SELECT count(*) FROM bi.job_links WHERE link IS NULL OR access_scope IS NULL") == 0


def test_what_got_worse_is_told(db: Connection) -> None:
    """Failures and times of the last week against the four before; a few jobs prove nothing."""
    world = World(seed=1, now=datetime.now(UTC))

    def some(count: int, age: timedelta, kind: str, status: str, seconds: float) -> None:
        for _ in range(count):
            began = world.now - age
            end = began + timedelta(seconds=seconds)
            world.add(
                createdDate=began,
                startDate=began,
                completedDate=end,
                jobStatus=status,
                subCategoryName=kind,
                categoryName="Reports",
                accountCode="AZ022",
            )

    for kind, failed, seconds, count in (
        ("fails", 10, 10, 30),
        ("drags", 0, 400, 30),
        ("is well", 1, 10, 30),
        ("is rare", 3, 10, 5),
    ):
        some(count, 20 * DAY, kind, "Completed", 10)
        some(count - failed, 2 * DAY, kind, "Completed", seconds)
        some(failed, 2 * DAY, kind, "Failed", seconds)
    some(30, 40 * DAY, "is gone", "Failed", 10)
    Scene(db, world).sync()
    rows = db.execute("SELECT sub_category_name, jobs, failed, is_worse FROM bi.category_health ORDER BY 1").fetchall()
    assert rows == [
        ("drags", 30, 0, True),
        ("fails", 30, 10, True),
        ("is rare", 5, 3, False),
        ("is well", 30, 1, False),
    ]


@pytest.mark.parametrize(
    ("day", "retail"),
    [
        ("2023-01-29", (2023, 1, 1)),
        ("2024-02-03", (2023, 12, 53)),  # a year of 53 weeks
        ("2024-02-04", (2024, 1, 1)),
        ("2025-02-01", (2024, 12, 52)),
        ("2025-02-02", (2025, 1, 1)),
        ("2026-11-01", (2026, 10, 40)),
        ("2026-12-31", (2026, 11, 48)),
    ],
)
def test_the_calendar_of_the_trade(db: Connection, day: str, retail: tuple[int, int, int]) -> None:
    """Beginnings and ends of years as the National Retail Federation publishes them."""
    found = db.execute(
        "SELECT retail_year, retail_month, retail_week FROM bi.calendar WHERE day = %s", (day,)
    ).fetchone()
    assert found == retail


def test_the_calendar_knows_weeks_and_month_ends_whatever_the_sessions_zone(db: Connection) -> None:
    """Every day once; ISO weeks; the last day of a month."""
    db.execute("SET TimeZone = 'America/Sao_Paulo'")
    count, first, last = db.execute("SELECT count(*), min(day), max(day) FROM bi.calendar").fetchone() or ()
    assert isinstance(first, date)
    assert isinstance(last, date)
    assert count == (last - first).days + 1
    some = "SELECT day, week_start, month_start, days_to_month_end FROM bi.calendar WHERE year = 2024 AND month < 4"
    for day, week_start, month_start, days_left in db.execute(some).fetchall():
        assert isinstance(day, date)
        assert week_start == day - timedelta(days=day.weekday())
        assert month_start == day.replace(day=1)
        assert (day + timedelta(days=int(str(days_left)) + 1)).day == 1


@pytest.mark.slow
def test_readers_are_never_in_the_way_nor_kept_waiting(url: str, db: Connection) -> None:
    """While jobs are rerun, rewritten and purged, it waits for no lock, and sees each job with its own documents."""
    world = populated(600, seed=2, rate=2_000 if IS_LONG else 600, rerun_share=0.5)
    scene = Scene(db, world)
    scene.sync()
    seen: list[int] = []
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        with connect(url) as reader:
            reader.execute("SET lock_timeout = '10ms'; SET statement_timeout = '20s'")
            while not done.is_set():
                found = reader.execute("""
                    SELECT j.job_id, j.documents, count(d.job_id)
                    FROM bi.jobs AS j LEFT JOIN bi.job_documents AS d USING (source, job_id)
                    GROUP BY j.job_id, j.documents
                """).fetchall()
                counted = reader.execute("SELECT count(*), sum(documents) FROM bi.jobs").fetchone()
                wrong.extend(row for row in found if row[1] != row[2])
                seen.append(int(str((counted or (0,))[0])))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(6):
            world.advance(timedelta(hours=40))
            scene.sync()
        scene.sync(full=True, rewrite=True)
    finally:
        done.set()
        reader.join()
    assert wrong == []
    assert len(seen) > 5
    assert scene.one("SELECT sum(purged) FROM etl.runs") > 150


def test_a_sync_takes_no_lock_that_keeps_readers_out(url: str, db: Connection) -> None:
    """The strongest lock on a table of the mirror, looked at at each page, is that of a writer of rows."""
    world = populated(400, seed=2)
    held: set[str] = set()

    def look(*_: object) -> None:
        with connect(url) as session:
            rows = session.execute("""
                SELECT l.mode
                FROM pg_locks AS l
                JOIN pg_class AS c ON c.oid = l.relation
                WHERE c.relnamespace IN ('aims360'::regnamespace, 'etl'::regnamespace, 'bi'::regnamespace)
                  AND l.pid <> pg_backend_pid()
            """).fetchall()
            held.update(str(row[0]) for row in rows)

    scene = Scene(db, world, a_source(purge="delete"))
    with db.transaction():
        scene.sync()
        look()
        world.advance(25 * DAY)
        scene.purge()
        look()
    assert "RowExclusiveLock" in held
    assert held <= {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Pacific/Auckland"])
def test_dates_of_both_ends_of_time_can_be_read_in_every_zone(db: Connection, zone: str) -> None:
    """A day of the year 0 or 10000 would be refused by Python, and a whole view with it.

    The source's first dates are none; but rows of earlier releases may still hold them.
    """
    world = World(seed=1)
    for moment in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z"):
        world.add(createdDate=moment, startDate=None, completedDate=None, purgeDateTime=None)
    scene = Scene(db, world, a_source(time_zone=zone))
    scene.sync()
    days = "SELECT created_day, created_at_local::date FROM bi.jobs ORDER BY created_day"
    totals = "SELECT day FROM bi.job_daily ORDER BY day"
    assert scene.rows(days) == [(date.max, date.max), (None, None)]
    assert scene.rows(totals) == [(date.max,), (None,)]
    assert Laws().broken(db) == []
    db.execute("UPDATE aims360.jobs SET created_date = '0001-01-01 00:00Z' WHERE created_date IS NULL")
    daily_aggregates.count_all(db, 1)
    assert scene.rows(days) == [(date.min, date.min), (date.max, date.max)]
    assert scene.rows(totals) == [(date.min,), (date.max,)]


def test_a_job_that_was_purged_is_stuck_no_more(db: Connection) -> None:
    """Under `keep` a job that never ran stays here, as it was, for ever; nobody can look after it at the source."""
    world = World(seed=1)
    world.add(jobStatus="Queued", startDate=None, completedDate=None, purgeDateTime=world.now + HOUR)
    scene = Scene(db, world, a_source(purge="keep"))
    scene.sync()
    for _ in range(2):
        world.advance(3 * HOUR)
        world.add()  # a source that shows nothing causes no purge
        scene.sync()
    assert scene.rows("SELECT is_open, is_stuck FROM bi.jobs WHERE is_purged") == [(True, False)]


def test_a_mirror_is_complete_if_nothing_of_it_is_known_to_be_missing(db: Connection) -> None:
    """From the first complete run on, unless a run left a part, the source went back, or a clock was wrong."""

    def is_complete() -> bool:
        return bool(scene.one("SELECT is_complete FROM bi.freshness"))

    scene = Scene(db, populated(20, seed=1, rate=0))
    db.execute("""
        INSERT INTO etl.sources (name, base_url, flatten_version, purge_mode, time_zone)
        VALUES ('aims360', 'https://api.aims360.example', 1, 'delete', 'UTC')
    """)
    assert not is_complete()
    scene.sync()
    assert is_complete()
    verdict = (
        "UPDATE etl.runs SET verdict = %s WHERE run_id = (SELECT max(run_id) FROM etl.runs WHERE verdict IS NOT NULL)"
    )
    db.execute(verdict, ("incomplete",))
    assert not is_complete()
    scene.purge()
    assert not is_complete()  # a purge has no verdict: it makes nothing more complete
    db.execute(verdict, ("complete",))
    assert is_complete()
    db.execute("UPDATE etl.sources SET went_back = 'an older state'")
    assert not is_complete()
    db.execute("UPDATE etl.sources SET went_back = NULL, complete_through = now() + '61 min'::interval")
    assert not is_complete()
    db.execute("UPDATE etl.sources SET complete_through = now() + '59 min'::interval")
    assert is_complete()


def test_the_oldest_row_that_waits_is_dated(db: Connection) -> None:
    """How many wait and since when, by the source's clock; none and null for a source without them."""
    scene = Scene(db, populated(20, seed=1, rate=0))
    jobs = list(scene.world.jobs())
    for job in jobs[:2]:
        scene.world.change(job, overrides={"createdDate": "what is no date"})
        scene.world.advance(HOUR)
        scene.sync()
    Scene(db, populated(5, seed=2, rate=0), a_source(name="west")).sync()
    found = scene.rows(
        "SELECT source, open_rejects, oldest_reject_at_utc, is_complete, last_verdict FROM bi.freshness ORDER BY source"
    )
    oldest = (scene.world.now - HOUR).replace(tzinfo=None)
    assert found == [
        ("aims360", 2, oldest, False, "complete_with_rejects"),
        ("west", 0, None, True, "complete"),
    ]


def test_the_last_run_is_the_one_that_the_job_shows(db: Connection) -> None:
    """Also where the source counts fewer runs than before, as after a restore."""
    world = World(seed=1)
    job = world.add(numberOfAttempts=0)
    scene = Scene(db, world)
    scene.sync()
    for attempts in (2, 1):
        world.advance(HOUR)
        world.change(job, numberOfAttempts=attempts, startDate=world.now - HOUR / 2, completedDate=world.now)
        scene.sync()
    assert scene.rows("SELECT attempt FROM bi.job_attempts WHERE is_last") == [(1,)]
    assert scene.rows("""
        SELECT count(*) FROM bi.job_attempts AS a JOIN bi.jobs AS j USING (source, job_id)
        WHERE a.is_last AND (a.attempt, a.started_at_utc) = (j.attempts, j.started_at_utc)
    """) == [(1,)]


def test_freshness_tells_how_a_source_is_read_and_what_its_service_refuses(db: Connection) -> None:
    """By name alone: what the service answered may be anything, and readers of bi aren't told."""
    scene = Scene(db, populated(60, seed=1, rate=0), page_size=20)
    first = scene.sync()
    asked = "SELECT paging, window_by, refused, last_requests FROM bi.freshness"
    assert scene.rows(asked) == [("key", "modifiedDate", None, first.requests)]
    scene.emulator.options = ServiceOptions(refused=frozenset({"top", "modifiedDate", "count"}))
    scene.world.advance(HOUR)
    scene.world.add()
    run = scene.sync()
    [(paging, window_by, refused, requests)] = scene.rows(asked)
    assert (paging, window_by, requests) == ("key", "none", run.requests)
    names = refused.split(", ")
    assert {"filter_dates", "top"} <= set(names) <= set(CAPABILITIES)
    assert names == sorted(names)
