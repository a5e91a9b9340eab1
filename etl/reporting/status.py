"""How fresh and how complete the mirror is, from the views that BI tools read too; and whether it keeps its promise."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from etl.models import CLOCK_TOLERANCE
from etl.postgres.connection import Connection, Row, rows
from etl.reporting import refusals
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
WHERE %(source)s::text IS NULL OR f.source = %(source)s
ORDER BY f.source
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
SELECT
    source, lag_seconds, last_kind, last_outcome, went_back, open_rejects, oldest_reject_at_utc, is_complete,
    extract(epoch FROM timezone('UTC', now()) - oldest_reject_at_utc) AS oldest_reject_seconds
FROM bi.freshness
WHERE %(source)s::text IS NULL OR source = %(source)s
ORDER BY source
"""
_TOLD_OF_AN_ERROR = 200  # characters
_TOLD_EACH = 20  # sources; more are told as totals
_TOLD_OF_THE_LATE = 10

Status = dict[str, list[Row]]


class Health(NamedTuple):
    """What a check came to, over all sources that were asked about."""

    is_kept: bool
    message: str
    open_rejects: int = 0
    oldest_reject_at_utc: datetime | None = None
    is_complete: bool = False

    def as_value(self) -> Row:
        """Return it for JSON."""
        return {"ok": self.is_kept, **{name: value for name, value in self._asdict().items() if name != "is_kept"}}


def read(db: Connection, source: str | None = None) -> Status:
    """The sources with their freshness and what is held of them, and the last five runs, as rows by name.

    `refused` is a list of names; `last_requests` are those of the last sync that succeeded.
    """
    sources = [
        {**row, "refused": refusals.split_names(row["refused"])} for row in rows(db, _SOURCES, {"source": source})
    ]
    return {"sources": sources, "runs": rows(db, _RUNS, {"source": source})}


def check(db: Connection, max_lag: timedelta, source: str | None = None, max_rejects: int = 0) -> Health:
    """Check whether the mirror keeps its promise, and say so in a line, or what is wrong.

    The promise: every source is complete up to a known moment that is no more than `max_lag` ago, shows no older state
    than it did, and no more than `max_rejects` of its rows wait in etl.rejects. Rows that wait are missing rows.
    """
    sources = rows(db, _FRESHNESS, {"source": source})
    if not sources:
        missing = "nothing was synced yet" if source is None else f"nothing was synced yet of a source {source!r}"
        return Health(False, f"{missing}: run `aims360-etl sync`")
    broken = ["; ".join(problems) for row in sources if (problems := list(_find_problems(row, max_lag, max_rejects)))]
    dates = [row["oldest_reject_at_utc"] for row in sources]
    return Health(
        is_kept=not broken,
        message=_join_problems(broken) if broken else _describe_well(sources),
        open_rejects=sum(map(_count_rejects, sources)),
        oldest_reject_at_utc=min((date for date in dates if isinstance(date, datetime)), default=None),
        is_complete=all(bool(row["is_complete"]) for row in sources),
    )


def _find_problems(row: Row, max_lag: timedelta, max_rejects: int) -> Iterator[str]:
    """Find in what way a source breaks the promise."""
    lag, source = row["lag_seconds"], row["source"]
    ended = f" (its last run: {row['last_kind']}, {row['last_outcome']})"
    if lag is None:
        yield f"{source} is not complete yet{ended}"
    elif _is_ahead(lag):
        yield (
            f"{source}: complete_through is {span(-_lag(row))} in the future, so a clock was wrong and it is unknown "
            f"how complete the mirror is{ended}"
        )
    elif _lag(row) > max_lag.total_seconds():
        yield f"{source} is complete up to {span(lag)} ago only, more than {span(max_lag.total_seconds())}{ended}"
    elif row["went_back"]:
        yield f"{source} went back to an earlier state, which is not followed yet{ended}"
    if (number := _count_rejects(row)) > max_rejects:
        yield (
            f"{source}: {_count_rows(number)} could not be read, the oldest for {span(row['oldest_reject_seconds'])} "
            f"(tolerated: {max_rejects}); see etl.rejects; allow with --max-rejects"
        )


def _join_problems(broken: Sequence[str]) -> str:
    more = f"; and {len(broken) - _TOLD_OF_THE_LATE} more" if len(broken) > _TOLD_EACH else ""
    return "; ".join(broken[:_TOLD_OF_THE_LATE] if more else broken) + more


