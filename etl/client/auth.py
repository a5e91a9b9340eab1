"""How a source's requests get their token: generators of requests that are sent their answers, without a network.

A token that has ended is replaced once, and again only after a good answer with the new one: a service that refuses
each token must not be signed in to with every request, or it locks the account.
"""

import json
import threading
from collections.abc import Generator, Iterator
from datetime import timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from etl.client import answers, network_errors
from etl.client.answers import Answer, Meaning
from etl.client.retry import Again, retry_after
from etl.config.secrets import PasswordGrant, Secret
from etl.config.settings import Source, read_token
from etl.config.validation import is_token
from etl.errors import CredentialsRefused, SignInFailed
from etl.models import Clock

SIGN_IN = "/authentication/v1/authentication/token"
TIMEOUT = httpx.Timeout(60.0, connect=15.0)  # seconds without a byte
_LARGEST = 2**16  # bytes, as they come, of an answer to signing in, or of an error
_EARLY = timedelta(seconds=60)  # a token is renewed this long before it expires
_LIFETIME = 3600.0  # seconds, where the service doesn't say
_SHORTEST = 5.0  # seconds; what is shorter is no lifetime, or each request would sign in
_PAUSE = 60.0  # seconds for which nobody signs in again with credentials that were refused
_A_MOMENT = 1e9  # `expires_in` beyond can't be seconds: it is a moment, in seconds since 1970


class Token(httpx.Auth):
    """A long-lived token. It goes to the configured host alone, and over the configured scheme.

    One that a file holds is read anew when the service says that it has ended.
    """

    def __init__(self, source: Source, token: Secret) -> None:
        self._source = source
        self._home = _origin(httpx.URL(source.base_url))
        self._token = token
        self._lock = threading.Lock()
        self._may_replace = True

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = self._token
        if _origin(request.url) == self._home:
            request.headers["Authorization"] = f"Bearer {token.reveal()}"
        response = yield request
        if not _is_refused(response):
            self._may_replace = self._may_replace or response.is_success
            return
        if _origin(request.url) == self._home and (new := self._replace(token)) is not None:
            request.headers["Authorization"] = f"Bearer {new.reveal()}"
            response = yield request
            if not _is_refused(response):
                self._may_replace = self._may_replace or response.is_success
                return
        request_id = answers.read_answer(read_short(response), answers.Question()).request_id
        request_id = request_id and self.masked(request_id)
        by = f"{response.status_code}, requestId {request_id}" if request_id else str(response.status_code)
        error = SignInFailed(
            f"{self._source.credentials_from}: the service refuses the token ({by}): it expired or was withdrawn, or "
            f"its tenant lives in the other region, at another base address than {self._source.base_url}. Make a new "
            "one in AIMS360's user settings and set it there"
        )
        error.request_id = request_id
        raise error

    def masked(self, text: str) -> str:
        """What the service says, without the secrets that were sent to it: it may repeat them."""
        return _without(text, self._token)

    def _replace(self, refused: Secret) -> Secret | None:
        """Return the token that its file holds by now; None where that is the one that was refused."""
        with self._lock:
            if self._token is not refused:  # another thread has read it
                return self._token
            found = read_token(self._source) if self._may_replace else None
            if found is None or found.reveal() == refused.reveal():
                return None
            self._token, self._may_replace = found, False
            return found


