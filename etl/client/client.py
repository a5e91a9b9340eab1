"""The AIMS360 client: a page, one job, a rerun; retried as their answers want (`answers`).

Addresses are built by hand, complete: httpx's `params=` would turn spaces into `+`, which the service doesn't read.
Redirects are not followed, and the token goes to the configured host alone.
"""

import itertools
import math
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, NoReturn, Self, TypeVar
from urllib.parse import quote

import httpx

from etl import shutdown
from etl.client import answers, network_errors, odata, payload
from etl.client.answers import Answer, Meaning, Question, Reading
from etl.client.auth import Grant, Token, sign_in, way_out
from etl.client.retry import LONGEST_RETRY_AFTER, Again, given_at, held_for, jitter, retry_after
from etl.client.sender import JOBS, Sender
from etl.client.transport import Line
from etl.config.settings import Source
from etl.errors import AskForLess, BadAnswer, BrokenPromise, Refused, SignInFailed, SourceError, Unreachable
from etl.models import Clock, Exchange, Usage

COLLECTION = f"{JOBS}odata/v1.0/backgroundjob"
JOB = f"{JOBS}v1.0/backgroundjob"

_ATTEMPTS = 8
_ATTEMPTS_TO_CONNECT = 4
_LONGEST_WAIT = 60.0  # seconds between two attempts
_PIECE = 1.0  # seconds
_WORTH_A_WORD = 2.0  # seconds of waiting
_NEVER = threading.Event()
_Error = TypeVar("_Error", bound=SourceError)
_SPELLINGS = ("jobID", "jobId")  # of the property, in the filter for one job: the payload's, the documented one
# A Date header beyond is wrong, and beyond a look-back nothing would catch up: it bounds the watermark.
_FAR_AHEAD = timedelta(hours=1)


class Reply(NamedTuple):
    """A good answer of the collection with the time it was given, by the source's clock."""

    answer: payload.Answer
    answered_at: datetime


class Shown(NamedTuple):
    """One job as the source shows it: its raw row, and when that was, by the source's clock."""

    row: bytes
    answered_at: datetime


