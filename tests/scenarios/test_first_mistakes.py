"""The ten mistakes of a new user, each as it is met: what is said names what is wrong and what to do, and no secret."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from psycopg import sql

from etl.client import network_errors
from etl.pipeline.doctor.checks import Standing
from etl.pipeline.doctor.service import clocks
from etl.postgres.connection import Connection, sibling, why_not
from etl.testing.emulator import Emulator, Server, World, populated, serve
from tests.support.command import IMPATIENT, Command
from tests.support.logins import a_login, as_role
from tests.support.old_postgres import a_postgres_of
from tests.support.ports import a_free_port
from tests.support.scene import TOKEN
from tests.support.tls import secured

OTHER_REGION = "in the other region"
SECRETS = ("very-secret", "wrong-token", "wrong-password", "wrong-client")
GRANT = {
    "AIMS360_TOKEN": "",
    "AIMS360_CLIENT_ID": "client",
    "AIMS360_CLIENT_SECRET": "secret",
    "AIMS360_USERNAME": "operator@example.com",
    "AIMS360_PASSWORD": "password",
}
_NETWORK = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")


@pytest.fixture
def world() -> World:
    """A few jobs, at this hour."""
    return populated(20, seed=1, now=datetime.now(UTC), rate=0)


@pytest.fixture
def user(service: Server, url: str, tmp_path: Path) -> Command:
    """A new user, who has done everything right but for one thing; no proxy and no CA of this machine's in the way."""
    command = Command(service.url, url, tmp_path)
    command.environ = {name: value for name, value in command.environ.items() if name.lower() not in _NETWORK}
    return command


def told(user: Command, words: str, code: int, *expected: str) -> str:
    """What a command says where it fails, on stderr, or in doctor's table: it holds this, and no secret."""
    found, output, errors = user.run(*words.split(), program=IMPATIENT)
    said = output + errors
    assert found == code, said
    for text in expected:
        assert text in said
    for secret in (*SECRETS, TOKEN, "Traceback", "unexpected"):
        assert secret not in said
    return said


def met(user: Command, *expected: str, code: int = 1, commands: tuple[str, ...] = ("init", "sync")) -> None:
    """The same is said by each of these commands; init writes nothing."""
    for words in commands:
        said = told(user, words, 1 if words == "doctor" else code, *expected)
        if words == "init" and code == 1:
            assert "nothing was written" in said
        if words == "sync":
            assert len(said.splitlines()) == 1
    assert not (user.folder / ".env").exists()


# -- 1, 2, 3: the wrong region, the wrong password, a token that ran out ----------------------------------------------


def test_the_other_region_refuses_the_sign_in(user: Command) -> None:
    """Right credentials at the wrong one of two addresses look wrong: both are named."""
    user.environ |= {**GRANT, "AIMS360_USERNAME": "of-the-other-region@example.com"}
    met(user, "refused to sign in (HTTP 400)", "AIMS360_USERNAME", OTHER_REGION, user.environ["AIMS360_BASE_URL"])


def test_no_command_signs_in_again_with_credentials_that_were_refused(user: Command, emulator: Emulator) -> None:
    """Whoever looks for the reason would lock the account; another source with the same ones neither."""
    user.environ |= {**GRANT, "AIMS360_PASSWORD": "wrong-password"}
    told(user, "sync", 1, "refused to sign in")
    asked = len(emulator.requests)
    job = next(emulator.world.jobs()).job_id
    for words in ("sync", "doctor", "sources check", f"jobs show {job} --live", f"jobs wait {job}"):
        told(user, words, 1, "is not asked again")
    own = '[sources.other]\nbase_url = "{}"\nclient_id = "client"\nclient_secret_env = "S"\nusername = "{}"\n'
    own += 'password_env = "P"\n'
    (user.folder / "aims360.toml").write_text(own.format(user.environ["AIMS360_BASE_URL"], GRANT["AIMS360_USERNAME"]))
    user.environ |= {**dict.fromkeys((*GRANT, "AIMS360_BASE_URL"), ""), "S": "secret", "P": "wrong-password"}
    told(user, "sync --source other", 1, "is not asked again")
    assert len(emulator.requests) == asked


