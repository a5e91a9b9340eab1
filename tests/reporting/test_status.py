"""The status: what it says of a mirror, and when it says that the promise is broken."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from etl.jobs.refresh import follow
from etl.postgres.connection import Connection
from etl.reporting import status
from etl.testing.emulator import World, populated
from etl.testing.emulator.service_options import ServiceOptions
from tests.support.command import Command
from tests.support.scene import Scene, a_source

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
_15_MIN = timedelta(minutes=15)
_MOVE_BACK = "UPDATE etl.sources SET complete_through = now() - %s::interval"


def checked(db: Connection, max_lag: timedelta, source: str | None = None) -> tuple[bool, str]:
    """Return whether the promise is kept, and the line."""
    health = status.check(db, max_lag, source)
    return health.is_kept, health.message


def a_scene_with_rejects(db: Connection, number: int) -> Scene:
    """Return fifty jobs, so many of which can't be read; nothing was synced yet."""
    scene = Scene(db, populated(50, seed=1, now=NOW, rate=0))
    for job in list(scene.world.jobs())[:number]:
        scene.world.change(job, overrides={"createdDate": "what is no date"})
    return scene


def test_a_mirror_without_a_run_keeps_no_promise(db: Connection) -> None:
    """Nothing synced yet, at all or of the source that is asked for."""
    assert checked(db, _15_MIN) == (False, "nothing was synced yet: run `aims360-etl sync`")
    assert checked(db, _15_MIN, "west")[1].startswith("nothing was synced yet of a source 'west'")


def test_the_promise_breaks_with_the_lag_and_holds_again(db: Connection) -> None:
    """Complete up to now is fine; up to a moment longer ago than is wished, incomplete or gone back is not."""
    scene = Scene(db, populated(50, seed=1, now=NOW, rate=0))
    scene.sync()
    db.execute(_MOVE_BACK, ("14 min",))
    assert checked(db, _15_MIN) == (True, "aims360 is complete up to 14 min ago")
    db.execute(_MOVE_BACK, ("16 min",))
    said = "aims360 is complete up to 16 min ago only, more than 15 min (its last run: full, succeeded)"
    assert checked(db, _15_MIN) == (False, said)
    assert checked(db, timedelta(hours=1))[0]
    db.execute("UPDATE etl.sources SET complete_through = now(), went_back = 'x'")
    assert checked(db, _15_MIN)[0] is False
    db.execute("UPDATE etl.sources SET complete_through = NULL, went_back = NULL")
    assert checked(db, _15_MIN) == (False, "aims360 is not complete yet (its last run: full, succeeded)")


def test_of_many_sources_the_check_tells_the_worst(db: Connection) -> None:
    """A monitor shows a line, whether twenty sources are meant or two thousand."""
    Scene(db, populated(5, seed=1, now=NOW, rate=0)).sync()
    db.execute("UPDATE etl.sources SET complete_through = now()")
    db.execute(
        "INSERT INTO etl.sources (name, base_url, flatten_version, purge_mode, time_zone, complete_through) "
        "SELECT 's' || n, 'https://h', 1, 'delete', 'UTC', now() - make_interval(mins => n / 10) "
        "FROM generate_series(1, 149) AS n"
    )
    is_well, said = checked(db, _15_MIN)
    assert (is_well, said.startswith("150 sources are complete; furthest behind: s14")) == (True, True), said
    is_well, said = checked(db, timedelta(minutes=5, seconds=30))
    assert (is_well, said.count("ago only"), said[-13:]) == (False, 10, "; and 80 more")


def test_a_run_that_was_no_sync_is_told_from_one(db: Connection) -> None:
    """One that only brings a job up to date, or purges, says nothing about what keeps the mirror behind."""
    scene = Scene(db, populated(50, seed=1, now=NOW, rate=0))
    scene.sync()
    [job, *_] = scene.world.jobs()
    with scene.api() as api:
        follow(scene.source, api, db, scene.clock, str(scene.world.payload(job)["jobID"]))
    db.execute(_MOVE_BACK, ("16 min",))
    assert checked(db, _15_MIN)[1].endswith("(its last run: job, succeeded)")


