"""Times as SQL Server keeps them: whole ticks of 1/300 second, counted here from 0001-01-01 UTC.

Comparisons are made in units of 100 nanoseconds (*hns*), the grain of `datetime2(7)`, because that is the type in which
the service meets the literals of a filter.
"""

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal

Comparison = Literal["datetime", "datetime2"]

TICKS_A_SECOND = 300
TICKS_A_DAY = 86_400 * TICKS_A_SECOND
HNS_A_SECOND = 10_000_000

_EPOCH = datetime(1, 1, 1, tzinfo=UTC)
_LAST_DAY = date.max.toordinal()
_NO_MARKS = str.maketrans("", "", "-:")
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,7}))?)?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)


def hns_of(moment: datetime) -> int:
    """The moment (aware) in units of 100 ns."""
    since = moment.astimezone(UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * HNS_A_SECOND + since.microseconds * 10


def nearest_tick(hns: int) -> int:
    """The tick SQL Server rounds this moment to when it becomes a `datetime`."""
    return (hns * 3 + 50_000) // 100_000


def tick_of(moment: datetime) -> int:
    """The tick on which `getutcdate()` would put this moment."""
    return nearest_tick(hns_of(moment))


def ticks_in(span: timedelta) -> int:
    """A duration in whole ticks, rounded."""
    return round(span / timedelta(microseconds=1) * 300 / 1_000_000)


def stored_hns(tick: int) -> int:
    """What the tick is as a `datetime2(7)`: 221/300 s is .7366667."""
    return (tick * 200_000 + 3) // 6


def moment_of(tick: int) -> datetime:
    """The tick as an aware datetime, cut to the microsecond."""
    return _EPOCH + timedelta(microseconds=stored_hns(tick) // 10)


@lru_cache(maxsize=4096)
def _day(number: int) -> str:
    return date.fromordinal(min(max(number + 1, 1), _LAST_DAY)).isoformat()


@lru_cache(maxsize=86_400)
def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


# one row shows some of its times more than once
@lru_cache(maxsize=1024)
def shown(tick: int) -> str:
    """The tick as the service prints it: whole milliseconds, trailing zeros dropped, `.64Z` and `.737Z`."""
    seconds, part = divmod(tick, TICKS_A_SECOND)
    text = f"{_day(seconds // 86_400)}T{_clock(seconds % 86_400)}"
    return f"{text}.{(part * 10 + 1) // 3:03}".rstrip("0") + "Z" if part else f"{text}Z"


def shown_hns(hns: int) -> str:
    """A moment in seven digits, as document expiry dates are printed."""
    seconds, part = divmod(hns, HNS_A_SECOND)
    return f"{_day(seconds // 86_400)}T{_clock(seconds % 86_400)}.{part:07}Z"


@lru_cache(maxsize=1024)
def stamp(tick: int) -> str:
    """yyyyMMddHHmmssfff, the tail of a jobID; cut, not rounded, as the application makes it and not the database."""
    seconds, part = divmod(tick, TICKS_A_SECOND)
    text = f"{_day(seconds // 86_400)}{_clock(seconds % 86_400)}{part * 10 // 3:03}"
    return text.translate(_NO_MARKS)


def read_hns(text: str) -> int | None:
    """A timestamp (0 to 7 fraction digits, `Z` or an offset) in units of 100 ns; None if it isn't one."""
    found = _TIMESTAMP.fullmatch(text)
    if not found:
        return None
    year, month, day, hour, minute, second, fraction, sign, off_hours, off_minutes = found.groups()
    try:
        plain = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), tzinfo=UTC)
    except ValueError:
        return None
    offset = (int(off_hours or 0) * 60 + int(off_minutes or 0)) * 60 * HNS_A_SECOND * (-1 if sign == "-" else 1)
    return hns_of(plain) + int((fraction or "").ljust(7, "0")) - offset


def read_stored(text: str) -> int | None:
    """A timestamp of a row handed in as text: what the database must hold to show it.

    Up to three digits that a tick would show are that tick; anything finer is taken as exact.
    """
    hns = read_hns(text)
    if hns is None or hns % 10_000:
        return hns
    kept = stored_hns(nearest_tick(hns))
    return kept if (kept + 5_000) // 10_000 == hns // 10_000 else hns


def literal_hns(hns: int, comparison: Comparison) -> int:
    """What a literal is compared as.

    "datetime": bound as a `datetime`, so rounded to its tick first. "datetime2": bound as it stands, so that
    `ge ….737` misses the row that shows .737 and holds .7366667.
    """
    return stored_hns(nearest_tick(hns)) if comparison == "datetime" else hns
