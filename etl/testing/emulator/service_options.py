"""What is not known of the real service, as values: each habit that a client has to work with.

Emulator(world, options=ServiceOptions(pagesize="capped", refused=frozenset({"orderby", "top"})))
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from etl.testing.emulator.drift import Drift, check_drift
from etl.testing.emulator.job_version import COLUMNS, Job
from etl.testing.emulator.spoilt_rows import Spoilt, check_spoilt

NodeCost = Literal["5n-1", "6n-1"]
LongQuery = Literal["iis", "aspnet"]
PropertyNames = Literal["any-case", "payload", "jobId"]
PageSizeParameter = Literal["ignored", "honoured", "capped", "refused"]
Preference = Literal["honoured", "ignored"]
NextLinkHabit = Literal[
    "standard",
    "always",
    "never",
    "on-last",
    "on-full",
    "foreign",
    "inner",
    "no-prefix",
    "inner-no-prefix",
    "negative-top",
]
NextLinkBy = Literal["skip", "key-token", "offset-token"]
DefaultOrder = Literal["key", "modifiedDate", "arrival"]
RefusalWords = Literal["framework", "named", "unnamed", "html-403"]
ODataVersion = Literal["4.0", "4.01", "minimal-4.01"]
TooManyRows = Literal["504", "500"]
EndedToken = Literal["401", "401-invalid-token", "403", "400"]
NoToken = Literal["401", "as-ended"]
UnknownJob = Literal["404", "404-html", "400"]
StatusSpelling = Literal["Inprogress", "InProgress", "mixed"]
NoDate = Literal[None, "", "0001-01-01T00:00:00Z", "1899-12-30T00:00:00Z"]
RowversionForm = Literal["base64", "base64url", "base64url-padded"]
EtagForm = Literal["documented", "date", "hash", "two-parts"]
ExpiresIn = Literal["seconds", "moment", "text", "absent"]

OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {name.lower(): name for name in ("Filter", "OrderBy", "Top", "Skip", "Count", "Select")}
)
"""Query options that can be refused or ignored, with the framework's names for them."""

OPERATORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "or": "Or",
        "and": "And",
        "not": "Not",
        "eq": "Equal",
        "ne": "NotEqual",
        "gt": "GreaterThan",
        "ge": "GreaterThanOrEqual",
        "lt": "LessThan",
        "le": "LessThanOrEqual",
    }
)
"""Operators of `$filter` that can be refused, with the framework's names for them."""

