"""F3, the start of an interpreter with the packages of a sync; and (i) the start of the command."""

import sys

from tests.bench.floors import imports
from tests.bench.measure import etl, run
from tests.bench.stage import OFTEN, Stage
from tests.bench.table import Figure, Line


def start(stage: Stage) -> str:
    """(i), and the program whose time is F3."""
    nothing, version = [sys.executable, "-c", "pass"], etl("--version")
    run(version, {})  # compiled modules are written
    rounds = stage.repeated(lambda: (run(version, {}).seconds, run(nothing, {}).seconds), OFTEN)
    floor = stage.floor("start of Python", "s", [bare for _, bare in rounds], "python -c pass")
    seconds = tuple(taken for taken, _ in rounds)
    stage.note(Line(Figure("i start of the command", "s", seconds, "aims360-etl --version"), floor))
    program = imports()
    loaded(program)
    return program


def loaded(program: str) -> float:
    """F3, in seconds."""
    return run([sys.executable, "-c", program], {}).seconds
