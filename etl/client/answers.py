"""What an answer of the service means, in one place: a function of the answer and of what was asked. Pure.

Source of the rules: docs/correctness.md, "What the service says". The service says 400 where it is overloaded as
well as where it doesn't support a query, and 403 where too many requests are in flight as well as where a right is
missing; what tells these apart is the JSON of the answer, and what the same address answered before.
"""

import json
import re
from collections.abc import Mapping, Set
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import unquote

from etl.client import payload
from etl.errors import BadAnswer

OVERLOADED = frozenset({408, 425, 429, 500, 502, 503, 504})
TOO_LONG = frozenset({413, 414})
TOO_SLOW = frozenset({504})
LONG_QUERY = 1_000  # bytes; a longer one is shortened before it counts as refused
ENOUGH = 3  # refusals of one query, with another request answered after each
BETWEEN_REFUSALS = 30.0  # seconds

_PROCESSING_FAILED = "request_processingfailed"
# By the vendor's design AuthenticationFailed and InvalidAuthenticationInfo; others say InvalidToken, ExpiredAuthToken.
_TOKEN_CODE = re.compile(
    r"authentication(?:failed|info|token|required)|(?:invalid|expired)\w*token|token\w*(?:invalid|expired)"
)
_TOKEN_ENDED = re.compile(r"\btoken\b.{0,40}\b(?:expired|revoked|no longer valid|is invalid)\b", re.IGNORECASE)
_REQUEST_ID = re.compile(r"[\w.:-]{1,80}", re.ASCII)
_LONGEST_CODE = 200
# The framework's words for what it doesn't support (api.md, "What it refuses, and how").
_REFUSAL = re.compile(
    r"is not allowed|cannot be used in the|has been exceeded|not supported|could not find a property|"
    r"not implemented|doesn't support",
    re.IGNORECASE,
)
_TOO_MANY_NODES = re.compile(r"node count limit", re.IGNORECASE)
_OPTIONS = ("top", "skip", "count", "select", "orderby", "filter")
# The framework quotes what it names: 'ID', $filter, and "for Top query".
_QUOTED_NAMES = re.compile(r"(?:(?<=')|(?<=\bfor ))[A-Za-z]\w*(?='| query)|(?<=\$)[A-Za-z]\w*")
_NAMES = re.compile(r"[A-Za-z]\w*")
_OPERATORS = frozenset({"and", "or", "not", "eq", "ne", "gt", "ge", "lt", "le", "asc", "desc", "null"})
# The operators of `$filter`, as the framework names them in quotes: not the words.
_OPERATOR_NAMES = {
    "or": "or",
    "and": "and",
    "equal": "eq",
    "notequal": "ne",
    "greaterthan": "gt",
    "greaterthanorequal": "ge",
    "lessthan": "lt",
    "lessthanorequal": "le",
}
_OPERATOR = re.compile(rf"'({'|'.join(_OPERATOR_NAMES)})'", re.IGNORECASE)
_QUOTED = re.compile(r"'(?:[^']|'')*'")


class Meaning(StrEnum):
    """What is to be done about an answer."""

    OK = "ok"
    RETRY = "retry"
    SIGN_IN = "sign in"  # the token has ended
    REFUSED = "refused"  # the service doesn't support the query; it answers others
    LESS = "ask for less"
    FAILED = "failed"


