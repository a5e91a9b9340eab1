"""Seconds of CPU that processes used, as Linux tells them; elsewhere nothing is known (NaN)."""

import math
import os
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")
_PARENT, _OWN, _OF_THE_DEAD = 1, slice(11, 13), slice(11, 15)  # fields behind the name in /proc/PID/stat


def by_process(pid: int) -> float:
    """Of a process, all its threads; 0 where it is gone. A killed one tells until somebody waits for it."""
    return _seconds(_fields(pid), _OWN)


def by_family(pid: int) -> float:
    """Of a process, its children, and those of its children that it has outlived: Postgres with its backends."""
    children = (_fields(int(each.name)) for each in _PROC.glob("[0-9]*"))
    ours = (fields for fields in children if fields and fields[_PARENT] == str(pid))
    return _seconds(_fields(pid), _OF_THE_DEAD) + sum(_seconds(fields, _OWN) for fields in ours)


def _fields(pid: int) -> list[str]:
    try:
        # the name stands in parentheses and may hold any character
        return (_PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _seconds(fields: list[str], which: slice) -> float:
    if not _PROC.is_dir():
        return math.nan
    return _ticks(fields[which]) / os.sysconf("SC_CLK_TCK")


def _ticks(fields: Iterable[str]) -> int:
    return sum(map(int, fields))
