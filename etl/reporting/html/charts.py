"""The charts: rows of the page's questions to Altair. Pure; a width comes in, a chart goes out.

Axes of days are bands in the rows' order and the axis of times is UTC, so that no picture depends on where it is drawn.
Each mark carries `said`, which the drawing makes its hover text.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import altair as alt

from etl.reporting.html.figure import Days
from etl.reporting.html.svg import NARROW
from etl.reporting.html.template import Key

Row = dict[str, Any]
Colours = Mapping[str, str]
"""A series' name to the variable of the page that colours it, in the order of the legend."""

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HEAT = tuple(f"var(--h{step})" for step in range(6))
_SAID = alt.Description("said:N")
_SECONDS = (0.01, 0.1, 1, 10, 60, 600, 3600, 21600, 86400, 864000)
_SPANS = (
    "{'0.01': '10 ms', '0.1': '0.1 s', '1': '1 s', '10': '10 s', '60': '1 min', '600': '10 min', '3600': '1 h', "
    "'21600': '6 h', '86400': '1 day', '864000': '10 days'}[datum.value]"
)
_SHAPES = {"●": "circle", "▲": "triangle-up", "◆": "diamond", "■": "square", "▼": "triangle-down"}
# Pixels: what axes take of the width, more than is needed here, for the reader's font may be wider; what is between two
# panels; and what a category takes of the height, a line of text and a bar.
_BESIDE_NUMBERS, _BESIDE_SPANS, _BETWEEN, _LINE = 40, 52, 28, 40
_FEW = 5


def bars_by_day(rows: Sequence[Row], axis: Days, colours: Colours, width: int) -> alt.Chart:
    """Stacked bars. Rows: day, series, number, said."""
    series = list(colours)
    heights = {row["day"]: 0 for row in rows}
    for row in rows:
        heights[row["day"]] += row["number"]
    highest = max(heights.values())
    # Left to itself the axis of a few jobs would have halves of them.
    numbers = alt.Axis(title=None, format="~s", tickCount=4, minExtent=_BESIDE_NUMBERS)
    if highest < _FEW:
        numbers = alt.Axis(title=None, format="d", values=list(range(highest + 1)), minExtent=_BESIDE_NUMBERS)
    drawn: alt.Chart = (
        _chart([{**row, "place": series.index(row["series"])} for row in rows])
        .mark_bar()
        .encode(
            x=_days(axis, axis.marked),
            y=alt.Y("number:Q", stack="zero", axis=numbers),
            color=_colour(colours),
            order=alt.Order("place:Q"),
            description=_SAID,
        )
        .properties(width=_inner(width, _BESIDE_NUMBERS), height=190 if width == NARROW else 220)
    )
    return drawn


def lines_by_day(rows: Sequence[Row], axis: Days, colours: Colours, width: int) -> alt.ConcatChart:
    """Two panels of lines on one logarithmic scale. Rows: day, panel, series, seconds (None breaks the line), alone,
    said."""
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    across = 1 if width == NARROW else len(panels)
    known = [row["seconds"] for row in rows if row["seconds"] is not None]
    drawn = []
    for panel in panels:
        encoded = _chart([row for row in rows if row["panel"] == panel]).encode(
            x=_days(axis, axis.marked[::across]), y=_durations(known), color=_colour(colours)
        )
        # A day alone between unknown ones has no line; the other points are there to be hovered over.
        seen = alt.Opacity("alone:N", scale=alt.Scale(domain=[False, True], range=[0, 1]), legend=None)
        points = encoded.mark_circle(size=40).encode(description=_SAID, opacity=seen)
        both = encoded.mark_line(strokeWidth=2, strokeJoin="round") + points
        title = alt.Title(panel, anchor="start", color="var(--ink)", fontSize=13, fontWeight=500, offset=12)
        drawn.append(both.properties(width=_inner(width, _BESIDE_SPANS, across), height=160, title=title))
    return alt.concat(*drawn, columns=across, spacing=_BETWEEN)


