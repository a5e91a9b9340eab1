"""All sources, of the file and of the database, judged as a whole: one that is broken doesn't stop the others."""

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from etl.config import validation
from etl.config.environment import Given, is_own
from etl.config.settings import Settings, Source, default, judge, some
from etl.config.toml_file import DISABLED, NO_NAME, Inherited, Tables, is_name, tables_of
from etl.errors import ConfigError
from etl.fleet.source_store import Entry

DATABASE = "database"
_VARIABLE, _PATH = "_env", "_file"


class Member(NamedTuple):
    """A source, wherever it is configured. What can't be told of it is None."""

    name: str
    configured_in: str  # the file's name, the environment, or the database
    is_disabled: bool
    base_url: str | None
    every: timedelta | None
    source: Source | None  # None: it is disabled, or broken
    problem: str | None  # a line for each mistake


class Roster(NamedTuple):
    """Those that are to be kept fresh, those that are left alone, and what is wrong with those that can't be."""

    sources: dict[str, Source]
    disabled: frozenset[str]
    problems: dict[str, str]


class New(NamedTuple):
    """Sources that the database is to keep, what is wrong with them so far, and what each is called in errors."""

    wanted: dict[str, Entry]
    problems: list[str]
    called: Callable[[str], str]


def whole(found: Settings, kept: Mapping[str, Entry]) -> Roster:
    """All sources, as a fleet takes them."""
    roster = Roster({}, frozenset(name for name, is_off in _names(found, kept).items() if is_off), {})
    for member in members(found, kept):
        if member.problem is not None:
            roster.problems[member.name] = member.problem
        elif member.source is not None:
            roster.sources[member.name] = member.source
    return roster


def members(found: Settings, kept: Mapping[str, Entry], names: Collection[str] = ()) -> Iterator[Member]:
    """All sources by name, each held against what it must be; one that is disabled only if it is named."""
    stored = tables(found, kept)
    for name, is_disabled in sorted(_names(found, kept).items()):
        if names and name not in names:
            continue
        in_both = name in kept and found.has(name)
        place = f"{found.place}, {DATABASE}" if in_both else DATABASE if name in kept else found.place
        given = stored[name] if name in kept else found.sources[name]
        source, problem = None, None
        if in_both:
            problem = (
                f"is in {found.place} and in the database; take it out of the one, or of the other with "
                f"`aims360-etl sources remove {shlex.quote(name)}`"
            )
        elif name in kept and not is_name(name):
            problem = NO_NAME
        elif names or not is_disabled:
            source, problem = _judged(name, given, found.insecure_http)
        base_url, every = _outline(given, found.insecure_http)
        yield Member(name, place, is_disabled, base_url, every, source, problem)


def named(found: Settings, kept: Mapping[str, Entry], names: Collection[str]) -> list[Member]:
    """Those of that name, else all. Raises ConfigError for names that no source has."""
    known = _names(found, kept)
    if strangers := [name for name in names if name not in known]:
        raise ConfigError(f"no source is called {some(strangers)}; configured: {some(known) or 'none'}")
    return list(members(found, kept, names))


def tables(found: Settings, kept: Mapping[str, Entry]) -> Tables:
    """Sources of the database as the file's would be, with the same defaults."""
    given = {name: entry.settings for name, entry in kept.items()}
    return Tables(given, lambda name: f"etl.roster: [{name}]", found.inherited, unfit=_unfit(found))


def of_words(name: str, said: Mapping[str, object]) -> New:
    """A single source."""
    return New({name: Entry(said, None)}, [], lambda name: f"{name}:")


