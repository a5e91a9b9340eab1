"""`aims360.toml`: a table `[sources.NAME]` for each account, and `[defaults]` that all of them inherit.

A file may hold thousands: it is looked through once, and a source is made out, its secrets read, when it is asked for.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from etl.config.environment import (
    GRANT,
    IN_FILE,
    PLAIN,
    SECRETS,
    SHARED,
    Given,
    find_secret,
    from_secret_file,
    is_own,
    variable,
)
from etl.errors import ConfigError

DISABLED = "disabled"  # true: fleets leave the source alone
_LONGEST_NAME = 200  # characters: names are in indexes of Postgres, alone and with what is to be done
NO_NAME = "the name of a source is empty, longer than 200 characters, or holds some that can't be seen"
_NAME = "{name}"  # in defaults it stands for the source's name
_TEMPLATES = ("base_url", "client_id", "username")
# What a name may be made of where {name} stands for it, and what that is called: it must not lead a secret's path out
# of its folder, nor a sign-in to another host.
_FITS = {
    "_env": (re.compile(r"[A-Za-z0-9_]+"), "a variable of letters, digits and _ that isn't one of the program's own"),
    "_file": (re.compile(r"\w[\w.@+-]*"), "a path, where it has to be the name of one file or folder"),
    "base_url": (re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"), "an address, as a part of one"),
}
_UNREAD = "unread"  # in place of a secret that isn't looked for
_Line = tuple[str, str, object]  # a line of a table: what it is called where it was set, key, value


class Tables(Mapping[str, Given]):
    """Sources as tables of keys and texts say them, by name; each is made out when it is asked for."""

    def __init__(
        self,
        tables: Mapping[str, Mapping[str, object]],
        called: Callable[[str], str],
        inherited: "Inherited",
        *,
        opens: bool = True,
        unfit: Callable[[str, str], str | None] = lambda _key, _named: None,
    ) -> None:
        """`called` says where the table of a name is. Without `opens` secrets are taken to be where they are named.

        `unfit` says why a table's own line must not name what it names as the place of a secret.
        """
        self._tables = tables
        self._called = called
        self._inherited = inherited
        self._opens = opens
        self._unfit = unfit

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def __contains__(self, name: object) -> bool:  # Mapping's own way would make the source out
        return name in self._tables

    def __getitem__(self, name: str) -> Given:
        table, where, environ = self._tables[name], self._called(name), self._inherited.environ
        problems: list[str] = []
        strange(where, table, problems)
        texts = {key: value for key, value in table.items() if isinstance(value, str)}
        misled = {key: why for key, value in texts.items() if (why := self._unfit(key, value))}
        problems += [f"{where} {key}: {why}" for key, why in misled.items()]
        values = {key: environ.get(variable(key), "") for key in SHARED}
        names = {key: f"{where} {key}" for key in PLAIN} | {key: f"{where} {key}_env" for key in SECRETS}
        names |= {key: variable(key) for key in SHARED if values[key]}
        own = [(f"{where} {key}", key, value) for key, value in table.items() if key not in misled]
        token_file: Path | None = None
        for setting, key, value in (*self._inherited.lines(name, table, problems), *own):
            if key in PLAIN and _is_text(value):
                values[key], names[key] = str(value), setting
            elif (bare := _bare(key)) in SECRETS and bare != key and isinstance(value, str):
                values[bare], names[bare] = self._secret(setting, value, problems)
                token_file = self._find_file(key, value) if bare == "token" else token_file
        return Given(values, names, tuple(problems), token_file)

    def disabled(self) -> list[str]:
        """Those that are to be left alone."""
        otherwise = self._inherited.defaults.get(DISABLED)
        return [name for name, table in self._tables.items() if table.get(DISABLED, otherwise) is True]

    def variables(self) -> set[str]:
        """Every variable that a table or the defaults name."""
        own = {value for table in self._tables.values() for key, value in table.items() if key.endswith("_env")}
        shared = [value for key, value in self._inherited.defaults.items() if key.endswith("_env")]
        filled = {value.replace(_NAME, name) for value in shared if isinstance(value, str) for name in self._tables}
        return filled | {value for value in own if isinstance(value, str)}

    def _find_file(self, key: str, named: str) -> Path | None:
        """Return the file that a secret's line leads to, by itself or by its variable; None where none does."""
        in_file = named if key.endswith("_file") else self._inherited.environ.get(named + IN_FILE)
        return self._inherited.folder / in_file if in_file else None

    def _secret(self, setting: str, named: str, problems: list[str]) -> tuple[str, str]:
        """The secret that a line names by a variable (`_env`) or by a path (`_file`), and what it is called there."""
        environ, folder = self._inherited.environ, self._inherited.folder
        if setting.endswith("_file"):
            if not self._opens:
                return _UNREAD, setting
            return from_secret_file(setting, named, folder, problems), setting
        if named.endswith(IN_FILE):  # its value is a path, which would be sent as the secret
            problems.append(f"{setting}: names a variable that names a file; write it without {IN_FILE} at its end")
            return "", setting
        if not self._opens:
            return _UNREAD, setting
        if named in environ or named + IN_FILE in environ:
            return find_secret(named, environ, folder, problems)
        # What it names isn't repeated: somebody may have written the secret itself.
        problems.append(f"{setting}: the environment variable that it names is not set")
        return "", setting


