"""Settings: frozen values of what the environment and `aims360.toml` say, every mistake named with its fix.

`environment` finds what is set, `toml_file` reads the file, `validation` says what a value may be. Read with the
standard library alone: a sync that runs each minute pays for every import each minute.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

from etl.config import environment, secrets, toml_file, validation
from etl.config.environment import DURATIONS, GRANT, IN_FILE, SECRETS, Given, find_secret, variable
from etl.config.secrets import PasswordGrant, Secret
from etl.config.toml_file import NOTHING_INHERITED, Inherited
from etl.errors import ConfigError

DEFAULT_SOURCE = "aims360"
CONFIG_FILE = "aims360.toml"
ENVIRONMENT = "environment"
_ROSTER_SECRETS = "AIMS360_ROSTER_SECRETS"
NONE_CONFIGURED = "no source is configured: write a table [sources.NAME], or `aims360-etl sources add`"
_FEW = 10  # names that a message lists


class Setting(NamedTuple):
    """One setting: its environment variable, its default as text, and a line of help. docs/settings.md has them all."""

    name: str
    default: str
    help: str


SETTINGS = (
    Setting("AIMS360_BASE_URL", "", "base address of the service, https (http for this machine alone)"),
    Setting("AIMS360_TOKEN", "", "a long-lived token from AIMS360's user settings; or the four below"),
    Setting("AIMS360_CLIENT_ID", "", "OAuth2 password grant: client id"),
    Setting("AIMS360_CLIENT_SECRET", "", "OAuth2 password grant: client secret"),
    Setting("AIMS360_USERNAME", "", "OAuth2 password grant: user name"),
    Setting("AIMS360_PASSWORD", "", "OAuth2 password grant: password"),
    Setting("AIMS360_LOOK_BACK", "15m", "how late a change may be committed, plus twice the clocks' difference"),
    Setting(
        "AIMS360_CONCURRENCY",
        "4",
        "requests in flight at most, 1 to 32; fewer where the source is fast or busy, or its pages are large",
    ),
    Setting("AIMS360_PAGE_SIZE", "", "rows a page is asked for, 1 to 1000; by default the service decides"),
    Setting("AIMS360_PURGE", "delete", "what happens at the purge date: `delete`, `scrub` or `keep`"),
    Setting("AIMS360_TIME_ZONE", "UTC", "IANA zone of the days in `bi.job_daily`; fixed after the first purge"),
    Setting("AIMS360_REREAD", "48h", "how far back the deep pass reads again that runs once a day; `0` for none"),
    Setting("AIMS360_REREAD_EVERY", "1d", "how often that is"),
    Setting("AIMS360_RECONCILE_EVERY", "7d", "how often a sync compares all keys, and repairs; `0` for never"),
    Setting("AIMS360_KEEP_RUNS", "90d", "how long `bi.runs` remembers a run"),
    Setting("AIMS360_FOLD_AFTER", "7d", "when runs without news become one row a day in it; 1h at least"),
    Setting("AIMS360_EVERY", "5m", "how often a fleet syncs the source; 1s at least"),
    Setting("AIMS360_TIME_LIMIT", "60s", "how long a fleet's run of it lasts at most, 1s to 1d; the next one goes on"),
    Setting("AIMS360_LOG_FORMAT", "auto", "how a run tells what happens, on stderr: `human`, `json`, or what suits"),
    Setting("AIMS360_DATA_DIR", "the user's data folder", "where the embedded Postgres lives without DATABASE_URL"),
    Setting("AIMS360_CONFIG", CONFIG_FILE, "file with a table `[sources.NAME]` for each of several accounts"),
    Setting(
        "AIMS360_ROSTER_SECRETS",
        "",
        "where secrets of sources in the database may be: folders, and variables by how they begin, such as "
        "`/run/secrets/aims360,ACME_*`; anywhere unless set",
    ),
    Setting("DATABASE_URL", "an embedded Postgres", "`postgresql://user:password@host:port/database`, Postgres 14 up"),
    Setting("…_FILE", "", "`AIMS360_TOKEN`, `_CLIENT_SECRET`, `_PASSWORD` and `DATABASE_URL`: a file that holds it"),
)
_DEFAULTS = {setting.name: setting.default for setting in SETTINGS}
_Text = Callable[[str], str]  # a value by its key


@dataclass(frozen=True, slots=True)
class Source:
    """One account's jobs: where they are, how to sign in, and how they are mirrored."""

    name: str
    base_url: str
    credentials: Secret | PasswordGrant
    credentials_from: str  # the settings to look at when the service refuses them
    look_back: timedelta
    concurrency: int
    page_size: int | None  # rows a page is asked for; None: a first scan offers to take more than is usual
    purge: str
    time_zone: str
    reread: timedelta  # zero: never
    reread_every: timedelta
    reconcile_every: timedelta  # zero: never
    keep_runs: timedelta
    fold_after: timedelta
    every: timedelta  # how often a fleet syncs it
    time_limit: timedelta  # of one run of a fleet
    token_file: Path | None = None  # where the token is read again when the service says that it has ended

    @property
    def is_in_the_clear(self) -> bool:
        """Whether the token goes over a network that can read it: http, allowed by --insecure-http."""
        parts = urlsplit(self.base_url)
        return parts.scheme == "http" and not validation.is_loopback(parts.hostname)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything read from the environment and the file, not yet judged per source."""

    database_url: Secret | None
    data_dir: Path | None
    sources: Mapping[str, Given]
    insecure_http: bool = False
    disabled: frozenset[str] = frozenset()
    place: str = ""  # where the sources are configured: in a file of this name, in the environment, or nowhere
    inherited: Inherited = NOTHING_INHERITED  # what sources have too that are kept elsewhere
    roster_secrets: tuple[str, ...] = ()  # where their secrets may be; anywhere where it is empty

    def has(self, name: str | None) -> bool:
        """Whether that source is configured here, or any."""
        return bool(self.place) and (bool(self.sources) if name is None else name in self.sources)

    def source(self, name: str | None = None, kept: Mapping[str, Given] = MappingProxyType({})) -> Source:
        """The source of that name, or the only one; of those that are `kept` elsewhere what isn't configured here.

        Raises ConfigError with a line for each mistake.
        """
        here = self.sources if self.place or not kept else {}
        names = [*here, *(each for each in kept if each not in here)]
        if name is None and len(names) > 1:
            raise ConfigError(f"several sources are configured; choose one with --source: {some(names)}")
        if name is None and not names:
            raise ConfigError(NONE_CONFIGURED)
        name = names[0] if name is None else name
        if name not in here and name not in kept:
            raise ConfigError(f"no source is called {name!r}; configured: {some(names) or 'none'}")
        return judge(name, here[name] if name in here else kept[name], self.insecure_http)


def default(key: str) -> str:
    """What a key is where nobody says otherwise, as a text."""
    return _DEFAULTS[variable(key)]


def some(names: Collection[str]) -> str:
    """Names for people, not thousands of them."""
    more = len(names) - _FEW
    listed = ", ".join(islice(names, _FEW))
    return f"{listed} and {more} more, which `aims360-etl sources list` lists" if more > 0 else listed


def read(environ: Mapping[str, str], directory: Path, insecure_http: bool = False) -> Settings:
    """Settings from environment variables and from the file AIMS360_CONFIG names, looked for in `directory`.

    Without a file the environment describes one source, called "aims360". `insecure_http` lets the token go to another
    machine in the clear. Raises ConfigError.
    """
    environ = {name: value.strip() for name, value in environ.items() if value.strip()}
    known = set(_DEFAULTS) | {variable(key) + IN_FILE for key in SECRETS}
    unknown = [name for name in environ if name.startswith("AIMS360_") and name not in known]
    file = directory / environ.get("AIMS360_CONFIG", CONFIG_FILE)
    sources: Mapping[str, Given]
    disabled: list[str] = []
    if file.is_file():
        tables, inherited = toml_file.read(file, environ)
        sources, disabled, place = tables, tables.disabled(), file.name
        named = tables.variables() if unknown else set()
        unknown = [name for name in unknown if name not in named and name.removesuffix(IN_FILE) not in named]
    elif "AIMS360_CONFIG" in environ:
        raise ConfigError(f"AIMS360_CONFIG: there is no file {file}; give its full path")
    else:
        sources, inherited = (
            {DEFAULT_SOURCE: environment.from_environment(environ, directory)},
            Inherited(environ, directory),
        )
        place = ENVIRONMENT if "AIMS360_BASE_URL" in environ else ""
    if unknown:
        raise ConfigError("\n".join(f"{name}: no such setting; see `aims360-etl --help`" for name in unknown))
    data_dir = environ.get("AIMS360_DATA_DIR")
    try:
        roster_secrets = validation.places(environ.get(_ROSTER_SECRETS, ""), _ROSTER_SECRETS)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return Settings(
        database_url=_database_url(environ, directory),
        data_dir=directory / Path(data_dir).expanduser() if data_dir else None,
        sources=sources,
        insecure_http=insecure_http,
        disabled=frozenset(disabled),
        place=place,
        inherited=inherited,
        roster_secrets=roster_secrets,
    )


def as_set(said: str, environ: Mapping[str, str]) -> str:
    """What is said of DATABASE_URL, to somebody whose address comes from a file: by the setting that leads there."""
    own, in_file = "DATABASE_URL", "DATABASE_URL" + IN_FILE
    is_in_file = environ.get(in_file, "").strip() and not environ.get(own, "").strip()
    return re.sub(rf"{own}(?!\w)", in_file, said) if is_in_file else said


def libpq_url(url: str, setting: str = "DATABASE_URL") -> str:
    """libpq's own form of the address: the driver that SQLAlchemy wants named in it is taken out."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgres", "postgresql"):
        raise ConfigError(f"{setting}: is not an address such as postgresql://user:password@host:5432/database")
    return f"postgresql://{rest}"


