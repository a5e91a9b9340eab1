"""`aims360-etl report` as analysts call it: with a database, no setting of AIMS360, and often few rights."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from psycopg import sql

from etl.postgres import roles
from etl.postgres.connection import Connection
from etl.reporting import reports
from etl.reporting.reports import Asked
from etl.testing.emulator import START, World
from tests.support.command import Command
from tests.support.logins import a_login, as_role
from tests.support.report_data import HOSTILE, busy, ran
from tests.support.scene import Scene


@pytest.fixture
def command(url: str, tmp_path: Path) -> Command:
    """The command with a database and no setting of AIMS360 at all."""
    found = Command("", url, tmp_path)
    found.environ = {name: value for name, value in found.environ.items() if not name.startswith("AIMS360_")}
    return found


def test_the_command_lists_its_questions(command: Command) -> None:
    """A line each; which limits one doesn't know is said."""
    code, output, errors = command.run("report")
    assert (code, errors) == (0, "")
    assert [line.split()[0] for line in output.splitlines()] == reports.names()
    assert "pipeline_runs" in output
    assert "did it do well? (without --account)" in output
    assert command.run("report", "--list") == (0, output, "")


def test_the_command_answers_as_it_is_asked(command: Command, db: Connection, url: str) -> None:
    """A table, CSV, JSON, Parquet; to stdout or a file; the same rows in each."""
    world = World(seed=1)
    world.add(**ran(START))
    world.add(**ran(START, accountCode="A2"))
    Scene(db, world).sync()
    words = ("report", "accounts_by_load", "--since", "2026-03-01", "--until", "2026-04-01", "--account", "A2")
    code, output, errors = command.run(*words)
    assert (code, errors) == (0, "")
    assert output.startswith("Which accounts ask for most, and what does it cost?\n\naccount_code")
    assert output.endswith("\n1 row\n")
    [row] = json.loads(command.run(*words, "--format", "json")[1])
    assert (row["account_code"], row["jobs"]) == ("A2", 1)
    assert command.run(*words, "--format", "csv")[1].splitlines()[1].startswith("A2,1,1.0,")
    assert command.run(*words, "--output", "answer.parquet") == (0, "", "")
    answer = pd.read_parquet(command.folder / "answer.parquet")
    expected = reports.ask(url, "accounts_by_load", Asked(date(2026, 3, 1), date(2026, 4, 1), "A2")).answer
    pd.testing.assert_frame_equal(answer, expected, check_categorical=False)
    code, output, errors = command.run("report", "growth", "--account", "A1", "--until", "2026-01-01")
    assert (code, "no rows" in output, errors) == (0, True, "")
    code, output, errors = command.run("report", "growth", "--account", HOSTILE)
    assert (code, "no rows" in output, "the mirror has no job of an account" in errors) == (0, True, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("growth", "--since", "2026-02-30"), "'--since'"),
        (("growth", "--until", "soon"), "'--until'"),
        (("growth", "--since", "2026-02-02", "--until", "2026-02-02"), "--since must come before --until"),
        (("growth", "--account", ""), "--account: is empty"),
        (("growth", "--list"), "NAME and --list don't go together"),
        (("growth", "--html", "page.html"), "NAME and --html don't go together"),
        (("growth", "--with-people"), "--with-people goes with --html"),
        (("--format", "csv", "--since", "2026-01-01"), "--format, --since goes with the NAME of a report"),
        (("growht",), "did you mean growth?"),
        (("growth", "--format", "xlsx"), "'--format'"),
        (("growth", "--output", "/nowhere/growth.csv"), "/nowhere/growth.csv can't be written: No such file"),
        (("data_freshness", "--account", "A1"), "takes no --account"),
    ],
)
def test_wrong_usage_is_said_plainly(command: Command, words: tuple[str, ...], said: str) -> None:
    """Exit code 2, one mistake, nothing on stdout."""
    code, output, errors = command.run("report", *words)
    assert (code, output) == (2, "")
    assert said in errors


def test_without_pyarrow_the_rest_works(command: Command) -> None:
    """Parquet says what to install; the other formats don't miss it."""
    without = "import sys; sys.modules['pyarrow'] = None; from etl.cli import main; main()"
    code, _, errors = command.run("report", "growth", "--format", "parquet", program=("-c", without))
    assert (code, 'pip install "aims360-etl[report]"' in errors) == (2, True)
    code, output, _ = command.run("report", "growth", "--format", "json", program=("-c", without))
    assert (code, output) == (0, "[]\n")


def test_a_reader_of_bi_asks_all_but_what_needs_the_mirror(command: Command, db: Connection, url: str) -> None:
    """With no right on mirror or ledger; the one report that needs them says which, and so does a role without any."""
    busy(db)
    with a_reader(db) as role:
        command.environ["DATABASE_URL"] = reader = as_role(url, role)
        for name in reports.names():
            if name != "inline_json":
                assert len(reports.ask(reader, name).answer) > 0, name
        code, output, errors = command.run("report", "inline_json")
        assert (code, output) == (1, "")
        assert "permission denied for schema aims360; needed are USAGE on the schemas aims360, etl and bi; " in errors
        assert "SELECT on aims360.jobs and etl.sources\n" in errors
        db.execute(sql.SQL("REVOKE aims360_bi FROM {}").format(sql.Identifier(role)))
        code, output, errors = command.run("report", "growth")
        assert (code, output) == (1, "")
        assert "permission denied for schema bi; needed are USAGE on schema bi and SELECT on its views" in errors


def test_a_reader_of_one_account_is_answered_of_that_one(db: Connection, url: str) -> None:
    """Whatever account it asks for; its shares are those of what it sees."""
    busy(db)
    with a_reader(db, "AZ031") as role:
        reader = as_role(url, role)
        [row] = reports.ask(reader, "accounts_by_load").answer.to_dict("records")
        assert (row["account_code"], row["share_of_jobs"]) == ("AZ031", 1.0)
        for name in reports.names():
            report = reports.describe(name)
            if "account" in report.takes and name != "inline_json":
                assert reports.ask(reader, name, Asked(account="AZ022")).answer.empty, name
                answer = reports.ask(reader, name).answer
                assert "account_code" not in answer or set(answer["account_code"]) <= {"AZ031"}, name
        assert not reports.knows_account(reader, "AZ022")


@contextmanager
def a_reader(db: Connection, *accounts: str) -> Iterator[str]:
    """A role that reads bi and nothing else, of these accounts or all."""
    with a_login(db, "reader") as role:
        roles.grant(db, role, accounts=accounts)
        yield role
