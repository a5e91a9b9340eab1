"""Settings: every mistake is named with its fix, and secrets don't show."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from etl.config import settings, validation
from etl.config.secrets import PasswordGrant, Secret
from etl.errors import ConfigError
from tests.support.command import IMPATIENT, Command

GOOD = {"AIMS360_BASE_URL": "https://api.example/", "AIMS360_TOKEN": "a-token"}


def a_source(folder: Path, **changes: str) -> settings.Source:
    """The source that an environment describes."""
    return settings.read({**GOOD, **changes}, folder).source()


def test_a_token_and_an_address_are_enough(tmp_path: Path) -> None:
    """Everything else has a default."""
    source = a_source(tmp_path)
    assert (source.name, source.base_url, source.credentials) == ("aims360", "https://api.example", Secret("a-token"))
    assert (source.look_back, source.concurrency, source.purge) == (timedelta(minutes=15), 4, "delete")
    assert (source.page_size, source.token_file) == (None, None)


def test_the_password_grant_needs_all_four(tmp_path: Path) -> None:
    """What is missing is named; all four make a grant."""
    grant = {"AIMS360_TOKEN": "", "AIMS360_CLIENT_ID": "c", "AIMS360_USERNAME": "u", "AIMS360_PASSWORD": "p"}
    with pytest.raises(ConfigError, match="AIMS360_CLIENT_SECRET: is not set"):
        a_source(tmp_path, **grant)
    source = a_source(tmp_path, **grant, AIMS360_CLIENT_SECRET="s")
    assert source.credentials == PasswordGrant("c", Secret("s"), "u", Secret("p"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AIMS360_BASE_URL", "", "is not set"),
        ("AIMS360_BASE_URL", "api.example", "is not an address"),
        ("AIMS360_BASE_URL", "https://[", "is not an address"),
        ("AIMS360_BASE_URL", "http://api.example", "in the clear"),
        ("AIMS360_BASE_URL", "https://me:pass@api.example", "must be plain"),
        ("AIMS360_TOKEN", "", "is not set, nor are"),
        ("AIMS360_BASE_URL", "https://exa mple..com", "is not an address"),
        ("AIMS360_TOKEN", "two\nlines", "that no token has"),
        ("AIMS360_TIME_ZONE", "localtime", "no IANA time zone"),
        ("AIMS360_LOOK_BACK", "999999999d", "more than 30 days"),
        ("AIMS360_LOOK_BACK", "-5m", "is not a duration"),
        ("AIMS360_CONCURRENCY", "0", "from 1 to 32"),
        ("AIMS360_CONCURRENCY", "9" * 5_000, "from 1 to 32"),
        ("AIMS360_BASE_URL", "https://api.example?", "must be plain"),
        ("AIMS360_CONCURRENCY", "many", "from 1 to 32"),
        ("AIMS360_CONCURRENCY", "33", "from 1 to 32"),
        ("AIMS360_PAGE_SIZE", "0", "from 1 to 1000"),
        ("AIMS360_PAGE_SIZE", "1001", "from 1 to 1000"),
        ("AIMS360_PAGE_SIZE", "-5", "from 1 to 1000"),
        ("AIMS360_PAGE_SIZE", "2.5", "from 1 to 1000"),
        ("AIMS360_PAGE_SIZE", "\u0663", "from 1 to 1000"),
        ("AIMS360_PAGE_SIZE", "9" * 5_000, "from 1 to 1000"),
        ("AIMS360_TOKEN", "Bearer two words", "that no token has"),
        ("AIMS360_PURGE", "never", "none of delete, scrub, keep"),
        ("AIMS360_TIME_ZONE", "Mars/Olympus", "no IANA time zone"),
        ("AIMS360_TIME_ZONE", "../etc", "no IANA time zone"),
        ("AIMS360_LOOKBACK", "5m", "no such setting"),
        ("DATABASE_URL", "mysql://x", "is not an address such as postgresql"),
        ("AIMS360_CONFIG", "missing.toml", "there is no file"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_wrong(tmp_path: Path, name: str, value: str, said: str) -> None:
    """The line begins with the setting's name."""
    with pytest.raises(ConfigError) as caught:
        a_source(tmp_path, **{name: value})
    assert str(caught.value).startswith(name)
    assert said in str(caught.value)


