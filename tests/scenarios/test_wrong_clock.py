"""A clock was wrong once, and is right again: what was stored then, in the future, holds nothing up."""

from datetime import datetime, timedelta

import pytest
from psycopg import sql

from etl.config.secrets import PasswordGrant, Secret
from etl.errors import CredentialsRefused
from etl.fleet.scheduler import Work, due, standing
from etl.models import Verdict
from etl.postgres.connection import Connection
from etl.testing.emulator import populated
from tests.support.scene import Scene, a_source

MINUTE, HOUR, YEAR = timedelta(minutes=1), timedelta(hours=1), timedelta(days=365)


@pytest.fixture
def scene(db: Connection) -> Scene:
    """A mirror that is up to date."""
    scene = Scene(db, populated(60, seed=3, rate=0), a_source(reread=timedelta(), reconcile_every=timedelta()))
    scene.sync()
    return scene


def put_off(scene: Scene, column: str, moment: datetime) -> None:
    """Store a moment as a wrong clock would have."""
    scene.db.execute(sql.SQL("UPDATE etl.sources SET {} = %s").format(sql.Identifier(column)), (moment,))


def test_a_watermark_of_the_future_is_followed_like_a_restore(scene: Scene) -> None:
    """All rows are read again, its word counts, and the watermark is the newest row's again."""
    before = scene.rows("SELECT watermark, complete_through FROM etl.sources")
    put_off(scene, "watermark", scene.world.now + YEAR)
    put_off(scene, "complete_through", scene.world.now + YEAR)
    job = next(scene.world.jobs())
    scene.world.advance(HOUR)
    scene.world.change(job, jobStatusText="while the mirror was blind")
    run = scene.sync()
    assert (run.kind, run.verdict) == ("full", Verdict.COMPLETE)
    assert any("lies in the future" in note for note in run.notes)
    [(watermark, complete_through)] = scene.rows("SELECT watermark, complete_through FROM etl.sources")
    assert before[0][0] < watermark <= scene.world.now
    assert complete_through <= scene.world.now
    assert scene.sync().kind == "incremental"
    assert [said for said in scene.differences() if "is a ghost" not in said] == []


@pytest.mark.parametrize("column", ["not_before", "deep_not_before", "purge_asked_at", "sign_in_not_before"])
def test_a_back_off_that_ends_in_a_year_counts_as_none(scene: Scene, column: str) -> None:
    """A fleet does what is due, and nobody is kept from signing in."""
    put_off(scene, column, scene.world.now + YEAR)
    scene.world.advance(2 * HOUR)
    known = standing(scene.db, "aims360")
    assert known is not None
    assert known.held_back_until(scene.world.now) is None
    assert {Work.SYNC, Work.PURGE} <= set(due(scene.source, known, scene.world.now))
    assert scene.sync().verdict is Verdict.COMPLETE


def test_a_run_of_the_future_is_no_reason_to_wait(scene: Scene) -> None:
    """A run that began in a year, by the clock of then: the source's turn comes all the same."""
    scene.db.execute("UPDATE etl.runs SET started_at = %s", (scene.world.now + YEAR,))
    scene.world.advance(2 * HOUR)
    known = standing(scene.db, "aims360")
    assert Work.SYNC in due(scene.source, known, scene.world.now)


def test_a_refusal_is_stored_over_a_pause_that_ends_in_a_year(scene: Scene) -> None:
    """Or each run would sign in again with credentials that are refused, until the account is locked."""
    scene.set(credentials=PasswordGrant("client", Secret("secret"), "operator@example.com", Secret("a typo")))
    put_off(scene, "sign_in_not_before", scene.world.now + YEAR)
    before = len(scene.emulator.requests)
    for _ in range(2):
        with pytest.raises(CredentialsRefused):
            scene.sync()
    assert len(scene.emulator.requests) == before + 1
    assert scene.one("SELECT sign_in_not_before FROM etl.sources") == scene.world.now + timedelta(minutes=1)


def test_nothing_is_purged_while_the_watermark_lies_in_the_future(scene: Scene) -> None:
    """By itself, or beside the scan that sets the watermark right: what was purged once would not come back."""
    put_off(scene, "watermark", scene.world.now + YEAR)
    scene.world.stop_life()
    before = scene.one("SELECT count(*) FROM aims360.jobs")
    run = scene.purge()
    assert (run.counts.purged, len(run.notes), scene.dry_run().due) == (0, 1, 0)
    scene.world.advance(HOUR)
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.purge().notes == ()
    assert scene.one("SELECT count(*) FROM aims360.jobs") == before


def test_a_watermark_some_minutes_ahead_purges_nothing_early(scene: Scene) -> None:
    """The source's own time bounds it."""
    job = scene.world.add(purgeDateTime=scene.world.now + 10 * MINUTE)
    scene.sync()
    put_off(scene, "watermark", scene.world.now + 14 * MINUTE)
    scene.world.advance(MINUTE)
    assert scene.dry_run().due == scene.sync().counts.purged == 0
    assert scene.one("SELECT count(*) FROM aims360.jobs WHERE job_id = %s", job.job_id) == 1


def test_a_complete_through_of_the_future_is_set_right_by_the_next_sync(scene: Scene) -> None:
    """And the history never says that a version was seen before it was there."""
    put_off(scene, "complete_through", scene.world.now + YEAR)
    scene.world.advance(HOUR)
    scene.world.change(next(scene.world.jobs()), jobStatusText="seen then")
    assert scene.sync().kind == "incremental"
    assert scene.one("SELECT complete_through FROM etl.sources") <= scene.world.now
    assert scene.one("SELECT count(*) FROM aims360.job_status_history WHERE not_seen_before > seen_at") == 0
