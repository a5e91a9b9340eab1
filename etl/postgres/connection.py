"""The way into Postgres: one connection with time limits, UTC, and errors that never show the password."""

import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import LiteralString, TypeVar
from urllib.parse import urlsplit

import psycopg
from psycopg import conninfo, errors
from psycopg.sql import SQL, Composable, Composed, Identifier

from etl.config.secrets import Secret
from etl.errors import ConfigError, DatabaseError, EtlError, SchemaError, carry_over

Connection = psycopg.Connection[tuple[object, ...]]
Row = dict[str, object]  # by the names of its columns
_Kind = TypeVar("_Kind", bound=Connection)

# A connection that is cut (a failover, a firewall) is noticed within about a minute.
_LIMITS = {
    "connect_timeout": "15",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",  # keepalives say nothing while sent data waits for an answer
}
_BAD_ADDRESS = "DATABASE_URL: is not a valid address; in a password the characters @ : / % are written %40 %3A %2F %25"
# What an address may say otherwise, and what it may not: how rows and times are written and read here. All our names
# say their schema; in public may lie what others put there, to be run with our rights in place of Postgres' own.
_SETTINGS = {"lock_timeout": "60s", "idle_in_transaction_session_timeout": "15min", "search_path": "pg_catalog"}
_OURS = {"TimeZone": "UTC", "DateStyle": "ISO"}
# PgBouncer takes no settings at the start, or drops them where it is told to. So they are set afterwards: by a writer
# for its session, by a reader for its transaction and no longer, since the session then serves others. Postgres tells
# a client the number of its process; a pooler makes one up (etl/postgres/pooler.py).
_NO_OPTIONS = "unsupported startup parameter"
_SET_WHERE_POOLED = """
SELECT set_config(s.name, s.value, %(is_local)s)
FROM unnest(%(names)s::text[], %(values)s::text[]) AS s (name, value)
WHERE pg_backend_pid() <> %(client)s
"""

_UNREACHED = "check DATABASE_URL, and that a Postgres answers there"
# A connection that isn't made has no SQLSTATE, only words. Those of a server that speaks another language are told as
# they are, with what always helps.
_WHY_NOT = (
    (
        r'database "(?P<name>.*?)" does not exist',
        'make it (CREATE DATABASE "{name}"), or name another in DATABASE_URL',
    ),
    (
        r"password authentication failed|no password supplied",
        "check user and password in DATABASE_URL; in a password @ : / % are written %40 %3A %2F %25",
    ),
    (r"role .* does not exist", "check the user in DATABASE_URL, or make that role with CREATE ROLE … LOGIN"),
    (r"is not permitted to log in", "let that role in (ALTER ROLE … LOGIN), or name another user in DATABASE_URL"),
    (r"Connection refused", "start Postgres there, or check host and port in DATABASE_URL"),
    (r"No such file or directory", "start Postgres on this machine, or name its host in DATABASE_URL"),
    (r"resolve host|translate host name", "check the host in DATABASE_URL, and this machine's DNS"),
    (r"timeout|timed out|unreachable|No route", "check host and port in DATABASE_URL, and firewalls on the way"),
    (
        r"no pg_hba\.conf entry",
        "have its pg_hba.conf let this user in from here, or add ?sslmode=require to DATABASE_URL",
    ),
    (r"permission denied for database", "GRANT CONNECT ON DATABASE … to that role"),
    (r"certificate", "name the CA's PEM file in DATABASE_URL with sslrootcert=, and check host and dates"),
    (r"does not support SSL, but", "take sslmode out of DATABASE_URL where the way there is safe, or give it TLS"),
    (
        r"SSL negotiation|unsupported frontend protocol",
        "check host and port in DATABASE_URL: no Postgres answers there",
    ),
    (
        r"too many (clients|connections)|connection slots",
        "it has no connection free; try again, or raise max_connections",
    ),
    (r"is (starting up|shutting down|in recovery)|not yet accepting", "try again in a minute"),
)
_NOTHING_LOST = "nothing is lost, the next run goes on"
_ADVICE = (
    (errors.InsufficientPrivilege, "`aims360-etl doctor` says which rights are missing"),
    (errors.ReadOnlySqlTransaction, "DATABASE_URL must lead to the server that takes writes, not to a standby"),
    (errors.DiskFull, f"make room there; {_NOTHING_LOST}"),
    (errors.LockNotAvailable, f"another session holds a table or a row of ours, pg_locks says which; {_NOTHING_LOST}"),
    ((errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction), "run `aims360-etl migrate`"),
)
_ABSENT = (errors.InvalidSchemaName, errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction)
_RIGHTS = "USAGE on schema bi and SELECT on its views (`aims360-etl grant --bi ROLE` gives them)"


