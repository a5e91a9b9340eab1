"""Waiting for a job: asked less and less often, through outages, until it ends or the time is up."""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from etl.errors import BrokenPromise, Refused, SourceError, UnreadableJob
from etl.jobs import live, wait
from etl.jobs.live import Live
from etl.jobs.wait import Ears, Outcome, Waited, Wish, pause
from etl.models import ENDED_STATES, OPEN_STATES, Clock
from etl.postgres.connection import Connection
from etl.testing.emulator import Emulator, Faults, ServiceOptions, Spoilt, World
from tests.support.ended_job import Desk, a_row
from tests.support.scene import TOKEN


class Queue(Desk):
    """A job on the queue, and what is heard while somebody waits for it; `at` does things as time passes."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        self.world = World(seed=seed)
        self.job = self.world.arrive()
        self.emulator = Emulator(self.world, token=TOKEN, reset=httpx.ReadError)
        self.clock = Clock(lambda: self.world.now, lambda: self.world.now.timestamp(), self._pass)
        self.api = self.client(httpx.WSGITransport(app=self.emulator))
        self.slept: list[float] = []
        self.seen: list[Live] = []
        self.told: list[str] = []
        self.at: dict[float, Callable[[], object]] = {}

    def _pass(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.world.advance(timedelta(seconds=seconds))
        for moment in [moment for moment in self.at if moment <= sum(self.slept)]:
            self.at.pop(moment)()

    def wait(self, timeout: float = math.inf, **wish: Any) -> Waited:
        """Until it has ended."""
        ears = Ears(self.seen.append, self.told.append)
        return wait.wait(self.api, self.job_id, self.clock, Wish(timeout, **wish), ears, lambda: 0.5)


def test_pauses_grow_to_ten_seconds() -> None:
    """Two seconds first, never more than ten, and many who wait don't ask together."""
    pauses = [pause(asked, 1.0) for asked in range(1, 100)]
    assert pauses[0] == 2.0
    assert pauses == sorted(pauses)
    assert pauses[3] < pauses[4] == pauses[-1] == 10.0
    assert all(0.8 * pause(n, 1.0) == pytest.approx(pause(n, 0.0)) for n in (1, 5, 50))


def test_a_job_that_completes_ends_the_waiting() -> None:
    """With each look handed on; asked ever less often."""
    queue = Queue(seed=2)
    waited = queue.wait()
    assert waited.outcome is Outcome.COMPLETED
    assert waited.last == queue.seen[-1]
    assert queue.seen[0].row.job_status == "Queued"
    assert queue.seen[-1].row.percent_completed == 100
    assert queue.slept == sorted(queue.slept)
    assert max(queue.slept) <= 10.0
    assert waited.seconds == pytest.approx(sum(queue.slept))


@pytest.mark.parametrize("status", ["Failed", "Cancelled"])
def test_any_other_end_is_a_failure(status: str) -> None:
    """Also one in a state that isn't known here, once the source dates it."""
    queue = Queue()
    queue.world.stop_life()
    ended = queue.world.now + timedelta(seconds=4)
    queue.at[4] = lambda: queue.world.change(queue.job_id, jobStatus=status, completedDate=ended)
    assert queue.wait(60).outcome is Outcome.FAILED


def test_a_state_that_is_not_known_is_no_end_as_long_as_it_is_not_dated() -> None:
    """`Paused` may go on."""
    queue = Queue()
    queue.world.stop_life()
    queue.world.change(queue.job_id, jobStatus="Paused")
    assert queue.wait(60).outcome is Outcome.TIMED_OUT


def test_the_time_is_kept() -> None:
    """At its end the job is looked at once more, and not a second is slept beyond."""
    queue = Queue()
    queue.world.stop_life()
    waited = queue.wait(100)
    assert (waited.outcome, waited.seconds, waited.is_silent) == (Outcome.TIMED_OUT, 100, False)
    assert queue.seen[-1].answered_at == queue.world.now.replace(microsecond=0)
    queue.at[3] = lambda: queue.world.change(queue.job_id, jobStatus="Completed")
    queue.slept.clear()
    assert queue.wait(3).outcome is Outcome.COMPLETED


