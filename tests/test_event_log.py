"""The log: a line an event, for people or as JSON, with the run's number, and no flood."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from etl.errors import ConfigError, SignInFailed, in_run
from etl.event_log import Log, chosen
from etl.models import Clock, Exchange, Progress, silent
from etl.postgres.connection import Connection
from etl.testing.emulator import Emulator, populated
from tests.support.command import Command
from tests.support.known_secrets import leaks
from tests.support.scene import Scene

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class Minutes:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.now.timestamp(), lambda _: None)


def test_auto_is_for_people_on_a_terminal_and_json_elsewhere() -> None:
    """What is asked for goes before."""
    assert [chosen(form, True) for form in ("auto", "human", "json")] == ["human", "human", "json"]
    assert [chosen(form, False) for form in ("auto", "human", "json")] == ["json", "human", "json"]


def test_a_json_line_says_when_what_and_in_which_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Time in UTC, level, event, source, run: once the run is known."""
    log = Log("json", Minutes().clock, "west")
    log.notice("busy")
    log.and_then(silent)(Progress(7, "jobs read", 10))
    log.progress(Progress(7, "jobs read", 10, 20), 3.2)
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first == {
        "time": "2026-03-02T09:00:00Z",
        "level": "warning",
        "event": "waiting",
        "message": "busy",
        "source": "west",
    }
    assert (second["run_id"], second["done"], second["of"]) == (7, 10, 20)


def test_people_get_plain_lines_and_in_a_service_their_time(capsys: pytest.CaptureFixture[str]) -> None:
    """A single run's lines are as short as any command's; the run's number is told once."""
    error = SignInFailed("no\nno again")
    in_run(error, 9, None)
    Log("human", Minutes().clock).failed(error)
    assert capsys.readouterr().err == "aims360-etl: no\naims360-etl: no again (run 9)\n"
    log = Log("human", Minutes().clock, is_stamped=True)
    log.and_then(silent)(Progress(9, "x"))
    log.notice("busy")
    log.failed(error)
    stamp = "2026-03-02 09:00:00"
    assert capsys.readouterr().err == f"{stamp} busy (run 9)\n{stamp} no\n{stamp} no again (run 9)\n"


def test_a_source_in_trouble_does_not_flood_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten waits a minute are told, then how many were not; failures all are."""
    time = Minutes()
    log = Log("json", time.clock)
    for number in range(25):
        log.notice(f"wait {number}")
    for _ in range(25):
        log.failed(SignInFailed("no"))
    time.now += timedelta(minutes=1)
    log.notice("wait 25")
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event["message"] for event in told if event["event"] == "waiting"] == [
        *(f"wait {number}" for number in range(10)),
        "wait 25",
    ]
    assert sum(event["event"] == "failed" for event in told) == 25
    [silenced] = [event for event in told if event["event"] == "silenced"]
    assert silenced["message"] == "15 more like the last were not told"


def test_requests_are_told_where_they_are_wished_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Method, path and query, the answer, the seconds."""
    exchange = Exchange("GET", "/jobs?$filter=a", 200, 0.25)
    Log("human", Minutes().clock, is_verbose=True).heard(exchange)
    assert capsys.readouterr().err == "GET /jobs?$filter=a: 200, 0.250 s\n"


def test_a_client_tells_of_each_request_without_secrets(db: Connection) -> None:
    """Answers, retries, what came to nothing, and sign-ins; counted by status as told."""
    scene = Scene(db, populated(50, seed=1, now=NOW, rate=0))
    scene.emulator.fail_next("503", "reset", "429-seconds")
    heard: list[Exchange] = []
    with scene.api() as api:
        api._sender._heard = heard.append
        api.page("$top=1&$orderby=modifiedDate%20desc")
        usage = api.usage
    assert [(exchange.status, exchange.failed) for exchange in heard] == [
        (503, ""),
        (None, "ReadError"),
        (429, ""),
        (200, ""),
    ]
    assert {exchange.address for exchange in heard} == {
        "/jobsmanagement/odata/v1.0/backgroundjob?$top=1&$orderby=modifiedDate desc"
    }
    assert (usage.requests, usage.retries, usage.statuses) == (4, 3, {"503": 1, "none": 1, "429": 1, "200": 1})


