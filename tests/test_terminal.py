"""Progress: nothing for quick work, a line now and then without a terminal, a bar on one."""

from datetime import UTC, datetime
from io import StringIO

import pytest
from rich.console import Console

from etl import terminal
from etl.model import Clock, Progress


def test_without_a_terminal_a_line_every_five_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """How many of how many, of what, after which time; what takes two seconds says nothing."""
    seconds = iter([0.0, 1.9, 4.9, 5.1, 6.0, 10.2])
    clock = Clock(lambda: datetime.now(UTC), lambda: next(seconds), lambda _: None)
    with terminal.progress(clock) as watch:
        for done in range(1_000, 5_000, 1_000):
            watch(Progress("jobs read", done, 10_000))
        watch(Progress("jobs purged", 5))
    assert capsys.readouterr().err == "3,000 of about 10,000 jobs read, 5 s\n5 jobs purged, 10 s\n"


def test_on_a_terminal_a_bar_for_each_kind_of_work() -> None:
    """What was done and of how many; it goes when the work is done."""
    screen = StringIO()
    with terminal.bars(Console(file=screen, force_terminal=True, width=100)) as watch:
        watch(Progress("jobs read", 250, 1_000))
        watch(Progress("jobs purged", 7))
    assert "jobs read" in screen.getvalue()
    assert "250/1000" in screen.getvalue()
    assert "jobs purged" in screen.getvalue()
