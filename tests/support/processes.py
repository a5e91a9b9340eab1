"""Child processes that outlive no test."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType


class Child(subprocess.Popen[str]):
    """A child process that is killed, not waited for, when an error such as a test's time limit ends its `with`."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill()
        super().__exit__(kind, error, trace)


@contextmanager
def running_service(command: list[str], environ: Mapping[str, str], folder: Path | str) -> Iterator[None]:
    """Run a service without input or output. SIGTERM must end it with exit code 0 within a minute."""
    silent = subprocess.DEVNULL
    with Child(command, env=environ, cwd=folder, stdin=silent, stdout=silent, stderr=silent) as service:
        try:
            yield
            service.terminate()
            assert service.wait(60) == 0
        finally:
            service.kill()
