"""Known secrets go through every failure that can be brought about; then all that was said or stored is searched."""

import json
import os
import re
import signal
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, quote_plus

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from etl import error_report
from etl.config.secrets import PasswordGrant, Secret
from etl.config.settings import read
from etl.errors import EtlError
from etl.pipeline.reconcile import Wish
from etl.pipeline.sync import reconcile_now
from etl.postgres import migrations
from etl.postgres.connection import Connection, connect
from etl.reporting import reports
from etl.testing.emulator import FAULT_KINDS, Emulator, Server, World, serve
from tests.support.cli_commands import commands
from tests.support.command import IMPATIENT, Command
from tests.support.known_secrets import (
    ACCESS_KEY,
    CLIENT_SECRET,
    DATABASE_PASSWORD,
    ECHOES,
    GRANT,
    LINK,
    PASSWORD,
    PERSON,
    SECRETS,
    TOKEN,
    leaks,
)
from tests.support.scene import Scene, a_source

OWNERS = "aims360.jobs aims360.job_documents aims360.purged_jobs aims360.job_status_history".split()
Answer = Callable[[dict[str, Any], bytes], tuple[str, bytes]]


def a_world() -> World:
    """Jobs with links and people in every place that has them.

    Four can't be read as a whole; two can, but for values that don't decide, which go to `extra`.
    """
    world = World(seed=1)
    documents = json.dumps([{"documentName": "a.pdf", "DownloadLink": LINK, "SizeInMB": 1, "Type": ".pdf"}])
    secret: dict[str, Any] = {"publishLink": LINK, "requestURL": LINK, "createdBy": PERSON, "modifiedBy": PERSON}
    bad: tuple[dict[str, Any], ...] = (
        {},
        {},
        {"createdDate": LINK},
        {"jobStatus": {LINK: TOKEN}},
        {"accountCode": [LINK, PERSON]},
        {"rowversion": TOKEN},
        {"percentCompleted": LINK, "purgeDays": {LINK: TOKEN}, "startDate": f"{PERSON} {LINK}"},
    )
    for wrong in bad:
        world.add(**secret, response=documents, overrides=wrong)
        world.advance(timedelta(seconds=1))
    world.add(**secret, response=json.dumps([{"DownloadLink": LINK, "SizeInMB": LINK}]))
    world.add(**secret, response=documents)
    return world


def kept(db: Connection) -> str:
    """All that is stored where no link may be, and all that BI tools see but who made a job.

    `bi.calendar` reads no table.
    """
    tables = db.execute("""
        SELECT table_schema, table_name
        FROM information_schema.tables
        WHERE table_schema IN ('etl', 'bi') AND table_name NOT IN ('alembic_version', 'job_links', 'calendar')
    """).fetchall()
    assert len(tables) >= 11
    said = []
    for place in tables:
        rows = (
            db.cursor(row_factory=dict_row)
            .execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(*map(str, place))))
            .fetchall()
        )
        may = {"rejects": {"raw"}, "jobs": {"created_by", "modified_by"}}.get(str(place[1]), set())
        said += [f"{name}={value}" for row in rows for name, value in row.items() if name not in may]
    return "\n".join(said)


def told(error: BaseException) -> str:
    """An exception from all sides."""
    return "\n".join(
        (repr(error), str(error), error_report.line(error), error_report.way(error), *getattr(error, "__notes__", ()))
    )


def repeating(status: str, echo: bytes) -> Answer:
    """A service that answers everything like that."""
    return lambda environ, body: (status, echo)


class Spoilt:
    """A service behind something that changes its answers once it is told to."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.answer: Answer | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        started: list[Any] = []
        body = b"".join(self.emulator(environ, lambda *given: started.extend(given)))
        status, headers = started
        if self.answer is not None and environ["REQUEST_METHOD"] == "GET":
            status, body = self.answer(environ, body)
        kept = [(name, value) for name, value in headers if name != "Content-Length"]
        start_response(status, [*kept, ("Content-Length", str(len(body)))])
        return [body]


def a_scene(db: Connection, credentials: Secret | PasswordGrant) -> Scene:
    """The world of secrets, synced once."""
    scene = Scene(db, a_world(), a_source(credentials=credentials))
    scene.emulator = Emulator(scene.world, token=TOKEN, client_secret=CLIENT_SECRET, username=PERSON, password=PASSWORD)
    assert scene.sync().counts.rejected == 4
    assert scene.one("SELECT count(*) FROM etl.unread_values") == 4
    assert scene.one("SELECT count(*) FROM aims360.job_documents WHERE download_link = %s", LINK) >= 2
    return scene


def tried(scene: Scene, app: Callable[..., Any] | None = None) -> str:
    """What each command's work says of its failure, or of its success."""
    said = []
    works: tuple[Callable[[], object], ...] = (
        lambda: scene.sync(app),
        lambda: scene.sync(app, full=True, rewrite=True),
        lambda: reconcile_now(scene.source, lambda: scene.api(app), scene.db, scene.clock, Wish(repair=True)),
    )
    for work in works:
        try:
            said.append(repr(work()))
        except EtlError as error:
            said.append(told(error))
    return "\n".join(said)


