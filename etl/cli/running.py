"""A run as commands make it: a database, a client, a clock, and whoever watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from etl import terminal
from etl.cli import wiring
from etl.model import Clock, Run, Verdict, Watch

if TYPE_CHECKING:
    from etl.api import Api
    from etl.database import Connection
    from etl.log import Log
    from etl.settings import Settings, Source


class Parts(NamedTuple):
    """What `etl.sync` takes, in its order; a run is watched besides."""

    source: Source
    service: Callable[[], AbstractContextManager[Api]]
    db: Connection
    clock: Clock


@contextmanager
def parts(found: Settings, source: Source, log: Log) -> Iterator[tuple[Parts, Watch]]:
    """Those of a single run."""
    clock = wiring.clock()
    with wiring.database(found) as db, watching(log, clock) as watch:
        yield Parts(source, wiring.service(source, log, clock), db, clock), watch


@contextmanager
def watching(log: Log, clock: Clock) -> Iterator[Watch]:
    """Progress for whoever called, and for the log."""
    with terminal.progress(clock, log.progress, log.shows_bars(sys.stderr)) as shows:
        yield log.and_then(shows)


def report(ctx: click.Context, run: Run, log: Log, as_json: bool) -> None:
    """The run's line, and exit code 4 where rows were rejected, or mirror and source still differ."""
    terminal.say(terminal.as_json(run) if as_json else terminal.summary(run))
    log.notes(run)
    if run.is_unwell or run.verdict == Verdict.INCOMPLETE:
        ctx.exit(4)
