"""Asks the source again for rows that could not be read: they may have been spoilt on their way.

When a row is due is `rejects`; a run makes a few requests for that at most. A reject leaves when it loads, or when the
source no longer shows it, asked twice (correctness.md, "The upsert", Rejects).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, starmap
from typing import TYPE_CHECKING

from msgspec.structs import replace

from etl.client import odata
from etl.errors import AskForLess, BadAnswer, Refused, Unreachable
from etl.extract import key_lists
from etl.extract.keyset_scan import Probe
from etl.load.upsert import load
from etl.models import Cursor, Key, Page, Scan, ScanKind, Window
from etl.pipeline.run_context import Recorder
from etl.state import rejects
from etl.state.rejects import Due
from etl.transform.flatten import flatten

if TYPE_CHECKING:
    from etl.client.client import Api

_REQUESTS = 3  # a run
_ROWS = 5  # of a range are asked for at a time, where a whole page of it doesn't come
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
        left = _REQUESTS - (api.usage.requests - before)
        if run.is_over() or left <= 0:
            return
        _ask_for_range(run, api, found, one, left)


def _ask_for_jobs(run: Recorder, api: Api, found: Probe, due: Sequence[Due], witness: str) -> None:
    """Ask for jobs by their keys, with the witness: without it an answer says nothing about what is missing."""
    job_ids = [one.job_id for one in due]
    rows, unanswered = key_lists.find_each(api, [*job_ids, witness])
    if witness in unanswered:
        unanswered = set(job_ids)  # the next full pass is the answer
    came = {str(odata.stamp(row).jobID): row for row in rows}
    is_trusted = witness in came
    shown = [row for job_id, row in came.items() if job_id in job_ids]
    gone = [one.job_id for one in due if one.is_reject and one.job_id not in {*came, *unanswered}] if is_trusted else []
    _take_in(run, found, shown, due, gone)


def _ask_for_range(run: Recorder, api: Api, found: Probe, due: Due, requests: int) -> None:
    """Ask for what lies between two keys. As long as the service can't serve it, it waits."""
    assert due.key_name is not None
    rows: list[bytes] = []
    after, is_read = due.key_after, False
    size: int | None = None  # of a page, in rows: as many as the service sends
    for _ in range(requests):
        bounds = (("gt", after), ("lt", due.key_before))
        conditions = [f"{due.key_name} {word} {_literal(due.key_name, key)}" for word, key in bounds if key is not None]
        try:
            came = api.page(odata.query(conditions, due.key_name), page_size=size, attempts=1).answer.rows
        except (AskForLess, BadAnswer, Refused, Unreachable):
            if size is not None or _only(due) is not None:
                break
            size = _ROWS
            continue
        rows += came
        keys = [key for row in came if (key := odata.stamp(row).key(due.key_name)) is not None]
        is_read = not came or (len(keys) == 1 and str(keys[0]) == _only(due))
        if is_read or not keys or not all(starmap(_is_before, pairwise(keys))):
            break
        after = str(keys[-1])
    _take_in(run, found, rows, [due], [due.job_id] if is_read and not rows else (), is_read=is_read)
    if after != due.key_after and not is_read:  # what is lacking lies beyond, if anywhere
        rejects.narrow(run.db, run.source_id, due.job_id, str(after))


def _is_before(one: Key, other: Key) -> bool:
    """Whether keys ascend, as far as they can be compared here."""
    return odata.comparable(one) and odata.comparable(other) and odata.is_less(one, other)


def _only(due: Due) -> str | None:
    """The only key that a range can hold, where it is that narrow."""
    if due.key_after is None or due.key_before is None:
        return None
    if due.key_name == "ID":
        return str(int(due.key_after) + 1) if int(due.key_before) - int(due.key_after) == 2 else None
    return due.key_before[:-1] if due.key_before.endswith("!") else None


def _literal(name: str, key: str) -> str:
    return odata.literal(int(key) if name == "ID" else key)


def _take_in(
    run: Recorder, found: Probe, rows: Sequence[bytes], due: Sequence[Due], gone: Sequence[str], *, is_read: bool = True
) -> None:
    """Load what came, in one transaction with what is noted of the asking."""
    batch = flatten(rows)
    page = Page(tuple(rows), Cursor(0, None, None, done=True), found.as_of)
    # Of these rows alone: a scan that begins nowhere and moves nothing, so that they are judged as in an increment.
    scan = Scan(ScanKind.INCREMENTAL, Window(None, None, found.as_of), "jobID", (Cursor(0, None, None),))
    with run.transaction():
        rejects.note_asked(run.db, run.source_id, due, found.as_of)
        if rows:
            run.learn(scan, page, batch)
            counts = load(run.db, run.source_id, batch, run.rules(scan, page))
            # What is still unreadable was counted when it came.
            run.loaded(page, batch, replace(counts, rejected=0), pages=0)
        if rows and is_read:  # a range was named by its keys; what lay there has its own name now
            kept = {reject.job_id for reject in batch.rejects}
            names = [one.job_id for one in due if one.key_name is not None and one.job_id not in kept]
            rejects.drop(run.db, run.source_id, names)
        run.note_forgotten(rejects.note_missing(run.db, run.source_id, gone), "the source doesn't show them any more")
        run.asked_again()
