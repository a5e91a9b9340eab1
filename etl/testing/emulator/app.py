"""The service as a WSGI application: token grant, collection, one job, rerun, documents; and what goes wrong."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime
from threading import RLock
from typing import Any, Literal

from etl.testing.emulator.collection import CollectionRules, answer_collection
from etl.testing.emulator.compression import accepts_gzip, compress
from etl.testing.emulator.document_content import output
from etl.testing.emulator.faults import ACTED_UPON, IN_FLIGHT, SIGN_IN_KINDS, WIRE, FaultPlan, Faults, check
from etl.testing.emulator.in_flight import InFlightLimit
from etl.testing.emulator.oauth import Credentials, Tokens, has_token, write_expiry
from etl.testing.emulator.refusals import refuse_long_query
from etl.testing.emulator.requests import Call, Request, body_of, call_of
from etl.testing.emulator.responses import (
    Answer,
    error,
    failed,
    forbidden_page,
    not_granted,
    plain_json,
    token_ended,
    unauthorized,
    with_request_id,
)
from etl.testing.emulator.service_options import NextLinkHabit, ServiceOptions
from etl.testing.emulator.single_jobs import answer_job, answer_rerun
from etl.testing.emulator.sql_datetime import Comparison
from etl.testing.emulator.value_forms import RowRenderer
from etl.testing.emulator.world import World

# What the password grant takes, unless told otherwise. Opens nothing else.
CREDENTIALS = {
    "client_id": "client",
    "client_secret": "secret",
    "username": "operator@example.com",
    "password": "password",
}
NextLink = Literal["standard", "always", "never", "foreign"]
"""The habits of the nextLink that `prove` draws. Its seeds depend on this list; `NextLinkHabit` has all of them."""


class Emulator:
    """A pretend AIMS360 around a world; a WSGI application that may be called from many threads.

    `options`: the habits of the service. `next_link` and `max_nodes` override those fields of it.
    `comparison`: how date literals meet ticks, see `sql_datetime.literal_hns`. `ignore`: query options, without the
    dollar sign, that are ignored with a 200, beside `options.ignored`. `refuse`: properties that can't be filtered on
    (400), known or not.
    `ranges`: whether parts of documents can be had, with ETag and If-Range. `is_logged`: whether `requests` keeps each.
    `between_pages` is called with the world before each collection request but the first. `clock`: before each request
    the world lives until `clock()`. `reset` makes the exception that a `reset` fault raises where there is no socket:
    `Emulator(…, reset=httpx.ReadError)` lets a client over `httpx.WSGITransport` see a transport error. There `cut`
    is a body cut in half, and `slow` is nothing.
    """

    def __init__(
        self,
        world: World,
        *,
        page_size: int = 100,
        next_link: NextLinkHabit | None = None,
        comparison: Comparison = "datetime",
        token: str | None = "static-token",  # noqa: S107 - opens nothing
        client_id: str = CREDENTIALS["client_id"],
        client_secret: str = CREDENTIALS["client_secret"],
        username: str = CREDENTIALS["username"],
        password: str = CREDENTIALS["password"],
        token_lifetime: int = 3600,
        faults: Faults | None = None,
        between_pages: Callable[[World], object] | None = None,
        clock: Callable[[], datetime] | None = None,
        ignore: Iterable[str] = (),
        refuse: Iterable[str] = (),
        max_nodes: int | None = None,
        ranges: bool = True,
        is_logged: bool = True,
        reset: Callable[[str], Exception] = ConnectionResetError,
        options: ServiceOptions | None = None,
    ) -> None:
        self.world, self.page_size, self.comparison = world, page_size, comparison
        self.tokens = Tokens(Credentials(token, client_id, client_secret, username, password, token_lifetime))
        self.between_pages, self.clock = between_pages, clock
        self.ignore = frozenset(name.lstrip("$") for name in ignore)
        self.refuse = frozenset(name.lower() for name in refuse)
        self.ranges = ranges
        self.requests: list[Request] = []
        self.in_flight = InFlightLimit()
        self._is_logged = is_logged
        self._plan = FaultPlan(faults or Faults())
        self._sign_in_faults: deque[str] = deque()
        self._reset = reset
        self._paged = False
        self._answered = 0
        self._lock = RLock()
        given = {"next_link": next_link, "max_nodes": max_nodes}
        named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        self.options = replace(options or ServiceOptions(), **named)

    @property
    def options(self) -> ServiceOptions:
        """The habits of the service. They can be changed while it runs; the counts of spoilt rows then begin anew.

        `rerun_moves_purge` is set in the world of that moment.
        """
        return self._options

    @options.setter
    def options(self, options: ServiceOptions) -> None:
        with self._lock:
            self._options, self._renderer = options, RowRenderer(options)
            self.in_flight.most = options.most_in_flight
            self.world.moves_purge = options.rerun_moves_purge

    def fail_next(self, *kinds: str) -> None:
        """Let the next calls (token grants don't count) fail in these ways, one each; "" lets one through."""
        check(kinds)
        with self._lock:
            self._plan.queue.extend(kinds)

    def fail_sign_in(self, *kinds: str) -> None:
        """Let the next token grants fail in these ways (`SIGN_IN_KINDS`), one each; "" lets one through."""
        check(kinds, SIGN_IN_KINDS)
        with self._lock:
            self._sign_in_faults.extend(kinds)

    @property
    def has_faults_waiting(self) -> bool:
        """Whether calls are still to fail that `fail_next` asked for."""
        return bool(self._plan.queue)

    def set_faults(self, faults: Faults) -> None:
        """From now on, this share of calls fails; what was asked for by `fail_next` is dropped."""
        with self._lock:
            self._plan = FaultPlan(faults)

    def reset_log(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self.requests.clear()

    @contextmanager
    def still(self) -> Iterator[World]:
        """The world as of now, and nobody is answered meanwhile: for whoever looks at it or changes it."""
        with self._lock:
            self._live()
            yield self.world

    def arrive(self) -> AbstractContextManager[bool]:
        """Count a request until the end of the context. Yields whether it is admitted (`options.most_in_flight`).

        A server that enters it from the arrival of a request to the end of its answer puts what it yields under
        `environ["emulator.is_admitted"]`. Otherwise the call itself is counted.
        """
        return self.in_flight.arrive()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request (WSGI).

        A socket server may put a callable under `environ["emulator.wire"]`: it is told the kind of a wire fault, and
        then carries it out on a whole answer.
        """
        known: bool | None = environ.get("emulator.is_admitted")
        with self.arrive() if known is None else nullcontext(known) as is_admitted:
            answer = self._admit(environ) if is_admitted else self._turn_away(environ)
        fault, wire = answer.fault, environ.get("emulator.wire")
        if fault in WIRE and wire is not None:
            wire(fault)
        elif fault == "reset":
            raise self._reset("the emulator reset the connection")
        body = answer.body
        answer.started(start_response)
        return [body[: len(body) // 2] if fault == "cut" and wire is None else body]

    # -- one request -------------------------------------------------------------------------------------------------

    def _admit(self, environ: dict[str, Any]) -> Answer:
        with self._lock:
            self._live()
            call = call_of(environ, self.world.now)
            self._answered += 1
            answer = with_request_id(self._answer(call, environ), self._answered, self.options.request_ids)
            if self.options.gzip and "Content-Encoding" not in dict(answer.headers):
                is_accepted = accepts_gzip(call.request.headers.get("accept-encoding", ""))
                answer = compress(answer) if is_accepted else answer
            return self._log(call, answer)

    def _turn_away(self, environ: dict[str, Any]) -> Answer:
        # without the lock: the requests that are too many may hold it
        return self._log(call_of(environ, self.world.now), replace(forbidden_page(), fault=IN_FLIGHT))

    def _log(self, call: Call, answer: Answer) -> Answer:
        if self._is_logged:
            self.requests.append(replace(call.request, status=answer.status, fault=answer.fault))
        return answer.dated(self.world.now)  # later than the request, if the world has lived meanwhile

    def _answer(self, call: Call, environ: dict[str, Any]) -> Answer:
        fault = self._next_fault(call)
        if fault and fault not in ACTED_UPON:
            return replace(self._failed(fault), fault=fault)
        answer = self._acted(call, environ)
        if fault:
            return replace(self._failed(fault) if fault == "504" else answer, fault=fault)
        return answer

    def _next_fault(self, call: Call) -> str:
        if call.what != "token":
            return self._plan.next()
        return self._sign_in_faults.popleft() if self._sign_in_faults else ""

    def _live(self) -> None:
        if self.clock is not None:
            self.world.live_until(self.clock())

    def _failed(self, fault: str) -> Answer:
        if fault == "expired-token":
            self.tokens.granted.clear()
            return token_ended(self.options.ended_token, "The access token has expired.")
        return failed(fault, self.world.now)

    def _acted(self, call: Call, environ: dict[str, Any]) -> Answer:
        if (refusal := refuse_long_query(call.request.raw_query, self.options)) is not None:
            return refusal
        if call.what == "token":
            return self._grant(body_of(environ))
        if call.what == "document":
            return self._document(call)
        if not self._admitted(call):
            return self._denied(call)
        if call.what == "collection":
            return self._collection(call)
        if call.what == "rerun":
            return answer_rerun(call, self.world, self.options)
        return answer_job(call, self.world.table, self._renderer, self.options)

    # -- who calls ---------------------------------------------------------------------------------------------------

    def _admitted(self, call: Call) -> bool:
        return self.tokens.admits(call.authorization, self.world.now)

    def _denied(self, call: Call) -> Answer:
        is_spared = self.options.no_token != "as-ended" and not has_token(call.authorization)  # noqa: S105 - no secret
        if is_spared:
            return unauthorized()
        return token_ended(self.options.ended_token, "Authorization has been denied for this request.")

    def _grant(self, form: bytes) -> Answer:
        granted = self.tokens.grant(form, self.world.now)
        if granted is None:
            return not_granted()
        lifetime = self.tokens.accepted.lifetime
        return plain_json(200, write_expiry(granted, self.options.expires_in, lifetime, self.world.now))

    # -- what is asked -----------------------------------------------------------------------------------------------

    def _collection(self, call: Call) -> Answer:
        if self.between_pages is not None and self._paged:
            self.between_pages(self.world)
        self._paged = True
        ignore = self.ignore | self.options.ignored
        rules = CollectionRules(self.page_size, self.comparison, ignore, self.refuse, self.options)
        return answer_collection(call, self.world.table, self._renderer, rules)

    def _document(self, call: Call) -> Answer:
        job = self.world.get(call.job_id)
        answer = None if job is None else output(job, call.request.path, call.request.headers, self.ranges)
        if job is None or answer is None:
            return error(404, "NotFound", "No such document.")
        row = job.payload()
        scope = str(row.get("publishLinkAccessScope")).lower()
        if scope != "public" and not self._admitted(call):
            return self._denied(call)
        if scope == "private" and row.get("createdBy") != self.tokens.accepted.username:
            return error(403, "Forbidden", "Access denied.")
        return answer
