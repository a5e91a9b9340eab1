"""Find out how single jobs can be asked for, which deletions and purges need: in lists, one by one, by their path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from etl.client import odata
from etl.client.client import JOB_ID_SPELLINGS
from etl.extract.key_lists import MOST_KEYS
from etl.pipeline.doctor.checks import JOB_FILTER, Finding, Outcome
from etl.pipeline.doctor.interview import Interview, Question

if TYPE_CHECKING:
    from etl.client.attempts import Reply
    from etl.client.client import Shown

_LENGTHS = (MOST_KEYS, 7, 3, 2)  # of lists, in keys
_PATH, NO_JOB = "the path of a job", "the path of a job that there isn't"
_UNNAMED = "not asked: no row shows a jobID"


class Access(StrEnum):
    """How single jobs can be asked for."""

    LIST = "list"
    FILTER = "filter"
    PATH = "path"
    NONE = "nothing"


def ask_all(interview: Interview, job_id: object) -> Iterator[Finding]:
    """Ask for a job that a page has just shown, in each way until one works; and always by its path."""
    if not isinstance(job_id, str):
        for name in ("or", "largest_list", "largest_query", JOB_FILTER, "plain_path"):
            yield interview.add(Finding(name, Outcome.UNKNOWN, _UNNAMED))
        return
    yield from _ask_lists(interview, job_id)
    yield from _ask_path(interview, job_id)


def find_access(interview: Interview) -> Access:
    """Return the way in which deletions are asked for: the quickest that works."""
    if interview.supports("or"):
        return Access.LIST
    if interview.supports(JOB_FILTER):
        return Access.FILTER
    return Access.PATH if interview.supports("plain_path") else Access.NONE


def _ask_lists(interview: Interview, job_id: str) -> Iterator[Finding]:
    refused: list[Finding] = []  # of lists, without a reason
    finding, length = Finding("or", Outcome.UNKNOWN), 0
    for length in _LENGTHS:
        finding, _ = interview.ask(_list_question(job_id, length))
        if finding.outcome is not Outcome.REFUSED or finding.is_plain:
            break
        refused.append(finding)
    is_supported = finding.outcome is Outcome.SUPPORTED
    single = None if is_supported else _ask_singly(interview, job_id)
    if single is not None and single.outcome is not Outcome.SUPPORTED:  # then it isn't the list that is refused
        words = f"not asked: jobs can't be filtered by jobID ({single.words})"
        finding = finding if finding.is_plain and finding.is_lacking else Finding("or", Outcome.UNKNOWN, words)
    yield interview.add(finding)
    yield interview.add(_judge_length(finding, length, refused))
    yield interview.add(_judge_query(job_id, finding, length, refused))
    yield single or interview.add(Finding(JOB_FILTER, Outcome.SUPPORTED))


def _judge_length(finding: Finding, length: int, refused: Sequence[Finding]) -> Finding:
    if finding.outcome is Outcome.SUPPORTED and not refused:
        return Finding("largest_list", Outcome.SUPPORTED, f"{length} keys", limit=length)
    if finding.outcome is Outcome.SUPPORTED:
        return replace(refused[-1], capability="largest_list", limit=length)
    return replace(finding, capability="largest_list", limit=1 if finding.is_lacking else None)


def _judge_query(job_id: str, finding: Finding, length: int, refused: Sequence[Finding]) -> Finding:
    """Say how long the query of the longest list was; nothing longer is asked for on purpose."""
    if finding.outcome is not Outcome.SUPPORTED:
        return Finding("largest_query", Outcome.UNKNOWN, "not asked: lists of keys aren't answered")
    words = f"{len(_list_question(job_id, length).query):,} bytes"
    if refused:
        words += f"; one of {len(_list_question(job_id, _LENGTHS[len(refused) - 1]).query):,} is refused"
    return Finding("largest_query", Outcome.SUPPORTED, words)


def _ask_singly(interview: Interview, job_id: str) -> Finding:
    """Ask for the job by one condition, in both spellings of the property."""
    finding = Finding(JOB_FILTER, Outcome.UNKNOWN)
    for name in JOB_ID_SPELLINGS:
        query = odata.query([f"{name} eq {odata.literal(job_id)}"])
        finding, _ = interview.ask(Question(JOB_FILTER, query, lambda reply: find_wrong_jobs(reply, job_id)))
        if finding.outcome is Outcome.SUPPORTED:
            break
    return finding


def _ask_path(interview: Interview, job_id: str) -> Iterator[Finding]:
    """Ask for the job by its path; and for one that there isn't, since only a 404 with JSON says that a job is gone."""

    def find_wrong_job(shown: Shown | bool) -> str:
        return "" if shown else "it doesn't have a job that it has just shown"

    def ask(job_id: str, attempts: int) -> Shown | bool:
        return interview.api.find_by_path(job_id, attempts=attempts) or False

    finding, _ = interview.ask_by("plain_path", _PATH, lambda attempts: ask(job_id, attempts), find_wrong_job)
    if finding.outcome is Outcome.SUPPORTED:
        missing, _ = interview.ask_by("plain_path", NO_JOB, lambda attempts: ask(make_up(1), attempts), lambda _: "")
        if missing.outcome is not Outcome.SUPPORTED:
            finding = replace(missing, words=f"of a job that there isn't it says {missing.words}")
    yield interview.add(finding)


def _list_question(job_id: str, length: int) -> Question:
    """Ask for a job beside some that there aren't."""
    keys = [job_id, *map(make_up, range(1, length))]
    query = odata.query([odata.any_of("jobID", sorted(keys))])
    return Question("or", query, lambda reply: find_wrong_jobs(reply, job_id))


def find_wrong_jobs(reply: Reply, job_id: str) -> str:
    """Return what shows that other jobs came than the one that there is."""
    came = {str(odata.stamp(row).jobID).lower() for row in reply.answer.rows}
    if came - {job_id.lower()}:
        return "jobs came that were not asked for"
    return "" if came else "a job that it has just shown didn't come"


def make_up(number: int) -> str:
    """Return a jobID of the documented form that no job has."""
    return f"00000000-0000-4000-8000-{number:012x}-20000101000000000"
