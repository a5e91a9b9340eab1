"""Marks of jobs that were loaded without a value that could not be read (`etl.unread_values`).

The value may have been spoilt on its way. So the source is asked for a marked job again (`etl/state/rejects.py`), and
an equal version of it is written anew (`merge_policy.choose`). The mark goes when the job is read whole, and is settled
when the value comes in the same form a second time: it stays, so that a third time is no news.
"""

import json
from collections.abc import Sequence
from datetime import datetime

from etl.models import Job
from etl.postgres.connection import Connection, text_array

# Of a form that is new the schedule begins anew. What is settled is not read again, so that no row is written.
_MARK = """
INSERT INTO etl.unread_values AS u (source_id, job_id, property, form, first_seen_at)
SELECT %(source_id)s, m.job_id, m.property, m.form, %(seen_at)s
FROM json_to_recordset(%(marks)s::json) AS m (job_id text, property text, form text)
ON CONFLICT (source_id, job_id, property) DO UPDATE
SET form = excluded.form,
    settled = u.form = excluded.form,
    first_seen_at = CASE WHEN u.form = excluded.form THEN u.first_seen_at ELSE excluded.first_seen_at END,
    times_asked = CASE WHEN u.form = excluded.form THEN u.times_asked ELSE 0 END,
    runs_to_wait = CASE WHEN u.form = excluded.form THEN u.runs_to_wait ELSE 1 END
WHERE NOT (u.settled AND u.form = excluded.form)
"""
_DROP_READ = """
DELETE FROM etl.unread_values AS u
WHERE u.source_id = %(source_id)s
  AND u.job_id = ANY(%(job_ids)s::text[])
  AND (u.job_id, u.property) NOT IN (
      SELECT m.job_id, m.property FROM json_to_recordset(%(marks)s::json) AS m (job_id text, property text)
  )
"""


def remember(db: Connection, source_id: int, jobs: Sequence[Job], seen_at: datetime, *, may_be_marked: bool) -> None:
    """Mark those of the jobs just written that have unread values, and drop the marks of what was read.

    `may_be_marked`: whether some may be marked from before. Runs inside the caller's transaction.
    """
    marks = [
        {"job_id": job.row.job_id, "property": name, "form": form}
        for job in jobs
        if job.unread
        for name, form in job.unread
    ]
    given = {"source_id": source_id, "marks": json.dumps(marks), "seen_at": seen_at}
    if may_be_marked and jobs:
        db.execute(_DROP_READ, {**given, "job_ids": text_array([job.row.job_id for job in jobs])})
    if marks:
        db.execute(_MARK, given)