class Inherited:
    """What sources have that don't say otherwise: `[defaults]`, before what the environment says for all.

    Paths are seen from `folder`; `where` is what the defaults are called.
    """

    def __init__(
        self, environ: Mapping[str, str], folder: Path, defaults: Mapping[str, object] = {}, where: str = ""
    ) -> None:
        self.defaults = defaults
        self.environ = environ
        self.folder = folder
        self._where = where

    def lines(self, name: str, table: Mapping[str, object], problems: list[str]) -> Iterator[_Line]:
        """The lines of the defaults that a table leaves standing, with the source's name in them."""
        own = {_bare(key) for key in table}
        if "token" in own:  # another way to sign in than the defaults'
            own |= set(GRANT)
        elif own & {"client_secret", "password"}:
            own.add("token")
        for key, value in self.defaults.items():
            if _bare(key) in own or key == DISABLED:
                continue
            setting = f"{self._where} {key}"
            if isinstance(value, str) and _NAME in value and (key in _TEMPLATES or _bare(key) in SECRETS):
                yield setting, key, self._filled(setting, value, name, problems)
            else:
                yield setting, key, value

    def _filled(self, setting: str, value: str, name: str, problems: list[str]) -> str | None:
        key = setting.rpartition(" ")[2]
        pattern, what = next((fits for end, fits in _FITS.items() if key.endswith(end)), (None, ""))
        filled = value.replace(_NAME, name)
        leads_astray = key.endswith("_env") and is_own(filled) and not is_own(value)
        if not leads_astray and (pattern is None or pattern.fullmatch(name)):
            return filled
        problems.append(f"{setting}: the name {name!r} doesn't fit into {what}; write {key} into its own table")
        # An address is wrong already, and needn't be told to be missing too.
        return value.replace(_NAME, "name") if key == "base_url" else None


NOTHING_INHERITED = Inherited({}, Path())


def read(file: Path, environ: Mapping[str, str]) -> tuple[Tables, Inherited]:
    """The sources of a file, and what all inherit; none where it only has defaults.

    Raises ConfigError where the file itself is wrong.
    """
    tables, defaults = tables_of(file)
    inherited = Inherited(environ, file.parent, defaults, f"{file.name}: [defaults]")
    return Tables(tables, lambda name: f"{file.name}: [sources.{name}]", inherited), inherited


def tables_of(file: Path) -> tuple[dict[str, dict[str, object]], dict[str, object]]:
    """A file's tables by name, and its defaults, of which each key is one. Raises ConfigError."""
    import tomllib  # here, since most have no file

    try:
        found = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{file}: can't be read: {error}; docs/settings.md shows how it is written") from None
    if stray := found.keys() - {"sources", "defaults"}:
        raise ConfigError(f"{file}: {', '.join(sorted(stray))}: belongs into a table [sources.NAME]")
    defaults, tables = found.get("defaults", {}), found.get("sources", {})
    if not (found and isinstance(tables, dict) and all(isinstance(t, dict) for t in (defaults, *tables.values()))):
        raise ConfigError(f"{file}: needs a table [sources.NAME] for each account")
    if not all(map(is_name, tables)):
        raise ConfigError(f"{file}: {NO_NAME}")
    where = f"{file.name}: [defaults]"
    problems: list[str] = []
    strange(where, defaults, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    return tables, defaults


def is_name(text: str) -> bool:
    """Whether a source can be called so."""
    return 0 < len(text) <= _LONGEST_NAME and text.isprintable()


def strange(where: str, table: Mapping[str, object], problems: list[str]) -> None:
    """Adds what is wrong with the lines of a table as such: their keys, and of what kind their values are."""
    for key, value in table.items():
        secret = _bare(key)
        if key in SECRETS:
            problems.append(
                f'{where} {key}: no secrets in a file; write {key}_env = "NAME_OF_A_VARIABLE", or {key}_file = "PATH"'
            )
        elif key == DISABLED and not isinstance(value, bool):
            problems.append(f"{where} {key}: is neither true nor false")
        elif key not in (*PLAIN, DISABLED) and secret not in SECRETS:
            problems.append(f"{where} {key}: no such setting")
        elif key != DISABLED and not (_is_text(value) if key in PLAIN else isinstance(value, str)):
            problems.append(f"{where} {key}: is not a text")
    doubled = [secret for secret in SECRETS if f"{secret}_env" in table and f"{secret}_file" in table]
    problems += [f"{where} {secret}_file: {secret}_env is there too; take one of the two out" for secret in doubled]


def _is_text(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _bare(key: str) -> str:
    """What a line is about: `token_env` and `token_file` are about `token`."""
    return key.removesuffix("_env").removesuffix("_file")
