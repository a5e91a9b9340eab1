"""Asks for jobs by their keys, in lists as long as the service answers (docs/correctness.md, "Pages that don't come").

A list has one condition alone: what an answer leaves out is asked for in another list. What the service refuses is
halved, down to one job a request, by a filter or by its plain path; each good answer lets the next list be one longer,
up to what was refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence, Set
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from etl.client import odata
from etl.errors import AskForLess, BrokenPromise, Refused, Unreachable

if TYPE_CHECKING:
    from etl.client.client import Api

MOST_KEYS = 15  # 6n - 1 nodes of the 100 that the framework allows
_MOST_UNANSWERED = 3  # jobs that the service can't answer about, of those that are asked for together
_NEVER = datetime.min.replace(tzinfo=UTC)
_MOST_BYTES = 1_500  # of the query; the framework allows 2,048


class _Came(NamedTuple):
    """The rows of one answer, with so many characters replaced, and when it was given."""

    rows: Sequence[bytes]
    replaced_characters: int
    answered_at: datetime

    @property
    def keys(self) -> set[str]:
        return {str(odata.stamp(row).jobID) for row in self.rows}


class _Refusal(Exception):
    """The service doesn't answer a list of this length, or about this job: `is_spoilt`, for what it holds perhaps."""

    def __init__(self, words: str, *, is_spoilt: bool = False) -> None:
        super().__init__(words)
        self.is_spoilt = is_spoilt


def find_shown(api: Api, job_ids: Sequence[str], witness: str) -> set[str] | None:
    """Return which of these jobs the source still shows; None where it can't be asked, or its answer not be trusted.

    `witness` is a job that the source has just shown: an answer without it says nothing about the others.
    """
    if not api.can_ask_for_jobs:
        return None
    shown: set[str] = set()
    left = [job_id for job_id in job_ids if job_id != witness]
    while left:
        some = _take(api, left, _most_keys(api) - 1, witness)
        try:
            answered = (
                _ask_list(api, {*some, witness}, witness) if some else _ask_singly(api, left[:MOST_KEYS], witness)
            )
        except _Refusal as refusal:
            if not some:
                return None
            _halve(api, len(some) + 1, str(refusal))
            continue
        if answered is None:
            return None
        _grow(api)
        shown |= answered
        left = left[len(some) or MOST_KEYS :]
    return shown & set(job_ids) | {witness} & set(job_ids)


class Found(NamedTuple):
    """What asking for some jobs brought.

    `rows`: of those that the source shows, with so many characters replaced, and when the last of them came, by its
    clock. `unanswered`: jobs that it gives no answer about, `unasked`: those among them that it was not asked about.
    """

    rows: Sequence[bytes] = ()
    replaced_characters: int = 0
    answered_at: datetime = _NEVER
    unanswered: Set[str] = frozenset()
    unasked: Set[str] = frozenset()


def find_rows(api: Api, job_ids: Sequence[str]) -> Sequence[bytes] | None:
    """Return the rows of those of these jobs that the source shows; None where it can't be asked."""
    found = find_each(api, job_ids)
    return None if found.unanswered else found.rows


def find_each(api: Api, job_ids: Sequence[str], most_answers: float = math.inf) -> Found:
    """Ask for jobs, the first ones first, with at most so many requests that are answered.

    Some that aren't answered even by themselves may be at fault alone; with more, the source can't be asked.
    """
    rows: list[bytes] = []
    answers = replaced = 0
    answered_at = _NEVER
    unanswered: set[str] = set()
    left = list(job_ids)
    if not api.can_ask_for_jobs:
        return Found(unanswered=set(left), unasked=set(left))
    while left and answers < most_answers:
        some = _take(api, left, max(1, _most_keys(api)))
        try:
            answer = _ask(api, some) if len(some) > 1 else _ask_for_one(api, some[0])
        except _Refusal as refusal:
            if len(some) > 1:
                _halve(api, len(some), str(refusal))
                continue
            if len(unanswered) == _MOST_UNANSWERED:
                break
            unanswered.add(left.pop(0))
            continue
        answered_at = max(answered_at, answer.answered_at)
        came = [(str(odata.stamp(row).jobID), row) for row in answer.rows]
        keys = {key for key, _ in came}
        if not keys <= set(some):
            return Found(unanswered=set(job_ids))  # the filter is ignored
        rows += [row for _, row in came]
        answers, replaced = answers + 1, replaced + answer.replaced_characters
        # Of a page that was cut short the rest is asked for again; where nothing came, there is nothing.
        left = [key for key in left if key not in keys] if keys and len(keys) < len(some) else left[len(some) :]
        _grow(api)
    return Found(rows, replaced, answered_at, {*unanswered, *left}, set(left))


