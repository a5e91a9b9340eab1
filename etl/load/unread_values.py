"""Marks of jobs that were loaded without a value that could not be read (`etl.unread_values`).

The value may have been spoilt on its way. So the source is asked for a marked job again (`etl/state/rejects.py`), and
an equal version of it is written anew where its values have other forms now (`merge_policy.choose`). The mark goes when
the job is read whole, and is settled when the source was asked, and the value has the same form a day after it first
came. A form that is settled for several jobs is how the source writes the property: it is settled for all others,
without asking; but for characters that were replaced, which no source means to send.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from etl.client import odata
from etl.models import REPLACED_TEXT, Job
from etl.postgres.connection import Connection, text_array

_SEVERAL = 3  # jobs
_A_DAY = timedelta(days=1)
# Of a form that is new the schedule begins anew.
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
    settled = excluded.settled,
    first_seen_at = CASE WHEN u.form = excluded.form THEN u.first_seen_at ELSE excluded.first_seen_at END,
    times_asked = CASE WHEN u.form = excluded.form THEN u.times_asked ELSE 0 END,
    runs_to_wait = CASE WHEN u.form = excluded.form THEN u.runs_to_wait ELSE 1 END
WHERE NOT (u.settled AND u.form = excluded.form)
"""
_SETTLE = """
UPDATE etl.unread_values
SET settled = true
WHERE source_id = %(source_id)s
  AND job_id = ANY(%(job_ids)s::text[])
  AND NOT settled
  AND first_seen_at <= %(a_day_ago)s
RETURNING property, form
"""
_SETTLE_FORMS = """
UPDATE etl.unread_values AS u
SET settled = true
FROM (
    SELECT property, form
    FROM etl.unread_values
    WHERE source_id = %(source_id)s AND settled
      AND (property, form) IN (
          SELECT f.property, f.form FROM json_to_recordset(%(forms)s::json) AS f (property text, form text)
      )
    GROUP BY property, form
    HAVING count(*) >= %(several)s
) AS k
WHERE u.source_id = %(source_id)s
  AND NOT u.settled
  AND u.property = k.property
  AND u.form = k.form
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


def settle(db: Connection, source_id: int, job_ids: Sequence[str], now: datetime) -> None:
    """Settle the marks that are left of jobs which came when they were asked for, a day after the value first came.

    `now` is the source's. Runs inside the caller's transaction, after the jobs were loaded.
    """
    given = {"source_id": source_id, "text": REPLACED_TEXT, "several": _SEVERAL}
    came = {"job_ids": text_array(job_ids), "a_day_ago": odata.plus(now, -_A_DAY)}
    settled = {(str(name), str(form)) for name, form in db.execute(_SETTLE, {**given, **came}).fetchall()}
    if settled:
        forms = [{"property": name, "form": form} for name, form in sorted(settled)]
        db.execute(_SETTLE_FORMS, {**given, "forms": json.dumps(forms)})


def find_waiting(db: Connection, source_id: int) -> set[tuple[str, str]]:
    """Return the properties, each with the form of its value, that the source is to be asked for again."""
    rows = db.execute(_WAITING_FORMS, {"source_id": source_id}).fetchall()
    return {(str(name), str(form)) for name, form in rows}
