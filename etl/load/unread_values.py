"""Marks of jobs that were loaded without a value that could not be read (`etl.unread_values`).

The value may have been spoilt on its way. So the source is asked for a marked job again (`etl/state/rejects.py`), and
an equal version of it is written anew (`merge_policy.choose`). The mark goes when the job is read whole, and is settled
when the value comes in the same form a second time: it stays, so that a third time is no news. A form that is settled
for several jobs is how the source writes the property: it is settled for all others, without asking.
"""

import json
from collections.abc import Sequence
from datetime import datetime

from etl.models import REPLACED_TEXT, Job
from etl.postgres.connection import Connection, text_array

_SEVERAL = 3  # jobs
# Of a form that is new the schedule begins anew. What is settled is not read again, so that no row is written.
_MARK = """
WITH marks AS (
    SELECT * FROM json_to_recordset(%(marks)s::json) AS m (job_id text, property text, form text)
),
forms AS (
    SELECT m.property, m.form, (
        SELECT count(*) = %(several)s
        FROM (
            SELECT FROM etl.unread_values AS k
            WHERE k.source_id = %(source_id)s AND k.settled AND k.property = m.property AND k.form = m.form
            LIMIT %(several)s
        ) AS known
    ) AS is_known
    FROM (SELECT DISTINCT property, form FROM marks) AS m
)
INSERT INTO etl.unread_values AS u (source_id, job_id, property, form, first_seen_at, settled)
SELECT %(source_id)s, m.job_id, m.property, m.form, %(seen_at)s, f.is_known AND m.property <> %(text)s
FROM marks AS m JOIN forms AS f USING (property, form)
ON CONFLICT (source_id, job_id, property) DO UPDATE
SET form = excluded.form,
    settled = excluded.settled OR u.form = excluded.form,
    first_seen_at = CASE WHEN u.form = excluded.form THEN u.first_seen_at ELSE excluded.first_seen_at END,
    times_asked = CASE WHEN u.form = excluded.form THEN u.times_asked ELSE 0 END,
    runs_to_wait = CASE WHEN u.form = excluded.form THEN u.runs_to_wait ELSE 1 END
WHERE NOT (u.settled AND u.form = excluded.form)
"""
_SETTLE = """
UPDATE etl.unread_values AS u
SET settled = true
FROM (
    SELECT k.property, k.form
    FROM etl.unread_values AS k
    WHERE k.source_id = %(source_id)s
      AND k.settled
      AND (k.property, k.form) IN (
          SELECT m.property, m.form FROM json_to_recordset(%(marks)s::json) AS m (property text, form text)
      )
    GROUP BY k.property, k.form
    HAVING count(*) >= %(several)s
) AS f
WHERE u.source_id = %(source_id)s
  AND NOT u.settled
  AND u.property = f.property
  AND u.form = f.form
  AND u.property <> %(text)s
"""
_WAITING_FORMS = """
SELECT DISTINCT property, form FROM etl.unread_values WHERE source_id = %(source_id)s AND NOT settled
"""
_DROP_READ = """
DELETE FROM etl.unread_values AS u
WHERE u.source_id = %(source_id)s
  AND u.job_id = ANY(%(job_ids)s::text[])
  AND (u.job_id, u.property) NOT IN (
      SELECT m.job_id, m.property FROM json_to_recordset(%(marks)s::json) AS m (job_id text, property text)
  )
"""


def remember(
    db: Connection, source_id: int, jobs: Sequence[Job], seen_at: datetime, *, may_be_marked: bool, may_settle: bool
) -> None:
    """Mark those of the jobs just written that have unread values, and drop the marks of what was read.

    `may_be_marked`: whether some may be marked from before, `may_settle`: some of these marks aren't settled. Runs
    inside the caller's transaction.
    """
    marks = [
        {"job_id": job.row.job_id, "property": name, "form": form}
        for job in jobs
        if job.unread
        for name, form in job.unread
    ]
    given = {
        "source_id": source_id,
        "marks": json.dumps(marks),
        "seen_at": seen_at,
        "several": _SEVERAL,
        "text": REPLACED_TEXT,
    }
    if may_be_marked and jobs:
        db.execute(_DROP_READ, {**given, "job_ids": text_array([job.row.job_id for job in jobs])})
    if marks:
        db.execute(_MARK, given)
        if may_settle:
            db.execute(_SETTLE, given)


def find_waiting(db: Connection, source_id: int) -> set[tuple[str, str]]:
    """Return the properties, each with the form of its value, that the source is to be asked for again."""
    rows = db.execute(_WAITING_FORMS, {"source_id": source_id}).fetchall()
    return {(str(name), str(form)) for name, form in rows}
