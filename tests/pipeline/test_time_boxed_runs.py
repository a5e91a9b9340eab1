"""Runs that may take only so long: scans in slices, clients with a deadline, deep passes alone; threads that end."""

import subprocess
import sys
from datetime import timedelta

import pytest

from etl.errors import OutOfTime
from etl.models import Run, Verdict
from etl.pipeline.sync import Order, deepen_now, purge_now, sync
from etl.postgres.connection import Connection
from etl.state import scan_checkpoints
from etl.testing.emulator import Faults, World, populated
from tests.support.scene import Scene

A_PAGE_TAKES, A_MOMENT = timedelta(seconds=2), timedelta(seconds=0.5)
SLICE = Order(within=timedelta(seconds=20), deep=False)
INCREMENT = Order(deep=False)


def slow(db: Connection, world: World, a_page_takes: timedelta = A_PAGE_TAKES) -> Scene:
    """A scene in which each answer but the first of all takes a while."""
    return Scene(db, world, between_pages=lambda world: world.advance(a_page_takes))


def run(scene: Scene, order: Order) -> Run:
    return sync(scene.source, scene.api, scene.db, scene.clock, order)


def test_a_first_scan_goes_in_slices_and_loses_nothing(db: Connection) -> None:
    """Each ends at a page, incomplete, and the next goes on; what changed meanwhile comes with the increment after."""
    scene = slow(db, populated(2_500, seed=3, rate=0))
    runs = [run(scene, SLICE)]
    assert runs[0].complete_through is None
    while runs[-1].verdict is Verdict.INCOMPLETE:
        assert runs[-1].seconds < 30.0  # what was being read ahead takes its time too
        assert runs[-1].counts.inserted
        scene.world.add(jobDescription="came while it was read")
        runs.append(run(scene, SLICE))
    assert len(runs) > 3
    assert sum(run.counts.inserted for run in runs) == len(scene.world)
    assert scene.differences() == []
    assert scene.rows("SELECT DISTINCT outcome FROM etl.runs") == [("succeeded",)]


def test_a_slice_that_wrote_nothing_keeps_where_it_stands(db: Connection) -> None:
    """Else a long increment that brings no news would begin anew for ever."""
    scene = slow(db, populated(900, seed=4, rate=0))
    run(scene, Order())
    source_id = scene.rows("SELECT source_id FROM etl.sources")[0][0]
    full = Order(full=True, within=timedelta(seconds=8), deep=False)
    first = run(scene, full)
    left_open = scan_checkpoints.find(db, int(source_id))
    assert (first.verdict, first.counts.written) == (Verdict.INCOMPLETE, 0)
    assert left_open is not None
    assert left_open.done > 0


def test_without_a_time_nothing_is_cut(db: Connection) -> None:
    """The same source, read to its end by one run."""
    scene = slow(db, populated(2_500, seed=3, rate=0))
    assert run(scene, INCREMENT).verdict is Verdict.COMPLETE


@pytest.mark.parametrize("kind", ["429-bare", "429-seconds", "503", "html", "reset"])
def test_a_source_in_trouble_takes_no_more_than_its_time(db: Connection, kind: str) -> None:
    """However it fails, and whatever it asks for: the run ends in time, and the next one finds all as it was."""
    scene = Scene(db, populated(300, seed=5, rate=0))
    run(scene, INCREMENT)
    scene.emulator.set_faults(Faults(rate=1.0, kinds=(kind,)))
    began = scene.world.now
    with pytest.raises(OutOfTime, match="within the 10 s that a run of a fleet may take"):
        run(scene, Order(within=timedelta(seconds=10)))
    assert scene.world.now - began <= timedelta(seconds=10)
    scene.emulator.set_faults(Faults())
    assert run(scene, INCREMENT).verdict is Verdict.COMPLETE


