"""How requests get their token: generators that are sent their answers as values, without a network."""

import json
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest

from etl.client.auth import SIGN_IN, Grant, Token
from etl.client.retry import Again
from etl.config.secrets import Secret
from etl.config.settings import Source
from etl.errors import CredentialsRefused, SignInFailed
from etl.models import Clock
from tests.support import known_secrets
from tests.support.known_secrets import ECHOES, leaks
from tests.support.scene import BASE, GRANT, a_source

Flow = Generator[httpx.Request, httpx.Response, None]
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
HTML = b"<html><body>403 - Forbidden</body></html>"
INVALID_TOKEN = {"WWW-Authenticate": 'Bearer error="invalid_token", error_description="The access token expired"'}


def said(status: int, code: str, **also: str) -> httpx.Response:
    """An error as OData words it."""
    return httpx.Response(status, json={**also, "error": {"code": code, "message": "No."}})


def ended_tokens() -> dict[str, httpx.Response]:
    """Each of the ways to say that a token has ended."""
    return {
        "401": httpx.Response(401),
        "401 page": httpx.Response(401, content=HTML),
        "403": said(403, "AuthenticationFailed"),
        "400": said(400, "InvalidAuthenticationInfo"),
        "header": httpx.Response(403, headers=INVALID_TOKEN),
        "401 header": httpx.Response(401, headers=INVALID_TOKEN),
    }


def other_refusals() -> dict[str, httpx.Response]:
    """What says nothing of the token."""
    return {
        "403": said(403, "Forbidden"),
        "403 page": httpx.Response(403, content=HTML),
        "400": said(400, "Request_ProcessingFailed"),
        "400 page": httpx.Response(400, content=HTML),
        "404": httpx.Response(404),
        "429": httpx.Response(429),
        "503": httpx.Response(503),
    }


def good() -> httpx.Response:
    """A page."""
    return httpx.Response(200, json={"value": []})


def granted(token: str, **also: object) -> httpx.Response:
    """An answer of the token endpoint."""
    return httpx.Response(200, json={"access_token": token, "token_type": "bearer", **also})


@dataclass
class Time:
    """A clock that is set by hand."""

    seconds: float = 0.0
    clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = Clock(lambda: NOW + timedelta(seconds=self.seconds), lambda: self.seconds, lambda _: None)


def a_grant(time: Time | None = None) -> Grant:
    """The password grant of a source."""
    source = a_source(credentials=GRANT, credentials_from="the four")
    return Grant(source, GRANT, (time or Time()).clock)


def begin(auth: httpx.Auth) -> tuple[Flow, httpx.Request]:
    """The flow of a request to the service, and what it sends first."""
    flow = auth.auth_flow(httpx.Request("GET", BASE + "/jobsmanagement/odata/v1.0/backgroundjob"))
    return flow, next(flow)


def is_sign_in(request: httpx.Request) -> bool:
    """Whether a request is for a token."""
    return (request.method, str(request.url)) == ("POST", BASE + SIGN_IN)


def token_of(request: httpx.Request) -> str:
    """The token that a request bears."""
    scheme, _, token = request.headers["Authorization"].partition(" ")
    assert (scheme, is_sign_in(request)) == ("Bearer", False)
    return str(token)


def finish(flow: Flow, response: httpx.Response) -> None:
    """The last answer: nothing more is sent."""
    with pytest.raises(StopIteration):
        flow.send(response)


def signed_in(auth: Grant) -> None:
    """One request that signs in first, and is answered well."""
    flow, request = begin(auth)
    assert is_sign_in(request)
    assert token_of(flow.send(granted("first"))) == "first"
    finish(flow, good())


# -- the password grant ----------------------------------------------------------------------------------------------


def test_the_grant_is_asked_for_with_a_form() -> None:
    """As OAuth2 has it; the answer's token goes to the service, and is good for the next request too."""
    auth = a_grant()
    flow, request = begin(auth)
    assert is_sign_in(request)
    assert {name: value for name, [value] in parse_qs(request.read().decode()).items()} == {
        "client_id": "client",
        "client_secret": "secret",
        "username": "operator@example.com",
        "password": "password",
        "grant_type": "password",
    }
    assert "Authorization" not in request.headers
    assert token_of(flow.send(granted("first", expires_in=3600))) == "first"
    finish(flow, good())
    flow, request = begin(auth)
    assert token_of(request) == "first"
    finish(flow, good())


@pytest.mark.parametrize("way", ended_tokens())
def test_a_token_that_has_ended_is_replaced_once(way: str) -> None:
    """In each way to say so; the request is made again with the new one."""
    auth = a_grant()
    signed_in(auth)
    flow, request = begin(auth)
    assert token_of(request) == "first"
    assert is_sign_in(flow.send(ended_tokens()[way]))
    assert token_of(flow.send(granted("second"))) == "second"
    finish(flow, good())


