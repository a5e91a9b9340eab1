"""The tables of a fleet's queue: Procrastinate's own, in schema `queue`, made and brought up to date by its scripts.

Its package has the schema as a whole, and a numbered script for each change that was ever made to it. `etl.queue`
remembers the last script that a database has, as Procrastinate itself doesn't. What is to be done is statements of SQL,
like all that `migrate` does.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from psycopg import sql

from etl.errors import ConfigError, SchemaError
from etl.postgres.connection import Connection

SCHEMA = "queue"
_INSTALL = 'pip install "aims360-etl[fleet]"'
NOT_INSTALLED = f"a worker takes the extra fleet: {_INSTALL}, then `aims360-etl migrate`"
_AT = "SELECT script FROM etl.queue"
_COMMENT = "The queue that the workers of a fleet share: tables and functions of Procrastinate, which migrate makes."
# All names in the scripts are bare, and so they are in the functions that they make.
_INTO_SCHEMA = "SET LOCAL search_path = queue"
_BACK = "SET LOCAL search_path = pg_catalog"
_IS_AT = sql.SQL("""
DO $$
BEGIN
    IF (SELECT script FROM etl.queue) IS DISTINCT FROM {} THEN
        RAISE EXCEPTION 'the queue is no longer as this was made for: make it anew';
    END IF;
END
$$
""")
_FORGET = "DELETE FROM etl.queue"
_REMEMBER = sql.SQL("INSERT INTO etl.queue (script) VALUES ({})")


def is_installed() -> bool:
    """Whether the extra is: without it there is nothing to make, and nobody to work."""
    try:
        return bool(version("procrastinate"))
    except PackageNotFoundError:
        return False


def scripts() -> dict[str, Path]:
    """Procrastinate's scripts by name, in their order: what comes before a new release of it, and what after."""
    from procrastinate.schema import SchemaManager  # a third of a second: for `migrate` and workers only

    return {path.name: path for path in sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))}


def at(db: Connection) -> str | None:
    """The last script that the database has, None where there is no queue. The schema `etl` is at its newest."""
    row = db.execute(_AT).fetchone()
    return str(row[0]) if row else None


def statements(since: str | None) -> list[str]:
    """What brings a queue from one script on to the newest, or makes one; nothing where that is done, or not wanted.

    Raises SchemaError where the queue is newer than the Procrastinate that is installed.
    """
    if not is_installed():
        return []
    known = scripts()
    newest = [*known][-1]
    if since == newest:
        return []
    if since is None:
        made = [
            f"CREATE SCHEMA {SCHEMA}",
            sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(SCHEMA), sql.Literal(_COMMENT)).as_string(),
            _INTO_SCHEMA,
            _whole(),
        ]
    else:
        _refuse_newer(since, newest)
        made = [_INTO_SCHEMA, *(path.read_text(encoding="utf-8") for name, path in known.items() if name > since)]
    is_at = _IS_AT.format(sql.Literal(since)).as_string()
    return [is_at, *made, _BACK, _FORGET, _REMEMBER.format(sql.Literal(newest)).as_string()]


def require(db: Connection) -> None:
    """Raises ConfigError where Procrastinate isn't installed, SchemaError where the queue isn't as it needs it."""
    if not is_installed():
        raise ConfigError(NOT_INSTALLED)
    found, newest = at(db), [*scripts()][-1]
    if found is None:
        raise SchemaError(f"the database has no queue yet: {_INSTALL} where you migrate, then `aims360-etl migrate`")
    _refuse_newer(found, newest)
    if found < newest:
        raise SchemaError(f"the queue is at {found}, this Procrastinate needs {newest}: run `aims360-etl migrate`")


def _refuse_newer(found: str, newest: str) -> None:
    if found > newest:
        installed = version("procrastinate")
        raise SchemaError(
            f"the queue is at {found}, newer than Procrastinate {installed} that is installed here: upgrade it, "
            f"{_INSTALL} --upgrade"
        )


def _whole() -> str:
    from procrastinate.schema import SchemaManager

    return SchemaManager.get_schema()
