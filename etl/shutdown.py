"""A wish to end: heard at once, but never between the first row of a page and its commit.

A signal belongs to the whole process, and so does this; Python hands it to the main thread, and runs that go side by
side in other threads hear of it between two pages, and while they wait. What is in hand is finished first; a second
wish ends that of the main thread too, and nothing is lost even then: the transaction is rolled back, and the next run
reads the page again.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_in_hand = threading.local()  # `depth`: transactions of a thread
_wished = False


def heed() -> None:
    """From now on a service manager's wish, SIGTERM, raises KeyboardInterrupt, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _wish)


def heed_instead(told: Callable[[], None], at_once: Callable[[], None]) -> None:
    """From now on SIGTERM and Ctrl-C are a wish that `told` hears of; a second one calls `at_once`.

    For a main thread that only waits for others, which have the runs.
    """

    def hears(_signal: int, _frame: object) -> None:
        if _wished:
            at_once()
        wish()
        told()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hears)


def wish() -> None:
    """Whoever waits for threads was told to end: so are they, with what they have in hand done first."""
    global _wished
    _wished = True


def is_wished() -> bool:
    """Whether this process was told to end."""
    return _wished


def check() -> None:
    """Raises KeyboardInterrupt where a wish came and was lost, as in a destructor, out of which nothing is raised.

    And in a thread, which no signal reaches.
    """
    if _wished:
        _end()


@contextmanager
def afterwards() -> Iterator[None]:
    """What happens inside is finished first; then a wish that came meanwhile raises KeyboardInterrupt."""
    _in_hand.depth = _depth() + 1
    try:
        yield
    finally:
        _in_hand.depth -= 1
    if _wished and not _depth():
        _end()


def _depth() -> int:
    return getattr(_in_hand, "depth", 0)


def _wish(_signal: int, _frame: object) -> None:
    global _wished
    is_second, _wished = _wished, True
    if is_second or not _depth():
        _end()


def _end() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # another would get in the way of the tidying up
    raise KeyboardInterrupt
