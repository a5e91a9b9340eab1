"""The shape of JSON values: types, counts, lengths and spellings, and never a value. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from etl.client import odata, payload
from etl.pipeline.doctor.scrubbing import show_name

_DEEPEST = 6  # objects and lists inside of each other
_MOST_NAMES = 100  # of one object
_MOST_SPELLINGS = 30  # of one property
_OTHER_NAMES, _OTHER_SPELLINGS = "(more names)", "(more spellings)"
_DATE = re.compile(r"(\d{4})-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.(\d+))?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_ETAG = re.compile(r'(?:W/)?".*"', re.DOTALL)
_MAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_SPELLINGS = (
    ("digits", re.compile(r"\d+", re.ASCII)),
    ("a decimal number", re.compile(r"-?\d+\.\d+", re.ASCII)),
    ("8 bytes in base64", re.compile(r"[A-Za-z0-9+/]{11}=", re.ASCII)),
    ("8 bytes in base64url", re.compile(r"(?=AAA|.*[\d_-])[A-Za-z0-9_-]{11}=?", re.ASCII)),
    ("an e-mail address", _MAIL),
)
_CASES = (("lower case", str.islower), ("upper case", str.isupper), ("capitalised", str.istitle))


@dataclass(slots=True)
class _Span:
    """How many values there were, and from which size to which."""

    count: int = 0
    least: int = 0
    most: int = 0

    def add(self, size: int) -> None:
        self.least = min(self.least, size) if self.count else size
        self.most = max(self.most, size)
        self.count += 1

    def show(self, unit: str) -> str:
        """Return it for a report: `20 times, 23-24 characters`."""
        size = f"{self.least}-{self.most}" if self.most > self.least else str(self.least)
        return f"{self.count} times, {size} {unit}"


@dataclass(slots=True)
class Shape:
    """The shape of all values that one place had. `own_host`: tells links to the service itself from others."""

    own_host: str
    depth: int = 0
    plain: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, _Span] = field(default_factory=dict)
    texts: dict[str, _Span] = field(default_factory=dict)
    properties: dict[str, Shape] = field(default_factory=dict)
    inside: dict[str, Shape] = field(default_factory=dict)  # of lists, and of JSON in texts
    is_row: bool = False  # of jobs, whose properties are the service's

    def add(self, value: object) -> None:
        """Take in a value."""
        if value is None or isinstance(value, bool):
            self._count("null" if value is None else "true or false")
        elif isinstance(value, str):
            self._add_text(value)
        elif isinstance(value, int):
            self._measure("whole number", len(str(abs(value))))
        elif isinstance(value, float):
            self._count("number with a fraction")
        elif isinstance(value, payload.Unbounded):
            self._measure("number that no double holds", len(value.text))
        elif self.depth >= _DEEPEST:
            self._count("object or list, nested deeper than is looked at")
        elif isinstance(value, dict):
            self._add_object(value)
        elif isinstance(value, list):
            self._measure("list", len(value))
            self._go_into("items of lists", value)

    def _count(self, kind: str) -> None:
        self.plain[kind] = self.plain.get(kind, 0) + 1

    def _measure(self, kind: str, size: int) -> None:
        self.sizes.setdefault(kind, _Span()).add(size)

    def _go_into(self, kind: str, values: Iterable[object]) -> None:
        shape = self.inside.setdefault(kind, Shape(self.own_host, self.depth + 1))
        for value in values:
            shape.add(value)

    def _add_object(self, value: dict[str, Any]) -> None:
        self._measure("object", len(value))
        for name, inner in value.items():
            shown = show_name(name, is_of_row=self.is_row)
            if shown not in self.properties and len(self.properties) >= _MOST_NAMES:
                shown = _OTHER_NAMES
            self.properties.setdefault(shown, Shape(self.own_host, self.depth + 1)).add(inner)

    def _add_text(self, text: str) -> None:
        if text.lstrip()[:1] in ("[", "{"):
            try:
                value, _ = payload.decode(text)
            except (ValueError, RecursionError):
                self._spell("like JSON, and it can't be read", text)
                return
            self._spell("JSON", text)
            self._go_into("JSON in texts", [value])
            return
        self._spell(spell(text, self.own_host), text)

    def _spell(self, spelling: str, text: str) -> None:
        if spelling not in self.texts and len(self.texts) >= _MOST_SPELLINGS:
            spelling = _OTHER_SPELLINGS
        self.texts.setdefault(spelling, _Span()).add(len(text))

    def show(self) -> dict[str, object]:
        """Return it for a report."""
        shown: dict[str, object] = {kind: f"{count} times" for kind, count in self.plain.items()}
        unit = {"list": "items", "object": "properties"}
        shown |= {kind: span.show(unit.get(kind, "digits")) for kind, span in self.sizes.items()}
        if self.texts:
            shown["text"] = {spelling: span.show("characters") for spelling, span in sorted(self.texts.items())}
        if self.properties:
            shown["properties"] = {name: shape.show() for name, shape in self.properties.items()}
        return shown | {kind: shape.show() for kind, shape in self.inside.items()}


def spell(text: str, own_host: str = "") -> str:
    """Return how a text is spelt, in words that say nothing of what it says."""
    if not text:
        return "empty"
    if date := _DATE.fullmatch(text):
        return _spell_date(date)
    if _GUID.fullmatch(text.strip("{}")):
        return "a GUID" + (" in braces" if text[0] == "{" else "") + (" in upper case" if text.isupper() else "")
    if odata.comparable(text.lower()):
        return "a GUID and 17 digits"
    if _ETAG.fullmatch(text):
        return "an etag that holds a rowversion" if _holds_version(text) else "an etag of another form"
    for spelling, pattern in _SPELLINGS:
        if pattern.fullmatch(text):
            return spelling
    return _spell_address(text, own_host) if "://" in text else _spell_words(text)


def _spell_date(date: re.Match[str]) -> str:
    year, fraction, zone = date.groups()
    what = "a date before 1980" if int(year) < odata.FIRST_DATE.year else "a date"
    digits = f"{len(fraction)} digits of a fraction" if fraction else "no fraction"
    where = "Z" if zone == "Z" else "an offset" if zone else "no zone"
    return f"{what} with {digits} and {where}"


def _holds_version(etag: str) -> bool:
    try:
        return odata.etag_rowversion(etag) is not None
    except ValueError:
        return True


def _spell_address(text: str, own_host: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        return "like an address, and it can't be read"
    scheme = parts.scheme if parts.scheme in ("http", "https") else "another scheme"
    host = "its own host" if own_host and parts.netloc.lower() == own_host.lower() else "another host"
    options = len(parts.query.split("&")) if parts.query else 0
    return f"an address: {scheme}, {host}, a path of {parts.path.count('/')} parts, {options} options"


def _spell_words(text: str) -> str:
    words = text.split()
    case = next((name for name, has in _CASES if has(text)), "mixed case")
    if text.isascii() and text.isalpha():
        return f"a word of letters, {case}"
    if len(words) > 1 and all(word.isalpha() for word in words):
        return "words of letters"
    kinds = ["not ASCII"] if not text.isascii() else []
    kinds += ["with line breaks or tabs"] if re.search(r"[\n\r\t]", text) else []
    return ", ".join(["text", *kinds])