@pytest.mark.parametrize("credentials", [Secret(TOKEN), GRANT], ids=["token", "grant"])
@pytest.mark.parametrize("kind", sorted(FAULT_KINDS))
def test_no_fault_tells_a_secret(db: Connection, kind: str, credentials: Secret | PasswordGrant) -> None:
    """Each fault for good, of each command and way to sign in: the token that was granted is one of the secrets."""
    scene = a_scene(db, credentials)
    scene.emulator.fail_next(*[kind] * 500)
    assert leaks(tried(scene), "granted-token") == set()
    assert leaks(kept(db), "granted-token", PERSON) == set()


STATUSES = ("200 OK", "302 Found", "400 Bad Request", "401 No", "403 No", "404 No", "500 No")


@pytest.mark.parametrize("echo", range(len(ECHOES)), ids=ECHOES)
@pytest.mark.parametrize("status", range(len(STATUSES)), ids=STATUSES)
def test_what_is_repeated_is_not_said_on(db: Connection, status: int, echo: int) -> None:
    """A service that answers with what it was sent, and with what it keeps, in every form; by each way to sign in."""
    credentials = (Secret(TOKEN), GRANT)[(status + echo) % 2]
    scene = a_scene(db, credentials)
    spoilt = Spoilt(scene.emulator)
    spoilt.answer = repeating(STATUSES[status], [*ECHOES.values()][echo])
    told_of = tried(scene, spoilt)
    assert "(run 2)" in told_of
    mine = (CLIENT_SECRET, PASSWORD) if isinstance(credentials, PasswordGrant) else (TOKEN,)
    foreign = {*SECRETS} - {*mine, ACCESS_KEY}  # what it was never sent, it can't repeat
    assert leaks(told_of, PERSON) - foreign == set()
    assert leaks(kept(db), PERSON) - foreign == set()


@contextmanager
def a_role(db: Connection, url: str) -> Iterator[str]:
    """The database's address for a role whose password is known."""
    role = f"secretive_{os.getpid()}"
    name = sql.Identifier(role)
    db.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(DATABASE_PASSWORD)))
    db.execute(sql.SQL("GRANT USAGE ON SCHEMA aims360, etl, bi TO {}").format(name))
    db.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA aims360, etl, bi TO {}").format(name))
    try:
        yield f"postgresql://{role}:{DATABASE_PASSWORD}@{url.rpartition('@')[2]}"
    finally:
        db.execute(sql.SQL("DROP OWNED BY {}").format(name))
        db.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.fixture
def spoilt() -> Spoilt:
    """The world of secrets, which can be told to answer otherwise."""
    emulator = Emulator(a_world(), token=TOKEN, client_secret=CLIENT_SECRET, username=PERSON, password=PASSWORD)
    return Spoilt(emulator)


@pytest.fixture
def command(db: Connection, url: str, spoilt: Spoilt, tmp_path: Path) -> Iterator[Command]:
    """The command for it, with a password in the database's address."""
    with serve(cast("Emulator", spoilt)) as server, a_role(db, url) as address:
        command = Command(server.url, address, tmp_path)
        command.environ["AIMS360_TOKEN"] = TOKEN
        yield command


def all_said(command: Command, *program: str) -> tuple[set[int], str]:
    """The exit codes and all the words of every command that can fail, with and without --debug and --json."""
    codes, said = set(), ""
    for words in ("sync", "sync --full --debug --json", "reconcile --debug"):
        code, output, errors = command.run(*words.split(), program=program or ("-m", "etl"))
        codes.add(code)
        said += output + errors
    return codes, said


