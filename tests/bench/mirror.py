"""A mirror of the bench: a database, the source that it mirrors, and how it is filled."""

from dataclasses import dataclass, replace

from tests.bench.databases import Cluster
from tests.bench.measure import Process, etl, run
from tests.bench.source import Service

SYNC = "aims360-etl sync --json"


@dataclass(frozen=True)
class Mirror:
    """A database of the bench, and the source that it mirrors."""

    cluster: Cluster
    source: Service
    name: str

    @property
    def environ(self) -> dict[str, str]:
        """The settings of a command that works on it."""
        return {**self.source.environ, "DATABASE_URL": self.cluster.address(self.name)}

    def run(self, command: str, **settings: str) -> Process:
        """A command on it, timed from its first request too. RuntimeError if it fails."""
        self.source.tell("first")
        done = run(etl(command, "--json"), {**self.environ, **settings})
        return replace(done, working=done.began + done.seconds - float(self.source.tell("first")))

    def fill(self, **settings: str) -> Process:
        """A backfill from nothing. RuntimeError where jobs are lacking."""
        self.cluster.make(self.name)
        self.cluster.checkpoint()
        done = self.run("sync", **settings)
        if done.told["counts"]["inserted"] != self.source.jobs:
            raise RuntimeError(f"{done.told['counts']['inserted']} of {self.source.jobs} jobs came")
        return done
