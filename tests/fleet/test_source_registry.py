"""The source registry: sources of the file and of the database, judged as a whole."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from etl.config import settings, validation
from etl.config.secrets import Secret
from etl.config.settings import Settings
from etl.errors import ConfigError, DatabaseError
from etl.fleet import source_registry, source_store
from etl.fleet.source_store import Entry
from etl.postgres import roles
from etl.postgres.connection import Connection, connect
from tests.support.logins import a_login, as_role

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
FILE = """
[defaults]
every = "1m"
[sources.west]
base_url = "https://west.example"
token_env = "WEST"
[sources.broken]
base_url = "west.example"
token_env = "NOT_SET"
purge = "never"
"""
DEFAULTS = """
[defaults]
base_url = "https://{name}.example"
token_env = "TOKEN_{name}"
"""


def read(folder: Path, text: str = FILE, **environ: str) -> Settings:
    """The settings of a file."""
    (folder / "aims360.toml").write_text(text)
    return settings.read({"WEST": "w", "EAST": "e", **environ}, folder)


def an_entry(**changes: object) -> Entry:
    """A source that holds, as the database keeps it."""
    return Entry({"base_url": "https://east.example", "token_env": "EAST", **changes}, None)


def put(db: Connection, replace: bool = False, **entries: Entry) -> None:
    """Writes them."""
    source_store.put(db, entries, NOW, replace=replace)


def test_file_and_database_make_one_roster(db: Connection, tmp_path: Path) -> None:
    """Broken ones are told with every mistake and stop nobody; what is disabled is left alone, however wrong."""
    put(db, east=an_entry(), odd=an_entry(every="0", token_env="UNSET"), off=an_entry(purge="never"))
    source_store.disable(db, ["off"], NOW)
    found = source_registry.whole(read(tmp_path), source_store.entries(db))
    assert {name: source.base_url for name, source in found.sources.items()} == {
        "east": "https://east.example",
        "west": "https://west.example",
    }
    assert found.sources["east"].every == found.sources["west"].every == validation.duration("1m")
    assert found.sources["east"].credentials == Secret("e")
    assert found.disabled == {"off"}
    assert list(found.problems) == ["broken", "odd"]
    assert len(found.problems["broken"].splitlines()) == 3
    assert [line.partition(": '")[0] for line in found.problems["odd"].splitlines()] == [
        "etl.roster: [odd] token_env: the environment variable that it names is not set",
        "etl.roster: [odd] every",
    ]


def test_a_name_in_both_is_an_error_of_that_name(db: Connection, tmp_path: Path) -> None:
    """Nobody could say which one counts; the others go on."""
    put(db, west=an_entry(), east=an_entry())
    found = source_registry.whole(read(tmp_path), source_store.entries(db))
    assert list(found.sources) == ["east"]
    assert found.problems["west"].startswith("is in aims360.toml and in the database; take it out of the one,")


def test_the_environment_is_no_source_unless_it_says_where(db: Connection, tmp_path: Path) -> None:
    """Without file and AIMS360_BASE_URL the database's sources are all."""
    put(db, east=an_entry())
    found = settings.read({"EAST": "e", "AIMS360_EVERY": "7s"}, tmp_path)
    assert list(source_registry.whole(found, source_store.entries(db)).sources) == ["east"]
    assert source_registry.whole(found, source_store.entries(db)).sources["east"].every.total_seconds() == 7
    found = settings.read({"EAST": "e", "AIMS360_BASE_URL": "https://h", "AIMS360_TOKEN": "t"}, tmp_path)
    assert list(source_registry.whole(found, source_store.entries(db)).sources) == ["aims360", "east"]


def test_a_database_before_its_roster_has_none(empty_database: str) -> None:
    """One that was never migrated is asked, and has no sources."""
    with connect(empty_database) as db:
        assert source_store.entries(db) == {}


def test_what_is_there_is_not_written_over(db: Connection) -> None:
    """Unless it is wished; of several all are written or none."""
    put(db, east=an_entry())
    with pytest.raises(ConfigError, match=r"^east: is in the database already; --replace writes over it"):
        put(db, new=an_entry(), east=an_entry(purge="keep"))
    assert source_store.entries(db) == {"east": an_entry()}
    put(db, replace=True, new=an_entry(), east=an_entry(purge="keep"))
    assert source_store.entries(db) == {"east": an_entry(purge="keep"), "new": an_entry()}
    assert source_store.entries(db, "new") == {"new": an_entry()}


