"""A question for each capability, and what an answer has to keep. What of it is pure takes a sample of the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from etl.client import odata, payload
from etl.client.capabilities import KEY_FILTERS
from etl.extract.probe import ENOUGH_ROWS, find_order
from etl.extract.skip_scan import BEYOND
from etl.models import TICK_PLAY, Key
from etl.pipeline.doctor.checks import PREFER, Finding, Outcome
from etl.pipeline.doctor.interview import FEW, Interview, Question
from etl.pipeline.doctor.job_questions import find_wrong_jobs

if TYPE_CHECKING:
    from etl.client.attempts import Reply

_AN_HOUR = timedelta(hours=1)
_FEWER = 3  # rows, where FEW would come otherwise
_SELECTED = ("jobID", "modifiedDate")


class Sample(NamedTuple):
    """The rows that a plain request brought, and the query of the nextLink beside them."""

    rows: Sequence[odata.Stamp]
    next_query: str | None = None

    @classmethod
    def take(cls, reply: Reply) -> Sample:
        """Return the sample of an answer."""
        return cls([odata.stamp(row) for row in reply.answer.rows], reply.answer.next_query)

    @property
    def newest(self) -> odata.Stamp:
        """The row that was modified last."""
        return max(self.rows, key=lambda row: row.modified or odata.FIRST)

    @property
    def key(self) -> str:
        """The property that a scan goes by."""
        return "ID" if self.newest.key("ID") is not None else "jobID"

    def list_keys(self, name: str) -> list[Key]:
        """Return the keys that can be compared here, in the order of the rows."""
        return list(filter(odata.comparable, self.list_all_keys(name)))

    def list_all_keys(self, name: str) -> list[Key]:
        """Return all keys, in the order of the rows."""
        return [key for key in (row.key(name) for row in self.rows) if key is not None]


def ask_newest(interview: Interview, size: int | None) -> tuple[Finding, Reply | None]:
    """Ask for the newest rows, as many as a page holds: their form is to be looked at too."""
    query = odata.query(order="modifiedDate desc")
    return interview.ask(Question("orderby_dates", query, find_rise, size))


def ask_all(interview: Interview, sample: Sample) -> Iterator[Finding]:
    """Ask about the options of queries, those first that matter most."""
    key = sample.key
    descending = odata.query(order=f"{key} desc")
    yield interview.ask(Question("orderby", descending, lambda reply: find_ascent(reply, key)))[0]
    yield from _ask_filters(interview, sample)
    finding, reply = interview.ask(
        Question("count", odata.query(count=True), lambda reply: find_wrong_count(reply, len(sample.rows)))
    )
    if reply is not None and finding.outcome is Outcome.SUPPORTED:
        interview.total = reply.answer.total
    yield finding
    yield _ask_null_dates(interview)
    yield interview.ask(Question("skip", odata.query(skip=BEYOND), find_any))[0]
    yield interview.add(judge_order(sample))
    yield _ask_next_link(interview, sample)
    yield interview.ask(Question("select", odata.query(select=_SELECTED), find_other_properties))[0]
    yield from _ask_sizes(interview, sample)


def _ask_filters(interview: Interview, sample: Sample) -> Iterator[Finding]:
    newest = sample.newest.modified
    if newest is None:
        yield interview.add(Finding("filter_dates", Outcome.UNKNOWN, "not asked: no row shows a date"))
    else:
        since = odata.plus(newest, -TICK_PLAY)
        query = odata.query([f"modifiedDate ge {odata.literal(since)}"])
        yield interview.ask(Question("filter_dates", query, lambda reply: find_older(reply, since)))[0]
    for name, capability in KEY_FILTERS.items():
        keys = _sort(sample.list_keys(name)) or sample.list_all_keys(name)[-1:]  # of another form: one alone
        if not keys:
            yield interview.add(Finding(capability, Outcome.UNKNOWN, f"not asked: rows show no {name}"))
            continue
        bound = keys[(len(keys) - 1) // 2]
        query = odata.query([f"{name} gt {odata.literal(bound)}"])
        has_more = bound != keys[-1]
        finding, _ = interview.ask(Question(capability, query, _holds_above(name, bound, has_more)))
        if name == "jobID" and interview.supports("filter_id"):  # what scans go by; it stands for any key otherwise
            finding = interview.add(replace(finding, is_binding=not finding.is_lacking))
        yield finding
    yield _ask_and(interview, sample)


def _holds_above(name: str, bound: Key, has_more: bool) -> Callable[[Reply], str]:
    return lambda reply: find_at_most(reply, name, bound, has_more=has_more)


def _ask_and(interview: Interview, sample: Sample) -> Finding:
    """Ask for two conditions that are answered each by itself; else for the same one twice."""
    newest, job_id = sample.newest.modified, sample.newest.key("jobID")
    since = odata.plus(newest, -TICK_PLAY) if newest is not None and interview.supports("filter_dates") else None
    conditions = [f"modifiedDate ge {odata.literal(since)}"] if since is not None else []
    for name, capability in KEY_FILTERS.items():
        if interview.supports(capability):
            keys = _sort(sample.list_keys(name)) or ["0"]
            conditions.append(f"{name} ge {odata.literal(keys[0])}")
    find_contradiction: Callable[[Reply], str] = (lambda reply: find_older(reply, since)) if since else lambda _: ""
    if not conditions and isinstance(job_id, str):
        conditions = [f"jobID eq {odata.literal(job_id)}"]
        find_contradiction = partial(find_wrong_jobs, job_id=job_id)
    if not conditions:
        return interview.add(Finding("and", Outcome.UNKNOWN, "not asked: there are no filters to join"))
    if since is not None and newest is not None and len(conditions) == 1:
        conditions.append(f"modifiedDate lt {odata.literal(odata.plus(newest, _AN_HOUR))}")
    query = odata.query((2 * conditions if len(conditions) == 1 else conditions)[:2])
    return interview.ask(Question("and", query, find_contradiction))[0]


def _ask_null_dates(interview: Interview) -> Finding:
    """Ask for rows without a date. Where that is refused, it does no harm if the counts say that there are none."""
    if not interview.supports("filter_dates"):
        words = "not asked: it is of use beside filters on dates alone"
        return interview.add(Finding("null_dates", Outcome.UNKNOWN, words))
    finding, _ = interview.ask(Question("null_dates", odata.query(["modifiedDate eq null"]), find_dated))
    if finding.outcome is not Outcome.REFUSED or not interview.supports("count"):
        return finding
    return interview.add(replace(finding, is_binding=_has_undated(interview)))


def _has_undated(interview: Interview) -> bool:
    """Whether rows are counted beside those before and after a date; True too where that can't be told."""
    apart = odata.literal(odata.FIRST_DATE)
    counts = [
        interview.count(conditions) for conditions in ([], [f"modifiedDate lt {apart}"], [f"modifiedDate ge {apart}"])
    ]
    every, before, after = counts
    return every is None or before is None or after is None or every > before + after


