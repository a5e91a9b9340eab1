"""The group of commands: what goes wrong in one becomes a line on stderr and an exit code."""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Any

import click

from etl import __version__, console, shutdown
from etl.cli import context
from etl.cli.options import debug_option, wishes_debug
from etl.config import settings
from etl.errors import EtlError

EXIT_CODES = (
    (0, "done"),
    (1, "failed; nothing is lost, the next run goes on"),
    (2, "wrong usage or configuration"),
    (3, "another run holds this source"),
    (4, "done, but not all is well: new rejected rows, mirror and source differ, a job failed, an output is missing"),
    (5, "timed out waiting"),
)
_EPILOG = "\n\n".join(
    "\b\n" + title + "\n" + "\n".join(f"  {name:<25}{meaning}" for name, meaning in rows)
    for title, rows in (
        ("Settings, from the environment:", [(s.name, s.help) for s in settings.SETTINGS]),
        ("Exit codes:", [(str(code), meaning) for code, meaning in EXIT_CODES]),
    )
)


# In this order --help and docs/commands.md show them.
_ORDER = (
    "init migrate sync purge reconcile worker status report sources jobs documents grant erase doctor "
    "demo prove emulator simulate db completions"
).split()


class _Commands(click.Group):
    """Commands in the order they are written in; each takes --debug, so that it can stand anywhere."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        super().add_command(debug_option(cmd), name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class _Program(_Commands):
    """The commands; what goes wrong in one becomes a line on stderr and an exit code."""

    group_class = _Commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.commands, key=_ORDER.index)

    def invoke(self, ctx: click.Context) -> Any:
        _suit_python()
        shutdown.heed()
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - nobody above could say it better
            _tell(error, ctx.meta)
            code = error.exit_code if isinstance(error, EtlError) else 1
        raise click.exceptions.Exit(code)


def _suit_python() -> None:
    """Python looks for cycles of garbage after each few hundred objects, and once more at its end.

    What is imported makes 45,000 that all stay: looking through them would be a quarter of an idle sync. And whoever
    waited for Postgres gets the interpreter back after half a millisecond, not five, from the thread that reads ahead.
    """
    gc.set_threshold(20_000)
    atexit.register(gc.freeze)
    sys.setswitchinterval(0.0005)


def _tell(error: BaseException, meta: dict[str, Any]) -> None:
    from etl import error_report

    if wishes_debug(meta):
        console.say(error_report.way(error), err=True)
    context.log_of(meta).failed(error)


@click.group(cls=_Program, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@debug_option
@click.version_option(__version__, message="aims360-etl %(version)s")
def main() -> None:
    """Mirror the background jobs of AIMS360 into Postgres."""