def test_an_address_where_no_service_is(user: Command) -> None:
    """Another host of theirs answers, but not there: it is the base address, whether by token or by password."""
    with serve(answering("404 Not Found", b"")) as server:
        user.environ["AIMS360_BASE_URL"] = server.url
        met(user, "check the base address: the service isn't there; each of the two regions has its own")
        user.environ |= GRANT
        met(user, "refused to sign in (HTTP 404): check the base address: the service isn't there")


def test_a_host_that_does_not_exist(user: Command) -> None:
    """Its name, and what to look at; it isn't asked for eight times."""
    user.environ["AIMS360_BASE_URL"] = "https://nowhere.invalid"
    said = told(user, "doctor", 1, "https://nowhere.invalid can't be reached: ", "DNS")
    assert "no host is called nowhere.invalid (tried 3 times)" in said or "name server doesn't answer" in said


def test_a_port_where_nothing_listens(user: Command) -> None:
    """Host and port are named."""
    user.environ["AIMS360_BASE_URL"] = f"http://127.0.0.1:{a_free_port()}"
    met(user, "nothing listens at 127.0.0.1:", "check the address, its port too", commands=("init", "doctor"))


def test_a_wrong_password(user: Command) -> None:
    """The settings to look at are named, the password isn't shown."""
    user.environ |= {**GRANT, "AIMS360_PASSWORD": "wrong-password", "AIMS360_CLIENT_SECRET": "wrong-client"}
    met(user, "refused to sign in", "AIMS360_CLIENT_ID, AIMS360_CLIENT_SECRET, AIMS360_USERNAME, AIMS360_PASSWORD")


def test_a_client_that_the_service_does_not_know(user: Command) -> None:
    """Where the service says that it is the client, that is said."""
    refusal = b'{"error": "invalid_client", "error_description": "very-secret"}'
    with serve(answering("401 Unauthorized", refusal)) as server:
        user.environ |= {**GRANT, "AIMS360_BASE_URL": server.url}
        met(user, "it is the client id or its secret that it doesn't know", commands=("doctor",))


def test_an_expired_token(user: Command) -> None:
    """Where a new one is made, and where it belongs."""
    user.environ["AIMS360_TOKEN"] = "wrong-token"
    met(user, "AIMS360_TOKEN: the service refuses the token (401)", "Make a new one in AIMS360's user settings")


# -- 4: no rights -----------------------------------------------------------------------------------------------------


