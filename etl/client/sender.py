"""Sends one request and gives its whole answer: within a time limit and a size, counted, and free of secrets."""

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import httpx

from etl import __version__, shutdown
from etl.client import network_errors
from etl.client.answers import Answer
from etl.client.auth import SIGN_IN, Grant, Token
from etl.client.deadline import Patience
from etl.client.retry import Again
from etl.client.throttle import Throttle
from etl.client.transport import Line, client, limits
from etl.config.settings import Source
from etl.errors import OutOfTime, Refused
from etl.models import Clock, Exchange, Usage

JOBS = "/jobsmanagement/"
NO_ANSWER = "none"  # the status of a request that got none
WHOLE_ANSWER = 180.0  # seconds; a source that drips bytes never meets a read timeout
_LARGEST_ANSWER = 64 * 2**20  # bytes, decompressed
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
Overheard = Callable[[Mapping[str, str], Answer], None]  # the headers that a request was made with, and its answer


class Sender:
    """The requests of one source's client. Safe to use from several threads."""

    def __init__(
        self,
        source: Source,
        clock: Clock,
        auth: Token | Grant,
        transport: httpx.BaseTransport | None,
        line: Line | None,
        heard: Callable[[Exchange], None] | None,
        overheard: Overheard | None = None,
    ) -> None:
        self._base = source.base_url
        self._auth = auth
        self._heard = heard  # hears of each request
        self._overheard = overheard  # gets each whole answer too, secrets and all
        self.monotonic = clock.monotonic
        self.throttle = Throttle(source.base_url, source.concurrency)
        self._within = self._until = math.inf  # seconds for a run, and monotonic seconds when they are over
        self._lock = threading.Lock()
        self._under_way = threading.local()
        self._requests = self._retries = 0
        self._statuses: Counter[str] = Counter()
        self._patience = line.patience if line else Patience(clock.monotonic)
        self._is_ours = line is None  # else its connections are somebody else's to close
        self._client = client(
            source.base_url,
            auth=auth,
            limits=limits(source.concurrency),
            headers={
                "Accept": "application/json",
                "User-Agent": f"aims360-etl/{__version__}",
                "OData-MaxVersion": "4.0",
                "Cache-Control": "no-cache",
            },
            event_hooks={"request": [self._asks], "response": [self._answers]},
            transport=line or transport,
        )

    def close(self) -> None:
        """Close the connections, if they are its own."""
        if self._is_ours:
            self._patience.close()
            self._client.close()

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """Inside, answers that haven't come by then are no longer waited for."""
        return self._patience.within(seconds)

    def begin_anew(self, within: float) -> None:
        """Begin the time of another run: what hasn't come `within` so many seconds is waited for no longer."""
        self.throttle.reset()
        self._within, self._until = within, self.monotonic() + within

    @property
    def usage(self) -> Usage:
        """What was asked so far, sign-ins included."""
        with self._lock:
            return Usage(self._requests, self._retries, dict(self._statuses))

    def count_retry(self) -> None:
        """Count a request that is made again."""
        with self._lock:
            self._retries += 1

    def send(self, method: str, url: str, headers: dict[str, str], ended: threading.Event) -> tuple[Answer, int]:
        """Return the whole answer of one request, and how many were in flight with it, before it or after it.

        Raises Again for what the network does, Refused for what can't be written as a request, OutOfTime.
        """
        with self.throttle.slot(ended, self._check_time) as in_flight:
            began = self.monotonic()
            longest = min(WHOLE_ANSWER, self._until - began)
            if longest <= 0:
                raise self.out_of_time()
            try:
                answer = self._send(method, url, headers, began + longest)
                if self._overheard is not None:
                    self._overheard(headers, answer)
                return answer, max(in_flight, self.throttle.in_flight)
            except (httpx.LocalProtocolError, httpx.InvalidURL):  # what they say quotes headers, the token among them
                raise Refused(
                    f"{self._base}: a request can't be written: check the token and the base address", 0
                ) from None
            except (httpx.TransportError, httpx.DecodingError, ConnectionError) as error:
                raise self._failed(error, began + longest) from None

    def _check_time(self) -> None:
        """Raise OutOfTime where the run's time is over."""
        if self.monotonic() >= self._until:
            raise self.out_of_time("too many requests were in flight")

    def _send(self, method: str, url: str, headers: dict[str, str], deadline: float) -> Answer:
        chunks, size = [], 0
        with (
            self._patience.within(deadline - self.monotonic()),
            self._client.stream(method, url, headers=headers) as response,
        ):
            for chunk in response.iter_bytes():
                chunks.append(chunk)
                size += len(chunk)
                if self.monotonic() > deadline or size > _LARGEST_ANSWER:
                    raise self._too_long()
        return Answer(response.status_code, response.headers, b"".join(chunks))

    def _failed(self, error: Exception, deadline: float) -> Exception:
        """Say what the network did to a request. Raises where this process is to end."""
        self._went_unanswered(type(error).__name__)
        shutdown.check()  # cut by us, since we are to end
        if self.monotonic() > deadline:  # cut by us, for its length
            return self._too_long()
        found = _find_hindrance(error, self._base)
        said = found.said if found else f"{type(error).__name__}: {error}".rstrip(": ")
        was_sent = not isinstance(error, _NEVER_SENT)
        is_timeout = isinstance(error, httpx.TimeoutException) and was_sent
        return Again(said, was_sent=was_sent, hindrance=found, is_too_large=is_timeout, is_spoilt=was_sent)

    def out_of_time(self, why: str = "it took too long to answer") -> OutOfTime:
        """Return the error of a run whose time is over."""
        return OutOfTime(
            f"{self._base} gave no good answer within the {self._within:.0f} s that a run of a fleet may take ({why}); "
            "nothing is lost, the next run goes on"
        )

    def has_time_for(self, seconds: float) -> bool:
        """Whether the run's time allows a wait of so many seconds."""
        return self.monotonic() + seconds <= self._until

    def _too_long(self) -> Exception:
        """Say what is wrong with an answer that was given all its time."""
        if self.monotonic() >= self._until:
            return self.out_of_time()
        return Again(
            f"the answer takes longer than {WHOLE_ANSWER:.0f} s or is larger than {_LARGEST_ANSWER >> 20} MB",
            is_too_large=True,
            is_spoilt=True,
        )

    def _asks(self, request: httpx.Request) -> None:
        request.extensions |= {"etl.began": self.monotonic(), "trace": self._patience.heard}
        self._under_way.request = request
        with self._lock:
            self._requests += 1

    def _answers(self, response: httpx.Response) -> None:
        self._under_way.request = None
        self._hears(response.request, response.status_code)
        if "," in response.headers.get("Content-Encoding", ""):  # each time unpacks to a thousand times its size
            raise httpx.DecodingError("compressed more than once")

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


def _find_hindrance(error: Exception, base_url: str) -> network_errors.Hindrance | None:
    """What was in the way of a connection. One that was made, and then waited too long, is the service's matter."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return None
    return network_errors.hindrance(
        error, base_url, network_errors.proxy_of(base_url), isinstance(error, httpx.ProxyError)
    )
