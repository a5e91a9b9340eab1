"""The command as its users run it: a process of its own, its output and its exit code."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.processes import Child
from tests.support.scene import TOKEN

_WITH_CONSTANTS = """
import sys
from importlib import import_module
from etl.cli import main
for place, value in {constants!r}.items():
    module, _, name = place.rpartition(".")
    assert hasattr(import_module(module), name), place
    setattr(import_module(module), name, value)
sys.argv[0] = "aims360-etl"
main()
"""


def program_with(constants: Mapping[str, object]) -> Sequence[str]:
    """Return what to start in place of `-m etl`: the same program with other values of these constants."""
    return ("-c", _WITH_CONSTANTS.format(constants=dict(constants)))


# The same program with short waits between retries, for tests of the final message.
IMPATIENT = program_with({"etl.client.attempts._LONGEST_WAIT": 0.05, "etl.client.answers.BETWEEN_REFUSALS": 0.05})


class Command:
    """The command with a service and a database in its environment, run from an empty folder."""

    def __init__(self, service: str, database: str, folder: Path) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIMS360_")}
        self.environ = {
            **inherited,
            "AIMS360_BASE_URL": service,
            "AIMS360_TOKEN": TOKEN,
            "DATABASE_URL": database,
            "AIMS360_LOG_FORMAT": "human",
            "HOME": str(folder),
        }
        self.folder = folder

    def start(self, *arguments: str, program: Sequence[str] = ("-m", "etl")) -> Child:
        """The command, running."""
        return Child(
            [sys.executable, *program, *arguments],
            env=self.environ,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, program: Sequence[str] = ("-m", "etl")) -> tuple[int, str, str]:
        """Exit code, output and errors of the command at its end."""
        with self.start(*arguments, program=program) as process:
            output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors
