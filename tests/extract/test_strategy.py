"""Which window and which paging a scan takes, of what the service supports; and when it takes another."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from etl.client import odata
from etl.client.capabilities import Capabilities
from etl.extract import strategy
from etl.extract.probe import Probe
from etl.extract.strategy import Way
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
        ((), Way("ID")),
        (("top", "select", "count", "skip", "or", "page_size"), Way("ID")),
        (("filter_id",), Way("jobID")),
        (("filter_keys",), Way("ID")),
        (("orderby_dates",), Way("ID")),
        (("filter_dates",), Way("ID", has_window=False)),
        (("orderby",), Way(BY_TIME)),  # unless a page proves the order
        (("orderby", "filter_dates"), Way(BY_SKIP, has_window=False)),
        (("orderby", "count"), Way(BY_SKIP)),
        (("orderby", "default_order"), Way(BY_TIME)),
        (
            (
                "filter_id",
                "filter_keys",
            ),
            Way(BY_TIME),
        ),
        (("filter_id", "filter_keys", "filter_dates"), Way(BY_SKIP, has_window=False)),
        (("filter_id", "filter_keys", "count"), Way(BY_SKIP)),
        (("filter_id", "filter_keys", "count", "skip"), Way(BY_SKIP)),  # by nextLink
        (("filter_id", "filter_keys", "count", "skip", "next_link"), None),
        (("and",), Way(BY_SKIP)),
        (("and", "skip", "next_link"), Way("ID", has_window=False)),
    ],
)
def test_the_cheapest_way_that_the_service_supports_is_taken(refused: tuple[str, ...], way: Way | None) -> None:
    """The window before the paging: all rows are read only where no paging works with a window."""
    assert strategy.choose(known(*refused), Probe(ROW, NOON), a_scan()) == way


def test_a_page_that_proves_the_order_is_as_good_as_a_count() -> None:
    """For a sync: a comparison of all keys goes by another paging, which finds what such a page can't promise."""
    proven = Probe(ROW, NOON, is_newest=False, ascending=frozenset({"ID"}))
    refused = known("orderby", "count")
    assert strategy.choose(refused, proven, a_scan()) == Way("ID", is_ordered=False)
    assert strategy.choose(refused, proven, a_scan(ScanKind.RECONCILE, None)) == Way(BY_SKIP, has_window=False)
    nothing_else = known("orderby", "count", "skip", "next_link")
    assert strategy.choose(nothing_else, proven, a_scan(ScanKind.RECONCILE, None)) == Way("ID", False, False)


@pytest.mark.parametrize("kind", [ScanKind.FULL, ScanKind.RECONCILE])
def test_a_scan_of_all_rows_needs_no_filter_on_dates(kind: ScanKind) -> None:
    """By time it needs one that finds rows without a date too."""
    assert strategy.choose(known("filter_dates"), Probe(ROW, NOON), a_scan(kind, None)) == Way("ID", True, False)
    assert strategy.choose(known("filter_id", "filter_keys"), Probe(ROW, NOON), a_scan(kind, None)) == Way(
        BY_TIME, True, False
    )
    undated = known("filter_id", "filter_keys", "null_dates")
    assert strategy.choose(undated, Probe(ROW, NOON), a_scan(kind, None)) == Way(BY_SKIP, True, False)


def test_a_scan_that_begins_anew_keeps_its_times() -> None:
    """Its cursors, and what it has counted, are those of a beginning."""
    scan = replace(a_scan(), cursors=(Cursor(0, 50, None),), delivered=40, done=50, latest=NOON)
    for way in (Way(BY_SKIP), Way("jobID", is_ordered=False), Way(BY_TIME)):
        changed = strategy.follow(scan, way)
        assert (changed.window, changed.latest) == (scan.window, NOON)
        assert (changed.delivered, changed.done) == (0, 0)
        assert strategy.find_way(changed) == way
    assert strategy.follow(scan, Way("ID", has_window=False)).window.lower is None
