"""What a source can do to its jobs, as functions of a world.

Each takes the world and a source of chance, does one thing, and says whether it was possible. `Event.found_by` says who
must notice it: INCREMENT (the next sync), or SWEEP (no watermark can tell: a re-read, a comparison of all keys).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from random import Random
from typing import Any

from etl.testing.emulator import ABSENT, Job, World

LOOK_BACK = timedelta(minutes=15)  # what every mirror of a stage looks back
_LATEST = LOOK_BACK * 0.9  # how late a change may be committed
_NEVER = "2099-12-31T23:59:59Z"


class FoundBy(Enum):
    """Who must notice an event."""

    INCREMENT = auto()
    SWEEP = auto()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a source can do: its name, its deed (False where it wasn't possible), and who must notice."""

    name: str
    happen: Callable[[World, Random], bool]
    found_by: FoundBy = FoundBy.INCREMENT


def some_job(world: World, rng: Random, wanted: Callable[[Job], bool] = lambda _: True) -> Job | None:
    """A job that no transaction holds."""
    free = [job for job in world.jobs() if not world.is_locked(job) and wanted(job)]
    return rng.choice(free) if free else None


def some_jobs(world: World, rng: Random, most: int) -> list[Job]:
    """A few jobs that no transaction holds."""
    free = [job for job in world.jobs() if not world.is_locked(job)]
    return rng.sample(free, min(len(free), rng.randint(1, most)))


def _on_one(
    deed: Callable[[World, Random, Job], object], wanted: Callable[[Job], bool] = lambda _: True
) -> Callable[[World, Random], bool]:
    """The deed done to some job."""

    def happen(world: World, rng: Random) -> bool:
        job = some_job(world, rng, wanted)
        if job is not None:
            deed(world, rng, job)
        return job is not None

    return happen


def _text(rng: Random) -> dict[str, Any]:
    return {"jobStatusText": f"changed to {rng.randrange(10**6)}"}


def insert(world: World, rng: Random) -> bool:
    """Some jobs, on one tick."""
    return bool(world.ties(rng.randint(1, 8)))


def arrive(world: World, _rng: Random) -> bool:
    """A job that lives."""
    return bool(world.arrive())


def bulk_change(world: World, rng: Random) -> bool:
    """Up to sixty rows in one transaction, on one tick."""
    jobs = some_jobs(world, rng, 60)
    return bool(world.change_many(jobs, **_text(rng))) if jobs else False


def late_insert(world: World, rng: Random) -> bool:
    """A job whose commit comes later than others that are stamped after it."""
    return bool(world.late(None, _LATEST * rng.random()))


def short_lived(world: World, rng: Random) -> bool:
    """Jobs that are to be purged soon, perhaps before anybody saw them."""
    for _ in range(rng.randint(1, 6)):
        world.add(purgeDateTime=world.now + timedelta(minutes=rng.uniform(0.1, 240)))
    return True


def _change(world: World, rng: Random, job: Job) -> None:
    world.change(job, **_text(rng))


def _change_late(world: World, rng: Random, job: Job) -> None:
    world.late(job, _LATEST * rng.random(), **_text(rng))


def _change_purge_date(world: World, rng: Random, job: Job) -> None:
    world.change(job, purgeDateTime=world.now + timedelta(minutes=rng.uniform(0.1, 240)))


def _extend(world: World, rng: Random, job: Job) -> None:
    world.extend(job, rng.choice([0.05, 1, 30]))


def _extend_late(world: World, rng: Random, job: Job) -> None:
    assert job.purge is not None
    world.late(job, _LATEST * rng.uniform(0.5, 1), purgeDateTime=world.now + timedelta(days=rng.uniform(1, 30)))


def extend_at_the_last_moment(world: World, rng: Random) -> bool:
    """The purge of a new job is put off seconds before its date, and that is committed minutes after it."""
    job = world.add(purgeDateTime=world.now + timedelta(seconds=rng.uniform(1, 90)))
    world.late(job, _LATEST * rng.uniform(0.5, 1), purgeDateTime=world.now + timedelta(days=rng.uniform(0.2, 30)))
    return True


def extend_what_is_due(world: World, rng: Random) -> bool:
    """The job that is purged next is put off, committed late."""
    soon = world.tick + 300 * 3600
    due = sorted(
        (job for job in world.jobs() if job.purge is not None and job.purge < soon and not world.is_locked(job)),
        key=lambda job: job.purge or 0,
    )
    for job in due[: rng.randint(1, 3)]:
        _extend_late(world, rng, job)
    return bool(due)


def _unbumped(world: World, rng: Random, job: Job) -> None:
    world.change(job, touch=False, **_text(rng))


def _back_dated(world: World, rng: Random, job: Job) -> None:
    world.change(job, modifiedDate=world.now - timedelta(hours=rng.uniform(1, 200)), **_text(rng))


def _undated(world: World, rng: Random, job: Job) -> None:
    world.change(job, modifiedDate=None, **_text(rng))


