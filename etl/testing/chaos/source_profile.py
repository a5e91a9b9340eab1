"""How a source is served, how it is asked, and how far this machine's clock is off; and what is counted meanwhile."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from random import Random
from typing import Any, get_args

from etl.testing.chaos.oracle import Difference
from etl.testing.chaos.scenarios import Strategy
from etl.testing.emulator import Comparison, Generation
from etl.testing.emulator.drift import Drift
from etl.testing.emulator.service_options import ServiceOptions, list_option_choices
from etl.testing.emulator.spoilt_rows import Spoilt, SpoiltForm

_NONE = timedelta()


@dataclass(frozen=True, slots=True)
class Habits:
    """Of a service: payloads, pages, dates, filters refused, faults, options. Of us: concurrency, clock, purge.

    `skew`: our clock less the source's. `deep`: whether syncs make deep passes.
    """

    jobs: int = 200
    generation: Generation = "2019-06"
    page_size: int = 20
    changing_pages: bool = False
    comparison: Comparison = "datetime"
    refuse: tuple[str, ...] = ()
    late_share: float = 0.0
    fault_rate: float = 0.0
    concurrency: int = 1
    skew: timedelta = _NONE
    purge: str = "delete"
    deep: bool = False
    service: ServiceOptions = field(default_factory=ServiceOptions)
    poisoned: int = 0  # records that the service can't serve, until all is quiet
    switching: bool = False  # what the service refuses begins and ends between requests, until all is quiet

    @classmethod
    def by_chance(cls, rng: Random, strategy: Strategy, large: float = 0.05) -> "Habits":
        """Any habits under which the strategy's promise holds; `large`: how often a scan is split into ranges."""
        is_large = rng.random() < large
        refuse = rng.choice([(), (), (), ("id",), ("id", "jobid")])
        service = draw_options(rng, strategy, refuse)
        if not can_be_asked(service, refuse) and strategy.loses_jobs:  # nobody could be asked about ghosts
            refuse, service = (), replace(service, refused=frozenset())
        switching = rng.random() < 0.2
        # A record that can't be served is asked for again by a range, which takes `and`.
        can_poison = "and" not in service.refused and not switching
        return cls(
            jobs=2_100 if is_large else rng.randint(60, 160),
            generation=rng.choice(get_args(Generation)),
            page_size=200 if is_large else rng.choice([7, 20, 50]),
            changing_pages=rng.random() < 0.3,
            comparison=rng.choice(get_args(Comparison)),
            refuse=refuse,
            late_share=rng.choice([0.0, 0.3]),
            fault_rate=rng.choice([0.0, 0.02, 0.1]),
            concurrency=4 if is_large or rng.random() < 0.1 else 1,
            skew=timedelta(minutes=rng.choice([0, -10, 5, 20 * 60])),  # behind by less than the look-back
            purge=rng.choice(["delete", "delete", "scrub", "keep"]),
            deep=strategy.needs_sweep and rng.random() < 0.5,
            service=service,
            poisoned=rng.choice([0, 0, 0, 0, 1, 2]) if can_poison else 0,
            switching=switching,
        )

    @property
    def is_counted(self) -> bool:
        """Whether the service counts old jobs, so that one comparison tells which are gone."""
        return not self.switching and self.service.refused.isdisjoint({"count", "createddate", "lt", "filter"})

    @property
    def can_be_asked(self) -> bool:
        """Whether the service answers questions about single jobs."""
        return can_be_asked(self.service, self.refuse)


def can_be_asked(service: ServiceOptions, refuse: Collection[str] = ()) -> bool:
    """Return whether a service answers questions about single jobs: by a filter, or by the plain path."""
    refused = {*service.refused, *refuse}
    return refused.isdisjoint({"jobid", "eq", "filter"}) or (service.has_plain_path and service.unknown_job == "404")


# Options of which any value is coped with, whatever else the source does.
_ANY_VALUE = (
    *("node_cost", "long_query", "pagesize", "prefer", "next_link", "odata_version", "gzip", "ended_token"),
    *("request_ids", "expires_in", "status_spelling", "no_date", "rowversion_form", "unknown_job", "has_plain_path"),
    *("rerun_shows_run", "no_token"),
)
_BY_DATE_ALONE = ("steady", "bulk", "delete")  # strategies of which each change has a later modifiedDate
# Other forms of values that say the same.
_DRIFTS = (
    *(Drift("percentCompleted", "float", 0.3), Drift("purgeDays", "text", 0.3), Drift("numberOfAttempts", "text")),
    *(Drift("yes-no", "boolean", 0.5), Drift("createdDate", "offset", 0.3), Drift("modifiedDate", "offset", 0.3)),
    *(Drift("response.SizeInMB", "text", 0.5), Drift("response.ExpiryDate", "offset", 0.5)),
)
# Forms that say nothing, of values that a row can do without.
UNREADABLE_FORMS = ("list", "object")
_UNREADABLE = (
    *(Drift("percentCompleted", "object", 0.2), Drift("startDate", "list", 0.2), Drift("requestURL", "list", 0.2)),
    Drift("modifiedBy", "object", 0.2),
)
# With the last the row is read, without a character.
_SPOILT: tuple[SpoiltForm, ...] = ("tab", "nan", "escape", "newline", "infinity", "octal", "latin-1")


