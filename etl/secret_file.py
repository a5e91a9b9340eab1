"""Secrets that lie in files, as Docker and Kubernetes hand them out: one line each, and never quoted."""

import os
from pathlib import Path

_LARGEST = 16 * 2**10  # bytes; tokens and addresses are a hundredth of it


class Unfit(Exception):
    """A file that holds no secret: why, and what to do about it."""


def read(named: str, directory: Path) -> str:
    """The secret in a file, without the line end after it. Raises Unfit, which never says what stands in the file.

    A name that leads nowhere isn't repeated unless it is a full path: somebody may have written the secret itself.
    """
    path = directory / named
    if not Path(named).is_absolute() and not os.path.lexists(path):
        raise Unfit(f"there is no such file in {directory}; give its full path")
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise Unfit(f"there is no file {path}; put the secret there, or name another file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = error.strerror if isinstance(error, OSError) else "it is no path"
        raise Unfit(f"the file {path} can't be read ({why}); let this account read it") from None
    if len(data) > _LARGEST:
        raise Unfit(f"the file {path} is larger than {_LARGEST // 2**10} kB; it must hold the secret alone")
    try:
        text = data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise Unfit(f"the file {path} is no text in UTF-8; write the secret into it as text") from None
    if not text.strip():
        raise Unfit(f"the file {path} is empty; write the secret into it")
    if not text.isprintable():
        raise Unfit(f"the file {path} holds a line break, or what can't be seen; it must be the secret alone")
    return text
