"""What commands are built of: settings, clock, database, service."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from etl import settings, terminal
from etl.cli.program import insecure_http
from etl.model import Clock

if TYPE_CHECKING:
    from etl.api import Api
    from etl.database import Connection
    from etl.log import Log


def read_settings() -> settings.Settings:
    return settings.read(os.environ, Path.cwd(), insecure_http())


def as_set(said: str) -> str:
    """What is said, with settings called as they were set."""
    return settings.as_set(said, os.environ)


def clock(alive: Callable[[], None] = lambda: None) -> Clock:
    """The machine's clock; `alive` is called before each sleep."""

    def sleep(seconds: float) -> None:
        alive()
        time.sleep(seconds)

    return Clock(now=lambda: datetime.now(UTC), monotonic=time.monotonic, sleep=sleep)


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
    from etl import embedded

    folder = data_dir(found)
    server = embedded.start(folder)
    if server.started:
        said = f"started the embedded Postgres in {server.home}; stop it: {db_command(folder, 'stop')}"
        terminal.say(said, err=True)
    return settings.libpq_url(server.url)


@contextmanager
def database(found: settings.Settings) -> Iterator[Connection]:
    """A connection to a database that is migrated."""
    from etl import database, schema

    with database.connected(database_url(found)) as connection:
        schema.require(connection)
        yield connection


def service(source: settings.Source, log: Log, clock: Clock) -> Callable[[], Api]:
    """Makes the client of a source when it is wanted."""

    def service() -> Api:
        from etl.api import Api

        return Api(source, clock, notice=log.notice, heard=log.heard if log.is_verbose else None)

    return service
