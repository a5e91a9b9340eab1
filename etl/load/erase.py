"""Erases an account or a person from the mirror, on request; the log `etl.erasures` keeps that it was done.

Jobs go as the purge removes them (`etl/load/tombstones.py`): a tombstone without people, texts or links stays, so that
a sync doesn't read them in again while the source shows them unchanged, and no day total changes. Of a person the jobs
go that they made; elsewhere the address is taken out, whoever's job it is. The address itself is kept nowhere, nor
logged.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from psycopg import sql

from etl.client import payload
from etl.errors import ConfigError, DatabaseError
from etl.load import purge, tombstones
from etl.models import Clock
from etl.postgres import locks
from etl.postgres.connection import Connection, text_array

_MARK = "(erased)"
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_IS_ADDRESS = re.compile(r"[^\s\"\\@<>%]+@[^\s\"\\@<>%]+")

_MAY = "SELECT has_table_privilege('etl.erasures', 'INSERT')"
_SOURCES = "SELECT source_id, name FROM etl.sources WHERE %(name)s::text IS NULL OR name = %(name)s ORDER BY source_id"
_ACCOUNTS_JOBS = "SELECT job_id FROM aims360.jobs WHERE source_id = %(source_id)s AND account_code = %(account)s"
_MADE_BY = "SELECT job_id FROM aims360.jobs WHERE source_id = %(source_id)s AND created_by ~* %(alone)s"
_COUNT_DOCUMENTS = """
SELECT count(*) FROM aims360.job_documents WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
"""
_REJECTS = "SELECT job_id, raw FROM etl.rejects WHERE source_id = %(source_id)s ORDER BY job_id"
_DROP_REJECTS = "DELETE FROM etl.rejects WHERE source_id = %(source_id)s AND job_id = ANY(%(keys)s::text[])"
# A row outlives its job: an account is told from the row itself, a person only from the jobs that are still here.
_ARCHIVED = """
SELECT archive_id, path
FROM aims360.document_archive
WHERE source_id = %(source_id)s
  AND (job_id = ANY(%(job_ids)s::text[])
       OR account_code = %(account)s
       OR concat_ws(' ', document_name, path) ~* %(within)s)
ORDER BY archive_id
"""
_DROP_ARCHIVED = """
DELETE FROM aims360.document_archive WHERE source_id = %(source_id)s AND archive_id = ANY(%(archive_ids)s::bigint[])
"""
# Who and what names the person in jobs that stay, and in the ledger; what is free text there.
_IS_IN_JOB = sql.SQL("""(modified_by ~* %(alone)s OR concat_ws(
      ' ', job_description, job_status_text, client_request_id, request_url, publish_link,
      response_json::text, response_text, extra::text
  ) ~* %(within)s)""")
_IS_IN_DOCUMENT = sql.SQL("concat_ws(' ', document_name, download_link, extra::text) ~* %(within)s")
_IS_IN_RUN = sql.SQL("concat_ws(' ', error, array_to_string(notes, ' ')) ~* %(within)s")
_NAMED_IN_JOBS = sql.SQL("""
SELECT count(*)
FROM aims360.jobs
WHERE source_id = %(source_id)s AND NOT job_id = ANY(%(job_ids)s::text[]) AND {}
""").format(_IS_IN_JOB)
_NAMED_IN_DOCUMENTS = sql.SQL("""
SELECT count(*)
FROM aims360.job_documents
WHERE source_id = %(source_id)s AND NOT job_id = ANY(%(job_ids)s::text[]) AND {}
""").format(_IS_IN_DOCUMENT)
_NAMED_IN_RUNS = sql.SQL("SELECT count(*) FROM etl.runs WHERE source_id = %(source_id)s AND {}").format(_IS_IN_RUN)
# Else a job with a value that could not be read would be written anew as the source shows it, name and all, though its
# version is the same.
_SETTLE = sql.SQL("""
UPDATE etl.unread_values
SET settled = true, times_asked = 0
WHERE source_id = %(source_id)s
  AND NOT settled
  AND job_id IN (
      SELECT job_id FROM aims360.jobs WHERE source_id = %(source_id)s AND {job}
      UNION ALL
      SELECT job_id FROM aims360.job_documents WHERE source_id = %(source_id)s AND {document}
  )
