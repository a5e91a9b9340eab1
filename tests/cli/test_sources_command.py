"""`aims360-etl sources`: kept in the database, listed, checked; and commands that work from there."""

import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest

from etl.models import CAPABILITIES
from etl.postgres.connection import Connection
from etl.testing.emulator import Emulator, Server, World, populated, serve
from tests.support.command import Command
from tests.support.scene import TOKEN, Scene, a_source


@pytest.fixture
def bare(command: Command) -> Command:
    """The command of whoever has no source in file or environment."""
    del command.environ["AIMS360_BASE_URL"], command.environ["AIMS360_TOKEN"]
    command.environ["SECRET"] = TOKEN
    return command


def add(command: Command, service: Server, name: str, *more: str) -> None:
    """Keeps a source of the emulator in the database."""
    done = command.run("sources", "add", name, "--base-url", service.url, "--token-env", "SECRET", *more)
    assert done == (0, f"{name} is in the database\n", ""), done


def listed(command: Command, *words: str) -> list[dict[str, Any]]:
    """What scripts see."""
    code, output, errors = command.run("sources", "list", "--json", *words)
    assert (code, errors) == (0, "")
    found: list[dict[str, Any]] = json.loads(output)
    return found


def test_a_source_of_the_database_is_synced_like_any_other(bare: Command, service: Server, db: Connection) -> None:
    """By its name, or as the only one; doctor looks at it too."""
    add(bare, service, "acme")
    for words in ((), ("--source", "acme")):
        code, output, errors = bare.run("sync", *words)
        assert (code, output.startswith("acme: run ")) == (0, True), errors
    assert db.execute("SELECT count(*) FROM aims360.jobs").fetchone() == (300,)
    code, output, _ = bare.run("doctor")
    assert (code, "source 'acme' at" in output) == (0, True)
    add(bare, service, "beta")
    code, _, errors = bare.run("sync")
    assert (code, "choose one with --source: acme, beta" in errors) == (2, True)
    code, _, errors = bare.run("sync", "--source", "gamma")
    assert (code, "no source is called 'gamma'; configured: acme, beta" in errors) == (2, True)


