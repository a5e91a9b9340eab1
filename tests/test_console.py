"""Progress: nothing for quick work, a line now and then without a terminal, a bar on one."""

import subprocess
import sys
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

from rich.console import Console

from etl import console
from etl.models import Clock, Progress


def test_without_a_terminal_a_line_now_and_then() -> None:
    """What takes two seconds says nothing; then after five, and after twice as long each time."""
    seconds = iter([0.0, 1.9, 4.9, 5.1, 9.0, 15.2])
    clock = Clock(lambda: datetime.now(UTC), lambda: next(seconds), lambda _: None)
    told: list[tuple[int, float]] = []
    with console.progress(clock, lambda progress, after: told.append((progress.done, after)), False) as watch:
        for done in range(1_000, 6_000, 1_000):
            watch(Progress(1, "jobs read", done, 10_000))
    assert told == [(3_000, 5.1), (5_000, 15.2)]


def test_on_a_terminal_a_bar_for_each_kind_of_work() -> None:
    """What was done and of how many; it goes when the work is done."""
    screen = StringIO()
    with console.bars(Console(file=screen, force_terminal=True, width=100)) as watch:
        watch(Progress(1, "jobs read", 250, 1_000))
        watch(Progress(1, "jobs purged", 7))
    assert "jobs read" in screen.getvalue()
    assert "250/1000" in screen.getvalue()
    assert "jobs purged" in screen.getvalue()


def test_a_disk_that_was_full_for_a_while_ends_no_log(tmp_path: Path) -> None:
    """What is said once there is room again is written: a service goes on for years after that."""
    program = """
import resource
from etl import console

def room(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

console.say("first", err=True)
room(9)
console.say("lost", err=True)
room(resource.RLIM_INFINITY)
console.say("told", err=True)
room(20)
console.say("lost at the end", err=True)
"""
    log = tmp_path / "log"
    with log.open("w") as file:
        ended = subprocess.run([sys.executable, "-c", program], stderr=file, timeout=60)
    assert ended.returncode == 0
    assert log.read_text().startswith("first\n")
    assert "told\n" in log.read_text()
