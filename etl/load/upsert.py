"""A batch goes into Postgres: it is decided which rows are new, changed or the same, and what differs is written.

All of it happens in the caller's transaction, together with the cursor that covers the rows. One writer per source
(`etl/pipeline/run_context.py` holds the lock) makes "read the versions, then write" safe.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace
from psycopg import sql

from etl.client.odata import Stamp, find_date, stamp, version_of
from etl.load import copy_writer, unread_values
from etl.load.merge_policy import BEGINNING, Choice, Rules, Stored, Tombstone, choose
from etl.load.tombstones import unearth
from etl.models import Batch, Counts, DocumentRow, Encoded, Job, JobRow
from etl.postgres.connection import Connection, compose, text_array
from etl.postgres.daily_aggregates import recount, told

# One question a batch: the versions that are here, and the tombstones of what was.
_KNOWN = """
SELECT job_id, row_version, modified_date, purge_date_time, purged_at, NULL AS reason, NULL AS property, NULL AS form
FROM aims360.jobs
WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
UNION ALL
SELECT job_id, row_version, NULL, purge_date_time, purged_at, reason, NULL, NULL
FROM aims360.purged_jobs
WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
"""
_UNREAD = "unread"  # in the place of a tombstone's reason
_ARE_UNREAD = """
SELECT job_id, NULL::bigint, NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, 'unread', property, form
FROM etl.unread_values
WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[]) AND NOT settled
"""
_KNOWN_OR_UNREAD = f"{_KNOWN} UNION ALL {_ARE_UNREAD}"
_REJECTED = "SELECT job_id, raw FROM etl.rejects WHERE source_id = %s AND job_id = ANY(%s::text[])"
_JSON = ("response_json", "extra")


def _as_text(names: tuple[str, ...]) -> sql.Composed:
    """Columns to read back, jsonb as its text."""
    return sql.SQL(", ").join(sql.SQL("{}::text" if n in _JSON else "{}").format(sql.Identifier(n)) for n in names)


_STORED_JOBS = compose(
    "SELECT {columns} FROM aims360.jobs WHERE source_id = %s AND job_id = ANY(%s::text[])",
    columns=_as_text(JobRow._fields),
)
_STORED_DOCUMENTS = compose(
    """
SELECT job_id, available_until, account_code, {columns}
FROM aims360.job_documents
WHERE source_id = %s AND job_id = ANY(%s::text[])
ORDER BY job_id, position
""",
    columns=_as_text(DocumentRow._fields),
)


def encoded_ahead(
    db: Connection, source_id: int, batch: Batch, seen_at: datetime, not_seen_before: datetime | None
) -> Batch:
    """The batch with its jobs as they are sent if all of them are new. Another thread may do this ahead of `load`."""
    return replace(batch, encoded=(copy_writer.encode(db, source_id, batch.jobs, seen_at, not_seen_before),))


def load(db: Connection, source_id: int, batch: Batch, rules: Rules) -> Counts:
    """Brings the mirror to the batch's versions, inside the transaction that is open on `db`."""
    choices, unversioned = _choices(db, source_id, batch.jobs, rules)
    back = _keys(choices[Choice.BACK])
    if back:
        unearth(db, source_id, back)
    inserted = [*choices[Choice.NEW], *choices[Choice.BACK]]
    changed = choices[Choice.NEWER]
    rewritten = [*choices[Choice.AGAIN], *(choices[Choice.SAME] if rules.rewrite else [])]
    updated = [*changed, *rewritten]
    is_counted = rules.not_seen_before is not None  # from the end of the first scan on
    before = told(db, source_id, _keys(updated)) if updated and is_counted else "[]"
    if inserted:
        copy_writer.insert(db, _for_copy(db, source_id, batch, inserted, rules))
    if updated:
        _update(db, source_id, changed, rewritten, rules)
    if changed:
        copy_writer.record(db, source_id, changed, rules.seen_at, rules.not_seen_before)
    if (inserted or updated) and is_counted:
        recount(db, source_id, _keys([*inserted, *updated]), before)
    unread_values.remember(db, source_id, [*inserted, *updated], rules.seen_at, may_be_marked=rules.has_marks)
    return Counts(
        inserted=len(inserted),
        updated=len(updated),
        unchanged=batch.same + (0 if rules.rewrite else len(choices[Choice.SAME])),
        refused=len(choices[Choice.OLDER]),
        skipped=len(choices[Choice.GONE]),
        returned=len(back),
        rejected=len(batch.rejects),
        duplicates=batch.duplicates,
        unversioned=unversioned,
        replaced_characters=batch.replaced_characters,
        missing=(missing := _count_beyond(inserted, rules)),
        stale=(stale := _count_beyond(changed, rules)),
        repaired=missing + stale,
    )