@dataclass(slots=True)
class _Failure:
    """An attempt that failed: why, and the answer if one came."""

    error: Again | BadAnswer
    answer: Answer | None = None
    reading: Reading | None = None
    in_flight: int = 1  # requests, with it

    @property
    def is_doubtful(self) -> bool:
        return self.reading is not None and self.reading.is_doubtful

    @property
    def said(self) -> str:
        """What the service said, without the number that it gave to this request."""
        return self.reading.said.replace(self.reading.request_id or "", "") if self.reading else str(self.error)

    @property
    def is_too_large(self) -> bool:
        return isinstance(self.error, Again) and self.error.is_too_large

    @property
    def is_spoilt(self) -> bool:
        """Whether the service failed at what was asked, for what it holds perhaps: not for being busy."""
        return isinstance(self.error, BadAnswer) or self.error.is_spoilt


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
        self._clock = clock
        self._auth = signed_in or sign_in(source, clock)
        self._notice = notice  # hears of waits that somebody may wonder about
        self._far_ahead = min(_FAR_AHEAD, source.look_back)
        self._held_until = 0.0  # monotonic seconds; one 429 holds every thread back
        self._has_doubted = False
        self._lock = threading.Lock()
        self.is_known = False  # the address gave a good answer in this run, or in the last 30 days
        self._good = 0  # good answers so far
        self._light: str | None = None  # the query whose good answer was the shortest in this run
        self._lightest = math.inf
        self._single = 0  # the way in which one job is asked for: a spelling, or beyond them the plain path
        self.latency = math.inf  # seconds: its quickest answer
        self.ahead: timedelta | None = None  # the source's clock of ours, by its last answer
        self.keys_a_list = math.inf  # keys in a list that the service answers, as far as it has shown
        self.largest_page = 0  # rows
        self.page_size = source.page_size
        self.monotonic = clock.monotonic
        self._sender = Sender(source, clock, self._auth, transport, line, heard)

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
        with self._lock:
            self.latency, self.is_known = math.inf, is_known
            self._light, self._lightest = None, math.inf
            self.keys_a_list, self.largest_page = math.inf, 0
        self._sender.begin_anew(within)

    @property
    def bears(self) -> int:
        """Requests in flight that the source bears at the moment, as far as it has shown."""
        return self._sender.throttle.limit

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
        attempts: int = _ATTEMPTS,
        can_shrink: bool = False,
        is_least: bool = False,
        has_another_way: bool = False,
        another: str | None = None,
    ) -> Reply:
        """Return the rows that a query of the collection brings. Raises SourceError after every retry.

        `ended`, set by another thread, ends the waiting for a next attempt. `page_size` is a wish. `can_shrink`: what
        fails for good, while other requests are answered, raises AskForLess; what takes too long does so at once,
        unless the query `is_least`, so that nothing smaller can be asked. `has_another_way`: so does what is refused
        without a reason. `another`: the other request, where the caller knows one.
        """
        headers = {} if page_size is None else {"Prefer": f"odata.maxpagesize={page_size}"}
        question = Question(query, self.is_known, has_another_way)
        refusals = failures = 0  # with another request answered after each
        refusal = ""
        for attempt in itertools.count(1):
            failed = self._try(question, headers, ended)
            if isinstance(failed, Reply):
                return failed
            good = self._good
            if can_shrink and failed.is_too_large and not is_least:
                raise self._ask_for_less(failed, query, attempt, is_too_large=True)
            self._check_network(failed, attempt, attempts)
            if attempt >= attempts:
                raise self._final_error(failed, query, attempts)
            self._wait(failed, attempt, ended)
            is_doubtful = failed.is_doubtful and failed.in_flight == 1  # of several there may have been too many
            is_failing = can_shrink and failed.is_spoilt and not failed.is_doubtful and attempt > 1
            if not is_doubtful and not is_failing:
                continue
            other = self._choose_another(query) if another is None else another
            is_confirmed = self._good > good or self._is_answered(other, failed, query, ended)
            if failed.answer is not None and is_doubtful:
                refusals, refusal = is_confirmed + (refusals if failed.said == refusal else 0), failed.said
                question = question._replace(refusals=refusals)
                self._judge(failed.answer, answers.read_page(failed.answer, question)[0], question)
            elif (failures := failures + is_confirmed) >= answers.ENOUGH:
                raise self._ask_for_less(failed, query, attempt, is_too_large=False)
        raise AssertionError

    def _try(self, question: Question, headers: Mapping[str, str], ended: threading.Event) -> Reply | _Failure:
        """Ask once. What it comes to may be final: then it is raised."""
        self._hold(ended)
        began = self.monotonic()
        url = f"{self._base}{COLLECTION}?{question.query}" if question.query else f"{self._base}{COLLECTION}"
        try:
            answer, in_flight = self._sender.send("GET", url, dict(headers), ended)
        except Again as error:
            if error.was_sent:
                self._sender.throttle.drop_limit(1, too_many=False)
            return _Failure(error)
        self.latency = min(self.latency, self.monotonic() - began)
        reading, rows = answers.read_page(answer, question)
        self._heed(answer, reading, question, in_flight)
        if rows is not None:
            self.largest_page = max(self.largest_page, len(rows.rows))
            return Reply(rows, self._answered_at(answer.headers))
        failed = self._judge(answer, reading, question)
        failed.in_flight = in_flight
        return failed

    def _heed(self, answer: Answer, reading: Reading, question: Question, in_flight: int) -> None:
        """Take in what an answer says of how busy the service is, and remember what it answers well."""
        throttle = self._sender.throttle
        if reading.meaning is Meaning.OK:
            throttle.raise_limit()
            with self._lock:
                self._good += 1
                self.is_known = True
                if len(answer.body) < self._lightest:
                    self._light, self._lightest = question.query, len(answer.body)
        elif reading.is_overload or reading.is_doubtful:
            throttle.drop_limit(in_flight, too_many=reading.is_doubtful and answer.status == 403)
        if answer.status == 429:
            pause = held_for(retry_after(answer.headers, self._clock.now()))
            with self._lock:
                self._held_until = max(self._held_until, self.monotonic() + pause)

    def _judge(self, answer: Answer, reading: Reading, question: Question) -> _Failure:
        """Return the failure that is worth another attempt. Raises what is final."""
        said = self._auth.masked(reading.said)
        if reading.meaning is Meaning.RETRY:
            if answer.status == 200:
                error: Again | BadAnswer = BadAnswer(said)
            else:
                wait = retry_after(answer.headers, self._clock.now())
                is_spoilt = answer.status >= 500
                error = Again(said, wait, is_too_large=answer.status in answers.TOO_SLOW, is_spoilt=is_spoilt)
            error.request_id = reading.request_id
            return _Failure(error, answer, reading)
        shown = _show(question.query)
        final: SourceError
        if reading.meaning is Meaning.SIGN_IN:
            final = SignInFailed(
                f"{self._base} refused the token, fresh from signing in: {said}; have AIMS360 let this user use its API"
            )
        elif reading.meaning is Meaning.LESS:
            final = AskForLess(
                f"{self._base} can't be asked for so much at a time ({said}) with {shown}", is_too_large=True
            )
        else:
            advice = way_out(answer.status, self._base)
            is_query = reading.meaning is Meaning.REFUSED
            final = Refused(
                f"{self._base} refused a request ({said}) with {shown}; {advice}",
                answer.status,
                is_query=is_query,
                option=reading.option,
            )
        raise _with_id(final, reading.request_id)

    def _choose_another(self, query: str) -> str:
        """Return another request that was answered in this run with little effort; else the plain one."""
        return self._light if self._light is not None and self._light != query else ""

    def _is_answered(self, other: str, failed: _Failure, query: str, ended: threading.Event) -> bool:
        """Whether another request is answered well now. Raises Refused where all are refused."""
        try:
            came = self._try(Question(other, is_known=True), {"Prefer": "odata.maxpagesize=1"}, ended)
        except (Refused, AskForLess) as error:
            if failed.is_doubtful:
                refused = Refused(f"{error}; it refuses {_show(query)} as well", 0)
                raise _with_id(refused, error.request_id) from None
            return False
        if isinstance(came, Reply):
            return True
        if came.is_doubtful and came.in_flight == 1 and failed.is_doubtful and failed.answer is not None:
            self._refuse_all(failed)
        return False

    def _refuse_all(self, failed: _Failure) -> NoReturn:
        """Raise Refused for a service that refuses any request."""
        assert failed.answer is not None
        status = failed.answer.status
        said = f"{self._base} refuses every request ({failed.error}); {way_out(status, self._base)}"
        raise _with_id(Refused(said, status), failed.error.request_id)

    def _check_network(self, failed: _Failure, attempt: int, attempts: int) -> None:
        """Raise Unreachable where what is in the way of a connection will stay there."""
        hindrance = failed.error.hindrance if isinstance(failed.error, Again) else None
        if hindrance and attempt >= min(hindrance.tries, attempts):
            raise Unreachable(
                f"{self._base} can't be reached: {failed.error} "
                f"(tried {'once' if attempt == 1 else f'{attempt} times'}); "
                f"{hindrance.advice}. Nothing is lost, the next run goes on"
            )

    def _ask_for_less(self, failed: _Failure, query: str, attempts: int, *, is_too_large: bool) -> AskForLess:
        tries = "once" if attempts == 1 else f"{attempts} times"
        said = f"{self._base} doesn't serve {_show(query)}: {failed.error} (asked {tries})"
        return _with_id(AskForLess(said, is_too_large=is_too_large), failed.error.request_id)

    def _final_error(self, failed: _Failure, query: str, attempts: int) -> SourceError:
        """Return the error of a request that was never answered well."""
        error = failed.error
        final: SourceError
        if isinstance(error, BadAnswer):
            advice = network_errors.who_else(self._base) or "check the base address, and tell AIMS360"
            final = BadAnswer(
                f"{self._base}: {error}, {attempts} times, for {_show(query)}; nothing is lost, the next run goes on. "
                f"If it stays so, {advice}"
            )
        else:
            advice = network_errors.who_else(self._base) or "check the base address and the network"
            final = Unreachable(
                f"{self._base} gave no good answer in {attempts} tries (last: {error}) for {_show(query)}; nothing is "
                f"lost, the next run goes on. If it stays so, {advice}"
            )
        return _with_id(final, error.request_id)

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
                raise _with_id(AskForLess(str(error), is_too_large=False), error.request_id) from None
            raise
        return self._find_job(job_id, reply.answer.rows, reply.answered_at)

    def _plain_job(self, job_id: str, ended: threading.Event, attempts: int) -> Shown | None:
        """Return a job by its plain path. A 404 with JSON says that there is none; any other refusal says nothing."""
        path = f"{JOB}/{quote(job_id, safe='')}"
        question = Question(is_known=self.is_known, has_another_way=True)
        refusals = 0  # with another request answered after each
        for attempt in range(1, attempts + 1):
            self._hold(ended)
            try:
                answer, in_flight = self._sender.send("GET", self._base + path, {}, ended)
            except Again as error:
                failed = _Failure(error)
            else:
                reading, row = answers.read_job(answer, question)
                self._heed(answer, reading, question, in_flight)
                if row is not None:
                    return self._find_job(job_id, [row], self._answered_at(answer.headers))
                if reading.meaning is Meaning.OK:
                    return None
                failed = self._judge(answer, reading, question._replace(query=path))
            self._check_network(failed, attempt, attempts)
            if attempt < attempts:
                self._wait(failed, attempt, ended)
            if failed.answer is not None and failed.is_doubtful:
                refusals += self._is_answered(self._choose_another(path), failed, path, ended)
                question = question._replace(refusals=refusals)
                self._judge(failed.answer, answers.read_job(failed.answer, question)[0], question._replace(query=path))
        raise self._final_error(failed, path, attempts)

    def _find_job(self, job_id: str, rows: Sequence[bytes], answered_at: datetime) -> Shown | None:
        for row in rows:
            if str(odata.stamp(row).jobID).lower() == job_id.lower():
                return Shown(row, answered_at)
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
            self._hold(_NEVER)
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
                self._pause(self._seconds_to_wait(_Failure(failed), attempt), _NEVER)
        raise Unreachable(f"{self._base} can't be reached ({failed}): nothing was sent; check the network, try again")

    def _judge_rerun(self, job_id: str, answer: Answer) -> str | None:
        """What an answer to a rerun says: None for yes, else what is wrong with it. Raises Refused, SignInFailed."""
        reading = answers.read_answer(answer, Question(has_another_way=True))
        said = self._auth.masked(reading.said)
        if reading.meaning is Meaning.OK:
            is_yes = answer.status == 204 or payload.is_answer_about(job_id, answer.body)
            return None if is_yes else f"HTTP {answer.status}, but what it says is no answer to a rerun"
        if reading.meaning is Meaning.RETRY:
            return said
        if reading.meaning is Meaning.SIGN_IN:
            failed = f"{self._base} refused the token, fresh from signing in: {said}; nothing was run again"
            raise _with_id(SignInFailed(failed), reading.request_id)
        refused = Refused(f"{self._base} refuses to run job {job_id} again ({said}); nothing was done", answer.status)
        raise _with_id(refused, reading.request_id)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _wait(self, failed: _Failure, attempt: int, ended: threading.Event) -> None:
        """Wait before the next attempt, and say so where it takes long."""
        seconds = self._seconds_to_wait(failed, attempt)
        self._sender.count_retry()
        if seconds >= _WORTH_A_WORD:
            self._notice(f"{self._base}: {failed.error}; asked again in {seconds:.0f} s")
        self._pause(seconds, ended, f"last: {failed.error}")

    def _seconds_to_wait(self, failed: _Failure, attempt: int) -> float:
        """Seconds until the next attempt: what the source asks for, else doubling with full jitter."""
        asked = failed.error.retry_after if isinstance(failed.error, Again) else None
        if asked is None:
            is_unclear = failed.is_doubtful and failed.reading is not None and not failed.reading.is_overload
            return answers.BETWEEN_REFUSALS if is_unclear else jitter(attempt, _LONGEST_WAIT)
        with self._lock:
            self._held_until = max(self._held_until, self.monotonic() + asked)
        if asked > LONGEST_RETRY_AFTER:
            raise Unreachable(
                f"{self._base} asks to be left alone for {asked:.0f} s; nothing is lost, run again after that"
            )
        return asked + random.uniform(0.0, 1.0)  # noqa: S311 - jitter, no secret

    def _hold(self, ended: threading.Event) -> None:
        """Waits until the source wants to hear from us again: a 429 in one thread holds for all."""
        while (wait := self._held_until - self.monotonic()) > 0:
            self._pause(wait, ended)

    def _pause(self, seconds: float, ended: threading.Event, why: str = "") -> None:
        """Sleeps in pieces, so that a run that has failed elsewhere isn't kept waiting for a patient thread."""
        if not self._sender.has_time_for(seconds):
            raise self._sender.out_of_time(why or f"it wants to be left alone for {seconds:.0f} s")
        while seconds > 0:
            shutdown.check()
            if ended.is_set():
                raise Unreachable("given up, since the run has ended")
            self._clock.sleep(min(seconds, _PIECE))
            seconds -= _PIECE

    # -- the source's time -------------------------------------------------------------------------------------------

    def _answered_at(self, headers: Mapping[str, str]) -> datetime:
        """The source's time; ours where it says none or one far ahead of ours. Earlier is always safe."""
        date, now = given_at(headers), self._clock.now()
        if date is None:
            return now
        self.ahead = date - now
        if date > now + self._far_ahead:
            self._doubts(date, now)
            return now
        return date

    def _doubts(self, date: datetime, now: datetime) -> None:
        """Says once that the source's clock isn't believed: nothing is lost by that, but it looks as if it lagged."""
        with self._lock:
            is_first, self._has_doubted = not self._has_doubted, True
        if is_first:
            self._notice(
                f"{self._base}: its clock says {date:%Y-%m-%d %H:%M} UTC, this machine's {now:%Y-%m-%d %H:%M}: the "
                "earlier one is gone by. Set this machine's clock; until then it looks as if the mirror lagged"
            )


def _with_id(error: _Error, request_id: str | None) -> _Error:
    """Return the error with what AIMS360's support looks its request up by."""
    error.request_id = request_id
    return error


def _show(query: str) -> str:
    """A query for people: as sent, but with its spaces."""
    return f"[{query.replace('%20', ' ')[:300]}]"
