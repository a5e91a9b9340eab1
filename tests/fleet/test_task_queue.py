"""The task queue: what is in the queue gets done, once, in the right order, whatever dies meanwhile."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event, Lock, Thread

import pytest

from etl.config import settings
from etl.errors import DatabaseError, Locked
from etl.fleet import task_queue
from etl.fleet.scheduler import Work
from etl.fleet.task_queue import Engine, Slots, Stopped, pause
from etl.postgres import connection, embedded, migrations
from etl.postgres.connection import Connection, connect
from tests.support.waiting import PATIENCE, eventually

STALLED_AFTER = 3.0
# What the task queue waits for in these tests. One test of test_worker.py runs with the real intervals.
SHORT_INTERVALS = {"_DISPATCHED": "* * * * * *", "_AGAIN": 1, "_LOOKED_FOR_JOBS": 0.2, "_PAUSE": 0.2}
CUT_ALL = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend'
"""
CUT_WHO_WAITS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%finish_job%'
"""
JOBS = "SELECT status::text, count(*) FROM queue.procrastinate_jobs WHERE queue_name <> 'house' GROUP BY status"
WORKERS = "SELECT count(*) FROM queue.procrastinate_workers"
DISPATCHES = "SELECT count(*) FROM queue.procrastinate_jobs WHERE task_name = 'dispatch' AND status = 'doing'"
IS_OLD = """
SELECT FROM queue.procrastinate_events AS e JOIN queue.procrastinate_jobs AS j ON j.id = e.job_id
WHERE j.lock = 'source west' AND j.status = 'doing' AND e.type = 'started' AND e.at < now() - %s * interval '1s'
"""


class Crew:
    """Chores whose work is a function of the test's; notes what began and ended, and who was at it side by side."""

    def __init__(self, work: Callable[[str, Work], bool] = lambda name, work: False) -> None:
        self.wanted: list[tuple[str, Work]] = []
        self.begun: list[tuple[str, Work]] = []
        self.done: list[tuple[str, Work]] = []
        self.errors: list[BaseException] = []
        self.asked = 0
        self.two_at_once: list[str] = []
        self._work, self._lock, self._under_way = work, Lock(), Counter[str]()

    def due(self) -> list[tuple[str, Work]]:
        self.asked += 1
        return [*self.wanted]

    def work(self, name: str, work: Work) -> bool:
        with self._lock:
            self.begun.append((name, work))
            self._under_way[name] += 1
            self.two_at_once += [name] if self._under_way[name] > 1 else []
        try:
            goes_on = self._work(name, work)
        finally:
            with self._lock:
                self._under_way[name] -= 1
        self.done.append((name, work))
        return goes_on

    def alive(self) -> None:
        pass

    def minute(self, waiting: int) -> None:
        raise AssertionError(f"no test lasts a minute: {waiting}")

    def failed(self, error: BaseException) -> None:
        self.errors.append(error)


@contextmanager
def at_work(
    url: str, crew: Crew, fresh: int = 2, intervals: Mapping[str, object] = SHORT_INTERVALS
) -> Iterator[Engine]:
    """Run a worker in this process, with a slot for slow work; at the end it was told to stop, and did."""
    with pytest.MonkeyPatch.context() as patch:
        for name, interval in intervals.items():
            patch.setattr(task_queue, name, interval)
        engine = Engine(url, Slots(fresh, 1), STALLED_AFTER, crew)
        thread = Thread(target=engine.run, daemon=True)
        thread.start()
        try:
            yield engine
        finally:
            engine.stop()
            thread.join(PATIENCE)
            assert not thread.is_alive()


def end_dispatches(crew: Crew, db: Connection) -> None:
    """Let nothing be due from now on, and wait for the dispatches that may have been told otherwise."""
    crew.wanted = []
    eventually(lambda: db.execute(DISPATCHES).fetchone() == (0,))


def jobs(db: Connection) -> dict[str, int]:
    """How many there are by status, but for the house's."""
    return {str(status): int(str(number)) for status, number in db.execute(JOBS).fetchall()}


def put(db: Connection, name: str, work: Work, status: str = "todo", worker: int | None = None) -> None:
    """A job as somebody else put it there."""
    with db.transaction():
        db.execute("SET LOCAL search_path = queue")
        db.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args, status, worker_id)"
            " VALUES (%s, %s, %s, %s, jsonb_build_object('source', %s::text), %s::procrastinate_job_status, %s)",
            ("fresh", work, f"source {name}", f"{work} {name}", name, status, worker),
        )