def rates(rows: Sequence[Row], colours: Colours, width: int) -> alt.TopLevelMixin:
    """A bar a category, name and value above it, a tick where it was before. Rows: name, value, rate, before (or None),
    series, said."""
    highest = max([0.01, *(row["rate"] for row in rows), *(row["before"] or 0 for row in rows)])
    base = _chart([{**row, "place": place} for place, row in enumerate(rows)]).encode(
        y=alt.Y("place:O", axis=None), description=_SAID
    )
    shares = alt.Axis(title=None, format="~%", tickCount=4)
    rate = alt.X("rate:Q", scale=alt.Scale(domain=[0, highest], nice=True), axis=shares)
    bars = base.mark_bar(size=9, yOffset=7).encode(x=rate, color=_colour(colours))
    tick = base.transform_filter("datum.before !== null").mark_tick(
        color="var(--ink)", thickness=2, size=17, yOffset=7, opacity=1
    )
    names = base.mark_text(align="left", yOffset=-9, limit=width - 130).encode(x=alt.value(0), text="name:N")
    values = base.mark_text(align="right", yOffset=-9, color="var(--soft)").encode(x=alt.value(width), text="value:N")
    layers = alt.layer(bars, tick.encode(x=alt.X("before:Q")), names, values)
    return layers.properties(width=width, height=_LINE * len(rows))


def heat(rows: Sequence[Row], bounds: Sequence[int], width: int) -> alt.Chart:
    """Weekday by hour. Rows: weekday, hour, number, said; `bounds` are where the second to sixth colour begin."""
    days = alt.Axis(title=None, minExtent=_BESIDE_NUMBERS)
    hours = alt.Axis(title=None, labelAngle=0, values=list(range(0, 24, 3)))
    drawn: alt.Chart = (
        _chart(rows)
        .mark_rect(cornerRadius=2)
        .encode(
            x=alt.X("hour:O", scale=alt.Scale(domain=list(range(24)), paddingInner=0.1), axis=hours),
            y=alt.Y("weekday:O", scale=alt.Scale(domain=list(WEEKDAYS), paddingInner=0.1), axis=days),
            color=alt.Color(
                "number:Q", scale=alt.Scale(type="threshold", domain=list(bounds), range=list(HEAT)), legend=None
            ),
            description=_SAID,
        )
        .properties(width=_inner(width, _BESIDE_NUMBERS), height=150 if width == NARROW else 180)
    )
    return drawn


def runs(rows: Sequence[Row], legend: Sequence[Key], bounds: tuple[datetime, datetime], width: int) -> alt.Chart:
    """A point a run by its beginning and its duration. Rows: at (UTC), seconds, series, said."""
    days = (bounds[1] - bounds[0]).total_seconds() / 86400
    axis = alt.Axis(
        title=None,
        format="%-d %b" if days > 3 else "%-d %b %H:%M" if days > 1 else "%H:%M",
        tickCount=4 if width == NARROW else 8,
        labelOverlap="greedy",
        labelSeparation=12,
    )
    names = [key.name for key in legend]
    shapes = alt.Scale(domain=names, range=[_SHAPES[key.sign] for key in legend])
    drawn: alt.Chart = (
        _chart([{**row, "at": _utc(row["at"])} for row in rows])
        .mark_point(filled=True, size=34, opacity=0.85)
        .encode(
            x=alt.X("at:T", scale=alt.Scale(type="utc", domain=list(map(_utc, bounds))), axis=axis),
            y=_durations([row["seconds"] for row in rows]),
            color=_colour({key.name: key.colour for key in legend}),
            shape=alt.Shape("series:N", scale=shapes, legend=None),
            description=_SAID,
        )
        .properties(width=_inner(width, _BESIDE_SPANS), height=170 if width == NARROW else 190)
    )
    return drawn


def _chart(rows: Sequence[Row]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=list(rows)))


def _inner(width: int, axis: int, across: int = 1) -> int:
    """What is left for the drawing, beside the axis."""
    return (width - _BETWEEN * (across - 1)) // across - axis


def _days(axis: Days, marked: Sequence[str]) -> alt.X:
    scale = alt.Scale(domain=list(axis.names), paddingInner=0.2, paddingOuter=0.1)
    return alt.X("day:O", scale=scale, axis=alt.Axis(title=None, values=list(marked), labelAngle=0, labelOverlap=True))


def _durations(known: Sequence[float]) -> alt.Y:
    low = max((tick for tick in _SECONDS if tick <= min(known)), default=_SECONDS[0])
    high = min((tick for tick in _SECONDS if tick >= max(known) and tick > low), default=_SECONDS[-1])
    ticks = [tick for tick in _SECONDS if low <= tick <= high]
    scale = alt.Scale(type="log", domain=[low, high], clamp=True)
    return alt.Y(
        "seconds:Q", scale=scale, axis=alt.Axis(title=None, values=ticks, labelExpr=_SPANS, minExtent=_BESIDE_SPANS)
    )


def _colour(colours: Colours) -> alt.Color:
    return alt.Color("series:N", scale=alt.Scale(domain=list(colours), range=list(colours.values())), legend=None)


def _utc(moment: datetime) -> int:
    """Milliseconds since 1970: a text without a zone would be read in the drawing machine's own."""
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)
