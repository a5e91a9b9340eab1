"""A headless Chromium, spoken to over a pipe in its own protocol: no driver and no library stands between."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars")
_EVENTS = {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Network.requestWillBeSent"}

Scheme = Literal["light", "dark"]


class Browser:
    """A browser with one tab; `events` is what was logged, thrown or asked of the network since the last `show`."""

    def __init__(self, profile: Path) -> None:
        program = next(filter(None, map(shutil.which, _NAMES)), None)
        assert program, "these tests need a Chromium: apt-get install chromium"
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=_as_three_and_four(theirs_in, theirs_out),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._out, self._in = os.fdopen(ours_out, "wb", 0), os.fdopen(ours_in, "rb", 0)
        self._rest, self._number = b"", 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()
        self._in.close()
        self._process.terminate()
        self._process.wait(20)

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """The answer to a command; what happens meanwhile is noted."""
        self._number += 1
        order = {"id": self._number, "method": method, "params": given}
        if self._session:
            order["sessionId"] = self._session
        self._out.write(json.dumps(order).encode() + b"\0")
        while True:
            said = self._read()
            if said.get("id") == self._number:
                assert "error" not in said, (method, said)
                return dict(said["result"])

    def show(self, path: Path, width: int, scheme: Scheme) -> None:
        """Opens a file as a window of this width would, whose owner likes it light or dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._read()

    def ask(self, expression: str) -> Any:
        """The value of an expression of JavaScript on the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def troubles(self) -> list[dict[str, Any]]:
        """What was logged, thrown, or asked of the network, but for the page itself."""
        kept = [event for event in self.events if event["method"] in _EVENTS]
        return [event for event in kept if event["params"].get("type") != "Document"]

    def photograph(self, path: Path) -> None:
        """The whole page as a picture."""
        height = self.ask("document.scrollingElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": self.ask("innerWidth"), "height": height, "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def print(self, path: Path) -> None:
        """The page as it would come out of a printer, on A4."""
        printed = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(printed["data"]))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            some = self._in.read(1 << 16)
            assert some, "the browser has gone"
            self._rest += some
        one, _, self._rest = self._rest.partition(b"\0")
        said: dict[str, Any] = json.loads(one)
        if "method" in said:
            self.events.append(said)
        return said


def _as_three_and_four(reads: int, writes: int) -> Callable[[], None]:
    """The browser reads orders from descriptor 3 and answers on 4."""

    def place() -> None:
        kept = os.dup(reads), os.dup(writes)  # either may be 3 or 4 itself
        os.dup2(kept[0], 3)
        os.dup2(kept[1], 4)

    return place