@pytest.mark.parametrize("way", other_refusals())
def test_any_other_refusal_is_no_reason_to_sign_in(way: str) -> None:
    """A 403 without that code means too many at a time, or a missing right; whoever asked gets the whole answer."""
    auth = a_grant()
    signed_in(auth)
    flow, _ = begin(auth)
    response = other_refusals()[way]
    finish(flow, response)
    assert response.read() == other_refusals()[way].read()


@pytest.mark.parametrize("way", ended_tokens())
def test_a_service_that_refuses_each_token_is_not_signed_in_to_again_and_again(way: str) -> None:
    """Again only after a good answer with the new one."""
    auth = a_grant()
    signed_in(auth)
    flow, _ = begin(auth)
    assert is_sign_in(flow.send(ended_tokens()[way]))
    assert token_of(flow.send(granted("second"))) == "second"
    finish(flow, ended_tokens()[way])
    for _ in range(5):
        flow, request = begin(auth)
        assert token_of(request) == "second"
        finish(flow, ended_tokens()[way])
    flow, _ = begin(auth)
    finish(flow, good())
    flow, _ = begin(auth)
    assert is_sign_in(flow.send(ended_tokens()[way]))
    assert token_of(flow.send(granted("third"))) == "third"
    finish(flow, good())


def test_what_is_no_good_answer_lets_nobody_sign_in_again() -> None:
    """Not an error, nor a page for people: neither says that the token holds."""
    auth = a_grant()
    signed_in(auth)
    flow, _ = begin(auth)
    flow.send(httpx.Response(401))
    flow.send(granted("second"))
    finish(flow, httpx.Response(503))
    for response in (httpx.Response(503), said(403, "Forbidden"), httpx.Response(401)):
        flow, request = begin(auth)
        assert token_of(request) == "second"
        finish(flow, response)


def test_threads_whose_token_ended_together_sign_in_once() -> None:
    """The second finds the token that the first was given."""
    auth = a_grant()
    signed_in(auth)
    first, _ = begin(auth)
    second, _ = begin(auth)
    assert is_sign_in(first.send(httpx.Response(401)))
    assert token_of(first.send(granted("second"))) == "second"
    assert token_of(second.send(httpx.Response(401))) == "second"
    finish(first, good())
    finish(second, good())


def test_a_busy_token_endpoint_spoils_no_renewal() -> None:
    """The token that has ended is renewed at the next attempt."""
    auth = a_grant()
    signed_in(auth)
    for busy in (httpx.Response(503), httpx.Response(429), said(400, "Request_ProcessingFailed")):
        flow, _ = begin(auth)
        assert is_sign_in(flow.send(httpx.Response(401)))
        with pytest.raises(Again):
            flow.send(busy)
    flow, _ = begin(auth)
    assert is_sign_in(flow.send(httpx.Response(401)))
    flow.close()  # no answer
    flow, _ = begin(auth)
    assert is_sign_in(flow.send(httpx.Response(401)))
    assert token_of(flow.send(granted("second"))) == "second"
    finish(flow, good())


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(429, headers={"Retry-After": "7.5"}),
        *(httpx.Response(status) for status in (500, 501, 502, 503, 504, 520)),
        said(400, "Request_ProcessingFailed"),
        said(403, "request_processingfailed"),
    ],
)
def test_a_token_endpoint_that_is_busy_is_asked_again(response: httpx.Response) -> None:
    """By the next attempt of whatever wanted a token, after as long as it says."""
    auth = a_grant()
    flow, _ = begin(auth)
    with pytest.raises(Again, match=f"signing in: HTTP {response.status_code}") as caught:
        flow.send(response)
    assert caught.value.retry_after == (7.5 if response.status_code == 429 else None)
    signed_in(auth)


