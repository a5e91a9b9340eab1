"""A page of the collection: what is asked again, what is learnt of it, and when it is given up."""

import json
import threading
from itertools import count, pairwise
from typing import Any

import httpx
import pytest

from etl.client import odata
from etl.config.secrets import Secret
from etl.errors import AskForLess, BadAnswer, Refused, SignInFailed, SourceError, Unreachable
from etl.testing.emulator import Faults
from etl.testing.emulator.service_options import ServiceOptions
from tests.client.wire import HTML, Gate, Wire
from tests.support import known_secrets
from tests.support.known_secrets import ACCESS_KEY, CLIENT_SECRET, ECHOES, PASSWORD, PERSON, TOKEN, leaks
from tests.support.scene import BASE, GRANT, a_source
from tests.support.waiting import PATIENCE

QUERY = odata.query(["ID gt 1"], "ID")
ASKED = "$filter=ID gt 1&$orderby=ID"
OTHER = odata.query(top=1)
ROWS = 3


def error(message: str, code: str = "", **also: str) -> bytes:
    """An error as OData words it."""
    return json.dumps({**also, "error": {"code": code, "message": message}}).encode()


UNPHRASED = error("The query specified in the URI is not valid.")


def refusing(status: int, body: bytes, times: float = float("inf")) -> Gate:
    """What gives this answer to the query, so many times, and lets any other through."""
    left = times

    def gate(query: str) -> tuple[int, bytes] | None:
        nonlocal left
        if query != ASKED or left <= 0:
            return None
        left -= 1
        return status, body

    return gate


def behind(gate: Gate, **emulator: Any) -> Wire:
    """A service that has answered a small request well before."""
    wire = Wire(a_source(concurrency=8), **emulator)
    wire.api.page(OTHER)
    wire.gate = gate
    wire.asked.clear()
    wire.times.clear()
    return wire


def fails(wire: Wire, kind: type[SourceError], **how: Any) -> Any:
    """The error that the query ends with."""
    with pytest.raises(kind) as caught:
        wire.api.page(QUERY, **how)
    assert type(caught.value) is kind
    return caught.value


def is_by_turns(asked: list[str]) -> bool:
    """Whether another request came after each that was refused."""
    return all((asked[at] == ASKED) == (at % 2 == 0) for at in range(len(asked)))


# -- a page for people -----------------------------------------------------------------------------------------------

PAGES = pytest.mark.parametrize(("status", "body"), [(403, HTML), (404, HTML), (400, HTML), (403, b""), (404, b"gone")])


@PAGES
def test_a_page_for_people_on_an_address_that_never_answered_is_final(status: int, body: bytes) -> None:
    """The address is wrong, or a right is missing."""
    wire = Wire(gate=lambda _: (status, body))
    refused = fails(wire, Refused)
    assert (wire.asked, refused.status, refused.is_query) == ([ASKED], status, False)


@PAGES
def test_a_page_for_people_in_place_of_one_query_refuses_it_after_three(status: int, body: bytes) -> None:
    """While another request is answered after each, and one request is in flight: then it is this query."""
    wire = behind(refusing(status, body))
    refused = fails(wire, Refused)
    assert (refused.status, refused.is_query, refused.option) == (status, True, None)
    assert len(wire.asked) == 6
    assert is_by_turns(wire.asked)
    assert wire.api.bears == 1


@PAGES
def test_a_page_for_people_in_place_of_every_answer_is_told_soon(status: int, body: bytes) -> None:
    """Twice in a row is enough: once may be what others ask of the service."""
    wire = behind(lambda _: (status, body))
    refused = fails(wire, Refused)
    assert f"{BASE} refuses every request (HTTP {status}: " in str(refused)
    assert (len(wire.asked), refused.is_query, refused.status) == (4, False, status)
    assert sum(wire.slept) < 4.0


@PAGES
@pytest.mark.parametrize("times", [1, 2])
def test_a_page_for_people_that_goes_away_was_overload(status: int, body: bytes, times: int) -> None:
    """IIS says so where too many requests are in flight."""
    wire = behind(refusing(status, body, times))
    assert len(wire.api.page(QUERY).answer.rows) == ROWS
    assert wire.asked.count(ASKED) == times + 1


@pytest.mark.parametrize("crowded", ["the query", "the other request"])
def test_refusals_with_others_in_flight_teach_nothing(crowded: str) -> None:
    """There may have been too many: of the query, and of the other request that was to tell what that means."""
    is_over, is_there = threading.Event(), threading.Event()
    wire = behind(lambda _: None)
    thread = threading.Thread(target=wire.api.page, args=(odata.query(skip=1),))

    def gate(query: str) -> tuple[int, bytes] | None:
        if "$skip" in query:
            is_there.set()
            assert is_over.wait(PATIENCE)
            return None
        if crowded == "the other request" and query != ASKED and not thread.is_alive():
            thread.start()
            assert is_there.wait(PATIENCE)
            return 403, HTML
        return (403, HTML) if wire.asked.count(ASKED) <= 3 else None

    wire.gate = gate
    wire.api._sender.throttle.drop_limit = lambda *_, **__: None  # type: ignore[method-assign]
    if crowded == "the query":
        thread.start()
        assert is_there.wait(PATIENCE)
    assert len(wire.api.page(QUERY).answer.rows) == ROWS
    assert wire.asked.count(ASKED) == 4
    is_over.set()
    thread.join(PATIENCE)


