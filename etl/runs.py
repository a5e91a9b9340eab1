"""The ledger: one writer per source, one row a run, the open scan's cursor, the watermark, the rejects.

The lock is a session advisory lock on the very connection that writes: losing one loses the other. Rows and the cursor
that covers them are saved in one transaction, so that a kill at any instruction costs what was in flight and no more.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, fields
from datetime import datetime, timedelta
from typing import NamedTuple

import psycopg
from psycopg.types.json import Jsonb

from etl.database import Connection
from etl.errors import ConfigError, EtlError, Locked
from etl.flatten import flatten
from etl.load import Rules, load
from etl.model import (
    FLATTEN_VERSION,
    Batch,
    Clock,
    Counts,
    Cursor,
    Page,
    Reject,
    Run,
    Scan,
    ScanKind,
    Verdict,
    Window,
)
from etl.scan import Probe
from etl.settings import Source

_LOCK_CLASS = 360_361
_SAVE_EVERY_PAGE_AFTER = 20  # a short quiet scan is cheaper read again than saved
_KEEP_REJECTS = timedelta(days=30)

_FIND = """
SELECT source_id, base_url, client_ids, unknown_properties, time_zone, watermark, complete_through, purge_asked_at
FROM etl.sources
WHERE name = %s
"""
_REGISTER = """
INSERT INTO etl.sources (name, base_url, flatten_version, purge_mode, time_zone)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (name) DO NOTHING
"""
_LOCK = "SELECT pg_try_advisory_lock(%s, %s)"
_UNLOCK = "SELECT pg_advisory_unlock(%s, %s)"
_HOLDER = """
SELECT run_id, host, pid, started_at
FROM etl.runs
WHERE source_id = %s AND outcome = 'running'
ORDER BY run_id DESC
LIMIT 1
"""
_HAS_TOTALS = "SELECT EXISTS (SELECT FROM aims360.purged_daily WHERE source_id = %s)"
_MOVE = "UPDATE etl.sources SET base_url = %s, time_zone = %s WHERE source_id = %s"
_BURY_DEAD_RUNS = """
UPDATE etl.runs
SET outcome = 'interrupted', verdict = 'incomplete', finished_at = %s
WHERE source_id = %s AND outcome = 'running'
"""
_BEGIN = """
INSERT INTO etl.runs (source_id, kind, host, pid, started_at, outcome, watermark_before)
VALUES (%s, %s, %s, %s, %s, 'running', %s)
RETURNING run_id
"""
_COUNTERS = tuple(field.name for field in fields(Counts))
_RESULT = psycopg.sql.SQL("""
UPDATE etl.runs
SET kind = %(kind)s, window_from = %(window_from)s, window_to = %(window_to)s, as_of = %(as_of)s,
    watermark_after = %(watermark)s, pages = %(pages)s, requests = %(requests)s,
    verdict = %(verdict)s, outcome = %(outcome)s, finished_at = %(finished_at)s, error = %(error)s, {counters}
WHERE run_id = %(run_id)s
""").format(
    counters=psycopg.sql.SQL(", ").join(
        psycopg.sql.SQL("{} = {}").format(psycopg.sql.Identifier(name), psycopg.sql.Placeholder(name))
        for name in _COUNTERS
    )
)
_OPEN_SCAN = """
SELECT kind, key, window_from, window_to, as_of, rewrite, opaque, delivered, cursors
FROM etl.scans
WHERE source_id = %s
"""
_SAVE_SCAN = """
INSERT INTO etl.scans (
    source_id, run_id, kind, key, window_from, window_to, as_of, rewrite, opaque, delivered, cursors
)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (source_id) DO UPDATE
SET opaque = excluded.opaque, delivered = excluded.delivered, cursors = excluded.cursors
"""
_CLOSE_SCAN = "DELETE FROM etl.scans WHERE source_id = %s"
_ADVANCE = """
UPDATE etl.sources
SET watermark = greatest(watermark, %s),
    complete_through = greatest(complete_through, %s),
    flatten_version = coalesce(%s, flatten_version)
WHERE source_id = %s
RETURNING watermark, complete_through
"""
_LEARN = """
UPDATE etl.sources
SET client_ids = ARRAY(SELECT DISTINCT unnest(client_ids || %s::text[]) ORDER BY 1),
    unknown_properties = ARRAY(SELECT DISTINCT unnest(unknown_properties || %s::text[]) ORDER BY 1)
