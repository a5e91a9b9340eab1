"""(a) A backfill without latency, (b) one from a slow source, and (g) what memory they take."""

from dataclasses import dataclass
from functools import partial

from tests.bench.databases import Cluster
from tests.bench.floors import FORMATS, Encoded
from tests.bench.measure import Process, etl, run, timed
from tests.bench.source import Service, service
from tests.bench.stage import OFTEN, SELDOM, Stage
from tests.bench.table import Figure, Line, Target, against, faster

SYNC = "aims360-etl sync --json"
LATENCY = 0.1  # seconds a request
BURST = 15  # requests a second that the throttle lets in: far fewer than eight at a time would make


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

    def fill(self, **settings: str) -> Process:
        """A backfill from nothing. RuntimeError where jobs are lacking."""
        self.cluster.make(self.name)
        self.cluster.checkpoint()
        done = run(etl("sync", "--json"), {**self.environ, **settings})
        if done.told["counts"]["inserted"] != self.source.jobs:
            raise RuntimeError(f"{done.told['counts']['inserted']} of {self.source.jobs} jobs came")
        return done


def without_latency(stage: Stage, mirror: Mirror) -> list[float]:
    """(a): the run's own seconds, from its first request to its last commit. Its peaks in MB, for (g)."""
    source = mirror.source
    done = stage.repeated(mirror.fill, OFTEN)
    mirror.cluster.settle(mirror.name)
    copied = copy_floor(stage, mirror)
    read = stage.floor(
        f"F2 {source.jobs:,} jobs read, {source.page_size} a page", "s",
        stage.repeated(lambda: timed(source.read_all), OFTEN),
        "httpx.Client().get, page after page, thrown away",
    )  # fmt: skip
    own = Figure(f"a backfill of {source.jobs:,}, the run itself", "s", _seconds(done), f"{SYNC}: seconds")
    whole = Figure(f"a backfill of {source.jobs:,}, whole command", "s", tuple(p.seconds for p in done), SYNC)
    stage.note(against(own, copied, 1.5, "1.5 F1"), Line(whole, read))
    return [process.peak for process in done]


def copy_floor(stage: Stage, mirror: Mirror) -> Figure:
    """F1: the mirror's own rows, already encoded, copied into an empty one; the faster of the two formats."""
    cluster, encoded = mirror.cluster, Encoded(stage.folder)
    encoded.take(cluster.address(mirror.name))

    def prepared() -> None:
        cluster.make("bench_copy")
        cluster.checkpoint()

    figures = []
    for how in FORMATS:
        seconds = stage.repeated(partial(encoded.seconds, cluster.address("bench_copy"), how), OFTEN, prepared)
        command = f"COPY aims360.jobs, job_documents, job_status_history FROM STDIN ({how}), one transaction"
        figures.append(stage.floor(f"F1 {mirror.source.jobs:,} jobs copied, {how}", "s", seconds, command))
    cluster.drop("bench_copy")
    encoded.forget()
    return faster(figures)


def from_a_slow_source(stage: Stage) -> None:
    """(b): pages of 100 rows, 100 ms each, eight at a time; and the manners of it where the source throttles."""
    with service(stage.size(20_000), page_size=100) as source:
        source.tell("warm")
        source.tell(f"latency {LATENCY}")
        floor = stage.floor(
            f"F2 {source.jobs:,} jobs read, 100 a page, 100 ms each", "s",
            stage.repeated(lambda: timed(source.read_all), SELDOM),
            "httpx.Client().get, page after page, thrown away",
        )  # fmt: skip
        mirror, eight = Mirror(stage.cluster, source, "bench_slow"), {"AIMS360_CONCURRENCY": "8"}
        done = stage.repeated(lambda: mirror.fill(**eight), OFTEN)
        command = f"AIMS360_CONCURRENCY=8 {SYNC}"
        figure = Figure(
            f"b backfill of {source.jobs:,}, 100 ms a request", "s", tuple(p.seconds for p in done), command
        )
        stage.note(against(figure, floor, 1 / 6, "F2 / 6"))
        source.tell(f"throttle {BURST}")
        mirror.fill(**eight)
        inside, refused = map(float, source.tell("throttle 0").split())
        what = "b requests inside a Retry-After window"
        stage.note(
            Line(Figure(what, "", (inside,), command), target=Target("0", 0)),
            Line(Figure("b requests answered 429", "", (refused,), command)),
        )
        stage.cluster.drop(mirror.name)


def _seconds(done: list[Process]) -> tuple[float, ...]:
    return tuple(float(process.told["seconds"]) for process in done)
