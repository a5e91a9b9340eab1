"""The circuit breaker: a source whose runs fail is left alone by fleets, for longer with each failure in a row.

`etl.sources` has how many failed (`failures`) and until when that is (`not_before`), so that all machines go by it.
Runs by hand count too, and are never held back. Runs that only purge or go deep have a count of their own
(`deep_failures`): they keep no source fresh, and are no reason to keep none so.
"""

from datetime import datetime, timedelta

import psycopg

from etl.client import odata
from etl.client.retry import back_off
from etl.config.settings import Source
from etl.errors import DatabaseError, SignInFailed
from etl.postgres.connection import Connection
from etl.state.source_state import State

_NOT_ITS_FAULT = (KeyboardInterrupt, SystemExit, psycopg.Error, DatabaseError)  # the source's
_FAILED = "UPDATE etl.sources SET failures = failures + 1, not_before = %s WHERE source_id = %s"
_RECOVERED = "UPDATE etl.sources SET failures = 0, not_before = NULL WHERE source_id = %s"
_FAILED_DEEP = "UPDATE etl.sources SET deep_failures = deep_failures + 1, deep_not_before = %s WHERE source_id = %s"
_RECOVERED_DEEP = "UPDATE etl.sources SET deep_failures = 0, deep_not_before = NULL WHERE source_id = %s"


def failed(db: Connection, source: Source, state: State, error: BaseException, now: datetime, *, is_deep: bool) -> None:
    """One more run in a row failed, with this error; nothing, where that isn't the source's fault.

    An increment has its next turn by the source's grid. What is due until it is done has no turns: it waits for one.
    """
    if isinstance(error, _NOT_ITS_FAULT):
        return
    every, turned_away = source.every.total_seconds(), isinstance(error, SignInFailed)
    failures = state.deep_failures if is_deep else state.failures
    waits = back_off(every, failures + 1, turned_away=turned_away) + (every if is_deep else 0.0)
    db.execute(_FAILED_DEEP if is_deep else _FAILED, (odata.plus(now, timedelta(seconds=waits)), state.source_id))


def succeeded(db: Connection, state: State, *, is_deep: bool) -> None:
    """A run did not fail: none did in a row."""
    if state.deep_failures if is_deep else state.failures:
        db.execute(_RECOVERED_DEEP if is_deep else _RECOVERED, (state.source_id,))
