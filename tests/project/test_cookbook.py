"""The analysts' cookbook says what is there, and what it shows runs."""

import re
from datetime import UTC, datetime

import pytest

from etl.postgres.connection import Connection, connect
from etl.reporting import reports
from etl.testing.emulator import populated
from tests.support.paths import ROOT
from tests.support.scene import Scene

COOKBOOK = (ROOT / "docs" / "cookbook.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", COOKBOOK, re.DOTALL)


def test_every_report_stands_there_with_its_question() -> None:
    """The table is the one of the files; the reports that show people are named."""
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", COOKBOOK, re.MULTILINE)
    assert rows == [(name, reports.describe(name).question) for name in reports.names()]
    people = [f"`{name}`" for name in reports.names() if "created_by" in reports.describe(name).columns]
    assert f"{', '.join(people[:-1])} and {people[-1]} show it" in COOKBOOK


@pytest.fixture
def mirror(url: str, db: Connection) -> str:
    """The address of a mirror of the last month."""
    Scene(db, populated(300, seed=1, now=datetime.now(UTC), rate=0)).sync()
    return url


def test_the_statements_run_and_count_nothing_twice(mirror: str) -> None:
    """Each has rows; those that count jobs count each once."""
    assert len(QUERIES) == 6
    for query in QUERIES:
        assert len(reports.read(mirror, query)) > 0, query
    assert reports.read(mirror, QUERIES[0])["jobs"].sum() == 300
    [documents] = reports.read(mirror, "SELECT count(*) AS documents FROM bi.job_documents")["documents"]
    assert reports.read(mirror, QUERIES[0])["documents"].sum() == documents
    with_documents = "SELECT count(*) AS jobs FROM bi.jobs WHERE documents > 0 AND created_at_utc >= bi.since()"
    [jobs] = reports.read(mirror, with_documents)["jobs"]
    assert reports.read(mirror, QUERIES[1])["jobs"].sum() == jobs
    assert reports.read(mirror, QUERIES[3])["jobs"].sum() == 300


def test_a_statement_can_be_pasted_with_its_settings(mirror: str) -> None:
    """The line of SET that it shows for psql."""
    [line] = re.findall(r"`(SET bi\.since.*?)`", COOKBOOK)
    assert line.count("SET bi.") == 3
    with connect(mirror) as db:
        db.execute(line.encode())
        assert db.execute("SELECT bi.since()::text, bi.account()").fetchone() == ("2026-03-01 00:00:00", "AZ022")


def test_the_notebook_runs(mirror: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Line by line, on a database of its own."""
    [notebook] = re.findall(r"```python\n(.*?)```", COOKBOOK, re.DOTALL)
    monkeypatch.setenv("DATABASE_URL", mirror)
    exec(notebook, {})  # noqa: S102 - it is ours
    assert capsys.readouterr().out == f"{len(reports.names())} reports; {reports.describe('growth').question}\n"
