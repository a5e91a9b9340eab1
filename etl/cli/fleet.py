"""Commands of a fleet: worker."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from etl import stop, terminal
from etl.cli import telling, wiring
from etl.cli.options import as_duration, insecure_http_option, log_options
from etl.cli.program import main
from etl.errors import ConfigError, DatabaseError
from etl.systemd import Systemd

if TYPE_CHECKING:
    from etl.database import Connection
    from etl.fleet.roster import Roster

_STALLED_AFTER_AT_LEAST = timedelta(seconds=3)


@main.command()
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(2, 256),
    default=12,
    show_default=True,
    help="Runs at a time; a quarter of them for what may take long.",
)
@click.option(
    "--stalled-after",
    metavar="DURATION",
    default="30s",
    show_default=True,
    callback=as_duration,
    help="Without a sign of life for so long, a worker is taken for dead, and others do what it had under way.",
)
@insecure_http_option
@telling.port_options("Answer Prometheus' scrapes at this port.")
@log_options
@click.pass_context
def worker(
    ctx: click.Context, concurrency: int, stalled_after: timedelta, metrics_port: int | None, metrics_host: str
) -> None:
    """Keep all sources fresh, together with other workers.

    Any number of them, on any number of machines, share one queue in the database; each does what is due next. Ends at
    SIGTERM or Ctrl-C: runs in hand end at a page, and others go on with them; a second one ends it at once. Takes the
    extra fleet, and a database that was migrated with it.
    """
    if stalled_after < _STALLED_AFTER_AT_LEAST:
        raise ConfigError("--stalled-after: three seconds at least; a sign of life is given three times in it")
    from etl import database, queue, schema, session

    found = wiring.read_settings()
    if not queue.is_installed():
        raise ConfigError(queue.NOT_INSTALLED)
    url, log, systemd = wiring.database_url(found), wiring.log_of(ctx.meta, is_stamped=True), Systemd(os.environ)
    with suppress(DatabaseError), database.connected(url) as db:  # one that is down comes back
        schema.require(db)
        session.require(db)
        queue.require(db)
    from etl.fleet.engine import Engine, Slots
    from etl.fleet.worker import Worker

    slots = Slots.of(concurrency)
    with ExitStack() as stack:
        chores = Worker(url, _roster, slots, wiring.clock(), log, systemd)
        stack.callback(chores.close)
        if metrics_port is not None:
            from etl.metrics.exposition import serve

            serve(chores.crew, metrics_port, metrics_host)
        engine = Engine(url, slots, stalled_after.total_seconds(), chores)
        stop.heed_instead(engine.stop, _at_once)
        systemd.ready()
        log.service(
            f"a worker with {slots.fresh} slots for what is fresh, {slots.slow} for what may take long, until SIGTERM"
        )
        engine.run()
        systemd.stopping()
    log.service("stopped; other workers go on, or the next start does")


def _roster(db: Connection) -> Roster:
    """All sources, as they are set now. Raises ConfigError."""
    from etl.fleet import kept, roster

    return roster.whole(wiring.read_settings(), kept.entries(db))


def _at_once() -> None:
    """Threads can't be ended but with their process. Their transactions are rolled back; others find what they had."""
    terminal.say("aims360-etl: ended at once; other workers go on", err=True)
    os._exit(1)
