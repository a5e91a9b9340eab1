"""Commands of a fleet: worker."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from etl import console, shutdown
from etl.cli import context, metrics_options
from etl.cli.main import main
from etl.cli.options import as_duration, insecure_http_option, log_options
from etl.errors import ConfigError, DatabaseError
from etl.fleet.sd_notify import Systemd

if TYPE_CHECKING:
    from etl.fleet.source_registry import Roster
    from etl.postgres.connection import Connection

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
@metrics_options.port_options("Answer Prometheus' scrapes, and probes (/healthz), at this port.")
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
    from etl.postgres import connection, migrations, pooler, queue_schema

    found = context.read_settings()
    if not queue_schema.is_installed():
        raise ConfigError(queue_schema.NOT_INSTALLED)
    url, log, systemd = context.database_url(found), context.log_of(ctx.meta, is_stamped=True), Systemd(os.environ)
    with suppress(DatabaseError), connection.connected(url) as db:  # one that is down comes back
        migrations.require(db)
        pooler.require(db)
        queue_schema.require(db)
    from etl.fleet.task_queue import Engine, Slots
    from etl.fleet.worker import Worker

    slots = Slots.of(concurrency)
    with ExitStack() as stack:
        chores = Worker(url, _roster, slots, context.clock(), log, systemd)
        stack.callback(chores.close)
        if metrics_port is not None:
            from etl.reporting.metrics.http_server import serve

            serve(chores.crew, chores.heartbeat, metrics_port, metrics_host)
        engine = Engine(url, slots, stalled_after.total_seconds(), chores)
        shutdown.heed_instead(engine.stop, _at_once)
        systemd.ready()
        log.service(
            f"a worker with {slots.fresh} slots for what is fresh, {slots.slow} for what may take long, until SIGTERM"
        )
        engine.run()
        systemd.stopping()
    log.service("stopped; other workers go on, or the next start does")


def _roster(db: Connection) -> Roster:
    """All sources, as they are set now. Raises ConfigError."""
    from etl.fleet import source_registry, source_store

    return source_registry.whole(context.read_settings(), source_store.entries(db))


def _at_once() -> None:
    """Threads can't be ended but with their process. Their transactions are rolled back; others find what they had."""
    console.say("aims360-etl: ended at once; other workers go on", err=True)
    os._exit(1)
