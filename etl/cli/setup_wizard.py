"""What `aims360-etl init` asks, how each answer is tested at once, and what becomes of the answers.

Who asks is handed in: a terminal, or nobody, where the environment has the answers. A tenant lives in one of two
regions, West US or East US, and each has a base address of its own; which hosts these are isn't known here, so the
address is asked for, and the region is kept for people.
"""

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import quote, unquote, urlsplit

from etl.client.client import Api
from etl.config import settings, writer
from etl.config.environment import KEYS, Given, secret
from etl.config.secrets import Secret
from etl.config.settings import Source
from etl.config.validation import is_loopback
from etl.errors import ConfigError, EtlError, Refused, SignInFailed
from etl.models import Clock
from etl.pipeline.doctor.checks import Check, Standing, failures
from etl.pipeline.doctor.database import database_checks
from etl.pipeline.doctor.service import accepted, newest_job
from etl.postgres import connection

EMBEDDED = "embedded"
_AS_SET = "as it is set"  # in place of an address that can't be shown without its password
_PREFIX = "AIMS360_"
REGIONS = ("west", "east", "unknown")
_GRANT = ("client_id", "client_secret", "username", "password")
_SECRETS = ("token", "client_secret", "password")
_ADDRESS = "database_url"
_IN_FILE = "_FILE"  # the ending of a variable that names the file in which a secret lies
_ATTEMPTS = 2  # somebody waits
# A token that nobody has: whether a service is there shows in how it refuses it.
_NOBODY = Secret("nobody")
_WHERE = """
AIMS360 keeps each tenant in one of two regions, West US or East US, and each region has a base address of its own. Take
the one that AIMS360 gave you for API requests: the other region's refuses your sign-in."""
_WHO = """
Signing in: with a token, made in AIMS360's user settings, or with the client id and secret, user name and password that
AIMS360 gave you for its API. What is secret is not shown while you type."""
_MIRROR = """
The mirror lives in Postgres 14 or newer, in a database of its own. `embedded` takes one that comes along and runs on
this machine."""


class Asks(Protocol):
    """Somebody who can be asked. An answer that was given before is offered again."""

    def text(self, question: str, before: str) -> str:
        """A line."""

    def secret(self, question: str, before: str, can_lack: bool = False) -> str:
        """A line that isn't shown; empty only where it `can_lack`."""

    def choice(self, question: str, among: Iterable[str], before: str) -> str:
        """One of these words."""

    def agrees(self, question: str) -> bool:
        """Yes or no; no where nothing is typed."""

    def tell(self, text: str) -> None:
        """Something to read."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What was found out; values of the source by the names that aims360.toml has for them."""

    name: str
    source: Mapping[str, str] = field(default_factory=dict, repr=False)
    database_url: Secret | None = None  # None: the embedded Postgres
    data_dir: Path | None = None
    region: str = "unknown"
    files: Mapping[str, Path] = field(default_factory=dict)  # where secrets lie that came from a file, by key
    insecure_http: bool = False


class Tests(NamedTuple):
    """How answers are tested: each gives what it found, and touches nothing."""

    base: Callable[[Answers], Iterator[Check]]
    sign_in: Callable[[Answers], Iterator[Check]]
    database: Callable[[Answers], Iterator[Check]]


def named(name: str) -> str:
    """The name of a source that variables can be called after. Raises ConfigError."""
    if re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) is None:
        raise ConfigError(
            f"--source: {name!r} is not of small letters, digits and _, led by a letter: choose another name"
        )
    return name


def variable(name: str, key: str) -> str:
    """The variable of a source's secret: WEST_TOKEN."""
    return f"{name}_{key}".upper()


