"""The time by the source's clock, as its answers give it, and how far it is ahead of this machine's."""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from etl.client.retry import given_at
from etl.config.settings import Source
from etl.models import CLOCK_TOLERANCE, Clock


class SourceClock:
    """The clock of one source. Safe to use from several threads."""

    def __init__(self, source: Source, clock: Clock, notice: Callable[[str], None]) -> None:
        self._base = source.base_url
        self._clock = clock
        self._notice = notice
        # It bounds the watermark: beyond a look-back nothing would catch up.
        self._far_ahead = min(CLOCK_TOLERANCE, source.look_back)
        self._has_warned = False
        self._lock = threading.Lock()
        self.ahead: timedelta | None = None  # of this machine's clock, by the last answer

    def read_time(self, headers: Mapping[str, str]) -> datetime:
        """Return when an answer was given: this machine's time where it gives none, or one far in the future.

        An earlier time is always safe: it bounds the watermark.
        """
        date, now = given_at(headers), self._clock.now()
        if date is None:
            return now
        self.ahead = date - now
        if date > now + self._far_ahead:
            self._warn(date, now)
            return now
        return date

    def _warn(self, date: datetime, now: datetime) -> None:
        """Warn once that the source's clock is not used: nothing is lost by that, but the mirror seems to lag."""
        with self._lock:
            is_first, self._has_warned = not self._has_warned, True
        if is_first:
            self._notice(
                f"{self._base}: its clock says {date:%Y-%m-%d %H:%M} UTC, this machine's {now:%Y-%m-%d %H:%M}: the "
                "earlier one is gone by. Set this machine's clock; until then it looks as if the mirror lagged"
            )
