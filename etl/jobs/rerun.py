"""A job is run again, once: asked for when the source says that it may be, and never sent twice.

Where the answer doesn't come, the job itself tells whether it was accepted. Nobody can send a second time in the belief
that the first was lost: a job that is queued is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from etl.errors import BadAnswer, ConfigError, SourceError, Unreachable
from etl.jobs import live
from etl.jobs.live import Live
from etl.models import Clock, JobRow
from etl.text import utc

if TYPE_CHECKING:
    from etl.client.client import Api

# Seconds between looks at a job whose rerun got no answer: a commit may be half a minute late.
_LOOKS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0)


class Fate(StrEnum):
    """What became of a rerun that was sent."""

    ACCEPTED = "accepted"
    NOT_ACCEPTED = "not accepted"  # as far as the source shows so long afterwards
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sent:
    """A rerun that was sent: what became of it, what came instead of an answer, and the job before and after."""

    fate: Fate
    instead: str | None
    before: Live
    after: Live | None


def hindrance(row: JobRow, now: datetime) -> str | None:
    """Why a job can't be run again, by what it says itself; None where it can. `now` is the source's."""
    last_moment = row.maximum_date_time_to_execute_job
    if row.can_rerun is not True:
        said = "No" if row.can_rerun is False else "nothing"
        return f"AIMS360 doesn't let it be run again (canReRun says {said})"
    if live.is_open(row):
        return f"it is {row.job_status}, so it runs already: `aims360-etl jobs wait {row.job_id}` waits for it"
    if last_moment is not None and last_moment < now:
        return f"the last moment for that was {utc(last_moment)} (maximumDateTimeToExecuteJob)"
    return None


def ready(api: Api, clock: Clock, job_id: str) -> Live:
    """The job as it is now, which can be run again. Raises ConfigError where it can't: asking again won't help."""
    found = live.look(api, job_id)
    if found is None:
        raise ConfigError(live.gone(job_id, None, clock.now()))
    if hinders := hindrance(found.row, found.answered_at):
        raise ConfigError(f"job {found.row.job_id} can't be run again: {hinders}; nothing was sent")
    return found


def send(api: Api, clock: Clock, before: Live) -> Sent:
    """Sends it once. Raises Refused where the source says no, Unreachable where nothing could be sent."""
    instead = api.rerun(before.row.job_id)
    looks = (0.0, *_LOOKS) if instead else (0.0,)
    seen = _watched(api, clock, before, looks)
    after = next((found for found in reversed(seen) if found is not None), None)
    if instead is None:
        return Sent(Fate.ACCEPTED, None, before, after)
    if after is None:
        return Sent(Fate.UNKNOWN, instead, before, None)
    took = runs_again(before.row, after.row)
    is_sure = took or seen[-1] is not None  # what was seen before the source fell silent is no answer
    fate = Fate.UNKNOWN if took is None or not is_sure else Fate.ACCEPTED if took else Fate.NOT_ACCEPTED
    return Sent(fate, instead, before, after)


def _watched(api: Api, clock: Clock, before: Live, looks: Sequence[float]) -> list[Live | None]:
    """The job as it is seen from now on, until it shows that it runs again; None for each look that showed nothing."""
    seen: list[Live | None] = []
    for seconds in looks:
        if seconds:
            clock.sleep(seconds)
        try:
            seen.append(live.look(api, before.row.job_id, attempts=2))
        except (Unreachable, BadAnswer):
            seen.append(None)
        except SourceError:  # said, or not, by whoever looks next: what was sent is what counts here
            seen.append(None)
            break
        if seen[-1] is not None and runs_again(before.row, seen[-1].row):
            break
    return seen


def runs_again(before: JobRow, now: JobRow) -> bool | None:
    """Whether a job that had ended was run again since, by what it shows. None: it changed, and that doesn't tell."""
    if not live.is_another(now, before):
        return False
    counted = (before.number_of_attempts, now.number_of_attempts)
    is_one_more = counted[0] is not None and counted[1] is not None and counted[1] > counted[0]
    return True if is_one_more or live.is_open(now) or now.start_date != before.start_date else None
