"""The whole job on embedded parts: a pretend AIMS360, an hour of its life in seconds, and the mirror that follows."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from etl.client.client import Api
from etl.config import settings
from etl.console import bars
from etl.errors import ConfigError, EtlError
from etl.models import Clock, Run
from etl.pipeline.sync import sync
from etl.postgres import connection, migrations
from etl.reporting import html, reports
from etl.testing.emulator import Emulator, World, populated, serve

DATABASE = "demo"
_TOKEN = "demo"  # noqa: S105 - opens nothing but the pretend AIMS360
_ROUNDS = 6
_ROUND = timedelta(minutes=10)
_MIRROR = "SELECT job_id, row_version, job_status, purge_date_time FROM aims360.jobs"


@dataclass(frozen=True, slots=True)
class Wish:
    """How large the pretend company is, and which one."""

    jobs: int
    seed: int


class Place(NamedTuple):
    """Where the demo happens: the address of its own database, and the folder of its page."""

    url: str
    folder: Path


def run(wish: Wish, server_url: str, data_dir: Path, clock: Clock, console: Console) -> None:
    """Shows everything, in a database of its own that is made anew. Raises EtlError."""
    place = Place(connection.made_anew(server_url, DATABASE), data_dir)
    migrations.migrate(place.url)
    console.print(f"[bold]1.[/] Postgres runs, with a new database [bold]{DATABASE}[/]; its schema is made.")
    started = clock.now()
    world = populated(wish.jobs, seed=wish.seed, now=started - _ROUNDS * _ROUND, rate=max(500, wish.jobs / 5))
    emulator = Emulator(world, next_link="always", token=_TOKEN)
    with serve(emulator) as server, connection.connected(place.url) as db:
        console.print(
            f"[bold]2.[/] A pretend AIMS360 with {wish.jobs:,} jobs answers at {server.url}, 100 rows a page."
        )
        source = _source(server.url)
        rows = _live(world, source, db, clock, console)
        console.print(rows)
        _compare(world, db, console)
    _show(place, console, clock)


def _source(base_url: str) -> settings.Source:
    environ = {"AIMS360_BASE_URL": base_url, "AIMS360_TOKEN": _TOKEN}
    return replace(settings.read(environ, Path("/nowhere")).source(), name=DATABASE)


def _live(world: World, source: settings.Source, db: connection.Connection, clock: Clock, console: Console) -> Table:
    """The first sync, then life at the source with a sync after each round, then a quiet one."""
    table = Table(title="What was done")
    for heading in ("at the source", "new", "changed", "the same", "purged", "jobs written", "requests", "seconds"):
        table.add_column(heading, justify="left" if heading == "at the source" else "right")

    def service() -> Api:
        return Api(source, clock)

    with bars(console) as watch:
        _add(table, f"{len(world):,} jobs", sync(source, service, db, clock, watch=watch))
    console.print("[bold]3.[/] They are in Postgres. Now an hour of the source's life, with a sync every ten minutes.")
    for _ in range(_ROUNDS):
        before = {str(job["jobID"]) for job in world.jobs()}
        world.advance(_ROUND)
        _rerun_one(world)
        now = {str(job["jobID"]) for job in world.jobs()}
        happened = f"10 minutes: +{len(now - before)}, 1 rerun, -{len(before - now)}"
        _add(table, happened, sync(source, service, db, clock))
    _add(table, "nothing", sync(source, service, db, clock))
    return table


def _rerun_one(world: World) -> None:
    done = [job for job in world.jobs() if job["jobStatus"] == "Completed" and job["canReRun"] == "Yes"]
    world.rerun(done[len(done) // 2])


def _add(table: Table, happened: str, run: Run) -> None:
    counts = run.counts
    numbers = (counts.inserted, counts.updated, counts.unchanged, counts.purged, counts.written + counts.purged)
    table.add_row(happened, *(f"{n:,}" for n in (*numbers, run.requests)), f"{run.seconds:.2f}")


def _compare(world: World, db: connection.Connection, console: Console) -> None:
    """Holds the mirror against the source, row by row."""
    there = {str(job["jobID"]): (job.version, job["jobStatus"]) for job in world.jobs()}
    rows = db.execute(_MIRROR).fetchall()
    here = {str(row[0]): (row[1], row[2]) for row in rows}
    # The purge follows one look-back behind: an extension of the date may still be on its way.
    leaving = {str(row[0]) for row in rows if isinstance(row[3], datetime) and row[3] <= world.now} - there.keys()
    missing, ghosts = there.keys() - here.keys(), here.keys() - there.keys() - leaving
    stale = [key for key in there.keys() & here.keys() if there[key] != here[key]]
    verdict = f"{len(missing)} missing, {len(stale)} stale, {len(ghosts)} ghosts"
    waiting = f" ({len(leaving)} past their purge date go within the look-back)" if leaving else ""
    console.print(f"[bold]4.[/] Mirror and source compared, {len(there):,} jobs: [bold]{verdict}[/]{waiting}.")
    if missing or stale or ghosts:
        raise EtlError(f"the mirror differs from the source: {verdict}")


def _show(place: Place, console: Console, clock: Clock) -> None:
    """A question with its answer, and the page."""
    asked = reports.ask(place.url, "slowest_reports")
    console.print(f"[bold]5.[/] {asked.question} (sql/reports/slowest_reports.sql)")
    answer = Table(*map(str, asked.answer.columns))
    for row in asked.answer.itertuples(index=False):
        answer.add_row(*map(str, row))
    console.print(answer)
    place.folder.mkdir(parents=True, exist_ok=True)
    try:
        charts = f"[bold]{html.write(place.url, place.folder / 'demo.html', clock.now())}[/]"
    except ConfigError as error:  # the demo goes without what it can do without
        charts = escape(str(error))
    console.print(f"[bold]6.[/] Charts: {charts}")