def test_a_user_who_may_not_read_jobs(user: Command, emulator: Emulator) -> None:
    """Signed in, and refused: somebody at AIMS360 must let this user."""

    def forbids(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if "backgroundjob" in environ["PATH_INFO"]:
            refusal = b'{"error": {"code": "Forbidden", "message": "Access denied."}}'
            return answering("403 Forbidden", refusal)(environ, start_response)
        return emulator(environ, start_response)

    with serve(forbids) as server:
        user.environ |= {**GRANT, "AIMS360_BASE_URL": server.url}
        met(user, "HTTP 403: Access denied.", "have AIMS360 let this user read background jobs")


def test_a_role_that_may_not_make_the_schema(user: Command, empty_database: str, db: Connection) -> None:
    """The statement that helps can be pasted."""
    with a_login(db, "poor") as role:
        user.environ["DATABASE_URL"] = as_role(empty_database, role)
        told(user, "migrate", 1, "permission denied", "`aims360-etl doctor` says which right is missing")
        cure = f'GRANT CREATE ON DATABASE "{empty_database.rpartition("/")[2]}" TO "{role}"'
        met(user, f"{role} may not create schemas here: {cure}", commands=("init", "doctor"))


def test_a_server_that_takes_no_writes(user: Command, empty_database: str, url: str) -> None:
    """A standby, or a role or database that is set so: found before the first run, with a mirror there or not."""
    for address in (url, empty_database):
        user.environ["DATABASE_URL"] = f"{address}?options=-c%20default_transaction_read_only%3Don"
        met(user, "takes no writes: DATABASE_URL must lead to the server that does", commands=("init", "doctor"))
    told(user, "migrate", 1, "read-only transaction", "must lead to the server that takes writes")


def test_a_role_that_may_see_nothing_of_the_mirror(user: Command, url: str, db: Connection) -> None:
    """Not even which revision it is at: the rights are asked for all the same, with the cure."""
    with a_login(db, "poor") as role:
        user.environ["DATABASE_URL"] = as_role(url, role)
        told(user, "sync", 1, "permission denied for schema etl; `aims360-etl doctor` says which rights are missing")
        met(
            user,
            f"{role} lacks USAGE on schema aims360, and ",
            f'let the owner of the mirror run `aims360-etl grant --writer "{role}"`',
            commands=("init", "doctor"),
        )
        db.execute(sql.SQL("GRANT USAGE ON SCHEMA aims360, etl TO {}").format(sql.Identifier(role)))
        met(user, f"{role} lacks DELETE on aims360.", commands=("init", "doctor"))


# -- 5: no database ---------------------------------------------------------------------------------------------------


def test_a_database_that_does_not_exist(user: Command, server_url: str) -> None:
    """How it is made."""
    user.environ["DATABASE_URL"] = sibling(server_url, "nowhere")
    met(user, "can't connect to nowhere on ", 'database "nowhere" does not exist; make it (CREATE DATABASE "nowhere")')


def test_a_wrong_password_of_the_database(user: Command, url: str, db: Connection) -> None:
    """The address without its password, and how odd characters are written."""
    with a_login(db, "someone") as role:
        user.environ["DATABASE_URL"] = as_role(url, role).replace(":guest@", ":very-secret@")
        advice = "check user and password in DATABASE_URL"
        met(user, f'password authentication failed for user "{role}"; {advice}', "written %40 %3A %2F %25")


def test_a_server_that_is_down_or_elsewhere(user: Command) -> None:
    """Refused, unresolved, and something that is no Postgres: each says what to look at."""
    port = a_free_port()
    user.environ["DATABASE_URL"] = f"postgresql://me:very-secret@127.0.0.1:{port}/mirror"
    met(user, f"can't connect to mirror on 127.0.0.1:{port}", "Connection refused; start Postgres there, or check host")
    user.environ["DATABASE_URL"] = "postgresql://me:very-secret@nowhere.invalid/mirror"
    met(user, "nowhere.invalid", "check the host in DATABASE_URL, and this machine's DNS")


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ('connection to server at "h" failed: FATAL:  role "me" does not exist', "CREATE ROLE … LOGIN"),
        ('FATAL:  role "me" is not permitted to log in', "ALTER ROLE … LOGIN"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "me", database "d", no encryption', "sslmode=require"),
        ('FATAL:  permission denied for database "d"', "GRANT CONNECT"),
        ("FATAL:  sorry, too many clients already", "raise max_connections"),
        ("FATAL:  the database system is starting up", "try again in a minute"),
        ("connection timeout expired", "firewalls"),
        ("received invalid response to SSL negotiation: H", "no Postgres answers there"),
        ("server does not support SSL, but SSL was required", "take sslmode out"),
        ("SSL error: certificate verify failed", "sslrootcert="),
        ("FATAL:  Datenbank »d« existiert nicht", "check DATABASE_URL, and that a Postgres answers there"),
    ],
)
def test_what_postgres_says_has_its_advice(said: str, advice: str) -> None:
    """Words of libpq and of the server, for what can't be had here; where they aren't known, what always helps."""
    assert advice in why_not(said)


# -- 6, 7: not migrated, too old --------------------------------------------------------------------------------------


def test_a_database_that_is_not_migrated(user: Command, empty_database: str) -> None:
    """Sync and doctor name the command; init takes it for what it is, and names it as the next step."""
    user.environ["DATABASE_URL"] = empty_database
    met(user, "no aims360 schema yet: run `aims360-etl migrate`", code=2, commands=("doctor", "sync"))
    code, output, errors = user.run("init")
    assert (code, errors) == (0, "")
    assert " migrate\n" in output


