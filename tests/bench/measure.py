"""A command as a whole process: its wall time, its peak memory, what it said; and what else takes time."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Timer
from typing import Any

AT_MOST = 1_800  # seconds, for any command


@dataclass(frozen=True, slots=True)
class Process:
    """A command that has ended well. `began` is a time of the monotonic clock; `peak` is its resident set in MB.

    `working`: seconds from its first request to its end, where that was asked for.
    """

    began: float
    seconds: float
    peak: float
    said: str
    working: float = 0.0

    @property
    def told(self) -> dict[str, Any]:
        """What `--json` said."""
        found: dict[str, Any] = json.loads(self.said)
        return found


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """This process' environment with these variables; compiled modules are kept, as where people run the command."""
    stray = ("PYTHONDONTWRITEBYTECODE", "DATABASE_URL")
    kept = {n: v for n, v in os.environ.items() if n not in stray and not n.startswith("AIMS360_")}
    return {**kept, **given}


def etl(*words: str) -> list[str]:
    """The command with this interpreter."""
    return [sys.executable, "-m", "etl", *words]


def run(command: Sequence[str], given: Mapping[str, str]) -> Process:
    """Runs a command to its end. RuntimeError if it fails.

    Linux counts the memory of whoever starts a process as the process' own, until it is past that: the bench itself
    has to stay small.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        process = subprocess.Popen(command, env=environment(given), stdout=out, stderr=err, stdin=subprocess.DEVNULL)
        watchdog = Timer(AT_MOST, process.kill)
        watchdog.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            watchdog.cancel()
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said, complained = (_text(file) for file in (out, err))
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {complained or said}")
    return Process(began, seconds, megabytes(usage.ru_maxrss), said)


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def progress(text: str) -> None:
    """A line for who waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode())


def megabytes(ru_maxrss: int) -> float:
    """Kilobytes on Linux, bytes on macOS."""
    return ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
