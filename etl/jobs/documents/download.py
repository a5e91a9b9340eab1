"""The content of an output: asked for by the rules of `link_policy`, gone on with after a cut, checked. It speaks HTTP.

No message names an address, nor what a server says in words: either may hold an access key.
"""

import logging
import re
import socket
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

import httpx

from etl.client import answers
from etl.client.answers import Meaning
from etl.client.auth import TIMEOUT, Grant, no_cookies, read_short, sign_in
from etl.client.deadline import Patience
from etl.client.retry import LONGEST_RETRY_AFTER, Again, held_for, jitter, retry_after
from etl.client.throttle import host_slot
from etl.config.secrets import Secret
from etl.config.settings import Source
from etl.errors import BadAnswer, CredentialsRefused, Refused, SignInFailed, SourceError, Unreachable
from etl.jobs.documents import link_policy
from etl.models import Clock, Exchange

_BARREN = 5  # attempts in a row that bring nothing new
_ATTEMPTS = 100  # in all: a server may cut each answer
_HOPS = 5
_LONGEST_WAIT = 30.0  # seconds between two attempts
_SLOW = 300.0, 64 * 2**10  # seconds in which so many bytes must come
_PIECE = 256 * 2**10
_HTML = frozenset({"text/html", "application/xhtml+xml"})
_HTML_ENDINGS = frozenset({"html", "htm", "xhtml", "mht", "mhtml"})

# They would write every address into any log that is kept at their level.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class TooLarge(Refused):
    """An output is larger than is wanted."""


class Into(Protocol):
    """Where the content goes: `partial_files.Part` is one.

    `version`: the server's word for what is there, None for nothing.
    """

    size: int
    version: str | None

    def restart(self, version: str | None) -> None: ...

    def write(self, piece: bytes) -> None: ...


class Wanted(NamedTuple):
    """An output to be had. `kind` is its file's ending where one is known; `size_in_mb` what the source says of it."""

    link: Secret
    scope: str | None
    kind: str | None
    size_in_mb: float | None


