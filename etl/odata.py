"""The dialect of the source: queries, literals, answers, dates, rowversions. Pure.

Source of the rules: ASP.NET Core OData over SQL Server, as far as its payloads show (api.md, "OData behaviour").
"""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from etl.errors import BadAnswer
from etl.model import Key

_SAFE = ",()':/*-._~"  # readable in a request log, and unambiguous inside a query's value
_JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}-\d{17}", re.ASCII)
# What may be a link or a token: with a scheme, after "Bearer", a host with a path, or a long word of no language.
_SECRET = re.compile(r"\w+://\S+|Bearer\s+\S+|[\w-]+(?:\.[\w-]+)+(?::\d+)?/\S+|[\w+/=.~%-]{25,}", re.IGNORECASE)
_ETAG = re.compile(r"""(?:W/)?"([A-Za-z0-9+/=]+)\"""")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# An escaped pair of surrogates, a lone one, and any other escape, so that a backslash is never taken for what it isn't.
_ESCAPES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{},]', re.DOTALL)
_SURROGATES = re.compile("[\ud800-\udfff]")
LONGEST_JOB_ID = 250  # characters; an index entry has an end, and so has an address
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_REPLACEMENT = "\ufffd"


class Stamp(msgspec.Struct, frozen=True):
    """The properties of a row that steer a scan, of whatever type they came."""

    ID: object = None
    jobID: object = None
    modifiedDate: object = None
    clientID: object = None

    def key(self, name: str) -> Key | None:
        """The row's key, or None where it has none of the right type."""
        if name == "ID":
            is_number = isinstance(self.ID, int) and not isinstance(self.ID, bool) and abs(self.ID) < 2**63
            return self.ID if is_number else None  # type: ignore[return-value]
        return self.jobID if isinstance(self.jobID, str) and 0 < len(self.jobID) <= LONGEST_JOB_ID else None

    @property
    def modified(self) -> datetime | None:
        """modifiedDate, or None where it is null or unreadable."""
        return readable_instant(self.modifiedDate)


class Answer(NamedTuple):
    """A good page: its rows as raw JSON, its `@odata.count` where asked, and the characters that were replaced."""

    rows: tuple[bytes, ...]
    total: int | None
    replaced_characters: int


class _Envelope(msgspec.Struct):
    value: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    count: object = msgspec.field(default=None, name="@odata.count")


_stamp = msgspec.json.Decoder(Stamp)
_envelope = msgspec.json.Decoder(_Envelope)


def query(
    where: Sequence[str] = (), order: str = "", *, top: int | None = None, count: bool = False, select: str = ""
) -> str:
    """A complete query string: conditions joined by `and`, spaces as %20."""
    options = {
        "$filter": " and ".join(where),
        "$orderby": order,
        "$top": "" if top is None else str(top),
        "$count": "true" if count else "",
        "$select": select,
    }
    return "&".join(f"{name}={quote(value, safe=_SAFE)}" for name, value in options.items() if value)


def literal(value: Key | datetime) -> str:
    """A value as `$filter` writes it: numbers and dates bare, strings quoted. Dates are cut to the millisecond."""
    if isinstance(value, datetime):
        utc = value.astimezone(UTC)
        return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z".rjust(24, "0")
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("'", "''") + "'"


def any_of(name: str, values: Sequence[str]) -> str:
    """The condition that a property equals one of some strings."""
    return "(" + " or ".join(f"{name} eq {literal(value)}" for value in values) + ")"


def instant(text: str) -> datetime:
    """A time of the source in UTC, its fraction of 0-7 digits cut to microseconds. Raises ValueError.

    Cut, not rounded: Postgres would round 9999-12-31T23:59:59.9999999Z into the year 10000.
    """
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is no time of the years 1 to 9999 in UTC") from None


def readable_instant(value: object) -> datetime | None:
    """A time, or None where the value isn't one."""
    try:
        return instant(value) if isinstance(value, str) else None
    except ValueError:
        return None


def rowversion(text: str) -> int:
    """The unsigned big-endian number in eight base64 bytes. Raises ValueError, above 2^63 - 1 too (bigint's end)."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("rowversion is not base64") from None
    if len(raw) != 8:
        raise ValueError(f"rowversion has {len(raw)} bytes instead of 8")
    number = int.from_bytes(raw, "big")
    if number >= 2**63:
        raise ValueError("rowversion is 2^63 or more")
    return number


def etag_rowversion(etag: str) -> int | None:
    """The rowversion in an `@odata.etag` W/"base64 of binary'base64'"; None for an etag of another form.

    Raises ValueError where the form is right and the number isn't.
    """
    match = _ETAG.fullmatch(etag)
    try:
        inner = base64.b64decode(match[1], validate=True).decode("ascii") if match else ""
    except (binascii.Error, ValueError):
        return None
    return rowversion(inner[7:-1]) if inner.startswith("binary'") and inner.endswith("'") else None


def comparable(key: Key) -> bool:
    """Whether this program orders the key as the server does: numbers, and jobIDs of the documented form."""
    return isinstance(key, int) or _JOB_ID.fullmatch(key) is not None


def is_less(one: Key, other: Key) -> bool:
    """Order of two comparable keys of one type: numbers as numbers, jobIDs of the documented form as text."""
    if isinstance(one, int) and isinstance(other, int):
        return one < other
    return str(one) < str(other)


def stamp(row: bytes) -> Stamp:
    """What steers the scan, out of a raw row; an empty stamp where the row isn't an object."""
    try:
        return _stamp.decode(row)
    except (msgspec.MsgspecError, RecursionError):
        return Stamp()


