"""Rows that can't be read: how long they wait, when the source is asked for them again, and when they leave."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from etl.load import purge
from etl.models import FLATTEN_VERSION, Reject
from etl.postgres.connection import Connection
from etl.state import ask_schedule, rejects
from etl.state.ask_schedule import Due, Waiting

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
JOB = "d29fac30-650a-4ff2-b2b1-acab3c7472ea-20190607060819639"
RANGE = Reject("ID:57", "HTTP 500", "", None, "ID", "56", "58")
MARK = """
INSERT INTO etl.unread_values (source_id, job_id, property, form, first_seen_at, runs_to_wait, settled)
VALUES (%s, %s, %s, 'text a', %s, %s, %s)
"""


def a_reject(job_id: str = "a", **fields: Any) -> Reject:
    """A row that can't be read."""
    return Reject(**{"job_id": job_id, "reason": "no known form", "raw": "{}", "purge_date_time": None, **fields})


def keep(db: Connection, *kept: Reject, at: datetime = NOON) -> None:
    """They come, in a run."""
    rejects.keep(db, 1, 7, kept, at)


def mark(
    db: Connection, job_id: str, name: str = "canReRun", at: datetime = NOON, wait: int = 1, settled: bool = False
) -> None:
    """A job is marked."""
    db.execute(MARK, (1, job_id, name, at, wait, settled))


def begin_run(db: Connection, now: datetime = NOON, most: int = 10) -> list[str]:
    """A run begins: what is it that the source is asked for?"""
    waiting = ask_schedule.find_waiting(db, 1)
    ask_schedule.count_down(db, 1, waiting)
    return [due.job_id for due in ask_schedule.find_due(db, 1, now, most)]


def schedule(db: Connection) -> list[tuple[Any, ...]]:
    """Where each stands."""
    return db.execute(
        "SELECT job_id, reason, times_asked, runs_to_wait, times_missing FROM etl.rejects ORDER BY job_id"
    ).fetchall()


def test_what_waits_is_one_question(db: Connection) -> None:
    """Rejects, marks that aren't settled, and any marks at all; of this source."""
    assert ask_schedule.find_waiting(db, 1) == Waiting(rejects=False, unread=False, marks=False)
    mark(db, "a", settled=True)
    assert ask_schedule.find_waiting(db, 1) == Waiting(rejects=False, unread=False, marks=True)
    mark(db, "b")
    keep(db, a_reject())
    assert ask_schedule.find_waiting(db, 1) == Waiting(rejects=True, unread=True, marks=True)
    assert ask_schedule.find_waiting(db, 2) == Waiting(rejects=False, unread=False, marks=False)
    assert (rejects.any_wait(db, 1), rejects.any_wait(db, 2)) == (True, False)


@pytest.mark.parametrize("is_reject", [True, False])
def test_the_source_is_asked_after_1_2_4_and_8_runs_and_then_daily(db: Connection, is_reject: bool) -> None:
    """Of a reject and of a marked job alike, by the runs since it was last asked for."""
    if is_reject:
        keep(db, a_reject())
    else:
        mark(db, "a")
    asked = []
    for run in range(1, 16 + 3 * 24):
        now = NOON + run * timedelta(hours=1)
        if begin_run(db, now):
            asked.append(run)
            ask_schedule.note_asked(db, 1, ask_schedule.find_due(db, 1, now, 10), now)
    assert asked == [1, 3, 7, 15, 39, 63, 87]


def test_rejects_come_first_and_what_was_not_asked_for_longest(db: Connection) -> None:
    """Rejects before marked jobs, and no more than are wanted; a job that is both comes once."""
    keep(db, a_reject("late"), at=NOON + MINUTE)
    keep(db, a_reject("early"), at=NOON - MINUTE)
    keep(db, RANGE, at=NOON - 2 * MINUTE)
    mark(db, "marked")
    mark(db, "marked", "CanPublish", wait=5)
    mark(db, "early")
    mark(db, "settled", settled=True)
    assert begin_run(db, NOON) == ["ID:57", "early", "late", "marked"]
    assert ask_schedule.find_due(db, 1, NOON, 3) == [
        Due("ID:57", True, "ID", "56", "58"),
        Due("early", True),
        Due("late", True),
    ]
    ask_schedule.note_asked(db, 1, ask_schedule.find_due(db, 1, NOON, 2), NOON + 2 * MINUTE)
    assert [begin_run(db, NOON + 3 * MINUTE), begin_run(db, NOON + 4 * MINUTE)] == [
        ["late", "marked"],
        ["late", "ID:57", "early", "marked"],
    ]


