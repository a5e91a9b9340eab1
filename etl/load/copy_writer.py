"""Rows go into the mirror's tables: new ones by COPY, changed ones by UPDATE, in the caller's transaction.

COPY is binary and told its types once: that costs a quarter of text here, and less in Postgres too. Rows are encoded
apart from being sent, so that a page may be while Postgres works on the one before.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, get_args, get_type_hints

from psycopg import Copy, postgres, sql
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.copy import Writer
from psycopg.pq import Format

from etl.models import DocumentRow, Encoded, Job, JobRow
from etl.postgres.connection import Connection, text_array

_TYPES = {str: "text", int: "int4", bool: "bool", datetime: "timestamptz", Decimal: "numeric"}
_HEADER, _TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"  # of COPY's binary form, as Postgres documents it
_OTHER_TYPES = {"id": "int8", "row_version": "int8", "response_json": "jsonb", "extra": "jsonb"}


class _JsonText(Dumper):
    """JSON that is text already, for a jsonb column: its binary form is a version number and the text."""

    format = Format.BINARY
    oid = postgres.types["jsonb"].oid

    def dump(self, obj: str) -> bytes:
        return b"\x01" + obj.encode()


class _Target(NamedTuple):
    """Where COPY leads to, and the types of the columns there."""

    statement: str
    types: tuple[str, ...]


def _target(table: str, columns: Mapping[str, str]) -> _Target:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY aims360.{} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(table), names)
    return _Target(statement.as_string(), tuple(columns.values()))


def _columns(row: type[JobRow | DocumentRow]) -> dict[str, str]:
    """A row's columns with their types in Postgres."""
    kinds = {name: next(iter(get_args(hint)), hint) for name, hint in get_type_hints(row).items()}
    return {name: _OTHER_TYPES.get(name) or _TYPES[kind] for name, kind in kinds.items()}


_JOB = _columns(JobRow)
_JOBS = _target("jobs", {"source_id": "int2", **_JOB, "synced_at": "timestamptz", "documents": "int4"})
_DOCUMENTS = _target(
    "job_documents",
    {
        "source_id": "int2",
        "job_id": "text",
        **_columns(DocumentRow),
        "available_until": "timestamptz",
        "account_code": "text",
    },
)
_VERSION = (
    "job_id",
    "job_status",
    "percent_completed",
    "number_of_attempts",
    "modified_date",
    "row_version",
    "start_date",
    "completed_date",
)


def _list_columns(template: str) -> sql.Composed:
    """A list of the columns that tell a version, each put into the template."""
    return sql.SQL(", ").join(sql.SQL(template).format(sql.Identifier(name)) for name in _VERSION[1:])


_HISTORY = _target(
    "job_status_history",
    {
        "source_id": "int2",
        **{name: _JOB[name] for name in _VERSION},
        "seen_at": "timestamptz",
        "not_seen_before": "timestamptz",
    },
)
# A run that had ended gave way to another: told by the source's own count where it shows one, and by this where not.
# What earlier releases stored as a date before 1980 was none.
_UPDATE_JOB = (
    sql.SQL("""
UPDATE aims360.jobs
SET {}, synced_at = %s, documents = %s, purged_at = NULL,
    reruns_seen = reruns_seen + (
        %s AND coalesce(completed_date >= '1980-01-01 00:00Z', false) AND start_date IS DISTINCT FROM %s
    )::int
WHERE source_id = %s AND job_id = %s
""")
    .format(sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in JobRow._fields[1:]))
    .as_string()
)
_CORRECT_HISTORY = (
    sql.SQL("""
UPDATE aims360.job_status_history AS h
SET {corrections}
FROM aims360.jobs AS j
WHERE j.source_id = %(source_id)s
  AND j.job_id = ANY(%(job_ids)s::text[])
  AND h.source_id = j.source_id
  AND h.job_id = j.job_id
  AND h.history_id = (
      SELECT max(o.history_id)
      FROM aims360.job_status_history AS o
      WHERE o.source_id = j.source_id AND o.job_id = j.job_id
  )
  AND ({stored}) IS DISTINCT FROM ({read})
""")
    .format(
        corrections=_list_columns("{0} = j.{0}"),
        stored=_list_columns("h.{}"),
        read=_list_columns("j.{}"),
    )
    .as_string()
)
_DELETE_DOCUMENTS = "DELETE FROM aims360.job_documents WHERE source_id = %s AND job_id = ANY(%s::text[])"