def test_one_of_the_file_never_asks_the_database(bare: Command, service: Server) -> None:
    """What is wrong there is no matter then; for another both reasons are told."""
    (bare.folder / "aims360.toml").write_text('[sources.west]\nbase_url = "https://west"\ntoken_env = "NOT_SET"\n')
    bare.environ["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nowhere"
    code, _, errors = bare.run("sync", "--source", "west")
    assert (code, "token_env: the environment variable" in errors, "database" in errors) == (2, True, False)
    code, _, errors = bare.run("sync", "--source", "acme")
    assert code == 2
    assert "no source is called 'acme'; configured: west" in errors
    assert "the database can't be asked for sources: can't connect" in errors


def test_nothing_configured_makes_no_database(bare: Command) -> None:
    """Whoever forgot the settings isn't given an embedded Postgres."""
    del bare.environ["DATABASE_URL"]
    bare.environ["AIMS360_DATA_DIR"] = str(bare.folder / "data")
    code, _, errors = bare.run("sync")
    assert (code, "AIMS360_BASE_URL: is not set" in errors, (bare.folder / "data").exists()) == (2, True, False)


def test_sources_are_listed_by_name(bare: Command, service: Server) -> None:
    """Of both places, with what is wrong; those that are disabled only if wished; never a secret."""
    add(bare, service, "zulu", "--every", "90s")
    add(bare, service, "mike")
    assert bare.run("sources", "disable", "mike")[:2] == (0, "disabled: mike\n")
    (bare.folder / "aims360.toml").write_text(
        '[sources.alpha]\nbase_url = "https://me:pass@west"\ntoken_env = "SECRET"\npurge = "never"\n'
    )
    alpha, zulu = listed(bare)
    assert zulu == {
        "name": "zulu",
        "base_url": service.url,
        "every_seconds": 90,
        "is_disabled": False,
        "configured_in": "database",
        "problem": None,
        "paging": None,
        "window_by": None,
        "capabilities": {name: {"support": "unknown", "words": "", "at": None, "limit": None} for name in CAPABILITIES},
    }
    assert (alpha["name"], alpha["base_url"], alpha["configured_in"]) == ("alpha", None, "aims360.toml")
    assert len(alpha["problem"].splitlines()) == 2
    assert [(each["name"], each["is_disabled"]) for each in listed(bare, "--all")] == [
        ("alpha", False),
        ("mike", True),
        ("zulu", False),
    ]
    code, output, _ = bare.run("sources", "list", "--all")
    assert (code, "1 min 30 s" in output, "alpha: aims360.toml: [sources.alpha] purge" in output) == (0, True, True)
    assert TOKEN not in output
    assert "pass" not in output.replace("password", "")
    assert bare.run("sources", "enable", "mike")[:2] == (0, "enabled: mike\n")
    assert bare.run("sources", "remove", "zulu")[0] == 0
    assert [each["name"] for each in listed(bare)] == ["alpha", "mike"]


def test_the_list_says_how_each_source_is_read_and_what_its_service_supports(
    bare: Command, service: Server, db: Connection
) -> None:
    """Of those that were synced; with the words of the answer, in which no secret is left."""
    add(bare, service, "acme")
    add(bare, service, "west")
    scene = Scene(db, populated(50, seed=1, rate=0), a_source(name="acme"))
    scene.sync()
    scene.world.advance(timedelta(minutes=5))
    scene.sync(refusing_dates(scene.emulator))
    acme, west = listed(bare)
    assert (west["paging"], west["capabilities"]["filter_dates"]["support"]) == (None, "unknown")
    assert (acme["paging"], acme["window_by"]) == ("key", "none")
    assert (acme["capabilities"]["orderby"]["support"], list(acme["capabilities"])) == ("yes", list(CAPABILITIES))
    refusal = acme["capabilities"]["filter_dates"]
    assert refusal["support"] == "no"
    assert refusal["words"].startswith(
        "HTTP 400: The property 'modifiedDate' cannot be used in the $filter query option"
    )
    assert refusal["at"].startswith(f"{scene.world.now:%Y-%m-%dT%H:}")
    text = bare.run("sources", "list", "--json")[1]
    assert [secret for secret in SECRETS if secret in text] == []


SECRETS = (TOKEN, "eyJhbGciOi", "hunter2", "operator@example.com", "files.example", "f00dfeed")


def refusing_dates(service: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """The service, where it refuses filters on dates and says more than it should."""
    message = (
        f"The property 'modifiedDate' cannot be used in the $filter query option. token={TOKEN} "
        "Bearer eyJhbGciOi.J9.x password: hunter2 of operator@example.com; see "
        "https://files.example/documents/a.pdf?sig=f00dfeed"
    )

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = unquote(environ["QUERY_STRING"])
        if "$filter=" not in query or "modifiedDate " not in query:
            return service(environ, start_response)
        start_response("400 Bad Request", [("Content-Type", "application/json")])
        return [json.dumps({"error": {"code": "", "message": message}}).encode()]

    return answer


def test_shards_share_all_sources_out(bare: Command) -> None:
    """Each is in one of them, always the same."""
    names = [f"s{number}" for number in range(40)]
    tables = "".join(f"[sources.{name}]\n" for name in names)
    (bare.folder / "aims360.toml").write_text(f'[defaults]\nbase_url = "https://h"\ntoken_env = "SECRET"\n{tables}')
    parts = [[each["name"] for each in listed(bare, "--shard", f"{number}/3")] for number in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert all(len(part) > 5 for part in parts)
    assert parts[1] == [each["name"] for each in listed(bare, "--shard", "2/3")]
    for wrong in ("0/3", "4/3", "1", "x/y"):
        code, _, errors = bare.run("sources", "list", "--shard", wrong)
        assert (code, "is no part of a whole" in errors) == (2, True)


def test_what_is_added_is_judged_first(bare: Command, service: Server) -> None:
    """Every mistake at once, nothing written; a secret has no option, and what may be one isn't repeated."""
    words = ("sources", "add", "acme", "--base-url", "nowhere", "--every", "0", "--token-env", "s3cret-itself")
    code, output, errors = bare.run(*words)
    assert (code, output) == (2, "")
    assert [part in errors for part in ("acme: base_url", "acme: every", "acme: token_env")] == [True] * 3
    assert "s3cret" not in errors
    code, _, errors = bare.run("sources", "add", "acme", "--token=s3cret-itself")
    assert (code, "s3cret" in errors) == (2, False)
    assert listed(bare, "--all") == []
    add(bare, service, "acme")
    again = ("sources", "add", "acme", "--base-url", service.url, "--token-env", "ELSEWHERE")
    code, _, errors = bare.run(*again)
    assert (code, "acme: is in the database already; --replace writes over it" in errors) == (2, True)
    code, _, errors = bare.run(*again, "--replace")
    assert (code, errors.startswith("note: on this machine acme: token_env: the environment variable")) == (0, True)


def test_a_file_is_added_whole_or_not_at_all(bare: Command, service: Server) -> None:
    """With every mistake of every source."""
    file = bare.folder / "fleet.toml"
    good = f'[defaults]\nbase_url = "{service.url}"\ntoken_env = "SECRET"\n[sources.a]\n[sources.b]\ndisabled = true\n'
    file.write_text(good + '[sources.c]\npurge = "never"\n[sources.d]\ncolour = "red"\nevery = "x"\n')
    code, _, errors = bare.run("sources", "add", "--from", str(file))
    assert (code, len(errors.splitlines())) == (2, 3)
    assert listed(bare, "--all") == []
    file.write_text(good)
    assert bare.run("sources", "add", "--from", str(file)) == (0, "2 sources are in the database\n", "")
    assert [(each["name"], each["is_disabled"]) for each in listed(bare, "--all")] == [("a", False), ("b", True)]
    for words in ((), ("a", "--from", str(file)), ("--from", str(file), "--every", "1m")):
        code, _, errors = bare.run("sources", "add", *words)
        assert (code, "takes NAME and its settings, or --from FILE alone" in errors) == (2, True)


def test_a_source_of_the_file_is_disabled_there(bare: Command) -> None:
    """And that is said; nothing is changed, of none that is named."""
    (bare.folder / "aims360.toml").write_text('[sources.west]\nbase_url = "https://west"\ntoken_env = "SECRET"\n')
    for word, line in (("disable", "write `disabled = true`"), ("enable", "take `disabled = true` out")):
        code, _, errors = bare.run("sources", word, "west")
        assert (code, f"west: is configured in the file aims360.toml; {line}" in errors) == (2, True)
    code, _, errors = bare.run("sources", "disable", "nobody")
    assert (code, "nobody: no such source in the database" in errors) == (2, True)


def test_check_signs_in_everywhere(bare: Command, service: Server, world: World) -> None:
    """Side by side, every error listed; wrong settings weigh more than a service that says no."""
    add(bare, service, "fine")
    assert bare.run("sources", "check")[:2] == (0, "1 of 1 sources are fine\n")
    with serve(Emulator(world, token="another")) as other:
        add(bare, other, "refused")
        code, output, _ = bare.run("sources", "check", "--json")
        found = {each["name"]: each for each in json.loads(output)}
        assert code == 1
        assert (found["fine"]["is_fine"], found["fine"]["problem"]) == (True, None)
        assert (found["refused"]["is_fine"], found["refused"]["failed"]) == (False, "service")
        assert found["refused"]["problem"].startswith("SECRET: the service refuses the token")
        assert TOKEN not in output
        bare.environ["SECRET"] = ""
        code, output, _ = bare.run("sources", "check", "fine")
        assert (code, output.splitlines()[-1]) == (2, "0 of 1 sources are fine")
        bare.environ["SECRET"] = TOKEN
        bare.run("sources", "add", "unset", "--base-url", service.url, "--token-env", "UNSET")
        code, output, _ = bare.run("sources", "check")
        assert (code, output.splitlines()[-1]) == (2, "1 of 3 sources are fine")
        assert len(output.splitlines()) == 3
        bare.run("sources", "disable", "refused", "unset")
        assert bare.run("sources", "check")[:2] == (0, "1 of 1 sources are fine\n")
        assert bare.run("sources", "check", "refused")[0] == 1
    code, _, errors = bare.run("sources", "check", "nobody", "none")
    assert (code, "no source is called nobody, none; configured: fine" in errors) == (2, True)