def _for_copy(db: Connection, source_id: int, batch: Batch, inserted: Sequence[Job], rules: Rules) -> Sequence[Encoded]:
    """As they were encoded ahead, where that was done and all of them are inserted."""
    if sum(some.count for some in batch.encoded) == len(batch.jobs) == len(inserted):
        return batch.encoded
    return [copy_writer.encode(db, source_id, inserted, rules.seen_at, rules.not_seen_before)]


class Compared(NamedTuple):
    """What the mirror lacks of some versions; and whether it has some without a value, which may be read now."""

    lacks: Counts
    is_marked: bool


def compare(db: Connection, source_id: int, jobs: Sequence[Job], rules: Rules) -> Compared:
    """What of these versions the mirror lacks, beyond what an increment brings; nothing is written.

    What can't be read waits in `etl.rejects`, and is neither missing nor stale.
    """
    if not jobs:
        return Compared(Counts(), is_marked=False)
    choices, _ = _choices(db, source_id, jobs, rules)
    kept = db.execute(_REJECTED, (source_id, text_array(job.row.job_id for job in jobs))).fetchall()
    rejected = {str(job_id): stamp(str(raw).encode()) for job_id, raw in kept}
    waiting = {job.row.job_id for job in jobs if _is_version(rejected.get(job.row.job_id), job.row)}

    def count(*kinds: Choice) -> int:
        found = [job for kind in kinds for job in choices.get(kind, []) if job.row.job_id not in waiting]
        return _count_beyond(found, rules)

    lacks = Counts(missing=count(Choice.NEW, Choice.BACK), stale=count(Choice.NEWER))
    return Compared(lacks, is_marked=bool(choices[Choice.AGAIN]))


def _is_version(known: Stamp | None, row: JobRow) -> bool:
    """Whether a reject is of the version that the source shows; of an older one, it may have been mended since.

    Where its rowversion can't be read, as in a row that is no JSON, its date tells.
    """
    if known is None:
        return False
    return find_date(known.modifiedDate) == row.modified_date and version_of(known) in (None, row.row_version)


def _count_beyond(jobs: Sequence[Job], rules: Rules) -> int:
    if rules.beyond is None:
        return 0
    return sum((job.row.modified_date or BEGINNING) < rules.beyond for job in jobs)


def _choices(
    db: Connection, source_id: int, jobs: Sequence[Job], rules: Rules
) -> tuple[defaultdict[Choice, list[Job]], int]:
    """What is done with each job, and how many were judged without a rowversion on one side."""
    stored, tombstones = _known(db, source_id, _keys(jobs), rules)
    if not stored and not tombstones:  # a backfill's page: `choose` would say so of each
        return defaultdict(list, {Choice.NEW: list(jobs)}), 0
    choices: defaultdict[Choice, list[Job]] = defaultdict(list)
    unversioned = 0
    for job in jobs:
        key = job.row.job_id
        known = stored.get(key)
        if known is not None and known.unread == frozenset(job.unread):  # no news
            known = stored[key] = known._replace(unread=None)
        unversioned += known is not None and None in (job.row.row_version, known.row_version)
        choices[choose(job.row, known, tombstones.get(key), rules)].append(job)
    for job, is_same in _compared(db, source_id, choices.pop(Choice.COMPARE, [])):
        known = stored[job.row.job_id]
        if is_same and known.unread:  # which is to be noted, and no rowversion to be lost by it
            row = job.row._replace(row_version=job.row.row_version or known.row_version)
            choices[Choice.AGAIN].append(replace(job, row=row))
        else:
            choices[Choice.SAME if is_same else Choice.NEWER].append(job)
    return choices, unversioned


