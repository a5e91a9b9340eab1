"""The command line: reads the clock and the environment once, builds, calls, prints, and exits with a code.

Rooms are imported by the commands that need them, and as late as they are needed: a sync that runs each minute pays for
every import each minute, and one that finds its source held shall not pay for an HTTP client.
"""

from __future__ import annotations

import atexit
import gc
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etl import settings, terminal
from etl.errors import ConfigError, EtlError
from etl.model import Clock, Run, Verdict

if TYPE_CHECKING:
    from etl.api import Api
    from etl.database import Connection

# Where click and rich are installed, as here, httpx loads a command line of its own: 0.2 s of every run, for nothing.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

EXIT_CODES = (
    (0, "done"),
    (1, "failed; nothing is lost, the next run goes on"),
    (2, "wrong usage or configuration"),
    (3, "another run holds this source"),
    (4, "done, but not all is well: rows were rejected, or mirror and source differ"),
)
_EPILOG = "\n\n".join(
    "\b\n" + title + "\n" + "\n".join(f"  {name:<25}{meaning}" for name, meaning in rows)
    for title, rows in (
        ("Settings, from the environment:", [(s.name, s.help) for s in settings.SETTINGS]),
        ("Exit codes:", [(str(code), meaning) for code, meaning in EXIT_CODES]),
    )
)
_WITH_DEFAULTS = {"show_default": True}
_DATE = click.DateTime(["%Y-%m-%d"])
_FILE = click.Path(dir_okay=False, path_type=Path)
_FORMATS = ("table", "csv", "parquet", "json")

_source_option = click.option(
    "--source", metavar="NAME", help="Which source; needed where several are configured.", default=None
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


_DEBUG = "etl.debug"


def _remember_debug(ctx: click.Context, _option: click.Parameter, wished: bool) -> None:
    ctx.meta[_DEBUG] = wished or ctx.meta.get(_DEBUG, False)


_debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_remember_debug,
    help="Print the traceback of a failure too.",
)


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


@main.command()
def migrate() -> None:
    """Make the schema, or bring it up to date.

    All or nothing; safe to run again.
    """
    _migrate(_settings())


@main.command()
@_source_option
@click.option("--full", is_flag=True, help="Read all rows, not only those since the last run.")
@click.option("--rewrite", is_flag=True, help="With --full: write rows anew that are the same.")
@click.option("--same-source", is_flag=True, help="Go on though the source shows a client never seen: it moved.")
@click.option("--migrate", "migrate_first", is_flag=True, help="Run migrations first.")
@_json_option
def sync(source: str | None, full: bool, rewrite: bool, same_source: bool, migrate_first: bool, as_json: bool) -> None:
    """Bring the mirror up to date.

    Reads what changed since the last run, writes what differs, purges what is due. Made for a schedule: a run that
    fails or is killed is gone on with by the next.
    """
    if rewrite and not full:
        raise ConfigError("--rewrite goes with --full")
    found = _settings()
    chosen = found.source(source)
    if migrate_first:
        _migrate(found, quietly=True)
    with _database(found) as db:
        from etl.sync import Order
        from etl.sync import sync as run_sync

        with terminal.progress(_clock()) as watch:
            run = run_sync(chosen, _service(chosen), db, _clock(), Order(full, rewrite, same_source), watch)
    _report(run, as_json)


@main.command()
@_source_option
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@_json_option
def purge(source: str | None, dry_run: bool, as_json: bool) -> None:
    """Purge what is due now.

    Every sync does it too; this one also asks the source at once about jobs just past their date.
    """
    found = _settings()
    chosen = found.source(source)
    with _database(found) as db:
        from etl.sync import purge_now, what_is_due

        if dry_run:
            due = what_is_due(chosen, db, _clock())
            said = (
                f"{due.due} jobs are due (AIMS360_PURGE={chosen.purge}); "
                f"{due.to_ask} more are past their date and would be asked for at the source"
            )
            terminal.say(terminal.as_json(due) if as_json else said)
            return
        with terminal.progress(_clock()) as watch:
            run = purge_now(chosen, _service(chosen), db, _clock(), watch)
    _report(run, as_json)


