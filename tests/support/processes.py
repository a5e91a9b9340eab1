"""Child processes that outlive no test."""

import subprocess
from types import TracebackType


class Child(subprocess.Popen[str]):
    """A child process that is killed, not waited for, when an error such as a test's time limit ends its `with`."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill()
        super().__exit__(kind, error, trace)