def of_file(file: Path, now: datetime) -> New:
    """The sources of a file as the database would keep them: what they inherit there is said of each.

    Raises ConfigError where the file itself is wrong.
    """
    sources, defaults = tables_of(file)
    inherited = Inherited({}, file.parent, defaults, f"{file.name}: [defaults]")
    new = New({}, [], lambda name: f"{file.name}: [sources.{name}]")
    for name, table in sources.items():
        lines = [(key, value) for _, key, value in inherited.lines(name, table, new.problems)]
        said = {key: _as_text(value) for key, value in (*lines, *table.items()) if value is not None}
        is_off = said.pop(DISABLED, defaults.get(DISABLED))
        if not isinstance(is_off, bool | None):
            said[DISABLED] = is_off  # to be told with the other mistakes
        new.wanted[name] = Entry(said, now if is_off is True else None)
    return new


def check_new(found: Settings, new: New) -> list[str]:
    """What is to be told of sources before they are kept: secrets that this machine doesn't have, say.

    Raises ConfigError with every mistake of each.
    """
    settings = {name: entry.settings for name, entry in new.wanted.items()}
    problems = list(new.problems)
    tables = Tables(settings, new.called, found.inherited, opens=False, unfit=_misplaced(found))
    for name, given in tables.items():
        problems += _unkept(name, new.called(name), found) + _mistakes(name, given, found.insecure_http)
    if problems:
        raise ConfigError("\n".join(problems))
    there = Tables(settings, new.called, found.inherited, unfit=_unfit(found))
    return [line for name, given in there.items() for line in _mistakes(name, given, found.insecure_http)]


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _unkept(name: str, called: str, found: Settings) -> list[str]:
    """Why the database may not keep a source of that name, though a file may."""
    problems = []
    if not is_name(name):
        problems.append(f"{name!r}: {NO_NAME}")
    if found.has(name):
        problems.append(f"{called} is in {found.place} already; take it out there, or call this one otherwise")
    return problems


def _misplaced(found: Settings) -> Callable[[str, str], str | None]:
    """What is wrong with the place of a secret that the database names though a file may, on any machine."""

    def misplaced(key: str, named: str) -> str | None:
        if key.endswith(_PATH) and not Path(named).is_absolute():
            return "is no full path; the database has no folder that a path could begin at"
        if not key.endswith(_VARIABLE):
            return None
        if is_own(named):
            return "AIMS360_…, DATABASE_URL and PGPASSWORD are the program's own; call the variable otherwise"
        if named not in found.inherited.environ and not validation.is_variable(named):
            # It isn't repeated: it may be the secret itself.
            return "is no variable's name, of capital letters, digits and _, nor set here"
        return None

    return misplaced


def _unfit(found: Settings) -> Callable[[str, str], str | None]:
    """The same, and what this machine doesn't allow: whoever writes the database may not be who keeps its secrets."""
    misplaced = _misplaced(found)

    def unfit(key: str, named: str) -> str | None:
        if (what := misplaced(key, named)) is not None or not found.roster_secrets:
            return what
        if key.endswith((_VARIABLE, _PATH)) and not validation.is_among(named, found.roster_secrets):
            return "is at no place that AIMS360_ROSTER_SECRETS of this machine allows"
        return None

    return unfit


def _mistakes(name: str, given: Given, insecure_http: bool) -> list[str]:
    return (_judged(name, given, insecure_http)[1] or "").splitlines()


def _judged(name: str, given: Given, insecure_http: bool) -> tuple[Source | None, str | None]:
    try:
        return judge(name, given, insecure_http), None
    except ConfigError as error:
        return None, str(error)


def _names(found: Settings, kept: Mapping[str, Entry]) -> dict[str, bool]:
    """All names, and whether each is disabled."""
    here = {name: name in found.disabled for name in found.sources} if found.place else {}
    return here | {name: entry.disabled_at is not None or here.get(name, False) for name, entry in kept.items()}


def _outline(given: Given, insecure_http: bool) -> tuple[str | None, timedelta | None]:
    """Base address and rhythm, where these hold; an address that doesn't may hold a password."""
    wrong: list[str] = []
    base_url = validation.base_url(given.values.get("base_url", ""), lambda key, _: wrong.append(key), insecure_http)
    every = validation.length("every", given.values.get("every") or default("every"), lambda key, _: wrong.append(key))
    return None if "base_url" in wrong else base_url, None if "every" in wrong else every
