"""Settings: frozen values from the environment and `aims360.toml`, every mistake named with its fix.

Read with the standard library alone: a sync that runs each minute pays for every import each minute.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, quote_plus, urlsplit
from zoneinfo import ZoneInfo

from etl import secret_file
from etl.errors import ConfigError

DEFAULT_SOURCE = "aims360"
CONFIG_FILE = "aims360.toml"
PURGE_MODES = ("delete", "scrub", "keep")


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
        "8",
        "pages requested at a time at most, 1 to 32; fewer where the source is fast or busy, or its pages large",
    ),
    Setting("AIMS360_PURGE", "delete", "what happens at the purge date: `delete`, `scrub` or `keep`"),
    Setting("AIMS360_TIME_ZONE", "UTC", "IANA zone of the days in `bi.job_daily`; fixed after the first purge"),
    Setting("AIMS360_REREAD", "48h", "how far back the deep pass reads again that runs once a day; `0` for none"),
    Setting("AIMS360_REREAD_EVERY", "1d", "how often that is"),
    Setting("AIMS360_RECONCILE_EVERY", "7d", "how often a sync compares all keys, and repairs; `0` for never"),
    Setting("AIMS360_KEEP_RUNS", "90d", "how long `bi.runs` remembers a run"),
    Setting("AIMS360_LOG_FORMAT", "auto", "how a run tells what happens, on stderr: `human`, `json`, or what suits"),
    Setting("AIMS360_DATA_DIR", "the user's data folder", "where the embedded Postgres lives without DATABASE_URL"),
    Setting("AIMS360_CONFIG", CONFIG_FILE, "file with a table `[sources.NAME]` for each of several accounts"),
    Setting("DATABASE_URL", "an embedded Postgres", "`postgresql://user:password@host:port/database`, Postgres 14 up"),
    Setting("…_FILE", "", "`AIMS360_TOKEN`, `_CLIENT_SECRET`, `_PASSWORD` and `DATABASE_URL`: a file that holds it"),
)
_DEFAULTS = {setting.name: setting.default for setting in SETTINGS}
_LONG = 6  # characters of a secret that nothing else has by chance
_LONGEST_LOOK_BACK = timedelta(days=30)
_LONGEST = timedelta(days=36_500)
_AT_LEAST = {"keep_runs": timedelta(days=8), "reread_every": timedelta(minutes=1)}  # runs are folded after seven days
_DURATIONS = ("look_back", "reread", "reread_every", "reconcile_every", "keep_runs")
_SHARED = (*_DURATIONS, "concurrency", "purge", "time_zone")  # the environment's go for every source of a file
_Text = Callable[[str], str]  # a value by its key
_Wrong = Callable[[str, str], None]  # collects a mistake: key, what is wrong
_GRANT = ("client_id", "client_secret", "username", "password")
_SECRETS = ("token", "client_secret", "password")
_IN_FILE = "_FILE"  # the ending of a variable that names the file in which a secret lies
_PLAIN = ("base_url", "client_id", "username", *_SHARED)
KEYS = (*_PLAIN, *_SECRETS)  # what describes a source


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Text that doesn't show itself: read it with `reveal()`."""

    _text: str

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def hidden_in(self, text: str) -> str:
        """The text without the secret, in any form it may be sent in. A short one is looked for as a word."""
        if len(self._text) < _LONG:
            return re.sub(rf"(?<!\w){re.escape(self._text)}(?!\w)", "***", text)
        found = "|".join(re.escape(form) for form in sorted(_forms(self._text), key=len, reverse=True))
        return re.sub(found, "***", text, flags=re.IGNORECASE)

    def __repr__(self) -> str:
        return "Secret(***)"


def _forms(secret: str) -> set[str]:
    """A secret as it is, as forms and addresses carry it, and as base64 does, wherever in a text that begins."""
    data = secret.encode()
    forms = {secret, quote(secret, safe=""), quote_plus(secret)}
    for before in range(3):
        coded, over = b64encode(b"." * before + data).decode(), (before + len(data)) % 3
        forms.add(coded[(0, 2, 3)[before] : len(coded) - (0, 3, 2)[over]])  # what doesn't depend on its neighbours
    return forms


@dataclass(frozen=True, slots=True)
class PasswordGrant:
    """Credentials of the OAuth2 password grant."""

    client_id: str
    client_secret: Secret
    username: str
    password: Secret


