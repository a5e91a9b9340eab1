"""Marks of jobs that were loaded without a value that could not be read (`etl.unread_values`).

The value may have been spoilt on its way. So the source is asked for a marked job again (`etl/state/ask_schedule.py`),
and an equal version of it is written anew where its values have other forms now (`merge_policy.choose`). The mark goes
when the job is read whole. It is settled when the source was asked, and the value still has its form a day after it
came first. A form that is settled for several jobs is how the source writes it: it is settled for all others,
without asking; but for characters that were replaced, which no source means to send.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from etl.client import odata
from etl.models import REPLACED_TEXT, Job
from etl.postgres.connection import Connection, text_array

_SEVERAL = 3  # jobs
_AT_A_TIME = 50_000  # marks; a second or two
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
            WHERE k.source_id = %(source_id)s
              AND k.settled AND k.times_asked > 0 AND k.property = m.property AND k.form = m.form
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
# Of a mark that was settled without asking (by an erasure, or with others) the source has confirmed nothing.
_SETTLE = """
UPDATE etl.unread_values AS u
SET settled = true
FROM json_to_recordset(%(marks)s::json) AS m (job_id text, property text, form text)
WHERE u.source_id = %(source_id)s
  AND u.job_id = m.job_id
  AND u.property = m.property
  AND u.form = m.form
  AND NOT u.settled
  AND u.times_asked > 0
  AND u.first_seen_at <= %(a_day_ago)s
RETURNING u.property, u.form
"""
_SETTLE_FORM = """
UPDATE etl.unread_values
SET settled = true, times_asked = 0
WHERE source_id = %(source_id)s AND (job_id, property) IN (
    SELECT job_id, property
    FROM etl.unread_values
    WHERE source_id = %(source_id)s AND NOT settled AND property = %(property)s AND form = %(form)s
    LIMIT %(most)s
)
  AND (
    SELECT count(*)
    FROM (
        SELECT FROM etl.unread_values
        WHERE source_id = %(source_id)s
          AND settled AND times_asked > 0 AND property = %(property)s AND form = %(form)s
        LIMIT %(several)s
    ) AS known
) = %(several)s
"""
_WAITING_FORMS = """
SELECT f.property, f.form
FROM json_to_recordset(%(forms)s::json) AS f (property text, form text)
WHERE EXISTS (
    SELECT FROM etl.unread_values AS u
    WHERE u.source_id = %(source_id)s AND NOT u.settled AND u.property = f.property AND u.form = f.form
)
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
    marks = _list_marks(jobs)
    given = {"source_id": source_id, "marks": json.dumps(marks)}
    if may_be_marked and jobs:
        db.execute(_DROP_READ, {**given, "job_ids": text_array([job.row.job_id for job in jobs])})
    if marks:
        db.execute(_MARK, {**given, "seen_at": seen_at, "several": _SEVERAL, "text": REPLACED_TEXT})


def settle(db: Connection, source_id: int, jobs: Sequence[Job], now: datetime) -> None:
    """Settle the marks of jobs that came when they were asked for, with values as before, a day after these first came.

    `now` is the source's. Runs inside the caller's transaction.
    """
    marks = _list_marks(jobs)
    if not marks:
        return
    given = {"source_id": source_id, "marks": json.dumps(marks), "a_day_ago": odata.plus(now, -_A_DAY)}
    for name, form in sorted({(str(name), str(form)) for name, form in db.execute(_SETTLE, given).fetchall()}):
        if name != REPLACED_TEXT:
            kind = {"property": name, "form": form, "several": _SEVERAL, "most": _AT_A_TIME}
            db.execute(_SETTLE_FORM, {"source_id": source_id, **kind})


def find_waiting(db: Connection, source_id: int, values: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those of some properties, each with the form of its value, that the source is to be asked for again."""
    forms = [{"property": name, "form": form} for name, form in values]
    rows = db.execute(_WAITING_FORMS, {"source_id": source_id, "forms": json.dumps(forms)}).fetchall()
    return {(str(name), str(form)) for name, form in rows}


def _list_marks(jobs: Sequence[Job]) -> list[dict[str, str]]:
    return [
        {"job_id": job.row.job_id, "property": name, "form": form}
        for job in jobs
        if job.unread
        for name, form in job.unread
    ]
