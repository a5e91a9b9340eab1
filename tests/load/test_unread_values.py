"""Jobs that were loaded without a value: they are marked, read once more, and not again after that."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from etl.load import purge, unread_values, version_filter
from etl.load.merge_policy import Rules
from etl.load.upsert import load
from etl.load.version_filter import Told
from etl.models import Batch, Counts
from etl.postgres.connection import Connection
from etl.state import ask_schedule
from etl.testing.chaos.invariants import Laws
from etl.transform.flatten import flatten

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LOOK_BACK = timedelta(minutes=15)
MARKS = "SELECT property, form, settled FROM etl.unread_values WHERE source_id = 1 AND job_id = %s ORDER BY property"
STORED = "SELECT percent_completed, number_of_attempts, extra, xmin::text FROM aims360.jobs WHERE job_id = %s"
VERSIONS = ("AAAAAAAAAAE=", "AAAAAAAAAAI=", "AAAAAAAAAAM=")


def a_batch(*, job_id: str = "a", version: int = 1, **properties: Any) -> Batch:
    """A page of one job."""
    row = {
        "jobID": job_id,
        "rowversion": VERSIONS[version - 1],
        "modifiedDate": f"2026-03-02T11:0{version}:00Z",
        "createdDate": "2026-03-02T10:00:00Z",
        "completedDate": "2026-03-02T11:00:00Z",
        "startDate": "2026-03-02T10:30:00Z",
        **properties,
    }
    return flatten([json.dumps({name: value for name, value in row.items() if value != "absent"}).encode()])


def read(db: Connection, batch: Batch, **rules: Any) -> Counts:
    """The page is loaded as a run does it that knows what waits."""
    waiting = ask_schedule.find_waiting(db, 1)
    known = {"has_marks": waiting.marks, "has_unread": waiting.unread}
    with db.transaction():
        return load(db, 1, batch, Rules(LOOK_BACK, NOON, **{**known, **rules}))


def settle(db: Connection, *batches: Batch, after: timedelta = DAY) -> None:
    """The source was asked for these jobs, and showed them as before."""
    for batch in batches:
        due = [ask_schedule.Due(job.row.job_id, is_reject=False) for job in batch.jobs]
        with db.transaction():
            ask_schedule.note_asked(db, 1, due, NOON + after)
            unread_values.settle(db, 1, batch.jobs, NOON + after)


def marks(db: Connection, job_id: str = "a") -> list[tuple[Any, ...]]:
    """The marks of a job."""
    return db.execute(MARKS, (job_id,)).fetchall()


def stored(db: Connection, job_id: str = "a") -> list[tuple[Any, ...]]:
    """What the mirror holds of it, and which writing that is."""
    return db.execute(STORED, (job_id,)).fetchall()


def test_a_job_with_an_unread_value_is_loaded_and_marked(db: Connection) -> None:
    """Without the value: that stands in the job alone."""
    read(db, a_batch(percentCompleted="half", response='[{"documentName": "a", "SizeInMB": "big"}]'))
    assert stored(db)[0][:3] == (None, None, {"percentCompleted": "half"})
    assert marks(db) == [("percentCompleted", "text a", False), ("response.SizeInMB", "text a", False)]
    assert "half" not in str(db.execute("SELECT to_jsonb(u)::text FROM etl.unread_values AS u").fetchall())


def test_the_same_version_that_is_read_whole_is_written_and_the_mark_goes(db: Connection) -> None:
    """It had been spoilt on its way. The history has no second row for it, but what was read now."""
    laws = Laws()
    read(db, a_batch(percentCompleted="half", numberOfAttempts="?"))
    assert [said for said in laws.broken(db) if "history" in said] == []
    counts = read(db, a_batch(percentCompleted=50, numberOfAttempts=1))
    assert (counts.updated, counts.unchanged, counts.refused) == (1, 0, 0)
    assert stored(db)[0][:3] == (50, 1, None)
    assert marks(db) == []
    history = db.execute("SELECT percent_completed, number_of_attempts FROM aims360.job_status_history").fetchall()
    assert history == [(50, 1)]
    assert [said for said in laws.broken(db) if "history" in said] == []


def test_the_same_version_that_is_written_again_is_no_rerun(db: Connection) -> None:
    """Its start could not be read before: it is the same run."""
    read(db, a_batch(startDate="half past ten"))
    assert read(db, a_batch()).updated == 1
    rows = db.execute("SELECT start_date IS NOT NULL, reruns_seen FROM aims360.jobs").fetchall()
    assert rows == [(True, 0)]
    assert db.execute("SELECT start_date IS NOT NULL FROM aims360.job_status_history").fetchall() == [(True,)]


def test_a_value_in_the_same_form_is_no_news(db: Connection) -> None:
    """Nothing is written, however often it comes."""
    unread = a_batch(percentCompleted="half")
    read(db, unread)
    before = (stored(db), db.execute("SELECT xmin::text FROM etl.unread_values").fetchall())
    for has_unread in (False, True, True):
        assert read(db, unread, has_unread=has_unread).unchanged == 1
    assert (stored(db), db.execute("SELECT xmin::text FROM etl.unread_values").fetchall()) == before


def test_a_value_that_has_the_same_form_a_day_later_is_settled(db: Connection) -> None:
    """It is the source's own form, and the source is not asked again. A gateway may spoil rows for minutes."""
    unread = a_batch(percentCompleted="half")
    read(db, unread)
    settle(db, unread, after=23 * HOUR)
    settle(db, a_batch(percentCompleted=50))  # an older version, say, that was not written
    settle(db, a_batch(percentCompleted=[50]))
    assert marks(db) == [("percentCompleted", "text a", False)]
    settle(db, unread)
    assert marks(db) == [("percentCompleted", "text a", True)]
    assert ask_schedule.find_waiting(db, 1) == (False, False, True)


