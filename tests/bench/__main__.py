"""A backfill and an idle sync, as whole processes, against floors measured in the same run.

Floors: reading all pages with one httpx client and throwing them away; an interpreter that only imports what a sync
imports. The emulator is a process of its own; jobs stand as they are. `JOBS=50000 make bench` for more.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg

from etl import embedded, odata, payload, schema, settings

JOBS = int(os.environ.get("JOBS", "20000"))
PAGE = 1_000
RUNS = 5
PYTHON = [sys.executable, "-m", "etl"]
EMPTY = """
TRUNCATE aims360.jobs, aims360.job_documents, aims360.job_status_history, aims360.purged_jobs, aims360.purged_daily,
    etl.sources, etl.runs, etl.scans, etl.rejects RESTART IDENTITY
"""


@contextmanager
def a_service() -> Iterator[dict[str, str]]:
    """The environment that points at a pretend AIMS360 in a process of its own."""
    size = ["--jobs", str(JOBS), "--page-size", str(PAGE)]
    with subprocess.Popen([*PYTHON, "emulator", "--port", "0", *size], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield dict(re.findall(r"(AIMS360_\w+)=(\S+)", process.stdout.readline()))
        process.terminate()


def read_all(base: str, token: str) -> None:
    """Every page, read and thrown away."""
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        where: list[str] = []
        while True:
            query = odata.query(where, "ID")
            page = client.get(f"{base}/jobsmanagement/odata/v1.0/backgroundjob?{query}").content
            rows = payload.parse_page(page).rows
            if not rows:
                return
            where = [f"ID gt {odata.stamp(rows[-1]).ID}"]


def timed(work: Callable[[], object], before: Callable[[], object] = lambda: None, runs: int = RUNS) -> list[float]:
    """Seconds of each run."""
    seconds = []
    for _ in range(runs):
        before()
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def line(name: str, seconds: list[float], floor: list[float], command: str) -> None:
    """A row of the table."""
    middle = statistics.median(seconds)
    ratio = f"{middle / statistics.median(floor):.1f}"
    print(f"{name:<34}{middle:>8.3f}{min(seconds):>8.3f}{max(seconds):>8.3f}{ratio:>7}  {command}")


def main() -> None:
    """The table."""
    with tempfile.TemporaryDirectory() as folder, a_service() as environ:
        data_dir = Path(folder)
        try:
            url = settings.libpq_url(embedded.start(data_dir).url)
            schema.migrate(url)
            measure(environ, url)
        finally:
            embedded.remove(data_dir)


def measure(environ: dict[str, str], url: str) -> None:
    """Runs everything against one service and one database."""
    given = {**os.environ, **environ, "DATABASE_URL": url}

    def sync() -> None:
        subprocess.run([*PYTHON, "sync"], env=given, check=True, stdout=subprocess.DEVNULL)

    def empty() -> None:
        with psycopg.connect(url) as db:
            db.execute(EMPTY)

    read_all(environ["AIMS360_BASE_URL"], environ["AIMS360_TOKEN"])  # the emulator renders each row once
    pages = timed(lambda: read_all(environ["AIMS360_BASE_URL"], environ["AIMS360_TOKEN"]))
    packages = "import sys; sys.modules['httpx._main'] = None; import psycopg, httpx, msgspec, click"
    start = timed(lambda: subprocess.run([sys.executable, "-c", packages], check=True))
    print(f"{JOBS:,} jobs, {PAGE:,} rows a page; seconds, {RUNS} runs")
    print(f"{'':<34}{'median':>8}{'min':>8}{'max':>8}{'ratio':>7}  command")
    line("floor: pages read and thrown away", pages, pages, "make bench")
    line("floor: start of Python with imports", start, start, f"python -c '{packages}'")
    line("backfill, to pages read", timed(sync, empty), pages, "aims360-etl sync")
    line("idle sync, to start of Python", timed(sync), start, "aims360-etl sync")


main()
