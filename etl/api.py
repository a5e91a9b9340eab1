"""The AIMS360 client: sign-in, time limits, retries; a page, one job, a rerun. The only room that knows httpx.

Addresses are built by hand, complete: httpx's `params=` would turn spaces into `+`, which the service doesn't read.
Redirects are not followed, and the token goes to the configured host alone.
"""

import json
import math
import random
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import httpx

from etl import __version__, network, odata, payload
from etl.errors import BadAnswer, BrokenPromise, ConfigError, Refused, SignInFailed, SourceError, Unreachable
from etl.model import Clock, Exchange, Usage
from etl.patience import Patience
from etl.settings import PasswordGrant, Secret, Source, is_token

JOBS = "/jobsmanagement/"
COLLECTION = f"{JOBS}odata/v1.0/backgroundjob"
JOB = f"{JOBS}v1.0/backgroundjob"
SIGN_IN = "/authentication/v1/authentication/token"

NO_ANSWER = "none"  # the status of a request that got none

_ATTEMPTS = 8
_ATTEMPTS_TO_CONNECT = 4
_LONGEST_WAIT = 60.0  # seconds between two attempts
_LONGEST_RETRY_AFTER = 900.0  # seconds; a source that asks for more ends the run
_WHOLE_ANSWER = 180.0  # seconds; a source that drips bytes never meets a read timeout
_LARGEST_ANSWER = 256 * 2**20  # bytes
_LARGEST_TOKEN = 2**20  # bytes of an answer to signing in
_PAUSE = 1.0  # seconds for all requests where a 429 doesn't say how long
_PIECE = 1.0  # seconds
_WORTH_A_WORD = 2.0  # seconds of waiting
_NEVER = threading.Event()
_EARLY = timedelta(seconds=60)  # a token is renewed this long before it expires
# A Date header beyond is wrong, and beyond a look-back nothing would catch up: it bounds the watermark.
_FAR_AHEAD = timedelta(hours=1)
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_TIMEOUT = httpx.Timeout(60.0, connect=15.0)


class Reply(NamedTuple):
    """A good answer of the collection with the time it was given, by the source's clock."""

    answer: payload.Answer
    answered_at: datetime


class Shown(NamedTuple):
    """One job as the source shows it: its raw row, and when that was, by the source's clock."""

    row: bytes
    answered_at: datetime


