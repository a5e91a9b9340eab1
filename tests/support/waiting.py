"""Waiting for what others do: processes, threads, servers."""

import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds: a deadline, met within a few


def eventually(holds: Callable[[], bool]) -> None:
    """Waits for it."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until, "in vain"
        time.sleep(0.02)