def test_every_mistake_is_listed(tmp_path: Path) -> None:
    """Not only the first."""
    with pytest.raises(ConfigError) as caught:
        settings.read({"AIMS360_PURGE": "no", "AIMS360_LOOK_BACK": "no"}, tmp_path).source()
    assert len(str(caught.value).splitlines()) == 4


def test_http_is_for_this_machine_only(tmp_path: Path) -> None:
    """The emulator needs no certificate."""
    assert a_source(tmp_path, AIMS360_BASE_URL="http://127.0.0.1:8360").base_url == "http://127.0.0.1:8360"
    assert a_source(tmp_path, AIMS360_BASE_URL="http://localhost").base_url == "http://localhost"
    for stranger in ("http://127.evil.example", "http://10.0.0.1", "http://localhost.evil.example"):
        with pytest.raises(ConfigError, match="in the clear; use https, or --insecure-http"):
            a_source(tmp_path, AIMS360_BASE_URL=stranger)


def test_http_elsewhere_must_be_wished_for(tmp_path: Path) -> None:
    """By an option of the command, for this once; the source knows what it does."""
    environ = {**GOOD, "AIMS360_BASE_URL": "http://10.0.0.1"}
    source = settings.read(environ, tmp_path, insecure_http=True).source()
    assert (source.base_url, source.is_in_the_clear) == ("http://10.0.0.1", True)
    assert not a_source(tmp_path).is_in_the_clear
    assert not a_source(tmp_path, AIMS360_BASE_URL="http://127.0.0.1:8360").is_in_the_clear
    with pytest.raises(ConfigError, match="is not an address"):
        settings.read({**GOOD, "AIMS360_BASE_URL": "ftp://10.0.0.1"}, tmp_path, insecure_http=True).source()


SECRETS = {"AIMS360_CLIENT_SECRET": "s", "AIMS360_PASSWORD": "p"}


