"""Open scans in `etl.scans`: where the next run goes on. A source has one or none."""

from dataclasses import astuple
from datetime import datetime

from psycopg.types.json import Json

from etl.database import Connection
from etl.model import Cursor, Scan, ScanKind, Window

_FIND = """
SELECT
    kind, key, window_from, window_to, as_of, rewrite, opaque, delivered, done, expected, flatten_version, cursors
FROM etl.scans
WHERE source_id = %s
"""
_SAVE = """
INSERT INTO etl.scans (
    source_id, run_id, kind, key, window_from, window_to, as_of, rewrite, opaque, delivered, done, expected,
    flatten_version, cursors
)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (source_id) DO UPDATE
SET run_id = excluded.run_id, kind = excluded.kind, key = excluded.key, window_from = excluded.window_from,
    window_to = excluded.window_to, as_of = excluded.as_of, rewrite = excluded.rewrite, opaque = excluded.opaque,
    delivered = excluded.delivered, done = excluded.done, expected = excluded.expected,
    flatten_version = excluded.flatten_version, cursors = excluded.cursors
"""
_CLOSE = "DELETE FROM etl.scans WHERE source_id = %s"


def find(db: Connection, source_id: int) -> Scan | None:
    """The scan that an earlier run left open, as it stands."""
    row = db.execute(_FIND, (source_id,)).fetchone()
    if row is None:
        return None
    kind, key, lower, upper, as_of, rewrite, opaque, delivered, done, expected, flatten_version, cursors = row
    assert isinstance(as_of, datetime)
    assert isinstance(cursors, list)
    return Scan(
        kind=ScanKind(str(kind)),
        window=Window(_moment(lower), _moment(upper), as_of),
        key=str(key),
        cursors=tuple(Cursor(*cursor) for cursor in cursors),
        rewrite=bool(rewrite),
        opaque=bool(opaque),
        delivered=int(str(delivered)),
        done=int(str(done)),
        expected=None if expected is None else int(str(expected)),
        flatten_version=int(str(flatten_version)),
    )


def save(db: Connection, source_id: int, run_id: int, scan: Scan) -> None:
    """Where the scan stands, in the transaction that loaded the page. It takes the place of one that was dropped."""
    span, cursors = scan.window, Json([astuple(cursor) for cursor in scan.cursors])
    head = (source_id, run_id, scan.kind, scan.key, span.lower, span.upper, span.as_of, scan.rewrite)
    state = (scan.opaque, scan.delivered, scan.done, scan.expected, scan.flatten_version, cursors)
    db.execute(_SAVE, (*head, *state))


def close(db: Connection, source_id: int) -> None:
    """The scan is done."""
    db.execute(_CLOSE, (source_id,))


def _moment(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None
