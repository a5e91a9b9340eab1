"""Reading ahead: nothing lost or out of order, as many threads as are of use and the source bears, and no more."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from itertools import chain, pairwise
from typing import Any

import pytest

from etl.extract.prefetch import Ahead, Brought
from etl.models import Cursor

ANSWERS = 12


class Source:
    """Ranges of twelve answers each; a range may be split while it has more than two to come."""

    def __init__(self, ranges: int = 1, rows: int = 1) -> None:
        self.cursors = [Cursor(part, 0, ANSWERS) for part in range(ranges)]
        self.rows = rows
        self.most = 4
        self.asked: Counter[int] = Counter()
        self.at_once = self.most_at_once = 0
        self.now = 0.0
        self.meet: threading.Barrier | None = None
        self._lock = threading.Lock()

    def fetch(self, cursor: Cursor, _stop: threading.Event) -> Cursor:
        """The next answer of a range: its number, as a cursor that stands after it."""
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
            self.asked[cursor.part] += 1
        if self.meet:
            self.meet.wait(10)
        with self._lock:
            self.at_once -= 1
        assert isinstance(cursor.after, int)
        return Cursor(cursor.part, cursor.after + 1, cursor.up_to)

    def settle(self, came: Cursor, most: int) -> Brought[Cursor]:
        """Goes on to the end of the range; where more may be asked at a time, it gives away its second half."""
        assert isinstance(came.after, int)
        assert isinstance(came.up_to, int)
        if came.after == came.up_to:
            return Brought(came, self.rows, ())
        if most > 1 and came.up_to - came.after > 2:
            middle = (came.after + came.up_to) // 2
            part = came.part + 100 * came.after
            return Brought(came, self.rows, (Cursor(came.part, came.after, middle), Cursor(part, middle, came.up_to)))
        return Brought(came, self.rows, (came,))

    def ahead(self, most: Callable[[], int] | None = None, **more: Any) -> Ahead[Cursor]:
        """Somebody who reads ahead in it."""
        return Ahead(self.cursors, self.fetch, self.settle, most or (lambda: self.most), lambda: self.now, **more)


@pytest.mark.parametrize("ranges", [1, 3])
@pytest.mark.parametrize("most", [1, 4])
def test_every_answer_comes_once_and_each_range_in_its_order(ranges: int, most: int) -> None:
    """However ranges are split on the way, and read side by side."""
    source = Source(ranges)
    came: dict[int, list[int]] = defaultdict(list)
    for some in source.ahead(lambda: most).taken():
        for answer in some:
            came[answer.part].append(int(str(answer.after)))
    assert all(one < other for numbers in came.values() for one, other in pairwise(numbers))
    assert sorted(chain.from_iterable(came.values())) == sorted([*range(1, ANSWERS + 1)] * ranges)


def test_a_taker_that_is_slower_than_the_source_needs_one_thread() -> None:
    """The source isn't asked side by side for nothing."""
    source = Source(ranges=3)
    for _ in source.ahead().taken():
        source.now += 1.0  # the taker works, and never waits
    assert source.most_at_once == 1


def test_a_taker_that_waits_gets_as_many_threads_as_the_source_bears() -> None:
    """Four requests meet under way; a fifth never is."""
    source = Source(ranges=8)
    with closing(source.ahead().taken()) as taking:
        next(taking)
        source.meet = threading.Barrier(4)  # broken, which is raised, unless four are there at a time
        next(taking)
        next(taking)
        source.meet.abort()
    assert source.most_at_once == 4


def test_a_limit_that_falls_is_heeded() -> None:
    """After a 429 no request is begun beside more others than the source bears from then on."""
    source = Source(ranges=8)
    begun: list[int] = []

    def fetch(cursor: Cursor, stop: threading.Event) -> Cursor:
        came = source.fetch(cursor, stop)
        begun.append(source.most)
        return came

    def settle(came: Cursor, most: int) -> Brought[Cursor]:
        if len(begun) >= 20 and source.most > 1:
            source.most, source.most_at_once = 1, 0
        return source.settle(came, most)

    for _ in Ahead(source.cursors, fetch, settle, lambda: source.most, lambda: 0.0).taken():
        pass
    assert begun.count(4) < 20 + 4
    assert source.most_at_once == 1


def test_what_came_before_a_failure_is_given_first() -> None:
    """It can be saved, and need not be asked for again."""
    source = Source()

    def fails_at_the_third(cursor: Cursor, stop: threading.Event) -> Cursor:
        if cursor.after == 2:
            raise ValueError("the third")
        return source.fetch(cursor, stop)

    taking = Ahead(source.cursors, fails_at_the_third, source.settle, lambda: 1, lambda: 0.0).taken()
    assert [answer.after for _ in range(2) for answer in next(taking)] == [1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(taking)


def test_whoever_stops_taking_ends_the_threads() -> None:
    """One that waits for the source is told, and not waited for."""
    source = Source()
    hangs, stopped = threading.Event(), threading.Event()

    def hangs_at_the_second(cursor: Cursor, stop: threading.Event) -> Cursor:
        if cursor.after == 1:
            hangs.set()
            assert stop.wait(10)
            stopped.set()
        return source.fetch(cursor, stop)

    taking = Ahead(source.cursors, hangs_at_the_second, source.settle, lambda: 1, lambda: 0.0).taken()
    next(taking)
    assert hangs.wait(10)
    taking.close()
    assert stopped.wait(10)


def test_no_more_is_read_ahead_than_memory_should_hold() -> None:
    """A slow taker of large answers has one ready, and one under way."""
    source = Source(rows=5_000)
    for count, _ in enumerate(source.ahead().taken(), 1):
        assert source.asked[0] <= count + 1
        source.now += 1.0


def test_of_a_source_that_is_far_away_as_many_ranges_are_read_at_once_as_are_wanted() -> None:
    """From the first answer on: nobody has to wait first."""
    source = Source(ranges=4)
    source.meet = threading.Barrier(4)  # broken, which is raised, unless four are there at a time
    with closing(source.ahead(wanted=4).taken()) as taking:
        next(taking)
        source.meet.abort()
    assert source.most_at_once == 4


def test_no_more_is_under_way_than_memory_should_hold() -> None:
    """Answers of a thousand rows: three at a time, once it is known how large they are."""
    source = Source(ranges=8, rows=1_000)
    source.most = 8
    with closing(source.ahead(wanted=8).taken()) as taking:
        next(taking)
        for thread in range(20):
            source.most_at_once = 0 if thread == 8 else source.most_at_once  # those that had begun before
            source.now += 1.0
            next(taking)
    assert 0 < source.most_at_once <= 3


def test_so_many_rows_are_given_at_a_time_as_are_asked_for() -> None:
    """One question to Postgres for several answers; the last are fewer."""
    source = Source(ranges=2, rows=3)
    source.most = 1
    sizes = [len(some) for some in source.ahead(at_least=lambda: 15).taken()]
    assert sum(sizes) == 2 * ANSWERS
    assert all(size >= 5 for size in sizes[:-1])
