"""New versions of rows, as functions of the old: born, queued, one stage further, changed by hand. Pure."""

from collections.abc import Mapping, Set
from datetime import datetime
from random import Random
from typing import Any, Final

from etl.testing.emulator.job_version import COLUMNS, Home, Job
from etl.testing.emulator.sample_data import FAILURES, PEOPLE, Stage, one_of, some_guid, some_kind
from etl.testing.emulator.sql_datetime import TICKS_A_DAY, nearest_tick, read_stored, stamp, tick_of

SLOTS: Final[Mapping[str, tuple[str, type]]] = {
    "jobID": ("job_id", str),
    "clientRequestId": ("request", str),
    "jobStatus": ("status", str),
    "jobStatusText": ("text", str),
    "percentCompleted": ("percent", int),
    "numberOfAttempts": ("attempts", int),
    "createdBy": ("created_by", str),
    "modifiedBy": ("modified_by", str),
    "rowversion": ("version", int),
}
"""Properties that a caller sets in the row itself if the type fits; any other value is shown verbatim."""

DATES: Final[Mapping[str, str]] = {
    "startDate": "started",
    "completedDate": "completed",
    "createdDate": "created",
    "modifiedDate": "modified",
    "purgeDateTime": "purge",
}

_LIVED = frozenset(
    "jobStatus jobStatusText percentCompleted startDate completedDate modifiedDate rowversion response".split()
)
_QUEUED = _LIVED | {"publishLink", "purgeDateTime", "numberOfAttempts"}


def born(home: Home, rng: Random, number: int, tick: int) -> Job:
    """A completed job of some kind, made on this tick; its version is 0: not yet committed."""
    kind, person = some_kind(rng), one_of(PEOPLE, rng)
    return Job(
        home=home,
        number=number,
        job_id=f"{some_guid(rng)}-{stamp(tick)}",
        kind=kind,
        account=one_of(home.accounts, rng),
        created_by=person,
        modified_by=person,
        request=f"req-{number}" if number % 5 == 0 else None,
        status="Completed",
        text=kind.done,
        percent=100,
        created=tick,
        started=tick,
        completed=tick,
        modified=tick,
        purge=tick + home.purge_days * TICKS_A_DAY,
        attempts=0,
        documents=one_of(kind.documents, rng),
        life=0,
        version=0,
    )


def queued(job: Job, tick: int, life: int, version: int, *, moves_purge: bool = True) -> Job:
    """The job put on the queue: for the first time if it was never committed, else once more, with a later purge."""
    again = job.version > 0
    is_put_off = moves_purge or not again
    new = job.but(
        status="Queued",
        text="Waiting to run again" if again else "Waiting in the queue",
        percent=0,
        started=None,
        completed=None,
        modified=tick,
        purge=tick + job.home.purge_days * TICKS_A_DAY if is_put_off else job.purge,
        attempts=job.attempts + again,
        life=life,
        version=version,
    )
    return _showing(new, _QUEUED if is_put_off else _QUEUED - {"purgeDateTime"})


def passed(job: Job, stage: Stage, tick: int, version: int) -> Job:
    """The job one stage further."""
    over = stage.status != "Inprogress"
    new = job.but(
        status=stage.status,
        text=_text(job, stage),
        percent=stage.percent,
        started=tick if job.started is None else job.started,
        completed=tick if over else None,
        modified=tick,
        version=version,
    )
    return _showing(new, _LIVED)


def changed(job: Job, given: Mapping[str, Any]) -> Job:
    """The row with these values: in their columns where they fit, shown verbatim where they don't."""
    slots: dict[str, Any] = {}
    raw = dict(job.raw or {})
    if "rowversion" in given and not job.verbatim:
        raw.pop("@odata.etag", None)
    for name, value in given.items():
        slot, fits = _fitted(name, value)
        slots.update(slot)
        if not fits:
            raw[name] = value
        elif not job.verbatim:
            raw.pop(name, None)
    new = job.but(**slots, raw=raw or None)
    return _showing(new, {name for name in given if _fitted(name, given[name])[1]}) if job.verbatim else new


def _showing(job: Job, names: Set[str]) -> Job:
    """The row showing its own columns under these names, where something else may have been put before them."""
    if not job.raw:
        return job
    if job.verbatim:  # it shows what it showed before, and nothing else
        names = names | {"@odata.etag"}
        return job.but(raw={name: COLUMNS[name](job) if name in names else job.raw[name] for name in job.raw})
    return job.but(raw={name: value for name, value in job.raw.items() if name not in names} or None)


def _fitted(name: str, value: Any) -> tuple[dict[str, Any], bool]:
    """What this sets in the row itself, and whether that says it all."""
    if name in DATES:
        return _date_slot(DATES[name], value)
    slot, kind = SLOTS.get(name, ("", object))
    return ({slot: value}, True) if slot and type(value) is kind else ({}, False)


def _date_slot(slot: str, value: Any) -> tuple[dict[str, Any], bool]:
    if value is None:
        return {slot: None}, True
    if isinstance(value, datetime):
        return {slot: tick_of(value)}, True
    stored = read_stored(value) if isinstance(value, str) else None
    return ({} if stored is None else {slot: nearest_tick(stored)}), False


def _text(job: Job, stage: Stage) -> str:
    if stage.status == "Inprogress":
        return f"Working… {stage.percent} %"
    return job.kind.done if stage.status == "Completed" else FAILURES[job.number % len(FAILURES)]
