"""Many sources: when each has its turn, what is due, what stays at a desk between two runs; sources that fail."""

import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from etl.config.secrets import PasswordGrant, Secret
from etl.config.settings import Source
from etl.errors import DatabaseError, EtlError, SchemaError, SignInFailed
from etl.event_log import Log
from etl.fleet.executor import Desk, SignIns
from etl.fleet.scheduler import Standing, Work, due, latest, standings
from etl.models import Clock
from etl.pipeline.sync import deepen_now
from etl.postgres import migrations
from etl.postgres.connection import Connection
from etl.testing.emulator import CREDENTIALS, Emulator, Faults, World, populated, serve
from tests.support.scene import Scene, a_source

_CUT_THE_OTHERS = """
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend'
"""
A_MINUTE, AN_HOUR = timedelta(minutes=1), timedelta(hours=1)
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
GRANT = PasswordGrant(
    CREDENTIALS["client_id"],
    Secret(CREDENTIALS["client_secret"]),
    CREDENTIALS["username"],
    Secret(CREDENTIALS["password"]),
)


class Behind(Scene):
    """A scene whose source has a clock that is behind ours."""

    lag = timedelta()

    @property
    def clock(self) -> Clock:
        """Ours."""
        return Clock(lambda: self.world.now + self.lag, lambda: self.world.now.timestamp(), self._sleep)


def test_points_are_evenly_apart_and_never_drift() -> None:
    """The last point that has come is at most one interval old, and the next one is one interval later."""
    for second in range(0, 600, 7):
        now = NOW + timedelta(seconds=second)
        point = latest("west", A_MINUTE, now)
        assert timedelta() <= now - point < A_MINUTE
        assert latest("west", A_MINUTE, point + A_MINUTE) == point + A_MINUTE
        assert latest("west", A_MINUTE, point - timedelta(microseconds=1)) == point - A_MINUTE


def test_sources_are_spread_over_the_interval() -> None:
    """Of 2,000 names in a minute no second has more than twice its share."""
    seconds = Counter(latest(f"account-{number}", A_MINUTE, NOW).second for number in range(2_000))
    assert len(seconds) == 60
    assert max(seconds.values()) < 2 * 2_000 / 60


def a_standing(**how: object) -> Standing:
    """A source that has done all there is to do a moment ago."""
    done = Standing(
        name="aims360",
        started_at=NOW,
        complete_through=NOW,
        is_empty=False,
        is_read_whole=False,
        purge_asked_at=NOW,
        reread_due_at=NOW + timedelta(days=1),
        reconcile_due_at=NOW + timedelta(days=7),
        failures=0,
        not_before=None,
    )
    return done._replace(**how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({}, []),
        ({"started_at": NOW - 2 * A_MINUTE}, [Work.SYNC]),
        ({"started_at": None}, [Work.SYNC]),
        ({"purge_asked_at": NOW - 2 * AN_HOUR}, [Work.PURGE]),
        ({"purge_asked_at": None}, [Work.PURGE]),
        ({"reread_due_at": NOW}, [Work.DEEPEN]),
        ({"reconcile_due_at": NOW}, [Work.DEEPEN]),
        ({"started_at": None, "purge_asked_at": None, "reread_due_at": None}, [Work.SYNC, Work.PURGE, Work.DEEPEN]),
        ({"is_empty": True, "started_at": None, "purge_asked_at": None, "reconcile_due_at": NOW}, [Work.SYNC]),
        ({"complete_through": None}, []),
        ({"complete_through": None, "started_at": NOW - 2 * A_MINUTE, "purge_asked_at": None}, [Work.BACKFILL]),
        ({"is_read_whole": True, "started_at": NOW - 2 * A_MINUTE, "reread_due_at": NOW}, [Work.BACKFILL]),
        ({"started_at": None, "not_before": NOW + A_MINUTE}, []),
        ({"started_at": None, "not_before": NOW}, [Work.SYNC]),
        ({"started_at": None, "reconcile_due_at": NOW, "deep_not_before": NOW + A_MINUTE}, [Work.SYNC]),
        ({"purge_asked_at": None, "deep_not_before": NOW + A_MINUTE}, []),
        ({"purge_asked_at": None, "deep_not_before": NOW}, [Work.PURGE]),
    ],
)
def test_what_is_due(how: dict[str, object], wanted: list[Work]) -> None:
    """By what the ledger says; the most urgent first; nothing of a source that is left alone."""
    source = a_source(every=A_MINUTE)
    assert due(source, a_standing(**how), NOW) == wanted


