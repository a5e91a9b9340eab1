"""The schema in the database: makes it, brings it up to date, and says when it isn't.

Tables change by the numbered migrations in `migrations/`. Functions, views and comments have no data to carry along:
`migrate` writes them anew where they changed, from `sql/` and `etl/postgres/tables.py`, in the same transaction. What
it does is statements of SQL, so that `etl/postgres/migration_sql.py` can print them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from psycopg import sql

from etl.errors import DatabaseError, SchemaError
from etl.postgres import daily_aggregates, locks, queue_schema
from etl.postgres.connection import Connection, connect, connected, masked, said
from etl.postgres.package_data import folder

if TYPE_CHECKING:  # sqlalchemy and alembic cost as much time as a whole quiet sync: only `migrate` loads them
    from sqlalchemy import Connection as SqlConnection
    from sqlalchemy import Engine

_VERSION = "SELECT version_num FROM etl.alembic_version"
_EXISTS = "SELECT to_regclass('etl.alembic_version') IS NOT NULL"
# A function or operator that somebody put into schema public, and that fits better than Postgres' own, would become
# part of our definitions for good, and run with the rights of whoever reads a view.
NOTHING_OF_OTHERS = "SET LOCAL search_path = pg_catalog"
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(360360, 0)"
_DIGEST = "SELECT digest FROM etl.definitions"
LOCK_TIMEOUT = timedelta(seconds=30)
HAS_A_QUEUE = "0007"  # from this revision on etl.queue says how far
_WAIT_FOR_LOCKS = sql.SQL("SET LOCAL lock_timeout = {}")
# A sync that is under way in another session has its totals right once both have ended: it adds what it changed to
# what was counted before it, or had changed them before they are counted.
_KEEP_SYNCS_AWAY = "LOCK TABLE aims360.live_daily IN EXCLUSIVE MODE"
# A reader locks a view, then the tables below it. Taken the other way round, as migrations come before views, the same
# locks would end in a deadlock: so the views come first, with all that is below them.
KEEP_READERS_AWAY = """
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
# Which columns the views have is asked there, so that somebody's own view in bi is passed over.
_COMMENT_ON_VIEWS = sql.SQL("""
DO $comments$
DECLARE
    texts CONSTANT jsonb := {};
    place record;
    said text;
BEGIN
    FOR place IN
        SELECT c.relname::text AS of_view, a.attname::text AS name
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'bi'::regnamespace AND c.relkind = 'v'
        ORDER BY c.relname, a.attnum
    LOOP
        CONTINUE WHEN NOT texts ? place.of_view;
        said := coalesce(
            texts -> place.of_view ->> place.name,
            texts -> 'every' ->> place.name,
            texts -> place.of_view ->> regexp_replace(place.name, '[^_]*$', '{{bound}}')
        );
        IF said IS NULL THEN
            RAISE EXCEPTION 'sql/columns.toml says nothing of bi.%.%', place.of_view, place.name;
        END IF;
        said := replace(said, '{{bound}}', substring(place.name FROM '[^_]*$'));
        EXECUTE format('COMMENT ON COLUMN bi.%I.%I IS %L', place.of_view, place.name, said);
    END LOOP;
END
$comments$
""")
_GRANT_WHERE_ROLES_EXIST = sql.SQL("""
DO $grants$
BEGIN
    IF (SELECT count(*) = 3 FROM pg_roles WHERE rolname IN ('aims360_bi', 'aims360_links', 'aims360_held')) THEN
        EXECUTE {};
    END IF;
END
$grants$
""")
# Roles belong to the server: a writer of another mirror on it is none of this one's.
_GRANT_WHERE_A_WRITER_IS = sql.SQL("""
DO $grants$
BEGIN
    IF EXISTS (
        SELECT FROM pg_roles
        WHERE rolname = 'aims360_writer' AND has_table_privilege(oid, 'aims360.jobs', 'INSERT')
    ) THEN
        EXECUTE {};
    END IF;
END
$grants$
""")
_HINTS: Sequence[tuple[type[psycopg.Error] | tuple[type[psycopg.Error], ...], str]] = (
    (
        psycopg.errors.InsufficientPrivilege,
        "run it as the owner of the mirror; of a new one `aims360-etl doctor` says which right is missing",
    ),
    (psycopg.errors.ReadOnlySqlTransaction, "DATABASE_URL must lead to the server that takes writes, not to a standby"),
    (
        (psycopg.errors.DuplicateTable, psycopg.errors.WrongObjectType, psycopg.errors.DuplicateSchema),
        "something else has that name in schema aims360, etl, bi or queue: give the mirror a database of its own",
    ),
)
_FORGET_DIGEST = "DELETE FROM etl.definitions"
_REMEMBER_DIGEST = sql.SQL("INSERT INTO etl.definitions (digest) VALUES ({})")


def revisions() -> list[str]:
    """The numbers of the migrations, in order."""
    return sorted(path.name[:4] for path in (folder("migrations") / "versions").glob("[0-9]*.py"))


@cache
def newest() -> str:
    """The revision this program works with: the number of the last migration that there was when it began.

    What an upgrade puts beside a program that is running isn't what that was made for.
    """
    return revisions()[-1]


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


