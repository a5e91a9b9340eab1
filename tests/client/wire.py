"""A world behind a client whose sleep is the world's time, and what may stand before it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import httpx

from etl.client.client import Api
from etl.config.secrets import Secret
from etl.config.settings import Source
from etl.models import Clock
from etl.testing.emulator import Emulator, World
from tests.support.scene import a_source

HTML = b"<!DOCTYPE html><html><body><h1>403 - Forbidden: Access is denied.</h1></body></html>"
Gate = Callable[[str], tuple[int, bytes] | None]  # a status and a body in the place of the service's own answer


def token_of(source: Source) -> str | None:
    """The long-lived token that a source has."""
    return source.credentials.reveal() if isinstance(source.credentials, Secret) else None


class Wire:
    """`gate` sees each query before the service does. `asked` and `times`: each query that came, and when."""

    def __init__(self, source: Source | None = None, gate: Gate = lambda _: None, **emulator: object) -> None:
        self.world = World(seed=1)
        self.world.ties(3)
        source = source or a_source()
        given = {"token": token_of(source), "reset": httpx.ReadError, **emulator}
        self.emulator = Emulator(self.world, **given)  # type: ignore[arg-type]
        self.gate = gate
        self.asked: list[str] = []
        self.times: list[datetime] = []
        self.slept: list[float] = []
        self.clock = Clock(lambda: self.world.now, lambda: self.world.now.timestamp(), self._sleep)
        self.api = Api(source, self.clock, httpx.WSGITransport(app=self._app))

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.world.advance(timedelta(seconds=seconds))

    def _app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        query = unquote(environ["QUERY_STRING"])
        self.asked.append(query)
        self.times.append(self.world.now)
        answer = self.gate(query)
        if answer is None:
            return self.emulator(environ, start_response)
        start_response(f"{answer[0]} As the gate says", [])
        return [answer[1]]

    def grants(self) -> int:
        """How often it signed in."""
        return sum(request.path.endswith("/token") for request in self.emulator.requests)
