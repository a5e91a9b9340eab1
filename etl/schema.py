"""The schema in the database: makes it, brings it up to date, and says when it isn't.

Tables change by the numbered migrations in `migrations/`. Functions, views and comments have no data to carry along:
`migrate` writes them anew where they changed, from `sql/` and `etl/tables.py`, in the same transaction.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from etl import lock, totals
from etl.database import Connection, connect, masked, said
from etl.errors import DatabaseError, SchemaError

if TYPE_CHECKING:  # sqlalchemy and alembic cost as much time as a whole quiet sync: only `migrate` loads them
    from sqlalchemy import Connection as SqlConnection
    from sqlalchemy import Engine

_VERSION = "SELECT version_num FROM etl.alembic_version"
_EXISTS = "SELECT to_regclass('etl.alembic_version') IS NOT NULL"
# A function or operator that somebody put into schema public, and that fits better than Postgres' own, would become
# part of our definitions for good, and run with the rights of whoever reads a view.
_NOTHING_OF_OTHERS = "SET LOCAL search_path = pg_catalog"
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(360360, 0)"
_DIGEST = "SELECT digest FROM etl.definitions"
_ROLES_EXIST = "SELECT count(*) = 3 FROM pg_roles WHERE rolname IN ('aims360_bi', 'aims360_links', 'aims360_held')"
# Roles belong to the server: a writer of another mirror on it is none of this one's.
_WRITER_IS_OURS = """
SELECT EXISTS (
    SELECT FROM pg_roles WHERE rolname = 'aims360_writer' AND has_table_privilege(oid, 'aims360.jobs', 'INSERT')
)
"""
# A sync that is under way in another session has its totals right once both have ended: it adds what it changed to
# what was counted before it, or had changed them before they are counted.
_KEEP_SYNCS_AWAY = "LOCK TABLE aims360.live_daily IN EXCLUSIVE MODE"
_SOURCES = "SELECT source_id FROM etl.sources ORDER BY source_id"
# A reader locks a view, then the tables below it. Taken the other way round, as migrations come before views, the same
# locks would end in a deadlock: so the views come first, with all that is below them.
_KEEP_READERS_AWAY = """
DO $$
DECLARE
    names text;
BEGIN
    SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.relname) INTO names
    FROM pg_class AS c
    WHERE c.relnamespace = to_regnamespace('bi') AND c.relkind = 'v';
    IF names IS NOT NULL THEN
        EXECUTE 'LOCK TABLE ' || names || ' IN ACCESS EXCLUSIVE MODE';
    END IF;
END
$$
"""
_VIEW_COLUMNS = """
SELECT c.relname, a.attname
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'bi'::regnamespace AND c.relkind = 'v'
ORDER BY c.relname, a.attnum
"""
_FORGET_DIGEST = "DELETE FROM etl.definitions"
_REMEMBER_DIGEST = "INSERT INTO etl.definitions (digest) VALUES (%s)"


def folder(name: str) -> Path:
    """`migrations` or `sql`: inside the package where it was installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / name
    return installed if installed.is_dir() else package.parent / name


def newest() -> str:
    """The revision this program works with: the number of the last migration."""
    return max(path.name[:4] for path in (folder("migrations") / "versions").glob("[0-9]*.py"))


def revision(db: Connection) -> str | None:
    """The revision the database is at, None where nothing was migrated yet."""
    exists = db.execute(_EXISTS).fetchone()
    row = db.execute(_VERSION).fetchone() if exists and exists[0] else None
    return str(row[0]) if row else None


def require(db: Connection) -> None:
    """Raises SchemaError unless the database is at this program's revision."""
    found, wanted = revision(db), newest()
    if found is None:
        raise SchemaError("the database has no aims360 schema yet: run `aims360-etl migrate`")
    if found < wanted:
        raise SchemaError(f"the schema is at {found}, this program needs {wanted}: run `aims360-etl migrate`")
    if found > wanted:
        raise SchemaError(f"the schema is at {found}, newer than this program's {wanted}: upgrade aims360-etl")


