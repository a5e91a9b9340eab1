"""(c) A sync when nothing changed, (d) one when 500 jobs did, (h) what they write, (i) when the first request goes."""

import json
from dataclasses import dataclass

from tests.bench import byhand
from tests.bench.backfill import SYNC, Mirror
from tests.bench.databases import Tuples
from tests.bench.measure import Process, etl, run
from tests.bench.stage import OFTEN, Stage
from tests.bench.table import Figure, Line, Target, against


@dataclass(frozen=True, slots=True)
class Cost:
    """What a sync took and wrote: tuples by table, WAL in kB."""

    process: Process
    tuples: dict[str, Tuples]
    wal: float

    def written(self, schema: str) -> Tuples:
        """Tuples of all tables of a schema."""
        return sum((each for name, each in self.tuples.items() if name.startswith(f"{schema}.")), Tuples())


def cost(mirror: Mirror) -> Cost:
    """A sync, and what it costs."""
    cluster = mirror.cluster
    before, wal = cluster.written(mirror.name), cluster.wal()
    process = run(etl("sync", "--json"), mirror.environ)
    wal = cluster.wal() - wal
    after = cluster.written(mirror.name)
    return Cost(process, {name: after[name] - before.get(name, Tuples()) for name in after}, wal / 1e3)


def nothing_changed(stage: Stage, mirror: Mirror, target: Target, floor: Figure) -> Figure:
    """(c) and what it writes."""
    jobs = f"{mirror.source.jobs:,}"
    cost(mirror)  # what a backfill leaves to do is done
    costs = stage.repeated(lambda: cost(mirror), OFTEN)
    seconds = Figure(f"c idle sync, {jobs} jobs", "s", tuple(each.process.seconds for each in costs), SYNC)
    mine = tuple(float(sum(_all(each.written("aims360")))) for each in costs)
    inserted = tuple(float(each.written("etl").inserted) for each in costs)
    others = tuple(float(sum(_all(each.written("etl"))) - each.written("etl").inserted) for each in costs)
    stage.note(
        Line(seconds, floor, target),
        Line(Figure(f"h idle sync, {jobs} jobs: tuples in aims360", "", mine, SYNC), target=Target("0", 0)),
        Line(Figure(f"h idle sync, {jobs} jobs: rows added in etl", "", inserted, SYNC), target=Target("1", 1)),
        Line(Figure(f"h idle sync, {jobs} jobs: other tuples in etl", "", others, SYNC)),
        Line(Figure(f"h idle sync, {jobs} jobs: WAL", "kB", tuple(each.wal for each in costs), SYNC)),
    )
    return seconds


def before_the_first_request(stage: Stage, mirror: Mirror, floor: Figure) -> None:
    """(i): how long an idle sync takes until the source hears of it."""

    def work() -> float:
        mirror.source.tell("first")
        process = run(etl("sync", "--json"), mirror.environ)
        return float(mirror.source.tell("first")) - process.began

    what = f"i idle sync, {mirror.source.jobs:,} jobs: until its first request"
    stage.note(Line(Figure(what, "s", tuple(stage.repeated(work, OFTEN)), SYNC), floor))


def some_changed(stage: Stage, mirror: Mirror, floor: Figure) -> None:
    """(d): jobs that ran again, against the same versions written by hand into a twin of the mirror."""
    count, jobs = max(10, round(500 * stage.scale)), f"{mirror.source.jobs:,}"
    twin = mirror.cluster.make("bench_twin", mirror.name)
    costs, by_hand = [], []
    for _ in range(stage.runs or OFTEN):
        mirror.source.tell(f"change {count}")
        seen = byhand.last_seen(mirror.cluster.address(mirror.name))
        mirror.cluster.checkpoint()
        costs.append(cost(mirror))
        rows = byhand.changed(mirror.cluster.address(mirror.name), seen)
        by_hand.append(_written_by_hand(mirror, twin, rows))
        costs[-1].tuples["needless"] = Tuples(inserted=needless(costs[-1], rows, count))
    mirror.cluster.drop("bench_twin")
    what = f"{count} changed of {jobs}"
    seconds, wal = (tuple(values) for values in zip(*by_hand, strict=True))
    command = "UPDATE jobs, job_documents; INSERT INTO job_status_history: one transaction after a CHECKPOINT"
    stage.floor(f"by hand, {what}", "s", seconds, command)
    wal_floor = stage.floor(f"by hand, {what}: WAL", "kB", wal, command)
    taken = Figure(f"d sync, {what}", "s", tuple(each.process.seconds for each in costs), SYNC)
    logged = Figure(f"d sync, {what}: WAL", "kB", tuple(each.wal for each in costs), SYNC)
    rewritten = tuple(float(each.tuples["needless"].inserted) for each in costs)
    stage.note(
        Line(taken, floor),
        against(logged, wal_floor, 1.5, "1.5 by hand"),
        Line(Figure(f"d sync, {what}: rewritten unchanged", "", rewritten, SYNC), target=Target("0", 0)),
    )


def needless(spent: Cost, rows: dict[str, str], count: int) -> int:
    """Rows written beyond one version of each changed job, of its documents, and one line of history."""
    documents = len(json.loads(rows["job_documents"]))
    wanted = {"jobs": count, "job_documents": documents, "job_status_history": count}
    return sum(abs(spent.tuples[f"aims360.{table}"].new - number) for table, number in wanted.items())


def _written_by_hand(mirror: Mirror, twin: str, rows: dict[str, str]) -> tuple[float, float]:
    """Seconds and kB of WAL."""
    mirror.cluster.checkpoint()
    wal = mirror.cluster.wal()
    seconds = byhand.update(twin, rows)
    return seconds, (mirror.cluster.wal() - wal) / 1e3


def _all(tuples: Tuples) -> tuple[int, int, int]:
    return tuples.inserted, tuples.updated, tuples.deleted
