"""A check of doctor: what was looked at and how it stands; and what was found about a capability of the service."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from etl.errors import EtlError
from etl.models import CAPABILITY_NAMES

JOB_FILTER = "job_filter"
PREFER = "prefer"  # looked at beside CAPABILITIES: the framework's way to ask for smaller pages
NAMES = {**CAPABILITY_NAMES, PREFER: "the preference odata.maxpagesize"}


_ADVICE = re.compile(r"[;:.]? (?:of a new one )?`aims360-etl doctor` says [^;.]*")


class Standing(StrEnum):
    """How a check ended: fine, worth knowing, or in the way of a sync."""

    FINE = "ok"
    NOTE = "note"
    FAILED = "failed"


class Outcome(StrEnum):
    """What a service does with something that it is asked for.

    IGNORED: it answers with 200 as if it had been asked without it. UNKNOWN: the answer shows neither.
    """

    SUPPORTED = "supported"
    REFUSED = "refused"
    IGNORED = "ignored"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one of CAPABILITIES, or PREFER.

    `words`: the service's, what shows that it is ignored, or why it isn't known. `asked`: the query. `limit`: keys of
    the largest list that was answered. `is_plain`: the answer names what it refuses, or its rows show it; a refusal
    without a reason may be a busy service's. `is_binding`: a scan can't use it; False for what is refused, but not
    needed.
    """

    capability: str
    outcome: Outcome
    words: str = ""
    asked: str = ""
    limit: int | None = None
    is_plain: bool = True
    is_binding: bool = True

    @property
    def is_lacking(self) -> bool:
        """Whether the service was found not to support it."""
        return self.outcome in (Outcome.REFUSED, Outcome.IGNORED)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a sync reads a source: its pages, and by which dates; and how a scan of all rows reads its pages.

    `requests`: about so many for all rows, None where the service doesn't count them.
    """

    paging: str
    window_by: str
    paging_of_all_rows: str
    requests: int | None


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it stands, and what to do about it. `evidence`: what it rests on, for scripts."""

    name: str
    standing: Standing
    detail: str
    evidence: Finding | Reading | None = None


def show_finding(finding: Finding) -> Check:
    """Return a finding as a check: what the service doesn't support is no failure, as long as there is another way."""
    is_fine = finding.outcome is Outcome.SUPPORTED
    detail = f"{finding.outcome}: {finding.words}" if finding.words else str(finding.outcome)
    if finding.is_lacking and finding.limit is not None and finding.limit > 1:
        detail += f" ({finding.limit} keys are answered)"
    name = NAMES[finding.capability]
    return Check(name, Standing.FINE if is_fine else Standing.NOTE, detail, finding)


def failures(name: str, error: EtlError, advice: str = "") -> Iterator[Check]:
    """Yield an error as failed checks, one per line. `advice`: in the place of the advice to run doctor."""
    for line in str(error).splitlines():
        yield Check(name, Standing.FAILED, _ADVICE.sub(f"; {advice}" if advice else "", line))


def table(checks: list[Check]) -> str:
    """Return the checks for people."""
    width = max(len(check.name) for check in checks)
    lines = [f"{check.standing:<6}  {check.name:<{width}}  {check.detail}" for check in checks]
    failed = sum(check.standing is Standing.FAILED for check in checks)
    lines.append(f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed")
    return "\n".join(lines)
