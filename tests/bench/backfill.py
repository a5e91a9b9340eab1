"""(a) A backfill without latency, (b) one from a slow source, and (g) what memory they take."""

from dataclasses import dataclass

from tests.bench.floors import FORMATS, Dump
from tests.bench.measure import Process, timed
from tests.bench.mirror import SYNC, Mirror
from tests.bench.source import service
from tests.bench.stage import OFTEN, SELDOM, Stage
from tests.bench.table import Figure, Line, Target, against, faster

COPY = "COPY aims360.jobs, job_documents, job_status_history FROM STDIN, in one transaction"
READ = "httpx.Client().stream, page after page, thrown away"
LATENCY = 0.1  # seconds a request
BURST = 15  # requests a second that the throttle lets in: far fewer than eight at a time would make


@dataclass(frozen=True, slots=True)
class Round:
    """A backfill; the same rows copied, seconds by format; the same pages read, seconds."""

    process: Process
    copied: dict[str, float]
    read: float


def without_latency(stage: Stage, mirror: Mirror) -> list[float]:
    """(a): from the first request to the end. Its peaks in MB, for (g)."""
    jobs, dump = f"{mirror.source.jobs:,}", Dump(stage.folder)
    mirror.fill()
    dump.take(mirror.cluster.address(mirror.name))
    rounds = stage.repeated(lambda: _round(mirror, dump), OFTEN)
    dump.forget()
    mirror.cluster.settle(mirror.name)
    copies = [
        stage.floor(f"F1 {jobs} jobs copied, {how}", "s", [each.copied[how] for each in rounds], f"{COPY} ({how})")
        for how in FORMATS
    ]
    read = stage.floor(f"F2 {jobs} jobs read, 1,000 a page", "s", [each.read for each in rounds], READ)
    own = tuple(each.process.working for each in rounds)
    whole = tuple(each.process.seconds for each in rounds)
    itself = Figure(f"a backfill of {jobs}", "s", own, f"{SYNC}, from its first request")
    stage.note(
        against(itself, faster(copies), 1.5, "1.5 F1"),
        Line(Figure(f"a backfill of {jobs}, whole command", "s", whole, SYNC), read),
    )
    return [each.process.peak for each in rounds]


def _round(mirror: Mirror, dump: Dump) -> Round:
    return Round(mirror.fill(), {how: _copied(mirror, dump, how) for how in FORMATS}, timed(mirror.source.read_all))


def _copied(mirror: Mirror, dump: Dump, how: str) -> float:
    """F1: the mirror's own rows, already encoded, into an empty one."""
    empty = mirror.cluster.make("bench_copy")
    mirror.cluster.checkpoint()
    seconds = dump.seconds(empty, how)
    mirror.cluster.drop("bench_copy")
    return seconds


def from_a_slow_source(stage: Stage) -> None:
    """(b): pages of 100 rows, 100 ms each, eight at a time and as by default; and its manners where it is throttled."""
    with service(stage.size(20_000), page_size=100) as source:
        source.warm()
        source.tell(f"latency {LATENCY}")
        mirror, eight = Mirror(stage.cluster, source, "bench_slow"), {"AIMS360_CONCURRENCY": "8"}
        rounds = stage.repeated(lambda: (mirror.fill(**eight), timed(source.read_all)), SELDOM)
        floor = stage.floor(
            f"F2 {source.jobs:,} jobs read, 100 a page, 100 ms each", "s", [read for _, read in rounds], READ
        )
        command = f"AIMS360_CONCURRENCY=8 {SYNC}"
        figure = Figure(
            f"b backfill of {source.jobs:,}, 100 ms a request",
            "s",
            tuple(done.working for done, _ in rounds),
            f"{command}, from its first request",
        )
        usual = Figure(
            "b the same, as many requests in flight as by default",
            "s",
            tuple(done.working for done in stage.repeated(mirror.fill, SELDOM)),
            f"{SYNC}, from its first request",
        )
        stage.note(against(figure, floor, 1 / 6, "F2 / 6"), Line(usual, floor))
        source.tell(f"throttle {BURST}")
        mirror.fill(**eight)
        inside, refused = map(float, source.tell("throttle 0").split())
        what = "b requests inside a Retry-After window"
        stage.note(
            Line(Figure(what, "", (inside,), command), target=Target("0", 0)),
            Line(Figure("b requests answered 429", "", (refused,), command)),
        )
        stage.cluster.drop(mirror.name)
