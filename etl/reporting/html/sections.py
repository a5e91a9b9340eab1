"""From answers to what stands on the page: verdicts, numbers, pictures, and people where they are asked for."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from etl.reporting.html import formatting, job_figures, operations_figures, svg
from etl.reporting.html.figure import Figure
from etl.reporting.html.queries import Answers, Row
from etl.reporting.html.template import Content, Number, Picture

_WORST_FIRST = ("bad", "look", "good")


def of(answers: Answers, now: datetime) -> Content:
    """Everything on the page, in words and pictures."""
    zones = {str(row["time_zone"]) for row in answers.freshness} or {"UTC"}
    today = max(now.astimezone(ZoneInfo(zone)).date() for zone in zones)
    said = zones.pop() if len(zones) == 1 else "each source’s own time zone"
    verdicts = [formatting.verdict(row, now) for row in answers.freshness]
    shown = [
        job_figures.per_day(answers.jobs_per_day, today, said),
        job_figures.failures(answers.failures_by_category),
        job_figures.times(answers.times_per_day, today, said),
        job_figures.busy_hours(answers.busy_hours, said),
        operations_figures.expiring(answers.documents_expiring, today, said),
        operations_figures.runs(answers.runs, now),
    ]
    return Content(
        verdicts=sorted(verdicts, key=lambda verdict: (_WORST_FIRST.index(verdict.state), verdict.source)),
        numbers=_numbers(answers, today),
        pictures=_drawn(shown),
        people=None if answers.people is None else [_person(row) for row in answers.people],
    )


def _drawn(shown: Sequence[Figure]) -> list[Picture]:
    pictures = []
    for figure in shown:
        svgs = []
        if figure.draw is not None:
            for kind, width in (("wide", svg.WIDE), ("narrow", svg.NARROW)):
                svgs.append(svg.svg(figure.draw(width), figure.title, kind))
        pictures.append(
            Picture(figure.title, figure.caption, figure.unit, figure.legend, svgs, figure.instead, figure.said)
        )
    return pictures


def _numbers(answers: Answers, today: date) -> list[Number]:
    periods = {row["is_before"]: row for row in answers.headline}
    now, before = periods.get(False, {}), periods.get(True, {})
    stuck = sum(int(row["stuck"]) for row in answers.freshness)
    week = today + timedelta(days=7)
    soon = [row for row in answers.documents_expiring if row["day"] < week]
    documents, published = (sum(int(row[name]) for row in soon) for name in ("documents", "published"))
    known = formatting.count(before.get("jobs", 0), "job")
    return [
        Number("Jobs, last 30 days", f"{now.get('jobs', 0):,}", f"{before.get('jobs', 0):,} in the 30 days before"),
        Number("Failed", formatting.share(now.get("failure_rate")),
               _before(formatting.share(before.get("failure_rate")), known)),
        Number("95% ran within", formatting.span(now.get("run_p95_seconds")),
               _before(formatting.span(before.get("run_p95_seconds")), known)),
        Number("Stuck now", f"{stuck:,}", "open and unchanged for over an hour"),
        Number("Expiring in 7 days", f"{documents:,}", f"documents; {published:,} are published"),
    ]  # fmt: skip


def _before(value: str, jobs: str) -> str:
    return "nothing to compare with" if value == "–" else f"{value} before, of {jobs}"


def _person(row: Row) -> tuple[str, ...]:
    waited, ran = formatting.span(row["queued_p95_seconds"]), formatting.span(row["run_p95_seconds"])
    person = row["person"] or "not said"
    return (person, f"{row['jobs']:,}", f"{row['failed']:,}", formatting.share(row["failure_rate"]), waited, ran)