@main.command()
@_source_option
@click.option("--repair", is_flag=True, help="Set right what differs; else it is only told.")
@click.option("--force", is_flag=True, help="With --repair: remove ghosts, however many.")
@_json_option
def reconcile(source: str | None, repair: bool, force: bool, as_json: bool) -> None:
    """Compare all keys with the source's.

    Tells what is missing, stale, or no longer there, beyond what the next sync brings anyway. Exit code 4 where
    something differs and wasn't repaired. A sync does it by itself once a week, with repair.
    """
    if force and not repair:
        raise ConfigError("--force goes with --repair")
    found = _settings()
    chosen = found.source(source)
    with _database(found) as db:
        from etl.reconcile import Wish
        from etl.sync import reconcile_now

        with terminal.progress(_clock()) as watch:
            run = reconcile_now(chosen, _service(chosen), db, _clock(), Wish(repair, force), watch)
    _report(run, as_json)


@main.command()
@_json_option
def status(as_json: bool) -> None:
    """Say how fresh and complete the mirror is."""
    from etl import status as room

    with _database(_settings()) as db:
        found = room.read(db)
    terminal.say(terminal.as_json(found) if as_json else room.text(found))


@main.command()
@click.option("--bi", "role", metavar="ROLE", required=True, help="A role that exists: it reads schema bi from now on.")
@click.option("--links", is_flag=True, help="It reads the links to the outputs too.")
@click.option("--account", "accounts", metavar="CODE", multiple=True, help="Rows of this account alone; repeatable.")
@click.option("--source", metavar="NAME", help="Rows of this source alone.")
def grant(role: str, links: bool, accounts: tuple[str, ...], source: str | None) -> None:
    """Let a role of the database read schema bi.

    Makes the roles aims360_bi and aims360_links where they are missing, and ROLE a member of one. Held to accounts, it
    sees no other rows in any view; every call adds some.
    """
    from etl import access, schema

    with _database(_settings()) as db:
        schema.require(db)
        terminal.say(access.grant(db, role, links, source, accounts))
        for account in access.unknown(db, accounts):
            terminal.say(f"note: the mirror has no job of an account {account!r}, nor had any", err=True)


@main.command()
@_source_option
@_json_option
@click.pass_context
def doctor(ctx: click.Context, source: str | None, as_json: bool) -> None:
    """Check everything that a sync needs.

    Settings, database, rights, schema and service, and what the service honours. Exit code 0 or 1.
    """
    from etl import doctor as room

    checks = list(room.examine(os.environ, Path.cwd(), source, _clock(), _database_url))
    terminal.say(terminal.as_json(checks) if as_json else room.table(checks))
    ctx.exit(1 if any(check.standing is room.Standing.FAILED for check in checks) else 0)


@main.command()
@click.argument("name", default="")
@click.option("--list", "as_list", is_flag=True, help="Say which reports there are, as without a NAME.")
@click.option("--since", metavar="DATE", type=_DATE, help="From that day on (UTC), such as 2026-03-01.")
@click.option("--until", metavar="DATE", type=_DATE, help="Up to that day, without it.")
@click.option("--account", metavar="CODE", help="One account only.")
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), help="How it is written; else as FILE ends, else a table."
)
@click.option("--output", metavar="FILE", type=_FILE, help="Into a file, all or nothing.")
@click.option("--html", metavar="FILE", type=_FILE, help="A page of charts, instead of a report.")
@click.option("--with-people", is_flag=True, help="With --html: name people too.")
def report(name: str, as_list: bool, html: Path | None, with_people: bool, **how: Any) -> None:
    """Ask one of the analysts' questions.

    NAME is one of those that --list names; sql/reports has them. A role that reads the schema bi is enough.
    """
    chosen = [word for word, given in (("NAME", name), ("--list", as_list), ("--html", html)) if given]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)} don't go together")
    if with_people and html is None:
        raise ConfigError("--with-people goes with --html")
    if not name and (lost := ["--format" if key == "form" else f"--{key}" for key, value in how.items() if value]):
        raise ConfigError(f"{', '.join(lost)} goes with the NAME of a report; `aims360-etl report --list` names them")
    if html is not None:
        from etl import page

        with terminal.status() as tell:
            tell("reading the mirror")
            written = page.write(_database_url(_settings()), html, _clock().now(), with_people)
        terminal.say(str(written))
    elif name:
        _answer(name, **how)
    else:
        _list_reports()


