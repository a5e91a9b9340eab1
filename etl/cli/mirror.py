"""Commands that change the mirror: migrate, sync, purge, reconcile."""

from __future__ import annotations

import click

from etl import settings, terminal
from etl.cli import wiring
from etl.cli.program import insecure_http_option, json_option, main, source_option
from etl.errors import ConfigError
from etl.model import Run, Verdict


@main.command()
def migrate() -> None:
    """Make the schema, or bring it up to date.

    All or nothing; safe to run again.
    """
    _migrate(wiring.read_settings())


@main.command()
@source_option
@insecure_http_option
@click.option("--full", is_flag=True, help="Read all rows, not only those since the last run.")
@click.option("--rewrite", is_flag=True, help="With --full: write rows anew that are the same.")
@click.option("--same-source", is_flag=True, help="Go on though the source shows a client never seen: it moved.")
@click.option("--migrate", "migrate_first", is_flag=True, help="Run migrations first.")
@json_option
def sync(source: str | None, full: bool, rewrite: bool, same_source: bool, migrate_first: bool, as_json: bool) -> None:
    """Bring the mirror up to date.

    Reads what changed since the last run, writes what differs, purges what is due. Made for a schedule: a run that
    fails or is killed is gone on with by the next.
    """
    if rewrite and not full:
        raise ConfigError("--rewrite goes with --full")
    found = wiring.read_settings()
    chosen = found.source(source)
    if migrate_first:
        _migrate(found, quietly=True)
    with wiring.database(found) as db:
        from etl.sync import Order
        from etl.sync import sync as run_sync

        with terminal.progress(wiring.clock()) as watch:
            run = run_sync(chosen, wiring.service(chosen), db, wiring.clock(), Order(full, rewrite, same_source), watch)
    _report(run, as_json)


@main.command()
@source_option
@insecure_http_option
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
def purge(source: str | None, dry_run: bool, as_json: bool) -> None:
    """Purge what is due now.

    Every sync does it too; this one also asks the source at once about jobs just past their date.
    """
    found = wiring.read_settings()
    chosen = found.source(source)
    with wiring.database(found) as db:
        from etl.sync import purge_now, what_is_due

        if dry_run:
            due = what_is_due(chosen, db, wiring.clock())
            said = (
                f"{due.due} jobs are due (AIMS360_PURGE={chosen.purge}); "
                f"{due.to_ask} more are past their date and would be asked for at the source"
            )
            terminal.say(terminal.as_json(due) if as_json else said)
            return
        with terminal.progress(wiring.clock()) as watch:
            run = purge_now(chosen, wiring.service(chosen), db, wiring.clock(), watch)
    _report(run, as_json)


@main.command()
@source_option
@insecure_http_option
@click.option("--repair", is_flag=True, help="Set right what differs; else it is only told.")
@click.option("--force", is_flag=True, help="With --repair: remove ghosts, however many.")
@json_option
def reconcile(source: str | None, repair: bool, force: bool, as_json: bool) -> None:
    """Compare all keys with the source's.

    Tells what is missing, stale, or no longer there, beyond what the next sync brings anyway. Exit code 4 where
    something differs and wasn't repaired. A sync does it by itself once a week, with repair.
    """
    if force and not repair:
        raise ConfigError("--force goes with --repair")
    found = wiring.read_settings()
    chosen = found.source(source)
    with wiring.database(found) as db:
        from etl.reconcile import Wish
        from etl.sync import reconcile_now

        with terminal.progress(wiring.clock()) as watch:
            run = reconcile_now(chosen, wiring.service(chosen), db, wiring.clock(), Wish(repair, force), watch)
    _report(run, as_json)


def _migrate(found: settings.Settings, quietly: bool = False) -> None:
    from etl import schema

    before, after = schema.migrate(wiring.database_url(found))
    if not quietly:
        terminal.say(f"schema is at {after}" + ("" if before == after else f" (was {before or 'empty'})"))


def _report(run: Run, as_json: bool) -> None:
    """The run's line, and exit code 4 where rows were rejected, or mirror and source still differ."""
    terminal.say(terminal.as_json(run) if as_json else terminal.summary(run))
    for note in run.notes:
        terminal.say(f"note: {note}", err=True)
    if run.counts.rejected:
        terminal.say(
            f"{run.counts.rejected} rows could not be read; they wait, with the reason, in etl.rejects", err=True
        )
    if run.counts.rejected or run.counts.differences > run.counts.repaired or run.verdict == Verdict.INCOMPLETE:
        click.get_current_context().exit(4)
