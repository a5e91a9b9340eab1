"""`aims360-etl init`: what it asks and tests, what it writes, and that others read what it wrote as it was meant."""

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.cli import setup_wizard
from etl.config import settings, writer
from etl.errors import ConfigError
from etl.postgres import embedded
from etl.postgres.connection import Connection
from etl.testing.emulator import CREDENTIALS, Emulator, Server, populated, serve
from tests.support.command import Command
from tests.support.keyboard import Keyboard
from tests.support.logins import a_login
from tests.support.scene import TOKEN

NASTY = [
    "plain",
    "with space",
    "$HOME",
    "`id`",
    "$(id)",
    'quo"te',
    "it's",
    "back\\slash",
    "#hash",
    "a#b",
    "!history",
    "~home",
    "a=b&c;d|e",
    "50%",
    "*?[x]",
    "{a,b}",
    "(x)",
    "<in>out",
    "ünïcode ☃",
    "-n",
    "a'b # c",
]


@pytest.fixture
def service() -> Iterator[Server]:
    """A pretend AIMS360 with a few jobs."""
    with serve(Emulator(populated(20, seed=1, now=datetime.now(UTC), rate=0), token=TOKEN)) as server:
        yield server


@pytest.fixture
def user(service: Server, url: str, tmp_path: Path) -> Command:
    """A user in an empty folder, with the answers in the environment."""
    return Command(service.url, url, tmp_path)


@pytest.fixture
def newcomer(user: Command) -> Command:
    """The same with nothing in the environment."""
    user.environ = {name: value for name, value in user.environ.items() if name != "DATABASE_URL"}
    user.environ = {name: value for name, value in user.environ.items() if not name.startswith("AIMS360_")}
    return user


