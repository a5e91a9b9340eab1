"""The invariants of the mirror: what holds after any run, also one that failed or was killed, whatever the source does.

As the oracle it shares no code with the pipeline. It remembers what it saw, so that nothing can be forgotten unseen.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

Connection = psycopg.Connection[tuple[object, ...]]
_Version = tuple[object, ...]

# A source is counted from the end of its first scan on.
_TO_COUNT = """
SELECT (SELECT count(*) FROM aims360.purged_jobs) + (
    SELECT count(*) FROM aims360.jobs JOIN etl.sources USING (source_id) WHERE complete_through IS NOT NULL
)
"""
_KNOWN = "SELECT job_id FROM aims360.jobs UNION ALL SELECT job_id FROM aims360.purged_jobs"
_COUNTED = "SELECT coalesce(sum(jobs), 0)::bigint FROM bi.job_daily"
# Groups of purged_daily that don't say what its tombstones say.
_UNLIKE_TOTALS = """
WITH buried AS (
    SELECT source_id, day, account_code, category_name, sub_category_name, job_status,
           count(*) AS jobs, sum(attempts) AS attempts, sum(documents) AS documents,
           count(queued_seconds) AS queued_count, coalesce(sum(queued_seconds), 0) AS queued_seconds,
           count(run_seconds) AS run_count, coalesce(sum(run_seconds), 0) AS run_seconds,
           sum((queued_seconds <= 1)::int) AS queued_le_1, sum((queued_seconds <= 86400)::int) AS queued_le_86400,
           sum((run_seconds <= 60)::int) AS run_le_60, sum((run_seconds <= 3600)::int) AS run_le_3600
    FROM aims360.purged_jobs
    GROUP BY source_id, day, account_code, category_name, sub_category_name, job_status
),
wanted AS (
    SELECT source_id, day, account_code, category_name, sub_category_name, job_status, jobs, attempts, documents,
           queued_count, queued_seconds, run_count, run_seconds,
           coalesce(queued_le_1, 0), coalesce(queued_le_86400, 0), coalesce(run_le_60, 0), coalesce(run_le_3600, 0)
    FROM buried
),
found AS (
    SELECT source_id, day, account_code, category_name, sub_category_name, job_status, jobs, attempts, documents,
           queued_count, queued_seconds, run_count, run_seconds, queued_le_1, queued_le_86400, run_le_60, run_le_3600
    FROM aims360.purged_daily
)
(TABLE wanted EXCEPT ALL TABLE found) UNION ALL (TABLE found EXCEPT ALL TABLE wanted)
"""
# Groups of live_daily that don't say what the jobs in the mirror say.
_UNLIKE_JOBS = """
WITH times AS (
    SELECT
        source_id,
        CASE WHEN created_date >= '9999-12-31' THEN '9999-12-31'
             WHEN created_date < '0001-01-02' THEN greatest((created_date AT TIME ZONE s.time_zone)::date, '0001-01-01')
             ELSE (created_date AT TIME ZONE s.time_zone)::date END AS day,
        account_code, category_name, sub_category_name, job_status, documents,
        coalesce(number_of_attempts, reruns_seen) AS attempts,
        CASE WHEN coalesce(number_of_attempts, reruns_seen) = 0 AND start_date >= created_date
             THEN start_date - created_date END AS queued,
        CASE WHEN completed_date >= start_date THEN completed_date - start_date END AS run
    FROM aims360.jobs JOIN etl.sources AS s USING (source_id)
    WHERE s.complete_through IS NOT NULL
),
wanted AS (
    SELECT source_id, day, coalesce(account_code, ''), coalesce(category_name, ''), coalesce(sub_category_name, ''),
           coalesce(job_status, ''), count(*), sum(attempts), sum(documents),
           count(queued), coalesce(extract(epoch FROM sum(queued)), 0), count(run),
           coalesce(extract(epoch FROM sum(run)), 0),
           coalesce(sum((queued <= '1 second')::int), 0), coalesce(sum((queued <= '1 day')::int), 0),
           coalesce(sum((run <= '1 minute')::int), 0), coalesce(sum((run <= '1 hour')::int), 0)
    FROM times
    GROUP BY 1, 2, 3, 4, 5, 6
),
found AS (
    SELECT source_id, day, coalesce(account_code, ''), coalesce(category_name, ''), coalesce(sub_category_name, ''),
           coalesce(job_status, ''), jobs, attempts, documents,
           queued_count, queued_seconds, run_count, run_seconds, queued_le_1, queued_le_86400, run_le_60, run_le_3600
    FROM aims360.live_daily
    WHERE jobs <> 0 OR attempts <> 0 OR documents <> 0 OR queued_seconds <> 0 OR run_seconds <> 0 OR run_count <> 0
)
(TABLE wanted EXCEPT ALL TABLE found) UNION ALL (TABLE found EXCEPT ALL TABLE wanted)
"""
_WRONG_COUNTS = """
SELECT j.job_id
FROM aims360.jobs AS j
WHERE j.documents <> (
    SELECT count(*) FROM aims360.job_documents AS d WHERE d.source_id = j.source_id AND d.job_id = j.job_id
)
"""
_STRAY_DOCUMENTS = """
SELECT d.job_id FROM aims360.job_documents AS d
WHERE NOT EXISTS (SELECT FROM aims360.jobs AS j WHERE j.source_id = d.source_id AND j.job_id = d.job_id)
"""
_HISTORY = """
SELECT job_id, history_id, job_status, percent_completed, number_of_attempts, modified_date, row_version, seen_at
FROM aims360.job_status_history
ORDER BY job_id, history_id
"""
_VERSIONS = """
SELECT job_id, job_status, percent_completed, number_of_attempts, modified_date, row_version FROM aims360.jobs
"""
_RETURNED = "SELECT coalesce(sum(returned), 0)::bigint FROM etl.runs"


class Laws:
    """What was seen of a mirror so far."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._history: dict[str, list[_Version]] = {}
        self._returned = 0

    def broken(self, db: Connection) -> list[str]:
        """Sentences on the laws that don't hold now; empty when all do."""
        known = [str(row[0]) for row in db.execute(_KNOWN).fetchall()]
        found = [*self._totals(db, known), *self._forgotten(known), *self._of_history(db)]
        found += [f"{row[0]}: a document without its job" for row in db.execute(_STRAY_DOCUMENTS).fetchall()]
        found += [f"{row[0]}: another number of documents" for row in db.execute(_WRONG_COUNTS).fetchall()]
        return found

    def _totals(self, db: Connection, known: Sequence[str]) -> Iterator[str]:
        [[counted]] = db.execute(_COUNTED).fetchall()
        [[jobs]] = db.execute(_TO_COUNT).fetchall()
        if counted != jobs:
            yield f"bi.job_daily counts {counted} jobs, where {jobs} are in the mirror or were purged"
        if len(set(known)) != len(known):
            yield f"{len(known) - len(set(known))} jobs are in the mirror and purged at the same time"
        yield from (f"purged_daily and its tombstones differ: {row}" for row in db.execute(_UNLIKE_TOTALS).fetchall())
        yield from (f"live_daily and the jobs differ: {row}" for row in db.execute(_UNLIKE_JOBS).fetchall())

    def _forgotten(self, known: Sequence[str]) -> Iterator[str]:
        yield from (f"{job_id} was forgotten: neither job nor tombstone" for job_id in self._seen.difference(known))
        self._seen.update(known)

    def _of_history(self, db: Connection) -> Iterator[str]:
        history: dict[str, list[_Version]] = defaultdict(list)
        for row in db.execute(_HISTORY).fetchall():
            history[str(row[0])].append(row[1:])
        versions: dict[str, _Version] = {
            str(job_id): tuple(version) for job_id, *version in db.execute(_VERSIONS).fetchall()
        }
        [[returned]] = db.execute(_RETURNED).fetchall()
        came_back = returned != self._returned
        for job_id, version in versions.items():
            yield from _of_a_job(job_id, version, history[job_id])
            before = self._history.get(job_id, [])
            # A version stays; a value of it that couldn't be read at first may come later.
            kept = len(set(map(_of_version, before)).intersection(map(_of_version, history[job_id])))
            # A job that went and came back begins its history anew.
            if kept < len(before) and not (kept == 0 and came_back):
                yield f"{job_id}: {len(before) - kept} rows of its history vanished"
        self._history = {job_id: history[job_id] for job_id in versions}
        self._returned = int(str(returned))


def _of_version(row: _Version) -> _Version:
    history_id, *_, row_version, seen_at = row
    return (history_id, row_version, seen_at)


def _of_a_job(job_id: str, version: _Version, history: Sequence[_Version]) -> Iterator[str]:
    if not history or history[-1][1:-1] != version:
        yield f"{job_id}: the end of its history is {history[-1:]}, not its version {version}"
    times: list[Any] = [row[-1] for row in history]
    if times != sorted(times):
        yield f"{job_id}: seen_at doesn't ascend in its history: {times}"
