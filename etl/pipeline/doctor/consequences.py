"""What was found means: how a sync reads this source, what that costs, what can't be followed; what to ask AIMS360 for.

Pure, but for the capabilities of a client, which `teach` sets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from etl.client.attempts import COLLECTION
from etl.client.client import JOB
from etl.extract import strategy
from etl.extract.probe import Probe
from etl.extract.skip_scan import OVERLAP
from etl.extract.strategy import Way
from etl.models import BY_TIME, CAPABILITIES, KEYS, TICK_PLAY, Cursor, Paging, Scan, ScanKind, Window
from etl.pipeline.doctor.checks import JOB_FILTER, NAMES, Check, Finding, Outcome, Reading, Standing
from etl.pipeline.doctor.job_questions import NO_JOB, Access, find_access

if TYPE_CHECKING:
    from etl.client.capabilities import Capabilities
    from etl.pipeline.doctor.interview import Interview

_NO_HARM = "no harm"
_NO_DELETIONS = "deletions can't be followed"
_PREFACE = "The query specified in the URI is not valid. "
# What AIMS360 is asked for: an option, a parameter, or a condition. Those of one family are asked for together where
# they are refused in the same words.
_OPTIONS = {
    "orderby": "$orderby",
    "orderby_dates": "$orderby=modifiedDate",
    "filter_dates": "$filter on modifiedDate (ge, lt)",
    "filter_id": "$filter on ID (gt, le)",
    "filter_keys": "$filter on jobID (gt, le)",
    "and": "`and` in $filter",
    "count": "$count=true",
    "null_dates": "$filter=modifiedDate eq null",
    "skip": "$skip",
    "select": "$select",
    "top": "$top",
    "page_size": "the parameter pagesize",
    "or": "`or` in $filter",
    "largest_list": "15 conditions joined by `or` in $filter",
    JOB_FILTER: "$filter=jobID eq '…'",
}
_FAMILIES = {
    "orderby_dates": "orderby",
    "filter_id": "filter_dates",
    "filter_keys": "filter_dates",
    "largest_list": "or",
}
_ASKED = {
    Access.LIST: "in lists of {} keys",
    Access.FILTER: "one by one, by a filter",
    Access.PATH: "one by one, by their path",
}


class Situation(NamedTuple):
    """How a sync reads a source: its way for changes (None: there is none), and the access to single jobs.

    `requests`: of a scan of all rows, as far as that is known.
    """

    way: Way | None
    paging: Paging | None
    said: str
    requests: int | None
    access: Access

    @property
    def has_window(self) -> bool:
        """Return whether a run reads only what was modified since the last one."""
        return self.way is not None and self.way.has_window

    @property
    def all_pages(self) -> str:
        """Say that each run reads all pages."""
        return "each run reads all pages" + (f", about {self.requests} requests" if self.requests else "")

    @property
    def reading(self) -> str:
        """Say how pages are read."""
        return f"{'changes' if self.has_window else 'all pages'} are read {self.said}"


def teach(known: Capabilities, findings: Mapping[str, Finding]) -> None:
    """Let a client know what was found, and nothing else."""
    known.begin({})
    for name, finding in findings.items():
        if name not in CAPABILITIES or not finding.is_binding:
            continue
        if finding.is_lacking:
            known.refuse(name, finding.words, finding.limit)
        elif finding.outcome is Outcome.SUPPORTED:
            known.confirm(name, finding.words or "answered")


def conclude(interview: Interview, found: Probe, rows: int) -> Iterator[Check]:
    """Say what the findings mean. `found`: what a run's probe finds; `rows`: of a page."""
    findings, known = interview.findings, interview.api.capabilities
    whole, changes = (_plan(known, found, kind) for kind in (ScanKind.FULL, ScanKind.INCREMENTAL))
    access = find_access(interview)
    if whole is None or changes is None:
        situation = Situation(None, None, "", None, access)
        said = "no way is left to read all jobs: AIMS360 has to allow some of what is asked for below"
        yield Check("strategy", Standing.FAILED, said)
    else:
        requests = _count_requests(whole.paging, interview, rows)
        way = strategy.find_way(changes)
        situation = Situation(way, changes.paging, strategy.describe(changes), requests, access)
        yield _describe_strategy(situation, whole)
    yield _describe_deletions(access, findings, is_counted=known.supports("count", "filter_dates"))
    lacking = {name: finding for name, finding in findings.items() if finding.is_lacking}
    harms = {name: find_harm(name, findings, situation) for name in lacking}
    if not harms.get("default_order"):  # nothing that somebody asked for
        lacking.pop("default_order", None)
    if lacking:
        yield Check("meaning", Standing.NOTE, describe_meaning(lacking, harms))
    for sentence in write_requests(lacking, harms):
        yield Check("ask AIMS360", Standing.NOTE, sentence)


def _plan(known: Capabilities, found: Probe, kind: ScanKind) -> Scan | None:
    """Return a scan as a run would begin it; None where there is no way."""
    lower = found.as_of - TICK_PLAY if kind is ScanKind.INCREMENTAL else None
    scan = Scan(kind, Window(lower, found.newest, found.as_of), found.key, (Cursor(0, None, None),))
    way = strategy.choose(known, found, scan)
    return None if way is None else strategy.follow(scan, way)