def test_a_run_says_how_long_each_part_took_and_what_was_answered(db: Connection) -> None:
    """Phases, retries and statuses are in the result, for metrics and for --json; of a failed run with the error."""
    from etl.errors import result_of
    from etl.models import Run

    scene = Scene(db, populated(250, seed=1, now=NOW, rate=0))
    scene.emulator.fail_next("", "503")
    run = scene.sync()
    assert list(run.phases) == ["probe", "scan", "purge", "deep"]
    assert (run.retries, run.statuses["503"], sum(run.statuses.values())) == (1, 1, run.requests)
    assert run.phases["scan"] >= 0.2  # the world's clock: it waited for the retry
    scene.emulator.fail_next("", "expired-token")
    with pytest.raises(SignInFailed) as failed:
        scene.sync()
    told = result_of(failed.value)
    assert isinstance(told, Run)
    assert told.run_id == run.run_id + 1
    assert told.statuses["401"] == 1


def test_the_verbose_command_tells_requests_and_no_secret(command: Command) -> None:
    """Each request with its run, and at the end the result alone on stdout."""
    code, output, errors = command.run("sync", "--verbose", "--log-format", "json", "--json")
    assert code == 0
    told = [json.loads(line) for line in errors.splitlines()]
    requests = [event for event in told if event["event"] == "request"]
    assert len(requests) == json.loads(output)["requests"]
    assert {event["status"] for event in requests} == {200}
    assert all(event["run_id"] == 1 for event in requests)
    assert leaks(errors) == set()


def test_a_failure_is_a_line_of_json_where_the_log_is(command: Command, emulator: Emulator) -> None:
    """Whoever reads the log by program reads the failure too, with the exit code."""
    emulator.fail_next("expired-token")
    code, output, errors = command.run("sync", "--log-format", "json")
    assert (code, output) == (1, "")
    [event] = [json.loads(line) for line in errors.splitlines()]
    assert (event["level"], event["event"], event["exit_code"], event["run_id"]) == ("error", "failed", 1, 1)
    command.environ["AIMS360_LOOK_BACK"] = "soon"
    code, _, errors = command.run("sync", "--log-format", "json")
    assert (code, json.loads(errors)["exit_code"]) == (2, 2)


def test_what_is_no_text_ends_no_log(capsys: pytest.CaptureFixture[str]) -> None:
    """A path that isn't UTF-8 is told with its bytes escaped, in both forms."""
    for form in ("json", "human"):
        Log(form, Minutes().clock).failed(ConfigError("there is no file /run/\udcff"))
    first, second = capsys.readouterr().err.splitlines()
    assert json.loads(first)["message"] == "there is no file /run/\\udcff"
    assert second == "aims360-etl: there is no file /run/\\udcff"


def test_nothing_that_is_told_steers_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """Names that the source made up stand in notes: on a terminal too they are only read."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    Log("human", Minutes().clock).notice("properties not known here: a\x1b]0;b\x07\u202e\x9bc")
    assert capsys.readouterr().err == "properties not known here: a ]0;b c\n"


def test_a_clock_that_is_set_back_silences_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A minute is one that passed."""
    machine = Minutes()
    passed = iter([0.0] * 11 + [61.0] * 2)
    log = Log("human", Clock(lambda: machine.now, lambda: next(passed), lambda _: None))
    for number in range(11):
        log.notice(f"notice {number}")
    machine.now -= timedelta(days=365)
    log.notice("a minute later")
    assert capsys.readouterr().err.splitlines()[-1] == "a minute later"
