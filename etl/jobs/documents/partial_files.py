"""Files that are being received: each has one writer at a time, and is gone on with after any end.

A part is `KEY.part`, and beside it `KEY.of` says of which version of the output it is, in the server's words. The lock
is the system's and ends with its process, however that ends.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

_PIECE = 1 << 20
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Part:
    """What has been received of an output so far. `version` is None where it can't be gone on with."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        self._of = path.with_suffix(".of")
        self._hash = sha256()
        self._is_over = False
        self.size = 0
        self.version = self._of.read_text() if self._of.is_file() and not self._of.is_symlink() else None
        if self.version is None:
            self._file.truncate(0)
        while piece := self._file.read(_PIECE):
            self._hash.update(piece)
            self.size += len(piece)

    @property
    def digest(self) -> str:
        """SHA-256 of what is here, in hex."""
        return self._hash.hexdigest()

    def restart(self, version: str | None) -> None:
        """Begin anew, with this version of the output."""
        self._file.seek(0)
        self._file.truncate(0)
        self._hash, self.size, self.version = sha256(), 0, version
        self._of.unlink(missing_ok=True)
        if version is not None:
            self._of.write_text(version)

    def write(self, piece: bytes) -> None:
        """Go on with these bytes."""
        left = memoryview(piece)
        while left:  # a file without a buffer may take less than it is given
            left = left[self._file.write(left) :]
        self._hash.update(piece)
        self.size += len(piece)

    def flush(self) -> None:
        """Until the disk has it."""
        os.fsync(self._file.fileno())

    def forget(self) -> None:
        """It goes when it is closed: the output is kept, or can't be had."""
        self._is_over = True

    def close(self) -> None:
        """Let go of it. What goes does so while it is locked, where the system lets open files go."""
        if self._is_over and os.name == "posix":
            self._remove()
        self._file.close()
        if self._is_over and os.name != "posix":
            self._remove()

    def _remove(self) -> None:
        self._of.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


@contextmanager
def opened(folder: Path, key: str) -> Iterator[Part | None]:
    """The part of that name, ours alone until the end; None where another process or thread is at work on it."""
    path = folder / f"{key}.part"
    descriptor = os.open(path, _OPEN, 0o666)
    if not (_locked(descriptor) and _is_still(path, descriptor)):
        os.close(descriptor)
        yield None
        return
    part = Part(path, descriptor)
    try:
        yield part
    finally:
        part.close()


def forget_old(folder: Path, before: float) -> None:
    """Takes parts away that nobody has written to since then (seconds since 1970): what they were of is gone."""
    for path in folder.glob("*.part"):
        try:
            is_old = path.lstat().st_mtime < before
        except FileNotFoundError:  # its writer was done with it meanwhile
            continue
        if is_old:
            with opened(folder, path.stem) as part:
                if part is not None:
                    part.forget()


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the file that was locked is the one at that path: who held it before may have taken it away."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _locked(descriptor: int) -> bool:
        try:
            os.lseek(descriptor, 1 << 40, os.SEEK_SET)  # far behind the content, which must stay readable
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _locked(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
