"""What is set for a source, not yet judged: values by key, and what each is called where it was set.

A secret is found by its variable, or in a file that a variable or a line of `aims360.toml` leads to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from etl.config import secrets
from etl.errors import ConfigError

DURATIONS = ("look_back", "reread", "reread_every", "reconcile_every", "keep_runs", "fold_after", "every", "time_limit")
SHARED = (
    *DURATIONS,
    "concurrency",
    "page_size",
    "purge",
    "time_zone",
)  # the environment's go for every source of a file
GRANT = ("client_id", "client_secret", "username", "password")
SECRETS = ("token", "client_secret", "password")
PLAIN = ("base_url", "client_id", "username", *SHARED)
KEYS = (*PLAIN, *SECRETS)  # what describes a source
IN_FILE = "_FILE"  # the ending of a variable that names the file in which a secret lies


@dataclass(frozen=True, slots=True, repr=False)
class Given:
    """What is set for one source, not yet judged: values by key, and what each is called where it was set.

    `token_file`: the file that holds the token, where one does; it may hold another one later.
    """

    values: Mapping[str, str]
    names: Mapping[str, str]
    problems: tuple[str, ...] = ()
    token_file: Path | None = None


def variable(key: str) -> str:
    """The environment's name of a key."""
    return "AIMS360_" + key.upper()


def is_own(name: str) -> bool:
    """Whether a variable is a setting of the program itself, or the database's password: no secret of a source."""
    return name.startswith("AIMS360_") or name.removesuffix(IN_FILE) in ("DATABASE_URL", "PGPASSWORD")


def from_environment(environ: Mapping[str, str], directory: Path) -> Given:
    """The one source that the environment describes; files are looked for in `directory`."""
    names = {key: variable(key) for key in KEYS}
    values = {key: environ.get(name, "") for key, name in names.items()}
    problems: list[str] = []
    for key in SECRETS:
        values[key], names[key] = find_secret(names[key], environ, directory, problems)
    in_file = environ.get(variable("token") + IN_FILE)
    return Given(values, names, tuple(problems), directory / in_file if in_file else None)


def secret(name: str, environ: Mapping[str, str], directory: Path) -> tuple[str, Path | None]:
    """A secret from its variable, or from a file: then with that file's full path. Raises ConfigError."""
    problems: list[str] = []
    found, setting = find_secret(name, environ, directory, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    return found, None if setting == name else directory / environ[setting]


def find_secret(name: str, environ: Mapping[str, str], directory: Path, problems: list[str]) -> tuple[str, str]:
    """A secret from its variable, or from the file that the variable with _FILE after its name leads to.

    With what it is called where it was found; a mistake is added to the problems, and there is no secret.
    """
    in_file = name + IN_FILE
    if in_file not in environ:
        return environ.get(name, ""), name
    if name in environ:
        problems.append(f"{in_file}: {name} is set too; unset one of the two")
        return "", in_file
    return from_secret_file(in_file, environ[in_file], directory, problems), in_file


def from_secret_file(setting: str, named: str, directory: Path, problems: list[str]) -> str:
    """The secret in the file that a setting names; a mistake is added to the problems, and there is no secret."""
    try:
        return secrets.read(named, directory)
    except secrets.Unfit as error:
        problems.append(f"{setting}: {error}")
        return ""
