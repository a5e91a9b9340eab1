"""Keep what was found about a service for the next sync of its source: refusals are forgotten after a day there."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime

from etl.config.settings import Source
from etl.errors import DatabaseError
from etl.models import CAPABILITIES, Capability, Support
from etl.pipeline.doctor.checks import Finding, Outcome
from etl.state import source_state
from etl.state.sign_in import Reach

# What one page shows of these is no proof for all times, and runs learn more about them than doctor does.
_LEFT_TO_RUNS = frozenset({"default_order", "null_dates", "next_link", "page_size", "largest_list", "largest_query"})
_IS_AT_WORK = "SELECT etl.is_held(%s::smallint)"


def keep(reach: Reach, source: Source, findings: Iterable[Finding], now: datetime) -> None:
    """Store what is certain, where the mirror can be reached and knows the source; not while a run is at work on it."""
    certain = choose_certain(findings, now)
    if not certain:
        return
    with suppress(DatabaseError), reach() as db:
        state = None if db is None else source_state.find(db, source.name)
        if db is None or state is None or state.base_url != source.base_url:
            return
        if db.execute(_IS_AT_WORK, (state.source_id,)).fetchone() == (False,):
            source_state.remember_capabilities(db, state, {**state.capabilities, **certain})


def choose_certain(findings: Iterable[Finding], now: datetime) -> dict[str, Capability]:
    """Return what a sync may go by: refusals that name what they refuse, what was ignored, and what was heeded. Pure.

    A refusal without a reason is left to the next run, which asks for longer.
    """
    certain = {}
    for finding in findings:
        name, is_yes = finding.capability, finding.outcome is Outcome.SUPPORTED
        is_certain = finding.is_plain and finding.is_binding and (is_yes or finding.is_lacking)
        if is_certain and name in CAPABILITIES and name not in _LEFT_TO_RUNS:
            support = Support.YES if is_yes else Support.NO
            certain[name] = Capability(support, finding.words or "answered", now)
    return certain