def _most_keys(api: Api) -> int:
    if not api.capabilities.supports("or") or not api.can_filter_jobs:
        return 1
    known = api.capabilities.find("largest_list")
    if api.keys_a_list is math.inf and known.limit is not None:
        api.keys_a_list = known.limit
    return int(min(api.keys_a_list, MOST_KEYS))


def _halve(api: Api, sent: int, words: str) -> None:
    api.keys_a_list, api.keys_refused = max(1, sent // 2), min(sent, api.keys_refused)
    api.capabilities.refuse("largest_list", words, limit=max(1, sent // 2))


def _grow(api: Api) -> None:
    """Let the next list be one key longer, but not as long as one that was refused in this run."""
    answered = _most_keys(api)
    api.keys_a_list = max(1, min(answered + 1, api.keys_refused - 1))
    known = api.capabilities.find("largest_list")
    if known.limit is not None and answered > known.limit:
        api.capabilities.refuse("largest_list", known.words, limit=answered)
    elif known.limit is None and answered == MOST_KEYS:
        api.capabilities.confirm("largest_list", "answered")


def _take(api: Api, keys: Sequence[str], most: int, *others: str) -> list[str]:
    """Return the first of some keys, as many as a list may hold beside the others."""
    taken = list(keys[:most])
    most = min(_MOST_BYTES, api.capabilities.find("largest_query").limit or _MOST_BYTES)
    while len(taken) > 1 and len(_query([*taken, *others])) > most:
        taken.pop()
    return taken


def _query(keys: Iterable[str]) -> str:
    return odata.query([odata.any_of("jobID", sorted(keys))])


def _ask(api: Api, keys: Iterable[str]) -> _Came:
    """Return what one list brings. Raises _Refusal."""
    query = _query(keys)
    try:
        answer, answered_at = api.page(query, can_shrink=True, can_do_without=True)
        return _Came(answer.rows, answer.replaced_characters, answered_at)
    except AskForLess as error:
        if error.is_too_long:
            api.capabilities.refuse("largest_query", str(error), limit=len(query) - 1)
        raise _Refusal(str(error), is_spoilt=not error.is_too_large) from None
    except Refused as error:
        if not error.is_query and error.status not in (400, 404, 501):
            raise
        raise _Refusal(error.said) from None


def _ask_for_one(api: Api, job_id: str) -> _Came:
    """Return the row of one job, if the source shows it: by a filter, else by the plain path. Raises _Refusal."""
    if api.can_filter_jobs:
        try:
            return _ask(api, [job_id])
        except _Refusal as refusal:
            if refusal.is_spoilt:
                raise
    try:
        shown = api.job(job_id)
    except (AskForLess, BrokenPromise) as error:
        raise _Refusal(str(error)) from None
    except Unreachable as error:
        if not error.was_answered:
            raise
        raise _Refusal(str(error), is_spoilt=True) from None
    except Refused as error:
        if error.status in (401, 403):
            raise
        raise _Refusal(str(error)) from None
    if shown is None:
        return _Came((), 0, _NEVER)
    return _Came((shown.row,), shown.replaced_characters, shown.answered_at)


def _ask_list(api: Api, asked: Set[str], witness: str) -> set[str] | None:
    """Return those of the jobs that are shown; None where others come, or where the witness doesn't.

    A page may be cut short: what is left is asked for again, until nothing comes beside the witness.
    """
    answered: set[str] = set()
    while left := (asked - answered) - {witness}:
        came = _ask(api, left | {witness}).keys
        if not came <= left | {witness} or witness not in came:
            # A page of one row shows whichever comes first.
            is_cut = len(came) == 1 and came <= left
            if not is_cut:
                return None
        answered |= came
        if came == {witness}:
            return answered if not _ask(api, left).rows else None
    return answered


def _ask_singly(api: Api, keys: Sequence[str], witness: str) -> set[str] | None:
    """Return the same by one job a request, by a filter or its plain path; the witness is asked for before and after.

    A job that the service can't answer about counts as shown, a few of them at most. One that isn't shown is asked for
    twice: one empty answer, or one 404, is no proof.
    """
    answered: set[str] = set()
    unanswered = 0
    for key in (witness, *keys, witness):
        try:
            came = _ask_for_one(api, key).keys
        except _Refusal:
            unanswered += 1
            if key == witness or unanswered > _MOST_UNANSWERED:
                raise
            answered.add(key)
            continue
        if key != witness and not came:
            came = _ask_for_one(api, key).keys
        if not came <= {key} or (key == witness and not came):
            return None
        answered |= came
    return answered
