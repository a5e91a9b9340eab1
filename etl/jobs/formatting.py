"""What people read of jobs: a line each in a list, and one of them on a card. Pure; times are UTC, and say so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from etl.jobs.live import Difference, Live, as_shown, documents
from etl.jobs.mirror_query import Found, Held, shortened
from etl.state.ask_schedule import ASKED_BY_RUNS, UNNAMED
from etl.text import Column, moment, shown, span, table, utc

if TYPE_CHECKING:
    from etl.postgres.connection import Row

_WIDE = 22  # cells before what is said


def listing(jobs: Sequence[Row], width: int | None) -> str:
    """Jobs in a table: within `width` cells with ids shortened as far as they stay apart, else as they are."""
    ids = [str(job["job_id"]) for job in jobs]
    sources = [_text(job["source"]) for job in jobs]
    columns = [
        Column("job", ids if width is None else shortened(ids), 9),
        Column("created (UTC)", [_moment(job["created_at_utc"]) for job in jobs], 7),
        Column("status", [_text(job["job_status"]) for job in jobs], 8),
        Column("%", [_text(job["percent_completed"]) for job in jobs], 3, is_number=True),
        Column("waited", [_span(job["queued_seconds"]) for job in jobs], 1, is_number=True),
        Column("ran", [_span(job["run_seconds"]) for job in jobs], 4, is_number=True),
        Column("documents", [_text(job["documents"] or None) for job in jobs], 2, is_number=True),
        Column("account", [_text(job["account_code"]) for job in jobs], 5),
        *([Column("source", sources, 6)] if len(set(sources)) > 1 else []),
        Column("what", [_text(job["sub_category_name"] or job["category_name"]) for job in jobs], 10),
    ]
    return table(columns, width)


def card(found: Found, held: Held) -> str:
    """All that the mirror holds of a job."""
    lines = [*_job(found, held.job, held)] if held.job else [f"{found.job_id}, source {found.source}"]
    if held.reject:
        lines += _describe_reject(found.job_id, held.reject, is_in_mirror=held.job is not None)
    if held.tombstone:
        lines += _tombstone(held.tombstone)
    lines += _documents(held.documents)
    lines += _archived(held.archived or [])
    if len(held.attempts) > 1:
        lines += ["attempts", *(f"  {_attempt(row)}" for row in held.attempts)]
    if held.history:
        lines += ["history, as far as it was seen", *(f"  {_version(row)}" for row in held.history)]
    if held.links is not None:
        lines += ["links (whoever has one may have the file)", *(f"  {_link(row)}" for row in held.links)]
        lines += [] if held.links else ["  none"]
    return "\n".join(lines)


def card_of(live: Live, source: str) -> str:
    """A job as the source shows it now."""
    lines = _job(Found(source, live.row.job_id), as_shown(live), None)
    return "\n".join([*lines, *_documents(documents(live))])


def compared(live: Live, found: list[Difference] | None) -> str:
    """What the source says of a job, against the mirror (None: which doesn't hold it)."""
    when = f"asked at the source, {utc(live.answered_at)}"
    if found is None:
        return f"{when}: the mirror doesn't hold the job"
    if not found:
        return f"{when}: the mirror holds it as it is"
    lines = [f"{when}: the mirror differs, the next sync brings it up to date"]
    return "\n".join([*lines, *(f"  {d.what}: {_value(d.here)} here, {_value(d.there)} there" for d in found)])


def progress(live: Live) -> str:
    """How far a job is, in a few words."""
    percent = live.row.percent_completed
    return shown(live.row.job_status or "in no state") + (f", {percent} %" if percent is not None else "")


def _job(found: Found, job: Mapping[str, object], held: Held | None) -> list[str]:
    what = " / ".join(filter(None, (_text(job["category_name"]), _text(job["sub_category_name"]))))
    described = _text(job["job_description"])
    facts = {
        "what": what + (f": {described}" if described else ""),
        "status text": _text(job["job_status_text"]),
        "account": _joined(job["account_code"], job["database_name"], job["client_id"]),
        "requested by": _text(job["created_by"]),
        "last changed by": _text(job["modified_by"]),
        "caller's own id": _text(job["client_request_id"]),
        "created": _when(job["created_at_utc"]),
        "started": _when(job["started_at_utc"]) + _after("waited", job.get("queued_seconds")),
        "completed": _when(job["completed_at_utc"]) + _after("ran", job.get("run_seconds")),
        "changed": _when(job["modified_at_utc"]),
        "purged by the source": _when(job["purge_at_utc"]) + (", which has come" if job.get("is_purged") else ""),
        "can be run again": _rerun(job),
        "attempts": _text(job["number_of_attempts"]),
        "published to": _text(job["publish_link_access_scope"]),
        "response": _text(job["response_type"]),
    }
    percent = f", {job['percent_completed']} %" if job["percent_completed"] is not None else ""
    stuck = ", stuck: open, and unchanged for over an hour" if held and job.get("is_stuck") else ""
    head = f"{found.job_id}, source {found.source}: {_text(job['job_status']) or 'in no state'}{percent}{stuck}"
    return [head, *(f"  {name:<{_WIDE}}{said}" for name, said in facts.items() if said)]


def _rerun(job: Mapping[str, object]) -> str:
    if job["can_rerun"] is None:
        return ""
    until = _when(job["rerun_until_utc"])
    return ("yes" + (f", until {until}" if until else "")) if job["can_rerun"] else "no"


def _tombstone(row: Row) -> Iterator[str]:
    why = "its purge date had come" if row["reason"] == "purged" else "the source had it no more"
    yield f"  purged here {_when(row['purged_at'])}: {why}; what it added to the day totals is all that stays"
    kind = " / ".join(filter(None, (_text(row["category_name"]), _text(row["sub_category_name"]))))
    yield f"  {'what':<{_WIDE}}{kind}, account {_text(row['account_code']) or 'unknown'}"
    yield f"  {'last status':<{_WIDE}}{_text(row['job_status'])}"
    waited, ran = _span(row["queued_seconds"]), _span(row["run_seconds"])
    yield f"  {'times':<{_WIDE}}waited {waited or 'unknown'}, ran {ran or 'unknown'}"


def _describe_reject(job_id: str, row: Row, is_in_mirror: bool) -> Iterator[str]:
    """Say that the source's row waits in etl.rejects, why, since when, and when the source is asked for it next."""
    what = "the source's newer row" if is_in_mirror else "the source's row"
    yield f"  {what} could not be read, and waits in etl.rejects"
    asked = int(str(row["times_asked"]))
    last = f"; asked {_times(asked)} so far, last {_when(row['asked_at'])}" if asked else ""
    facts = {
        "why": _text(row["reason"]),
        "place": _place(row),
        "since": _when(row["first_seen_at"]),
        "asked for again": _describe_next_question(job_id, row) + last,
    }
    yield from (f"  {name:<{_WIDE}}{said}" for name, said in facts.items() if said)


def _describe_next_question(job_id: str, row: Row) -> str:
    """Describe when the source is asked for a reject again: after some runs at first, then daily."""
    if re.search(UNNAMED, job_id) and row["key_name"] is None:
        return "never, since its key is unknown: it leaves with its purge date, or after 30 days"
    left, asked_at = int(str(row["runs_to_wait"])), row["asked_at"]
    if isinstance(asked_at, datetime) and int(str(row["times_asked"])) >= ASKED_BY_RUNS:
        return f"by the first run after {_when(asked_at + timedelta(days=1))}"
    return f"in {left} runs" if left > 1 else "by the next run"


def _place(row: Row) -> str:
    """Describe where a record lies of which only its neighbours' keys are known."""
    if row["key_name"] is None:
        return ""
    bounds = {"after": row["key_after"], "before": row["key_before"]}
    return f"{_text(row['key_name'])} " + " and ".join(f"{word} {_text(key)}" for word, key in bounds.items() if key)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _documents(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    return [f"documents: {len(rows)}", *(f"  {_document(row)}" for row in rows)]


def _document(row: Row) -> str:
    size = f", {row['size_in_mb']} MB" if row["size_in_mb"] is not None else ""
    until = f", until {_when(row['expires_at_utc'])}" if row["expires_at_utc"] else ""
    return f"{row['position']}  {_text(row['document_name']) or 'without a name'}{size}{until}"


def _archived(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    lines = [f"{_text(row['path'])}, {row['bytes']} bytes, fetched {_when(row['fetched_at'])}" for row in rows]
    return [f"documents fetched: {len(rows)}", *(f"  {line}" for line in lines)]


def _attempt(row: Row) -> str:
    ran = _after("ran", row["run_seconds"])
    started = f", started {_when(row['started_at_utc'])}" if row["started_at_utc"] else ""
    return f"{row['attempt']}  {_text(row['job_status'])}{started}{ran}"


def _version(row: Row) -> str:
    percent = f" {row['percent_completed']} %" if row["percent_completed"] is not None else ""
    return f"{_when(row['modified_at_utc'] or row['seen_at_utc'])}  {_text(row['job_status'])}{percent}"


def _link(row: Row) -> str:
    what = "publish link" if row["position"] is None else f"document {row['position']}"
    return f"{what} ({_text(row['access_scope']) or 'no scope'}): {_text(row['link'])}"


def _joined(code: object, database: object, client: object) -> str:
    beside = ", ".join(
        f"{name} {_text(value)}" for name, value in (("database", database), ("client", client)) if value
    )
    return f"{_text(code)} ({beside})" if beside else _text(code)


def _text(value: object) -> str:
    return "" if value is None else shown(str(value))


def _value(value: object) -> str:
    return "nothing" if value is None else _when(value) if isinstance(value, datetime) else _text(value)


def _moment(value: object) -> str:
    return moment(value) if isinstance(value, datetime) else ""


def _when(value: object) -> str:
    return utc(value) if isinstance(value, datetime) else ""


def _after(what: str, value: object) -> str:
    return f", {what} {said}" if (said := _span(value)) else ""


def _span(value: object) -> str:
    return "" if value is None else span(value)
