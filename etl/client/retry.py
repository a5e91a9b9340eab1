"""When a request is worth another attempt, or a run is; how long to wait. Pure: headers and times are handed in."""

import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from etl.client.network_errors import Hindrance
from etl.errors import SourceError

LONGEST_RETRY_AFTER = 900.0  # seconds; whoever asks for more ends the attempts
PAUSE = 1.0  # seconds for all requests where a 429 doesn't say how long
_LONGEST_BACK_OFF = 300.0  # seconds; what comes back is noticed within that
_LONGEST_TURNED_AWAY = 1800.0  # seconds; a wrong password, tried too often, locks the account


class Again(SourceError):
    """An attempt failed in a way that another may not. Not `was_sent`: it never left, since no connection was made.

    `is_too_large`: it took too long or was too large, so that half of it may be answered. `is_spoilt`: the service
    failed at it, for what it holds perhaps.
    """

    def __init__(
        self,
        message: str,
        retry_after: float | None = None,
        *,
        was_sent: bool = True,
        hindrance: Hindrance | None = None,
        is_too_large: bool = False,
        is_spoilt: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after, self.was_sent, self.hindrance = retry_after, was_sent, hindrance
        self.is_too_large, self.is_spoilt = is_too_large, is_spoilt


def jitter(attempt: int, longest: float) -> float:
    """Seconds until the next attempt where nobody says how long: doubling up to the longest, and by chance."""
    return random.uniform(0.2, 1.0) * min(longest, 0.5 * 2.0**attempt)  # noqa: S311 - no secret


def back_off(every: float, failures: int, *, turned_away: bool = False) -> float:
    """Seconds waited beyond the next run's time, `every` apart: none after one failure, then doubling, up to 5 minutes.

    Where the source turns us away, refusing to sign in, it is up to half an hour.
    """
    skipped = 2.0 ** min(failures - 1, 16) - 1 if failures else 0.0
    longest = _LONGEST_TURNED_AWAY if turned_away else _LONGEST_BACK_OFF
    return min(every * skipped, max(0.0, longest - every))


def held_for(asked: float | None) -> float:
    """Seconds for which all requests wait after a 429 that asked for so many."""
    return PAUSE if asked is None else min(asked, LONGEST_RETRY_AFTER)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Retry-After in seconds: a number, with a fraction too, a date by the source's clock (else by ours), or none."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{0,9})?", text, re.ASCII):
        return float(text)
    moment = _http_date(text)
    return None if moment is None else max(0.0, (moment - (given_at(headers) or now)).total_seconds())


def given_at(headers: Mapping[str, str]) -> datetime | None:
    """When an answer was given, by the clock of who gave it."""
    return _http_date(headers.get("Date", ""))


def _http_date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