""").format(job=_IS_IN_JOB, document=_IS_IN_DOCUMENT)
_TAKE_OUT_OF_JOBS = sql.SQL("""
UPDATE aims360.jobs
SET modified_by = CASE WHEN modified_by ~* %(alone)s THEN NULL ELSE modified_by END,
    job_description = regexp_replace(job_description, %(within)s, %(mark)s, 'gi'),
    job_status_text = regexp_replace(job_status_text, %(within)s, %(mark)s, 'gi'),
    client_request_id = regexp_replace(client_request_id, %(within)s, %(mark)s, 'gi'),
    request_url = CASE WHEN request_url ~* %(within)s THEN NULL ELSE request_url END,
    publish_link = CASE WHEN publish_link ~* %(within)s THEN NULL ELSE publish_link END,
    response_json = regexp_replace(response_json::text, %(within)s, %(mark)s, 'gi')::jsonb,
    response_text = regexp_replace(response_text, %(within)s, %(mark)s, 'gi'),
    extra = regexp_replace(extra::text, %(within)s, %(mark)s, 'gi')::jsonb
WHERE source_id = %(source_id)s AND {}
""").format(_IS_IN_JOB)
_TAKE_OUT_OF_DOCUMENTS = sql.SQL("""
UPDATE aims360.job_documents
SET document_name = regexp_replace(document_name, %(within)s, %(mark)s, 'gi'),
    download_link = CASE WHEN download_link ~* %(within)s THEN NULL ELSE download_link END,
    extra = regexp_replace(extra::text, %(within)s, %(mark)s, 'gi')::jsonb
WHERE source_id = %(source_id)s AND {}
""").format(_IS_IN_DOCUMENT)
_TAKE_OUT_OF_RUNS = sql.SQL("""
UPDATE etl.runs
SET error = regexp_replace(error, %(within)s, %(mark)s, 'gi'),
    notes = ARRAY(
        SELECT regexp_replace(n.note, %(within)s, %(mark)s, 'gi')
        FROM unnest(notes) WITH ORDINALITY AS n (note, place)
        ORDER BY n.place
    )
WHERE source_id = %(source_id)s AND {}
""").format(_IS_IN_RUN)
_COUNT_NAMED = (_NAMED_IN_JOBS, _NAMED_IN_DOCUMENTS, _NAMED_IN_RUNS)
_TAKE_OUT = (_SETTLE, _TAKE_OUT_OF_JOBS, _TAKE_OUT_OF_DOCUMENTS, _TAKE_OUT_OF_RUNS)
_RECORD = """
INSERT INTO etl.erasures (
    source_id, kind, account_code, erased_at, erased_by, jobs, names, documents, rejects, archived
)
VALUES (
    %(source_id)s, %(kind)s, %(account)s, %(now)s, session_user,
    %(jobs)s, %(names)s, %(documents)s, %(rejects)s, %(archived)s
)
"""
_TEXTS = """
SELECT n.nspname, c.relname, a.attname
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname IN ('aims360', 'etl', 'bi')
  AND c.relkind = 'r'
  AND a.atttypid IN ('text'::regtype, 'text[]'::regtype, 'json'::regtype, 'jsonb'::regtype)
ORDER BY n.nspname, c.relname, a.attnum
"""
_NAMES = ("created_by", "modified_by", "role_name")  # a name alone: what goes on after the address is another one
_STANDS = sql.SQL("SELECT count(*) FROM {} WHERE {}::text ~* %s")


class Wish(NamedTuple):
    """Who is to be erased: an account by its code, or a person by their e-mail address; of one source, or of all."""

    account: str | None = None
    person: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Erased:
    """What goes, or went: rows, `names` taken out of rows that stay, and the `files` that somebody must remove.

    `left` says in which columns the person's address still stands, and in how many rows.
    """

    jobs: int = 0
    names: int = 0
    documents: int = 0
    rejects: int = 0
    archived: int = 0
    files: tuple[str, ...] = ()
    left: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: "Erased") -> "Erased":
        return Erased(
            self.jobs + other.jobs,
            self.names + other.names,
            self.documents + other.documents,
            self.rejects + other.rejects,
            self.archived + other.archived,
            self.files + other.files,
        )


class _Place(NamedTuple):
    """What there is of an account or a person in one source."""

    source_id: int
    job_ids: Sequence[str]
    rejects: Sequence[str]
    archive_ids: Sequence[int]
    counts: Erased


class _Patterns(NamedTuple):
    """A person's address as Postgres and Python look for it, without regard to case."""

    alone: str | None = None  # where an address stands by itself: never a longer one
    within: str | None = None  # in free text, addresses and JSON; a name may go on after it, as in a file's


