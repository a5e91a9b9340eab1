"""A parsed query: the tree of its filter, and its other options."""

from dataclasses import dataclass
from typing import Any


class BadQuery(Exception):
    """The service refuses the query with a 400; the text is its message."""


class Refused(BadQuery):
    """The service doesn't allow something that the query uses.

    The text is the framework's message. `what` names the thing in a few words of its own.
    """

    def __init__(self, message: str, what: str) -> None:
        super().__init__(message)
        self.what = what


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant; `kind` is string, number, date (in units of 100 ns), boolean, binary or null."""

    kind: str
    value: Any


@dataclass(frozen=True, slots=True)
class Compare:
    """`name op literal`, the property always on the left and in the source's spelling."""

    op: str
    name: str
    literal: Literal


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    part: "Filter"


@dataclass(frozen=True, slots=True)
class Chain:
    """Filters joined by one word, `and` or `or`."""

    word: str
    parts: "tuple[Filter, ...]"


Filter = Compare | Not | Chain

OrderBy = tuple[tuple[str, bool], ...]
"""Properties that rows are sorted by, the first one first, each with whether it descends."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a request asks of the collection.

    `skip_token`: the text of `$skiptoken`. `after`: values of the properties of `orderby`; only rows that follow them
    are asked for.
    """

    filter: Filter | None = None
    orderby: OrderBy = ()
    top: int | None = None
    skip: int = 0
    count: bool = False
    select: tuple[str, ...] = ()
    skip_token: str | None = None
    after: tuple[Any, ...] | None = None


def operators_in(part: Filter | None) -> set[str]:
    """Return the operators of a filter: `and`, `or`, `not`, `eq` and so on."""
    match part:
        case None:
            return set()
        case Not():
            return {"not"} | operators_in(part.part)
        case Chain():
            return {part.word}.union(*map(operators_in, part.parts))
    return {part.op}


def names_in(part: Filter | None) -> set[str]:
    """The properties a filter speaks of."""
    match part:
        case None:
            return set()
        case Not():
            return names_in(part.part)
        case Chain():
            return set().union(*map(names_in, part.parts))
    return {part.name}
