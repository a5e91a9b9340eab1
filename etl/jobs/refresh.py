"""The mirror follows one job at once: its row as the source shows it now is loaded like any other, under the lock.

Watermark and complete_through stay where they are: the next sync meets the row again, and finds it the same.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from etl.client.odata import stamp
from etl.config.settings import Source
from etl.errors import Locked
from etl.extract.probe import Probe
from etl.load.upsert import load
from etl.models import Clock, Counts, Cursor, Page, Scan, ScanKind, Window
from etl.pipeline.run_context import JOB, Recorder, record
from etl.postgres.connection import Connection
from etl.state import source_state
from etl.transform.flatten import flatten

if TYPE_CHECKING:
    from etl.client.client import Api

_ATTEMPTS = 2  # somebody waits, and the next sync asks again


def follow(source: Source, api: Api, db: Connection, clock: Clock, job_id: str) -> str:
    """Loads the job as it is now, in a run of its own; says what became of it. Raises EtlError.

    Where a run holds the source nothing is done: that run, or the one after it, brings the job.
    """
    state = source_state.find(db, source.name)
    if state is None or state.complete_through is None:
        return "the mirror holds nothing yet: `aims360-etl sync` brings the job with all others"
    try:
        with record(db, source, JOB, clock) as run, run.using(nullcontext(api)):
            return _load(run, api, job_id)
    except Locked:
        return "another run is at work: that one, or the next, brings the job into the mirror"


def _load(run: Recorder, api: Api, job_id: str) -> str:
    shown = api.job(job_id, attempts=_ATTEMPTS)
    if shown is None:
        return "the source shows the job no more; the next sync follows"
    run.recognise(Probe(stamp(shown.row), shown.answered_at), same_source=False)
    batch = flatten([shown.row], shown.replaced_characters)
    page = Page((shown.row,), Cursor(0, None, None, done=True), shown.answered_at)
    # Of this one row: a scan that begins nowhere and moves nothing, so that the row is judged as in an increment.
    scan = Scan(ScanKind.INCREMENTAL, Window(None, None, shown.answered_at), "jobID", (Cursor(0, None, None),))
    with run.transaction():
        run.learn(scan, page, batch)
        counts = load(run.db, run.source_id, batch, run.rules(scan, page))
        run.loaded(page, batch, counts)
        run.found(Counts())  # which writes the run's row with it
    return _said(counts)


def _said(counts: Counts) -> str:
    if counts.rejected:
        return "the job can't be read as it is now; it waits, with the reason, in etl.rejects"
    if counts.refused:
        return "the mirror holds a newer version of the job than the source shows now"
    if counts.skipped:
        return "the job was purged from the mirror, and is on its way out at the source"
    return "the mirror holds the job as it is now"