def _future(world: World, rng: Random, job: Job) -> None:
    world.change(job, modifiedDate=_NEVER, **_text(rng))


def _write_documents(world: World, rng: Random, job: Job) -> None:
    documents = [
        {"documentName": f"{rng.randrange(1000)}.csv", "DownloadLink": f"{job.job_id}/{place}", "SizeInMB": place / 4}
        for place in range(rng.randint(0, 6))
    ]
    world.change(job, response=json.dumps(documents))


def _fewer_documents(world: World, rng: Random, job: Job) -> None:
    world.change(job, response=json.dumps(_documents(job)[rng.randint(1, 2) :]))


def _documents(job: Job) -> list[Any]:
    response = job["response"]
    return json.loads(response) if isinstance(response, str) and response.startswith("[") else []


def _is_listed(job: Job) -> bool:
    return job.kind.response_type != "In-line JSON"


def _add_property(world: World, rng: Random, job: Job) -> None:
    world.change(job, overrides={rng.choice(["priority", "queueName"]): rng.choice([1, "high", None, {"a": [1]}])})


def _remove_property(world: World, rng: Random, job: Job) -> None:
    world.change(job, overrides={rng.choice(["accountCode", "jobDescription", "purgeDays", "clientRequestId"]): ABSENT})


def _mistype(world: World, _rng: Random, job: Job) -> None:
    world.change(job, percentCompleted="most of it")


def _is_mistyped(job: Job) -> bool:
    return isinstance(job["percentCompleted"], str)


def mend(world: World) -> int:
    """What can't be read is set right at the source. How many jobs that were."""
    broken = [job for job in world.jobs() if not world.is_locked(job) and _is_mistyped(job)]
    for job in broken:
        world.change(job, percentCompleted=50)
    return len(broken)


def _settled(world: World) -> Callable[[Job], bool]:
    before = world.tick - round(2 * LOOK_BACK.total_seconds()) * 300
    return lambda job: job.modified is not None and job.modified < before and job.raw is None


def another_database(world: World, rng: Random) -> bool:
    """A job is served from another database, whose counter is behind: a lower rowversion, a later modifiedDate."""
    job = some_job(world, rng, _settled(world))
    if job is not None:
        name = f"{job['DatabaseName']}-{world.next_version()}"
        world.change(job, DatabaseName=name, rowversion=rng.randrange(1, 1000), **_text(rng))
    return job is not None


def delete_some(world: World, rng: Random) -> bool:
    """Jobs vanish before their time."""
    jobs = some_jobs(world, rng, 6) if len(world) > 60 else []
    for job in jobs:
        world.delete(job)
    return bool(jobs)


INSERT = Event("insert", insert)
ARRIVE = Event("arrive", arrive)
CHANGE = Event("change", _on_one(_change))
BULK = Event("bulk change", bulk_change)
LATE = Event("late commit", _on_one(_change_late))
LATE_INSERT = Event("late insert", late_insert)
RERUN = Event("rerun", _on_one(lambda world, _rng, job: world.rerun(job)))
DOCUMENTS = Event("other documents", _on_one(_write_documents, _is_listed))
FEWER = Event("fewer documents", _on_one(_fewer_documents, lambda job: len(_documents(job)) > 1))
SHORT_LIVED = Event("purged soon", short_lived)
PURGE_DATE = Event("purge date moved", _on_one(_change_purge_date), FoundBy.SWEEP)  # gone before it was seen, perhaps
EXTEND = Event("extended", _on_one(_extend, lambda job: job.purge is not None))
EXTEND_LATE = Event("extended late", extend_what_is_due)
LAST_MOMENT = Event("extended at the last moment", extend_at_the_last_moment)
UNBUMPED = Event("unbumped change", _on_one(_unbumped), FoundBy.SWEEP)
BACK_DATED = Event("back-dated change", _on_one(_back_dated), FoundBy.SWEEP)
UNDATED = Event("modifiedDate null", _on_one(_undated), FoundBy.SWEEP)
FUTURE = Event("modifiedDate in the future", _on_one(_future))
ADD_PROPERTY = Event("property added", _on_one(_add_property))
REMOVE_PROPERTY = Event("property removed", _on_one(_remove_property))
MISTYPE = Event("property of another type", _on_one(_mistype))
ANOTHER_DATABASE = Event("another database", another_database)
DELETE = Event("delete", delete_some, FoundBy.SWEEP)
ALL = (
    *(INSERT, ARRIVE, CHANGE, BULK, LATE, LATE_INSERT, RERUN, DOCUMENTS, FEWER, SHORT_LIVED, PURGE_DATE, EXTEND),
    *(EXTEND_LATE, LAST_MOMENT, UNBUMPED, BACK_DATED, UNDATED, FUTURE, ADD_PROPERTY, REMOVE_PROPERTY, MISTYPE),
    *(ANOTHER_DATABASE, DELETE),
)
