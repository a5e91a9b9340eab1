"""A throttle: so many requests a second are let in; who comes before the Retry-After has passed is counted. Pure."""

from collections import deque
from dataclasses import dataclass, field

RETRY_AFTER = 1.0  # seconds
ON_ITS_WAY = 0.05  # seconds that a 429 may take to be read: what was sent until then could not know of it


@dataclass
class Gate:
    """Lets `burst` requests in within any second; `burst` 0 lets all in. Times are seconds of one clock."""

    burst: int
    inside: int = 0
    refused: int = 0
    _closed: tuple[float, float] = (0.0, 0.0)
    _admitted: deque[float] = field(default_factory=deque)

    def admits(self, arrived: float, now: float) -> bool:
        """Whether a request that arrived then is answered now; else it is told to come back in `RETRY_AFTER`."""
        if not self.burst:
            return True
        since, until = self._closed
        if since < arrived < until:
            self.inside += arrived > since + ON_ITS_WAY
            return self._refuse(now)
        while self._admitted and self._admitted[0] < now - 1:
            self._admitted.popleft()
        if len(self._admitted) >= self.burst:
            return self._refuse(now)
        self._admitted.append(now)
        return True

    def _refuse(self, now: float) -> bool:
        since, until = self._closed
        self.refused += 1
        self._closed = (since if now < until else now, now + RETRY_AFTER)
        return False