def a_file(folder: Path, content: str | bytes, name: str = "a-secret") -> str:
    """The path of a file with this content."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_secrets_may_lie_in_files(tmp_path: Path, end: str) -> None:
    """Each of them, the line end after it taken off, and nothing else of it; what is wrong is asked of the file."""
    named = {f"{name}_FILE": a_file(tmp_path, f" {value} {end}", name) for name, value in SECRETS.items()}
    grant = {"AIMS360_TOKEN": "", "AIMS360_CLIENT_ID": "c", "AIMS360_USERNAME": "u", **named}
    source = a_source(tmp_path, **grant)
    assert source.credentials == PasswordGrant("c", Secret(" s "), "u", Secret(" p "))
    assert source.credentials_from == (
        "AIMS360_CLIENT_ID, AIMS360_CLIENT_SECRET_FILE, AIMS360_USERNAME, AIMS360_PASSWORD_FILE"
    )
    source = a_source(tmp_path, AIMS360_TOKEN="", AIMS360_TOKEN_FILE=a_file(tmp_path, "\ufefftoken" + end))
    assert (source.credentials, source.credentials_from) == (Secret("token"), "AIMS360_TOKEN_FILE")
    url = a_file(tmp_path, "postgres://u:p@h/d" + end)
    found = settings.read({**GOOD, "DATABASE_URL_FILE": url}, tmp_path)
    assert found.database_url == Secret("postgresql://u:p@h/d")


CONTENT = "h1dden-c0ntent"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no file"),
        ("", "is empty"),
        ("\n \n", "is empty"),
        (CONTENT + "\n" + CONTENT, "holds a line break"),
        (CONTENT + "\0", "holds a line break, or what can't be seen"),
        (CONTENT.encode() + b"\xff", "is no text in UTF-8"),
        (CONTENT * 2_000, "larger than 16 kB"),
    ],
)
@pytest.mark.parametrize("setting", ["AIMS360_TOKEN_FILE", "DATABASE_URL_FILE", "WEST_TOKEN_FILE", "token_file"])
def test_a_file_without_a_secret_is_named_but_never_quoted(
    tmp_path: Path, setting: str, content: str | bytes | None, said: str
) -> None:
    """The setting that leads there, the file and what to do; the others of its kind are as well as ever."""
    path = str(tmp_path / "missing") if content is None else a_file(tmp_path, content)
    environ = {**GOOD, "AIMS360_TOKEN": "", setting: path}
    if not setting.isupper() or "WEST" in setting:
        named = f"token_file = {path!r}" if setting.islower() else 'token_env = "WEST_TOKEN"'
        other = '[sources.east]\nbase_url = "https://east"\ntoken_env = "EAST"\n'
        (tmp_path / "aims360.toml").write_text(f'[sources.west]\nbase_url = "https://west"\n{named}\n{other}')
        assert settings.read({**environ, "EAST": "e"}, tmp_path).source("east").credentials == Secret("e")
    with pytest.raises(ConfigError, match=said) as caught:
        settings.read(environ, tmp_path).source("west" if (tmp_path / "aims360.toml").exists() else None)
    assert f"{setting}: " in str(caught.value)
    assert path in str(caught.value)
    assert CONTENT[:6] not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("secret", [CONTENT, f"postgresql://u:{CONTENT}@h/d", CONTENT * 50])
@pytest.mark.parametrize("setting", ["AIMS360_TOKEN_FILE", "DATABASE_URL_FILE", "token_file"])
def test_a_secret_in_place_of_its_path_is_not_repeated(tmp_path: Path, setting: str, secret: str) -> None:
    """Whoever gives the secret itself, where the path of its file belongs, finds it in no log."""
    environ = {**GOOD, "AIMS360_TOKEN": "", setting: secret}
    if setting.islower():
        (tmp_path / "aims360.toml").write_text(f'[sources.west]\nbase_url = "https://west"\ntoken_file = "{secret}"\n')
    with pytest.raises(
        ConfigError, match=f"{setting}: there is no such file in {tmp_path}; give its full path"
    ) as caught:
        settings.read(environ, tmp_path).source()
    assert CONTENT[:6] not in str(caught.value)


def test_a_folder_is_no_secret(tmp_path: Path) -> None:
    """What Docker makes where a file was missing."""
    with pytest.raises(ConfigError, match=r"^AIMS360_TOKEN_FILE: the file .* can't be read \(Is a directory\)"):
        a_source(tmp_path, AIMS360_TOKEN="", AIMS360_TOKEN_FILE=str(tmp_path))


def test_a_secret_in_two_places_is_a_mistake(tmp_path: Path) -> None:
    """Nobody could tell which one counts."""
    path = a_file(tmp_path, "t")
    with pytest.raises(ConfigError, match=r"^AIMS360_TOKEN_FILE: AIMS360_TOKEN is set too; unset one of the two$"):
        a_source(tmp_path, AIMS360_TOKEN_FILE=path)
    with pytest.raises(ConfigError, match=r"^DATABASE_URL_FILE: DATABASE_URL is set too"):
        a_source(tmp_path, DATABASE_URL="postgresql://h/d", DATABASE_URL_FILE=path)
    (tmp_path / "aims360.toml").write_text(
        f'[sources.a]\nbase_url = "https://a"\ntoken_env = "AIMS360_A"\n'
        f'[sources.b]\nbase_url = "https://b"\ntoken_env = "B"\ntoken_file = "{path}"\n'
    )
    found = settings.read({"AIMS360_A": "t", "AIMS360_A_FILE": path, "B": "t"}, tmp_path)
    with pytest.raises(ConfigError, match=r"^AIMS360_A_FILE: AIMS360_A is set too"):
        found.source("a")
    with pytest.raises(ConfigError, match=r"\[sources.b\] token_file: token_env is there too"):
        found.source("b")


@pytest.mark.parametrize("words", [("status",), ("doctor",), ("sync", "--log-format", "json")])
def test_a_bad_address_is_told_by_the_setting_that_it_came_from(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Who has a file looks there: no message sends them to a variable that they never set."""
    (tmp_path / "address").write_text("postgresql://u:p@127.0.0.1:1/db")
    command = Command("https://127.0.0.1:1", "", tmp_path)
    command.environ["DATABASE_URL_FILE"] = "address"
    code, output, errors = command.run(*words, program=IMPATIENT)
    assert (code, "check host and port in DATABASE_URL_FILE" in output + errors) == (1, True)
    command.environ["DATABASE_URL"] = "postgresql://h/d"
    assert "DATABASE_URL_FILE: DATABASE_URL is set too" in "".join(command.run(*words)[1:])


