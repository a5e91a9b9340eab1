"""How many requests are in flight: of one client, and of this process to one host.

A client begins with a few. At a sign of overload it goes down to one, and slowly back. Where a service turns requests
away because there are too many at a time, the client remembers how many it bore and seldom tries one more.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from etl import shutdown
from etl.errors import Unreachable

AT_FIRST = 8  # requests in flight before the service has shown what it bears
MOST_PER_HOST = 8  # over all sources of this process, unless one is set to more
_GROW_AFTER = 10  # good answers for one more request in flight; doubled by each overload
_SLOWEST_GROWTH = 160
_TRY_MORE_AFTER = 400  # good answers at the most that the service bore
_PORTS = {"https": 443, "http": 80}
_LOOK = 0.5  # seconds between two looks at whether somebody still waits


@dataclass(slots=True)
class _Host:
    """The requests of this process that are in flight to one host."""

    most: int = MOST_PER_HOST
    in_flight: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)


_hosts: dict[str, _Host] = {}
_registry = threading.Lock()


def _find_host(base_url: str, most: int) -> _Host:
    """Return the host's entry, which every client of this process shares; raised where a source is set to more."""
    parts = urlsplit(base_url)
    name = f"{parts.hostname}:{parts.port or _PORTS.get(parts.scheme)}"
    with _registry:
        host = _hosts.setdefault(name, _Host())
        host.most = max(host.most, most)
    return host


class Throttle:
    """The requests in flight of one client. `limit`: how many there may be at the moment."""

    def __init__(self, base_url: str, most: int) -> None:
        self._most = most
        self._host = _find_host(base_url, most)
        self._lock = threading.Condition()
        self._in_flight = 0
        self.limit = min(most, AT_FIRST)
        self._ceiling = most  # requests in flight that the service bears, as far as it has shown
        self._since = 0  # good answers since the limit last changed
        self._patience = _GROW_AFTER

    @property
    def in_flight(self) -> int:
        """Requests in flight now."""
        return self._in_flight

    def reset(self) -> None:
        """Begin anew, for another run of the same client."""
        with self._lock:
            self.limit, self._ceiling = min(self._most, AT_FIRST), self._most
            self._since, self._patience = 0, _GROW_AFTER
            self._lock.notify_all()

    @contextmanager
    def slot(self, ended: threading.Event, check: Callable[[], None] = lambda: None) -> Iterator[int]:
        """Wait until another request may be sent, and count it as in flight. Yields how many there are with it.

        `check` is called while waiting: it raises where that has taken too long.
        """
        with self._lock:
            while self._in_flight >= self.limit:
                _wait(self._lock, ended, check)
            self._in_flight += 1
            in_flight = self._in_flight
        try:
            with _host_slot(self._host, ended, check):
                yield in_flight
        finally:
            with self._lock:
                self._in_flight -= 1
                self._lock.notify()

    def raise_limit(self) -> None:
        """Count a good answer: after some of them one more request may be in flight."""
        with self._lock:
            self._since += 1
            is_at_ceiling = self.limit >= self._ceiling
            if self.limit < self._most and self._since >= (_TRY_MORE_AFTER if is_at_ceiling else self._patience):
                self.limit += 1
                self._ceiling = max(self._ceiling, self.limit)
                self._since = 0
                self._lock.notify()

    def drop_limit(self, in_flight: int, too_many: bool) -> None:
        """Go down to one request, since the service is overloaded; `too_many` says that it counts them."""
        with self._lock:
            if too_many and in_flight > 1:
                self._ceiling = min(self._ceiling, in_flight - 1)
            elif self.limit == 1 and self._since:  # else one overload answers several requests
                self._patience = min(2 * self._patience, _SLOWEST_GROWTH)
            self.limit, self._since = 1, 0


@contextmanager
def host_slot(url: str, ended: threading.Event) -> Iterator[None]:
    """Wait until this process may send another request to the host, and count it as in flight."""
    with _host_slot(_find_host(url, MOST_PER_HOST), ended, lambda: None):
        yield


@contextmanager
def _host_slot(host: _Host, ended: threading.Event, check: Callable[[], None]) -> Iterator[None]:
    with host.changed:
        while host.in_flight >= host.most:
            _wait(host.changed, ended, check)
        host.in_flight += 1
    try:
        yield
    finally:
        with host.changed:
            host.in_flight -= 1
            host.changed.notify()


def _wait(changed: threading.Condition, ended: threading.Event, check: Callable[[], None]) -> None:
    changed.wait(_LOOK)
    shutdown.check()
    check()
    if ended.is_set():
        raise Unreachable("given up, since the run has ended")
