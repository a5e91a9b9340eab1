"""An end to answers that drip: what comes byte by byte, headers too, meets no time limit between two of them.

A thread looks at the clock while others wait. When somebody's time is up, the connections of that client are cut: all
of them, since nobody tells which is whose. Whoever waited on another asks again. And nobody waits any more once this
process is to end.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakSet

from etl import shutdown

_EVERY = 1.0  # seconds between two looks at the clock


class Patience:
    """How long the threads of one client wait for answers. `monotonic` tells seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until: dict[int, tuple[float, float]] = {}  # by thread: until when, and the seconds it was given
        self._connections: WeakSet[Any] = WeakSet()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._is_watching = False

    def heard(self, event: str, info: Mapping[str, Any]) -> None:
        """What the HTTP library tells on the way, as a request's extension `trace`: each connection that is made."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            with self._lock:
                self._connections.add(info["return_value"])
                is_first, self._is_watching = not self._is_watching, True
            if is_first:
                threading.Thread(target=self._watch, name="patience", daemon=True).start()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """This thread waits no longer than that, nor than it was told around it."""
        thread = threading.get_ident()
        around = self._until.pop(thread, None)
        until = self._monotonic() + seconds
        self._until[thread] = min(until, around[0]) if around else until, seconds
        try:
            yield
        finally:
            del self._until[thread]
            if around:
                self._until[thread] = around

    def again(self) -> None:
        """This thread has got something for it: it waits as long again."""
        thread = threading.get_ident()
        _, seconds = self._until[thread]
        self._until[thread] = self._monotonic() + seconds, seconds

    def close(self) -> None:
        """Nobody waits any more."""
        self._is_over.set()

    def _watch(self) -> None:
        while not self._is_over.wait(_EVERY):
            now = self._monotonic()
            if shutdown.is_wished() or any(until < now for until, _ in [*self._until.values()]):
                self._cut()

    def _cut(self) -> None:
        with self._lock:
            connections = [*self._connections]
        for connection in connections:
            with suppress(OSError):  # it was closed meanwhile
                socket.socket.shutdown(connection.get_extra_info("socket"), socket.SHUT_RDWR)
