"""Commands that change the mirror: sync, purge, reconcile."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from etl import console
from etl.cli import context, metrics_options
from etl.cli.commands import sync_all
from etl.cli.commands.database import make_schema
from etl.cli.context import parts, report
from etl.cli.main import main
from etl.cli.options import as_duration, insecure_http_option, json_option, log_options, source_option
from etl.errors import ConfigError


@main.command()
@source_option()
@insecure_http_option
@click.option("--every", metavar="DURATION", callback=as_duration, help="Run again and again, such as 60s: a service.")
@sync_all.all_options
@click.option("--full", is_flag=True, help="Read all rows, not only those since the last run.")
@click.option("--rewrite", is_flag=True, help="With --full: write rows anew that are the same.")
@click.option("--same-source", is_flag=True, help="Go on though the source shows a client never seen: it moved.")
@click.option("--migrate", "migrate_first", is_flag=True, help="Run migrations first.")
@metrics_options.metrics_options
@log_options
@json_option
@click.pass_context
def sync(
    ctx: click.Context,
    /,
    source: str | None,
    every: timedelta | None,
    everything: bool,
    parallel: int | None,
    anyway: bool,
    migrate_first: bool,
    as_json: bool,
    metrics_file: Path | None,
    metrics_port: int | None,
    metrics_host: str,
    **order: bool,
) -> None:
    """Bring the mirror up to date.

    Reads what changed since the last run, writes what differs, purges what is due. Made for a schedule: a run that
    fails or is killed is gone on with by the next. As a service it goes on until SIGTERM or Ctrl-C, which let it finish
    the page in hand.

    With --all each source is synced now, whatever its AIMS360_EVERY says: those that were read whole first, then slices
    of the others in turn. A run lasts for the source's AIMS360_TIME_LIMIT at most. Sources whose last runs failed come
    last, and are left alone for a while where that doesn't help, which counts as failed; --anyway tries them, and so
    does --source. The exit code is the worst of all: 2, then 1, 4, 3.
    """
    sync_all.judge(ctx.params)
    if order["rewrite"] and not order["full"]:
        raise ConfigError("--rewrite goes with --full")
    if every is not None and (lost := [f"--{name.replace('_', '-')}" for name, wished in order.items() if wished]):
        raise ConfigError(f"{', '.join(lost)} is for a single run: leave it away, or --every")
    metrics_options.judge(every, metrics_port)
    found = context.read_settings()
    chosen = None if everything else context.source(found, source)
    if migrate_first:
        make_schema(found, quietly=True)
    if chosen is None:
        from etl.pipeline.sync import Order

        wished = Order(order["full"], order["rewrite"])
        sync_all.sync_all(ctx, found, wished, parallel=parallel, anyway=anyway, as_json=as_json)
        return
    log = context.log_of(ctx.meta, chosen.name, is_stamped=every is not None)
    if every is not None:
        from etl.cli.commands.service import serve

        serve(source, every, log, as_json, metrics_options.Wish(metrics_file, metrics_port, metrics_host))
        return
    with metrics_options.run(chosen.name, metrics_file, log) as ended, parts(found, chosen, log) as (given, watch):
        from etl.pipeline.sync import Order
        from etl.pipeline.sync import sync as run_sync

        run = run_sync(*given, Order(order["full"], order["rewrite"], order["same_source"]), watch)
        ended(run, given.db)
    report(ctx, run, log, as_json)


@main.command()
@source_option()
@insecure_http_option
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@metrics_options.metrics_file_option
@log_options
@json_option
@click.pass_context
def purge(ctx: click.Context, source: str | None, dry_run: bool, metrics_file: Path | None, as_json: bool) -> None:
    """Purge what is due now.

    Every sync does it too; this one also asks the source at once about jobs just past their date.
    """
    found = context.read_settings()
    chosen = context.source(found, source)
    log, file = context.log_of(ctx.meta, chosen.name), None if dry_run else metrics_file
    with metrics_options.run(chosen.name, file, log) as ended, parts(found, chosen, log) as (given, watch):
        if dry_run:
            from etl.pipeline.purge_step import what_is_due

            due = what_is_due(chosen, given.db, given.clock)
            said = (
                f"{due.due} jobs are due (AIMS360_PURGE={chosen.purge}); "
                f"{due.to_ask} more are past their date and would be asked for at the source"
            )
            console.say(console.as_json(due) if as_json else said)
            return
        from etl.pipeline.sync import purge_now

        run = purge_now(*given, watch)
        ended(run, given.db)
    report(ctx, run, log, as_json)


@main.command()
@source_option()
@insecure_http_option
@click.option("--repair", is_flag=True, help="Set right what differs; else it is only told.")
@click.option("--force", is_flag=True, help="With --repair: remove ghosts, however many.")
@metrics_options.metrics_file_option
@log_options
@json_option
@click.pass_context
def reconcile(
    ctx: click.Context, source: str | None, repair: bool, force: bool, metrics_file: Path | None, as_json: bool
) -> None:
    """Compare all keys with the source's.

    Tells what is missing, stale, or no longer there, beyond what the next sync brings anyway. Exit code 4 where
    something differs and wasn't repaired. A sync does it by itself once a week, with repair.
    """
    if force and not repair:
        raise ConfigError("--force goes with --repair")
    found = context.read_settings()
    chosen = context.source(found, source)
    log = context.log_of(ctx.meta, chosen.name)
    with metrics_options.run(chosen.name, metrics_file, log) as ended, parts(found, chosen, log) as (given, watch):
        from etl.pipeline.reconcile import Wish
        from etl.pipeline.sync import reconcile_now

        run = reconcile_now(*given, Wish(repair, force), watch)
        ended(run, given.db)
    report(ctx, run, log, as_json)
