"""A server that says of itself what an old Postgres does: as much of its protocol as a client needs to get in."""

import socketserver
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

_ENCRYPTION = (80877103, 80877104)  # a client asks for TLS, or GSSAPI, before it says who it is


class _Handler(socketserver.StreamRequestHandler):
    server: "_Server"

    def handle(self) -> None:
        while self._opening() in _ENCRYPTION:
            self.wfile.write(b"N")
        told = {"server_version": self.server.version, "server_encoding": "UTF8", "client_encoding": "UTF8"}
        parameters = [_message(b"S", f"{name}\0{value}\0".encode()) for name, value in told.items()]
        admitted, ready = _message(b"R", struct.pack("!i", 0)), _message(b"Z", b"I")
        self.wfile.write(b"".join([admitted, *parameters, ready]))
        self.rfile.read()  # until the client goes

    def _opening(self) -> int:
        """The number that a client begins with."""
        length, number = struct.unpack("!ii", self.rfile.read(8))
        self.rfile.read(length - 8)
        return int(number)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    version = ""


@contextmanager
def a_postgres_of(version: str) -> Iterator[str]:
    """The address of a server of that version, such as 13.14."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.version = version
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"postgresql://someone:very-secret@127.0.0.1:{server.server_address[1]}/mirror"
        server.shutdown()
        thread.join()
