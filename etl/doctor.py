"""Looks at everything a sync needs, one check after the other, and says what the service honours.

Nobody knows the real service from here (api.md): what it does with a query is found out by asking it, each answer held
against its question.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psycopg

from etl import database, odata, schema, settings
from etl.api import Api, Page
from etl.errors import EtlError, SourceError
from etl.model import Clock, Key

_FEW = 5
_CLOCKS_APART = 30  # seconds
_FAR = datetime(9000, 1, 1, tzinfo=UTC)
_CAN_CREATE = "SELECT has_database_privilege(current_database(), 'CREATE')"
_CAN_WRITE = "SELECT has_table_privilege('aims360.jobs', 'INSERT, UPDATE, DELETE')"


class State(StrEnum):
    """How a check ended: fine, worth knowing, or in the way of a sync."""

    FINE = "ok"
    NOTE = "note"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it stands, and what to do about it."""

    name: str
    state: State
    detail: str


class Question(NamedTuple):
    """A query, whether an answer keeps to it, and whether a sync needs that."""

    name: str
    query: str
    is_kept: Callable[[Page], bool]
    is_needed: bool


def examine(
    environ: Mapping[str, str],
    directory: Path,
    name: str | None,
    clock: Clock,
    database_url: Callable[[settings.Settings], str],
) -> Iterator[Check]:
    """Every check in order; those that build on a failed one are left out."""
    try:
        found = settings.read(environ, directory, name)
    except EtlError as error:
        yield from _failures("settings", error)
        return
    yield from _database(found, database_url)
    try:
        source = found.source(name)
    except EtlError as error:
        yield from _failures("settings", error)
        return
    kind = "a token" if isinstance(source.credentials, settings.Secret) else "the password grant"
    yield Check("settings", State.FINE, f"source {source.name!r} at {source.base_url}, signing in with {kind}")
    with Api(source, clock) as api:
        yield from _service(api, clock)