def check(wish: Wish) -> None:
    """Raises ConfigError unless one of the two is named, in a way that can be looked for."""
    if (wish.account is None) == (wish.person is None):
        raise ConfigError("erase takes --account CODE or --person EMAIL: one of the two")
    if any(_UNSTORABLE.search(text) for text in wish if text):
        raise ConfigError("an account, a person or a source holds what no text of Postgres can")
    if wish.account == "":
        raise ConfigError("--account: is empty; jobs without an account are none's")
    if wish.person is not None and not _IS_ADDRESS.fullmatch(wish.person):  # not repeated: it may be nearly right
        raise ConfigError("--person: is no e-mail address such as name@example.com")


def require_right(db: Connection) -> None:
    """Raises DatabaseError where the log can't be written: who syncs must not be able to say that it erased."""
    if db.execute(_MAY).fetchone() != (True,):
        raise DatabaseError(
            f"{db.info.user} may not write etl.erasures: erasing is for the owner of the mirror; run it again with the "
            "DATABASE_URL that `aims360-etl migrate` is run with"
        )


def look(db: Connection, wish: Wish) -> Erased:
    """What `erase` would go over, without doing it. Raises ConfigError."""
    check(wish)
    patterns = _patterns(wish.person)
    found = [_found(db, source_id, wish, patterns) for source_id, _ in _sources(db, wish.source)]
    return sum((place.counts for place in found), Erased())


def erase(db: Connection, wish: Wish, clock: Clock) -> Erased:
    """Erases, all or nothing, beside no run and no fetch of the sources. Raises Locked, ConfigError, DatabaseError."""
    check(wish)
    require_right(db)
    patterns = _patterns(wish.person)
    sources = _sources(db, wish.source)
    with ExitStack() as held:
        for source_id, name in sources:
            held.enter_context(locks.erasing(db, name, source_id))
        with db.transaction():
            found = [_found(db, source_id, wish, patterns) for source_id, _ in sources]
            for place in found:
                _remove(db, place, patterns, clock)
            done = sum((place.counts for place in found), Erased())
            _record(db, wish, sources, done, clock)
            left = _left(db, patterns)
    return replace(done, left=left)


def _sources(db: Connection, name: str | None) -> list[tuple[int, str]]:
    found = [(int(str(row[0])), str(row[1])) for row in db.execute(_SOURCES, {"name": name}).fetchall()]
    if not found and name is not None:
        raise ConfigError(f"--source: nothing was synced of a source called {name!r}")
    return found


def _found(db: Connection, source_id: int, wish: Wish, patterns: _Patterns) -> _Place:
    """What there is in one source, by reading alone."""
    given = {"source_id": source_id, "account": wish.account, **patterns._asdict()}
    jobs = db.execute(_ACCOUNTS_JOBS if patterns.within is None else _MADE_BY, given).fetchall()
    job_ids = [str(row[0]) for row in jobs]
    given["job_ids"] = text_array(job_ids)
    rejects = list(_rejects(db.execute(_REJECTS, given).fetchall(), {*job_ids}, wish, patterns))
    archived = db.execute(_ARCHIVED, given).fetchall()
    counts = Erased(
        jobs=len(job_ids),
        names=0 if patterns.within is None else sum(_count(db, statement, given) for statement in _COUNT_NAMED),
        documents=_count(db, _COUNT_DOCUMENTS, given),
        rejects=len(rejects),
        archived=len(archived),
        files=tuple(dict.fromkeys(str(path) for _, path in archived)),
    )
    return _Place(source_id, job_ids, rejects, [int(str(archive_id)) for archive_id, _ in archived], counts)


