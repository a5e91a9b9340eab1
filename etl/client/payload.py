"""What the source says, as JSON: a page's envelope and its rows, mended where they can be; what an error says. Pure.

Rows stay raw here: a row that can't be read is its own fault, and never the page's (docs/correctness.md, "Rows and
values that can't be read").
"""

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from textwrap import shorten
from typing import NamedTuple

import msgspec

from etl.errors import BadAnswer
from etl.text import shown

# What may be a link, a token or a person, and is withheld from messages. Compiled once there is one: it takes a while.
_WITHHELD = r"""(?ix)
    \w+://\S+                                   # an address with its scheme
    | bearer[:\s]+\S+
    | [\w-]+(?:\.[\w-]+)*(?::\d+|\.\w+)[/?]\S+   # a host with a path or a query
    | (?<!\S)/\S+/\S*                             # a path of several names
    | [?&]\w+=\S*                                 # the query of an address
    | [\w.+-]+(?:@|%40)[\w.-]+                  # a person
    | (?:\b|_)(?:code=|(?:sig|key|token|secret|password|pwd|access\w*)["']?\s*[:=])\s*\S+
    | (?=[\w+/=.~%-]*\d)(?=[\w+/=.~%-]*[a-z])[\w+/=.~%-]{16,}  # a long word with digits: of no language
"""
# Characters of an error answer: looked at, scrubbed (which takes time by their square), and shown.
_LONGEST_TEXT, _LONGEST_SCRUBBED, _LONGEST_MESSAGE = 20_000, 2_000, 300
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# An escaped pair of surrogates, a lone one, and any other escape, so that a backslash is never taken for what it isn't.
_ESCAPES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{},]', re.DOTALL)
# A token of a row that is no JSON: a text, whatever stands in it, a bracket or a mark, a word such as NaN or 0100.
_LOOSE_TOKEN = re.compile(rb'\s*+("(?:[^"\\]|\\.)*+"|[\[\]{},:]|[\w.+-]++)', re.DOTALL)
_OPENING = {b"}": b"{", b"]": b"["}
_SURROGATES = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"
_QUERY, _LONGEST_QUERY = re.compile(r"[!-~]+"), 4_000  # of a nextLink: what a request line can hold
_LONGEST_INTEGER = 4_300  # digits; Python's int and msgspec's have an end there


class Unbounded:
    """A number that no double holds, as it is written."""

    def __init__(self, text: str) -> None:
        self.text = text


class NoJSONError(ValueError):
    """A number that JSON doesn't have."""


class TooDeepError(ValueError):
    """JSON that is nested deeper than this program, or Postgres, can hold."""


class Answer(NamedTuple):
    """A good page: its rows as raw JSON, its count where asked, and the characters that were replaced.

    A row may be no JSON at all: then `flatten` makes a reject of it. `next_query`: the query of its nextLink, as sent;
    where else the link leads is nothing to follow.
    """

    rows: tuple[bytes, ...]
    total: int | None
    replaced_characters: int
    next_query: str | None = None


class _Envelope(msgspec.Struct):
    value: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    count: object = msgspec.field(default=None, name="@odata.count")
    plain_count: object = msgspec.field(default=None, name="@count")  # its name in OData 4.01
    next_link: object = msgspec.field(default=None, name="@odata.nextLink")
    plain_next_link: object = msgspec.field(default=None, name="@nextLink")

    @property
    def next_query(self) -> str | None:
        """The query of the nextLink, if there is one."""
        link = self.plain_next_link if self.next_link is None else self.next_link
        query = link.partition("?")[2].partition("#")[0] if isinstance(link, str) else ""
        return query if query and len(query) <= _LONGEST_QUERY and _QUERY.fullmatch(query) else None

    @property
    def total(self) -> int | None:
        """How many rows the source counts: a number, or one as text, as of a service with IEEE754Compatible."""
        count = self.plain_count if self.count is None else self.count
        if isinstance(count, str):
            return int(count) if re.fullmatch(r"[0-9]{1,18}", count) else None
        return count if isinstance(count, int) and not isinstance(count, bool) else None


_envelope = msgspec.json.Decoder(_Envelope)
_encoder = msgspec.json.Encoder(enc_hook=lambda value: value.text)
_raw = msgspec.json.Decoder(msgspec.Raw)


