"""The mirror follows one job at once: as any sync would load it, and no promise of a sync is touched."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from etl.errors import ConfigError, Unreachable
from etl.jobs.refresh import follow
from etl.pipeline.run_context import record
from etl.postgres.connection import Connection, connected
from etl.state import run_log
from etl.testing.chaos.invariants import Laws
from etl.testing.emulator import World
from tests.support.scene import Scene

_PROMISES = "SELECT watermark, complete_through, reread_due_at, reconcile_due_at, strategy FROM etl.sources"


class Counter(Scene):
    """A mirror of some jobs, the last of which somebody looks after."""

    def __init__(self, db: Connection) -> None:
        super().__init__(db, World(seed=1))
        self.world.ties(3, canReRun="Yes")
        self.world.advance(timedelta(minutes=5))
        self.job_id = self.world.add(canReRun="Yes").job_id
        self.world.advance(timedelta(minutes=5))
        self.sync()
        self.laws = Laws()
        assert self.laws.broken(db) == []

    def follow(self) -> str:
        """The mirror follows that job."""
        with self.api() as api:
            return follow(self.source, api, self.db, self.clock, self.job_id)


def test_the_mirror_holds_the_job_as_it_is_now(db: Connection) -> None:
    """Row, documents, history and totals; watermark and completeness stay where they were, and a sync finds nothing."""
    scene = Counter(db)
    promises = scene.rows(_PROMISES)
    scene.world.rerun(scene.job_id)
    scene.world.advance(timedelta(seconds=1))
    assert scene.follow() == "the mirror holds the job as it is now"
    assert scene.differences() == []
    assert scene.laws.broken(db) == []
    assert scene.rows(_PROMISES) == promises
    runs = scene.rows("SELECT kind, outcome, verdict, updated, requests, window_from FROM etl.runs ORDER BY run_id")
    assert runs[1:] == [("job", "succeeded", None, 1, 1, None)]
    assert scene.rows("SELECT kind, verdict, updated FROM bi.runs ORDER BY run_id")[1:] == [("job", None, 1)]
    run = scene.sync()
    assert (run.counts.written, run.counts.unchanged) == (0, 4)
    assert scene.laws.broken(db) == []


def test_what_is_the_same_is_not_written(db: Connection) -> None:
    """A second time nothing is."""
    scene = Counter(db)
    before = scene.one("SELECT xmin::text FROM aims360.jobs WHERE job_id = %s", scene.job_id)
    assert scene.follow() == "the mirror holds the job as it is now"
    assert scene.one("SELECT xmin::text FROM aims360.jobs WHERE job_id = %s", scene.job_id) == before
    assert scene.one("SELECT unchanged FROM etl.runs WHERE kind = 'job'") == 1


def test_a_job_that_is_new_to_the_mirror_comes_in(db: Connection) -> None:
    """Made a moment ago, and not yet synced."""
    scene = Counter(db)
    scene.job_id = scene.world.arrive().job_id
    scene.follow()
    assert scene.differences() == []
    assert scene.laws.broken(db) == []


def test_a_job_that_came_back_is_counted_once(db: Connection) -> None:
    """Purged here, put off there: as in a sync its tombstone gives way, and the day totals stay right."""
    scene = Counter(db)
    scene.world.change(scene.job_id, purgeDateTime=scene.world.now + timedelta(minutes=1))
    scene.sync()
    kept = scene.world.get(scene.job_id)
    scene.world.advance(timedelta(hours=1))
    scene.world.ties(1)
    scene.sync()
    assert scene.one("SELECT count(*) FROM aims360.purged_jobs") == 1
    assert scene.laws.broken(db) == []
    assert kept is not None
    assert kept.purge is not None
    scene.world.settle([kept.but(version=scene.world.next_version(), purge=kept.purge + 10**8, modified=kept.purge)])
    assert scene.follow() == "the mirror holds the job as it is now"
    assert scene.one("SELECT returned FROM etl.runs WHERE kind = 'job'") == 1
    assert scene.laws.broken(db) == []
    assert scene.differences() == []


def test_a_source_that_is_held_is_left_to_who_holds_it(db: Connection, url: str) -> None:
    """No row of the ledger, no wait: the run at work brings the job, or the next one."""
    scene = Counter(db)
    scene.world.rerun(scene.job_id)
    with connected(url) as other, record(other, scene.source, "incremental", scene.clock):
        assert scene.follow() == "another run is at work: that one, or the next, brings the job into the mirror"
    assert scene.one("SELECT count(*) FROM etl.runs WHERE kind = 'job'") == 0
    scene.sync()
    assert scene.differences() == []


def test_a_mirror_without_anything_stays_so(db: Connection) -> None:
    """The first sync reads everything; a single job before it would look like a mirror."""
    scene = Scene(db, World(seed=1))
    job = scene.world.add()
    with scene.api() as api:
        said = follow(scene.source, api, db, scene.clock, job.job_id)
    assert "aims360-etl sync" in said
    assert scene.rows("SELECT FROM etl.sources UNION ALL SELECT FROM etl.runs") == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"overrides": {"accountCode": 22}}, "etl.rejects"),
        ({"overrides": {"rowversion": "AAAAAAAAAAE="}}, "holds a newer version"),
    ],
)
def test_what_can_not_be_loaded_is_said(db: Connection, fields: dict[str, Any], said: str) -> None:
    """A row that can't be read waits with its reason; one that is older is refused."""
    scene = Counter(db)
    scene.world.change(scene.job_id, **fields)
    assert said in scene.follow()
    assert scene.one("SELECT rejected + refused FROM etl.runs WHERE kind = 'job'") == 1