@pytest.mark.parametrize(("version", "number"), [("13.14", "13"), ("9.6.24", "9.6")])
def test_an_old_postgres(user: Command, version: str, number: str) -> None:
    """Which it is, and which is needed. (A server that says so of itself: none of that age can be installed here.)"""
    with a_postgres_of(version) as address:
        user.environ["DATABASE_URL"] = address
        met(user, f"is Postgres {number}; 14 or newer is needed: upgrade it, or lead DATABASE_URL to another")


# -- 8: a clock that is off -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [5, -5])
def test_a_clock_that_is_off(hours: int, user: Command) -> None:
    """Hours away, either way: a sync does its work, and doctor and init say by how much, and what to do."""
    world = populated(20, seed=1, now=datetime.now(UTC) + timedelta(hours=hours), rate=0)
    with serve(Emulator(world, token=TOKEN)) as server:
        user.environ["AIMS360_BASE_URL"] = server.url
        code, output, errors = user.run("sync")
        assert (code, "20 new" in output) == (0, True)
        assert ("Set this machine's clock" in errors) == (hours > 0)
        code, output, _ = user.run("doctor")
        assert code == 0
        [line] = [line for line in output.splitlines() if line.startswith("note") and " clock " in line]
        assert "this machine's is " in line
        assert ("behind the service's" in line) == (hours > 0)
        assert "set it right, with NTP say" in line


def test_clocks_that_are_close_are_fine() -> None:
    """Seconds are told, and nothing else."""
    assert clocks(timedelta(seconds=-3)).detail == "the service's is -3 s from ours"
    assert clocks(timedelta(seconds=29)).standing is Standing.FINE
    assert clocks(timedelta(minutes=-2)).detail.startswith("this machine's is 0:02:00 ahead of the service's")
    assert clocks(None).standing is Standing.NOTE


# -- 9: a proxy -------------------------------------------------------------------------------------------------------


def test_a_proxy_that_is_not_there(user: Command) -> None:
    """Which variable names it, without the password in it, and how to go past it: that works."""
    port = a_free_port()
    user.environ["HTTP_PROXY"] = f"http://me:very-secret@127.0.0.1:{port}"
    proxy = f"requests go through the proxy 127.0.0.1:{port}, which HTTP_PROXY names"
    met(user, f"nothing listens at 127.0.0.1:{port}", proxy, "NO_PROXY", commands=("init", "doctor"))
    user.environ["NO_PROXY"] = "127.0.0.1"
    assert user.run("sync")[0] == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_to_know_who_asks(user: Command, scheme: str) -> None:
    """407, to a request or to a CONNECT: how user and password are written."""
    with asking_who_asks() as place:
        base = "http://127.0.0.1:9" if scheme == "http" else "https://aims360.example"
        user.environ |= {f"{scheme.upper()}_PROXY": f"http://{place}", "AIMS360_BASE_URL": base}
        met(user, "407", f"which {scheme.upper()}_PROXY names", f"http://user:password@{place}")


def test_a_proxy_with_a_page_of_its_own(user: Command) -> None:
    """A page for people where jobs were asked for: it says so, and who may have answered."""
    with serve(answering("200 OK", b"<!DOCTYPE html><html><body>Blocked: very-secret</body></html>")) as proxy:
        user.environ |= {"HTTP_PROXY": proxy.url, "AIMS360_BASE_URL": "http://127.0.0.1:9"}
        met(
            user,
            "it is an HTML page, as of a gateway or a proxy",
            "which HTTP_PROXY names",
            commands=("init", "doctor"),
        )


def test_a_proxy_that_is_no_address(user: Command) -> None:
    """The variable is named, its value isn't: there may be a password in it."""
    user.environ["HTTPS_PROXY"] = "ftp://me:very-secret@proxy"
    user.environ["AIMS360_BASE_URL"] = "https://aims360.example"
    met(user, "HTTPS_PROXY: is no proxy's address", code=2, commands=("sync",))
    met(user, "HTTPS_PROXY: is no proxy's address", commands=("init", "doctor"))


