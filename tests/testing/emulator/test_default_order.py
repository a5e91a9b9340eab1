"""The order of rows that a service has by itself, and the options that it ignores."""

from itertools import pairwise
from typing import Any

import pytest

from etl.testing.emulator import Emulator, ServiceOptions, World, populated
from etl.testing.emulator.sql_datetime import moment_of
from tests.testing.emulator.asking import ask, in_process, read_pages, served, show, shown_by


def order_of(world: World, **options: Any) -> list[int]:
    """The IDs of all rows, as they come without `$orderby`."""
    return shown_by(Emulator(world, page_size=10_000, options=ServiceOptions(**options)))


def test_rows_come_by_id_by_default() -> None:
    """Even where they show none."""
    world = populated(80, seed=1)
    assert order_of(world) == [job.number for job in world.jobs()]
    newer = populated(80, seed=1, generation="2019-08")
    assert shown_by(Emulator(newer), "jobID") == [job.job_id for job in newer.jobs()]


def test_rows_can_come_by_their_dates() -> None:
    """Rows without a date first, ties by ID; a change moves a row to the end."""
    world = World()
    early, null, *ties = [world.add(), world.add(modifiedDate=None), *world.ties(5)]
    world.change(early, modifiedDate=moment_of(world.tick - 300))
    assert order_of(world, default_order="modifiedDate") == [null.number, early.number, *(job.number for job in ties)]
    world.change(ties[0], modifiedDate=moment_of(world.tick + 300))
    assert order_of(world, default_order="modifiedDate")[-1] == ties[0].number


def test_rows_can_come_as_from_a_heap() -> None:
    """Neither by key nor by date; a row keeps its place among the others when it changes, and when others come."""
    world = populated(200, seed=1)
    before = order_of(world, default_order="arrival")
    assert sorted(before) == [job.number for job in world.jobs()] != before
    dates = [world.table.rows[number].modified or 0 for number in before]
    assert 60 < sum(left < right for left, right in pairwise(dates)) < 140
    backup = world.snapshot()
    world.change_many(list(world.jobs())[:50], jobStatusText="changed")
    world.ties(100)
    assert [number for number in order_of(world, default_order="arrival") if number in set(before)] == before
    world.restore(backup)
    assert order_of(world, default_order="arrival") == before


@pytest.mark.parametrize("default", ["key", "modifiedDate", "arrival"])
def test_an_order_that_is_asked_for_is_kept(default: Any) -> None:
    """`$orderby` decides, and ties are by ID in each service."""
    world = populated(50, seed=1)
    world.ties(20)
    for order in ("ID desc", "jobStatus", "modifiedDate,ID"):
        expected = shown_by(Emulator(world), orderby=order)
        assert shown_by(Emulator(world, options=ServiceOptions(default_order=default)), orderby=order) == expected


def test_rows_found_by_key_have_the_order_of_all_rows() -> None:
    """Whichever index finds them: the ties of a date too."""
    world = World()
    jobs = world.ties(3_000)
    wanted = " or ".join(f"ID eq {job.number}" for job in jobs[5:15])
    emulator = Emulator(world, page_size=3_000)
    for order in ("modifiedDate", "modifiedDate desc", "modifiedDate desc,ID desc"):
        few, all_rows = shown_by(emulator, orderby=order, filter=wanted), shown_by(emulator, orderby=order)
        assert few == [number for number in all_rows if number in few]


# -- what is ignored ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("orderby", "ID desc"), ("filter", "ID eq 50002"), ("skip", "2"), ("top", "1"), ("select", "ID")],
)
def test_an_option_that_is_ignored_changes_nothing(name: str, value: str) -> None:
    """The page is the plain one; without it the option has an effect."""
    world = World()
    world.ties(3)
    plain = ask(served(world)).json()["value"]
    assert ask(served(world, ignored=frozenset({name})), **{name: value}).json()["value"] == plain
    assert ask(served(world), **{name: value}).json()["value"] != plain


def test_a_count_that_is_ignored_is_absent() -> None:
    """The page has no count."""
    assert "@odata.count" not in ask(served(World(), ignored=frozenset({"count"})), count="true").json()


def test_an_order_that_is_ignored_leaves_the_services_own() -> None:
    """Which needn't be that of the keys."""
    world = populated(50, seed=1)
    ignoring = Emulator(world, options=ServiceOptions(ignored=frozenset({"orderby"}), default_order="arrival"))
    assert shown_by(ignoring, orderby="ID") == order_of(world, default_order="arrival")


def test_a_skip_that_is_ignored_leads_nowhere() -> None:
    """Each page is the first one, and its link leads there again; a token is not `$skip`."""
    world = World()
    world.ties(30)
    emulator = Emulator(world, page_size=10, options=ServiceOptions(ignored=frozenset({"skip"})))
    with pytest.raises(AssertionError, match="no end after 5 pages"):
        read_pages(in_process(emulator), at_most=5)
    emulator.options = ServiceOptions(ignored=frozenset({"skip"}), next_link_by="key-token")
    assert len(set(show(read_pages(in_process(emulator), "$skip=20")))) == 30


def test_what_is_ignored_is_told_by_keyword_or_option() -> None:
    """Both hold."""
    world = World()
    world.ties(3)
    emulator = Emulator(world, ignore={"orderby"}, options=ServiceOptions(ignored=frozenset({"$Filter"})))
    assert shown_by(emulator, orderby="ID desc", filter="ID eq 1") == [50_001, 50_002, 50_003]
