"""Where outputs are kept: a folder, or what fsspec can write to (`s3://`, `az://`, `gs://` and others).

A file gets to its place in one step, whole, and never over another: an equal one that is there is taken as it is, and
beside a different one the new one gets a name with its digest.
"""

import os
import re
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Protocol

from etl.errors import ArchiveError, ConfigError
from etl.jobs.documents import paths
from etl.jobs.documents.partial_files import Part

PARTS = ".parts"
_PIECE = 1 << 20
_EXTRAS = {"s3": "s3", "s3a": "s3", "az": "azure", "abfs": "azure", "abfss": "azure", "gs": "gcs", "gcs": "gcs"}
# How each is told to refuse where something is: others are only asked before.
_ONLY_NEW: dict[str, dict[str, Any]] = {
    "s3": {"mode": "create"},
    "gs": {"mode": "create"},
    "memory": {"mode": "create"},
    "abfs": {"overwrite": False},
}


class Store(Protocol):
    """`parts` is a folder of this machine for files that are being received."""

    parts: Path
    address: str

    def holds(self, path: str) -> bool:
        """Whether a path that was recorded lies in here."""

    def size(self, path: str) -> int | None:
        """The size of a file that `keep` put there, None where it isn't there."""

    def keep(self, part: Part, path: str) -> str:
        """Put what was received in its place, and say where that is. Raises ArchiveError."""


def at(to: str, parts: Callable[[], Path]) -> Store:
    """The store of an address; `parts` says where parts lie for one that is elsewhere. Raises ConfigError."""
    if "://" in to and re.search(r"::|\?|#", to):
        raise ConfigError("--to: a plain address is needed, such as s3://bucket/folder")
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+)://", to)
    if scheme is None or scheme[1].lower() == "file":
        return Folder(Path(re.sub("^file://", "", to, flags=re.IGNORECASE)).expanduser())
    if "@" in to.partition("://")[2].partition("/")[0] and scheme[1].lower() not in ("abfs", "abfss"):
        raise ConfigError("--to: no user or password in an address; the store's own settings have a place for them")
    return Elsewhere(scheme[1].lower(), to.rstrip("/"), parts())


class Folder:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._root = root.resolve()
            self.parts = self._made(PARTS)
        except OSError as error:
            raise ConfigError(f"--to: {root}: {error.strerror or error}; name a folder that can be written") from None
        self.address = str(self._root)

    def holds(self, path: str) -> bool:
        return path.startswith(str(self._root) + os.sep)

    def size(self, path: str) -> int | None:
        try:
            found = Path(path).lstat()
        except OSError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def keep(self, part: Part, path: str) -> str:
        try:
            part.flush()
            for candidate in (path, paths.beside(path, part.digest)):
                folder, _, leaf = candidate.rpartition("/")
                target = self._made(folder) / leaf
                if _link(part.path, target) or _is_same(part, self.size(str(target)), _opened, str(target)):
                    return str(target)
        except OSError as error:
            raise ArchiveError(f"{self.address}: {error.strerror or type(error).__name__}; {_AGAIN}") from None
        raise ArchiveError(f"{self.address}: {_TAKEN}")

    def _made(self, folder: str) -> Path:
        """A folder below ours. A link in its place would lead out, and is refused."""
        made = self._root
        for piece in folder.split("/"):
            made /= piece
            made.mkdir(exist_ok=True)
            if made.is_symlink() or made.resolve() != made:
                raise ArchiveError(f"{self._root}: a link stands where a folder belongs ({made}): remove it")
        return made


class Elsewhere:
    """A store that fsspec writes to; it has its own settings for who may, in environment variables and files."""

    def __init__(self, scheme: str, to: str, parts: Path) -> None:
        from fsspec.core import url_to_fs

        try:
            self._files, self._root = url_to_fs(to)
        except ImportError:
            extra = _EXTRAS.get(scheme)
            install = f'pip install "aims360-etl[{extra}]"' if extra else f"install what fsspec wants for {scheme}://"
            raise ConfigError(f"--to: {scheme}:// needs more than is installed: {install}") from None
        except ValueError as error:
            raise ConfigError(f"--to: {scheme}:// is nothing that fsspec can write to ({error})") from None
        parts.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.parts = parts
        self.address = to
        self._scheme = scheme
        known = self._files.protocol
        self._only_new = next((_ONLY_NEW[name] for name in _names(known) if name in _ONLY_NEW), {})

    def holds(self, path: str) -> bool:
        return path.startswith(f"{self.address}/")

    def size(self, path: str) -> int | None:
        return self._size(self._root.rstrip("/") + path.removeprefix(self.address))

    def keep(self, part: Part, path: str) -> str:
        part.flush()
        try:
            for candidate in (path, paths.beside(path, part.digest)):
                target = f"{self._root.rstrip('/')}/{candidate}"
                if self._put(part, target) or _is_same(part, self._size(target), self._files.open, target):
                    return f"{self.address}/{candidate}"
        except Exception as error:  # noqa: BLE001 - drivers raise what they like; what they say may quote keys
            raise ArchiveError(f"{self.address}: can't be written ({type(error).__name__}); {_AGAIN}") from None
        raise ArchiveError(f"{self.address}: {_TAKEN}")

    def _size(self, target: str) -> int | None:
        self._files.invalidate_cache()
        try:
            return int(self._files.info(target)["size"])
        except FileNotFoundError:
            return None

    def _put(self, part: Part, target: str) -> bool:
        """Whether it is there now, by us."""
        if self._size(target) is not None:
            return False
        try:
            self._files.put_file(str(part.path), target, **self._only_new)
        except Exception:
            if self._size(target) is None:
                raise
            return False  # somebody else's came there meanwhile
        if self._size(target) != part.size:
            raise OSError("it is there, but not whole")
        return True


_AGAIN = "what was kept so far is recorded, the next call goes on"
_TAKEN = "other files stand in the place of this one; nothing is written over them"


def _names(protocol: str | tuple[str, ...]) -> tuple[str, ...]:
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _link(part: Path, target: Path) -> bool:
    """Whether the part is at the target now, in one step; not where something is there."""
    try:
        os.link(part, target, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError:  # a file system without links: an empty file of our own holds the place
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        part.replace(target)
    _flush_folder(target.parent)
    return True


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _opened(file: str) -> IO[bytes]:
    return os.fdopen(os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)), "rb")


def _is_same(part: Part, size: int | None, opened: Callable[[str], IO[bytes]], target: str) -> bool:
    """Whether a file that is there has the part's content."""
    if size != part.size:
        return False
    found = sha256()
    with opened(target) as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest() == part.digest
