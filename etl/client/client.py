"""The AIMS360 client: a page, one job, a rerun; asked again as their answers want.

Addresses are built by hand, complete: httpx's `params=` would turn spaces into `+`, which the service doesn't read.
Redirects are not followed, and the token goes to the configured host alone.
"""

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import NamedTuple, Self
from urllib.parse import quote

import httpx

from etl.client import answers, odata, payload
from etl.client.answers import Answer, Meaning, Question
from etl.client.attempts import Attempts, Failure, with_id
from etl.client.auth import Grant, Token, sign_in
from etl.client.capabilities import Capabilities
from etl.client.pages import ATTEMPTS, NEVER, Pages
from etl.client.retry import Again
from etl.client.sender import JOBS, Overheard, Sender
from etl.client.transport import Line
from etl.config.settings import Source
from etl.errors import AskForLess, BrokenPromise, Refused, SignInFailed, SourceError, Unreachable
from etl.models import Clock, Exchange, Usage

JOB = f"{JOBS}v1.0/backgroundjob"

_ATTEMPTS_TO_CONNECT = 4
JOB_ID_SPELLINGS = ("jobID", "jobId")  # of the property, in the filter for one job: the payload's, the documented one


class _Doubtful(AskForLess):
    """It isn't known whether a way of asking for a job is refused."""


class Shown(NamedTuple):
    """One job as the source shows it: its raw row, and when that was, by the source's clock.

    `replaced_characters`: of the answer it came in.
    """

    row: bytes
    answered_at: datetime
    replaced_characters: int = 0


