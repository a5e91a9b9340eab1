"""Whatever source, network and machine do, in any order: when it is quiet, mirror and source are equal.

The adversary is `etl/testing/chaos/`, driven by hypothesis here and by chance in `aims360-etl prove`. A failure prints
the steps that lead to it, and a blob that repeats them.
"""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from random import Random

import psycopg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from rich.console import Console

from etl.postgres import embedded
from etl.testing.chaos import runner
from etl.testing.chaos.environment import Stage
from etl.testing.chaos.fault_injection import Blow, Plan
from etl.testing.chaos.mutations import LOOK_BACK
from etl.testing.chaos.process_kills import Killings
from etl.testing.chaos.runner import Proof
from etl.testing.chaos.scenarios import BY_NAME, STRATEGIES
from etl.testing.chaos.source_profile import Habits, Tally

_SEEDS = st.integers(0, 2**32 - 1)
_SPANS = st.sampled_from([timedelta(seconds=3), timedelta(minutes=3), timedelta(minutes=20), timedelta(hours=3)])
_PLANS = st.builds(Plan, st.sampled_from(Blow), st.integers(1, 90))
_NAMES = st.sampled_from([strategy.name for strategy in STRATEGIES])


class Convergence(RuleBasedStateMachine):
    """A stage on which anything may happen next. What is wrong is told by the step after which it was."""

    url: str
    stage: Stage | None = None

    @initialize(name=_NAMES, seed=_SEEDS, churns=st.booleans())
    def begins(self, name: str, seed: int, churns: bool) -> None:
        """A world with its habits, and an empty mirror."""
        with psycopg.connect(self.url, autocommit=True) as db:
            db.execute(runner.EMPTY)
        rng = Random(seed)
        self.stage = Stage(self.url, BY_NAME[name], Habits.by_chance(rng, BY_NAME[name], large=0), str(seed))
        self.churns = churns
        self.stage.unquiet(churns)

    @rule(data=st.data(), seed=_SEEDS, times=st.integers(1, 4))
    def happens(self, data: st.DataObject, seed: int, times: int) -> None:
        """The source changes."""
        stage, rng = self._stage, Random(seed)
        event = data.draw(st.sampled_from(stage.strategy.events))
        for _ in range(times):
            stage.happen(event, rng)

    @rule(span=_SPANS)
    def passes(self, span: timedelta) -> None:
        """Time passes."""
        self._stage.live(span)

    @precondition(lambda self: self._stage.strategy.restores)
    @rule()
    def is_backed_up(self) -> None:
        """The source's database is backed up."""
        self._stage.back_up()

    @precondition(lambda self: self._stage.strategy.restores)
    @rule(seed=_SEEDS)
    def is_restored(self, seed: int) -> None:
        """The source's database goes back to an earlier state."""
        self._stage.restore(Random(seed))

    @rule(after=st.integers(0, 30))
    def will_be_gone(self, after: int) -> None:
        """The service goes away after so many calls, for longer than a run waits."""
        self._stage.outage(after)

    @rule(overlapped=st.booleans())
    def syncs(self, overlapped: bool) -> None:
        """A sync; a second one tries meanwhile."""
        self._stage.sync(overlapped=overlapped)

    @rule(plan=_PLANS)
    def is_struck(self, plan: Plan) -> None:
        """A sync that is killed, cut or refused at one of its round trips."""
        self._stage.sync(plan)

    @rule(plan=st.none() | _PLANS)
    def purges(self, plan: Plan | None) -> None:
        """A purge by itself, struck perhaps."""
        self._stage.purge(plan)

    @rule(seed=_SEEDS, plan=st.none() | _PLANS)
    def is_followed(self, seed: int, plan: Plan | None) -> None:
        """One job is brought up to date by hand, struck perhaps."""
        self._stage.follow(Random(seed), plan)

    @precondition(lambda self: self._stage.strategy.needs_sweep and self._stage.has_synced)
    @rule(plan=st.none() | _PLANS, force=st.booleans())
    def reconciles(self, plan: Plan | None, force: bool) -> None:
        """All keys are compared, struck perhaps."""
        self._stage.reconcile(plan, force)

    @rule()
    def settles(self) -> None:
        """The quiet point."""
        self._stage.settle()
        self._is_well()
        self._stage.unquiet(self.churns)

    def teardown(self) -> None:
        """Every example ends with a quiet point."""
        if self.stage is None:
            return
        try:
            self.stage.settle()
            self._is_well()
        finally:
            self.stage.close()

    @property
    def _stage(self) -> Stage:
        assert self.stage is not None
        return self.stage

    def _is_well(self) -> None:
        assert self._stage.said == [], (self._stage.strategy.name, self._stage.habits)


@pytest.mark.slow
def test_when_it_is_quiet_mirror_and_source_are_equal(url: str) -> None:
    """Whatever hypothesis thinks of: nothing missing, stale, left over, forgotten or fetched twice."""
    machine = type("Convergence", (Convergence,), {"url": url})
    run_state_machine_as_test(machine)


def test_the_same_seed_is_the_same_episode(url: str) -> None:
    """What went wrong can be played again."""
    assert runner.one(url, "late", "again") == runner.one(url, "late", "again")


@pytest.fixture
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A folder for an embedded Postgres, which is removed at the end."""
    folder = tmp_path_factory.mktemp("prove")
    yield str(folder)
    embedded.remove(folder)


@pytest.mark.slow
def test_a_round_of_the_command_ends_at_zero_and_prints_what_it_tried(data_dir: str) -> None:
    """An episode of every strategy of change, killed processes too: exit code 0, the seed, and a row for each."""
    command = [sys.executable, "-m", "etl", "prove", "--minutes", "0", "--seed", "1"]
    done = subprocess.run(
        command, env={"AIMS360_DATA_DIR": data_dir, "HOME": data_dir}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 1\n" in done.stderr
    for name in (*runner.names(), "pages fetched twice", "all"):
        assert name in done.stdout


def test_jobs_that_fall_due_while_all_is_quiet_are_purged_by_the_last_process(url: str) -> None:
    """Killed processes: their clock stands still while hours pass at the source, and still none of these is left."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(runner.EMPTY)
    killings = Killings(url, "due")
    due = killings.world.now + timedelta(hours=3) - LOOK_BACK
    for place, job in enumerate(list(killings.world.jobs())[:200]):
        killings.world.change(job, purgeDateTime=due + timedelta(seconds=(place - 150) / 20))
    killings.play()
    assert killings.said == []


def test_a_mirror_that_differs_is_told_with_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    """The strategy, the round, the seed and the first sentences: enough to play it again."""
    proof = Proof(seed=7)
    proof.add("late", 2, Tally(missing=1), ["ab-1 is missing"])
    runner.show(proof, Console(width=160))
    said = capsys.readouterr().out
    assert not proof.is_whole
    assert "late, round 3 of seed 7:" in said
    assert "ab-1 is missing" in said