def test_an_address_may_be_known_from_another_run() -> None:
    """One that answered within the last 30 days isn't wrong now; it is this query, or all of them."""
    wire = Wire(gate=refusing(403, HTML, 1))
    wire.api.begin_anew(is_known=True)
    assert len(wire.api.page(QUERY).answer.rows) == ROWS
    wire = Wire(gate=lambda _: (403, HTML))
    wire.api.begin_anew(is_known=True)
    assert "refuses every request" in str(fails(wire, Refused))
    wire.api.begin_anew()
    assert "refuses every request" not in str(fails(wire, Refused))


@pytest.mark.parametrize(
    ("status", "body", "tries"), [(403, HTML, 3), (404, HTML, 3), (400, UNPHRASED, 1), (414, b"", 1)]
)
def test_what_can_be_asked_in_another_way_is(status: int, body: bytes, tries: int) -> None:
    """A shorter list of keys: at once, or when it is no overload."""
    wire = behind(refusing(status, body))
    less = fails(wire, AskForLess, can_do_without=True)
    assert wire.asked.count(ASKED) == tries
    assert f"HTTP {status}" in str(less)


# -- a refusal without a reason --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "option"),
    [
        ("The property 'ID' cannot be used in the $filter query option.", "filter ID"),
        ("Query option 'OrderBy' is not allowed.", "orderby"),
    ],
)
def test_a_refusal_with_a_reason_is_learnt_at_once(message: str, option: str) -> None:
    """What it names is kept with the error; it is no sign of overload."""
    wire = behind(refusing(400, error(message)))
    refused = fails(wire, Refused)
    assert (refused.is_query, refused.option, refused.status, wire.asked) == (True, option, 400, [ASKED])
    assert wire.api.bears == 8


def test_a_refusal_without_a_reason_has_to_come_three_times_half_a_minute_apart() -> None:
    """With another request answered after each, and one in flight; told with the last number it was given."""
    numbers = count(1)
    wire = behind(
        lambda query: (400, error("It is not valid.", requestId=f"r-{next(numbers)}")) if query == ASKED else None
    )
    refused = fails(wire, Refused)
    assert (refused.is_query, refused.option, refused.request_id) == (True, None, "r-3")
    assert is_by_turns(wire.asked)
    refusals = [at for at, query in zip(wire.times, wire.asked, strict=True) if query == ASKED]
    assert len(refusals) == 3
    assert all((later - earlier).total_seconds() >= 30 for earlier, later in pairwise(refusals))
    assert wire.api.bears == 1


@pytest.mark.parametrize("times", [1, 2])
def test_a_refusal_without_a_reason_that_goes_away_is_forgotten(times: int) -> None:
    """The framework says so too where its connection pool is exhausted."""
    wire = behind(refusing(400, UNPHRASED, times))
    assert len(wire.api.page(QUERY).answer.rows) == ROWS


def test_refusals_in_other_words_each_time_teach_nothing() -> None:
    """They have nothing to do with the query, or not the same."""
    numbers = count(1)
    wire = behind(lambda query: (400, error(f"Reason {next(numbers)}.")) if query == ASKED else None)
    fails(wire, Unreachable)
    assert wire.asked.count(ASKED) == 8


def test_refusals_while_nothing_else_is_answered_teach_nothing() -> None:
    """An outage with several faces."""
    wire = behind(lambda query: (400, UNPHRASED) if query == ASKED else (503, HTML))
    fails(wire, Unreachable)
    assert wire.asked.count(ASKED) == 8


def test_failures_of_another_kind_between_do_not_count_as_refusals() -> None:
    """Two 500 that were confirmed and one page for people are no three refusals."""
    faces = iter([(500, b""), (500, b""), (500, b""), (403, HTML), (500, b""), (403, HTML)])
    wire = behind(lambda query: next(faces, None) if query == ASKED else None)
    with pytest.raises(AskForLess):
        wire.api.page(QUERY, can_shrink=True)
    faces = iter([(403, HTML), (404, HTML), (403, HTML), (404, HTML)])
    assert len(wire.api.page(QUERY).answer.rows) == ROWS