def test_a_form_that_is_settled_for_several_jobs_is_settled_for_all(db: Connection) -> None:
    """Those that wait, and those that come; another form, or another property, is asked for."""
    pages = {
        job_id: a_batch(job_id=job_id, percentCompleted="half" if job_id != "f" else [50], numberOfAttempts="one")
        for job_id in "abcdef"
    }
    for page in pages.values():
        read(db, page)
    db.execute("UPDATE etl.unread_values SET first_seen_at = %s WHERE property = 'numberOfAttempts'", (NOON + DAY,))
    db.execute("UPDATE etl.unread_values SET settled = true WHERE property <> 'numberOfAttempts' AND job_id = 'd'")
    settle(db, pages["a"], pages["b"])
    assert [marks(db, job_id)[1][2] for job_id in "abcdef"] == [True, True, False, True, False, False]
    settle(db, pages["c"])
    assert [marks(db, job_id)[1][2] for job_id in "abcdef"] == [True, True, True, True, True, False]
    assert {marks(db, job_id)[0] for job_id in "abcdef"} == {("numberOfAttempts", "text a", False)}
    read(db, a_batch(job_id="g", percentCompleted="some"))
    assert marks(db, "g") == [("percentCompleted", "text a", True)]


def test_replaced_characters_are_settled_job_by_job(db: Connection) -> None:
    """No source means to send them, whatever others show."""
    rows = [f'{{"jobID": "{job_id}", "jobStatusText": "\ufffd", "rowversion": "AAAAAAAAAAE="}}' for job_id in "abcd"]
    pages = [flatten([row.encode()], 1) for row in rows]
    for page in pages:
        read(db, page)
    settle(db, *pages[:3])
    assert [marks(db, job_id)[0][2] for job_id in "abcd"] == [True, True, True, False]


