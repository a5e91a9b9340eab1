"""One writer a source: a session advisory lock on the very connection that writes. Losing one loses the other."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import psycopg

from etl.database import Connection
from etl.errors import Locked

_CLASS = 360_361  # sql/functions/is_held.sql looks for it

_LOCK = "SELECT pg_try_advisory_lock(%(class)s, %(source_id)s)"
_LOCK_ALL = """
SELECT source_id, name, pg_try_advisory_xact_lock(%(class)s, source_id) FROM etl.sources ORDER BY source_id
"""
_UNLOCK = "SELECT pg_advisory_unlock(%(class)s, %(source_id)s)"
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


@contextmanager
def held(db: Connection, name: str, source_id: int) -> Iterator[None]:
    """The source is ours. Raises Locked at once where another run holds it, with who that is."""
    key = {"class": _CLASS, "source_id": source_id}
    row = db.execute(_LOCK, key).fetchone()
    if not (row and row[0]):
        raise Locked(f"source {name!r} is held by {_holder(db, key)}; nothing was done")
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # a lost connection has lost its lock
            db.execute(_UNLOCK, key)


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
    return f"{session}" + (f" (run {run_id}, since {started_at:%Y-%m-%d %H:%M:%S} UTC)" if run_id else "")
