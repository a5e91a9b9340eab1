"""Properties in another JSON form, as any release of the service may write them."""

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, get_args

from etl.testing.emulator.job_version import COLUMNS, Job
from etl.testing.emulator.property_readers import ALL_DATES, NUMBERS
from etl.testing.emulator.sql_datetime import hns_of, read_hns

DriftForm = Literal[
    "fraction", "float", "text", "number", "boolean", "empty", "null", "absent", "list", "object", "offset", "no-zone"
]

GROUPS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {"dates": ALL_DATES, "numbers": NUMBERS, "yes-no": frozenset({"canReRun", "CanPublish"})}
)
"""Names that stand for several properties in a `Drift`."""
DOCUMENT_PROPERTIES: Final = tuple(
    f"response.{name}"
    for name in "documentName DownloadLink SizeInMB Type DocumentID DocumentGUID ExpiryDate Version".split()
)
"""Properties of the documents that a job lists in its response."""
_NAMES = (*GROUPS, *COLUMNS, *DOCUMENT_PROPERTIES)


class Drift(NamedTuple):
    """A property, one of `GROUPS` or of `DOCUMENT_PROPERTIES`, that is served in another JSON form.

    In this share (0 to 1) of the rows:

    - `fraction`: 99.5 for 100
    - `float`: 100.0 for 100
    - `text`: "100" for 100
    - `number`: a rowversion as an integer, a date as milliseconds since 1970, Yes as 1
    - `boolean`: Yes as true, and any number but 0
    - `empty`: "", `null`: null, `absent`: the row has no such property
    - `list`: [100], `object`: {"value": 100}
    - `offset`: a date with +00:00 for Z, `no-zone`: a date without Z

    A value without such a form stays as it is.
    """

    name: str
    form: DriftForm
    share: float = 1.0

    def alter(self, row: dict[str, Any], job: Job) -> None:
        """Change a row of this job, if the job is in the share."""
        if self.share < 1 and draw_chance(f"{self.name} {self.form}", job) >= self.share:
            return
        if self.name in DOCUMENT_PROPERTIES:
            self._alter_documents(row)
            return
        for name in GROUPS.get(self.name, {self.name}) & row.keys():
            self._alter_property(row, name)

    def _alter_documents(self, row: dict[str, Any]) -> None:
        response = row.get("response")
        documents = json.loads(response) if isinstance(response, str) and response.startswith("[{") else []
        name = self.name.removeprefix("response.")
        for document in documents:
            if name in document:
                self._alter_property(document, name)
        if documents:
            row["response"] = json.dumps(documents)

    def _alter_property(self, row: dict[str, Any], name: str) -> None:
        if self.form == "absent":
            del row[name]
        else:
            row[name] = _FORMS[self.form](row[name])


def check_drift(drift: Drift) -> Drift:
    """Return the drift. Raises ValueError for an unknown property or form, or a wrong share."""
    if drift.name not in _NAMES:
        raise ValueError(f"no such property: {drift.name!r}; there are {', '.join(_NAMES)}")
    if drift.form not in get_args(DriftForm):
        raise ValueError(f"no such form: {drift.form!r}; there are {', '.join(get_args(DriftForm))}")
    check_share(drift.share)
    return drift


def check_share(share: float) -> None:
    """Raise ValueError unless it is between 0 and 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share is between 0 and 1, not {share}")


def draw_chance(salt: str, job: Job) -> float:
    """Return a number from 0 up to 1, the same for each version of a job."""
    return int.from_bytes(blake2b(f"{salt} {job.job_id}".encode(), digest_size=8).digest()) / 2**64


# -- the forms ---------------------------------------------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value in _YES_NO:
        return int(_YES_NO[value])
    if (hns := read_hns(value)) is not None:
        return (hns - _EPOCH) // 10_000
    return _rowversion(value)


def _rowversion(text: str) -> int | str:
    try:
        return int.from_bytes(b64decode(text, validate=True)) if len(text) == 12 else text
    except ValueError:
        return text


def _as_boolean(value: Any) -> Any:
    if _is_number(value):
        return bool(value)
    return _YES_NO.get(value, value) if isinstance(value, str) else value


def _as_text(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _in_zone(zone: str) -> Callable[[Any], Any]:
    def form(value: Any) -> Any:
        is_date = isinstance(value, str) and value.endswith("Z") and read_hns(value) is not None
        return value.removesuffix("Z") + zone if is_date else value

    return form


_EPOCH = hns_of(datetime(1970, 1, 1, tzinfo=UTC))
_YES_NO = {"Yes": True, "No": False}
_FORMS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "fraction": lambda value: abs(value - 0.5) if _is_number(value) else value,
    "float": lambda value: float(value) if _is_number(value) else value,
    "text": _as_text,
    "number": _as_number,
    "boolean": _as_boolean,
    "empty": lambda _: "",
    "null": lambda _: None,
    "list": lambda value: [value],
    "object": lambda value: {"value": value},
    "offset": _in_zone("+00:00"),
    "no-zone": _in_zone(""),
}
