"""When the source is asked again: for rejects, and for jobs with a value that could not be read (`etl.unread_values`).

1, 2, 4 and 8 runs after a row came or was last asked for, then daily. Asking is the caller's.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from etl.client import odata
from etl.models import Key, Span
from etl.postgres.connection import Connection, text_array

_DAILY = timedelta(days=1)
ASKED_BY_RUNS = 4  # times it is asked for by runs, then daily
UNNAMED = "^sha256:|\ufffd"  # a job_id that is none of the source's
_COUNTED_DOWN = 1_000  # rows a run, of each kind: many more than it asks for

_WAITING = """
SELECT
    EXISTS (SELECT FROM etl.rejects WHERE source_id = %(source_id)s),
    EXISTS (SELECT FROM etl.unread_values WHERE source_id = %(source_id)s AND NOT settled),
    EXISTS (SELECT FROM etl.unread_values WHERE source_id = %(source_id)s)
"""
_COUNT_DOWN_REJECTS = """
UPDATE etl.rejects AS r
SET runs_to_wait = r.runs_to_wait - 1
FROM (
    SELECT job_id FROM etl.rejects WHERE source_id = %(source_id)s AND runs_to_wait > 0 LIMIT %(most)s
) AS w
WHERE r.source_id = %(source_id)s AND r.job_id = w.job_id
"""
_COUNT_DOWN_UNREAD = """
UPDATE etl.unread_values AS u
SET runs_to_wait = u.runs_to_wait - 1
FROM (
    SELECT job_id, property FROM etl.unread_values
    WHERE source_id = %(source_id)s AND NOT settled AND runs_to_wait > 0
    LIMIT %(most)s
) AS w
WHERE u.source_id = %(source_id)s AND u.job_id = w.job_id AND u.property = w.property
"""
# What has neither a jobID nor a range of keys can't be asked for, nor can a jobID of which a character was replaced. A
# moment that lies ahead was noted by a clock that was wrong. Each half stops after as many rows as are wanted, however
# many wait: a job has few properties. Rejects come first: their jobs are missing, the others lack a value.
_DUE = """
WITH due_rejects AS (
    SELECT job_id, true AS is_reject, key_name, key_after, key_before, coalesce(asked_at, first_seen_at) AS waits_since
    FROM etl.rejects
    WHERE source_id = %(source_id)s
      AND runs_to_wait <= 0
      AND (times_asked < %(sooner)s OR asked_at <= %(daily)s OR asked_at > %(now)s)
      AND (key_name IS NOT NULL OR job_id !~ %(unnamed)s)
    ORDER BY waits_since, job_id
    LIMIT %(most)s
),
due_values AS (
    SELECT u.job_id, coalesce(u.asked_at, u.first_seen_at) AS waits_since
    FROM etl.unread_values AS u
    WHERE u.source_id = %(source_id)s
      AND NOT u.settled
      AND u.runs_to_wait <= 0
      AND (u.times_asked < %(sooner)s OR u.asked_at <= %(daily)s OR u.asked_at > %(now)s)
      AND u.job_id !~ %(unnamed)s
      AND NOT EXISTS (SELECT FROM etl.rejects AS r WHERE r.source_id = u.source_id AND r.job_id = u.job_id)
    ORDER BY waits_since, u.job_id
    LIMIT %(most)s * 50
)
SELECT d.job_id, d.is_reject, d.key_name, d.key_after, d.key_before
FROM (
    SELECT * FROM due_rejects
    UNION ALL
    SELECT job_id, false, NULL, NULL, NULL, min(waits_since) FROM due_values GROUP BY job_id
) AS d
ORDER BY d.is_reject DESC, d.waits_since, d.job_id
LIMIT %(most)s
"""
# After so many runs the next time, twice as many each time; then daily.
_ASKED = """
UPDATE etl.{table}
SET asked_at = %(now)s,
    times_asked = times_asked + 1,
    runs_to_wait = CASE WHEN times_asked + 1 < %(sooner)s THEN 1 << (times_asked + 1) ELSE 0 END
WHERE source_id = %(source_id)s AND job_id = ANY(%(job_ids)s::text[])
"""
_ASKED_REJECTS, _ASKED_UNREAD = (_ASKED.format(table=table) for table in ("rejects", "unread_values"))


class Waiting(NamedTuple):
    """What of a source waits to be read: rejects, values of marked jobs; and whether any job is marked at all."""

    rejects: bool
    unread: bool
    marks: bool


class Due(NamedTuple):
    """What the source is to be asked for again: a job by its jobID, or what lies between two keys, both exclusive.

    `is_reject`: it waits in etl.rejects under `job_id`; else the job is marked.
    """

    job_id: str
    is_reject: bool
    key_name: str | None = None
    key_after: str | None = None
    key_before: str | None = None

    @property
    def span(self) -> Span | None:
        """The range as a scan leaves it out; None where it may hold other records than the one."""
        if self.key_after is None or self.key_before is None:
            return None
        if self.key_name == "ID":
            return None if self.only_key is None else Span(int(self.key_after), int(self.key_before) - 1)
        if self.only_key is not None:
            return Span(self.key_after, self.only_key) if odata.comparable(self.only_key) else None
        first, last = (odata.place_of(key) for key in (self.key_after, self.key_before))
        is_bound = self.key_before[odata.PREFIX :] == odata.BEYOND
        return Span(self.key_after, self.key_before) if is_bound and first is not None and last == first + 1 else None

    @property
    def only_key(self) -> Key | None:
        """The only key that a range can hold, where it is that narrow."""
        if self.key_after is None or self.key_before is None:
            return None
        if self.key_name == "ID":
            return int(self.key_after) + 1 if int(self.key_before) - int(self.key_after) == 2 else None
        return self.key_before[:-1] if self.key_before.endswith("!") else None


def find_waiting(db: Connection, source_id: int) -> Waiting:
    """Return what waits: nothing, for most sources."""
    row = db.execute(_WAITING, {"source_id": source_id}).fetchone()
    assert row is not None
    return Waiting(*map(bool, row))


def count_down(db: Connection, source_id: int, waiting: Waiting) -> None:
    """Note that one more run has begun, for what waits for runs to pass; once in a run."""
    given = {"source_id": source_id, "most": _COUNTED_DOWN}
    for some_wait, statement in ((waiting.rejects, _COUNT_DOWN_REJECTS), (waiting.unread, _COUNT_DOWN_UNREAD)):
        if some_wait:
            db.execute(statement, given)


def find_due(db: Connection, source_id: int, now: datetime, most: int) -> list[Due]:
    """Return what the source is to be asked for again now: rejects first, and what wasn't for longest.

    `now` is the source's.
    """
    given = {"source_id": source_id, "now": now, "daily": now - _DAILY, "sooner": ASKED_BY_RUNS, "unnamed": UNNAMED}
    return [Due._make(row) for row in db.execute(_DUE, {**given, "most": most}).fetchall()]


def note_asked(db: Connection, source_id: int, asked: Sequence[Due], now: datetime) -> None:
    """Note that the source was asked for these and has answered. `now` is the source's."""
    for is_reject, statement in ((True, _ASKED_REJECTS), (False, _ASKED_UNREAD)):
        job_ids = [due.job_id for due in asked if due.is_reject is is_reject]
        if job_ids:
            given = {"source_id": source_id, "job_ids": text_array(job_ids), "now": now, "sooner": ASKED_BY_RUNS}
            db.execute(statement, given)