def test_one_source_of_several_can_be_asked_about(db: Connection) -> None:
    """One that is behind breaks the promise of all, but not of the other."""
    scene = Scene(db, populated(50, seed=1, now=NOW, rate=0))
    scene.sync()
    scene.set(name="west")
    scene.sync()
    db.execute("UPDATE etl.sources SET complete_through = now() - '1 h'::interval WHERE name = 'west'")
    db.execute("UPDATE etl.sources SET complete_through = now() WHERE name = 'aims360'")
    assert checked(db, _15_MIN)[0] is False
    assert checked(db, _15_MIN, "aims360")[0] is True
    assert [row["source"] for row in status.read(db, "west")["sources"]] == ["west"]
    assert {row["source"] for row in status.read(db, "west")["runs"]} == {"west"}


def test_rows_that_cannot_be_read_break_the_promise_unless_they_are_tolerated(db: Connection) -> None:
    """They are missing rows: how many, since when and where they wait is told, and how to tolerate them."""
    scene = a_scene_with_rejects(db, 2)
    scene.sync()
    db.execute("UPDATE etl.sources SET complete_through = now()")
    db.execute("UPDATE etl.rejects SET first_seen_at = now() - '30 min'::interval")
    oldest = scene.one("SELECT min(job_id) FROM etl.rejects")
    db.execute("UPDATE etl.rejects SET first_seen_at = now() - '2 h'::interval WHERE job_id = %s", (oldest,))
    said = (
        "aims360: 2 rows could not be read, the oldest for 2 h (tolerated: {}); see etl.rejects; "
        "allow with --max-rejects"
    )
    assert checked(db, _15_MIN) == (False, said.format(0))
    health = status.check(db, _15_MIN, max_rejects=1)
    assert (health.is_kept, health.message) == (False, said.format(1))
    health = status.check(db, _15_MIN, max_rejects=2)
    assert health.is_kept
    assert health.message.endswith(" ago; 2 rows could not be read (tolerated)")
    assert (health.open_rejects, health.is_complete) == (2, False)
    assert health.oldest_reject_at_utc == scene.one("SELECT min(first_seen_at) FROM etl.rejects")
    assert "2 rejected rows, the oldest since 20" in status.text(status.read(db))


def test_a_source_that_is_behind_and_has_rejects_is_told_of_both(db: Connection) -> None:
    """And another source's rejects don't count for it."""
    scene = a_scene_with_rejects(db, 1)
    scene.sync()
    other = Scene(db, populated(5, seed=2, now=NOW, rate=0), a_source(name="west"))
    other.sync()
    db.execute(_MOVE_BACK, ("1 h",))
    said = checked(db, _15_MIN)[1]
    assert [part.partition(" ")[0] for part in said.split("; ")][:2] == ["aims360", "aims360:"]
    assert (said.count("ago only"), said.count("could not be read")) == (2, 1)
    assert "could not be read" not in checked(db, _15_MIN, "west")[1]


def test_a_complete_through_in_the_future_counts_as_unknown(db: Connection) -> None:
    """A clock was wrong once: there would be no lag for months. Clocks may be some minutes apart."""
    scene = Scene(db, populated(50, seed=1, now=NOW, rate=0))
    scene.sync()
    db.execute(_MOVE_BACK, ("-59 min",))
    assert checked(db, _15_MIN)[0]
    assert status.check(db, _15_MIN).is_complete
    db.execute(_MOVE_BACK, ("-3 h",))
    is_kept, said = checked(db, timedelta(days=365))
    assert not is_kept
    assert said == (
        "aims360: complete_through is 3 h in the future, so a clock was wrong and it is unknown how complete the "
        "mirror is (its last run: full, succeeded)"
    )
    assert not status.check(db, _15_MIN).is_complete
    assert "3 h in the future, since a clock was wrong" in status.text(status.read(db))
    assert scene.one("SELECT is_complete FROM bi.freshness") is False


def test_the_status_tells_of_open_and_stuck_jobs_and_of_the_next_deep_passes(db: Connection) -> None:
    """What an operator looks for first."""
    scene = Scene(db, populated(200, seed=1, now=NOW, rate=5))
    scene.sync()
    [source] = status.read(db)["sources"]
    expected = scene.rows("SELECT count(*) FILTER (WHERE is_open), count(*) FILTER (WHERE is_stuck) FROM bi.jobs")
    assert [(source["open"], source["stuck"])] == expected
    said = status.text({"sources": [source], "runs": []})
    assert f"({source['open']} open, {source['stuck']} stuck)" in said
    assert f"last days read again after {source['reread_due_at_utc']:%Y-%m-%d %H:%M:%S} UTC" in said


