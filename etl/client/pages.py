"""A page of the collection, asked for again as its answers want: later, beside another request, without a page size."""

import itertools
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from etl.client import answers, capabilities, odata
from etl.client.answers import Question
from etl.client.attempts import Attempts, Reply
from etl.client.capabilities import Capabilities
from etl.errors import AskForLess, Refused
from etl.models import USUAL_PAGE

ATTEMPTS = 8
NEVER = threading.Event()
_ENOUGH_REFUSALS = 2  # of a page size, each with the same query answered without it


class _Fallback(NamedTuple):
    """How often a page is asked for, and what else can be asked where it doesn't come; see `Api.page`."""

    attempts: int
    can_shrink: bool
    is_least: bool
    can_do_without: bool
    another: str | None


class Pages:
    """The pages that one source's service is asked for. Safe to use from several threads.

    `capabilities`: what the service is known to support, learnt from each answer.
    """

    def __init__(self, attempts: Attempts, known: Capabilities) -> None:
        self.capabilities = known
        self._attempts = attempts
        # In a row, of the vendor's parameter: of a size that was asked for, and of one that was only offered.
        self._refusals: Counter[str] = Counter()

    def offer_pages_anew(self) -> None:
        """Forget how often a page size was refused: for another run."""
        self._refusals.clear()

    def page(
        self,
        query: str,
        ended: threading.Event = NEVER,
        *,
        page_size: int | None = None,
        offer: int | None = None,
        attempts: int | None = None,
        can_shrink: bool = False,
        is_least: bool = False,
        can_do_without: bool = False,
        another: str | None = None,
        optional: Sequence[str] = (),
    ) -> Reply:
        """Return the rows that a query of the collection brings. Raises SourceError after every retry.

        `ended`, set by another thread, ends the waiting for a next attempt. `attempts`: ATTEMPTS if None.
        `page_size`: rows that a page shall have, `offer`: rows that it may have; the service may ignore both. The
        vendor's parameter asks for them, until it is refused; for `page_size` a Prefer header does too.
        `can_shrink`: what fails for good, while other requests are answered, raises AskForLess; what takes too long
        does so at once, unless the query `is_least`, so that nothing smaller can be asked. `can_do_without`: so does
        what is refused without a reason. `another`: the other request, where the caller knows one.
        `optional`: options of the query that the caller can do without ("top", "select"): they are left out where the
        service refuses them.
        """
        fallback = _Fallback(ATTEMPTS if attempts is None else attempts, can_shrink, is_least, can_do_without, another)
        missing = [name for name in optional if not self.capabilities.supports(name)]
        query, page_size = _leave_out(query, missing, page_size)
        try:
            return self._ask_in_size(query, page_size, offer, ended, fallback)
        except Refused as error:
            left = [name for name in optional if capabilities.without(query, [name]) != query]
            if not (error.is_query and left):
                raise
            return self._ask_without(query, left, error, page_size, ended, fallback)

    def _ask_without(
        self,
        query: str,
        names: Sequence[str],
        error: Refused,
        page_size: int | None,
        ended: threading.Event,
        fallback: _Fallback,
    ) -> Reply:
        """Ask a query that was refused without the options that can be spared: those refused, else one after another.

        Raises the error where none of them was the reason.
        """
        refused = [name for name in names if not self.capabilities.supports(name)]
        for tried in [refused] if refused else [[name] for name in names]:
            left = [name for name in names if name not in tried]
            shorter, size = _leave_out(query, tried, page_size)
            try:
                reply = self._ask_in_size(shorter, size, None, ended, fallback._replace(can_do_without=not refused))
            except (Refused, AskForLess) as other:
                is_other = isinstance(other, Refused) and other.is_query and other.option is not None
                if is_other and left:
                    return self._ask_without(shorter, left, error, size, ended, fallback)
                if is_other or refused:
                    raise
            else:
                for name in tried:
                    self.capabilities.refuse(name, error.said)
                return reply
        raise error

    def _ask_in_size(
        self, query: str, page_size: int | None, offer: int | None, ended: threading.Event, fallback: _Fallback
    ) -> Reply:
        """Ask for pages of a size, until the vendor's parameter for it is refused."""
        headers = {} if page_size is None else {"Prefer": f"odata.maxpagesize={page_size}"}
        rows, kind = page_size or offer, "offer" if page_size is None else "size"
        refused = 0
        can_ask = self.capabilities.supports("page_size") and self._refusals[kind] < _ENOUGH_REFUSALS
        if rows is not None and can_ask:
            try:
                reply = self._ask(odata.with_page_size(query, rows), headers, ended, fallback)
            except (Refused, AskForLess) as error:
                if not _may_be_pagesize(error, fallback.can_do_without):
                    raise
                is_named = isinstance(error, Refused) and error.option == "pagesize"
                refused = 0 if is_named else 1
                words = error.said if isinstance(error, Refused) else str(error)
            else:
                self._refusals[kind] = 0
                if len(reply.answer.rows) > USUAL_PAGE:
                    self.capabilities.confirm("page_size", f"{len(reply.answer.rows)} rows came")
                return reply
        reply = self._ask(query, headers, ended, fallback)
        self._refusals[kind] += refused
        if refused and self._refusals[kind] >= _ENOUGH_REFUSALS:
            self.capabilities.refuse("page_size", words)
        return reply

    def _ask(self, query: str, headers: Mapping[str, str], ended: threading.Event, fallback: _Fallback) -> Reply:
        """Ask until there is a good answer, and learn from it what the service supports."""
        try:
            reply = self._try(query, headers, ended, fallback)
        except Refused as error:
            if error.is_query and error.option:
                self.capabilities.refuse_option(error.option, error.said)
            raise
        self.capabilities.confirm_query(query)
        if "$count=" in query and reply.answer.total is not None:
            self.capabilities.confirm("count", "answered")
        if reply.answer.next_query is not None:
            self.capabilities.confirm("next_link", "came")
        return reply

    def _try(self, query: str, headers: Mapping[str, str], ended: threading.Event, fallback: _Fallback) -> Reply:
        attempts, can_shrink, is_least, can_do_without, another = fallback
        question = Question(query, self._attempts.is_known, can_do_without)
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
            # Of a refusal another request that is alike tells nothing.
            other = self._attempts.choose_another(query) if another is None or is_doubtful else another
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


def _leave_out(query: str, names: Sequence[str], page_size: int | None) -> tuple[str, int | None]:
    """Return a query without some options, and the size of its page: in place of `$top`, as many rows as that."""
    top = next((part.partition("=")[2] for part in query.split("&") if part.startswith("$top=")), None)
    size = int(top) if top is not None and "top" in names and page_size is None else page_size
    return capabilities.without(query, names), size


def _may_be_pagesize(error: Refused | AskForLess, can_do_without: bool) -> bool:
    """Whether it may be the page size that was refused."""
    return can_do_without if isinstance(error, AskForLess) else error.is_query and error.option in (None, "pagesize")
