"""Which versions a page of the source tells, and which of them the mirror holds: for those nothing need be built.

A page tells its versions at a glance, in columns, and Postgres answers with those that differ. Whatever isn't told
plainly is left to `flatten` and `upsert`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, compress
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from etl.client import odata
from etl.client.odata import read_date
from etl.models import Page
from etl.postgres.connection import Connection, text_array

# The same is what `merge_policy.choose` calls so: any other row is left to it.
DIFFERING = """
SELECT t.job_id
FROM unnest(%(job_ids)s::text[], %(row_versions)s::bigint[], %(modified)s::bigint[])
    AS t (job_id, row_version, modified)
WHERE NOT EXISTS (
    SELECT FROM aims360.jobs AS j
    WHERE j.source_id = %(source_id)s
      AND j.job_id = t.job_id
      AND j.row_version = t.row_version
      AND j.modified_date IS NOT DISTINCT FROM timestamptz '2000-01-01 00:00Z' + t.modified * interval '1 microsecond'
      AND j.purged_at IS NULL
)
"""
_2000, _MICROSECOND = datetime(2000, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


# Of a job one of whose values could not be read the same version is asked for once more.
_UNREAD = """
SELECT u.job_id
FROM etl.unread_values AS u
WHERE u.source_id = %(source_id)s AND NOT u.settled AND u.job_id = ANY(%(job_ids)s::text[])
"""
DIFFERING_OR_UNREAD = f"{DIFFERING} UNION {_UNREAD}"


class _Row(msgspec.Struct, gc=False):
    """A row of a few properties, as strictly typed as where `flatten` reads all of them."""

    jobID: Annotated[str, Meta(min_length=1, max_length=odata.LONGEST_JOB_ID)]
    modifiedDate: str | None
    ID: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    createdDate: str | None = None
    purgeDateTime: str | None = None
    rowversion: Annotated[bytes, Meta(min_length=8, max_length=8)] | None = None
    odata_etag: str | None = msgspec.field(default=None, name="@odata.etag")
    plain_etag: str | None = msgspec.field(default=None, name="@etag")


class _RowOfOtherBase64(_Row):
    """The same, where a rowversion isn't in the plain base64 that msgspec reads."""

    rowversion: str | None = None  # type: ignore[assignment]


_DECODERS = (msgspec.json.Decoder(list[_Row]), msgspec.json.Decoder(list[_RowOfOtherBase64]))


class Told(NamedTuple):
    """The versions that the source tells of some jobs, column by column.

    `modified`: modifiedDate in microseconds since 2000 began. `is_old`: whether the job is old enough to be counted.
    """

    job_ids: Sequence[str] = ()
    row_versions: Sequence[int] = ()
    modified: Sequence[int | None] = ()
    is_old: Sequence[bool] = ()

    def only(self, is_old: bool) -> Told:
        """Those that are old, or those that aren't."""
        wanted = [each is is_old for each in self.is_old]
        return self if all(wanted) else _told(compress(column, wanted) for column in self)


def joined(some: Iterable[Told]) -> Told:
    """What several pages tell."""
    return _told(chain.from_iterable(columns) for columns in zip(*some, strict=True))


def _told(columns: Iterable[Iterable[Any]]) -> Told:
    return Told._make(map(tuple, columns))


def told(rows: Sequence[bytes], old: datetime) -> Told | None:
    """What a page tells at a glance; None where any of its rows needs a closer look. Old is what was created before.

    That is a row without a version, one of a job that comes twice, or one that `flatten` couldn't read or would store
    otherwise.
    """
    read = _read_rows(rows)
    if read is None:
        return None
    try:
        versions = Told(
            job_ids=[row.jobID for row in read],
            row_versions=[_version(row) for row in read],
            modified=[None if row.modifiedDate is None else _since_2000(row.modifiedDate) for row in read],
            is_old=[bool(row.createdDate and odata.instant(row.createdDate) < old) for row in read],
        )
    except ValueError:
        return None
    is_plain = min(versions.row_versions, default=0) >= 0 and "\x00" not in "".join(versions.job_ids)
    return versions if is_plain and len(set(versions.job_ids)) == len(rows) else None


def _read_rows(rows: Sequence[bytes]) -> Sequence[_Row] | None:
    page = b"[" + b",".join(rows) + b"]"
    for decoder in _DECODERS:
        with suppress(ValueError, RecursionError):  # msgspec's errors are ValueErrors
            return decoder.decode(page)
    return None


def _version(row: _Row) -> int:
    """The rowversion; below zero where none is told, or one that is too high. Raises ValueError."""
    version: bytes | str | None = row.rowversion
    if isinstance(version, bytes):
        return int.from_bytes(version, "big", signed=True)
    if version is not None:
        return odata.rowversion(version)
    etag = row.odata_etag if row.odata_etag is not None else row.plain_etag
    return odata.etag_rowversion(etag or "") or -1


def _since_2000(text: str) -> int | None:
    moment = read_date(text)
    return None if moment is None else (moment - _2000) // _MICROSECOND


def differing(db: Connection, source_id: int, versions: Told, is_unread: bool = False) -> set[str]:
    """Return the jobs of which the mirror doesn't hold the very version told.

    `is_unread`: values that could not be read wait to come again; then their jobs are among them.
    """
    return asked(db, DIFFERING_OR_UNREAD if is_unread else DIFFERING, versions, {"source_id": source_id})


def rows_of(job_ids: Set[str], page: Page, versions: Told) -> Sequence[bytes]:
    """The rows of these jobs in the page that told these versions."""
    if not job_ids:
        return ()
    return [row for row, job_id in zip(page.rows, versions.job_ids, strict=True) if job_id in job_ids]


def asked(db: Connection, statement: str, versions: Told, key: Mapping[str, object]) -> set[str]:
    """The same by a statement of the caller's, which may do more with them."""
    if not versions.job_ids:
        return set()
    columns = {
        "job_ids": text_array(versions.job_ids),
        "row_versions": _numbers(versions.row_versions),
        "modified": _numbers(versions.modified),
    }
    return {str(job_id) for (job_id,) in db.execute(statement, {**key, **columns}).fetchall()}


def _numbers(numbers: Iterable[int | None]) -> str:
    """As Postgres writes an array of them."""
    return "{" + ",".join(["NULL" if number is None else str(number) for number in numbers]) + "}"
