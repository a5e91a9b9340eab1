"""What the service says, as values: pages, objects, errors, and the answers of a bad day."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from hashlib import blake2b
from http import HTTPStatus
from typing import Any
from uuid import UUID

from etl.testing.emulator.job_version import Job
from etl.testing.emulator.service_options import EndedToken

JSON = "application/json; odata.metadata=minimal"
HTML = "text/html; charset=utf-8"
_PAGE = "<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{heading}</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a body and its headers; Content-Length is left to whoever sends it.

    `fault` is how the log names what went wrong on purpose, "" if nothing did.
    """

    status: int
    body: bytes
    kind: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    fault: str = ""

    def dated(self, now: datetime) -> "Answer":
        """The answer with its Content-Type and the Date of this moment."""
        common = (("Content-Type", self.kind), ("Date", http_date(now)))
        return replace(self, headers=(*common, *self.headers))

    def started(self, start_response: Callable[..., Any]) -> None:
        """Tell WSGI the status and the headers."""
        start_response(self.status_line, [*self.headers, ("Content-Length", str(len(self.body)))])

    @property
    def status_line(self) -> str:
        """`200 OK`."""
        return f"{self.status} {HTTPStatus(self.status).phrase}"


def http_date(moment: datetime) -> str:
    """A moment (UTC) as HTTP writes it, cut to the second."""
    return format_datetime(moment, usegmt=True)


def plain_json(status: int, value: Any) -> Answer:
    """Any JSON."""
    return Answer(status, json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def error(status: int, code: str, message: str) -> Answer:
    """An error as OData words it."""
    return plain_json(status, {"error": {"code": code, "message": message}})


def html_page(status: int, title: str = "Service unavailable", heading: str = "Please wait") -> Answer:
    """A page of HTML, as gateways and web servers send it."""
    return Answer(status, _PAGE.format(title=title, heading=heading).encode(), HTML)


def page(
    context: str, rows: list[bytes], count: int | None, link: str | None, preferred: int | None, minimal: bool = False
) -> Answer:
    """A page of the collection; `preferred` is the page size that was asked for and granted; `minimal`: OData 4.01."""
    at = b"@" if minimal else b"@odata."
    head = [b'{"%scontext":' % at + json.dumps(context).encode()]
    if count is not None:
        head.append(b'"%scount":%d' % (at, count))
    tail = [] if link is None else [b'"%snextLink":' % at + json.dumps(link).encode()]
    body = b",".join([*head, b'"value":[' + b",".join(rows) + b"]", *tail]) + b"}"
    version = ("OData-Version", "4.01" if minimal else "4.0")
    applied = (("Preference-Applied", f"odata.maxpagesize={preferred}"),) if preferred else ()
    return Answer(200, body, JSON.replace("odata.", "") if minimal else JSON, (version, *applied))


def rerun_answer(job: Job, shows_run: bool) -> Answer:
    """What a caller gets for a job put back on the queue. `shows_run`: with `jobRunId` and an undocumented property."""
    row = job.payload()
    job_part = {
        "jobId": row.get("jobID"),
        "jobStatus": row.get("jobStatus"),
        "publishLink": row.get("publishLink"),
        "publishLinkAccessScope": str(row.get("publishLinkAccessScope")).upper(),
    }
    run = {"jobRunId": guid(f"{job.job_id}/{job.attempts}"), "queuePosition": 1} if shows_run else {}
    return plain_json(200, {**job_part, **run})


def failed(fault: str, now: datetime) -> Answer:
    """The answer of a fault that isn't a matter of the wire, nor of a token."""
    match fault:
        case "429-seconds":
            return throttled(2)
        case "429-date":
            return replace(throttled(), headers=(("Retry-After", http_date(now + timedelta(seconds=2))),))
        case "429-bare":
            return throttled()
        case "html":
            return html_page(200)
        case "error-in-200":
            return error(200, "InternalError", "The operation could not be completed.")
        case "500":
            return server_error()
        case "overload":
            return error(400, OVERLOAD, "The request could not be processed. Please try again later.")
        case "overload-bare":
            return plain_json(400, {"Message": "An error has occurred."})
        case "403-html":
            return forbidden_page()
        case "404-html":
            return not_found_page()
        case "invalid_grant":
            return not_granted()
    return html_page(int(fault))


OVERLOAD = "Request_ProcessingFailed"
"""The code of an error that means: ask again later."""


def server_error() -> Answer:
    """An unhandled exception of the service."""
    return error(500, "InternalServerError", "An error has occurred.")


def forbidden_page() -> Answer:
    """IIS refuses a request."""
    return html_page(403, "403 - Forbidden: Access is denied.", "403 - Forbidden: Access is denied.")


def not_found_page() -> Answer:
    """IIS doesn't know the address."""
    return html_page(404, "404 - File or directory not found.", "404 - File or directory not found.")


def with_request_id(answer: Answer, number: int, always: bool) -> Answer:
    """Return the answer, if it is a JSON error, with the `requestId` of the request with this number.

    Unless `always` is set, only an overload has one.
    """
    if not answer.body.startswith(b'{"error"') or not (always or OVERLOAD.encode() in answer.body):
        return answer
    return replace(answer, body=b'{"requestId": "%s", ' % guid(f"request {number}").encode() + answer.body[1:])


def guid(name: str) -> str:
    """Return a GUID, the same for the same name."""
    return str(UUID(bytes=blake2b(name.encode(), digest_size=16).digest(), version=4))


def throttled(after: int | None = None) -> Answer:
    """Too many requests; `after` seconds there may be more, where that is told."""
    answer = error(429, "TooManyRequests", "Rate limit is exceeded. Try again later.")
    return answer if after is None else replace(answer, headers=(("Retry-After", str(after)),))


def unauthorized(message: str = "Authorization has been denied for this request.") -> Answer:
    """No token, or none that holds."""
    return error(401, "Unauthorized", message)


def token_ended(form: EndedToken, message: str) -> Answer:
    """A token that isn't valid, in one of the forms of the service."""
    match form:
        case "403":
            return error(403, "AuthenticationFailed", message)
        case "400":
            return error(400, "InvalidAuthenticationInfo", message)
        case "401-invalid-token":
            challenge = f'Bearer error="invalid_token", error_description="{message}"'
            return replace(unauthorized(message), headers=(("WWW-Authenticate", challenge),))
    return unauthorized(message)


def not_granted() -> Answer:
    """The password grant is refused."""
    refusal = {"error": "invalid_grant", "error_description": "The user name or password is incorrect."}
    return plain_json(400, refusal)
