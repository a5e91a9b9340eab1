"""The purge as a step of a run: what the mirror knows to be due goes, and of the rest the source is asked.

What is due, and how it goes, is `purge`; why not sooner, docs/correctness.md, "The purge".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

from etl.client import odata
from etl.config.settings import Source
from etl.extract import key_lists
from etl.extract.probe import Probe
from etl.load import purge
from etl.models import Clock, Progress, Watch
from etl.pipeline.run_context import Recorder
from etl.postgres.connection import Connection
from etl.state import source_state

if TYPE_CHECKING:
    from etl.client.client import Api

ASK_EVERY = timedelta(hours=1)  # about jobs past their date
_ASKED_AT_A_TIME = 2 * (key_lists.MOST_KEYS - 1)  # jobs: requests that even a slow source answers in the time of a run


class Asking(Enum):
    """When the source is asked about jobs whose purge date passed while it was quiet."""

    NOT = auto()
    HOURLY = auto()
    NOW = auto()


def follow_purge(run: Recorder, api: Api, found: Probe, watch: Watch, asking: Asking) -> None:
    """Purges what the mirror knows to be due, then asks about jobs whose date passed while the source was quiet.

    A source that shows nothing causes no deletion: an empty answer may be a broken one.
    """
    watermark = run.state.watermark
    if found.row is None or watermark is None:
        if asking is Asking.NOW:
            run.asked_about_purge(found.as_of)  # nothing to ask about, nor in the next moment
        return
    if run.is_watermark_wrong(found.as_of):
        run.notes.append("nothing is purged, since the watermark lies in the future: the next sync sets it right")
        return
    horizon = odata.plus(min(watermark, found.as_of), -run.source.look_back)
    run.follow_purge_mode(found.as_of)
    after = purge.FIRST  # not from the beginning each time: what is gone still stands in the index
    while not run.is_over() and (jobs := purge.due(run.db, run.source_id, horizon, after)):
        _purge(run, found, [job.job_id for job in jobs], watch)
        after = jobs[-1]
    asked_at = run.state.purge_asked_at
    # A moment in the future is of a clock that was wrong.
    is_due = asked_at is None or not timedelta() <= run.by_our_clock(found.as_of) - asked_at < ASK_EVERY
    if not run.is_over() and (asking is Asking.NOW or (asking is Asking.HOURLY and is_due)):
        _ask_about_purge(run, api, found, purge.Due(horizon, ""), watch)


def _purge(run: Recorder, found: Probe, job_ids: Sequence[str], watch: Watch) -> None:
    """One batch of jobs goes, in the way AIMS360_PURGE says."""
    with run.transaction():
        purge.remove(run.db, run.source_id, run.source.purge, job_ids, found.as_of)
        run.purged(len(job_ids))
    watch(Progress(run.run_id, "jobs purged", run.counts.purged))


def _ask_about_purge(run: Recorder, api: Api, found: Probe, after: purge.Due, watch: Watch) -> None:
    """Jobs past their date, but not past the horizon: those that the source no longer shows are purged."""
    until = odata.plus(found.as_of, -run.source.look_back)
    witness = found.row.jobID if found.row else None
    while jobs := purge.due(run.db, run.source_id, until, after, _ASKED_AT_A_TIME):
        job_ids = [job.job_id for job in jobs]
        still_there = key_lists.find_shown(api, job_ids, witness) if isinstance(witness, str) else None
        if still_there is None:
            run.notes.append(
                f"{len(jobs)} jobs are past their purge date, but the source's answer about them can't be trusted"
            )
            break
        _purge(run, found, [job_id for job_id in job_ids if job_id not in still_there], watch)
        if run.is_over() and run.counts.purged:
            return  # the next run goes on; where all are there still it would ask for the same again: in an hour
        if run.is_over():
            break
        after = jobs[-1]
    run.asked_about_purge(found.as_of)


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a purge would go over: jobs that are due, and jobs that the source would be asked about."""

    due: int
    to_ask: int


def what_is_due(source: Source, db: Connection, clock: Clock) -> DryRun:
    """What a purge would go over now, without doing it."""
    state = source_state.find(db, source.name)
    if state is None or state.watermark is None:
        return DryRun(0, 0)
    kept_too = purge.is_stricter(source.purge, state.purge_mode)
    now = clock.now()
    due = purge.count_due(db, state.source_id, odata.plus(min(state.watermark, now), -source.look_back), kept_too)
    past = purge.count_due(db, state.source_id, odata.plus(now, -source.look_back), kept_too)
    return DryRun(due, max(0, past - due))
