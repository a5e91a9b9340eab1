"""The ledger `etl.runs`: one row a run, from its first moment on; how it is kept short.

Once a day, or as often as `fold_after` says, runs older than the source's `keep_runs` are forgotten, but for the last
complete one of each kind; and those older than `fold_after` that brought no news become one row a day and kind.
"""

import os
import socket
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from psycopg import errors, sql

from etl.models import Counts, Verdict, Window
from etl.postgres.connection import Connection

# When a dead run ended nobody knows; its counts are those of its last committed page. What RETURNING looks up doesn't
# see the new row: it is the run before.
_BEGIN = """
WITH dead AS (
    UPDATE etl.runs
    SET outcome = 'interrupted',
        verdict = CASE WHEN kind NOT IN ('purge', 'job') THEN coalesce(verdict, 'incomplete') END
    WHERE source_id = %(source_id)s AND outcome = 'running'
)
INSERT INTO etl.runs (source_id, kind, host, pid, started_at, outcome, watermark_before)
VALUES (%(source_id)s, %(kind)s, %(host)s, %(pid)s, %(now)s, 'running', %(watermark)s)
RETURNING run_id, (
    SELECT r.started_at FROM etl.runs AS r WHERE r.source_id = %(source_id)s ORDER BY r.run_id DESC LIMIT 1
)
"""
# No run waits for whoever reads or mends the ledger: another day will do.
_WAIT_SHORTLY = "SET LOCAL lock_timeout = '2s'"
# Of each kind the last complete run stays, however old: it says when that was. Purges and single jobs have no verdict.
_FORGET = """
DELETE FROM etl.runs AS r
WHERE r.source_id = %(source_id)s
  AND r.run_id < %(run_id)s
  AND coalesce(r.finished_at, r.started_at) < %(forgotten)s
  AND r.run_id NOT IN (
      SELECT max(c.run_id)
      FROM etl.runs AS c
      WHERE c.source_id = %(source_id)s
        AND (c.verdict IN ('complete', 'complete_with_rejects') OR (c.kind = 'purge' AND c.outcome = 'succeeded'))
      GROUP BY c.kind
  )
"""
# Of the runs of a day (UTC) and kind that brought no news, the last stays and stands for all of them. Rows that stand
# for several are runs without news like any other. A window without a beginning is one of all rows: it is the longest.
_FOLD = """
WITH quiet AS (
    SELECT r.*, max(r.run_id) OVER (PARTITION BY r.kind, (r.started_at AT TIME ZONE 'UTC')::date) AS stays
    FROM etl.runs AS r
    WHERE r.source_id = %(source_id)s
      AND r.run_id < %(run_id)s
      AND r.finished_at < %(folded)s
      AND r.outcome = 'succeeded'
      AND r.verdict IS DISTINCT FROM 'incomplete'
      AND r.error IS NULL
      AND r.notes = '{}'
      AND (r.inserted, r.updated, r.refused, r.returned, r.rejected, r.purged) = (0, 0, 0, 0, 0, 0)
      AND (r.missing, r.stale, r.ghosts_purged, r.ghosts_early, r.ghosts_vanished, r.repaired) = (0, 0, 0, 0, 0, 0)
),
folded AS (
    SELECT
        stays,
        sum(runs) AS runs,
        min(started_at) AS started_at,
        CASE WHEN bool_and(window_from IS NOT NULL) THEN min(window_from) END AS window_from,
        max(window_to) AS window_to,
        (array_agg(watermark_before ORDER BY run_id))[1] AS watermark_before,
        sum(pages) AS pages,
        sum(requests) AS requests,
        sum(unchanged) AS unchanged,
        sum(skipped) AS skipped,
        sum(duplicates) AS duplicates,
        sum(unversioned) AS unversioned,
        sum(replaced_characters) AS replaced_characters
    FROM quiet
    GROUP BY stays
    HAVING count(*) > 1
),
passed AS (
    SELECT q.stays, array_agg(DISTINCT c.name ORDER BY c.name) AS checks
    FROM quiet AS q
    CROSS JOIN unnest(q.checks) AS c (name)
    GROUP BY q.stays
),
gone AS (
    DELETE FROM etl.runs AS r
    USING quiet AS q
    WHERE r.source_id = q.source_id AND r.run_id = q.run_id AND q.run_id <> q.stays
)
UPDATE etl.runs AS r
SET runs = f.runs,
    started_at = f.started_at,
    window_from = f.window_from,
    window_to = f.window_to,
    watermark_before = f.watermark_before,
    pages = f.pages,
    requests = f.requests,
    unchanged = f.unchanged,
    skipped = f.skipped,
    duplicates = f.duplicates,
    unversioned = f.unversioned,
    replaced_characters = f.replaced_characters,
    checks = coalesce(p.checks, '{}')
FROM folded AS f
LEFT JOIN passed AS p USING (stays)
WHERE r.source_id = %(source_id)s AND r.run_id = f.stays
"""
_A_DAY = timedelta(days=1)
_MIDNIGHT = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTERS = Counts.__struct_fields__
_COUNTED = sql.SQL(", ").join(
    sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in _COUNTERS
)
_WRITE_ROW = sql.SQL("""
UPDATE etl.runs
SET kind = %(kind)s, window_from = %(window_from)s, window_to = %(window_to)s, as_of = %(as_of)s,
    watermark_after = %(watermark)s, pages = %(pages)s, requests = %(requests)s, strategy = %(strategy)s,
    checks = %(checks)s, notes = %(notes)s, verdict = %(verdict)s, outcome = %(outcome)s,
    finished_at = %(finished_at)s, error = %(error)s, request_id = %(request_id)s, {}
WHERE source_id = %(source_id)s AND run_id = %(run_id)s
""")
_WRITE = _WRITE_ROW.format(_COUNTED).as_bytes()  # once, not with each run


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
    request_id: str | None = None