def migrate(url: str) -> tuple[str | None, str]:
    """Brings the database at `url` to the newest revision, all or nothing; the revisions before and after.

    Raises SchemaError where the database is newer than this program, DatabaseError where Postgres refuses, Locked
    where tables are to change that a run is at work on.
    """
    import sqlalchemy as sa

    try:
        with engine(url).begin() as connection:
            return _migrate(connection)
    except (sa.exc.DBAPIError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        why = said(cause) if isinstance(cause, psycopg.Error) else "no connection"
        hint = "`aims360-etl doctor` says which right is missing" if _is_forbidden(cause) else "run it again"
        raise DatabaseError(f"{masked(url)}: can't migrate: {why}; nothing was changed, {hint}") from None


def engine(url: str) -> Engine:
    """SQLAlchemy's way to the database at `url`, whose address libpq reads, as everywhere else."""
    import sqlalchemy as sa

    return sa.create_engine("postgresql+psycopg://", creator=lambda: connect(url, False), poolclass=sa.NullPool)


def _is_forbidden(error: object) -> bool:
    return isinstance(error, psycopg.errors.InsufficientPrivilege)


def _migrate(connection: SqlConnection) -> tuple[str | None, str]:
    from alembic import command
    from alembic.config import Config

    connection.exec_driver_sql("SET LOCAL lock_timeout = '30s'")
    connection.exec_driver_sql(_NOTHING_OF_OTHERS)
    connection.exec_driver_sql(_ONE_AT_A_TIME)
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    before = revision(driver)
    if before is not None and before > newest():
        require(driver)
    if before != newest():
        driver.execute(_KEEP_READERS_AWAY)
    if before not in (None, newest()):
        lock.hold_all(driver)  # a run of an earlier release would go on without what is kept from now on
    config = Config()
    config.set_main_option("script_location", str(folder("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    _define(driver)
    return before, newest()


def _define(db: Connection) -> None:
    """Functions, views, comments and grants as this program has them, and the day totals that follow them.

    Nothing where they are that already: it would lock readers out.
    """
    import tomllib  # here, since a sync has no use for it

    files = [text for kind in ("functions", "access", "views") for text in _files(kind)]  # each uses those before
    columns = (folder("sql") / "columns.toml").read_text(encoding="utf-8")
    roles = (folder("sql") / "roles.sql").read_text(encoding="utf-8")
    writer = (folder("sql") / "writer.sql").read_text(encoding="utf-8")
    tables = _table_comments()
    digest = hashlib.sha256("\0".join((*files, columns, roles, writer, *tables)).encode()).hexdigest()
    if db.execute(_DIGEST).fetchone() == (digest,):
        return
    db.execute(_KEEP_READERS_AWAY)
    for statement in (*files, *tables):
        db.execute(statement.encode())
    _comment_on_views(db, tomllib.loads(columns))
    if db.execute(_ROLES_EXIST).fetchone() == (True,):
        db.execute(roles.encode())
    if db.execute(_WRITER_IS_OURS).fetchone() == (True,):
        db.execute(writer.encode())
    db.execute(_KEEP_SYNCS_AWAY)
    for (source_id,) in db.execute(_SOURCES).fetchall():
        totals.count_all(db, int(str(source_id)))
    db.execute(_FORGET_DIGEST)
    db.execute(_REMEMBER_DIGEST, (digest,))


def _files(kind: str) -> list[str]:
    """The statements of a folder of `sql`; views that read other views come last."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((folder("sql") / kind).glob("*.sql"))]
    return sorted(texts, key=lambda text: re.search(r"(FROM|JOIN) bi\.", text) is not None)


def _comment_on_views(db: Connection, texts: Mapping[str, Mapping[str, str]]) -> None:
    for view, column in db.execute(_VIEW_COLUMNS).fetchall():
        own = texts.get(str(view))
        if own is None:  # somebody's own view
            continue
        name, _, bound = str(column).rpartition("_")
        found = own.get(str(column)) or texts["every"].get(str(column)) or own.get(f"{name}_{{bound}}")
        if found is None:
            raise LookupError(f"sql/columns.toml says nothing of bi.{view}.{column}")
        place = sql.Identifier("bi", str(view), str(column))
        db.execute(sql.SQL("COMMENT ON COLUMN {} IS {}").format(place, sql.Literal(found.replace("{bound}", bound))))


def _table_comments() -> list[str]:
    from etl.tables import SCHEMAS, metadata

    found = [
        sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(name), sql.Literal(comment))
        for name, comment in SCHEMAS.items()
    ]
    for table in metadata.sorted_tables:
        name = sql.Identifier(str(table.schema), table.name)
        found.append(sql.SQL("COMMENT ON TABLE {} IS {}").format(name, sql.Literal(table.comment)))
        for column in table.columns:
            place = sql.Identifier(str(table.schema), table.name, column.name)
            found.append(sql.SQL("COMMENT ON COLUMN {} IS {}").format(place, sql.Literal(column.comment)))
    return [statement.as_string() for statement in found]