@pytest.mark.parametrize(
    ("due", "span"),
    [
        (Due("ID:57", True, "ID", "56", "58"), (56, 57)),
        (Due("ID:(56,60)", True, "ID", "56", "60"), None),
        (Due("ID:(56,)", True, "ID", "56", None), None),
        (Due(JOB, True, "jobID", JOB[:-1], f"{JOB}!"), (JOB[:-1], JOB)),
        (Due("JOB-15", True, "jobID", "JOB-1", "JOB-15!"), None),
        (Due("a", True, "jobID", "7afb6462", "7afb6463-"), ("7afb6462", "7afb6463-")),
        (Due("a", True, "jobID", JOB, "d29fac31-"), (JOB, "d29fac31-")),
        (Due("a", True, "jobID", JOB, "d29fac32-"), None),
        (Due("a", True, "jobID", "0000001a", "0000001b"), None),
    ],
)
def test_a_scan_steps_over_one_record_and_no_other(due: Due, span: Any) -> None:
    """A range that may hold others is read."""
    assert due.span == span


@pytest.mark.parametrize("job_id", ["sha256:0a1b", "zz\ufffdz"])
def test_what_has_no_name_is_not_asked_for(db: Connection, job_id: str) -> None:
    """A digest, or a key of which a character was replaced; a range of keys is a name."""
    keep(db, a_reject(job_id))
    mark(db, job_id)
    assert begin_run(db) == []
    keep(db, a_reject(job_id, raw="", key_name="jobID", key_after="yy", key_before=None))
    assert ask_schedule.find_due(db, 1, NOON, 9) == [Due(job_id, True, "jobID", "yy", None)]


def test_a_moment_that_lies_ahead_keeps_nobody_from_asking(db: Connection) -> None:
    """A clock was wrong when it was noted."""
    keep(db, a_reject())
    db.execute("UPDATE etl.rejects SET times_asked = 9, runs_to_wait = 0, asked_at = %s", (NOON + 900 * DAY,))
    assert begin_run(db) == ["a"]


def test_a_reject_that_comes_again_keeps_its_place_in_the_schedule(db: Connection) -> None:
    """Also in another form; that it was missing is forgotten."""
    keep(db, a_reject())
    begin_run(db)
    ask_schedule.note_asked(db, 1, [Due("a", True)], NOON)
    assert rejects.note_missing(db, 1, ["a"]) == []
    assert schedule(db) == [("a", "no known form", 1, 2, 1)]
    keep(db, a_reject(reason="another", raw="[]"), at=NOON + DAY)
    assert schedule(db) == [("a", "another", 1, 2, 0)]
    first = db.execute("SELECT first_seen_at, raw FROM etl.rejects").fetchall()
    assert first == [(NOON, "[]")]


def test_a_reject_that_comes_as_it_was_is_not_written(db: Connection) -> None:
    """It comes in every run of a full scan."""
    keep(db, a_reject())
    before = db.execute("SELECT xmin::text, run_id FROM etl.rejects").fetchall()
    rejects.keep(db, 1, 8, [a_reject()], NOON + DAY)
    assert db.execute("SELECT xmin::text, run_id FROM etl.rejects").fetchall() == before


def test_a_reject_leaves_when_the_source_did_not_show_it_twice(db: Connection) -> None:
    """In a row; it is named, so that the run can say so."""
    keep(db, a_reject("a"), a_reject("b"), RANGE)
    assert rejects.note_missing(db, 1, []) == []
    assert rejects.note_missing(db, 1, ["a", "ID:57"]) == []
    keep(db, a_reject("a"))
    assert rejects.note_missing(db, 1, ["a", "b", "ID:57"]) == ["ID:57"]
    assert rejects.note_missing(db, 1, ["a", "b"]) == ["a", "b"]
    assert schedule(db) == []


