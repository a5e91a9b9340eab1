"""Asks the service once, takes in what its answer means, and waits before the next attempt.

What an answer means is `answers`; how often is tried, and what else, is the client's.
"""

import math
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, NoReturn, TypeVar

from etl import shutdown
from etl.client import answers, network_errors, payload
from etl.client.answers import Answer, Meaning, Question, Reading
from etl.client.auth import Grant, Token, way_out
from etl.client.retry import LONGEST_RETRY_AFTER, Again, held_for, jitter, retry_after
from etl.client.sender import JOBS, Sender
from etl.client.source_clock import SourceClock
from etl.config.settings import Source
from etl.errors import AskForLess, BadAnswer, Refused, SignInFailed, SourceError, Unreachable
from etl.models import Clock

COLLECTION = f"{JOBS}odata/v1.0/backgroundjob"

_LONGEST_WAIT = 60.0  # seconds between two attempts
_ALL_REFUSED = 2  # times, and the service refuses every request
_PIECE = 1.0  # seconds
_WORTH_A_WORD = 2.0  # seconds of waiting
_BUSY = "it answered before: perhaps it allows fewer requests at a time. Nothing is lost, the next run goes on"

_Error = TypeVar("_Error", bound=SourceError)


class Reply(NamedTuple):
    """A good answer of the collection with the time it was given, by the source's clock."""

    answer: payload.Answer
    answered_at: datetime


@dataclass(slots=True)
class Failure:
    """An attempt that failed: why, and the answer if one came."""

    error: Again | BadAnswer
    answer: Answer | None = None
    reading: Reading | None = None
    in_flight: int = 1  # requests, with it

    @property
    def is_doubtful(self) -> bool:
        return self.reading is not None and self.reading.is_doubtful

    @property
    def is_overload(self) -> bool:
        return self.reading is not None and self.reading.is_overload

    @property
    def is_unclear(self) -> bool:
        """Whether the service refuses what was asked without saying why; a busy one would not."""
        return self.is_doubtful and not self.is_overload

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