def test_a_source_that_never_ran_is_read_whole_and_then_by_increments(db: Connection) -> None:
    """The ledger tells it, whoever made the runs."""
    scene = Scene(db, populated(50, seed=1, rate=0))
    scene.set(every=A_MINUTE)
    assert due(scene.source, standings(db).get("aims360"), scene.world.now) == [Work.BACKFILL]
    scene.sync()
    assert due(scene.source, standings(db)["aims360"], scene.world.now) == []
    scene.world.advance(A_MINUTE)
    assert due(scene.source, standings(db)["aims360"], scene.world.now) == [Work.SYNC]


def test_a_source_without_jobs_wants_nothing_but_increments(db: Connection) -> None:
    """Neither before the first job nor after the last is its purge due in each moment anew."""
    scene = Scene(db, World())
    scene.set(every=A_MINUTE)
    scene.sync()
    assert due(scene.source, standings(db)["aims360"], scene.world.now) == []
    job = scene.world.add()
    scene.sync()
    scene.world.delete(job)
    scene.world.advance(AN_HOUR)
    scene.sync(deep=False)
    assert due(scene.source, standings(db)["aims360"], scene.world.now) == [Work.PURGE]
    scene.purge()
    assert due(scene.source, standings(db)["aims360"], scene.world.now) == []


def test_failures_in_a_row_are_counted_and_forgotten(db: Connection) -> None:
    """Fewer and fewer runs while it fails, then as before; what isn't the source's fault doesn't count."""
    scene = Scene(db, populated(50, seed=2, rate=0))
    scene.set(every=A_MINUTE)
    scene.sync()
    scene.emulator.set_faults(Faults(rate=1.0, kinds=("503",)))
    waits = []
    for failures in range(1, 6):
        with pytest.raises(EtlError):
            scene.sync(within=timedelta(seconds=10))
        standing = standings(db)["aims360"]
        assert standing.failures == failures
        assert standing.not_before is not None
        waits.append(round((standing.not_before - scene.world.now).total_seconds()))
    assert waits == [0, 60, 180, 240, 240]
    scene.emulator.set_faults(Faults())
    scene.sync()
    assert standings(db)["aims360"][-3:] == (0, None, None)


def test_what_goes_deep_and_fails_keeps_no_increment_waiting(db: Connection) -> None:
    """It has its next try at its source's next turn at the soonest, and a source in trouble is asked less and less."""
    scene = Scene(db, populated(50, seed=2, rate=0))
    scene.set(every=A_MINUTE)
    scene.sync()
    scene.world.advance(timedelta(days=8))
    scene.sync(deep=False)
    waits = []
    for _ in range(4):
        scene.emulator.set_faults(Faults(rate=1.0, kinds=("503",)))
        with pytest.raises(EtlError):
            deepen_now(scene.source, scene.api, db, scene.clock, within=timedelta(seconds=10))
        scene.emulator.set_faults(Faults())
        failed_at = scene.world.now
        assert standings(db)["aims360"].held_back_until(failed_at) is None
        while Work.DEEPEN not in due(scene.source, standings(db)["aims360"], scene.world.now):
            scene.world.advance(timedelta(seconds=5))
            scene.sync(deep=False)  # what succeeds meanwhile is no sign that this would
        waits.append(round((scene.world.now - failed_at) / A_MINUTE))
    assert waits == [1, 2, 4, 5]
    deepen_now(scene.source, scene.api, db, scene.clock)
    assert standings(db)["aims360"].deep_not_before is None