WHERE source_id = %s
"""
_ASKED = "UPDATE etl.sources SET purge_asked_at = %s WHERE source_id = %s"
_SAVE_REJECT = """
INSERT INTO etl.rejects (source_id, job_id, run_id, reason, raw, purge_date_time, first_seen_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (source_id, job_id) DO UPDATE
SET run_id = excluded.run_id, reason = excluded.reason, raw = excluded.raw, purge_date_time = excluded.purge_date_time
WHERE (rejects.reason, rejects.raw) IS DISTINCT FROM (excluded.reason, excluded.raw)
"""
_DROP_REJECTS = "DELETE FROM etl.rejects WHERE source_id = %s AND job_id = ANY(%s)"
_REJECTS = "SELECT job_id, raw FROM etl.rejects WHERE source_id = %s ORDER BY job_id"
_EXPIRE_REJECTS = """
DELETE FROM etl.rejects
WHERE source_id = %s AND coalesce(purge_date_time, first_seen_at + %s) < %s
"""


Tally = Callable[[], int]  # how many requests were made so far


class State(NamedTuple):
    """What `etl.sources` knows of a source."""

    source_id: int
    base_url: str
    client_ids: list[str]
    unknown_properties: list[str]
    time_zone: str
    watermark: datetime | None
    complete_through: datetime | None
    purge_asked_at: datetime | None


class Recorder:
    """A run in the making: what it has done so far, and the only hand that writes to `etl`."""

    def __init__(
        self, db: Connection, source: Source, state: State, run_id: int, kind: str, clock: Clock, requests: Tally
    ) -> None:
        self.db = db
        self.source = source
        self.source_id = state.source_id
        self.state = state
        self.run_id = run_id
        self.kind = kind
        self.counts = Counts()
        self.pages = 0
        self.notes: list[str] = []
        self.window: Window | None = None
        self.verdict = Verdict.INCOMPLETE
        self._clock = clock
        self._requests = requests
        self._began = clock.monotonic()

    def recognise(self, found: Probe, same_source: bool) -> Probe:
        """Stops before anything is written where the newest row is another client's than all that were seen."""
        client = found.newest.clientID if found.newest else None
        known = self.state.client_ids
        if isinstance(client, str) and known and client.lower() not in known and not same_source:
            raise ConfigError(
                f"source {self.source.name!r} now shows the jobs of client {client}, never seen before (seen: "
                f"{', '.join(known[:3])}). Another account needs a source of its own: a table [sources.NAME] in "
                "aims360.toml. If this source truly moved, run once with --same-source"
            )
        return found

    def open_scan(self) -> Scan | None:
        """The scan that an earlier run left open, as it stands."""
        row = self.db.execute(_OPEN_SCAN, (self.source_id,)).fetchone()
        if row is None:
            return None
        kind, key, lower, upper, as_of, rewrite, opaque, delivered, cursors = row
        assert isinstance(cursors, list)
        return Scan(
            kind=ScanKind(str(kind)),
            window=Window(_moment(lower), _moment(upper), _known(as_of)),
            key=str(key),
            cursors=tuple(Cursor(*cursor) for cursor in cursors),
            rewrite=bool(rewrite),
            opaque=bool(opaque),
            delivered=int(str(delivered)),
        )

    def drop_scan(self) -> None:
        """Closes an open scan that can't be gone on with; the watermark never counted on it."""
        self.db.execute(_CLOSE_SCAN, (self.source_id,))

    def rules(self, scan: Scan, seen_at: datetime) -> Rules:
        """How the rows of a page of this scan are judged."""
        full = scan.kind is ScanKind.FULL
        return Rules(
            look_back=self.source.look_back,
            seen_at=seen_at,
            not_seen_before=self.state.complete_through,
            trust_before=scan.window.as_of - self.source.look_back if full else None,
            rewrite=scan.rewrite,
        )

    def loaded(self, scan: Scan, page: Page, batch: Batch, counts: Counts) -> None:
        """In the transaction that loaded a page: notes what its rows taught, keeps its rejects, moves the cursor."""
        self.pages += 1
        self.counts += counts
        self.window = scan.window
        self._learn(batch)
        if batch.jobs:
            self.db.execute(_DROP_REJECTS, (self.source_id, [job.row.job_id for job in batch.jobs]))
        for reject in batch.rejects:
            self._keep(reject, page.answered_at)
        wrote = counts.written or batch.rejects
        if wrote or scan.kind is ScanKind.FULL or self.pages > _SAVE_EVERY_PAGE_AFTER:
            self._save(scan)

    def complete(self, scan: Scan) -> None:
        """The scan came to its end: watermark, complete_through and result move in the transaction that closes it."""
        self.window = scan.window
        if scan.kind is ScanKind.FULL and self.counts.refused:
            self.notes.append(
                f"{self.counts.refused} rows changed here within the look-back are newer than the source's; "
                "if the source was restored, run `aims360-etl sync --full` again after a look-back"
            )
        self.verdict = Verdict.COMPLETE_WITH_REJECTS if self.counts.rejected else Verdict.COMPLETE
        rewritten = FLATTEN_VERSION if scan.rewrite else None
        with self.db.transaction():
            moved = (scan.window.upper, scan.window.as_of, rewritten, self.source_id)
            row = self.db.execute(_ADVANCE, moved).fetchone()
            assert row is not None
            self.state = self.state._replace(watermark=_moment(row[0]), complete_through=_moment(row[1]))
            self.db.execute(_CLOSE_SCAN, (self.source_id,))
            self._write("running")

    def retry_rejects(self, as_of: datetime) -> None:
        """Tries the rejects again from their raw rows: what loads leaves, and so does what has expired."""
        with self.db.transaction():
            self.db.execute(_EXPIRE_REJECTS, (self.source_id, _KEEP_REJECTS, as_of))
            rows = self.db.execute(_REJECTS, (self.source_id,)).fetchall()
            rules = Rules(self.source.look_back, as_of, self.state.complete_through)
            for key, raw in rows:
                batch = flatten([str(raw).encode()])
                if batch.jobs:
                    self.counts += load(self.db, self.source_id, batch, rules)
                    self._learn(batch)
                    self.db.execute(_DROP_REJECTS, (self.source_id, [key]))

    def purged(self, jobs: int) -> None:
        """The purge went over so many jobs."""
        self.counts += Counts(purged=jobs)

    def asked_about_purge(self, as_of: datetime) -> None:
        """The source was asked about jobs past their purge date."""
        self.db.execute(_ASKED, (as_of, self.source_id))

    def finish(self, outcome: str, error: str | None = None) -> None:
        """The run's last word in the ledger."""
        self._write(outcome, error, self._clock.now())

    def result(self) -> Run:
        """The run as a value."""
        return Run(
            run_id=self.run_id,
            source=self.source.name,
            kind=self.kind,
            verdict=self.verdict,
            pages=self.pages,
            requests=self._requests(),
            seconds=self._clock.monotonic() - self._began,
            counts=self.counts,
            watermark=self.state.watermark,
            complete_through=self.state.complete_through,
            notes=tuple(self.notes),
        )

    def _learn(self, batch: Batch) -> None:
        """Client ids and unknown properties not met before are remembered; the properties are reported once."""
        clients = {job.row.client_id.lower() for job in batch.jobs if job.row.client_id} - set(self.state.client_ids)
        unknown = batch.unknown - set(self.state.unknown_properties)
        if unknown:
            self.notes.append(
                f"the source shows properties not known here, kept in `extra`: {', '.join(sorted(unknown))}"
            )
        if clients or unknown:
            self.db.execute(_LEARN, (sorted(clients), sorted(unknown), self.source_id))
            self.state = self.state._replace(
                client_ids=[*self.state.client_ids, *clients],
                unknown_properties=[*self.state.unknown_properties, *unknown],
            )

    def _keep(self, reject: Reject, now: datetime) -> None:
        columns = (reject.job_id, self.run_id, reject.reason, reject.raw, reject.purge_date_time, now)
        self.db.execute(_SAVE_REJECT, (self.source_id, *columns))

    def _save(self, scan: Scan) -> None:
        span = scan.window
        cursors = Jsonb([astuple(cursor) for cursor in scan.cursors])
        head = (self.source_id, self.run_id, scan.kind, scan.key, span.lower, span.upper, span.as_of)
        self.db.execute(_SAVE_SCAN, (*head, scan.rewrite, scan.opaque, scan.delivered, cursors))

    def _write(self, outcome: str, error: str | None = None, finished_at: datetime | None = None) -> None:
        span = self.window
        given = {
            "kind": self.kind,
            "window_from": span and span.lower,
            "window_to": span and span.upper,
            "as_of": span and span.as_of,
            "watermark": self.state.watermark,
            "pages": self.pages,
            "requests": self._requests(),
            "verdict": self.verdict,
            "outcome": outcome,
            "finished_at": finished_at,
            "error": error,
            "run_id": self.run_id,
        }
        counters = {name: getattr(self.counts, name) for name in _COUNTERS}
        self.db.execute(_RESULT, {**given, **counters})


@contextmanager
def record(db: Connection, source: Source, kind: str, clock: Clock, requests: Tally) -> Iterator[Recorder]:
    """A run under the source's lock, in the ledger from its first moment; a failure is recorded, then raised.

    Raises Locked at once where another run holds the source, ConfigError where the settings contradict the mirror.
    """
    state = _register(db, source)
    with _locked(db, source, state.source_id):
        state = _settle(db, source, clock)
        row = db.execute(
            _BEGIN, (state.source_id, kind, socket.gethostname(), os.getpid(), clock.now(), state.watermark)
        ).fetchone()
        assert row is not None
        run = Recorder(db, source, state, int(str(row[0])), kind, clock, requests)
        try:
            yield run
        except BaseException as error:
            with suppress(psycopg.Error):  # where the connection itself is gone, the next run says "interrupted"
                run.finish("failed", _said(error))
            raise
        run.finish("succeeded")


def find(db: Connection, name: str) -> State | None:
    """What is known of a source, None where it never ran."""
    row = db.execute(_FIND, (name,)).fetchone()
    return None if row is None else State._make(row)


def _register(db: Connection, source: Source) -> State:
    # Looked for first: an INSERT that meets a conflict would use up a number of the smallint key each time.
    state = find(db, source.name)
    if state is None:
        db.execute(_REGISTER, (source.name, source.base_url, FLATTEN_VERSION, source.purge, source.time_zone))
        state = find(db, source.name)
        assert state is not None
    return state


def _settle(db: Connection, source: Source, clock: Clock) -> State:
    """Under the lock: dead runs are marked, a moved address is taken over, a changed time zone is judged."""
    state = _register(db, source)
    db.execute(_BURY_DEAD_RUNS, (clock.now(), state.source_id))
    if (state.base_url, state.time_zone) == (source.base_url, source.time_zone):
        return state
    row = db.execute(_HAS_TOTALS, (state.source_id,)).fetchone()
    if state.time_zone != source.time_zone and row and row[0]:
        raise ConfigError(
            f"AIMS360_TIME_ZONE: is {source.time_zone}, but days were already counted in {state.time_zone} for jobs "
            f"that are purged since; set AIMS360_TIME_ZONE={state.time_zone}"
        )
    db.execute(_MOVE, (source.base_url, source.time_zone, state.source_id))
    return state._replace(base_url=source.base_url, time_zone=source.time_zone)


@contextmanager
def _locked(db: Connection, source: Source, source_id: int) -> Iterator[None]:
    row = db.execute(_LOCK, (_LOCK_CLASS, source_id)).fetchone()
    if not (row and row[0]):
        holder = db.execute(_HOLDER, (source_id,)).fetchone()
        who = (
            f"run {holder[0]} on {holder[1]}, process {holder[2]}, since {holder[3]:%Y-%m-%d %H:%M:%S} UTC"
            if holder
            else "?"
        )
        raise Locked(f"source {source.name!r} is held by another run ({who}); nothing was done")
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # a lost connection has lost its lock
            db.execute(_UNLOCK, (_LOCK_CLASS, source_id))


def _said(error: BaseException) -> str:
    """What the ledger keeps of a failure: our own words, or Postgres' first line, never a row."""
    if isinstance(error, EtlError):
        return str(error)
    if isinstance(error, psycopg.Error):
        return f"Postgres: {error.diag.message_primary or type(error).__name__}"
    return "stopped by hand" if isinstance(error, KeyboardInterrupt) else type(error).__name__


def _moment(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None


def _known(value: object) -> datetime:
    assert isinstance(value, datetime)
    return value
