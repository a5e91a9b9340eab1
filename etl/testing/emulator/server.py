"""The emulator on a socket: HTTP/1.1 with keep-alive, a thread a connection, and faults that only a wire can have."""

import socket
import struct
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from io import BufferedIOBase, BytesIO
from socketserver import StreamRequestHandler, TCPServer, ThreadingMixIn
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import unquote_to_bytes

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application: an `Emulator`, or something that stands before one."""

DRIPS = 16
_LONGEST_LINE = 1 << 16
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Server:
    """A running server. `url` is its base address; `close()`, or leaving a `with`, stops it and cuts what is open."""

    def __init__(self, sockets: "_Sockets") -> None:
        self._sockets = sockets
        host, port = sockets.server_address[:2]
        self.url = f"http://{host!s}:{port}"
        self._thread = Thread(target=sockets.serve_forever, args=(0.05,), name="emulator", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; safe to call twice."""
        self._sockets.over.set()
        self._sockets.shutdown()
        self._sockets.server_close()
        self._sockets.cut_all()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(
    emulator: Application, host: str = "127.0.0.1", port: int = 0, *, latency: float = 0.0, drip: float = 0.02
) -> Server:
    """Serve in a background thread. `latency`: seconds before each answer; `drip`: between the pieces of a slow one.

    Links in rows go on pointing where the world says: set `emulator.world.links = server.url` to have documents
    fetched from here.
    """
    return Server(_Sockets(emulator, (host, port), latency, drip))


class _Sockets(ThreadingMixIn, TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, emulator: Application, address: tuple[str, int], latency: float, drip: float) -> None:
        self.emulator, self.latency, self.drip = emulator, latency, drip
        self.over = Event()
        self._open: set[socket.socket] = set()
        self._lock = Lock()
        super().__init__(address, _Handler)

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def cut_all(self) -> None:
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed by itself meanwhile

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that went away is nothing to report
            super().handle_error(request, client_address)


class _Handler(StreamRequestHandler):
    """One connection: requests in, whole answers out, one `sendall` each.

    Not http.server's: that reads headers as if they were mail, which costs as much as to answer.
    """

    disable_nagle_algorithm = True
    server: _Sockets

    def setup(self) -> None:
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        self.server.closed(self.connection)
        super().finish()

    def handle(self) -> None:
        """Answer until the client goes, or wants no more."""
        self.goes_on = True
        while self.goes_on and (asked := _read(self.rfile)) is not None:
            if asked.method == _NO_METHOD:
                self.connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            self.goes_on = asked.keeps_alive
            with ExitStack() as in_flight:
                self._serve(asked, in_flight)

    def _serve(self, asked: "_Asked", in_flight: ExitStack) -> None:
        faults: list[str] = []
        environ = self._environ(asked, faults.append)
        is_admitted = in_flight.enter_context(_arrive(self.server.emulator))
        if is_admitted is not None:
            environ["emulator.is_admitted"] = is_admitted
        if is_admitted is not False:  # a refusal comes at once
            self.server.over.wait(self.server.latency)
        status, headers, body = self._answer(environ)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        fault = faults[0] if faults else ""
        self._send(f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1"), body, fault, in_flight.close)

    def _answer(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        started: list[Any] = []
        body = b"".join(self.server.emulator(environ, lambda *start: started.extend(start)))
        return started[0], started[1], body

    def _environ(self, asked: "_Asked", wire: Any) -> dict[str, Any]:
        path, _, query = asked.target.partition("?")
        environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in asked.headers.items()}
        return environ | {
            "REQUEST_METHOD": asked.method,
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "CONTENT_LENGTH": str(len(asked.body)),
            "SERVER_NAME": "{}:{}".format(*self.server.server_address),
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(asked.body),
            "emulator.wire": wire,
            "emulator.over": self.server.over,
        }

    def _send(self, head: bytes, body: bytes, fault: str, end: Callable[[], None]) -> None:
        """Send an answer. `end` is called before its last piece: a client that has it may ask again at once."""
        if fault != "slow":
            end()
        match fault:
            case "reset":
                self._reset()
            case "cut":
                self.connection.sendall(head + body[: len(body) // 2])
                self.goes_on = False
            case "slow":
                self._drip(head + body, end)
            case _:
                self.connection.sendall(head + body)

    def _drip(self, whole: bytes, end: Callable[[], None]) -> None:
        size = len(whole) // DRIPS + 1
        for start in range(0, len(whole), size):
            if start + size >= len(whole):
                end()
            self.connection.sendall(whole[start : start + size])
            self.server.over.wait(self.server.drip)

    def _reset(self) -> None:
        """Close so that the other side gets a TCP reset and not an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.rfile.close()  # it holds the socket open
        self.server.closed(self.connection)
        self.connection.close()
        self.goes_on = False


def _arrive(emulator: Application) -> AbstractContextManager[bool | None]:
    """Count a request until the end of the context: whether it is admitted, or None if the application has no limit."""
    arrive: Callable[[], AbstractContextManager[bool]] | None = getattr(emulator, "arrive", None)
    return nullcontext() if arrive is None else arrive()


_NO_METHOD = ""


class _Asked(NamedTuple):
    """A request as it came in; names of headers in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keeps_alive: bool


def _read(stream: BufferedIOBase) -> _Asked | None:
    """The next request, read whole, so that the one after it begins where it begins; None where none comes.

    What is no request of HTTP, such as the hello of TLS, has no method.
    """
    line = stream.readline(_LONGEST_LINE).decode("latin-1").split()
    if not line:
        return None
    if len(line) != 3 or not line[2].startswith("HTTP/"):
        return _Asked(_NO_METHOD, "", {}, b"", keeps_alive=False)
    method, target, version = line
    headers: dict[str, str] = {}
    while header := stream.readline(_LONGEST_LINE).strip():
        name, _, value = header.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    length = headers.get("content-length", "0")
    body = stream.read(int(length)) if length.isdecimal() else b""
    wish = headers.get("connection", "close" if version == "HTTP/1.0" else "").lower()
    return _Asked(method, target, headers, body, wish != "close")
