"""A job is run again once: under every fault at most one request acts, and what became of it is told truly."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from etl.errors import ConfigError, Refused, SignInFailed, Unreachable
from etl.jobs import live, rerun
from etl.jobs.rerun import Fate, hindrance, runs_again
from etl.testing.emulator import FAULT_KINDS, Emulator, serve
from tests.support import known_secrets
from tests.support.ended_job import Desk, a_row
from tests.support.scene import GRANT, a_source

ACTED_UPON = ("504", "cut", "reset", "slow")


def test_a_rerun_is_sent_once_and_shown() -> None:
    """One request; the job as it is afterwards comes along."""
    desk = Desk()
    sent = desk.send()
    assert (sent.fate, sent.instead, desk.posts(), desk.runs()) == (Fate.ACCEPTED, None, 1, 1)
    assert sent.after is not None
    assert live.is_open(sent.after.row)


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_under_every_fault_it_is_sent_once_and_told_truly(kind: str) -> None:
    """Whatever comes instead of an answer: one request, and what is said of it is what the service did."""
    desk = Desk()
    before = desk.ready()
    desk.emulator.fail_next(kind)
    if kind == "expired-token":  # a fixed token can't be renewed
        with pytest.raises(SignInFailed):
            rerun.send(desk.api, desk.clock, before)
        fate = Fate.NOT_ACCEPTED
    else:
        fate = rerun.send(desk.api, desk.clock, before).fate
    assert desk.posts() == 1
    assert (fate is Fate.ACCEPTED) == (desk.runs() == 1) == (kind in ACTED_UPON)


@pytest.mark.parametrize("kind", ACTED_UPON)
def test_on_a_wire_too(kind: str) -> None:
    """A body that is cut, a connection that is reset, an answer that drips: over a real socket."""
    desk = Desk()
    with serve(desk.emulator) as server, desk.client(None, a_source(base_url=server.url)) as api:
        before = desk.ready(api)
        desk.emulator.fail_next(kind)
        sent = rerun.send(api, desk.clock, before)
    assert (sent.fate, desk.posts(), desk.runs()) == (Fate.ACCEPTED, 1, 1)
    assert (sent.instead is None) == (kind == "slow")


def test_a_token_that_was_turned_away_is_renewed() -> None:
    """The service acted upon neither the old one nor twice upon the new one."""
    desk = Desk(a_source(credentials=GRANT))
    before = desk.ready()
    desk.emulator.fail_next("expired-token")
    sent = rerun.send(desk.api, desk.clock, before)
    statuses = [request.status for request in desk.emulator.requests if request.path.endswith("/rerun")]
    assert (sent.fate, statuses, desk.runs()) == (Fate.ACCEPTED, [401, 200], 1)


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "403 Forbidden", "500 Internal Server Error"])
@pytest.mark.parametrize("kind", known_secrets.ECHOES)
def test_what_a_service_repeats_is_not_repeated(kind: str, status: str) -> None:
    """Tokens, passwords, links and people in an answer to a rerun reach no message.

    A 400 whose JSON has no `error` is overload: like a 500 it doesn't say that nothing was done.
    """
    source = a_source(credentials=known_secrets.GRANT)
    desk = Desk()
    desk.emulator = Emulator(
        desk.world,
        token=None,
        client_secret=known_secrets.CLIENT_SECRET,
        username=known_secrets.PERSON,
        password=known_secrets.PASSWORD,
    )
    refuses = False

    def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if not environ["PATH_INFO"].endswith("/rerun"):
            return desk.emulator(environ, start_response)
        start_response(status, [])
        return [known_secrets.ECHOES[kind]]

    api = desk.client(httpx.WSGITransport(app=echo), source)
    try:
        said = str(desk.send(api).instead)
    except Refused as refused:
        said, refuses = str(refused), True
    is_overload = status[0] == "5" or (status[:3] == "400" and kind == "no rows")
    assert refuses == (status[0] == "4" and not is_overload)
    assert known_secrets.leaks(said, known_secrets.PERSON) == set()


class Unplugged(httpx.BaseTransport):
    """A network that comes up after so many attempts to connect."""

    def __init__(self, app: Callable[..., Any], after: int) -> None:
        self._there = httpx.WSGITransport(app=app)
        self.left = after

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Refuses, or lets through."""
        if request.method == "POST" and self.left:
            self.left -= 1
            raise httpx.ConnectError("Connection refused")
        return self._there.handle_request(request)


