"""How fresh and how complete the mirror is, from the views that BI tools read too."""

from etl.database import Connection

_FRESHNESS = "SELECT * FROM bi.freshness ORDER BY source"
_RUNS = "SELECT * FROM bi.runs ORDER BY run_id DESC LIMIT 5"
_JOBS = """
SELECT source, count(*) AS jobs, count(*) FILTER (WHERE is_open) AS open, sum(documents) AS documents
FROM bi.jobs
GROUP BY source
"""

Row = dict[str, object]
Status = dict[str, list[Row]]


def read(db: Connection) -> Status:
    """The sources with their freshness and their jobs, and the last five runs, as rows by name."""
    sources, jobs = _rows(db, _FRESHNESS), {row["source"]: row for row in _rows(db, _JOBS)}
    empty: Row = {"jobs": 0, "open": 0, "documents": 0}
    return {"sources": [{**row, **jobs.get(row["source"], empty)} for row in sources], "runs": _rows(db, _RUNS)}


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
    held = f"{row['jobs']} jobs ({row['open']} open), {row['documents'] or 0} documents"
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
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
