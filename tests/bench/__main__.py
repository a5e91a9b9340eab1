"""All the work at all sizes, the table, and the JSON: see the package."""

import json
import os
import platform
import resource
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import backfill, quiet, start, sweep, table
from tests.bench.databases import Cluster, cluster
from tests.bench.measure import megabytes, progress
from tests.bench.mirror import SYNC, Mirror
from tests.bench.source import service
from tests.bench.stage import Stage
from tests.bench.table import Figure, Line, Target

OVER_F3 = 0.15  # seconds
LARGER = 1.2  # times the idle sync of 100,000 jobs
FLAT, GROWTH = 150.0, 1.1  # MB at 100,000 jobs, and times that at 1,000,000


def work(stage: Stage) -> None:
    """Everything, in the order of size."""
    program = start.start(stage)
    backfill.from_a_slow_source(stage)
    middle = stage.size(100_000)
    with service(middle) as source:
        progress(f"a source of {int(source.tell('warm')):,} jobs")
        mirror = Mirror(stage.cluster, source, "bench_middle")
        peak = Figure(
            f"g peak memory, backfill of {middle:,}", "MB", tuple(backfill.without_latency(stage, mirror)), SYNC
        )
        stage.note(Line(peak, target=Target("150", FLAT)))
        idle = at_rest(stage, mirror, program, None)
    sweep.sweep(stage)
    with service(stage.size(1_000_000)) as source:
        progress(f"a source of {source.jobs:,} jobs")
        mirror = Mirror(stage.cluster, source, "bench_huge")
        large = Figure(f"g peak memory, backfill of {source.jobs:,}", "MB", (mirror.fill().peak,), SYNC)
        stage.note(Line(large, peak, Target(f"1.1 of {middle:,} jobs", GROWTH * peak.median)))
        stage.cluster.settle(mirror.name)
        at_rest(stage, mirror, program, Target(f"1.2 of {middle:,} jobs", LARGER * idle.median))
    stage.lines.sort(key=lambda line: line.figure.what[0])


def at_rest(stage: Stage, mirror: Mirror, program: str, target: Target | None) -> Figure:
    """What a mirror costs that is there already: the idle sync, held against this target or F3."""
    with stage.cluster.undisturbed():
        found = quiet.nothing_changed(stage, mirror, program)
        target = target or Target("F3 + 0.15", found.floor.median + OVER_F3)
        stage.note(Line(found.idle, found.floor, target), *found.lines)
        quiet.before_the_first_request(stage, mirror, found.floor)
        quiet.some_changed(stage, mirror, found.floor)
    stage.cluster.drop(mirror.name)
    return found.idle


def machine(postgres: Cluster, scale: float) -> dict[str, Any]:
    """Where this was measured."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "postgres": postgres.version(),
        "system": f"{platform.system()} {platform.machine()}",
        "scale": scale,
    }


def main() -> None:
    """`make bench`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ended early, it still stops its Postgres
    scale, runs = float(os.environ.get("SCALE", "1")), int(os.environ.get("RUNS", "0")) or None
    file = Path(os.environ.get("BENCH_JSON", ".aims360/bench.json"))
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder)) as postgres:
        stage, found = Stage(postgres, Path(folder), scale, runs), machine(postgres, scale)
        work(stage)
    found["peak_of_the_bench"] = megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    earlier = json.loads(file.read_text()) if file.exists() else {}
    before = table.medians(earlier, scale)
    print(", ".join(f"{name} {value}" for name, value in found.items() if name != "peak_of_the_bench"))
    print(f"\n{table.table(stage.lines, before)}\n\n{table.floor_table(stage.floors, before)}\n")
    print(table.verdict(stage.lines))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(table.as_json(found, stage.lines, stage.floors), indent=1) + "\n")
    progress(f"every figure is in {file}")


if __name__ == "__main__":
    main()
