"""The ledger `etl.runs`: one row a run, from its first moment on."""

import os
import socket
from dataclasses import fields
from datetime import datetime
from typing import NamedTuple

from psycopg import sql

from etl.database import Connection
from etl.model import Counts, Verdict, Window

# When a dead run ended nobody knows; its counts are those of its last committed page.
_BURY_DEAD_RUNS = """
UPDATE etl.runs
SET outcome = 'interrupted', verdict = CASE WHEN kind <> 'purge' THEN coalesce(verdict, 'incomplete') END
WHERE source_id = %s AND outcome = 'running'
"""
_BEGIN = """
INSERT INTO etl.runs (source_id, kind, host, pid, started_at, outcome, watermark_before)
VALUES (%s, %s, %s, %s, %s, 'running', %s)
RETURNING run_id
"""
_COUNTERS = tuple(field.name for field in fields(Counts))
_WRITE = sql.SQL("""
UPDATE etl.runs
SET kind = %(kind)s, window_from = %(window_from)s, window_to = %(window_to)s, as_of = %(as_of)s,
    watermark_after = %(watermark)s, pages = %(pages)s, requests = %(requests)s, strategy = %(strategy)s,
    checks = %(checks)s, notes = %(notes)s, verdict = %(verdict)s, outcome = %(outcome)s,
    finished_at = %(finished_at)s, error = %(error)s, {counters}
WHERE run_id = %(run_id)s
""").format(
    counters=sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in _COUNTERS
    )
)


class Entry(NamedTuple):
    """What a run's row says so far."""

    kind: str
    window: Window | None
    watermark: datetime | None
    pages: int
    requests: int
    strategy: str | None
    checks: list[str]
    notes: list[str]
    verdict: Verdict | None
    counts: Counts
    outcome: str = "running"
    error: str | None = None
    finished_at: datetime | None = None


def begin(db: Connection, source_id: int, kind: str, now: datetime, watermark: datetime | None) -> int:
    """A row for a run of this process; rows of runs that ended without a word are closed. Its number."""
    db.execute(_BURY_DEAD_RUNS, (source_id,))
    row = db.execute(_BEGIN, (source_id, kind, socket.gethostname(), os.getpid(), now, watermark)).fetchone()
    assert row is not None
    return int(str(row[0]))


def write(db: Connection, run_id: int, entry: Entry) -> None:
    """The run's row as it is now."""
    span = entry.window
    given = {
        **entry._asdict(),
        "window_from": span and span.lower,
        "window_to": span and span.upper,
        "as_of": span and span.as_of,
        "run_id": run_id,
    }
    counters = {name: getattr(entry.counts, name) for name in _COUNTERS}
    del given["window"], given["counts"]
    db.execute(_WRITE, {**given, **counters})
