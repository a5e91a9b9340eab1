"""The two files that `aims360-etl init` writes: `aims360.toml`, and the variables beside it.

Variables are written so that a POSIX shell, Docker Compose and systemd's EnvironmentFile read the same value; one that
can't be written so is refused.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from etl.atomic_files import replacing
from etl.errors import ConfigError

_HEAD = "# Settings of aims360-etl, written by `aims360-etl init`. Secrets: for its owner alone, and never into git.\n"
_HEAD_OF_SOURCES = "# Sources of aims360-etl. Secrets aren't here: only what their variables are called.\n"
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+=,-]+")  # read alike by everybody without quotes
_ESCAPED = re.compile(r'[\\"$`]')  # inside double quotes, where not all agree


class Change(NamedTuple):
    """A file as it is to be, what it was before (None: there is none), and whether something of that would be gone."""

    path: Path
    before: str | None
    after: str
    loses: bool


def assignment(name: str, value: str) -> str:
    """`NAME=value`, a line. Raises ConfigError for a value that isn't read alike everywhere."""
    if not value.isprintable():
        raise ConfigError(f"{name}: holds a line break or another character that can't be seen; no file can hold it")
    if _PLAIN.fullmatch(value):
        return f"{name}={value}"
    if "'" not in value and not value.endswith("\\"):  # Compose takes \' for a quote that doesn't end it
        return f"{name}='{value}'"
    if not _ESCAPED.search(value):
        return f'{name}="{value}"'
    raise ConfigError(
        f"{name}: holds a ' and one of \\ \" $ ` too, or ends in \\, which shells, Docker and systemd don't read alike "
        "from a file: choose another, or set that variable by other means"
    )


def variables(path: Path, before: str | None, wanted: Mapping[str, str | None]) -> Change:
    """A file of variables with the wanted ones set, or taken out where they are None; other lines stay."""
    lines = {name: assignment(name, value) for name, value in wanted.items() if value is not None}
    kept, is_lost = [], False
    for line in (before or _HEAD).splitlines():
        name = _name_of(line)
        if name not in wanted:
            kept.append(line)
        elif line == lines.get(name):
            kept.append(lines.pop(name))
        else:
            is_lost = True
    return Change(path, before, "\n".join([*kept, *lines.values()]) + "\n", is_lost)


def _name_of(line: str) -> str:
    found = re.match(r"\s*(?:export\s+)?(\w+)=", line)
    return found[1] if found else ""


def table(name: str, values: Mapping[str, str], comment: str = "") -> str:
    """A table `[sources.NAME]`."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join([f"[sources.{name}]", *([f"# {comment}"] if comment else []), *lines]) + "\n"


def table_of(path: Path, name: str) -> dict[str, str]:
    """What a file says of a source; its secrets and their variables aside, and whether it is disabled."""
    before = read(path)
    found = _sources(path, before).get(name) if before is not None else None
    told = found if isinstance(found, dict) else {}
    others = {key: value for key, value in told.items() if not key.endswith(("_env", "_file"))}
    return {key: str(value) for key, value in others.items() if not isinstance(value, bool)}


def secret_files(path: Path, name: str) -> dict[str, str]:
    """The files that a source's secrets are named to lie in, by the secret's key, as seen from this file's folder."""
    before = read(path)
    found = _sources(path, before).get(name) if before is not None else None
    told = found if isinstance(found, dict) else {}
    return {key.removesuffix("_file"): str(value) for key, value in told.items() if key.endswith("_file")}


def names_in(path: Path) -> list[str]:
    """The sources of a file."""
    return list(_sources(path, read(path) or ""))


def source(path: Path, before: str | None, name: str, text: str) -> Change:
    """The file of sources with this table in it; what else it says stays. Raises ConfigError where it can't be read."""
    if before is None:
        return Change(path, None, _HEAD_OF_SOURCES + text, False)
    there, wanted = _sources(path, before), _sources(path, text)
    if there.get(name) == wanted[name]:
        return Change(path, before, before, False)
    if name not in there:
        after = f"{before.rstrip()}\n\n{text}" if before.strip() else text
    else:
        after = _without(before, name).rstrip() + f"\n\n{text}"
    if _sources(path, after) != {**there, **wanted}:
        raise ConfigError(f"{path}: [sources.{name}] is there, written in a way that isn't changed here: edit it")
    return Change(path, before, after, name in there)


def _sources(path: Path, text: str) -> dict[str, object]:
    try:
        found = tomllib.loads(text.removeprefix("\ufeff")).get("sources", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: can't be read: {error}; mend it, or move it away") from None
    return found if isinstance(found, dict) else {}


def _without(text: str, name: str) -> str:
    """The text without that table, which ends where the next one begins."""
    return re.sub(rf"^\[sources\.{re.escape(name)}\][^\n]*\n(?:(?!\[)[^\n]*(?:\n|\Z))*", "", text, flags=re.MULTILINE)


def read(path: Path) -> str | None:
    """A file's text, None where there is none. Raises ConfigError where it can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from None


def keep(change: Change, is_secret: bool) -> Path | None:
    """Writes a file, all or nothing; a secret one is never open to others. What would be gone stays beside it.

    The path of that, None where nothing would be gone. Raises ConfigError where the folder can't be written, or where
    the file isn't any more what it was.
    """
    path = change.path.resolve()  # a link goes on leading there
    try:
        kept = _put_aside(path, change.before) if change.loses and change.before is not None else None
        if change.after != change.before:
            before = None if change.before is None else path.stat()
            mode = 0o644 if before is None else before.st_mode & 0o777
            with replacing(path, change.after.encode()) as new:
                if before is not None and hasattr(os, "chown"):
                    with suppress(PermissionError):  # root leaves a file to whom it belongs
                        os.chown(new, before.st_uid, before.st_gid)
                new.chmod(0o600 if is_secret else mode)
                if read(path) != change.before:
                    raise ConfigError(f"{path}: somebody else has just changed it; run this again")
        elif is_secret:
            path.chmod(0o600)
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror}") from None
    return kept


def _put_aside(path: Path, text: str) -> Path:
    for beside in _names(path):
        with suppress(FileExistsError):
            with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
            return beside
    raise AssertionError  # names don't end


def _names(path: Path) -> Iterator[Path]:
    return (path.with_name(f"{path.name}.old{number or ''}") for number in count())
