"""How the service says no: overload, tokens that ended, sign-ins that fail, and the ids that support asks for."""

import re
from datetime import timedelta
from typing import Any

import httpx
import pytest

from etl.testing.emulator import (
    ALL_FAULT_KINDS,
    FAULT_KINDS,
    SIGN_IN_KINDS,
    START,
    Emulator,
    Faults,
    ServiceOptions,
    World,
)
from tests.testing.emulator.asking import BEARER, COLLECTION, GOOD_FORM, JOB, TOKEN, ask, in_process, served

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


# -- overload ----------------------------------------------------------------------------------------------------------


def test_overload_is_a_400_that_says_so() -> None:
    """With a code, a message and an id of the request, another one each time."""
    emulator = Emulator(World())
    emulator.fail_next("overload", "overload")
    first, second = (ask(in_process(emulator)) for _ in range(2))
    assert first.status_code == second.status_code == 400
    assert first.json()["error"].keys() == {"code", "message"}
    assert first.json()["error"]["code"] == "Request_ProcessingFailed"
    assert _GUID.fullmatch(first.json()["requestId"])
    assert first.json()["requestId"] != second.json()["requestId"]
    assert ask(in_process(emulator)).status_code == 200


def test_overload_may_say_less() -> None:
    """A 400 whose JSON has no `error`, and no id even where others have one."""
    emulator = Emulator(World(), options=ServiceOptions(request_ids=True))
    emulator.fail_next("overload-bare")
    answer = ask(in_process(emulator))
    assert (answer.status_code, answer.json()) == (400, {"Message": "An error has occurred."})


