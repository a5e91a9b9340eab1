"""A world that has been running for a month, made at once instead of lived through."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from etl.testing.emulator.job_edits import born, passed, queued
from etl.testing.emulator.job_version import Generation, Job
from etl.testing.emulator.sample_data import ACCOUNTS, Account, Stage, course, one_of
from etl.testing.emulator.sql_datetime import TICKS_A_DAY, TICKS_A_SECOND
from etl.testing.emulator.table import RENDERED_AT_MOST
from etl.testing.emulator.world import START, World


def populated(
    jobs: int = 5000,
    *,
    seed: int = 0,
    now: datetime = START,
    days: float = 30,
    rate: float | None = None,
    generation: Generation = "2019-06",
    rerun_share: float = 0.03,
    late_share: float = 0.0,
    links: str = "https://api.aims360.rest",
    accounts: Sequence[Account] = ACCOUNTS,
    rendered_at_most: int = RENDERED_AT_MOST,
) -> World:
    """A world of `jobs` jobs made in the last `days` days (30 at most: older ones are purged), some still under way.

    It goes on as it was: `rate` is jobs / days a day unless given; 0 for a world where no more jobs arrive.
    """
    world = World(
        seed,
        now,
        generation,
        rate=jobs / days if rate is None else rate,
        rerun_share=rerun_share,
        late_share=late_share,
        links=links,
        accounts=accounts,
        rendered_at_most=rendered_at_most,
    )
    with _no_collection():
        _fill(world, jobs, round(min(days, world.home.purge_days) * TICKS_A_DAY))
    return world


@contextmanager
def _no_collection() -> Iterator[None]:
    # nothing here is garbage, and looking for some takes a quarter of the time
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _fill(world: World, jobs: int, span: int) -> None:
    made = list(_past(world, jobs, span))
    by_change = sorted(range(jobs), key=lambda place: made[place].modified or 0)
    for place in by_change:
        # the changes nobody can see any more used up versions too
        world.version += 1 + one_of(range(6), world.rng)
        made[place].version = world.version
    world.settle(made)


def _past(world: World, jobs: int, span: int) -> Iterator[Job]:
    for created in sorted(world.tick - int(world.rng.random() * span) for _ in range(jobs)):
        world.number += 1
        job = born(world.home, world.rng, world.number, created)
        # lives that the world begins itself have positive numbers
        yield _lived(world, queued(job, created, -world.number, 0), created)


def _lived(world: World, job: Job, queued_at: int) -> Job:
    """The queued job as it is by now, with what is still to come put on the world's calendar."""
    stages = course(job.kind, world.rng)
    ended = queued_at + stages[-1].after
    if ended > world.tick:
        return _under_way(world, job, queued_at, stages)
    done = passed(job, stages[-1], ended, 0)
    done.started = queued_at + stages[0].after  # it is still ours alone
    if not job.attempts and job.kind.can_rerun == "Yes" and world.rng.random() < world.rerun_share:
        again = ended + round(world.rng.expovariate(1 / (6 * 3600 * TICKS_A_SECOND)))
        if again < world.tick:
            return _lived(world, queued(done.but(version=1), again, job.life, 0), again)
    return done


def _under_way(world: World, job: Job, queued_at: int, stages: tuple[Stage, ...]) -> Job:
    left = stages
    while queued_at + left[0].after <= world.tick:
        job = passed(job, left[0], queued_at + left[0].after, 0)
        left = left[1:]
    world.expect(queued_at + left[0].after, "stage", job.number, job.life, left, queued_at)
    return job
