"""What happens in a simulation, in which order; and what it comes to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from etl.errors import EtlError
from etl.models import Clock
from etl.postgres.embedded import Server
from etl.testing.load_test.checks import Verdict, judged
from etl.testing.load_test.environment import Stage, Used, Wish, put_up
from etl.testing.load_test.freshness import Ages, behind, sample, told
from etl.testing.load_test.processes import Workers

_PATIENCE = 600  # seconds in which one more source, at least, gets complete
_EVER = datetime.min.replace(tzinfo=UTC)

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Phase:
    """A time that was measured: `ages` over all sources and samples, those of bad neighbours left out.

    The parts' figures are cores: 0.5 is half a core on average.
    """

    workers: int
    neighbours: bool
    seconds: float
    samples: int
    ages: Ages
    runs: int
    requests: int
    worker_cores: float
    postgres_cores: float
    emulator_cores: float


@dataclass(slots=True)
class Simulation:
    """What it came to. `ratios`: by workers, the p99 with bad neighbours to that without. Times in seconds."""

    wish: Wish
    first_pass: float = 0.0
    rows: int = 0
    phases: list[Phase] = field(default_factory=list)
    ratios: dict[int, float] = field(default_factory=dict)
    kills: int = 0
    fresh_again: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)


def simulate(wish: Wish, server: Server, clock: Clock, tell: Tell) -> Simulation:
    """A first pass, then phases by number of workers, then the check. Raises EtlError."""
    found = Simulation(wish)
    with put_up(wish, server) as stage:
        play = _Play(stage, clock, tell)
        for number in wish.workers:
            workers = stage.workers()
            try:
                began = clock.monotonic()
                play.start(workers, number, is_first=not found.phases)
                if not found.phases:
                    found.first_pass, found.rows = clock.monotonic() - began, stage.rows()
                found.phases += play.phases(workers, number)
                found.kills += len(workers.killed)
                if number == wish.workers[-1]:
                    found.fresh_again = play.quiet(workers)
            finally:
                workers.stop()
        tell("comparing mirrors with their accounts")
        found.verdict = judged(stage.db, stage.wheel, play.others, play.killed)
    found.ratios = ratios(found.phases)
    return found


def ratios(phases: list[Phase]) -> dict[int, float]:
    """By number of workers: the p99 with bad neighbours to that without, where both were measured."""
    p99 = {(phase.workers, phase.neighbours): phase.ages.p99 for phase in phases}
    return {number: p99[number, True] / p99[number, False] for number, bad in p99 if bad and (number, False) in p99}


class _Play:
    def __init__(self, stage: Stage, clock: Clock, tell: Tell) -> None:
        self.stage, self.clock, self.tell = stage, clock, tell
        self.others = [name for name in stage.names if name not in stage.neighbours]
        self.killed: list[tuple[int, datetime]] = []
        self._rng = Random(stage.wish.seed)

    def start(self, workers: Workers, number: int, is_first: bool) -> None:
        """Workers begin; until each source was run."""
        wanted = dict.fromkeys(self.others, _EVER) if is_first else self._now()
        for _ in range(number):
            workers.start()
        self._wait(
            workers, wanted, f"{number} workers: the first pass" if is_first else f"{number} workers: catching up"
        )

    def phases(self, workers: Workers, number: int) -> list[Phase]:
        """One phase; with bad neighbours if there are any, and without them before that if both are compared."""
        wish, found = self.stage.wish, list[Phase]()
        has_neighbours = bool(self.stage.neighbours)
        if not has_neighbours or wish.compares:
            found.append(self._measured(workers, number, False))
        if has_neighbours:
            self.stage.spoil()
            found.append(self._measured(workers, number, True))
            self.stage.mend()
        self.killed += workers.killed
        return found

    def quiet(self, workers: Workers) -> float:
        """The accounts' time stands still; seconds until each source is complete through that moment."""
        self.stage.wheel.stop_clocks()
        began = self.clock.monotonic()
        self._wait(workers, self._now(), "the source stands still: catching up")
        return self.clock.monotonic() - began

    def _measured(self, workers: Workers, number: int, neighbours: bool) -> Phase:
        wish, clock, ages, samples = self.stage.wish, self.clock, list[float](), 0
        before = self.stage.used(workers, clock.monotonic())
        killed_at = before.at
        while (passed := clock.monotonic() - before.at) < wish.seconds:
            workers.must_live()
            self.tell(f"{number} workers{', bad neighbours' * neighbours}: {wish.seconds - passed:.0f} s to go")
            ages += sample(self.stage.db, self.stage.neighbours)
            samples += 1
            if wish.kill_every is not None and clock.monotonic() - killed_at >= wish.kill_every:
                workers.kill_one(self._rng, clock.now())
                killed_at = clock.monotonic()
            clock.sleep(max(0.0, before.at + samples - clock.monotonic()))
        return phase(number, neighbours, samples, told(ages), before, self.stage.used(workers, clock.monotonic()))

    def _now(self) -> Mapping[str, datetime]:
        return self.stage.wheel.now(leave_out=self.stage.neighbours)

    def _wait(self, workers: Workers, wanted: Mapping[str, datetime], what: str) -> None:
        """Until each source is complete through the moment that is wanted of it. Raises EtlError if it never is."""
        left, moved = len(wanted) + 1, self.clock.monotonic()
        while late := behind(self.stage.db, wanted):
            workers.must_live()
            self.tell(f"{what}: {len(late)} of {len(wanted)} sources to go")
            if len(late) < left:
                left, moved = len(late), self.clock.monotonic()
            if self.clock.monotonic() - moved > _PATIENCE:
                names = ", ".join(sorted(late)[:3])
                raise EtlError(
                    f"the simulated fleet doesn't get on: {len(late)} sources, such as {names}, are not complete after "
                    f"{timedelta(seconds=_PATIENCE)}; a worker's last words: {workers.last_words()}"
                )
            self.clock.sleep(0.5)


def phase(workers: int, neighbours: bool, samples: int, ages: Ages, before: Used, after: Used) -> Phase:
    """What was used between two moments, and the ages in between."""
    seconds = after.at - before.at
    return Phase(
        workers=workers,
        neighbours=neighbours,
        seconds=seconds,
        samples=samples,
        ages=ages,
        runs=after.runs - before.runs,
        requests=after.requests - before.requests,
        worker_cores=(after.workers - before.workers) / seconds,
        postgres_cores=(after.postgres - before.postgres) / seconds,
        emulator_cores=(after.emulator - before.emulator) / seconds,
    )
