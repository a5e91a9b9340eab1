"""(c) A sync when nothing changed, (d) one when 500 jobs did, (h) what they write, (i) when the first request goes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench import byhand
from tests.bench.databases import Tuples
from tests.bench.measure import Process
from tests.bench.mirror import SYNC, Mirror
from tests.bench.stage import OFTEN, Stage
from tests.bench.start import loaded
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
    process = mirror.run("sync")
    wal = cluster.wal() - wal
    after = cluster.written(mirror.name)
    return Cost(process, {name: after[name] - before.get(name, Tuples()) for name in after}, wal / 1e3)


@dataclass(frozen=True, slots=True)
class Rest:
    """What a mirror costs that is there already: an idle sync, and the start of Python beside it (F3)."""

    idle: Figure
    smaller: Figure | None  # the same of a smaller mirror, in turn
    floor: Figure
    lines: tuple[Line, ...]


def nothing_changed(stage: Stage, mirror: Mirror, program: str, smaller: Mirror | None = None) -> Rest:
    """(c) without its target, and what it writes."""
    jobs = f"{mirror.source.jobs:,} jobs"
    cost(mirror)  # what a backfill leaves to do is done
    rounds = stage.repeated(lambda: (cost(mirror), smaller and cost(smaller), loaded(program)), OFTEN)
    costs, others = [each for each, _, _ in rounds], [each for _, each, _ in rounds if each]
    what = f"F3 start with the packages of a sync ({jobs})"
    floor = stage.floor(what, "s", [seconds for _, _, seconds in rounds], f'python -c "{program}"')
    mine = tuple(float(each.written("aims360").total) for each in costs)
    inserted = tuple(float(each.written("etl").inserted) for each in costs)
    touched = tuple(float(each.written("etl").total - each.written("etl").inserted) for each in costs)
    return Rest(
        idle=_idle(jobs, costs),
        smaller=_idle(f"{smaller.source.jobs:,} jobs, in turn with {jobs}", others) if smaller else None,
        floor=floor,
        lines=(
            Line(Figure(f"h idle sync, {jobs}: tuples in aims360", "", mine, SYNC), target=Target("0", 0)),
            Line(Figure(f"h idle sync, {jobs}: rows added in etl", "", inserted, SYNC), target=Target("1", 1)),
            Line(Figure(f"h idle sync, {jobs}: other tuples in etl", "", touched, SYNC)),
            Line(Figure(f"h idle sync, {jobs}: WAL", "kB", tuple(each.wal for each in costs), SYNC)),
        ),
    )


def _idle(jobs: str, costs: Sequence[Cost]) -> Figure:
    return Figure(f"c idle sync, {jobs}", "s", tuple(each.process.seconds for each in costs), SYNC)


def before_the_first_request(stage: Stage, mirror: Mirror, floor: Figure) -> None:
    """(i): how long an idle sync takes until the source hears of it."""

    def work() -> float:
        process = mirror.run("sync")
        return process.seconds - process.working

    what = f"i idle sync, {mirror.source.jobs:,} jobs: until its first request"
    stage.note(Line(Figure(what, "s", tuple(stage.repeated(work, OFTEN)), SYNC), floor))


@dataclass(frozen=True, slots=True)
class Round:
    """One sync of changed jobs; rows that it needn't have written; the same changes by hand: seconds, and kB of WAL."""

    cost: Cost
    needless: float
    seconds_by_hand: float
    wal_by_hand: float
    floor: float


def some_changed(stage: Stage, mirror: Mirror, program: str) -> None:
    """(d): jobs that ran again, against the same versions written by hand into a twin of the mirror."""
    count = max(10, round(500 * stage.scale))
    twin = mirror.cluster.make("bench_twin", mirror.name)
    rounds = stage.repeated(lambda: _round(mirror, twin, count, program), OFTEN)
    mirror.cluster.drop("bench_twin")
    what = f"{count} changed of {mirror.source.jobs:,}"
    command = "UPDATE jobs, job_documents; INSERT INTO job_status_history: one transaction after a CHECKPOINT"
    stage.floor(f"by hand, {what}", "s", [each.seconds_by_hand for each in rounds], command)
    what_else = f"F3 start with the packages of a sync ({what})"
    floor = stage.floor(what_else, "s", [each.floor for each in rounds], f'python -c "{program}"')
    wal_floor = stage.floor(f"by hand, {what}: WAL", "kB", [each.wal_by_hand for each in rounds], command)
    seconds = Figure(f"d sync, {what}", "s", tuple(each.cost.process.seconds for each in rounds), SYNC)
    wal = Figure(f"d sync, {what}: WAL", "kB", tuple(each.cost.wal for each in rounds), SYNC)
    rewritten = Figure(f"d sync, {what}: rewritten unchanged", "", tuple(each.needless for each in rounds), SYNC)
    stage.note(
        Line(seconds, floor),
        against(wal, wal_floor, 1.5, "1.5 by hand"),
        Line(rewritten, target=Target("0", 0)),
    )


def _round(mirror: Mirror, twin: str, count: int, program: str) -> Round:
    cluster, address = mirror.cluster, mirror.cluster.address(mirror.name)
    mirror.source.tell(f"change {count}")
    seen = byhand.last_seen(address)
    cluster.checkpoint()
    spent = cost(mirror)
    rows = byhand.changed(address, seen)
    cluster.checkpoint()
    wal = cluster.wal()
    seconds = byhand.update(twin, rows)
    return Round(spent, needless(spent, rows, count), seconds, (cluster.wal() - wal) / 1e3, loaded(program))


def needless(spent: Cost, rows: dict[str, str], count: int) -> float:
    """Rows written beyond one version of each changed job, of its documents, and one line of history each."""
    documents = len(json.loads(rows["job_documents"]))
    wanted = {"jobs": count, "job_documents": documents, "job_status_history": count}
    return float(sum(abs(spent.tuples[f"aims360.{table}"].new - number) for table, number in wanted.items()))
