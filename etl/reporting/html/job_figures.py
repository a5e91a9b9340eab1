"""The figures about jobs: how many, how they end, how long they take, when they are asked for."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

from etl.reporting.html import charts, formatting
from etl.reporting.html.charts import Row
from etl.reporting.html.figure import DAYS, Answer, Asked, Days, Figure, days, keys, used
from etl.reporting.html.template import Key

_PER_DAY = Asked(
    "How many jobs were asked for each day, and how did they end?",
    "By the day a job was created ({zone}) and the last status that was seen, the last 30 days; purged jobs are "
    "counted too. Today isn’t over, and jobs of the last days may still change.",
)
_FAILURES = Asked(
    "Which kinds of job fail most, and is that new?",
    "The twelve kinds with most failures in the last 7 days, as a share of the jobs that ended; all sources together. "
    "With few jobs a share says little: their number stands beside it. It can’t see why a job failed, nor failures "
    "that a rerun made good.",
)
_TIMES = Asked(
    "How long do jobs wait, and how long do they run?",
    "By the day a job was created ({zone}); each step of the scale is several times the one below. Read off a "
    "histogram: an estimate, and more than a day is drawn as a day. Jobs still open aren’t in it, nor is the waiting "
    "of jobs that were run again.",
)
_BUSY = Asked(
    "When in the week are jobs asked for?",
    "Jobs by the weekday and hour in which they were created ({zone}), the last four weeks together. Only jobs that "
    "the mirror still holds: purged ones have left no hour behind.",
)

_FOOT = {"Failed": "var(--failed)", "Queued": "var(--queued)", "Inprogress": "var(--running)"}
_TOP = {"Completed": "var(--done)"}
_UNKNOWN = ("var(--other1)", "var(--other2)", "var(--other3)")
_REST, _NONE = "all other statuses", "no status"
_SAID = {"Inprogress": "in progress", "Queued": "queued", "Failed": "failed", "Completed": "completed"}

_LATELY, _WORSE, _BEFORE = "last 7 days", "last 7 days, clearly worse", "the 28 days before"
_RATES = {_LATELY: "var(--done)", _WORSE: "var(--failed)"}
_LONGEST_NAME = 70

_HALF, _MOST = "half of the jobs within", "95% of the jobs within"
_LINES = {_HALF: "var(--done)", _MOST: "var(--running)"}
_PANELS = {
    "Waiting in the queue": {_HALF: "queued_p50_seconds", _MOST: "queued_p95_seconds"},
    "Running": {_HALF: "run_p50_seconds", _MOST: "run_p95_seconds"},
}
_ROUND = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)


def per_day(rows: Sequence[Row], today: date, zone: str) -> Figure:
    """Stacked bars by status; failures at the foot, where they can be compared."""
    axis = _last_days(today)
    rows = [row for row in rows if row["day"] in axis.days]  # the database's clock, and its zones, may be a day apart
    if not rows:
        return _PER_DAY.empty("No job was created in the last 30 days.", zone)
    colours = status_colours(rows)
    counted: Counter[tuple[date, str]] = Counter()
    for row in rows:
        status = row["job_status"] or _NONE
        counted[row["day"], status if status in colours else _REST] += int(row["jobs"])
    drawn = [
        {
            "day": formatting.day(day),
            "series": status,
            "number": jobs,
            "said": f"{formatting.weekday_and_day(day)}: {formatting.count(jobs, 'job')} {_SAID.get(status, status)}",
        }
        for (day, status), jobs in counted.items()
    ]
    shown = used(colours, drawn)
    legend = [Key(_SAID.get(name, name), colour) for name, colour in shown.items()]
    return _PER_DAY.drawn(
        Answer("Jobs a day", legend, drawn), lambda width: charts.bars_by_day(drawn, axis, shown, width), zone
    )


def status_colours(rows: Sequence[Row]) -> dict[str, str]:
    """A colour a status, from the foot of the bars up; of unknown ones the three with most jobs have one each."""
    jobs: Counter[str] = Counter()
    for row in rows:
        jobs[row["job_status"] or _NONE] += row["jobs"]
    unknown = [name for name, _ in jobs.most_common() if name not in _FOOT and name not in _TOP]
    rest = {_REST: "var(--rest)"} if len(unknown) > len(_UNKNOWN) else {}
    return {**_FOOT, **dict(zip(unknown, _UNKNOWN, strict=False)), **rest, **_TOP}


def failures(rows: Sequence[Row]) -> Figure:
    """The share of failed jobs by category, against what it was."""
    failed = [row for row in rows if row["failed"]]
    if not failed:
        return _FAILURES.empty("No job failed in the last 7 days." if rows else "No job ended in the last 7 days.")
    drawn = [_rate(row) for row in failed]
    legend = [*keys(used(_RATES, drawn)), Key(_BEFORE, "var(--ink)", "|")]
    return _FAILURES.drawn(
        Answer("Share of jobs that failed", legend, drawn), lambda width: charts.rates(drawn, _RATES, width)
    )


def _rate(row: Row) -> Row:
    name, share, before = (
        _kind(row),
        formatting.share(row["failure_rate"]),
        formatting.share(row["failure_rate_before"]),
    )
    known = row["failure_rate_before"] is not None
    return {
        "name": name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…",
        "value": f"{share} of {row['ended']:,}",
        "rate": float(row["failure_rate"]),
        "before": float(row["failure_rate_before"]) if known else None,
        "series": _WORSE if row["is_worse"] else _LATELY,
        "said": f"{name}: {share} failed, {row['failed']:,} of {row['ended']:,}"
        + (f"; {before} before" if known else ""),
    }


def _kind(row: Row) -> str:
    category, sub = row["category_name"] or "no category", row["sub_category_name"]
    return f"{sub} · {category}" if sub else str(category)


def times(rows: Sequence[Row], today: date, zone: str) -> Figure:
    """Queue and run time, the middle and the slow end."""
    axis = _last_days(today)
    by_day = {row["day"]: row for row in rows}
    drawn: list[Row] = []
    for panel, columns in _PANELS.items():
        for series, column in columns.items():
            seconds = [by_day.get(day, {}).get(column) for day in axis.days]
            drawn += [{"panel": panel, "series": series, **_time(axis, seconds, place)} for place in range(DAYS)]
    known = [row for row in drawn if row["seconds"] is not None]
    if not known:
        return _TIMES.empty("No job of the last 30 days has a known time.", zone)
    for row in drawn:
        row["said"] = f"{row['said']}, {row['panel'].lower()}: {row['series']} {formatting.span(row['seconds'])}"
    return _TIMES.drawn(
        Answer("Time", keys(_LINES), known), lambda width: charts.lines_by_day(drawn, axis, _LINES, width), zone
    )


def _time(axis: Days, seconds: Sequence[Any], place: int) -> Row:
    known = seconds[place]
    beside = (*seconds[max(0, place - 1) : place], *seconds[place + 1 : place + 2])
    return {
        "day": axis.names[place],
        "seconds": None if known is None else max(0.1, float(known)),  # a logarithmic scale has no zero
        "alone": all(other is None for other in beside),
        "said": formatting.weekday_and_day(axis.days[place]),
    }


def busy_hours(rows: Sequence[Row], zone: str) -> Figure:
    """When jobs are asked for."""
    if not rows:
        return _BUSY.empty("No job of the last four weeks is in the mirror.", zone)
    jobs = {(row["weekday"], row["hour"]): int(row["jobs"]) for row in rows}
    bounds, labels = heat_steps(max(jobs.values()))
    drawn = [
        _hour(name, hour, jobs.get((weekday, hour), 0))
        for weekday, name in enumerate(charts.WEEKDAYS, 1)
        for hour in range(24)
    ]
    some = [row for row in drawn if row["number"]]
    legend = keys(dict(zip(labels, charts.HEAT, strict=False)))
    return _BUSY.drawn(Answer("Jobs", legend, some), lambda width: charts.heat(drawn, bounds, width), zone)


def _hour(weekday: str, hour: int, jobs: int) -> Row:
    said = f"{weekday}, {hour:02}:00 to {(hour + 1) % 24:02}:00: {formatting.count(jobs, 'job')}"
    return {"weekday": weekday, "hour": hour, "number": jobs, "said": said}


def heat_steps(highest: int) -> tuple[list[int], list[str]]:
    """Where the second to sixth colour begin, in round numbers of which the last is reached, and what each means.

    There are fewer labels where the highest number is below the last colour.
    """
    sizes = (size * 10**power for power in range(9) for size in _ROUND)
    size = max([1, *(int(fits) for fits in sizes if fits == int(fits) and 4 * fits < highest)])
    bounds = [1, *(size * step + 1 for step in range(1, 5))]
    between = [f"{low:,}" if high == low + 1 else f"{low:,} to {high - 1:,}" for low, high in pairwise(bounds)]
    used_bounds = sum(bound <= highest for bound in bounds)
    return bounds, ["none", *between, f"{bounds[-1]:,} or more"][: used_bounds + 1]


def _last_days(today: date) -> Days:
    return days(today - timedelta(days=DAYS - 1))
