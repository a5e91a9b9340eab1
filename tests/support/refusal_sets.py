"""What a service may refuse: each option alone, and the sets that come together; and how it is read then."""

from typing import Any, NamedTuple

RANGES = frozenset({"gt", "ge", "lt", "le", "ne", "and", "or", "not"})  # operators: all but eq
OPTIONS = frozenset({"orderby", "top", "count", "select"})


class Refusals(NamedTuple):
    """What a service refuses, and how it is read then: by which paging, and by a window of dates or not."""

    name: str
    options: dict[str, Any]
    paging: str = "key"
    window_by: str = "modifiedDate"
    removes: bool = True  # jobs that vanish before their time


def refused(*names: str, **options: Any) -> dict[str, Any]:
    return {"refused": frozenset(names), **options}


KEY_TOKENS = {"next_link": "inner-no-prefix", "next_link_by": "key-token"}
OFFSET_TOKENS = {"next_link": "inner-no-prefix", "next_link_by": "offset-token"}
EACH = [
    Refusals("nothing", {}),
    Refusals("top", refused("top")),
    Refusals("orderby", refused("orderby"), "key_unordered"),
    Refusals("orderby of dates", {"unsortable": frozenset({"modifiedDate"})}),
    Refusals("dates", refused("modifiedDate", "createdDate"), window_by="none"),
    Refusals("ID", refused("ID")),
    Refusals("keys", refused("ID", "jobID"), "time"),
    Refusals("or", refused("or")),
    Refusals("and", refused("and"), "skip"),
    Refusals("count", refused("count")),
    Refusals("skip", refused("skip")),
    Refusals("select", refused("select")),
    Refusals("pagesize", {"pagesize": "refused"}),
    Refusals("top, orderby", refused("top", "orderby"), "key_unordered"),
    Refusals("top, count", refused("top", "count")),
    Refusals("top, orderby, keys", refused("top", "orderby", "ID", "jobID"), "time"),
    Refusals("keys, count", refused("ID", "jobID", "count"), "skip"),
    Refusals("orderby, default by date", refused("orderby", default_order="modifiedDate"), "time"),
    Refusals("orderby, count, default by date", refused("orderby", "count", default_order="modifiedDate"), "skip"),
    Refusals("orderby, count, heap", refused("orderby", "count", default_order="arrival"), "skip"),
    Refusals("all but jobId eq and $skip", refused(*RANGES, *OPTIONS), "skip", "none"),
    Refusals("all but jobId eq and nextLink by key", refused(*RANGES, *OPTIONS, "skip", **KEY_TOKENS), "skip", "none"),
    Refusals("all but jobId eq and nextLink", refused(*RANGES, *OPTIONS, "skip", **OFFSET_TOKENS), "skip", "none"),
    Refusals("all but the plain path and $skip", refused(*RANGES, *OPTIONS, "eq"), "skip", "none"),
    Refusals("all but $skip", refused(*RANGES, *OPTIONS, "eq", has_plain_path=False), "skip", "none", removes=False),
]
