"""What a service tells systemd: that it is ready, alive, what it does, that it ends.

The protocol is sd_notify(3): a datagram to the socket that NOTIFY_SOCKET names. Without one nothing is told.
"""

import socket
from collections.abc import Mapping
from contextlib import suppress

_EVERY = 5.0  # seconds between two signs of life


class Systemd:
    """The service manager, as far as it listens."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name  # @ stands for an abstract one
        self._told_at = -_EVERY

    def ready(self) -> None:
        """The service is up: what waits for it may begin."""
        self._tell("READY=1")

    def alive(self, monotonic: float) -> None:
        """A sign of life for the watchdog (WatchdogSec=); `monotonic`: seconds, so that it isn't told too often."""
        if self._address and monotonic - self._told_at >= _EVERY:
            self._told_at = monotonic
            self._tell("WATCHDOG=1")

    def doing(self, what: str) -> None:
        """What `systemctl status` shows."""
        self._tell(f"STATUS={' '.join(what.split())}")

    def stopping(self) -> None:
        """The service ends by its own will."""
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(message.encode(), self._address)
