"""What people read: texts without what would steer a terminal, times, lengths of time, tables that fit."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

# Control characters would steer the terminal, marks of direction would shuffle the line.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
_BETWEEN = "  "
_LISTED = 5  # of many texts
_LEAST = 12  # cells: a text that is cut shorter than that says nothing


def shown(text: str) -> str:
    """The text in a line, with a space for what can't be shown."""
    return _UNPRINTABLE.sub(" ", text)


def utc(time: datetime) -> str:
    """A moment, which has its zone, to the second: `2026-03-02 09:00:00 UTC`."""
    return f"{moment(time)} UTC"


def moment(time: datetime) -> str:
    """The same under a title that says that it is UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def span(seconds: object) -> str:
    """A length of time in its two largest units: `2 min 5 s`, `3 d 4 h`."""
    left = max(0, round(float(str(seconds))))
    parts = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        number, left = divmod(left, length)
        parts.append((number, unit))
    first = next((place for place, (number, _) in enumerate(parts) if number), len(parts) - 1)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number) or "0 s"


def rows_that(number: int, said: str) -> str:
    """`1 row that can't be read`, `2 rows that can't be read`."""
    return f"{number:,} row{'' if number == 1 else 's'} {said}"


def most_frequent(counts: Counter[str]) -> str:
    """List the most frequent texts, each with how often it came."""
    listed = counts.most_common(_LISTED)
    more = f", and {len(counts) - _LISTED} more" if len(counts) > _LISTED else ""
    return ", ".join(f"{shown(text)} ({number} times)" if number > 1 else shown(text) for text, number in listed) + more


class Column(NamedTuple):
    """A column of a table. Where there is no room, that of the lowest `worth` is left out first."""

    title: str
    cells: Sequence[str]
    worth: int = 0
    is_number: bool = False


def table(columns: Sequence[Column], width: int | None) -> str:
    """Columns side by side, under their titles. Within `width` cells: columns are left out, and the last is cut."""
    columns = [column for column in columns if any(column.cells)]
    while width is not None and len(columns) > 1 and _width(columns, cut_last=True) > width:
        columns.remove(min(columns, key=lambda column: column.worth))
    widths = [_widest(column) for column in columns]
    if width is not None and sum(widths) + len(_BETWEEN) * (len(columns) - 1) > width:
        widths[-1] = max(1, width - sum(widths[:-1]) - len(_BETWEEN) * (len(columns) - 1))
    rows = zip(*([column.title, *column.cells] for column in columns), strict=True)
    return "\n".join(_line(row, columns, widths) for row in rows)


def _width(columns: Sequence[Column], cut_last: bool) -> int:
    widths = [_widest(column) for column in columns]
    if cut_last:
        widths[-1] = min(widths[-1], _LEAST)
    return sum(widths) + len(_BETWEEN) * (len(columns) - 1)


def _widest(column: Column) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, [column.title, *column.cells]))


def _line(row: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    from rich.cells import cell_len, set_cell_size

    cells = []
    for text, column, width in zip(row, columns, widths, strict=True):
        wide = cell_len(text)
        fitted = set_cell_size(text, max(0, width - 1)) + "…" if wide > width else text
        padding = " " * (width - cell_len(fitted))
        cells.append(padding + fitted if column.is_number else fitted + padding)
    return _BETWEEN.join(cells).rstrip()