def test_a_service_that_refuses_everything_without_a_reason_says_so_at_once() -> None:
    """After the second request, not after half a minute."""
    wire = Wire(gate=lambda _: (400, UNPHRASED))
    assert "refuses every request" in str(fails(wire, Refused))
    assert (len(wire.asked), wire.slept) == (2, [])


# -- what fails for good ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["504", "reset"])
def test_what_takes_too_long_is_asked_for_smaller_at_once(kind: str) -> None:
    """After one 504 or one timeout, where it can be; elsewhere it is asked again."""
    wire = behind(lambda _: None, reset=httpx.ReadTimeout)
    wire.emulator.fail_next(kind)
    less = fails(wire, AskForLess, can_shrink=True)
    assert (less.is_too_large, wire.asked, wire.slept) == (True, [ASKED], [])
    assert "(asked once)" in str(less)
    wire.emulator.fail_next(kind)
    assert len(wire.api.page(QUERY).answer.rows) == ROWS


def test_the_least_that_can_be_asked_has_to_fail_like_any_other() -> None:
    """Nothing smaller is left."""
    wire = behind(refusing(504, b""))
    less = fails(wire, AskForLess, can_shrink=True, is_least=True)
    assert (less.is_too_large, wire.asked.count(ASKED)) == (False, 4)


@pytest.mark.parametrize(
    ("status", "body"), [(500, error("It fell over.")), (502, HTML), (503, b""), (200, HTML), (200, b'{"value": [')]
)
def test_what_fails_while_others_are_answered_is_asked_for_smaller(status: int, body: bytes) -> None:
    """After three failures with another request answered after each: it is for what it holds."""
    wire = behind(refusing(status, body))
    less = fails(wire, AskForLess, can_shrink=True)
    assert not less.is_too_large
    assert wire.asked.count(ASKED) == 4
    assert is_by_turns(wire.asked[1:])
    assert len(wire.asked) == 7


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_what_fails_less_often_is_answered(failures: int) -> None:
    """Though others were answered meanwhile."""
    wire = behind(refusing(500, b"", failures))
    assert len(wire.api.page(QUERY, can_shrink=True).answer.rows) == ROWS


@pytest.mark.parametrize(
    "answer", [(500, b""), (503, HTML), (502, HTML), (408, b""), (400, error("Busy.", "Request_ProcessingFailed"))]
)
def test_an_outage_in_which_everything_fails_gives_nothing_up(answer: tuple[int, bytes]) -> None:
    """It is an outage, whatever could be asked for smaller."""
    wire = behind(lambda _: answer)
    assert "in 8 tries" in str(fails(wire, Unreachable, can_shrink=True))
    assert wire.asked.count(ASKED) == 8


@pytest.mark.parametrize("body", [HTML, b'{"value": [', b""])
def test_an_outage_behind_a_gateway_gives_nothing_up(body: bytes) -> None:
    """One that says 200 and a page of its own."""
    wire = behind(lambda _: (200, body))
    fails(wire, BadAnswer, can_shrink=True)
    assert wire.asked.count(ASKED) == 8


@pytest.mark.parametrize("reset", [httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError])
def test_an_outage_of_the_network_gives_nothing_up(reset: type[Exception]) -> None:
    """Reset, refused, or broken off."""
    wire = behind(lambda _: None, reset=reset)
    wire.emulator.fail_next(*["reset"] * 100)
    fails(wire, Unreachable, can_shrink=True)


@pytest.mark.parametrize("kind", ["overload", "overload-bare", "408", "429-bare"])
def test_overload_is_no_reason_to_ask_for_less(kind: str) -> None:
    """Other requests were answered after each, and still it says nothing of the query."""
    wire = behind(lambda _: None)
    wire.emulator.fail_next(*[kind] * 7)
    assert len(wire.api.page(QUERY, can_shrink=True).answer.rows) == ROWS
    assert wire.asked == [ASKED] * 8


def test_another_request_may_be_named_by_the_caller() -> None:
    """The next range, say; and what other threads were answered since counts as well."""
    wire = behind(refusing(500, b""))
    fails(wire, AskForLess, can_shrink=True, another=odata.query(["ID gt 2"]))
    assert [query for query in wire.asked if query != ASKED] == ["$filter=ID gt 2"] * 3


def test_what_was_answered_before_a_failure_is_no_evidence() -> None:
    """An answer of another thread that came while the request was under way says nothing of the time after it."""
    wire = behind(lambda _: None)

    def gate(query: str) -> tuple[int, bytes] | None:
        if query != ASKED or wire.asked.count(ASKED) > 1:
            return None
        thread = threading.Thread(target=wire.api.page, args=(OTHER,))
        thread.start()
        thread.join()
        return 403, HTML

    wire.gate = gate
    assert len(wire.api.page(QUERY).answer.rows) == ROWS
    assert wire.asked == [ASKED, "$top=1", "$top=1", ASKED]