def test_a_file_of_accounts_leads_to_files(tmp_path: Path) -> None:
    """By a variable or by a path, taken from the folder of the file that says it; errors name what was used."""
    a_file(tmp_path, "w\n", "west")
    (tmp_path / "aims360.toml").write_text(
        '[sources.west]\nbase_url = "https://west"\ntoken_file = "west"\n'
        '[sources.east]\nbase_url = "https://east"\ntoken_env = "AIMS360_EAST"\n'
        '[sources.odd]\nbase_url = "https://odd"\ntoken_env = "AIMS360_EAST_FILE"\n'
    )
    environ = {"AIMS360_CONFIG": str(tmp_path / "aims360.toml"), "AIMS360_EAST_FILE": str(tmp_path / "west")}
    found = settings.read(environ, Path("/nowhere"))
    assert (found.source("west").credentials, found.source("east").credentials) == (Secret("w"), Secret("w"))
    assert found.source("west").credentials_from == "aims360.toml: [sources.west] token_file"
    assert found.source("east").credentials_from == "AIMS360_EAST_FILE"
    with pytest.raises(ConfigError, match=r"\[sources.odd\] token_env: names a variable that names a file"):
        found.source("odd")


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("250", 250), ("1000", 1000), ("0250", 250), ("", None)])
def test_the_rows_of_a_page_may_be_set(tmp_path: Path, text: str, size: int | None) -> None:
    """By the environment for all sources, by a table for its own; else the service decides."""
    assert a_source(tmp_path, AIMS360_PAGE_SIZE=text).page_size == size
    (tmp_path / "aims360.toml").write_text(
        '[sources.west]\nbase_url = "https://west"\ntoken_env = "T"\npage_size = 20\n'
        '[sources.east]\nbase_url = "https://east"\ntoken_env = "T"\n'
    )
    found = settings.read({"T": "t", "AIMS360_PAGE_SIZE": text}, tmp_path)
    assert (found.source("west").page_size, found.source("east").page_size) == (20, size)


@pytest.mark.parametrize(
    "pasted", ["Bearer a-token", "bearer a-token", "BEARER   a-token", "  Bearer a-token ", "a-token"]
)
def test_a_token_may_be_pasted_with_its_scheme(tmp_path: Path, pasted: str) -> None:
    """As the application shows it: from the environment, from a file, and by a table."""
    assert a_source(tmp_path, AIMS360_TOKEN=pasted).credentials == Secret("a-token")
    path = a_file(tmp_path, pasted.strip() + "\n")
    assert a_source(tmp_path, AIMS360_TOKEN="", AIMS360_TOKEN_FILE=path).credentials == Secret("a-token")
    (tmp_path / "aims360.toml").write_text(
        '[sources.west]\nbase_url = "https://west"\ntoken_env = "T"\n'
        '[sources.east]\nbase_url = "https://east"\ntoken_file = "a-secret"\n'
    )
    found = settings.read({"T": pasted}, tmp_path)
    assert found.source("west").credentials == found.source("east").credentials == Secret("a-token")


def test_a_scheme_within_a_token_stays(tmp_path: Path) -> None:
    """Only what stands before it is taken off, once."""
    for token in ("bearer-token", "my-bearer"):
        assert a_source(tmp_path, AIMS360_TOKEN=token).credentials == Secret(token)


@pytest.mark.parametrize("token", ["Bearer", "Bearer Bearer a-token", '"a-token"', "'a-token'"])
def test_what_is_no_token_is_told(tmp_path: Path, token: str) -> None:
    """A scheme alone, two of them, quotes: the service would say that it had ended."""
    with pytest.raises(ConfigError, match="that no token has"):
        a_source(tmp_path, AIMS360_TOKEN=token)