@main.command(context_settings=_WITH_DEFAULTS)
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
    data_dir = _data_dir(_settings())  # never DATABASE_URL: the demo makes and drops a database
    server = embedded.start(data_dir)
    room.run(room.Wish(jobs, seed), settings.libpq_url(server.url), data_dir, _clock(), console)
    console.print(f'[bold]7.[/] Look around: psql "$({_db_command(data_dir, "url " + room.DATABASE)})"')
    console.print(f"   Postgres goes on running; stop it: {_db_command(data_dir, 'stop')}")


@main.command(context_settings=_WITH_DEFAULTS)
@click.option("--minutes", type=click.FloatRange(0), default=1.0, help="How long; a round is played in any case.")
@click.option("--seed", type=int, help="Of an earlier proof, to repeat its decisions.")
@_json_option
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
    data_dir = _data_dir(_settings())  # never DATABASE_URL: it makes and drops a database
    server = embedded.start(data_dir)
    with terminal.status() as tell:
        proof = room.prove(settings.libpq_url(server.url), minutes, seed, _clock(), tell)
    if as_json:
        terminal.say(terminal.as_json(room.as_values(proof)))
    else:
        room.show(proof, Console(highlight=False, width=None if terminal.is_terminal(sys.stdout) else 160))
    again = f"repeat it: aims360-etl prove --seed {seed} --minutes {minutes:g}"
    terminal.say(f"{again}; stop its Postgres: {_db_command(data_dir, 'stop')}", err=True)
    ctx.exit(0 if proof.is_whole else 4)


@main.command(context_settings=_WITH_DEFAULTS)
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
    clock = _clock()
    token = "emulator"  # noqa: S105 - opens nothing else
    world = populated(jobs, seed=seed, now=clock.now(), generation=generation, late_share=late_share)
    plan = Faults(rate=fault_rate, kinds=faults or FAULT_KINDS, seed=seed)
    pretend = Emulator(world, token=token, faults=plan, clock=clock.now, **habits)
    try:
        server = serve(pretend, port=port, latency=latency)
    except OSError as error:
        raise ConfigError(f"--port: can't listen on 127.0.0.1:{port}: {error.strerror}") from None
    with server:
        terminal.say(f"a pretend AIMS360 with {jobs} jobs answers at {server.url}; to use it:")
        # A static token would not outlive the fault that withdraws all tokens.
        sign_in = " ".join(f"AIMS360_{name.upper()}={value}" for name, value in CREDENTIALS.items())
        terminal.say(f"export AIMS360_BASE_URL={server.url} {sign_in if fault_rate else f'AIMS360_TOKEN={token}'}")
        sys.stdout.flush()
        _until_stopped()


@main.group()
def db() -> None:
    """Start and stop the embedded Postgres.

    It is used where DATABASE_URL isn't set.
    """


@db.command()
def start() -> None:
    """Make it where it doesn't exist, and start it."""
    from etl import embedded

    data_dir = _data_dir(_settings())
    server = embedded.start(data_dir)
    how = "started" if server.started else "runs already"
    terminal.say(f"{how} in {server.home}; stop it: {_db_command(data_dir, 'stop')}")


