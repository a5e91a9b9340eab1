"""The ledger is kept short: what may be forgotten and folded, and what never is."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from etl.config.secrets import Secret
from etl.errors import SignInFailed
from etl.models import Counts, Run
from etl.postgres.connection import Connection, connected
from etl.state.run_log import is_time_to_tidy
from etl.testing.emulator import World
from tests.support.scene import TOKEN, Scene

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
COUNTERS = Counts.__struct_fields__
TOTALS = "SELECT sum(runs), sum(pages), sum(requests), sum(unchanged), sum(inserted) FROM bi.runs"
BY_DAY = """
SELECT kind, started_at_utc::date, count(*), sum(runs)
FROM bi.runs
WHERE finished_at_utc < %s AND inserted = 0
GROUP BY kind, started_at_utc::date
"""
PAST = """
INSERT INTO etl.runs (source_id, kind, host, pid, started_at, finished_at, outcome, verdict, window_from, window_to,
    watermark_before, checks, pages)
SELECT source_id, 'incremental', 'there', 1, %(at)s, %(at)s + interval '1 minute', 'succeeded', 'complete',
    %(at)s - interval '1 hour', %(at)s, %(at)s, %(checks)s, 1
FROM etl.sources
RETURNING run_id
"""


def a_scene(db: Connection) -> Scene:
    """A source with one job that stays, at its first sync."""
    world = World(seed=1)
    world.add(purgeDateTime=None)
    scene = Scene(db, world)
    scene.sync()
    return scene


def midnight(scene: Scene, days_ago: int) -> datetime:
    """The beginning of a day (UTC) before the world's today."""
    return scene.world.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - days_ago * DAY


def past(scene: Scene, at: datetime, *checks: str) -> int:
    """A run without news that began then."""
    [[run_id]] = scene.db.execute(PAST, {"at": at, "checks": list(checks)}).fetchall()
    return int(str(run_id))


def set_column(scene: Scene, run_id: int, name: str, value: object) -> None:
    """Makes another run of it."""
    statement = sql.SQL("UPDATE etl.runs SET {} = %s WHERE run_id = %s").format(sql.Identifier(name))
    scene.db.execute(statement, (value, run_id))


def totals_of(runs: list[Run]) -> tuple[int, ...]:
    """What the ledger's totals should be, from what the runs said of themselves."""
    return (
        len(runs),
        sum(run.pages for run in runs),
        sum(run.requests for run in runs),
        sum(run.counts.unchanged for run in runs),
        sum(run.counts.inserted for run in runs),
    )


def test_after_a_week_the_runs_of_a_day_without_news_are_one_row(db: Connection) -> None:
    """Every five hours for four weeks: no younger run is touched, no news is folded, and every total is the same."""
    world = World(seed=1)
    world.add(purgeDateTime=None)
    scene = Scene(db, world)
    runs: list[Run] = []
    for hour in range(0, 28 * 24, 5):
        if hour % 35 == 0:
            world.add(purgeDateTime=None)
        runs.append(scene.sync())
        world.advance(5 * HOUR)
    runs.append(scene.sync())
    assert scene.rows(TOTALS) == [totals_of(runs)]
    news = {run.run_id for run in runs if run.counts.inserted}
    assert {run_id for (run_id,) in scene.rows("SELECT run_id FROM bi.runs WHERE inserted > 0 AND runs = 1")} == news
    young = world.now - WEEK
    assert scene.one("SELECT count(*) FROM etl.runs WHERE finished_at > %s AND runs <> 1", young) == 0
    folded = scene.rows(BY_DAY, (world.now - 8 * DAY).replace(tzinfo=None))
    assert len(folded) >= 19
    assert {rows for _, _, rows, _ in folded} == {1}
    assert max(number for *_, number in folded) == 5
    assert scene.one("SELECT bool_and((seconds IS NULL) = (runs > 1)) FROM bi.runs")


def test_the_row_that_stays_spans_those_it_stands_for(db: Connection) -> None:
    """The last one's number and end, the first one's beginning, the widest window, the checks of all."""
    scene = a_scene(db)
    day = midnight(scene, 10)
    ids = [past(scene, day + hour * HOUR, *checks) for hour, checks in ((1, "b"), (9, "a"), (5, "ca"), (20, ""))]
    scene.sync()
    [row] = scene.rows("SELECT * FROM bi.runs WHERE runs > 1")
    found = dict(zip([c.name for c in db.execute("SELECT * FROM bi.runs").description or ()], row, strict=True))
    plain = day.replace(tzinfo=None)
    assert (found["run_id"], found["runs"], found["pages"]) == (ids[-1], 4, 4)
    assert (found["started_at_utc"], found["finished_at_utc"]) == (plain + HOUR, plain + 20 * HOUR + HOUR / 60)
    assert (found["window_from_utc"], found["window_to_utc"]) == (plain, plain + 20 * HOUR)
    assert found["watermark_before_utc"] == plain + HOUR
    assert found["checks"] == "a, b, c"


