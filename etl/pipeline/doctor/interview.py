"""Ask the service one question at a time, all of them within a minute, and say what each answer shows.

A refusal counts if it names what it refuses. Without a reason it counts if the plain request is answered after it, and
the same question is refused again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import unquote

from etl.client import odata
from etl.client.capabilities import find_names
from etl.errors import AskForLess, BrokenPromise, OutOfTime, Refused, SignInFailed, SourceError, Unreachable
from etl.models import Support
from etl.pipeline.doctor.checks import JOB_FILTER, Finding, Outcome

if TYPE_CHECKING:
    from etl.client.attempts import Reply
    from etl.client.client import Api

FEW = 5  # rows
SECONDS = 60.0  # for all questions
OVER = "not asked: the minute is over"
_ATTEMPTS = (2, 3)  # what a busy service doesn't answer is asked again, with longer waits, but not for a minute
# What is refused along with something else, which the refusal names.
_REFUSED_BY = {
    "orderby_dates": "orderby",
    "filter_id": "filter_keys",
    "null_dates": "filter_dates",
    JOB_FILTER: "filter_keys",
}
_USES_EQ = ("null_dates", JOB_FILTER)

T = TypeVar("T")


class Question(NamedTuple):
    """A query that makes use of one capability.

    `find_contradiction` says what in an answer shows that the query was not heeded; an empty text: nothing. `rows`: how
    many are asked for; None: as many as the service sends.
    """

    capability: str
    query: str
    find_contradiction: Callable[[Reply], str]
    rows: int | None = FEW


class Interview:
    """The questions to one service. `findings`: what was found so far, by capability."""

    def __init__(self, api: Api, seconds: float = SECONDS) -> None:
        self.api = api
        self.findings: dict[str, Finding] = {}
        self.heeds_prefer: bool | None = None  # odata.maxpagesize
        self.total: int | None = None  # rows that the service counts
        self._until = api.monotonic() + seconds
        api.begin_anew(seconds, is_known=True)
        # Whether the vendor's parameter is refused is a question by itself: others ask for few rows by Prefer alone.
        api.capabilities.refuse("page_size", "not asked so far")

    def is_over(self) -> bool:
        """Return whether the minute is over."""
        return self.api.monotonic() >= self._until

    def supports(self, *names: str) -> bool:
        """Return whether the service was found to support all of these."""
        return all(name in self.findings and self.findings[name].outcome is Outcome.SUPPORTED for name in names)

    def add(self, finding: Finding) -> Finding:
        """Take in what was found."""
        self.findings[finding.capability] = finding
        return finding

    def ask(self, question: Question) -> tuple[Finding, Reply | None]:
        """Ask a question, unless another answer told already. Return what was found, and the answer if one came.

        Raises SignInFailed.
        """
        name = question.capability
        known = self.api.capabilities.find(name)
        if known.support is Support.NO and name != "page_size":
            return self.add(Finding(name, Outcome.REFUSED, known.words)), None
        request = partial(self._request, question)
        return self.ask_by(name, show_query(question.query), request, question.find_contradiction)

    def ask_by(
        self, name: str, asked: str, request: Callable[[int], T], find_contradiction: Callable[[T], str]
    ) -> tuple[Finding, T | None]:
        """Ask by `request`, which takes the number of attempts and raises SourceError."""
        finding, answer = self._ask(name, request)
        if answer is not None and (said := find_contradiction(answer)):
            finding = Finding(name, Outcome.IGNORED, said)
        return self.add(finding if finding.words == OVER else replace(finding, asked=asked)), answer

    def count(self, conditions: Sequence[str]) -> int | None:
        """Return how many rows the service counts; None where it doesn't say."""
        if self.is_over():
            return None
        try:
            reply = self._request(Question("count", odata.query(conditions, count=True), lambda _: ""), _ATTEMPTS[0])
        except SourceError:
            return None
        return reply.answer.total

    def _ask(self, name: str, request: Callable[[int], T]) -> tuple[Finding, T | None]:
        words = ""
        for _ in range(2):
            if self.is_over():
                return Finding(name, Outcome.UNKNOWN, OVER), None
            try:
                return Finding(name, Outcome.SUPPORTED), _try(request)
            except SignInFailed:
                raise
            except SourceError as error:
                if (finding := _judge(name, error)) is not None:
                    return finding, None
                said, is_repeated = _read_words(error), isinstance(error, Unreachable)
            if not self._is_plain_answered():
                return Finding(name, Outcome.UNKNOWN, f"the service answers nothing at the moment ({said})"), None
            if is_repeated or said == words:
                return Finding(name, Outcome.REFUSED, said, is_plain=False), None
            words = said
        return Finding(name, Outcome.UNKNOWN, f"it says something else each time, last: {words}"), None

    def _request(self, question: Question, attempts: int) -> Reply:
        size = question.rows
        reply = self.api.page(question.query, page_size=size, attempts=attempts, can_do_without=True)
        if size is not None and len(reply.answer.rows) >= size and "$top" not in question.query:
            self.heeds_prefer = len(reply.answer.rows) == size
        return reply

    def _is_plain_answered(self) -> bool:
        try:
            self.api.page("", page_size=FEW, attempts=1)
        except SourceError:
            return False
        return True


def _try(request: Callable[[int], T]) -> T:
    """Ask, and once more where the service is busy."""
    try:
        return request(_ATTEMPTS[0])
    except Unreachable as error:
        if error.is_doubtful or isinstance(error, OutOfTime):
            raise
    return request(_ATTEMPTS[1])


def _judge(name: str, error: SourceError) -> Finding | None:
    """Return what an error tells of a capability; None where only other requests can tell."""
    said = _read_words(error)
    if isinstance(error, OutOfTime):
        return Finding(name, Outcome.UNKNOWN, "no answer came within the minute")
    if isinstance(error, BrokenPromise):
        return Finding(name, Outcome.IGNORED, "another job came")
    if isinstance(error, Refused) and error.is_query and error.option:
        names = find_names(error.option)
        if name in names or _REFUSED_BY.get(name) in names or (name in _USES_EQ and error.option == "eq"):
            return Finding(name, Outcome.REFUSED, said)
        return Finding(name, Outcome.UNKNOWN, f"refused for something else: {said}")
    is_doubtful = isinstance(error, Refused | AskForLess) or (isinstance(error, Unreachable) and error.is_doubtful)
    return None if is_doubtful else Finding(name, Outcome.UNKNOWN, said)


def _read_words(error: SourceError) -> str:
    """Return the service's words, without the number that it gave to this request."""
    said = error.words
    return said.replace(f" (requestId {error.request_id})", "") if error.request_id else said


def show_query(query: str) -> str:
    """Return a query for people."""
    return unquote(query) or "no options"