def migrate(url: str, lock_timeout: timedelta = LOCK_TIMEOUT) -> tuple[str | None, str]:
    """Brings the database at `url` to the newest revision, all or nothing; the revisions before and after.

    Waits for each lock no longer than `lock_timeout`: readers that come meanwhile wait behind it. Raises SchemaError
    where the database is newer than this program, DatabaseError where Postgres refuses or somebody is in the way,
    Locked where tables are to change that a run is at work on.
    """
    import sqlalchemy as sa

    try:
        with engine(url).begin() as connection:
            return _migrate(connection, lock_timeout)
    except (sa.exc.DBAPIError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        if isinstance(cause, psycopg.errors.LockNotAvailable):
            raise _in_the_way(url, lock_timeout) from None
        why = said(cause) if isinstance(cause, psycopg.Error) else "no connection"
        hint = next((hint for kind, hint in _HINTS if isinstance(cause, kind)), "run it again")
        raise DatabaseError(f"{masked(url)}: can't migrate: {why}; nothing was changed, {hint}") from None


def engine(url: str) -> Engine:
    """SQLAlchemy's way to the database at `url`, whose address libpq reads, as everywhere else."""
    import sqlalchemy as sa

    return sa.create_engine("postgresql+psycopg://", creator=lambda: connect(url, False), poolclass=sa.NullPool)


def _in_the_way(url: str, waited: timedelta) -> DatabaseError:
    """Who holds what a migration waited for, and what can be done about it."""
    with connected(url) as db:
        holders = locks.holders(db)
    by = ", ".join(map(str, holders)) or "a session that has ended since"
    ending = "".join(f"; SELECT pg_terminate_backend({holder.pid}) ends it" for holder in holders[:1])
    return DatabaseError(
        f"{masked(url)}: can't migrate: waited {waited.total_seconds():g}s for tables that are held by {by}; nothing "
        f"was changed. Run it again after that, or with a longer --lock-timeout{ending}"
    )


def wait_for_locks(longest: timedelta) -> str:
    """The statement that bounds how long the transaction waits for each lock."""
    return _WAIT_FOR_LOCKS.format(sql.Literal(f"{round(longest / timedelta(milliseconds=1))}ms")).as_string()


def _migrate(connection: SqlConnection, lock_timeout: timedelta) -> tuple[str | None, str]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    for statement in (wait_for_locks(lock_timeout), NOTHING_OF_OTHERS, ONE_AT_A_TIME):
        driver.execute(statement.encode())
    before = revision(driver)
    if before is not None and before > newest():
        require(driver)
    if before != newest():  # else there is nothing to do, which whoever only writes may find too
        driver.execute(KEEP_READERS_AWAY)
        if before is not None:
            locks.hold_all(driver)  # a run of an earlier release would go on without what is kept from now on
        upgrade(connection=connection)
    wanted = definitions()
    for statement in (*queue_statements(driver), *(() if wanted.are_in(driver) else wanted.statements)):
        driver.execute(statement.encode())
    return before, newest()


def queue_statements(db: Connection | None) -> list[str]:
    """What the queue of a fleet lacks, and who may write it then; `db` is None where there is none of it yet."""
    made = queue_schema.statements(queue_schema.at(db) if db else None)
    return [*made, _grant_writers()] if made else []


def upgrade(since: str | None = None, until: str = "head", **alembic: object) -> None:
    """Alembic's part: on a `connection`; or, with a `buffer`, the statements from a revision on as text."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(folder("migrations")).replace("%", "%%"))
    config.attributes.update(alembic)
    command.upgrade(config, f"{since}:{until}" if since else until, sql="buffer" in alembic)


class Definitions(NamedTuple):
    """Functions, views, comments and grants as this program has them, and the day totals that follow them."""

    digest: str
    statements: Sequence[str]

    def are_in(self, db: Connection) -> bool:
        """Whether they are there already: to write them would lock readers out."""
        return db.execute(_DIGEST).fetchone() == (self.digest,)


def definitions() -> Definitions:
    """What is written anew where any of it changed."""
    import json  # here, since a sync has no use for them
    import tomllib

    files = [text for kind in ("functions", "access", "views") for text in _files(kind)]  # each uses those before
    columns = (folder("sql") / "columns.toml").read_text(encoding="utf-8")
    roles = (folder("sql") / "roles.sql").read_text(encoding="utf-8")
    writer = _grant_writers()
    tables = _table_comments()
    digest = hashlib.sha256("\0".join((*files, columns, roles, writer, *tables)).encode()).hexdigest()
    texts = json.dumps(tomllib.loads(columns), ensure_ascii=False, indent=1)
    statements = (
        KEEP_READERS_AWAY,
        *files,
        *tables,
        _COMMENT_ON_VIEWS.format(sql.Literal(texts)).as_string(),
        _GRANT_WHERE_ROLES_EXIST.format(sql.Literal(roles)).as_string(),
        writer,
        _KEEP_SYNCS_AWAY,
        *daily_aggregates.count_everything(),
        _FORGET_DIGEST,
        _REMEMBER_DIGEST.format(sql.Literal(digest)).as_string(),
    )
    return Definitions(digest, statements)


def _grant_writers() -> str:
    writer = (folder("sql") / "writer.sql").read_text(encoding="utf-8")
    return _GRANT_WHERE_A_WRITER_IS.format(sql.Literal(writer)).as_string()


def _files(kind: str) -> list[str]:
    """The statements of a folder of `sql`; views that read other views come last."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((folder("sql") / kind).glob("*.sql"))]
    return sorted(texts, key=lambda text: re.search(r"(FROM|JOIN) bi\.", text) is not None)


def _table_comments() -> list[str]:
    from etl.postgres.tables import SCHEMAS, metadata

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