def test_which_proxy_is_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one for the address's scheme, else the one for all; none for hosts that are named in NO_PROXY."""
    for name in list(os.environ):
        if name.lower() in _NETWORK:
            monkeypatch.delenv(name)
    assert network_errors.proxy_of("https://host.example") is None
    monkeypatch.setenv("ALL_PROXY", "http://me:pass@all.example")
    assert network_errors.proxy_of("https://host.example") == network_errors.Proxy("ALL_PROXY", "all.example:80")
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    assert network_errors.proxy_of("https://host.example") == network_errors.Proxy("https_proxy", "proxy.example:3128")
    assert network_errors.proxy_of("http://host.example") == network_errors.Proxy("ALL_PROXY", "all.example:80")
    monkeypatch.setenv("NO_PROXY", "host.example")
    assert network_errors.proxy_of("https://host.example") is None


# -- 10: a certificate ------------------------------------------------------------------------------------------------


def test_a_certificate_of_a_ca_that_nobody_knows(user: Command, emulator: Emulator) -> None:
    """Asked once, not eight times; SSL_CERT_FILE is the way, and it works."""
    with secured(emulator) as server:
        user.environ["AIMS360_BASE_URL"] = server.url
        said = told(user, "sync", 1, "certificate of 127.0.0.1 isn't trusted: ", "name its PEM file in SSL_CERT_FILE")
        assert "(tried once)" in said
        assert server.connections == 1
        met(user, "name its PEM file in SSL_CERT_FILE", commands=("init", "doctor"))
        user.environ["SSL_CERT_FILE"] = str(server.ca_file(user.folder))
        code, output, errors = user.run("sync")
        assert (code, "20 new" in output) == (0, True), errors


def test_a_certificate_that_expired_or_is_for_another_host(user: Command, emulator: Emulator) -> None:
    """Dates point to this machine's clock first, names to the base address."""
    past = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    future = datetime(2090, 1, 1, tzinfo=UTC), datetime(2091, 1, 1, tzinfo=UTC)
    for begin, end in (past, future):
        with secured(emulator, begin=begin, end=end) as server:
            user.environ |= {"AIMS360_BASE_URL": server.url, "SSL_CERT_FILE": str(server.ca_file(user.folder))}
            met(user, "isn't trusted: certificate ", "check this machine's clock", commands=("doctor", "sync"))
    with secured(emulator, host="elsewhere.example") as server:
        user.environ |= {"AIMS360_BASE_URL": server.url, "SSL_CERT_FILE": str(server.ca_file(user.folder))}
        met(user, "it was made out to another host: check the base address")


def test_a_file_of_cas_that_cannot_be_read(user: Command) -> None:
    """It is named as the setting that it is, not as a bug."""
    user.environ |= {"SSL_CERT_FILE": "/nowhere/ca.pem", "AIMS360_BASE_URL": "https://aims360.example"}
    met(user, "SSL_CERT_FILE: can't be read", code=2, commands=("sync",))
    met(user, "SSL_CERT_FILE: can't be read", commands=("init", "doctor"))


def test_an_https_address_where_plain_http_is_spoken(user: Command) -> None:
    """The port of a service without TLS."""
    user.environ["AIMS360_BASE_URL"] = user.environ["AIMS360_BASE_URL"].replace("http:", "https:")
    met(user, "doesn't speak TLS", "check the base address, its port too", commands=("doctor",))


# ---------------------------------------------------------------------------------------------------------------------


def answering(status: str, body: bytes) -> Callable[..., list[bytes]]:
    """An application that answers everything so."""

    def answer(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response(status, [("Content-Type", "text/html"), ("Content-Length", str(len(body)))])
        return [body]

    return answer


@contextmanager
def asking_who_asks() -> Iterator[str]:
    """Host and port of a proxy that leads nobody anywhere who doesn't say who he is."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(407)
            self.send_header("Proxy-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_CONNECT = do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