def decode(data: bytes | str) -> tuple[object, int]:
    """Return any JSON, with the characters that Postgres can't store replaced, and how many they were.

    A number that no double holds comes as its text, Unbounded. Raises ValueError: TooDeepError among them.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        value = _decode_leniently(data)
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    if "\\u" not in text and not _UNSTORABLE.search(text):
        return value, 0
    return _storable(value)


def encode(value: object) -> str:
    """Return what `decode` gives as JSON text for a jsonb column; a number that no double holds is a text there."""
    return _encoder.encode(value).decode()


def parse_page(body: bytes) -> Answer:
    """Return the rows of an answer of the collection. Raises BadAnswer unless it is an object with a list and no error.

    Rows that are no JSON are cut out of it where nothing else is wrong with it; one that was cut short stays bad.
    """
    replaced = 0
    try:
        envelope, rows = _opened(body)
        for row in rows:  # msgspec doesn't look inside of what it leaves raw
            if not row.isascii():
                row.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        body, replaced = _repaired(body)
        try:
            envelope, rows = _opened_by_hand(body)
        except (msgspec.MsgspecError, RecursionError):
            what = "an HTML page, as of a gateway or a proxy" if _is_html(body) else "no JSON, or was cut short"
            raise BadAnswer(f"the answer is no page of jobs: it is {what}") from None
    if envelope.error is not msgspec.UNSET and bytes(envelope.error) != b"null":
        raise BadAnswer(f"the answer is an error inside a 200: {error_message(body)}")
    if envelope.value is msgspec.UNSET:
        raise BadAnswer("the answer has no list of jobs")
    return Answer(rows, envelope.total, replaced, envelope.next_query)


class _Acceptance(msgspec.Struct):
    job_id: object = msgspec.field(default=None, name="jobId")
    error: object = None


def is_answer_about(job_id: str, body: bytes) -> bool:
    """Whether an answer to a rerun is one: an object that speaks of that job, and of no error."""
    try:
        answer = msgspec.json.decode(body, type=_Acceptance)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return answer.error is None and str(answer.job_id).lower() == job_id.lower()


def error_message(body: bytes) -> str:
    """What an error answer says, in a line and without addresses (they may be document links).

    It is shortened by whole words: who looks for a secret in it afterwards must not find half of one.
    """
    return harmless(_said(body)) or "no message"


def harmless(said: str) -> str:
    """A text of the source's for a message: in a line, without addresses, people, keys or what steers a terminal."""
    said = _shortened(shown(storable(said[:_LONGEST_TEXT])), _LONGEST_SCRUBBED)
    for escaped, plain in (("\\/", "/"), ("%2F", "/"), ("%2f", "/"), ("%3A", ":"), ("%3a", ":")):
        said = said.replace(escaped, plain)
    return _shortened(re.sub(_WITHHELD, "(withheld)", said), _LONGEST_MESSAGE)


def _shortened(text: str, characters: int) -> str:
    return shorten(text, characters, placeholder=" …", break_long_words=False, break_on_hyphens=False)


def _is_html(body: bytes) -> bool:
    return b"<html" in body[:2000].lower()


def _said(body: bytes) -> str:
    """An error in the words of whoever answered: the service, a gateway in front of it, or a page for people."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        if body.lstrip()[:1] in (b"{", b"["):  # rows, perhaps
            return "JSON that was cut short"
        return "an HTML page" if _is_html(body) else body[:_LONGEST_TEXT].decode("utf-8", "replace")
    if not isinstance(value, dict):
        return ""
    error = value.get("error", value)
    if not isinstance(error, dict):
        return f"{error or ''} {value.get('error_description') or ''}"
    return str(error.get("message") or error.get("Message") or "")


def _opened(body: bytes) -> tuple[_Envelope, tuple[bytes, ...]]:
    """A page's envelope and its rows, raw. Raises msgspec.MsgspecError, RecursionError where a row is nested deeply."""
    envelope = _envelope.decode(body)
    return envelope, () if envelope.value is msgspec.UNSET else tuple(bytes(row) for row in envelope.value)


def _opened_by_hand(body: bytes) -> tuple[_Envelope, tuple[bytes, ...]]:
    """The same, where a row that is nested too deeply, or is no JSON, is its own fault alone."""
    try:
        return _opened(body)
    except (msgspec.MsgspecError, RecursionError):
        around, rows = _split(body)
        envelope, inside = _opened(around)
        if inside or not _are_certain(rows):
            raise
        return envelope, rows


def _are_certain(rows: Sequence[bytes]) -> bool:
    """Whether the rows that a page was cut into are its rows.

    Where one is no JSON, a quote that isn't escaped may have made text of brackets, or brackets of text. So all of them
    must be objects, and each that is no JSON must have the form of one, to which such a quote doesn't lead unless its
    text was made for that. Then it doesn't matter how many they are. Any other page can only be asked for in parts.
    """
    spoilt = [row for row in rows if not _is_json(row)]
    return not spoilt or (
        all(row.lstrip().startswith(b"{") for row in rows) and all(_find_members(row) is not None for row in spoilt)
    )


