"""Syncs every source of this machine's aims360-etl: a task instance each, with a state, retries and a log of its own.

Nothing of the work is in here. Airflow says when, how many at once and what becomes of an exit code; a unit is
`aims360-etl sync --source NAME --json`, which may run twice, be killed and be tried again: the next one goes on.
"""

import json
import logging
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import dag, task, task_group
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

PROGRAM = "aims360-etl"  # on the workers' PATH, or its full path; its packages are not Airflow's
AT_ONCE = 16  # task instances: as many processes and connections to Postgres
SHARDS = 4  # each holds up to 1,024 sources, the most that a task is mapped over ([core] max_map_length)

log = logging.getLogger(__name__)


def told(*words: str) -> tuple[int, str]:
    """The program's exit code and its answer. What it logs goes to the task's log, at once: that takes in stdout."""
    done = subprocess.run([PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=1, text=True)
    return done.returncode, done.stdout


def judge(code: int, what: str) -> None:
    """What an exit code means to Airflow: raises unless the work was done. Any other error is worth another try."""
    if code == 2:
        raise AirflowFailException(f"{what}: a setting is wrong, or the schema isn't migrated; another try won't help")
    if code == 3:
        raise AirflowSkipException(f"{what}: another run holds the source")
    if code not in (0, 4):
        raise RuntimeError(f"{what}: failed with exit code {code}; nothing is lost, the next try goes on")
    if code == 4:
        log.warning("%s: done, but not all is well: `aims360-etl status` says what", what)


@task
def sources(number: int) -> list[str]:
    """The names of a shard's sources. A name stays in its shard, whichever others come and go."""
    code, answer = told("sources", "list", "--shard", f"{number}/{SHARDS}", "--json")
    judge(code, "the list of sources")
    return [source["name"] for source in json.loads(answer)]


@task(map_index_template="{{ task.op_kwargs['source'] }}", execution_timeout=timedelta(minutes=10))
def sync(source: str) -> dict[str, Any]:
    """One run of one source; gives what it came to: counts, verdict, complete_through."""
    code, answer = told("sync", "--source", source, "--json")
    judge(code, source)
    return json.loads(answer)


@task_group
def shard(number: int) -> None:
    """A part of the sources."""
    sync.expand(source=sources(number))


@dag(
    schedule=timedelta(minutes=15),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a run reads all that changed since the last one, whenever that was
    max_active_runs=1,
    max_active_tasks=AT_ONCE,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=10),
    },
    tags=["aims360"],
)
def aims360() -> None:
    """All sources."""
    for number in range(1, SHARDS + 1):
        shard.override(group_id=f"shard_{number}")(number)


aims360()