def known(environ: Mapping[str, str], name: str, directory: Path, config: Path, insecure_http: bool = False) -> Answers:
    """Answers that are there already: in the variables that any command reads, else in the file; not yet judged.

    Raises ConfigError where a secret's file can't be read.
    """
    given = {name: value.strip() for name, value in environ.items() if value.strip()}
    source = writer.table_of(config, name)
    source |= {key: found for key in KEYS if (found := given.get(_PREFIX + key.upper(), ""))}
    where = f"{config.name}: [sources.{name}] "
    named = {where + key + _IN_FILE: path for key, path in writer.secret_files(config, name).items()}
    files: dict[str, Path | None] = {}
    for key in _SECRETS:
        own, shared = variable(name, key), _PREFIX + key.upper()
        for called, place, seen_from in (
            (own, given, directory),
            (shared, given, directory),
            (where + key, named, config.parent),
        ):
            found, file = secret(called, place, seen_from)
            if found:
                source[key], files[key] = found, file
                break
    if "token" in source:
        source = {key: value for key, value in source.items() if key not in _GRANT}
    folder = given.get("AIMS360_DATA_DIR")
    data_dir = directory / Path(folder).expanduser() if folder else None
    url, files[_ADDRESS] = secret("DATABASE_URL", given, directory)
    url = url.strip()  # as the settings take it
    lying = {key: file for key, file in files.items() if file is not None}
    return Answers(name, source, Secret(url) if url else None, data_dir, files=lying, insecure_http=insecure_http)


def judged(answers: Answers, called: Callable[[str], str] | None = None) -> Source:
    """The source that the answers describe; `called` says what people call a key. Raises ConfigError."""
    own = called or (lambda key: variable(answers.name, key) if key in _SECRETS else _PREFIX + key.upper())
    names = {key: own(key) + (_IN_FILE if key in answers.files else "") for key in KEYS}
    given = Given(answers.source, names)
    return settings.Settings(None, None, {answers.name: given}, answers.insecure_http).source(answers.name)


def is_in_the_clear(answers: Answers) -> bool:
    """Whether the sign-in goes over a network unguarded, so that each command wants --insecure-http."""
    parts = urlsplit(answers.source.get("base_url", ""))
    return parts.scheme == "http" and not is_loopback(parts.hostname)


def tests(clock: Clock, embedded: Callable[[Path | None], str]) -> Tests:
    """The real ones: a request, a connection. `embedded` starts that Postgres in a folder, and gives its address."""
    return Tests(
        base=lambda answers: _reached(answers, clock),
        sign_in=lambda answers: _accepted(answers, clock),
        database=lambda answers: database_checks(lambda: address(answers, embedded), is_new=True),
    )


def address(answers: Answers, embedded: Callable[[Path | None], str]) -> str:
    """The database's address."""
    if answers.database_url is None:
        return embedded(answers.data_dir)
    return settings.libpq_url(answers.database_url.reveal())


def _reached(answers: Answers, clock: Clock) -> Iterator[Check]:
    """Whether AIMS360 is where the base address leads, before there is anybody to sign in as."""
    nobody = {"base_url": answers.source.get("base_url", ""), "token": _NOBODY.reveal()}
    try:
        with Api(judged(replace(answers, source=nobody, files={})), clock) as api:
            newest_job(api, _ATTEMPTS)
            yield Check("base", Standing.FINE, "answers")
    except SignInFailed:
        yield Check("base", Standing.FINE, "answers, and asks who we are")
    except Refused as error:
        standing = Standing.FINE if error.status == 403 else Standing.FAILED
        yield Check("base", standing, "answers" if standing is Standing.FINE else str(error))
    except EtlError as error:
        yield from failures("base", error)


def _accepted(answers: Answers, clock: Clock) -> Iterator[Check]:
    """One request for the newest job, as the one that was described."""
    try:
        with Api(judged(answers), clock) as api:
            rows = newest_job(api, _ATTEMPTS).answer.rows
            yield from accepted(api)
            if not rows:
                yield Check("jobs", Standing.NOTE, "the service shows no job yet to this user")
    except EtlError as error:
        yield from failures("service", error)


