"""Values of another form than the documented one, read as what they plainly mean. Pure.

The source changes the form of a value now and then: 99.5 for a whole number, "30" for 30, an empty text for no date.
What such a value plainly means is stored; any other is left to `extra`, and only its form is told: its JSON type and
the shape of its text, in which no value can be recognised.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from etl.client import odata
from etl.client.payload import Unbounded

Reader = Callable[[Any], object]

LONGEST_LABEL = 150  # characters; it is indexed, and a btree entry holds 2,700 bytes
LONGEST_NUMBER = 40  # characters; Postgres' numeric has an end
LONGEST_FORM = 40  # characters
_INTEGERS = range(-(2**31), 2**31)  # of the columns
_LARGEST_SIZE = 400  # digits before the point, or zeros behind it
_PLAIN_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?")
_ANSWERS = {"yes": True, "no": False, "true": True, "false": False, "y": True, "n": False, "1": True, "0": False}
_SHAPES = ((re.compile(r"[^\W\d_]+"), "a"), (re.compile(r"\d"), "9"), (re.compile(r"\s+"), " "))
_NO_SHAPE = re.compile(r"[^a9 .,:/+-]")


class UnreadableError(ValueError):
    """A value doesn't plainly mean anything that its column holds."""


def read_values(
    values: Mapping[str, object], readers: Mapping[str, Reader]
) -> tuple[dict[str, object], dict[str, object]]:
    """Return the values as strictly typed as documented, and those that can't be read, which are None among the first.

    Values without a reader, and null, are left as they are.
    """
    readable, unread = dict(values), {}
    for name, value in values.items():
        reader = readers.get(name)
        if reader is None or value is None:
            continue
        try:
            readable[name] = reader(value)
        except UnreadableError:
            readable[name], unread[name] = None, value
    return readable, unread


def read_integer(value: object) -> int | None:
    """Return a whole number of four bytes; one with a fraction is rounded, half to even. An empty text is none."""
    number: object = value
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        number = Decimal(text) if _PLAIN_NUMBER.fullmatch(text) else None
    if isinstance(number, float | Decimal):
        number = round(number)
    if not isinstance(number, int) or isinstance(number, bool) or number not in _INTEGERS:
        raise UnreadableError
    return number


def read_version(value: object) -> object:
    """Return a rowversion as its base64; a number is one that the service writes as such. Anything else as it came."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    return b64encode(value.to_bytes(8)).decode() if is_number else value  # type: ignore[attr-defined]


def read_key(value: object) -> object:
    """Return a key as the whole number that it plainly is; anything else as it came, which the row is rejected for."""
    is_whole = isinstance(value, float) and value.is_integer()
    is_number = is_whole or (isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value.strip()) is not None)
    return int(value) if is_number else value  # type: ignore[call-overload]


def read_size(value: object) -> float | str | None:
    """Return a size as a number, or as the text of one. An empty text is none."""
    if isinstance(value, str):
        text = value.strip()
        if text and not is_size(text):
            raise UnreadableError
        return text or None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise UnreadableError
    try:
        return float(value)
    except OverflowError:
        raise UnreadableError from None


def is_size(text: str) -> bool:
    """Whether a text is a number that a column of type numeric holds."""
    is_number = len(text) <= LONGEST_NUMBER and _PLAIN_NUMBER.fullmatch(text) is not None
    return is_number and abs(Decimal(text).adjusted()) < _LARGEST_SIZE


def read_answer(value: object) -> bool | None:
    """Return whether a value says yes: true, 1, "Yes" in any letters. An empty text is none."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        text = value.strip().lower()
        if not text:
            return None
        if text in _ANSWERS:
            return _ANSWERS[text]
    raise UnreadableError


def read_date(value: object) -> str | None:
    """Return a date as it is written, once it can be read; None for an empty text."""
    if not isinstance(value, str):
        raise UnreadableError
    text = value.strip()
    try:
        odata.read_date(text)
    except ValueError:
        raise UnreadableError from None
    return text or None


def read_text(value: object) -> str:
    """Return a text, or a number as one."""
    if isinstance(value, str):
        return value
    if isinstance(value, Unbounded):
        return value.text
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    raise UnreadableError


def read_label(value: object) -> str:
    """Return a text that isn't too long for an index, or a number as one."""
    text = read_text(value)
    if len(text) > LONGEST_LABEL:
        raise UnreadableError
    return text


def read_etag(value: object) -> str | None:
    """Return an etag; None for one that is no text, which tells no version."""
    return value if isinstance(value, str) else None


def describe_form(value: object) -> str:
    """Return the form of a value without the value: its JSON type, and the shape of its text.

    In a shape a word is one letter, a digit is a 9, and of other characters only those stay that dates and numbers
    have: "text 99 a" for "30 days".
    """
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float | Unbounded):
        return _shape("number", value.text if isinstance(value, Unbounded) else repr(value))
    if isinstance(value, str):
        return _shape("text", value)
    return "list" if isinstance(value, list) else "object"


def _shape(kind: str, text: str) -> str:
    text = text[:200]
    for pattern, replacement in _SHAPES:
        text = pattern.sub(replacement, text)
    return f"{kind} {_NO_SHAPE.sub('?', text)}"[:LONGEST_FORM].rstrip()