def test_a_window_of_all_rows_is_the_longest(db: Connection) -> None:
    """Null is no date that another could be less than."""
    scene = a_scene(db)
    for hour in range(3):
        run_id = past(scene, midnight(scene, 10) + hour * HOUR)
        set_column(scene, run_id, "window_from", None if hour == 1 else midnight(scene, 11))
    scene.sync()
    assert scene.rows("SELECT window_from FROM etl.runs WHERE runs = 3") == [(None,)]


def test_a_folded_row_is_folded_again(db: Connection) -> None:
    """Half of a day is a week old at noon, the rest on the next day: in the end one row stands for all of them."""
    scene = a_scene(db)
    for hour in range(0, 24, 2):
        past(scene, midnight(scene, 7) + hour * HOUR)
    scene.world.advance(midnight(scene, 0) + 13.5 * HOUR - scene.world.now)
    scene.sync()
    assert scene.rows("SELECT runs, pages FROM etl.runs WHERE host = 'there' AND runs > 1") == [(7, 7)]
    assert scene.one("SELECT count(*) FROM etl.runs WHERE host = 'there'") == 6
    scene.world.advance(DAY)
    scene.sync()
    assert scene.rows("SELECT runs, pages FROM etl.runs WHERE host = 'there'") == [(12, 12)]
    assert scene.one("SELECT started_at FROM etl.runs WHERE runs > 1") == midnight(scene, 8)


@pytest.mark.parametrize("counter", COUNTERS)
def test_no_count_is_lost(db: Connection, counter: str) -> None:
    """Whatever a run counted is news, and stays its own, or is summed."""
    scene = a_scene(db)
    runs = [past(scene, midnight(scene, 10) + hour * HOUR) for hour in range(5)]
    set_column(scene, runs[2], counter, 7)
    scene.sync()
    total = sql.SQL("SELECT sum({0}), sum(runs) FROM etl.runs WHERE host = 'there'").format(sql.Identifier(counter))
    assert db.execute(total).fetchall() == [(7, 5)]
    assert scene.one("SELECT count(*) FROM etl.runs WHERE host = 'there'") in (1, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("notes", ["the source went back"]),
        ("error", "why"),
        ("outcome", "failed"),
        ("outcome", "interrupted"),
        ("verdict", "incomplete"),
        ("inserted", 1),
        ("refused", 1),
        ("ghosts_vanished", 1),
    ],
)
def test_news_are_never_folded(db: Connection, name: str, value: object) -> None:
    """What somebody may look for stays a row of its own until it is forgotten."""
    scene = a_scene(db)
    for hour in range(3):
        set_column(scene, past(scene, midnight(scene, 10) + hour * HOUR), name, value)
    scene.sync()
    assert scene.rows("SELECT count(*), max(runs) FROM etl.runs WHERE host = 'there'") == [(3, 1)]


def test_kinds_days_and_sources_are_kept_apart(db: Connection) -> None:
    """One row a day and kind, and another source's runs are another run's business."""
    scene = a_scene(db)
    for day in (10, 11):
        for kind in ("incremental", "incremental", "purge", "purge"):
            set_column(scene, past(scene, midnight(scene, day)), "kind", kind)
    for _ in range(2):
        set_column(scene, past(scene, midnight(scene, 12)), "source_id", 2)
    scene.sync()
    folded = "SELECT source_id, runs, count(*) FROM etl.runs WHERE host = 'there' GROUP BY source_id, runs"
    assert sorted(scene.rows(folded)) == [(1, 2, 4), (2, 1, 2)]


def test_runs_are_forgotten_in_time(db: Connection) -> None:
    """A run is remembered as long as AIMS360_KEEP_RUNS says, a failed one too, and not longer."""
    scene = a_scene(db)
    scene.set(keep_runs=10 * DAY, credentials=Secret("withdrawn"))
    with pytest.raises(SignInFailed):
        scene.sync()
    scene.set(credentials=Secret(TOKEN))
    failed = "SELECT count(*) FROM etl.runs WHERE outcome = 'failed'"
    for _ in range(9):
        scene.world.advance(DAY)
        scene.sync()
        assert scene.one(failed) == 1
    scene.world.advance(2 * DAY)
    scene.sync()
    assert scene.one(failed) == 0
    assert scene.one("SELECT min(started_at) FROM etl.runs WHERE kind = 'incremental'") >= scene.world.now - 10 * DAY


def test_the_last_complete_run_of_each_kind_stays(db: Connection) -> None:
    """However long ago: a full sync, a comparison and a purge of last year are all that the ledger tells of them."""
    scene = a_scene(db)
    scene.sync(full=True)
    scene.purge()
    for kind, ago in (("reconcile", 400), ("reconcile", 399), ("reread", 398)):
        set_column(scene, past(scene, midnight(scene, ago)), "kind", kind)
    last = [("full", 2), ("purge", 3), ("reconcile", 5), ("reread", 6)]
    scene.world.advance(300 * DAY)
    scene.set(credentials=Secret("withdrawn"))
    for _ in range(2):
        scene.world.advance(DAY)
        with pytest.raises(SignInFailed):
            scene.sync()
    failed = [("incremental", 7), ("incremental", 8)]
    assert sorted(scene.rows("SELECT kind, run_id FROM etl.runs")) == sorted([*last, *failed])