@pytest.mark.slow
def test_a_healthy_mirror_shows_no_secret(command: Command, db: Connection) -> None:
    """Synced, with rejects: nothing of all that is printed, doctor's findings included, holds one."""
    codes, said = all_said(command)
    words = ("doctor --report report.json", "doctor --json", "status --json")
    said += "".join(str(command.run(*each.split())) for each in words) + (command.folder / "report.json").read_text()
    assert codes == {0, 4}
    assert leaks(said, PERSON) == set()
    assert leaks(kept(db), PERSON) == set()
    assert PERSON in str(db.execute("SELECT created_by FROM bi.jobs").fetchall())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "grant"), [("400 Bad Request", True), ("401 Unauthorized", False), ("403 Forbidden", True)]
)
def test_a_refusal_of_the_service_shows_no_secret(
    command: Command, spoilt: Spoilt, db: Connection, status: str, grant: bool
) -> None:
    """On the terminal and in the ledger, whatever the service repeats of what it was sent."""
    if grant:
        del command.environ["AIMS360_TOKEN"]
        given = {"CLIENT_ID": "client", "CLIENT_SECRET": CLIENT_SECRET, "USERNAME": PERSON, "PASSWORD": PASSWORD}
        command.environ |= {f"AIMS360_{name}": value for name, value in given.items()}
    mine = f"{CLIENT_SECRET} {PASSWORD}" if grant else TOKEN
    echo = f'{{"error": {{"message": "no {mine} {quote_plus(mine)} {LINK} {PERSON}"}}}}'
    spoilt.answer = repeating(status, echo.encode())
    codes, said = all_said(command, *IMPATIENT)
    said += str(command.run("doctor", "--debug", program=IMPATIENT))
    assert codes == {1}
    assert f"HTTP {status[:3]}" in said or "(401)" in said
    assert leaks(said, PERSON) == set()
    assert leaks(kept(db), PERSON) == set()


@pytest.mark.slow
def test_wrong_credentials_show_no_secret(command: Command, db: Connection) -> None:
    """Those that were sent are secrets too: most of a mistyped one is right."""
    command.environ["AIMS360_TOKEN"] = TOKEN + "x"
    codes, said = all_said(command)
    del command.environ["AIMS360_TOKEN"]
    given = {"CLIENT_ID": "client", "CLIENT_SECRET": CLIENT_SECRET + "x", "USERNAME": PERSON, "PASSWORD": PASSWORD}
    command.environ |= {f"AIMS360_{name}": value for name, value in given.items()}
    codes_too, said_too = all_said(command)
    assert codes == codes_too == {1}
    address = command.environ["DATABASE_URL"]
    command.environ["DATABASE_URL"] = address.replace(DATABASE_PASSWORD, DATABASE_PASSWORD + "x")
    codes_three, said_three = all_said(command)
    assert codes_three == {1}
    assert leaks(said + said_too + said_three, PERSON) == set()
    assert leaks(kept(db), PERSON) == set()


