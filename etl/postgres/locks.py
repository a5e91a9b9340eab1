"""One writer a source: a session advisory lock on the very connection that writes. Losing one loses the other.

Who fetches outputs writes beside it, but not beside an erasure: what was chosen before would come back after it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import NamedTuple

import psycopg
from psycopg import sql

from etl.errors import Locked
from etl.postgres import pooler
from etl.postgres.connection import Connection
from etl.text import utc

_CLASS = 360_361  # sql/functions/is_held.sql looks for it
_FETCHES = 360_362  # held by each call that fetches outputs, alone by an erasure

# Null where the session isn't known for ours alone: such a lock would be that of whoever uses the session next.
_LOCK = sql.SQL("SELECT CASE WHEN {} THEN pg_try_advisory_lock(%(class)s, %(source_id)s) END").format(pooler.IS_OURS)
_SHARE = sql.SQL("SELECT CASE WHEN {} THEN pg_try_advisory_lock_shared(%(class)s, %(source_id)s) END").format(
    pooler.IS_OURS
)
_LOCK_ALL = """
SELECT source_id, name, pg_try_advisory_xact_lock(%(class)s, source_id) FROM etl.sources ORDER BY source_id
"""
_UNLOCK = "SELECT pg_advisory_unlock(%(class)s, %(source_id)s)"
_UNSHARE = "SELECT pg_advisory_unlock_shared(%(class)s, %(source_id)s)"
_HOLDER = """
SELECT a.application_name, r.run_id, r.started_at
FROM pg_locks AS l
JOIN pg_stat_activity AS a ON a.pid = l.pid
LEFT JOIN etl.runs AS r
    ON r.source_id = %(source_id)s
    AND r.outcome = 'running'
    AND a.application_name = left('aims360-etl on ' || r.host || ', process ' || r.pid, 63)
WHERE l.locktype = 'advisory'
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid = %(class)s
  AND l.objid = %(source_id)s
  AND l.objsubid = 2
  AND l.granted
ORDER BY r.run_id DESC NULLS LAST
LIMIT 1
"""
# The same as a statement for somebody else's session, which fails.
HOLD_ALL = """
DO $$
DECLARE
    names text;
BEGIN
    SELECT string_agg(quote_literal(name), ', ') INTO names
    FROM (SELECT name, pg_try_advisory_xact_lock(360361, source_id) AS is_ours FROM etl.sources) AS s
    WHERE NOT is_ours;
    IF names IS NOT NULL THEN
        RAISE EXCEPTION 'a sync of % is under way: its tables can''t change now; run this again after that', names;
    END IF;
END
$$
"""
# What any session holds of our tables keeps a migration from changing them, and so does another migration.
_HOLDERS = """
SELECT DISTINCT a.pid, coalesce(nullif(a.application_name, ''), a.backend_type, 'unnamed'), a.xact_start, a.state
FROM pg_locks AS l
JOIN pg_stat_activity AS a ON a.pid = l.pid
LEFT JOIN pg_class AS c ON c.oid = l.relation
WHERE l.granted
  AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (
      c.relnamespace IN (
          to_regnamespace('bi'), to_regnamespace('aims360'), to_regnamespace('etl'), to_regnamespace('queue')
      )
      OR (l.locktype = 'advisory' AND l.classid = 360360 AND l.objid = 0 AND l.objsubid = 2)
  )
ORDER BY a.xact_start NULLS LAST, a.pid
LIMIT 5
"""


class Holder(NamedTuple):
    """A session that is in the way of a migration. Of others' sessions not everyone sees more than the name."""

    pid: int
    name: str
    since: datetime | None
    state: str | None

    def __str__(self) -> str:
        since = f"since {utc(self.since)}" if self.since else None
        return f"process {self.pid} ({', '.join(filter(None, (self.name, since, self.state)))})"


def holders(db: Connection) -> list[Holder]:
    """The sessions that hold locks on our tables and views, those that have done so longest first."""
    return [Holder(*row) for row in db.execute(_HOLDERS).fetchall()]  # type: ignore[arg-type]


@contextmanager
def held(db: Connection, name: str, source_id: int) -> Iterator[None]:
    """The source is ours. Raises Locked at once where another run holds it, with who that is.

    Raises ConfigError where the connection has no session of its own, as all that lock a source do.
    """
    with _taken(db, name, {"class": _CLASS, "source_id": source_id}):
        yield


@contextmanager
def fetching(db: Connection, name: str, source_id: int) -> Iterator[None]:
    """Outputs of the source are fetched, by any number of calls: nothing is erased meanwhile. Raises Locked."""
    with _taken(db, name, {"class": _FETCHES, "source_id": source_id}, _SHARE, _UNSHARE):
        yield


@contextmanager
def erasing(db: Connection, name: str, source_id: int) -> Iterator[None]:
    """No run is at work on the source, nor does anything fetch what was chosen before. Raises Locked."""
    with held(db, name, source_id), _taken(db, name, {"class": _FETCHES, "source_id": source_id}):
        yield


@contextmanager
def _taken(
    db: Connection, name: str, key: Mapping[str, int], take: sql.Composed = _LOCK, release: str = _UNLOCK
) -> Iterator[None]:
    given = {**key, "client": db.info.backend_pid}
    row = db.execute(take, given).fetchone()
    if row == (None,):
        pooler.require(db)
        row = db.execute(take, given).fetchone()
    if not (row and row[0]):
        raise Locked(f"source {name!r} is held by {_holder(db, key)}; nothing was done")
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # a lost connection has lost its lock
            db.execute(release, key)


def hold_all(db: Connection) -> None:
    """All sources are ours until the transaction ends. Raises Locked where a run holds one, with who that is."""
    for source_id, name, is_ours in db.execute(_LOCK_ALL, {"class": _CLASS}).fetchall():
        if not is_ours:
            holder = _holder(db, {"class": _CLASS, "source_id": int(str(source_id))})
            raise Locked(f"source {name!r} is held by {holder}: its tables can't change now; run it again after that")


def _holder(db: Connection, key: Mapping[str, int]) -> str:
    """Who holds the lock, from the session that has it: a killed run's row may still say that it is running."""
    row = db.execute(_HOLDER, key).fetchone()
    if row is None:
        return "another run, which has just ended"
    session, run_id, started_at = row
    return f"{session}" + (f" (run {run_id}, since {utc(started_at)})" if isinstance(started_at, datetime) else "")
