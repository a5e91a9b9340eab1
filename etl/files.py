"""Files written all or nothing: who reads one meanwhile has the old or the new one, whole."""

import os
from contextlib import suppress
from pathlib import Path

from etl.errors import ConfigError

_FOR_ITS_OWNER, _FOR_ALL = 0o600, 0o666  # less what the process' umask takes away


def replace(path: Path, data: bytes, mode: int | None = None) -> None:
    """A file anew, with these rights; None: those of any new file. Raises OSError, and then nothing has changed."""
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(beside, flags, _FOR_ALL if mode is None else _FOR_ITS_OWNER)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            beside.chmod(mode)
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


def save(path: Path, data: bytes) -> None:
    """What somebody wants to have in a file: a link goes on leading there, a pipe is written to.

    Who could not read the old one can't read the new one. Raises ConfigError.
    """
    target = path.resolve()
    try:
        if target.exists() and not target.is_file():  # a pipe or a device
            target.write_bytes(data)
            return
        replace(target, data, _FOR_ITS_OWNER | target.stat().st_mode & 0o777 if target.exists() else None)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from None
