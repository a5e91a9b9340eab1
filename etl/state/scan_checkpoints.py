"""Open scans in `etl.scans`: where the next run goes on. A source has one or none of each lane."""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import astuple
from psycopg.types.json import Json

from etl.models import SYNC, Cursor, Key, Scan, ScanKind, Window
from etl.postgres.connection import Connection

_FIND = """
SELECT
    kind, key, window_from, window_to, as_of, rewrite, opaque, delivered, done, expected, flatten_version,
    opened_by, trusting, counted, page_size, narrowed, is_ordered, latest, cursors
FROM etl.scans
WHERE source_id = %s AND lane = %s
"""
_SAVE = """
INSERT INTO etl.scans (
    source_id, lane, run_id, kind, key, window_from, window_to, as_of, rewrite, opaque, delivered, done, expected,
    flatten_version, opened_by, trusting, counted, page_size, narrowed, is_ordered, latest, cursors
)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (source_id, lane) DO UPDATE
SET run_id = excluded.run_id, kind = excluded.kind, key = excluded.key, window_from = excluded.window_from,
    window_to = excluded.window_to, as_of = excluded.as_of, rewrite = excluded.rewrite, opaque = excluded.opaque,
    delivered = excluded.delivered, done = excluded.done, expected = excluded.expected,
    flatten_version = excluded.flatten_version, opened_by = excluded.opened_by, trusting = excluded.trusting,
    counted = excluded.counted, page_size = excluded.page_size, narrowed = excluded.narrowed,
    is_ordered = excluded.is_ordered, latest = excluded.latest, cursors = excluded.cursors
"""
_CLOSE = "DELETE FROM etl.scans WHERE source_id = %s AND lane = %s"


def find(db: Connection, source_id: int, lane: str = SYNC) -> Scan | None:
    """The scan that an earlier run left open, as it stands."""
    row = db.execute(_FIND, (source_id, lane)).fetchone()
    if row is None:
        return None
    kind, key, lower, upper, as_of, rewrite, opaque, delivered, done, expected, version, *rest = row
    opened_by, trusting, counted, page_size, narrowed, is_ordered, latest, cursors = rest
    assert isinstance(as_of, datetime)
    assert isinstance(cursors, list)
    return Scan(
        kind=ScanKind(str(kind)),
        window=Window(_moment(lower), _moment(upper), as_of),
        key=str(key),
        cursors=tuple(_read_cursor(*cursor) for cursor in cursors),
        rewrite=bool(rewrite),
        opaque=bool(opaque),
        delivered=int(str(delivered)),
        done=int(str(done)),
        expected=_number(expected),
        flatten_version=int(str(version)),
        opened_by=int(str(opened_by)),
        trusting=bool(trusting),
        counted=_number(counted),
        page_size=_number(page_size),
        narrowed=bool(narrowed),
        is_ordered=bool(is_ordered),
        latest=_moment(latest),
    )


def save(db: Connection, source_id: int, run_id: int, scan: Scan) -> None:
    """Where the scan stands, in the transaction that loaded the page. It takes the place of one that was dropped."""
    span, cursors = scan.window, Json([_list_cursor(cursor) for cursor in scan.cursors])
    head = (source_id, scan.lane, run_id, scan.kind, scan.key, span.lower, span.upper, span.as_of, scan.rewrite)
    state = (scan.opaque, scan.delivered, scan.done, scan.expected, scan.flatten_version)
    paging = (scan.page_size, scan.narrowed, scan.is_ordered, scan.latest)
    db.execute(_SAVE, (*head, *state, scan.opened_by, scan.trusting, scan.counted, *paging, cursors))


def close(db: Connection, source_id: int, lane: str = SYNC) -> None:
    """The scan is done."""
    db.execute(_CLOSE, (source_id, lane))


def _list_cursor(cursor: Cursor) -> tuple[object, ...]:
    """Return a cursor as it is stored: by key and by time there is no page before to remember."""
    values = astuple(cursor)
    return values if cursor.tail or cursor.before else values[:4]


def _read_cursor(
    part: int,
    after: Key | None,
    up_to: Key | None,
    done: bool = False,
    tail: Sequence[Sequence[str]] = (),
    before: str | None = None,
) -> Cursor:
    return Cursor(part, after, up_to, done, tuple((key, version) for key, version in tail), before)


def _moment(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None


def _number(value: object) -> int | None:
    return None if value is None else int(str(value))
