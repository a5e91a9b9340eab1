"""Jobs as the mirror holds them: listed, found by the beginning of their ids, shown with all that hangs on them.

A role that reads schema `bi` is enough, and sees what it may see there. Links are read from `bi.job_links`, and only
where they are asked for. What purged jobs leave behind, and which documents were fetched, only a role sees that reads
schema `aims360` itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import psycopg
from psycopg import sql

from etl.client import odata
from etl.client.payload import storable
from etl.errors import ConfigError
from etl.postgres.connection import Connection, Row, reading, refusal, rows

# What rows in etl.rejects go by whose jobID is unknown: a digest of the row, an ID, or a range of keys.
NAMELESS = ("sha256:", "ID:", "jobID:")
SHORTEST = 4  # characters of an id; fewer are somebody's slip
_GUID = 36  # characters
_NAMED = 5  # candidates
_RECENT = (timedelta(days=1), timedelta(days=7))
LINKS_RIGHTS = "SELECT on bi.job_links (`aims360-etl grant --bi ROLE --links` gives it)"

# Postgres takes no order from an index through a view that is a security barrier, but a bound: the newest of millions
# are looked for among those of the last day, then of the last week, then of all. Those without a date come last.
_LIST = sql.SQL("""
SELECT
    source, job_id, account_code, database_name, client_id, category_name, sub_category_name, job_description,
    client_request_id, created_by, modified_by, job_status, job_status_text, percent_completed, number_of_attempts,
    response_type, publish_link_access_scope, can_rerun, can_publish, created_at_utc, started_at_utc, completed_at_utc,
    modified_at_utc, purge_at_utc, rerun_until_utc, queued_seconds, run_seconds, total_seconds, documents,
    expires_in_days, attempts, is_open, is_ended, is_failed, is_stuck, is_rerun, is_published, is_purged, row_version
FROM bi.jobs
WHERE (%(source)s::text IS NULL OR source = %(source)s)
  AND (%(status)s::text IS NULL OR lower(job_status) = lower(%(status)s))
  AND (%(category)s::text IS NULL OR lower(%(category)s) IN (lower(category_name), lower(sub_category_name)))
  AND (%(account)s::text IS NULL OR lower(account_code) = lower(%(account)s))
  AND {when}
ORDER BY created_at_utc DESC, source, job_id
LIMIT %(most)s
""")
_DATED = _LIST.format(when=sql.SQL("created_at_utc >= coalesce(%(since)s::timestamp, '-infinity')"))
_DATELESS = _LIST.format(when=sql.SQL("created_at_utc IS NULL"))
# Ids are ASCII: letters of other alphabets keep their case, which spares a look at each letter's collation.
_FIND = """
SELECT source, job_id, lower(job_id COLLATE "C") = %(begin)s AS is_whole, count(*) OVER () AS found
FROM bi.jobs
WHERE starts_with(lower(job_id COLLATE "C"), %(begin)s) AND (%(source)s::text IS NULL OR source = %(source)s)
ORDER BY is_whole DESC, created_at_utc DESC NULLS LAST, source, job_id
LIMIT %(most)s
"""
_FIND_WHOLE = """
SELECT source, job_id, true AS is_whole, count(*) OVER () AS found
FROM bi.jobs
WHERE job_id = %(begin)s AND (%(source)s::text IS NULL OR source = %(source)s)
"""
_FIND_AMONG_THE_GONE = """
SELECT source, job_id, lower(job_id COLLATE "C") = %(begin)s AS is_whole, count(*) OVER () AS found
FROM (
    SELECT s.name AS source, p.job_id FROM aims360.purged_jobs AS p JOIN etl.sources AS s USING (source_id)
    UNION
    SELECT s.name, a.job_id FROM aims360.document_archive AS a JOIN etl.sources AS s USING (source_id)
) AS gone
WHERE starts_with(lower(job_id COLLATE "C"), %(begin)s) AND (%(source)s::text IS NULL OR source = %(source)s)
ORDER BY is_whole DESC, source, job_id
LIMIT %(most)s
"""
_FIND_AMONG_THE_REJECTS = """
SELECT s.name AS source, r.job_id, lower(r.job_id COLLATE "C") = %(begin)s AS is_whole, count(*) OVER () AS found
FROM etl.rejects AS r
JOIN etl.sources AS s USING (source_id)
WHERE starts_with(lower(r.job_id COLLATE "C"), %(begin)s) AND (%(source)s::text IS NULL OR s.name = %(source)s)
ORDER BY is_whole DESC, s.name, r.job_id
LIMIT %(most)s
"""
_MAY_SEE_REJECTS = """
SELECT count(*) = 2
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relname) IN (('etl', 'rejects'), ('etl', 'sources'))
  AND has_schema_privilege(n.oid, 'USAGE')
  AND has_table_privilege(c.oid, 'SELECT')