class Answer(NamedTuple):
    """An answer of the service: its status, its headers and its whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Question(NamedTuple):
    """What was asked, and what the same address answered before.

    `is_known`: the address gave a good answer in this run or in the last 30 days. `can_do_without`: the same can be
    asked in another way, with a shorter list of keys say. `refusals`: how many times in a row it was refused, with
    another request answered after each.
    """

    query: str = ""
    is_known: bool = False
    can_do_without: bool = False
    refusals: int = 0

    @property
    def is_long(self) -> bool:
        """Whether the length of the query alone may be the reason of a refusal."""
        return len(self.query) > LONG_QUERY


class Reading(NamedTuple):
    """What an answer means.

    `said`: its status and its message, without secrets of the body. `option`: what of the query is refused, where the
    answer says so. `is_overload`: ask again with one request in flight. `is_doubtful`: only another request can tell
    what it means. `request_id`: what AIMS360's support looks a call up by.
    """

    meaning: Meaning
    said: str
    option: str | None = None
    is_overload: bool = False
    is_doubtful: bool = False
    request_id: str | None = None


class _Body(NamedTuple):
    """What the JSON of an error answer holds; `is_json` False for anything else."""

    is_json: bool = False
    has_error: bool = False
    code: str = ""
    message: str = ""
    request_id: str | None = None


def read_answer(answer: Answer, question: Question) -> Reading:
    """Return what an answer means whose body isn't a page, or isn't looked at yet."""
    body = _read_body(answer) if answer.status >= 400 else _Body()
    if 200 <= answer.status < 300:
        return Reading(Meaning.OK, f"HTTP {answer.status}")
    said = f"HTTP {answer.status}: {payload.error_message(answer.body)}"
    reading = _judge(answer, body, question)
    return reading._replace(said=_add_id(said, body), request_id=body.request_id)


def read_page(answer: Answer, question: Question) -> tuple[Reading, payload.Answer | None]:
    """Return what an answer of the collection means, and its rows where it is good."""
    if answer.status != 200:
        return _read_other(answer, question), None
    try:
        return Reading(Meaning.OK, "HTTP 200"), payload.parse_page(answer.body)
    except BadAnswer as error:
        return _read_bad(answer, error), None


def read_job(answer: Answer, question: Question) -> tuple[Reading, bytes | None]:
    """Return what an answer of the plain path of one job means, and its row. OK without a row: there is no such job."""
    if answer.status != 200:
        reading = _read_other(answer, question)
        is_none = answer.status == 404 and reading.meaning is not Meaning.RETRY and _read_body(answer).is_json
        return (Reading(Meaning.OK, "HTTP 404") if is_none else reading), None
    try:
        return Reading(Meaning.OK, "HTTP 200"), _parse_job(answer.body)
    except BadAnswer as error:
        return _read_bad(answer, error), None


def read_sign_in(answer: Answer) -> Reading:
    """Return what an answer of the token endpoint means: an overload is retried, everything else is final.

    The body is never quoted: it may hold the token. What a refusal says is a known word of OAuth2, or nothing.
    """
    body = _read_body(answer)
    said = _add_id(f"signing in: HTTP {answer.status}", body)
    if answer.status == 200:
        return Reading(Meaning.OK, said)
    is_overload = answer.status == 429 or answer.status >= 500 or body.code == _PROCESSING_FAILED
    meaning = Meaning.RETRY if is_overload else Meaning.FAILED
    return Reading(meaning, said, is_overload=is_overload, request_id=body.request_id)


def read_download(answer: Answer) -> Reading:
    """Return what an answer means that came in place of an output. Its words are never quoted: they may hold a link."""
    body = _read_body(answer)
    said = f"HTTP {answer.status}"
    if _is_overload(answer.status) or body.code == _PROCESSING_FAILED:
        return Reading(Meaning.RETRY, said, is_overload=True, request_id=body.request_id)
    meaning = Meaning.SIGN_IN if is_token_refused(answer) else Meaning.FAILED
    return Reading(meaning, said, request_id=body.request_id)


def _is_overload(status: int) -> bool:
    """Return whether a status alone says that the service, or a gateway in front of it, may answer well later."""
    return status in OVERLOADED or status > 505


def is_token_refused(answer: Answer) -> bool:
    """Return whether the service says that the token has ended, in one of its ways."""
    if not may_be_token_refused(answer.status):
        return False
    if answer.status == 401 or "invalid_token" in answer.headers.get("WWW-Authenticate", "").lower():
        return True
    body = _read_body(answer)
    return bool(_TOKEN_CODE.search(body.code) or (answer.status == 403 and _TOKEN_ENDED.search(body.message)))


def may_be_token_refused(status: int) -> bool:
    """Return whether the body has to be read to know that."""
    return status in (400, 401, 403)


def _read_other(answer: Answer, question: Question) -> Reading:
    """Return what an answer means that isn't a 200: a 204, say, is no page and no job."""
    reading = read_answer(answer, question)
    return Reading(Meaning.FAILED, reading.said) if reading.meaning is Meaning.OK else reading


def _read_bad(answer: Answer, error: BadAnswer) -> Reading:
    """Return what a 200 means that holds no page and no job: it was cut, or isn't the service's."""
    body = _read_body(answer)
    return Reading(Meaning.RETRY, _add_id(str(error), body), is_overload=True, request_id=body.request_id)


def _add_id(said: str, body: _Body) -> str:
    return f"{said} (requestId {body.request_id})" if body.request_id else said