class Api(Pages):
    """One source's service. Safe to use from several threads: it does no harm if one reads an old `latency`."""

    def __init__(
        self,
        source: Source,
        clock: Clock,
        transport: httpx.BaseTransport | None = None,
        notice: Callable[[str], None] = lambda _: None,
        heard: Callable[[Exchange], None] | None = None,
        *,
        overheard: Overheard | None = None,
        line: Line | None = None,
        signed_in: Token | Grant | None = None,
    ) -> None:
        self._base = source.base_url
        self._single = 0  # the way in which one job is asked for: a spelling, or beyond them the plain path
        self.keys_a_list = self.keys_refused = math.inf  # keys in a list that the service answers, and refuses
        self.page_size = source.page_size
        self.monotonic = clock.monotonic
        auth = signed_in or sign_in(source, clock)
        self._sender = Sender(source, clock, auth, transport, line, heard, overheard)
        super().__init__(Attempts(source, clock, auth, self._sender, notice), Capabilities(clock.now))

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
        self.offer_pages_anew()
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
    def is_known(self) -> bool:
        """Whether the address gave a good answer in this run, or in the last 30 days."""
        return self._attempts.is_known

    @property
    def ahead(self) -> timedelta | None:
        """How far the source's clock is ahead of ours, by its last answer."""
        return self._attempts.source_clock.ahead

    @property
    def usage(self) -> Usage:
        """What was asked so far, sign-ins included."""
        return self._sender.usage

    @property
    def can_filter_jobs(self) -> bool:
        """Whether jobs can be asked for by a filter on jobID, as far as is known."""
        return self._single == 0 and self.capabilities.supports("job_filter")

    @property
    def can_ask_for_jobs(self) -> bool:
        """Whether single jobs can be asked for at all, as far as is known."""
        return self.capabilities.supports("job_filter") or self.capabilities.supports("plain_path")

    # -- single jobs -------------------------------------------------------------------------------------------------

    def job(self, job_id: str, ended: threading.Event = NEVER, *, attempts: int = ATTEMPTS) -> Shown | None:
        """Return one job as the source shows it now; None where it shows none of that id.

        The collection is asked, in the payload's spelling of the property and in the documented one; where it refuses
        both, the plain path. The case of letters in the id doesn't count. Raises SourceError, among them BrokenPromise
        for what is another job.
        """
        first: SourceError | None = None
        last: SourceError | None = None
        begin = self._single if self.capabilities.supports("job_filter") else len(JOB_ID_SPELLINGS)
        for way in range(begin, len(JOB_ID_SPELLINGS) + 1):
            try:
                if way < len(JOB_ID_SPELLINGS):
                    shown = self._job_of_collection(job_id, JOB_ID_SPELLINGS[way], ended, attempts)
                else:
                    shown = self._plain_job(job_id, ended, attempts)
            except (AskForLess, BrokenPromise) as error:
                first, last = first or error, error
            except Refused as error:
                if way < len(JOB_ID_SPELLINGS):
                    raise
                first, last = first or error, error
            else:
                self._single = way
                self._learn_way(way, first)
                return shown
        assert first is not None
        if begin < len(JOB_ID_SPELLINGS):
            self._learn_no_way("job_filter", first)
        self._learn_no_way("plain_path", last)
        raise first

    def _learn_no_way(self, name: str, error: SourceError | None) -> None:
        """Take in that a way of asking for one job was refused: not where it worked lately, nor for want of a right."""
        has_right = not isinstance(error, Refused) or error.status not in (401, 403)
        is_plain = error is not None and has_right and not isinstance(error, _Doubtful)
        if error is not None and is_plain and not self.capabilities.was_honoured_lately(name):
            self.capabilities.refuse(name, error.words)

    def _learn_way(self, way: int, refusal: SourceError | None) -> None:
        """Take in which way of asking for one job was answered, and which was refused before it."""
        if way < len(JOB_ID_SPELLINGS):
            self.capabilities.confirm("job_filter", "answered")
            return
        self.capabilities.confirm("plain_path", "answered")
        self._learn_no_way("job_filter", refusal)

    def find_by_path(self, job_id: str, *, attempts: int = ATTEMPTS) -> Shown | None:
        """Return a job by its plain path alone; None where the service says that there is none. Raises SourceError."""
        return self._plain_job(job_id, NEVER, attempts)

    def _job_of_collection(self, job_id: str, name: str, ended: threading.Event, attempts: int) -> Shown | None:
        query = odata.query([f"{name} eq {odata.literal(job_id)}"])
        try:
            reply = self.page(query, ended, attempts=attempts, can_do_without=True)
        except Refused as error:
            if error.is_query:
                raise with_id(AskForLess(str(error), is_too_large=False), error.request_id) from None
            raise
        except Unreachable as error:
            if error.is_doubtful:  # too few attempts to tell whether it is refused: perhaps the next way is answered
                raise with_id(_Doubtful(str(error), is_too_large=False), error.request_id) from None
            raise
        return self._find_job(job_id, reply.answer.rows, reply.answered_at, reply.answer.replaced_characters)

    def _plain_job(self, job_id: str, ended: threading.Event, attempts: int) -> Shown | None:
        """Return a job by its plain path. A 404 with JSON says that there is none; any other refusal says nothing."""
        path = f"{JOB}/{quote(job_id, safe='')}"
        question = Question(is_known=self._attempts.is_known, can_do_without=True)
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
            self._attempts.hold(NEVER)
            try:
                url = f"{self._base}{JOB}/{quote(job_id, safe='')}/rerun"
                answer, _ = self._sender.send("POST", url, {}, NEVER)
            except Again as error:
                if error.was_sent:
                    return str(error)
                failed = error
            else:
                return self._judge_rerun(job_id, answer)
            if attempt < _ATTEMPTS_TO_CONNECT:
                self._attempts.pause(self._attempts.seconds_to_wait(Failure(failed), attempt), NEVER)
        raise Unreachable(f"{self._base} can't be reached ({failed}): nothing was sent; check the network, try again")

    def _judge_rerun(self, job_id: str, answer: Answer) -> str | None:
        """What an answer to a rerun says: None for yes, else what is wrong with it. Raises Refused, SignInFailed."""
        reading = self._attempts.mask(answers.read_answer(answer, Question(can_do_without=True)))
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
