"""An Airflow as somebody would install it beside the program: a home, the DAGs of deploy/airflow, a database."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Timer
from typing import Any, NamedTuple

from tests.support.paths import ROOT

_AIRFLOW = Path(os.environ.get("AIRFLOW", ROOT / ".venv-airflow" / "bin" / "airflow"))
_PROGRAM = Path(sys.executable).parent / "aims360-etl"
_PATIENCE = 600.0  # seconds, for all that is done with a running Airflow
# What an administrator may say of all tasks; here, that nobody waits a minute for the next try.
_POLICY = """
from datetime import timedelta

def task_policy(task):
    task.retry_delay = timedelta(milliseconds=1)
    if hasattr(task, "poke_interval"):
        task.poke_interval = 15
"""
_STATES = """
WITH run AS (SELECT run_id FROM dag_run WHERE dag_id = :dag ORDER BY id LIMIT 1 OFFSET :run - 1)
SELECT task_id, coalesce(rendered_map_index, ''), state, try_number
FROM task_instance
JOIN run USING (run_id)
WHERE dag_id = :dag
"""
_RESULTS = """
WITH run AS (SELECT run_id FROM dag_run WHERE dag_id = :dag ORDER BY id LIMIT 1 OFFSET :run - 1)
SELECT i.rendered_map_index, x.value
FROM xcom AS x
JOIN run USING (run_id)
JOIN task_instance AS i USING (dag_id, run_id, task_id, map_index)
WHERE dag_id = :dag AND x.key = 'return_value' AND i.rendered_map_index IS NOT NULL
"""


class State(NamedTuple):
    """How a task instance ended, and the number of its last try."""

    state: str
    tries: int


class Home:
    """An Airflow of its own, with these settings of the program in its environment, as its workers would have them."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir(parents=True)
        (programs / "aims360-etl").symlink_to(_PROGRAM)
        shutil.copytree(ROOT / "deploy" / "airflow", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "config").mkdir()
        (folder / "config" / "airflow_local_settings.py").write_text(_POLICY, encoding="utf-8")
        others = ("AIMS360_", "AIRFLOW", "DATABASE_URL", "PYTHON", "VIRTUAL_ENV")
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(others)},
            "PATH": os.pathsep.join((str(programs), str(_AIRFLOW.parent), os.environ["PATH"])),
            "PYTHONUNBUFFERED": "1",  # what is waited for is told when it happens
            "HOME": str(folder),
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # seconds: a machine may be busy
            **_ports(),
            **environ,
        }

    def run(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a command at its end: `airflow` or `aims360-etl` and its words."""
        with self._start(*words) as process:
            said, _ = process.communicate(timeout=_PATIENCE)
        return process.returncode, said

    @contextmanager
    def running(self) -> Iterator["Running"]:
        """Scheduler, workers and all, until the end of the `with`."""
        with self._start("airflow", "standalone") as process, _ended_after(process, _PATIENCE):
            running = Running(process)
            try:
                running.wait("api-server .*Uvicorn running")  # a task that begins before that fails
                running.wait("Creating ORM DAG for", 2)
                yield running
            finally:
                process.send_signal(signal.SIGINT)
                running.read_on()

    def _start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            words,
            env=self._environ,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            executable=shutil.which(words[0], path=self._environ["PATH"]),
        )

    def states(self, dag: str, run: int) -> dict[str, State]:
        """Of a DAG's first, second ... run: by the source of a mapped task instance, by the task of any other."""
        rows = self._ask(_STATES, dag, run)
        return {source or task: State(state, tries) for task, source, state, tries in rows}

    def results(self, dag: str, run: int) -> dict[str, dict[str, Any]]:
        """By source what its sync came to, as other tasks see it (XCom)."""
        return {source: json.loads(value) for source, value in self._ask(_RESULTS, dag, run)}

    def logs(self, task: str) -> str:
        """What all tries of a task said, of a mapped one all its instances."""
        files = sorted(self.folder.glob(f"logs/dag_id=*/run_id=*/task_id={task}/**/*.log"))
        return "".join(file.read_text(encoding="utf-8") for file in files)

    def _ask(self, question: str, dag: str, run: int) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "airflow.db")) as db:
            return db.execute(question, {"dag": dag, "run": run}).fetchall()


class Running:
    """An Airflow that runs; its scheduler's words say how far it is."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.said: list[str] = []
        self._process = process

    def wait(self, said: str, times: int = 1) -> None:
        """Until that many lines, those before included, have told of it: a pattern."""
        told = sum(1 for line in self.said if re.search(said, line))
        while told < times:
            if not (line := self._line()):
                raise AssertionError(f"Airflow ended before it said {said}:\n{''.join(self.said[-50:])}")
            told += bool(re.search(said, line))

    def end(self, dag: str, runs: int = 1) -> None:
        """Until as many runs of a DAG have ended."""
        self.wait(rf"Marking run <DagRun {dag} @", runs)

    def read_on(self) -> None:
        """What it says until its end."""
        while self._line():
            pass

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        self.said.append(line)
        return line


@contextmanager
def _ended_after(process: "subprocess.Popen[str]", seconds: float) -> Iterator[None]:
    timer = Timer(seconds, process.terminate)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _ports() -> dict[str, str]:
    """Ports that are free, for the servers of an Airflow."""
    with closing(socket.socket()) as api, closing(socket.socket()) as workers, closing(socket.socket()) as triggerer:
        sockets = (api, workers, triggerer)
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        port, of_workers, of_triggerer = (str(each.getsockname()[1]) for each in sockets)
    return {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": port,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": of_workers,
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": of_triggerer,
    }
