"""Commands about who may do what, and what is in the way: grant, doctor."""

from __future__ import annotations

import click

from etl import terminal
from etl.cli import wiring
from etl.cli.program import insecure_http_option, json_option, main, source_option


@main.command()
@click.option("--bi", "role", metavar="ROLE", required=True, help="A role that exists: it reads schema bi from now on.")
@click.option("--links", is_flag=True, help="It reads the links to the outputs too.")
@click.option("--account", "accounts", metavar="CODE", multiple=True, help="Rows of this account alone; repeatable.")
@click.option("--source", metavar="NAME", help="Rows of this source alone.")
def grant(role: str, links: bool, accounts: tuple[str, ...], source: str | None) -> None:
    """Let a role of the database read schema bi.

    Makes the roles aims360_bi and aims360_links where they are missing, and ROLE a member of one. Held to accounts, it
    sees no other rows in any view; every call adds some.
    """
    from etl import access, schema

    with wiring.database(wiring.read_settings()) as db:
        schema.require(db)
        terminal.say(access.grant(db, role, links, source, accounts))
        for account in access.unknown(db, accounts):
            terminal.say(f"note: the mirror has no job of an account {account!r}, nor had any", err=True)


@main.command()
@source_option
@insecure_http_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, source: str | None, as_json: bool) -> None:
    """Check everything that a sync needs.

    Settings, database, rights, schema and service, and what the service honours. Exit code 0 or 1.
    """
    from etl import doctor as room

    checks = list(room.examine(wiring.read_settings, source, wiring.clock(), wiring.database_url))
    terminal.say(terminal.as_json(checks) if as_json else room.table(checks))
    ctx.exit(1 if any(check.standing is room.Standing.FAILED for check in checks) else 0)
