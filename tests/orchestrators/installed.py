"""An Airflow as somebody would install it beside the program: a home, the DAGs of deploy/airflow, a metadata database."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

HOUSE = Path(__file__).parents[2]
DAGS = HOUSE / "deploy" / "airflow"
AIRFLOW = os.environ.get("AIRFLOW", str(HOUSE / ".venv-airflow" / "bin" / "airflow"))
_PROGRAM = Path(sys.executable).parent / "aims360-etl"
# What an administrator of Airflow may say of all tasks. Here: nobody waits for the next try.
_POLICY = """
from datetime import timedelta

def task_policy(task):
    task.retry_delay = timedelta(milliseconds=1)
    if hasattr(task, "poke_interval"):
        task.poke_interval = 0.1
"""
_STATES = """
SELECT task_id, coalesce(rendered_map_index, ''), state, try_number
FROM task_instance
WHERE run_id = (SELECT run_id FROM dag_run ORDER BY id DESC LIMIT 1)
"""
_RESULTS = """
SELECT ti.rendered_map_index, x.value
FROM xcom AS x
JOIN task_instance AS ti USING (dag_id, run_id, task_id, map_index)
WHERE x.key = 'return_value'
  AND x.run_id = (SELECT run_id FROM dag_run ORDER BY id DESC LIMIT 1)
  AND ti.rendered_map_index IS NOT NULL
"""


class State(NamedTuple):
    """How a task instance of the last run ended, and the number of its last try."""

    state: str
    tries: int


class Home:
    """An Airflow of its own, with these settings of the program in its environment, as a worker would have them."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir(parents=True)
        (programs / "aims360-etl").symlink_to(_PROGRAM)
        shutil.copytree(DAGS, folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "config").mkdir()
        (folder / "config" / "airflow_local_settings.py").write_text(_POLICY, encoding="utf-8")
        ours = ("AIMS360_", "AIRFLOW_", "DATABASE_URL", "PYTHON", "VIRTUAL_ENV")
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
            "PATH": os.pathsep.join((str(programs), str(Path(AIRFLOW).parent), os.environ["PATH"])),
            "HOME": str(folder),
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            **environ,
        }
        self.run("db", "migrate")

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """A command of Airflow, running; what it says is one stream."""
        return subprocess.Popen(
            [AIRFLOW, *words],
            env=self.environ,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a command at its end."""
        with self.start(*words) as process:
            said, _ = process.communicate(timeout=300)
        return process.returncode, said

    def states(self) -> dict[str, State]:
        """By the source of a mapped task instance, by the task of any other."""
        rows = self._ask(_STATES)
        return {source or task: State(state, tries) for task, source, state, tries in rows}

    def results(self) -> dict[str, dict[str, Any]]:
        """What the runs of the sources came to, as other tasks would see it."""
        return {source: json.loads(value) for source, value in self._ask(_RESULTS)}

    def _ask(self, question: str) -> list[tuple[Any, ...]]:
        db = sqlite3.connect(self.folder / "airflow.db")
        try:
            return db.execute(question).fetchall()
        finally:
            db.close()
