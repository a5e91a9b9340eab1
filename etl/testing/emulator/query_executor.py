"""Answers a query over the table: which rows, in which order. Walks an index where a database would."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from etl.testing.emulator.job_version import Job
from etl.testing.emulator.odata_query import BadQuery, Chain, Compare, Filter, Not, OrderBy, Query
from etl.testing.emulator.property_readers import BINARIES, kind_of, reader
from etl.testing.emulator.sorted_index import Entries
from etl.testing.emulator.sql_datetime import Comparison, literal_hns
from etl.testing.emulator.table import Table

Test = Callable[[Job], bool]


@dataclass(frozen=True, slots=True)
class Found:
    """A page of rows; whether more follow it; how many there are in all, if that was asked."""

    rows: list[Job]
    more: bool
    count: int | None


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Slices of an index that hold every match; `left` is what remains to be tested, None if nothing."""

    name: str
    index: Entries
    slices: tuple[range, ...]
    left: Filter | None

    @property
    def size(self) -> int:
        """How many rows there are to look at."""
        return sum(map(len, self.slices))

    def rows(self, table: Table, backwards: bool = False) -> Iterator[Job]:
        """The rows of the slices, in the order of the index or against it, one by one."""
        places = chain.from_iterable(map(reversed, reversed(self.slices)) if backwards else self.slices)
        return (table.rows[self.index[place][1]] for place in places)


def find(table: Table, query: Query, page_size: int, comparison: Comparison = "datetime") -> Found:
    """The page that `query` asks for, of at most `page_size` rows. BadQuery if the filter makes no sense."""
    condition = None if query.filter is None else _bound(query.filter, comparison)
    if condition is not None:
        _test(condition)  # a filter that makes no sense is refused, rows or no rows
    count = _count(table, condition) if query.count else None
    wanted = page_size if query.top is None else min(page_size, query.top)
    stop = query.skip + wanted
    ordered = _ordered(table, condition, query.orderby)
    if query.after is not None:
        ordered = filter(_follows(query.orderby, query.after), ordered)
    rows = list(islice(ordered, query.skip, stop + 1))
    return Found(rows[:wanted], len(rows) > wanted and (query.top is None or query.top > wanted), count)


def _bound(part: Filter, comparison: Comparison) -> Filter:
    """The filter with its constants as the database meets them: dates by the comparison, strings in lower case."""
    match part:
        case Not():
            return Not(_bound(part.part, comparison))
        case Chain():
            return Chain(part.word, tuple(_bound(each, comparison) for each in part.parts))
    literal = part.literal
    if literal.kind == "date":
        return Compare(part.op, part.name, type(literal)("date", literal_hns(literal.value, comparison)))
    if literal.kind == "string" and part.name not in BINARIES:
        return Compare(part.op, part.name, type(literal)("string", literal.value.lower()))
    return part


# -- which rows --------------------------------------------------------------------------------------------------------


def _test(part: Filter | None) -> Test:
    match part:
        case None:
            return lambda job: True
        case Not():
            inner = _test(part.part)
            return lambda job: not inner(job)
        case Chain():
            tests = tuple(_test(each) for each in part.parts)
            if part.word == "and":
                return lambda job: all(test(job) for test in tests)
            return lambda job: any(test(job) for test in tests)
    return _comparison(part)


def _comparison(part: Compare) -> Test:
    op, value = part.op, part.literal.value
    _check_types(part)
    read = reader(part.name)
    if op == "eq":
        return lambda job: bool(read(job) == value)
    if op == "ne":
        return lambda job: bool(read(job) != value)
    if value is None:
        return lambda job: False
    beyond = _BEYOND[op]

    def test(job: Job) -> bool:
        found = read(job)
        # null is neither more nor less than anything, and values of different kinds have no order
        return found is not None and isinstance(found, str) == isinstance(value, str) and beyond(found, value)

    return test


_BEYOND: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda left, right: bool(left > right),
    "ge": lambda left, right: bool(left >= right),
    "lt": lambda left, right: bool(left < right),
    "le": lambda left, right: bool(left <= right),
}


def _check_types(part: Compare) -> None:
    kind, found = kind_of(part.name), part.literal.kind
    if found != "null" and kind not in ("any", found) and not (kind == "binary" and found == "string"):
        raise BadQuery(
            f"A binary operator with incompatible types was detected. Found operand types for '{part.name}' "
            f"({kind}) and '{found}' for operator kind '{part.op}'."
        )
    if kind == "binary" and part.op not in ("eq", "ne"):
        raise BadQuery(f"The binary property '{part.name}' can't be compared by '{part.op}'.")