def a_dead_worker(db: Connection) -> int:
    """Return the number of a worker that gave its last sign of life long ago."""
    [(dead,)] = db.execute(
        "INSERT INTO queue.procrastinate_workers (last_heartbeat) VALUES (now() - interval '1h') RETURNING id"
    ).fetchall()
    return int(str(dead))


def test_what_is_due_gets_done_and_leaves_nothing_behind(url: str, db: Connection) -> None:
    """All kinds of work, of many sources; what succeeded is forgotten at once."""
    crew = Crew()
    crew.wanted = [(f"source-{number}", work) for number in range(20) for work in Work]
    with at_work(url, crew):
        eventually(lambda: {*crew.done} == {*crew.wanted})
    assert crew.two_at_once == []
    assert db.execute(WORKERS).fetchone() == (0,)
    assert jobs(db).keys() <= {"todo"}  # put in by a dispatch after that
    assert crew.errors == []


def test_two_workers_share_what_there_is(url: str) -> None:
    """Both work, neither at a source of the other's."""
    both = Event()
    crews: list[Crew] = []

    def work(name: str, work: Work) -> bool:
        if all(crew.begun for crew in crews):
            both.set()
        both.wait(PATIENCE)
        return False

    crews += [Crew(work), Crew(work)]
    for crew in crews:
        crew.wanted = [(f"source-{number}", Work.SYNC) for number in range(4)]
    with at_work(url, crews[0]), at_work(url, crews[1]):
        eventually(lambda: len({*crews[0].done} | {*crews[1].done}) == 4)
    assert crews[0].done
    assert crews[1].done


def test_what_waits_or_is_under_way_is_not_put_in_again(url: str, db: Connection) -> None:
    """Dispatches come and go while a run takes long: there is one job of it, then and afterwards."""
    over = Event()
    crew = Crew(lambda name, work: over.wait(PATIENCE) and False)
    crew.wanted = [("west", Work.SYNC), ("west", Work.PURGE)]
    with at_work(url, crew):
        eventually(lambda: bool(crew.begun))
        asked = crew.asked
        eventually(lambda: crew.asked >= asked + 2)
        assert jobs(db) == {"doing": 1, "todo": 1}
        end_dispatches(crew, db)
        over.set()
        eventually(lambda: jobs(db) == {})
    assert crew.done == [("west", Work.SYNC), ("west", Work.PURGE)]  # the more urgent first


def test_slow_work_never_takes_the_slots_of_fresh_work(url: str) -> None:
    """A backfill of slices without end, and others behind it: increments are done meanwhile."""
    over = Event()
    crew = Crew(lambda name, work: work is Work.BACKFILL and not over.wait(0.2))
    crew.wanted = [(f"large-{number}", Work.BACKFILL) for number in range(5)]
    with at_work(url, crew):
        eventually(lambda: len(crew.done) > 7)
        assert len({name for name, _ in crew.done[:5]}) == 5  # in turn: none of them twice before all had one
        crew.wanted = [(f"small-{number}", Work.SYNC) for number in range(5)]
        eventually(lambda: {name for name, work in crew.done if work is Work.SYNC} >= {f"small-{n}" for n in range(5)})
        over.set()
    assert crew.two_at_once == []


def test_a_job_that_is_no_longer_its_own_disturbs_no_worker(url: str, db: Connection) -> None:
    """It was taken for dead, another did the job meanwhile: nothing is to be done about that, and nobody waits."""
    over = Event()
    crew = Crew(lambda name, work: name == "west" and over.wait(PATIENCE) and False)
    crew.wanted = [("west", Work.SYNC)]
    with at_work(url, crew):
        eventually(lambda: bool(crew.begun))
        crew.wanted = []
        with db.transaction():
            db.execute("SET LOCAL search_path = queue")
            db.execute("DELETE FROM procrastinate_jobs WHERE lock = 'source west'")
        over.set()
        eventually(lambda: bool(crew.done))
        crew.wanted = [("east", Work.SYNC)]
        eventually(lambda: ("east", Work.SYNC) in crew.done)
    assert crew.errors == []


def test_a_dispatch_that_fails_is_told(url: str) -> None:
    """Else a fleet that does nothing would say nothing; the next one may do better."""
    crew = Crew()
    asked, tries = crew.due, count()

    def due() -> list[tuple[str, Work]]:
        if next(tries) < 2:
            raise RuntimeError("nobody knows what is due")
        return asked()

    crew.due = due  # type: ignore[method-assign]
    crew.wanted = [("west", Work.SYNC)]
    with at_work(url, crew):
        eventually(lambda: ("west", Work.SYNC) in crew.done)
    assert [str(error) for error in crew.errors] == ["nobody knows what is due"] * 2