def _keys(jobs: Iterable[Job]) -> list[str]:
    return [job.row.job_id for job in jobs]


def _known(
    db: Connection, source_id: int, keys: Sequence[str], rules: Rules
) -> tuple[dict[str, Stored], Mapping[str, Tombstone]]:
    """What the mirror has of these jobs, and of those that it had."""
    stored: dict[str, Stored] = {}
    tombstones: dict[str, Tombstone] = {}
    unread: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    if keys:
        given = {"source_id": source_id, "job_ids": text_array(keys)}
        statement = _KNOWN_OR_UNREAD if rules.has_unread else _KNOWN
        rows = db.execute(statement, given, binary=True).fetchall()
        for key, *version, purge_date, purged_at, reason, name, form in rows:
            if reason is None:
                stored[str(key)] = Stored._make((*version, purge_date, purged_at, None))
            elif reason == _UNREAD:
                unread[str(key)].add((str(name), str(form)))
            else:
                tombstones[str(key)] = Tombstone._make((reason, purge_date))
    marked = unread.keys() & stored.keys()
    stored.update({key: stored[key]._replace(unread=frozenset(unread[key])) for key in marked})
    return stored, tombstones


def _compared(db: Connection, source_id: int, jobs: Sequence[Job]) -> Iterable[tuple[Job, bool]]:
    """Each job with whether the mirror holds the same contents. A rowversion that is no longer shown is no change."""
    if not jobs:
        return
    keys = _keys(jobs)
    rows = db.execute(_STORED_JOBS, (source_id, text_array(keys))).fetchall()
    stored = {str(row[0]): JobRow._make(row) for row in rows}
    documents = _documents(db, source_id, keys)
    for job in jobs:
        known = stored[job.row.job_id]
        row = job.row if job.row.row_version is not None else job.row._replace(row_version=known.row_version)
        yield job, _comparable(row) == _comparable(known) and _same_documents(job, documents)


class _Document(NamedTuple):
    """A document as it is stored: its row, and what of its job stands there too."""

    available_until: datetime | None
    account_code: str | None
    row: DocumentRow


def _documents(db: Connection, source_id: int, keys: Sequence[str]) -> Mapping[str, list[_Document]]:
    documents: dict[str, list[_Document]] = defaultdict(list)
    rows = db.execute(_STORED_DOCUMENTS, (source_id, text_array(keys)))
    for job_id, until, account_code, *columns in rows:
        documents[str(job_id)].append(_Document._make((until, account_code, DocumentRow._make(columns))))
    return documents


def _same_documents(job: Job, stored: Mapping[str, list[_Document]]) -> bool:
    def comparable(document: _Document) -> tuple[object, ...]:
        return (*document[:2], *_comparable(document.row))

    wanted = [_Document(copy_writer.available_until(job.row, row), job.row.account_code, row) for row in job.documents]
    return list(map(comparable, wanted)) == list(map(comparable, stored.get(job.row.job_id, [])))


def _comparable(row: JobRow | DocumentRow) -> tuple[object, ...]:
    """A row's values with its JSON as values: jsonb spells the same JSON, and numbers in it, in its own way."""
    fields = zip(row._fields, row, strict=True)
    return tuple(
        json.loads(value, parse_int=float) if name in _JSON and isinstance(value, str) else value
        for name, value in fields
    )


def _update(db: Connection, source_id: int, changed: Sequence[Job], rewritten: Sequence[Job], rules: Rules) -> None:
    """Rows that changed, and those that are the same and written anew; their documents only where these differ."""
    copy_writer.update(db, source_id, changed, rules.seen_at)
    copy_writer.update(db, source_id, rewritten, rules.seen_at, is_same_version=True)
    jobs = [*changed, *rewritten]
    stored = _documents(db, source_id, _keys(jobs))
    copy_writer.replace_documents(db, source_id, [job for job in jobs if not _same_documents(job, stored)])
