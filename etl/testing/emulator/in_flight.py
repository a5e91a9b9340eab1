"""How many requests are being answered at the same time, and a limit on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class InFlightLimit:
    """Counts requests from their arrival to the end of their answer, and turns those beyond `most` away.

    `most` is None for no limit. `now` is the number of admitted requests without a complete answer, `peak` the highest
    it has been.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.now = self.peak = 0
        self._lock = Lock()

    @contextmanager
    def arrive(self) -> Iterator[bool]:
        """Count a request until the end of the context. Yields whether it is admitted; others aren't counted."""
        with self._lock:
            is_admitted = self.most is None or self.now < self.most
            self.now += is_admitted
            self.peak = max(self.peak, self.now)
        try:
            yield is_admitted
        finally:
            with self._lock:
                self.now -= is_admitted