"""
_MAY_SEE_THE_GONE = """
SELECT count(*) = 3
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relname) IN (('aims360', 'purged_jobs'), ('aims360', 'document_archive'), ('etl', 'sources'))
  AND has_schema_privilege(n.oid, 'USAGE')
  AND has_table_privilege(c.oid, 'SELECT')
"""
_JOB = "SELECT * FROM bi.jobs WHERE source = %(source)s AND job_id = %(job_id)s"
_DOCUMENTS = """
SELECT position, document_name, type, size_in_mb, version, document_id, expires_at_utc
FROM bi.job_documents
WHERE source = %(source)s AND job_id = %(job_id)s
ORDER BY position
"""
_HISTORY = """
SELECT version_seen, job_status, is_entry, entered_after_utc, entered_by_utc, percent_completed, number_of_attempts,
       modified_at_utc, seen_at_utc, row_version
FROM bi.job_status_history
WHERE source = %(source)s AND job_id = %(job_id)s
ORDER BY version_seen
"""
_ATTEMPTS = """
SELECT attempt, is_last, job_status, started_at_utc, completed_at_utc, run_seconds
FROM bi.job_attempts
WHERE source = %(source)s AND job_id = %(job_id)s
ORDER BY attempt
"""
_LINKS = """
SELECT kind, position, document_name, link, access_scope, available_until_utc
FROM bi.job_links
WHERE source = %(source)s AND job_id = %(job_id)s
ORDER BY kind DESC, position
"""
_TOMBSTONE = """
SELECT p.purged_at, p.reason, p.purge_date_time, p.day, p.account_code, p.category_name, p.sub_category_name,
       p.job_status, p.attempts, p.documents, p.queued_seconds, p.run_seconds, p.row_version
FROM aims360.purged_jobs AS p
JOIN etl.sources AS s USING (source_id)
WHERE s.name = %(source)s AND p.job_id = %(job_id)s
"""
_ARCHIVED = """
SELECT a.position, a.document_name, a.path, a.bytes, a.sha256, a.fetched_at
FROM aims360.document_archive AS a
JOIN etl.sources AS s USING (source_id)
WHERE s.name = %(source)s AND a.job_id = %(job_id)s
ORDER BY a.archive_id
"""


# Not `raw`, which may hold links.
_REJECT = """
SELECT r.reason, r.first_seen_at, r.asked_at, r.times_asked, r.runs_to_wait, r.key_name, r.key_after, r.key_before
FROM etl.rejects AS r
JOIN etl.sources AS s USING (source_id)
WHERE s.name = %(source)s AND r.job_id = %(job_id)s
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs are listed, None: all. Names count whatever the case of their letters; `since` has its zone."""

    source: str | None = None
    status: str | None = None
    category: str | None = None  # or sub-category
    account: str | None = None
    since: datetime | None = None


class Listed(NamedTuple):
    """The newest of the jobs that were wanted, and whether there are more."""

    jobs: list[Row]
    are_more: bool


class Found(NamedTuple):
    """A job by its whole id, and in which source; `is_here` unless only traces or an unreadable row of it are."""

    source: str
    job_id: str
    is_here: bool = True


class Held(NamedTuple):
    """All that the mirror holds of a job and the role may see; None of what wasn't looked at."""

    job: Row | None
    documents: list[Row]
    history: list[Row]
    attempts: list[Row]
    tombstone: Row | None
    archived: list[Row] | None
    links: list[Row] | None
    reject: Row | None = None
    """Its row in etl.rejects, if the source's newest version of the job could not be read."""


@contextmanager
def mirror(url: str, rights: str = "") -> Iterator[Connection]:
    """A connection that reads; what Postgres refuses becomes an EtlError that says which rights are needed."""
    try:
        with reading(url) as db:
            yield db
    except psycopg.Error as error:
        raise refusal(url, error, rights) from None


def listed(db: Connection, wanted: Wanted, most: int, now: datetime) -> Listed:
    """The newest jobs first, at most so many."""
    key = {**asdict(wanted), "most": most + 1}
    found: list[Row] = []
    for bound in _bounds(wanted.since, now):
        found = rows(db, _DATED, {**key, "since": bound})
        if len(found) > most:
            break
    if len(found) <= most and wanted.since is None:
        found += rows(db, _DATELESS, key)
    return Listed(found[:most], len(found) > most)


def _bounds(since: datetime | None, now: datetime) -> list[datetime | None]:
    """From when on jobs are looked for, one after the other, until there are enough; UTC, as the views have it."""
    recent = [now - span for span in _RECENT if since is None or now - span > since]
    return [moment and moment.astimezone(UTC).replace(tzinfo=None) for moment in (*recent, since)]