def test_two_who_add_at_once_lose_nothing(db: Connection, url: str) -> None:
    """The second waits for the first, and is told that the name is taken."""
    refused = []

    def add(number: int) -> None:
        with connect(url) as own:
            source_store.put(own, {f"own{number}": an_entry()}, NOW, replace=False)
            try:
                put(own, shared=an_entry(concurrency=str(number)))
            except ConfigError:
                refused.append(number)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 5
    [winner] = set(range(1, 7)) - set(refused)
    found = source_store.entries(db)
    assert len(found) == 7
    assert found["shared"] == an_entry(concurrency=str(winner))


def test_disabled_enabled_removed(db: Connection) -> None:
    """All that are named or none; when it was first disabled stays known."""
    put(db, a=an_entry(), b=an_entry())
    source_store.disable(db, ["a"], NOW)
    source_store.disable(db, ["a", "b"], NOW.replace(hour=10))
    assert [entry.disabled_at for entry in source_store.entries(db).values()] == [NOW, NOW.replace(hour=10)]
    with pytest.raises(ConfigError, match=r"^c: no such source in the database"):
        source_store.enable(db, ["a", "c"], NOW)
    with pytest.raises(ConfigError, match=r"^c: no such source in the database"):
        source_store.remove(db, ["a", "c"])
    assert all(entry.disabled_at for entry in source_store.entries(db).values())
    source_store.enable(db, ["a"], NOW)
    source_store.remove(db, ["b"])
    assert source_store.entries(db) == {"a": an_entry()}


def test_the_roster_is_the_owners(db: Connection, url: str) -> None:
    """Who syncs reads it only: a source says which secrets of a machine are sent where."""
    put(db, east=an_entry())
    with a_login(db, "keeper") as role:
        roles.grant_writer(db, role)
        with connect(as_role(url, role)) as own:
            tries: list[Callable[[], None]] = [
                lambda: put(own, west=an_entry()),
                lambda: put(own, replace=True, east=an_entry()),
                lambda: source_store.disable(own, ["east"], NOW),
                lambda: source_store.enable(own, ["east"], NOW),
                lambda: source_store.remove(own, ["east"]),
            ]
            for tried in tries:
                with pytest.raises(DatabaseError, match=f"^{role} may not write etl.roster: .* `aims360-etl migrate`"):
                    tried()
            assert source_store.entries(own) == {"east": an_entry()}


@pytest.mark.parametrize(
    "said",
    [
        {"token_env": "DATABASE_URL"},
        {"token_env": "PGPASSWORD"},
        {"token_env": "AIMS360_TOKEN"},
        {"token_env": None, "token_file": "east"},
    ],
)
def test_what_was_written_by_other_ways_is_held_against_the_same(
    db: Connection, tmp_path: Path, said: dict[str, str | None]
) -> None:
    """Nothing of the program's own is taken for a source's secret, however it came into the table."""
    (tmp_path / "east").write_text("found")
    whole = {key: value for key, value in {**an_entry().settings, **said}.items() if value is not None}
    put(db, east=Entry(whole, None))
    own = {"DATABASE_URL": "postgresql://h/d", "PGPASSWORD": "p", "AIMS360_TOKEN": "t"}
    here = read(tmp_path, "[defaults]\ntoken_env = 'AIMS360_TOKEN'", **own)
    found = source_registry.whole(here, source_store.entries(db))
    assert (found.sources, [*found.problems]) == ({}, ["east"])
    with pytest.raises(ConfigError, match=r"is no full path|are the program's own"):
        here.source("east", source_registry.tables(here, source_store.entries(db)))


def test_a_name_leads_to_no_variable_of_the_program(tmp_path: Path) -> None:
    """By a template of the defaults: whoever names a source doesn't choose which of them is its token."""
    text = '[defaults]\nbase_url = "https://h"\ntoken_env = "{name}"\n'
    found = read(tmp_path, text, DATABASE_URL="postgresql://h/d")
    problems = source_registry.whole(found, {"DATABASE_URL": Entry({}, None), "EAST": Entry({}, None)}).problems
    assert list(problems) == ["DATABASE_URL"]
    assert "the name 'DATABASE_URL' doesn't fit into a variable" in problems["DATABASE_URL"]


