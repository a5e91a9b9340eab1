"""Sources that are configured in the database: rows of `etl.roster`, each what a table `[sources.NAME]` would say."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

from psycopg.errors import InvalidSchemaName, UndefinedTable
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from etl.config.settings import some
from etl.errors import ConfigError, DatabaseError
from etl.postgres.connection import Connection

_ALL = "SELECT name, settings, disabled_at FROM etl.roster"
_ONE = "SELECT name, settings, disabled_at FROM etl.roster WHERE name = %s"
# Whoever adds or takes out comes one after the other, so that none writes over what another has just written; readers
# don't wait.
_ALONE = "LOCK TABLE etl.roster IN SHARE ROW EXCLUSIVE MODE"
_MAY = "SELECT has_table_privilege('etl.roster', 'INSERT, UPDATE, DELETE')"
_THERE = "SELECT name FROM etl.roster WHERE name = ANY(%s)"
_PUT = """
INSERT INTO etl.roster (name, settings, added_at, changed_at, disabled_at)
VALUES (%(name)s, %(settings)s, %(now)s, %(now)s, %(disabled_at)s)
ON CONFLICT (name) DO UPDATE
SET settings = excluded.settings, changed_at = excluded.changed_at, disabled_at = excluded.disabled_at
"""
_DISABLE = """
UPDATE etl.roster
SET disabled_at = %(now)s, changed_at = %(now)s
WHERE name = ANY(%(names)s) AND disabled_at IS NULL
"""
_ENABLE = """
UPDATE etl.roster
SET disabled_at = NULL, changed_at = %(now)s
WHERE name = ANY(%(names)s) AND disabled_at IS NOT NULL
"""
_REMOVE = "DELETE FROM etl.roster WHERE name = ANY(%(names)s)"


class Entry(NamedTuple):
    """A source of the database: keys and texts as a table of a file has them, and since when it is left alone."""

    settings: Mapping[str, object]
    disabled_at: datetime | None


class _Row(NamedTuple):
    name: str
    settings: dict[str, str]
    disabled_at: datetime | None


def entries(db: Connection, name: str | None = None) -> dict[str, Entry]:
    """All of them, or the one of that name; none in a database that isn't migrated so far."""
    with db.cursor(row_factory=class_row(_Row)) as cursor:
        try:
            rows = cursor.execute(_ALL) if name is None else cursor.execute(_ONE, (name,))
        except (UndefinedTable, InvalidSchemaName):
            return {}
        return {row.name: Entry(row.settings, row.disabled_at) for row in rows}


def put(db: Connection, wanted: Mapping[str, Entry], now: datetime, *, replace: bool) -> None:
    """Writes them, all or none. Raises ConfigError where one is there, unless it is to be replaced."""
    _require_right(db)
    with db.transaction():
        db.execute(_ALONE)
        if not replace and (there := _there(db, wanted)):
            raise ConfigError(f"{some(there)}: is in the database already; --replace writes over it")
        rows = [
            {"name": name, "settings": Jsonb(dict(entry.settings)), "disabled_at": entry.disabled_at, "now": now}
            for name, entry in wanted.items()
        ]
        with db.cursor() as cursor:
            cursor.executemany(_PUT, rows)


def disable(db: Connection, names: Collection[str], now: datetime) -> None:
    """Leaves them alone from now on. Raises ConfigError, and does nothing, where one isn't there."""
    _change(db, names, _DISABLE, {"now": now, "names": list(names)})


def enable(db: Connection, names: Collection[str], now: datetime) -> None:
    """Leaves them alone no more. Raises ConfigError, and does nothing, where one isn't there."""
    _change(db, names, _ENABLE, {"now": now, "names": list(names)})


def remove(db: Connection, names: Collection[str]) -> None:
    """Takes them out; what was mirrored stays. Raises ConfigError, and does nothing, where one isn't there."""
    _change(db, names, _REMOVE, {"names": list(names)})


def _change(db: Connection, names: Collection[str], statement: str, given: Mapping[str, object]) -> None:
    _require_right(db)
    with db.transaction():
        db.execute(_ALONE)
        there = _there(db, names)
        if strangers := [name for name in names if name not in there]:
            raise ConfigError(f"{some(strangers)}: no such source in the database; `aims360-etl sources list` has all")
        db.execute(statement, given)


def _require_right(db: Connection) -> None:
    """Raises DatabaseError for who may only sync: a source says which secrets of a machine are sent where."""
    if db.execute(_MAY).fetchone() != (True,):
        raise DatabaseError(
            f"{db.info.user} may not write etl.roster: which sources there are is for the owner of the mirror to say; "
            "run it again with the DATABASE_URL that `aims360-etl migrate` is run with"
        )


def _there(db: Connection, names: Collection[str]) -> list[str]:
    return sorted(str(row[0]) for row in db.execute(_THERE, (list(names),)))