@pytest.mark.parametrize(
    ("response", "advice"),
    [
        (httpx.Response(400, json={"error": "invalid_grant"}), "check the four; one of them is wrong"),
        (httpx.Response(400, json={"error": "invalid_client"}), "the client id or its secret"),
        (httpx.Response(400, json={"error": "unauthorized_client"}), "the client id or its secret"),
        (httpx.Response(400, json={"error": ["invalid_client"]}), "check the four; one of them"),
        (httpx.Response(400, content=b"[" * 60_000), "check the four; one of them"),
        (httpx.Response(400, content=HTML), "check the four; one of them"),
        (httpx.Response(401), "check the four; one of them"),
        (httpx.Response(403, content=HTML), "check the four; one of them"),
        (httpx.Response(408), "check the four; one of them"),
        (httpx.Response(404), "check the base address"),
        (httpx.Response(302, headers={"Location": "https://login.example"}), "check the base address"),
        (httpx.Response(407), "a proxy wants to know who asks"),
        (httpx.Response(204), "check the four"),
    ],
)
def test_a_sign_in_that_is_refused_is_final(
    response: httpx.Response, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody signs in with the same credentials for a minute, or the account may be locked; then they may hold."""
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    time = Time()
    auth = a_grant(time)
    flow, _ = begin(auth)
    with pytest.raises(CredentialsRefused, match=advice) as caught:
        flow.send(response)
    assert f"HTTP {response.status_code}" in str(caught.value)
    time.seconds = 59.0
    for _ in range(3):
        with pytest.raises(CredentialsRefused, match=advice):
            begin(auth)
    time.seconds = 61.0
    signed_in(auth)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"token"',
        HTML,
        b"{}",
        b'{"access_token": null}',
        b'{"access_token": 5}',
        b'{"access_token": ""}',
        b'{"access_token": "two words"}',
        b'{"access_token": "a\\nb"}',
        b'{"access_token": "\xc3\xa4"}',
        b'{"token": "first"}',
        b'{"access_token": "fir',
        b"[" * 60_000,
    ],
)
def test_a_200_without_a_token_is_final(body: bytes) -> None:
    """It isn't the service's, or not for these credentials; and what it says isn't repeated."""
    flow, _ = begin(a_grant())
    with pytest.raises(CredentialsRefused, match=r"the answer holds no token; check the base address$") as caught:
        flow.send(httpx.Response(200, content=body))
    assert "two words" not in str(caught.value)


LONG = 3600.0  # seconds, where nothing sensible is said


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        (600, 600.0),
        (600.5, 600.5),
        ("600", 600.0),
        (int(NOW.timestamp()) + 600, 600.0),
        (str(int(NOW.timestamp()) + 600), 600.0),
        (None, LONG),
        (0, LONG),
        (-600, LONG),
        (1, LONG),
        (int(NOW.timestamp()) - 600, LONG),
        (int(NOW.timestamp()) * 1000, LONG),
        (10**400, LONG),
        (float("nan"), LONG),
        (float("inf"), LONG),
        (float("-inf"), LONG),
        ("nan", LONG),
        ("1e999", LONG),
        ("soon", LONG),
        ("2026-03-02T10:00:00Z", LONG),
        (True, LONG),
        ([600], LONG),
        ({"seconds": 600}, LONG),
    ],
)
def test_a_token_is_used_until_shortly_before_its_end(expires_in: object, lifetime: float) -> None:
    """Seconds or a moment, as a number or a text; what can't be either is an hour, and never each request signs in."""
    time = Time()
    auth = a_grant(time)
    flow, _ = begin(auth)
    body = json.dumps({"access_token": "first", "expires_in": expires_in}).encode()
    flow.send(httpx.Response(200, content=body))
    finish(flow, good())
    early = min(60.0, lifetime / 10)
    time.seconds = lifetime - early - 1.0
    flow, request = begin(auth)
    assert token_of(request) == "first"
    finish(flow, good())
    time.seconds = lifetime - early + 1.0
    flow, request = begin(auth)
    assert is_sign_in(request)
    flow.close()


def test_a_token_without_a_word_of_its_end_is_used_for_an_hour() -> None:
    """Less a minute."""
    time = Time()
    auth = a_grant(time)
    signed_in(auth)
    time.seconds = 3500.0
    assert token_of(begin(auth)[1]) == "first"
    time.seconds = 3550.0
    assert is_sign_in(begin(auth)[1])


# -- a long-lived token ----------------------------------------------------------------------------------------------


def a_token(file: Path | None = None) -> Token:
    """A token of a source, out of a file perhaps."""
    source = a_source(credentials=Secret("old-token"), credentials_from="AIMS360_TOKEN_FILE", token_file=file)
    return Token(source, Secret("old-token"))


@pytest.mark.parametrize("way", ended_tokens())
def test_a_long_lived_token_that_has_ended_is_an_error_with_its_cure(way: str) -> None:
    """Which setting holds it, and where a new one is to be had."""
    flow, request = begin(a_token())
    assert token_of(request) == "old-token"
    with pytest.raises(SignInFailed, match=r"^AIMS360_TOKEN_FILE: the service refuses the token \(40\d\)") as caught:
        flow.send(ended_tokens()[way])
    assert not isinstance(caught.value, CredentialsRefused)
    assert "old-token" not in str(caught.value)


@pytest.mark.parametrize("way", other_refusals())
def test_any_other_refusal_is_not_about_the_token(way: str, tmp_path: Path) -> None:
    """It isn't read anew either."""
    (tmp_path / "token").write_text("new-token")
    flow, _ = begin(a_token(tmp_path / "token"))
    finish(flow, other_refusals()[way])


