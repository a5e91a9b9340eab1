"""What commands are built of: settings, clock, log, database, service; and a run of all that, watched and reported."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from etl import console
from etl.cli import options
from etl.config import settings
from etl.errors import ConfigError, EtlError
from etl.event_log import Log, chosen
from etl.models import Clock, Exchange, Run, Verdict, Watch

if TYPE_CHECKING:
    from etl.client.client import Api
    from etl.jobs.documents.download import Downloads
    from etl.postgres.connection import Connection

_LOG = "etl.log"


def read_settings() -> settings.Settings:
    return settings.read(os.environ, Path.cwd(), options.insecure_http())


def as_set(said: str) -> str:
    """What is said, with settings called as they were set."""
    return settings.as_set(said, os.environ)


def source(found: settings.Settings, name: str | None) -> settings.Source:
    """The source of that name, or the only one: of the file or the environment, else of the database.

    The database isn't asked for one that is configured here. Raises ConfigError.
    """
    if found.has(name):
        return found.source(name)
    try:
        with roster_database(found) as db:
            from etl.fleet import source_registry, source_store

            stored = source_registry.tables(
                found, (source_store.entries(db, name) or source_store.entries(db)) if db else {}
            )
    except EtlError as error:  # what is wrong with the settings is more likely
        said = f"the database can't be asked for sources: {as_set(str(error))}"
        try:
            return found.source(name)
        except ConfigError as wrong:
            raise ConfigError(f"{wrong}\n{said}") from None
    return found.source(name, stored)


@contextmanager
def roster_database(found: settings.Settings) -> Iterator[Connection | None]:
    """The database that may keep sources; None where there is none so far. It isn't made for that."""
    from etl.postgres import connection, embedded

    if found.database_url is None and not embedded.is_made(data_dir(found)):
        yield None
        return
    with connection.connected(database_url(found)) as db:
        yield db


def clock(alive: Callable[[], None] = lambda: None) -> Clock:
    """The machine's clock; `alive` is called before each sleep."""

    def sleep(seconds: float) -> None:
        alive()
        time.sleep(seconds)

    return Clock(now=lambda: datetime.now(UTC), monotonic=time.monotonic, sleep=sleep)


def log_of(meta: dict[str, Any], source: str = "", *, is_stamped: bool = False) -> Log:
    """The log of the command whose context's `meta` this is: made when it is first asked for."""
    if _LOG not in meta:
        form = chosen(options.log_format(meta), console.is_terminal(sys.stderr))
        is_verbose = options.wishes_verbose(meta)
        meta[_LOG] = Log(form, clock(), source, is_stamped=is_stamped, is_verbose=is_verbose, as_set=as_set)
    found: Log = meta[_LOG]
    return found


def data_dir(found: settings.Settings) -> Path:
    if found.data_dir is not None:
        return found.data_dir
    import platformdirs

    return Path(platformdirs.user_data_dir("aims360-etl", appauthor=False))


def db_command(data_dir: Path, words: str) -> str:
    """A `db` command as it can be pasted into the shell that this one was called from."""
    program = "aims360-etl" if shutil.which("aims360-etl") else shlex.quote(sys.argv[0])
    where = f"AIMS360_DATA_DIR={shlex.quote(str(data_dir))} " if "AIMS360_DATA_DIR" in os.environ else ""
    return f"{where}{program} db {words}"


def database_url(found: settings.Settings) -> str:
    """The database's address: what is set, else the embedded Postgres, started where it isn't running."""
    if found.database_url is not None:
        return found.database_url.reveal()
    from etl.postgres import embedded

    folder = data_dir(found)
    server = embedded.start(folder)
    if server.started:
        said = f"started the embedded Postgres in {server.home}; stop it: {db_command(folder, 'stop')}"
        console.say(said, err=True)
    return settings.libpq_url(server.url)


@contextmanager
def database(found: settings.Settings) -> Iterator[Connection]:
    """A connection to a database that is migrated."""
    from etl.postgres import connection, migrations

    with connection.connected(database_url(found)) as db:
        migrations.require(db)
        yield db


@contextmanager
def reachable(found: settings.Settings) -> Iterator[Connection | None]:
    """Connect to a database that is migrated; give None where there is none so far, or it can't be reached."""
    from etl.postgres import embedded

    with ExitStack() as stack:
        db = None
        if found.database_url is not None or embedded.is_made(data_dir(found)):
            with suppress(EtlError):
                db = stack.enter_context(database(found))
        yield db


@contextmanager
def guarded(found: settings.Settings, source: settings.Source, api: Callable[[], Api], clock: Clock) -> Iterator[Api]:
    """Give a client that doesn't sign in with credentials that were refused a short while ago, as far as is known."""
    from etl.state.sign_in import guard_sign_in

    with guard_sign_in(lambda: reachable(found), source, clock), api() as client:
        yield client


@contextmanager
def reading(found: settings.Settings) -> Iterator[Connection]:
    """Connect to a database that is migrated to read one snapshot of it, which a pooler of transactions serves too."""
    from etl.postgres import connection, migrations

    url = database_url(found)
    with connection.told(url), connection.reading(url) as db:
        migrations.require(db)
        yield db


def service(source: settings.Source, log: Log, clock: Clock) -> Callable[[], Api]:
    """Makes the client of a source when it is wanted."""

    def service() -> Api:
        from etl.client.client import Api

        return Api(source, clock, notice=log.notice, heard=_hears(log))

    return service


def downloads(source: settings.Source, log: Log, clock: Clock) -> Downloads:
    """The way to the outputs of a source."""
    from etl.jobs.documents.download import Downloads

    return Downloads(source, clock, heard=_hears(log))


def _hears(log: Log) -> Callable[[Exchange], None] | None:
    """Who hears of each request: reading the time for nobody would cost every one of them."""
    return log.heard if log.is_verbose else None


class Parts(NamedTuple):
    """What `etl.pipeline.sync` takes, in its order; a run is watched besides."""

    source: settings.Source
    service: Callable[[], AbstractContextManager[Api]]
    db: Connection
    clock: Clock


@contextmanager
def parts(found: settings.Settings, source: settings.Source, log: Log) -> Iterator[tuple[Parts, Watch]]:
    """Those of a single run."""
    machine = clock()
    with database(found) as db, watching(log, machine) as watch:
        yield Parts(source, service(source, log, machine), db, machine), watch


@contextmanager
def watching(log: Log, clock: Clock) -> Iterator[Watch]:
    """Progress for whoever called, and for the log."""
    with console.progress(clock, log.progress, log.shows_bars(sys.stderr)) as shows:
        yield log.and_then(shows)


def report(ctx: click.Context, run: Run, log: Log, as_json: bool) -> None:
    """The run's line, and exit code 4 where rows were rejected, or mirror and source still differ."""
    console.say(console.as_json(run) if as_json else console.summary(run))
    log.notes(run)
    if run.is_unwell or run.verdict == Verdict.INCOMPLETE:
        ctx.exit(4)