def find(db: Connection, given: str, source: str | None = None) -> Found | None:
    """The job whose id is this, or begins like this; None where the mirror knows none.

    Raises ConfigError where several are meant, with some of them.
    """
    begin = _judged(given)
    key = {"begin": _lower(begin), "source": source, "most": _NAMED}
    places = [(_FIND, True), *([(_FIND_AMONG_THE_REJECTS, False)] if _may_see_rejects(db) else [])]
    places += [(_FIND_AMONG_THE_GONE, False)] if _may_see_the_gone(db) else []
    if odata.comparable(_lower(begin)):  # of the documented form, as nearly all are: the index has it
        places.insert(0, (_FIND_WHOLE, True))
    for statement, is_here in places:
        begun = db.execute(statement, key).fetchall()
        whole = [row for row in begun if row[2]]
        if len(whole) > 1 and len(alike := [row for row in whole if row[1] == begin]) == 1:
            whole = alike
        if found := whole or begun:
            if len(found) > 1:
                raise ConfigError(_ambiguous(begin, found, len(whole) or int(str(begun[0][3]))))
            return Found(str(found[0][0]), str(found[0][1]), is_here)
    return None


def whole(given: str) -> str:
    """An id that the mirror doesn't know, to ask the source for. Raises ConfigError where it can't be a whole one."""
    begin = _judged(given)
    if odata.comparable(begin.lower()):
        return begin.lower()
    if len(begin) < _GUID:
        raise ConfigError(
            f"the mirror holds no job whose id begins with {begin!r}; only jobs that it holds can be called by a "
            "beginning: give the whole id to ask the source for it"
        )
    return begin


def unknown(given: str) -> ConfigError:
    """What is said where the mirror knows no such job."""
    return ConfigError(
        f"the mirror holds no job whose id begins with {_judged(given)!r}, as far as this role may see; "
        "`aims360-etl sync` brings what is new, and `--live` with the whole id asks the source"
    )


def held(db: Connection, found: Found, with_links: bool = False) -> Held:
    """All that the mirror holds of a job, as of one moment."""
    key = {"source": found.source, "job_id": found.job_id}
    sees_the_gone = _may_see_the_gone(db)
    return Held(
        job=next(iter(rows(db, _JOB, key)), None),
        documents=rows(db, _DOCUMENTS, key),
        history=rows(db, _HISTORY, key),
        attempts=rows(db, _ATTEMPTS, key),
        tombstone=next(iter(rows(db, _TOMBSTONE, key)), None) if sees_the_gone else None,
        archived=rows(db, _ARCHIVED, key) if sees_the_gone else None,
        links=rows(db, _LINKS, key) if with_links else None,
        reject=next(iter(rows(db, _REJECT, key)), None) if _may_see_rejects(db) else None,
    )


def as_value(found: Found, held: Held) -> Row:
    """What the mirror holds of a job, for JSON: without links, unless they were asked for."""
    value = {"source": found.source, "job_id": found.job_id, **held._asdict()}
    return value if held.links is not None else {name: part for name, part in value.items() if name != "links"}


def shortened(ids: Sequence[str]) -> list[str]:
    """Ids for people: as much of their beginning as tells these apart, and a GUID's first eight digits at least."""
    for length in (8, 13, 18, 23, _GUID):
        short = [job_id[:length] for job_id in ids]
        if len(set(short)) == len(set(ids)):
            return short
    return list(ids)


def _lower(text: str) -> str:
    """As Postgres does under the collation C."""
    return text.encode().lower().decode()


def _judged(given: str) -> str:
    begin = given.strip()
    if len(begin) < SHORTEST:
        raise ConfigError(
            f"{begin!r} is too short for a job's id: give {SHORTEST} characters of its beginning at least"
        )
    if len(begin) > odata.LONGEST_JOB_ID or storable(begin) != begin or re.search(r"\s", begin):
        raise ConfigError("that is no job's id: those are GUIDs with a time behind")
    return begin


def _ambiguous(begin: str, rows: Sequence[Sequence[object]], count: int) -> str:
    in_several = len({row[0] for row in rows}) > 1
    named = [f"{row[1]} of {row[0]}" if in_several else str(row[1]) for row in rows]
    more = f", and {count - len(named)} more" if count > len(named) else ""
    what_to_do = "name the source with --source, or give more of it" if in_several else "give more of it"
    return f"{begin!r} is the beginning of {count} jobs' ids: {', '.join(named)}{more}; {what_to_do}"


def _may_see_the_gone(db: Connection) -> bool:
    row = db.execute(_MAY_SEE_THE_GONE).fetchone()
    return bool(row and row[0])


def _may_see_rejects(db: Connection) -> bool:
    row = db.execute(_MAY_SEE_REJECTS).fetchone()
    return bool(row and row[0])
