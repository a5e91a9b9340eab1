"""A job that has ended, and somebody who may run it again."""

from datetime import timedelta
from typing import Any

import httpx

from etl.client.client import Api
from etl.config.settings import Source
from etl.jobs import rerun
from etl.jobs.live import Live
from etl.models import Clock, JobRow
from etl.testing.emulator import Emulator, Job, World
from etl.transform.flatten import flatten
from tests.support.scene import TOKEN, a_source


class Desk:
    """A world with one job that has ended, somebody who may run it again, and a client on the world's time."""

    def __init__(self, source: Source | None = None, **fields: Any) -> None:
        self.world = World(seed=1)
        self.job = self.world.add(canReRun="Yes", **fields)
        self.world.advance(timedelta(minutes=1))
        self.emulator = Emulator(self.world, token=TOKEN, reset=httpx.ReadError)
        self.clock = Clock(lambda: self.world.now, lambda: self.world.now.timestamp(), self._sleep)
        self.api = self.client(httpx.WSGITransport(app=self.emulator), source)

    def _sleep(self, seconds: float) -> None:
        self.world.advance(timedelta(seconds=seconds))

    def client(self, transport: httpx.BaseTransport | None, source: Source | None = None) -> Api:
        """A client by another way."""
        return Api(source or a_source(), self.clock, transport)

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.job.job_id

    def ready(self, api: Api | None = None) -> Live:
        """The job, looked at before."""
        return rerun.ready(api or self.api, self.clock, self.job_id)

    def send(self, api: Api | None = None) -> rerun.Sent:
        """The job, looked at and sent."""
        return rerun.send(api or self.api, self.clock, self.ready(api))

    def posts(self) -> int:
        """How many reruns were sent."""
        return sum(request.method == "POST" and request.path.endswith("/rerun") for request in self.emulator.requests)

    def runs(self) -> int:
        """How often the job was run again."""
        job = self.world.get(self.job_id)
        assert job is not None
        return job.attempts


def a_row(job: Job | None = None, **changed: Any) -> JobRow:
    """A job that has ended, with other values."""
    world = World(seed=1)
    batch = flatten([(job or world.add(canReRun="Yes")).rendered()])
    return batch.jobs[0].row._replace(**changed)
