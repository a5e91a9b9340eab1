"""How fresh and how complete the mirror is, from the views that BI tools read too."""

from datetime import UTC, datetime

from etl.database import Connection

_SOURCES = """
SELECT f.*, coalesce(j.jobs, 0) AS jobs, coalesce(j.open, 0) AS open, coalesce(d.documents, 0) AS documents
FROM bi.freshness AS f
LEFT JOIN (
    SELECT source, count(*) AS jobs, count(*) FILTER (WHERE is_open) AS open FROM bi.jobs GROUP BY source
) AS j USING (source)
LEFT JOIN (SELECT source, count(*) AS documents FROM bi.job_documents GROUP BY source) AS d USING (source)
ORDER BY source
"""
_RUNS = "SELECT * FROM bi.runs ORDER BY run_id DESC LIMIT 5"

Row = dict[str, object]
Status = dict[str, list[Row]]


def read(db: Connection) -> Status:
    """The sources with their freshness and what is held of them, and the last five runs, as rows by name."""
    return {"sources": _rows(db, _SOURCES), "runs": _rows(db, _RUNS)}


def text(status: Status) -> str:
    """The status for people."""
    if not status["sources"]:
        return "nothing was synced yet: run `aims360-etl sync`"
    lines = [_source(row) for row in status["sources"]]
    lines.append("last runs:")
    lines += [_run(row) for row in status["runs"]]
    return "\n".join(lines)


def _source(row: Row) -> str:
    through = row["complete_through_utc"]
    fresh = (
        f"complete through {through:%Y-%m-%d %H:%M:%S} UTC ({row['lag_seconds']} s ago)"
        if through
        else "not yet complete"
    )
    held = f"{row['jobs']} jobs ({row['open']} open), {row['documents']} documents"
    waiting = f", {row['open_rejects']} rejected rows" if row["open_rejects"] else ""
    halfway = ", a scan is half done" if row["scan_is_open"] else ""
    return f"{row['source']}: {fresh}; {held}{waiting}{halfway}"


def _run(row: Row) -> str:
    counts = f"{row['inserted']} new, {row['updated']} changed, {row['unchanged']} the same, {row['purged']} purged"
    seconds = f", {row['seconds']} s" if row["seconds"] is not None else ""
    error = f": {row['error']}" if row["error"] else ""
    when = f"{row['started_at_utc']:%Y-%m-%d %H:%M:%S}"
    return f"  {row['run_id']} {row['source']} {row['kind']} {when} {row['outcome']}: {counts}{seconds}{error}"


def _rows(db: Connection, statement: str) -> list[Row]:
    cursor = db.execute(statement)
    names = [column.name for column in cursor.description or ()]
    return [{name: _zoned(value) for name, value in zip(names, row, strict=True)} for row in cursor.fetchall()]


def _zoned(value: object) -> object:
    """The views' times are UTC without a zone, for BI tools; a script wants to be told."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
