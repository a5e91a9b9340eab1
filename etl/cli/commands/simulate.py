"""A fleet measured on this machine: simulate."""

from __future__ import annotations

import sys
from datetime import timedelta

import click

from etl import console
from etl.cli import context
from etl.cli.main import main
from etl.cli.options import WITH_DEFAULTS, as_duration, as_numbers, json_option


def _as_moods(_ctx: click.Context, _option: click.Parameter, value: str | None) -> dict[str, int]:
    from etl.testing.emulator import MOODS

    return as_numbers(value, [*(mood for mood in MOODS if mood != "well"), "backfill"])


@main.command(context_settings=WITH_DEFAULTS)
@click.option("--accounts", type=click.IntRange(1, 30_000), default=2_000, help="Accounts of the pretend fleet.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    multiple=True,
    default=(2,),
    help="Workers, 2 unless given; repeat it to compare.",
)
@click.option("--concurrency", type=click.IntRange(2, 256), default=12, help="Runs side by side in each worker.")
@click.option(
    "--every", metavar="DURATION", callback=as_duration, default="30s", help="How often each account is synced."
)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=5.0, help="How long each phase lasts.")
@click.option("--latency", type=click.FloatRange(0), default=0.1, help="Seconds each answer of the source takes.")
@click.option(
    "--moods",
    callback=_as_moods,
    metavar="MOOD=NUMBER,…",
    help="Bad neighbours after the first pass: hangs, throttles, refuses, fails; backfill=ROWS for one more.",
)
@click.option("--compare", is_flag=True, help="Measure without the bad neighbours first, then with them.")
@click.option("--kill", type=click.FloatRange(1), metavar="SECONDS", help="Kill a worker (-9) each so many seconds.")
@click.option("--seed", default=360, help="Another seed, another fleet.")
@json_option
@click.pass_context
def simulate(
    ctx: click.Context,
    /,
    accounts: int,
    workers: tuple[int, ...],
    concurrency: int,
    every: timedelta,
    minutes: float,
    latency: float,
    moods: dict[str, int],
    compare: bool,
    kill: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Measure how fresh a fleet is kept.

    A pretend fleet, the embedded Postgres with a database of its own, and workers, each a process of its own. After a
    first pass the age of each mirror is looked at each second. At the end all is compared: exit code 0 only if no two
    runs of a source overlapped, and mirrors equal their accounts.
    """
    from rich.console import Console

    from etl.postgres import embedded
    from etl.testing.load_test import report, runner
    from etl.testing.load_test.environment import Wish

    backfill = moods.pop("backfill", 0)
    spoilt = sum(moods.values()) + bool(backfill)
    if spoilt >= accounts:
        raise click.UsageError(f"--moods: {spoilt} bad neighbours leave none of {accounts} accounts to be measured")
    if compare and not spoilt:
        raise click.UsageError("--compare: needs --moods, such as --moods hangs=1,backfill=100000")
    wish = Wish(
        accounts=accounts,
        workers=workers,
        concurrency=concurrency,
        every=round(every.total_seconds()),
        seconds=minutes * 60,
        latency=latency,
        moods=moods,
        backfill=backfill,
        compares=compare,
        kill_every=kill,
        seed=seed,
    )
    data_dir = context.data_dir(context.read_settings())  # never DATABASE_URL: it makes and drops a database
    server = embedded.start(data_dir)
    with console.status() as tell:
        found = runner.simulate(wish, server, context.clock(), tell)
    if as_json:
        console.say(console.as_json(report.as_values(found)))
    else:
        report.show(found, Console(highlight=False, width=None if console.is_terminal(sys.stdout) else 160))
    console.say(f"stop its Postgres: {context.db_command(data_dir, 'stop')}", err=True)
    ctx.exit(0 if found.verdict.is_good else 4)
