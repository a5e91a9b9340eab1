"""The samples that Prometheus gets: in a file for node_exporter's textfile collector, or over HTTP when it asks.

Nothing here ends a run that is done: what can't be read or written is said, and the next run tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from etl import atomic_files
from etl.errors import result_of
from etl.models import CAPABILITIES, Capability, Clock, Run, Support
from etl.postgres.connection import Connection, rows
from etl.reporting.metrics import families
from etl.reporting.metrics.families import FAMILIES, LABELS, Samples, Standing
from etl.state.capabilities import read_capabilities

if TYPE_CHECKING:  # loaded where metrics are asked for
    from prometheus_client import Metric

_STANDING = """
SELECT
    f.complete_through_utc AS complete_through,
    f.open_rejects AS rejects,
    f.oldest_reject_at_utc AS oldest_reject_at,
    j.open_jobs,
    j.stuck_jobs,
    f.scan_is_open,
    f.reread_due_at_utc AS reread_due_at,
    f.reconcile_due_at_utc AS reconcile_due_at,
    f.paging,
    f.window_by,
    s.capabilities
FROM bi.freshness AS f
JOIN etl.sources AS s ON s.name = f.source
CROSS JOIN (
    SELECT count(*) AS open_jobs, count(*) FILTER (WHERE is_stuck) AS stuck_jobs
    FROM bi.jobs
    WHERE source = %(source)s AND is_open AND NOT is_purged
) AS j
WHERE f.source = %(source)s
"""
_READABLE = 0o644  # node_exporter runs as somebody else
_LARGEST = 8 * 2**20  # bytes; a source takes seven thousand of them


class _Told(NamedTuple):
    """Samples as prometheus_client collects them."""

    told: Samples

    def collect(self) -> Iterable[Metric]:
        return _families(self.told)


class Metrics:
    """The samples of the sources that this process runs: kept in a file, if there is one, and served, if wished.

    `say` hears in a line what went wrong with the file.
    """

    def __init__(self, clock: Clock, path: Path | None = None, say: Callable[[str], None] = lambda _: None) -> None:
        self._clock = clock
        self._path = path
        self._say = say
        self._said = ""
        self._samples: Samples = {}  # replaced as a whole, never changed: scrapes read it in threads of their own
        self._sources: set[str] = set()

    def expect(self, source: str) -> None:
        """A source that this process runs: told of from now on, with what its file says of it."""
        if source in self._sources:
            return
        new = families.beginning(source, version("aims360-etl"))
        self._samples = {**self._samples, **families.caught_up(new, self._kept())}
        self._sources.add(source)

    def stands(self, source: str, standing: Standing | None) -> None:
        """How a source stands, without a run."""
        self.expect(source)
        if standing is not None:
            self._samples = families.standing_of(self._samples, source, standing)

    def ended(self, source: str, run: Run | None, error: BaseException | None, standing: Standing | None) -> None:
        """A run of the source came to its end. Never raises: the file that can't be written is spoken of."""
        self.expect(source)
        now, kept = self._clock.now().timestamp(), self._kept()
        before = families.caught_up(self._samples, kept)  # others may have written since
        self._samples = families.after(before, source, run, error, standing, now)
        if self._path is not None:
            try:
                told = text({**families.of_others(kept, self._sources), **self._samples}, now)
                atomic_files.replace(self._path, told, _READABLE)
            except OSError as failed:
                self._tell(f"metrics: {self._path} can't be written: {failed.strerror}; the run is not affected")

    @contextmanager
    def run(self, source: str) -> Iterator[Callable[[Run, Connection], None]]:
        """A run of the source in the making: told of at its end, whatever that is.

        What is yielded takes the run that came to its end, and a connection to ask how the source stands.
        """
        done: list[tuple[Run, Standing | None]] = []
        try:
            yield lambda run, db: done.append((run, read(db, source)))
        except BaseException as error:
            result = result_of(error)
            self.ended(source, result if isinstance(result, Run) else None, error, None)
            raise
        for run, standing in done:
            self.ended(source, run, None, standing)

    def collect(self) -> Iterable[Metric]:
        """What is told at this moment, for prometheus_client: the lag of a service that hangs grows."""
        return _families(families.with_lag(self._samples, self._clock.now().timestamp()))

    def _kept(self) -> Samples:
        """What the file says; nothing where there is none, or it can't be read."""
        if self._path is None:
            return {}
        try:
            return parsed(_read(self._path))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no Prometheus text"
            self._tell(f"metrics: {self._path} can't be read: {why}; its counters begin anew")
            return {}

    def _tell(self, said: str) -> None:
        """Once: a service meets the same trouble with each run."""
        if said != self._said:
            self._say(said)
        self._said = said


def read(db: Connection, source: str) -> Standing | None:
    """How a source stands; None where it is unknown, or Postgres can't be asked any more."""
    with suppress(psycopg.Error):
        for row in rows(db, _STANDING, {"source": source}):
            known = read_capabilities(row.pop("capabilities"))
            return Standing(**row, capabilities=_judge(known))  # type: ignore[arg-type]
    return None


def _judge(known: Mapping[str, Capability]) -> dict[str, bool]:
    """Return whether each capability that this program knows is supported, where that is known."""
    found = {name: known[name].support for name in CAPABILITIES if name in known}
    return {name: support is Support.YES for name, support in found.items() if support is not Support.UNKNOWN}


def text(told: Samples, now: float) -> bytes:
    """Samples as Prometheus reads them, the lag as it is now."""
    from prometheus_client import generate_latest

    return generate_latest(_Told(families.with_lag(told, now)))


def parsed(text: str) -> Samples:
    """Samples of such a text that are ours. Raises ValueError where it is none."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        read = [
            families.known(sample.name, sample.labels, float(sample.value))
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from None
    return dict(filter(None, read))


def _families(told: Samples) -> Iterable[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    for family in FAMILIES:
        found = kinds[family.kind](family.name, family.help, labels=LABELS[family.name])
        for series, value in sorted(told.items()):
            if series.name == family.name:
                found.add_metric([series.source, *series.values], value)
        if found.samples:
            yield found


def _read(path: Path) -> str:
    """What the file says. Raises OSError where it is none, and ValueError where it is none of ours."""
    atomic_files.regular(path)
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError("too large")
    return data.decode()
