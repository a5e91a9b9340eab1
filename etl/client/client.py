"""The AIMS360 client: a page, one job, a rerun; asked again as their answers want.

Addresses are built by hand, complete: httpx's `params=` would turn spaces into `+`, which the service doesn't read.
Redirects are not followed, and the token goes to the configured host alone.
"""

import itertools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import NamedTuple, Self
from urllib.parse import quote

import httpx

from etl.client import answers, odata, payload
from etl.client.answers import Answer, Meaning, Question
from etl.client.attempts import Attempts, Failure, Reply, with_id
from etl.client.auth import Grant, Token, sign_in
from etl.client.retry import Again
from etl.client.sender import JOBS, Sender
from etl.client.transport import Line
from etl.config.settings import Source
from etl.errors import AskForLess, BrokenPromise, Refused, SignInFailed, SourceError, Unreachable
from etl.models import Clock, Exchange, Usage

JOB = f"{JOBS}v1.0/backgroundjob"

_ATTEMPTS = 8
_ATTEMPTS_TO_CONNECT = 4
_ENOUGH_REFUSALS = 2  # of a page size that was only offered
_NEVER = threading.Event()
_SPELLINGS = ("jobID", "jobId")  # of the property, in the filter for one job: the payload's, the documented one


class Shown(NamedTuple):
    """One job as the source shows it: its raw row, and when that was, by the source's clock.

    `replaced_characters`: of the answer it came in.
    """

    row: bytes
    answered_at: datetime
    replaced_characters: int = 0


class _Fallback(NamedTuple):
    """How often a page is asked for, and what else can be asked where it doesn't come; see `Api.page`."""

    attempts: int
    can_shrink: bool
    is_least: bool
    has_another_way: bool
    another: str | None


