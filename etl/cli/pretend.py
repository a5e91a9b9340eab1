"""Commands that need no AIMS360: demo, prove, emulator."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from etl import settings, terminal
from etl.cli import wiring
from etl.cli.program import WITH_DEFAULTS, json_option, main
from etl.errors import ConfigError


@main.command(context_settings=WITH_DEFAULTS)
@click.option("--jobs", type=click.IntRange(200, 200_000), default=5_000, help="Jobs of the pretend AIMS360.")
@click.option("--seed", default=360, help="Another seed, another company.")
def demo(jobs: int, seed: int) -> None:
    """Show the whole job on embedded parts.

    A pretend AIMS360, an hour of its life, the mirror that follows it, and a page of charts at the end.
    """
    from rich.console import Console

    from etl import demo as room
    from etl import embedded

    # Without a terminal there is no width to keep to: paths and commands stay on one line.
    console = Console(highlight=False, width=None if terminal.is_terminal(sys.stdout) else 120)
    data_dir = wiring.data_dir(wiring.read_settings())  # never DATABASE_URL: the demo makes and drops a database
    server = embedded.start(data_dir)
    room.run(room.Wish(jobs, seed), settings.libpq_url(server.url), data_dir, wiring.clock(), console)
    console.print(f'[bold]7.[/] Look around: psql "$({wiring.db_command(data_dir, "url " + room.DATABASE)})"')
    console.print(f"   Postgres goes on running; stop it: {wiring.db_command(data_dir, 'stop')}")


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

    from etl import embedded
    from etl.prove import show as room

    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    terminal.say(f"seed {seed}", err=True)
    data_dir = wiring.data_dir(wiring.read_settings())  # never DATABASE_URL: it makes and drops a database
    server = embedded.start(data_dir)
    with terminal.status() as tell:
        proof = room.prove(settings.libpq_url(server.url), minutes, seed, wiring.clock(), tell)
    if as_json:
        terminal.say(terminal.as_json(room.as_values(proof)))
    else:
        room.show(proof, Console(highlight=False, width=None if terminal.is_terminal(sys.stdout) else 160))
    again = f"repeat it: aims360-etl prove --seed {seed} --minutes {minutes:g}"
    terminal.say(f"{again}; stop its Postgres: {wiring.db_command(data_dir, 'stop')}", err=True)
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
    type=click.Choice(["standard", "always", "never", "foreign"]),
    default="always",
    help="When a page shows a nextLink.",
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
def emulator(
    port: int,
    jobs: int,
    seed: int,
    generation: Any,
    late_share: float,
    fault_rate: float,
    faults: tuple[str, ...],
    latency: float,
    **habits: Any,
) -> None:
    """Serve a pretend AIMS360 on this machine.

    Its jobs live by the real clock. Ctrl-C ends it.
    """
    from etl.emulator import CREDENTIALS, FAULT_KINDS, Emulator, Faults, populated, serve

    if unknown := set(faults).difference(FAULT_KINDS):
        raise ConfigError(f"--fault: {', '.join(sorted(unknown))}: none of {', '.join(sorted(FAULT_KINDS))}")
    clock = wiring.clock()
    token = "emulator"  # noqa: S105 - opens nothing else
    world = populated(jobs, seed=seed, now=clock.now(), generation=generation, late_share=late_share)
    plan = Faults(rate=fault_rate, kinds=faults or FAULT_KINDS, seed=seed)
    pretend = Emulator(world, token=token, faults=plan, clock=clock.now, **habits)
    try:
        server = serve(pretend, port=port, latency=latency)
    except OSError as error:
        raise ConfigError(f"--port: can't listen on 127.0.0.1:{port}: {error.strerror}") from None
    with server:
        world.links = server.url  # so that outputs can be had
        terminal.say(f"a pretend AIMS360 with {jobs} jobs answers at {server.url}; to use it:")
        # A static token would not outlive the fault that withdraws all tokens.
        sign_in = " ".join(f"AIMS360_{name.upper()}={value}" for name, value in CREDENTIALS.items())
        terminal.say(f"export AIMS360_BASE_URL={server.url} {sign_in if fault_rate else f'AIMS360_TOKEN={token}'}")
        sys.stdout.flush()
        _until_stopped()


def _until_stopped() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        terminal.say("stopped", err=True)
