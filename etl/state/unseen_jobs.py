"""Jobs of the mirror that the last comparison of all keys didn't show (`etl.unseen_jobs`), and since when.

Needed where the source counts no rows: there a job is gone only if two comparisons lacked it, a look-back apart
(docs/correctness.md, "What no watermark can tell").
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from etl.client import odata
from etl.postgres.connection import Connection, text_array

_DROP_SEEN = "DELETE FROM etl.unseen_jobs WHERE source_id = %s AND job_id <> ALL(%s::text[])"
_REMEMBER = """
INSERT INTO etl.unseen_jobs (source_id, job_id, unseen_since)
SELECT %s, job_id, %s
FROM unnest(%s::text[]) AS job_id
ON CONFLICT DO NOTHING
"""
_FIND = """
SELECT job_id
FROM etl.unseen_jobs
WHERE source_id = %s AND unseen_since <= %s AND job_id = ANY(%s::text[])
"""


def find_unseen_before(
    db: Connection, source_id: int, job_ids: Sequence[str], as_of: datetime, look_back: timedelta
) -> set[str]:
    """Return which of these jobs another comparison lacked too, opened a look-back before this one, or earlier."""
    rows = db.execute(_FIND, (source_id, odata.plus(as_of, -look_back), text_array(job_ids))).fetchall()
    return {str(row[0]) for row in rows}


def remember(db: Connection, source_id: int, job_ids: Sequence[str], as_of: datetime) -> None:
    """Note the jobs that a comparison lacked, as of the moment it was opened; those that it showed are forgotten."""
    db.execute(_DROP_SEEN, (source_id, text_array(job_ids)))
    if job_ids:
        db.execute(_REMEMBER, (source_id, as_of, text_array(job_ids)))