@pytest.mark.parametrize("hours", [1, 30])
def test_a_source_whose_clock_is_behind_is_not_asked_for_ever(db: Connection, hours: int) -> None:
    """What was done just now isn't due again: it is told by our clock."""
    scene = Behind(db, populated(50, seed=2, rate=0))
    scene.lag = timedelta(hours=hours)
    scene.set(every=A_MINUTE)
    scene.sync()
    scene.world.advance(timedelta(days=8))
    scene.sync(deep=False)
    now = scene.clock.now()
    assert due(scene.source, standings(db)["aims360"], now) == [Work.PURGE, Work.DEEPEN]
    scene.purge()
    assert deepen_now(scene.source, scene.api, db, scene.clock).verdict == "complete"
    now = scene.clock.now()
    assert due(scene.source, standings(db)["aims360"], now) == []
    assert due(scene.source, standings(db)["aims360"], now + AN_HOUR) == [Work.SYNC, Work.PURGE]


def test_a_refused_password_is_tried_least_often(db: Connection) -> None:
    """Up to half an hour: an account is locked after too many."""
    scene = Scene(db, World())
    scene.set(every=A_MINUTE, credentials=replace(GRANT, password=Secret("wrong")))
    for _ in range(8):
        with pytest.raises(SignInFailed):
            scene.sync()
    standing = standings(db)["aims360"]
    assert standing.not_before is not None
    assert standing.not_before - scene.world.now == timedelta(seconds=1740)


@pytest.fixture
def clock() -> Clock:
    """This machine's."""
    return Clock(lambda: datetime.now(UTC), time.monotonic, time.sleep)


def test_a_desk_keeps_its_connections_and_tokens(url: str, db: Connection, clock: Clock) -> None:
    """Two sources of one host, in turn: one connection to Postgres, one line, and each signs in once."""
    emulator = Emulator(populated(30, seed=3, rate=0))
    desk, log = Desk(url, clock, SignIns(clock)), Log("json", clock)
    with serve(emulator) as server:
        sources = [a_source(name=name, base_url=server.url, credentials=GRANT) for name in ("east", "west")]
        for work in (Work.BACKFILL, Work.SYNC, Work.PURGE, Work.DEEPEN):
            for source in sources:
                desk.run(source, work, log)
    assert emulator.tokens.made == 2
    assert db.execute("SELECT count(DISTINCT pid), count(*) FROM etl.runs").fetchone() == (1, 8)
    desk.close()


def test_a_desk_outlives_its_database_connection(url: str, db: Connection, clock: Clock) -> None:
    """The run fails, which is told; the next one has a new connection. It isn't the source's fault."""
    desk, log = Desk(url, clock, SignIns(clock)), Log("json", clock)
    with serve(Emulator(World())) as server:
        source = a_source(base_url=server.url)
        desk.run(source, Work.SYNC, log)
        db.execute(_CUT_THE_OTHERS)
        with pytest.raises(DatabaseError):
            desk.run(source, Work.SYNC, log)
        assert desk.run(source, Work.SYNC, log).verdict == "complete"
    assert standings(db)[source.name].failures == 0
    desk.close()


def test_a_desk_heeds_a_schema_that_was_migrated_meanwhile(url: str, db: Connection, clock: Clock) -> None:
    """Its connection is as old as itself, and the release that runs here may be older than the tables."""
    desk, log = Desk(url, clock, SignIns(clock)), Log("json", clock)
    with serve(Emulator(World())) as server:
        source = a_source(base_url=server.url)
        desk.run(source, Work.SYNC, log)
        db.execute("UPDATE etl.alembic_version SET version_num = '9999'")
        try:
            with pytest.raises(SchemaError, match="upgrade aims360-etl"):
                desk.run(source, Work.SYNC, log)
        finally:
            db.execute("UPDATE etl.alembic_version SET version_num = %s", (migrations.newest(),))
        assert desk.run(source, Work.SYNC, log).verdict == "complete"
    assert db.execute("SELECT count(*) FROM etl.runs").fetchone() == (2,)
    desk.close()


def test_changed_settings_sign_in_anew(clock: Clock) -> None:
    """A password that was renewed counts from the next run on."""
    known = SignIns(clock)
    before: Source = a_source(credentials=GRANT)
    after = replace(before, credentials=replace(GRANT, password=Secret("renewed")))
    assert known.of(before) is known.of(before)
    assert known.of(after) is not known.of(before)
