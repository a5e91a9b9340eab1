"""What the service refuses, in the words of the framework and of IIS."""

from collections.abc import Iterable

from etl.testing.emulator.odata_query import BadQuery, Query, names_in, operators_in
from etl.testing.emulator.responses import Answer, html_page
from etl.testing.emulator.service_options import OPERATORS, OPTIONS, ServiceOptions

_ALLOW = "To allow it, set the '{}' property on EnableQueryAttribute or QueryValidationSettings."


def refuse_long_query(raw_query: str, options: ServiceOptions) -> Answer | None:
    """Return the answer to a query string that is too long, in bytes as sent; None for any other."""
    if len(raw_query) <= options.max_query:
        return None
    if options.long_query == "iis":
        why = "The request filtering module is configured to deny a request where the query string is too long."
        return html_page(404, "IIS Detailed Error - 404.15 - Not Found", why)
    why = "The length of the query string for this request exceeds the configured maxQueryStringLength value."
    return html_page(400, why, "Server Error in '/' Application.")


def check_options(asked: Iterable[str], refused: frozenset[str]) -> None:
    """Raise BadQuery if one of these query options isn't allowed. For `$top`, see `check_query`."""
    for name in asked if refused else ():
        option = name.removeprefix("$").lower()
        if name.startswith("$") and option != "top" and option in refused:
            called = OPTIONS.get(option, name)
            raise BadQuery(f"Query option '{called}' is not allowed. {_ALLOW.format('AllowedQueryOptions')}")


def check_query(query: Query, refused: frozenset[str], unsortable: frozenset[str]) -> None:
    """Raise BadQuery if the query uses a property, an operator or a `$top` that isn't allowed."""
    if not refused and not unsortable:
        return
    if query.top and "top" in refused:
        raise BadQuery(
            f"The limit of '0' for Top query has been exceeded. The value from the incoming request is '{query.top}'."
        )
    for operator in sorted(operators_in(query.filter)):
        if operator in refused:
            why = _ALLOW.format("AllowedLogicalOperators")
            raise BadQuery(f"Logical operator '{OPERATORS[operator]}' is not allowed. {why}")
    for name in sorted(names_in(query.filter)):
        if name.lower() in refused:
            raise BadQuery(f"The property '{name}' cannot be used in the $filter query option.")
    for name, _ in query.orderby:
        if name.lower() in unsortable:
            raise BadQuery(f"The property '{name}' cannot be used in the $orderby query option.")
