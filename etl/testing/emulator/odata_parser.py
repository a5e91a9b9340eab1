"""The query language of the service, read: `$filter`, `$orderby` and the other options, as ASP.NET's OData reads them.

Written from the OData 4 grammar and from nothing else of this project. Whatever it can't read is a `BadQuery`, a 400.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import unquote

from etl.testing.emulator.odata_query import BadQuery, Chain, Compare, Filter, Literal, Not, Query
from etl.testing.emulator.service_options import NodeCost, PropertyNames
from etl.testing.emulator.sql_datetime import read_hns

MAX_DEPTH = 60
"""Parentheses and `not` inside one another."""

OPTIONS = frozenset({"$filter", "$orderby", "$top", "$skip", "$count", "$select", "$skiptoken"})

_TOKEN = re.compile(
    r"""\s*(?:(?P<punctuation>[(),]) | (?:
        (?P<binary>binary'[^']*')
      | (?P<string>'(?:[^']|'')*')
      | (?P<date>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d))
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z_]\w*)
    )(?=[\s(),]|$))""",
    re.VERBOSE | re.ASCII,
)
_WORDS = ("null", "true", "false")
"""Words that are constants, and no properties."""
_FLIPPED = {"eq": "eq", "ne": "ne", "gt": "lt", "lt": "gt", "ge": "le", "le": "ge"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How queries are read. `names` is `property_names` of `ServiceOptions`, the others are its fields too."""

    max_nodes: int = 100
    node_cost: NodeCost = "5n-1"
    names: PropertyNames = "any-case"


FRAMEWORK = Dialect()


def split_query(text: str) -> dict[str, str]:
    """The options of a raw query string. Percent signs are decoded; a plus sign is a plus sign, not a space."""
    options: dict[str, str] = {}
    for part in filter(None, text.split("&")):
        name, _, value = part.partition("=")
        try:
            name, value = unquote(name, errors="strict"), unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise BadQuery("The query string is not valid UTF-8.") from None
        if name.startswith("$") and name in options:
            raise BadQuery(f"Query option '{name}' was specified more than once.")
        options[name] = value
    return options


def read_query(options: Mapping[str, str], properties: Mapping[str, str], dialect: Dialect = FRAMEWORK) -> Query:
    """The options understood. `properties` maps lower-case names to the source's spelling."""

    def named(name: str) -> str:
        return _property(name, properties, dialect.names)

    for name in options:
        if name.startswith("$") and name not in OPTIONS:
            raise BadQuery(f"The query parameter '{name}' is not supported.")
    count = options.get("$count", "false").lower()
    if count not in ("true", "false"):
        raise BadQuery(f"Invalid value '{count}' for $count query option found.")
    return Query(
        filter=_Parser(options["$filter"], named, dialect).read() if "$filter" in options else None,
        orderby=_orderby(options["$orderby"], named) if "$orderby" in options else (),
        top=_whole(options, "$top"),
        skip=_whole(options, "$skip") or 0,
        count=count == "true",
        select=tuple(named(name.strip()) for name in options["$select"].split(",")) if "$select" in options else (),
        skip_token=options.get("$skiptoken"),
    )


def read_literal(text: str) -> Literal:
    """Return a constant that is written as in `$filter`. Raises BadQuery."""
    (kind, word), *rest = _tokens(text)
    is_name = kind == "word" and word not in _WORDS
    if kind in ("end", "punctuation") or is_name or len(rest) != 1:
        raise BadQuery(f"'{text[:200]}' is not a literal.")
    return _literal(kind, word)


def _whole(options: Mapping[str, str], name: str) -> int | None:
    if name not in options:
        return None
    if not re.fullmatch(r"\d{1,9}", options[name], re.ASCII):
        raise BadQuery(f"Invalid value '{options[name]}' for {name} query option found.")
    return int(options[name])


def _property(name: str, properties: Mapping[str, str], names: PropertyNames) -> str:
    known = properties.get(name.lower())
    spelt = "jobId" if names == "jobId" and known == "jobID" else known
    if known is None or (names != "any-case" and name != spelt):
        raise BadQuery(f"Could not find a property named '{name}' on type 'AIMS360.BackgroundJob'.")
    return known


