"""Commands that need no AIMS360: demo, prove, emulator."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from etl import console
from etl.cli import context
from etl.cli.main import main
from etl.cli.options import WITH_DEFAULTS, as_duration, as_numbers, json_option
from etl.config import settings
from etl.errors import ConfigError

if TYPE_CHECKING:
    from etl.testing.emulator import Mood, ServiceOptions, Tenant

_OF_A_FLEET = ("moods", "skew", "folder")
_OF_ONE_ACCOUNT = (
    "jobs",
    "generation",
    "page_size",
    "next_link",
    "comparison",
    "service",
    "late_share",
    "fault_rate",
    "faults",
)
_NEXT_LINKS = "standard always never on-last on-full foreign inner no-prefix inner-no-prefix negative-top".split()


def _as_moods(_ctx: click.Context, _option: click.Parameter, value: str | None) -> dict[Any, int]:
    from etl.testing.emulator import MOODS

    return as_numbers(value, MOODS)


def _as_service_options(ctx: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> ServiceOptions:
    from etl.testing.emulator import list_service_options, read_service_options

    if "list" in texts:
        console.say(list_service_options())
        ctx.exit()
    if any(text.startswith("next_link=") for text in texts):
        raise click.BadParameter("next_link has an option of its own: --next-link")
    try:
        return read_service_options(texts)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@main.command(context_settings=WITH_DEFAULTS)
@click.option("--jobs", type=click.IntRange(200, 200_000), default=5_000, help="Jobs of the pretend AIMS360.")
@click.option("--seed", default=360, help="Another seed, another company.")
def demo(jobs: int, seed: int) -> None:
    """Show the whole job on embedded parts.

    A pretend AIMS360, an hour of its life, the mirror that follows it, and a page of charts at the end.
    """
    from rich.console import Console

    from etl.postgres import embedded
    from etl.testing import demo as room

    # Without a terminal there is no width to keep to: paths and commands stay on one line.
    screen = Console(highlight=False, width=None if console.is_terminal(sys.stdout) else 120)
    data_dir = context.data_dir(context.read_settings())  # never DATABASE_URL: the demo makes and drops a database
    server = embedded.start(data_dir)
    room.run(room.Wish(jobs, seed), settings.libpq_url(server.url), data_dir, context.clock(), screen)
    screen.print(f'[bold]7.[/] Look around: psql "$({context.db_command(data_dir, "url " + room.DATABASE)})"')
    screen.print(f"   Postgres goes on running; stop it: {context.db_command(data_dir, 'stop')}")


@main.command(context_settings=WITH_DEFAULTS)
@click.option("--minutes", type=click.FloatRange(0), default=1.0, help="How long; a round is played in any case.")
@click.option("--seed", type=int, help="Of an earlier proof, to repeat its decisions.")
@json_option
@click.pass_context
def prove(ctx: click.Context, minutes: float, seed: int | None, as_json: bool) -> None:
    """Try to break the mirror.

    A pretend AIMS360 changes in every way while syncs are killed, cut, refused and doubled; whenever it is quiet,
    mirror and source are compared. Exit code 0 only if nothing was missing, stale or left over; Ctrl-C ends it early.
    """
    import random

    from rich.console import Console

    from etl.postgres import embedded
    from etl.testing.chaos import runner as room

    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    console.say(f"seed {seed}", err=True)
    data_dir = context.data_dir(context.read_settings())  # never DATABASE_URL: it makes and drops a database
    server = embedded.start(data_dir)
    with console.status() as tell:
        proof = room.prove(settings.libpq_url(server.url), minutes, seed, context.clock(), tell)
    if as_json:
        console.say(console.as_json(room.as_values(proof)))
    else:
        room.show(proof, Console(highlight=False, width=None if console.is_terminal(sys.stdout) else 160))
    again = f"repeat it: aims360-etl prove --seed {seed} --minutes {minutes:g}"
    console.say(f"{again}; stop its Postgres: {context.db_command(data_dir, 'stop')}", err=True)
    ctx.exit(0 if proof.is_whole else 4)


@main.command(context_settings=WITH_DEFAULTS)
@click.option("--port", type=click.IntRange(0, 65535), default=8360, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--jobs", type=click.IntRange(0, 1_000_000), default=5_000, help="Jobs it has when it starts.")
@click.option("--seed", default=360, help="Another seed, another company.")
@click.option(
    "--generation",
    type=click.Choice(["2019-06", "2019-08"]),
    default="2019-06",
    help="Payloads with ID, or without it.",
)
@click.option("--page-size", type=click.IntRange(1), default=100, help="Rows a page.")
@click.option(
    "--next-link",
    type=click.Choice(_NEXT_LINKS),
    default="always",
    help="When a page shows a nextLink.",
)
@click.option(
    "--service",
    multiple=True,
    callback=_as_service_options,
    metavar="NAME=VALUE",
    help="A habit of the service, such as pagesize=capped, refused=top,orderby or drift=percentCompleted:text; may be "
    "repeated. `list`: what there is.",
)
@click.option(
    "--comparison",
    type=click.Choice(["datetime", "datetime2"]),
    default="datetime",
    help="How dates in $filter meet ticks of 1/300 s.",
)
@click.option("--late-share", type=click.FloatRange(0, 1), default=0.0, help="Share of changes that commit late.")
@click.option("--fault-rate", type=click.FloatRange(0, 0.9), default=0.0, help="Share of requests that fail.")
@click.option("--fault", "faults", multiple=True, metavar="KIND", help="How, such as 503 or cut; may be repeated.")
@click.option("--latency", type=click.FloatRange(0), default=0.0, help="Seconds each answer takes longer.")
@click.option("--accounts", type=click.IntRange(1, 100_000), help="A fleet: so many accounts, in two regions.")
@click.option("--moods", callback=_as_moods, metavar="MOOD=NUMBER,…", help="Of a fleet: so many are served like that.")
@click.option(
    "--skew", metavar="DURATION", callback=as_duration, default="2s", help="Of a fleet: how far clocks are off at most."
)
@click.option(
    "--config", "folder", type=click.Path(file_okay=False, path_type=Path), help="Of a fleet: write aims360.toml there."
)
@click.pass_context
def emulator(
    ctx: click.Context,
    /,
    port: int,
    jobs: int,
    seed: int,
    generation: Any,
    service: ServiceOptions,
    late_share: float,
    fault_rate: float,
    faults: tuple[str, ...],
    latency: float,
    accounts: int | None,
    moods: dict[Mood, int],
    skew: timedelta,
    folder: Path | None,
    **habits: Any,
) -> None:
    """Serve a pretend AIMS360 on this machine.

    Its jobs live by the real clock. Ctrl-C ends it.

    With --accounts it is a fleet in two regions, at --port and the two after it; most accounts are small and quiet,
    few large. Moods: well, hangs, throttles, refuses, fails.
    """
    from etl.testing.emulator import (
        ALL_FAULT_KINDS,
        CREDENTIALS,
        FAULT_KINDS,
        Emulator,
        Faults,
        populated,
        serve,
        tenants,
    )

    if accounts is not None:
        _refuse(ctx, _OF_ONE_ACCOUNT, "goes with a single account, not with --accounts")
        if sum(moods.values()) > accounts:
            raise click.UsageError(f"--moods: are of {sum(moods.values())} accounts, and there are {accounts}")
        _serve_fleet(tenants(accounts, seed=seed, moods=moods, skew=skew, latency=latency), port, folder)
        return
    _refuse(ctx, _OF_A_FLEET, "goes with --accounts")
    if unknown := set(faults).difference(ALL_FAULT_KINDS):
        raise ConfigError(f"--fault: {', '.join(sorted(unknown))}: none of {', '.join(sorted(ALL_FAULT_KINDS))}")
    clock = context.clock()
    token = "emulator"  # noqa: S105 - opens nothing else
    world = populated(jobs, seed=seed, now=clock.now(), generation=generation, late_share=late_share)
    plan = Faults(rate=fault_rate, kinds=faults or FAULT_KINDS, seed=seed)
    pretend = Emulator(world, token=token, faults=plan, clock=clock.now, options=service, **habits)
    try:
        server = serve(pretend, port=port, latency=latency)
    except OSError as error:
        raise ConfigError(f"--port: can't listen on 127.0.0.1:{port}: {error.strerror}") from None
    with server:
        world.links = server.url  # so that outputs can be had
        console.say(f"a pretend AIMS360 with {jobs} jobs answers at {server.url}; to use it:")
        # A static token would not outlive the fault that withdraws all tokens.
        sign_in = " ".join(f"AIMS360_{name.upper()}={value}" for name, value in CREDENTIALS.items())
        console.say(f"export AIMS360_BASE_URL={server.url} {sign_in if fault_rate else f'AIMS360_TOKEN={token}'}")
        sys.stdout.flush()
        _until_stopped()


def _refuse(ctx: click.Context, options: Iterable[str], why: str) -> None:
    """Raises UsageError where one of these options was given."""
    given = [name for name in options if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    if given:
        said = ", ".join(param.opts[0] for param in ctx.command.params if param.name in given)
        raise click.UsageError(f"{said}: {why}")


def _serve_fleet(everybody: list[Tenant], port: int, folder: Path | None) -> None:
    from etl.testing.emulator import Fleet, configured, serve_fleet

    fleet = Fleet(everybody, context.clock().now)
    with ExitStack() as stack:
        try:
            at = stack.enter_context(serve_fleet(fleet, (port, port + 1, port + 2) if port else (0, 0, 0)))
        except OSError as error:
            said = f"--port: can't listen on 127.0.0.1:{port} and the two after it: {error.strerror}"
            raise ConfigError(said) from None
        console.say(f"a pretend fleet of {len(everybody)} accounts answers at {at.west} and {at.east}")
        console.say(f"look into it, and steer it: curl {at.steering}/accounts")
        if folder is not None:
            _write(folder, configured(everybody, at))
            console.say(f"export AIMS360_CONFIG={folder.resolve() / settings.CONFIG_FILE}")
        sys.stdout.flush()
        _until_stopped()


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    """Files that their owner alone can read. Thousands, of things pretended: none of them waits for the disk."""
    for path, text in texts.items():
        target = folder / path
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.touch(0o600)
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{target} can't be written: {error.strerror}") from None


def _until_stopped() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.say("stopped", err=True)
