"""The committed rows: found by key, kept in order, rendered once a version. It knows no clock."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from etl.testing.emulator.job_version import Job
from etl.testing.emulator.sorted_index import Entries, Order

Key = str | Job
"""A row, by its jobID or by any version of it."""

Select = tuple[str, ...]
"""The properties that a query asks for; none for whole rows."""

RENDERED_AT_MOST = 200_000


@dataclass(frozen=True, slots=True)
class Rows:
    """A copy of a table's content, as a backup holds it."""

    rows: dict[int, Job]
    by_key: dict[str, int]
    entries: dict[str, Entries]


class Table:
    """Rows by number, with an index on each of ID, jobID and modifiedDate.

    Rows are kept as JSON once they were asked for, `rendered_at_most` of them: memory is finite.
    """

    def __init__(self, names: Iterable[str], rendered_at_most: int = RENDERED_AT_MOST) -> None:
        self.rendered_at_most = rendered_at_most
        self.rows: dict[int, Job] = {}
        self.orders = {name: Order(name) for name in ("ID", "jobID", "modifiedDate")}
        self.properties: dict[str, str] = {}
        self._by_key: dict[str, int] = {}
        self._rendered: dict[Select, dict[int, tuple[Job, bytes]]] = {}
        self._kept = 0
        self.know(names)

    def know(self, names: Iterable[str]) -> None:
        """Make properties known to filters, in any case; annotations are not properties."""
        for name in names:
            if not name.startswith("@"):
                self.properties.setdefault(name.lower(), name)

    def jobs(self) -> Iterator[Job]:
        """The rows by ID."""
        return (self.rows[number] for _, number in self.orders["ID"].entries)

    def get(self, job: Key) -> Job | None:
        """The committed version of a row."""
        number = job.number if isinstance(job, Job) else self._by_key.get(job.lower())
        return None if number is None else self.rows.get(number)

    def put(self, jobs: list[Job]) -> None:
        """Make versions visible, all at once."""
        olds = [self.rows.get(job.number) for job in jobs]
        for order in self.orders.values():
            if len(jobs) > 50:
                order.replace_many({old.number for old in olds if old}, jobs)
                continue
            for old, job in zip(olds, jobs, strict=True):
                order.replace(old, job)
        for job in jobs:
            self.rows[job.number] = job
            self._by_key[job.job_id.lower()] = job.number
            self.know(job.raw or ())

    def remove(self, job: Job) -> None:
        """Delete a row; `job` is its committed version."""
        for order in self.orders.values():
            order.replace(job, None)
        del self.rows[job.number]
        for kept in self._rendered.values():
            self._kept -= kept.pop(job.number, None) is not None
        if self._by_key.get(job.job_id.lower()) == job.number:
            del self._by_key[job.job_id.lower()]

    def rendered(self, job: Job, select: Select = ()) -> bytes:
        """A row, or these properties of it, as JSON, made once a version."""
        kept = self._rendered.setdefault(select, {})
        known = kept.get(job.number)
        if known is not None and known[0] is job:
            return known[1]
        made = job.rendered(select)
        if known is not None or self._kept < self.rendered_at_most:
            self._kept += known is None
            kept[job.number] = (job, made)
        return made

    def forget_rendered(self) -> None:
        """Rows are to be rendered anew."""
        self._rendered.clear()
        self._kept = 0

    def copy(self) -> Rows:
        """The content, for `replace`."""
        entries = {name: order.entries[:] for name, order in self.orders.items()}
        return Rows(dict(self.rows), dict(self._by_key), entries)

    def replace(self, content: Rows) -> None:
        """Hold this content and no other."""
        self.rows, self._by_key = dict(content.rows), dict(content.by_key)
        for name, order in self.orders.items():
            order.entries = content.entries[name][:]
        self.forget_rendered()
