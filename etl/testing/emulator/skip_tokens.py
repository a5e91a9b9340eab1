"""`$skiptoken`: where a page begins, as a nextLink writes it and a query repeats it. Pure."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from etl.testing.emulator.job_version import Job
from etl.testing.emulator.odata_parser import read_literal
from etl.testing.emulator.odata_query import BadQuery, OrderBy, Query
from etl.testing.emulator.property_readers import ARRIVAL, BINARIES, kind_of, place_in_heap, reader
from etl.testing.emulator.service_options import NextLinkBy
from etl.testing.emulator.sql_datetime import shown_hns

_NOT_ALLOWED = (
    "Query option 'SkipToken' is not allowed. To allow it, set the 'AllowedQueryOptions' property on "
    "EnableQueryAttribute or QueryValidationSettings."
)
_PARTS = re.compile(r"(?:'(?:[^']|'')*'|[^',])+")


def apply_skip_token(query: Query, by: NextLinkBy) -> Query:
    """Return the query with the position that its `$skiptoken` says. Its order must be complete. Raises BadQuery."""
    token = query.skip_token
    if token is None:
        return query
    match by:
        case "skip":
            raise BadQuery(_NOT_ALLOWED)
        case "offset-token":
            return replace(query, skip=query.skip + _read_offset(token))
    return replace(query, after=_read_values(token, query.orderby))


def write_position(query: Query, taken: int, rows: Sequence[Job], by: NextLinkBy) -> dict[str, str]:
    """Return the query option that says where the page after these rows begins. `taken`: how many rows they count as.

    A page without rows has no key: the position stays what it was.
    """
    match by:
        case "skip":
            return {"$skip": str(query.skip + taken)}
        case "offset-token":
            return {"$skiptoken": str(query.skip + taken)}
    if rows:
        return {"$skiptoken": ",".join(_write_value(name, rows[-1]) for name, _ in query.orderby)}
    return {} if query.skip_token is None else {"$skiptoken": query.skip_token}


# -- an offset ---------------------------------------------------------------------------------------------------------


def _read_offset(token: str) -> int:
    if not re.fullmatch(r"\d{1,9}", token, re.ASCII):
        raise _malformed(token)
    return int(token)


# -- the values of a row -----------------------------------------------------------------------------------------------


def _write_value(name: str, job: Job) -> str:
    """Return `NAME-LITERAL`."""
    shown = _shown_name(name)
    return f"{shown}-{_write_literal(shown, job.job_id if name == ARRIVAL else reader(name)(job))}"


def _write_literal(name: str, value: Any) -> str:
    if value is None:
        return "null"
    if kind_of(name) == "date":
        return shown_hns(value)  # exact: the milliseconds that rows show would lose rows of the same tick
    if isinstance(value, str):
        quoted = "'" + value.replace("'", "''") + "'"
        return f"binary{quoted}" if name in BINARIES else quoted
    return str(value).lower()


def _read_values(token: str, orderby: OrderBy) -> tuple[Any, ...]:
    """Return the values of the properties of an order. Raises BadQuery if the token has other ones."""
    pairs = [part.partition("-") for part in _PARTS.findall(token)]
    names = [_shown_name(name) for name, _ in orderby]
    if ",".join(map("".join, pairs)) != token or [name for name, _, _ in pairs] != names:
        raise _malformed(token)
    try:
        return tuple(_read_value(name, text) for (name, _), (_, _, text) in zip(orderby, pairs, strict=True))
    except BadQuery:
        raise _malformed(token) from None


def _read_value(name: str, text: str) -> Any:
    literal, kind = read_literal(text), kind_of(_shown_name(name))
    if literal.kind not in ("null", kind) and kind != "any":
        raise BadQuery(f"'{text}' is not a {kind}.")
    if name == ARRIVAL:
        return place_in_heap(str(literal.value))
    return literal.value.lower() if literal.kind == "string" else literal.value


def _shown_name(name: str) -> str:
    """Return the property that a token has for one of an order: rows don't show their place in a heap."""
    return "jobID" if name == ARRIVAL else name


def _malformed(token: str) -> BadQuery:
    return BadQuery(
        f"Unable to parse the skiptoken value '{token}'. Skiptoken value should always be server generated."
    )
