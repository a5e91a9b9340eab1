"""A figure of the page before it is drawn, and what figures share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, NamedTuple

from etl.reporting.html import formatting
from etl.reporting.html.template import Key

DAYS = 30
"""How far the page looks back, and ahead."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart to be: `draw` gives it at a width; without one `instead` says why there is nothing to see.

    `said`: each of its values in words, for those who can't see the chart or hover over it.
    """

    title: str
    caption: str
    unit: str = ""
    legend: Sequence[Key] = field(default_factory=list)
    draw: Callable[[int], Any] | None = None
    instead: str = ""
    said: Sequence[str] = ()


class Answer(NamedTuple):
    """What a chart shows: its unit, its legend, and a row a mark, each with the words of its value as `said`."""

    unit: str
    legend: Sequence[Key]
    rows: Sequence[dict[str, Any]]


class Asked(NamedTuple):
    """A question, and what its answer can't see; `{zone}` in it is the time zone of its days."""

    title: str
    caption: str

    def drawn(self, answer: Answer, draw: Callable[[int], Any], zone: str = "") -> Figure:
        """The figure that answers it."""
        said = [row["said"] for row in answer.rows]
        return Figure(self.title, self.caption.format(zone=zone), answer.unit, answer.legend, draw, said=said)

    def empty(self, instead: str, zone: str = "") -> Figure:
        """What stands there when there is nothing to draw."""
        return Figure(self.title, self.caption.format(zone=zone), instead=instead)


class Days(NamedTuple):
    """The days of an axis: themselves, their names, and those that are written at it, the Mondays."""

    days: Sequence[date]
    names: Sequence[str]
    marked: Sequence[str]


def days(first: date, number: int = DAYS) -> Days:
    """An axis of so many days."""
    found = [first + timedelta(days=place) for place in range(number)]
    return Days(
        found, [formatting.day(day) for day in found], [formatting.day(day) for day in found if day.weekday() == 0]
    )


def keys(colours: Mapping[str, str]) -> list[Key]:
    """A legend of areas."""
    return [Key(name, colour) for name, colour in colours.items()]


def used(colours: Mapping[str, str], rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The series that the rows have, in their order: what isn't in the picture isn't in its legend."""
    found = {row["series"] for row in rows}
    return {name: colour for name, colour in colours.items() if name in found}