def _database_url(environ: Mapping[str, str], directory: Path) -> Secret | None:
    problems: list[str] = []
    url, setting = find_secret("DATABASE_URL", environ, directory, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    return Secret(libpq_url(url.strip(), setting)) if url else None


def judge(name: str, found: Given, insecure_http: bool) -> Source:
    """A source of what is set for it. Raises ConfigError with a line for each mistake."""
    problems = list(found.problems)

    def text(key: str) -> str:
        return found.values.get(key) or default(key)

    def wrong(key: str, what: str) -> None:
        problems.append(f"{found.names[key]}: {what}")

    base_url = validation.base_url(text("base_url"), wrong, insecure_http)
    credentials = None if found.problems else _credentials(text, wrong, found.names)
    durations = {key: validation.length(key, text(key), wrong) for key in DURATIONS}
    validation.concurrency(text("concurrency"), wrong)
    validation.page_size(text("page_size"), wrong)
    validation.purge(text("purge"), wrong)
    validation.time_zone(text("time_zone"), wrong)
    if problems or credentials is None:
        raise ConfigError("\n".join(problems))
    keys = ("token",) if isinstance(credentials, Secret) else GRANT
    credentials_from = _listed([found.names[key] for key in keys])
    shared = {
        "concurrency": int(text("concurrency")),
        "page_size": int(text("page_size")) if text("page_size") else None,
        "purge": text("purge"),
        "time_zone": text("time_zone"),
        "token_file": found.token_file if isinstance(credentials, Secret) else None,
    }
    return Source(name, base_url, credentials, credentials_from, **durations, **shared)  # type: ignore[arg-type]


def read_token(source: Source) -> Secret | None:
    """Return the token that a source's file holds by now; None where it has no file, or none that can be read."""
    if source.token_file is None:
        return None
    try:
        text = validation.without_scheme(secrets.read(source.token_file.name, source.token_file.parent))
    except secrets.Unfit:
        return None
    return Secret(text) if validation.is_token(text) else None


def _listed(names: Sequence[str]) -> str:
    """Names of settings, with the table of a file that they share said once."""
    where, bracket, _ = next((name for name in names if "] " in name), "").partition("] ")
    return where + bracket + ", ".join(name.removeprefix(where + bracket) for name in names)


def _credentials(text: _Text, wrong: validation.Wrong, names: Mapping[str, str]) -> Secret | PasswordGrant | None:
    if text("token"):
        token = validation.without_scheme(text("token"))
        if not validation.is_token(token):
            wrong(
                "token",
                "holds a space, a line break or another character that no token has, is in quotes, or `Bearer` alone",
            )
        return Secret(token)
    missing = [key for key in GRANT if not text(key)]
    if len(missing) == len(GRANT):
        wrong("token", f"is not set, nor are {', '.join(names[key] for key in GRANT)}: set the one or all four")
    for key in missing if len(missing) < len(GRANT) else ():
        wrong(key, "is not set, and the password grant needs it")
    if missing:
        return None
    return PasswordGrant(text("client_id"), Secret(text("client_secret")), text("username"), Secret(text("password")))
