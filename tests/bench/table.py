"""Figures, what they are held against, and how they are shown: as a table, and as JSON to compare with later. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """Something measured several times; `command` is what a person would type to do the same."""

    what: str
    unit: str
    values: tuple[float, ...]
    command: str

    @property
    def median(self) -> float:
        """The one in the middle."""
        return median(self.values)

    def __str__(self) -> str:
        return f"{self.what}: {' '.join(map(shown, self.values))} {self.unit}"


@dataclass(frozen=True, slots=True)
class Target:
    """What the median must not pass, in the figure's unit; `text` says where that comes from."""

    text: str
    limit: float
    at_least: bool = False

    def holds(self, value: float) -> bool:
        """Whether this value keeps to it."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: work, the floor it stands on, and its target, where it has them."""

    figure: Figure
    floor: Figure | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """The work's median to the floor's."""
        return self.figure.median / self.floor.median if self.floor and self.floor.median else None

    @property
    def holds(self) -> bool | None:
        """Whether the target holds; None without one."""
        return None if self.target is None else self.target.holds(self.figure.median)


def against(figure: Figure, floor: Figure, times: float, text: str) -> Line:
    """A line whose target is so many times its floor."""
    return Line(figure, floor, Target(text, times * floor.median))


def faster(figures: Sequence[Figure]) -> Figure:
    """The one with the least median."""
    return min(figures, key=lambda figure: figure.median)


HEAD = ("work", "unit", "median", "min", "max", "floor", "ratio", "target", "holds", "change", "command")
FLOOR_HEAD = ("floor", "unit", "median", "min", "max", "change", "command")


def table(lines: Sequence[Line], before: Mapping[str, float]) -> str:
    """The work; `before` are medians of an earlier run by name."""
    return _aligned([HEAD, *(_cells(line, before) for line in lines)], numbers=range(2, 7))


def floor_table(floors: Sequence[Figure], before: Mapping[str, float]) -> str:
    """The floors."""
    rows = [(f.what, f.unit, *_spread(f), _change(f, before), f.command) for f in floors]
    return _aligned([FLOOR_HEAD, *rows], numbers=range(2, 5))


def verdict(lines: Sequence[Line]) -> str:
    """How many targets hold, and which don't."""
    judged = [line for line in lines if line.holds is not None]
    missed = [line.figure.what for line in judged if not line.holds]
    said = f"{len(judged) - len(missed)} of {len(judged)} targets hold"
    return f"{said}; not: {'; '.join(missed)}" if missed else said


def as_json(machine: Mapping[str, Any], lines: Sequence[Line], floors: Sequence[Figure]) -> dict[str, Any]:
    """Every single figure, for comparison over time."""
    return {
        "machine": dict(machine),
        "work": [{**asdict(line.figure), "floor": _name(line), "target": _asked(line)} for line in lines],
        "floors": [asdict(figure) for figure in floors],
    }


def medians(earlier: Sequence[Mapping[str, Any]], scale: float) -> dict[str, float]:
    """The medians of the last run of the same scale, by name."""
    for run in reversed(earlier):
        if run["machine"]["scale"] == scale:
            return {each["what"]: median(each["values"]) for kind in ("work", "floors") for each in run[kind]}
    return {}


def shown(value: float) -> str:
    """A number in three digits, or whole."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def _name(line: Line) -> str | None:
    return line.floor.what if line.floor else None


def _asked(line: Line) -> dict[str, Any] | None:
    return {**asdict(line.target), "holds": line.holds} if line.target else None


def _cells(line: Line, before: Mapping[str, float]) -> tuple[str, ...]:
    figure, floor, ratio, target = line.figure, line.floor, line.ratio, line.target
    return (
        figure.what,
        figure.unit,
        *_spread(figure),
        shown(floor.median) if floor else "",
        f"{ratio:.2f}" if ratio is not None else "",
        target.text if target else "",
        "" if line.holds is None else "yes" if line.holds else "no",
        _change(figure, before),
        figure.command,
    )


def _spread(figure: Figure) -> tuple[str, str, str]:
    return shown(figure.median), shown(min(figure.values)), shown(max(figure.values))


def _change(figure: Figure, before: Mapping[str, float]) -> str:
    then = before.get(figure.what)
    return f"{figure.median / then - 1:+.0%}" if then else ""


def _aligned(rows: Sequence[Sequence[str]], numbers: range) -> str:
    used = [place for place in range(len(rows[0])) if any(row[place] for row in rows[1:])]
    widths = {place: max(len(row[place]) for row in rows) for place in used}
    cells = (
        [row[place].rjust(widths[place]) if place in numbers else row[place].ljust(widths[place]) for place in used]
        for row in rows
    )
    return "\n".join("  ".join(row).rstrip() for row in cells)