def _count_requests(paging: Paging, interview: Interview, rows: int) -> int | None:
    """Return about how many requests a scan of all rows takes; None where the service doesn't count them."""
    total = interview.total
    if total is None:
        return None
    if paging is Paging.SKIP and not interview.supports("skip"):  # by nextLink, most pages are read twice
        return 2 * math.ceil(total / rows) + 2
    if paging is Paging.SKIP:
        rows = max(rows, 250) if interview.supports("page_size") else rows
        return math.ceil(max(0, total - rows) / max(1, rows - min(OVERLAP, rows // 2))) + 3
    pages = math.ceil(total / rows)
    return 2 * pages + 4 if paging is Paging.TIME else pages + 2


def _describe_strategy(situation: Situation, whole: Scan) -> Check:
    said = f"scans go {situation.said}"
    if strategy.describe(whole) != situation.said:
        said += f" ({strategy.describe(whole)} where all rows are read)"
    said += "; a run reads what changed since the last one" if situation.has_window else f"; {situation.all_pages}"
    is_best = situation.paging is Paging.KEY and situation.has_window
    window_by = BY_TIME if situation.has_window else "none"
    reading = Reading(str(situation.paging), window_by, str(whole.paging), situation.requests)
    return Check("strategy", Standing.FINE if is_best else Standing.NOTE, said, reading)


def _describe_deletions(access: Access, findings: Mapping[str, Finding], *, is_counted: bool) -> Check:
    if access is Access.NONE:
        said = "can't be followed: the service answers no question about a single job; purge dates are followed"
        return Check("deletions", Standing.NOTE, said)
    lists = findings.get("largest_list")
    asked = _ASKED[access].format(lists.limit if lists is not None and lists.limit else "some")
    if is_counted:
        said = f"followed by comparisons that are held against $count; jobs are asked for {asked}"
        return Check("deletions", Standing.FINE, said)
    said = f"followed by two comparisons a look-back apart, since nothing counts; jobs are asked for {asked}"
    return Check("deletions", Standing.NOTE, said)


def describe_meaning(lacking: Mapping[str, Finding], harms: Mapping[str, str]) -> str:
    """Say what each refusal costs, those of one cost together: `refuses $top: no harm; …`."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, finding in sorted(lacking.items(), key=lambda item: not harms[item[0]]):
        verb = "ignores" if finding.outcome is Outcome.IGNORED else "refuses"
        if name == "default_order":
            verb = "doesn't send"
        groups.setdefault((verb, harms[name] or _NO_HARM), []).append(NAMES[name])
    return "; ".join(f"{verb} {', '.join(names)}: {harm}" for (verb, harm), names in groups.items())


def find_harm(name: str, findings: Mapping[str, Finding], situation: Situation) -> str:
    """Say what it costs that something isn't supported; an empty text: nothing worth a word."""
    is_by_key = situation.way is not None and situation.way.key in KEYS
    can_filter_keys = any(findings[key].outcome is Outcome.SUPPORTED for key in ("filter_id", "filter_keys"))
    limit = findings[name].limit
    match name:
        case "filter_dates":
            return situation.all_pages
        case "and":
            return situation.reading if situation.has_window else situation.all_pages
        case "orderby" if situation.paging is not Paging.KEY and can_filter_keys:
            return situation.reading
        case "filter_id" | "filter_keys" | "default_order" if not is_by_key:
            return situation.reading
        case "count" if situation.access is not Access.NONE:
            return "a deletion takes two comparisons"
        case "select":
            return "comparisons read whole rows"
        case "or" if situation.access is not Access.NONE:
            return "jobs are asked for one by one"
        case "largest_list" if limit is not None and limit > 1:
            return f"jobs are asked for in lists of {limit}"
        case "skip" if situation.paging is Paging.SKIP:
            return "pages are followed by their nextLink"
        case "skip" if situation.paging is Paging.TIME:
            return "more jobs of one instant than a page holds can't be read"
        case "null_dates" if findings[name].is_binding:
            return "jobs without a date can't be read by slices of time"
        case "plain_path" | "job_filter" if situation.access is Access.NONE:
            return _NO_DELETIONS
        case "job_filter":
            return "jobs are asked for by their path"
    return ""


def write_requests(lacking: Mapping[str, Finding], harms: Mapping[str, str]) -> list[str]:
    """Return a sentence to AIMS360 for each refusal, those that do harm first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, finding in lacking.items():
        if name in _OPTIONS or name in ("plain_path", "next_link"):
            groups.setdefault((_FAMILIES.get(name, name), finding.words), []).append(name)
    wanted, optional = [], []
    for names in groups.values():
        sentence = write_request(names, lacking[names[0]])
        if any(harms[name] for name in names):
            wanted.append(sentence)
        else:
            optional.append(f"optional: {sentence}")
    return wanted + optional


def write_request(names: list[str], finding: Finding) -> str:
    """Return the sentence that asks AIMS360 for something that it refuses, with its own words."""
    words = finding.words.replace(_PREFACE, "").rstrip(". ")
    if names == ["next_link"]:
        return f"Please send a nextLink with each page of GET {COLLECTION} that others follow ({words})."
    if names == ["plain_path"] and finding.asked == NO_JOB:
        return f"Please answer GET {JOB}/{{jobID}} with HTTP 404 and JSON where there is no such job ({words})."
    if names == ["plain_path"]:
        return f"Please allow GET {JOB}/{{jobID}} (it answers {words})."
    options = " and ".join(_OPTIONS[name] for name in names)
    if finding.outcome is Outcome.IGNORED:
        return f"Please let GET {COLLECTION} heed {options} (it answers with HTTP 200, but {words})."
    return f"Please allow {options} on GET {COLLECTION} (it answers {words})."
