"""What the service refuses, in the words of the framework, of IIS, and of others."""

from collections.abc import Iterable

from etl.testing.emulator.odata_query import BadQuery, Query, Refused, names_in, operators_in
from etl.testing.emulator.responses import Answer, error, html_page
from etl.testing.emulator.service_options import OPERATORS, OPTIONS, RefusalWords, ServiceOptions

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


def answer_bad_query(bad: BadQuery, words: RefusalWords) -> Answer:
    """Return the answer to a query that is refused. `words` are for what `ServiceOptions` forbids."""
    if not isinstance(bad, Refused) or words == "framework":
        return error(400, "", f"The query specified in the URI is not valid. {bad}")
    if words == "named":
        return error(400, "BadRequest", f"This endpoint doesn't support {bad.what}.")
    if words == "unnamed":
        return error(400, "BadRequest", "The request is invalid.")
    return html_page(403, "403 Forbidden", "The request was blocked by a security rule.")


def check_options(asked: Iterable[str], refused: frozenset[str]) -> None:
    """Raise Refused if one of these query options isn't allowed. For `$top`, see `check_query`."""
    for name in asked if refused else ():
        option = name.removeprefix("$").lower()
        if name.startswith("$") and option != "top" and option in refused:
            called = OPTIONS.get(option, name)
            raise Refused(f"Query option '{called}' is not allowed. {_ALLOW.format('AllowedQueryOptions')}", name)


def check_query(query: Query, refused: frozenset[str], unsortable: frozenset[str]) -> None:
    """Raise Refused if the query uses a property, an operator or a `$top` that isn't allowed."""
    if not refused and not unsortable:
        return
    if query.top and "top" in refused:
        why = f"The value from the incoming request is '{query.top}'."
        raise Refused(f"The limit of '0' for Top query has been exceeded. {why}", "$top")
    for operator in sorted(operators_in(query.filter)):
        if operator in refused:
            why = _ALLOW.format("AllowedLogicalOperators")
            called = OPERATORS[operator]
            raise Refused(f"Logical operator '{called}' is not allowed. {why}", f"the operator '{operator}' in $filter")
    for name in sorted(names_in(query.filter)):
        if name.lower() in refused:
            raise _refuse_property(name, "$filter")
    for name, _ in query.orderby:
        if name.lower() in unsortable:
            raise _refuse_property(name, "$orderby")


def _refuse_property(name: str, option: str) -> Refused:
    message = f"The property '{name}' cannot be used in the {option} query option."
    return Refused(message, f"the property '{name}' in {option}")
