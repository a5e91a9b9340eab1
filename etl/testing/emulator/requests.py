"""A request as it comes in: which call it is, and what is kept of it in the log."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

_ROUTES = (
    ("token", "POST", re.compile(r"(.*)/authentication/v1/authentication/token", re.IGNORECASE)),
    ("collection", "GET", re.compile(r"(.*)/jobsmanagement/odata/v1\.0/backgroundjob", re.IGNORECASE)),
    ("job", "GET", re.compile(r"(.*)/jobsmanagement/v1\.0/backgroundjob/([^/]+)", re.IGNORECASE)),
    ("rerun", "POST", re.compile(r"(.*)/jobsmanagement/v1\.0/backgroundjob/([^/]+)/rerun", re.IGNORECASE)),
    ("document", "GET", re.compile(r"(.*)/documentmanagement/v1\.0/aimsdocument/([^/]+)(?:/[^/]+)?", re.IGNORECASE)),
)


@dataclass(frozen=True, slots=True)
class Request:
    """A call that was made and what came of it: `fault` is "" if nothing went wrong on purpose.

    Header names are in lower case; of Authorization only the scheme is kept. `time` is the world's. `raw_query` is what
    was sent.
    """

    method: str
    path: str
    raw_query: str
    headers: dict[str, str]
    time: datetime
    status: int = 0
    fault: str = ""

    @property
    def query(self) -> dict[str, str]:
        """What was sent, decoded for reading."""
        parts = (part.partition("=") for part in self.raw_query.split("&") if part)
        return {unquote(name): unquote(value) for name, _, value in parts}


@dataclass(frozen=True, slots=True)
class Call:
    """Which call a request is ("nothing" for none), the job it names ("" for none), and the service's address."""

    what: str
    job_id: str
    base: str
    request: Request
    authorization: str
    prefer: str


def call_of(environ: dict[str, Any], now: datetime) -> Call:
    """Read a WSGI environment."""
    raw = environ.get("QUERY_STRING", "")
    # WSGI hands paths over as latin-1
    path = environ.get("PATH_INFO", "").encode("latin-1", "replace").decode("utf-8", "replace")
    method = environ["REQUEST_METHOD"]
    request = Request(method, path, raw, _headers(environ), now)
    what, prefix, job_id = _route(method, path)
    host = environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")
    base = f"{environ.get('wsgi.url_scheme', 'http')}://{host}{prefix}"
    return Call(what, job_id, base, request, environ.get("HTTP_AUTHORIZATION", ""), environ.get("HTTP_PREFER", ""))


def body_of(environ: dict[str, Any], at_most: int = 1 << 20) -> bytes:
    """The body of a WSGI request, as far as Content-Length and `at_most` bytes go."""
    length = str(environ.get("CONTENT_LENGTH") or "0")
    body: bytes = environ["wsgi.input"].read(min(int(length), at_most)) if length.isdecimal() else b""
    return body


def address(base: str, options: dict[str, str]) -> str:
    """An address with these query options, percent-encoded as the service writes its nextLink."""
    query = "&".join(f"{quote(name, safe='$')}={quote(value, safe='')}" for name, value in options.items())
    return f"{base}?{query}" if query else base


def _route(method: str, path: str) -> tuple[str, str, str]:
    for what, verb, pattern in _ROUTES:
        if verb == method and (found := pattern.fullmatch(path)):
            prefix, *job_id = found.groups()
            return what, prefix, job_id[0] if job_id else ""
    return "nothing", "", ""


def _headers(environ: dict[str, Any]) -> dict[str, str]:
    headers = {name[5:].replace("_", "-").lower(): str(environ[name]) for name in environ if name.startswith("HTTP_")}
    if "authorization" in headers:
        headers["authorization"] = headers["authorization"].partition(" ")[0]
    return headers
