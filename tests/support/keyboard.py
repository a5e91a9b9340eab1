"""A terminal with somebody at it, who reads what a command asks and types the answers."""

import os
import pty
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_PATIENCE = 60.0  # seconds


class Keyboard:
    """A command on a pseudo-terminal. `shown` is all that could be read on it so far."""

    def __init__(self, words: Sequence[str], environ: Mapping[str, str], folder: Path) -> None:
        self.shown = ""
        self._read = 0
        pid, self._terminal = pty.fork()
        if pid == 0:  # the child: nothing but the command
            os.chdir(folder)
            os.execve(sys.executable, [sys.executable, "-m", "etl", *words], dict(environ))  # noqa: S606 - no shell
        self._pid = pid
        self._code: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._terminal)

    def answer(self, question: str, typed: str) -> None:
        """Waits for a question, and types a line."""
        self.wait_for(question)
        os.write(self._terminal, f"{typed}\n".encode())

    def wait_for(self, text: str) -> None:
        """Waits until this is shown, after what was waited for before."""
        while text not in self.shown[self._read :]:
            if not self._more():
                raise AssertionError(f"{text!r} wasn't shown:\n{self.shown}")
        self._read = self.shown.index(text, self._read) + len(text)

    def end(self) -> int:
        """The exit code, once the command has ended."""
        while self._more():
            pass
        self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._code

    def _more(self) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], _PATIENCE)
        if not ready:
            raise AssertionError(f"nothing more is shown:\n{self.shown}")
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # Linux' way to say that nobody is at the other end
            return False
        self.shown += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)
