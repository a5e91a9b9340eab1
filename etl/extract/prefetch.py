"""Reads ahead: key ranges side by side, in as many threads as keep busy whoever takes what they bring.

It begins with one thread, which is enough where Postgres is slower than the source, or with as many as are `wanted`
where the source is known to be far away. Where the taker has to wait, more are added by Little's law: to wait no more,
as many answers must be under way as come in the time that one takes. There are never more than the source bears
(`most`, which falls when it says 429). What is read ahead, and taken at once where taking is slow, grows with the scan:
a short one goes page by page. So nobody has to choose a number.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from etl.models import Cursor

_ROWS = 3_000  # read ahead, those under way included, before no further request begins: memory is finite
_SLOW_START = 4  # answers taken for each one that may be ready, beyond one a thread
_PATIENCE = 1.0  # seconds for threads to notice that they are no longer wanted; a hanging source holds nobody

T = TypeVar("T")


class Brought(NamedTuple, Generic[T]):
    """What came from a cursor, how many rows' worth that is, and where to go on: nowhere, on, or in several ranges."""

    what: T
    rows: int
    onwards: Sequence[Cursor]


# Reads on from a cursor; `stop` is set once nobody wants it any more. Its threads call it side by side.
Fetch = Callable[[Cursor, threading.Event], T]
# Settles what came, one at a time: into how many ranges at most may the rest of its range be split?
Settle = Callable[[T, int], Brought[T]]


class Ahead(Generic[T]):
    """The threads, the ranges nobody reads at the moment, and what was brought and not yet taken."""

    def __init__(
        self,
        cursors: Iterable[Cursor],
        fetch: Fetch[T],
        settle: Settle[T],
        most: Callable[[], int],
        monotonic: Callable[[], float],
        at_least: Callable[[], int] = lambda: 1,
        wanted: int = 1,
    ) -> None:
        self._fetch, self._settle, self._most, self._monotonic = fetch, settle, most, monotonic
        self._at_least = at_least  # so many rows are given at a time, where there are as many
        self._open = deque(cursors)
        self._ready: deque[Brought[T]] = deque()
        self._taken = 0
        self._largest = 0  # answer so far, in rows
        self._busy = 0
        self._wanted = wanted  # threads
        self._waited = self._worked = 0.0  # seconds of the taker, with as many threads as there are now
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def taken(self) -> Generator[list[T], None, None]:
        """What was brought, each range in its order: all that is there, once something is. Raises as fetches do."""
        try:
            while True:
                with self._changed:
                    self._start_threads()
                began = self._monotonic()
                some = self._take()
                if not some:
                    return
                came = self._monotonic()
                yield some
                self._adapt(waited=came - began, worked=self._monotonic() - came)
        finally:
            self._stop.set()
            self._wake()
            for thread in self._threads:
                thread.join(_PATIENCE / len(self._threads))

    def _take(self) -> list[T]:
        with self._changed:
            self._changed.wait_for(
                lambda: self._rows() >= self._at_least() or self._failure or not self._is_under_way()
            )
            some = [brought.what for brought in self._ready]
            if self._failure and not some:
                raise self._failure
            self._ready.clear()
            self._taken += len(some)
            self._changed.notify_all()
            return some

    def _rows(self) -> int:
        return sum(brought.rows for brought in self._ready)

    def _is_under_way(self) -> bool:
        return bool(self._open or self._busy)

    def _adapt(self, waited: float, worked: float) -> None:
        """Little's law: n threads left the taker waiting; (waited + worked) / worked times as many would not.

        By all that was taken since there are so many: one answer that is late is no reason for more.
        """
        self._waited, self._worked = self._waited + waited, self._worked + worked
        if self._waited < self._worked:
            return
        needed = self._wanted * (self._waited + self._worked) / self._worked if self._worked else math.inf
        self._wanted = math.ceil(max(self._wanted, min(needed, self._most())))
        self._waited = self._worked = 0.0

    def _start_threads(self) -> None:
        """No more than there are ranges to read in: each keeps memory of its own, even when it has done its work."""
        while len(self._threads) < min(self._limit(), len(self._open) + self._busy):
            thread = threading.Thread(target=self._work, name=f"ahead_{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (cursor := self._next()) is not None:
            try:
                self._bring(self._fetch(cursor, self._stop))
            except BaseException as error:  # noqa: BLE001 - raised where it can be told, by whoever takes
                with self._changed:
                    self._failure = self._failure or error
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def _bring(self, what: T) -> None:
        with self._changed:
            others = self._busy - 1 + len(self._open)
            brought = self._settle(what, max(1, self._limit() - others))
            self._ready.append(brought)
            self._largest = max(self._largest, brought.rows)
            self._open.extendleft(brought.onwards[:1])  # one range after the other, where there are many
            self._open.extend(brought.onwards[1:])
            self._start_threads()

    def _next(self) -> Cursor | None:
        """The next range to read on in; None where this thread is needed no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over() or self._may_read())
            if self._is_over():
                return None
            self._busy += 1
            return self._open.popleft()

    def _is_over(self) -> bool:
        return self._stop.is_set() or self._failure is not None or not self._is_under_way()

    def _may_read(self) -> bool:
        under_way = self._busy * self._largest
        most = max(self._wanted, self._taken // _SLOW_START)
        has_room = self._rows() + under_way < _ROWS and len(self._ready) < most
        return bool(self._open) and (has_room or self._rows() < self._at_least()) and self._busy < self._limit()

    def _limit(self) -> int:
        """How many may read at a time: as many as are of use, as the source bears, and as there is memory for."""
        fit = max(2, _ROWS // self._largest) if self._largest else self._wanted
        return max(1, min(self._wanted, self._most(), fit))

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
