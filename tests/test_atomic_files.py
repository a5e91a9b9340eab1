"""Files: whole or not at all, and no more readable than they were."""

import os
import threading
from pathlib import Path

import pytest

from etl import atomic_files
from etl.errors import ConfigError


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A link stays one, a pipe is written to, and what can't be written leaves nothing behind."""
    file, link, pipe = tmp_path / "file.csv", tmp_path / "link.csv", tmp_path / "pipe"
    file.write_bytes(b"old")
    link.symlink_to(file)
    atomic_files.save(link, b"new")
    assert (link.is_symlink(), file.read_bytes()) == (True, b"new")
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    atomic_files.save(pipe, b"through")
    reader.join()
    assert read == [b"through"]
    with pytest.raises(ConfigError, match="can't be written: No such file or directory"):
        atomic_files.save(tmp_path / "none" / "file.csv", b"")
    assert {path.name for path in tmp_path.iterdir()} == {"file.csv", "link.csv", "pipe"}


def test_a_file_that_others_could_not_read_stays_so(tmp_path: Path) -> None:
    """A page that names people was made private once: it is private when it is written anew."""
    path = tmp_path / "private.html"
    path.touch(0o600)
    atomic_files.save(path, b"anew")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"anew", 0o600)


def test_a_file_that_is_replaced_is_never_half_there(tmp_path: Path) -> None:
    """With the rights that are asked for; where that fails the old one stays, and nothing lies beside it."""
    path = tmp_path / "metrics.prom"
    atomic_files.replace(path, b"old", 0o644)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"old", 0o644)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "full").touch()
    with pytest.raises(OSError, match="no regular file"):
        atomic_files.replace(folder, b"new", 0o644)
    assert {found.name for found in tmp_path.iterdir()} == {"metrics.prom", "folder"}