def _orderby(text: str, named: Callable[[str], str]) -> tuple[tuple[str, bool], ...]:
    keys = []
    for part in text.split(","):
        name, *direction = part.split()[:3] or [""]
        if len(direction) > 1 or (direction and direction[0] not in ("asc", "desc")):
            raise BadQuery(f"Syntax error in '$orderby' at '{part}'.")
        keys.append((named(name), direction == ["desc"]))
    return tuple(keys)


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, place, text = [], 0, text.rstrip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if not found:
            raise BadQuery(f"Syntax error at position {place} in '{text[:200]}'.")
        tokens.append((str(found.lastgroup), found[str(found.lastgroup)]))
        place = found.end()
    return [*tokens, ("end", "")]


class _Parser:
    """Recursive descent over one filter: or, and, not, parentheses, comparison."""

    def __init__(self, text: str, named: Callable[[str], str], dialect: Dialect) -> None:
        self.tokens = _tokens(text)
        self.place = 0
        self.named = named
        self.dialect = dialect
        self.nodes = 0
        self.depth = 0

    def read(self) -> Filter:
        found = self.any_of()
        if self.tokens[self.place][0] != "end":
            self.refuse()
        return found

    def any_of(self) -> Filter:
        return self.chain("or", lambda: self.chain("and", self.one))

    def chain(self, word: str, part: Any) -> Filter:
        parts = [part()]
        while self.take("word", word):
            self.node()
            parts.append(part())
        return parts[0] if len(parts) == 1 else Chain(word, tuple(parts))

    def one(self) -> Filter:
        negated = self.take("word", "not")
        if not self.take("punctuation", "("):
            # `not` binds tighter than any comparison, so it can only stand before a parenthesis
            return self.refuse() if negated else self.comparison()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise BadQuery("The recursion limit of the filter has been exceeded.")
        inside = self.any_of()
        if not self.take("punctuation", ")"):
            self.refuse()
        self.depth -= 1
        if negated:
            self.node()
        return Not(inside) if negated else inside

    def comparison(self) -> Filter:
        left = self.operand()
        op = self.tokens[self.place][1]
        if op not in _FLIPPED:
            self.refuse()
        self.place += 1
        right = self.operand()
        self.node()
        if isinstance(left, str) and isinstance(right, Literal):
            return Compare(op, left, right)
        if isinstance(left, Literal) and isinstance(right, str):
            return Compare(_FLIPPED[op], right, left)
        raise BadQuery("Only a property can be compared, and only with a constant.")

    def operand(self) -> str | Literal:
        kind, text = self.tokens[self.place]
        if kind in ("end", "punctuation"):
            self.refuse()
        self.place += 1
        self.node()
        if kind != "word" or text in _WORDS:
            if self.dialect.node_cost == "6n-1":
                self.node()  # the conversion
            return _literal(kind, text)
        self.node()  # the row that has the property
        return self.named(text)

    def take(self, kind: str, text: str) -> bool:
        found = self.tokens[self.place] == (kind, text)
        self.place += found
        return found

    def node(self) -> None:
        self.nodes += 1
        if self.nodes > self.dialect.max_nodes:
            raise BadQuery(
                f"The node count limit of '{self.dialect.max_nodes}' has been exceeded. To increase the limit, set the "
                "'MaxNodeCount' property on EnableQueryAttribute or ODataValidationSettings."
            )

    def refuse(self) -> NoReturn:
        kind, text = self.tokens[self.place]
        raise BadQuery(f"Syntax error at {kind} '{text[:100]}' in the filter.")


def _literal(kind: str, text: str) -> Literal:
    match kind:
        case "string":
            return Literal("string", text[1:-1].replace("''", "'"))
        case "binary":
            return Literal("binary", text[7:-1])
        case "number":
            return Literal("number", _number(text))
        case "date":
            hns = read_hns(text)
            if hns is None:
                raise BadQuery(f"Unrecognized 'Edm.DateTimeOffset' literal '{text}'.")
            return Literal("date", hns)
        case _:
            return Literal("null", None) if text == "null" else Literal("boolean", text == "true")


def _number(text: str) -> int | float:
    if len(text) > 40:
        raise BadQuery("A number is out of range.")
    return float(text) if "." in text or "e" in text.lower() else int(text)