MANY = """
INSERT INTO etl.sources (name, base_url, flatten_version, purge_mode, time_zone, complete_through, failures, not_before)
SELECT 'account-' || g, 'https://example.com', 1, 'delete', 'UTC',
    CASE WHEN g > 3 THEN now() - g * interval '1 min' END,
    CASE WHEN g <= 2 THEN g ELSE 0 END,
    CASE WHEN g = 2 THEN timestamptz '2030-01-01 00:00Z' END
FROM generate_series(1, 30) AS g
"""


def test_many_sources_are_told_in_a_line_and_the_latest_by_name(db: Connection) -> None:
    """Two lines for each of thousands would say nothing; one of them alone is told as ever, and JSON tells all."""
    scene = Scene(db, populated(50, seed=1, now=NOW, rate=0))
    scene.sync()
    db.execute("UPDATE etl.sources SET complete_through = now()")
    db.execute(MANY)
    found = status.read(db)
    totals, worst, *runs = status.text(found).splitlines()
    assert totals.startswith("31 sources: 28 complete, 3 not complete yet, 2 failing; 50 jobs (")
    assert worst.startswith("  furthest behind: account-30 30 min, account-29 29 min, account-28 28 min, ")
    assert worst.count("account-") == 10
    assert len(runs) == 2
    assert len(found["sources"]) == 31
    assert status.text(status.read(db, "account-30")).startswith("account-30: complete through ")


def test_failures_in_a_row_are_told_to_who_reads(db: Connection) -> None:
    """How often, and until when a fleet leaves the source alone."""
    db.execute(MANY)
    [row] = status.read(db, "account-2")["sources"]
    assert (row["failures_in_a_row"], row["not_before_utc"]) == (2, datetime(2030, 1, 1, tzinfo=UTC))
    [row] = status.read(db, "account-9")["sources"]
    assert (row["failures_in_a_row"], row["not_before_utc"]) == (0, None)


def a_scene_of_a_service(db: Connection, name: str, **options: Any) -> Scene:
    """Return a source that was synced twice, whose service refuses something."""
    world = populated(130, seed=1, now=NOW, rate=0)
    scene = Scene(db, world, a_source(name=name), page_size=20, options=ServiceOptions(**options))
    scene.sync()
    world.advance(timedelta(hours=1))
    world.add()
    scene.sync()
    return scene


def test_a_source_that_is_read_in_a_dearer_way_has_a_line_that_says_why(db: Connection) -> None:
    """What its service refuses, and what the last sync cost, whatever run came after it; nothing of any other."""
    a_scene_of_a_service(db, "usual", refused=frozenset({"top", "count"}))
    scene = a_scene_of_a_service(db, "acme", refused=frozenset({"modifiedDate"}))
    requests = scene.one("SELECT requests FROM etl.runs WHERE source_id = 2 ORDER BY run_id DESC LIMIT 1")
    scene.purge()
    acme, usual = status.read(db)["sources"]
    assert (acme["paging"], acme["window_by"], acme["refused"]) == ("key", "none", ["filter_dates"])
    assert (acme["last_requests"], requests > 7) == (requests, True)
    assert (usual["paging"], usual["window_by"], usual["refused"]) == ("key", "modifiedDate", ["count", "top"])
    assert usual["last_requests"] < requests
    lines = status.text(status.read(db)).splitlines()
    said = f"  refuses filters on dates; each run reads all pages (last run: {requests} requests)"
    assert [line for line in lines if "refuses" in line] == [said]
    assert lines.index(said) == 2


def test_where_no_job_can_be_asked_for_it_is_said_that_deletions_are_not_followed(db: Connection) -> None:
    """Nothing is removed there, and whoever relies on the mirror has to know."""
    operators = frozenset({"eq", "gt", "ge", "lt", "le", "ne", "or"})
    scene = a_scene_of_a_service(db, "acme", refused=operators, has_plain_path=False)
    assert "deletions" not in status.text(status.read(db))  # nobody has asked yet
    scene.world.delete(next(iter(scene.world.jobs())).job_id)
    scene.world.advance(timedelta(days=2))
    for _ in range(2):
        scene.world.advance(timedelta(hours=1))
        scene.reconcile(repair=True)
    [row] = status.read(db)["sources"]
    assert {"job_filter", "plain_path"} <= set(row["refused"])  # type: ignore[call-overload]
    assert "\n  deletions can't be followed: the service answers no question about a single job" in status.text(
        status.read(db)
    )


