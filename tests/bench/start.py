"""F3, the start of an interpreter with the packages of a sync; and (i) the start of the command."""

import sys

from tests.bench.floors import imports
from tests.bench.measure import etl, run
from tests.bench.stage import OFTEN, Stage
from tests.bench.table import Figure, Line


def start(stage: Stage) -> Figure:
    """F3."""
    program = imports()
    bare, loaded, version = (
        _seconds(stage, command)
        for command in ([sys.executable, "-c", "pass"], [sys.executable, "-c", program], etl("--version"))
    )
    nothing = stage.floor("start of Python", "s", bare, "python -c pass")
    floor = stage.floor("F3 start of Python with the packages of a sync", "s", loaded, f'python -c "{program}"')
    stage.note(Line(Figure("i start of the command", "s", version, "aims360-etl --version"), nothing))
    return floor


def _seconds(stage: Stage, command: list[str]) -> tuple[float, ...]:
    run(command, {})  # compiled modules are written, files are in memory
    return tuple(stage.repeated(lambda: run(command, {}).seconds, 3 * OFTEN))