def table(checks: list[Check]) -> str:
    """The checks for people."""
    width = max(len(check.name) for check in checks)
    lines = [f"{check.state:<6}  {check.name:<{width}}  {check.detail}" for check in checks]
    failed = sum(check.state is State.FAILED for check in checks)
    lines.append(f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed")
    return "\n".join(lines)


def _failures(name: str, error: EtlError) -> Iterator[Check]:
    for line in str(error).splitlines():
        yield Check(name, State.FAILED, line)


def _database(found: settings.Settings, database_url: Callable[[settings.Settings], str]) -> Iterator[Check]:
    try:
        url = database_url(found)
        with database.connected(url) as db:
            number = db.info.server_version
            yield Check("database", State.FINE, f"{database.masked(url)}, Postgres {number // 10000}.{number % 10000}")
            yield from _schema(db)
    except EtlError as error:
        yield from _failures("database", error)


def _schema(db: database.Connection) -> Iterator[Check]:
    try:
        schema.require(db)
    except EtlError as error:
        yield from _failures("schema", error)
        yield _right(db, _CAN_CREATE, "to create schemas in this database", "GRANT CREATE ON DATABASE")
        return
    yield Check("schema", State.FINE, f"at {schema.newest()}, this program's")
    yield _right(db, _CAN_WRITE, "to write the mirror", "GRANT INSERT, UPDATE, DELETE on the schemas' tables")


def _right(db: database.Connection, question: str, what: str, cure: str) -> Check:
    try:
        row = db.execute(question).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        row = None
    if row and row[0]:
        return Check("rights", State.FINE, f"{db.info.user} has the right {what}")
    return Check("rights", State.FAILED, f"{db.info.user} has no right {what}: {cure} to it")


def _service(api: Api, clock: Clock) -> Iterator[Check]:
    try:
        page = api.once(odata.query(order="modifiedDate desc", top=1))
    except SourceError as error:
        yield from _failures("service", error)
        return
    apart = (page.answered_at - clock.now()).total_seconds()
    state = State.FINE if abs(apart) < _CLOCKS_APART else State.NOTE
    yield Check("service", state, f"answers, and accepts who we are; its clock is {apart:+.0f} s from ours")
    if not page.answer.rows:
        yield Check("jobs", State.NOTE, "the service shows no job: what it honours can't be told yet")
        return
    row = page.answer.rows[0]
    newest = odata.stamp(row)
    yield from _shown(row, newest)
    for question in _questions(newest):
        yield _asked(api, question)
    yield _page_size(api)


def _shown(row: bytes, newest: odata.Stamp) -> Iterator[Check]:
    has_id = newest.key("ID") is not None
    yield Check(
        "ID", State.FINE if has_id else State.NOTE, "is shown" if has_id else "is not shown: jobID orders the scan"
    )
    value, _ = odata.decode(row)
    names = value.keys() if isinstance(value, dict) else {}
    if "rowversion" in names:
        yield Check("rowversion", State.FINE, "is shown")
    elif "@odata.etag" in names:
        yield Check("rowversion", State.FINE, "is read from @odata.etag")
    else:
        yield Check("rowversion", State.NOTE, "is not shown: modifiedDate and contents tell versions apart")


def _questions(newest: odata.Stamp) -> Iterator[Question]:
    modified = newest.modified
    if modified is None:
        return
    since, never = f"modifiedDate ge {odata.literal(modified)}", f"modifiedDate ge {odata.literal(_FAR)}"
    yield Question("$filter on modifiedDate", odata.query([never], top=_FEW), lambda page: not page.answer.rows, True)
    yield Question("$orderby modifiedDate desc", odata.query(order="modifiedDate desc", top=_FEW), _descends, True)
    for name in ("ID", "jobID"):
        key = newest.key(name)
        if key is not None:
            is_needed = name == "ID" or newest.key("ID") is None
            yield from _key_questions(name, key, is_needed)
    yield Question("$count", odata.query([since], top=1, count=True), lambda page: page.answer.total is not None, False)


def _key_questions(name: str, key: Key, is_needed: bool) -> Iterator[Question]:
    above = odata.query([f"{name} gt {odata.literal(key)}"], name, top=_FEW)
    yield Question(
        f"$filter on {name}", above, lambda page: all(_is_above(k, key) for k in _keys(page, name)), is_needed
    )
    upward = odata.query([f"{name} le {odata.literal(key)}"], name, top=_FEW)
    yield Question(
        f"$orderby {name}", upward, lambda page: bool(_keys(page, name)) and _ascends(_keys(page, name)), is_needed
    )


def _asked(api: Api, question: Question) -> Check:
    try:
        is_kept = question.is_kept(api.once(question.query))
        detail = "is honoured" if is_kept else "is answered, but not kept"
    except SourceError as error:
        is_kept, detail = False, str(error)
    bad = State.FAILED if question.is_needed else State.NOTE
    return Check(question.name, State.FINE if is_kept else bad, detail)


def _page_size(api: Api) -> Check:
    try:
        rows = len(api.once(odata.query(), page_size=1).answer.rows)
    except SourceError as error:
        return Check("page size", State.NOTE, str(error))
    detail = "Prefer: odata.maxpagesize is honoured" if rows == 1 else f"the service's own, {rows} rows at the most"
    return Check("page size", State.FINE, detail)


def _keys(page: Page, name: str) -> list[Key]:
    return [key for key in (odata.stamp(row).key(name) for row in page.answer.rows) if key is not None]


def _is_above(key: Key, than: Key) -> bool:
    if isinstance(key, int) and isinstance(than, int):
        return key > than
    return str(key) > str(than)


def _ascends(keys: list[Key]) -> bool:
    return all(_is_above(later, earlier) for earlier, later in pairwise(keys))


def _descends(page: Page) -> bool:
    times = [time for time in (odata.stamp(row).modified for row in page.answer.rows) if time is not None]
    return all(later <= earlier for earlier, later in pairwise(times))
