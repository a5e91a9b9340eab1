"""The server at --metrics-port: /healthz says whether the loop lives, and asks nobody; the rest is the metrics."""

import http.client
import json
import socket
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import Metric

from etl.reporting.metrics import http_server
from etl.reporting.metrics.http_server import HEALTH_PATH, Heartbeat, serve
from etl.testing.emulator import World
from tests.support.command import Command
from tests.support.ports import a_free_port
from tests.support.waiting import eventually


class Collector:
    """Metrics that fail, as where they would ask a database that is down."""

    def __init__(self) -> None:
        self.is_down = False

    def collect(self) -> Iterator[Metric]:
        if self.is_down:
            raise OSError("the database is down")
        yield Metric("up", "one", "gauge")


class Loop:
    """A loop whose time is told by the test, and its server."""

    def __init__(self, limit: float) -> None:
        self.seconds = 1_000.0
        self.collector = Collector()
        self.heartbeat = Heartbeat(lambda: self.seconds, limit)
        self.port = serve(self.collector, self.heartbeat, 0, "127.0.0.1")

    def ask(self, method: str = "GET", path: str = HEALTH_PATH) -> tuple[int, str]:
        """Return status and body of an answer."""
        answer = httpx.request(method, f"http://127.0.0.1:{self.port}{path}")
        return answer.status_code, answer.text


@pytest.fixture
def loop() -> Loop:
    """A loop that may be silent for a minute."""
    return Loop(60)


def test_a_loop_that_beats_is_alive_and_one_that_is_silent_for_too_long_is_not(loop: Loop) -> None:
    """200 and ok up to the limit, 503 and for how long beyond it, 200 again with the next sign of life."""
    assert loop.ask() == (200, "ok\n")
    loop.seconds += 60
    assert loop.ask() == (200, "ok\n")
    loop.seconds += 1
    assert loop.ask() == (503, "no sign of life for 61 s\n")
    loop.heartbeat.beat()
    assert loop.ask() == (200, "ok\n")


def test_head_has_the_same_status_and_no_body(loop: Loop) -> None:
    """As load balancers ask; the length is the one that GET would have."""
    loop.seconds += 100
    assert loop.ask("HEAD") == (503, "")
    loop.heartbeat.beat()
    connection = http.client.HTTPConnection("127.0.0.1", loop.port, timeout=10)
    connection.request("HEAD", HEALTH_PATH)
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Length"], answer.read()) == (200, "3", b"")
    assert answer.headers["Cache-Control"] == "no-store"
    connection.close()


def test_health_is_asked_with_get_or_head_at_its_own_path(loop: Loop) -> None:
    """Other methods are refused; a longer path is the metrics', as ever."""
    assert loop.ask("POST")[0] == 405
    assert loop.ask(path=f"{HEALTH_PATH}?verbose=1") == (200, "ok\n")
    assert "# HELP up one" in loop.ask(path="/metrics")[1]
    assert "# HELP up one" in loop.ask(path=f"{HEALTH_PATH}/more")[1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_health_asks_for_no_metric(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with the database is for alerts."""
    loop.collector.is_down = True
    assert loop.ask("GET", "/metrics")[0] == 500
    assert loop.ask() == (200, "ok\n")


def test_a_client_that_says_nothing_is_let_go_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each connection holds a thread; and stderr is for runs."""
    monkeypatch.setattr(http_server, "_TIMEOUT", 0.2)
    loop = Loop(60)
    with socket.create_connection(("127.0.0.1", loop.port), timeout=30) as client:
        assert client.recv(1) == b""
    assert loop.ask() == (200, "ok\n")
    assert capfd.readouterr().err == ""


def test_an_address_of_version_six_is_served() -> None:
    """As a cluster may have no other."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    port = serve(Collector(), Heartbeat(lambda: 0.0, 1), 0, "::1")
    assert httpx.get(f"http://[::1]:{port}{HEALTH_PATH}").text == "ok\n"


def test_a_service_is_healthy_though_its_database_is_down(command: Command) -> None:
    """It doesn't come back by a restart: runs fail, the loop goes on, and the probe is content."""
    port = a_free_port()
    command.environ["DATABASE_URL"] = f"postgresql://nobody@127.0.0.1:{a_free_port()}/nowhere"
    with command.start("sync", "--every", "1s", "--metrics-port", str(port), "--log-format", "json") as service:
        try:
            assert service.stderr is not None
            assert "failed" in (json.loads(line)["event"] for line in service.stderr)
            for method in ("GET", "HEAD"):
                assert httpx.request(method, f"http://127.0.0.1:{port}{HEALTH_PATH}").status_code == 200
            service.terminate()
            service.communicate(timeout=60)
            assert service.returncode == 0
        finally:
            service.kill()


def test_a_service_with_a_row_that_cannot_be_read_is_healthy(command: Command, world: World) -> None:
    """The check for alerts fails; the probe, by which the pod is restarted, does not."""
    world.change(next(iter(world.jobs())), overrides={"createdDate": "what is no date"})
    port = a_free_port()
    with command.start("sync", "--every", "1s", "--metrics-port", str(port)) as service:
        try:
            eventually(lambda: command.run("status")[1].count("succeeded") > 0)
            code, said, _ = command.run("status", "--check", "--max-lag", "3650d")
            assert (code, "1 row could not be read" in said) == (1, True), said
            assert httpx.get(f"http://127.0.0.1:{port}{HEALTH_PATH}").text == "ok\n"
        finally:
            service.kill()
