"""Where the ranges of a scan end: an empty page is asked for once more where it may have been made up."""

from datetime import UTC, datetime

import pytest

from etl.extract.page_checks import Ends
from etl.models import Cursor, Page

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def a_page(rows: int, *, is_bounded: bool = False) -> Page:
    """A page of so many rows."""
    return Page((b"{}",) * rows, Cursor(0, None, None, done=not rows and not is_bounded), NOON)


@pytest.mark.parametrize(
    ("pages", "is_doubtful"),
    [
        ([], True),
        ([7], False),
        ([100], True),
        ([20, 20, 7], False),
        ([20, 20], True),
        ([100, 100, (50, 50)], True),  # fewer rows were asked for: it is whole
        ([100, 100, (50, 49)], False),
        ([100, "49 bounded"], True),  # the bound made it short
        ([100, "49 bounded", 3], False),
    ],
)
def test_an_empty_page_is_doubted_unless_a_short_one_came_before(pages: list[object], is_doubtful: bool) -> None:
    """Once: at the same place a second one is believed."""
    ends = Ends()
    for place, page in enumerate(pages):
        is_bounded = isinstance(page, str)
        asked, rows = page if isinstance(page, tuple) else (100, int(str(page).split()[0]))
        whole = ends.is_doubtful(a_page(rows), Cursor(0, place, None), asked, is_bounded=is_bounded, is_narrow=False)
        assert not whole
    asked = pages[-1][0] if pages and isinstance(pages[-1], tuple) else 100
    end = Cursor(0, len(pages), None)
    asked_twice = [ends.is_doubtful(a_page(0), end, asked, is_bounded=False, is_narrow=False) for _ in range(2)]
    assert asked_twice == [is_doubtful, False]


def test_of_many_parts_without_rows_the_first_is_doubted_and_the_end() -> None:
    """A narrowed scan would ask for each of them twice."""
    ends = Ends()
    ends.is_doubtful(a_page(5), Cursor(0, 0, None), 10, is_bounded=True, is_narrow=True)
    parts = [
        ends.is_doubtful(a_page(0, is_bounded=True), Cursor(0, place, None), 10, is_bounded=True, is_narrow=True)
        for place in range(1, 5)
    ]
    end = ends.is_doubtful(a_page(0), Cursor(0, 5, None), 10, is_bounded=False, is_narrow=True)
    assert (parts, end) == ([True, False, False, False], True)
