"""What a source's service supports, as a column of `etl.sources` holds it.

What is learnt in a run, and when it is forgotten, is `etl.client.capabilities`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from etl.client import payload
from etl.models import CAPABILITIES, Capability


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
