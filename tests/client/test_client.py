"""The client: who it is, how long it waits, and what it never gives away."""

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import pytest

from etl import __version__
from etl.client import odata
from etl.client.auth import sign_in
from etl.client.client import Api
from etl.client.transport import trust
from etl.config.secrets import PasswordGrant, Secret
from etl.errors import AskForLess, BadAnswer, BrokenPromise, CredentialsRefused, Refused, SignInFailed, Unreachable
from etl.models import Clock
from etl.testing.emulator import Emulator, World, serve
from etl.testing.emulator.service_options import ServiceOptions
from tests.client.wire import Wire
from tests.support.scene import BASE, GRANT, TOKEN, a_source


def test_a_page_has_the_sources_own_time() -> None:
    """The Date header, not our clock."""
    wire = Wire()
    page = wire.api.page(odata.query(order="ID"))
    assert len(page.answer.rows) == 3
    assert page.answered_at == wire.world.now.replace(microsecond=0)


def test_the_service_hears_who_asks_and_in_which_version() -> None:
    """User-Agent, for whoever reads the service's log; and the version of OData in which it is to answer."""
    wire = Wire()
    wire.api.page(odata.query())
    headers = wire.emulator.requests[-1].headers
    assert (headers["user-agent"], headers["odata-maxversion"]) == (f"aims360-etl/{__version__}", "4.0")


class Listening(httpx.WSGITransport):
    """Hears of each request on its way."""

    def __init__(self, app: Callable[..., Any]) -> None:
        super().__init__(app=app)
        self.heard: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        self.heard.append(request)
        return super().handle_request(request)


def test_no_request_waits_without_end() -> None:
    """Neither for a page nor for a token, which the HTTP library's own limits don't reach."""
    wire = Wire(a_source(credentials=GRANT))
    on_the_way = Listening(wire.emulator)
    Api(a_source(credentials=GRANT), wire.clock, on_the_way).page(odata.query())
    limits = [request.extensions.get("timeout", {}) for request in on_the_way.heard]
    assert [request.method for request in on_the_way.heard] == ["POST", "GET"]
    assert [(limit.get("connect"), limit.get("read")) for limit in limits] == [(15.0, 60.0)] * 2


