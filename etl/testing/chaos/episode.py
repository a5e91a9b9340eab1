"""One episode: events, runs and blows in a random order, and the check when all is quiet."""

import random
from datetime import timedelta
from random import Random

from etl.testing.chaos.environment import Stage
from etl.testing.chaos.fault_injection import Plan
from etl.testing.chaos.scenarios import Strategy
from etl.testing.chaos.source_profile import Habits

_SPANS = (timedelta(seconds=5), timedelta(minutes=2), timedelta(minutes=20), timedelta(hours=3))


def play(url: str, strategy: Strategy, seed: str) -> Stage:
    """An episode on a database whose mirror is empty. The stage as it is at the end, with what it counted and said."""
    rng = Random(seed)
    random.seed(seed)  # of the waits between two attempts
    stage = Stage(url, strategy, Habits.by_chance(rng, strategy), seed)
    try:
        stage.unquiet(churn=rng.random() < 0.7)
        for _ in range(rng.randint(1, 2)):
            for _ in range(rng.randint(3, 5)):
                act(stage, rng)
            stage.settle()
            stage.unquiet(churn=rng.random() < 0.7)
    finally:
        stage.close()
    return stage


def act(stage: Stage, rng: Random) -> None:
    """Something happens at the source, time passes, and a run begins: it ends well or badly."""
    if stage.strategy.restores and rng.random() < 0.4:
        if rng.random() < 0.6:
            stage.back_up()
        else:
            stage.restore(rng)
    for _ in range(rng.randint(0, 5)):
        stage.happen(rng.choice(stage.strategy.events), rng)
        stage.live(rng.choice(_SPANS[:2]) * rng.random())
    stage.live(rng.choice(_SPANS))
    run(stage, rng)


def run(stage: Stage, rng: Random) -> None:
    """A run of any kind, struck or not."""
    plan = Plan.by_chance(rng) if rng.random() < 0.5 else None
    kind = rng.random()
    if kind < 0.1:
        stage.purge(plan)
    elif kind < 0.25 and stage.strategy.needs_sweep and stage.has_synced:
        stage.reconcile(plan)
    elif kind < 0.35:
        stage.outage(after=rng.randint(1, 20))
        stage.sync(plan)
    elif kind < 0.45:
        stage.follow(rng, plan)
    else:
        stage.sync(plan, overlapped=plan is None and rng.random() < 0.3)
