"""What one source's service supports, as far as it has shown (docs/correctness.md, "What the service may refuse").

A run begins with what earlier ones learnt. Each good answer confirms the options of its query; each refusal that names
one takes it away. Nothing here decides how a scan is read: that is `etl.extract.strategy`.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from urllib.parse import unquote

from msgspec.structs import replace

from etl.models import Capability, Support

_FORGET_AFTER = timedelta(days=1)
_RENEW_AFTER = timedelta(minutes=30)  # what is honoured again and again isn't written down each time
_LATELY = timedelta(hours=1)
_AHEAD = timedelta(hours=1)  # a moment further in the future was written while a clock was wrong
_LONGEST_WORDS = 300  # characters
_UNKNOWN = Capability()
KEY_FILTERS = {"ID": "filter_id", "jobID": "filter_keys"}  # what it takes to compare a key
_FILTERS = {"modifiedDate": "filter_dates", **KEY_FILTERS}
_FILTERS_BY_LOWER_CASE = {name.lower(): capability for name, capability in _FILTERS.items()}
_IMPLIED = {"orderby_dates": "orderby"}  # without any $orderby there is none of dates
_COMPARED = re.compile(r"\b(ID|jobID|modifiedDate) (?:g[te]|l[te]) ")
_QUOTED = re.compile(r"'(?:[^']|'')*'")


class Capabilities:
    """What a service is known to support. Safe to use from several threads."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._known: dict[str, Capability] = {}
        self._lock = threading.Lock()

    def begin(self, known: Mapping[str, Capability]) -> None:
        """Go on from what is remembered; a refusal counts for a day: then it isn't known whether it still holds."""
        now = self._now()
        with self._lock:
            self._known = {
                name: replace(each, support=Support.UNKNOWN) if _is_outdated(each, now) else each
                for name, each in known.items()
                if each.at is not None and each.at <= now + _AHEAD
            }

    def forget_refusals(self, before: datetime | None = None) -> None:
        """Forget what was refused, before then if that is given: it is tried again."""
        with self._lock:
            self._known = {
                name: each
                for name, each in self._known.items()
                if each.support is not Support.NO or (before is not None and each.at is not None and each.at >= before)
            }

    @property
    def known(self) -> dict[str, Capability]:
        """What is known, by name."""
        with self._lock:
            return dict(self._known)

    @property
    def refused(self) -> frozenset[str]:
        """The names of all that is refused."""
        return frozenset(name for name, each in self.known.items() if each.support is Support.NO)

    def find(self, name: str) -> Capability:
        """Return what is known of one capability."""
        return self._known.get(name, _UNKNOWN)

    def supports(self, *names: str) -> bool:
        """Whether nothing speaks against any of these: what isn't known yet is tried."""
        return all(
            self.find(name).support is not Support.NO and (name not in _IMPLIED or self.supports(_IMPLIED[name]))
            for name in names
        )

    def was_honoured_lately(self, *names: str) -> bool:
        """Whether the service has honoured all of these within the last hour."""
        since = self._now() - _LATELY
        known = [self.find(name) for name in names]
        return all(each.support is Support.YES and each.at is not None and each.at >= since for each in known)

    def refuse(self, name: str, words: str, limit: int | None = None) -> None:
        """Take in that the service doesn't support something, in its words; `limit`: how much of it it does."""
        self._set(name, Capability(Support.NO, words[:_LONGEST_WORDS], self._now(), limit))

    def confirm(self, name: str, words: str) -> None:
        """Take in that the service supports something. A refusal stays for its day: an answer may ignore an option."""
        now, before = self._now(), self.find(name)
        is_new = before.support is Support.YES and before.at is not None and now - before.at < _RENEW_AFTER
        if before.support is not Support.NO and not is_new:
            self._set(name, Capability(Support.YES, words[:_LONGEST_WORDS], now, before.limit))

    def confirm_query(self, query: str) -> None:
        """Take in that a query was answered. Whether its options were heeded is for whoever reads the rows."""
        for name in list_needed(query):
            if name != "count":  # which an answer may leave out
                self.confirm(name, "answered")

    def refuse_option(self, option: str, words: str) -> None:
        """Take in a refusal that names an option or a property, as `answers.name_option` does."""
        for name in find_names(option):
            self.refuse(name, words)

    def _set(self, name: str, capability: Capability) -> None:
        with self._lock:
            self._known[name] = capability


def find_names(option: str) -> tuple[str, ...]:
    """Return the capabilities that the refusal of an option speaks of: `top`, `filter ID`, `orderby modifiedDate`."""
    kind, _, name = option.partition(" ")
    if kind == "filter":
        if not name:
            return tuple(_FILTERS.values())
        capability = _FILTERS_BY_LOWER_CASE.get(name.lower())
        return () if capability is None else (capability,)
    if kind == "orderby" and name.lower() == "modifieddate":
        return ("orderby_dates",)
    return {"pagesize": ("page_size",), "eq": ()}.get(kind, (kind,))


def list_needed(query: str) -> list[str]:
    """Return the capabilities that a query makes use of."""
    parts = (part.partition("=") for part in query.split("&"))
    options = {name.lstrip("$"): unquote(value) for name, _, value in parts}
    names: list[str] = [name for name in ("top", "skip", "select", "count") if name in options]
    if order := options.get("orderby"):
        names.append("orderby_dates" if order.startswith("modifiedDate") else "orderby")
    condition = _QUOTED.sub("''", options.get("filter", ""))
    names += [word for word in ("or", "and") if f" {word} " in condition]
    compared = dict.fromkeys(_COMPARED.findall(condition))
    return names + [_FILTERS[name] for name in compared]


def without(query: str, names: Iterable[str]) -> str:
    """Return a query without some of its options: `top`, `select`."""
    dropped = tuple(f"${name}=" for name in names)
    return "&".join(part for part in query.split("&") if not part.startswith(dropped)) if dropped else query


def _is_outdated(capability: Capability, now: datetime) -> bool:
    at = capability.at
    return at is not None and capability.support is Support.NO and now - at >= _FORGET_AFTER
