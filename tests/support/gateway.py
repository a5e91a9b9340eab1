"""Something between client and service that changes answers."""

from collections.abc import Callable
from typing import Any

from tests.support.scene import Scene

App = Callable[[dict[str, Any], Callable[..., Any]], Any]


def behind(scene: Scene, answer: Callable[[dict[str, Any], bytes], tuple[str, bytes]]) -> App:
    """The service behind something that changes its answers: status line and body."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        started: list[Any] = []
        body = b"".join(scene.emulator(environ, lambda *given: started.extend(given)))
        status, changed = answer(environ, body)
        headers = [(name, value) for name, value in started[1] if name != "Content-Length"]
        start_response(status if status != "200 OK" else started[0], headers)
        return [changed]

    return app
