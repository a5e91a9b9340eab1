"""Progress: nothing for quick work, a line now and then without a terminal, a bar on one."""

from datetime import UTC, datetime
from io import StringIO

from rich.console import Console

from etl import terminal
from etl.model import Clock, Progress


def test_without_a_terminal_a_line_now_and_then() -> None:
    """What takes two seconds says nothing; then after five, and after twice as long each time."""
    seconds = iter([0.0, 1.9, 4.9, 5.1, 9.0, 15.2])
    clock = Clock(lambda: datetime.now(UTC), lambda: next(seconds), lambda _: None)
    told: list[tuple[int, float]] = []
    with terminal.progress(clock, lambda progress, after: told.append((progress.done, after)), False) as watch:
        for done in range(1_000, 6_000, 1_000):
            watch(Progress(1, "jobs read", done, 10_000))
    assert told == [(3_000, 5.1), (5_000, 15.2)]


def test_on_a_terminal_a_bar_for_each_kind_of_work() -> None:
    """What was done and of how many; it goes when the work is done."""
    screen = StringIO()
    with terminal.bars(Console(file=screen, force_terminal=True, width=100)) as watch:
        watch(Progress(1, "jobs read", 250, 1_000))
        watch(Progress(1, "jobs purged", 7))
    assert "jobs read" in screen.getvalue()
    assert "250/1000" in screen.getvalue()
    assert "jobs purged" in screen.getvalue()
