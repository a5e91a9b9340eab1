"""Asks the source again for rows that could not be read: they may have been spoilt on their way.

When a row is due is `rejects`; a run makes a few requests for that at most. A reject leaves when it loads, or when the
source no longer shows it, asked twice (correctness.md, "The upsert", Rejects).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from etl.client import odata
from etl.errors import AskForLess, BadAnswer, Refused, Unreachable
from etl.extract import key_lists
from etl.extract.keyset_scan import Probe
from etl.load.upsert import load
from etl.models import Cursor, Page, Scan, ScanKind, Window
from etl.pipeline.run_context import Recorder
from etl.state import rejects
from etl.state.rejects import Due
from etl.transform.flatten import flatten

if TYPE_CHECKING:
    from etl.client.client import Api

_REQUESTS = 3  # a run
_KEYS = key_lists.MOST_KEYS - 1  # beside the witness


def ask_again(run: Recorder, api: Api, found: Probe) -> None:
    """Ask for the rejects and marked jobs that are due, and load what can be read by now."""
    witness = found.newest.key("jobID") if found.newest else None
    if not (run.waiting.rejects or run.waiting.unread) or not isinstance(witness, str) or run.is_over():
        return
    due = rejects.find_due(run.db, run.source_id, found.as_of, _KEYS + _REQUESTS)
    named = [one for one in due if one.key_name is None][:_KEYS]
    before = api.usage.requests
    if named:
        _ask_for_jobs(run, api, found, named, witness)
    for one in [one for one in due if one.key_name is not None]:
        if run.is_over() or api.usage.requests - before >= _REQUESTS:
            return
        _ask_for_range(run, api, found, one)


def _ask_for_jobs(run: Recorder, api: Api, found: Probe, due: Sequence[Due], witness: str) -> None:
    """Ask for jobs by their keys, with the witness: without it an answer says nothing about what is missing."""
    job_ids = [one.job_id for one in due]
    rows = key_lists.find_rows(api, [*job_ids, witness])
    if rows is None:
        return  # the next full pass is the answer
    came = {str(odata.stamp(row).jobID): row for row in rows}
    is_trusted = witness in came or witness in job_ids
    shown = [row for job_id, row in came.items() if job_id in job_ids]
    gone = [one.job_id for one in due if one.is_reject and one.job_id not in came] if is_trusted else []
    _take_in(run, found, shown, due, gone)


def _ask_for_range(run: Recorder, api: Api, found: Probe, due: Due) -> None:
    """Ask for what lies between two keys. As long as the service can't serve it, it waits."""
    assert due.key_name is not None
    bounds = (("gt", due.key_after), ("lt", due.key_before))
    conditions = [f"{due.key_name} {word} {_literal(due.key_name, key)}" for word, key in bounds if key is not None]
    try:
        rows = api.page(odata.query(conditions, due.key_name), attempts=1).answer.rows
    except (AskForLess, BadAnswer, Refused, Unreachable):
        _take_in(run, found, (), [due], ())
        return
    _take_in(run, found, rows, [due], () if rows else [due.job_id])


def _literal(name: str, key: str) -> str:
    return odata.literal(int(key) if name == "ID" else key)


def _take_in(run: Recorder, found: Probe, rows: Sequence[bytes], due: Sequence[Due], gone: Sequence[str]) -> None:
    """Load what came, in one transaction with what is noted of the asking."""
    batch = flatten(rows)
    page = Page(tuple(rows), Cursor(0, None, None, done=True), found.as_of)
    # Of these rows alone: a scan that begins nowhere and moves nothing, so that they are judged as in an increment.
    scan = Scan(ScanKind.INCREMENTAL, Window(None, None, found.as_of), "jobID", (Cursor(0, None, None),))
    with run.transaction():
        rejects.note_asked(run.db, run.source_id, due, found.as_of)
        if rows:
            run.learn(scan, page, batch)
            run.loaded(page, batch, load(run.db, run.source_id, batch, run.rules(scan, page)), pages=0)
        if rows:  # a range was named by its keys; what lay there has its own name now
            rejects.drop(run.db, run.source_id, [one.job_id for one in due if one.key_name is not None])
        run.note_forgotten(rejects.note_missing(run.db, run.source_id, gone), "the source doesn't show them any more")
        run.asked_again()
