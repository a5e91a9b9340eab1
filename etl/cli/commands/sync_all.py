"""`sync --all`: every source that is configured, side by side."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from etl import console, shutdown
from etl.cli import context
from etl.cli.options import wishes_debug
from etl.config import settings
from etl.errors import ConfigError
from etl.models import Progress

if TYPE_CHECKING:
    from etl.event_log import Log
    from etl.fleet.results import Ended, Outcome
    from etl.fleet.sync_all import Fleet
    from etl.pipeline.sync import Order
    from etl.postgres.connection import Connection

_AT_A_TIME = 8
_SINGLE = ("source", "same_source", "metrics_file", "metrics_port")


def all_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command that takes all sources at once, if that is wished."""
    everything = click.option("--all", "everything", is_flag=True, help="All sources, side by side.")
    parallel = click.option(
        "--parallel",
        metavar="NUMBER",
        type=click.IntRange(1, 64),
        help=f"With --all: so many at a time, {_AT_A_TIME} unless said.",
    )
    anyway = click.option("--anyway", is_flag=True, help="With --all: also sources that are left alone for a while.")
    return everything(parallel(anyway(command)))


def judge(given: Mapping[str, object]) -> None:
    """Raises ConfigError for options that don't go together. `given`: all of the command's."""
    if not given["everything"]:
        if lost := [f"--{name}" for name in ("parallel", "anyway") if given[name]]:
            raise ConfigError(f"{', '.join(lost)} goes with --all")
    elif given["every"]:
        raise ConfigError("--all is a single call; `aims360-etl worker` keeps all sources fresh, again and again")
    elif lost := [f"--{name.replace('_', '-')}" for name in _SINGLE if given[name]]:
        raise ConfigError(f"{', '.join(lost)} is for a single source: leave it away, or --all")


def sync_all(
    ctx: click.Context, found: settings.Settings, order: Order, *, parallel: int | None, anyway: bool, as_json: bool
) -> None:
    """Syncs all sources, says what that came to, and exits with the code of the worst."""
    from etl.fleet.results import as_object, exit_code, summary

    log, at_a_time = context.log_of(ctx.meta), parallel or _AT_A_TIME
    outcome = _run(found, log, order, at_a_time, anyway=anyway, with_way=wishes_debug(ctx.meta))
    said = console.as_json(as_object(outcome)) if as_json else summary(outcome)
    console.say(context.as_set(said))
    shutdown.check()
    ctx.exit(exit_code(outcome.ended))


def _run(found: settings.Settings, log: Log, order: Order, at_a_time: int, *, anyway: bool, with_way: bool) -> Outcome:
    from etl.fleet.executor import Desks
    from etl.fleet.sync_all import Listener, Wish
    from etl.fleet.sync_all import sync_all as sync_every_source
    from etl.postgres import connection, migrations

    url, clock = context.database_url(found), context.clock()
    with connection.connected(url) as db:
        migrations.require(db)
        fleet = _fleet(found, db)
    log_of = cache(log.of)
    desks = Desks(at_a_time, url, clock)
    try:
        with console.progress(clock, log.progress, log.shows_bars(sys.stderr)) as watch:
            listener = Listener(
                ended=lambda ended, error: _tell(log_of(ended.name), ended, error, with_way=with_way),
                moved=lambda done, of: watch(Progress(0, "sources done", done, of, is_exact=True)),
                log=log_of,
            )
            wish = Wish(at_a_time, order, anyway)
            return sync_every_source(fleet, desks, clock, wish, listener)
    except KeyboardInterrupt:  # a second one: threads can't be ended but with their process
        console.say("aims360-etl: ended at once; nothing is lost, the next run goes on", err=True)
        os._exit(1)
    finally:
        desks.close()


def _fleet(found: settings.Settings, db: Connection) -> Fleet:
    """All sources with what the ledger knows of them. Raises ConfigError where there is none."""
    from etl.fleet import source_registry, source_store
    from etl.fleet.scheduler import standings
    from etl.fleet.sync_all import Fleet

    whole = source_registry.whole(found, source_store.entries(db))
    if not any(whole):
        raise ConfigError(settings.NONE_CONFIGURED)
    return Fleet(whole.sources, whole.problems, standings(db), len(whole.disabled))


def _tell(log: Log, ended: Ended, error: BaseException | None, *, with_way: bool) -> None:
    """What is worth a line while the others go on."""
    if error is not None:
        from etl import error_report

        if with_way:
            console.say(error_report.way(error), err=True)
        log.failed(error)
    elif ended.run is not None:
        log.notes(ended.run)
