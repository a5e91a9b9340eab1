"""What a call for all sources came to: how each ended, and all together, for people and for scripts. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import reduce
from operator import add
from typing import NamedTuple

from msgspec.structs import asdict

from etl.models import Counts, Run
from etl.text import shown, utc

SEVERITY = (2, 1, 4, 3, 0)  # exit codes, the worst first
_TOLD = 10  # sources in trouble, the others are only counted


class Ending(StrEnum):
    """How a run ended, or a source that had none. The first of its runs' endings is how a source ended."""

    FAILED = "failed"
    HELD_BACK = "held back"  # its last runs failed: it is left alone for a while
    HELD = "held by another run"
    COMPLETE = "complete"
    UNFINISHED = "not finished"  # a slice; where no other came after it, the call was stopped


class Ended(NamedTuple):
    """A run that ended, or why a source had none: its exit code, and what was wrong in a line."""

    name: str
    ending: Ending
    code: int = 0
    error: str | None = None
    run: Run | None = None


class Outcome(NamedTuple):
    """All of a call. `through`: through when each source is complete by now, None for one that never was."""

    ended: Sequence[Ended]
    through: Mapping[str, datetime | None]
    disabled: int
    seconds: float


def exit_code(ended: Iterable[Ended]) -> int:
    """The code of all: the one that somebody should hear of first."""
    return min((each.code for each in ended), key=SEVERITY.index, default=0)


def by_source(outcome: Outcome) -> dict[str, Ended]:
    """How each source ended, by its name."""
    worst = {name: Ended(name, Ending.UNFINISHED) for name in outcome.through}
    for each in outcome.ended:
        worst[each.name] = min(worst[each.name], each, key=_rank)
    return worst


def as_object(outcome: Outcome) -> dict[str, object]:
    """For scripts: totals, and each run with what a single one says of itself."""
    how = Counter(each.ending for each in by_source(outcome).values())
    return {
        "exit_code": exit_code([*outcome.ended, *_stopped(how)]),
        "sources": len(outcome.through),
        **{ending.name.lower(): how[ending] for ending in Ending},
        "disabled": outcome.disabled,
        "counts": _counts(outcome),
        "requests": _requests(outcome),
        "seconds": outcome.seconds,
        "complete_through": min(filter(None, outcome.through.values()), default=None),
        "runs": [
            {"name": each.name, "exit_code": each.code, "error": each.error} | (asdict(each.run) if each.run else {})
            for each in outcome.ended
        ],
    }


def _stopped(how: Mapping[Ending, int]) -> list[Ended]:
    """What a call that was told to end exits with, by how its sources ended."""
    return [Ended("", Ending.UNFINISHED, 1)] if how[Ending.UNFINISHED] else []


def summary(outcome: Outcome) -> str:
    """For people: a line for all, and one each for the first of those that are in trouble."""
    sources = by_source(outcome).values()
    how = Counter(each.ending for each in sources)
    others = (ending for ending in Ending if ending is not Ending.COMPLETE and how[ending])
    told = [f"{how[ending]} {ending}" for ending in (Ending.COMPLETE, *others)]
    told += [f"{outcome.disabled} disabled"] if outcome.disabled else []
    counts = _counts(outcome)
    rows = f"{counts.inserted} new, {counts.updated} changed, {counts.purged} purged"
    rows += f", {counts.rejected} rejected" if counts.rejected else ""
    cost = f"{_requests(outcome)} requests made, {outcome.seconds:.1f} s"
    line = f"{len(outcome.through)} sources: {', '.join(told)}: {rows}; {cost}; {_freshness(outcome)}"
    trouble = sorted((each for each in sources if each.ending in (Ending.FAILED, Ending.HELD_BACK)), key=_rank)
    lines = [f"  {shown(each.name)}: {each.error}" for each in trouble[:_TOLD]]
    if len(trouble) > _TOLD:
        lines.append(f"  and {len(trouble) - _TOLD} more; --json has all, and bi.runs")
    return "\n".join([line, *lines])


def _rank(each: Ended) -> tuple[int, int]:
    return list(Ending).index(each.ending), SEVERITY.index(each.code)


def _counts(outcome: Outcome) -> Counts:
    return reduce(add, (each.run.counts for each in outcome.ended if each.run), Counts())


def _requests(outcome: Outcome) -> int:
    return sum(each.run.requests for each in outcome.ended if each.run)


def _freshness(outcome: Outcome) -> str:
    """How far behind the mirror is where it is furthest behind."""
    known = {name: through for name, through in outcome.through.items() if through is not None}
    never = len(outcome.through) - len(known)
    parts = [f"{never} never read whole"] if never else []
    if known:
        last = min(known, key=lambda name: known[name])
        parts.insert(
            0, f"complete through {utc(known[last])} or later" + (f" ({shown(last)})" if len(known) > 1 else "")
        )
    return ", ".join(parts) or "nothing to do"
