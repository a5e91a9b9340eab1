"""The HTTP server of `--metrics-port`: metrics for Prometheus, and whether the process's loop lives for probes.

/healthz    200 "ok", or 503 if the loop gave no sign of life for too long. It asks neither database nor source:
            what is wrong there is for alerts, since a restart cures none of it
/metrics    the metrics, and at any other path
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from etl.errors import ConfigError

if TYPE_CHECKING:  # loaded where metrics are asked for
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client.registry import Collector

HEALTH_PATH = "/healthz"
_TIMEOUT = 30.0  # seconds for a client to send its request, or to take the answer: each holds a thread


class Heartbeat:
    """The signs of life of a loop: it is alive if the last one is no older than `limit` seconds.

    One thread beats, others ask.
    """

    def __init__(self, monotonic: Callable[[], float], limit: float) -> None:
        self._monotonic, self._limit = monotonic, limit
        self._last = monotonic()

    def beat(self) -> None:
        """Give a sign of life."""
        self._last = self._monotonic()

    def measure_silence(self) -> float:
        """Return the seconds since the last sign of life."""
        return self._monotonic() - self._last

    @property
    def is_alive(self) -> bool:
        """Whether the last sign of life is recent enough."""
        return self.measure_silence() <= self._limit


def serve(collector: Collector, heartbeat: Heartbeat, port: int, host: str) -> int:
    """Answer requests in threads that end with the process. Return the port, which 0 leaves to the system.

    Raises ConfigError if that address can't be had.
    """
    import socket
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    from prometheus_client import CollectorRegistry, make_wsgi_app

    class Handler(WSGIRequestHandler):
        timeout = _TIMEOUT

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            """Log nothing: stderr is for runs."""

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing of a client that went away, or sent nothing for too long."""
            if not isinstance(sys.exc_info()[1], OSError):
                super().handle_error(request, client_address)

    registry = CollectorRegistry()
    registry.register(collector)
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        Server.address_family = family
        server = make_server(
            str(address[0]), port, _route(make_wsgi_app(registry), heartbeat), Server, handler_class=Handler
        )
    except socket.gaierror as error:
        raise ConfigError(
            f"--metrics-host: {host} has no address ({error.strerror}); name one of this machine"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"--metrics-port: {host} port {port} can't be had: {error.strerror}; is another service there? "
            "Choose another port, or another --metrics-host"
        ) from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_port)


def _route(metrics: WSGIApplication, heartbeat: Heartbeat) -> WSGIApplication:
    """Make the application that answers for health itself, and passes all else on to the metrics'."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != HEALTH_PATH:
            return metrics(environ, start_response)
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            status, text, more = "405 Method Not Allowed", "use GET or HEAD\n", [("Allow", "GET, HEAD")]
        elif heartbeat.is_alive:
            status, text, more = "200 OK", "ok\n", []
        else:
            silence = f"no sign of life for {heartbeat.measure_silence():.0f} s\n"
            status, text, more = "503 Service Unavailable", silence, []
        body = text.encode()
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response(status, [*headers, ("Cache-Control", "no-store"), *more])
        return [b"" if method == "HEAD" else body]

    return answer
