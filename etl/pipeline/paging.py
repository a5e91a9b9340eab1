"""Chooses how the scans of one run ask for their pages, and again where the service refuses a choice.

What is cheapest of what is supported is decided by `etl.extract.strategy`; here is what a run adds to that: what was
refused before it may be tried again, and a scan goes on only where something more is known than when it began.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from etl.client import payload
from etl.client.capabilities import Capabilities
from etl.errors import OptionIgnored, PagingRefused, Refused
from etl.extract import strategy
from etl.extract.probe import Probe
from etl.models import CAPABILITY_NAMES, Paging, Scan, ScanKind

if TYPE_CHECKING:
    from etl.client.client import Api


class PagingChoice:
    """How the scans of a run ask for their pages. `began_at`: when the run began."""

    def __init__(self, capabilities: Capabilities, began_at: datetime) -> None:
        self.capabilities = capabilities
        self.probe: Probe | None = None  # the run's last
        self._began_at = began_at
        self._refused: frozenset[str] = frozenset()  # what was known to be refused when the scan began

    def begin(self) -> None:
        """Take in that a scan begins, or goes on: what is refused from here on is new to it."""
        self._refused = self.capabilities.refused

    def open(self, scan: Scan) -> Scan:
        """Return a new scan in the cheapest way that the service supports. Raises Refused where it supports none."""
        way = self._choose(scan)
        if way is None:
            raise Refused(self._explain_dead_end(), 0, is_query=True)
        return scan if way == strategy.find_way(scan) else strategy.follow(scan, way)

    def change(self, api: Api, scan: Scan, error: PagingRefused | OptionIgnored) -> tuple[Scan, str]:
        """Return a scan from its beginning in the next way that works, and what there is to say about it.

        Raises the error where there is none, or nothing more is known to be refused than when the scan began.
        """
        before = self._refused
        self._learn(api, scan, error)
        way = self._choose(scan)
        if way is None:
            raise Refused(f"{error}. {self._explain_dead_end()}", 0, is_query=True) from None
        can_select = strategy.can_select(self.capabilities, way.key)
        self.begin()
        if way == strategy.find_way(scan):
            if scan.select and not can_select:
                return replace(scan, select=()), ""
            if self._refused <= before and not strategy.has_ranges_in_vain(self.capabilities, scan):
                raise error
        changed = strategy.follow(scan, way)
        changed = changed if can_select else replace(changed, select=())
        return changed, f"the source is read {strategy.describe(changed)} from now on: {payload.harmless(error.words)}"

    def find_next(self, scan: Scan) -> strategy.Way:
        """Return how increments are read after a scan: a scan of all rows has no window, and they have one."""
        way = strategy.find_way(scan)
        if scan.kind is not ScanKind.FULL:
            return way
        window = replace(scan.window, lower=scan.window.as_of)
        return self._choose(replace(scan, kind=ScanKind.INCREMENTAL, window=window)) or way

    def _choose(self, scan: Scan) -> strategy.Way | None:
        """Return how a scan is to be read. Where no way is left, what was refused before the run is tried again."""
        assert self.probe is not None, "the source was not asked yet"
        way = strategy.choose(self.capabilities, self.probe, scan)
        if way is None:
            self.capabilities.forget_refusals(self._began_at)
            way = strategy.choose(self.capabilities, self.probe, scan)
        return way

    def _explain_dead_end(self) -> str:
        names = ", ".join(CAPABILITY_NAMES.get(name, name) for name in sorted(self.capabilities.refused))
        return (
            f"The service supports no way to read all jobs: it refuses {names}. Nothing is lost; `aims360-etl doctor` "
            "shows its words, and what to ask AIMS360 for"
        )

    def _learn(self, api: Api, scan: Scan, error: PagingRefused | OptionIgnored) -> None:
        """Take in what the service refuses. Where it doesn't say what of a query, its parts are asked for alone."""
        if isinstance(error, OptionIgnored):
            self.capabilities.refuse(error.capability, str(error))
        elif error.option is None and error.said:
            refused = strategy.find_refused(api, scan)
            if refused == [] and error.is_joined and not self.capabilities.was_honoured_lately("and"):
                self.capabilities.refuse("and", error.said)  # each part is answered by itself


def is_cheaper(paging: Paging, than: str) -> bool:
    """Whether a paging is a cheaper one than another, which is named as `etl.sources` holds it."""
    order = list(Paging)
    return than in order and order.index(paging) < order.index(Paging(than))
