"""Which of two versions is kept: the rule as a table."""

from datetime import UTC, datetime, timedelta

import pytest

from etl.load.merge_policy import Choice, Rules, Stored, Tombstone, choose
from etl.models import JobRow
from etl.transform.flatten import flatten

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LOOK_BACK = timedelta(minutes=15)
RULES = Rules(LOOK_BACK, NOON)
FULL = Rules(LOOK_BACK, NOON, trust_before=NOON - LOOK_BACK)
HOUR = timedelta(hours=1)


def a_row(version: int | None, modified: datetime | None = NOON, purge: datetime | None = None) -> JobRow:
    """A version of a job."""
    row = flatten([b'{"jobID": "a"}']).jobs[0].row
    return row._replace(row_version=version, modified_date=modified, purge_date_time=purge)


@pytest.mark.parametrize(
    ("row", "stored", "choice"),
    [
        (a_row(5), None, Choice.NEW),
        (a_row(5), (5, NOON), Choice.SAME),
        (a_row(6), (5, NOON), Choice.NEWER),
        (a_row(6, NOON - HOUR), (5, NOON), Choice.NEWER),  # committed late: an older stamp, a greater number
        (a_row(4), (5, NOON), Choice.OLDER),
        (a_row(4, NOON + LOOK_BACK), (5, NOON), Choice.OLDER),
        (a_row(4, NOON + HOUR), (5, NOON), Choice.NEWER),  # another database behind the same address
        (a_row(5, NOON + timedelta(seconds=1)), (5, NOON), Choice.OLDER),
        (a_row(2**62), (2**61, NOON), Choice.NEWER),
        (a_row(None), (5, NOON), Choice.COMPARE),
        (a_row(5), (None, NOON), Choice.COMPARE),
        (a_row(None, NOON + HOUR), (5, NOON), Choice.NEWER),
        (a_row(None, NOON - HOUR), (5, NOON), Choice.OLDER),
        (a_row(None, None), (None, None), Choice.COMPARE),
        (a_row(None, None), (None, NOON), Choice.OLDER),
        (a_row(None, NOON), (None, None), Choice.NEWER),
        (a_row(6, None), (5, NOON), Choice.NEWER),
        (a_row(5, None), (5, datetime(1899, 12, 30, tzinfo=UTC)), Choice.SAME),  # as an earlier release stored it
        (a_row(4, NOON), (5, datetime(1, 1, 1, tzinfo=UTC)), Choice.NEWER),
    ],
)
def test_a_version_is_the_pair_of_rowversion_and_date(
    row: JobRow, stored: tuple[int | None, datetime | None] | None, choice: Choice
) -> None:
    """Both equal: untouched. Greater number, or much later date: taken. Else refused."""
    known = None if stored is None else Stored(*stored, purge_date_time=None, purged_at=None)
    assert choose(row, known, None, RULES) is choice


@pytest.mark.parametrize(("version", "choice"), [(4, Choice.OLDER), (5, Choice.AGAIN), (6, Choice.NEWER)])
def test_of_a_job_with_an_unread_value_the_same_version_is_written_again(version: int, choice: Choice) -> None:
    """The value may be read now; an older version is still older."""
    assert (
        choose(
            a_row(version), Stored(5, NOON, None, None, unread=frozenset({("percentCompleted", "list")})), None, RULES
        )
        is choice
    )


@pytest.mark.parametrize(
    ("modified", "choice"), [(NOON - HOUR, Choice.NEWER), (NOON, Choice.OLDER), (NOON + 9 * HOUR, Choice.NEWER)]
)
def test_a_full_scan_takes_the_sources_word_over_what_is_old(modified: datetime, choice: Choice) -> None:
    """Only where the stored row hasn't changed for a look-back; a date in the future never gets old."""
    assert choose(a_row(4, modified - HOUR), Stored(5, modified, None, None), None, FULL) is choice


@pytest.mark.parametrize(
    ("purge", "tombstone", "choice"),
    [
        (NOON, Tombstone("purged", NOON), Choice.GONE),
        (NOON - HOUR, Tombstone("purged", NOON), Choice.GONE),
        (NOON + HOUR, Tombstone("purged", NOON), Choice.BACK),
        (None, Tombstone("purged", NOON), Choice.BACK),
        (NOON, Tombstone("missing_at_source", NOON), Choice.BACK),
    ],
)
def test_a_purged_job_comes_back_only_with_a_later_date(
    purge: datetime | None, tombstone: Tombstone, choice: Choice
) -> None:
    """Or where it had only been missing."""
    assert choose(a_row(9, purge=purge), None, tombstone, RULES) is choice


def test_a_row_that_the_purge_left_in_place_is_held_like_a_tombstone() -> None:
    """Under scrub and keep: skipped, until its date is moved."""
    stored = Stored(5, NOON, NOON, purged_at=NOON + HOUR)
    assert choose(a_row(6, purge=NOON), stored, None, RULES) is Choice.GONE
    assert choose(a_row(6, purge=NOON + HOUR), stored, None, RULES) is Choice.NEWER
    missing = Stored(5, NOON, NOON + HOUR, purged_at=NOON)
    assert choose(a_row(5, purge=NOON + HOUR), missing, None, RULES) is Choice.NEWER
