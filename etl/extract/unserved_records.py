"""Records that the service can't serve: what is known of where they lie, and the rejects that stand for them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from etl.client import odata
from etl.errors import AskForLess
from etl.models import Cursor, Key, Reject, Span


@dataclass(slots=True)
class Suspect:
    """A record that can't be served is among the next `rows` of a range; their keys, where they could be asked for.

    Where all of them come in the end, they were too many at a time.
    """

    rows: int
    keys: list[odata.Stamp]
    in_a_row: int = 0
    largest: int = 1  # page that came meanwhile, in rows


def step_over(spans: Sequence[Span], cursor: Cursor) -> Cursor:
    """Return the cursor beyond records that the service couldn't serve, where they are the next."""
    while (span := find_next(spans, cursor)) is not None and cursor.after == span.last:
        cursor = replace(cursor, after=span.through)
    return cursor


def find_next(spans: Sequence[Span], cursor: Cursor) -> Span | None:
    """Return the next of some spans, in their order, that a range leaves out."""
    for span in spans:
        if cursor.after is None or cursor.after <= span.last:  # type: ignore[operator]  # of one kind, both
            return span if cursor.up_to is None or span.last < cursor.up_to else None  # type: ignore[operator]
    return None


def list_beyond(stamps: list[odata.Stamp], after: Key | None, name: str) -> list[odata.Stamp]:
    """Return what comes after a key in a list in the service's order."""
    places = [place for place, stamp in enumerate(stamps) if stamp.key(name) == after]
    if places:
        return stamps[places[-1] + 1 :]
    return [stamp for stamp in stamps if _is_after(stamp.key(name), after)]


def _is_after(key: Key | None, after: Key | None) -> bool:
    return key is not None and after is not None and odata.comparable(after) and odata.is_less(after, key)


def name_reject(error: AskForLess, name: str, key: Key | None, job_id: Key | None = None) -> Reject:
    """Return the reject of a record that the service can't serve: under its jobID, or under its ID.

    The keys around it say that it is asked for by itself: a list with it would fail.
    """
    if isinstance(key, int):
        named = job_id if isinstance(job_id, str) else f"{name}:{key}"
        return Reject(named, _explain(error), "", None, name, str(key - 1), str(key + 1))
    assert isinstance(key, str)
    return Reject(key, _explain(error), "", None, name, key[:-1], f"{key}!")


def name_range(error: AskForLess, name: str, after: Key | None, before: Key | None) -> Reject:
    """Return the reject of a record of which only the keys before and after it are known."""
    first, last = (None if key is None else str(key) for key in (after, before))
    return Reject(f"{name}:({first or ''},{last or ''})", _explain(error), "", None, name, first, last)


def _explain(error: AskForLess) -> str:
    return f"the service can't serve this record: {error}"[:500]