PROPERTIES: Final = frozenset(name.lower() for name in COLUMNS if not name.startswith("@"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """The habits of a service. The defaults are those of Microsoft's OData for Web API behind IIS.

    Queries:
    - `max_nodes`: nodes allowed in `$filter`. More are a 400.
    - `node_cost`: n terms `a eq 'x'` joined by `or` cost 5n-1 nodes, or 6n-1 where the service converts values.
    - `max_query`: bytes allowed in the query string as sent.
    - `long_query`: the answer to a longer one, with a page of HTML. "iis": 404 (404.15). "aspnet": 400.
    - `refused`: what gets a 400. Names of `OPTIONS`, of `OPERATORS`, and of properties that can't be filtered on.
    - `unsortable`: properties that `$orderby` can't use (400).
    - `refusal_words`: the answer to what `refused` and `unsortable` forbid. "framework": a 400 in the framework's
      words. "named": a 400 in other words that still name the option or property. "unnamed": a 400 that names nothing.
      "html-403": a 403 with a page of HTML, as a firewall sends it.
    - `ignored`: names of `OPTIONS` that have no effect: the query is answered with a 200, as if it didn't have them.
    - `default_order`: the order of rows if the query has no `$orderby`. "modifiedDate": ascending, ties by key.
      "arrival": as in a heap, pseudo-random but the same as long as a row exists. "key": by ID; by jobID where rows
      have no ID and `next_link_by` is "key-token".
    - `property_names`: how queries must spell properties. "payload": as the payload does. "jobId": the same, but
      `jobId` for `jobID`.

    Pages:
    - `pagesize`: the vendor's own parameter, without `$`. "capped": honoured up to `max_pagesize`. "refused": 400.
    - `max_pagesize`: see `pagesize`.
    - `prefer`: whether `Prefer: odata.maxpagesize` is honoured. It only makes pages smaller.
    - `next_link`: "standard": if more rows follow. "always": even on an empty page. "never". "on-last": on every page
      with rows, so also on a short last one. "on-full": on every full page, even if nothing follows. The others appear
      when "standard" does. "foreign": on another host. "inner": on an inner host, and the context too. "no-prefix":
      both without /jobsmanagement. "inner-no-prefix". "negative-top": also after `$top=1`, with a negative `$top`.
    - `next_link_by`: how a nextLink says where the next page begins. "skip": `$skip=200`. "key-token": `$skiptoken`
      with the last row's values of `$orderby` and its key, such as `ID-52714` or `jobID-'…'`: the rows after it follow.
      "offset-token": `$skiptoken=200`, a number of rows. `refused` doesn't forbid `$skiptoken`; it is a 400 if it isn't
      of the current form.
    - `odata_version`: "4.01": `@count`, `@etag`, `@nextLink`, unless the client sent `OData-MaxVersion: 4.0`.
      "minimal-4.01": the same, whatever the client sent.
    - `gzip`: whether bodies are compressed for clients that accept it.
    - `bomb`: for those clients, each page of the collection decompresses to more than this many bytes. 0: off.

    Limits:
    - `most_in_flight`: requests at the same time. More get a 403 with a page of HTML. None: no limit.
    - `most_rows`: rows in one answer. None: no limit.
    - `too_many_rows`: the status of an answer that would have more.
    - `poisoned`: jobIDs and IDs. An answer that would contain one is a 500.
    - `poison_spares_keys`: whether such a job is answered if `$select` asks for keys only.

    Errors and tokens:
    - `ended_token`: the answer to a token that isn't valid. "401-invalid-token": with `WWW-Authenticate: Bearer
      error="invalid_token"`. "403": AuthenticationFailed. "400": InvalidAuthenticationInfo.
    - `no_token`: the answer to a request without a token. "as-ended": as `ended_token` says.
    - `request_ids`: whether JSON errors have a `requestId`. An overload always has one.
    - `expires_in`: how the password grant says it. "moment": in seconds since 1970. "text": seconds, as a string.

    Values as served. Filters see rows as they are:
    - `status_spelling`: "mixed": one spelling in every other row.
    - `no_date`: what is written where there is no date.
    - `rowversion_form`: "base64url" has no padding.
    - `etag_form`: all but "documented" and the first of "two-parts" hold no rowversion.
    - `drift`: properties in another JSON form, see `Drift`. A plain tuple will do.
    - `spoilt`: rows that aren't JSON, see `Spoilt`. A plain tuple will do.

    Single jobs:
    - `unknown_job`: the answer of the plain path if there is no such job.
    - `has_plain_path`: without it, the plain path is a 404 with a page of HTML.
    - `rerun_moves_purge`: whether a rerun postpones the purge.
    - `rerun_shows_run`: whether the answer to a rerun has a `jobRunId` and an undocumented property.

    Raises ValueError for an unknown value.
    """

    max_nodes: int = 100
    node_cost: NodeCost = "5n-1"
    max_query: int = 2048
    long_query: LongQuery = "iis"
    refused: frozenset[str] = frozenset()
    unsortable: frozenset[str] = frozenset()
    refusal_words: RefusalWords = "framework"
    ignored: frozenset[str] = frozenset()
    default_order: DefaultOrder = "key"
    property_names: PropertyNames = "any-case"

    pagesize: PageSizeParameter = "ignored"
    max_pagesize: int = 200
    prefer: Preference = "honoured"
    next_link: NextLinkHabit = "standard"
    next_link_by: NextLinkBy = "skip"
    odata_version: ODataVersion = "4.0"
    gzip: bool = False
    bomb: int = 0

    most_in_flight: int | None = None
    most_rows: int | None = None
    too_many_rows: TooManyRows = "504"
    poisoned: frozenset[str | int] = frozenset()
    poison_spares_keys: bool = False

    ended_token: EndedToken = "401"  # noqa: S105 - a status
    no_token: NoToken = "401"  # noqa: S105 - a status
    request_ids: bool = False
    expires_in: ExpiresIn = "seconds"

    status_spelling: StatusSpelling = "Inprogress"
    no_date: NoDate = None
    rowversion_form: RowversionForm = "base64"
    etag_form: EtagForm = "documented"
    drift: tuple[Drift, ...] = ()
    spoilt: tuple[Spoilt, ...] = ()

    unknown_job: UnknownJob = "404"
    has_plain_path: bool = True
    rerun_moves_purge: bool = True
    rerun_shows_run: bool = False

    def __post_init__(self) -> None:
        for name, values in list_option_choices().items():
            _check(name, getattr(self, name), values)
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, less than {least}")
        self._set("refused", _fold_names("refused", self.refused, PROPERTIES | {*OPTIONS, *OPERATORS}))
        self._set("unsortable", _fold_names("unsortable", self.unsortable, PROPERTIES))
        self._set("ignored", _fold_names("ignored", self.ignored, OPTIONS))
        self._set("poisoned", frozenset(key.lower() if isinstance(key, str) else key for key in self.poisoned))
        self._set("drift", tuple(check_drift(Drift(*each)) for each in self.drift))
        self._set("spoilt", tuple(check_spoilt(Spoilt(*each)) for each in self.spoilt))

    def is_poisoned(self, job: Job) -> bool:
        """Return whether an answer with this job is a 500."""
        return bool(self.poisoned) and (job.number in self.poisoned or job.job_id.lower() in self.poisoned)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


_LEAST = {"max_nodes": 1, "max_query": 0, "max_pagesize": 1, "bomb": 0, "most_in_flight": 1, "most_rows": 0}


@cache
def list_option_choices() -> Mapping[str, tuple[Any, ...]]:
    """Return the values of each option that has a closed set of them, the default first: to draw some by chance."""
    hints = get_type_hints(ServiceOptions)
    found: dict[str, tuple[Any, ...]] = {}
    for field in fields(ServiceOptions):
        if values := _list_values(hints[field.name]):
            found[field.name] = (field.default, *(value for value in values if value != field.default))
    return MappingProxyType(found)


def _list_values(hint: object) -> tuple[Any, ...]:
    if hint is bool:
        return False, True
    return get_args(hint) if get_origin(hint) is Literal else ()


def _check(name: str, value: object, values: Collection[object]) -> None:
    if value not in values:
        raise ValueError(f"no such {name}: {value!r}; there are {', '.join(map(repr, values))}")


def _fold_names(field: str, names: Collection[str], known: Collection[str]) -> frozenset[str]:
    folded = frozenset(name.lstrip("$").lower() for name in names)
    for name in sorted(folded):
        _check(field, name, sorted(known))
    return folded