def read_by(shell: str, file: Path, names: list[str], folder: Path) -> list[str]:
    """What a shell has in these variables after it has read a file of them."""
    script = "set -a; . \"$0\"; for name; do printenv \"$name\" | tr '\\n' '\\001'; done"
    done = subprocess.run(
        [shell, "-c", script, str(file), *names],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().split("\x01")[:-1]


# -- at a terminal ----------------------------------------------------------------------------------------------------


def test_it_asks_tests_and_asks_again(newcomer: Command, service: Server, url: str, db: Connection) -> None:
    """Each answer is tested at once; a wrong one is asked for again, with the reason, and no secret is ever shown."""
    with a_login(db, "etl") as role:
        place = url.rpartition("@")[2]
        with Keyboard(["init"], newcomer.environ, newcomer.folder) as keyboard:
            keyboard.answer("Base address", "http://127.0.0.1:9")
            keyboard.answer("Its region", "west")
            keyboard.wait_for("nothing listens at 127.0.0.1:9")
            keyboard.answer("Keep it anyway?", "n")
            keyboard.answer("Base address", f"{service.url}/jobsmanagement/odata/v1.0/backgroundjob?$top=1")
            keyboard.answer("Its region", "east")
            keyboard.wait_for("ok: base: answers, and asks who we are")
            keyboard.answer("Sign in with", "token")
            keyboard.answer("Token", "wrong-token")
            keyboard.wait_for("the service refuses the token (401)")
            keyboard.answer("Keep it anyway?", "n")
            keyboard.answer("Base address", "")
            keyboard.answer("Its region", "")
            keyboard.answer("Sign in with", "password")
            keyboard.answer("Client id", CREDENTIALS["client_id"])
            keyboard.answer("Client secret", CREDENTIALS["client_secret"])
            keyboard.answer("Username", CREDENTIALS["username"])
            keyboard.answer("Password", CREDENTIALS["password"])
            keyboard.wait_for("ok: service: answers, and accepts who we are")
            keyboard.answer("Database", f"postgresql://{role}@{place}")
            keyboard.answer("Password of that user", "wrong-password")
            keyboard.wait_for("password authentication failed")
            keyboard.answer("Keep it anyway?", "n")
            keyboard.answer("Database", "")
            keyboard.answer("Password of that user (Enter: as before)", "guest")
            keyboard.wait_for(f"failed: schema: {role} may not see which revision it is at")
            keyboard.answer("Keep it anyway?", "y")
            assert keyboard.end() == 0
    for secret in ("wrong-token", "wrong-password", "guest", f"Password: {CREDENTIALS['password']}"):
        assert secret not in keyboard.shown
    table = tomllib.loads((newcomer.folder / "aims360.toml").read_text())["sources"]["aims360"]
    assert table == {
        "base_url": service.url,
        "client_id": "client",
        "username": "operator@example.com",
        "client_secret_env": "AIMS360_CLIENT_SECRET",
        "password_env": "AIMS360_PASSWORD",
    }
    assert "# region: East US" in (newcomer.folder / "aims360.toml").read_text()
    names = ["AIMS360_CLIENT_SECRET", "AIMS360_PASSWORD", "DATABASE_URL"]
    found = read_by("sh", newcomer.folder / ".env", names, newcomer.folder)
    assert found == [CREDENTIALS["client_secret"], CREDENTIALS["password"], f"postgresql://{role}:guest@{place}"]


def test_what_fails_can_be_kept_and_what_it_ends_with_works(user: Command, empty_database: str) -> None:
    """Answers of the environment are offered; the schema is made on request; Enter goes through all of it."""
    user.environ |= {"AIMS360_TOKEN": "wrong-token", "DATABASE_URL": empty_database}
    with Keyboard(["init"], user.environ, user.folder) as keyboard:
        for question in ("Base address", "Its region", "Sign in with", "Token (Enter: as before)"):
            keyboard.answer(question, "")
        keyboard.answer("Keep it anyway?", "y")
        keyboard.answer("Database", "")
        keyboard.answer("Password of that user (Enter: as before)", "")
        keyboard.wait_for("note: schema: the database has no aims360 schema yet")
        keyboard.answer("Make the schema now?", "y")
        keyboard.wait_for("schema is at ")
        assert keyboard.end() == 0
    assert (TOKEN not in keyboard.shown, "very-secret" not in keyboard.shown) == (True, True)
    assert read_by("sh", user.folder / ".env", ["AIMS360_TOKEN"], user.folder) == ["wrong-token"]


def test_ctrl_c_writes_nothing(newcomer: Command) -> None:
    """Whoever gives up in the midst leaves no half of it."""
    with Keyboard(["init"], newcomer.environ, newcomer.folder) as keyboard:
        keyboard.answer("Base address", "\x03")
        assert keyboard.end() == 1
    assert list(newcomer.folder.glob("*aims*")) + list(newcomer.folder.glob(".env*")) == []


# -- without one ------------------------------------------------------------------------------------------------------


def test_the_environment_answers_without_a_terminal(user: Command) -> None:
    """For provisioning: what it wrote is enough for a sync, by the very line that it says for cron."""
    user.folder = user.folder / "it's 100% mine"
    user.folder.mkdir()
    code, output, errors = user.run("init", "--migrate")
    assert (code, errors) == (0, "")
    assert (user.folder / ".env").stat().st_mode & 0o777 == 0o600
    assert TOKEN not in output + (user.folder / "aims360.toml").read_text()
    [line] = [line for line in output.splitlines() if "*/5 * * * * " in line]
    command = line.strip().removeprefix("*/5 * * * * ").replace("\\%", "%")
    done = subprocess.run(
        ["sh", "-c", command], cwd="/", env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "20 new" in done.stdout) == (0, True), done.stderr


def test_a_missing_answer_is_exit_code_2(newcomer: Command) -> None:
    """Each is named; nothing is written."""
    code, output, errors = newcomer.run("init")
    assert (code, output) == (2, "")
    assert "AIMS360_BASE_URL: is not set" in errors
    assert "AIMS360_TOKEN: is not set" in errors
    assert not (newcomer.folder / ".env").exists()


def test_untested_asks_nobody(user: Command) -> None:
    """An image is made where neither service nor database can be reached."""
    user.environ |= {
        "AIMS360_BASE_URL": "https://nowhere.invalid",
        "DATABASE_URL": "postgresql://me@nowhere.invalid/db",
    }
    code, output, errors = user.run("init", "--untested")
    assert (code, errors) == (0, "")
    assert " migrate\n" in output


def test_asking_nothing_is_possible_at_a_terminal(user: Command) -> None:
    """Whoever tries a provisioning script by hand isn't asked either."""
    with Keyboard(["init", "--from-environment"], user.environ, user.folder) as keyboard:
        assert keyboard.end() == 0
    assert "Base address" not in keyboard.shown
    assert (user.folder / ".env").exists()


@pytest.mark.slow
def test_the_embedded_postgres_is_an_answer_too(user: Command) -> None:
    """Without DATABASE_URL it is started, tested and migrated; where its data lies is written, and no address."""
    data_dir = user.folder / "data"
    del user.environ["DATABASE_URL"]
    user.environ["AIMS360_DATA_DIR"] = "data"
    try:
        code, output, errors = user.run("init", "--migrate")
        assert (code, "schema is at " in output) == (0, True), errors
        names = ["AIMS360_DATA_DIR", "AIMS360_TOKEN"]
        assert read_by("sh", user.folder / ".env", names, user.folder) == [str(data_dir), TOKEN]
        assert "DATABASE_URL" not in (user.folder / ".env").read_text()
    finally:
        embedded.remove(data_dir)


def test_a_value_that_no_file_can_hold_is_refused(user: Command) -> None:
    """The variable is named, and not its value."""
    user.environ |= {"AIMS360_TOKEN": "it's$very-secret"}
    code, _, errors = user.run("init", "--untested")
    assert (code, "AIMS360_TOKEN: holds a '" in errors, "very-secret" in errors) == (2, True, False)
    assert not (user.folder / "aims360.toml").exists()


def test_a_second_account_and_a_second_time(user: Command) -> None:
    """Another source goes beside the first; the same answers change nothing; others only by leave, the old kept."""
    assert user.run("init", "--untested")[0] == 0
    user.environ["AIMS360_TOKEN"] = "west-token"
    user.environ["AIMS360_PURGE"] = "scrub"
    code, output, _ = user.run("init", "--untested", "--source", "west")
    assert (code, "sync --source west" in output) == (0, True)
    first_time = [(user.folder / name).read_text() for name in ("aims360.toml", ".env")]
    assert user.run("init", "--untested", "--source", "west")[0] == 0
    assert [(user.folder / name).read_text() for name in ("aims360.toml", ".env")] == first_time
    assert list(user.folder.glob("*.old")) == []
    user.environ["AIMS360_TOKEN"] = "new-token"
    code, _, errors = user.run("init", "--untested")
    assert (code, "--replace changes it" in errors) == (2, True)
    assert [(user.folder / name).read_text() for name in ("aims360.toml", ".env")] == first_time
    assert user.run("init", "--untested", "--replace")[0] == 0
    assert (user.folder / ".env.old").read_text() == first_time[1]
    assert (user.folder / ".env.old").stat().st_mode & 0o777 == 0o600
    names = ["AIMS360_TOKEN", "WEST_TOKEN", "AIMS360_CONFIG"]
    token, west, config = read_by("sh", user.folder / ".env", names, user.folder)
    assert (token, west, Path(config)) == ("new-token", "west-token", user.folder / "aims360.toml")
    found = settings.read({"WEST_TOKEN": west, "AIMS360_TOKEN": token}, user.folder)
    assert found.source("west").purge == "scrub"
    assert list(found.sources) == ["west", "aims360"]


def test_a_secret_in_a_file_stays_there(user: Command, url: str) -> None:
    """Docker's and Kubernetes' secrets: tested, and named by their path; never copied, the second time as the first."""
    for name, secret in (("AIMS360_TOKEN", TOKEN), ("DATABASE_URL", url)):
        (user.folder / name.lower()).write_text(f"{secret}{'  ' if secret == url else ''}\n")
        del user.environ[name]
        user.environ[f"{name}_FILE"] = name.lower()
    assert user.run("init")[0] == 0
    [config, env] = [(user.folder / name).read_text() for name in ("aims360.toml", ".env")]
    assert f'token_file = "{user.folder}/aims360_token"' in config
    assert f"DATABASE_URL_FILE={user.folder}/database_url\n" in env
    assert TOKEN not in config + env
    assert url not in env
    del user.environ["AIMS360_TOKEN_FILE"]
    code, output, errors = user.run("init")
    assert (code, output.count("is as it was")) == (0, 2), errors
    (user.folder / "aims360_token").write_text("two words")
    code, _, errors = user.run("init")
    assert (code, "AIMS360_TOKEN_FILE: holds a space" in errors) == (2, True)
    (user.folder / "aims360_token").unlink()
    code, _, errors = user.run("init")
    assert (code, "aims360.toml: [sources.aims360] token_FILE: there is no file" in errors) == (2, True)


def answer_all(keyboard: Keyboard, token: str) -> None:
    """Enter, but for the token."""
    for question in ("Base address", "Its region", "Sign in with", "Token (Enter: as before)", "Database (", "user ("):
        keyboard.answer(question, token if "Token" in question else "")
    assert keyboard.end() == 0


def test_enter_leaves_a_secret_in_its_file(user: Command, url: str) -> None:
    """What is taken as it was stays where it lies; what is typed anew goes into the file of variables."""
    for name, secret in (("AIMS360_TOKEN", TOKEN), ("DATABASE_URL", url)):
        (user.folder / name.lower()).write_text(secret)
        del user.environ[name]
        user.environ[f"{name}_FILE"] = name.lower()
    with Keyboard(["init"], user.environ, user.folder) as keyboard:
        answer_all(keyboard, token=TOKEN)
    env = (user.folder / ".env").read_text()
    assert "DATABASE_URL_FILE=" in env
    assert "token_file" in (user.folder / "aims360.toml").read_text()
    with Keyboard(["init", "--untested", "--replace"], user.environ, user.folder) as keyboard:
        answer_all(keyboard, token="another")
    assert "AIMS360_TOKEN=another\n" in (user.folder / ".env").read_text()
    assert 'token_env = "AIMS360_TOKEN"' in (user.folder / "aims360.toml").read_text()


def test_enter_keeps_an_address_that_cannot_be_shown(user: Command, url: str) -> None:
    """Its password stands where it can't be cut out: the address stays what it was, and isn't shown."""
    with_query = f"postgresql://{url.rpartition('@')[2]}?user=me&password=very-secret"
    user.environ["DATABASE_URL"] = with_query
    with Keyboard(["init", "--untested"], user.environ, user.folder) as keyboard:
        for question in ("Base address", "Its region", "Sign in with", "Token (Enter: as before)", "[as it is set]"):
            keyboard.answer(question, "")
        assert keyboard.end() == 0
    assert read_by("sh", user.folder / ".env", ["DATABASE_URL"], user.folder) == [with_query]
    assert "very-secret" not in keyboard.shown


def test_http_takes_its_word_here_too(user: Command) -> None:
    """`--insecure-http` lets a service without TLS be tested, and stands in all that is to be called next."""
    user.environ["AIMS360_BASE_URL"] = "http://nowhere.invalid"
    assert user.run("init", "--untested")[0] == 2
    code, _, errors = user.run("init", "--insecure-http")
    assert (code, "no host is called nowhere.invalid" in errors) == (1, True)
    code, output, _ = user.run("init", "--untested", "--insecure-http")
    assert code == 0
    steps = [line.partition("aims360-etl ")[2] for line in output.splitlines() if " --insecure-http" in line]
    assert steps == ["doctor --insecure-http", "sync --insecure-http", "sync --insecure-http"]


# -- the files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_shells_read_a_value_as_it_is(shell: str, tmp_path: Path) -> None:
    """Whatever is in a password: nothing of it is run, expanded or lost."""
    names = [f"V{number}" for number in range(len(NASTY))]
    change = writer.variables(tmp_path / ".env", None, dict(zip(names, NASTY, strict=True)))
    writer.keep(change, is_secret=True)
    assert read_by(shell, change.path, names, tmp_path) == NASTY


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20), max_size=30))
def test_any_value_is_read_as_it_is_or_refused(values: list[str]) -> None:
    """By the shell; and where it has quotes, by the rules that Compose and systemd share with it."""
    for value in values:
        try:
            line = writer.assignment("NAME", value)
        except ConfigError:
            assert not value.isprintable() or "'" in value or value[-1] == "\\"
            continue
        text = line.removeprefix("NAME=")
        if text == value:
            assert re.fullmatch(r"[A-Za-z0-9_./:@%+=,-]+", value)
        elif text[0] == "'":
            assert "'" not in text[1:-1]
        else:
            assert not set('\\"$`') & set(text[1:-1])
        assert text in (value, f"'{value}'", f'"{value}"')


