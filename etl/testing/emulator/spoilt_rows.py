"""Rows that aren't JSON, as a careless serializer or a bad gateway sends them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, get_args

from etl.testing.emulator.drift import check_share, draw_chance
from etl.testing.emulator.job_version import COLUMNS, Job, as_json

SpoiltForm = Literal["tab", "newline", "escape", "latin-1", "nan", "infinity", "octal"]


class Spoilt(NamedTuple):
    """Rows that aren't JSON: those of these jobs, and this share (0 to 1) of all.

    `times`: how often each is spoilt before it is served whole; None: always. `name`: the property with the bad value.
    If `$select` leaves it out, the row is whole.

    - `tab`, `newline`: a raw one in a string
    - `escape`: a single quote with a backslash before it, in a string
    - `latin-1`: a byte that isn't UTF-8, in a string
    - `nan`, `infinity`, `octal`: a number that JSON doesn't have
    """

    form: SpoiltForm
    job_ids: Collection[str] = ()
    share: float = 0.0
    times: int | None = None
    name: str = "jobStatusText"

    def is_due(self, row: Mapping[str, Any], job: Job, served: int) -> bool:
        """Return whether this row is to be spoilt. `served`: how often it was already."""
        if self.name not in row or (self.times is not None and served >= self.times):
            return False
        return job.job_id.lower() in self.job_ids or draw_chance(f"spoilt {self.form}", job) < self.share


def check_spoilt(spoilt: Spoilt) -> Spoilt:
    """Return it with job ids in lower case. Raises ValueError for an unknown property or form, or a wrong share."""
    if spoilt.name not in COLUMNS or spoilt.name.startswith("@"):
        raise ValueError(f"no such property: {spoilt.name!r}; there are {', '.join(COLUMNS)}")
    if spoilt.form not in get_args(SpoiltForm):
        raise ValueError(f"no such form: {spoilt.form!r}; there are {', '.join(get_args(SpoiltForm))}")
    check_share(spoilt.share)
    return spoilt._replace(job_ids=frozenset(key.lower() for key in spoilt.job_ids))


def render_spoilt(row: Mapping[str, Any], spoilt: Sequence[Spoilt]) -> bytes:
    """Return the row as bytes, spoilt in each of these ways."""
    marks = {f"spoilt {place} of these": each for place, each in enumerate(spoilt)}
    text = as_json({**row, **{each.name: mark for mark, each in marks.items()}})
    for mark, each in marks.items():
        text = text.replace(as_json(mark), _DAMAGE[each.form](as_json(row[each.name])), 1)
    return text


def _inside(raw: bytes) -> Callable[[bytes], bytes]:
    """Return a function that appends these bytes to a string, or replaces another value by a string of them."""
    return lambda value: value[:-1] + raw + b'"' if value.startswith(b'"') else b'"' + raw + b'"'


_DAMAGE: Final[Mapping[SpoiltForm, Callable[[bytes], bytes]]] = {
    "tab": _inside(b"\t"),
    "newline": _inside(b"\n"),
    "escape": _inside(b"\\'"),
    "latin-1": _inside(b"\xe9"),
    "nan": lambda _: b"NaN",
    "infinity": lambda _: b"-Infinity",
    "octal": lambda _: b"0100",
}
