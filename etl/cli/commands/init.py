"""The first command of a new user: init."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl import console
from etl.cli import context
from etl.cli.main import main
from etl.cli.options import insecure_http, insecure_http_option
from etl.config import settings
from etl.errors import ConfigError

if TYPE_CHECKING:
    from etl.cli.setup_wizard import Asks
    from etl.config.writer import Change


class _Terminal:
    """Whoever sits at the terminal."""

    def text(self, question: str, before: str) -> str:
        return str(click.prompt(question, default=before or None, err=True)).strip()

    def secret(self, question: str, before: str, can_lack: bool = False) -> str:
        offered = " (Enter: as before)" if before else " (Enter: none)" if can_lack else ""
        default = "" if offered else None
        typed = click.prompt(question + offered, default=default, hide_input=True, show_default=False, err=True)
        return str(typed).strip() or before

    def choice(self, question: str, among: Iterable[str], before: str) -> str:
        return str(click.prompt(question, default=before, type=click.Choice(list(among), False), err=True))

    def agrees(self, question: str) -> bool:
        return click.confirm(question, err=True)

    def tell(self, text: str) -> None:
        console.say(text, err=True)


@main.command()
@click.option("--source", "name", metavar="NAME", help=f"What the source is called; else {settings.DEFAULT_SOURCE}.")
@click.option("--folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Where the files go.")
@click.option("--from-environment", is_flag=True, help="Ask nothing: the environment has the answers.")
@click.option("--untested", is_flag=True, help="Ask neither the service nor the database.")
@click.option("--replace", is_flag=True, help="Change what the files say; what they said stays beside them.")
@insecure_http_option
@click.option("--migrate", "migrate_too", is_flag=True, help="Make the schema at the end.")
def init(
    name: str | None, folder: Path | None, from_environment: bool, untested: bool, replace: bool, migrate_too: bool
) -> None:
    """Ask for service, sign-in and database, test them, and write the settings.

    Into aims360.toml, and the secrets into .env, which only its owner can read; one that lies in a file stays there.
    Without a terminal it takes the answers from the environment, as --from-environment does, and fails where one is
    missing or doesn't hold.
    """
    from etl.cli import setup_wizard
    from etl.config import writer

    name = setup_wizard.named(name or settings.DEFAULT_SOURCE)
    config = _config(folder)
    env = config.with_name(".env")
    before = setup_wizard.known(os.environ, name, Path.cwd(), config, insecure_http())
    tests = None if untested else setup_wizard.tests(context.clock(), _embedded)
    asks = None if from_environment or not console.is_terminal(sys.stdin) else _Terminal()
    if asks is None:
        answers, checks = before, setup_wizard.examined(before, tests)
    else:
        setup_wizard.changes(before, config, env)  # files that can't be changed are told before anything is asked
        answers, checks = setup_wizard.ask(asks, before, tests)
    _write(setup_wizard.changes(answers, config, env), replace, asks)
    to_migrate = untested or setup_wizard.is_to_migrate(checks)
    if migrate_too or (to_migrate and asks is not None and not untested and asks.agrees("Make the schema now?")):
        from etl.postgres import migrations

        console.say(f"schema is at {migrations.migrate(setup_wizard.address(answers, _embedded))[1]}")
        to_migrate = False
    several = len(writer.names_in(config)) > 1
    in_the_clear = insecure_http() and setup_wizard.is_in_the_clear(answers)
    console.say(setup_wizard.next_steps(_program(), env, name if several else None, to_migrate, in_the_clear))


def _program() -> str:
    """The command's full path, as a scheduler wants it."""
    places = (sys.argv[0], str(Path(sys.executable).with_name("aims360-etl")), "aims360-etl")
    found = next(filter(None, (shutil.which(place) for place in places)), None)
    return str(Path(found).absolute()) if found else "aims360-etl"


def _config(folder: Path | None) -> Path:
    """The file of sources: the one that AIMS360_CONFIG names, unless another folder is wished for."""
    named = "" if folder else os.environ.get("AIMS360_CONFIG", "").strip()
    path = (folder or Path.cwd()).absolute() / (Path(named).expanduser() if named else settings.CONFIG_FILE)
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}: make it, or name another with --folder")
    return path


def _embedded(data_dir: Path | None) -> str:
    return context.database_url(settings.Settings(None, data_dir, {}))


def _write(changes: Sequence[Change], replace: bool, asks: Asks | None) -> None:
    """The files; what one of them says already is changed only by leave."""
    from etl.config import writer

    lost = " and ".join(str(change.path) for change in changes if change.loses)
    if lost and not replace:
        if asks is None:
            raise ConfigError(f"{lost} says something else already: --replace changes it, and keeps the old beside it")
        if not asks.agrees(f"{lost} says something else already. Change it, and keep the old beside it?"):
            raise ConfigError("nothing was written")
    for change, is_secret in zip(changes, (False, True), strict=True):
        kept = writer.keep(change, is_secret)
        how = "is as it was" if change.after == change.before else "written"
        console.say(f"{change.path}: {how}" + (", for its owner alone; keep it out of git" if is_secret else ""))
        if kept is not None:
            console.say(f"{kept}: what it said before")