def test_a_password_may_begin_like_a_token(tmp_path: Path) -> None:
    """It is what it is."""
    grant = {"AIMS360_CLIENT_ID": "c", "AIMS360_USERNAME": "u", "AIMS360_CLIENT_SECRET": "s"}
    source = a_source(tmp_path, AIMS360_TOKEN="", AIMS360_PASSWORD="Bearer of news", **grant)
    assert source.credentials == PasswordGrant("c", Secret("s"), "u", Secret("Bearer of news"))


def renewed(source: settings.Source, path: Path) -> list[Secret | None]:
    """What is read of a token's file as it changes: another token, with its scheme, the same, none, no file."""
    read = []
    for text in ("second", "Bearer third\n", "third", "", "two words", "two\nlines"):
        path.write_text(text)
        read.append(settings.read_token(source))
    path.unlink()
    return [*read, settings.read_token(source)]


AS_RENEWED = [Secret("second"), Secret("third"), Secret("third"), None, None, None, None]


@pytest.mark.parametrize("named", ["here", "in full"])
def test_a_token_in_a_file_is_read_anew(tmp_path: Path, named: str) -> None:
    """By whatever setting leads there, from the folder where it was looked for; what is no token there is none."""
    path = tmp_path / "a-token"
    name = str(path) if named == "in full" else "a-token"
    path.write_text("first")
    source = a_source(tmp_path, AIMS360_TOKEN="", AIMS360_TOKEN_FILE=name)
    assert (source.credentials, source.token_file) == (Secret("first"), path)
    assert renewed(source, path) == AS_RENEWED
    (tmp_path / "aims360.toml").write_text(
        f'[defaults]\nbase_url = "https://h"\ntoken_file = "{name}"\n[sources.inherits]\n'
        f'[sources.itself]\ntoken_file = "{name}"\n[sources.by_variable]\ntoken_env = "T"\n'
    )
    for each in ("inherits", "itself", "by_variable"):
        path.write_text("first")
        source = settings.read({"T_FILE": name}, tmp_path).source(each)
        assert (source.credentials, source.token_file) == (Secret("first"), path), each
        assert renewed(source, path) == AS_RENEWED, each


def test_a_token_elsewhere_is_not_read_anew(tmp_path: Path) -> None:
    """A variable of this process never changes; and what another way to sign in leads to is no token."""
    a_file(tmp_path, "a-secret", "file")
    assert settings.read_token(a_source(tmp_path)) is None
    grant = {"AIMS360_CLIENT_ID": "c", "AIMS360_USERNAME": "u", "AIMS360_CLIENT_SECRET": "s"}
    source = a_source(tmp_path, AIMS360_TOKEN="", AIMS360_PASSWORD_FILE="file", **grant)
    assert (source.token_file, settings.read_token(source)) == (None, None)
    (tmp_path / "aims360.toml").write_text(
        '[defaults]\nbase_url = "https://h"\ntoken_file = "file"\n[sources.own]\ntoken_env = "T"\n'
        '[sources.grants]\nclient_id = "c"\nusername = "u"\nclient_secret_env = "T"\npassword_file = "file"\n'
    )
    found = settings.read({"T": "t"}, tmp_path)
    for name in ("own", "grants"):
        assert found.source(name).token_file is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("900", 900), ("900s", 900), ("15m", 900), ("2h", 7200), ("3d", 259200), (" 15M ", 900)]
)
def test_durations(text: str, seconds: int) -> None:
    """Seconds, minutes, hours or days."""
    assert validation.duration(text) == timedelta(seconds=seconds)


