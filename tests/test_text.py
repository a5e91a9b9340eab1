"""What people read: no text steers their terminal, times say UTC, lengths of time their units, tables fit."""

from datetime import datetime

import pytest

from etl.text import Column, moment, shown, span, table, utc


def test_what_would_steer_the_terminal_is_not_shown() -> None:
    """Control characters, marks of direction, lone surrogates: a space."""
    assert shown("a\x1b[31mred\x07\u202eback\ud800") == "a [31mred back "


def test_a_moment_is_told_in_utc() -> None:
    """Whatever zone it has."""
    time = datetime.fromisoformat("2026-03-02T10:00:00.7+01:00")
    assert (utc(time), moment(time)) == ("2026-03-02 09:00:00 UTC", "2026-03-02 09:00:00")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((0, "0 s"), ("0.4", "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3_600, "1 h"), (3_725, "1 h 2 min")),
        *((93_600, "1 d 2 h"), (86_405, "1 d"), (-3, "0 s")),
    ],
)
def test_a_length_of_time_is_told_in_its_two_largest_units(seconds: object, said: str) -> None:
    """People don't read 93600.4 s."""
    assert span(seconds) == said


def test_a_column_of_numbers_stands_right() -> None:
    """And one of texts left."""
    assert table([Column("n", ["1", "20"], is_number=True), Column("t", ["a", "bb"])], None) == " n  t\n 1  a\n20  bb"