class Grant(httpx.Auth):
    """The OAuth2 password grant: signs in when a token is needed, early before it expires, and when it has ended."""

    def __init__(self, source: Source, grant: PasswordGrant, clock: Clock) -> None:
        self._base = source.base_url
        self._home = _origin(httpx.URL(source.base_url))
        self._grant = grant
        self._from = source.credentials_from
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Secret | None = None
        self._good_until = 0.0
        self._may_replace = True
        self._refusal = ""
        self._refused_until = 0.0  # monotonic seconds

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if _origin(request.url) != self._home:
            yield request
            return
        with self._lock:  # one thread signs in, the others wait for its token
            token = self._token
            if token is None or self._clock.monotonic() >= self._good_until:
                self._check_refusal()
                token = self._take((yield self._request()))
        request.headers["Authorization"] = f"Bearer {token.reveal()}"
        response = yield request
        if not _is_refused(response):
            self._may_replace = self._may_replace or response.is_success
            return
        with self._lock:
            if self._token is token:
                if not self._may_replace:
                    return
                self._check_refusal()
                self._take((yield self._request()))
                self._may_replace = False
            new = self._token
        assert new is not None
        request.headers["Authorization"] = f"Bearer {new.reveal()}"
        response = yield request
        if response.is_success:
            self._may_replace = True

    def masked(self, text: str) -> str:
        """What the service says, without the secrets that were sent to it or came from it: it may repeat them."""
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
        limits = {"timeout": TIMEOUT.as_dict()}
        headers = {"Accept": "application/json"}
        return httpx.Request("POST", self._base + SIGN_IN, data=form, headers=headers, extensions=limits)

    def _take(self, response: httpx.Response) -> Secret:
        """The token of a sign-in's answer. Its body is never quoted: it may hold the token.

        Raises Again for an overload; CredentialsRefused for anything else, and then for every request of a minute.
        """
        answer = read_short(response)
        reading = answers.read_sign_in(answer)
        request_id = reading.request_id and self.masked(reading.request_id)
        reading = reading._replace(said=self.masked(reading.said), request_id=request_id)
        if reading.meaning is Meaning.RETRY:
            again = Again(reading.said, retry_after(answer.headers, self._clock.now()))
            again.request_id = reading.request_id
            raise again
        if reading.meaning is not Meaning.OK:
            way_out = _way_in(answer.status, answer.body, self._base, self._from)
            said = f"{self._base} refused to sign in ({reading.said.removeprefix('signing in: ')}): {way_out}"
            raise self._refuse(said, reading.request_id)
        try:
            body: Any = json.loads(answer.body)
        except (ValueError, RecursionError):
            body = None
        token = body.get("access_token") if isinstance(body, dict) else None
        if not isinstance(token, str) or not is_token(token):
            raise self._refuse(f"{self._base}: signing in: the answer holds no token; check the base address")
        lifetime = self._seconds_left(_as_number(body.get("expires_in")))
        early = min(_EARLY.total_seconds(), lifetime / 10)
        self._good_until = self._clock.monotonic() + lifetime - early
        self._token = Secret(token)
        return self._token

    def _refuse(self, message: str, request_id: str | None = None) -> CredentialsRefused:
        """Remember that the credentials were refused: threads that wait for their turn must not try them too."""
        self._refusal, self._refused_until = message, self._clock.monotonic() + _PAUSE
        error = CredentialsRefused(message)
        error.request_id = request_id
        return error

    def _check_refusal(self) -> None:
        if self._refusal and self._clock.monotonic() < self._refused_until:
            raise CredentialsRefused(self._refusal)

    def _seconds_left(self, expires_in: float) -> float:
        """Return how long a token lives: seconds by the standard; what can't be seconds is a moment."""
        if expires_in > _A_MOMENT:
            expires_in -= self._clock.now().timestamp()
        return expires_in if _SHORTEST <= expires_in <= _A_MOMENT else _LIFETIME


def sign_in(source: Source, clock: Clock) -> Token | Grant:
    """What a source's requests are signed in by."""
    if isinstance(source.credentials, Secret):
        return Token(source, source.credentials)
    return Grant(source, source.credentials, clock)


def no_cookies() -> CookieJar:
    """A session is as good as a token; and a service that runs for years would send along whatever it was handed."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


def _origin(url: httpx.URL) -> tuple[str, bytes]:
    """Whom a request goes to, and how: scheme, host and port."""
    return url.scheme, url.netloc


def way_out(status: int, base_url: str) -> str:
    """What to do about a request that the service refuses."""
    if status == 403:
        return "; or ".join(
            filter(None, ("have AIMS360 let this user read background jobs", network_errors.who_else(base_url)))
        )
    if status == 404 or 300 <= status < 400:
        return "check the base address: the service isn't there; each of the two regions has its own"
    if status == 407:
        return network_errors.who_else(base_url) or "a proxy wants to know who asks"
    return "`aims360-etl doctor` says what the service honours"


class _Short(httpx.SyncByteStream):
    """The body of an answer that should be short: what is beyond is cut off."""

    def __init__(self, body: httpx.SyncByteStream | httpx.AsyncByteStream) -> None:
        assert isinstance(body, httpx.SyncByteStream)
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        left = _LARGEST
        for chunk in self._body:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return

    def close(self) -> None:
        self._body.close()


def read_short(response: httpx.Response) -> Answer:
    """Read an answer that should be short; whoever reads it afterwards gets the same."""
    response.stream = _Short(response.stream)
    return Answer(response.status_code, response.headers, response.read())


def _is_refused(response: httpx.Response) -> bool:
    """Whether an answer says that the token has ended; its body is read only where it may say so."""
    return answers.may_be_token_refused(response.status_code) and answers.is_token_refused(read_short(response))


def _way_in(status: int, body: bytes, base_url: str, credentials_from: str) -> str:
    """What to do where signing in is refused: OAuth2 has a word for why, and no other of the answer is looked at."""
    if status in (404, 405, 407) or 300 <= status < 400:
        return way_out(407 if status == 407 else 404, base_url)
    try:
        why = json.loads(body).get("error")
    except (ValueError, AttributeError, RecursionError):
        why = None
    if why in ("invalid_client", "unauthorized_client"):
        return f"check {credentials_from}; it is the client id or its secret that it doesn't know"
    return (
        f"check {credentials_from}; one of them is wrong, or the account is in the other region, whose base address "
        "is another"
    )


def _as_number(value: object) -> float:
    """Return a number, written as a text perhaps; 0 for anything else."""
    try:
        return float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return 0.0


def _without(text: str, *secrets: Secret | None) -> str:
    for secret in secrets:
        text = secret.hidden_in(text) if secret else text
    return text
