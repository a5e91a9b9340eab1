"""Commands about who may do what, what is in the way, and what must go: grant, erase, doctor."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl import console
from etl.cli import context
from etl.cli.main import main
from etl.cli.options import FILE, insecure_http_option, json_option, source_option
from etl.errors import ConfigError

if TYPE_CHECKING:
    from etl.load.erase import Erased


@main.command()
@click.option("--bi", metavar="ROLE", help="A role that exists: it reads schema bi from now on.")
@click.option("--writer", metavar="ROLE", help="A role that exists: it syncs from now on, and doesn't migrate.")
@click.option("--links", is_flag=True, help="It reads the links to the outputs too.")
@click.option("--account", "accounts", metavar="CODE", multiple=True, help="Rows of this account alone; repeatable.")
@source_option("Rows of this source alone.")
def grant(bi: str | None, writer: str | None, links: bool, accounts: tuple[str, ...], source: str | None) -> None:
    """Let a role of the database read schema bi, or keep the mirror.

    With --bi: makes the roles aims360_bi and aims360_links where they are missing, and ROLE a member of one. Held to
    accounts, it sees no other rows in any view; every call adds some. With --writer: makes the role aims360_writer
    where it is missing, and ROLE a member. It syncs, purges and reconciles; it doesn't migrate, grant or erase.
    """
    from etl.postgres import roles

    if (bi is None) == (writer is None):
        raise ConfigError("grant takes --bi ROLE, which reads, or --writer ROLE, which syncs: one of the two")
    if writer is not None and (links or accounts or source):
        raise ConfigError("--links, --account and --source go with --bi: a writer reads and writes all rows")
    with context.database(context.read_settings()) as db:
        if writer is not None:
            console.say(roles.grant_writer(db, writer))
        if bi is not None:
            console.say(roles.grant(db, bi, links, source, accounts))
        for account in roles.unknown(db, accounts):
            console.say(f"note: the mirror has no job of an account {account!r}, nor had any", err=True)


@main.command()
@click.option("--account", metavar="CODE", help="All jobs of this account.")
@click.option("--person", metavar="EMAIL", help="All jobs that they made; in others their address is taken out.")
@source_option("In this source alone.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
@click.pass_context
def erase(
    ctx: click.Context,
    account: str | None,
    person: str | None,
    source: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase an account or a person from the mirror, for good.

    Jobs go with their documents, history and rejected rows, as the purge removes them: day totals stay. Files that
    were fetched are named, not touched. It asks first; where nobody can be asked it needs --yes. Exit code 4 where the
    address still stands somewhere. What AIMS360 still shows may come back: erase there first (SECURITY.md).
    """
    from etl.load import erase as room

    wish = room.Wish(account, person, source)
    room.check(wish)
    with context.database(context.read_settings()) as db:
        if not dry_run:
            room.require_right(db)
        if dry_run or not yes:
            found = room.look(db, wish)
            console.say(_counted(found, "would go", as_json), err=not dry_run)
            if dry_run:
                return
            _ask(ctx)
        done = room.erase(db, wish, context.clock())
    console.say(_counted(done, "erased", as_json))
    for place, rows in done.left.items():
        console.say(f"note: the address still stands in {rows} rows of {place}", err=True)
    console.say(
        "note: what AIMS360 still shows comes back when it shows a newer version: erase it there first", err=True
    )
    ctx.exit(4 if done.left else 0)


def _ask(ctx: click.Context) -> None:
    """Goes on only if somebody says so. Raises ConfigError where nobody can."""
    if not console.is_terminal(sys.stdin):
        raise ConfigError("--yes: is needed where nobody can be asked; nothing was erased, --dry-run counts first")
    if not click.confirm("Erase it for good?", err=True):
        console.say("nothing was erased", err=True)
        ctx.exit(1)


def _counted(found: Erased, what: str, as_json: bool) -> str:
    """What goes or went, and the files that somebody must remove, a line each."""
    if as_json:
        return console.as_json(found)
    said = (
        f"{what}: {found.jobs} jobs with {found.documents} documents, {found.names} names in other rows, "
        f"{found.rejects} rejected rows, {found.archived} rows of fetched documents; day totals stay"
    )
    files = ["their files are not touched; remove them:", *found.files] if found.files else []
    return "\n".join((said, *files))


@main.command()
@source_option()
@insecure_http_option
@json_option
@click.option("--report", metavar="FILE", type=FILE, help="Write what was asked and answered, without values.")
@click.pass_context
def doctor(ctx: click.Context, source: str | None, as_json: bool, report: Path | None) -> None:
    """Check everything that a sync needs.

    Settings, database, rights, schema and service; what the service supports, with the evidence; what that means for a
    sync, and what to ask AIMS360 for. Its questions take a minute at most. With --report, requests, statuses and the
    shapes of answers are written to a file for the authors of this program: types, lengths and spellings, no values,
    names, links or tokens. Exit code 0 or 1.
    """
    from etl import atomic_files
    from etl.pipeline.doctor.checks import Standing, table
    from etl.pipeline.doctor.examine import examine
    from etl.pipeline.doctor.report import Report

    shapes = None if report is None else Report()
    found = examine(
        context.read_settings, source, context.clock(), context.database_url, context.source, context.reachable, shapes
    )
    checks = [replace(check, detail=context.as_set(check.detail)) for check in found]
    console.say(console.as_json(checks) if as_json else table(checks))
    if report is not None and shapes is not None:
        atomic_files.save(report, shapes.encode())
        console.say(f"{report}: what was asked, and the shapes of the answers; read it before you send it", err=True)
    ctx.exit(1 if any(check.standing is Standing.FAILED for check in checks) else 0)
