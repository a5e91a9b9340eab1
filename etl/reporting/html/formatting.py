"""How the page says numbers, spans and states. Pure."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

from etl.models import CLOCK_TOLERANCE
from etl.reporting import refusals

State = Literal["good", "look", "bad"]
_HOUR, _DAY = 3600.0, 86400.0
# A mirror is synced every few minutes as a rule: an hour behind is worth a look, a day is a pipeline that stands still.
_LATE, _TOO_LATE = _HOUR, _DAY
_STEPS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_WELL = {"complete": "was complete", "complete_with_rejects": "was complete but for rows that can't be read"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A source in one sentence, and whether someone should look."""

    source: str
    state: State
    word: str
    sentence: str
    reading: str = ""
    """What the service refuses, and what that costs each run; nothing of a source that is read as usual."""


def count(number: int, one: str, many: str = "") -> str:
    """`1 job`, `1,204 jobs`, `no jobs`."""
    return (
        f"{number or 'no'} {one if number == 1 else many or one + 's'}"
        if number < 1000
        else f"{number:,} {many or one + 's'}"
    )


def share(value: Decimal | float | None) -> str:
    """A share of 0 to 1 in per cent; a dash where it isn't known."""
    return "–" if value is None else f"{float(value):.1%}"


def span(seconds: Decimal | float | None) -> str:
    """A duration as short as it can be read: `0.4 s`, `41 s`, `9 min`, `3.5 h`; a dash where it isn't known."""
    if seconds is None:
        return "–"
    value = float(seconds)
    if value < 9.95:
        return f"{value:.2g} s" if value >= 1 else f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.0f} ms"
    if value < 100:
        return f"{value:.0f} s"
    return (
        f"{value / 60:.0f} min"
        if value < 100 * 60
        else f"{value / _HOUR:.1f} h"
        if value < 2 * _DAY
        else f"{value / _DAY:.1f} days"
    )


def ago(seconds: float) -> str:
    """How far back, in the largest whole unit: `3 minutes`."""
    for size, unit in _STEPS:
        if seconds >= size:
            return count(int(seconds // size), unit)
    return "less than a second"


def day(value: date) -> str:
    """`3 Nov`."""
    return f"{value.day} {value:%b}"


def weekday_and_day(value: date) -> str:
    """`Tue 3 Nov`."""
    return f"{value:%a} {day(value)}"


def moment(value: datetime) -> str:
    """`25 November 2026, 16:30 UTC`, of a time in UTC."""
    return f"{value.day} {value:%B %Y, %H:%M} UTC"


def verdict(row: dict[str, Any], now: datetime) -> Verdict:
    """What a row of `sql/page/freshness.sql` means at `now`."""
    lag = None
    if row["complete_through_utc"] is not None:
        lag = (now - row["complete_through_utc"].replace(tzinfo=UTC)).total_seconds()
    state, word = _state(row, lag)
    sentence = " ".join((_freshness(row, lag), _last_run(row), _waiting(row)))
    return Verdict(row["source"], state, word, sentence, _reading(row))


def _state(row: dict[str, Any], lag: float | None) -> tuple[State, str]:
    if row["last_outcome"] in ("failed", "interrupted"):
        return "bad", f"Last run {row['last_outcome']}"
    if lag is None:
        return "bad", "Never complete"
    if lag < -CLOCK_TOLERANCE.total_seconds():
        return "bad", "A clock was wrong"
    if lag > _TOO_LATE:
        return "bad", f"{ago(lag)} behind"
    if lag > _LATE:
        return "look", f"{ago(lag)} behind"
    if row["went_back"]:
        return "look", "Source was restored"
    if row["open_rejects"] or row["last_verdict"] in ("incomplete", "complete_with_rejects"):
        return "look", "Not all rows are in"
    return ("look", "Jobs are stuck") if row["stuck"] else ("good", "Fresh and complete")


def _freshness(row: dict[str, Any], lag: float | None) -> str:
    if lag is None:
        return "No scan of this source has come to its end yet, so nothing can be said of what is missing."
    through = moment(row["complete_through_utc"])
    if lag < -CLOCK_TOLERANCE.total_seconds():
        return (
            f"It says that it is complete through {through}, {ago(-lag)} after this page was written: a clock was "
            "wrong, so nothing can be said of what is missing."
        )
    return f"Complete through {through}, {ago(max(0.0, lag))} before this page was written."


def _last_run(row: dict[str, Any]) -> str:
    if row["last_outcome"] is None:
        return "No run was recorded yet."
    if row["last_outcome"] == "running":
        return f"A run ({row['last_kind']}) is at work."
    if row["last_outcome"] != "succeeded":
        return (
            f"The last run ({row['last_kind']}) {'failed' if row['last_outcome'] == 'failed' else 'was interrupted'}."
        )
    how = _WELL.get(row["last_verdict"] or "", "left a part for the next one" if row["last_verdict"] else "")
    return f"The last run ({row['last_kind']}) succeeded{' and ' if how else ''}{how}."


def _reading(row: dict[str, Any]) -> str:
    names = refusals.split_names(row["refused"])
    said = refusals.describe_reading(row["paging"], row["window_by"], names, row["last_requests"])
    return f"{row['source']}: {said}." if said else ""


def _waiting(row: dict[str, Any]) -> str:
    rejects, stuck = int(row["open_rejects"]), int(row["stuck"])
    read = (
        f"{count(rejects, 'row')} can’t be read and {'waits' if rejects == 1 else 'wait'}"
        if rejects
        else "Every row could be read"
    )
    jobs = f"{count(stuck, 'job')} {'is' if stuck == 1 else 'are'} stuck" if stuck else "no job is stuck"
    restored = f" The source went back to an earlier state ({row['went_back']})." if row["went_back"] else ""
    return f"{read}; {jobs}.{restored}"