def test_only_the_first_run_of_a_day_tidies(db: Connection) -> None:
    """A run each minute doesn't pay for it each minute."""
    scene = a_scene(db)
    for at in (midnight(scene, 10), midnight(scene, 10) + HOUR, midnight(scene, 0)):
        past(scene, at)
    there = "SELECT count(*) FROM etl.runs WHERE host = 'there'"
    scene.sync()
    assert scene.one(there) == 3
    scene.world.advance(DAY)
    scene.sync()
    assert scene.one(there) == 2


def test_a_busy_ledger_is_kept_as_short_as_is_wished(db: Connection) -> None:
    """Runs each ten minutes, folded after two hours and as often: what is younger is there, the rest are few rows."""
    scene = a_scene(db)
    scene.set(fold_after=2 * HOUR)
    scene.world.advance(midnight(scene, 0) + 1 * DAY - scene.world.now)
    for _ in range(6 * 24 * 2):
        scene.sync()
        scene.world.advance(HOUR / 6)
    [(rows, runs)] = scene.rows("SELECT count(*), sum(runs) FROM etl.runs WHERE kind = 'incremental'")
    assert runs == 6 * 24 * 2
    assert rows <= 6 * 4 + 3
    young = "SELECT count(*) FROM etl.runs WHERE runs = 1 AND finished_at > %s"
    assert scene.one(young, scene.world.now - 2 * HOUR) >= 11


@pytest.mark.parametrize(
    ("before", "now", "fold_after", "is_time"),
    [
        ("2026-03-01T23:59:59Z", "2026-03-02T00:00:01Z", 7 * DAY, True),
        ("2026-03-02T00:00:01Z", "2026-03-02T23:59:59Z", 7 * DAY, False),
        ("2026-03-02T00:00:01Z", "2026-03-02T01:00:00Z", HOUR, True),
        ("2026-03-02T00:00:01Z", "2026-03-02T00:59:59Z", HOUR, False),
        (None, "2026-03-02T00:59:59Z", HOUR, False),
    ],
)
def test_it_is_time_to_tidy_once_a_day_or_as_often_as_runs_are_folded(
    before: str | None, now: str, fold_after: timedelta, is_time: bool
) -> None:
    """Told by when the source's run before began."""
    moment = None if before is None else datetime.fromisoformat(before)
    assert is_time_to_tidy(moment, datetime.fromisoformat(now), fold_after) is is_time


@pytest.mark.slow
def test_a_run_waits_for_nobody_who_holds_the_ledger(db: Connection, url: str) -> None:
    """The mirror is brought up to date all the same, and another day tidies."""
    scene = a_scene(db)
    for hour in range(3):
        past(scene, midnight(scene, 10) + hour * HOUR)
    there = "SELECT count(*) FROM etl.runs WHERE host = 'there'"
    with connected(url) as other, other.transaction():
        other.execute("SELECT FROM etl.runs WHERE host = 'there' FOR UPDATE")
        assert scene.sync().counts.unchanged == 1
        assert scene.one(there) == 3
    assert scene.one("SHOW lock_timeout") == "1min"
    scene.world.advance(DAY)
    scene.sync()
    assert scene.one(there) == 1


def test_tidying_that_is_cut_off_has_done_nothing(db: Connection) -> None:
    """Forgetting and folding are one transaction: Postgres gives up in its last statement, and every row is there."""
    scene = a_scene(db)
    old = past(scene, midnight(scene, 100))
    for hour in range(3):
        past(scene, midnight(scene, 10) + hour * HOUR)
    with no_folded_rows(db), pytest.raises(psycopg.errors.RaiseException):
        scene.sync()
    assert scene.rows("SELECT count(*), min(run_id) FROM etl.runs WHERE host = 'there'") == [(4, old)]
    scene.world.advance(DAY)
    scene.sync()
    assert scene.rows("SELECT count(*), sum(runs) FROM etl.runs WHERE host = 'there'") == [(1, 3)]


@contextmanager
def no_folded_rows(db: Connection) -> Iterator[None]:
    """A Postgres that refuses the row that stands for others."""
    db.execute("""
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.runs > 1 THEN RAISE 'no room'; END IF; RETURN NEW; END $$
    """)
    db.execute("CREATE TRIGGER refuse BEFORE UPDATE ON etl.runs FOR EACH ROW EXECUTE FUNCTION public.refuse()")
    try:
        yield
    finally:
        db.execute("DROP FUNCTION public.refuse CASCADE")