def judge_order(sample: Sample) -> Finding:
    """Return whether rows come in the order of their keys, unasked, as far as a page shows."""
    key = sample.key
    keys = sample.list_keys(key)
    fall = next((pair for pair in pairwise(keys) if not odata.is_less(*pair)), None)
    if fall is not None:
        words = f"a row with {key} {fall[0]} comes before one with {fall[1]}"
        return Finding("default_order", Outcome.IGNORED, words)
    if key in find_order(sample.rows):
        return Finding("default_order", Outcome.SUPPORTED, f"{key} ascends on a page, and the dates don't")
    if len(keys) < max(ENOUGH_ROWS, len(sample.rows)):
        return Finding("default_order", Outcome.UNKNOWN, "too few rows came to tell")
    return Finding("default_order", Outcome.UNKNOWN, f"{key} ascends on a page, and so do the dates")


def _ask_next_link(interview: Interview, sample: Sample) -> Finding:
    """Follow the nextLink of a page, with its query alone."""
    rows, query = sample.rows, sample.next_query
    if query is None and len(rows) > FEW:
        finding, reply = interview.ask(Question("next_link", "", lambda _: ""))
        if reply is None:
            return finding
        came = Sample.take(reply)
        if came.next_query is None and len(came.rows) < len(rows):
            return interview.add(Finding("next_link", Outcome.IGNORED, f"a page of {len(came.rows)} rows has none"))
        rows, query = came.rows, came.next_query
    if query is None:
        return interview.add(Finding("next_link", Outcome.UNKNOWN, "all rows came on one page, which has none"))
    return interview.ask(Question("next_link", query, lambda reply: find_first_again(reply, rows)))[0]


def _ask_sizes(interview: Interview, sample: Sample) -> Iterator[Finding]:
    """Ask for few rows: by `$top`, by the vendor's own parameter."""
    most = min(_FEWER, max(1, len(sample.rows) - 1))
    yield interview.ask(Question("top", odata.query(top=most), lambda reply: find_more(reply, most)))[0]
    query = odata.with_page_size("", most)
    yield interview.ask(Question("page_size", query, lambda reply: find_more(reply, most), rows=None))[0]
    yield interview.add(judge_preference(interview.heeds_prefer))


