"""What `migrate` would do, as a script for a database administrator: the same statements, in one transaction."""

from __future__ import annotations

import ast
from datetime import timedelta
from importlib.metadata import version
from io import StringIO

from psycopg import sql

from etl.errors import ConfigError
from etl.postgres import locks, migrations
from etl.postgres.connection import connected
from etl.postgres.package_data import folder
from etl.text import shown

EMPTY = "empty"
_AS_WE_CONNECT = (
    "SET LOCAL client_encoding = 'UTF8'",
    "SET LOCAL client_min_messages = warning",
    "SET LOCAL TimeZone = 'UTC'",
    "SET LOCAL DateStyle = 'ISO'",
)
_OWNER = "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'etl'"
# The statements bring a database from one revision to another: any other would be left neither here nor there.
_IS_EMPTY = """
DO $$
BEGIN
    IF to_regclass('etl.alembic_version') IS NOT NULL THEN
        RAISE EXCEPTION 'this script is for a database without an aims360 schema; here is one: print it anew';
    END IF;
END
$$
"""
_IS_AT = sql.SQL("""
DO $$
BEGIN
    IF to_regclass('etl.alembic_version') IS NULL THEN
        RAISE EXCEPTION 'this script is for a schema at %, and here is none: print it anew', {revision};
    ELSIF (SELECT version_num FROM etl.alembic_version) <> {revision} THEN
        RAISE EXCEPTION 'this script is for a schema at %, and here is another: print it anew', {revision};
    END IF;
END
$$
""")
_HEAD = """\
-- aims360-etl {version}: the schema from {since} to {until}, as `aims360-etl migrate` brings it there.
--
-- Run it:   psql -X -v ON_ERROR_STOP=1 -f FILE "postgresql://..."
--           It is one transaction: all of it is done, or nothing.
-- As whom:  {owner}
-- When:     while no sync runs: it says so, and stops, where one does. Readers of bi wait until it is done.
-- Locks:    each is waited for {wait} at most. After "canceling statement due to lock timeout" nothing was changed.
--           Who is in the way:
--           SELECT pid, application_name, xact_start, state FROM pg_stat_activity WHERE pid IN (
--               SELECT l.pid FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
--               WHERE c.relnamespace::regnamespace::text IN ('aims360', 'bi', 'etl'));
-- After it: `aims360-etl migrate` finds nothing left to do, and `aims360-etl sync` goes on.
-- Contents: {contents}
"""
_NOTHING = "-- aims360-etl {version}: nothing to do, the schema is at {until} and its views are this program's.\n"
_WHOEVER = (
    "the role that runs it owns what it makes: run it as the one that syncs (SET ROLE first, where it is another)."
)


def of_database(url: str, lock_timeout: timedelta = migrations.LOCK_TIMEOUT) -> str:
    """What `migrate` would do to this database, which is only read. Raises SchemaError where it is newer than that."""
    with connected(url) as db:
        since = migrations.revision(db)
        if since is None:
            return _written(None, migrations.queue_statements(None), lock_timeout)
        queued = migrations.queue_statements(db if since >= migrations.HAS_A_QUEUE else None)
        if since >= migrations.newest():
            migrations.require(db)
            if migrations.definitions().are_in(db) and not queued:
                return _NOTHING.format(version=version("aims360-etl"), until=since)
        row = db.execute(_OWNER).fetchone()
        return _written(since, queued, lock_timeout, str(row[0]) if row else None)


def since_revision(name: str, lock_timeout: timedelta = migrations.LOCK_TIMEOUT) -> str:
    """The same for any database at that revision, `empty` for one without a schema. Raises ConfigError.

    Of a queue nothing is done where there may be one, since nobody says how far it is: that is for `of_database`.
    """
    known = [EMPTY, *migrations.revisions()]
    if name not in known:
        raise ConfigError(f"--from: there is no revision {name!r}; there are {', '.join(known)}")
    has_none = name == EMPTY or name < migrations.HAS_A_QUEUE
    return _written(
        None if name == EMPTY else name, migrations.queue_statements(None) if has_none else [], lock_timeout
    )


def _written(since: str | None, queued: list[str], lock_timeout: timedelta, owner: str | None = None) -> str:
    head = _HEAD.format(
        version=version("aims360-etl"),
        since=since or "nothing",
        until=migrations.newest(),
        owner=f"{shown(owner)}, who owns the schemas, or a role that may SET ROLE to it." if owner else _WHOEVER,
        wait=f"{lock_timeout.total_seconds():g}s",
        contents="\n--           ".join(
            (
                *_steps(since),
                *(["the queue of a fleet, as of the Procrastinate that is installed here."] if queued else []),
                "functions, views, comments, grants and day totals, as of this program.",
            )
        ),
    )
    before = [*_AS_WE_CONNECT, migrations.wait_for_locks(lock_timeout), migrations.NOTHING_OF_OTHERS]
    if owner:
        before.append(f"SET LOCAL ROLE {owner}")  # quoted by Postgres where it has to be
    before += [migrations.ONE_AT_A_TIME, _is_at(since)]
    changes = ""
    if since != migrations.newest():
        before.append(migrations.KEEP_READERS_AWAY)
        before += [locks.HOLD_ALL] if since else []
        buffer = StringIO()
        migrations.upgrade(since, buffer=buffer)
        changes = buffer.getvalue()
    after = [*queued, *migrations.definitions().statements]
    return "\n".join((head, "BEGIN;\n", *map(_ended, before), changes, *map(_ended, after), "COMMIT;\n"))


def _steps(since: str | None) -> list[str]:
    """What each migration says that it does, a line each."""
    files = sorted((folder("migrations") / "versions").glob("[0-9]*.py"))
    texts = {path.name[:4]: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in files}
    return [f"{name}: {(text or '').partition(chr(10))[0]}" for name, text in texts.items() if name > (since or "")]


def _is_at(since: str | None) -> str:
    return _IS_AT.format(revision=sql.Literal(since)).as_string() if since else _IS_EMPTY


def _ended(statement: str) -> str:
    """A statement as psql takes it."""
    bare = statement.strip()
    return f"{bare}\n" if bare.endswith(";") else f"{bare};\n"
