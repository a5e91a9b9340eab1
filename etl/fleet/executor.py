"""Where a run of a fleet is made: what stays from one to the next, whichever source has its turn.

A desk serves one run at a time. It keeps a connection to Postgres, on which the source's lock is taken, and the lines
to the hosts of the sources; tokens belong to sources, and are kept for all desks.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import LifoQueue

from etl.client.auth import Grant, Token, sign_in
from etl.client.client import Api
from etl.client.transport import Line, trust
from etl.config.settings import Source
from etl.config.validation import MOST_REQUESTS
from etl.errors import DatabaseError
from etl.event_log import Log
from etl.fleet.scheduler import Standing, Work, standing
from etl.models import Clock, Run, silent
from etl.pipeline.sync import Order, deepen_now, purge_now, sync
from etl.postgres import connection, migrations
from etl.postgres.connection import Connection

_PLAIN = Order()


class SignIns:
    """How sources sign in, with the tokens that they were granted; and whom all trust."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, tuple[Source, Token | Grant]] = {}
        self._vouched: dict[bool, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def of(self, source: Source) -> Token | Grant:
        """The source's; anew where its settings are others than before."""
        with self._lock:
            known = self._known.get(source.name)
            if known is None or known[0] != source:
                known = self._known[source.name] = source, sign_in(source, self._clock)
            return known[1]

    def vouched(self, base_url: str) -> ssl.SSLContext:
        """Whom to trust: read once, since that takes longer than a quiet sync."""
        is_in_the_clear = base_url.startswith("http:")
        with self._lock:
            if is_in_the_clear not in self._vouched:
                self._vouched[is_in_the_clear] = trust(base_url)
            return self._vouched[is_in_the_clear]


class Desk:
    """One place to make runs at, for the database at `url`."""

    def __init__(self, url: str, clock: Clock, sign_ins: SignIns) -> None:
        self._url, self._clock, self._sign_ins = url, clock, sign_ins
        self._db: Connection | None = None
        self._lines: dict[str, Line] = {}

    def run(self, source: Source, work: Work, log: Log, order: Order = _PLAIN) -> Run:
        """One run of the source, in its time limit. Raises EtlError; the desk is as good as before.

        `log` is the source's, and hears which run it is. `order`: what is asked of a run that reads; how long it takes,
        and that it doesn't go deep, is said here.
        """
        with self._database():
            migrations.require(self._connection())  # each time: it may have been migrated since the last run
            given = (source, lambda: self._client(source, log), self._connection(), self._clock)
            within, watch = source.time_limit, log.and_then(silent)
            if work is Work.PURGE:
                return purge_now(*given, watch, within)
            if work is Work.DEEPEN:
                return deepen_now(*given, watch, within)
            return sync(*given, replace(order, within=within, deep=False), watch)

    def standing(self, source: Source) -> Standing | None:
        """How far the source is, by the ledger. Raises DatabaseError."""
        with self._database():
            return standing(self._connection(), source.name)

    def close(self) -> None:
        """Its connections end."""
        self._leave_database()
        for line in self._lines.values():
            line.hang_up()
        self._lines.clear()

    @contextmanager
    def _database(self) -> Iterator[None]:
        """What Postgres refuses inside becomes a DatabaseError; the next run finds out whether there is one."""
        try:
            with connection.told(self._url):
                yield
        except DatabaseError:
            self._leave_database()
            raise

    def _connection(self) -> Connection:
        if self._db is None or self._db.closed:
            self._db = connection.connect(self._url)
        return self._db

    def _leave_database(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None

    @contextmanager
    def _client(self, source: Source, log: Log) -> Iterator[Api]:
        base = source.base_url
        if base not in self._lines:
            self._lines[base] = Line(base, MOST_REQUESTS, self._clock.monotonic, self._sign_ins.vouched(base))
        yield Api(
            source,
            self._clock,
            notice=log.notice,
            heard=log.heard if log.is_verbose else None,
            line=self._lines[base],
            signed_in=self._sign_ins.of(source),
        )


class Desks:
    """So many desks, for as many threads; the one that was used last is used next, since it is warm."""

    def __init__(self, desks: int, url: str, clock: Clock) -> None:
        sign_ins = SignIns(clock)
        self._all = [Desk(url, clock, sign_ins) for _ in range(desks)]
        self._free: LifoQueue[Desk] = LifoQueue()
        for desk in self._all:
            self._free.put(desk)

    @contextmanager
    def one(self) -> Iterator[Desk]:
        """A desk that is free, waited for where none is."""
        desk = self._free.get()
        try:
            yield desk
        finally:
            self._free.put(desk)

    def close(self) -> None:
        """All connections end."""
        for desk in self._all:
            desk.close()