@db.command()
def stop() -> None:
    """Stop it; its data stays."""
    from etl import embedded

    terminal.say("stopped" if embedded.stop(_data_dir(_settings())) else "it was not running")


@db.command()
@click.argument("database", default="")
def url(database: str) -> None:
    """Print its address with the password.

    For psql and BI tools; it is started where it isn't running.

    DATABASE is another database of it, such as demo.
    """
    from etl import embedded
    from etl.database import sibling

    address = settings.libpq_url(embedded.start(_data_dir(_settings())).url)
    terminal.say(sibling(address, database) if database else address)


def _settings() -> settings.Settings:
    return settings.read(os.environ, Path.cwd())


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
        said = f"started the embedded Postgres in {server.home}; stop it: {_db_command(data_dir, 'stop')}"
        terminal.say(said, err=True)
    return settings.libpq_url(server.url)


@contextmanager
def _database(found: settings.Settings) -> Iterator[Connection]:
    """A connection to a database that is migrated."""
    from etl import database, schema

    with database.connected(_database_url(found)) as connection:
        schema.require(connection)
        yield connection


def _service(source: settings.Source) -> Callable[[], Api]:
    """Makes the client of a source when it is wanted."""

    def service() -> Api:
        from etl.api import Api

        return Api(source, _clock(), notice=lambda said: terminal.say(said, err=True))

    return service


def _migrate(found: settings.Settings, quietly: bool = False) -> None:
    from etl import schema

    before, after = schema.migrate(_database_url(found))
    if not quietly:
        terminal.say(f"schema is at {after}" + ("" if before == after else f" (was {before or 'empty'})"))


def _report(run: Run, as_json: bool) -> None:
    """The run's line, and exit code 4 where rows were rejected, or mirror and source still differ."""
    terminal.say(terminal.as_json(run) if as_json else terminal.summary(run))
    for note in run.notes:
        terminal.say(f"note: {note}", err=True)
    if run.counts.rejected:
        terminal.say(
            f"{run.counts.rejected} rows could not be read; they wait, with the reason, in etl.rejects", err=True
        )
    if run.counts.rejected or run.counts.differences > run.counts.repaired or run.verdict == Verdict.INCOMPLETE:
        click.get_current_context().exit(4)


def _answer(
    name: str,
    since: datetime | None,
    until: datetime | None,
    account: str | None,
    form: str | None,
    output: Path | None,
) -> None:
    """A report's answer, to stdout or into a file."""
    from etl import formats, reports

    form = form or (ending if output and (ending := output.suffix.lower()[1:]) in _FORMATS else "table")
    if form == "parquet" and output is None and terminal.is_terminal(sys.stdout):
        raise ConfigError("Parquet is nothing for a terminal: add --output FILE")
    database = _database_url(_settings())
    with terminal.status() as tell:
        tell("asking the mirror")
        found = reports.ask(database, name, reports.Asked(since, until, account))
    if form == "table":
        width = shutil.get_terminal_size().columns if output is None and terminal.is_terminal(sys.stdout) else None
        data = f"{found.question}\n\n{formats.as_table(found.answer, width)}\n".encode()
    else:
        write = {"csv": formats.as_csv, "json": formats.as_json, "parquet": formats.as_parquet}[form]
        data = write(found.answer)
    terminal.put(data) if output is None else formats.save(output, data)
    if account is not None and found.answer.empty and not reports.knows_account(database, account):
        terminal.say(f"note: the mirror has no job of an account {account!r}, nor had any", err=True)


def _list_reports() -> None:
    from etl import reports

    found = [reports.describe(name) for name in reports.names()]
    widest = max(len(report.name) for report in found)
    for report in found:
        without = [f"--{limit}" for limit in ("since", "until", "account") if limit not in report.takes]
        limits = f" (without {', '.join(without)})" if without else ""
        terminal.say(f"{report.name:<{widest}}  {report.question}{limits}")


def _until_stopped() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        terminal.say("stopped", err=True)
