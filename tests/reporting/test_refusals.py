"""How a source is read, as a rank and in plain English: values in, values out."""

from itertools import product

import pytest

from etl.models import BY_TIME, CAPABILITIES, CAPABILITY_NAMES, Paging
from etl.reporting import refusals
from etl.reporting.refusals import describe_reading, rank_reading


def test_every_capability_has_a_name_for_people() -> None:
    """In the same order, and no two are called the same."""
    assert tuple(CAPABILITY_NAMES) == CAPABILITIES
    assert len(set(CAPABILITY_NAMES.values())) == len(CAPABILITIES)


def test_ways_are_ranked_by_what_they_cost() -> None:
    """The window counts for more than the paging: without it each run reads all rows. What isn't known has no rank."""
    ways = [(paging, window_by) for window_by in (BY_TIME, "none") for paging in Paging]
    assert [rank_reading(*way) for way in ways] == list(range(8))
    assert rank_reading("by post", BY_TIME) is None


def test_of_a_source_that_is_read_as_usual_nothing_is_said() -> None:
    """Whatever else its service refuses."""
    assert describe_reading("key", BY_TIME, ["top", "count"], 3) == ""


@pytest.mark.parametrize(
    ("paging", "window_by", "refused", "said"),
    [
        ("key", "none", ["filter_dates"], "refuses filters on dates; each run reads all pages (last run: 11 requests)"),
        (
            "key_unordered",
            BY_TIME,
            ["top", "orderby", "orderby_dates"],
            "refuses $orderby; pages are read one after the other, in the service's own order (last run: 11 requests)",
        ),
        (
            "time",
            BY_TIME,
            ["filter_id", "filter_keys", "or"],
            "refuses filters on jobID, filters on ID; changes are read by slices of time (last run: 11 requests)",
        ),
        (
            "skip",
            BY_TIME,
            ["and", "page_size"],
            "refuses `and` in filters; changes are read by overlapping pages (last run: 11 requests)",
        ),
        (
            "skip",
            "none",
            ["count", "filter_dates", "filter_keys", "orderby", "plain_path"],
            (
                "refuses $orderby, filters on dates, filters on jobID, $count; each run reads all pages, with an "
                "overlap (last run: 11 requests)"
            ),
        ),
    ],
)
def test_what_is_refused_and_what_that_costs(paging: str, window_by: str, refused: list[str], said: str) -> None:
    """Only the refusals that make it dearer are named, each once, in the order of their documentation."""
    assert describe_reading(paging, window_by, refused, 11) == said


def test_what_isnt_known_is_left_out() -> None:
    """A refusal that was forgotten after a day, and the number of requests; every way is described."""
    assert describe_reading("key", "none", []) == "each run reads all pages"
    assert describe_reading("key", "none", [], 1) == "each run reads all pages (last run: 1 request)"
    ways = [way for way in product(Paging, (BY_TIME, "none")) if way != ("key", BY_TIME)]
    said = {describe_reading(*way, []) for way in ways}
    assert len(said) == len(ways)
    assert "" not in said


def test_deletions_are_followed_unless_no_job_can_be_asked_for() -> None:
    """Neither by a filter on its key nor by its path; one of them is enough."""
    assert refusals.can_follow_deletions([])
    assert refusals.can_follow_deletions(["filter_keys", "or", "count"])
    assert refusals.can_follow_deletions(["plain_path"])
    assert not refusals.can_follow_deletions(["job_filter", "plain_path"])


def test_the_column_of_the_view_is_split_into_names() -> None:
    """None of a source that refuses nothing."""
    assert refusals.split_names("filter_dates, top") == ["filter_dates", "top"]
    assert refusals.split_names(None) == []