class Api:
    """One source's service. Safe to use from several threads: it does no harm if one reads an old `latency`."""

    def __init__(
        self,
        source: Source,
        clock: Clock,
        transport: httpx.BaseTransport | None = None,
        notice: Callable[[str], None] = lambda _: None,
        heard: Callable[[Exchange], None] | None = None,
        *,
        line: Line | None = None,
        signed_in: Token | Grant | None = None,
    ) -> None:
        self._base = source.base_url
        self._single = 0  # the way in which one job is asked for: a spelling, or beyond them the plain path
        self.keys_a_list = self.keys_refused = math.inf  # keys in a list that the service answers, and refuses
        self.page_size = source.page_size
        self._pagesize_refusals = 0  # in a row, of the vendor's parameter; Prefer may be heeded where it is refused
        self.monotonic = clock.monotonic
        auth = signed_in or sign_in(source, clock)
        self._sender = Sender(source, clock, auth, transport, line, heard)
        self._attempts = Attempts(source, clock, auth, self._sender, notice)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Its connections end, if they are its own."""
        self._sender.close()

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """Inside, answers that haven't come by then are no longer waited for."""
        return self._sender.within(seconds)

    def begin_anew(self, within: float = math.inf, *, is_known: bool = False) -> None:
        """For another run of the same client: how busy and how far away the source was may be so no more.

        What hasn't come `within` so many seconds from now is waited for no longer: OutOfTime. `is_known`: the address
        gave a good answer in the last 30 days.
        """
        self.keys_a_list = self.keys_refused = math.inf
        self._pagesize_refusals = 0
        self._attempts.begin_anew(is_known=is_known)
        self._sender.begin_anew(within)

    @property
    def bears(self) -> int:
        """Requests in flight that the source bears at the moment, as far as it has shown."""
        return self._sender.throttle.limit

    @property
    def latency(self) -> float:
        """Seconds that its quickest answer took in this run."""
        return self._attempts.latency

    @property
    def ahead(self) -> timedelta | None:
        """How far the source's clock is ahead of ours, by its last answer."""
        return self._attempts.source_clock.ahead

    @property
    def usage(self) -> Usage:
        """What was asked so far, sign-ins included."""
        return self._sender.usage

    # -- pages -------------------------------------------------------------------------------------------------------

    def page(
        self,
        query: str,
        ended: threading.Event = _NEVER,
        *,
        page_size: int | None = None,
        offer: int | None = None,
        attempts: int = _ATTEMPTS,
        can_shrink: bool = False,
        is_least: bool = False,
        has_another_way: bool = False,
        another: str | None = None,
    ) -> Reply:
        """Return the rows that a query of the collection brings. Raises SourceError after every retry.

        `ended`, set by another thread, ends the waiting for a next attempt. `page_size`: rows that a page shall have,
        `offer`: rows that it may have; the service may ignore both. The vendor's parameter asks for them, until it is
        refused; for `page_size` a Prefer header does too.
        `can_shrink`: what fails for good, while other requests are answered, raises AskForLess; what takes too long
        does so at once, unless the query `is_least`, so that nothing smaller can be asked. `has_another_way`: so does
        what is refused without a reason. `another`: the other request, where the caller knows one.
        """
        fallback = _Fallback(attempts, can_shrink, is_least, has_another_way, another)
        headers = {} if page_size is None else {"Prefer": f"odata.maxpagesize={page_size}"}
        rows = page_size or offer
        if rows is not None and self._pagesize_refusals < _ENOUGH_REFUSALS:
            try:
                reply = self._ask(odata.with_page_size(query, rows), headers, ended, fallback)
            except (Refused, AskForLess) as error:
                if not _may_be_pagesize(error, has_another_way):
                    raise
                is_named = isinstance(error, Refused) and error.option == "pagesize"
                self._pagesize_refusals += _ENOUGH_REFUSALS if is_named else 1
            else:
                self._pagesize_refusals = 0
                return reply
        return self._ask(query, headers, ended, fallback)

    def _ask(self, query: str, headers: Mapping[str, str], ended: threading.Event, fallback: _Fallback) -> Reply:
        attempts, can_shrink, is_least, has_another_way, another = fallback
        question = Question(query, self._attempts.is_known, has_another_way)
        refusals = failures = 0  # with another request answered after each
        refusal = ""
        for attempt in itertools.count(1):
            failed = self._attempts.try_page(question, headers, ended)
            if isinstance(failed, Reply):
                return failed
            if "pagesize=" in query and failed.is_unclear:  # without it the same is asked
                raise self._attempts.refuse(failed, query)
            good = self._attempts.good
            if can_shrink and failed.is_too_large and not is_least:
                raise self._attempts.ask_for_less(failed, query, attempt, is_too_large=True)
            self._attempts.check_network(failed, attempt, attempts)
            if attempt >= attempts:
                raise self._attempts.final_error(failed, query, attempts)
            is_doubtful = failed.is_doubtful and failed.in_flight == 1  # of several there may have been too many
            is_failing = can_shrink and failed.is_spoilt and not failed.is_doubtful and attempt > 1
            # A busy service gets time first. For any other, another request shows at once what is wrong.
            waits_first = failed.is_overload or not is_doubtful
            if waits_first:
                self._attempts.wait(failed, attempt, ended)
            if not is_doubtful and not is_failing:
                continue
            other = self._attempts.choose_another(query) if another is None else another
            is_confirmed = self._attempts.good > good or self._attempts.is_answered(other, failed, query, ended)
            if failed.answer is not None and is_doubtful:
                refusals, refusal = is_confirmed + (refusals if failed.said == refusal else 0), failed.said
                question = question._replace(refusals=refusals)
                self._attempts.judge(failed.answer, answers.read_page(failed.answer, question)[0], question)
            elif (failures := failures + is_confirmed) >= answers.ENOUGH:
                raise self._attempts.ask_for_less(failed, query, attempt, is_too_large=False)
            if not waits_first:
                self._attempts.wait(failed, attempt, ended)
        raise AssertionError

    # -- single jobs -------------------------------------------------------------------------------------------------

    def job(self, job_id: str, ended: threading.Event = _NEVER, *, attempts: int = _ATTEMPTS) -> Shown | None:
        """Return one job as the source shows it now; None where it shows none of that id.

        The collection is asked, in the payload's spelling of the property and in the documented one; where it refuses
        both, the plain path. The case of letters in the id doesn't count. Raises SourceError, among them BrokenPromise
        for what is another job.
        """
        first: SourceError | None = None
        for way in range(self._single, len(_SPELLINGS) + 1):
            try:
                if way < len(_SPELLINGS):
                    shown = self._job_of_collection(job_id, _SPELLINGS[way], ended, attempts)
                else:
                    shown = self._plain_job(job_id, ended, attempts)
            except (AskForLess, BrokenPromise) as error:
                first = first or error
            except Refused as error:
                if way < len(_SPELLINGS):
                    raise
                first = first or error
            else:
                self._single = way
                return shown
        assert first is not None
        raise first

    def _job_of_collection(self, job_id: str, name: str, ended: threading.Event, attempts: int) -> Shown | None:
        query = odata.query([f"{name} eq {odata.literal(job_id)}"])
        try:
            reply = self.page(query, ended, attempts=attempts, has_another_way=True)
        except Refused as error:
            if error.is_query:
                raise with_id(AskForLess(str(error), is_too_large=False), error.request_id) from None
            raise
        return self._find_job(job_id, reply.answer.rows, reply.answered_at, reply.answer.replaced_characters)

    def _plain_job(self, job_id: str, ended: threading.Event, attempts: int) -> Shown | None:
        """Return a job by its plain path. A 404 with JSON says that there is none; any other refusal says nothing."""
        path = f"{JOB}/{quote(job_id, safe='')}"
        question = Question(is_known=self._attempts.is_known, has_another_way=True)
        refusals = 0  # with another request answered after each
        for attempt in range(1, attempts + 1):
            self._attempts.hold(ended)
            try:
                answer, in_flight = self._sender.send("GET", self._base + path, {}, ended)
            except Again as error:
                failed = Failure(error)
            else:
                reading, row = answers.read_job(answer, question)
                self._attempts.heed(answer, reading, question, in_flight)
                if row is not None:
                    return self._find_job(job_id, [row], self._attempts.source_clock.read_time(answer.headers))
                if reading.meaning is Meaning.OK:
                    return None
                failed = self._attempts.judge(answer, reading, question._replace(query=path))
            self._attempts.check_network(failed, attempt, attempts)
            if attempt < attempts:
                self._attempts.wait(failed, attempt, ended)
            if failed.answer is not None and failed.is_doubtful:
                refusals += self._attempts.is_answered(self._attempts.choose_another(path), failed, path, ended)
                question = question._replace(refusals=refusals)
                self._attempts.judge(
                    failed.answer, answers.read_job(failed.answer, question)[0], question._replace(query=path)
                )
        raise self._attempts.final_error(failed, path, attempts)

    def _find_job(self, job_id: str, rows: Sequence[bytes], answered_at: datetime, replaced: int = 0) -> Shown | None:
        for row in rows:
            if str(odata.stamp(row).jobID).lower() == job_id.lower():
                return Shown(row, answered_at, replaced)
        if rows:
            raise BrokenPromise(
                f"{self._base} shows other jobs than the one asked for, {job_id}; `aims360-etl doctor` says what the "
                "service honours"
            )
        return None

    # -- reruns ------------------------------------------------------------------------------------------------------

    def rerun(self, job_id: str) -> str | None:
        """Asks once that a job be run again. None: it was accepted; else what came instead of an answer.

        Then it can't be told from here whether the service did it. Only where no connection could be made is it tried
        again; and once with a new token, where the service turned the old one away. Raises Refused where the service
        said no, Unreachable where nothing was sent, SignInFailed.
        """
        for attempt in range(1, _ATTEMPTS_TO_CONNECT + 1):
            self._attempts.hold(_NEVER)
            try:
                url = f"{self._base}{JOB}/{quote(job_id, safe='')}/rerun"
                answer, _ = self._sender.send("POST", url, {}, _NEVER)
            except Again as error:
                if error.was_sent:
                    return str(error)
                failed = error
            else:
                return self._judge_rerun(job_id, answer)
            if attempt < _ATTEMPTS_TO_CONNECT:
                self._attempts.pause(self._attempts.seconds_to_wait(Failure(failed), attempt), _NEVER)
        raise Unreachable(f"{self._base} can't be reached ({failed}): nothing was sent; check the network, try again")

    def _judge_rerun(self, job_id: str, answer: Answer) -> str | None:
        """What an answer to a rerun says: None for yes, else what is wrong with it. Raises Refused, SignInFailed."""
        reading = self._attempts.mask(answers.read_answer(answer, Question(has_another_way=True)))
        said = reading.said
        if reading.meaning is Meaning.OK:
            is_yes = answer.status == 204 or payload.is_answer_about(job_id, answer.body)
            return None if is_yes else f"HTTP {answer.status}, but what it says is no answer to a rerun"
        if reading.meaning is Meaning.RETRY:
            return said
        if reading.meaning is Meaning.SIGN_IN:
            failed = f"{self._base} refused the token, fresh from signing in: {said}; nothing was run again"
            raise with_id(SignInFailed(failed), reading.request_id)
        refused = Refused(f"{self._base} refuses to run job {job_id} again ({said}); nothing was done", answer.status)
        raise with_id(refused, reading.request_id)


def _may_be_pagesize(error: Refused | AskForLess, has_another_way: bool) -> bool:
    """Whether it may be the page size that was refused."""
    return has_another_way if isinstance(error, AskForLess) else error.is_query and error.option in (None, "pagesize")
