"""How a source's requests get their token: generators of requests that are sent their answers, without a network."""

import json
import threading
from collections.abc import Generator, Iterator
from datetime import timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from etl.client import network_errors
from etl.client.retry import AGAIN, Again, retry_after
from etl.config.secrets import PasswordGrant, Secret
from etl.config.settings import Source
from etl.config.validation import is_token
from etl.errors import SignInFailed
from etl.models import Clock

SIGN_IN = "/authentication/v1/authentication/token"
TIMEOUT = httpx.Timeout(60.0, connect=15.0)  # seconds without a byte
_LARGEST_TOKEN = 2**20  # bytes of an answer to signing in
_EARLY = timedelta(seconds=60)  # a token is renewed this long before it expires


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
        limits = {"timeout": TIMEOUT.as_dict()}
        headers = {"Accept": "application/json"}
        return httpx.Request("POST", self._base + SIGN_IN, data=form, headers=headers, extensions=limits)

    def _take(self, response: httpx.Response) -> Secret:
        """The token of a sign-in's answer. Its body is never quoted: it may hold the token."""
        response.stream = _Short(response.stream)
        body = response.read()
        if response.status_code in AGAIN:
            wait = retry_after(response.headers, self._clock.now())
            raise Again(f"signing in: HTTP {response.status_code}", wait)
        if response.status_code != 200:
            way_out = _way_in(response.status_code, body, self._base, self._from)
            raise SignInFailed(f"{self._base} refused to sign in (HTTP {response.status_code}): {way_out}")
        try:
            answer: Any = json.loads(body)
            token, lifetime = str(answer["access_token"]), float(answer.get("expires_in") or 3600)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Again("signing in: the answer holds no token") from None
        if not is_token(token):
            raise Again("signing in: the answer holds no token")
        early = min(_EARLY.total_seconds(), lifetime / 10)
        self._good_until = self._clock.monotonic() + lifetime - early
        self._token = Secret(token)
        return self._token


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
    """The body of an answer to signing in, which is short. Raises Again where it isn't."""

    def __init__(self, body: httpx.SyncByteStream | httpx.AsyncByteStream) -> None:
        assert isinstance(body, httpx.SyncByteStream)
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._body:
            size += len(chunk)
            if size > _LARGEST_TOKEN:
                raise Again("signing in: the answer is larger than 1 MB")
            yield chunk

    def close(self) -> None:
        self._body.close()


def _way_in(status: int, body: bytes, base_url: str, credentials_from: str) -> str:
    """What to do where signing in is refused: OAuth2 has a word for why, and no other of the answer is looked at."""
    if status in (404, 405, 407) or 300 <= status < 400:
        return way_out(407 if status == 407 else 404, base_url)
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


def _without(text: str, *secrets: Secret | None) -> str:
    for secret in secrets:
        text = secret.hidden_in(text) if secret else text
    return text