def test_where_nobody_can_ask_a_reject_leaves_with_its_purge_date_or_after_30_days(db: Connection) -> None:
    """Named too. Where the source can be asked, only what it can't be asked for."""
    keep(
        db,
        a_reject("dated", purge_date_time=NOON + DAY),
        a_reject("undated"),
        a_reject("sha256:1", purge_date_time=NOON + DAY),
        RANGE,
    )
    assert rejects.expire(db, 1, NOON) == []
    assert rejects.expire(db, 1, NOON + 2 * DAY, can_ask=True) == ["sha256:1"]
    assert rejects.expire(db, 1, NOON + 2 * DAY) == ["dated"]
    assert rejects.expire(db, 1, NOON + 31 * DAY, can_ask=True) == []
    assert rejects.expire(db, 1, NOON + 31 * DAY) == ["ID:57", "undated"]


def test_a_program_that_reads_more_tries_each_reject_once(db: Connection) -> None:
    """From its raw row; the rejects of this program aren't tried again, since they can't be read by it."""
    keep(db, a_reject("a", raw='{"jobID": "a", "clientID": 5}'), a_reject("b", raw='{"jobID": "b"}'), RANGE)
    assert list(rejects.readable(db, 1)) == []
    db.execute("UPDATE etl.rejects SET flatten_version = %s", (FLATTEN_VERSION - 1,))
    [readable] = rejects.readable(db, 1)
    assert (readable.key, [job.row.job_id for job in readable.batch.jobs]) == ("b", ["b"])
    assert list(rejects.readable(db, 1)) == []
    assert len(schedule(db)) == 3


def test_no_more_than_a_thousand_are_counted_down_at_a_time(db: Connection) -> None:
    """Many more than a run asks for; however many wait, a run writes no more for it."""
    db.execute(
        "INSERT INTO etl.rejects (source_id, job_id, run_id, reason, raw, first_seen_at) "
        "SELECT 1, 'r' || i, 1, '', '', now() FROM generate_series(1, 1500) AS i"
    )
    db.execute(
        "INSERT INTO etl.unread_values (source_id, job_id, property, form, first_seen_at) "
        "SELECT 1, 'u' || i, 'ID', '', now() FROM generate_series(1, 1500) AS i"
    )
    assert [len(begin_run(db, most=9_999)) for _ in range(3)] == [2000, 3000, 3000]


def a_job(db: Connection, job_id: str, number: int | None) -> None:
    """A job that is due."""
    db.execute(
        "INSERT INTO aims360.jobs (source_id, job_id, id, purge_date_time, synced_at) VALUES (1, %s, %s, %s, %s)",
        (job_id, number, NOON - DAY, NOON),
    )


@pytest.mark.parametrize(
    ("after", "before", "held"),
    [
        ("56", "58", {"b", "unknown"}),
        ("57", "58", {"unknown"}),
        (None, "58", {"a", "b", "unknown"}),
        ("56", None, {"b", "c", "unknown"}),
        ("9", "100", {"b", "unknown"}),
        (None, None, {"a", "b", "c", "unknown"}),
    ],
)
def test_no_job_is_purged_that_a_record_which_was_not_served_may_be(
    db: Connection, after: str | None, before: str | None, held: set[str]
) -> None:
    """By its number, both bounds exclusive; one whose number isn't known may be any."""
    for job_id, number in (("a", 5), ("b", 57), ("c", 1000), ("unknown", None)):
        a_job(db, job_id, number)
    assert [due.job_id for due in purge.due(db, 1, NOON)] == ["a", "b", "c", "unknown"]
    keep(db, a_reject("range", key_name="ID", key_after=after, key_before=before))
    left = {"a", "b", "c", "unknown"} - held
    assert {due.job_id for due in purge.due(db, 1, NOON)} == left
    assert purge.count_due(db, 1, NOON) == len(left)
    assert purge.find_held(db, 1, ["a", "b", "c", "unknown"]) == held


def test_jobs_between_two_jobids_are_held_in_the_order_of_their_bytes(db: Connection) -> None:
    """As the keys of a scan are compared; and what has a reject of its own name."""
    for job_id in ("0-a", "0-b", "A", "a", "e-b", "é"):
        a_job(db, job_id, 1)
    keep(db, a_reject("range", key_name="jobID", key_after="0-a", key_before="a"), a_reject("e-b"))
    assert purge.find_held(db, 1, ["0-a", "0-b", "A", "a", "e-b", "é", "none"]) == {"0-b", "A", "e-b"}
    assert {due.job_id for due in purge.due(db, 1, NOON)} == {"0-a", "a", "é"}
    assert purge.count_due(db, 1, NOON) == 3
