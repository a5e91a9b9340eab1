"""What a sync needs of the database: a way in, this program's schema, rights, a session of its own."""

from collections.abc import Callable, Iterator

from psycopg.errors import InsufficientPrivilege

from etl.errors import EtlError, SchemaError
from etl.pipeline.doctor.checks import Check, Standing, failures
from etl.postgres import connection, migrations, pooler

_CAN_CREATE = "SELECT has_database_privilege(current_database(), 'CREATE')"
# By number: who has no USAGE on a schema may not even ask about a table of it by name.
_MISSING_RIGHTS = """
SELECT 'USAGE on schema ' || n.nspname, 0, n.nspname::text, ''
FROM pg_namespace AS n
WHERE n.nspname IN ('aims360', 'etl') AND NOT has_schema_privilege(n.oid, 'USAGE')
UNION ALL
SELECT r.name || ' on ' || n.nspname || '.' || c.relname, 1, n.nspname || '.' || c.relname, r.name
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) AS r (name)
WHERE n.nspname IN ('aims360', 'etl')
  AND c.relkind IN ('r', 'p')
  AND c.relname <> 'definitions'
  AND (c.relname NOT IN ('alembic_version', 'queue', 'erasures', 'roster') OR r.name = 'SELECT')
  AND NOT has_table_privilege(c.oid, r.name)
ORDER BY 2, 3, 4
"""


def database_checks(address: Callable[[], str], is_new: bool = False) -> Iterator[Check]:
    """Check the database at an address; one that `is_new` is not expected to be migrated."""
    try:
        url = address()
        with connection.connected(url) as db:
            number = db.info.server_version
            yield Check(
                "database", Standing.FINE, f"{connection.masked(url)}, Postgres {number // 10000}.{number % 10000}"
            )
            yield from _schema(db, is_new)
            yield from _writable(db)
            yield from _own_session(db)
    except EtlError as error:
        yield from failures("database", error)


def _schema(db: connection.Connection, is_new: bool) -> Iterator[Check]:
    try:
        found = migrations.revision(db)
        migrations.require(db)
    except SchemaError as error:
        can_wait = is_new and (found is None or found < migrations.newest())
        yield Check("schema", Standing.NOTE if can_wait else Standing.FAILED, str(error))
        yield _right_to_migrate(db)
        return
    except InsufficientPrivilege:
        yield Check("schema", Standing.FAILED, f"{db.info.user} may not see which revision it is at")
        yield _right_to_write(db)
        return
    yield Check("schema", Standing.FINE, f"at {migrations.newest()}, this program's")
    yield _right_to_write(db)


def _writable(db: connection.Connection) -> Iterator[Check]:
    """Check that it takes writes: a standby reads as well as the server that it follows."""
    if db.execute("SHOW transaction_read_only").fetchone() == ("on",):
        said = (
            "takes no writes: DATABASE_URL must lead to the server that does, not to a standby or a read-only setting"
        )
        yield Check("database", Standing.FAILED, said)


def _own_session(db: connection.Connection) -> Iterator[Check]:
    """Check that a sync can lock its source: behind a transaction pooler it can't, though readers can read."""
    try:
        pooler.require(db)
    except EtlError as error:
        yield from failures("session", error)


def _right_to_migrate(db: connection.Connection) -> Check:
    row = db.execute(_CAN_CREATE).fetchone()
    if row and row[0]:
        return Check("rights", Standing.FINE, f"{db.info.user} may create schemas in this database")
    return Check(
        "rights",
        Standing.FAILED,
        f"{db.info.user} may not create schemas here: "
        f'GRANT CREATE ON DATABASE "{db.info.dbname}" TO "{db.info.user}", or migrate as another role',
    )


def _right_to_write(db: connection.Connection) -> Check:
    user = db.info.user
    missing = db.execute(_MISSING_RIGHTS).fetchall()
    if not missing:
        return Check("rights", Standing.FINE, f"{user} may read and write every table of the mirror")
    more = f", and {len(missing) - 1} more" if missing[1:] else ""
    cure = f'let the owner of the mirror run `aims360-etl grant --writer "{user}"`'
    return Check("rights", Standing.FAILED, f"{user} lacks {missing[0][0]}{more}: {cure}")
