"""What a careful person would write by hand, with the keys at hand: jobs deleted, and jobs brought to new versions."""

import json
from collections.abc import Sequence

from psycopg import sql

from tests.bench.floors import columns, connect
from tests.bench.measure import timed

PURGED = "2001-01-01"  # a purge date long before any watermark

# The keys stay in Postgres: nothing is quicker, and the bench must stay small (`measure.run`).
_DUE = sql.SQL("""
CREATE TEMPORARY TABLE due AS
SELECT place / {batch} AS part, array_agg(job_id ORDER BY place) AS job_ids
FROM (
    SELECT job_id, row_number() OVER (ORDER BY purge_date_time, job_id) - 1 AS place
    FROM aims360.jobs
    WHERE purge_date_time <= {purged}
) AS ordered
GROUP BY part
""")
MAKE_DUE = "UPDATE aims360.jobs SET purge_date_time = %s WHERE id %% 3 = 0"
_DELETE = sql.SQL("""
DELETE FROM aims360.{table} WHERE source_id = 1 AND job_id = ANY((SELECT job_ids FROM due WHERE part = {part})::text[])
""")
_TABLES = ("job_documents", "job_status_history", "jobs")
_LAST_SEEN = "SELECT coalesce(max(history_id), 0) FROM aims360.job_status_history"
_CHANGED = sql.SQL("""
SELECT coalesce(jsonb_agg(to_jsonb(t)), '[]')::text
FROM aims360.{table} AS t
WHERE (source_id, job_id) IN (SELECT source_id, job_id FROM aims360.job_status_history WHERE history_id > {after})
""")
_NEW_HISTORY = """
SELECT coalesce(jsonb_agg(to_jsonb(t)), '[]')::text
FROM aims360.job_status_history AS t
WHERE history_id > %s
"""
_NEW = sql.SQL("jsonb_populate_recordset(NULL::aims360.{table}, %s::jsonb) AS new")
_UPDATE_JOBS = sql.SQL("""
UPDATE aims360.jobs AS old SET {values}
FROM {rows}
WHERE old.source_id = new.source_id AND old.job_id = new.job_id
""")
_UPDATE_DOCUMENTS = sql.SQL("""
UPDATE aims360.job_documents AS old SET {values}
FROM {rows}
WHERE old.source_id = new.source_id AND old.job_id = new.job_id AND old.position = new.position
""")
_INSERT_HISTORY = sql.SQL("INSERT INTO aims360.job_status_history ({names}) SELECT {names} FROM {rows}")


def make_due(url: str) -> int:
    """A third of a mirror's jobs is due to be purged: how many."""
    with connect(url) as db:
        return db.execute(MAKE_DUE, (PURGED,)).rowcount


def delete_due(url: str, batch: int) -> float:
    """Seconds that it takes to delete them, in transactions of so many."""
    with connect(url) as db:
        parts = db.execute(_DUE.format(batch=batch, purged=PURGED)).rowcount
        db.commit()

        def work() -> None:
            for part in range(parts):
                with db.transaction():
                    for table in _TABLES:
                        db.execute(_DELETE.format(table=sql.Identifier(table), part=part))

        return timed(work)


def last_seen(url: str) -> int:
    """The newest line of a mirror's history."""
    with connect(url) as db:
        row = db.execute(_LAST_SEEN).fetchone()
        return int(str(row[0])) if row else 0


def changed(url: str, after: int) -> dict[str, str]:
    """The jobs whose history has newer lines than this one, with their documents: rows as JSON, by table.

    Of the history itself only the new lines.
    """
    with connect(url) as db:
        found = {table: _rows(db.execute(_changed(table, after)).fetchone()) for table in ("jobs", "job_documents")}
        return {**found, "job_status_history": _rows(db.execute(_NEW_HISTORY, (after,)).fetchone())}


def update(url: str, rows: dict[str, str]) -> float:
    """Seconds that it takes to bring a mirror to these versions, in one transaction."""
    with connect(url) as db:
        names = {table: columns(db, table) for table in rows}
        db.commit()
        jobs = _statement(_UPDATE_JOBS, "jobs", names["jobs"])
        documents = _statement(_UPDATE_DOCUMENTS, "job_documents", names["job_documents"])
        history = _statement(_INSERT_HISTORY, "job_status_history", names["job_status_history"])

        def work() -> None:
            with db.transaction():
                brought = db.execute(jobs, (rows["jobs"],)).rowcount
                if brought != len(json.loads(rows["jobs"])):
                    raise RuntimeError(f"only {brought} of the changed jobs are in the twin")
                db.execute(documents, (rows["job_documents"],))
                db.execute(history, (rows["job_status_history"],))

        return timed(work)


def _changed(table: str, after: int) -> sql.Composed:
    return _CHANGED.format(table=sql.Identifier(table), after=after)


def _rows(row: tuple[object, ...] | None) -> str:
    assert row is not None
    return str(row[0])


def _statement(template: sql.SQL, table: str, names: Sequence[str]) -> sql.Composed:
    values = sql.SQL(", ").join(
        sql.SQL("{0} = new.{0}").format(sql.Identifier(name)) for name in names if name not in ("source_id", "job_id")
    )
    listed = sql.SQL(", ").join(map(sql.Identifier, names))
    return template.format(values=values, names=listed, rows=_NEW.format(table=sql.Identifier(table)))