class Downloads:
    """One source's outputs. Safe to use from several threads."""

    def __init__(
        self,
        source: Source,
        clock: Clock,
        transport: httpx.BaseTransport | None = None,
        resolve: Callable[[str], list[str]] | None = None,
        heard: Callable[[Exchange], None] | None = None,
    ) -> None:
        self._base = source.base_url
        self._clock = clock
        self._auth = sign_in(source, clock)
        self._resolve = resolve or _addresses
        self._heard = heard  # hears of each request that was answered
        self._locked_out: SignInFailed | None = None  # an account is locked after too many wrong passwords
        self._held_until = 0.0  # monotonic seconds; one 429 holds every thread back
        self._patience = Patience(clock.monotonic)
        self._client = httpx.Client(
            timeout=TIMEOUT,
            headers={"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "aims360-etl"},
            cookies=no_cookies(),
            event_hooks={"request": [self._asks], "response": [self._answers]},
            transport=transport,
        )

    def __enter__(self) -> "Downloads":
        return self

    def __exit__(self, *_: object) -> None:
        self._patience.close()
        self._client.close()

    @property
    def are_credentials_refused(self) -> bool:
        """Whether signing in was refused: it isn't tried again here."""
        return isinstance(self._locked_out, CredentialsRefused)

    def fetch(self, wanted: Wanted, into: Into, at_most: int | None, stop: threading.Event) -> str:
        """Brings an output and gives its content type. Raises SourceError with the reason, in words for people.

        `at_most`: bytes; a larger one is TooLarge. `stop`, set by another thread, ends it with Unreachable; what
        came is kept, and the next call goes on there.
        """
        furthest, barren = into.size, 0
        for _ in range(_ATTEMPTS):
            try:
                self._hold(stop)
                with self._patience.within(2 * _SLOW[0]):
                    return self._attempt(wanted, into, at_most, stop)
            except (Again, BadAnswer) as error:
                failed: Again | BadAnswer = error
            except SignInFailed as error:
                self._locked_out = error if isinstance(self._auth, Grant) else None
                raise
            barren = 0 if into.size > furthest else barren + 1
            furthest = max(furthest, into.size)
            if barren == _BARREN:
                break
            self._pause(self._wait(failed, barren), stop)
        if isinstance(failed, BadAnswer):
            raise failed
        raise Unreachable(f"no whole answer in several tries (last: {failed}); the next call goes on")

    def _attempt(self, wanted: Wanted, into: Into, at_most: int | None, stop: threading.Event) -> str:
        step = link_policy.first(wanted.link.reveal(), wanted.scope, self._base)
        goes_on = {"Range": f"bytes={into.size}-", "If-Range": into.version} if into.size and into.version else {}
        try:
            for _ in range(_HOPS):
                if host := link_policy.host_to_resolve(step, self._base):
                    link_policy.check_addresses(self._resolve(host))
                request = self._client.build_request("GET", step.address, headers=goes_on)
                if step.with_token and self._locked_out is not None:
                    raise self._locked_out
                auth = self._auth if step.with_token else None
                with host_slot(step.address, stop):
                    response = self._client.send(request, stream=True, auth=auth, follow_redirects=False)
                    try:
                        if not (300 <= response.status_code < 400 and "Location" in response.headers):
                            return self._receive(response, wanted, into, at_most, stop)
                        step = link_policy.onward(step, response.headers["Location"], self._base)
                    finally:
                        response.close()
        except (httpx.LocalProtocolError, httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise Refused("its link can't be written as a request", 0) from None
        except (httpx.TransportError, httpx.DecodingError, ConnectionError) as error:
            raise Again(type(error).__name__) from None
        raise Refused("it is redirected again and again", 0)

    def _receive(
        self, response: httpx.Response, wanted: Wanted, into: Into, at_most: int | None, stop: threading.Event
    ) -> str:
        content_type: str = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        is_coded = response.headers.get("Content-Encoding", "identity").lower() != "identity"
        if response.status_code == 200:
            _check_type(content_type, wanted.kind)
            total = None if is_coded else _number(response.headers.get("Content-Length"))
            _check_size(total, at_most)
            into.restart(None if is_coded else _version(response))
        elif response.status_code == 206:
            total = _goes_on_at(response, into, is_coded)
            _check_size(total, at_most)
        elif response.status_code == 416:
            total = _number(response.headers.get("Content-Range", "").removeprefix("bytes */"))
            if not into.size or total != into.size:
                into.restart(None)
                raise Again("HTTP 416")
            return content_type
        else:
            raise self._refusal(response, wanted)
        self._read(response, is_coded, into, at_most, stop)
        if total is not None and into.size != total:
            if into.size > total:
                into.restart(None)
            raise Again(f"{into.size} of {total} bytes came")
        if not into.size and (wanted.size_in_mb or 0) > 0:
            raise BadAnswer("it is empty, and the source says that it isn't: not kept")
        return content_type

    def _read(
        self, response: httpx.Response, is_coded: bool, into: Into, at_most: int | None, stop: threading.Event
    ) -> None:
        seconds, least = _SLOW
        since, size = self._clock.monotonic(), into.size
        for piece in response.iter_bytes(_PIECE) if is_coded else response.iter_raw():
            into.write(piece)
            _check_size(into.size, at_most)
            if stop.is_set():
                raise Unreachable("given up, since the call has ended; the next one goes on")
            now = self._clock.monotonic()
            if now - since > seconds:
                if into.size - size < least:
                    raise Again(f"fewer than {least // 1024} kB came in {seconds:.0f} s")
                since, size = now, into.size
                self._patience.again()

    def _asks(self, request: httpx.Request) -> None:
        request.extensions |= {"etl.began": self._clock.monotonic(), "trace": self._patience.heard}

    def _answers(self, response: httpx.Response) -> None:
        request = response.request
        seconds = round(self._clock.monotonic() - request.extensions["etl.began"], 3)
        if self._heard is not None:
            self._heard(Exchange(request.method, f"an output on {request.url.host}", response.status_code, seconds))

    def _refusal(self, response: httpx.Response, wanted: Wanted) -> SourceError:
        """What an answer without content means."""
        status = response.status_code
        if answers.read_download(read_short(response)).meaning is Meaning.RETRY:
            wait = retry_after(response.headers, self._clock.now())
            if status == 429:
                self._held_until = max(self._held_until, self._clock.monotonic() + held_for(wait))
            return Again(f"HTTP {status}", wait)
        if status in (404, 410):
            return Refused(f"it is no longer there (HTTP {status}): expired, purged, or replaced by a rerun", status)
        if status in (401, 403):
            whose = {
                link_policy.PUBLIC: "its link has expired, or isn't for everyone",
                "Private": "it is Private, and another user's",
            }
            return Refused(
                f"access is denied (HTTP {status}): {whose.get(str(wanted.scope), 'this user may not have it')}", status
            )
        return Refused(f"HTTP {status}", status)

    def _wait(self, failed: SourceError, attempt: int) -> float:
        asked = failed.retry_after if isinstance(failed, Again) else None
        if asked is not None and asked > LONGEST_RETRY_AFTER:
            raise Unreachable(f"its server asks for a pause of {asked:.0f} s; run again after that")
        return (asked or 0.0) + jitter(attempt, _LONGEST_WAIT)

    def _hold(self, stop: threading.Event) -> None:
        while (wait := self._held_until - self._clock.monotonic()) > 0:
            self._pause(wait, stop)

    def _pause(self, seconds: float, stop: threading.Event) -> None:
        """Sleeps in pieces, so that a call that has ended isn't kept waiting."""
        while seconds > 0:
            if stop.is_set():
                raise Unreachable("given up, since the call has ended; the next one goes on")
            self._clock.sleep(min(seconds, 1.0))
            seconds -= 1.0


def _addresses(host: str) -> list[str]:
    """What a name stands for here; nothing where that can't be told, as behind a proxy that does it."""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


def _check_type(content_type: str, kind: str | None) -> None:
    """Raises BadAnswer for a page of a gateway, or an error in words, in place of a document."""
    ending = (kind or "").lower().lstrip(".")
    if content_type in _HTML and ending not in _HTML_ENDINGS:
        raise BadAnswer("a web page came in its place: not kept")
    if content_type == "application/json" and ending not in ("", "json", "txt"):
        raise BadAnswer("JSON came in its place, which an error would be: not kept")


def _check_size(size: int | None, at_most: int | None) -> None:
    if size is not None and at_most is not None and size > at_most:
        raise TooLarge("too large", 0)  # who asked for that says so by itself


def _version(response: httpx.Response) -> str | None:
    """What tells this version from others, fit for If-Range: a strong ETag, else the date of its last change."""
    etag = response.headers.get("ETag", "")
    if re.fullmatch(r'"[\x21\x23-\x7e]*"', etag):
        return str(etag)
    changed = response.headers.get("Last-Modified", "")
    return str(changed) if not etag and re.fullmatch(r"[\x20-\x7e]+", changed) else None


def _goes_on_at(response: httpx.Response, into: Into, is_coded: bool) -> int | None:
    """The whole size, where a part of it goes on from what is here. Raises Again where it doesn't."""
    found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", response.headers.get("Content-Range", ""))
    version = _version(response)
    is_same = not is_coded and (version is None or version == into.version)
    if found is None or not into.size or int(found[1]) != into.size or not is_same:
        into.restart(None)
        raise Again("another part came than was asked for")
    return _number(found[3])


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d{1,18}", text) else None