def connect(url: str, autocommit: bool = True) -> Connection:
    """A connection on which transactions are opened by name, `with db.transaction():`. Raises DatabaseError.

    Without autocommit it is one for SQLAlchemy, which opens transactions by itself.
    """
    return connect_as(Connection, url, autocommit)


def connect_as(kind: type[_Kind], url: str, autocommit: bool = True) -> _Kind:
    """The same as a connection of another kind."""
    check(url)
    try:
        db = _begun(kind, url, autocommit)
    except psycopg.Error as error:
        raise DatabaseError(f"can't connect to {masked(url)}: {_plain(error, url)}; {why_not(str(error))}") from None
    if unfit := _unfit(db.info.server_version, db.info.parameter_status("server_encoding")):
        db.close()
        raise DatabaseError(f"{masked(url)} {unfit}, or lead DATABASE_URL to another")
    return db


def address(url: str, **others: str) -> str:
    """The address with all that our connections have in common, for whoever makes them, and with `others`' settings."""
    known = conninfo.conninfo_to_dict(url)
    options = (_options(_SETTINGS), str(known.get("options") or ""), _options({**_OURS, **others}))
    ours = {"client_encoding": "UTF8", "options": " ".join(filter(None, options))}
    return conninfo.make_conninfo(url, **{**_LIMITS, "application_name": session_name(), **known, **ours})


def _begun(kind: type[_Kind], url: str, autocommit: bool) -> _Kind:
    """The connection with its settings; without them where a pooler takes none."""
    whole = address(url)
    try:
        return kind.connect(whole, autocommit=autocommit)
    except psycopg.OperationalError as error:
        return kind.connect(without_options(whole, error), autocommit=autocommit)


def without_options(whole: str, error: psycopg.OperationalError) -> str:
    """The address as a pooler takes it that has refused settings; else raises the error again."""
    if _NO_OPTIONS not in str(error):
        raise error
    return conninfo.make_conninfo(whole, options="")


def _options(settings: Mapping[str, str]) -> str:
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def settle(db: Connection, is_local: bool = False) -> None:
    """The settings that a connection begins with, where a pooler has dropped them; local to the transaction or not."""
    db.execute(*settling(db.info.backend_pid, is_local=is_local))


def settling(
    client: int, others: Mapping[str, str] = {}, *, is_local: bool = False
) -> tuple[str, Mapping[str, object]]:
    """The statement for that, and its values, with `others`' settings. `client`: its process, as it knows it."""
    settings = {**_SETTINGS, **_OURS, **others}
    given = {"names": list(settings), "values": list(settings.values()), "is_local": is_local}
    return _SET_WHERE_POOLED, {**given, "client": client}


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    """A connection that reads, in one transaction of one snapshot: behind a pooler nothing else is its own.

    Raises DatabaseError where there is no way in, psycopg.Error for what Postgres refuses.
    """
    with closing(connect(url)) as db:
        db.prepare_threshold = None  # a prepared statement stays with the session, and the next client meets it there
        db.read_only, db.isolation_level = True, psycopg.IsolationLevel.REPEATABLE_READ
        with db.transaction():
            settle(db, is_local=True)
            yield db


def why_not(said: str) -> str:
    """What to do about a connection that isn't made, by what the server or its library says."""
    for pattern, advice in _WHY_NOT:
        if found := re.search(pattern, said):
            return advice.format_map(found.groupdict())
    return _UNREACHED


def _unfit(version: int, encoding: str | None) -> str | None:
    """Why the mirror can't be kept there, and what to do about it; None where it can."""
    if version < 140000:
        number = version // 10000 if version >= 100000 else f"{version // 10000}.{version // 100 % 100}"
        return f"is Postgres {number}; 14 or newer is needed: upgrade it"
    if encoding != "UTF8":
        return f"is a database in {encoding}, which can't hold every text: make one with ENCODING 'UTF8'"
    return None


def compose(statement: LiteralString, **parts: Composable) -> bytes:
    """Return a statement with its parts in place: to put them in for each execution takes longer than to run it."""
    return SQL(statement).format(**parts).as_bytes()


