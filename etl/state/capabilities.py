"""What a source's service supports, as a column of `etl.sources` holds it.

What is learnt in a run, and when it is forgotten, is `etl.client.capabilities`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from psycopg.errors import InvalidSchemaName, UndefinedColumn, UndefinedTable

from etl.client import payload
from etl.models import CAPABILITIES, Capability
from etl.postgres.connection import Connection

_ALL = "SELECT name, paging, window_by, capabilities FROM etl.sources"


class Reading(NamedTuple):
    """How a source was last read, and what its service was found to support; None where it was never read."""

    paging: str | None = None
    window_by: str | None = None
    capabilities: Mapping[str, Capability] = {}


def find_all(db: Connection) -> dict[str, Reading]:
    """Return how each source is read, by its name; nothing in a database that isn't migrated so far."""
    try:
        found = db.execute(_ALL).fetchall()
    except (UndefinedTable, InvalidSchemaName, UndefinedColumn):
        return {}
    return {
        str(name): Reading(str(paging), str(window_by), read_capabilities(known))
        for name, paging, window_by, known in found
    }


def read_capabilities(value: object) -> dict[str, Capability]:
    """Return what the column holds; what a newer release wrote otherwise counts as unknown."""
    found = {}
    for name, each in (value if isinstance(value, dict) else {}).items():
        try:
            found[str(name)] = msgspec.convert(each, Capability)
        except msgspec.ValidationError:
            continue
    return found


def write_capabilities(known: Mapping[str, Capability]) -> dict[str, Any]:
    """Return what the column is to hold."""
    return {
        name: {**msgspec.to_builtins(each), "words": payload.storable(each.words)}
        for name, each in sorted(known.items())
    }


def list_capabilities(known: Mapping[str, Capability]) -> dict[str, Any]:
    """Return what is known of each capability, unknown ones too, in the order of their documentation: for scripts."""
    return {name: msgspec.to_builtins(known.get(name, Capability())) for name in (*CAPABILITIES, *sorted(known))}
