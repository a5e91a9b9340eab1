"""The service as a WSGI application: token grant, collection, one job, rerun, documents; and what goes wrong."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from threading import RLock
from typing import Any, Literal, get_args

from etl.testing.emulator.document_content import output
from etl.testing.emulator.faults import ACTED_UPON, WIRE, FaultPlan, Faults, check
from etl.testing.emulator.job_version import Job
from etl.testing.emulator.oauth import Credentials, Tokens
from etl.testing.emulator.odata_parser import BadQuery, Query, names_in, read_query, split_query
from etl.testing.emulator.query_executor import find
from etl.testing.emulator.requests import Call, Request, address, body_of, call_of
from etl.testing.emulator.responses import (
    Answer,
    error,
    failed,
    not_granted,
    page,
    plain_json,
    rerun_answer,
    unauthorized,
)
from etl.testing.emulator.sql_datetime import Comparison
from etl.testing.emulator.world import World

# What the password grant takes, unless told otherwise. Opens nothing else.
CREDENTIALS = {
    "client_id": "client",
    "client_secret": "secret",
    "username": "operator@example.com",
    "password": "password",
}
NextLink = Literal["standard", "always", "never", "foreign"]
ELSEWHERE = "https://elsewhere.example.net"
"""The host that a foreign nextLink points to: whoever follows it hands over a token."""


class Emulator:
    """A pretend AIMS360 around a world; a WSGI application that may be called from many threads.

    `next_link`: "standard" (when more rows follow), "always" (even on an empty page), "never", or "foreign" (standard,
    on another host). `comparison`: how date literals meet ticks, see `sql_datetime.literal_hns`. `ignore`: query
    options, without the dollar sign, that are ignored with a 200. `refuse`: properties that can't be filtered on (400).
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
        next_link: NextLink = "standard",
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
        max_nodes: int = 100,
        ranges: bool = True,
        is_logged: bool = True,
        reset: Callable[[str], Exception] = ConnectionResetError,
    ) -> None:
        if next_link not in get_args(NextLink):
            raise ValueError(f"no such next_link: {next_link!r}")
        self.world, self.page_size, self.next_link, self.comparison = world, page_size, next_link, comparison
        self.tokens = Tokens(Credentials(token, client_id, client_secret, username, password, token_lifetime))
        self.between_pages, self.clock = between_pages, clock
        self.ignore = frozenset(name.lstrip("$") for name in ignore)
        self.refuse = frozenset(name.lower() for name in refuse)
        self.max_nodes = max_nodes
        self.ranges = ranges
        self.requests: list[Request] = []
        self._is_logged = is_logged
        self._plan = FaultPlan(faults or Faults())
        self._reset = reset
        self._paged = False
        self._lock = RLock()

    def fail_next(self, *kinds: str) -> None:
        """Let the next calls (token grants don't count) fail in these ways, one each; "" lets one through."""
        check(kinds)
        with self._lock:
            self._plan.queue.extend(kinds)

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

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request (WSGI).

        A socket server may put a callable under `environ["emulator.wire"]`: it is told the kind of a wire fault, and
        then carries it out on a whole answer.
        """
        with self._lock:
            answer, fault = self._answer(environ)
        wire = environ.get("emulator.wire")
        if fault in WIRE and wire is not None:
            wire(fault)
        elif fault == "reset":
            raise self._reset("the emulator reset the connection")
        body = answer.body
        answer.started(start_response)
        return [body[: len(body) // 2] if fault == "cut" and wire is None else body]

    # -- one request -------------------------------------------------------------------------------------------------

    def _answer(self, environ: dict[str, Any]) -> tuple[Answer, str]:
        self._live()
        call = call_of(environ, self.world.now)
        fault = "" if call.what == "token" else self._plan.next()
        if fault and fault not in ACTED_UPON:
            answer = self._failed(fault)
        else:
            answer = self._acted(call, environ)
            answer = self._failed(fault) if fault == "504" else answer
        if self._is_logged:
            self.requests.append(replace(call.request, status=answer.status, fault=fault))
        return answer.dated(self.world.now), fault

    def _live(self) -> None:
        if self.clock is not None:
            self.world.live_until(self.clock())

    def _failed(self, fault: str) -> Answer:
        if fault == "expired-token":
            self.tokens.granted.clear()
        return failed(fault, self.world.now)

    def _acted(self, call: Call, environ: dict[str, Any]) -> Answer:
        if call.what == "token":
            return self._grant(body_of(environ))
        if call.what == "document":
            return self._document(call)
        if not self._admitted(call):
            return unauthorized()
        if call.what == "collection":
            return self._collection(call)
        job = self.world.get(call.job_id)
        if job is None:
            return error(404, "NotFound", "No such resource.")
        return self._rerun(job) if call.what == "rerun" else Answer(200, self.world.table.rendered(job))

    def _admitted(self, call: Call) -> bool:
        return self.tokens.admits(call.authorization, self.world.now)

    def _grant(self, form: bytes) -> Answer:
        granted = self.tokens.grant(form, self.world.now)
        if granted is None:
            return not_granted()
        return plain_json(200, granted)

    def _rerun(self, job: Job) -> Answer:
        if job.payload().get("canReRun") != "Yes":
            return error(400, "BadRequest", "This job can't be run again.")
        try:
            return rerun_answer(self.world.rerun(job))
        except ValueError as locked:
            return error(400, "BadRequest", str(locked))

    # -- the collection ----------------------------------------------------------------------------------------------

    def _collection(self, call: Call) -> Answer:
        if self.between_pages is not None and self._paged:
            self.between_pages(self.world)
        self._paged = True
        size, preferred = self._size(call.prefer)
        try:
            options = split_query(call.request.raw_query)
            query = self._query(options)
            found = find(self.world.table, query, size, self.comparison)
        except BadQuery as bad:
            return error(400, "", f"The query specified in the URI is not valid. {bad}")
        link = self._link(call.base, options, query, len(found.rows)) if self._links(found.more) else None
        render = self.world.table.rendered
        rows = [render(job, query.select) for job in found.rows]
        return page(f"{call.base}{_ODATA}$metadata#backgroundjob", rows, found.count, link, preferred)

    def _query(self, options: dict[str, str]) -> Query:
        heeded = {name: value for name, value in options.items() if name.lstrip("$") not in self.ignore}
        query = read_query(heeded, self.world.table.properties, self.max_nodes)
        for name in names_in(query.filter):
            if name.lower() in self.refuse:
                raise BadQuery(f"The property '{name}' cannot be used in the $filter query option.")
        return query

    def _size(self, prefer: str) -> tuple[int, int | None]:
        """The page size, and the preference that was honoured, if it was: it can only make pages smaller."""
        wish = re.search(r"(?:odata\.)?maxpagesize\s*=\s*\"?(\d{1,9})", prefer, re.IGNORECASE)
        if not wish or "maxpagesize" in self.ignore or not 0 < int(wish[1]) < self.page_size:
            return self.page_size, None
        return int(wish[1]), int(wish[1])

    def _links(self, more: bool) -> bool:
        return self.next_link == "always" or (more and self.next_link != "never")

    def _link(self, base: str, options: dict[str, str], query: Query, rows: int) -> str:
        left = {} if query.top is None else {"$top": str(query.top - rows)}
        host = ELSEWHERE if self.next_link == "foreign" else base
        return address(f"{host}{_ODATA}backgroundjob", {**options, **left, "$skip": str(query.skip + rows)})

    # -- documents ---------------------------------------------------------------------------------------------------

    def _document(self, call: Call) -> Answer:
        job = self.world.get(call.job_id)
        answer = None if job is None else output(job, call.request.path, call.request.headers, self.ranges)
        if job is None or answer is None:
            return error(404, "NotFound", "No such document.")
        row = job.payload()
        scope = str(row.get("publishLinkAccessScope")).lower()
        if scope != "public" and not self._admitted(call):
            return unauthorized()
        if scope == "private" and row.get("createdBy") != self.tokens.accepted.username:
            return error(403, "Forbidden", "Access denied.")
        return answer


_ODATA = "/jobsmanagement/odata/v1.0/"
