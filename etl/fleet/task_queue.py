"""The task queue: Procrastinate, whose queue in Postgres all workers of a fleet share.

    dispatch    what is due by the ledger is put into the queue, once for all workers
    sync, purge, deepen, backfill    one run of a source each, in a thread; a backfill puts itself in again
    rescue      what a worker had under way that gives no sign of life is put back
    tidy        what failed long ago is forgotten

Of a source one job is under way at a time, by the job's lock, and one of a kind waits, by its queueing lock. Slow work
has slots of its own, and so has maintenance, so that none of it keeps an increment waiting.

Only this module and `etl/postgres/queue_schema.py` know Procrastinate, and only this one has async code: its workers
run in one event loop, the tasks themselves in threads beside it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, Self

import psycopg
from procrastinate import App, BaseRetryStrategy, PsycopgConnector, RetryDecision, exceptions
from procrastinate.jobs import Job, Status
from psycopg import errors

from etl.errors import DatabaseError, Locked
from etl.fleet.scheduler import Work
from etl.postgres import connection, queue_schema

FRESH, SLOW, HOUSE = "fresh", "slow", "house"
_PRIORITIES = {Work.SYNC: 10, Work.PURGE: 5, Work.DEEPEN: 2, Work.BACKFILL: 0}
_DISPATCHED = "* * * * * */5"  # each five seconds
_TIDIED = "17 * * * *"
_KEPT = 24  # hours, of what failed
_HOUSEWORK = 3  # tasks of the house at a time
_POOL = 4  # connections, for what workers ask of the queue
_WAITED = 5.0  # seconds for one of them
_LOOKED_FOR_JOBS = 1.0  # seconds: what was put back, or waited for its source, isn't announced
_LOOKED_FOR_ABORTS = 60.0  # seconds: nobody asks for any
_PAUSE = 2.0  # seconds before the queue is tried again
_TRIES = 3
_AGAIN, _AT_LONGEST, _HELD_AT_LONGEST = 5, 300, 60  # seconds
# The queue is as often empty as it is full, and Postgres, whose statistics are of another moment, would read all of it
# and sort it for each job that is taken: of 2,000 that wait it would hand out four a second. By its indexes it is a
# millisecond, whatever is in there. And no commit waits for the disk: what a crash of the server takes away of the
# queue is put in anew, or done once more.
AS_A_WORKER = {
    "search_path": queue_schema.SCHEMA,
    "enable_seqscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "synchronous_commit": "off",
}
_IN_QUEUE = "SELECT queueing_lock FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
_WAITING = """
SELECT count(*) AS waiting FROM procrastinate_jobs
WHERE status = 'todo' AND queue_name <> 'house' AND (scheduled_at IS NULL OR scheduled_at <= now())
"""


class Stopped(Exception):
    """A run ended early, since this worker is to end: somebody else goes on with it."""


class Slots(NamedTuple):
    """How many runs a worker makes side by side: increments, and what may take long."""

    fresh: int
    slow: int

    @classmethod
    def of(cls, concurrency: int) -> Slots:
        """A quarter of them, at least one, for what may take long."""
        slow = max(1, concurrency // 4)
        return cls(concurrency - slow, slow)


class Chores(Protocol):
    """What a worker does when the task queue says so. All but `alive` is called in threads."""

    def due(self) -> Iterable[tuple[str, Work]]:
        """What is to be done now, for which source."""

    def work(self, name: str, work: Work) -> bool:
        """One run of a source; whether there is more of it to do at once.

        What it raises is tried again soon. Where the ledger says when the source has its next turn it raises nothing.
        """

    def alive(self) -> None:
        """A second has passed."""

    def minute(self, waiting: int) -> None:
        """A minute has passed; so many jobs wait."""

    def failed(self, error: BaseException) -> None:
        """The queue can't be reached, or refuses; it is tried again."""


class Again(BaseRetryStrategy):
    """When a job is tried again whose failure no ledger has: its source is held by a run by hand, the database is gone.

    It waits with its lock and its priority, and keeps the source's other jobs waiting: none of them would do better.
    """

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:
        """At once where the worker was stopped, else sooner the fewer attempts there were."""
        return RetryDecision(retry_in={"seconds": pause(exception, job.attempts)})


def pause(error: BaseException, attempts: int) -> int:
    """Seconds until a job is tried again that was tried so many times before."""
    if isinstance(error, Stopped):
        return 0
    longest = _HELD_AT_LONGEST if isinstance(error, Locked) else _AT_LONGEST
    return min(longest, _AGAIN << min(attempts, 16))


