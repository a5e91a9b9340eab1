"""What the source says, as JSON: a page's envelope and its rows, mended where they can be; what an error says. Pure.

Rows stay raw here: a row that can't be read is its own fault, and never the page's (correctness.md, "The upsert").
"""

import json
import re
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
    | [\w.+-]+@[\w.-]+                          # a person
    | (?:\b|_)(?:sig|key|token|code|secret|password|pwd|access\w*)=\S+
    | (?=\S*\d)[\w+/=.~%-]{25,}                   # a long word with digits: of no language
"""
# Characters of an error answer: looked at, scrubbed (which takes time by their square), and shown.
_LONGEST_TEXT, _LONGEST_SCRUBBED, _LONGEST_MESSAGE = 20_000, 2_000, 300
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# An escaped pair of surrogates, a lone one, and any other escape, so that a backslash is never taken for what it isn't.
_ESCAPES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{},]', re.DOTALL)
_SURROGATES = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


class Answer(NamedTuple):
    """A good page: its rows as raw JSON, its `@odata.count` where asked, and the characters that were replaced."""

    rows: tuple[bytes, ...]
    total: int | None
    replaced_characters: int


class _Envelope(msgspec.Struct):
    value: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    count: object = msgspec.field(default=None, name="@odata.count")


_envelope = msgspec.json.Decoder(_Envelope)


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
    count = envelope.count
    is_count = isinstance(count, int) and not isinstance(count, bool)
    return Answer(rows, count if is_count else None, replaced)  # type: ignore[arg-type]


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