def _count(table: Table, condition: Filter | None) -> int:
    chosen = min(_candidates(table, condition), key=lambda each: (each.size, each.left is not None))
    return chosen.size if chosen.left is None else sum(map(_test(chosen.left), chosen.rows(table)))


# -- in which order ----------------------------------------------------------------------------------------------------


def _ordered(table: Table, condition: Filter | None, orderby: OrderBy) -> Iterator[Job]:
    """The matching rows in order, found as they are asked for where an index has that order."""
    candidates = _candidates(table, condition)
    smallest = min(candidates, key=lambda each: each.size)
    walked = _walkable(orderby)
    for each in candidates:
        if each.name == walked and each.size <= 4 * smallest.size + 1000:
            return _matching(each.rows(table, backwards=bool(orderby) and orderby[0][1]), each.left)
    return iter(_sorted(_matching(smallest.rows(table), smallest.left), orderby))


def _matching(found: Iterator[Job], left: Filter | None) -> Iterator[Job]:
    return found if left is None else filter(_test(left), found)


def _walkable(orderby: OrderBy) -> str | None:
    """The index that has this order already."""
    if not orderby:
        return "ID"
    (first, descending), rest = orderby[0], orderby[1:]
    if first in ("ID", "jobID") or (first == "modifiedDate" and rest == (("ID", descending),)):
        return first
    return None


def _sorted(found: Iterable[Job], orderby: OrderBy) -> list[Job]:
    rows = sorted(found, key=lambda job: job.number)
    for name, descending in reversed(orderby):
        read = reader(name)
        rows.sort(key=lambda job, read=read: _rank(read(job)), reverse=descending)  # type: ignore[misc]
    return rows


def _follows(orderby: OrderBy, values: tuple[Any, ...]) -> Test:
    """Return the test whether a row comes after a place, which has these values of the properties of the order."""
    terms = [(reader(name), descending) for name, descending in orderby]
    place = [_rank(value) for value in values]

    def test(job: Job) -> bool:
        for (read, descending), other in zip(terms, place, strict=True):
            if (rank := _rank(read(job))) != other:
                return rank < other if descending else rank > other
        return False

    return test


def _rank(value: Any) -> tuple[int, Any]:
    """Null lowest, as SQL Server sorts; then numbers, then text, where a column holds both."""
    if value is None:
        return 0, 0
    return (2, value) if isinstance(value, str) else (1, value)


# -- by which index ----------------------------------------------------------------------------------------------------


def _candidates(table: Table, condition: Filter | None) -> list[_Candidates]:
    """What each index leaves of the table once it has answered its own part of the condition."""
    parts = condition.parts if isinstance(condition, Chain) and condition.word == "and" else (condition,)
    return [_narrowed(table, name, tuple(part for part in parts if part is not None)) for name in table.orders]


def _narrowed(table: Table, name: str, parts: tuple[Filter, ...]) -> _Candidates:
    order = table.orders[name]
    start, stop, left = 0, len(order.entries), []
    points: list[Any] | None = None
    for part in parts:
        if isinstance(part, Compare) and part.name == name and part.op != "ne" and part.literal.value is not None:
            low, high = order.span(part.op, part.literal.value)
            start, stop = max(start, low), min(stop, high)
        elif points is None and (points := _points(part, name)) is not None:
            continue
        else:
            left.append(part)
    slices = [range(start, max(start, stop))]
    if points is not None:
        spans = (order.span("eq", value) for value in sorted(set(points)))
        slices = [range(max(start, low), max(start, low, min(stop, high))) for low, high in spans]
    return _Candidates(name, order.entries, tuple(slices), _joined(left))


def _points(part: Filter, name: str) -> list[Any] | None:
    """The values of `name eq a or name eq b or …`."""
    if not isinstance(part, Chain) or part.word != "or":
        return None
    values = []
    for each in part.parts:
        if not isinstance(each, Compare) or each.name != name or each.op != "eq" or each.literal.value is None:
            return None
        values.append(each.literal.value)
    return values


def _joined(parts: list[Filter]) -> Filter | None:
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else Chain("and", tuple(parts))