@pytest.mark.parametrize(("after", "sent"), [(0, 1), (3, 1), (4, 0)])
def test_only_where_no_connection_was_made_it_is_tried_again(after: int, sent: int) -> None:
    """What never left can't have acted: a few tries, and then it is said that nothing was sent."""
    desk = Desk()
    network = Unplugged(desk.emulator, after)
    api = desk.client(network)
    if sent:
        assert desk.send(api).fate is Fate.ACCEPTED
    else:
        with pytest.raises(Unreachable, match="nothing was sent"):
            desk.send(api)
    assert (desk.posts(), network.left) == (sent, 0)


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
def test_a_redirect_is_not_followed(status: str) -> None:
    """A second request to wherever it points would be a second request."""
    desk = Desk()
    asked: list[str] = []

    def elsewhere(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["REQUEST_METHOD"] == "GET":
            return desk.emulator(environ, start_response)
        asked.append(environ["PATH_INFO"])
        start_response(status, [("Location", "https://api.aims360.example/elsewhere")])
        return [b""]

    with pytest.raises(Refused, match="refuses to run job"):
        desk.send(desk.client(httpx.WSGITransport(app=elsewhere)))
    assert len(asked) == 1


def test_a_service_that_says_no_is_quoted() -> None:
    """Its 400 is an answer: the job was locked, say."""
    desk = Desk()
    before = desk.ready()
    desk.world.late(desk.job_id, timedelta(minutes=1), jobStatusText="under change")
    with pytest.raises(Refused, match=r"HTTP 400: job .* is locked.*nothing was done"):
        rerun.send(desk.api, desk.clock, before)
    assert (desk.posts(), desk.runs()) == (1, 0)


def test_a_source_that_falls_silent_leaves_it_open() -> None:
    """No answer, and nobody to ask: it is said that it can't be told, whatever happened."""
    desk = Desk()
    before = desk.ready()
    desk.emulator.fail_next("reset", *["503"] * 50)
    sent = rerun.send(desk.api, desk.clock, before)
    assert (sent.fate, desk.posts(), desk.runs()) == (Fate.UNKNOWN, 1, 1)


def test_a_change_of_another_kind_leaves_it_open() -> None:
    """Somebody put the purge off meanwhile: the job is another version, and that says nothing of a rerun."""
    desk = Desk()
    before = desk.ready()
    desk.world.extend(desk.job_id, 5)
    desk.emulator.fail_next("502")
    sent = rerun.send(desk.api, desk.clock, before)
    assert (sent.fate, desk.posts(), desk.runs()) == (Fate.UNKNOWN, 1, 0)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"overrides": {"canReRun": "No"}}, "canReRun says No"),
        ({"overrides": {"canReRun": None}}, "canReRun says nothing"),
        ({"jobStatus": "Queued"}, "it is Queued, so it runs already"),
        ({"jobStatus": "Inprogress"}, "jobs wait"),
        ({"overrides": {"maximumDateTimeToExecuteJob": "2026-03-02T09:00:59Z"}}, "last moment .* 2026-03-02 09:00:59"),
    ],
)
def test_a_job_that_may_not_be_run_again_is_never_sent(fields: dict[str, Any], why: str) -> None:
    """Asking again would not help: exit code 2, by the source's own word and clock, and no request but the look."""
    desk = Desk()
    desk.world.change(desk.job_id, **fields)
    with pytest.raises(ConfigError, match=f"can't be run again.*{why}.*nothing was sent"):
        desk.send()
    assert (desk.posts(), ConfigError.exit_code) == (0, 2)


def test_a_job_that_is_not_there_is_said() -> None:
    """Purged, or another account's."""
    desk = Desk()
    desk.world.delete(desk.job_id)
    with pytest.raises(ConfigError, match="the source has no job"):
        desk.send()


LATER = datetime(2026, 3, 2, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({}, False),
        ({"row_version": 10**9, "number_of_attempts": 1}, True),
        ({"row_version": 10**9, "job_status": "Queued", "start_date": None}, True),
        ({"row_version": 10**9, "modified_date": LATER, "start_date": LATER, "job_status": "Failed"}, True),
        ({"row_version": 10**9, "modified_date": LATER}, None),
    ],
)
def test_the_job_itself_tells_whether_it_was_run_again(changed: dict[str, Any], answer: bool | None) -> None:
    """More attempts, an open state or another start say yes; the same version no; anything else doesn't tell."""
    before = a_row()
    assert runs_again(before, before._replace(**changed)) is answer


def test_the_last_moment_is_the_sources() -> None:
    """At that very moment it may still be sent, a second later not."""
    row = a_row(maximum_date_time_to_execute_job=LATER)
    assert hindrance(row, LATER) is None
    assert hindrance(row, LATER + timedelta(seconds=1)) is not None