def test_a_machine_says_where_secrets_of_the_database_may_be(tmp_path: Path) -> None:
    """Below its folders, and in variables that begin as it says; what its own file names is its own matter."""
    folder = tmp_path / "allowed"
    folder.mkdir()
    for name in ("allowed/east", "other", "own"):
        (tmp_path / name).write_text("found")
    text = f"[sources.own]\nbase_url = 'https://h'\ntoken_file = '{tmp_path / 'own'}'\n"
    found = read(tmp_path, text, ACME_TOKEN="a", AIMS360_ROSTER_SECRETS=f"{folder}, ACME_*")
    places = {
        "below": {"token_file": str(folder / "east")},
        "begins": {"token_env": "ACME_TOKEN"},
        "beside": {"token_file": str(tmp_path / "other")},
        "out": {"token_file": str(folder / ".." / "other")},
        "another": {"token_env": "EAST"},
    }
    whole = source_registry.whole(
        found, {name: Entry({"base_url": "https://h", **said}, None) for name, said in places.items()}
    )
    assert set(whole.sources) == {"own", "below", "begins"}
    for name in ("beside", "out", "another"):
        assert whole.problems[name].endswith("is at no place that AIMS360_ROSTER_SECRETS of this machine allows")
    notes = source_registry.check_new(
        found, source_registry.of_words("new", {"base_url": "https://h", **places["beside"]})
    )
    assert notes == ["new: token_file: is at no place that AIMS360_ROSTER_SECRETS of this machine allows"]
    for wrong in ("secrets", "ACME", "*"):
        with pytest.raises(ConfigError, match=r"AIMS360_ROSTER_SECRETS: .* is no full path of a folder"):
            read(tmp_path, AIMS360_ROSTER_SECRETS=wrong)


def test_a_row_that_is_no_source_stops_no_other(db: Connection, tmp_path: Path) -> None:
    """What isn't keys and texts can't be written; a name that can't be shown is an error of that name."""
    with pytest.raises(psycopg.errors.CheckViolation), db.transaction():
        db.execute("INSERT INTO etl.roster VALUES ('odd', '[1]', now(), now())")
    source_store.put(db, {"east": an_entry(), "a\x1b[31m": an_entry()}, NOW, replace=False)
    found = source_registry.whole(read(tmp_path), source_store.entries(db))
    assert "east" in found.sources
    assert "some that can't be seen" in found.problems["a\x1b[31m"]


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"token_env": "eyJhbGciOi.secret-itself"}, "new: token_env: is no variable's name"),
        ({"token_env": "AIMS360_TOKEN"}, "new: token_env: AIMS360_…, DATABASE_URL and PGPASSWORD are"),
        ({"token": "secret-itself"}, "new: token: no secrets in a file"),
        ({"token_file": "secret-itself"}, "new: token_file: is no full path"),
        ({"token_env": "EAST_FILE"}, "new: token_env: names a variable that names a file"),
        ({"token_env": "EAST", "token_file": "/secret"}, "new: token_file: token_env is there too"),
        ({"colour": "red"}, "new: colour: no such setting"),
        ({"every": "0s"}, "new: every: '0s' is too short"),
        ({"client_id": "c", "token_env": None}, "new: client_secret_env: is not set, and the password grant needs it"),
        ({"base_url": "https://me:secret-itself@h"}, "new: base_url: must be plain"),
    ],
)
def test_what_the_database_may_not_keep(tmp_path: Path, said: dict[str, str | None], line: str) -> None:
    """Every mistake is told; what may be a secret isn't repeated."""
    whole = {"base_url": "https://h", "token_env": "EAST", "purge": "never", **said}
    if "token_file" in said and "token_env" not in said:
        del whole["token_env"]
    new = source_registry.of_words("new", {key: value for key, value in whole.items() if value is not None})
    with pytest.raises(ConfigError) as caught:
        source_registry.check_new(read(tmp_path), new)
    assert line in str(caught.value)
    assert "new: purge: 'never' is none of" in str(caught.value)
    assert "secret-itself" not in str(caught.value)


def test_a_name_of_the_file_is_taken(tmp_path: Path) -> None:
    """And an empty one is none."""
    for name, said in (("west", "^west: is in aims360.toml already"), ("", "the name of a source is empty")):
        with pytest.raises(ConfigError, match=said):
            source_registry.check_new(read(tmp_path), source_registry.of_words(name, an_entry().settings))