class _Again(SourceError):
    """An attempt failed in a way that another may not. Not `was_sent`: it never left, since no connection was made."""

    def __init__(
        self,
        message: str,
        retry_after: float | None = None,
        *,
        was_sent: bool = True,
        hindrance: network.Hindrance | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after, self.was_sent, self.hindrance = retry_after, was_sent, hindrance


class Api:
    """One source's service. Safe to use from several threads: it does no harm if one reads an old `latency`."""

    def __init__(
        self,
        source: Source,
        clock: Clock,
        transport: httpx.BaseTransport | None = None,
        notice: Callable[[str], None] = lambda _: None,
        heard: Callable[[Exchange], None] | None = None,
    ) -> None:
        self._base = source.base_url
        self._clock = clock
        self._auth = sign_in(source, clock)
        self._notice = notice  # hears of waits that somebody may wonder about
        self._heard = heard  # hears of each request
        self._far_ahead = min(_FAR_AHEAD, source.look_back)
        self._held_until = 0.0  # monotonic seconds; one 429 holds every thread back
        self._slowed_at = -1.0  # monotonic seconds: when it last had that effect
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
        self._patience = Patience(clock.monotonic)
        self._client = _client(
            source.base_url,
            auth=self._auth,
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=source.concurrency + 1),
            headers={"Accept": "application/json", "User-Agent": f"aims360-etl/{__version__}"},
            event_hooks={"request": [self._asks], "response": [self._answers]},
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Its connections end."""
        self._patience.close()
        self._client.close()

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """Inside, answers that haven't come by then are no longer waited for."""
        return self._patience.within(seconds)

    def begin_anew(self) -> None:
        """For another run of the same client: how busy and how far away the source was may be so no more."""
        with self._lock:
            self.bears, self.latency = self._most, math.inf

    @property
    def usage(self) -> Usage:
        """What was asked so far, sign-ins included."""
        with self._lock:
            return Usage(self._requests, self._retries, dict(self._statuses))

    def page(
        self, query: str, stop: threading.Event = _NEVER, *, page_size: int | None = None, attempts: int = _ATTEMPTS
    ) -> Reply:
        """The rows that a query of the collection brings. Raises SourceError after every retry.

        `stop`, set by another thread, ends the waiting for a next attempt. `page_size` is a wish.
        """
        headers = {} if page_size is None else {"Prefer": f"odata.maxpagesize={page_size}"}
        return self._retried(lambda: self._page(query, headers, stop), query, stop, attempts)

    def job(self, job_id: str, stop: threading.Event = _NEVER, *, attempts: int = _ATTEMPTS) -> Shown | None:
        """One job as the source shows it now, asked for in the documented way; None where it shows none of that id.

        The case of letters doesn't count. Raises SourceError, among them BrokenPromise for what is another job.
        """
        reply = self.page(odata.query([f"jobId eq {odata.literal(job_id)}"]), stop, attempts=attempts)
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
            except _Again as error:
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
        if status in _AGAIN or status >= 500:
            return said
        if status == 401:
            raise SignInFailed(f"{self._base} refused the token, fresh from signing in: {said}; nothing was run again")
        raise Refused(f"{self._base} refuses to run job {job_id} again ({said}); nothing was done", status)

    def _page(self, query: str, headers: dict[str, str], stop: threading.Event) -> Reply:
        self._hold(stop)
        began = self.monotonic()
        response, body = self._asked("GET", f"{self._base}{COLLECTION}?{query}", headers)
        self.latency = min(self.latency, self.monotonic() - began)
        if response.status_code == 200:
            try:
                return Reply(payload.parse_page(body), self._answered_at(response))
            except BadAnswer as error:
                raise BadAnswer(self._auth.masked(str(error))) from None
        if response.status_code == 429:
            self._slow_down(began, retry_after(response, self._clock.now()))
        said = f"HTTP {response.status_code}: {self._auth.masked(payload.error_message(body))}"
        if response.status_code in _AGAIN:
            raise _Again(said, retry_after(response, self._clock.now()))
        if response.status_code == 401:
            raise SignInFailed(
                f"{self._base} refused the token, fresh from signing in: {said}; have AIMS360 let this user use its API"
            )
        way_out = _way_out(response.status_code, self._base)
        raise Refused(f"{self._base} refused a request ({said}) with {_shown(query)}; {way_out}", response.status_code)

    def _asked(self, method: str, url: str, headers: dict[str, str]) -> tuple[httpx.Response, bytes]:
        """One request, its whole answer within the time limit. Raises _Again for what the network does."""
        deadline = self.monotonic() + _WHOLE_ANSWER
        chunks, size = [], 0
        too_long = f"the answer takes longer than {_WHOLE_ANSWER:.0f} s or is larger than 256 MB"
        try:
            with (
                self._patience.within(_WHOLE_ANSWER),
                self._client.stream(method, url, headers=headers) as response,
            ):
                for chunk in response.iter_bytes():
                    chunks.append(chunk)
                    size += len(chunk)
                    if self.monotonic() > deadline or size > _LARGEST_ANSWER:
                        raise _Again(too_long)
        except (httpx.LocalProtocolError, httpx.InvalidURL):  # what they say quotes headers, the token among them
            raise Refused(
                f"{self._base}: a request can't be written: check the token and the base address", 0
            ) from None
        except (httpx.TransportError, httpx.DecodingError, ConnectionError) as error:
            self._went_unanswered(type(error).__name__)
            if self.monotonic() > deadline:  # cut by us
                raise _Again(too_long) from None
            found = _hindrance(error, self._base)
            said = found.said if found else f"{type(error).__name__}: {error}".rstrip(": ")
            raise _Again(said, was_sent=not isinstance(error, _NEVER_SENT), hindrance=found) from None
        return response, b"".join(chunks)

    def _retried(self, ask: Callable[[], Reply], query: str, stop: threading.Event, attempts: int) -> Reply:
        for attempt in range(1, attempts + 1):
            try:
                return ask()
            except (_Again, BadAnswer) as error:
                failed = error
            hindrance = failed.hindrance if isinstance(failed, _Again) else None
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
                self._pause(wait, stop)
        if isinstance(failed, BadAnswer):
            raise BadAnswer(
                f"{self._base}: {failed}, {attempts} times, for {_shown(query)}; nothing is lost, the next run goes "
                f"on. If it stays so, {_who_else(self._base) or 'check the base address, and tell AIMS360'}"
            )
        raise Unreachable(
            f"{self._base} gave no good answer in {attempts} tries (last: {failed}) for {_shown(query)}; nothing is "
            "lost, the next run goes on. "
            f"If it stays so, {_who_else(self._base) or 'check the base address and the network'}"
        )

    def _wait(self, failed: SourceError, attempt: int) -> float:
        """Seconds until the next attempt: what the source asks for, else doubling with full jitter."""
        asked = failed.retry_after if isinstance(failed, _Again) else None
        if asked is None:
            longest = min(_LONGEST_WAIT, 0.5 * 2.0**attempt)
            return random.uniform(0.2, 1.0) * longest  # noqa: S311 - jitter, no secret
        with self._lock:
            self._held_until = max(self._held_until, self.monotonic() + asked)
        if asked > _LONGEST_RETRY_AFTER:
            raise Unreachable(
                f"{self._base} asks to be left alone for {asked:.0f} s; nothing is lost, run again after that"
            )
        return asked + random.uniform(0.0, 1.0)  # noqa: S311 - jitter, no secret

    def _slow_down(self, began: float, asked: float | None) -> None:
        """Half as many requests at a time from now on, and none at all for a while.

        Once for all that were under way when the source said so: `began` is when the one it answered did.
        """
        pause = _PAUSE if asked is None else min(asked, _LONGEST_RETRY_AFTER)
        with self._lock:
            now = self.monotonic()
            if began > self._slowed_at:
                self.bears, self._slowed_at = max(1, self.bears // 2), now
            self._held_until = max(self._held_until, now + pause)

    def _hold(self, stop: threading.Event) -> None:
        """Waits until the source wants to hear from us again: a 429 in one thread holds for all."""
        while (wait := self._held_until - self.monotonic()) > 0:
            self._pause(wait, stop)

    def _pause(self, seconds: float, stop: threading.Event) -> None:
        """Sleeps in pieces, so that a run that has failed elsewhere isn't kept waiting for a patient thread."""
        while seconds > 0:
            if stop.is_set():
                raise Unreachable("given up, since the run has ended")
            self._clock.sleep(min(seconds, _PIECE))
            seconds -= _PIECE

    def _answered_at(self, response: httpx.Response) -> datetime:
        """The source's time; ours where it says none or one far ahead of ours. Earlier is always safe."""
        date, now = _date(response), self._clock.now()
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


class Token(httpx.Auth):
    """A long-lived token. It goes to the configured host alone, and over the configured scheme."""

    def __init__(self, source: Source, token: Secret) -> None:
        self._base = source.base_url
        self._home = _origin(httpx.URL(source.base_url))
        self._token = token
        self._from = source.credentials_from

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if _origin(request.url) == self._home:
            request.headers["Authorization"] = f"Bearer {self._token.reveal()}"
        response = yield request
        if response.status_code == 401:
            raise SignInFailed(
                f"{self._from}: the service refuses the token (401): it expired or was withdrawn, or its tenant lives "
                f"in the other region, at another base address than {self._base}. Make a new one in AIMS360's user "
                "settings and set it there"
            )

    def masked(self, text: str) -> str:
        """What the service says, without the secrets it was told: it may repeat them."""
        return _without(text, self._token)


class Grant(httpx.Auth):
    """The OAuth2 password grant: signs in when a token is needed, early before it expires, and once after a 401."""

    def __init__(self, source: Source, grant: PasswordGrant, clock: Clock) -> None:
        self._base = source.base_url
        self._home = _origin(httpx.URL(source.base_url))
        self._grant = grant
        self._from = source.credentials_from
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Secret | None = None
        self._good_until = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if _origin(request.url) != self._home:
            yield request
            return
        with self._lock:  # one thread signs in, the others wait for its token
            token = self._token
            if token is None or self._clock.monotonic() >= self._good_until:
                token = self._take((yield self._request()))
        request.headers["Authorization"] = f"Bearer {token.reveal()}"
        response = yield request
        if response.status_code != 401:
            return
        with self._lock:
            token = self._take((yield self._request())) if self._token is token else self._token
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token.reveal()}"
            yield request

    def masked(self, text: str) -> str:
        """What the service says, without the secrets it was told, or told us: it may repeat them."""
        return _without(text, self._grant.client_secret, self._grant.password, self._token)

    def _request(self) -> httpx.Request:
        form = {
            "client_id": self._grant.client_id,
            "client_secret": self._grant.client_secret.reveal(),
            "username": self._grant.username,
            "password": self._grant.password.reveal(),
            "grant_type": "password",
        }
        # What a client's own requests have of it, the request of an auth flow doesn't: it would wait for ever.
        limits = {"timeout": _TIMEOUT.as_dict()}
        headers = {"Accept": "application/json"}
        return httpx.Request("POST", self._base + SIGN_IN, data=form, headers=headers, extensions=limits)

    def _take(self, response: httpx.Response) -> Secret:
        """The token of a sign-in's answer. Its body is never quoted: it may hold the token."""
        response.stream = _Short(response.stream)
        body = response.read()
        if response.status_code in _AGAIN:
            wait = retry_after(response, self._clock.now())
            raise _Again(f"signing in: HTTP {response.status_code}", wait)
        if response.status_code != 200:
            way_out = _way_in(response.status_code, body, self._base, self._from)
            raise SignInFailed(f"{self._base} refused to sign in (HTTP {response.status_code}): {way_out}")
        try:
            answer: Any = json.loads(body)
            token, lifetime = str(answer["access_token"]), float(answer.get("expires_in") or 3600)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _Again("signing in: the answer holds no token") from None
        if not is_token(token):
            raise _Again("signing in: the answer holds no token")
        early = min(_EARLY.total_seconds(), lifetime / 10)
        self._good_until = self._clock.monotonic() + lifetime - early
        self._token = Secret(token)
        return self._token


def sign_in(source: Source, clock: Clock) -> Token | Grant:
    """How a source's requests get their token: a generator of requests that is sent their answers."""
    if isinstance(source.credentials, Secret):
        return Token(source, source.credentials)
    return Grant(source, source.credentials, clock)


def trust(base_url: str) -> ssl.SSLContext | bool:
    """Whom to trust: whom httpx does. Plain http needs nobody, and is spared the 50 ms that reading them takes."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if httpx.URL(base_url).scheme == "http" else True


def _origin(url: httpx.URL) -> tuple[str, bytes]:
    """Whom a request goes to, and how: scheme, host and port."""
    return url.scheme, url.netloc


def _client(base_url: str, **how: Any) -> httpx.Client:
    """The HTTP client; it reads SSL_CERT_FILE, SSL_CERT_DIR and the proxies' variables, which may be wrong."""
    try:
        # No cookies: a service runs for years, and what it is handed would be sent along with each request.
        none = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        return httpx.Client(verify=trust(base_url), cookies=none, **how)
    except OSError:  # of the files that it reads
        raise ConfigError("SSL_CERT_FILE: can't be read as a PEM file of certificates; name one, or unset it") from None
    except (ValueError, ImportError, httpx.InvalidURL):
        proxy = network.proxy_of(base_url)
        name = proxy.variable if proxy else "HTTPS_PROXY"
        raise ConfigError(f"{name}: is no proxy's address; it is written http://user:password@host:port") from None


def _hindrance(error: Exception, base_url: str) -> network.Hindrance | None:
    """What was in the way of a connection. One that was made, and then waited too long, is the service's matter."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return None
    return network.hindrance(error, base_url, network.proxy_of(base_url), isinstance(error, httpx.ProxyError))


def _way_out(status: int, base_url: str) -> str:
    """What to do about a request that the service refuses."""
    if status == 403:
        return "; or ".join(filter(None, ("have AIMS360 let this user read background jobs", _who_else(base_url))))
    if status == 404 or 300 <= status < 400:
        return "check the base address: the service isn't there; each of the two regions has its own"
    if status == 407:
        return _who_else(base_url) or "a proxy wants to know who asks"
    return "`aims360-etl doctor` says what the service honours"


class _Short(httpx.SyncByteStream):
    """The body of an answer to signing in, which is short. Raises _Again where it isn't."""

    def __init__(self, body: httpx.SyncByteStream | httpx.AsyncByteStream) -> None:
        assert isinstance(body, httpx.SyncByteStream)
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._body:
            size += len(chunk)
            if size > _LARGEST_TOKEN:
                raise _Again("signing in: the answer is larger than 1 MB")
            yield chunk

    def close(self) -> None:
        self._body.close()


def _way_in(status: int, body: bytes, base_url: str, credentials_from: str) -> str:
    """What to do where signing in is refused: OAuth2 has a word for why, and no other of the answer is looked at."""
    if status in (404, 405, 407) or 300 <= status < 400:
        return _way_out(407 if status == 407 else 404, base_url)
    try:
        why = json.loads(body).get("error")
    except (ValueError, AttributeError):
        why = None
    if why in ("invalid_client", "unauthorized_client"):
        return f"check {credentials_from}; it is the client id or its secret that it doesn't know"
    return (
        f"check {credentials_from}; one of them is wrong, or the account is in the other region, whose base address "
        "is another"
    )


def _who_else(base_url: str) -> str:
    """Who may have answered in the service's place, and what to do about that; nothing where nobody could."""
    proxy = network.proxy_of(base_url)
    return network.of_proxy(proxy) if proxy else ""


def _without(text: str, *secrets: Secret | None) -> str:
    for secret in secrets:
        text = secret.hidden_in(text) if secret else text
    return text


def retry_after(response: httpx.Response, now: datetime) -> float | None:
    """Retry-After in seconds: a number, a date by the source's clock (ours where it has none), or none."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text[:9])
    moment = _http_date(text)
    return None if moment is None else max(0.0, (moment - (_date(response) or now)).total_seconds())


def _date(response: httpx.Response) -> datetime | None:
    return _http_date(response.headers.get("Date", ""))


def _http_date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _shown(query: str) -> str:
    """A query for people: as sent, but with its spaces."""
    return f"[{query.replace('%20', ' ')[:300]}]"