def _count(db: Connection, statement: str | sql.Composed, given: dict[str, object]) -> int:
    row = db.execute(statement, given).fetchone()
    assert row is not None
    return int(str(row[0]))


def _rejects(rows: Sequence[tuple[object, ...]], job_ids: set[str], wish: Wish, patterns: _Patterns) -> Iterator[str]:
    """The keys of rejected rows that are the account's, or that name the person; and of jobs that go."""
    for key, raw in rows:
        value, text = _read(str(raw))
        is_accounts = wish.account is not None and (
            str(value.get("accountCode")) == wish.account or re.search(_said_account(wish.account), text)
        )
        is_persons = patterns.within is not None and re.search(patterns.within, text, re.IGNORECASE)
        if key in job_ids or is_accounts or is_persons:
            yield str(key)


def _read(raw: str) -> tuple[dict[str, object], str]:
    """A rejected row as far as it is an object, and all its words, without JSON's escapes where it can be read."""
    try:
        value, _ = payload.decode(raw.encode())
    except ValueError:
        return {}, raw
    return value if isinstance(value, dict) else {}, f"{raw}\n{value!r}"


def _said_account(account: str) -> str:
    return rf'"accountCode"\s*:\s*"{re.escape(account)}"'


def _remove(db: Connection, place: _Place, patterns: _Patterns, clock: Clock) -> None:
    """Takes it all away, in the caller's transaction."""
    given = {"source_id": place.source_id, "mark": _MARK, **patterns._asdict()}
    for begin in range(0, len(place.job_ids), purge.BATCH):
        tombstones.bury(db, place.source_id, place.job_ids[begin : begin + purge.BATCH], "purged", clock.now())
    db.execute(_DROP_REJECTS, {**given, "keys": text_array(place.rejects)})
    db.execute(_DROP_ARCHIVED, {**given, "archive_ids": [*place.archive_ids]})
    for statement in _TAKE_OUT if patterns.within is not None else ():
        db.execute(statement, given)


def _record(db: Connection, wish: Wish, sources: Sequence[tuple[int, str]], done: Erased, clock: Clock) -> None:
    counts = {name: getattr(done, name) for name in ("jobs", "names", "documents", "rejects", "archived")}
    whose = {
        "source_id": sources[0][0] if wish.source is not None else None,
        "kind": "person" if wish.account is None else "account",
        "account": wish.account,
    }
    db.execute(_RECORD, {**counts, **whose, "now": clock.now()})


def _left(db: Connection, patterns: _Patterns) -> dict[str, int]:
    """In which columns the address still stands, and in how many rows: every text of every table is looked through."""
    if patterns.within is None:
        return {}
    found = {}
    for schema, table, column in db.execute(_TEXTS).fetchall():
        where = sql.Identifier(str(schema), str(table)), sql.Identifier(str(column))
        row = db.execute(_STANDS.format(*where), (patterns.alone if column in _NAMES else patterns.within,)).fetchone()
        if row and row[0]:
            found[f"{schema}.{table}.{column}"] = int(str(row[0]))
    return found


def _patterns(person: str | None) -> _Patterns:
    """How an address is looked for: each of its characters as it is, or as addresses of the web carry it.

    Before it no longer name may stand (joann@… holds ann@…), but an escape of JSON or of a web address may.
    """
    if person is None:
        return _Patterns()
    core = "".join(letter if letter.isalnum() and letter.isascii() else _spelt(letter) for letter in person)
    begins = r"(?<![\w.+%-])"
    begins_in_text = r"(?:(?<![\w.+-])|(?<=%[0-9a-f][0-9a-f])|(?<=\\[bfnrt]))"
    return _Patterns(rf"{begins}{core}(?![\w-]|\.\w)", rf"{begins_in_text}{core}(?![\w-])")


def _spelt(letter: str) -> str:
    percent = "".join(f"%{byte:02x}" for byte in letter.encode())
    return f"(?:{re.escape(letter)}|{percent})"