def test_an_answer_to_signing_in_is_short() -> None:
    """One without end isn't read to it, and holds no token."""
    given = []

    def app(_environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        start("200 OK", [("Content-Type", "application/json")])
        for _ in range(100):
            given.append(2**20)
            yield b" " * 2**20

    wire = Wire()
    api = Api(a_source(credentials=GRANT), wire.clock, httpx.WSGITransport(app=app))
    with pytest.raises(CredentialsRefused, match="signing in: the answer holds no token"):
        api.page(odata.query())
    assert len(given) < 5


def test_what_the_service_hands_out_is_not_kept() -> None:
    """No cookie is sent back: thousands of runs would send thousands."""
    wire = Wire()

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        given = len(on_the_way.heard)
        return wire.emulator(environ, lambda status, headers: start(status, [*headers, ("Set-Cookie", f"c{given}=1")]))

    on_the_way = Listening(app)
    api = Api(a_source(), wire.clock, on_the_way)
    for _ in range(3):
        api.page(odata.query())
    assert [request.headers.get("Cookie") for request in on_the_way.heard] == [None] * 3


def test_it_signs_in_once_and_again_before_the_token_expires() -> None:
    """A token is used until a minute before its end."""
    wire = Wire(a_source(credentials=GRANT), token_lifetime=3600)
    for _ in range(3):
        wire.api.page(odata.query())
    assert wire.grants() == 1
    wire.world.advance(timedelta(seconds=3545))
    wire.api.page(odata.query())
    assert wire.grants() == 2
    assert all(request.status == 200 for request in wire.emulator.requests)


def test_it_signs_in_again_once_after_a_401() -> None:
    """A token that was withdrawn early is replaced; credentials that are refused are an error with its cure."""
    wire = Wire(a_source(credentials=GRANT))
    wire.api.page(odata.query())
    wire.emulator.fail_next("expired-token")
    wire.api.page(odata.query())
    assert wire.grants() == 2
    bad = Wire(
        a_source(
            credentials=PasswordGrant("client", Secret("wrong-secret"), "me", Secret("password")),
            credentials_from="the four",
        )
    )
    with pytest.raises(SignInFailed, match="check the four") as caught:
        bad.api.page(odata.query())
    assert "wrong-secret" not in str(caught.value)
    assert bad.grants() == 1


def test_the_token_goes_to_the_configured_host_alone() -> None:
    """A redirect to another host is not followed, and a request to another host would carry no token."""
    seen: list[str] = []

    def elsewhere(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(environ["HTTP_HOST"])
        start_response("302 Found", [("Location", "https://evil.example/")])
        return [b""]

    clock = Clock(lambda: datetime.now(UTC), lambda: 0.0, lambda _: None)
    for credentials in (Secret(TOKEN), GRANT):
        seen.clear()
        source = a_source(credentials=credentials)
        api = Api(source, clock, httpx.WSGITransport(app=elsewhere))
        with pytest.raises((Refused, SignInFailed)):
            api.page(odata.query())
        assert set(seen) == {httpx.URL(BASE).host}
        for other in ("https://evil.example/", BASE.replace("https", "http"), f"{BASE}:8443", BASE + ".evil.example"):
            flow = sign_in(source, clock).auth_flow(httpx.Request("GET", other))
            assert "Authorization" not in next(flow).headers, other


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    """Neither a page's nor a sign-in's, to no host: on real sockets the other one hears nothing, the token least."""
    clock = Clock(lambda: datetime.now(UTC), lambda: 0.0, lambda _: None)
    other = Emulator(World(seed=1), token=TOKEN)
    heard: list[str] = []
    with serve(other) as elsewhere:

        def moved(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
            heard.append(environ["PATH_INFO"])
            start_response(
                f"{status} Moved", [("Location", elsewhere.url + environ["PATH_INFO"]), ("Content-Length", "0")]
            )
            return [b""]

        with serve(cast("Emulator", moved)) as server:
            for credentials in (Secret(TOKEN), GRANT):
                source = a_source(base_url=server.url, credentials=credentials)
                with Api(source, clock) as api, pytest.raises((Refused, SignInFailed), match=f"HTTP {status}"):
                    api.page(odata.query())
    assert len(heard) == 2
    assert list(other.requests) == []


def test_who_answers_over_https_must_be_trusted() -> None:
    """By httpx's rules, however the address is written; over plain http nobody is."""
    for address in ("https://api.aims360.example", "HTTPS://api.aims360.example"):
        some = trust(address)
        assert (some.verify_mode, some.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert some.get_ca_certs()
    nobody = trust("http://127.0.0.1:8360")
    assert (nobody.verify_mode, nobody.check_hostname, nobody.get_ca_certs()) == (ssl.CERT_REQUIRED, True, [])


@pytest.mark.parametrize(("kind", "least"), [("429-seconds", 2.0), ("429-date", 2.0), ("429-bare", 0.1), ("503", 0.1)])
def test_it_waits_as_long_as_the_source_asks(kind: str, least: float) -> None:
    """Retry-After in seconds, as a date, or none; then it goes on."""
    wire = Wire()
    wire.emulator.fail_next(kind)
    assert len(wire.api.page(odata.query()).answer.rows) == 3
    assert sum(wire.slept) >= least


@pytest.mark.parametrize(
    "kind", ["429-seconds", "429-bare", "500", "502", "503", "504", "408", "overload", "overload-bare", "cut", "reset"]
)
def test_a_source_that_is_overloaded_is_asked_one_request_at_a_time(kind: str) -> None:
    """Whatever its word for it; good answers bring more again, slowly."""
    wire = Wire(a_source(concurrency=8))
    wire.api.page(odata.query())
    assert wire.api.bears == 8
    wire.emulator.fail_next(kind)
    wire.api.page(odata.query())
    assert wire.api.bears == 1
    for _ in range(20):
        wire.api.page(odata.query())
    assert wire.api.bears == 3


def test_a_429_counts_once_for_all_threads_it_reaches() -> None:
    """It is asked one request at a time from then on, and nothing meanwhile; it recovers as from a single 429."""
    meet = threading.Barrier(4)
    asked: list[float] = []
    now = 0.0

    def busy(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        asked.append(now)
        if len(asked) <= 4:
            meet.wait(10)
            start_response("429 Too Many Requests", [("Retry-After", "30")])
            return [b""]
        start_response("200 OK", [])
        return [b'{"value": []}']

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    api = Api(
        a_source(concurrency=8), Clock(lambda: datetime.now(UTC), lambda: now, sleep), httpx.WSGITransport(app=busy)
    )
    threads = [threading.Thread(target=api.page, args=(odata.query(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert api.bears == 1
    assert len(asked) == 8
    assert min(asked[4:]) >= 30.0
    for _ in range(6):
        api.page(odata.query())
    assert api.bears == 2


def test_a_source_that_never_answers_well_is_told_with_the_query() -> None:
    """After eight tries: what was asked, what came last."""
    wire = Wire()
    wire.emulator.fail_next(*["502"] * 8)
    with pytest.raises(Unreachable, match=re.escape("[$filter=ID gt 5]")):
        wire.api.page(odata.query(["ID gt 5"]))
    wire.emulator.fail_next(*["html"] * 8)
    with pytest.raises(BadAnswer, match="8 times"):
        wire.api.page(odata.query())
    assert len(wire.emulator.requests) == 16


def test_what_the_service_refuses_is_not_repeated() -> None:
    """A 400 is an answer."""
    wire = Wire()
    with pytest.raises(Refused) as caught:
        wire.api.page(odata.query(["colour eq 5"]))
    assert caught.value.status == 400
    assert len(wire.emulator.requests) == 1


def test_one_job_is_asked_for_by_a_filter() -> None:
    """In the payload's spelling, a quote inside doubled; that there is none is an answer."""
    wire = Wire()
    wire.world.add(jobID="o'hara-1")
    shown = wire.api.job("o'hara-1")
    assert shown is not None
    assert json.loads(shown.row)["jobID"] == "o'hara-1"
    assert shown.answered_at == wire.world.now.replace(microsecond=0)
    assert wire.api.job("o'hara-2") is None
    assert wire.emulator.requests[0].query == {"$filter": "jobID eq 'o''hara-1'"}
    assert all(request.method == "GET" for request in wire.emulator.requests)


def test_another_job_is_not_taken_for_it() -> None:
    """A service that ignores the filter shows the first hundred; one that honours it, whatever the case of letters."""
    wire = Wire(ignore=("filter",), options=ServiceOptions(has_plain_path=False))
    with pytest.raises(BrokenPromise, match="shows other jobs than the one asked for, none-1"):
        wire.api.job("none-1")
    wire = Wire()
    asked = str(next(wire.world.jobs())["jobID"]).upper()
    shown = wire.api.job(asked)
    assert shown is not None
    assert json.loads(shown.row)["jobID"].upper() == asked


def job_of(shown: Any) -> object:
    """Which job was shown."""
    return None if shown is None else json.loads(shown.row)["jobID"]


def test_one_job_is_asked_for_in_the_documented_spelling_where_the_payloads_is_refused() -> None:
    """jobId; and from then on at once."""
    wire = Wire(options=ServiceOptions(property_names="jobId"))
    first, second, _ = (str(job["jobID"]) for job in wire.world.jobs())
    assert job_of(wire.api.job(first)) == first
    assert job_of(wire.api.job(second)) == second
    assert wire.api.job("none-1") is None
    spelt = ["jobID", "jobId", "jobId", "jobId"]
    assert [query.partition("=")[2].partition(" ")[0] for query in wire.asked] == spelt


@pytest.mark.parametrize("habit", [{"options": ServiceOptions(refused=frozenset({"filter"}))}, {"ignore": ("filter",)}])
def test_one_job_is_asked_for_by_its_path_where_no_filter_is_honoured(habit: dict[str, Any]) -> None:
    """A 404 with JSON is its word for no such job; the filters are asked for no more."""
    wire = Wire(**habit)
    asked = str(next(wire.world.jobs())["jobID"])
    assert wire.api.job("none-1") is None
    assert job_of(wire.api.job(asked)) == asked
    assert [request.path.rpartition("/")[2] for request in wire.emulator.requests[-2:]] == ["none-1", asked]
    assert len(wire.emulator.requests) == 4


def test_a_service_that_shows_no_single_job_at_all_says_why() -> None:
    """By what the filter was answered; the page for people, in the place of the plain path, says nothing."""
    wire = Wire(options=ServiceOptions(refused=frozenset({"filter"}), has_plain_path=False))
    wire.api.page(odata.query())
    with pytest.raises(AskForLess, match="Query option 'Filter' is not allowed"):
        wire.api.job("none-1")
    paths = [request.path for request in wire.emulator.requests]
    assert sum(path.endswith("/none-1") for path in paths) == 3


@pytest.mark.parametrize(("kind", "tries"), [("overload", 2), ("403-html", 2), ("404-html", 2)])
def test_a_plain_path_that_is_busy_is_no_word_about_the_job(kind: str, tries: int) -> None:
    """Neither overload nor a page for people means that there is none."""
    wire = Wire(options=ServiceOptions(refused=frozenset({"filter"})))
    asked = str(next(wire.world.jobs())["jobID"])
    wire.api.job(asked)
    wire.emulator.reset_log()
    wire.emulator.fail_next(kind)
    assert job_of(wire.api.job(asked)) == asked
    assert sum(request.path.endswith(asked) for request in wire.emulator.requests) == tries


ACCEPTED = b'{"jobId": "a-1", "jobStatus": "Queued", "jobRunId": "r"}'
NO = b'{"requestId": "r-1", "error": {"code": "Forbidden", "message": "No."}}'
BUSY = b'{"requestId": "r-1", "error": {"code": "Request_ProcessingFailed", "message": "Later."}}'


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, ACCEPTED, None),
        (204, b"", None),
        (200, b"{}", "HTTP 200, but what it says is no answer to a rerun"),
        (400, BUSY, "HTTP 400: Later. (requestId r-1)"),
        (400, b"{}", "HTTP 400: no message"),
        *((status, b"", f"HTTP {status}: no message") for status in (408, 429, 500, 502, 503, 504, 520)),
    ],
)
def test_what_comes_in_place_of_an_answer_to_a_rerun_is_told(status: int, body: bytes, said: str | None) -> None:
    """It is asked once, for the service may have done it."""
    wire = Wire(gate=lambda _: (status, body))
    assert wire.api.rerun("a-1") == said
    assert len(wire.asked) == 1


@pytest.mark.parametrize(
    ("status", "body"), [(400, NO), (403, NO), (403, b"<html>"), (404, b"<html>"), (404, NO), (409, NO), (501, NO)]
)
def test_a_rerun_that_the_service_refuses_was_not_done(status: int, body: bytes) -> None:
    """Whatever is in its way, it is not asked again."""
    wire = Wire(gate=lambda _: (status, body))
    with pytest.raises(Refused, match=f"refuses to run job a-1 again .HTTP {status}: .*nothing was done") as caught:
        wire.api.rerun("a-1")
    assert (len(wire.asked), caught.value.status) == (1, status)
    assert caught.value.request_id == ("r-1" if body == NO else None)


def test_a_service_that_asks_for_too_much_patience_ends_the_run() -> None:
    """An hour is for the next run."""

    def busy(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("429 Too Many Requests", [("Retry-After", "3600")])
        return [b""]

    api = Api(a_source(), Clock(lambda: datetime.now(UTC), lambda: 0.0, lambda _: None), httpx.WSGITransport(app=busy))
    with pytest.raises(Unreachable, match="3600 s"):
        api.page(odata.query())


def test_long_waits_are_told() -> None:
    """Somebody at a terminal sees why nothing happens; short ones are nobody's concern."""
    told: list[str] = []
    wire = Wire()
    api = Api(a_source(), wire.clock, httpx.WSGITransport(app=wire.emulator), told.append)
    wire.emulator.fail_next("503", "429-seconds")
    api.page(odata.query())
    assert len(told) == 1
    assert told[0].startswith(f"{BASE}: HTTP 429: Rate limit is exceeded. Try again later; asked again in ")


def test_a_run_that_has_ended_waits_for_no_patient_request() -> None:
    """Told to wait ten minutes, a request gives up as soon as another thread of the run has failed."""
    stop = threading.Event()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            stop.set()

    def busy(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("429 Too Many Requests", [("Retry-After", "600")])
        return [b""]

    api = Api(a_source(), Clock(lambda: datetime.now(UTC), lambda: 0.0, sleep), httpx.WSGITransport(app=busy))
    with pytest.raises(Unreachable, match="the run has ended"):
        api.page(odata.query(), stop)
    assert slept == [1.0] * 3


@pytest.mark.parametrize("kind", ["reset", "cut", "slow"])
def test_what_goes_wrong_on_the_wire_is_overcome(kind: str) -> None:
    """A real socket: reset, cut short, dripped."""
    world = World(seed=2)
    world.ties(50)
    emulator = Emulator(world, token=TOKEN)
    emulator.fail_next(kind)
    with serve(emulator, drip=0.001) as server:
        slept: list[float] = []
        clock = Clock(lambda: datetime.now(UTC), lambda: 0.0, slept.append)
        with Api(a_source(base_url=server.url), clock) as api:
            assert len(api.page(odata.query()).answer.rows) == 50
    assert len(slept) == (0 if kind == "slow" else 1)


def test_an_answer_that_drips_for_ever_is_given_up() -> None:
    """No read time limit is ever met by a byte a minute: the whole answer has one."""
    world = World(seed=3)
    world.ties(50)
    emulator = Emulator(world, token=TOKEN)
    emulator.fail_next(*["slow"] * 8)
    ticks = iter(range(0, 10**6, 100))
    with serve(emulator, drip=0.001) as server:
        clock = Clock(lambda: datetime.now(UTC), lambda: float(next(ticks)), lambda _: None)
        with Api(a_source(base_url=server.url), clock) as api, pytest.raises(Unreachable, match="longer than 180 s"):
            api.page(odata.query())
