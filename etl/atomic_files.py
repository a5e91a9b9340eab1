"""Files written all or nothing: who reads one meanwhile has the old or the new one, whole."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etl.errors import ConfigError

_FOR_ITS_OWNER, _FOR_ALL = 0o600, 0o666  # less what the process' umask takes away


@contextmanager
def replacing(path: Path, data: bytes, rights: int = _FOR_ITS_OWNER) -> Iterator[Path]:
    """A new file beside it, which takes its place at the end of the block; not where that fails. Raises OSError."""
    regular(path)
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(beside, flags, rights)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield beside
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


def regular(path: Path) -> None:
    """Raises OSError for a device or a pipe: a file in its place would take it from all who use it."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file")


def replace(path: Path, data: bytes, mode: int) -> None:
    """The file anew, with these rights. Raises OSError, and then nothing has changed."""
    with replacing(path, data) as new:
        new.chmod(mode)


def save(path: Path, data: bytes) -> None:
    """What somebody wants to have in a file: a link goes on leading there, a pipe is written to.

    Who could not read the old one can't read the new one. Raises ConfigError.
    """
    target = path.resolve()
    try:
        if not target.exists():
            with replacing(target, data, _FOR_ALL):
                return
        if target.is_file():
            replace(target, data, _FOR_ITS_OWNER | target.stat().st_mode & 0o777)
        else:  # a pipe or a device
            target.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from None
