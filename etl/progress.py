"""Progress of long work, on stderr: a bar on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from etl.model import Clock
from etl.sync import Progress, Watch

if TYPE_CHECKING:
    from rich.console import Console

_PATIENCE = 2.0  # seconds before anything is shown: quiet work stays quiet
_EVERY = 5.0  # seconds between two plain lines


@contextmanager
def shown(clock: Clock) -> Iterator[Watch]:
    """Watches for whoever called the command, from the second second on."""
    began = last = clock.monotonic()
    with ExitStack() as stack:
        shows: Watch | None = None

        def watch(progress: Progress) -> None:
            nonlocal shows, last
            now = clock.monotonic()
            if now - began < _PATIENCE:
                return
            if sys.stderr.isatty():
                shows = shows or stack.enter_context(bars(_stderr()))
                shows(progress)
            elif now - last >= _EVERY:
                last = now
                print(_line(progress, now - began), file=sys.stderr, flush=True)  # noqa: T201 - what this room is for

        yield watch


@contextmanager
def bars(console: Console) -> Iterator[Watch]:
    """Watches with a bar for each kind of work; where the console is no terminal, with nothing."""
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def watch(progress: Progress) -> None:
            if progress.what not in tasks:
                tasks[progress.what] = bars.add_task(progress.what, total=progress.of)
            bars.update(tasks[progress.what], completed=progress.done, total=progress.of)

        yield watch


def _line(progress: Progress, seconds: float) -> str:
    of = f" of about {progress.of:,}" if progress.of else ""
    return f"{progress.done:,}{of} {progress.what}, {seconds:.0f} s"


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)