# What a service may refuse at a time, so that all rows can still be read; with the options that go with it.
_RANGES = ("gt", "ge", "lt", "le", "ne", "and", "or", "not")
_OPTIONS = ("orderby", "top", "count", "select")
_BY_LINK = {"next_link": "standard", "next_link_by": "key-token"}
_REFUSALS: tuple[tuple[tuple[str, ...], Mapping[str, Any]], ...] = (
    *(((name,), {}) for name in ("top", "orderby", "or", "and", "count", "select", "pagesize")),
    (("modifieddate", "createddate"), {}),
    (("top", "orderby"), {}),
    (("top", "count"), {}),
    (("orderby", "count"), {"default_order": "modifiedDate"}),
    (("orderby",), {"default_order": "arrival"}),
    (("orderby", "select"), {"default_order": "modifiedDate"}),
    ((*_RANGES, *_OPTIONS), {}),
    ((*_RANGES, *_OPTIONS), {"default_order": "arrival"}),
    ((*_RANGES, *_OPTIONS, "skip"), _BY_LINK),
    ((*_RANGES, *_OPTIONS, "skip"), {**_BY_LINK, "next_link_by": "offset-token"}),
)
_WORDS = ("framework", "framework", "named", "unnamed", "html-403")


def draw_refusals(rng: Random, refuse: Collection[str] = ()) -> dict[str, Any]:
    """Draw what a service refuses, and how it says so, beside the filters that it refuses anyway."""
    if rng.random() < 0.5:
        return {"refused": frozenset(rng.choice([(), (), ("or",), ("skip",) if not refuse else ()]))}
    names, others = rng.choice(_REFUSALS)
    pagesize = {"pagesize": "refused"} if "pagesize" in names else {}
    refused = frozenset(name for name in names if name != "pagesize")
    return {"refused": refused, "refusal_words": rng.choice(_WORDS), **pagesize, **others}


def draw_options(rng: Random, strategy: Strategy, refuse: Collection[str] = ()) -> ServiceOptions:
    """Draw habits of a service under which the strategy's promise holds; mostly the defaults."""
    choices = list_option_choices()
    drawn = {name: rng.choice(choices[name]) for name in _ANY_VALUE if rng.random() < 0.3}
    drawn |= draw_refusals(rng, refuse)
    # A value that can't be read waits for a comparison where nobody can be asked: not each strategy has one.
    is_asked = can_be_asked(ServiceOptions(**drawn), refuse)
    most_rows = rng.choice([None, None, None, 25, 9])
    # Many rows of one instant can't be read from a service that ignores how large a page is asked for.
    if most_rows is not None and drawn.get("pagesize") not in ("honoured", "capped"):
        drawn["prefer"] = "honoured"
    return ServiceOptions(
        **drawn,
        max_nodes=rng.choice([100, 100, 80, 30]),
        max_query=rng.choice([2_048, 2_048, 1_500, 600]),
        most_in_flight=rng.choice([None, None, 5, 2]),
        most_rows=most_rows,
        too_many_rows=rng.choice(["504", "504", "500"]),
        drift=tuple(rng.sample(_DRIFTS + (_UNREADABLE if is_asked else ()), rng.choice([0, 0, 1, 3]))),
        spoilt=(Spoilt(rng.choice(_SPOILT[: None if is_asked else -1]), share=0.05, times=1),)
        if rng.random() < 0.2
        else (),
        poison_spares_keys=rng.random() < 0.5,
        rerun_moves_purge=rng.random() < 0.7,
        property_names=rng.choice(["any-case", "any-case", "payload"]),
        # Without a rowversion modifiedDate decides: that holds where each change has a later one.
        etag_form=rng.choice(choices["etag_form"]) if strategy.name in _BY_DATE_ALONE else "documented",
    )


@dataclass(slots=True)
class Tally:
    """What was done, and what was found: from `missing` on it must be zero.

    `key` to `skip`: syncs that were read by that paging.
    """

    events: int = 0
    syncs: int = 0
    kills: int = 0
    faults: int = 0
    key: int = 0
    key_unordered: int = 0
    time: int = 0
    skip: int = 0
    compared: int = 0
    missing: int = 0
    stale: int = 0
    ghosts: int = 0
    twice: int = 0
    broken: int = 0

    def __iadd__(self, other: "Tally") -> "Tally":
        for counted in fields(self):
            setattr(self, counted.name, getattr(self, counted.name) + getattr(other, counted.name))
        return self

    def count(self, found: Difference) -> None:
        """Takes in what a comparison found."""
        self.compared += found.compared
        self.missing += len(found.missing)
        self.stale += len(found.stale)
        self.ghosts += len(found.ghosts)

    @property
    def wrong(self) -> int:
        """What must be zero."""
        return self.missing + self.stale + self.ghosts + self.twice + self.broken
