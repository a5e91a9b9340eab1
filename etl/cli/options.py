"""Options that several commands have, and what is remembered of those that concern any of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from etl import event_log
from etl.cli import shell_complete
from etl.config import validation
from etl.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])

WITH_DEFAULTS = {"show_default": True}
FILE = click.Path(dir_okay=False, path_type=Path)
_DEBUG, _LOG_FORMAT, _VERBOSE, _INSECURE_HTTP = "etl.debug", "etl.log_format", "etl.verbose", "etl.insecure_http"


def source_option(said: str = "Which source; needed where several are configured.") -> Callable[[Command], Command]:
    """`--source NAME`, completed with those that are configured."""
    return click.option("--source", metavar="NAME", help=said, shell_complete=shell_complete.sources)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def as_duration(_ctx: click.Context, _option: click.Parameter, value: str | None) -> timedelta | None:
    """Callback of an option whose value is a duration, written as the settings write it."""
    try:
        return None if value is None else validation.duration(value)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error)) from None


def as_numbers(text: str | None, names: Iterable[str]) -> dict[str, int]:
    """What an option such as `hangs=1,refuses=2` says. Raises BadParameter."""
    found: dict[str, int] = {}
    for word in text.split(",") if text else ():
        name, _, number = (part.strip() for part in word.partition("="))
        if name not in names or not number.isdecimal():
            raise click.BadParameter(f"{word!r} is not NAME=NUMBER; names are {', '.join(names)}")
        found[name] = int(number)
    return found


def since(text: str, now: datetime) -> datetime:
    """What --since says: a day, a moment (UTC unless it says otherwise) or how long ago, such as 2d.

    Raises ConfigError.
    """
    try:
        moment = (
            now - validation.duration(text) if re.fullmatch(r"\d+\s*[smhd]", text) else datetime.fromisoformat(text)
        )
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--since: {text!r} is no day and no duration; write 2026-03-01, 2026-03-01T08:00, 12h or 2d"
        ) from None


def _remember(key: str) -> Callable[[click.Context, click.Parameter, object], None]:
    def remember(ctx: click.Context, _option: click.Parameter, value: object) -> None:
        ctx.meta[key] = value

    return remember


def _remember_debug(ctx: click.Context, _option: click.Parameter, wished: bool) -> None:
    ctx.meta[_DEBUG] = wished or wishes_debug(ctx.meta)


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_remember_debug,
    help="Print the traceback of a failure too.",
)
# For each command that talks to the source; the settings it reads by `context.read_settings` know of it then.
insecure_http_option = click.option(
    "--insecure-http",
    is_flag=True,
    expose_value=False,
    callback=_remember(_INSECURE_HTTP),
    help="Let http carry the token over a network, unguarded.",
)


def log_options(command: Command) -> Command:
    """A command that tells what happens while it runs: how, and how much of it."""
    verbose = click.option(
        "--verbose", is_flag=True, expose_value=False, callback=_remember(_VERBOSE), help="Tell each request too."
    )
    form = click.option(
        "--log-format",
        type=click.Choice(event_log.FORMATS),
        default="auto",
        envvar="AIMS360_LOG_FORMAT",
        expose_value=False,
        callback=_remember(_LOG_FORMAT),
        help="How stderr is written; auto: for people on a terminal, elsewhere JSON, a line an event.",
    )
    return form(verbose(command))


def wishes_debug(meta: dict[str, Any]) -> bool:
    """Whether --debug stood anywhere in the command's words; `meta` is its context's."""
    return bool(meta.get(_DEBUG))


def wishes_verbose(meta: dict[str, Any]) -> bool:
    """Whether it was called with --verbose."""
    return bool(meta.get(_VERBOSE))


def log_format(meta: dict[str, Any]) -> str:
    """What --log-format said. Commands without `log_options` speak to people."""
    return str(meta.get(_LOG_FORMAT, "human"))


def insecure_http() -> bool:
    """Whether the command was called with --insecure-http."""
    ctx = click.get_current_context(silent=True)
    return bool(ctx and ctx.meta.get(_INSECURE_HTTP))
