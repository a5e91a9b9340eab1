"""Which window and which paging a scan takes, of what the service supports; and when it takes another."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from etl.client import odata
from etl.client.capabilities import Capabilities
from etl.extract import strategy
from etl.extract.probe import Probe
from etl.extract.strategy import Strategy
from etl.models import BY_SKIP, BY_TIME, Cursor, Scan, ScanKind, Window

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
A_DAY = timedelta(days=1)
ROW = odata.Stamp(ID=7, jobID="a", modifiedDate="2026-03-02T11:00:00Z")


def a_scan(kind: ScanKind = ScanKind.INCREMENTAL, lower: datetime | None = NOON - A_DAY) -> Scan:
    return Scan(kind, Window(lower, NOON, NOON), "ID", (Cursor(0, None, None),))


def known(*refused: str) -> Capabilities:
    """Return what is known of a service that refuses some things."""
    found = Capabilities(lambda: NOON)
    for name in refused:
        found.refuse(name, "no")
    return found


@pytest.mark.parametrize(
    ("refused", "way"),
    [
        ((), Strategy("ID")),
        (("top", "select", "count", "skip", "or", "page_size"), Strategy("ID")),
        (("filter_id",), Strategy("jobID")),
        (("filter_keys",), Strategy("ID")),
        (("orderby_dates",), Strategy("ID")),
        (("filter_dates",), Strategy("ID", has_window=False)),
        (("orderby",), Strategy(BY_TIME)),  # unless a page proves the order
        (("orderby", "filter_dates"), Strategy(BY_SKIP, has_window=False)),
        (("orderby", "count"), Strategy(BY_SKIP)),
        (("orderby", "default_order"), Strategy(BY_TIME)),
        (
            (
                "filter_id",
                "filter_keys",
            ),
            Strategy(BY_TIME),
        ),
        (("filter_id", "filter_keys", "filter_dates"), Strategy(BY_SKIP, has_window=False)),
        (("filter_id", "filter_keys", "count"), Strategy(BY_SKIP)),
        (("filter_id", "filter_keys", "count", "skip"), Strategy(BY_SKIP)),  # by nextLink
        (("filter_id", "filter_keys", "count", "skip", "next_link"), None),
        (("and",), Strategy(BY_SKIP)),
        (("and", "skip", "next_link"), Strategy("ID", has_window=False)),
    ],
)
def test_the_cheapest_way_that_the_service_supports_is_taken(refused: tuple[str, ...], way: Strategy | None) -> None:
    """The window before the paging: all rows are read only where no paging works with a window."""
    assert strategy.choose(known(*refused), Probe(ROW, NOON), a_scan()) == way


def test_a_page_that_proves_the_order_is_as_good_as_a_count() -> None:
    """For a sync: a comparison of all keys goes by another paging, which finds what such a page can't promise."""
    proven = Probe(ROW, NOON, is_newest=False, ascending=frozenset({"ID"}))
    refused = known("orderby", "count")
    assert strategy.choose(refused, proven, a_scan()) == Strategy("ID", is_ordered=False)
    assert strategy.choose(refused, proven, a_scan(ScanKind.RECONCILE, None)) == Strategy(BY_SKIP, has_window=False)
    nothing_else = known("orderby", "count", "skip", "next_link")
    assert strategy.choose(nothing_else, proven, a_scan(ScanKind.RECONCILE, None)) == Strategy("ID", False, False)


@pytest.mark.parametrize("kind", [ScanKind.FULL, ScanKind.RECONCILE])
def test_a_scan_of_all_rows_needs_no_filter_on_dates(kind: ScanKind) -> None:
    """By time it needs one that finds rows without a date too."""
    assert strategy.choose(known("filter_dates"), Probe(ROW, NOON), a_scan(kind, None)) == Strategy("ID", True, False)
    assert strategy.choose(known("filter_id", "filter_keys"), Probe(ROW, NOON), a_scan(kind, None)) == Strategy(
        BY_TIME, True, False
    )
    undated = known("filter_id", "filter_keys", "null_dates")
    assert strategy.choose(undated, Probe(ROW, NOON), a_scan(kind, None)) == Strategy(BY_SKIP, True, False)


def test_a_scan_that_begins_anew_keeps_its_times() -> None:
    """Its cursors, and what it has counted, are those of a beginning."""
    scan = replace(a_scan(), cursors=(Cursor(0, 50, None),), delivered=40, done=50, latest=NOON)
    for way in (Strategy(BY_SKIP), Strategy("jobID", is_ordered=False), Strategy(BY_TIME)):
        changed = strategy.follow(scan, way)
        assert (changed.window, changed.latest) == (scan.window, NOON)
        assert (changed.delivered, changed.done) == (0, 0)
        assert strategy.find_way(changed) == way
    assert strategy.follow(scan, Strategy("ID", has_window=False)).window.lower is None
