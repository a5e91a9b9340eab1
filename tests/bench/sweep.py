"""(e) The purge of a third of the mirror, (f) the comparison of all keys."""

from etl.load.purge import BATCH
from tests.bench import byhand
from tests.bench.measure import Process, etl, run, timed
from tests.bench.mirror import Mirror
from tests.bench.source import service
from tests.bench.stage import OFTEN, SELDOM, Stage
from tests.bench.table import Figure, Line, Target, against, faster

RECONCILE = "aims360-etl reconcile --json"
DELETE = "DELETE FROM aims360.job_documents, job_status_history, jobs by key"
PURGED = "bench_purged"  # a copy of the mirror
ROWS_A_SECOND = 100_000


def sweep(stage: Stage) -> None:
    """Both, on one source."""
    with service(stage.size(300_000)) as source:
        source.warm()
        mirror = Mirror(stage.cluster, source, "bench_large")
        mirror.fill()
        stage.cluster.settle(mirror.name)
        all_compared(stage, mirror)
        a_third_purged(stage, mirror)
        stage.cluster.drop(mirror.name)


def all_compared(stage: Stage, mirror: Mirror) -> None:
    """(f): the mirror is equal to the source, and stays as it is."""
    copy = Mirror(stage.cluster, mirror.source, "bench_compared")

    def compared() -> Process:
        stage.cluster.make(copy.name, mirror.name)
        stage.cluster.checkpoint()
        return copy.run("reconcile")

    compared()  # the service makes what is asked for once
    select, jobs = mirror.source.tell("columns"), mirror.source.jobs
    rounds = stage.repeated(lambda: (compared(), timed(lambda: mirror.source.read_all(select))), OFTEN)
    stage.cluster.drop(copy.name)
    read = stage.floor(
        f"F2 {jobs:,} jobs read, their versions", "s",
        [seconds for _, seconds in rounds],
        f"httpx.Client().stream, $select={select}, page after page, thrown away",
    )  # fmt: skip
    seconds, command = tuple(done.working for done, _ in rounds), f"{RECONCILE}, from its first request"
    speed = Figure(f"f {jobs:,} keys compared", "rows/s", tuple(jobs / each for each in seconds), command)
    stage.note(
        Line(speed, target=Target(f"{ROWS_A_SECOND:,}", ROWS_A_SECOND, at_least=True)),
        Line(Figure(f"f {jobs:,} keys compared, seconds", "s", seconds, command), read),
    )


def a_third_purged(stage: Stage, mirror: Mirror) -> None:
    """(e): day totals and tombstones are kept, against a plain DELETE by key."""
    due = byhand.make_due(stage.cluster.address(mirror.name))
    stage.cluster.settle(mirror.name)
    rounds = stage.repeated(lambda: _round(mirror, due), SELDOM)
    stage.cluster.drop(PURGED)
    floors = [
        stage.floor(f"{due:,} jobs deleted, {how}", "s", [each[place] for each in rounds], DELETE)
        for place, how in ((1, f"{BATCH:,} a transaction"), (2, "one transaction"))
    ]
    seconds = tuple(each[0] for each in rounds)
    taken = Figure(f"e {due:,} of {mirror.source.jobs:,} jobs purged", "s", seconds, "aims360-etl purge --json")
    stage.note(against(taken, faster(floors), 2, "2 DELETE"))


def _round(mirror: Mirror, due: int) -> tuple[float, float, float]:
    """Seconds of the purge, of a DELETE in batches, and of one in one go, each on a copy of its own."""
    copy = Mirror(mirror.cluster, mirror.source, PURGED)

    def prepared() -> str:
        made = copy.cluster.make(copy.name, mirror.name)
        copy.cluster.checkpoint()
        return made

    prepared()
    done = run(etl("purge", "--json"), copy.environ)
    if done.told["counts"]["purged"] != due:
        raise RuntimeError(f"{done.told['counts']['purged']} of {due} jobs were purged")
    return done.seconds, byhand.delete_due(prepared(), BATCH), byhand.delete_due(prepared(), due)
