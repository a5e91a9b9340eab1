"""The scan's rules as functions of values: windows, checks of a page, ranges."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from msgspec.structs import replace

from etl.client import odata, payload
from etl.errors import BrokenPromise
from etl.extract.keyset_scan import lost_its_key, split, window
from etl.extract.page_checks import check_page
from etl.extract.probe import Probe
from etl.models import Cursor, Key, Page, Scan, ScanKind, Window

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LOOK_BACK = timedelta(minutes=15)
START = Cursor(0, None, None)
GUID = "d29fac30-650a-4ff2-b2b1-acab3c7472e{}-20190607060819639"


def a_scan(key: str = "ID", lower: datetime | None = None) -> Scan:
    """A scan of one range."""
    return Scan(ScanKind.FULL, Window(lower, NOON, NOON), key, (Cursor(0, None, None),))


def an_answer(*keys: object, key: str = "ID", modified: str | None = "2026-03-02T11:59:00Z") -> payload.Answer:
    """A page of rows with these keys."""
    rows = [json.dumps({key: value, "modifiedDate": modified}).encode() for value in keys]
    return payload.Answer(tuple(rows), None, 0)


def after(scan: Scan, answer: payload.Answer, cursor: Cursor = START) -> Key | None:
    """Where the cursor stands after a page."""
    return check_page(scan, cursor, answer, NOON).cursor.after


def newest(modified: str | None, **properties: object) -> Probe:
    """What a probe found."""
    return Probe(odata.Stamp(modifiedDate=modified, **properties), NOON)


@pytest.mark.parametrize(
    ("found", "watermark", "upper"),
    [
        (newest("2026-03-02T11:00:00Z"), None, NOON - timedelta(hours=1)),
        (newest("2099-01-01T00:00:00Z"), None, NOON),  # a row of the future must not blind the mirror
        (newest(None), NOON - LOOK_BACK, NOON - LOOK_BACK),
        (Probe(None, NOON), NOON - LOOK_BACK, NOON - LOOK_BACK),
        (Probe(None, NOON), None, None),
    ],
)
def test_the_watermark_to_be_is_never_beyond_what_was_seen_or_the_sources_clock(
    found: Probe, watermark: datetime | None, upper: datetime | None
) -> None:
    """Smaller is always safe."""
    assert window(ScanKind.INCREMENTAL, found, watermark, LOOK_BACK).upper == upper


def test_a_window_begins_a_look_back_and_a_tick_before_the_watermark() -> None:
    """10 ms more, since shown times are rounded ticks; a full scan has no beginning."""
    found = newest("2026-03-02T12:00:00Z")
    lower = window(ScanKind.INCREMENTAL, found, NOON, LOOK_BACK).lower
    assert lower == NOON - LOOK_BACK - timedelta(milliseconds=10)
    assert window(ScanKind.FULL, found, NOON, LOOK_BACK).lower is None


def test_the_cursor_moves_to_the_last_key_and_an_empty_page_ends_the_range() -> None:
    """Integers as numbers, jobIDs as text."""
    assert after(a_scan(), an_answer(9, 10, 11)) == 11
    assert after(a_scan("jobID"), an_answer(GUID.format("a"), GUID.format("b"), key="jobID")) == GUID.format("b")
    assert check_page(a_scan(), Cursor(0, 5, None), an_answer(), NOON).cursor == Cursor(0, 5, None, done=True)


def test_rows_without_a_readable_key_do_not_move_the_cursor() -> None:
    """The last readable key counts; a page without any is an error."""
    assert after(a_scan(), an_answer(7, "8", None, True)) == 7
    with pytest.raises(BrokenPromise, match="readable ID"):
        after(a_scan(), an_answer("8", None))


@pytest.mark.parametrize("keys", [(1, 1, 2), (2, 1, 3)])
def test_repeated_rows_are_no_error_as_long_as_something_new_comes(keys: tuple[int, ...]) -> None:
    """Within a page, or from the page before."""
    assert after(a_scan(), an_answer(*keys), Cursor(0, 1 if keys[0] == 2 else None, None)) == keys[-1]


@pytest.mark.parametrize(
    ("keys", "cursor", "said"),
    [
        ((3, 2), Cursor(0, None, None), r"ignores \$orderby"),
        ((1, 2, 3), Cursor(0, 3, None), "nothing new"),
        ((4, 9), Cursor(0, 3, 8), "beyond the range"),
    ],
)
def test_a_page_that_does_not_keep_what_was_asked_is_refused(keys: tuple[int, ...], cursor: Cursor, said: str) -> None:
    """Order, cursor, range."""
    with pytest.raises(BrokenPromise, match=said):
        after(a_scan(), an_answer(*keys), cursor)


@pytest.mark.parametrize("up_to", ["d29fac30", GUID.format("b"), "D29"])
def test_a_job_beyond_its_range_is_refused_where_its_first_digits_tell(up_to: str) -> None:
    """A range ends at digits of our own, or at a job that came before."""
    cursor, answer = Cursor(0, None, up_to), an_answer(GUID.format("b"), key="jobID")
    assert after(a_scan("jobID"), answer, cursor) == GUID.format("b")
    beyond = an_answer("e" + GUID.format("b")[1:], key="jobID")
    if up_to == "D29":  # a key that can't be compared
        assert after(a_scan("jobID"), beyond, cursor) is not None
        return
    with pytest.raises(BrokenPromise, match="beyond the range"):
        after(a_scan("jobID"), beyond, cursor)


@pytest.mark.parametrize("modified", ["2026-03-02T11:00:00Z", None])
def test_a_row_outside_the_window_says_that_the_filter_is_ignored(modified: str | None) -> None:
    """With a millisecond of play, since shown times are rounded; an unreadable date is the row's fault alone."""
    scan = a_scan(lower=NOON - LOOK_BACK)
    with pytest.raises(BrokenPromise, match=r"ignores \$filter"):
        after(scan, an_answer(1, modified=modified))
    assert after(scan, an_answer(1, modified="yesterday")) == 1
    assert after(scan, an_answer(1, modified="2026-03-02T11:44:59.999Z")) == 1


