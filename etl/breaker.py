"""The circuit breaker: a source whose runs fail is left alone by fleets, for longer with each failure in a row.

`etl.sources` has how many failed (`failures`) and until when that is (`not_before`), so that all machines go by it.
Runs by hand count too, and are never held back.
"""

from datetime import datetime, timedelta

import psycopg

from etl import odata
from etl.attempts import back_off
from etl.database import Connection
from etl.errors import DatabaseError, SignInFailed
from etl.settings import Source
from etl.sources import State

_NOT_ITS_FAULT = (KeyboardInterrupt, SystemExit, psycopg.Error, DatabaseError)  # the source's
_FAILED = "UPDATE etl.sources SET failures = failures + 1, not_before = %s WHERE source_id = %s"
_RECOVERED = "UPDATE etl.sources SET failures = 0, not_before = NULL WHERE source_id = %s"


def failed(db: Connection, source: Source, state: State, error: BaseException, now: datetime) -> None:
    """One more run in a row failed, with this error; nothing, where that isn't the source's fault."""
    if isinstance(error, _NOT_ITS_FAULT):
        return
    every, turned_away = source.every.total_seconds(), isinstance(error, SignInFailed)
    waits = back_off(every, state.failures + 1, turned_away=turned_away)
    db.execute(_FAILED, (odata.plus(now, timedelta(seconds=waits)), state.source_id))


def succeeded(db: Connection, state: State) -> None:
    """A run did not fail: none did in a row."""
    if state.failures:
        db.execute(_RECOVERED, (state.source_id,))
