"""The command as its users run it: a process of its own, its output and its exit code."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.scene import TOKEN

# The same program, whose waits between two attempts are short: for tests of what is said after the last one.
_IMPATIENT = """
import sys
from etl.cli import main
from etl.client import client
client._LONGEST_WAIT = 0.05
sys.argv[0] = "aims360-etl"
main()
"""
IMPATIENT = ("-c", _IMPATIENT)


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

    def start(self, *arguments: str, program: Sequence[str] = ("-m", "etl")) -> "subprocess.Popen[str]":
        """The command, running."""
        return subprocess.Popen(
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
            output, errors = process.communicate(timeout=120)
        return process.returncode, output, errors
