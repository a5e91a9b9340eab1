"""Outputs side by side: each to its place, then its row. Whoever chooses them holds `locks.fetching`."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256

from msgspec import Struct

from etl.errors import ArchiveError, SourceError, Unreachable
from etl.jobs.documents import partial_files, paths
from etl.jobs.documents.download import Downloads, TooLarge, Wanted
from etl.jobs.documents.selection import Output, Recorded, recorded
from etl.jobs.documents.stores import Store
from etl.models import Clock, Progress, Watch, silent
from etl.postgres.connection import Connection

_AT_A_TIME = 4
_GIVE_UP = 8  # outputs in a row without an answer: the network or the service is down
_OLD = timedelta(days=40)  # AIMS360 forgets an output after 30 days: nobody goes on with its part
_FULL_SIZE = 2**20  # bytes of a megabyte, at most
_TOLD_SINGLY = 3  # outputs that weren't kept for the same reason; more of them are told as one
_PLAY = 0.1  # what a size may differ from the rounded one, of itself, without a note

_RECORD = """
INSERT INTO aims360.document_archive (
    source_id, job_id, position, document_name, account_code, link_sha256, path, bytes, sha256, fetched_at
)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (source_id, job_id, link_sha256, path)
DO UPDATE SET bytes = excluded.bytes, sha256 = excluded.sha256, fetched_at = excluded.fetched_at
"""


class State(StrEnum):
    """What became of an output."""

    FETCHED = "fetched"
    KEPT = "kept_before"  # it is here, and recorded
    TOO_LARGE = "too_large"
    BUSY = "busy"  # another call is fetching it
    FAILED = "failed"
    NOT_TRIED = "not_tried"


class Outcome(Struct, frozen=True):
    """What became of an output, and why; where it is and when it was asked for, if it was fetched."""

    state: State
    path: str = ""
    size: int = 0
    digest: str = ""
    asked_at: datetime | None = None
    reason: str = ""
    is_silent: bool = False  # no answer at all: others may fare alike


class Failure(Struct, frozen=True):
    """An output that wasn't kept."""

    job_id: str
    position: int | None
    name: str
    reason: str


class Fetched(Struct, frozen=True):
    """The result of a call. Bytes are of what was fetched by this one."""

    source: str
    to: str
    chosen: int
    fetched: int
    bytes: int
    kept_before: int
    too_large: int
    busy: int
    not_tried: int
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]


