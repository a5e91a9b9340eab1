"""What goes wrong between a client and the service: on demand, or by a share of the calls, always the same by seed."""

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from random import Random

KINDS = (
    "429-seconds",
    "429-date",
    "429-bare",
    "500",
    "502",
    "503",
    "504",
    "html",
    "error-in-200",
    "cut",
    "reset",
    "slow",
    "expired-token",
)
"""The faults that `Faults` draws by default. Seeds depend on this list: add new kinds to `MORE_KINDS`.

`429-…` with Retry-After in seconds (2), as an HTTP date, or without; `html`: 200 and a page of HTML; `error-in-200`;
`cut`: half the body under the full Content-Length; `reset`: the connection is reset; `slow`: the body drips;
`expired-token`: 401, and all granted tokens are forgotten.
"""

MORE_KINDS = ("overload", "overload-bare", "408", "403-html", "404-html")
"""Faults that happen only if they are named.

`overload`: 400 with `requestId` and code Request_ProcessingFailed; `overload-bare`: 400 whose JSON has no `error`;
`403-html`, `404-html`: with a page of HTML.
"""

ALL_KINDS = (*KINDS, *MORE_KINDS)

SIGN_IN_KINDS = (*(kind for kind in ALL_KINDS if kind != "expired-token"), "invalid_grant")
"""Faults of the password grant. `invalid_grant`: refused as if the password were wrong."""

IN_FLIGHT, POISONED, TOO_MANY_ROWS, BOMB = "in-flight", "poisoned", "too-many-rows", "bomb"
"""Names in the log for failures that `ServiceOptions` causes."""

ACTED_UPON = frozenset({"504", "cut", "reset", "slow"})
"""Faults that hit the answer: the service has done what was asked (a rerun!) when they happen."""

WIRE = frozenset({"cut", "reset", "slow"})
"""Faults that need a socket to be themselves."""


@dataclass(frozen=True, slots=True)
class Faults:
    """A share (0 to 1) of all calls but the token grant that fail, by seed."""

    rate: float = 0.0
    kinds: tuple[str, ...] = KINDS
    seed: int = 0


class FaultPlan:
    """What happens to the next call: what was asked for, in that order, then what chance brings."""

    def __init__(self, faults: Faults) -> None:
        check(faults.kinds)
        self._faults = faults
        self._rng = Random(faults.seed)
        self.queue: deque[str] = deque()

    def next(self) -> str:
        """The fault of this call, or ""."""
        if self.queue:
            return self.queue.popleft()
        if self._faults.rate and self._rng.random() < self._faults.rate:
            return self._rng.choice(self._faults.kinds)
        return ""


def check(kinds: Iterable[str], known: Collection[str] = ALL_KINDS) -> None:
    """ValueError for a kind of fault that there isn't."""
    for kind in kinds:
        if kind not in (*known, ""):
            raise ValueError(f"no such fault: {kind!r}; there are {', '.join(known)}")
