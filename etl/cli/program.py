"""The group of commands: what goes wrong in one becomes a line on stderr and an exit code."""

from __future__ import annotations

import atexit
import gc
import signal
import sys
from typing import Any

import click

from etl import settings, terminal
from etl.errors import EtlError

EXIT_CODES = (
    (0, "done"),
    (1, "failed; nothing is lost, the next run goes on"),
    (2, "wrong usage or configuration"),
    (3, "another run holds this source"),
    (4, "done, but not all is well: rows were rejected, mirror and source differ, or the awaited job failed"),
    (5, "timed out waiting"),
)
_EPILOG = "\n\n".join(
    "\b\n" + title + "\n" + "\n".join(f"  {name:<25}{meaning}" for name, meaning in rows)
    for title, rows in (
        ("Settings, from the environment:", [(s.name, s.help) for s in settings.SETTINGS]),
        ("Exit codes:", [(str(code), meaning) for code, meaning in EXIT_CODES]),
    )
)
WITH_DEFAULTS = {"show_default": True}

source_option = click.option(
    "--source", metavar="NAME", help="Which source; needed where several are configured.", default=None
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


_DEBUG = "etl.debug"
_INSECURE_HTTP = "etl.insecure_http"


def _remember_debug(ctx: click.Context, _option: click.Parameter, wished: bool) -> None:
    ctx.meta[_DEBUG] = wished or ctx.meta.get(_DEBUG, False)


_debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_remember_debug,
    help="Print the traceback of a failure too.",
)


def _remember_insecure_http(ctx: click.Context, _option: click.Parameter, wished: bool) -> None:
    ctx.meta[_INSECURE_HTTP] = wished


# For each command that talks to the source; the settings it reads by `wiring.read_settings` know of it then.
insecure_http_option = click.option(
    "--insecure-http",
    is_flag=True,
    expose_value=False,
    callback=_remember_insecure_http,
    help="Let http carry the token over a network, unguarded.",
)


def insecure_http() -> bool:
    """Whether the command was called with --insecure-http."""
    ctx = click.get_current_context(silent=True)
    return bool(ctx and ctx.meta.get(_INSECURE_HTTP))


class _Commands(click.Group):
    """Commands in the order they are written in; each takes --debug, so that it can stand anywhere."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        super().add_command(_debug_option(cmd), name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class _Program(_Commands):
    """The commands; what goes wrong in one becomes a line on stderr and an exit code."""

    group_class = _Commands

    def invoke(self, ctx: click.Context) -> Any:
        _suit_python()
        signal.signal(signal.SIGTERM, _interrupt)  # a service manager's wish is no less than a Ctrl-C
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - nobody above could say it better
            _tell(error, ctx.meta[_DEBUG])
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


def _tell(error: BaseException, debug: bool) -> None:
    from etl import failures

    if debug:
        terminal.say(failures.way(error), err=True)
    for line in failures.line(error).splitlines():
        terminal.say(f"aims360-etl: {line}", err=True)


def _interrupt(_signal: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: a second would get in the way of the tidying up
    raise KeyboardInterrupt


@click.group(cls=_Program, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@_debug_option
@click.version_option(package_name="aims360-etl", message="aims360-etl %(version)s")
def main() -> None:
    """Mirror the background jobs of AIMS360 into Postgres."""
