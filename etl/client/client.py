"""The AIMS360 client: time limits, retries; a page, one job, a rerun.

Addresses are built by hand, complete: httpx's `params=` would turn spaces into `+`, which the service doesn't read.
Redirects are not followed, and the token goes to the configured host alone.
"""

import math
import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import NamedTuple, Self
from urllib.parse import quote

import httpx

from etl import __version__, shutdown
from etl.client import network_errors, odata, payload
from etl.client.auth import SIGN_IN, Grant, Token, sign_in, way_out
from etl.client.deadline import Patience
from etl.client.retry import AGAIN, LONGEST_RETRY_AFTER, Again, given_at, held_for, jitter, retry_after
from etl.client.transport import Line, client, limits
from etl.config.settings import Source
from etl.errors import BadAnswer, BrokenPromise, OutOfTime, Refused, SignInFailed, SourceError, Unreachable
from etl.models import Clock, Exchange, Usage

JOBS = "/jobsmanagement/"
COLLECTION = f"{JOBS}odata/v1.0/backgroundjob"
JOB = f"{JOBS}v1.0/backgroundjob"

NO_ANSWER = "none"  # the status of a request that got none

_ATTEMPTS = 8
_ATTEMPTS_TO_CONNECT = 4
_LONGEST_WAIT = 60.0  # seconds between two attempts
_WHOLE_ANSWER = 180.0  # seconds; a source that drips bytes never meets a read timeout
_LARGEST_ANSWER = 256 * 2**20  # bytes
_PIECE = 1.0  # seconds
_WORTH_A_WORD = 2.0  # seconds of waiting
_NEVER = threading.Event()
# A Date header beyond is wrong, and beyond a look-back nothing would catch up: it bounds the watermark.
_FAR_AHEAD = timedelta(hours=1)
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Reply(NamedTuple):
    """A good answer of the collection with the time it was given, by the source's clock."""

    answer: payload.Answer
    answered_at: datetime