def text_array(texts: Iterable[str]) -> str:
    """Texts as Postgres writes an array of them, for a parameter that is cast to `text[]`.

    psycopg's own takes an array element by element: for the keys of a page that is most of a lookup's time.
    """
    listed = list(texts)
    joined = "".join(listed)
    if "\\" in joined or '"' in joined:
        listed = [text.replace("\\", "\\\\").replace('"', '\\"') for text in listed]
    return '{"' + '","'.join(listed) + '"}' if listed else "{}"


def session_name() -> str:
    """What Postgres' administrators, and a run that finds its source held, see of our connections."""
    return f"aims360-etl on {socket.gethostname()}, process {os.getpid()}"


def check(url: str) -> None:
    """Raises ConfigError for an address that can't be read, or that libpq reads as a wrong host out of a password.

    An @ or / that isn't escaped does that, and then what is taken for the host or database is part of the password.
    """
    try:
        known = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        raise ConfigError(_BAD_ADDRESS) from None
    head, _, path = url.partition("://")[2].partition("/")
    hosts, question, _ = (head.partition("@")[2] if "@" in head else head).partition("?")
    if "@" in hosts or (not question and "@" in path.partition("?")[0]):
        raise ConfigError(_BAD_ADDRESS)
    if not all(port.isdecimal() for port in str(known.get("port") or "5432").split(",") if port):
        raise ConfigError(
            "DATABASE_URL: its port is no number; it is written postgresql://user:password@host:5432/database"
        )


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection that is closed at the end; what Postgres refuses meanwhile becomes a DatabaseError."""
    with told(url), closing(connect(url)) as db:
        yield db


@contextmanager
def told(url: str) -> Iterator[None]:
    """What Postgres refuses inside becomes a DatabaseError."""
    try:
        yield
    except psycopg.Error as error:
        refused = DatabaseError(f"{masked(url)}: {_plain(error, url)}; {_advice(error)}")
        carry_over(error, refused)
        raise refused from error


def rows(db: Connection, statement: str | Composed, given: Mapping[str, object]) -> list[Row]:
    """What a statement brings, by name. The views' times are UTC without a zone, for BI tools; here they say so."""
    cursor = db.execute(statement, given)
    names = [column.name for column in cursor.description or ()]
    return [{name: _zoned(value) for name, value in zip(names, row, strict=True)} for row in cursor.fetchall()]


def _zoned(value: object) -> object:
    """A time of UTC with its zone; anything else as it is."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def refusal(url: str, error: psycopg.Error, rights: str = "") -> EtlError:
    """What a reader of `bi` is told where Postgres refuses; `rights` are those that are needed."""
    if isinstance(error, _ABSENT):
        return SchemaError(f"{masked(url)}: {said(error)}; run `aims360-etl migrate` if that is one of ours")
    if isinstance(error, errors.InsufficientPrivilege):
        return DatabaseError(f"{masked(url)}: {said(error)}; needed are {rights or _RIGHTS}")
    return DatabaseError(f"{masked(url)}: {said(error)}")


def sibling(url: str, name: str) -> str:
    """The address of another database on the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def made_anew(server_url: str, name: str) -> str:
    """The address of an empty database on a server of our own; one that was there before is gone."""
    with connected(server_url) as db:
        db.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
        db.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    return sibling(server_url, name)


def masked(url: str) -> str:
    """The address without its password, for people."""
    try:
        known = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        return "DATABASE_URL"
    return f"{known.get('dbname') or 'the database'} on {known.get('host') or 'localhost'}:{known.get('port') or 5432}"


def _advice(error: psycopg.Error) -> str:
    """What to do about what Postgres refuses."""
    return next((advice for kind, advice in _ADVICE if isinstance(error, kind)), _NOTHING_LOST)


def _plain(error: psycopg.Error, url: str) -> str:
    """What Postgres says, without the passwords: the role's, and that of a client's key."""
    words = said(error)
    try:
        known = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        return words
    for password in filter(None, (known.get("password"), known.get("sslpassword"))):
        words = Secret(str(password)).hidden_in(words)
    return words


def said(error: psycopg.Error) -> str:
    """What Postgres says, in a line without values.

    Rows are put in DETAIL, which is left out; what can't be read as a number or a date is quoted in the line itself.
    """
    words = error.diag.message_primary or str(error).strip().partition("\n")[0] or type(error).__name__
    line = re.sub(r"\s+", " ", words)
    return re.sub(r'".*"', "(withheld)", line) if isinstance(error, errors.DataError) else line
