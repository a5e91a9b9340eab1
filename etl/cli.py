"""The command line: reads the clock and the environment once, builds, calls, prints, and exits with a code.

Rooms are imported by the commands that need them: a sync that runs each minute shall not load the demo's charts.
"""

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from etl import settings
from etl.errors import ConfigError, EtlError
from etl.model import Clock, Run

if TYPE_CHECKING:
    from etl.api import Api
    from etl.database import Connection
    from etl.sync import Progress, Watch

EXIT_CODES = (
    (0, "done"),
    (1, "failed; nothing is lost, the next run goes on"),
    (2, "wrong usage or configuration"),
    (3, "another run holds this source"),
    (4, "done, but not all is well: rows were rejected"),
)
_EPILOG = "\n\n".join(
    "\b\n" + title + "\n" + "\n".join(f"  {name:<23}{meaning}" for name, meaning in rows)
    for title, rows in (
        ("Settings, from the environment:", [(s.name, s.help) for s in settings.SETTINGS]),
        ("Exit codes:", [(str(code), meaning) for code, meaning in EXIT_CODES]),
    )
)

app = typer.Typer(
    name="aims360-etl",
    help="Mirrors the background jobs of AIMS360 into Postgres.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # they would print local variables, secrets among them
    context_settings={"help_option_names": ["-h", "--help"]},
)
database_app = typer.Typer(
    help="The embedded Postgres that is used where DATABASE_URL isn't set.", no_args_is_help=True
)
app.add_typer(database_app, name="db")