def test_an_outage_is_waited_through_and_told_once() -> None:
    """The source is away for ten minutes, in every way it can be; then the job is there again."""
    queue = Queue()
    queue.world.stop_life()
    kinds = ("500", "502", "503", "html", "error-in-200", "cut", "reset", "429-bare")
    queue.at[5] = lambda: queue.emulator.set_faults(Faults(1.0, kinds))
    queue.at[600] = lambda: queue.emulator.set_faults(Faults())
    queue.at[700] = lambda: queue.world.change(queue.job_id, jobStatus="Completed")
    waited = queue.wait(3600)
    assert (waited.outcome, 700 <= waited.seconds < 715) == (Outcome.COMPLETED, True)
    assert [said.rpartition("; ")[2] for said in queue.told] == ["waiting goes on", "the source answers again"]


def test_an_outage_to_the_end_is_a_time_out() -> None:
    """A source that never answers, or asks to be left alone for longer than there is time."""
    for kinds in (("503",), ("429-seconds",)):
        queue = Queue()
        queue.emulator.set_faults(Faults(1.0, kinds))
        waited = queue.wait(90)
        assert (waited.outcome, waited.last, waited.is_silent) == (Outcome.TIMED_OUT, None, True)
        assert waited.seconds == pytest.approx(90, abs=1)