def test_lines_of_others_stay(tmp_path: Path) -> None:
    """A .env of a project keeps what isn't ours; what was ours and is no more goes."""
    before = "# mine\nOTHER=1\nexport AIMS360_TOKEN='old'\n\nDATABASE_URL=postgresql://old\n"
    change = writer.variables(tmp_path / ".env", before, {"AIMS360_TOKEN": "new", "DATABASE_URL": None})
    assert change.after == "# mine\nOTHER=1\n\nAIMS360_TOKEN=new\n"
    assert change.loses
    again = writer.variables(tmp_path / ".env", change.after, {"AIMS360_TOKEN": "new", "DATABASE_URL": None})
    assert (again.after, again.loses) == (change.after, False)


def test_a_table_is_changed_and_its_neighbours_stay(tmp_path: Path) -> None:
    """Comments and tables around it too; what is written in a way that isn't understood is left alone."""
    before = '# mine\n[sources.a]\nbase_url = "x"\n# of a\n\n[sources.b] # mine\nbase_url = "y"\n'
    change = writer.source(tmp_path / "t", before, "a", writer.table("a", {"base_url": "z"}))
    assert tomllib.loads(change.after)["sources"] == {"b": {"base_url": "y"}, "a": {"base_url": "z"}}
    assert change.after.startswith("# mine\n[sources.b] # mine\n")
    for odd in ('sources.a = {base_url = "x"}\n', '[sources]\na.base_url = "x"\n', '[sources."a"]\nbase_url = "x"\n'):
        with pytest.raises(ConfigError, match=r"edit it|can't be read"):
            writer.source(tmp_path / "t", odd, "a", writer.table("a", {"base_url": "z"}))
    with pytest.raises(ConfigError, match="can't be read"):
        writer.source(tmp_path / "t", "[sources", "a", writer.table("a", {"base_url": "z"}))