class Begun(NamedTuple):
    """A run that has its row: its number, and when the source's run before it began (None: it is the first)."""

    run_id: int
    before: datetime | None


def begin(db: Connection, source_id: int, kind: str, now: datetime, watermark: datetime | None) -> Begun:
    """A row for a run of this process; rows of runs that ended without a word are closed."""
    given = {"source_id": source_id, "kind": kind, "now": now, "watermark": watermark}
    row = db.execute(_BEGIN, {**given, "host": socket.gethostname(), "pid": os.getpid()}).fetchone()
    assert row is not None
    before = row[1]
    return Begun(int(str(row[0])), before if isinstance(before, datetime) else None)


def is_time_to_tidy(before: datetime | None, now: datetime, fold_after: timedelta) -> bool:
    """Whether it is the first run of a day (UTC), or of a shorter span where runs are folded sooner."""
    span = min(fold_after, _A_DAY)
    return before is not None and (before - _MIDNIGHT) // span != (now - _MIDNIGHT) // span


def tidy(db: Connection, source_id: int, begun: Begun, now: datetime, keep: timedelta, fold_after: timedelta) -> None:
    """Forgets and folds a source's old runs where it is time to, in one transaction.

    Killed, or in the way of somebody who holds the ledger, it has done nothing, and the next time does it.
    """
    if not is_time_to_tidy(begun.before, now, fold_after):
        return
    given = {
        "source_id": source_id,
        "run_id": begun.run_id,
        "forgotten": now - keep,
        "folded": now - fold_after,
    }
    with suppress(errors.LockNotAvailable), db.transaction():
        db.execute(_WAIT_SHORTLY)
        db.execute(_FORGET, given)
        db.execute(_FOLD, given)


def write(db: Connection, source_id: int, run_id: int, entry: Entry) -> None:
    """The run's row as it is now."""
    span = entry.window
    given = {
        **entry._asdict(),
        "window_from": span and span.lower,
        "window_to": span and span.upper,
        "as_of": span and span.as_of,
        "source_id": source_id,
        "run_id": run_id,
    }
    counters = {name: getattr(entry.counts, name) for name in _COUNTERS}
    del given["window"], given["counts"]
    db.execute(_WRITE, {**given, **counters})