def test_an_increment_that_turns_out_long_goes_on_as_a_backfill(url: str) -> None:
    """Its next slice takes no slot of fresh work."""

    def work(name: str, work: Work) -> bool:
        crew.wanted = []
        return work is Work.SYNC

    crew = Crew(work)
    crew.wanted = [("west", Work.SYNC)]
    with at_work(url, crew):
        eventually(lambda: ("west", Work.BACKFILL) in crew.done)
    assert crew.done == [("west", Work.SYNC), ("west", Work.BACKFILL)]


def test_a_source_that_is_held_is_tried_again_shortly_and_keeps_nobody_waiting(url: str, db: Connection) -> None:
    """It waits in the queue, not in a slot."""
    held = Event()

    def work(name: str, work: Work) -> bool:
        if name == "held" and not held.is_set():
            raise Locked("source 'held' is held by a run by hand; nothing was done")
        return False

    crew = Crew(work)
    crew.wanted = [("held", Work.SYNC), ("free", Work.SYNC)]
    with at_work(url, crew, fresh=1):
        eventually(lambda: ("free", Work.SYNC) in crew.done and ("held", Work.SYNC) in crew.begun)
        waits = (
            "SELECT scheduled_at > now() FROM queue.procrastinate_jobs WHERE lock = 'source held' AND status = 'todo'"
        )
        eventually(lambda: db.execute(waits).fetchone() == (True,))
        held.set()
        eventually(lambda: ("held", Work.SYNC) in crew.done)


def test_what_is_tried_again_waits_longer_and_longer() -> None:
    """A held source is tried at least each minute; what is stopped is there for others at once."""
    assert [pause(Locked(), attempts) for attempts in range(6)] == [5, 10, 20, 40, 60, 60]
    assert [pause(DatabaseError(), attempts) for attempts in (0, 1, 5, 6, 7, 10_000)] == [5, 10, 160, 300, 300, 300]
    assert pause(Stopped(), 5) == 0


def test_what_was_under_way_at_the_end_is_there_for_others_at_once(url: str, db: Connection) -> None:
    """A run that hears of the wish to end puts its job back."""
    over = Event()

    def stopped(name: str, work: Work) -> bool:
        over.wait(PATIENCE)
        raise KeyboardInterrupt

    first, second = Crew(stopped), Crew()
    first.wanted = [("west", Work.SYNC)]
    with at_work(url, first) as engine:
        eventually(lambda: bool(first.begun))
        engine.stop()
        over.set()
    put_back = "SELECT status::text, scheduled_at <= now() FROM queue.procrastinate_jobs WHERE queue_name = 'fresh'"
    assert db.execute(put_back).fetchall() == [("todo", True)]
    with at_work(url, second):
        eventually(lambda: second.done == [("west", Work.SYNC)])


def test_what_a_dead_worker_had_under_way_is_taken_up(url: str, db: Connection) -> None:
    """After its last sign of life plus the time-out; where the like waits already, what is lost is only finished."""
    dead = a_dead_worker(db)
    put(db, "lost", Work.SYNC, "doing", dead)
    put(db, "twice", Work.SYNC, "doing", dead)
    put(db, "twice", Work.SYNC)
    crew = Crew()
    with at_work(url, crew):
        eventually(lambda: {*crew.done} == {("lost", Work.SYNC), ("twice", Work.SYNC)})
        eventually(lambda: jobs(db) == {"failed": 1})
    assert len(crew.done) == 2


def test_the_jobs_of_a_worker_that_lives_are_left_to_it(url: str, db: Connection) -> None:
    """However long a run takes: a rescue takes up what a dead worker had, and leaves a run of the same length alone."""
    over = Event()
    crew, other = Crew(lambda name, work: over.wait(PATIENCE) and False), Crew()
    crew.wanted = [("west", Work.SYNC)]
    with at_work(url, crew, fresh=1):
        eventually(lambda: bool(crew.begun))
        with at_work(url, other):
            eventually(lambda: db.execute(IS_OLD, (STALLED_AFTER,)).fetchone() is not None)
            put(db, "lost", Work.SYNC, "doing", a_dead_worker(db))
            eventually(lambda: ("lost", Work.SYNC) in other.done)
            assert (other.begun, len(crew.begun)) == ([("lost", Work.SYNC)], 1)
        end_dispatches(crew, db)
        over.set()
        eventually(lambda: jobs(db) == {})
    assert crew.done == [("west", Work.SYNC)]