@pytest.mark.parametrize("asked", ["600", "86400"])
def test_patience_that_is_asked_for_ends_with_the_time(asked: str) -> None:
    """Retry-After says ten minutes, or a day; the timeout is one minute, and no second request is made."""
    queue = Queue()
    requests: list[str] = []

    def busy(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        requests.append(environ["PATH_INFO"])
        start_response("429 Too Many Requests", [("Retry-After", asked)])
        return [b""]

    queue.api = queue.client(httpx.WSGITransport(app=busy))
    waited = queue.wait(60)
    assert waited.outcome is Outcome.TIMED_OUT
    assert 60 <= waited.seconds <= 61
    assert len(requests) == 1


def asked(queue: Queue) -> list[str]:
    """How the job was asked for: the property of the filter, or the plain path."""
    requests = queue.emulator.requests
    return [request.query["$filter"].split()[0] if request.query else "the path" for request in requests]


def test_a_source_that_refuses_its_filter_is_asked_by_the_plain_path() -> None:
    """In both spellings of the property it is refused, once; from then on each look is one request."""
    queue = Queue(seed=2)
    queue.emulator.refuse = frozenset({"jobid"})
    waited = queue.wait(600)
    assert waited.outcome is Outcome.COMPLETED
    assert asked(queue) == ["jobID", "jobId", *["the path"] * len(queue.seen)]
    assert len(queue.seen) > 2


def test_a_source_that_refuses_ends_it() -> None:
    """A right that is missing won't come by waiting; nor is it asked for in another way."""
    queue = Queue()
    requests: list[str] = []

    def refuse(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        requests.append(environ["PATH_INFO"])
        start_response("403 Forbidden", [])
        return [b'{"error": {"code": "Forbidden", "message": "no"}}']

    queue.api = queue.client(httpx.WSGITransport(app=refuse))
    with pytest.raises(Refused, match="let this user read background jobs"):
        queue.wait(60)
    assert (queue.slept, len(requests)) == ([], 1)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_source_that_ignores_its_filter_is_asked_by_the_plain_path(is_there: bool) -> None:
    """Other jobs than the one asked for are no answer: neither that it is there, nor that it isn't."""
    queue = Queue()
    queue.world.ties(3)
    queue.emulator.ignore = frozenset({"filter"})
    queue.emulator.page_size = 2
    queue.job = queue.world.add(jobStatus="Completed")
    if is_there:
        assert queue.wait(60).outcome is Outcome.COMPLETED
    else:
        queue.world.delete(queue.job)
        with pytest.raises(SourceError, match="the source has no job"):
            queue.wait(60)
    assert asked(queue)[:3] == ["jobID", "jobId", "the path"]


def test_another_job_than_the_one_asked_for_is_none() -> None:
    """A source that shows others whatever it is asked is found at once."""
    queue = Queue()
    other = queue.world.add().rendered()

    def lie(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [other if queue.job_id in environ["PATH_INFO"] else b'{"value": [' + other + b"]}"]

    queue.api = queue.client(httpx.WSGITransport(app=lie))
    with pytest.raises(BrokenPromise, match="other jobs than the one asked for"):
        queue.wait(60)
    assert queue.slept == []


def test_a_job_that_is_purged_meanwhile_is_said() -> None:
    """Its date came while it was waited for."""
    queue = Queue()
    queue.world.stop_life()
    queue.world.change(queue.job_id, purgeDateTime=queue.world.now + timedelta(seconds=20))
    with pytest.raises(SourceError, match="was purged by the source meanwhile: its time was up at 2026-03-02 09:00:20"):
        queue.wait(600)


def test_a_job_that_vanishes_must_be_missing_twice() -> None:
    """One empty answer may be a slip of the source; two are told as what they are, before any date has come."""
    queue = Queue()
    queue.world.stop_life()
    row = queue.world.get(queue.job_id)
    assert row is not None
    queue.at[1] = lambda: queue.world.delete(queue.job_id)
    queue.at[1.5] = lambda: queue.world.settle([row])
    queue.at[60] = lambda: queue.world.delete(queue.job_id)
    with pytest.raises(SourceError, match=r"shows job .* no more: it was deleted there meanwhile"):
        queue.wait(600)
    assert sum(queue.slept) > 60


def test_a_job_that_never_was_is_said() -> None:
    """Soon: nobody waits half an hour for a slip of the pen."""
    queue = Queue()
    queue.world.delete(queue.job_id)
    with pytest.raises(SourceError, match="the source has no job"):
        queue.wait(600)
    assert len(queue.slept) == 1


def test_the_version_that_is_known_is_no_end() -> None:
    """After a rerun the source may show the end of the run before for a moment."""
    queue = Queue()
    queue.world.stop_life()
    queue.world.change(queue.job_id, jobStatus="Completed")
    known = live.look(queue.api, queue.job_id)
    assert known is not None
    queue.at[10] = lambda: queue.world.change(queue.job_id, jobStatus="Queued")
    queue.at[50] = lambda: queue.world.change(queue.job_id, jobStatus="Completed")
    waited = queue.wait(600, known=known.row)
    assert (waited.outcome, waited.seconds >= 50) == (Outcome.COMPLETED, True)


@pytest.mark.parametrize("status", ["Queued", "Inprogress", "Completed", "Failed", "Cancelled", "completed", None])
def test_sql_and_python_know_the_same_states(db: Connection, status: str | None) -> None:
    """What is open, and what has ended, in sql/functions/states.sql and in etl/models.py."""
    [[is_open, is_ended]] = db.execute("SELECT aims360.is_open(%s), aims360.is_ended(%s)", (status, status)).fetchall()
    assert (status in OPEN_STATES, status in ENDED_STATES) == (is_open, is_ended)
    row = a_row(job_status=status, completed_date=None)
    assert (live.is_open(row), live.is_ended(row)) == (is_open, is_ended)


def test_an_answer_that_was_spoilt_on_its_way_is_waited_through() -> None:
    """The next one shows the job; one that stays like that ends it."""
    queue = Queue(seed=2)
    queue.emulator.options = ServiceOptions(spoilt=(Spoilt("tab", (queue.job_id,), times=2),))
    assert queue.wait().outcome is Outcome.COMPLETED
    assert any("can't be read" in said for said in queue.told)
    queue = Queue(seed=2)
    queue.emulator.options = ServiceOptions(spoilt=(Spoilt("tab", (queue.job_id,)),))
    with pytest.raises(UnreadableJob, match="can't be read"):
        queue.wait()
    assert len(queue.slept) == 4


def test_one_look_asks_once_more_for_an_answer_that_was_spoilt() -> None:
    """It is what `jobs show --live` does."""
    queue = Queue()
    queue.emulator.options = ServiceOptions(spoilt=(Spoilt("tab", (queue.job_id,), times=1),))
    assert live.look(queue.api, queue.job_id) is not None
