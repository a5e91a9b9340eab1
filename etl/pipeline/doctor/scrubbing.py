"""Texts, queries, addresses and headers with a shape in the place of whatever may be a value. Pure.

What is shown is on a list (`vocabulary`) or was written by this program; everything else is a kind and a length:
TEXT(54), DATE(24), NUMBER(5).
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from etl.client import payload
from etl.client.attempts import COLLECTION
from etl.client.auth import SIGN_IN
from etl.client.client import JOB
from etl.client.sender import JOBS
from etl.pipeline.doctor import vocabulary

_QUOTED = re.compile(r"'((?:[^']|'')*)'")
_CHUNK = re.compile(r"[^\s(),=&|]+")
_WORD = re.compile(r"[^\s'\"`(),;:<>\[\]{}=]+(?:'t\b)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)?", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)
_SHORT_NUMBER = re.compile(r"\d{1,3}", re.ASCII)
_BY_KEY = re.compile(r"([A-Za-z]+)([-:])(.+)", re.DOTALL)  # of a $skiptoken
_NUMBERS = frozenset({"$top", "$skip", "pagesize"})  # options whose short numbers say nothing of a job
_NAME = re.compile(r"[A-Za-z]{1,40}")
_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z-]{0,39}")
_LONGEST = 2_000  # characters of what is shown
_METADATA = COLLECTION.rpartition("/")[0] + "/$metadata"
_PATHS = {COLLECTION: "that of the collection", _METADATA: "that of the metadata"}
_PATHS |= {path.removeprefix(JOBS.rstrip("/")): f"{said}, without {JOBS}" for path, said in [*_PATHS.items()]}
# Headers whose value is shown, as far as it has the form that it should have.
_SHOWN = {
    "odata-version": re.compile(r"\d(?:\.\d{1,2})?;?"),
    "preference-applied": re.compile(r"odata\.maxpagesize=\d{1,6}|maxpagesize=\d{1,6}"),
    "retry-after": re.compile(r"\d{1,6}(?:\.\d{1,3})?"),
    "content-encoding": re.compile(r"gzip|br|deflate|zstd|identity"),
    "server": re.compile(
        r"(?:Microsoft-IIS|Microsoft-HTTPAPI|Microsoft-Azure-Application-Gateway|Kestrel|nginx|Apache|cloudflare|envoy)"
        r"(?:/v?\d{1,3}(?:\.\d{1,3}){0,3})?"
    ),
    "date": re.compile(r"(?!)"),
}
_PARAMETER = re.compile(
    r"charset=utf-8|odata\.metadata=(?:minimal|full|none)|(?:odata\.)?streaming=(?:true|false)"
    r"|IEEE754Compatible=(?:true|false)",
    re.IGNORECASE,
)
_HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")


def show_name(name: str, *, is_of_row: bool = False) -> str:
    """Return the name of a property where it says nothing of anybody: else its length.

    A row's own may be any name of letters: they are the service's. What lies deeper may be a customer's, and is shown
    only if it is documented, or one of the framework's.
    """

    def is_harmless(part: str) -> bool:
        return bool(_NAME.fullmatch(part)) if is_of_row else part.lower() in vocabulary.NAMES

    own, at, annotation = name.partition("@")
    if name in vocabulary.ANNOTATIONS or is_harmless(name):
        return name
    if at and is_harmless(own) and f"@{annotation}" in vocabulary.ANNOTATIONS:
        return name
    return f"(a name of {len(name)} characters)"


def shape_message(text: str) -> str:
    """Return what a server says, with only the words that are known to be no secret."""

    def replace(found: re.Match[str]) -> str:
        word = found[0].strip(".!?")
        if not word or word.lower() in vocabulary.WORDS or _SHORT_NUMBER.fullmatch(word):
            return found[0]
        return _shape(word)

    return _WORD.sub(replace, payload.harmless(text[:_LONGEST]))


def shape_code(code: object) -> str:
    """Return the code of an error, if it is a known word."""
    text = str(code)
    return text if not text or text.lower() in vocabulary.WORDS else _shape(text)


def shape_query(query: str) -> str:
    """Return a query, its literals as shapes."""
    return "&".join(_shape_option(part) for part in query[:_LONGEST].split("&")) if query else ""


def _shape_option(part: str) -> str:
    name, equals, value = part.partition("=")
    name, value = unquote(name), unquote(value)
    if name not in vocabulary.OPTIONS:
        return f"(a name of {len(name)} characters){equals}{_shape(value) if value else ''}"
    if name in _NUMBERS and _SHORT_NUMBER.fullmatch(value):
        return f"{name}={value}"
    if name == "$skiptoken" and (found := _BY_KEY.fullmatch(value)) and found[1].lower() in vocabulary.PROPERTIES:
        return f"{name}={found[1]}{found[2]}{shape_expression(found[3])}"
    return f"{name}{equals}{shape_expression(value)}"


def shape_expression(text: str) -> str:
    """Return a condition or a list of names, its literals as shapes."""
    parts, end = [], 0
    for quoted in _QUOTED.finditer(text):
        parts += [_shape_terms(text[end : quoted.start()]), f"'TEXT({len(quoted[1])})'"]
        end = quoted.end()
    return "".join([*parts, _shape_terms(text[end:])])


def _shape_terms(text: str) -> str:
    return _CHUNK.sub(lambda found: found[0] if found[0].lower() in vocabulary.TERMS else _shape(found[0]), text)


def _shape(text: str) -> str:
    """Return the kind and the length of a value."""
    if _DATE.fullmatch(text):
        return f"DATE({len(text)})"
    return f"{'NUMBER' if _DIGITS.fullmatch(text) else 'TEXT'}({len(text)})"


def shape_address(address: str) -> tuple[str, str]:
    """Return path and query of a request that this program made, as it is heard of."""
    path, _, query = address.partition("?")
    if path in (COLLECTION, SIGN_IN):
        return path, shape_query(query)
    if path.startswith(f"{JOB}/"):
        return f"{JOB}/TEXT({len(path) - len(JOB) - 1})", shape_query(query)
    return f"(another path of {len(path)} characters)", shape_query(query)


def shape_link(link: object, base_url: str) -> dict[str, object]:
    """Return where a link of an answer leads: to which host and path, with which options."""
    if not isinstance(link, str):
        return {"type": type(link).__name__}
    try:
        parts, own = urlsplit(link), urlsplit(base_url)
    except ValueError:
        return {"length": len(link), "form": "no address"}
    path = parts.path.removeprefix(own.path.rstrip("/"))
    host = "none" if not parts.netloc else "own" if parts.netloc.lower() == own.netloc.lower() else "other"
    return {
        "length": len(link),
        "host": host,
        "scheme": "same" if parts.scheme == own.scheme else "other" if parts.scheme else "none",
        "path": _PATHS.get(path, f"another, of {path.count('/')} parts"),
        "query": shape_query(parts.query),
        "has_fragment": bool(parts.fragment),
    }


def shape_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of an answer: the values of a few, if they have a known form; of all others the lengths."""
    return {_show_header_name(name): _shape_header(name.lower(), value) for name, value in sorted(headers.items())}


def _show_header_name(name: str) -> str:
    is_shown = name.lower() in vocabulary.HEADERS or _HEADER_NAME.fullmatch(name)
    return name.lower() if is_shown else f"(a name of {len(name)} characters)"


def _shape_header(name: str, value: str) -> str:
    pattern = _SHOWN.get(name)
    if pattern is not None and pattern.fullmatch(value):
        return value
    if name in ("date", "retry-after") and _HTTP_DATE.fullmatch(value):
        return f"a date of HTTP ({len(value)} characters)"
    if name == "content-type":
        media, *parameters = (part.strip() for part in value.split(";"))
        shown = [part if _PARAMETER.fullmatch(part) else _shape(part) for part in parameters]
        return "; ".join([media if media.lower() in vocabulary.MEDIA_TYPES else _shape(media), *shown])
    return f"{len(value)} characters"
