"""What the service says, as values: pages, objects, errors, and the answers of a bad day."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any

from etl.testing.emulator.job_version import Job

JSON = "application/json; odata.metadata=minimal"
_HTML = b"<!DOCTYPE html><html><head><title>Service unavailable</title></head><body><h1>Please wait</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a body and its headers; Content-Length is left to whoever sends it."""

    status: int
    body: bytes
    kind: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

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


def page(context: str, rows: list[bytes], count: int | None, link: str | None, preferred: int | None) -> Answer:
    """A page of the collection; `preferred` is the page size that was asked for and granted."""
    head = [b'{"@odata.context":' + json.dumps(context).encode()]
    if count is not None:
        head.append(b'"@odata.count":%d' % count)
    tail = [] if link is None else [b'"@odata.nextLink":' + json.dumps(link).encode()]
    body = b",".join([*head, b'"value":[' + b",".join(rows) + b"]", *tail]) + b"}"
    applied = (("Preference-Applied", f"odata.maxpagesize={preferred}"),) if preferred else ()
    return Answer(200, body, headers=applied)


def rerun_answer(job: Job) -> Answer:
    """What a caller gets for a job put back on the queue."""
    row = job.payload()
    told = {
        "jobId": row.get("jobID"),
        "jobStatus": row.get("jobStatus"),
        "publishLink": row.get("publishLink"),
        "publishLinkAccessScope": str(row.get("publishLinkAccessScope")).upper(),
    }
    return plain_json(200, told)


def failed(fault: str, now: datetime) -> Answer:
    """The answer of a fault that isn't a matter of the wire."""
    match fault:
        case "429-seconds":
            return throttled(2)
        case "429-date":
            return replace(throttled(), headers=(("Retry-After", http_date(now + timedelta(seconds=2))),))
        case "429-bare":
            return throttled()
        case "html":
            return Answer(200, _HTML, "text/html; charset=utf-8")
        case "error-in-200":
            return error(200, "InternalError", "The operation could not be completed.")
        case "expired-token":
            return error(401, "Unauthorized", "The access token has expired.")
        case "500":
            return error(500, "InternalServerError", "An error has occurred.")
    return Answer(int(fault), _HTML, "text/html; charset=utf-8")


def throttled(after: int | None = None) -> Answer:
    """Too many requests; `after` seconds there may be more, where that is told."""
    answer = error(429, "TooManyRequests", "Rate limit is exceeded. Try again later.")
    return answer if after is None else replace(answer, headers=(("Retry-After", str(after)),))


def unauthorized() -> Answer:
    """No token, or none that holds."""
    return error(401, "Unauthorized", "Authorization has been denied for this request.")


def not_granted() -> Answer:
    """The password grant is refused."""
    refusal = {"error": "invalid_grant", "error_description": "The user name or password is incorrect."}
    return plain_json(400, refusal)