def test_several_accounts_live_in_a_file(tmp_path: Path) -> None:
    """A table each, secrets by the name of a variable; the environment gives what they share."""
    (tmp_path / "aims360.toml").write_text(
        '[sources.west]\nbase_url = "https://west.example"\ntoken_env = "WEST_TOKEN"\nconcurrency = 2\n'
        '[sources.east]\nbase_url = "https://east.example"\ntoken_env = "EAST_TOKEN"\n'
    )
    found = settings.read({"WEST_TOKEN": "w", "EAST_TOKEN": "e", "AIMS360_PURGE": "keep"}, tmp_path)
    assert found.source("west").concurrency == 2
    assert (found.source("east").credentials, found.source("east").purge) == (Secret("e"), "keep")
    with pytest.raises(ConfigError, match="choose one with --source: west, east"):
        found.source()
    for name in ("north", ""):
        with pytest.raises(ConfigError, match=f"no source is called '{name}'"):
            found.source(name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sources.a]\ntoken = 'secret-itself'", "a] token: no secrets in a file"),
        ("[sources.a]\ncolour = 'red'\n[sources.b]\nbase_url = 'https://b'\ntoken_env = 'B'", "a] colour: no such"),
        ("[sources.a]\npurge = 'never'", r"\[sources.a\] purge: 'never' is none of"),
        ("[sources.a]\nbase_url = 'https://a'", r"a\] token_env: is not set, nor are .*client_secret_env"),
        ("[sources.a]\nbase_url = 'https://a'\nclient_id = 'c'", r"a\] password_env: is not set"),
        ("[sources.a]\ntoken_env = 'NOT_SET'", "a] token_env: the environment variable that it names is not set"),
        ("[sources.a]\ncolour = 'red'", "colour: no such setting"),
        ('[sources."a\\u001fb"]\n', "the name of a source is empty, longer than 200 characters, or holds some"),
        (f'[sources."{"a" * 201}"]\n', "the name of a source is empty, longer than 200 characters, or holds some"),
        ("sources = 5", "needs a table"),
        ("purge = 'keep'\n[sources.a]\nbase_url = 'https://a'", "purge: belongs into a table"),
        ("= nonsense", "can't be read"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    """File, table and key."""
    (tmp_path / "aims360.toml").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        settings.read({}, tmp_path).source("a")
    assert "aims360.toml" in str(caught.value)
    assert "secret-itself" not in str(caught.value)


def test_a_mistake_in_a_file_concerns_its_own_source(tmp_path: Path) -> None:
    """The others can be read; a setting from the environment is named as the environment names it."""
    (tmp_path / "aims360.toml").write_text(
        '[sources.a]\nbase_url = "https://a"\ntoken_env = "A"\n[sources.b]\ntoken_env = "UNSET"\n'
    )
    found = settings.read({"A": "two words"}, tmp_path)
    with pytest.raises(ConfigError, match=r"^A: holds a space"):
        found.source("a")
    assert settings.read({"A": "t"}, tmp_path).source("a").credentials_from == "A"
    with pytest.raises(ConfigError, match=r"^AIMS360_PURGE: 'never'"):
        settings.read({"A": "t", "AIMS360_PURGE": "never"}, tmp_path).source("a")


def test_the_four_of_a_grant_are_named_as_they_stand_in_the_file(tmp_path: Path) -> None:
    """For whoever must look at them when the service refuses them: the table once, variables by their names."""
    (tmp_path / "aims360.toml").write_text(
        '[sources.a]\nbase_url = "https://a"\nclient_id = "c"\nusername = "u"\n'
        'client_secret_env = "S"\npassword_env = "P"\n'
    )
    named = settings.read({"S": "s", "P": "p"}, tmp_path).source("a").credentials_from
    assert named == "aims360.toml: [sources.a] client_id, S, username, P"


def test_a_misspelt_variable_is_found_beside_a_file_too(tmp_path: Path) -> None:
    """But for those that the file names."""
    (tmp_path / "aims360.toml").write_text('[sources.a]\nbase_url = "https://a"\ntoken_env = "AIMS360_TOKEN_OF_A"\n')
    assert settings.read({"AIMS360_TOKEN_OF_A": "t"}, tmp_path).source().credentials == Secret("t")
    with pytest.raises(ConfigError, match="AIMS360_LOOKBACK: no such setting"):
        settings.read({"AIMS360_TOKEN_OF_A": "t", "AIMS360_LOOKBACK": "5m"}, tmp_path)


def test_secrets_do_not_show(tmp_path: Path) -> None:
    """Not in repr, not in str, not in the settings that hold them."""
    found = settings.read({**GOOD, "DATABASE_URL": "postgresql://u:hidden@h/d"}, tmp_path)
    assert "hidden" not in repr(found)
    assert "a-token" not in repr(found.source()) + str(found.source().credentials)


DEFAULTS = """
[defaults]
base_url = "https://{name}.example"
token_env = "TOKEN_{name}"
every = "1m"
purge = "keep"
"""


def fleet(folder: Path, text: str, **environ: str) -> settings.Settings:
    """The settings of a file with this text."""
    (folder / "aims360.toml").write_text(text)
    return settings.read(environ, folder)


def test_a_fleet_has_its_rhythm_and_its_runs_their_end(tmp_path: Path) -> None:
    """How often a source is synced, and how long a run of it lasts at most."""
    source = a_source(tmp_path)
    assert (source.every, source.time_limit) == (timedelta(minutes=5), timedelta(minutes=1))
    source = a_source(tmp_path, AIMS360_EVERY="1s", AIMS360_TIME_LIMIT="1d")
    assert (source.every, source.time_limit) == (timedelta(seconds=1), timedelta(days=1))
    for name, value, said in (
        ("AIMS360_EVERY", "0", "0:00:01 at least"),
        ("AIMS360_TIME_LIMIT", "0s", "0:00:01 at least"),
        ("AIMS360_TIME_LIMIT", "2d", "more than a day"),
    ):
        with pytest.raises(ConfigError, match=f"{name}: '{value}' is .*{said}"):
            a_source(tmp_path, **{name: value})


def test_sources_inherit_what_they_do_not_say(tmp_path: Path) -> None:
    """A table's own word wins over the defaults', theirs over the environment's; each is called where it was set."""
    found = fleet(
        tmp_path,
        DEFAULTS + '[sources.west]\n[sources.east]\npurge = "scrub"\n[sources.odd]\npurge = "never"\nevery = "x"\n',
        TOKEN_west="w",
        TOKEN_east="e",
        TOKEN_odd="o",
        AIMS360_EVERY="9m",
        AIMS360_TIME_LIMIT="7s",
    )
    west, east = found.source("west"), found.source("east")
    assert (west.base_url, west.credentials, west.purge) == ("https://west.example", Secret("w"), "keep")
    assert (east.purge, east.every, east.time_limit) == ("scrub", timedelta(minutes=1), timedelta(seconds=7))
    with pytest.raises(ConfigError) as caught:
        found.source("odd")
    assert [line.partition(": '")[0] for line in str(caught.value).splitlines()] == [
        "aims360.toml: [sources.odd] every",
        "aims360.toml: [sources.odd] purge",
    ]
    found = fleet(tmp_path, DEFAULTS.replace("keep", "never") + "[sources.west]\n", TOKEN_west="w")
    with pytest.raises(ConfigError, match=r"^aims360.toml: \[defaults\] purge: 'never' is none of"):
        found.source("west")


def test_another_way_to_sign_in_is_not_mixed_with_the_defaults(tmp_path: Path) -> None:
    """A file in place of a variable, a grant in place of a token, a token in place of a grant."""
    a_file(tmp_path, "from-a-file", "west")
    grant = '\nclient_id = "c"\nusername = "etl+{name}@example.com"\nclient_secret_env = "S"\npassword_env = "P"\n'
    own = '[sources.west]\ntoken_file = "west"\n[sources.east]' + grant.replace("{name}", "own")
    found = fleet(tmp_path, DEFAULTS + own, S="s", P="p")
    assert found.source("west").credentials == Secret("from-a-file")
    assert found.source("east").credentials == PasswordGrant("c", Secret("s"), "etl+own@example.com", Secret("p"))
    shared = f'[defaults]\nbase_url = "https://h"{grant}[sources.a]\n[sources.b]\ntoken_env = "T"\n'
    found = fleet(tmp_path, shared, S="s", P="p", T="t")
    assert found.source("a").credentials == PasswordGrant("c", Secret("s"), "etl+a@example.com", Secret("p"))
    assert fleet(tmp_path, shared, T="t").source("b").credentials == Secret("t")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('token_file = "{folder}/inside/{{name}}"', "../outside"),
        ('token_file = "{folder}/inside/{{name}}"', "/outside"),
        ('token_file = "{folder}/inside/{{name}}/../outside"', ".."),
        ('token_file = "{folder}/{{name}}"', ".hidden"),
        ('token_env = "TOKEN_{{name}}"', "a-b"),
        ('token_env = "{{name}}"', "PATH=x"),
        ('token_env = "T"\nbase_url = "https://{{name}}.example"', "evil.example/"),
        ('token_env = "T"\nbase_url = "https://{{name}}.example"', "me@evil.example:443/x"),
        ('token_env = "T"\nbase_url = "https://{{name}}.example"', "evil.example?"),
    ],
)
def test_a_name_leads_nowhere_else(tmp_path: Path, line: str, name: str) -> None:
    """Neither a secret's path out of its folder, nor a sign-in to another host; the cure is told, and others go on."""
    (tmp_path / "inside").mkdir()
    for secret in (tmp_path / "outside", tmp_path / ".hidden", tmp_path / "inside" / "fine", tmp_path / "fine"):
        secret.write_text("a-secret")
    text = "[defaults]\n" + line.format(folder=tmp_path) + f'\n[sources."{name}"]\n[sources.fine]\n'
    environ = {"T": "t", "TOKEN_fine": "t", "fine": "t", "TOKEN_a-b": "t", "PATH=x": "t"}
    if "base_url" not in text:
        text = text.replace("[defaults]\n", '[defaults]\nbase_url = "https://h"\n')
    found = fleet(tmp_path, text, **environ)
    with pytest.raises(ConfigError, match=r"doesn't fit into .*; write .* into its own table$") as caught:
        found.source(name)
    assert len(str(caught.value).splitlines()) == 1
    if "/../" not in line:
        assert found.source("fine").credentials in (Secret("a-secret"), Secret("t"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[defaults]\ncolour = "red"\npurge = ["x"]\n[sources.a]\n', "[defaults] colour: no such setting"),
        ('[defaults]\ncolour = "red"\npurge = ["x"]\n[sources.a]\n', "[defaults] purge: is not a text"),
        ('[defaults]\ntoken = "secret-itself"\n[sources.a]\n', "[defaults] token: no secrets in a file"),
        ('[defaults]\ndisabled = "yes"\n[sources.a]\n', "[defaults] disabled: is neither true nor false"),
        ("defaults = 5\n[sources.a]\n", "needs a table"),
    ],
)
def test_wrong_defaults_are_told_once(tmp_path: Path, text: str, said: str) -> None:
    """Not for each of the sources that inherit them."""
    with pytest.raises(ConfigError) as caught:
        fleet(tmp_path, text)
    assert str(caught.value).count(said) == 1
    assert "secret-itself" not in str(caught.value)


