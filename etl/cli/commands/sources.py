"""Commands about many sources: sources list, add, check, disable, enable, remove."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etl import console
from etl.cli import context
from etl.cli.main import main
from etl.cli.options import FILE, insecure_http_option, json_option
from etl.config import environment, settings
from etl.errors import ConfigError
from etl.models import Progress

if TYPE_CHECKING:
    from etl.fleet.source_registry import Member
    from etl.postgres.connection import Connection
    from etl.state.capabilities import Reading

_REFERENCES = [f"{secret}_{where}" for secret in environment.SECRETS for where in ("env", "file")]
_KEYS = (*environment.PLAIN[:3], *_REFERENCES, *environment.SHARED)
_HELPS = {setting.name: setting.help for setting in settings.SETTINGS}
_SHARDS = re.compile(r"(\d{1,5})/(\d{1,5})")


@main.group()
def sources() -> None:
    """The sources of the file and of the database."""


@sources.command("list")
@click.option("--all", "with_disabled", is_flag=True, help="Those that are disabled too.")
@click.option("--shard", metavar="N/M", help="The N-th of M parts, by a hash of the name, for orchestrators.")
@insecure_http_option
@json_option
def list_(with_disabled: bool, shard: str | None, as_json: bool) -> None:
    """List all sources, by name.

    Where each is configured, how often a fleet syncs it, and what is wrong with its settings, or its secrets here. With
    --json also how each is read, and what its service was found to support.
    """
    is_wanted = _part(shard)
    members, readings = _members_and_readings(as_json)
    found = [each for each in members if is_wanted(each.name) and (with_disabled or not each.is_disabled)]
    console.say(console.as_json([_told(each, readings) for each in found]) if as_json else _table(found))


def _settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each key of a table `[sources.NAME]`."""
    for key in reversed(_KEYS):
        metavar, said = _spoken(key)
        command = click.option(f"--{key.replace('_', '-')}", key, metavar=metavar, help=said)(command)
    return command


def _spoken(key: str) -> tuple[str, str]:
    """What an option takes, and its help: that of the setting, or where a secret lies."""
    secret = key.rpartition("_")[0].replace("_", " ")
    if key.endswith("_env"):
        return "VARIABLE", f"The variable that holds the {secret}."
    if key.endswith("_file"):
        return "PATH", f"The full path of a file that holds the {secret}."
    said = _HELPS[environment.variable(key)]
    return "TEXT", f"{said[0].upper()}{said[1:]}."


@sources.command()
@click.argument("name", required=False)
@_settings_options
@click.option("--from", "file", type=FILE, metavar="FILE", help="All sources of a file written as aims360.toml is.")
@click.option("--replace", is_flag=True, help="Write over what the database has.")
@insecure_http_option
def add(name: str | None, file: Path | None, replace: bool, **values: str | None) -> None:
    """Keep a source in the database, for every machine of a fleet.

    It is judged first, as one of the file would be; with --from all are written or none. Secrets are never kept:
    VARIABLE and PATH say where each machine finds them.
    """
    from etl.fleet import source_registry, source_store

    said = {key: value for key, value in values.items() if value is not None}
    if (name is None) == (file is None) or (file is not None and said):
        raise ConfigError("sources add takes NAME and its settings, or --from FILE alone")
    found, now = context.read_settings(), context.clock().now()
    new = source_registry.of_file(file, now) if file else source_registry.of_words(str(name), said)
    notes = source_registry.check_new(found, new)
    with context.database(found) as db:
        source_store.put(db, new.wanted, now, replace=replace)
    for note in notes:
        console.say(f"note: on this machine {note}", err=True)
    console.say(f"{len(new.wanted)} sources are in the database" if file else f"{name} is in the database")


