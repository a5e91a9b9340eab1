"""The ledger: one writer per source, one row a run, the open scan's cursor, the watermark, the rejects.

The lock is a session advisory lock on the very connection that writes: losing one loses the other. Rows and the cursor
that covers them are saved in one transaction, so that a kill at any instruction costs what was in flight and no more.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING

import psycopg

from etl import payload, purge, rejects, scans, sources
from etl.database import Connection
from etl.errors import EtlError, Locked
from etl.load import Rules, load
from etl.model import FLATTEN_VERSION, Batch, Clock, Counts, Page, Run, Scan, ScanKind, Verdict, Window
from etl.scan import Probe
from etl.settings import Source
from etl.sources import State

if TYPE_CHECKING:
    from etl.api import Api

_LOCK_CLASS = 360_361  # sql/functions/is_held.sql looks for it
PURGE = "purge"  # the kind of a run that only purges
OLDER_RELEASE = (
    "rows were last written by a release that read less of them; `aims360-etl sync --full --rewrite` writes them anew"
)
_SAVE_EVERY_PAGE_AFTER = 20  # a short quiet scan is cheaper read again than saved

_LOCK = "SELECT pg_try_advisory_lock(%(class)s, %(source_id)s)"
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


class Recorder:
    """A run in the making: what it has done so far, what is known of its source, and its row in the ledger."""

    def __init__(self, db: Connection, source: Source, state: State, run_id: int, kind: str, clock: Clock) -> None:
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
        self.verdict = None if kind == PURGE else Verdict.INCOMPLETE
        self._clock = clock
        self._began = clock.monotonic()
        self._requests: Callable[[], int] = lambda: 0

    @contextmanager
    def using(self, service: AbstractContextManager[Api]) -> Iterator[Api]:
        """The client of the run, whose requests from here on are the run's."""
        with service as api:
            before = api.requests
            self._requests = lambda: api.requests - before
            yield api

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction of the run: what is noted in one that fails is forgotten with it."""
        before = (self.counts, self.pages, self.state, self.verdict, self.notes[:])
        try:
            with self.db.transaction():
                yield
        except BaseException:
            self.counts, self.pages, self.state, self.verdict, self.notes = before
            raise

    def recognise(self, found: Probe, same_source: bool) -> Probe:
        """Stops before the mirror is touched where the source shows another account's jobs. Raises ConfigError."""
        if found.newest is not None and not same_source:
            sources.judge_client(self.state, self.source, found.newest.clientID)
        self.state = sources.follow_settings(self.db, self.state, self.source)
        return found

    def begin(self, scan: Scan) -> None:
        """A scan is begun or gone on with. The run has the kind of its first, and the window of its last."""
        self.kind = self.kind if self.window else scan.kind
        self.window = scan.window
        self.verdict = Verdict.INCOMPLETE

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
        self.counts += counts + Counts(duplicates=page.repeated)
        self._learn(batch)
        rejects.drop(self.db, self.source_id, [job.row.job_id for job in batch.jobs])
        rejects.keep(self.db, self.source_id, self.run_id, batch.rejects, page.answered_at)
        wrote = counts.written or batch.rejects
        if wrote or scan.kind is ScanKind.FULL or self.pages > _SAVE_EVERY_PAGE_AFTER:
            scans.save(self.db, self.source_id, self.run_id, scan)
            self._write("running")

    def complete(self, scan: Scan) -> None:
        """The scan came to its end: watermark, complete_through and result move in the transaction that closes it."""
        if scan.kind is ScanKind.FULL and self.counts.refused:
            self.notes.append(
                f"{self.counts.refused} rows changed here within the look-back are newer than the source's; "
                "if the source was restored, run `aims360-etl sync --full` again after a look-back"
            )
        with self.transaction():
            self.verdict = Verdict.COMPLETE_WITH_REJECTS if self.counts.rejected else Verdict.COMPLETE
            self.state = sources.advance(self.db, self.state, scan)
            scans.close(self.db, self.source_id)
            self._write("running")
        if self.state.flatten_version < FLATTEN_VERSION and OLDER_RELEASE not in self.notes:
            self.notes.append(OLDER_RELEASE)

    def retry_rejects(self, as_of: datetime) -> None:
        """Loads the rejects that can be read by now."""
        rules = Rules(self.source.look_back, as_of, self.state.complete_through)
        with self.transaction():
            rejects.expire(self.db, self.source_id, as_of)
            for key, batch in rejects.readable(self.db, self.source_id):
                self.counts += load(self.db, self.source_id, batch, rules)
                self._learn(batch)
                rejects.drop(self.db, self.source_id, [key])
                self._write("running")

    def follow_purge_mode(self) -> None:
        """Where AIMS360_PURGE has become stricter, what was kept until now is due again."""
        mode, before = self.source.purge, self.state.purge_mode
        if mode == before:
            return
        with self.transaction():
            if purge.is_stricter(mode, before):
                purge.reconsider(self.db, self.source_id)
            self.state = sources.remember_purge_mode(self.db, self.state, mode)

    def purged(self, jobs: int) -> None:
        """In the transaction that purged them: so many jobs went."""
        self.counts += Counts(purged=jobs)
        self._write("running")

    def asked_about_purge(self, as_of: datetime) -> None:
        """The source was asked about jobs past their purge date."""
        self.state = sources.asked_about_purge(self.db, self.state, as_of)

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
            seconds=round(self._clock.monotonic() - self._began, 3),
            counts=self.counts,
            watermark=self.state.watermark,
            complete_through=self.state.complete_through,
            notes=tuple(self.notes),
        )

    def _learn(self, batch: Batch) -> None:
        """Client ids and unknown properties not met before are remembered; the properties are reported once."""
        clients = {job.row.client_id.lower() for job in batch.jobs if job.row.client_id}
        unknown = batch.unknown.difference(self.state.unknown_properties)
        if unknown:
            said = ", ".join(sorted(unknown))
            self.notes.append(f"the source shows properties not known here, kept in `extra`: {said}")
        self.state = sources.learn(self.db, self.state, clients, unknown)

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
def record(db: Connection, source: Source, kind: str, clock: Clock) -> Iterator[Recorder]:
    """A run under the source's lock, in the ledger from its first moment; a failure is recorded, then raised.

    Raises Locked at once where another run holds the source, ConfigError where the settings contradict the mirror.
    """
    with _locked(db, source, sources.register(db, source).source_id):
        state = sources.register(db, source)  # read again: another run may have ended between the two
        sources.judge_time_zone(db, state, source)
        db.execute(_BURY_DEAD_RUNS, (state.source_id,))
        begun = (state.source_id, kind, socket.gethostname(), os.getpid(), clock.now(), state.watermark)
        row = db.execute(_BEGIN, begun).fetchone()
        assert row is not None
        run = Recorder(db, source, state, int(str(row[0])), kind, clock)
        try:
            yield run
        except BaseException as error:
            with suppress(psycopg.Error):  # where the connection itself is gone, the next run says "interrupted"
                run.finish("failed", _said(error))
            raise
        run.finish("succeeded")


@contextmanager
def _locked(db: Connection, source: Source, source_id: int) -> Iterator[None]:
    key = {"class": _LOCK_CLASS, "source_id": source_id}
    row = db.execute(_LOCK, key).fetchone()
    if not (row and row[0]):
        raise Locked(f"source {source.name!r} is held by {_holder(db, key)}; nothing was done")
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # a lost connection has lost its lock
            db.execute(_UNLOCK, key)


def _holder(db: Connection, key: Mapping[str, int]) -> str:
    """Who holds the lock, from the session that has it: a killed run's row may still say that it is running."""
    row = db.execute(_HOLDER, key).fetchone()
    if row is None:
        return "another run, which has just ended"
    session, run_id, started_at = row
    return f"{session}" + (f" (run {run_id}, since {started_at:%Y-%m-%d %H:%M:%S} UTC)" if run_id else "")


def _said(error: BaseException) -> str:
    """What the ledger keeps of a failure: our own words, or Postgres' first line, never a row."""
    if isinstance(error, EtlError):
        return payload.storable(str(error))
    if isinstance(error, psycopg.Error):
        return f"Postgres: {error.diag.message_primary or type(error).__name__}"
    return "stopped by a signal" if isinstance(error, KeyboardInterrupt) else type(error).__name__