@dataclass(frozen=True, slots=True)
class Source:
    """One account's jobs: where they are, how to sign in, and how they are mirrored."""

    name: str
    base_url: str
    credentials: Secret | PasswordGrant
    credentials_from: str  # the settings to look at when the service refuses them
    look_back: timedelta
    concurrency: int
    purge: str
    time_zone: str
    reread: timedelta  # zero: never
    reread_every: timedelta
    reconcile_every: timedelta  # zero: never
    keep_runs: timedelta

    @property
    def is_in_the_clear(self) -> bool:
        """Whether the token goes over a network that can read it: http, allowed by --insecure-http."""
        parts = urlsplit(self.base_url)
        return parts.scheme == "http" and not is_loopback(parts.hostname)


@dataclass(frozen=True, slots=True, repr=False)
class Given:
    """What is set for one source, not yet judged: values by key, and what each is called where it was set."""

    values: Mapping[str, str]
    names: Mapping[str, str]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything read from the environment and the file, not yet judged per source."""

    database_url: Secret | None
    data_dir: Path | None
    sources: Mapping[str, Given]
    insecure_http: bool = False

    def source(self, name: str | None = None) -> Source:
        """The source of that name, or the only one. Raises ConfigError with a line for each mistake."""
        if name is None and len(self.sources) > 1:
            raise ConfigError(f"several sources are configured; choose one with --source: {', '.join(self.sources)}")
        name = next(iter(self.sources)) if name is None else name
        if name not in self.sources:
            raise ConfigError(f"no source is called {name!r}; configured: {', '.join(self.sources)}")
        return _source(name, self.sources[name], self.insecure_http)


def read(environ: Mapping[str, str], directory: Path, insecure_http: bool = False) -> Settings:
    """Settings from environment variables and from the file AIMS360_CONFIG names, looked for in `directory`.

    Without a file the environment describes one source, called "aims360". `insecure_http` lets the token go to another
    machine in the clear. Raises ConfigError.
    """
    environ = {name: value.strip() for name, value in environ.items() if value.strip()}
    known = set(_DEFAULTS) | {_variable(key) + _IN_FILE for key in _SECRETS}
    file = directory / environ.get("AIMS360_CONFIG", CONFIG_FILE)
    if file.is_file():
        sources = _from_file(file, environ)
        named = {name for given in sources.values() for name in given.names.values()}  # variables that the file names
        known |= named | {name.removesuffix(_IN_FILE) for name in named}
    elif "AIMS360_CONFIG" in environ:
        raise ConfigError(f"AIMS360_CONFIG: there is no file {file}; give its full path")
    else:
        sources = {DEFAULT_SOURCE: _from_environment(environ, directory)}
    if unknown := [name for name in environ if name.startswith("AIMS360_") and name not in known]:
        raise ConfigError("\n".join(f"{name}: no such setting; see `aims360-etl --help`" for name in unknown))
    data_dir = environ.get("AIMS360_DATA_DIR")
    return Settings(
        database_url=_database_url(environ, directory),
        data_dir=directory / Path(data_dir).expanduser() if data_dir else None,
        sources=sources,
        insecure_http=insecure_http,
    )


def duration(text: str) -> timedelta:
    """A duration written `900`, `900s`, `15m`, `2h` or `3d`. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,9})\s*([smhd]?)", text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write 900, 900s, 15m, 2h or 3d")
    unit = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
    return timedelta(**{unit: int(match[1])})


def is_token(text: str) -> bool:
    """Whether a text can be a bearer token: visible ASCII. The HTTP library's errors would quote anything else."""
    return re.fullmatch(r"[\x21-\x7e]+", text) is not None


def is_loopback(host: str | None) -> bool:
    """Whether a host name is this machine's own."""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


