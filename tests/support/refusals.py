"""Refusals of queries in the words of the service's framework."""

import json

_ALLOW = "To allow it, set the 'AllowedQueryOptions' property on EnableQueryAttribute or QueryValidationSettings."


def refuse_option(name: str) -> bytes:
    """Return the body of a 400 that says that a query option (`Select`, `Count`) isn't allowed."""
    return _body(f"Query option '{name}' is not allowed. {_ALLOW}")


def refuse_property(name: str) -> bytes:
    """Return the body of a 400 that says that a property can't be filtered on."""
    return _body(f"The property '{name}' cannot be used in the $filter query option.")


def _body(message: str) -> bytes:
    text = f"The query specified in the URI is not valid. {message}"
    return json.dumps({"error": {"code": "", "message": text}}).encode()