def test_of_many_sources_those_that_are_dearer_are_named(db: Connection) -> None:
    """In a line, the first ones of many; and those whose deletions can't be followed."""
    db.execute(MANY)
    assert "dearer" not in status.text(status.read(db))
    db.execute("UPDATE etl.sources SET window_by = 'none' WHERE source_id <= 12")
    known = '{"job_filter": {"support": "no"}, "plain_path": {"support": "no"}}'
    db.execute("UPDATE etl.sources SET capabilities = %s WHERE name = 'account-7'", (known,))
    said = status.text(status.read(db))
    [dearer] = [line for line in said.splitlines() if "dearer" in line]
    assert dearer.startswith("  read in a dearer way, since the service refuses something: account-1, account-10, ")
    assert dearer.endswith(" and 2 more")
    assert "  deletions can't be followed: account-7\n" in said


def test_the_last_runs_are_the_last_of_all_sources(db: Connection) -> None:
    """Whichever they are of, newest first."""
    scene = Scene(db, populated(5, seed=1, now=NOW, rate=0))
    order = ("a", "b", "c", "d", "e", "f", "a", "a", "b")
    for name in order:
        scene.set(name=name)
        scene.sync()
    runs = status.read(db)["runs"]
    assert [row["source"] for row in runs] == list(reversed(order))[:5]
    assert [row["run_id"] for row in runs] == sorted((int(str(row["run_id"])) for row in runs), reverse=True)
    assert [row["source"] for row in status.read(db, "a")["runs"]] == ["a"] * 3


def test_the_command_tells_a_monitor_with_its_exit_code(command: Command, db: Connection) -> None:
    """One line and 1 while the promise is broken, one line and 0 when it is kept again."""
    assert command.run("status", "--check")[:2] == (1, "nothing was synced yet: run `aims360-etl sync`\n")
    command.run("sync")
    db.execute(_MOVE_BACK, ("0",))  # the source's clock stands still, in another year
    code, output, errors = command.run("status", "--check")
    assert (code, errors, len(output.splitlines())) == (0, "", 1)
    db.execute(_MOVE_BACK, ("2 min",))
    code, output, _ = command.run("status", "--check", "--max-lag", "60s", "--json")
    assert code == 1
    assert output.startswith('{"ok": false, "message": "aims360 is complete up to 2 min')
    db.execute(_MOVE_BACK, ("0",))
    assert command.run("status", "--check", "--max-lag", "60s")[0] == 0
    assert command.run("status", "--check", "--max-lag", "never")[0] == 2


def test_the_command_fails_for_rows_that_could_not_be_read(command: Command, db: Connection, world: World) -> None:
    """Exit code 1 until they are tolerated, or are read; JSON has what a script needs."""
    job = next(iter(world.jobs()))
    world.change(job, overrides={"createdDate": "what is no date"})
    assert command.run("sync")[0] == 4
    db.execute(_MOVE_BACK, ("0",))
    code, output, errors = command.run("status", "--check")
    assert (code, errors, len(output.splitlines())) == (1, "", 1)
    assert output.startswith("aims360: 1 row could not be read, the oldest for ")
    assert output.endswith(" (tolerated: 0); see etl.rejects; allow with --max-rejects\n")
    code, output, _ = command.run("status", "--check", "--max-rejects", "1", "--json")
    value = json.loads(output)
    assert (code, value["ok"], value["open_rejects"], value["is_complete"]) == (0, True, 1, False)
    [source] = json.loads(command.run("status", "--json")[1])["sources"]
    assert (source["open_rejects"], source["is_complete"]) == (1, False)
    assert (source["paging"], source["window_by"], source["refused"]) == ("key", "modifiedDate", [])
    assert source["oldest_reject_at_utc"] == value["oldest_reject_at_utc"]
    assert source["oldest_reject_at_utc"].startswith(f"{world.now:%Y-%m-%d}")
    assert command.run("status", "--check", "--max-rejects", "-1")[0] == 2
