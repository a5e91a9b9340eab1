"""All the work at all sizes, the table, and the JSON: see the package."""

import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import backfill, quiet, reading, start, sweep, table
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
    sweep.sweep(stage)
    with service(stage.size(100_000)) as source:
        progress(f"a source of {source.warm():,} jobs")
        middle = Mirror(stage.cluster, source, "bench_middle")
        peak = peaks(middle, backfill.without_latency(stage, middle))
        stage.note(Line(peak, target=Target("150", FLAT)))
        at_rest(stage, middle, program)
        with service(stage.size(1_000_000)) as larger:
            progress(f"a source of {larger.warm():,} jobs")
            huge = Mirror(stage.cluster, larger, "bench_huge")
            target = Target(f"1.1 of {middle.source.jobs:,} jobs", GROWTH * peak.median)
            stage.note(Line(peaks(huge, [huge.fill().peak]), peak, target))
            stage.cluster.settle(huge.name)
            reading.asked(stage, huge)
            at_rest(stage, huge, program, middle)
            changed(stage, huge, program)
        changed(stage, middle, program)
    stage.lines.sort(key=lambda line: line.figure.what[0])


def peaks(mirror: Mirror, values: Sequence[float]) -> Figure:
    """The memory of backfills. RuntimeError where the bench itself is larger: see `measure.run`."""
    own = megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    if min(values) <= own:
        raise RuntimeError(f"no peak can be told below the {own:.0f} MB of the bench itself")
    progress(f"the bench itself has {own:.0f} MB")
    return Figure(f"g peak memory, backfill of {mirror.source.jobs:,}", "MB", tuple(values), SYNC)


def at_rest(stage: Stage, mirror: Mirror, program: str, smaller: Mirror | None = None) -> None:
    """The idle sync, held against F3, or against that of a smaller mirror."""
    with stage.cluster.undisturbed():
        found = quiet.nothing_changed(stage, mirror, program, smaller)
        target = Target("F3 + 0.15", found.floor.median + OVER_F3)
        if smaller and found.smaller:
            stage.note(Line(found.smaller, found.floor))
            target = Target(f"1.2 of {smaller.source.jobs:,} jobs", LARGER * found.smaller.median)
        stage.note(Line(found.idle, found.floor, target), *found.lines)
        quiet.before_the_first_request(stage, mirror, found.floor)


def changed(stage: Stage, mirror: Mirror, program: str) -> None:
    """The sync of what has changed; the last that is asked of a mirror."""
    with stage.cluster.undisturbed():
        quiet.some_changed(stage, mirror, program)
    stage.cluster.drop(mirror.name)


def machine(postgres: Cluster, scale: float) -> dict[str, Any]:
    """Where this was measured."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(
            ("git", "rev-parse", "--short", "HEAD"), capture_output=True, text=True
        ).stdout.strip(),
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
    earlier = json.loads(file.read_text()) if file.exists() else []
    before = table.medians(earlier, scale)
    print(", ".join(f"{name} {value}" for name, value in found.items()))
    print(f"\n{table.table(stage.lines, before)}\n\n{table.floor_table(stage.floors, before)}\n")
    print(table.verdict(stage.lines))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([*earlier, table.as_json(found, stage.lines, stage.floors)], indent=1) + "\n")
    progress(f"every figure is in {file}, after those of earlier runs")


if __name__ == "__main__":
    main()
