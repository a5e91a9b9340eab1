"""The schema in the database: makes it, brings it up to date, and says when it isn't.

Tables change by the numbered migrations in `migrations/`. Functions, views and comments have no data to carry along:
`migrate` writes them anew each time, from `sql/` and `etl/tables.py`, in the same transaction.
"""

from pathlib import Path

import psycopg

from etl.database import Connection, check, masked
from etl.errors import DatabaseError, SchemaError

_VERSION = "SELECT version_num FROM etl.alembic_version"
_EXISTS = "SELECT to_regclass('etl.alembic_version') IS NOT NULL"
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(360360, 0)"


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
        raise SchemaError("the database has no aims360 schema yet: run `aims360-etl migrate`, or add --migrate")
    if found < wanted:
        raise SchemaError(f"the schema is at {found}, this program needs {wanted}: run `aims360-etl migrate`")
    if found > wanted:
        raise SchemaError(f"the schema is at {found}, newer than this program's {wanted}: upgrade aims360-etl")


def migrate(url: str) -> tuple[str | None, str]:
    """Brings the database at `url` to the newest revision, all or nothing; the revisions before and after.

    Raises SchemaError where the database is newer than this program, DatabaseError where Postgres refuses.
    """
    # Imported here: alembic and sqlalchemy cost as much time as a whole quiet sync.
    import sqlalchemy as sa

    check(url)
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            return _migrate(connection)
    except sa.exc.DBAPIError as error:
        said = error.orig.diag.message_primary if isinstance(error.orig, psycopg.Error) else None
        raise DatabaseError(f"{masked(url)}: can't migrate: {said or 'no connection'}") from None


def _migrate(connection: "object") -> tuple[str | None, str]:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import Connection as SqlConnection

    assert isinstance(connection, SqlConnection)
    connection.exec_driver_sql("SET LOCAL lock_timeout = '30s'")
    connection.exec_driver_sql(_ONE_AT_A_TIME)
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    before = revision(driver)
    if before is not None and before > newest():
        require(driver)
    config = Config()
    config.set_main_option("script_location", str(folder("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    _rewrite(connection)
    return before, newest()


def _rewrite(connection: "object") -> None:
    """Functions, views and comments, as this program has them."""
    from sqlalchemy import Connection as SqlConnection
    from sqlalchemy.schema import SetColumnComment, SetTableComment

    from etl.tables import metadata

    assert isinstance(connection, SqlConnection)
    for kind in ("functions", "views"):
        for path in sorted((folder("sql") / kind).glob("*.sql")):
            connection.exec_driver_sql(path.read_text(encoding="utf-8"))
    for table in metadata.tables.values():
        connection.execute(SetTableComment(table))
        for column in table.columns:
            connection.execute(SetColumnComment(column))
