"""What was asked of a service and what it answered, without a value: a file that users send to the authors.

It is how this project meets the real service. What stands in it is shapes, counts and words of a fixed list; it is
tested for secrets like everything else.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from etl import __version__
from etl.client import payload
from etl.errors import BadAnswer
from etl.models import Exchange
from etl.pipeline.doctor.checks import Check, Finding, Reading
from etl.pipeline.doctor.scrubbing import (
    shape_address,
    shape_code,
    shape_headers,
    shape_link,
    shape_message,
    shape_query,
    show_name,
)
from etl.pipeline.doctor.shapes import Shape

if TYPE_CHECKING:
    from etl.client.answers import Answer

_ABOUT = (
    "Written by `aims360-etl doctor --report`, to be sent to the authors of aims360-etl. It holds what was asked of "
    "the AIMS360 service, with TEXT(n), DATE(n) and NUMBER(n) in the place of values of n characters; statuses and "
    "seconds; names and lengths of headers; of answers the names of properties, and types, lengths and spellings of "
    "values. It holds no values: no names of people or accounts, no job ids, no links, no tokens or passwords, no "
    "addresses or hosts. Read it before you send it."
)
_FORMAT = 1
_HEADINGS = re.compile(rb"<(title|h1|h2|h3)[^>]*>(.{1,300}?)</\1>", re.IGNORECASE | re.DOTALL)
_LINKS = {"context": ("@odata.context", "@context"), "next_link": ("@odata.nextLink", "@nextLink")}


class Report:
    """A report in the making: a chapter for each source."""

    def __init__(self) -> None:
        self._chapters: list[Chapter] = []

    def open(self, base_url: str) -> Chapter:
        """Return the chapter of another source."""
        self._chapters.append(Chapter(base_url))
        return self._chapters[-1]

    def encode(self) -> bytes:
        """Return the file."""
        report = {
            "about": _ABOUT,
            "format": _FORMAT,
            "program": f"aims360-etl {__version__}",
            "python": platform.python_version(),
            "sources": [chapter.show() for chapter in self._chapters],
        }
        return json.dumps(report, indent=1).encode() + b"\n"


class Chapter:
    """What was asked of one source, and what it answered; `hear` and `overhear` are for its client, of one thread."""

    def __init__(self, base_url: str) -> None:
        self._base = base_url
        self._requests: list[dict[str, object]] = []
        self._checks: list[dict[str, object]] = []

    def hear(self, exchange: Exchange) -> None:
        """Take in a request, and how it ended."""
        path, query = shape_address(exchange.address)
        entry: dict[str, object] = {"method": exchange.method, "path": path, "query": query}
        entry |= {"status": exchange.status, "seconds": exchange.seconds}
        self._requests.append(entry | ({"failed": exchange.failed} if exchange.failed else {}))

    def overhear(self, headers: Mapping[str, str], answer: Answer) -> None:
        """Take in the whole answer of the last request, which was made with these headers."""
        if not self._requests:
            return
        entry = self._requests[-1]
        entry |= {f"asked_with_{name.lower()}": value for name, value in headers.items() if name == "Prefer"}
        entry |= {"headers": shape_headers(answer.headers), "answer": describe_answer(answer, self._base)}

    def add_check(self, check: Check) -> None:
        """Take in how a check ended. What it says is left out: it may hold values."""
        shown: dict[str, object] = {"check": check.name, "standing": str(check.standing)}
        if isinstance(check.evidence, Finding):
            found = check.evidence
            shown |= {"capability": found.capability, "outcome": str(found.outcome), "limit": found.limit}
            shown |= {"asked": shape_query(found.asked), "is_plain": found.is_plain}
        elif isinstance(check.evidence, Reading):
            shown |= {name: getattr(check.evidence, name) for name in check.evidence.__slots__}
        self._checks.append(shown)

    def show(self) -> dict[str, object]:
        """Return it for the file."""
        parts = urlsplit(self._base)
        base = {"scheme": parts.scheme, "has_path": parts.path not in ("", "/")}
        return {"base": base, "checks": self._checks, "requests": self._requests}


def describe_answer(answer: Answer, base_url: str) -> dict[str, object]:
    """Return the shape of an answer's body: of a page, of another JSON, of an error, of anything else."""
    body = answer.body
    shown: dict[str, object] = {"bytes": len(body)}
    value = _decode(body)
    if answer.status == 200:
        try:
            page = payload.parse_page(body)
        except BadAnswer:
            pass
        else:
            return shown | _describe_page(page, value, base_url)
    if isinstance(value, dict):
        shape = Shape(urlsplit(base_url).netloc)
        shape.add(value)
        return shown | _describe_error(value) | {"form": "JSON", "shape": shape.show()}
    if value is not None:
        return shown | {"form": "JSON, and no object"}
    if not body:
        return shown | {"form": "empty"}
    if b"<html" not in body[:2_000].lower():
        return shown | {"form": "no JSON", "begins_like_json": body.lstrip()[:1] in (b"{", b"[")}
    headings = [text.decode("utf-8", "replace") for _, text in _HEADINGS.findall(body[:20_000])]
    return shown | {"form": "an HTML page", "headings": [shape_message(text) for text in headings[:5]]}


def _decode(body: bytes) -> object:
    try:
        return payload.decode(body)[0]
    except (ValueError, RecursionError):
        return None


def _describe_page(page: payload.Answer, value: object, base_url: str) -> dict[str, object]:
    """Return the shape of a page: what stands around its rows, and its rows as one."""
    envelope = value if isinstance(value, dict) else {}
    names = [show_name(name) for name in envelope]
    shown: dict[str, object] = {"form": "a page", "properties": names, "rows": len(page.rows)}
    for what, spellings in _LINKS.items():
        link = next((envelope[name] for name in spellings if name in envelope), None)
        shown[what] = None if link is None else shape_link(link, base_url)
    shown["count"] = None if page.total is None else f"a number of {len(str(page.total))} digits"
    shape, spoilt = Shape(urlsplit(base_url).netloc, is_row=True), 0
    for row in page.rows:
        try:
            shape.add(payload.decode(row)[0])
        except (ValueError, RecursionError):
            spoilt += 1
    return shown | {"rows_that_are_no_json": spoilt, "row": shape.show()}


def _describe_error(value: Mapping[str, object]) -> dict[str, object]:
    """Return what an error says, in known words; nothing where it is none."""
    error = value.get("error")
    if error is None:
        return {}
    inner = error if isinstance(error, dict) else {"message": error}
    message = inner.get("message") or inner.get("Message")
    shown: dict[str, object] = {"message": shape_message(message) if isinstance(message, str) else None}
    return shown | ({"code": shape_code(inner["code"])} if "code" in inner else {})