class Archive:
    """Fetches outputs of a source into a store; `downloads` is the way to them."""

    def __init__(
        self, db: Connection, source: tuple[int, str], store: Store, downloads: Downloads, clock: Clock
    ) -> None:
        self._db = db
        self._source_id, self._source = source
        self._store = store
        self._downloads = downloads
        self._clock = clock
        self._stop = threading.Event()

    def fetch(self, outputs: Sequence[Output], at_most: int | None = None, watch: Watch = silent) -> Fetched:
        """Fetches what isn't kept here yet. Raises ArchiveError where the store refuses, or psycopg.Error."""
        partial_files.forget_old(self._store.parts, (self._clock.now() - _OLD).timestamp())
        kept = recorded(self._db, self._source_id, outputs)
        outcomes: dict[int, Outcome] = {}
        try:
            with ThreadPoolExecutor(_AT_A_TIME, "download") as pool:
                try:
                    for place, outcome in self._each(pool, outputs, kept, at_most):
                        if outcome.state == State.FETCHED:
                            self._record(outputs[place], outcome)
                        outcomes[place] = outcome
                        watch(Progress(0, "outputs", len(outcomes), len(outputs)))
                finally:
                    self._stop.set()  # whatever happened here: leaving the pool waits for its threads
        finally:
            self._stop.clear()
        return self._told(outputs, outcomes)

    def _each(
        self,
        pool: ThreadPoolExecutor,
        outputs: Sequence[Output],
        kept: Recorded,
        at_most: int | None,
    ) -> Iterator[tuple[int, Outcome]]:
        """Each output's place and what became of it, as they come. Ends early where nothing answers any more."""
        under_way: dict[Future[Outcome], int] = {}
        in_vain = 0
        waiting = iter(enumerate(outputs))
        while in_vain < _GIVE_UP:
            for place, output in waiting:
                under_way[pool.submit(self._one, output, kept.get(output.key, []), at_most)] = place
                if len(under_way) == _AT_A_TIME:
                    break
            if not under_way:
                return
            for done in wait(under_way, return_when=FIRST_COMPLETED).done:
                outcome = done.result()
                in_vain = in_vain + 1 if outcome.is_silent else 0
                yield under_way.pop(done), outcome
        for done in wait(under_way).done:
            yield under_way[done], done.result()

    def _one(self, output: Output, kept: list[tuple[str, int]], at_most: int | None) -> Outcome:
        """One output, in a thread of its own."""
        if any(self._store.holds(path) and self._store.size(path) == size for path, size in kept):
            return Outcome(State.KEPT)
        key = sha256(repr((self._source, output.key)).encode()).hexdigest()[:40]
        asked_at = self._clock.now()  # what a rerun made meanwhile is another output
        try:
            with partial_files.opened(self._store.parts, key) as part:
                if part is None:
                    return Outcome(State.BUSY)
                try:
                    wanted = Wanted(output.link, output.scope, output.kind, output.size_in_mb)
                    content_type = self._downloads.fetch(wanted, part, at_most, self._stop)
                except Unreachable as error:
                    return Outcome(State.FAILED, reason=str(error), is_silent=True)
                except SourceError as error:
                    part.forget()
                    state = State.TOO_LARGE if isinstance(error, TooLarge) else State.FAILED
                    return Outcome(state, reason=str(error))
                except OSError:
                    part.forget()  # where there is no room it would keep all others from theirs
                    raise
                path = self._store.keep(part, self._path(output, content_type))
                part.forget()
                return Outcome(State.FETCHED, path, part.size, part.digest, asked_at)
        except OSError as error:  # the folder of parts
            raise ArchiveError(
                f"{self._store.parts}: {error.strerror or type(error).__name__}; make room there"
            ) from None

    def _path(self, output: Output, content_type: str) -> str:
        place = paths.Place(self._source, output.account, output.created, output.job_id, output.position, output.name)
        return paths.path(place, content_type)

    def _record(self, output: Output, outcome: Outcome) -> None:
        job_id, position, link_sha256 = output.key
        name = None if position is None else output.name
        row = (self._source_id, job_id, position, name, output.account, link_sha256)
        with self._db.transaction():
            kept = (outcome.path, outcome.size, outcome.digest, outcome.asked_at)
            self._db.execute(_RECORD, row + kept)

    def _told(self, outputs: Sequence[Output], outcomes: dict[int, Outcome]) -> Fetched:
        ended = [(output, outcomes.get(place, Outcome(State.NOT_TRIED))) for place, output in enumerate(outputs)]

        def number(state: State) -> int:
            return sum(outcome.state == state for _, outcome in ended)

        return Fetched(
            source=self._source,
            to=self._store.address,
            chosen=len(outputs),
            fetched=number(State.FETCHED),
            bytes=sum(outcome.size for _, outcome in ended if outcome.state == State.FETCHED),
            kept_before=number(State.KEPT),
            too_large=number(State.TOO_LARGE),
            busy=number(State.BUSY),
            not_tried=number(State.NOT_TRIED),
            failures=tuple(
                Failure(output.job_id, output.position, output.name, outcome.reason)
                for output, outcome in ended
                if outcome.state == State.FAILED
            ),
            notes=tuple(note for output, outcome in ended if (note := _size_note(output, outcome))),
        )


def _size_note(output: Output, outcome: Outcome) -> str | None:
    """Whether a file's size isn't what the source says; it rounds, and doesn't say to which megabyte."""
    if outcome.state != State.FETCHED or output.size_in_mb is None:
        return None
    least, most = output.size_in_mb * 1e6 * (1 - _PLAY) - 1e4, output.size_in_mb * _FULL_SIZE * (1 + _PLAY) + 1e4
    if least <= outcome.size <= most:
        return None
    told = f"{outcome.size:,} bytes came, and the source speaks of {output.size_in_mb:g} MB"
    return f"job {output.job_id}, {output.name}: {told}"


def text(fetched: Fetched) -> str:
    """A call in a line."""
    odd = {
        "larger than --max-size": fetched.too_large,
        "fetched by another call": fetched.busy,
        "failed": len(fetched.failures),
        "not tried": fetched.not_tried,
    }
    others = "".join(f", {number} {what}" for what, number in odd.items() if number)
    return (
        f"{fetched.source}: {fetched.fetched} of {fetched.chosen} outputs fetched ({fetched.bytes / 1e6:.1f} MB), "
        f"{fetched.kept_before} kept before{others}; in {fetched.to}"
    )


def reasons(failures: Sequence[Failure]) -> Iterator[str]:
    """Why outputs weren't kept: a line each; one for all that share a reason where they are many, with the first."""
    by_reason: dict[str, list[Failure]] = {}
    for failure in failures:
        by_reason.setdefault(failure.reason, []).append(failure)
    for reason, alike in by_reason.items():
        if len(alike) > _TOLD_SINGLY:
            yield f"{len(alike)} outputs, the first of them of {_which(alike[0])}: {reason}"
            continue
        for failure in alike:
            yield f"{_which(failure)}: {reason}"


def _which(failure: Failure) -> str:
    what = "publish link" if failure.position is None else f"document {failure.position}, {failure.name}"
    return f"job {failure.job_id}, {what}"