def test_what_is_neither_text_nor_number_is_no_answer(tmp_path: Path) -> None:
    """A source that was disabled is set up anew, not written with a text that would be no setting."""
    (tmp_path / "aims360.toml").write_text('[sources.a]\nconcurrency = 4\ndisabled = true\ntoken_env = "A"\n')
    assert writer.table_of(tmp_path / "aims360.toml", "a") == {"concurrency": "4"}


def test_a_secret_file_was_never_open_to_others(tmp_path: Path) -> None:
    """Not for a moment, whatever the umask; one that was is closed; a link goes on leading where it led."""
    umask = os.umask(0)
    try:
        there = tmp_path / "kept"
        there.write_text("OTHER=1\n")
        there.chmod(0o666)
        link = tmp_path / ".env"
        link.symlink_to(there)
        kept = writer.keep(writer.Change(link, "OTHER=1\n", "OTHER=2\n", True), is_secret=True)
        assert (link.is_symlink(), there.read_text(), there.stat().st_mode & 0o777) == (True, "OTHER=2\n", 0o600)
        assert kept is not None
        assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("OTHER=1\n", 0o600)
        there.chmod(0o644)
        writer.keep(writer.Change(link, "OTHER=2\n", "OTHER=2\n", False), is_secret=True)
        assert there.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(umask)
    with pytest.raises(ConfigError, match="can't be written"):
        writer.keep(writer.Change(tmp_path / "no" / ".env", None, "A=1\n", False), is_secret=True)