@pytest.mark.parametrize("text", ["new-token", "new-token\n", "Bearer new-token\r\n", "bearer  new-token"])
@pytest.mark.parametrize("way", ended_tokens())
def test_a_token_file_is_read_anew(way: str, text: str, tmp_path: Path) -> None:
    """Somebody may have put another one there; it is used from then on."""
    auth = a_token(tmp_path / "token")
    (tmp_path / "token").write_text(text)
    flow, request = begin(auth)
    assert token_of(request) == "old-token"
    assert token_of(flow.send(ended_tokens()[way])) == "new-token"
    finish(flow, good())
    flow, request = begin(auth)
    assert token_of(request) == "new-token"
    finish(flow, good())


@pytest.mark.parametrize("text", [None, "", "old-token\n", "Bearer old-token", "two words", "two\nlines", "x" * 20_000])
def test_a_token_file_without_another_token_is_no_cure(text: str | None, tmp_path: Path) -> None:
    """Gone, empty, unreadable, or the same as before: the refusal stands, and nothing of the file is told."""
    if text is not None:
        (tmp_path / "token").write_text(text)
    flow, _ = begin(a_token(tmp_path / "token"))
    with pytest.raises(SignInFailed) as caught:
        flow.send(httpx.Response(401))
    assert str(tmp_path) not in str(caught.value)
    assert "two" not in str(caught.value)


def test_a_token_file_is_read_anew_once_and_again_after_a_good_answer(tmp_path: Path) -> None:
    """A file that somebody writes at each moment keeps nobody asking."""
    file = tmp_path / "token"
    auth = a_token(file)
    file.write_text("second")
    flow, _ = begin(auth)
    assert token_of(flow.send(httpx.Response(401))) == "second"
    file.write_text("third")
    with pytest.raises(SignInFailed):
        flow.send(httpx.Response(401))
    flow, request = begin(auth)
    assert token_of(request) == "second"
    with pytest.raises(SignInFailed):
        flow.send(httpx.Response(401))
    flow, _ = begin(auth)
    finish(flow, good())
    flow, _ = begin(auth)
    assert token_of(flow.send(httpx.Response(401))) == "third"
    finish(flow, good())


def test_a_thread_uses_the_token_that_another_has_read(tmp_path: Path) -> None:
    """The file is looked at once."""
    auth = a_token(tmp_path / "token")
    (tmp_path / "token").write_text("second")
    first, _ = begin(auth)
    second, _ = begin(auth)
    assert token_of(first.send(httpx.Response(401))) == "second"
    (tmp_path / "token").unlink()
    assert token_of(second.send(httpx.Response(401))) == "second"
    finish(second, good())
    finish(first, good())


# -- what is told ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500])
def test_what_the_service_repeats_of_secrets_is_told_to_nobody(status: int, echo: str) -> None:
    """Neither by the token endpoint's refusal nor by that of a long-lived token."""
    source: Source = a_source(credentials=known_secrets.GRANT)
    grant = Grant(source, known_secrets.GRANT, Time().clock)
    flow, _ = begin(grant)
    with pytest.raises((Again, CredentialsRefused)) as caught:
        flow.send(httpx.Response(status, content=ECHOES[echo]))
    assert leaks(str(caught.value), known_secrets.PERSON) == set()
    token = Secret(known_secrets.TOKEN)
    flow, _ = begin(Token(a_source(credentials=token), token))
    if status == 401:
        with pytest.raises(SignInFailed) as refused:
            flow.send(httpx.Response(status, content=ECHOES[echo]))
        assert leaks(str(refused.value), known_secrets.PERSON) == set()


def test_a_refusal_bears_what_the_support_looks_it_up_by() -> None:
    """In its words, and by itself."""
    for status, code in ((503, "Busy"), (400, "invalid")):
        flow, _ = begin(a_grant())
        with pytest.raises((Again, CredentialsRefused), match="requestId r-1") as caught:
            flow.send(said(status, code, requestId="r-1"))
        assert caught.value.request_id == "r-1"
    flow, _ = begin(a_token())
    with pytest.raises(SignInFailed, match="requestId r-2") as refused:
        flow.send(said(403, "AuthenticationFailed", requestId="r-2"))
    assert refused.value.request_id == "r-2"


def test_an_error_is_read_up_to_64_kb_and_whoever_reads_on_gets_the_same() -> None:
    """One without end is no reason to wait."""
    given = 0

    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Generator[bytes, None, None]:
            nonlocal given
            while True:
                given += 1
                yield b" " * 10_000

    flow, _ = begin(a_token())
    response = httpx.Response(403, stream=Endless())
    finish(flow, response)
    assert given < 10
    assert len(response.read()) == 2**16