def _describe_well(sources: Sequence[Row]) -> str:
    told = sources if len(sources) <= _TOLD_EACH else [max(sources, key=_lag)]
    lags = ", ".join(f"{row['source']} is complete up to {span(row['lag_seconds'])} ago" for row in told)
    if len(told) < len(sources):
        lags = f"{len(sources)} sources are complete; furthest behind: {lags}"
    rejects = sum(map(_count_rejects, sources))
    return lags + (f"; {_count_rows(rejects)} could not be read (tolerated)" if rejects else "")


def _is_ahead(lag: object) -> bool:
    """Return whether complete_through lies so far in the future that it counts as unknown."""
    return lag is not None and float(str(lag)) < -CLOCK_TOLERANCE.total_seconds()


def _lag(row: Row) -> float:
    return float(str(row["lag_seconds"]))


def _count_rejects(row: Row) -> int:
    return int(str(row["open_rejects"]))


def _count_rows(number: int) -> str:
    return f"{number} row{'' if number == 1 else 's'}"


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
    late = [row for row in sources if row["lag_seconds"] is not None and not _is_ahead(row["lag_seconds"])]
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
        *_name_some("read in a dearer way, since the service refuses something", filter(_describe_reading, sources)),
        *_name_some("deletions can't be followed", (row for row in sources if not _can_follow_deletions(row))),
    ]


def _name_some(said: str, sources: Iterable[Row]) -> Iterator[str]:
    """Name the sources of which something is said, the first ones of many; nothing where there are none."""
    if names := [str(row["source"]) for row in sources]:
        more = f" and {len(names) - _TOLD_OF_THE_LATE} more" if len(names) > _TOLD_OF_THE_LATE else ""
        yield f"  {said}: {', '.join(names[:_TOLD_OF_THE_LATE])}{more}"


def _source(row: Row) -> Sequence[str]:
    through = row["complete_through_utc"]
    fresh = "not complete yet"
    if isinstance(through, datetime):
        ago = f"{span(row['lag_seconds'])} ago"
        if _is_ahead(row["lag_seconds"]):
            ago = f"{span(-_lag(row))} in the future, since a clock was wrong: it is unknown how complete the mirror is"
        fresh = f"complete through {utc(through)} ({ago})"
    held = f"{row['jobs']} jobs ({row['open']} open, {row['stuck']} stuck), {row['documents']} documents"
    waiting = f"{_describe_rejects(row)}, "
    halfway = ", a scan is half done" if row["scan_is_open"] else ""
    again, compared = _due(row["reread_due_at_utc"]), _due(row["reconcile_due_at_utc"])
    return [
        f"{row['source']}: {fresh}; {held}",
        f"  {waiting}last days read again {again}, all keys compared {compared}{halfway}",
        *([f"  it went back: {row['went_back']}"] if row["went_back"] else []),
        *([f"  {reading}"] if (reading := _describe_reading(row)) else []),
        *([] if _can_follow_deletions(row) else [f"  {refusals.NO_DELETIONS}"]),
    ]


def _describe_reading(row: Row) -> str:
    return refusals.describe_reading(
        str(row["paging"]), str(row["window_by"]), _list_refused(row), row["last_requests"]
    )


def _can_follow_deletions(row: Row) -> bool:
    return refusals.can_follow_deletions(_list_refused(row))


def _list_refused(row: Row) -> list[str]:
    refused = row["refused"]
    assert isinstance(refused, list)
    return refused


def _describe_rejects(row: Row) -> str:
    number, since = _count_rejects(row), row["oldest_reject_at_utc"]
    if not isinstance(since, datetime):
        return "no rejected rows"
    return f"{number} rejected row{'' if number == 1 else 's'}, the oldest since {utc(since)} (etl.rejects)"


def _due(time: object) -> str:
    """When a deep pass comes; without a date it is switched off, or nothing was read yet."""
    return f"after {utc(time)}" if isinstance(time, datetime) else "never, as set"


def _run(row: Row) -> str:
    counts = f"{row['inserted']} new, {row['updated']} changed, {row['unchanged']} the same, {row['purged']} purged"
    counts += f", {row['rejected']} rejected" if row["rejected"] else ""
    seconds = f", {float(str(row['seconds'])):.1f} s" if row["seconds"] is not None else ""
    error = str(row["error"] or "")
    error = f": {error[:_TOLD_OF_AN_ERROR]}{'…' if len(error) > _TOLD_OF_AN_ERROR else ''}" if error else ""
    when = moment(row["started_at_utc"]) if isinstance(row["started_at_utc"], datetime) else "at no known time"
    return f"  {row['run_id']} {row['source']} {row['kind']} {when} {row['outcome']}: {counts}{seconds}{error}"
