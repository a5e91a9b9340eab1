"""Commands that read the mirror: status, report."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from etl import console
from etl.cli import context, shell_complete
from etl.cli.main import main
from etl.cli.options import FILE, as_duration, json_option, source_option
from etl.errors import ConfigError

_DATE = click.DateTime(["%Y-%m-%d"])
_FORMATS = ("table", "csv", "parquet", "json")


@main.command()
@source_option("This source alone.")
@click.option("--check", is_flag=True, help="Only a line; exit code 1 where the promise is broken. For monitors.")
@click.option(
    "--max-lag",
    metavar="DURATION",
    callback=as_duration,
    default="15m",
    show_default=True,
    help="With --check: how far behind it may be.",
)
@click.option(
    "--max-rejects",
    metavar="N",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="With --check: how many rows of each source may wait that could not be read.",
)
@json_option
@click.pass_context
def status(
    ctx: click.Context, source: str | None, check: bool, max_lag: timedelta, max_rejects: int, as_json: bool
) -> None:
    """Say how fresh and complete the mirror is.

    Freshness and lag of each source, its open and stuck jobs, rejected rows, when the next re-checks and
    reconciliations are due, and the last runs. With --check, exit code 1 if a source is too far behind, if more of its
    rows could not be read than are tolerated, or if a clock was wrong. That is for alerts: a restart cures none of it,
    so let probes ask /healthz at the metrics port.
    """
    from etl.reporting import status as room

    with context.reading(context.read_settings()) as db:
        if check:
            health = room.check(db, max_lag, source, max_rejects)
            console.say(console.as_json(health.as_value()) if as_json else health.message)
            ctx.exit(0 if health.is_kept else 1)
        found = room.read(db, source)
    console.say(console.as_json(found) if as_json else room.text(found))


@main.command()
@click.argument("name", default="", shell_complete=shell_complete.reports)
@click.option("--list", "as_list", is_flag=True, help="Say which reports there are, as without a NAME.")
@click.option("--since", metavar="DATE", type=_DATE, help="From that day on (UTC), such as 2026-03-01.")
@click.option("--until", metavar="DATE", type=_DATE, help="Up to that day, without it.")
@click.option("--account", metavar="CODE", help="One account only.")
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), help="How it is written; else as FILE ends, else a table."
)
@click.option("--output", metavar="FILE", type=FILE, help="Into a file, all or nothing.")
@click.option("--html", metavar="FILE", type=FILE, help="A page of charts, instead of a report.")
@click.option("--with-people", is_flag=True, help="With --html: name people too.")
def report(name: str, as_list: bool, html: Path | None, with_people: bool, **how: Any) -> None:
    """Ask one of the analysts' questions.

    NAME is one of those that --list names; sql/reports has them. A role that reads the schema bi is enough.
    """
    chosen = [word for word, given in (("NAME", name), ("--list", as_list), ("--html", html)) if given]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)} don't go together")
    if with_people and html is None:
        raise ConfigError("--with-people goes with --html")
    if not name and (lost := ["--format" if key == "form" else f"--{key}" for key, value in how.items() if value]):
        raise ConfigError(f"{', '.join(lost)} goes with the NAME of a report; `aims360-etl report --list` names them")
    if html is not None:
        from etl.reporting.html import write

        with console.status() as tell:
            tell("reading the mirror")
            written = write(context.database_url(context.read_settings()), html, context.clock().now(), with_people)
        console.say(str(written))
    elif name:
        _answer(name, **how)
    else:
        _list_reports()


def _answer(
    name: str,
    since: datetime | None,
    until: datetime | None,
    account: str | None,
    form: str | None,
    output: Path | None,
) -> None:
    """A report's answer, to stdout or into a file."""
    from etl import atomic_files
    from etl.reporting import export_formats, reports

    form = form or (ending if output and (ending := output.suffix.lower()[1:]) in _FORMATS else "table")
    if form == "parquet" and output is None and console.is_terminal(sys.stdout):
        raise ConfigError("Parquet is nothing for a terminal: add --output FILE")
    database = context.database_url(context.read_settings())
    with console.status() as tell:
        tell("asking the mirror")
        found = reports.ask(database, name, reports.Asked(since, until, account))
    if form == "table":
        width = console.width() if output is None else None
        data = f"{found.question}\n\n{export_formats.as_table(found.answer, width)}\n".encode()
    else:
        write = {"csv": export_formats.as_csv, "json": export_formats.as_json, "parquet": export_formats.as_parquet}[
            form
        ]
        data = write(found.answer)
    console.put(data) if output is None else atomic_files.save(output, data)
    if account is not None and found.answer.empty and not reports.knows_account(database, account):
        console.say(f"note: the mirror has no job of an account {account!r}, nor had any", err=True)


def _list_reports() -> None:
    from etl.reporting import reports

    found = [reports.describe(name) for name in reports.names()]
    widest = max(len(report.name) for report in found)
    for report in found:
        without = [f"--{limit}" for limit in ("since", "until", "account") if limit not in report.takes]
        limits = f" (without {', '.join(without)})" if without else ""
        console.say(f"{report.name:<{widest}}  {report.question}{limits}")
