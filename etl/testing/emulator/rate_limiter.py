"""How many requests an account may make: so many a second, and a second's worth at once."""


class Allowance:
    """What is left of an account's requests; moments are seconds on any clock that doesn't go back."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._most = max(1.0, rate)
        self._left, self._at = self._most, 0.0

    def wait(self, now: float) -> float:
        """Take a request; 0 where there is one left, else the seconds until there is, and none is taken."""
        self._left = min(self._most, self._left + (now - self._at) * self.rate)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self.rate
        self._left -= 1
        return 0.0