def _is_json(row: bytes) -> bool:
    """Whether a row is JSON; one that is nested too deeply counts as such."""
    try:
        _raw.decode(row)
    except RecursionError:
        return True
    except msgspec.MsgspecError:
        return False
    return True


def read_loosely(row: bytes, names: Collection[str]) -> dict[str, object]:
    """Return what these properties of a row that is no JSON hold, as far as each can be read by itself.

    Only the row's own are looked at, never what stands in its texts, lists and objects; one that is there twice is left
    out. Nothing is read of a row that hasn't the form of an object.
    """
    wanted = {f'"{name}"'.encode(): name for name in names}
    members = [(wanted[name], value) for name, value in _find_members(row) or () if name in wanted]
    counted = Counter(name for name, _ in members)
    found: dict[str, object] = {}
    for name, value in members:
        if counted[name] == 1 and value:
            with suppress(msgspec.MsgspecError, UnicodeError):
                found[name] = msgspec.json.decode(value)
    return found


def _find_members(row: bytes) -> list[tuple[bytes, bytes]] | None:
    """The names and values, raw, of a row that has the form of an object; None where it hasn't.

    Its texts may hold anything, escapes that there aren't and line ends too; there may be words that JSON doesn't know,
    a comma too many, or a value too few. Lists and objects inside of it are empty here.
    """
    if not row.lstrip().startswith(b"{"):
        return None
    members: list[tuple[bytes, bytes]] = []
    opened: list[bytes] = []
    wanted, name, end = "value", b"", 0
    while match := _LOOSE_TOKEN.match(row, end):
        token, end = match[1], match.end()
        if token in b"{[":
            if wanted != "value":
                return None
            opened.append(token)
            wanted = "name" if token == b"{" else "value"
        elif token in b"}]":
            if not opened or opened.pop() != _OPENING[token] or wanted == "colon":
                return None
            wanted = "comma" if opened else "end"
            if len(opened) == 1:
                members.append((name, b""))
        elif token == b":":
            if wanted != "colon":
                return None
            wanted = "value"
        elif not opened:
            return None
        elif token == b",":
            if wanted == "colon":
                return None
            wanted = "name" if opened[-1] == b"{" else "value"
        elif wanted == "name" and token[:1] == b'"':
            wanted, name = "colon", token if len(opened) == 1 else name
        elif wanted == "value":
            wanted = "comma"
            if len(opened) == 1:
                members.append((name, token))
        else:
            return None
    return members if wanted == "end" and not row[end:].strip() else None


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
                return body[:first] + body[token.start() :], tuple(rows if any(map(bytes.strip, rows)) else ())
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
    invalid = 0
    try:
        text = body.decode(encoding, "surrogatepass")
    except UnicodeDecodeError:
        text = body.decode(encoding, "replace")
        invalid = text.count(_REPLACEMENT) - body.decode(encoding, "ignore").count(_REPLACEMENT)
    lone = sum(escape["lone"] is not None for escape in _ESCAPES.finditer(text))
    text = _ESCAPES.sub(lambda escape: "\\ufffd" if escape["lone"] else escape[0], text)
    text, raw = _SURROGATES.subn(_REPLACEMENT, text)
    return text.encode(), lone + raw + invalid


def shallow(row: bytes) -> bytes:
    """A row with null in the place of every list and object inside it: what is left is never nested too deeply."""
    kept, depth, begin = bytearray(), 0, 0
    for token in _TOKENS.finditer(row):
        mark = token[0][:1]
        if mark in b"[{":
            depth += 1
            if depth == 2:
                kept += row[begin : token.start()] + b"null"
        elif mark in b"]}":
            depth -= 1
            if depth == 1:
                begin = token.end()
    return bytes(kept + row[begin:]) if depth == 0 else b""


def _decode_leniently(data: bytes | str) -> object:
    try:
        return json.loads(data, parse_constant=_refuse_constant, parse_float=_read_float, parse_int=_read_integer)
    except RecursionError:
        raise TooDeepError("nested too deeply") from None


def _refuse_constant(name: str) -> object:
    raise NoJSONError(f"{name} is no number of it")


def _read_float(text: str) -> float | Unbounded:
    number = float(text)
    return number if math.isfinite(number) else Unbounded(text)


def _read_integer(text: str) -> int | Unbounded:
    return int(text) if len(text) <= _LONGEST_INTEGER else Unbounded(text)


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
