"""Rows go into the mirror's tables: new ones by COPY, changed ones by UPDATE, in the caller's transaction.

COPY is binary and told its types once: that costs a quarter of text here, and less in Postgres too.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, get_args, get_type_hints

from psycopg import postgres, sql
from psycopg.adapt import Dumper
from psycopg.pq import Format

from etl.database import Connection, text_array
from etl.model import DocumentRow, Job, JobRow

_TYPES = {str: "text", int: "int4", bool: "bool", datetime: "timestamptz", Decimal: "numeric"}
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
_JOBS = _target("jobs", {"source_id": "int2", **_JOB, "synced_at": "timestamptz"})
_DOCUMENTS = _target("job_documents", {"source_id": "int2", "job_id": "text", **_columns(DocumentRow)})
_VERSION = ("job_id", "job_status", "percent_completed", "number_of_attempts", "modified_date", "row_version")
_HISTORY = _target(
    "job_status_history",
    {
        "source_id": "int2",
        **{name: _JOB[name] for name in _VERSION},
        "seen_at": "timestamptz",
        "not_seen_before": "timestamptz",
    },
)
_UPDATE_JOB = (
    sql.SQL("UPDATE aims360.jobs SET {}, synced_at = %s, purged_at = NULL WHERE source_id = %s AND job_id = %s")
    .format(sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in JobRow._fields[1:]))
    .as_string()
)
_DELETE_DOCUMENTS = "DELETE FROM aims360.job_documents WHERE source_id = %s AND job_id = ANY(%s::text[])"


def insert(db: Connection, source_id: int, jobs: Sequence[Job], seen_at: datetime) -> None:
    """New jobs with their documents; `seen_at` is the source's time."""
    _copy(db, _JOBS, ((source_id, *job.row, seen_at) for job in jobs))
    _copy_documents(db, source_id, jobs)


def update(db: Connection, source_id: int, jobs: Sequence[Job], seen_at: datetime) -> None:
    """The rows of jobs that have changed, without their documents."""
    db.cursor().executemany(_UPDATE_JOB, [(*job.row[1:], seen_at, source_id, job.row.job_id) for job in jobs])


def replace_documents(db: Connection, source_id: int, jobs: Sequence[Job]) -> None:
    """The documents of jobs, as a set: those that are gone from the list are gone from the table."""
    if jobs:
        db.execute(_DELETE_DOCUMENTS, (source_id, text_array([job.row.job_id for job in jobs])))
        _copy_documents(db, source_id, jobs)


def record(
    db: Connection, source_id: int, jobs: Sequence[Job], seen_at: datetime, not_seen_before: datetime | None
) -> None:
    """The history: one row a version seen."""
    versions = (
        (
            source_id,
            row.job_id,
            row.job_status,
            row.percent_completed,
            row.number_of_attempts,
            row.modified_date,
            row.row_version,
            seen_at,
            not_seen_before,
        )
        for row in (job.row for job in jobs)
    )
    _copy(db, _HISTORY, versions)


def _copy_documents(db: Connection, source_id: int, jobs: Sequence[Job]) -> None:
    if any(job.documents for job in jobs):
        _copy(
            db,
            _DOCUMENTS,
            ((source_id, job.row.job_id, *document) for job in jobs for document in job.documents),
        )


def _copy(db: Connection, target: _Target, rows: Iterable[Sequence[object]]) -> None:
    cursor = db.cursor()
    cursor.adapters.register_dumper(None, _JsonText)
    with cursor.copy(target.statement) as copy:
        copy.set_types(target.types)
        for row in rows:
            copy.write_row(row)
