"""A single job and its rerun, in every habit of the service."""

from datetime import timedelta

import pytest

from etl.testing.emulator import Emulator, ServiceOptions, World
from tests.testing.emulator.asking import JOB, in_process, served


@pytest.mark.parametrize(
    ("habit", "status", "kind"),
    [("404", 404, "application/json"), ("404-html", 404, "text/html"), ("400", 400, "application/json")],
)
def test_a_job_that_isnt_there(habit: str, status: int, kind: str) -> None:
    """An error of the service or a page of the web server; one that is there is shown, and a rerun of none is a 404."""
    world = World()
    job = world.add()
    client = served(world, unknown_job=habit)
    answer = client.get(f"{JOB}/nobody")
    assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (status, kind)
    assert client.get(f"{JOB}/{job.job_id}").json() == job.payload()
    assert client.post(f"{JOB}/nobody/rerun").json()["error"]["code"] == "NotFound"


def test_there_may_be_no_plain_path() -> None:
    """A page of HTML for every job; it can still be run again."""
    world = World()
    job = world.add(canReRun="Yes")
    client = served(world, has_plain_path=False)
    assert (client.get(f"{JOB}/{job.job_id}").status_code, client.get(f"{JOB}/nobody").status_code) == (404, 404)
    assert "<html>" in client.get(f"{JOB}/{job.job_id}").text
    assert client.post(f"{JOB}/{job.job_id}/rerun").status_code == 200


@pytest.mark.parametrize("moves", [True, False])
def test_whether_a_rerun_puts_the_purge_off(moves: bool) -> None:
    """By hand, and by whoever else runs jobs again: the date moves and the job lives on, or it goes when it was to."""
    world = World(rerun_share=0)
    job = world.add(canReRun="Yes")
    client = in_process(Emulator(world, options=ServiceOptions(rerun_moves_purge=moves)))
    world.advance(timedelta(days=20))
    assert client.post(f"{JOB}/{job.job_id}/rerun").status_code == 200
    assert (client.get(f"{JOB}/{job.job_id}").json()["purgeDateTime"] > job["purgeDateTime"]) == moves
    world.rerun(job)
    world.advance(timedelta(days=10))
    assert (world.get(job) is not None) == moves


def test_a_purge_date_that_stays_stays_as_it_is_written() -> None:
    """Seven digits that were put there by hand are not lost by a rerun that doesn't move them."""
    world = World()
    job = world.add(canReRun="Yes", purgeDateTime="2026-05-01T00:00:00.1234567Z")
    Emulator(world, options=ServiceOptions(rerun_moves_purge=False))
    assert world.rerun(job)["purgeDateTime"] == "2026-05-01T00:00:00.1234567Z"


def test_the_answer_to_a_rerun_may_hold_more() -> None:
    """The id of the run, another one for each, and a property that no document knows."""
    world = World()
    job = world.add(canReRun="Yes")
    client = served(world, rerun_shows_run=True)
    first, second = (client.post(f"{JOB}/{job.job_id}/rerun").json() for _ in range(2))
    usual = {"jobId", "jobStatus", "publishLink", "publishLinkAccessScope"}
    assert first.keys() == second.keys() == usual | {"jobRunId", "queuePosition"}
    assert first["jobRunId"] != second["jobRunId"]