def _parse_job(body: bytes) -> bytes:
    """Return the raw row of an answer that is one plain object. Raises BadAnswer."""
    try:
        value, _ = payload.decode(body)
    except ValueError:
        value = None
    if not isinstance(value, dict) or "jobID" not in value or value.get("error") is not None:
        raise BadAnswer("the answer is not one job: it is no JSON, was cut short, or has no jobID")
    return body


def _judge(answer: Answer, body: _Body, question: Question) -> Reading:
    status = answer.status
    if is_token_refused(answer):
        return Reading(Meaning.SIGN_IN, "")
    if _is_overload(status) or body.code == _PROCESSING_FAILED:
        return Reading(Meaning.RETRY, "", is_overload=True)
    if status in TOO_LONG:
        return Reading(Meaning.LESS, "")
    if status in (400, 403, 404) and not body.is_json:
        return _judge_page_for_people(status, question)
    if status == 400 and not body.has_error:
        return Reading(Meaning.RETRY, "", is_overload=True)
    if status in (400, 501):
        return _judge_refusal(body, question)
    if status == 404 and question.can_do_without:
        return Reading(Meaning.LESS, "")
    return Reading(Meaning.FAILED, "")


def _judge_page_for_people(status: int, question: Question) -> Reading:
    """Judge a page of HTML: of a gateway, of a limit of requests in flight, or of a server without such a path."""
    if not question.is_known:
        return Reading(Meaning.FAILED, "")
    if question.refusals < ENOUGH:
        return Reading(Meaning.RETRY, "", is_overload=True, is_doubtful=True)
    if question.can_do_without or (question.is_long and status in (400, 404)):
        return Reading(Meaning.LESS, "")
    return Reading(Meaning.REFUSED, "", is_overload=True)


def _judge_refusal(body: _Body, question: Question) -> Reading:
    """Judge an error of the framework: it names what it refuses, or has to say the same three times."""
    if _TOO_MANY_NODES.search(body.message):
        return Reading(Meaning.LESS, "", option="filter")
    option = name_option(body.message, question.query) if _REFUSAL.search(body.message) else None
    if option is not None:
        return Reading(Meaning.REFUSED, "", option=option)
    if question.can_do_without:
        return Reading(Meaning.LESS, "")
    if question.refusals >= ENOUGH:
        return Reading(Meaning.REFUSED, "")
    return Reading(Meaning.RETRY, "", is_doubtful=True)


def name_option(message: str, query: str) -> str | None:
    """Return what of a query a message names: `top`, `or`, `pagesize`, `filter ID`; else None.

    `filter ID` too where it is the operator that ID is compared by; `eq` where that is `eq`.
    """
    words = {word.lower() for word in _QUOTED_NAMES.findall(message)}
    options = {name: unquote(value) for name, _, value in (part.partition("=") for part in query.split("&"))}
    condition = _QUOTED.sub("''", options.get("$filter", ""))
    if words.isdisjoint({"orderby", "select"}) and (names := _named(condition, words)):
        return f"filter {names[0]}"
    if names := _named(options.get("$orderby", ""), words):
        return f"orderby {names[0]}"
    if (named := _OPERATOR.search(message)) and (operator := _find_operator(named[1], condition)):
        return operator
    if "pagesize" in options and "pagesize" in words:
        return "pagesize"
    return next((name for name in _OPTIONS if f"${name}" in options and name in words), None)


def _find_operator(name: str, condition: str) -> str | None:
    """Return what of a condition an operator's name speaks of: itself, or the property that is compared by it."""
    operator = _OPERATOR_NAMES[name.lower()]
    if operator in ("or", "and", "eq"):
        return operator if f" {operator} " in condition else None
    compared = re.search(rf"(\w+) {operator} ", condition)
    return f"filter {compared[1]}" if compared else None


def _named(text: str, words: Set[str]) -> list[str]:
    """Return the properties of a part of a query that a message names."""
    return [name for name in _NAMES.findall(text) if name.lower() in words and name.lower() not in _OPERATORS]


def _read_body(answer: Answer) -> _Body:
    """Read what steers us out of an error's JSON. Anything else than an object is read as no JSON at all."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return _Body()
    if not isinstance(value, dict):
        return _Body()
    error = value.get("error")
    request_id = value.get("requestId")
    is_id = isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id) is not None
    inner = error if isinstance(error, dict) else {}
    message = error if isinstance(error, str) else inner.get("message")
    return _Body(
        is_json=True,
        has_error=error is not None,
        code=code[:_LONGEST_CODE].lower() if isinstance(code := inner.get("code"), str) else "",
        message=message if isinstance(message, str) else "",
        request_id=request_id if is_id else None,
    )
