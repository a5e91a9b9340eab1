"""How fresh and how complete the mirror is, from the views that BI tools read too; and whether it keeps its promise."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from etl.postgres.connection import Connection, Row, rows
from etl.text import moment, span, utc

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
# Of millions of runs: the last five are of the five sources that ran last, and the ledger is led by the source.
_RUNS = """
SELECT r.*
FROM (
    SELECT source
    FROM bi.freshness
    WHERE last_run_id IS NOT NULL AND (%(source)s::text IS NULL OR source = %(source)s)
    ORDER BY last_run_id DESC
    LIMIT 5
) AS f
CROSS JOIN LATERAL (SELECT * FROM bi.runs WHERE source = f.source ORDER BY run_id DESC LIMIT 5) AS r
ORDER BY r.run_id DESC
LIMIT 5
"""
_FRESHNESS = """
SELECT source, lag_seconds, last_kind, last_outcome, went_back, open_rejects
FROM bi.freshness
WHERE %(source)s::text IS NULL OR source = %(source)s
ORDER BY source
"""
_TOLD_OF_AN_ERROR = 200  # characters
_TOLD_EACH = 20  # sources; more are told as totals
_TOLD_OF_THE_LATE = 10

Status = dict[str, list[Row]]


def read(db: Connection, source: str | None = None) -> Status:
    """The sources with their freshness and what is held of them, and the last five runs, as rows by name."""
    return {"sources": rows(db, _SOURCES, {"source": source}), "runs": rows(db, _RUNS, {"source": source})}


def check(db: Connection, most: timedelta, source: str | None = None) -> tuple[bool, str]:
    """Whether the mirror keeps its promise, and a line that says so, or what is wrong.

    It does where every source is complete up to a moment that is no more than `most` ago, and shows no older state than
    it did. Rows that can't be read don't break it, but are told.
    """
    sources = rows(db, _FRESHNESS, {"source": source})
    if not sources:
        missing = "nothing was synced yet" if source is None else f"nothing was synced yet of a source {source!r}"
        return False, f"{missing}: run `aims360-etl sync`"
    broken = [said for row in sources if (said := _broken(row, most))]
    if broken:
        more = f"; and {len(broken) - _TOLD_OF_THE_LATE} more" if len(broken) > _TOLD_EACH else ""
        return False, "; ".join(broken[:_TOLD_OF_THE_LATE] if more else broken) + more
    told = sources if len(sources) <= _TOLD_EACH else [max(sources, key=_lag)]
    lags = ", ".join(f"{row['source']} is complete up to {span(row['lag_seconds'])} ago" for row in told)
    if len(told) < len(sources):
        lags = f"{len(sources)} sources are complete; furthest behind: {lags}"
    rejects = sum(int(str(row["open_rejects"])) for row in sources)
    return True, lags + (f"; {rejects} rows wait in etl.rejects" if rejects else "")


def _lag(row: Row) -> float:
    return float(str(row["lag_seconds"]))


def _broken(row: Row, most: timedelta) -> str | None:
    lag = row["lag_seconds"]
    ended = f" (its last run: {row['last_kind']}, {row['last_outcome']})"
    if lag is None:
        return f"{row['source']} is not complete yet{ended}"
    if _lag(row) > most.total_seconds():
        return f"{row['source']} is complete up to {span(lag)} ago only, more than {span(most.total_seconds())}{ended}"
    if row["went_back"]:
        return f"{row['source']} went back to an earlier state, which is not followed yet{ended}"
    return None


def text(status: Status) -> str:
    """The status for people: two lines a source, or of many sources what they come to."""
    sources = status["sources"]
    if not sources:
        return "nothing was synced yet: run `aims360-etl sync`"
    lines = [line for row in sources for line in _source(row)] if len(sources) <= _TOLD_EACH else _totals(sources)
    lines.append("last runs (UTC):")
    lines += [_run(row) for row in status["runs"]]
    return "\n".join(lines)


def _totals(sources: Sequence[Row]) -> list[str]:
    """What many sources come to, and which are furthest behind; `--source` tells of one."""
    total = {name: sum(int(str(row[name])) for row in sources) for name in ("jobs", "open", "stuck", "open_rejects")}
    late = [row for row in sources if row["lag_seconds"] is not None]
    late.sort(key=_lag, reverse=True)
    failing = sum(bool(row["failures_in_a_row"]) for row in sources)
    back = sum(bool(row["went_back"]) for row in sources)
    worst = ", ".join(f"{row['source']} {span(row['lag_seconds'])}" for row in late[:_TOLD_OF_THE_LATE])
    complete = f"{len(late)} complete, {len(sources) - len(late)} not complete yet"
    failing_too = f"{failing} failing" + (f", {back} went back" if back else "")
    held = f"{total['jobs']} jobs ({total['open']} open, {total['stuck']} stuck), {total['open_rejects']} rejected rows"
    return [
        f"{len(sources)} sources: {complete}, {failing_too}; {held}",
        f"  furthest behind: {worst or 'none'}",
    ]


def _source(row: Row) -> Sequence[str]:
    through = row["complete_through_utc"]
    fresh = "not complete yet"
    if isinstance(through, datetime):
        fresh = f"complete through {utc(through)} ({span(row['lag_seconds'])} ago)"
    held = f"{row['jobs']} jobs ({row['open']} open, {row['stuck']} stuck), {row['documents']} documents"
    waiting = f"{row['open_rejects']} rejected rows, "
    halfway = ", a scan is half done" if row["scan_is_open"] else ""
    again, compared = _due(row["reread_due_at_utc"]), _due(row["reconcile_due_at_utc"])
    return [
        f"{row['source']}: {fresh}; {held}",
        f"  {waiting}last days read again {again}, all keys compared {compared}{halfway}",
        *([f"  it went back: {row['went_back']}"] if row["went_back"] else []),
    ]


def _due(time: object) -> str:
    """When a deep pass comes; without a date it is switched off, or nothing was read yet."""
    return f"after {utc(time)}" if isinstance(time, datetime) else "at no set time"


def _run(row: Row) -> str:
    counts = f"{row['inserted']} new, {row['updated']} changed, {row['unchanged']} the same, {row['purged']} purged"
    seconds = f", {row['seconds']} s" if row["seconds"] is not None else ""
    error = str(row["error"] or "")
    error = f": {error[:_TOLD_OF_AN_ERROR]}{'…' if len(error) > _TOLD_OF_AN_ERROR else ''}" if error else ""
    when = moment(row["started_at_utc"]) if isinstance(row["started_at_utc"], datetime) else "at no known time"
    return f"  {row['run_id']} {row['source']} {row['kind']} {when} {row['outcome']}: {counts}{seconds}{error}"
