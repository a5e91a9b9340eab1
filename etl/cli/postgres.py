"""The commands of the embedded Postgres: db start, stop, url."""

from __future__ import annotations

import click

from etl import settings, terminal
from etl.cli import wiring
from etl.cli.program import main


@main.group()
def db() -> None:
    """Start and stop the embedded Postgres.

    It is used where DATABASE_URL isn't set.
    """


@db.command()
def start() -> None:
    """Make it where it doesn't exist, and start it."""
    from etl import embedded

    data_dir = wiring.data_dir(wiring.read_settings())
    server = embedded.start(data_dir)
    how = "started" if server.started else "runs already"
    terminal.say(f"{how} in {server.home}; stop it: {wiring.db_command(data_dir, 'stop')}")


@db.command()
def stop() -> None:
    """Stop it; its data stays."""
    from etl import embedded

    terminal.say("stopped" if embedded.stop(wiring.data_dir(wiring.read_settings())) else "it was not running")


@db.command()
@click.argument("database", default="")
def url(database: str) -> None:
    """Print its address with the password.

    For psql and BI tools; it is started where it isn't running.

    DATABASE is another database of it, such as demo.
    """
    from etl import embedded
    from etl.database import sibling

    address = settings.libpq_url(embedded.start(wiring.data_dir(wiring.read_settings())).url)
    terminal.say(sibling(address, database) if database else address)
