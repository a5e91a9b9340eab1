"""What is learnt of a service: from which answers, for how long, and what it implies."""

from datetime import UTC, datetime, timedelta

import pytest

from etl.client import odata
from etl.client.capabilities import Capabilities, find_names, list_needed, without
from etl.models import CAPABILITIES, Capability, Support

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def test_what_is_not_known_is_tried() -> None:
    """Nothing is refused until it is."""
    found = Capabilities(Time())
    assert found.supports(*CAPABILITIES)
    assert found.find("top") == Capability()
    assert not found.was_honoured_lately("top")


def test_a_refusal_counts_for_a_day() -> None:
    """Then it isn't known any more whether it holds; the words stay."""
    time = Time()
    found = Capabilities(time)
    found.refuse("top", "no $top here")
    time.now += DAY - timedelta(seconds=1)
    found.begin(found.known)
    assert not found.supports("top")
    time.now += timedelta(seconds=1)
    assert not found.supports("top")  # not while a run is under way
    found.begin(found.known)
    assert found.supports("top")
    assert found.known["top"] == Capability(Support.UNKNOWN, "no $top here", NOON)


def test_a_moment_in_the_future_is_of_a_clock_that_was_wrong() -> None:
    """What was learnt then is not known."""
    found = Capabilities(Time())
    found.begin({"top": Capability(Support.NO, "no", NOON + 2 * HOUR), "skip": Capability(Support.NO, "no", None)})
    assert found.known == {}


def test_what_is_honoured_is_renewed_now_and_then() -> None:
    """So that a refusal without a reason is told from one of what worked an hour ago, and little is written."""
    time = Time()
    found = Capabilities(time)
    query = odata.query(["ID gt 5"], "ID")
    found.confirm_query(query)
    before = found.known
    time.now += timedelta(minutes=29)
    found.confirm_query(query)
    assert found.known == before
    time.now += timedelta(minutes=1)
    found.confirm_query(query)
    assert found.known != before
    time.now += HOUR
    assert found.was_honoured_lately("filter_id", "orderby")
    time.now += timedelta(seconds=1)
    assert not found.was_honoured_lately("orderby")


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ("top", ("top",)),
        ("orderby", ("orderby",)),
        ("orderby ID", ("orderby",)),
        ("orderby modifiedDate", ("orderby_dates",)),
        ("filter", ("filter_dates", "filter_id", "filter_keys")),
        ("filter ID", ("filter_id",)),
        ("filter jobId", ("filter_keys",)),
        ("filter modifiedDate", ("filter_dates",)),
        ("filter createdDate", ()),
        ("eq", ()),
        ("or", ("or",)),
        ("and", ("and",)),
        ("pagesize", ("page_size",)),
    ],
)
def test_an_option_that_is_refused_is_a_capability(option: str, names: tuple[str, ...]) -> None:
    """By what the answer names: a filter on one property says nothing of another."""
    assert find_names(option) == names


def test_without_any_order_there_is_none_of_dates() -> None:
    """A filter on one key says nothing of the other."""
    found = Capabilities(Time())
    found.refuse("filter_keys", "no")
    found.refuse("orderby", "no")
    assert found.supports("filter_id")
    assert not found.supports("orderby_dates")


def test_a_query_is_read_for_what_it_needs() -> None:
    """Names in literals are none."""
    query = odata.query(["modifiedDate ge 2026-03-02T12:00:00.000Z", "jobID gt ' or '"], "jobID", top=1, count=True)
    assert set(list_needed(query)) == {"filter_dates", "filter_keys", "and", "orderby", "top", "count"}
    assert list_needed(odata.query(order="modifiedDate desc", skip=3)) == ["skip", "orderby_dates"]
    assert without(odata.query(["ID gt 5"], top=1), ["top", "select"]) == odata.query(["ID gt 5"])


def test_refusals_of_before_can_be_forgotten() -> None:
    """Where no way is left: those of this run stay."""
    time = Time()
    found = Capabilities(time)
    found.refuse("skip", "no")
    time.now += HOUR
    found.refuse("top", "no")
    found.confirm("count", "answered")
    found.forget_refusals(before=time.now)
    assert found.refused == {"top"}
    found.forget_refusals()
    assert found.known.keys() == {"count"}