def test_secrets_of_other_machines_are_noted_only(tmp_path: Path) -> None:
    """Whoever adds a source needn't hold its secrets."""
    said = source_registry.check_new(
        read(tmp_path), source_registry.of_words("new", {"base_url": "https://h", "token_env": "FAR"})
    )
    assert said == ["new: token_env: the environment variable that it names is not set"]
    assert source_registry.check_new(read(tmp_path), source_registry.of_words("new", an_entry().settings)) == []


def test_a_path_of_the_defaults_is_seen_from_their_file(tmp_path: Path) -> None:
    """For sources of the database too: only what the database itself says wants a full path."""
    (tmp_path / "east").write_text("from-a-file")
    text = '[defaults]\nbase_url = "https://{name}.example"\ntoken_file = "{name}"\n'
    found = source_registry.whole(read(tmp_path, text), {"east": Entry({}, None)})
    assert (found.problems, found.sources["east"].credentials) == ({}, Secret("from-a-file"))


def test_a_file_becomes_a_roster(tmp_path: Path) -> None:
    """Each source with what it inherited; numbers are texts, and disabled is a moment."""
    file = tmp_path / "fleet.toml"
    file.write_text(
        '[defaults]\nbase_url = "https://{name}.example"\ntoken_file = "/run/{name}"\nconcurrency = 4\n'
        '[sources.a]\n[sources.b]\ndisabled = true\nconcurrency = 2\ntoken_env = "B"\n'
    )
    new = source_registry.of_file(file, NOW)
    assert new.problems == []
    assert new.wanted == {
        "a": Entry({"base_url": "https://a.example", "token_file": "/run/a", "concurrency": "4"}, None),
        "b": Entry({"base_url": "https://b.example", "concurrency": "2", "token_env": "B"}, NOW),
    }
    file.write_text('[defaults]\ntoken_env = "T_{name}"\n[sources.a-b]\npurge = ["x"]\n[sources."a/b"]\ncolour = 1\n')
    with pytest.raises(ConfigError) as caught:
        source_registry.check_new(read(tmp_path), source_registry.of_file(file, NOW))
    lines = [line.partition(":")[2].partition(":")[0] for line in str(caught.value).splitlines()]
    assert lines.count(" [defaults] token_env") == 2
    assert {" [sources.a-b] purge", " [sources.a/b] colour", " [sources.a/b] base_url"} <= set(lines)


def test_all_sources_are_judged_at_once(tmp_path: Path) -> None:
    """Those that hold, and every mistake of each that doesn't; one that is disabled may be as wrong as it likes."""
    text = DEFAULTS + (
        '[sources.fine]\n[sources.bad]\nconcurrency = 99\nevery = "0"\n'
        '[sources.off]\ndisabled = true\npurge = "never"\n'
    )
    judged = source_registry.whole(read(tmp_path, text, TOKEN_fine="t", TOKEN_off="t"), {})
    assert list(judged.sources) == ["fine"]
    assert list(judged.problems) == ["bad"]
    assert [line.partition(" ")[2].partition(":")[0] for line in judged.problems["bad"].splitlines()] == [
        "[defaults] token_env",
        "[sources.bad] every",
        "[sources.bad] concurrency",
    ]
    turned = text.replace("[defaults]", "[defaults]\ndisabled = true").replace("fine]", "fine]\ndisabled = false")
    found = source_registry.whole(read(tmp_path, turned, TOKEN_fine="t"), {})
    assert (sorted(found.disabled), list(found.sources)) == (["bad", "off"], ["fine"])


def test_thousands_are_judged_in_a_moment(tmp_path: Path) -> None:
    """All of them, with a secret each."""
    names = [f"s{number}" for number in range(2_000)]
    tables = "".join(f"[sources.{name}]\n" for name in names)
    found = read(tmp_path, DEFAULTS + tables, **{f"TOKEN_{name}": name for name in names})
    began = time.process_time()
    judged = source_registry.whole(found, {})
    assert time.process_time() - began < 3  # some 200 ms
    assert (sorted(judged.sources), judged.problems) == (sorted(names), {})
    assert {source.credentials for source in judged.sources.values()} == {Secret(name) for name in names}