# What stands in Postgres' way; its DETAIL or its message holds the row.
OBSTACLES = {
    "constraint": (
        "ALTER TABLE aims360.jobs ADD CONSTRAINT obstacle CHECK (publish_link IS NULL)",
        "ALTER TABLE aims360.jobs DROP CONSTRAINT obstacle",
        "violates check constraint",
    ),
    "value": (
        "CREATE INDEX obstacle ON aims360.jobs ((publish_link::integer))",
        "DROP INDEX aims360.obstacle",
        "invalid input syntax for type integer: (withheld)",
    ),
    "document": (
        "CREATE INDEX obstacle ON aims360.job_documents ((download_link::bigint))",
        "DROP INDEX aims360.obstacle",
        "invalid input syntax for type bigint: (withheld)",
    ),
    "disk": (
        """
        CREATE FUNCTION public.obstacle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE 'could not extend file "base/1/2"' USING ERRCODE = 'disk_full', DETAIL = NEW.publish_link;
        END $$;
        CREATE TRIGGER obstacle BEFORE INSERT ON aims360.jobs FOR EACH ROW EXECUTE FUNCTION public.obstacle()
        """,
        "DROP FUNCTION public.obstacle CASCADE",
        "make room there",
    ),
    "cut": (
        """
        CREATE FUNCTION public.obstacle() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
            PERFORM pg_terminate_backend(pg_backend_pid());
            PERFORM pg_sleep(1);
            RETURN NEW;
        END $$;
        CREATE TRIGGER obstacle BEFORE INSERT ON aims360.jobs FOR EACH ROW EXECUTE FUNCTION public.obstacle()
        """,
        "DROP FUNCTION public.obstacle CASCADE",
        "terminating connection",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("obstacle", sorted(OBSTACLES))
def test_what_postgres_refuses_shows_no_row(command: Command, db: Connection, obstacle: str) -> None:
    """Constraints, values that can't be read, a full disk, a connection that is cut: no row, no link, no password."""
    raised, removed, expected = OBSTACLES[obstacle]
    db.execute(raised.encode())
    try:
        codes, said = all_said(command)
    finally:
        db.execute(removed.encode())
    assert 1 in codes
    assert expected in said
    assert re.search(r"\(run \d+\)$", said, re.MULTILINE)
    assert leaks(said, PERSON) == set()
    assert leaks(kept(db), PERSON) == set()


@pytest.mark.slow
@pytest.mark.parametrize(("room", "where"), [("change_filter", "flatten"), ("sync", "load")])
def test_a_bug_shows_no_row(command: Command, db: Connection, room: str, where: str) -> None:
    """What a foreign error says is a row here: only its kind and its place are told."""
    bug = f"""
import sys
from etl import cli
from etl.pipeline import {room}
real = {room}.{where}
def broken(*given):
    real(*given)
    try:
        raise KeyError({LINK!r})
    except KeyError:
        raise ValueError({TOKEN!r} + {PERSON!r})
{room}.{where} = broken
cli.main(sys.argv[1:])
"""
    codes, said = all_said(command, "-c", bug)
    assert 1 in codes
    assert f"unexpected: ValueError at etl/pipeline/{room}.py" in said
    assert "KeyError" in said
    assert leaks(said, PERSON) == set()
    assert leaks(kept(db), PERSON) == set()


# Addresses that lead nowhere, to a server that refuses, or nowhere in particular; each with the password in it.
ADDRESSES = {
    "unreachable": "postgresql://me:{password}@127.0.0.1:1/x",
    "unreachable, by a driver": "postgresql+psycopg2://me:{password}@127.0.0.1:1/x",
    "unreachable, asked": "postgresql://me@127.0.0.1:1/x?password={password}&sslpassword={password}",
    "unknown host": "postgresql://me:{password}@no-such-host.invalid/x",
    "refused": "postgresql://{role}:{password}x@{server}",
    "refused, asked": "postgresql://{role}@{server}?password={password}x",
    "another scheme": "mysql://me:{password}@127.0.0.1/x",
    "no port": "postgresql://me:1@127.0.0.1:{password}/x",
    "not escaped": "postgresql://me:@{password}/@127.0.0.1:1/x",
    "not escaped either": "postgresql://me:1/{password}@127.0.0.1:1/x",
    "unknown parameter": "postgresql://me@127.0.0.1:1/x?pasword={password}",
    "no address": "{password}",
}
# Those that make a database of their own don't look at DATABASE_URL. What a command needs to get as far as that:
BY_THEMSELVES = {"demo", "prove", "simulate", "emulator", "db start", "db stop", "db url"}
UNTIL_STOPPED = {"worker"}  # one goes on whatever happens
WORDS = {
    "grant": ("--bi", "somebody"),
    "erase": ("--account", "AZ022", "--yes"),
    "report": ("growth",),
}


@pytest.mark.parametrize("kind", sorted(ADDRESSES))
def test_no_way_into_the_database_says_its_password(db: Connection, url: str, tmp_path: Path, kind: str) -> None:
    """Whatever stands in the way of a connection: for rows, for migrations, for reports; from a variable or a file."""
    with a_role(db, url) as address:
        role, here = address.partition("//")[2].partition(":")[0], address.rpartition("@")[2]
        wrong = ADDRESSES[kind].format(password=DATABASE_PASSWORD, role=role, server=here)
        (tmp_path / "address").write_text(wrong + "\n")
        ways: tuple[Callable[[str], object], ...] = (
            connect,
            migrations.migrate,
            lambda url: reports.ask(url, "growth", reports.Asked()),
        )
        for environ in ({"DATABASE_URL": wrong}, {"DATABASE_URL_FILE": "address"}):
            for way in ways:
                with pytest.raises(EtlError) as caught:
                    way(read(environ, tmp_path).database_url.reveal())  # type: ignore[union-attr]
                assert leaks(told(caught.value)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unreachable", "refused, asked"])
def test_no_command_says_the_databases_password(
    db: Connection, url: str, spoilt: Spoilt, tmp_path: Path, kind: str
) -> None:
    """Every command, with --debug too."""
    with serve(cast("Emulator", spoilt)) as server, a_role(db, url) as address:
        role, here = address.partition("//")[2].partition(":")[0], address.rpartition("@")[2]
        wrong = ADDRESSES[kind].format(password=DATABASE_PASSWORD, role=role, server=here)
        command = Command(server.url, wrong, tmp_path)
        tried = [
            (*name.split(), *WORDS.get(name, ())) for name, _ in commands() if name not in BY_THEMSELVES | UNTIL_STOPPED
        ]
        tried += [("report", "--html", "page.html"), ("grant", "--writer", "somebody")]
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(lambda words: command.run(*words, "--debug"), tried))
    codes = {words[0]: code for words, (code, _, _) in zip(tried, done, strict=True)}
    said = "\n".join(errors + output for _, output, errors in done)
    assert {codes[name] for name in ("migrate", "sync", "status", "grant", "erase", "report", "doctor")} == {1}
    assert said.count("Traceback") >= 6
    assert leaks(said) == set()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unreachable", "refused, asked"])
def test_a_worker_waits_for_its_database_and_never_says_its_password(
    db: Connection, url: str, service: Server, tmp_path: Path, kind: str
) -> None:
    """It tells what is in the way, and ends when it is told to."""
    with a_role(db, url) as address:
        role, here = address.partition("//")[2].partition(":")[0], address.rpartition("@")[2]
        wrong = ADDRESSES[kind].format(password=DATABASE_PASSWORD, role=role, server=here)
        with Command(service.url, wrong, tmp_path).start("worker", "--debug", "--verbose") as process:
            assert process.stderr is not None
            said = ""
            while "can't connect" not in said:
                line = process.stderr.readline()
                assert line, said
                said += line
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert leaks(said + output + errors) == set()


def test_no_command_takes_a_secret_as_an_argument() -> None:
    """Every user of the machine could read it, and the shell would keep it."""
    words = re.compile("token|secret|pass|credential|client|database.?url", re.IGNORECASE)
    for name, command in commands():
        for parameter in command.params:
            if (parameter.name or "").endswith(("_env", "_file")) or parameter.name == "client_id":
                continue  # the place of a secret, and what is none
            assert not any(map(words.search, (parameter.name or "", *parameter.opts))), (name, parameter.opts)


@pytest.mark.slow
def test_http_to_another_machine_takes_a_word(command: Command) -> None:
    """Each command that talks to the source refuses it, and does it where it is told to; doctor warns even then.

    It fails for the rows that can't be read, and for nothing else.
    """
    command.environ["AIMS360_BASE_URL"] = command.environ["AIMS360_BASE_URL"].replace("127.0.0.1", "0.0.0.0")  # noqa: S104
    for words in (("sync",), ("purge",), ("reconcile",), ("doctor",)):
        code, output, errors = command.run(*words)
        assert (code, "in the clear; use https, or --insecure-http" in output + errors) == (
            1 + (words != ("doctor",)),
            True,
        )
        code, output, errors = command.run(*words, "--insecure-http")
        assert code == {"sync": 4, "purge": 0, "reconcile": 4, "doctor": 1}[words[0]], output + errors
    assert "http sends the token in the clear" in output
    assert re.search(r"^failed +rows +4 of 9 rows of a page can't be read", output, re.MULTILINE)
    assert re.search(r"^1 of \d+ checks failed$", output, re.MULTILINE)


def test_the_search_finds_what_it_should() -> None:
    """Plain, in pieces, over lines, in an address, in base64; and nothing where nothing is."""
    assert leaks(f"a {TOKEN[5:20]} b") == {TOKEN}
    assert leaks(f"aims360-etl: {TOKEN[:15]}\naims360-etl: {TOKEN[15:]}") == {TOKEN}
    assert leaks(quote(CLIENT_SECRET, safe="")) == {CLIENT_SECRET}
    assert leaks(b64encode(f"client:{PASSWORD}".encode()).decode()) == {PASSWORD}
    assert leaks(LINK) == {ACCESS_KEY}
    assert leaks("aims360-etl: the service refuses the token") == set()


def test_a_secret_is_hidden_in_every_form_it_is_sent_in() -> None:
    """As it is, in a form, in an address, in base64 after any other text."""
    said = f"{PASSWORD} {quote(PASSWORD, safe='').lower()} {b64encode(f'me:{PASSWORD}'.encode()).decode()}"
    assert leaks(Secret(PASSWORD).hidden_in(said)) == set()


def test_an_error_outside_of_a_run_has_no_number() -> None:
    """Other libraries' notes are not taken for it."""
    error = psycopg.OperationalError("no")
    error.add_note(f"while reading {LINK}")
    assert error_report.line(error).startswith("unexpected: OperationalError; nothing is lost")
    assert leaks(error_report.way(error) + error_report.line(error)) == set()
