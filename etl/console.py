"""What people and scripts see of a run: how far it is, on stderr; a line at its end, or JSON.

Progress is a bar on a terminal, elsewhere a plain line now and then.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, TextIO

import click

from etl.errors import EtlError
from etl.models import Clock, Run, ScanKind, Verdict
from etl.text import utc

if TYPE_CHECKING:
    from rich.console import Console

    from etl.models import Progress, Watch

_PATIENCE = 2.0  # seconds before anything is shown
_EVERY = 5.0  # seconds between the first two lines of progress
_LONGEST = 60.0  # seconds between two at the most


def say(text: str, err: bool = False) -> None:
    """A line on stdout, or stderr. Raises EtlError where stdout can't be written, as on a full disk.

    A reader that has gone is no failure of the work, and what finds no room on stderr is lost. What comes after may
    find some again: a service goes on for years.
    """
    _echo(text, err, nl=True)


def put(data: bytes) -> None:
    """Bytes on stdout, as they are. Raises EtlError as `say` does."""
    _echo(data, err=False, nl=False)


def _echo(said: str | bytes, err: bool, nl: bool) -> None:
    try:
        click.echo(said, err=err, nl=nl)
    except BrokenPipeError:
        _give_up(sys.stderr if err else sys.stdout)
    except OSError as error:
        _settle_at_the_end()
        if not err:
            raise EtlError(f"the work is done, but what it says can't be written: {error.strerror}") from None


@cache
def _settle_at_the_end() -> None:
    atexit.register(_settle)


def _settle() -> None:
    """What still can't be written when the program ends is lost: Python would try again, and complain."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed before we began
        try:
            stream.flush()
        except OSError:
            _give_up(stream)


def _give_up(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def progress(clock: Clock, tell: Callable[[Progress, float], None], shows_bars: bool) -> Iterator[Watch]:
    """Watches for whoever called the command, after two seconds: quick work stays quiet.

    Bars, or what `tell` makes of it, with the seconds it took so far: at longer and longer intervals, up to a minute.
    """
    began = last = clock.monotonic()
    apart = _EVERY
    with ExitStack() as stack:
        shows: Watch | None = None
        said: Progress | None = None

        def watch(progress: Progress) -> None:
            nonlocal shows, last, apart, said
            now = clock.monotonic()
            if now - began < _PATIENCE or progress == said:
                return
            said = progress
            if shows_bars:
                shows = shows or stack.enter_context(bars(_stderr()))
                shows(progress)
            elif now - last >= apart:
                last, apart = now, min(2 * apart, _LONGEST)
                tell(progress, now - began)

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


@contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """Tells what is done now: on a terminal in one line that changes, elsewhere not at all."""
    console = _stderr()
    with console.status("") as shown:
        yield shown.update


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at it."""
    return stream is not None and stream.isatty()  # None: closed before we began


def width() -> int | None:
    """How many cells wide what is said may be; None where nobody looks at it."""
    return shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def as_json(value: object) -> str:
    """For scripts: numbers are numbers, times ISO 8601 with their zone."""
    import msgspec

    encoded = msgspec.json.Encoder(decimal_format="number").encode(value)
    return msgspec.json.format(encoded, indent=2 if is_terminal(sys.stdout) else 0).decode()


def summary(run: Run) -> str:
    """A run in a line."""
    counts = run.counts
    if run.kind == ScanKind.RECONCILE:
        return _compared(run)
    fresh = f"complete through {utc(run.complete_through)}" if run.complete_through else "not complete"
    read = f"{counts.inserted} new, {counts.updated} changed, {counts.unchanged} the same, " if run.verdict else ""
    rows = f"{read}{counts.purged} purged"
    odd = {
        "refused as older": counts.refused,
        "already purged": counts.skipped,
        "judged by date": counts.unversioned,
        "rejected": counts.rejected,
        "repaired by a deep pass": counts.repaired,
        "that differ and were not repaired": counts.differences - counts.repaired,
    }
    rows += "".join(f", {number} {what}" for what, number in odd.items() if number)
    cost = f"{run.pages} pages read, {run.requests} requests made, {run.seconds:.1f} s"
    verdict = f" {run.verdict}" if run.verdict else ""
    return f"{run.source}: run {run.run_id} ({run.kind}){verdict}, {fresh}: {rows}; {cost}"


def _compared(run: Run) -> str:
    """A comparison in a line."""
    counts = run.counts
    ghosts = f"{counts.ghosts_purged} purged on time, {counts.ghosts_early} early, {counts.ghosts_vanished} vanished"
    left = counts.differences - counts.repaired
    end = "mirror and source are equal" if not counts.differences else f"{counts.repaired} repaired"
    if run.verdict == Verdict.COMPLETE_WITH_REJECTS and not counts.differences:
        end = "nothing differs in the rows that can be read"
    end = "more may differ" if run.verdict == Verdict.INCOMPLETE else end
    end += f", {left} left as they are" if left else ""
    found = f"{counts.missing} missing, {counts.stale} stale, {counts.ghosts} ghosts ({ghosts})"
    return f"{run.source}: run {run.run_id} ({run.kind}): {found}: {end}; {run.requests} requests, {run.seconds:.1f} s"