def judge_preference(is_heeded: bool | None) -> Finding:
    """Return whether the other questions brought as few rows as they preferred; None: too few to tell."""
    if is_heeded is None:
        return Finding(PREFER, Outcome.UNKNOWN, "too few rows came to tell")
    return Finding(PREFER, Outcome.SUPPORTED if is_heeded else Outcome.IGNORED, "" if is_heeded else "more rows came")


def _sort(keys: Sequence[Key]) -> list[Key]:
    return sorted(keys, key=lambda key: (isinstance(key, str), key))


# -- what of an answer shows that its query was not heeded; an empty text: nothing -------------------------------------


def find_rise(reply: Reply) -> str:
    """Return what shows that dates don't descend."""
    dates = [row.modified for row in Sample.take(reply).rows if row.modified is not None]
    rise = next((pair for pair in pairwise(dates) if pair[0] < pair[1]), None)
    return f"a row modified {_show(rise[1])} came after one modified {_show(rise[0])}" if rise else ""


def find_ascent(reply: Reply, name: str) -> str:
    """Return what shows that keys don't descend."""
    keys = Sample.take(reply).list_keys(name)
    ascent = next((pair for pair in pairwise(keys) if odata.is_less(*pair)), None)
    return f"a row with {name} {ascent[1]} came after one with {ascent[0]}" if ascent else ""


def find_older(reply: Reply, since: datetime) -> str:
    """Return what shows that older rows came, or that the newest one didn't."""
    rows = Sample.take(reply).rows
    if not rows:
        return f"no row came, and one was modified {_show(since)} or later"
    for row in rows:
        is_unreadable = row.modified is None and row.modifiedDate is not None
        if not is_unreadable and (row.modified is None or row.modified < odata.plus(since, -TICK_PLAY)):
            when = _show(row.modified) if row.modified else "at no time"
            return f"a row modified {when} came, asked for were rows since {_show(since)}"
    return ""


def find_at_most(reply: Reply, name: str, bound: Key, *, has_more: bool) -> str:
    """Return what shows that keys up to a bound came, or that none came though there are higher ones."""
    rows = Sample.take(reply)
    if not rows.rows and has_more:
        return f"no row came, and there are some with a higher {name} than {bound}"
    low = next((key for key in rows.list_keys(name) if not odata.is_less(bound, key)), None)
    low = bound if bound in rows.list_all_keys(name) else low
    return f"a row with {name} {low} came, asked for were those beyond {bound}" if low is not None else ""


def find_wrong_count(reply: Reply, rows: int) -> str:
    """Return what shows that rows aren't counted, or only those of a page, where a page has so many `rows`."""
    total = reply.answer.total
    if total is None:
        return "no count came"
    return f"it counts {total} rows, and a page shows {rows}" if total + FEW < rows else ""


def find_dated(reply: Reply) -> str:
    """Return what shows that rows with a date came."""
    date = next((row.modified for row in Sample.take(reply).rows if odata.find_date(row.modifiedDate)), None)
    return f"a row modified {_show(date)} came, asked for were rows without a date" if date else ""


def find_any(reply: Reply) -> str:
    """Return what shows that rows came beyond the last."""
    is_more = (reply.answer.total or 0) > BEYOND
    return f"rows came beyond the first {BEYOND:,}" if reply.answer.rows and not is_more else ""


def find_first_again(reply: Reply, rows: Sequence[odata.Stamp]) -> str:
    """Return what shows that the same page came again."""
    came = Sample.take(reply).rows
    is_same = bool(came) and (came[0].ID, came[0].jobID) == (rows[0].ID, rows[0].jobID)
    return "it leads to the first page again" if is_same else ""


def find_more(reply: Reply, most: int) -> str:
    """Return what shows that more rows came than were asked for."""
    came = len(reply.answer.rows)
    return f"{came} rows came, asked for were {most}" if came > most else ""


def find_other_properties(reply: Reply) -> str:
    """Return what shows that a row has other properties than those that were selected."""
    for row in reply.answer.rows:
        try:
            value, _ = payload.decode(row)
        except ValueError:
            continue
        names = {name for name in value if not name.startswith("@")} if isinstance(value, dict) else set()
        if missing := set(_SELECTED) - names:
            return f"a row came without {', '.join(sorted(missing))}"
        if names - set(_SELECTED):
            return f"a row came with {len(names)} properties, asked for were {len(_SELECTED)}"
    return ""


def _show(moment: datetime) -> str:
    return odata.literal(moment)