class _Connection(psycopg.AsyncConnection[Any]):
    """One to the queue, without its settings where a pooler takes none."""

    @classmethod
    async def connect(cls, conninfo: str = "", **given: Any) -> Self:
        try:
            return await super().connect(conninfo, **given)
        except psycopg.OperationalError as error:
            return await super().connect(connection.without_options(conninfo, error), **given)


async def _settle(opened: psycopg.AsyncConnection[Any]) -> None:
    """The settings that a pooler has dropped."""
    statement, given = connection.settling(opened.info.backend_pid, AS_A_WORKER)
    await opened.execute(statement.encode(), given)
    await opened.commit()


class Engine:
    """One worker of a fleet: takes jobs from the queue at `url` until it is told to stop.

    A worker that gives no sign of life for so many seconds as `stalled_after` is taken for dead.
    """

    def __init__(self, url: str, slots: Slots, stalled_after: float, chores: Chores) -> None:
        self._url, self._slots, self._stalled_after, self._chores = url, slots, stalled_after, chores
        self._connector = PsycopgConnector(
            conninfo=connection.address(url, **AS_A_WORKER),
            connection_class=_Connection,
            configure=_settle,
            min_size=1,
            max_size=_POOL,
            timeout=_WAITED,
        )
        self._runs, self._house = App(connector=self._connector), App(connector=self._connector)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told, self._lost = asyncio.Event(), asyncio.Event()
        for work in Work:
            queued = FRESH if work is Work.SYNC else SLOW
            self._runs.task(name=work, queue=queued, retry=Again())(self._doing(work))
        self._by_the_clock(_DISPATCHED, self._dispatch)
        self._by_the_clock(f"* * * * * */{max(1, min(30, int(stalled_after / 6)))}", self._rescue)
        self._by_the_clock(_TIDIED, self._tidy)

    def run(self) -> None:
        """Until `stop`: then what is in hand is finished first. A database that is gone comes back."""
        _hush()
        # Of the two loops that Windows has, the one that psycopg works with.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            self._loop = runner.get_loop()
            self._loop.set_exception_handler(self._misses)
            threads = sum(self._slots) + _HOUSEWORK + 1
            self._loop.set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="slot"))
            runner.run(self._run())

    def stop(self) -> None:
        """No more jobs are taken. From any thread, or a signal's handler."""
        if self._loop is None:
            self._told.set()
        else:
            self._loop.call_soon_threadsafe(self._told.set)

    async def _run(self) -> None:
        clockwork = asyncio.create_task(self._clockwork())
        while not self._told.is_set():
            try:
                await asyncio.to_thread(self._check)
                await self._serve()
            except psycopg.OperationalError:  # the pool's own, which has no reasons
                await asyncio.to_thread(self._chores.failed, self._no_connection())
            except Exception as error:  # noqa: BLE001 - the next try may do better, and the log says what happened
                await asyncio.to_thread(self._chores.failed, error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), _PAUSE)
        clockwork.cancel()
        await asyncio.wait([clockwork])

    def _check(self) -> None:
        """Raises DatabaseError, in words for people, where there is no database, or none with a queue."""
        with connection.connected(self._url) as db:
            queue_schema.require(db)

    def _no_connection(self) -> DatabaseError:
        return DatabaseError(
            f"{connection.masked(self._url)}: has no connection left for the queue; a worker takes one a slot, and "
            "up to 8 more: raise max_connections, or pool_size where a pooler is between"
        )

    def _misses(self, _loop: object, context: dict[str, object]) -> None:
        """What became of a run couldn't be written: its job stays under way, and only a worker that goes lets it go.

        Where the job was another's meanwhile, since this worker was taken for dead, there is nothing to be let go.
        """
        error = context.get("exception")
        is_anothers = isinstance(error, BaseException) and isinstance(error.__cause__, errors.RaiseException)
        if isinstance(error, exceptions.ConnectorException) and not is_anothers:
            self._lost.set()

    async def _serve(self) -> None:
        """Three workers side by side, until told to stop, or until one of them can't go on."""
        self._lost.clear()
        async with self._house.open_async():
            workers = [
                asyncio.create_task(self._worker(self._runs, FRESH, self._slots.fresh)),
                asyncio.create_task(self._worker(self._runs, SLOW, self._slots.slow)),
                asyncio.create_task(self._worker(self._house, HOUSE, _HOUSEWORK)),
            ]
            tasks = [*workers, *(asyncio.create_task(event.wait()) for event in (self._told, self._lost))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:  # a worker finishes what it has under way
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not self._told.is_set():
            raise DatabaseError(f"{connection.masked(self._url)}: a connection to the queue was lost; it is made anew")

    async def _worker(self, app: App, name: str, slots: int) -> None:
        await app.run_worker_async(
            queues=[name],
            name=name,
            concurrency=slots,
            install_signal_handlers=False,
            delete_jobs="successful",
            fetch_job_polling_interval=_LOOKED_FOR_JOBS,
            abort_job_polling_interval=_LOOKED_FOR_ABORTS,
            update_heartbeat_interval=self._stalled_after / 3,
            stalled_worker_timeout=self._stalled_after,
        )

    async def _clockwork(self) -> None:
        """Signs of life, and once a minute what is told of it."""
        seconds = 0
        while True:
            await asyncio.sleep(1.0)
            self._chores.alive()
            seconds += 1
            if seconds % 60 == 0:
                with suppress(exceptions.ConnectorException, psycopg.Error, exceptions.AppNotOpen):
                    row = await self._connector.execute_query_one_async(_WAITING)
                    await asyncio.to_thread(self._chores.minute, row["waiting"])

    def _by_the_clock(self, cron: str, task: Callable[[int], Awaitable[None]]) -> None:
        """A task of the house. It has no lock: one that a killed worker had would keep all others from the rescue."""
        name = task.__name__.strip("_")

        async def told(timestamp: int) -> None:
            try:
                await task(timestamp)
            except Exception as error:
                await asyncio.to_thread(self._chores.failed, error)
                raise

        registered = self._house.task(name=name, queue=HOUSE, queueing_lock=name)(told)
        self._house.periodic(cron=cron, periodic_id=name)(registered)

    def _doing(self, work: Work) -> Callable[[str], None]:
        def task(source: str) -> None:
            try:
                is_to_go_on = self._chores.work(source, work)
            except KeyboardInterrupt:
                raise Stopped from None  # in an event loop the other would end all
            if is_to_go_on:
                more = self._job(source, Work.BACKFILL if work is Work.SYNC else work, _PRIORITIES[Work.BACKFILL])
                with suppress(exceptions.AlreadyEnqueued):
                    self._runs.job_manager.batch_defer_jobs([more])

        return task

    def _job(self, source: str, work: Work, priority: int | None = None) -> Job:
        named = self._runs.tasks[work].configure(
            lock=f"source {source}",
            queueing_lock=f"{work} {source}",
            priority=_PRIORITIES[work] if priority is None else priority,
        )
        return named.make_new_job(source=source)

    async def _dispatch(self, timestamp: int) -> None:
        """What is due is put into the queue, but for what is there already or under way."""
        due = [self._job(name, work) for name, work in await asyncio.to_thread(self._chores.due)]
        for _ in range(_TRIES):
            rows = await self._connector.execute_query_all_async(_IN_QUEUE)
            known = {row["queueing_lock"] for row in rows}
            if not (new := [job for job in due if job.queueing_lock not in known]):
                return
            with suppress(exceptions.AlreadyEnqueued):  # by another, in this moment; all or none are taken
                await self._runs.job_manager.batch_defer_jobs_async(new)
                return

    async def _rescue(self, timestamp: int) -> None:
        """Where its like waits already, a job that is lost is only finished.

        Should two do this at once, or a worker be slow and not dead, then two jobs of a source are under way, and the
        lock in the database has the last word.
        """
        jobs = self._house.job_manager
        for job in await jobs.get_stalled_jobs(seconds_since_heartbeat=self._stalled_after):
            with suppress(exceptions.ConnectorException):  # somebody else had it meanwhile
                try:
                    await jobs.retry_job(job)
                except exceptions.UniqueViolation:
                    await jobs.finish_job(job, Status.FAILED, delete_job=False)

    async def _tidy(self, timestamp: int) -> None:
        jobs = self._house.job_manager
        await jobs.delete_old_jobs(_KEPT, include_failed=True, include_cancelled=True, include_aborted=True)
        await jobs.prune_stalled_workers(self._stalled_after)


def _hush() -> None:
    """What others write to Python's log fits none of ours, and may quote addresses."""
    for name in ("procrastinate", "psycopg", "asyncio"):
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        logger.setLevel(logging.CRITICAL)
