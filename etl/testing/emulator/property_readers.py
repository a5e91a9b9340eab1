"""How filters and orders see the properties of a row, whatever the row shows."""

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from etl.testing.emulator.job_edits import DATES
from etl.testing.emulator.job_version import COLUMNS, Job
from etl.testing.emulator.sql_datetime import read_stored, stored_hns

NUMBERS: Final = frozenset(
    {"ID", "jobCategoryID", "jobSubCategoryID", "percentCompleted", "purgeDays", "numberOfAttempts"}
)
BINARIES: Final = frozenset({"rowversion"})
ARRIVAL: Final = "@arrival"
"""Stands for a property that no row shows: the place of a row in a heap."""
_KEYS: Final = frozenset({"ID", "jobID", "rowversion", ARRIVAL})
ALL_DATES: Final = frozenset({*DATES, "maximumDateTimeToExecuteJob"})


def kind_of(name: str) -> str:
    """The kind of literal a property is compared with: string, number, date, binary; "any" for an unknown one."""
    if name in ALL_DATES:
        return "date"
    if name in NUMBERS:
        return "number"
    if name in BINARIES:
        return "binary"
    return "string" if name in COLUMNS else "any"


@lru_cache(maxsize=1 << 16)
def place_in_heap(job_id: str) -> str:
    """Return what the row with this jobID is sorted by in a heap: pseudo-random, and always the same."""
    return blake2b(job_id.lower().encode("utf-8", "replace"), digest_size=8).hexdigest()


def reader(name: str) -> Callable[[Job], Any]:
    """How a filter sees a property: dates in units of 100 ns, strings in lower case, the rest as it is.

    A raw value counts if its type is one the column could hold; otherwise (`jobID: 5`, a property taken away) it is
    a matter of display, and the column's own value counts.
    """
    fits = _fitting(name)
    own = _own(name)

    def read(job: Job) -> Any:
        raw = job.raw
        if raw is not None and name in raw:
            fit, value = fits(raw[name])
            if fit:
                return value
        return own(job) if not job.verbatim or name in _KEYS else None

    return read


def _own(name: str) -> Callable[[Job], Any]:
    if name in DATES:
        slot = DATES[name]

        def read(job: Job) -> int | None:
            tick: int | None = getattr(job, slot)
            return None if tick is None else stored_hns(tick)

        return read
    if name == "ID":
        return lambda job: job.number
    if name == "jobID":
        return lambda job: job.job_id.lower()
    if name == ARRIVAL:
        return lambda job: place_in_heap(job.job_id)
    column = COLUMNS.get(name)
    if column is None:
        return lambda job: None
    if name in NUMBERS or name in BINARIES:
        return column
    return lambda job: _folded(column(job))


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _fitting(name: str) -> Callable[[Any], tuple[bool, Any]]:
    if name in ("ID", "jobID"):
        key_type = int if name == "ID" else str
        return lambda value: (type(value) is key_type, _folded(value))
    if name in ALL_DATES:
        return _fitting_date
    if name in BINARIES:
        return lambda value: (isinstance(value, str), value)
    if name in NUMBERS:
        return lambda value: (value is None or (isinstance(value, int | float) and value is not True), value)
    if name in COLUMNS:
        return lambda value: (value is None or isinstance(value, str), _folded(value))
    return lambda value: (value is None or isinstance(value, str | int | float), _folded(value))


def _fitting_date(value: Any) -> tuple[bool, int | None]:
    if value is None:
        return True, None
    moment = read_stored(value) if isinstance(value, str) else None
    return moment is not None, moment