def test_a_job_that_is_gone_is_left_to_the_sync(db: Connection) -> None:
    """Nothing is deleted on one answer."""
    scene = Counter(db)
    scene.world.delete(scene.job_id)
    assert scene.follow() == "the source shows the job no more; the next sync follows"
    assert scene.one("SELECT count(*) FROM aims360.jobs") == 4


def test_another_clients_job_is_not_taken(db: Connection) -> None:
    """The address leads to another account now: nothing is written, and it is said what to do."""
    scene = Counter(db)
    scene.world.change(scene.job_id, overrides={"clientID": "another"})
    with pytest.raises(ConfigError, match="never seen before"):
        scene.follow()
    assert scene.one("SELECT outcome FROM etl.runs WHERE kind = 'job'") == "failed"
    assert scene.one("SELECT client_id FROM aims360.jobs WHERE job_id = %s", scene.job_id) != "another"


def test_a_source_that_is_away_costs_little(db: Connection) -> None:
    """Somebody waits: two tries, and the ledger says why it failed."""
    scene = Counter(db)
    scene.emulator.fail_next(*["503"] * 9)
    with pytest.raises(Unreachable):
        scene.follow()
    assert scene.rows("SELECT outcome, requests FROM etl.runs WHERE kind = 'job'") == [("failed", 2)]


def test_one_that_was_killed_is_interrupted_without_a_verdict(db: Connection) -> None:
    """Of its window nothing can be promised: it has none."""
    scene = Counter(db)
    source_id = scene.one("SELECT source_id FROM etl.sources")
    run_log.begin(db, source_id, "job", scene.world.now, None)
    scene.sync()
    assert scene.rows("SELECT outcome, verdict FROM etl.runs WHERE kind = 'job'") == [("interrupted", None)]


def test_it_is_one_request_and_no_write_to_the_source(db: Connection) -> None:
    """The source is only read."""
    scene = Counter(db)
    scene.emulator.reset_log()
    scene.follow()
    [request] = scene.emulator.requests
    assert request.method == "GET"
    assert request.query == {"$filter": f"jobID eq '{scene.job_id}'"}
    assert httpx.codes(request.status) == httpx.codes.OK
