"""An application over TLS, with certificates of a CA that nobody knows unless told."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import trustme

from etl.testing.emulator.server import Application


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Nothing."""


class _Server(WSGIServer):
    connections = 0

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()


class Secured:
    """Where it is, how often somebody came, and the CA that vouches for it."""

    def __init__(self, server: _Server, ca: trustme.CA) -> None:
        self._server = server
        self._ca = ca
        self.url = f"https://127.0.0.1:{server.server_port}"

    @property
    def connections(self) -> int:
        """How often somebody connected."""
        return self._server.connections

    def ca_file(self, folder: Path) -> Path:
        """The CA's certificate as a PEM file."""
        path = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(path)
        return path


@contextmanager
def secured(
    application: Application, *, host: str = "127.0.0.1", begin: datetime | None = None, end: datetime | None = None
) -> Iterator[Secured]:
    """Serves on this machine with a certificate for a host, good between two dates."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(host, not_before=begin, not_after=end).configure_cert(context)
    server = make_server("127.0.0.1", 0, application, _Server, _Quiet)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Secured(server, ca)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