def test_pages_of_html_and_a_timeout_of_the_request() -> None:
    """403, 404 and 408, as gateways answer in passing."""
    emulator = Emulator(World())
    emulator.fail_next("403-html", "404-html", "408")
    answers = [ask(in_process(emulator)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [403, 404, 408]
    assert {answer.headers["Content-Type"] for answer in answers} == {"text/html; charset=utf-8"}


def test_overload_by_a_share_of_the_requests() -> None:
    """Faults of this kind are drawn by seed as others are, once they are named; they aren't among the usual ones."""
    emulator = Emulator(World(), faults=Faults(0.3, ("overload", "overload-bare"), seed=1))
    codes = [ask(in_process(emulator)).status_code for _ in range(60)]
    assert 5 < codes.count(400) < 35
    assert {request.fault for request in emulator.requests} == {"", "overload", "overload-bare"}
    assert Faults().kinds == FAULT_KINDS
    assert set(ALL_FAULT_KINDS) > {*FAULT_KINDS, "overload"}
    assert "overload" not in FAULT_KINDS


def test_an_overloaded_service_reruns_nothing() -> None:
    """It has done nothing of what was asked."""
    world = World()
    job = world.add(canReRun="Yes")
    emulator = Emulator(world)
    emulator.fail_next("overload", "overload-bare", "403-html")
    assert [in_process(emulator).post(f"{JOB}/{job.job_id}/rerun").status_code for _ in range(3)] == [400, 400, 403]
    assert world.payload(job)["jobStatus"] == "Completed"


# -- ids of requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("are_given", [True, False])
def test_json_errors_may_have_an_id(are_given: bool) -> None:
    """Beside the error, before it, the same for the same request of the same service; good answers have none."""

    def answers() -> list[httpx.Response]:
        client = served(World(), request_ids=are_given)
        return [ask(client, filter="nope"), client.get(f"{JOB}/x"), client.post(TOKEN, data={}), ask(client)]

    first = [answer.json() for answer in answers()]
    assert first == [answer.json() for answer in answers()]
    assert [next(iter(each)) == "requestId" for each in first] == [are_given] * 3 + [False]
    assert len({each.get("requestId") for each in first[:3]}) == (3 if are_given else 1)


# -- tokens that ended -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "status", "code", "challenge"),
    [
        ("401", 401, "Unauthorized", None),
        ("401-invalid-token", 401, "Unauthorized", 'Bearer error="invalid_token"'),
        ("403", 403, "AuthenticationFailed", None),
        ("400", 400, "InvalidAuthenticationInfo", None),
    ],
)
def test_a_token_that_doesnt_hold(form: str, status: int, code: str, challenge: str | None) -> None:
    """One that ended, one that was withdrawn and one that never was are refused alike, outputs included."""
    world = World()
    private = world.add(publishLinkAccessScope="Private")["publishLink"]
    emulator = Emulator(world, options=ServiceOptions(ended_token=form))  # type: ignore[arg-type]
    granted = in_process(emulator).post(TOKEN, data=GOOD_FORM).json()["access_token"]
    client = in_process(emulator, Authorization=f"Bearer {granted}")
    assert ask(client).status_code == 200
    emulator.fail_next("expired-token")
    withdrawn = [ask(client), ask(client)]
    never = in_process(emulator, Authorization="Bearer nonsense")
    for answer in (*withdrawn, ask(never), never.get(private)):
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        said = answer.headers.get("WWW-Authenticate")
        assert said == challenge or (challenge is not None and said is not None and said.startswith(challenge))


@pytest.mark.parametrize(("no_token", "status"), [("401", 401), ("as-ended", 403)])
@pytest.mark.parametrize("headers", [{"Accept": "*/*"}, {"Authorization": "Bearer "}, {"Authorization": "Basic eA=="}])
def test_a_request_without_any_token(no_token: str, status: int, headers: dict[str, str]) -> None:
    """401, whatever an ended one gets, unless the option says that there is no difference."""
    options = ServiceOptions(ended_token="403", no_token=no_token)  # type: ignore[arg-type]
    assert in_process(Emulator(World(), options=options), **headers).get(COLLECTION).status_code == status


# -- signing in --------------------------------------------------------------------------------------------------------


def test_signing_in_can_fail_in_every_way() -> None:
    """Each kind answers as it is named, one grant each, in order; other calls are spared, and then all is well."""
    emulator = Emulator(World())
    kinds = ("429-seconds", "503", "invalid_grant", "403-html", "overload", "", "overload-bare")
    emulator.fail_sign_in(*kinds)
    client = in_process(emulator)
    assert ask(client).status_code == 200
    answers = [client.post(TOKEN, data=GOOD_FORM) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [429, 503, 400, 403, 400, 200, 400, 200]
    assert answers[0].headers["Retry-After"] == "2"
    assert answers[2].json()["error"] == "invalid_grant"
    assert answers[3].headers["Content-Type"] == "text/html; charset=utf-8"
    assert answers[4].json()["error"]["code"] == "Request_ProcessingFailed"
    assert [request.fault for request in emulator.requests] == ["", *kinds, ""]
    assert emulator.tokens.made == 2


def test_an_answer_to_a_sign_in_can_be_lost() -> None:
    """A reset or a 504 after the token was made: there is one more than anybody knows of."""
    emulator = Emulator(World(), reset=httpx.ReadError)
    emulator.fail_sign_in("reset", "504")
    client = in_process(emulator)
    with pytest.raises(httpx.ReadError):
        client.post(TOKEN, data=GOOD_FORM)
    assert client.post(TOKEN, data=GOOD_FORM).status_code == 504
    assert emulator.tokens.made == 2


def test_what_cant_go_wrong_with_a_sign_in() -> None:
    """There is no token yet that could have ended; and a call with a token asks for no grant."""
    with pytest.raises(ValueError, match="no such fault: 'expired-token'"):
        Emulator(World()).fail_sign_in("expired-token")
    with pytest.raises(ValueError, match="no such fault: 'invalid_grant'"):
        Emulator(World()).fail_next("invalid_grant")
    assert set(SIGN_IN_KINDS) == {*ALL_FAULT_KINDS, "invalid_grant"} - {"expired-token"}


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("seconds", {"expires_in": 600}),
        ("moment", {"expires_in": int(START.timestamp()) + 600}),
        ("text", {"expires_in": "600"}),
        ("absent", {}),
    ],
)
def test_how_long_a_token_lasts_is_said_in_many_ways(form: Any, shown: dict[str, object]) -> None:
    """In seconds, as the moment of its end, as text, or not at all; it ends when it ends."""
    emulator = Emulator(World(), token_lifetime=600, options=ServiceOptions(expires_in=form))
    granted = in_process(emulator).post(TOKEN, data=GOOD_FORM).json()
    assert granted == {"access_token": "granted-token-1", "token_type": "bearer", **shown}
    client = in_process(emulator, Authorization="Bearer granted-token-1")
    emulator.world.advance(timedelta(seconds=599))
    assert ask(client).status_code == 200
    emulator.world.advance(timedelta(seconds=1))
    assert ask(client).status_code == 401
    assert in_process(emulator, **BEARER).get(COLLECTION).status_code == 200