class Attempts:
    """The requests of one source's client, one attempt at a time. Safe to use from several threads."""

    def __init__(
        self, source: Source, clock: Clock, auth: Token | Grant, sender: Sender, notice: Callable[[str], None]
    ) -> None:
        self._base = source.base_url
        self._clock = clock
        self._auth = auth
        self._sender = sender
        self._notice = notice  # hears of waits that somebody may wonder about
        self._held_until = 0.0  # monotonic seconds; one 429 holds every thread back
        self._all_refused = 0  # times that a query and another request were refused, with no good answer in between
        self._light: str | None = None  # the query whose good answer was the shortest in this run
        self._lightest = math.inf
        self._lock = threading.Lock()
        self.good = 0  # answers so far
        self.is_known = False  # the address gave a good answer in this run, or in the last 30 days
        self.latency = math.inf  # seconds: its quickest answer
        self.source_clock = SourceClock(source, clock, notice)
        self.monotonic = clock.monotonic

    def begin_anew(self, *, is_known: bool) -> None:
        """Forget how busy and how far away the source was: for another run."""
        with self._lock:
            self.latency, self.is_known = math.inf, is_known
            self._light, self._lightest = None, math.inf

    def try_page(self, question: Question, headers: Mapping[str, str], ended: threading.Event) -> Reply | Failure:
        """Ask once. What it comes to may be final: then it is raised."""
        self.hold(ended)
        began = self.monotonic()
        url = f"{self._base}{COLLECTION}?{question.query}" if question.query else f"{self._base}{COLLECTION}"
        try:
            answer, in_flight = self._sender.send("GET", url, dict(headers), ended)
        except Again as error:
            if error.was_sent:
                self._sender.throttle.drop_limit(1, too_many=False)
            return Failure(error)
        self.latency = min(self.latency, self.monotonic() - began)
        reading, rows = answers.read_page(answer, question)
        self.heed(answer, reading, question, in_flight)
        if rows is not None:
            return Reply(rows, self.source_clock.read_time(answer.headers))
        failed = self.judge(answer, reading, question)
        failed.in_flight = in_flight
        return failed

    def heed(self, answer: Answer, reading: Reading, question: Question, in_flight: int) -> None:
        """Take in what an answer says of how busy the service is, and remember what it answers well."""
        throttle = self._sender.throttle
        if reading.meaning is Meaning.OK:
            throttle.raise_limit()
            with self._lock:
                self.good += 1
                self._all_refused = 0
                self.is_known = True
                if len(answer.body) < self._lightest:
                    self._light, self._lightest = question.query, len(answer.body)
        elif reading.is_overload or reading.is_doubtful:
            throttle.drop_limit(in_flight, too_many=reading.is_doubtful and answer.status == 403)
        if answer.status == 429:
            pause = held_for(retry_after(answer.headers, self._clock.now()))
            with self._lock:
                self._held_until = max(self._held_until, self.monotonic() + pause)

    def judge(self, answer: Answer, reading: Reading, question: Question) -> Failure:
        """Return the failure that is worth another attempt. Raises what is final."""
        reading = self.mask(reading)
        said = reading.said
        if reading.meaning is Meaning.RETRY:
            if answer.status == 200:
                error: Again | BadAnswer = BadAnswer(said)
            else:
                wait = retry_after(answer.headers, self._clock.now())
                is_spoilt = answer.status >= 500
                error = Again(said, wait, is_too_large=answer.status in answers.TOO_SLOW, is_spoilt=is_spoilt)
            error.request_id = reading.request_id
            return Failure(error, answer, reading)
        shown = show_query(question.query)
        final: SourceError
        if reading.meaning is Meaning.SIGN_IN:
            final = SignInFailed(
                f"{self._base} refused the token, fresh from signing in: {said}; have AIMS360 let this user use its API"
            )
        elif reading.meaning is Meaning.LESS:
            final = AskForLess(
                f"{self._base} can't be asked for so much at a time ({said}) with {shown}",
                is_too_large=True,
                is_too_long=question.is_long and reading.option is None,
            )
        else:
            advice = _BUSY if reading.is_overload else way_out(answer.status, self._base)
            is_query = reading.meaning is Meaning.REFUSED
            final = Refused(
                f"{self._base} refused a request ({said}) with {shown}; {advice}",
                answer.status,
                is_query=is_query,
                option=reading.option,
                said=said,
            )
        final.said = said
        raise with_id(final, reading.request_id)

    def refuse(self, failed: Failure, query: str) -> Refused:
        """Return the error of a query that was refused without a reason."""
        status = failed.answer.status if failed.answer is not None else 0
        said = f"{self._base} refused a request ({failed.error}) with {show_query(query)}"
        refused = Refused(f"{said}; {way_out(status, self._base)}", status, is_query=True, said=failed.said)
        return with_id(refused, failed.error.request_id)

    def mask(self, reading: Reading) -> Reading:
        """Hide the secrets that were sent to the service, where it repeats them."""
        request_id = reading.request_id and self._auth.masked(reading.request_id)
        return reading._replace(said=self._auth.masked(reading.said), request_id=request_id)

    def choose_another(self, query: str) -> str:
        """Return another request that was answered in this run with little effort; else the plain one."""
        return self._light if self._light is not None and self._light != query else ""

    def is_answered(self, other: str, failed: Failure, query: str, ended: threading.Event) -> bool:
        """Whether another request is answered well now. Raises Refused where all are refused."""
        try:
            came = self.try_page(Question(other, is_known=True), {"Prefer": "odata.maxpagesize=1"}, ended)
        except (Refused, AskForLess) as error:
            if failed.is_doubtful:
                refused = Refused(f"{error}; it refuses {show_query(query)} as well", 0)
                raise with_id(refused, error.request_id) from None
            return False
        if isinstance(came, Reply):
            return True
        if came.is_doubtful and came.in_flight == 1 and failed.is_doubtful and failed.answer is not None:
            self._all_refused += 1
            if self._all_refused == _ALL_REFUSED or not came.is_overload:  # once may be what others ask of the service
                self._refuse_all(failed)
        return False

    def _refuse_all(self, failed: Failure) -> NoReturn:
        """Raise Refused for a service that refuses any request."""
        assert failed.answer is not None
        status = failed.answer.status
        advice = _BUSY if failed.is_overload else way_out(status, self._base)
        said = f"{self._base} refuses every request ({failed.error}); {advice}"
        raise with_id(Refused(said, status), failed.error.request_id)

    def check_network(self, failed: Failure, attempt: int, attempts: int) -> None:
        """Raise Unreachable where what is in the way of a connection will stay there."""
        hindrance = failed.error.hindrance if isinstance(failed.error, Again) else None
        if hindrance and attempt >= min(hindrance.tries, attempts):
            raise Unreachable(
                f"{self._base} can't be reached: {failed.error} "
                f"(tried {'once' if attempt == 1 else f'{attempt} times'}); "
                f"{hindrance.advice}. Nothing is lost, the next run goes on"
            )

    def ask_for_less(self, failed: Failure, query: str, attempts: int, *, is_too_large: bool) -> AskForLess:
        tries = "once" if attempts == 1 else f"{attempts} times"
        said = f"{self._base} doesn't serve {show_query(query)}: {failed.error} (asked {tries})"
        error = with_id(AskForLess(said, is_too_large=is_too_large), failed.error.request_id)
        error.said = failed.said
        return error

    def final_error(self, failed: Failure, query: str, attempts: int) -> SourceError:
        """Return the error of a request that was never answered well."""
        error = failed.error
        final: SourceError
        if isinstance(error, BadAnswer):
            advice = network_errors.who_else(self._base) or "check the base address, and tell AIMS360"
            final = BadAnswer(
                f"{self._base}: {error}, {attempts} times, for {show_query(query)}; nothing is lost, the next run "
                f"goes on. If it stays so, {advice}"
            )
        else:
            advice = network_errors.who_else(self._base) or "check the base address and the network"
            final = Unreachable(
                f"{self._base} gave no good answer in {attempts} tries (last: {error}) for {show_query(query)}; "
                f"nothing is lost, the next run goes on. If it stays so, {advice}"
            )
            final.was_answered, final.is_doubtful = failed.answer is not None, failed.is_doubtful
        final.said = failed.said
        return with_id(final, error.request_id)

    def wait(self, failed: Failure, attempt: int, ended: threading.Event) -> None:
        """Wait before the next attempt, and say so where it takes long."""
        seconds = self.seconds_to_wait(failed, attempt)
        self._sender.count_retry()
        if seconds >= _WORTH_A_WORD:
            self._notice(f"{self._base}: {str(failed.error).rstrip('.')}; asked again in {seconds:.0f} s")
        self.pause(seconds, ended, f"last: {failed.error}")

    def seconds_to_wait(self, failed: Failure, attempt: int) -> float:
        """Seconds until the next attempt: what the source asks for, else doubling with full jitter."""
        asked = failed.error.retry_after if isinstance(failed.error, Again) else None
        if asked is None:
            return answers.BETWEEN_REFUSALS if failed.is_unclear else jitter(attempt, _LONGEST_WAIT)
        with self._lock:
            self._held_until = max(self._held_until, self.monotonic() + asked)
        if asked > LONGEST_RETRY_AFTER:
            raise Unreachable(f"{self._base} asks for a pause of {asked:.0f} s; nothing is lost, run again after that")
        return asked + random.uniform(0.0, 1.0)  # noqa: S311 - jitter, no secret

    def hold(self, ended: threading.Event) -> None:
        """Waits until the source wants to hear from us again: a 429 in one thread holds for all."""
        while (wait := self._held_until - self.monotonic()) > 0:
            self.pause(wait, ended)

    def pause(self, seconds: float, ended: threading.Event, why: str = "") -> None:
        """Sleeps in pieces, so that a run that has failed elsewhere isn't kept waiting for a patient thread."""
        if not self._sender.has_time_for(seconds):
            raise self._sender.out_of_time(why or f"it asks for a pause of {seconds:.0f} s")
        while seconds > 0:
            shutdown.check()
            if ended.is_set():
                raise Unreachable("given up, since the run has ended")
            self._clock.sleep(min(seconds, _PIECE))
            seconds -= _PIECE


def with_id(error: _Error, request_id: str | None) -> _Error:
    """Return the error with what AIMS360's support looks its request up by."""
    error.request_id = request_id
    return error


def show_query(query: str) -> str:
    """Return a query for people: as sent, but with its spaces."""
    return f"[{query.replace('%20', ' ')[:300] or 'no options'}]"
