"""The group of commands: what goes wrong in one becomes a line on stderr and an exit code."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

from etl import __version__, log, settings, stop, terminal
from etl.cli import wiring
from etl.errors import EtlError

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_CODES = (
    (0, "done"),
    (1, "failed; nothing is lost, the next run goes on"),
    (2, "wrong usage or configuration"),
    (3, "another run holds this source"),
    (4, "done, but not all is well: rows were rejected, mirror and source differ, a job failed, an output is missing"),
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


def complete_source(ctx: click.Context, option: click.Parameter, begun: str) -> list[str]:
    """Offers the sources that are configured to a shell that completes words."""
    from etl.cli import completions  # it imports this module

    return completions.sources(ctx, option, begun)


source_option = click.option(
    "--source",
    metavar="NAME",
    help="Which source; needed where several are configured.",
    default=None,
    shell_complete=complete_source,
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def as_duration(_ctx: click.Context, _option: click.Parameter, value: str | None) -> timedelta | None:
    """Callback of an option whose value is a duration, written as the settings write it."""
    try:
        return None if value is None else settings.duration(value)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error)) from None


_DEBUG, LOG, LOG_FORMAT, VERBOSE = "etl.debug", "etl.log", "etl.log_format", "etl.verbose"
_INSECURE_HTTP = "etl.insecure_http"


def _remember_debug(ctx: click.Context, _option: click.Parameter, wished: bool) -> None:
    ctx.meta[_DEBUG] = wished or ctx.meta.get(_DEBUG, False)


def _remember(key: str) -> Callable[[click.Context, click.Parameter, object], None]:
    def remember(ctx: click.Context, _option: click.Parameter, value: object) -> None:
        ctx.meta[key] = value

    return remember


def log_options(command: Command) -> Command:
    """A command that tells what happens while it runs: how, and how much of it."""
    verbose = click.option(
        "--verbose", is_flag=True, expose_value=False, callback=_remember(VERBOSE), help="Tell each request too."
    )
    form = click.option(
        "--log-format",
        type=click.Choice(log.FORMATS),
        default="auto",
        envvar="AIMS360_LOG_FORMAT",
        expose_value=False,
        callback=_remember(LOG_FORMAT),
        help="How stderr is written; auto: for people on a terminal, elsewhere JSON, a line an event.",
    )
    return form(verbose(command))


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
        stop.heed()
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
    from etl import failures

    if meta[_DEBUG]:
        terminal.say(failures.way(error), err=True)
    a_log(meta).failed(error)


def a_log(meta: dict[str, Any], source: str = "", *, is_stamped: bool = False) -> log.Log:
    """The log of the command: made when it is first asked for. Commands without `log_options` speak to people."""
    if LOG not in meta:
        form = log.chosen(meta.get(LOG_FORMAT, "human"), terminal.is_terminal(sys.stderr))
        way = {"is_stamped": is_stamped, "is_verbose": meta.get(VERBOSE, False)}
        meta[LOG] = log.Log(form, wiring.clock(), source, **way, as_set=wiring.as_set)
    found: log.Log = meta[LOG]
    return found


@click.group(cls=_Program, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@_debug_option
@click.version_option(__version__, message="aims360-etl %(version)s")
def main() -> None:
    """Mirror the background jobs of AIMS360 into Postgres."""