def test_defaults_alone_configure_no_source(tmp_path: Path) -> None:
    """What they are for is said."""
    with pytest.raises(ConfigError, match="no source is configured: write a table"):
        fleet(tmp_path, DEFAULTS).source()


def test_variables_that_defaults_name_are_known(tmp_path: Path) -> None:
    """With each source's name in them; a misspelt one is found as ever."""
    text = DEFAULTS.replace("TOKEN_", "AIMS360_TOKEN_") + "[sources.west]\n"
    assert fleet(tmp_path, text, AIMS360_TOKEN_west="w").source().credentials == Secret("w")
    with pytest.raises(ConfigError, match="AIMS360_TOKEN_est: no such setting"):
        fleet(tmp_path, text, AIMS360_TOKEN_est="w")


def test_thousands_of_names_are_not_listed(tmp_path: Path) -> None:
    """Some, and where the others are."""
    text = DEFAULTS + "".join(f"[sources.s{number}]\n" for number in range(2_000))
    with pytest.raises(ConfigError, match=r"--source: s0, .*s9 and 1990 more, which `aims360-etl sources list` lists"):
        fleet(tmp_path, text).source()


def test_one_of_thousands_reads_its_own_secret_alone(tmp_path: Path) -> None:
    """Those of the others lie in pipes, which would keep whoever reads them waiting for ever."""
    names = [f"s{number}" for number in range(2_000)]
    for name in names[1:]:
        os.mkfifo(tmp_path / name)
    a_file(tmp_path, "a-secret", names[0])
    text = '[defaults]\nbase_url = "https://{name}.example"\ntoken_file = "{name}"\n'
    began = time.process_time()
    found = fleet(tmp_path, text + "".join(f"[sources.{name}]\n" for name in names))
    assert found.source("s0").credentials == Secret("a-secret")
    assert time.process_time() - began < 0.5  # some 10 ms; each source made out would be 300
    assert len(found.sources) == 2_000
