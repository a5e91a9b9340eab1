"""Which of two versions of a row is kept: a function of values (docs/correctness.md, "The upsert")."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import NamedTuple

from etl.client import odata
from etl.client.odata import comparable, is_less
from etl.models import CLOCK_TOLERANCE, JobRow, Key

BEGINNING = datetime.min.replace(tzinfo=UTC)  # a row without modifiedDate is older than any other


@dataclass(frozen=True, slots=True)
class Rules:
    """How a batch is judged (docs/correctness.md, "The upsert").

    `trust_before`: a full scan takes the source's word over stored rows modified before then, but not where a row comes
    again: `repeated_up_to` is the scan's property that orders it, and its cursor before the page. `rewrite`: rows that
    are the same are written anew. `seen_at` and `not_seen_before` bound in the history when a version came to be; rows
    that were encoded ahead bear the time of their own page, which is no later.
    `beyond`: jobs modified before then are beyond what an increment brings, and count as missing or stale.
    `has_marks`: some jobs of the source are marked, since a value of theirs could not be read; `has_unread`: and some
    of these marks aren't settled, so that an equal version of the job is written anew (`etl/load/unread_values.py`).
    """

    look_back: timedelta
    seen_at: datetime
    not_seen_before: datetime | None = None
    trust_before: datetime | None = None
    repeated_up_to: tuple[str, Key | None] | None = None
    rewrite: bool = False
    beyond: datetime | None = None
    has_marks: bool = False
    has_unread: bool = False

    @property
    def is_trusting(self) -> bool:
        """Whether the source's word counts over what is stored."""
        return self.trust_before is not None


class Stored(NamedTuple):
    """The version of a job in the mirror; `purged_at` where the purge left the row in place (scrub, keep).

    `unread`: properties whose values could not be read, and may be read now, each with the form that it had.
    """

    row_version: int | None
    modified_date: datetime | None
    purge_date_time: datetime | None
    purged_at: datetime | None
    unread: frozenset[tuple[str, str]] | None = None


class Tombstone(NamedTuple):
    """What a purged job left: why it went, and the purge date of the version that went."""

    reason: str
    purge_date_time: datetime | None


class Choice(Enum):
    """What is done with a row."""

    NEW = auto()
    BACK = auto()  # new again: it had been purged, and its purge date was moved; or it had been missing
    NEWER = auto()
    SAME = auto()
    AGAIN = auto()  # the same version, written anew: a value of it could not be read
    OLDER = auto()
    GONE = auto()  # purged here, and still on its way out at the source
    COMPARE = auto()  # versions can't tell: the contents decide


def choose(row: JobRow, stored: Stored | None, tombstone: Tombstone | None, rules: Rules) -> Choice:
    """Which of two versions is kept. A version is the pair (rowversion, modifiedDate)."""
    if stored is None:
        if tombstone is None:
            return Choice.NEW
        leaving = tombstone.reason == "purged" and not _extended(row, tombstone.purge_date_time)
        return Choice.GONE if leaving else Choice.BACK
    if stored.purged_at is not None and not _extended(row, stored.purge_date_time):
        # What had gone before its date was missing at the source, and has come back.
        return Choice.GONE if _was_due(stored) else Choice.NEWER
    modified, known = _read_moment(row.modified_date), _read_moment(stored.modified_date)
    if row.row_version is None or stored.row_version is None:
        if modified == known:
            return Choice.COMPARE
        # A date of the future was wrong, and nothing that is right would ever be later.
        newer = modified > known or known > odata.plus(rules.seen_at, CLOCK_TOLERANCE)
    elif (row.row_version, modified) == (stored.row_version, known):
        return Choice.AGAIN if stored.unread else Choice.SAME
    else:
        newer = row.row_version > stored.row_version or modified - known > rules.look_back
    return Choice.NEWER if newer or _is_trusted(row, known, rules) else Choice.OLDER


def _read_moment(date: datetime | None) -> datetime:
    """Return a date to compare by. One before 1980 is none: earlier releases stored it."""
    return BEGINNING if date is None or date < odata.FIRST_DATE else date


def _is_trusted(row: JobRow, known: datetime, rules: Rules) -> bool:
    """Whether the source's word counts over a stored date. One in the future never gets old: it says nothing."""
    if rules.trust_before is None or _came_before(row, rules):
        return False
    return known < rules.trust_before or known > rules.seen_at


def _came_before(row: JobRow, rules: Rules) -> bool:
    """Whether an earlier page of the scan has brought the row already."""
    name, after = rules.repeated_up_to or ("", None)
    key = row.id if name == "ID" else row.job_id
    if key is None or after is None or not (comparable(key) and comparable(after)) or type(key) is not type(after):
        return False
    return not is_less(after, key)


def _was_due(stored: Stored) -> bool:
    due, purged = stored.purge_date_time, stored.purged_at
    return due is not None and purged is not None and due <= purged


def _extended(row: JobRow, purged: datetime | None) -> bool:
    return row.purge_date_time is None or purged is None or row.purge_date_time > purged
