"""The benchmark's pure parts, and its service."""

import json

import pytest

from tests.bench.databases import Tuples
from tests.bench.gate import Gate
from tests.bench.measure import Process
from tests.bench.quiet import Cost, needless
from tests.bench.source import last_id, service
from tests.bench.table import Figure, Line, Target, against, as_json, faster, medians, shown, table, verdict

FLOOR = Figure("the floor", "s", (1.0, 2.0, 3.0), "psql")
WORK = Figure("the work", "s", (4.0, 2.9, 2.5), "aims360-etl sync")


def test_a_line_holds_if_its_median_keeps_to_so_many_times_the_median_of_its_floor() -> None:
    """Medians are compared, not means or best runs."""
    line = against(WORK, FLOOR, 1.5, "1.5 floor")
    assert (line.ratio, line.holds) == (1.45, True)
    assert against(WORK, FLOOR, 1.4, "1.4 floor").holds is False


def test_a_line_without_target_is_not_judged() -> None:
    """It is in the table for who reads it."""
    assert Line(WORK, FLOOR).holds is None
    assert Line(WORK).ratio is None


def test_a_target_can_be_the_least() -> None:
    """Speed is better when there is more of it."""
    assert Target("100", 100, at_least=True).holds(100)
    assert not Target("100", 100, at_least=True).holds(99)


def test_the_verdict_names_what_does_not_hold() -> None:
    """Lines without a target don't count."""
    lines = [Line(WORK), Line(WORK, target=Target("9", 9)), Line(FLOOR, target=Target("1", 1))]
    assert verdict(lines) == "1 of 2 targets hold; not: the floor"
    assert verdict(lines[:2]) == "1 of 1 targets hold"


def test_the_faster_of_two_floors_counts() -> None:
    """A floor that could be lower is none."""
    assert faster([WORK, FLOOR]) is FLOOR


def test_the_table_shows_the_change_against_an_earlier_run_of_the_same_scale() -> None:
    """A run of another scale says nothing about this one."""
    runs = [as_json({"scale": scale}, [Line(WORK, FLOOR)], [FLOOR]) for scale in (0.1, 1.0, 0.05)]
    earlier = json.loads(json.dumps(runs))
    now = Line(Figure("the work", "s", (5.8,), "aims360-etl sync"))
    assert "+100%" in table([now], medians(earlier, 1.0))
    assert medians(earlier, 0.5) == medians([], 1.0) == {}


def test_columns_that_nothing_fills_are_left_out() -> None:
    """Without an earlier run there is no change to show."""
    head, row = table([Line(WORK, target=Target("3", 3))], {}).splitlines()
    assert head.split() == ["work", "unit", "median", "min", "max", "target", "holds", "command"]
    assert row.split()[-4:] == ["3", "yes", "aims360-etl", "sync"]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (3.0, "3"), (0.12345, "0.123"), (123456.7, "123,457"), (150.26, "150")]
)
def test_numbers_are_shown_in_three_digits_or_whole(value: float, text: str) -> None:
    """Nobody reads more of a measured time."""
    assert shown(value) == text


def test_the_gate_counts_who_comes_inside_a_retry_after_window() -> None:
    """What was on its way when the gate closed could not know."""
    gate = Gate(2)
    assert [gate.admits(at, at) for at in (0.0, 0.1, 0.2)] == [True, True, False]
    assert not gate.admits(0.21, 0.21)
    assert gate.inside == 0
    assert not gate.admits(0.7, 0.7)
    assert gate.inside == 1
    assert gate.admits(1.8, 1.8)
    assert gate.refused == 3


def test_the_gate_without_a_burst_lets_all_in() -> None:
    """Its usual state."""
    assert all(Gate(0).admits(at / 1000, at / 1000) for at in range(1000))


def test_needless_writes_are_those_beyond_one_version_of_what_changed() -> None:
    """Two jobs with three documents changed; a third job was rewritten."""
    tuples = {
        "aims360.jobs": Tuples(updated=3),
        "aims360.job_documents": Tuples(inserted=3, deleted=3),
        "aims360.job_status_history": Tuples(inserted=2),
    }
    spent = Cost(Process(0, 1, 50, ""), tuples, 10)
    assert needless(spent, {"job_documents": "[{}, {}, {}]"}, 2) == 1


def test_the_last_id_of_a_page_is_found_behind_its_documents() -> None:
    """`DocumentID` inside of a response is not a row's ID."""
    assert last_id(b'{"value":[{"ID":7,"a":1},{"ID":12,"response":"[{\\"DocumentID\\":\\"x\\"}]"}]}') == 12
    assert last_id(b'{"value":[]}') == -1


@pytest.mark.slow
def test_the_service_answers_a_line_for_a_line() -> None:
    """All rows come, changed ones too, and a throttled request is counted."""
    with service(300, page_size=100) as source:
        assert source.warm() == 300
        assert source.read_all() == 4
        assert source.tell("change 5") == "5"
        assert source.read_all("ID") == 4
        assert source.tell("columns") == "ID"
        assert float(source.tell("first")) > 0
        assert source.tell("throttle 0") == "0 0"
