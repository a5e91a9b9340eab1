"""How fresh and how complete the mirror is, from the views that BI tools read too; and whether it keeps its promise."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from etl.database import Connection

_SOURCES = """
SELECT f.*, coalesce(j.jobs, 0) AS jobs, coalesce(j.open, 0) AS open, coalesce(j.stuck, 0) AS stuck,
    coalesce(d.documents, 0) AS documents
FROM bi.freshness AS f
LEFT JOIN (
    SELECT
        source,
        count(*) AS jobs,
        count(*) FILTER (WHERE is_open) AS open,
        count(*) FILTER (WHERE is_stuck) AS stuck
    FROM bi.jobs
    GROUP BY source
) AS j USING (source)
LEFT JOIN (SELECT source, count(*) AS documents FROM bi.job_documents GROUP BY source) AS d USING (source)
WHERE %(source)s::text IS NULL OR source = %(source)s
ORDER BY source
"""
_RUNS = """
SELECT * FROM bi.runs WHERE %(source)s::text IS NULL OR source = %(source)s ORDER BY run_id DESC LIMIT 5
"""
_FRESHNESS = """
SELECT source, lag_seconds, last_kind, last_outcome, went_back, open_rejects
FROM bi.freshness
WHERE %(source)s::text IS NULL OR source = %(source)s
ORDER BY source
"""
_TOLD_OF_AN_ERROR = 200  # characters

Row = dict[str, object]
Status = dict[str, list[Row]]


def read(db: Connection, source: str | None = None) -> Status:
    """The sources with their freshness and what is held of them, and the last five runs, as rows by name."""
    return {"sources": _rows(db, _SOURCES, source), "runs": _rows(db, _RUNS, source)}


def check(db: Connection, most: timedelta, source: str | None = None) -> tuple[bool, str]:
    """Whether the mirror keeps its promise, and a line that says so, or what is wrong.

    It does where every source is complete up to a moment that is no more than `most` ago, and shows no older state than
    it did. Rows that can't be read don't break it, but are told.
    """
    sources = _rows(db, _FRESHNESS, source)
    if not sources:
        missing = "nothing was synced yet" if source is None else f"nothing was synced yet of a source {source!r}"
        return False, f"{missing}: run `aims360-etl sync`"
    broken = [said for row in sources if (said := _broken(row, most))]
    if broken:
        return False, "; ".join(broken)
    lags = ", ".join(f"{row['source']} is complete up to {ago(row['lag_seconds'])} ago" for row in sources)
    rejects = sum(int(str(row["open_rejects"])) for row in sources)
    return True, lags + (f"; {rejects} rows wait in etl.rejects" if rejects else "")


def _broken(row: Row, most: timedelta) -> str | None:
    lag = row["lag_seconds"]
    ended = f" (its last run: {row['last_kind']}, {row['last_outcome']})"
    if lag is None:
        return f"{row['source']} is not complete yet{ended}"
    if float(str(lag)) > most.total_seconds():
        return f"{row['source']} is complete up to {ago(lag)} ago only, more than {ago(most.total_seconds())}{ended}"
    if row["went_back"]:
        return f"{row['source']} went back to an earlier state, which is not followed yet{ended}"
    return None


def text(status: Status) -> str:
    """The status for people."""
    if not status["sources"]:
        return "nothing was synced yet: run `aims360-etl sync`"
    lines = [line for row in status["sources"] for line in _source(row)]
    lines.append("last runs (UTC):")
    lines += [_run(row) for row in status["runs"]]
    return "\n".join(lines)


def ago(seconds: object) -> str:
    """A length of time for people, in its two largest units: `2 min 5 s`, `3 d 4 h`."""
    left = max(0, round(float(str(seconds))))
    parts = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        number, left = divmod(left, length)
        parts.append((number, unit))
    first = next((place for place, (number, _) in enumerate(parts) if number), len(parts) - 1)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number) or "0 s"


def _source(row: Row) -> Sequence[str]:
    through = row["complete_through_utc"]
    fresh = (
        f"complete through {_moment(through)} UTC ({ago(row['lag_seconds'])} ago)" if through else "not complete yet"
    )
    held = f"{row['jobs']} jobs ({row['open']} open, {row['stuck']} stuck), {row['documents']} documents"
    waiting = f"{row['open_rejects']} rejected rows, "
    halfway = ", a scan is half done" if row["scan_is_open"] else ""
    again, compared = _due(row["reread_due_at_utc"]), _due(row["reconcile_due_at_utc"])
    return [
        f"{row['source']}: {fresh}; {held}",
        f"  {waiting}last days read again {again}, all keys compared {compared}{halfway}",
        *([f"  it went back: {row['went_back']}"] if row["went_back"] else []),
    ]


def _due(moment: object) -> str:
    """When a deep pass comes; without a date it is switched off, or nothing was read yet."""
    return f"after {_moment(moment)} UTC" if moment else "at no set time"


def _moment(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _run(row: Row) -> str:
    counts = f"{row['inserted']} new, {row['updated']} changed, {row['unchanged']} the same, {row['purged']} purged"
    seconds = f", {row['seconds']} s" if row["seconds"] is not None else ""
    error = str(row["error"] or "")
    error = f": {error[:_TOLD_OF_AN_ERROR]}{'…' if len(error) > _TOLD_OF_AN_ERROR else ''}" if error else ""
    when = _moment(row["started_at_utc"])
    return f"  {row['run_id']} {row['source']} {row['kind']} {when} {row['outcome']}: {counts}{seconds}{error}"


def _rows(db: Connection, statement: str, source: str | None) -> list[Row]:
    cursor = db.execute(statement, {"source": source})
    names = [column.name for column in cursor.description or ()]
    return [{name: _zoned(value) for name, value in zip(names, row, strict=True)} for row in cursor.fetchall()]


def _zoned(value: object) -> object:
    """The views' times are UTC without a zone, for BI tools; a script wants to be told."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