def test_a_purge_ends_in_time_too(db: Connection) -> None:
    """And has done part of it each time: of a quiet source each job is asked for."""
    scene = Scene(db, populated(900, seed=6, rate=0))
    run(scene, INCREMENT)
    scene.world.advance(timedelta(days=29))
    due = scene.rows("SELECT count(*) FROM aims360.jobs")[0][0] - len(scene.world)
    scene.emulator.between_pages = lambda world: world.advance(A_MOMENT)
    purges: list[int] = []
    while sum(purges) < due:
        found = purge_now(scene.source, scene.api, db, scene.clock, within=timedelta(seconds=30))
        assert found.counts.purged
        purges.append(found.counts.purged)
    assert len(purges) > 1


def test_a_purge_without_time_for_all_asks_again_in_an_hour(db: Connection) -> None:
    """Of jobs that are past their date and there still: asking again at once would bring the same answers for ever."""
    scene = Scene(db, populated(900, seed=6, rate=0))
    run(scene, INCREMENT)
    scene.world.stop_life()
    scene.world.advance(timedelta(days=29))
    scene.emulator.between_pages = lambda world: world.advance(A_MOMENT)
    found = purge_now(scene.source, scene.api, db, scene.clock, within=timedelta(seconds=10))
    assert found.counts.purged == 0
    assert found.requests > 2
    assert scene.one("SELECT purge_asked_at FROM etl.sources") is not None


def test_deep_passes_are_runs_of_their_own(db: Connection) -> None:
    """An increment without them leaves them due; a run of them alone does them, and is of their kind."""
    scene = Scene(db, World())
    job = scene.world.add()
    run(scene, INCREMENT)
    scene.world.advance(timedelta(hours=25))
    scene.world.add()
    run(scene, INCREMENT)
    scene.world.change(job, touch=False, jobStatusText="changed, and nobody was told")
    assert run(scene, INCREMENT).counts.written == 0
    found = deepen_now(scene.source, scene.api, db, scene.clock)
    assert (found.verdict, found.kind, found.counts.repaired) == (Verdict.COMPLETE, "reread", 1)
    assert scene.differences() == []


def test_a_comparison_goes_in_slices(db: Connection) -> None:
    """From its own cursor, by as many runs as it takes; then nothing is due."""
    scene = slow(db, populated(2_500, seed=8, rate=0), A_MOMENT)
    run(scene, INCREMENT)
    scene.world.advance(timedelta(days=8))
    scene.set(reread=timedelta())
    found = [deepen_now(scene.source, scene.api, db, scene.clock, within=timedelta(seconds=20))]
    while found[-1].verdict is Verdict.INCOMPLETE:
        found.append(deepen_now(scene.source, scene.api, db, scene.clock, within=timedelta(seconds=20)))
    assert len(found) > 1
    assert {run.kind for run in found} == {"reconcile"}
    assert sum(run.pages for run in found) >= 20
    after = deepen_now(scene.source, scene.api, db, scene.clock)
    assert after.pages == 0


_TWO_THREADS = """
import signal, os, sys, threading
from etl import shutdown
shutdown.heed()
began, told, ended = threading.Barrier(3), threading.Event(), []
def work(number):
    try:
        with shutdown.afterwards():
            began.wait(10)
            assert told.wait(10)
            ended.append(f"{number} done")
        ended.append("went on")
    except KeyboardInterrupt:
        ended.append(f"{number} ended")
threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2)]
for thread in threads: thread.start()
try:
    began.wait(10)
    os.kill(os.getpid(), signal.SIGTERM)
    while True: signal.pause()
except KeyboardInterrupt:
    told.set()
for thread in threads: thread.join(10)
print(*sorted(ended), sep="; ")
"""


def test_threads_finish_what_they_have_in_hand_and_end() -> None:
    """The signal comes to the main thread, which waits for them; each ends after its transaction."""
    found = subprocess.run(
        [sys.executable, "-c", _TWO_THREADS], capture_output=True, text=True, timeout=60, check=False
    )
    assert (found.stdout.strip(), found.stderr) == ("1 done; 1 ended; 2 done; 2 ended", "")