def encode(
    db: Connection, source_id: int, jobs: Sequence[Job], seen_at: datetime, not_seen_before: datetime | None
) -> Encoded:
    """New jobs with their documents and history as COPY takes them; `seen_at` is the source's time.

    This sends nothing and waits for nothing. Of the connection it reads whether it is open, its encoding and its types,
    none of which changes during a run: the threads that read ahead may do it while another one is at work there.
    """
    return Encoded(
        count=len(jobs),
        jobs=_binary(db, _JOBS, ((source_id, *job.row, seen_at, len(job.documents)) for job in jobs)),
        documents=_binary(db, _DOCUMENTS, _documents(source_id, jobs)),
        history=_binary(db, _HISTORY, _versions(source_id, jobs, seen_at, not_seen_before)),
    )


def insert(db: Connection, encoded: Sequence[Encoded]) -> None:
    """New jobs with their documents and their history."""
    _copy(db, _JOBS, [some.jobs for some in encoded])
    _copy(db, _DOCUMENTS, [some.documents for some in encoded])
    _copy(db, _HISTORY, [some.history for some in encoded])


def update(
    db: Connection, source_id: int, jobs: Sequence[Job], seen_at: datetime, *, is_same_version: bool = False
) -> None:
    """Write the rows of jobs that have changed, without their documents.

    `is_same_version`: more of the version that is there was read; then its row in the history follows.
    """
    if not jobs:
        return
    changes = (
        (*row[1:], seen_at, len(job.documents), not is_same_version, row.start_date, source_id, row.job_id)
        for job in jobs
        for row in [job.row]
    )
    db.cursor().executemany(_UPDATE_JOB, changes)
    if is_same_version:
        db.execute(_CORRECT_HISTORY, {"source_id": source_id, "job_ids": text_array([job.row.job_id for job in jobs])})


def replace_documents(db: Connection, source_id: int, jobs: Sequence[Job]) -> None:
    """The documents of jobs, as a set: those that are gone from the list are gone from the table."""
    if jobs:
        db.execute(_DELETE_DOCUMENTS, (source_id, text_array([job.row.job_id for job in jobs])))
        _copy(db, _DOCUMENTS, [_binary(db, _DOCUMENTS, _documents(source_id, jobs))])


def record(
    db: Connection, source_id: int, jobs: Sequence[Job], seen_at: datetime, not_seen_before: datetime | None
) -> None:
    """The history of jobs that have changed: one row a version seen."""
    _copy(db, _HISTORY, [_binary(db, _HISTORY, _versions(source_id, jobs, seen_at, not_seen_before))])


def _documents(source_id: int, jobs: Iterable[Job]) -> Iterator[tuple[object, ...]]:
    return (
        (source_id, job.row.job_id, *document, available_until(job.row, document), job.row.account_code)
        for job in jobs
        for document in job.documents
    )


def available_until(job: JobRow, document: DocumentRow) -> datetime | None:
    """Until when a document can be had: until its own expiry or its job's purge, whichever comes first."""
    expiry, purge = document.expiry_date, job.purge_date_time
    return min(expiry, purge) if expiry is not None and purge is not None else expiry or purge


def _versions(
    source_id: int, jobs: Iterable[Job], seen_at: datetime, not_seen_before: datetime | None
) -> Iterator[tuple[object, ...]]:
    # It may lie in the future, where a clock was wrong once.
    before = None if not_seen_before is None else min(not_seen_before, seen_at)
    return (
        (
            source_id,
            row.job_id,
            row.job_status,
            row.percent_completed,
            row.number_of_attempts,
            row.modified_date,
            row.row_version,
            row.start_date,
            row.completed_date,
            seen_at,
            before,
        )
        for row in (job.row for job in jobs)
    )


class _Collector(Writer):
    """Takes what psycopg writes."""

    def __init__(self) -> None:
        self.pieces: list[Buffer] = []

    def write(self, data: Buffer) -> None:
        self.pieces.append(data)


def _binary(db: Connection, target: _Target, rows: Iterable[Sequence[object]]) -> bytes:
    """Rows in the binary form of COPY, without its header and its trailer."""
    cursor, collector = db.cursor(), _Collector()
    cursor.adapters.register_dumper(None, _JsonText)
    with Copy(cursor, binary=True, writer=collector) as copy:
        copy.set_types(target.types)
        for row in rows:
            copy.write_row(row)
    return b"".join(collector.pieces)[len(_HEADER) : -len(_TRAILER)]


def _copy(db: Connection, target: _Target, encoded: Iterable[bytes]) -> None:
    some = [each for each in encoded if each]
    if some:
        with db.cursor().copy(target.statement) as copy:
            for each in (_HEADER, *some, _TRAILER):
                copy.write(each)