def decode(data: bytes | str) -> tuple[object, int]:
    """Any JSON, with the characters that Postgres can't store replaced, and how many they were. Raises ValueError."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        value = _decode_leniently(data)
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    if "\\u" not in text and not _UNSTORABLE.search(text):
        return value, 0
    return _storable(value)


def parse_page(body: bytes) -> Answer:
    """The rows of an answer of the collection. Raises BadAnswer unless it is an object with a list and no error."""
    replaced = 0
    try:
        envelope, rows = _opened(body)
    except (msgspec.MsgspecError, RecursionError):
        body, replaced = _repaired(body)
        try:
            envelope, rows = _opened_by_hand(body)
        except (msgspec.MsgspecError, RecursionError):
            raise BadAnswer("the answer is no page of jobs, no JSON, or was cut short") from None
    if envelope.error is not msgspec.UNSET and bytes(envelope.error) != b"null":
        raise BadAnswer(f"the answer is an error inside a 200: {error_message(body)}")
    if envelope.value is msgspec.UNSET:
        raise BadAnswer("the answer has no list of jobs")
    count = envelope.count
    is_count = isinstance(count, int) and not isinstance(count, bool)
    return Answer(rows, count if is_count else None, replaced)  # type: ignore[arg-type]


def error_message(body: bytes) -> str:
    """What an error answer says, in a line and without addresses (they may be document links)."""
    try:
        value = json.loads(body)
        error = value["error"]
        said = error["message"] if isinstance(error, dict) else f"{error} {value.get('error_description', '')}"
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        said = "an HTML page" if b"<html" in body[:2000].lower() else "no message"
    return _SECRET.sub("(withheld)", " ".join(storable(str(said)).split()))[:300]


def _opened(body: bytes) -> tuple[_Envelope, tuple[bytes, ...]]:
    """A page's envelope and its rows, raw. Raises msgspec.MsgspecError, RecursionError where a row is nested deeply."""
    envelope = _envelope.decode(body)
    return envelope, () if envelope.value is msgspec.UNSET else tuple(bytes(row) for row in envelope.value)


def _opened_by_hand(body: bytes) -> tuple[_Envelope, tuple[bytes, ...]]:
    """The same, where a row that is nested too deeply is its own fault alone."""
    try:
        return _opened(body)
    except RecursionError:
        body, rows = _split(body)
        return _opened(body)[0], rows


def _split(body: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """The page without its rows, and its rows, told apart by brackets and commas alone."""
    rows: list[bytes] = []
    name, depth, first, begin = b"", 0, 0, 0
    for token in _TOKENS.finditer(body):
        mark = token[0][:1]
        if mark in b"[{":
            depth += 1
            if (depth, mark, name) == (2, b"[", b'"value"'):
                first = begin = token.end()
        elif mark in b"]}":
            depth -= 1
            if depth == 1 and begin:
                rows.append(body[begin : token.start()])
                return body[:first] + body[token.start() :], tuple(row for row in rows if row.strip())
        elif mark == b"," and depth == 2 and begin:
            rows.append(body[begin : token.start()])
            begin = token.end()
        elif depth == 1:
            name = token[0]
    return body, ()


def _repaired(body: bytes) -> tuple[bytes, int]:
    """A page that msgspec refuses and Python's json reads, made readable: other encodings, lone surrogates.

    Its values aren't looked at: what is wrong with one row is not the others' fault.
    """
    encoding = json.detect_encoding(body)
    try:
        text = body.decode(encoding, "surrogatepass")
    except UnicodeDecodeError:
        text = body.decode(encoding, "replace")
    lone = sum(escape["lone"] is not None for escape in _ESCAPES.finditer(text))
    text = _ESCAPES.sub(lambda escape: "\\ufffd" if escape["lone"] else escape[0], text)
    text, raw = _SURROGATES.subn(_REPLACEMENT, text)
    return text.encode(), lone + raw


def _decode_leniently(data: bytes | str) -> object:
    try:
        return json.loads(data, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is beyond the range of numbers")
    return number


def storable(text: str) -> str:
    """The text as Postgres can store it: NUL and lone surrogates become U+FFFD."""
    return _UNSTORABLE.sub(_REPLACEMENT, text)


def _storable(value: object) -> tuple[object, int]:
    """The value with every NUL and lone surrogate in its texts as U+FFFD, and how many there were."""
    count = 0

    def clean(part: object) -> object:
        nonlocal count
        if isinstance(part, str):
            text, found = _UNSTORABLE.subn(_REPLACEMENT, part)
            count += found
            return text
        if isinstance(part, list):
            return [clean(item) for item in part]
        if isinstance(part, dict):
            return {clean(name): clean(item) for name, item in part.items()}
        return part

    return clean(value), count


def plus(moment: datetime, delta: timedelta) -> datetime:
    """moment + delta, held inside the years 1 to 9999."""
    try:
        return moment + delta
    except OverflowError:
        return _LAST if delta > timedelta() else _FIRST
