"""The service: whether it answers, by which clock, whether its rows can be read, and what it supports.

Raises CredentialsRefused where it doesn't accept who we are, so that nobody signs in again with the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from etl.client import odata, payload
from etl.errors import AskForLess, CredentialsRefused, SourceError, Unreachable
from etl.extract.probe import Probe, newest_row, probe
from etl.models import Batch
from etl.pipeline.doctor import consequences, job_questions, questions
from etl.pipeline.doctor.checks import Check, Standing, failures, show_finding
from etl.pipeline.doctor.interview import Interview
from etl.pipeline.doctor.questions import Sample
from etl.text import most_frequent
from etl.transform.flatten import flatten

if TYPE_CHECKING:
    from etl.client.attempts import Reply
    from etl.client.client import Api

_ATTEMPTS = 4  # what throttling or a gateway gets in the way of is asked again, but not for a minute
_SIZES = (None, 20, 5)  # of a page, in rows: fewer where a usual page is too much for the service
_TRIES = 3  # for each size
_CLOCKS_APART = timedelta(seconds=30)


def examine_service(api: Api) -> Iterator[Check]:
    """Check what the service answers, what it supports, and what that means for a sync. Raises SignInFailed."""
    try:
        first, size = ask_first_page(api)
    except CredentialsRefused:
        raise
    except SourceError as error:
        yield from failures("service", error, "ask AIMS360 why: there is no plainer request than this one")
        return
    yield from accepted(api)
    if not first.answer.rows:
        yield Check("jobs", Standing.NOTE, "the service shows no job: what it supports can't be told yet")
        return
    sample = Sample.take(first)
    yield from _shown(first.answer.rows[0], sample.newest)
    interview = Interview(api)
    finding, newest = questions.ask_newest(interview, size)
    answer = (newest if newest is not None and newest.answer.rows else first).answer
    yield from judge_rows(len(answer.rows), flatten(answer.rows, answer.replaced_characters))
    yield show_finding(finding)
    for finding in questions.ask_all(interview, sample):
        yield show_finding(finding)
    for finding in job_questions.ask_all(interview, sample.newest.key("jobID")):
        yield show_finding(finding)
    yield from consequences.conclude(interview, _probe(interview, first, sample), len(first.answer.rows))


def ask_first_page(api: Api) -> tuple[Reply, int | None]:
    """Return rows that the service can serve, unasked for in any order; and of which size a page may be, if any.

    Raises SourceError.
    """
    for size in _SIZES:
        try:
            return api.page("", page_size=size, attempts=_TRIES, can_shrink=True, can_do_without=True), size
        except AskForLess:
            continue
        except Unreachable as error:
            if not error.was_answered:
                raise
    return newest_job(api, _ATTEMPTS + 1), 1  # the last attempt shows that it is the row, and not the service


def newest_job(api: Api, attempts: int = _ATTEMPTS) -> Reply:
    """Return the newest job that the service can serve, as every run begins. Raises SourceError."""
    return newest_row(api, attempts) or api.page("", attempts=attempts)


def _probe(interview: Interview, first: Reply, sample: Sample) -> Probe:
    """Ask as a run does before its scan, by what was found."""
    api = interview.api
    consequences.teach(api.capabilities, interview.findings)
    if not interview.is_over():
        try:
            return probe(api)
        except CredentialsRefused:
            raise
        except SourceError:
            pass
    return Probe(sample.newest, first.answered_at, is_newest=interview.supports("orderby_dates"))


def accepted(api: Api) -> Iterator[Check]:
    """Say that the service has answered, and by which clock."""
    yield Check("service", Standing.FINE, "answers, and accepts who we are")
    yield clocks(api.ahead)


def clocks(ahead: timedelta | None) -> Check:
    """Say how far the service's clock is ahead of this machine's, and what that does."""
    if ahead is None:
        return Check("clock", Standing.NOTE, "the service doesn't tell its time: this machine's is taken for it")
    apart = f"{abs(ahead)}".partition(".")[0]
    if abs(ahead) < _CLOCKS_APART:
        return Check("clock", Standing.FINE, f"the service's is {round(ahead.total_seconds()):+d} s from ours")
    return Check(
        "clock",
        Standing.NOTE,
        f"this machine's is {apart} {'behind' if ahead > timedelta() else 'ahead of'} the service's: nothing is lost "
        "by that, but lags are told wrongly, and certificates may be refused; set it right, with NTP say",
    )


def _shown(row: bytes, newest: odata.Stamp) -> Iterator[Check]:
    has_id = newest.key("ID") is not None
    yield Check(
        "ID",
        Standing.FINE if has_id else Standing.NOTE,
        "is shown" if has_id else "is not shown: scans go by jobID",
    )
    try:
        value, _ = payload.decode(row)
    except ValueError as error:
        yield Check("rowversion", Standing.NOTE, f"the newest row can't be read: {error}")
        return
    names = value.keys() if isinstance(value, dict) else {}
    if "rowversion" in names:
        yield Check("rowversion", Standing.FINE, "is shown")
    elif "@odata.etag" in names:
        yield Check("rowversion", Standing.FINE, "is read from @odata.etag")
    else:
        yield Check("rowversion", Standing.NOTE, "is not shown: modifiedDate and contents tell versions apart")


def judge_rows(rows: int, batch: Batch) -> Iterator[Check]:
    """Say what of so many `rows`, which became this batch, can't be read: properties and reasons, never values."""
    if batch.rejects:
        reasons = most_frequent(Counter(reject.reason for reject in batch.rejects))
        yield Check(
            "rows",
            Standing.FAILED,
            f"{len(batch.rejects)} of {rows} rows of a page can't be read, so they will be missing: {reasons}; a sync "
            "keeps them in etl.rejects, and asks for them again",
        )
    else:
        yield Check("rows", Standing.FINE, f"all {rows} rows of a page can be read")
    if number := sum(bool(job.unread) for job in batch.jobs):
        forms = most_frequent(Counter(f"{name}: {form}" for job in batch.jobs for name, form in job.unread))
        yield Check(
            "values",
            Standing.NOTE,
            f"{number} of {rows} rows have values that can't be read, and are loaded without them: {forms}; the values "
            "stay in the column `extra`",
        )