def test_keys_that_cannot_be_compared_here_are_taken_as_they_come() -> None:
    """Only a page that repeats the one before is an error; the end is held against the source's count."""
    scan = a_scan("jobID")
    page = check_page(scan, Cursor(0, None, None), an_answer("Z-9", "a-1", key="jobID"), NOON)
    assert (page.opaque, page.cursor.after, page.delivered) == (True, "a-1", 2)
    with pytest.raises(BrokenPromise, match="repeats"):
        check_page(scan, page.cursor, an_answer("Z-9", "a-1", key="jobID"), NOON)


def test_a_scan_whose_key_is_no_longer_shown_is_known() -> None:
    """Rows that once showed ID and now don't: the open scan can't go on."""
    assert lost_its_key(a_scan("ID"), newest("2026-03-02T11:00:00Z", jobID="a"))
    assert not lost_its_key(a_scan("jobID"), newest("2026-03-02T11:00:00Z", jobID="a", ID=1))
    assert not lost_its_key(a_scan("ID"), Probe(None, NOON))


@pytest.mark.parametrize(
    ("key", "after", "up_to", "highest", "parts"),
    [
        ("ID", 1_000, None, 101_000, 8),
        ("ID", 1_000, 3_000, 101_000, 8),
        ("ID", 1_000, None, 1_550, 2),  # each of two pages of a hundred at least
        ("ID", 1_000, None, 1_399, 1),
        ("ID", 1_000, None, None, 1),  # the source doesn't say how far its keys go
        ("ID", 5_000, None, 1_000, 1),
        ("jobID", "0" + GUID.format(0)[1:], None, GUID.format(0), 8),
        ("jobID", "00000000", "80000000", None, 8),
        ("jobID", GUID.format(0), None, None, 8),
        ("jobID", "ffffff0" + GUID.format(0)[7:], None, None, 1),
        ("jobID", "of another form", None, None, 1),
    ],
)
def test_a_range_is_split_into_ranges_that_leave_nothing_out(
    key: str, after: Key, up_to: Key | None, highest: Key | None, parts: int
) -> None:
    """The first begins where it stands, each begins where the one before ends, the last ends where it did."""
    scan = replace(a_scan(key), expected=100_000, highest=highest)
    page = Page((b"{}",) * 100, Cursor(3, after, up_to), NOON)
    ranges = split(scan, page, 8)
    assert len(ranges) == parts
    assert (ranges[0].after, ranges[-1].up_to) == (after, up_to)
    assert all(one.up_to == other.after for one, other in pairwise(ranges))
    assert split(scan, page, 1) == [page.cursor]
    bounds = [cursor.after for cursor in ranges]
    assert all(odata.is_less(one, other) for one, other in pairwise(bounds) if one is not None and other is not None)
