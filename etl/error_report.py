"""What people see of a failure: one line that says what, where and in which run; on demand the way it took.

Only our own errors speak for themselves: what other libraries say may quote rows, links and tokens.
"""

import os
import traceback
from collections.abc import Iterator
from pathlib import Path

from etl.errors import EtlError, run_of

_PACKAGE = Path(__file__).parent


def line(error: BaseException) -> str:
    """The failure for people: of our own errors their words, else what kind it is and where."""
    if isinstance(error, EtlError):
        said = str(error)
    elif isinstance(error, KeyboardInterrupt):
        said = "stopped; nothing is lost, the next run goes on"
    else:
        said = (
            f"unexpected: {kind(error)}; nothing is lost, the next run goes on. If it comes again, run with --debug "
            "and report what that prints"
        )
    run = run_of(error)
    return f"{said} ({run})" if run else said


def kind(error: BaseException) -> str:
    """What kind of error it is, and where in our code: `ValueError at etl/load/upsert.py:120`."""
    name = type(error).__name__
    if isinstance(error, OSError) and isinstance(error.errno, int):
        name += f" ({os.strerror(error.errno)})"
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if _PACKAGE in Path(frame.filename).parents]
    if not ours:
        return name
    place = Path(ours[-1].filename).relative_to(_PACKAGE.parent)
    return f"{name} at {place}:{ours[-1].lineno}"


def way(error: BaseException) -> str:
    """The traceback, from the first cause on. Only the last error speaks: what it was made of may not be masked yet."""
    parts: list[str] = []
    for cause in reversed(list(_causes(error))):
        said = f": {cause}" if cause is error and isinstance(cause, EtlError) else ""
        frames = "".join(traceback.format_tb(cause.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{type(cause).__qualname__}{said}")
    return "\n\nand then:\n\n".join(parts)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from or while handling, and so on; what is hidden from people too."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__