def ask(asks: Asks, before: Answers, tests: Tests | None) -> tuple[Answers, list[Check]]:
    """Asks for everything, each answer tested at once and asked for again until it holds, or is to be kept anyway.

    With what was found out about the database.
    """
    asks.tell(_WHERE)
    answers, _ = _until_it_holds(asks, before, _ask_base, tests and tests.base)
    asks.tell(_WHO)
    answers, checks = _settled(asks, _ask_sign_in(asks, answers), tests and tests.sign_in)
    while _failed(checks):
        asks.tell("Again, from the base address on (Enter takes what is in brackets).")
        answers, checks = _settled(asks, _ask_sign_in(asks, _ask_base(asks, answers)), tests and tests.sign_in)
    asks.tell(_MIRROR)
    return _until_it_holds(asks, answers, _ask_database, tests and tests.database)


_Test = Callable[[Answers], Iterator[Check]] | None


def _until_it_holds(
    asks: Asks, answers: Answers, question: Callable[[Asks, Answers], Answers], test: _Test
) -> tuple[Answers, list[Check]]:
    answers, checks = _settled(asks, question(asks, answers), test)
    while _failed(checks):
        answers, checks = _settled(asks, question(asks, answers), test)
    return answers, checks


def _settled(asks: Asks, answers: Answers, test: _Test) -> tuple[Answers, list[Check]]:
    """What the test found; nothing failed where it is to be kept anyway."""
    checks = list(test(answers)) if test else []
    for check in checks:
        asks.tell(f"  {check.standing}: {check.name}: {check.detail}")
    if _failed(checks) and asks.agrees("Keep it anyway?"):
        checks = [check for check in checks if check.standing is not Standing.FAILED]
    return answers, checks


def _failed(checks: Iterable[Check]) -> list[str]:
    return [f"{check.name}: {check.detail}" for check in checks if check.standing is Standing.FAILED]


def _ask_base(asks: Asks, answers: Answers) -> Answers:
    typed = asks.text("Base address (https://…)", answers.source.get("base_url", ""))
    region = asks.choice("Its region, for the record", REGIONS, answers.region)
    source = {**answers.source, "base_url": base_of(typed)}
    return replace(answers, source=source, region=region)


def base_of(typed: str) -> str:
    """The base of an address that somebody took from a request."""
    return re.sub(r"/(jobsmanagement|authentication)(/.*)?$", "", typed.strip(), flags=re.IGNORECASE).rstrip("/")


def _ask_sign_in(asks: Asks, answers: Answers) -> Answers:
    had = dict(answers.source)
    kind = asks.choice("Sign in with", ("token", "password"), "password" if "username" in had else "token")
    given = {}
    for key in ("token",) if kind == "token" else _GRANT:
        question = key.replace("_", " ").capitalize()
        put = asks.secret if key in _SECRETS else asks.text
        given[key] = put(question, had.get(key, ""))
    kept = {key: value for key, value in had.items() if key not in ("token", *_GRANT)}
    typed = {key for key, value in given.items() if value != had.get(key)}
    return replace(answers, source={**kept, **given}, files=_less(answers.files, typed))


def _ask_database(asks: Asks, answers: Answers) -> Answers:
    had = answers.database_url.reveal() if answers.database_url else ""
    shown = without_password(had)
    offered = shown or (_AS_SET if "password=" in had else EMBEDDED)
    typed = asks.text(f"Database (postgresql://user@host:5432/database, or {EMBEDDED})", offered)
    url = had if typed == _AS_SET else None if typed.lower() == EMBEDDED else typed
    if url and takes_password(url):
        before = unquote(urlsplit(had).password or "") if url == shown else ""
        password = asks.secret("Password of that user", before, can_lack=True)
        url = had if url == shown and password == before else with_password(url, password)
    files = answers.files if url == had else _less(answers.files, {_ADDRESS})
    return replace(answers, database_url=Secret(url) if url else None, files=files)


def _less(files: Mapping[str, Path], keys: Collection[str]) -> dict[str, Path]:
    return {key: path for key, path in files.items() if key not in keys}