def test_what_another_wrote_meanwhile_is_not_lost(tmp_path: Path) -> None:
    """Two at once, of two sources in one folder: the second is told to come again, and leaves nothing behind."""
    first_of_two, second = (writer.variables(file := tmp_path / ".env", None, {name: "1"}) for name in ("A", "B"))
    writer.keep(first_of_two, is_secret=True)
    with pytest.raises(ConfigError, match="somebody else has just changed it"):
        writer.keep(second, is_secret=True)
    assert [path.name for path in tmp_path.iterdir()] == [".env"]
    assert file.read_text().endswith("\nA=1\n")


def test_root_leaves_a_file_to_its_owner(tmp_path: Path) -> None:
    """A service's account still reads its settings after root has changed them."""
    (env := tmp_path / ".env").write_text("A=1\n")
    owner = os.geteuid() or 1234  # nobody else than root can give a file away
    os.chown(env, owner, os.getegid())
    writer.keep(writer.variables(env, "A=1\n", {"B": "2"}), is_secret=True)
    assert (env.stat().st_uid, env.stat().st_mode & 0o777) == (owner, 0o600)


# -- decisions --------------------------------------------------------------------------------------------------------


def test_the_address_of_a_request_has_the_base_in_it() -> None:
    """Whoever pastes a whole address means its base."""
    base = "https://host.example/api"
    for typed in (
        base,
        f"{base}/",
        f" {base}/jobsmanagement/odata/v1.0/backgroundjob?$top=1",
        f"{base}/Authentication/v1",
    ):
        assert setup_wizard.base_of(typed) == base


