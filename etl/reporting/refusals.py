"""What a service refuses, and what that costs: how a source is read, as a rank and in plain English. Pure."""

from collections.abc import Collection, Sequence

from etl.models import BY_TIME, CAPABILITIES, CAPABILITY_NAMES, Paging

_RANKS = {str(paging): rank for rank, paging in enumerate(Paging)}
_WITHOUT_A_WINDOW = len(_RANKS)  # a run that reads all rows asks for more than any that reads changes
# Which refusals make each dearer. Others cost a request here and there, or nothing.
_OF_THE_WINDOW = ("filter_dates", "and")
_OF_THE_PAGING: dict[str, tuple[str, ...]] = {
    Paging.KEY: (),
    Paging.KEY_UNORDERED: ("orderby",),
    Paging.TIME: ("orderby", "filter_id", "filter_keys", "default_order"),
    Paging.SKIP: ("orderby", "filter_id", "filter_keys", "default_order", "and", "count", "filter_dates", "null_dates"),
}
_COSTS = {
    (Paging.KEY, False): "each run reads all pages",
    (Paging.KEY_UNORDERED, True): "pages are read one after the other, in the service's own order",
    (Paging.KEY_UNORDERED, False): "each run reads all pages, one after the other",
    (Paging.TIME, True): "changes are read by slices of time",
    (Paging.TIME, False): "each run reads all pages, by slices of time",
    (Paging.SKIP, True): "changes are read by overlapping pages",
    (Paging.SKIP, False): "each run reads all pages, with an overlap",
}
NO_DELETIONS = "deletions can't be followed: the service answers no question about a single job"


def split_names(refused: object) -> list[str]:
    """Return the capabilities that the column `refused` of bi.freshness names."""
    return str(refused).split(", ") if refused else []


def rank_reading(paging: str, window_by: str) -> int | None:
    """Return how dear it is to read a source: 0 by key with a window of dates, up to 7; None for an unknown paging."""
    rank = _RANKS.get(paging)
    return None if rank is None else rank + (0 if window_by == BY_TIME else _WITHOUT_A_WINDOW)


def describe_reading(paging: str, window_by: str, refused: Collection[str], requests: object = None) -> str:
    """Say what is refused, and what it costs, of a source that isn't read by key with a window; else nothing.

    `requests`: how many the last run made, if that is known.
    """
    has_window = window_by == BY_TIME
    if paging == Paging.KEY and has_window:
        return ""
    reasons = {*_OF_THE_PAGING.get(paging, ()), *(() if has_window else _OF_THE_WINDOW)}
    names = name_all([name for name in CAPABILITIES if name in reasons and name in refused])
    cost = _COSTS.get((Paging(paging), has_window), "") if paging in _RANKS else ""
    said = "; ".join(filter(None, (f"refuses {names}" if names else "", cost)))
    return said if requests is None else f"{said} (last run: {requests} request{'' if requests == 1 else 's'})"


def can_follow_deletions(refused: Collection[str]) -> bool:
    """Whether the service can be asked about a single job: without that nothing is known to be deleted."""
    return not {"job_filter", "plain_path"} <= set(refused)


def name_all(capabilities: Sequence[str]) -> str:
    """Return capabilities as people call them: `$top, filters on dates`."""
    return ", ".join(CAPABILITY_NAMES.get(name, name) for name in capabilities)