def test_a_worker_outlives_its_connections(url: str, db: Connection) -> None:
    """All of them are cut in mid-run: what was under way is done again, and the next as well."""
    cut, under_way = Event(), Event()

    def work(name: str, work: Work) -> bool:
        under_way.set()
        cut.wait(PATIENCE)
        return False

    crew = Crew(work)
    crew.wanted = [("west", Work.SYNC)]
    with at_work(url, crew):
        under_way.wait(PATIENCE)
        db.execute(CUT_ALL)
        crew.wanted = [("east", Work.SYNC)]
        cut.set()
        eventually(lambda: ("east", Work.SYNC) in crew.done)
        eventually(lambda: jobs(db).get("doing", 0) == 0)


def test_what_became_of_a_run_is_not_lost_with_a_connection(url: str, db: Connection) -> None:
    """It was done, but that couldn't be written: the job is let go of, and done once more."""
    over = Event()
    crew = Crew(lambda name, work: over.wait(PATIENCE) and False)
    crew.wanted = [("west", Work.SYNC)]
    with at_work(url, crew):
        eventually(lambda: bool(crew.begun))
        end_dispatches(crew, db)
        with connect(url) as other, other.transaction():
            other.execute("SELECT FROM queue.procrastinate_jobs WHERE queue_name = 'fresh' FOR UPDATE")
            over.set()
            eventually(lambda: db.execute(CUT_WHO_WAITS).fetchone() == (1,))
        eventually(lambda: jobs(db) == {})
    assert crew.done == 2 * [("west", Work.SYNC)]
    assert ["was lost" in str(error) for error in crew.errors] == [True]


@pytest.mark.slow
def test_a_worker_outlives_its_database(tmp_path: Path) -> None:
    """The server is stopped and started: it is told once, and the worker comes back by itself."""
    url = settings.libpq_url(embedded.start(tmp_path, {"fsync": "off"}).url)
    try:
        migrations.migrate(url)
        crew = Crew()
        crew.wanted = [("west", Work.SYNC)]
        with at_work(url, crew, intervals=SHORT_INTERVALS | {"_WAITED": 1.0}):
            eventually(lambda: bool(crew.done))
            embedded.stop(tmp_path)
            eventually(lambda: any("can't connect" in str(error) for error in crew.errors))
            embedded.start(tmp_path, {"fsync": "off"})
            crew.wanted = [("east", Work.SYNC)]
            eventually(lambda: ("east", Work.SYNC) in crew.done)
        assert {type(error) for error in crew.errors} == {DatabaseError}
    finally:
        embedded.remove(tmp_path)


def test_a_database_without_a_queue_is_told(empty_database: str) -> None:
    """And the worker begins once there is one."""
    migrations.migrate(empty_database)
    with connect(empty_database) as db:
        db.execute("DROP SCHEMA queue CASCADE")
        db.execute("DELETE FROM etl.queue")
        crew = Crew()
        crew.wanted = [("west", Work.SYNC)]
        with at_work(empty_database, crew):
            eventually(lambda: any("has no queue yet" in str(error) for error in crew.errors))
            migrations.migrate(empty_database)
            eventually(lambda: bool(crew.done))


def test_a_job_is_taken_without_reading_all_that_wait(empty_database: str) -> None:
    """Of a queue that has just filled, of which Postgres' statistics know nothing: a few rows are read for each."""
    migrations.migrate(empty_database)
    crew = Crew()
    crew.wanted = [(f"source-{number}", Work.SYNC) for number in range(2000)]
    with at_work(empty_database, crew, intervals={}):  # each dispatch reads all that wait
        eventually(lambda: len(crew.done) >= 100)
    read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'procrastinate_jobs'"
    with connect(empty_database) as db:
        [(rows,)] = db.execute(read).fetchall()
    assert int(str(rows)) < 400 * len(crew.done)


def test_its_connections_are_called_as_all_of_ours(url: str, db: Connection) -> None:
    """Whoever holds a source's lock is found by that name; they are as few as docs/fleet.md says."""
    crew = Crew()
    crew.wanted = [(f"source-{number}", work) for number in range(20) for work in Work]
    with at_work(url, crew):
        eventually(lambda: {*crew.done} == {*crew.wanted})
        names = db.execute(
            "SELECT application_name FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        ).fetchall()
    assert {*names} == {(connection.session_name(),)}
    assert 3 < len(names) <= 7


def test_slots_are_shared_out() -> None:
    """A quarter is for slow work, and at least one."""
    assert [Slots.of(number) for number in (2, 3, 4, 8, 12)] == [(1, 1), (2, 1), (3, 1), (6, 2), (9, 3)]