def test_passwords_of_addresses() -> None:
    """Asked for where a user has none, escaped where it is put in, and left out where the address is shown."""
    url = "postgresql://me@host:5432/db"
    whole = setup_wizard.with_password(url, "p@ss/w:rd%")
    assert whole == "postgresql://me:p%40ss%2Fw%3Ard%25@host:5432/db"
    assert [setup_wizard.takes_password(address) for address in (url, whole, "postgresql://host/db")] == [
        True,
        False,
        False,
    ]
    assert setup_wizard.without_password(whole) == setup_wizard.without_password(url) == url
    assert setup_wizard.without_password("postgresql://host/db?user=me&password=very-secret") == ""


def test_names_that_variables_can_be_called_after() -> None:
    """Small letters, digits and _: no two of them have the same variables."""
    assert setup_wizard.named("west_2") == "west_2"
    assert setup_wizard.variable("west", "client_secret") == "WEST_CLIENT_SECRET"
    for name in ("West", "a-b", "2", "", "a b"):
        with pytest.raises(ConfigError, match="--source"):
            setup_wizard.named(name)


def test_a_percent_sign_would_end_a_line_of_a_crontab() -> None:
    """It is written with a backslash, which cron takes away."""
    assert setup_wizard.cron_line("a 'b%c'") == r"*/5 * * * * a 'b\%c'"