def takes_password(url: str) -> bool:
    """Whether an address names a user, and no password."""
    head = url.partition("://")[2].partition("/")[0]
    user, at, _ = head.rpartition("@")
    return bool(at and user) and ":" not in user and "password=" not in url


def with_password(url: str, password: str) -> str:
    """The address with a password, its characters escaped."""
    user, at, rest = url.partition("@")
    return f"{user}:{quote(password, safe='')}{at}{rest}" if password else url


def without_password(url: str) -> str:
    """The address for people who know its password; empty where it can't be told what of it is one."""
    try:
        connection.check(settings.libpq_url(url))
        parts = urlsplit(url)
    except (ConfigError, ValueError):
        return ""
    user, at, host = parts.netloc.rpartition("@")
    plain = parts._replace(netloc=user.partition(":")[0] + at + host).geturl()
    return "" if "password=" in plain else plain


def examined(answers: Answers, tests: Tests | None) -> list[Check]:
    """Answers that nobody can be asked for again, tested. Raises EtlError with a line for each that doesn't hold."""
    judged(answers, lambda key: _PREFIX + key.upper())
    if answers.database_url is not None:
        connection.check(settings.libpq_url(answers.database_url.reveal()))
    checks = [*tests.sign_in(answers), *tests.database(answers)] if tests else []
    if bad := _failed(checks):
        raise EtlError("\n".join([*bad, "nothing was written; --untested writes all the same"]))
    return checks


def changes(answers: Answers, config: Path, env: Path) -> list[writer.Change]:
    """The two files as they are to be. Raises ConfigError for what they can't hold."""
    there = {key: value for key, value in answers.source.items() if key not in _SECRETS}
    lying = {key: str(answers.files[key]) for key in answers.source if key in answers.files}  # they stay there
    secrets = {key: None if key in lying else answers.source.get(key) for key in _SECRETS}
    named = {f"{key}_env": variable(answers.name, key) for key, value in secrets.items() if value is not None}
    named |= {f"{key}_file": path for key, path in lying.items()}
    address = answers.files.get(_ADDRESS)
    comment = "" if answers.region == "unknown" else f"region: {answers.region.capitalize()} US"
    wanted = {
        "AIMS360_CONFIG": str(config),
        **{variable(answers.name, key): value for key, value in secrets.items()},
        **{variable(answers.name, key) + _IN_FILE: None for key in _SECRETS},  # named in the other file
        "DATABASE_URL": answers.database_url.reveal() if answers.database_url and not address else None,
        "DATABASE_URL_FILE": str(address) if address else None,
        "AIMS360_DATA_DIR": str(answers.data_dir) if answers.data_dir else None,
    }
    text = writer.table(answers.name, {**there, **named}, comment)
    return [
        writer.source(config, writer.read(config), answers.name, text),
        writer.variables(env, writer.read(env), wanted),
    ]


def is_to_migrate(checks: Iterable[Check]) -> bool:
    """Whether the database wants a migration first."""
    return any(check.name == "schema" and check.standing is Standing.NOTE for check in checks)


def next_steps(program: str, env: Path, source: str | None, to_migrate: bool, in_the_clear: bool = False) -> str:
    """What to do now, to be pasted: in this shell, and in the crontab."""
    words = (f" --source {source}" if source else "") + (" --insecure-http" if in_the_clear else "")
    own = shlex.quote(program)
    read = f"set -a; . {shlex.quote(str(env))}"
    lines = [
        "Next, in this shell and in any other that is to know these settings:",
        f"  {read}; set +a",
        *([f"  {own} migrate"] if to_migrate else []),
        f"  {own} doctor{words}",
        f"  {own} sync{words}",
        "and for a run each five minutes, as a line of `crontab -e`:",
        "  " + cron_line(f"{read}; {own} sync{words}"),
    ]
    return "\n".join(lines)


def cron_line(command: str) -> str:
    """A line of a crontab, where a % would end the command."""
    return "*/5 * * * * " + command.replace("%", r"\%")
