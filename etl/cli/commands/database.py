"""Commands of the database: migrate, and db start, stop, url of the embedded one."""

from __future__ import annotations

from datetime import timedelta

import click

from etl import console
from etl.cli import context
from etl.cli.main import main
from etl.cli.options import as_duration
from etl.config import settings
from etl.errors import ConfigError


@main.command()
@click.option("--sql", "as_sql", is_flag=True, help="Only print what it would do, for psql.")
@click.option("--from", "since", metavar="REVISION", help="With --sql: from there on, or from 'empty'.")
@click.option(
    "--lock-timeout",
    metavar="DURATION",
    default="30s",
    show_default=True,
    callback=as_duration,
    help="How long to wait for each lock.",
)
def migrate(as_sql: bool, since: str | None, lock_timeout: timedelta) -> None:
    """Make the schema, or bring it up to date.

    All or nothing; safe to run again. Readers wait meanwhile, and it waits for them no longer than --lock-timeout.
    With --sql the database is only read, and with --from not asked at all.
    """
    if not timedelta() < lock_timeout <= timedelta(days=1):
        raise ConfigError("--lock-timeout: lies between 1s and 1d; to wait for ever would keep all readers waiting")
    if not as_sql:
        if since is not None:
            raise ConfigError("--from goes with --sql")
        make_schema(context.read_settings(), lock_timeout=lock_timeout)
        return
    from etl.postgres import migration_sql

    if since is None:
        console.say(migration_sql.of_database(context.database_url(context.read_settings()), lock_timeout).rstrip())
    else:
        console.say(migration_sql.since_revision(since, lock_timeout).rstrip())


@main.group()
def db() -> None:
    """Start and stop the embedded Postgres.

    It is used where DATABASE_URL isn't set.
    """


@db.command()
def start() -> None:
    """Make it where it doesn't exist, and start it."""
    from etl.postgres import embedded

    data_dir = context.data_dir(context.read_settings())
    server = embedded.start(data_dir)
    how = "started" if server.started else "runs already"
    console.say(f"{how} in {server.home}; stop it: {context.db_command(data_dir, 'stop')}")


@db.command()
def stop() -> None:
    """Stop it; its data stays."""
    from etl.postgres import embedded

    console.say("stopped" if embedded.stop(context.data_dir(context.read_settings())) else "it was not running")


@db.command()
@click.argument("database", default="")
def url(database: str) -> None:
    """Print its address with the password.

    For psql and BI tools; it is started where it isn't running.

    DATABASE is another database of it, such as demo.
    """
    from etl.postgres import embedded
    from etl.postgres.connection import sibling

    address = settings.libpq_url(embedded.start(context.data_dir(context.read_settings())).url)
    console.say(sibling(address, database) if database else address)


def make_schema(found: settings.Settings, quietly: bool = False, lock_timeout: timedelta | None = None) -> None:
    """Runs the migrations; `quietly` prints nothing."""
    from etl.postgres import migrations

    before, after = migrations.migrate(context.database_url(found), lock_timeout or migrations.LOCK_TIMEOUT)
    if not quietly:
        console.say(f"schema is at {after}" + ("" if before == after else f" (was {before or 'empty'})"))
