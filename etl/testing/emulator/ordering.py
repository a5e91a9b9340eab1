"""In which order rows come: as the query asks, or as the service does by itself. Pure."""

from collections.abc import Container

from etl.testing.emulator.odata_query import OrderBy
from etl.testing.emulator.property_readers import ARRIVAL
from etl.testing.emulator.service_options import DefaultOrder, NextLinkBy

_BY_DATE: OrderBy = (("modifiedDate", False),)
_UNIQUE = frozenset({"ID", "jobID", ARRIVAL})


def choose_key(properties: Container[str], by: NextLinkBy) -> str:
    """Return the key that rows are sorted by. `properties`: those that rows show, in lower case.

    It is ID, shown or not. Only a token must have a key that rows show.
    """
    return "jobID" if by == "key-token" and "id" not in properties else "ID"


def complete_order(orderby: OrderBy, default: DefaultOrder, key: str) -> OrderBy:
    """Return the order that a query asks for, or the default one, so that no two rows are at the same place."""
    if not orderby and default == "arrival":
        return ((ARRIVAL, False),)
    terms = orderby or (_BY_DATE if default == "modifiedDate" else ())
    if any(name in _UNIQUE for name, _ in terms):
        return terms
    # the index on modifiedDate is walked backwards: ties descend too
    return (*terms, (key, terms == (("modifiedDate", True),)))
