"""The processes of a simulation: the emulator's fleet, and workers that are started, killed and stopped."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from random import Random

from etl.errors import EtlError
from etl.testing.load_test import cpu_time

_GRACE = 90  # seconds in which a worker ends the runs that it has in hand
_SAID = 2000  # characters of a log


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """What a process of the simulation is set to: of whoever calls only what isn't ours."""
    ours = ("AIMS360_", "DATABASE_URL")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**inherited, **settings}


class Process:
    """A command of ours, running; what it says is in a file."""

    def __init__(self, words: list[str], environ: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "etl", *words],
                env=dict(environ),
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        self.pid = self._process.pid

    def must_live(self) -> None:
        """Raises EtlError, with its last words, where it has ended."""
        code = self._process.poll()
        if code is not None:
            raise EtlError(f"a process of the simulation ended by itself with {code}: {self.last_words()}")

    def last_words(self) -> str:
        """The end of what it said."""
        return self._log.read_text(errors="replace")[-_SAID:].strip()

    def seconds(self) -> float:
        """Of CPU, so far."""
        return cpu_time.by_process(self.pid)

    def wait(self, seconds: float) -> bool:
        """Wait for its end, not longer; whether it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def kill(self) -> float:
        """Kill it as the kernel does (-9); the seconds of CPU that it used."""
        self._process.kill()
        seconds = self.seconds()  # as long as nobody has waited for it
        self._process.wait()
        return seconds

    def ask_to_end(self) -> None:
        """It ends as soon as it can."""
        self._process.send_signal(signal.SIGTERM)


class Workers:
    """Some workers. `killed`: when which process was killed."""

    def __init__(self, words: list[str], environ: Mapping[str, str], folder: Path) -> None:
        self._words, self._environ, self._folder = words, environ, folder
        self._running: list[Process] = []
        self._started = 0
        self._gone = 0.0
        self.killed: list[tuple[int, datetime]] = []

    def start(self) -> None:
        """One more."""
        self._started += 1
        self._running.append(Process(self._words, self._environ, self._folder / f"worker-{self._started}.log"))

    def kill_one(self, rng: Random, now: datetime) -> None:
        """One of them is killed, whatever it does, and another begins. `now`: a moment at which it was alive."""
        unlucky = self._running.pop(rng.randrange(len(self._running)))
        self._gone += unlucky.kill()
        self.killed.append((unlucky.pid, now))
        self.start()

    def stop(self) -> None:
        """All end, each with what it has in hand; one that doesn't end in time is killed."""
        self._gone = self.seconds()
        for worker in self._running:
            worker.ask_to_end()
        for worker in self._running:
            if not worker.wait(_GRACE):
                worker.kill()
        self._running.clear()

    def must_live(self) -> None:
        """Raises EtlError where one has ended by itself."""
        for worker in self._running:
            worker.must_live()

    def last_words(self) -> str:
        """The end of what the last of them said."""
        return self._running[-1].last_words() if self._running else ""

    def seconds(self) -> float:
        """Of CPU, by all of them, those that are gone too."""
        return self._gone + sum(worker.seconds() for worker in self._running)


@contextmanager
def a_fleet(accounts: int, seed: int, latency: float, folder: Path) -> Iterator[tuple[Process, str]]:
    """The emulator with so many accounts, configured in `folder`; and where it is steered."""
    words = ["emulator", "--port", "0", "--accounts", str(accounts), "--seed", str(seed), "--latency", str(latency)]
    process = Process([*words, "--config", str(folder)], environment({}), folder / "emulator.log")
    try:
        while "AIMS360_CONFIG=" not in process.last_words():  # the last thing that it says
            process.must_live()
            process.wait(0.05)
        yield process, json.loads((folder / "fleet.json").read_text())["steering"]
    finally:
        process.kill()
