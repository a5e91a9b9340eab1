"""A wish to end: heard at once, but never between the first row of a page and its commit.

A signal belongs to the whole process, and so does this. What is in hand is finished first; a second wish ends that too,
and nothing is lost even then: the transaction is rolled back, and the next run reads the page again.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_in_hand = 0
_wished = False


def heed() -> None:
    """From now on a service manager's wish, SIGTERM, raises KeyboardInterrupt, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _wish)


def check() -> None:
    """Raises KeyboardInterrupt where a wish came and was lost, as in a destructor, out of which nothing is raised."""
    if _wished:
        _end()


@contextmanager
def afterwards() -> Iterator[None]:
    """What happens inside is finished first; then a wish that came meanwhile raises KeyboardInterrupt."""
    global _in_hand
    _in_hand += 1
    try:
        yield
    finally:
        _in_hand -= 1
    if _wished and not _in_hand:
        _end()


def _wish(_signal: int, _frame: object) -> None:
    global _wished
    is_second, _wished = _wished, True
    if is_second or not _in_hand:
        _end()


def _end() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # another would get in the way of the tidying up
    raise KeyboardInterrupt