SourceName = Annotated[
    str | None, typer.Option("--source", metavar="NAME", help="Which source; needed where several are configured.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def main() -> None:
    """The entry of the command: errors become one line on stderr and an exit code."""
    try:
        app()
    except EtlError as error:
        for line in str(error).splitlines():
            typer.echo(f"aims360-etl: {line}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("aims360-etl: stopped; nothing is lost, the next run goes on", err=True)
        sys.exit(1)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aims360-etl {version('aims360-etl')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def migrate() -> None:
    """Make the schema, or bring it up to date. All or nothing; safe to run again."""
    from etl import schema

    before, after = schema.migrate(_database_url(_settings()))
    typer.echo(f"schema is at {after}" + ("" if before == after else f" (was {before or 'empty'})"))


@app.command()
def sync(
    source: SourceName = None,
    full: Annotated[bool, typer.Option("--full", help="Read all rows, not only those since the last run.")] = False,
    rewrite: Annotated[bool, typer.Option("--rewrite", help="With --full: write rows anew that are the same.")] = False,
    same_source: Annotated[
        bool, typer.Option("--same-source", help="Go on though the source shows a client never seen: it moved.")
    ] = False,
    migrate_first: Annotated[bool, typer.Option("--migrate", help="Run migrations first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the mirror up to date: read what changed, write what differs, purge what is due. Made for a schedule."""
    from etl import schema
    from etl.sync import Order
    from etl.sync import sync as run_sync

    if rewrite and not full:
        raise ConfigError("--rewrite goes with --full")
    if migrate_first:
        schema.migrate(_database_url(_settings(source)))
    with _ready(source) as (chosen, api, db), _watching() as watch:
        run = run_sync(chosen, api, db, _clock(), Order(full, rewrite, same_source), watch)
    _report(run, as_json)


@app.command()
def purge(
    source: SourceName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Purge what is due now. Every sync does it too; this also asks the source about jobs just past their date."""
    from etl.sync import purge_now, what_is_due

    if dry_run:
        with _database() as db:
            due = what_is_due(_settings(source).source(source), db, _clock())
        lines = f"{due.due} jobs are due; {due.to_ask} more are past their date and would be asked for at the source"
        typer.echo(json.dumps(asdict(due)) if as_json else lines)
        return
    with _ready(source) as (chosen, api, db), _watching() as watch:
        run = purge_now(chosen, api, db, _clock(), watch)
    _report(run, as_json)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Say how fresh and how complete the mirror is, and what the last runs did."""
    from etl import status as room

    with _database() as db:
        found = room.read(db)
    typer.echo(json.dumps(found, default=str, indent=2) if as_json else room.text(found))


@app.command()
def doctor(source: SourceName = None, as_json: AsJson = False) -> None:
    """Check settings, database, rights, schema and service, and what the service honours. Exit code 0 or 1."""
    from etl import doctor as room

    checks = list(room.examine(os.environ, Path.cwd(), source, _clock(), _database_url))
    typer.echo(json.dumps([asdict(check) for check in checks]) if as_json else room.table(checks))
    raise typer.Exit(0 if all(check.state is not room.State.FAILED for check in checks) else 1)


@app.command()
def demo(
    jobs: Annotated[int, typer.Option(min=200, max=200_000, help="Jobs of the pretend AIMS360.")] = 5_000,
    seed: Annotated[int, typer.Option(help="Another seed, another company.")] = 360,
) -> None:
    """Show the whole job on embedded parts: a pretend AIMS360, its life, and the mirror that follows it."""
    from rich.console import Console

    from etl import demo as room
    from etl import embedded

    # Without a terminal there is no width to keep to: paths and commands stay on one line.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    data_dir = _data_dir(_settings())  # never DATABASE_URL: the demo makes and drops a database
    server = embedded.start(data_dir)
    room.run(room.Wish(jobs, seed), settings.libpq_url(server.url), data_dir, _clock(), console)
    console.print(f'[bold]7.[/] Look around: psql "$({_db_command(data_dir, "url " + room.DATABASE)})"')
    console.print(f"   Postgres goes on running; stop it: {_db_command(data_dir, 'stop')}")


@app.command()
def emulator(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8360,
    jobs: Annotated[int, typer.Option(min=0, max=1_000_000, help="Jobs it has when it starts.")] = 5_000,
    seed: Annotated[int, typer.Option(help="Another seed, another company.")] = 360,
    generation: Annotated[
        Literal["2019-06", "2019-08"], typer.Option(help="Payloads with ID, or without it.")
    ] = "2019-06",
    page_size: Annotated[int, typer.Option(min=1, help="Rows a page.")] = 100,
    next_link: Annotated[
        Literal["standard", "always", "never", "foreign"], typer.Option(help="When a page shows a nextLink.")
    ] = "always",
    comparison: Annotated[
        Literal["datetime", "datetime2"], typer.Option(help="How dates in $filter meet ticks of 1/300 s.")
    ] = "datetime",
    fault_rate: Annotated[float, typer.Option(min=0, max=0.9, help="Share of requests that fail, in all ways.")] = 0.0,
    latency: Annotated[float, typer.Option(min=0, help="Seconds each answer takes longer.")] = 0.0,
) -> None:
    """Serve a pretend AIMS360 on this machine, whose jobs live by the real clock. Ctrl-C ends it."""
    from etl.emulator import Emulator, Faults, populated, serve

    world = populated(jobs, seed=seed, now=datetime.now(UTC), generation=generation)
    token = "emulator"  # noqa: S105 - opens nothing else
    app_ = Emulator(
        world,
        token=token,
        page_size=page_size,
        next_link=next_link,
        comparison=comparison,
        faults=Faults(rate=fault_rate, seed=seed) if fault_rate else None,
        clock=lambda: datetime.now(UTC),
    )
    with ExitStack() as stack:
        try:
            server = stack.enter_context(serve(app_, port=port, latency=latency))
        except OSError as error:
            raise ConfigError(f"--port: can't listen on 127.0.0.1:{port}: {error.strerror}") from None
        typer.echo(f"a pretend AIMS360 with {jobs} jobs answers at {server.url}; to use it:")
        typer.echo(f"export AIMS360_BASE_URL={server.url} AIMS360_TOKEN={token}")
        sys.stdout.flush()
        _until_stopped()


@database_app.command("start")
def db_start() -> None:
    """Make it where it doesn't exist, and start it."""
    from etl import embedded

    data_dir = _data_dir(_settings())
    server = embedded.start(data_dir)
    typer.echo(
        f"{'started' if server.started else 'runs already'} in {server.home}; stop it: {_db_command(data_dir, 'stop')}"
    )


@database_app.command("stop")
def db_stop() -> None:
    """Stop it; its data stays."""
    from etl import embedded

    typer.echo("stopped" if embedded.stop(_data_dir(_settings())) else "it was not running")


@database_app.command("url")
def db_url(
    name: Annotated[str, typer.Argument(metavar="[DATABASE]", help="Another database of it, such as demo.")] = "",
) -> None:
    """Print its address with the password, for psql and BI tools; starts it where it isn't running."""
    from etl import embedded
    from etl.database import sibling

    url = settings.libpq_url(embedded.start(_data_dir(_settings())).url)
    typer.echo(sibling(url, name) if name else url)


def _settings(source: str | None = None) -> settings.Settings:
    return settings.read(os.environ, Path.cwd(), source)


def _clock() -> Clock:
    return Clock(now=lambda: datetime.now(UTC), monotonic=time.monotonic, sleep=time.sleep)


def _data_dir(found: settings.Settings) -> Path:
    if found.data_dir is not None:
        return found.data_dir
    import platformdirs

    return Path(platformdirs.user_data_dir("aims360-etl", appauthor=False))


def _db_command(data_dir: Path, words: str) -> str:
    """A `db` command as it can be pasted into the shell that this one was called from."""
    program = "aims360-etl" if shutil.which("aims360-etl") else shlex.quote(sys.argv[0])
    where = f"AIMS360_DATA_DIR={shlex.quote(str(data_dir))} " if "AIMS360_DATA_DIR" in os.environ else ""
    return f"{where}{program} db {words}"


def _database_url(found: settings.Settings) -> str:
    """The database's address: what is set, else the embedded Postgres, started where it isn't running."""
    if found.database_url is not None:
        return found.database_url.reveal()
    from etl import embedded

    data_dir = _data_dir(found)
    server = embedded.start(data_dir)
    if server.started:
        typer.echo(
            f"started the embedded Postgres in {server.home}; stop it: {_db_command(data_dir, 'stop')}", err=True
        )
    return settings.libpq_url(server.url)


@contextmanager
def _database() -> "Iterator[Connection]":
    """A connection to a database that is migrated."""
    from etl import database, schema

    with database.connected(_database_url(_settings())) as db:
        schema.require(db)
        yield db


@contextmanager
def _ready(name: str | None) -> "Iterator[tuple[settings.Source, Api, Connection]]":
    """The source, its service and the database; settings are judged before anything is started."""
    from etl.api import Api

    source = _settings(name).source(name)
    with _database() as db, Api(source, _clock()) as api:
        yield source, api, db


def _report(run: Run, as_json: bool) -> NoReturn:
    """The run's line, and exit code 4 where rows were rejected."""
    if as_json:
        typer.echo(json.dumps(asdict(run), default=str))
    else:
        typer.echo(_summary(run))
    for note in run.notes:
        typer.echo(f"note: {note}", err=True)
    if run.counts.rejected:
        typer.echo(f"{run.counts.rejected} rows could not be read; they wait in etl.rejects, with the reason", err=True)
    raise typer.Exit(4 if run.counts.rejected else 0)


def _summary(run: Run) -> str:
    counts = run.counts
    through = f"{run.complete_through:%Y-%m-%d %H:%M:%S} UTC" if run.complete_through else "never"
    rows = f"{counts.inserted} new, {counts.updated} changed, {counts.unchanged} the same, {counts.purged} purged"
    odd = {"refused as older": counts.refused, "already purged": counts.skipped, "rejected": counts.rejected}
    rows += "".join(f", {number} {what}" for what, number in odd.items() if number)
    cost = f"{run.pages} pages, {run.requests} requests, {run.seconds:.1f} s"
    return f"{run.source}: run {run.run_id} ({run.kind}) {run.verdict}, complete through {through}: {rows}; {cost}"


@contextmanager
def _watching() -> "Iterator[Watch]":
    """Progress of anything longer than two seconds, on stderr: a bar on a terminal, else a line now and then."""
    began = last = time.monotonic()
    with ExitStack() as stack:
        bar: Callable[[Progress], None] | None = None

        def watch(progress: "Progress") -> None:
            nonlocal bar, last
            now = time.monotonic()
            if now - began < 2:
                return
            if sys.stderr.isatty():
                bar = bar or stack.enter_context(_bar())
                bar(progress)
            elif now - last >= 5:
                last = now
                of = f" of about {progress.of:,}" if progress.of else ""
                typer.echo(f"{progress.done:,}{of} {progress.what}, {now - began:.0f} s", err=True)

        yield watch


@contextmanager
def _bar() -> "Iterator[Callable[[Progress], None]]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(progress: "Progress") -> None:
            if progress.what not in tasks:
                tasks[progress.what] = bar.add_task(progress.what, total=progress.of)
            bar.update(tasks[progress.what], completed=progress.done, total=progress.of)

        yield show


def _until_stopped() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
