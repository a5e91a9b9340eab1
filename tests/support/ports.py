"""Ports of this machine."""

import socket


def a_free_port() -> int:
    """One where nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