class Shown(NamedTuple):
    """One job as the source shows it: its raw row, and when that was, by the source's clock."""

    row: bytes
    answered_at: datetime


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
        self._heard = heard  # hears of each request
        self._far_ahead = min(_FAR_AHEAD, source.look_back)
        self._held_until = 0.0  # monotonic seconds; one 429 holds every thread back
        self._slowed_at = -1.0  # monotonic seconds: when it last had that effect
        self._within = self._until = math.inf  # seconds for a run, and monotonic seconds when they are over
        self._has_doubted = False
        self._lock = threading.Lock()
        self._under_way = threading.local()
        self._requests = self._retries = 0
        self._statuses: Counter[str] = Counter()
        self._most = source.concurrency
        self.bears = self._most  # requests at a time, as far as the source has said
        self.latency = math.inf  # seconds: its quickest answer
        self.ahead: timedelta | None = None  # the source's clock of ours, by its last answer
        self.monotonic = clock.monotonic
        self._patience = line.patience if line else Patience(clock.monotonic)
        self._is_ours = line is None  # else its connections are somebody else's to close
        self._client = client(
            source.base_url,
            auth=self._auth,
            limits=limits(source.concurrency),
            headers={"Accept": "application/json", "User-Agent": f"aims360-etl/{__version__}"},
            event_hooks={"request": [self._asks], "response": [self._answers]},
            transport=line or transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Its connections end, if they are its own."""
        if self._is_ours:
            self._patience.close()
            self._client.close()

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """Inside, answers that haven't come by then are no longer waited for."""
        return self._patience.within(seconds)

    def begin_anew(self, within: float = math.inf) -> None:
        """For another run of the same client: how busy and how far away the source was may be so no more.

        What hasn't come `within` so many seconds from now is waited for no longer: OutOfTime.
        """
        with self._lock:
            self.bears, self.latency = self._most, math.inf
        self._within, self._until = within, self.monotonic() + within

    @property
    def usage(self) -> Usage:
        """What was asked so far, sign-ins included."""
        with self._lock:
            return Usage(self._requests, self._retries, dict(self._statuses))

    def page(
        self, query: str, ended: threading.Event = _NEVER, *, page_size: int | None = None, attempts: int = _ATTEMPTS
    ) -> Reply:
        """The rows that a query of the collection brings. Raises SourceError after every retry.

        `ended`, set by another thread, ends the waiting for a next attempt. `page_size` is a wish.
        """
        headers = {} if page_size is None else {"Prefer": f"odata.maxpagesize={page_size}"}
        return self._retried(lambda: self._page(query, headers, ended), query, ended, attempts)

    def job(self, job_id: str, ended: threading.Event = _NEVER, *, attempts: int = _ATTEMPTS) -> Shown | None:
        """One job as the source shows it now, asked for in the documented way; None where it shows none of that id.

        The case of letters doesn't count. Raises SourceError, among them BrokenPromise for what is another job.
        """
        reply = self.page(odata.query([f"jobId eq {odata.literal(job_id)}"]), ended, attempts=attempts)
        for row in reply.answer.rows:
            if str(odata.stamp(row).jobID).lower() == job_id.lower():
                return Shown(row, reply.answered_at)
        if reply.answer.rows:
            raise BrokenPromise(
                f"{self._base} shows other jobs than the one asked for, {job_id}; `aims360-etl doctor` says what the "
                "service honours"
            )
        return None

    def rerun(self, job_id: str) -> str | None:
        """Asks once that a job be run again. None: it was accepted; else what came instead of an answer.

        Then it can't be told from here whether the service did it. Only where no connection could be made is it tried
        again; and once with a new token, where the service turned the old one away. Raises Refused where the service
        said no, Unreachable where nothing was sent, SignInFailed.
        """
        for attempt in range(1, _ATTEMPTS_TO_CONNECT + 1):
            self._hold(_NEVER)
            try:
                response, body = self._asked("POST", f"{self._base}{JOB}/{quote(job_id, safe='')}/rerun", {})
                return self._judged(job_id, response, body)
            except Again as error:
                if error.was_sent:
                    return str(error)
                failed = error
            if attempt < _ATTEMPTS_TO_CONNECT:
                self._pause(self._wait(failed, attempt), _NEVER)
        raise Unreachable(f"{self._base} can't be reached ({failed}): nothing was sent; check the network, try again")

    def _judged(self, job_id: str, response: httpx.Response, body: bytes) -> str | None:
        """What an answer to a rerun says: None for yes, else what is wrong with it. Raises Refused, SignInFailed."""
        status = response.status_code
        if response.is_success:
            is_yes = status == 204 or payload.is_answer_about(job_id, body)
            return None if is_yes else f"HTTP {status}, but what it says is no answer to a rerun"
        said = f"HTTP {status}: {self._auth.masked(payload.error_message(body))}"
        if status in AGAIN or status >= 500:
            return said
        if status == 401:
            raise SignInFailed(f"{self._base} refused the token, fresh from signing in: {said}; nothing was run again")
        raise Refused(f"{self._base} refuses to run job {job_id} again ({said}); nothing was done", status)

    def _page(self, query: str, headers: dict[str, str], ended: threading.Event) -> Reply:
        self._hold(ended)
        began = self.monotonic()
        response, body = self._asked("GET", f"{self._base}{COLLECTION}?{query}", headers)
        self.latency = min(self.latency, self.monotonic() - began)
        if response.status_code == 200:
            try:
                return Reply(payload.parse_page(body), self._answered_at(response))
            except BadAnswer as error:
                raise BadAnswer(self._auth.masked(str(error))) from None
        if response.status_code == 429:
            self._slow_down(began, retry_after(response.headers, self._clock.now()))
        said = f"HTTP {response.status_code}: {self._auth.masked(payload.error_message(body))}"
        if response.status_code in AGAIN:
            raise Again(said, retry_after(response.headers, self._clock.now()))
        if response.status_code == 401:
            raise SignInFailed(
                f"{self._base} refused the token, fresh from signing in: {said}; have AIMS360 let this user use its API"
            )
        advice = way_out(response.status_code, self._base)
        raise Refused(f"{self._base} refused a request ({said}) with {_shown(query)}; {advice}", response.status_code)

    def _asked(self, method: str, url: str, headers: dict[str, str]) -> tuple[httpx.Response, bytes]:
        """One request, its whole answer within the time limit. Raises Again for what the network does."""
        began = self.monotonic()
        longest = min(_WHOLE_ANSWER, self._until - began)
        if longest <= 0:
            raise self._out_of_time()
        deadline = began + longest
        chunks, size = [], 0
        try:
            with (
                self._patience.within(longest),
                self._client.stream(method, url, headers=headers) as response,
            ):
                for chunk in response.iter_bytes():
                    chunks.append(chunk)
                    size += len(chunk)
                    if self.monotonic() > deadline or size > _LARGEST_ANSWER:
                        raise self._too_long()
        except (httpx.LocalProtocolError, httpx.InvalidURL):  # what they say quotes headers, the token among them
            raise Refused(
                f"{self._base}: a request can't be written: check the token and the base address", 0
            ) from None
        except (httpx.TransportError, httpx.DecodingError, ConnectionError) as error:
            self._went_unanswered(type(error).__name__)
            shutdown.check()  # cut by us, since we are to end
            if self.monotonic() > deadline:  # cut by us, for its length
                raise self._too_long() from None
            found = _hindrance(error, self._base)
            said = found.said if found else f"{type(error).__name__}: {error}".rstrip(": ")
            raise Again(said, was_sent=not isinstance(error, _NEVER_SENT), hindrance=found) from None
        return response, b"".join(chunks)

    def _retried(self, ask: Callable[[], Reply], query: str, ended: threading.Event, attempts: int) -> Reply:
        for attempt in range(1, attempts + 1):
            try:
                return ask()
            except (Again, BadAnswer) as error:
                failed = error
            hindrance = failed.hindrance if isinstance(failed, Again) else None
            if hindrance and attempt >= min(hindrance.tries, attempts):
                raise Unreachable(
                    f"{self._base} can't be reached: {failed} (tried {'once' if attempt == 1 else f'{attempt} times'});"
                    f" {hindrance.advice}. Nothing is lost, the next run goes on"
                )
            wait = self._wait(failed, attempt)
            if attempt < attempts:
                with self._lock:
                    self._retries += 1
                if wait >= _WORTH_A_WORD:
                    self._notice(f"{self._base}: {failed}; asked again in {wait:.0f} s")
                self._pause(wait, ended, f"last: {failed}")
        if isinstance(failed, BadAnswer):
            raise BadAnswer(
                f"{self._base}: {failed}, {attempts} times, for {_shown(query)}; nothing is lost, the next run goes "
                "on. "
                f"If it stays so, {network_errors.who_else(self._base) or 'check the base address, and tell AIMS360'}"
            )
        raise Unreachable(
            f"{self._base} gave no good answer in {attempts} tries (last: {failed}) for {_shown(query)}; nothing is "
            "lost, the next run goes on. "
            f"If it stays so, {network_errors.who_else(self._base) or 'check the base address and the network'}"
        )

    def _wait(self, failed: SourceError, attempt: int) -> float:
        """Seconds until the next attempt: what the source asks for, else doubling with full jitter."""
        asked = failed.retry_after if isinstance(failed, Again) else None
        if asked is None:
            return jitter(attempt, _LONGEST_WAIT)
        with self._lock:
            self._held_until = max(self._held_until, self.monotonic() + asked)
        if asked > LONGEST_RETRY_AFTER:
            raise Unreachable(
                f"{self._base} asks to be left alone for {asked:.0f} s; nothing is lost, run again after that"
            )
        return asked + random.uniform(0.0, 1.0)  # noqa: S311 - jitter, no secret

    def _slow_down(self, began: float, asked: float | None) -> None:
        """Half as many requests at a time from now on, and none at all for a while.

        Once for all that were under way when the source said so: `began` is when the one it answered did.
        """
        pause = held_for(asked)
        with self._lock:
            now = self.monotonic()
            if began > self._slowed_at:
                self.bears, self._slowed_at = max(1, self.bears // 2), now
            self._held_until = max(self._held_until, now + pause)

    def _hold(self, ended: threading.Event) -> None:
        """Waits until the source wants to hear from us again: a 429 in one thread holds for all."""
        while (wait := self._held_until - self.monotonic()) > 0:
            self._pause(wait, ended)

    def _pause(self, seconds: float, ended: threading.Event, why: str = "") -> None:
        """Sleeps in pieces, so that a run that has failed elsewhere isn't kept waiting for a patient thread."""
        if self.monotonic() + seconds > self._until:
            raise self._out_of_time(why or f"it wants to be left alone for {seconds:.0f} s")
        while seconds > 0:
            shutdown.check()
            if ended.is_set():
                raise Unreachable("given up, since the run has ended")
            self._clock.sleep(min(seconds, _PIECE))
            seconds -= _PIECE

    def _too_long(self) -> SourceError:
        """What is wrong with an answer that was given all its time."""
        if self.monotonic() >= self._until:
            return self._out_of_time()
        return Again(f"the answer takes longer than {_WHOLE_ANSWER:.0f} s or is larger than 256 MB")

    def _out_of_time(self, why: str = "it took too long to answer") -> OutOfTime:
        return OutOfTime(
            f"{self._base} gave no good answer within the {self._within:.0f} s that a run of a fleet may take ({why}); "
            "nothing is lost, the next run goes on"
        )

    def _answered_at(self, response: httpx.Response) -> datetime:
        """The source's time; ours where it says none or one far ahead of ours. Earlier is always safe."""
        date, now = given_at(response.headers), self._clock.now()
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

    def _asks(self, request: httpx.Request) -> None:
        request.extensions |= {"etl.began": self.monotonic(), "trace": self._patience.heard}
        self._under_way.request = request
        with self._lock:
            self._requests += 1

    def _answers(self, response: httpx.Response) -> None:
        self._under_way.request = None
        self._hears(response.request, response.status_code)

    def _went_unanswered(self, why: str) -> None:
        """The request of this thread that is under way got no answer; one whose body was cut had its headers."""
        request = getattr(self._under_way, "request", None)
        if request is not None:
            self._under_way.request = None
            self._hears(request, None, why)

    def _hears(self, request: httpx.Request, status: int | None, why: str = "") -> None:
        with self._lock:
            self._statuses[NO_ANSWER if status is None else str(status)] += 1
        if self._heard is None:
            return
        seconds = self.monotonic() - request.extensions["etl.began"]
        self._heard(Exchange(request.method, self._without_secrets(request.url), status, round(seconds, 3), why))

    def _without_secrets(self, url: httpx.URL) -> str:
        """An address for a log: links to outputs carry their key in path and query, so of them the host is all."""
        text = str(url).replace("%20", " ")
        ours = any(text.startswith(self._base + path) for path in (JOBS, SIGN_IN))
        return self._auth.masked(text.removeprefix(self._base)) if ours else f"{url.scheme}://{url.host}/…"


def _hindrance(error: Exception, base_url: str) -> network_errors.Hindrance | None:
    """What was in the way of a connection. One that was made, and then waited too long, is the service's matter."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return None
    return network_errors.hindrance(
        error, base_url, network_errors.proxy_of(base_url), isinstance(error, httpx.ProxyError)
    )


def _shown(query: str) -> str:
    """A query for people: as sent, but with its spaces."""
    return f"[{query.replace('%20', ' ')[:300]}]"
