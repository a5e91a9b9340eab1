"""The figures about what needs someone: documents that are about to go, and the pipeline's own runs."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from etl.reporting.html import charts, formatting
from etl.reporting.html.charts import Row
from etl.reporting.html.figure import DAYS, Answer, Asked, Figure, days, keys, used
from etl.reporting.html.template import Key

_EXPIRING = Asked(
    "How many documents will soon be gone?",
    "Documents by the day ({zone}) on which they expire or their job is purged at the source, whichever comes first; "
    "the next 30 days. It can’t see whether someone has fetched them already.",
)
_RUNS = Asked(
    "How did the pipeline’s own runs go?",
    "Each point is a run by its beginning (UTC), the last 14 days; where many lie close together, the slowest of each "
    "outcome. Runs without news that are older than a week are kept as one row a day, which has no duration. It can’t "
    "see a run that should have been and never began.",
)
_ENDS = {"expiry": "the document expires", "purge": "its job is purged"}
_BARS = {_ENDS["expiry"]: "var(--running)", _ENDS["purge"]: "var(--done)"}
_OUTCOMES = (
    Key("succeeded", "var(--done)", "●"),
    Key("complete with rejects", "var(--running)", "◆"),
    Key("incomplete", "var(--other1)", "■"),
    Key("failed", "var(--failed)", "▲"),
    Key("interrupted", "var(--queued)", "▼"),
)
_QUICKEST = 0.01


def expiring(rows: Sequence[Row], today: date, zone: str) -> Figure:
    """What will be gone, and when."""
    axis = days(today, DAYS + 1)
    rows = [row for row in rows if row["day"] in axis.days]  # the database's clock, and its zones, may be a day apart
    if not rows:
        return _EXPIRING.empty("No document expires in the next 30 days.", zone)
    drawn = [
        {
            "day": formatting.day(row["day"]),
            "series": _ENDS[row["ends_by"]],
            "number": row["documents"],
            "said": f"{formatting.weekday_and_day(row['day'])}: {formatting.count(row['documents'], 'document')}, "
            f"{_ENDS[row['ends_by']]}; {row['published']:,} published",
        }
        for row in rows
    ]
    shown = used(_BARS, drawn)
    return _EXPIRING.drawn(
        Answer("Documents a day", keys(shown), drawn),
        lambda width: charts.bars_by_day(drawn, axis, shown, width),
        zone,
    )


def runs(rows: Sequence[Row], now: datetime) -> Figure:
    """The pipeline's own runs; those that haven't ended have no point."""
    drawn = [_run(row) for row in rows if row["seconds"] is not None]
    if not drawn:
        return _RUNS.empty("No run of the last 14 days has ended yet.")
    legend = [key for key in _OUTCOMES if any(row["series"] == key.name for row in drawn)]
    until = now.astimezone(UTC).replace(tzinfo=None)
    # The database's clock may be ahead of ours.
    bounds = (
        min(until - timedelta(hours=1), *(row["at"] for row in drawn)),
        max(until, *(row["at"] for row in drawn)),
    )
    return _RUNS.drawn(
        Answer("Duration of a run", legend, drawn), lambda width: charts.runs(drawn, legend, bounds, width)
    )


def _run(row: Row) -> Row:
    many = f"; the slowest of {row['runs']:,} runs" if row["runs"] > 1 else ""
    began, took = formatting.moment(row["started_at_utc"]), formatting.span(row["seconds"])
    return {
        "at": row["started_at_utc"],
        "seconds": max(_QUICKEST, float(row["seconds"])),
        "series": row["outcome"],
        "said": f"{began}: {row['kind']}, {row['outcome']}, {took}{many}",
    }