@sources.command()
@click.argument("names", nargs=-1)
@insecure_http_option
@json_option
@click.pass_context
def check(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Check all sources, or those that are named: settings, secrets, sign-in.

    Each that holds is asked for one job, side by side. Exit code 2 where settings are wrong, else 1 where a service
    can't be used.
    """
    from etl.fleet import reachability

    members = {each.name: each for each in _members(names) if names or not each.is_disabled}
    wrong = {name: each.problem for name, each in members.items() if each.problem}
    wanted = [each.source for each in members.values() if each.source]
    clock, log = context.clock(), context.log_of(ctx.meta)
    unusable: dict[str, str] = {}
    with (
        context.reachable(context.read_settings()) as db,
        console.progress(clock, log.progress, log.shows_bars(sys.stderr)) as watch,
    ):
        for done, (source, error) in enumerate(reachability.each(wanted, db, clock), 1):
            if error is not None:
                (wrong if isinstance(error, ConfigError) else unusable)[source.name] = str(error)
            watch(Progress(0, "sources", done, len(wanted), is_exact=True))
    console.say(console.as_json(_checked(members, wrong, unusable)) if as_json else _lines(members, wrong, unusable))
    ctx.exit(2 if wrong else 1 if unusable else 0)


@sources.command()
@click.argument("names", nargs=-1, required=True)
def disable(names: tuple[str, ...]) -> None:
    """Leave sources alone: no fleet syncs them. What was mirrored stays."""
    from etl.fleet import source_store

    with _keeping(names, "write `disabled = true` into its table there") as db:
        source_store.disable(db, names, context.clock().now())
    console.say(f"disabled: {', '.join(names)}")


@sources.command()
@click.argument("names", nargs=-1, required=True)
def enable(names: tuple[str, ...]) -> None:
    """Leave sources alone no more."""
    from etl.fleet import source_store

    with _keeping(names, "take `disabled = true` out there, or write `disabled = false` into its table") as db:
        source_store.enable(db, names, context.clock().now())
    console.say(f"enabled: {', '.join(names)}")


@sources.command()
@click.argument("names", nargs=-1, required=True)
def remove(names: tuple[str, ...]) -> None:
    """Take sources out of the database's list. What was mirrored stays."""
    from etl.fleet import source_store

    with context.database(context.read_settings()) as db:
        source_store.remove(db, names)
    console.say(f"removed: {', '.join(names)}; what was mirrored of them stays")


@contextmanager
def _keeping(names: tuple[str, ...], cure: str) -> Iterator[Connection]:
    """The database, for a change of sources that it keeps; those of a file are changed there."""
    found = context.read_settings()
    with context.database(found) as db:
        if here := [name for name in names if found.has(name)]:
            raise ConfigError(f"{settings.some(here)}: is configured in the {_where(found)}; {cure}")
        yield db


def _where(found: settings.Settings) -> str:
    return found.place if found.place == settings.ENVIRONMENT else f"file {found.place}"


def _members(names: tuple[str, ...] = ()) -> list[Member]:
    """All sources with what is known of them, or those that are named. Raises ConfigError for one that isn't there."""
    from etl.fleet import source_registry, source_store

    found = context.read_settings()
    with context.roster_database(found) as db:
        stored = source_store.entries(db) if db else {}
    return source_registry.named(found, stored, names)


def _members_and_readings(with_readings: bool) -> tuple[list[Member], dict[str, Reading]]:
    """All sources and, if wished, how each is read."""
    from etl.fleet import source_registry, source_store
    from etl.state import capabilities

    found = context.read_settings()
    with context.roster_database(found) as db:
        stored = source_store.entries(db) if db else {}
        readings = capabilities.find_all(db) if db and with_readings else {}
    return source_registry.named(found, stored, ()), readings


def _part(shard: str | None) -> Callable[[str], bool]:
    """Whether a name belongs to a part: the N-th of M, the same at every call and on every machine."""
    if shard is None:
        return lambda _: True
    match = _SHARDS.fullmatch(shard)
    number, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= parts:
        raise ConfigError(f"--shard: {shard!r} is no part of a whole; write 2/8 for the second of eight")
    return lambda name: int.from_bytes(sha256(name.encode()).digest()[:8]) % parts == number - 1


def _told(member: Member, readings: Mapping[str, Reading]) -> dict[str, object]:
    """For scripts."""
    from etl.state.capabilities import Reading, list_capabilities

    reading = readings.get(member.name, Reading())
    return {
        "name": member.name,
        "base_url": member.base_url,
        "every_seconds": None if member.every is None else round(member.every.total_seconds()),
        "is_disabled": member.is_disabled,
        "configured_in": member.configured_in,
        "problem": member.problem,
        "paging": reading.paging,
        "window_by": reading.window_by,
        "capabilities": list_capabilities(reading.capabilities),
    }


def _table(members: list[Member]) -> str:
    from etl.text import Column, shown, span, table

    if not members:
        return "no source is configured"
    columns = [
        Column("source", [shown(each.name) for each in members], 5),
        Column("base address", [shown(each.base_url or "") for each in members], 2),
        Column("every", [span(each.every.total_seconds()) if each.every else "" for each in members], 3),
        Column("disabled", ["yes" if each.is_disabled else "" for each in members], 4),
        Column("in", [shown(each.configured_in) for each in members], 1),
    ]
    problems = [shown(f"{each.name}: {line}") for each in members for line in (each.problem or "").splitlines()]
    return "\n".join([table(columns, console.width()), *problems])


def _checked(
    members: Mapping[str, Member], wrong: Mapping[str, str], unusable: Mapping[str, str]
) -> list[dict[str, object]]:
    """For scripts: what is in the way of each, `settings` or `service`."""
    return [
        {
            "name": name,
            "base_url": each.base_url,
            "is_fine": name not in wrong and name not in unusable,
            "failed": "settings" if name in wrong else "service" if name in unusable else None,
            "problem": wrong.get(name, unusable.get(name)),
        }
        for name, each in members.items()
    ]


def _lines(members: Mapping[str, Member], wrong: Mapping[str, str], unusable: Mapping[str, str]) -> str:
    """For people: what is wrong, a line each, and how many are fine."""
    from etl.text import shown

    failed = [shown(f"{name}: {line}") for name, said in {**wrong, **unusable}.items() for line in said.splitlines()]
    fine = len(members) - len(wrong) - len(unusable)
    return "\n".join([*failed, f"{fine} of {len(members)} sources are fine"])