def test_a_settled_mark_goes_once_the_job_is_read_whole(db: Connection) -> None:
    """By a newer version."""
    read(db, a_batch(percentCompleted="half"))
    settle(db, a_batch(percentCompleted="half"))
    assert read(db, a_batch(version=2, percentCompleted=50)).updated == 1
    assert (marks(db), stored(db)[0][:3]) == ([], (50, None, None))


def test_a_value_in_another_form_is_asked_for_again(db: Connection) -> None:
    """The form is new, whatever was settled before; one in the settled form isn't."""
    read(db, a_batch(percentCompleted="half"))
    settle(db, a_batch(percentCompleted="half"))
    read(db, a_batch(version=2, percentCompleted="all"))
    assert marks(db) == [("percentCompleted", "text a", True)]
    db.execute("UPDATE etl.unread_values SET times_asked = 4, runs_to_wait = 0")
    read(db, a_batch(version=3, percentCompleted=[50]))
    assert marks(db) == [("percentCompleted", "list", False)]
    assert db.execute("SELECT times_asked, runs_to_wait FROM etl.unread_values").fetchall() == [(0, 1)]


def test_only_what_was_written_is_marked(db: Connection) -> None:
    """An older version, or the same one of a job that was read whole, changes nothing here."""
    read(db, a_batch(version=2, percentCompleted=50))
    for version, refused in ((2, 0), (1, 1)):
        counts = read(db, a_batch(version=version, percentCompleted="half"))
        assert (counts.updated, counts.refused) == (0, refused)
    assert (marks(db), stored(db)[0][0]) == ([], 50)


def test_of_a_job_without_a_version_a_value_is_written(db: Connection) -> None:
    """By its contents: the same form is no change, and no rowversion is lost by it."""
    read(db, a_batch(percentCompleted="half"))
    assert read(db, a_batch(percentCompleted="half", rowversion="absent")).unchanged == 1
    assert db.execute("SELECT row_version FROM aims360.jobs").fetchall() == [(1,)]
    assert read(db, a_batch(percentCompleted=50, rowversion="absent")).updated == 1
    assert (marks(db), stored(db)[0][0]) == ([], 50)


def test_a_job_that_waits_for_a_value_is_never_told_to_be_the_same(db: Connection) -> None:
    """Its row is looked at, as long as its mark isn't settled."""
    page = Told(["a", "b"], [1, 1], [None, None], [True, True])
    for job_id in "ab":
        read(db, a_batch(job_id=job_id, modifiedDate=None, percentCompleted="half" if job_id == "a" else 50))
    assert version_filter.differing(db, 1, page) == set()
    assert version_filter.differing(db, 1, page, is_unread=True) == {"a"}
    settle(db, a_batch(job_id="a", modifiedDate=None, percentCompleted="half"))
    assert version_filter.differing(db, 1, page, is_unread=True) == set()


@pytest.mark.parametrize("mode", ["delete", "scrub", "keep"])
def test_with_a_purged_job_its_marks_go(db: Connection, mode: str) -> None:
    """Nobody asks for it again."""
    db.execute(
        "INSERT INTO etl.sources (name, base_url, flatten_version, purge_mode, time_zone) "
        "VALUES ('aims360', 'https://host', 2, 'delete', 'UTC')"
    )
    for job_id in "ab":
        read(db, a_batch(job_id=job_id, percentCompleted="half"))
    with db.transaction():
        purge.remove(db, 1, mode, ["a"], NOON)
    assert (marks(db, "a"), len(marks(db, "b"))) == ([], 1)


def test_all_is_rewritten_where_that_is_asked_for_and_marks_follow(db: Connection) -> None:
    """`sync --full --rewrite`, or the weekly comparison after an upgrade."""
    read(db, a_batch(percentCompleted="half"))
    settle(db, a_batch(percentCompleted="half"))
    assert read(db, a_batch(percentCompleted=50), rewrite=True).updated == 1
    assert (marks(db), stored(db)[0][0]) == ([], 50)