def as_set(said: str, environ: Mapping[str, str]) -> str:
    """What is said of DATABASE_URL, to somebody whose address comes from a file: by the setting that leads there."""
    own, in_file = "DATABASE_URL", "DATABASE_URL" + _IN_FILE
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
    url, setting = _secret("DATABASE_URL", environ, directory, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    return Secret(libpq_url(url.strip(), setting)) if url else None


def secret(name: str, environ: Mapping[str, str], directory: Path) -> tuple[str, Path | None]:
    """A secret from its variable, or from a file: then with that file's full path. Raises ConfigError."""
    problems: list[str] = []
    found, setting = _secret(name, environ, directory, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    return found, None if setting == name else directory / environ[setting]


def _secret(name: str, environ: Mapping[str, str], directory: Path, problems: list[str]) -> tuple[str, str]:
    """A secret from its variable, or from the file that the variable with _FILE after its name leads to.

    With what it is called where it was found; a mistake is added to the problems, and there is no secret.
    """
    in_file = name + _IN_FILE
    if in_file not in environ:
        return environ.get(name, ""), name
    if name in environ:
        problems.append(f"{in_file}: {name} is set too; unset one of the two")
        return "", in_file
    return _from_secret_file(in_file, environ[in_file], directory, problems), in_file


def _from_secret_file(setting: str, named: str, directory: Path, problems: list[str]) -> str:
    try:
        return secret_file.read(named, directory)
    except secret_file.Unfit as error:
        problems.append(f"{setting}: {error}")
        return ""


def _variable(key: str) -> str:
    return "AIMS360_" + key.upper()


def _from_environment(environ: Mapping[str, str], directory: Path) -> Given:
    names = {key: _variable(key) for key in (*_PLAIN, *_SECRETS)}
    values = {key: environ.get(name, "") for key, name in names.items()}
    problems: list[str] = []
    for key in _SECRETS:
        values[key], names[key] = _secret(names[key], environ, directory, problems)
    return Given(values, names, tuple(problems))


def _from_file(file: Path, environ: Mapping[str, str]) -> dict[str, Given]:
    import tomllib  # here, since most have no file

    try:
        found = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{file}: can't be read: {error}; docs/settings.md shows how it is written") from None
    if stray := found.keys() - {"sources"}:
        raise ConfigError(f"{file}: {', '.join(sorted(stray))}: belongs into a table [sources.NAME]")
    tables = found.get("sources")
    if not isinstance(tables, dict) or not tables or not all(isinstance(t, dict) for t in tables.values()):
        raise ConfigError(f"{file}: needs a table [sources.NAME] for each account")
    if not all(name and name.isprintable() for name in tables):
        raise ConfigError(f"{file}: the name of a source is empty, or holds characters that can't be seen")
    return {name: _file_source(file, name, table, environ) for name, table in tables.items()}


def _file_source(file: Path, name: str, table: Mapping[str, object], environ: Mapping[str, str]) -> Given:
    where = f"{file.name}: [sources.{name}]"
    values = {key: environ.get(_variable(key), "") for key in _SHARED}
    names = {key: f"{where} {key}" for key in _PLAIN} | {key: f"{where} {key}_env" for key in _SECRETS}
    names |= {key: _variable(key) for key in _SHARED if values[key] and key not in table}
    problems: list[str] = []
    for key, value in table.items():
        secret = key.removesuffix("_env").removesuffix("_file")
        if key in _PLAIN and isinstance(value, str | int) and not isinstance(value, bool):
            values[key] = str(value)
        elif key in _SECRETS:
            problems.append(
                f'{where} {key}: no secrets in a file; write {key}_env = "NAME_OF_A_VARIABLE", or {key}_file = "PATH"'
            )
        elif secret in _SECRETS and isinstance(value, str):
            values[secret], names[secret] = _named_secret(f"{where} {key}", value, environ, file.parent, problems)
        else:
            known = key in _PLAIN or secret in _SECRETS
            problems.append(f"{where} {key}: " + ("is not a text" if known else "no such setting"))
    doubled = [secret for secret in _SECRETS if f"{secret}_env" in table and f"{secret}_file" in table]
    problems += [f"{where} {secret}_file: {secret}_env is there too; take one of the two out" for secret in doubled]
    return Given(values, names, tuple(problems))


def _named_secret(
    setting: str, named: str, environ: Mapping[str, str], directory: Path, problems: list[str]
) -> tuple[str, str]:
    """The secret that a line of the file names by a variable (`_env`) or by a path (`_file`); as `_secret` does."""
    if setting.endswith("_file"):
        return _from_secret_file(setting, named, directory, problems), setting
    if named.endswith(_IN_FILE):  # its value is a path, which would be sent as the secret
        problems.append(f"{setting}: names a variable that names a file; write it without {_IN_FILE} at its end")
        return "", setting
    if named in environ or named + _IN_FILE in environ:
        return _secret(named, environ, directory, problems)
    # What it names isn't repeated: somebody may have written the secret itself.
    problems.append(f"{setting}: the environment variable that it names is not set")
    return "", setting


def _source(name: str, given: Given, insecure_http: bool) -> Source:
    problems = list(given.problems)

    def text(key: str) -> str:
        return given.values.get(key) or _DEFAULTS[_variable(key)]

    def wrong(key: str, what: str) -> None:
        problems.append(f"{given.names[key]}: {what}")

    base_url = _base_url(text("base_url"), wrong, insecure_http)
    credentials = None if given.problems else _credentials(text, wrong, given.names)
    durations = {key: _duration(key, text(key), wrong) for key in _DURATIONS}
    concurrency = text("concurrency")
    if not re.fullmatch(r"0*([1-9]|[12]\d|3[0-2])", concurrency):
        wrong("concurrency", f"{concurrency!r} is not a whole number from 1 to 32")
    if text("purge") not in PURGE_MODES:
        wrong("purge", f"{text('purge')!r} is none of {', '.join(PURGE_MODES)}")
    try:
        if text("time_zone").startswith(("posix", "right/", "localtime", "Factory")):
            raise ValueError  # Python's own names: Postgres doesn't know them
        ZoneInfo(text("time_zone"))
    except (ValueError, OSError, KeyError):
        wrong("time_zone", f"{text('time_zone')!r} is no IANA time zone, such as America/Los_Angeles")
    if problems or credentials is None:
        raise ConfigError("\n".join(problems))
    keys = ("token",) if isinstance(credentials, Secret) else _GRANT
    credentials_from = _listed([given.names[key] for key in keys])
    shared = {"concurrency": int(concurrency), "purge": text("purge"), "time_zone": text("time_zone")}
    return Source(name, base_url, credentials, credentials_from, **durations, **shared)  # type: ignore[arg-type]


def _listed(names: Sequence[str]) -> str:
    """Names of settings, with the table of a file that they share said once."""
    where, bracket, _ = next((name for name in names if "] " in name), "").partition("] ")
    return where + bracket + ", ".join(name.removeprefix(where + bracket) for name in names)


def _base_url(text: str, wrong: _Wrong, insecure_http: bool) -> str:
    try:
        parts = urlsplit(text)
        port_is_fine = parts.port is None or parts.port > 0
        (parts.hostname or "").encode("idna")
        port_is_fine = port_is_fine and not re.search(r"[^\x21-\x7e]", text)
    except ValueError:
        parts, port_is_fine = urlsplit(""), False
    if not text:
        wrong("base_url", "is not set; it is the address your AIMS360 API requests go to, such as https://HOST")
    elif parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        wrong("base_url", "is not an address such as https://HOST")
    elif parts.username or parts.password or "?" in text or "#" in text:
        wrong("base_url", "must be plain: no user, password, query or fragment in it")
    elif parts.scheme == "http" and not is_loopback(parts.hostname) and not insecure_http:
        wrong("base_url", "http would send the token in the clear; use https, or --insecure-http where nobody listens")
    return text.rstrip("/")


def _credentials(text: _Text, wrong: _Wrong, names: Mapping[str, str]) -> Secret | PasswordGrant | None:
    if text("token"):
        if not is_token(text("token")):
            wrong("token", "holds a space, a line break or another character that no token has")
        return Secret(text("token"))
    missing = [key for key in _GRANT if not text(key)]
    if len(missing) == len(_GRANT):
        wrong("token", f"is not set, nor are {', '.join(names[key] for key in _GRANT)}: set the one or all four")
    for key in missing if len(missing) < len(_GRANT) else ():
        wrong(key, "is not set, and the password grant needs it")
    if missing:
        return None
    return PasswordGrant(text("client_id"), Secret(text("client_secret")), text("username"), Secret(text("password")))


def _duration(key: str, text: str, wrong: _Wrong) -> timedelta:
    try:
        length = duration(text)
    except (ValueError, OverflowError) as error:
        wrong(key, str(error))
        return timedelta()
    if key == "look_back" and length > _LONGEST_LOOK_BACK:
        wrong(key, f"{text!r} is more than 30 days, after which the source has forgotten the job")
    elif length < _AT_LEAST.get(key, timedelta()):
        wrong(key, f"{text!r} is too short: {_AT_LEAST[key]} at least")
    elif length > _LONGEST:
        wrong(key, f"{text!r} is more than 100 years")
    return length
