"""Asks the source again for rows that could not be read: they may have been spoilt on their way.

When a row is due is `ask_schedule`; a run makes a few requests for that at most. A reject leaves when it loads, or when
the source no longer shows it, asked twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise, starmap
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from etl.client import odata
from etl.errors import AskForLess, BadAnswer, Refused, Unreachable
from etl.extract import key_lists
from etl.extract.probe import Probe
from etl.load import unread_values
from etl.load.upsert import load
from etl.models import Cursor, Key, Page, Scan, ScanKind, Window
from etl.pipeline.run_context import Recorder
from etl.state import ask_schedule, rejects
from etl.state.ask_schedule import Due
from etl.transform.flatten import flatten

if TYPE_CHECKING:
    from etl.client.client import Api

_REQUESTS = 3  # a run
_ROWS = 5  # of a range are asked for at a time, where a whole page of it doesn't come
_KEYS = key_lists.MOST_KEYS - 1  # beside the witness


class _Came(NamedTuple):
    """The rows that came, when, and with so many characters replaced."""

    rows: Sequence[bytes]
    answered_at: datetime
    replaced_characters: int


def ask_again(run: Recorder, api: Api, probe: Probe) -> None:
    """Ask for the rejects and marked jobs that are due, and load what can be read by now."""
    witness = probe.row.key("jobID") if probe.row else None
    if not (run.waiting.rejects or run.waiting.unread) or not isinstance(witness, str) or run.is_over():
        return
    due = ask_schedule.find_due(run.db, run.source_id, probe.as_of, _KEYS + _REQUESTS)
    named = [one for one in due if one.key_name is None][:_KEYS]
    before = api.usage.requests
    if named:
        _ask_for_jobs(run, api, probe, named, witness)
    for place, one in enumerate(one for one in due if one.key_name is not None):
        left = max(_REQUESTS - (api.usage.requests - before), place == 0)
        if run.is_over() or not left:
            return
        _ask_for_range(run, api, probe, one, left)


def _ask_for_jobs(run: Recorder, api: Api, probe: Probe, due: Sequence[Due], witness: str) -> None:
    """Ask for jobs by their keys, with the witness: without it an answer says nothing about what is missing."""
    found = key_lists.find_each(api, [witness, *(one.job_id for one in due)], _REQUESTS)
    asked = [one for one in due if one.job_id not in found.unasked]
    came = {str(odata.stamp(row).jobID): row for row in found.rows}
    shown = [came[one.job_id] for one in asked if one.job_id in came]
    missing = [one.job_id for one in asked if one.is_reject and one.job_id not in {*came, *found.unanswered}]
    # Without the witness an answer says nothing: the next full pass is the answer then.
    gone = missing if witness in came else []
    _take_in(run, probe, _Came(shown, found.answered_at, found.replaced_characters), asked, gone)


def _ask_for_range(run: Recorder, api: Api, probe: Probe, due: Due, requests: int) -> None:
    """Ask for what lies between two keys. As long as the service can't serve it, it waits."""
    assert due.key_name is not None
    rows: list[bytes] = []
    replaced, answered_at = 0, probe.as_of
    after, is_read = due.key_after, False
    size: int | None = None  # of a page, in rows: as many as the service sends
    for _ in range(requests):
        bounds = (("gt", after), ("lt", due.key_before))
        conditions = [f"{due.key_name} {word} {_literal(due.key_name, key)}" for word, key in bounds if key is not None]
        if due.only_key is not None and not run.capabilities.supports("and"):
            conditions = [f"{due.key_name} eq {odata.literal(due.only_key)}"]
        try:
            answer, answered_at = api.page(odata.query(conditions, due.key_name), page_size=size, attempts=1)
        except (AskForLess, BadAnswer, Refused, Unreachable):
            if size is not None or due.only_key is not None:
                break
            size = _ROWS
            continue
        rows += answer.rows
        replaced += answer.replaced_characters
        keys = [key for row in answer.rows if (key := odata.stamp(row).key(due.key_name)) is not None]
        is_read = not answer.rows or (len(keys) == 1 and keys[0] == due.only_key)
        if is_read or not keys or not all(starmap(_is_before, pairwise(keys))):
            break
        after = str(keys[-1])
    gone = [due.job_id] if is_read and not rows else ()
    _take_in(run, probe, _Came(rows, answered_at, replaced), [due], gone, is_read=is_read)
    if after != due.key_after and not is_read:  # what is lacking lies beyond, if anywhere
        rejects.narrow(run.db, run.source_id, due.job_id, str(after))


def _is_before(one: Key, other: Key) -> bool:
    """Whether keys ascend, as far as they can be compared here."""
    return odata.comparable(one) and odata.comparable(other) and odata.is_less(one, other)


def _literal(name: str, key: str) -> str:
    return odata.literal(int(key) if name == "ID" else key)


def _take_in(
    run: Recorder, probe: Probe, came: _Came, due: Sequence[Due], gone: Sequence[str], *, is_read: bool = True
) -> None:
    """Load what came, in one transaction with what is noted of the asking."""
    rows = came.rows
    batch = flatten(rows, came.replaced_characters)
    page = Page(tuple(rows), Cursor(0, None, None, done=True), came.answered_at)
    # Of these rows alone: a scan that begins nowhere and moves nothing, so that they are judged as in an increment.
    scan = Scan(ScanKind.INCREMENTAL, Window(None, None, probe.as_of), "jobID", (Cursor(0, None, None),))
    with run.transaction():
        ask_schedule.note_asked(run.db, run.source_id, due, probe.as_of)
        if rows:
            run.learn(scan, page, batch)
            counts = load(run.db, run.source_id, batch, run.rules(scan, page))
            # What is still unreadable was counted when it came.
            run.loaded(page, batch, replace(counts, rejected=0), pages=0)
            unread_values.settle(run.db, run.source_id, batch.jobs, probe.as_of)
        if rows and is_read:  # a range was named by its keys; what lay there has its own name now
            kept = {reject.job_id for reject in batch.rejects}
            names = [one.job_id for one in due if one.key_name is not None and one.job_id not in kept]
            rejects.drop(run.db, run.source_id, names)
        run.note_forgotten(rejects.note_missing(run.db, run.source_id, gone), "the source doesn't show them any more")
        run.asked_again()