# -- overload over a long time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        Faults(0.15, ("overload",), seed=1),
        Faults(0.15, ("overload", "overload", "overload-bare"), seed=2),
        Faults(0.15, ("overload", "403-html", "429-bare", "503", "cut"), seed=3),
    ],
)
def test_a_service_that_is_busy_for_long_is_read_to_the_end(faults: Faults) -> None:
    """15 % of requests fail over 500 pages: every page comes, nothing is refused, and nothing is learnt."""
    wire = behind(lambda _: None)
    wire.emulator.set_faults(faults)
    for _ in range(500):
        assert len(wire.api.page(QUERY, can_shrink=True).answer.rows) == ROWS
    failed = [request for request in wire.emulator.requests if request.fault]
    assert 60 < len(failed) < 200
    assert 60 < wire.api.usage.retries <= len(failed)
    wire.emulator.set_faults(Faults())
    assert len(wire.api.page(QUERY).answer.rows) == ROWS


# -- what is told ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "how"),
    [
        ((400, error("Query option 'OrderBy' is not allowed.", requestId="r-1")), Refused, {}),
        ((403, error("No.", requestId="r-1")), Refused, {}),
        ((400, error("No.", requestId="r-1")), Refused, {}),
        ((400, error("No.", "Request_ProcessingFailed", requestId="r-1")), Unreachable, {}),
        ((500, error("No.", requestId="r-1")), Unreachable, {}),
        ((500, error("No.", requestId="r-1")), AskForLess, {"can_shrink": True}),
        ((504, error("No.", requestId="r-1")), AskForLess, {"can_shrink": True}),
        ((413, error("No.", requestId="r-1")), AskForLess, {}),
        ((400, error("No.", requestId="r-1")), AskForLess, {"can_do_without": True}),
        ((200, error("No.", requestId="r-1")), BadAnswer, {}),
    ],
)
def test_what_the_support_looks_a_call_up_by_is_in_the_message_and_on_the_error(
    answer: tuple[int, bytes], kind: type[SourceError], how: dict[str, bool]
) -> None:
    """However it ends."""
    failed = fails(behind(lambda query: answer if query == ASKED else None), kind, **how)
    assert failed.request_id == "r-1"
    assert "(requestId r-1)" in str(failed)
    assert "[$filter=ID gt 1&$orderby=ID]" in str(failed)


def test_a_service_that_refuses_everything_is_told_with_its_number_too() -> None:
    """In the words of the query itself."""
    failed = fails(behind(lambda _: (400, error("No.", requestId="r-1"))), Refused)
    assert (failed.request_id, "(requestId r-1)" in str(failed)) == ("r-1", True)


def test_a_token_that_is_refused_fresh_from_signing_in_is_told_with_its_number() -> None:
    """It isn't asked again."""
    ended = (403, error("No.", "AuthenticationFailed", requestId="r-1"))
    wire = Wire(a_source(credentials=GRANT), lambda query: ended if query == ASKED else None)
    with pytest.raises(SignInFailed, match=r"fresh from signing in: HTTP 403: No. \(requestId r-1\)") as caught:
        wire.api.page(QUERY)
    assert caught.value.request_id == "r-1"
    assert (wire.asked.count(ASKED), wire.grants()) == (2, 2)


@pytest.mark.parametrize("form", ["401", "401-invalid-token", "403", "400"])
def test_a_token_that_ends_in_a_run_is_replaced(form: Any) -> None:
    """In each way to say so: the page comes, and nothing counts as a retry or as overload."""
    wire = Wire(a_source(credentials=GRANT, concurrency=8), options=ServiceOptions(ended_token=form))
    wire.api.page(OTHER)
    wire.emulator.fail_next("expired-token")
    assert len(wire.api.page(QUERY).answer.rows) == ROWS
    assert (wire.grants(), wire.api.usage.retries, wire.api.bears) == (2, 0, 8)


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("status", [200, 400, 403, 404, 413, 500, 504])
@pytest.mark.parametrize("how", [{}, {"can_shrink": True}, {"can_do_without": True}])
def test_nothing_that_the_service_repeats_of_secrets_is_told(status: int, echo: str, how: dict[str, bool]) -> None:
    """However it ends, and by whatever it was signed in."""
    for credentials, secrets in ((Secret(TOKEN), {TOKEN}), (known_secrets.GRANT, {CLIENT_SECRET, PASSWORD})):
        wire = Wire(a_source(credentials=credentials), client_secret=CLIENT_SECRET, username=PERSON, password=PASSWORD)
        wire.api.page(OTHER)
        wire.gate = lambda query: (status, ECHOES[echo]) if query == ASKED else None
        with pytest.raises(SourceError) as caught:
            wire.api.page(QUERY, **how)  # type: ignore[arg-type]
        assert leaks(str(caught.value)) & {ACCESS_KEY, *secrets} == set()
