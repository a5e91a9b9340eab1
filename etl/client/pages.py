"""A page of the collection, asked for again as its answers want: later, beside another request, without a page size."""

import itertools
import threading
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from etl.client import answers, odata
from etl.client.answers import Question
from etl.client.attempts import Attempts, Reply
from etl.errors import AskForLess, Refused

ATTEMPTS = 8
NEVER = threading.Event()
_ENOUGH_REFUSALS = 2  # of a page size, each with the same query answered without it


class _Fallback(NamedTuple):
    """How often a page is asked for, and what else can be asked where it doesn't come; see `Api.page`."""

    attempts: int
    can_shrink: bool
    is_least: bool
    has_another_way: bool
    another: str | None


class Pages:
    """The pages that one source's service is asked for. Safe to use from several threads."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        # In a row, of the vendor's parameter: of a size that was asked for, and of one that was only offered.
        self._refusals: Counter[str] = Counter()

    def offer_pages_anew(self) -> None:
        """Forget that a page size was refused: for another run."""
        self._refusals.clear()

    def page(
        self,
        query: str,
        ended: threading.Event = NEVER,
        *,
        page_size: int | None = None,
        offer: int | None = None,
        attempts: int = ATTEMPTS,
        can_shrink: bool = False,
        is_least: bool = False,
        has_another_way: bool = False,
        another: str | None = None,
    ) -> Reply:
        """Return the rows that a query of the collection brings. Raises SourceError after every retry.

        `ended`, set by another thread, ends the waiting for a next attempt. `page_size`: rows that a page shall have,
        `offer`: rows that it may have; the service may ignore both. The vendor's parameter asks for them, until it is
        refused; for `page_size` a Prefer header does too.
        `can_shrink`: what fails for good, while other requests are answered, raises AskForLess; what takes too long
        does so at once, unless the query `is_least`, so that nothing smaller can be asked. `has_another_way`: so does
        what is refused without a reason. `another`: the other request, where the caller knows one.
        """
        fallback = _Fallback(attempts, can_shrink, is_least, has_another_way, another)
        headers = {} if page_size is None else {"Prefer": f"odata.maxpagesize={page_size}"}
        rows, kind = page_size or offer, "offer" if page_size is None else "size"
        refused = 0
        if rows is not None and self._refusals[kind] < _ENOUGH_REFUSALS:
            try:
                reply = self._ask(odata.with_page_size(query, rows), headers, ended, fallback)
            except (Refused, AskForLess) as error:
                if not _may_be_pagesize(error, has_another_way):
                    raise
                is_named = isinstance(error, Refused) and error.option == "pagesize"
                refused = _ENOUGH_REFUSALS if is_named else 1
            else:
                self._refusals[kind] = 0
                return reply
        reply = self._ask(query, headers, ended, fallback)
        self._refusals[kind] += refused
        return reply

    def _ask(self, query: str, headers: Mapping[str, str], ended: threading.Event, fallback: _Fallback) -> Reply:
        attempts, can_shrink, is_least, has_another_way, another = fallback
        question = Question(query, self._attempts.is_known, has_another_way)
        refusals = failures = 0  # with another request answered after each
        refusal = ""
        for attempt in itertools.count(1):
            failed = self._attempts.try_page(question, headers, ended)
            if isinstance(failed, Reply):
                return failed
            if "pagesize=" in query and failed.is_unclear:  # without it the same is asked
                raise self._attempts.refuse(failed, query)
            good = self._attempts.good
            if can_shrink and failed.is_too_large and not is_least:
                raise self._attempts.ask_for_less(failed, query, attempt, is_too_large=True)
            self._attempts.check_network(failed, attempt, attempts)
            if attempt >= attempts:
                raise self._attempts.final_error(failed, query, attempts)
            is_doubtful = failed.is_doubtful and failed.in_flight == 1  # of several there may have been too many
            is_failing = can_shrink and failed.is_spoilt and not failed.is_doubtful and attempt > 1
            # A busy service gets time first. For any other, another request shows at once what is wrong.
            waits_first = failed.is_overload or not is_doubtful
            if waits_first:
                self._attempts.wait(failed, attempt, ended)
            if not is_doubtful and not is_failing:
                continue
            other = self._attempts.choose_another(query) if another is None else another
            is_confirmed = self._attempts.good > good or self._attempts.is_answered(other, failed, query, ended)
            if failed.answer is not None and is_doubtful:
                refusals, refusal = is_confirmed + (refusals if failed.said == refusal else 0), failed.said
                question = question._replace(refusals=refusals)
                self._attempts.judge(failed.answer, answers.read_page(failed.answer, question)[0], question)
            elif (failures := failures + is_confirmed) >= answers.ENOUGH:
                raise self._attempts.ask_for_less(failed, query, attempt, is_too_large=False)
            if not waits_first:
                self._attempts.wait(failed, attempt, ended)
        raise AssertionError


def _may_be_pagesize(error: Refused | AskForLess, has_another_way: bool) -> bool:
    """Whether it may be the page size that was refused."""
    return has_another_way if isinstance(error, AskForLess) else error.is_query and error.option in (None, "pagesize")
