"""How rows are written where `ServiceOptions` asks for another form than the documented one. Filters don't see it.

An alteration is a function that changes a row (a payload, a new dict) of a job.
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import blake2b
from typing import Any, Final

from etl.testing.emulator.job_version import Job, as_json, etag
from etl.testing.emulator.property_readers import ALL_DATES
from etl.testing.emulator.service_options import ServiceOptions
from etl.testing.emulator.spoilt_rows import Spoilt, render_spoilt
from etl.testing.emulator.sql_datetime import shown
from etl.testing.emulator.table import Select, Table

Row = dict[str, Any]
Alter = Callable[[Row, Job], None]


class RowRenderer:
    """Renders rows as the options say, and counts how often it has served the spoilt ones."""

    def __init__(self, options: ServiceOptions) -> None:
        self._alter = tuple(_list_alterations(options))
        self._spoilt = options.spoilt
        self._served: Counter[tuple[Spoilt, str]] = Counter()

    def choose(self, table: Table, *, is_minimal: bool = False) -> Callable[[Job, Select], bytes]:
        """Return the function that renders a row, or some properties of it. `is_minimal`: name annotations as 4.01.

        Rows without any special form are rendered by the table, once per version.
        """
        if not self._alter and not self._spoilt and not is_minimal:
            return table.rendered
        return partial(self._render, is_minimal)

    def _render(self, is_minimal: bool, job: Job, select: Select = ()) -> bytes:
        row = job.payload(select)
        for alter in self._alter:
            alter(row, job)
        spoilt = [each for each in self._spoilt if each.is_due(row, job, self._served[each, job.job_id])]
        self._served.update((each, job.job_id) for each in spoilt)
        if is_minimal:
            row = {name.replace("@odata.", "@", 1): value for name, value in row.items()}
        return render_spoilt(row, spoilt) if spoilt else as_json(row)


def _list_alterations(options: ServiceOptions) -> Iterator[Alter]:
    if options.status_spelling != "Inprogress":
        yield _spell_status(every_other=options.status_spelling == "mixed")
    if options.no_date is not None:
        yield _write_no_date(options.no_date)
    if options.rowversion_form != "base64":
        yield _write_rowversion(is_padded=options.rowversion_form == "base64url-padded")
    if options.etag_form != "documented":
        yield _write_etag(_ETAGS[options.etag_form])
    yield from (drift.alter for drift in options.drift)


def _spell_status(*, every_other: bool) -> Alter:
    def alter(row: Row, job: Job) -> None:
        if row.get("jobStatus") == "Inprogress" and not (every_other and job.number % 2):
            row["jobStatus"] = "InProgress"

    return alter


def _write_no_date(text: str) -> Alter:
    def alter(row: Row, job: Job) -> None:
        row.update((name, text) for name in ALL_DATES & row.keys() if row[name] is None)

    return alter


def _write_rowversion(*, is_padded: bool) -> Alter:
    def alter(row: Row, job: Job) -> None:
        if isinstance(row.get("rowversion"), str):
            text = row["rowversion"].translate(_URL_SAFE)
            row["rowversion"] = text if is_padded else text.rstrip("=")

    return alter


_URL_SAFE = str.maketrans("+/", "-_")


# -- etags -------------------------------------------------------------------------------------------------------------


def _write_etag(form: Callable[[Job], str]) -> Alter:
    def alter(row: Row, job: Job) -> None:
        if "@odata.etag" in row:
            row["@odata.etag"] = form(job)

    return alter


def _encode(text: str) -> str:
    return b64encode(text.encode()).decode()


_ETAGS: Final[dict[str, Callable[[Job], str]]] = {
    # the framework writes each part as a literal of `$filter`, in base64
    "date": lambda job: f'W/"{_encode("null" if job.modified is None else shown(job.modified))}"',
    "hash": lambda job: f'W/"{blake2b(f"{job.job_id}/{job.version}".encode(), digest_size=16).hexdigest()}"',
    "two-parts": lambda job: f'{etag(job.version)[:-1]},{_encode(str(job.attempts))}"',
}
