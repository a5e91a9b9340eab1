"""Metrics as a file and over HTTP, of real runs."""

import json
import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from etl.errors import ConfigError, EtlError
from etl.models import CAPABILITIES, Clock, Run
from etl.postgres.connection import Connection
from etl.reporting.metrics import exporter, families
from etl.reporting.metrics.exporter import Metrics
from etl.reporting.metrics.http_server import Heartbeat
from etl.reporting.metrics.http_server import serve as serve_metrics
from etl.testing.emulator import Emulator, populated, serve
from etl.testing.emulator.service_options import ServiceOptions
from tests.support.command import Command
from tests.support.ports import a_free_port
from tests.support.scene import TOKEN, Scene, a_source

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def told(text: str) -> dict[tuple[str, ...], float]:
    """Samples by name and the values of their labels, the source's first."""
    return {
        (s.name, *(s.labels[label] for label in families.LABELS[s.name])): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def watched(scene: Scene, kept: Metrics, sync: Callable[[], Run] | None = None) -> Run:
    """A sync as the command makes it: with its metrics."""
    with kept.run(scene.source.name) as ended:
        run = (sync or scene.sync)()
        ended(run, scene.db)
    return run


@pytest.fixture
def scene(db: Connection) -> Scene:
    """Some jobs, one of them stuck and one that can't be read."""
    scene = Scene(db, populated(100, seed=1, now=NOW, rate=0))
    scene.world.add(jobStatus="Queued", startDate=None, completedDate=None)
    return scene


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where node_exporter would look."""
    return tmp_path / "aims360.prom"


def test_a_run_tells_what_it_did_and_how_the_source_stands(scene: Scene, file: Path) -> None:
    """Rows, requests, seconds by phase and the standing in the views; for others to read, no rest left."""
    run = watched(scene, Metrics(scene.clock, file))
    found = told(file.read_text(encoding="utf-8"))
    source = scene.source.name
    assert found[families.ROWS, source, "inserted"] == 101
    assert found[families.REQUESTS, source, "200"] == run.requests > 0
    assert found[families.RUNS, source, "full", "succeeded"] == 1
    assert {phase for name, *rest in found if name == families.PHASES for phase in rest[1:]} == set(run.phases)
    assert found[families.COMPLETE_THROUGH, source] == scene.one(
        "SELECT extract(epoch FROM complete_through)::float FROM etl.sources"
    )
    assert found[families.OPEN_JOBS, source] == scene.one(
        "SELECT count(*) FROM bi.jobs WHERE is_open AND NOT is_purged"
    )
    assert found[families.STUCK_JOBS, source] == scene.one("SELECT count(*) FROM bi.jobs WHERE is_stuck")
    assert found[families.NEXT_REREAD, source] > scene.world.now.timestamp()
    assert found[families.LAG, source] >= 0
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(file.parent.iterdir()) == [file]


def test_rows_that_wait_are_told_with_the_oldest_until_they_are_read(scene: Scene, file: Path) -> None:
    """How many, and since when; the sample of the oldest goes with them, from the file too."""
    job = next(iter(scene.world.jobs()))
    scene.world.change(job, overrides={"createdDate": "what is no date"})
    watched(scene, Metrics(scene.clock, file))
    found = told(file.read_text(encoding="utf-8"))
    assert found[families.REJECTS, "aims360"] == 1
    assert found[families.OLDEST_REJECT, "aims360"] == scene.one(
        "SELECT extract(epoch FROM first_seen_at)::float FROM etl.rejects"
    )
    scene.world.change(job, createdDate=scene.world.now)
    scene.world.advance(timedelta(minutes=5))
    watched(scene, Metrics(scene.clock, file))
    found = told(file.read_text(encoding="utf-8"))
    assert found[families.REJECTS, "aims360"] == 0
    assert (families.OLDEST_REJECT, "aims360") not in found


def test_a_service_that_refuses_something_shows_in_the_file(scene: Scene, file: Path) -> None:
    """The way in force, and what is supported and what not, from one run to the next."""
    watched(scene, Metrics(scene.clock, file))
    found = told(file.read_text(encoding="utf-8"))
    assert (found[families.PAGING, "aims360", "key", "modifiedDate"], found[families.RANK, "aims360"]) == (1, 0)
    assert found[families.CAPABILITY, "aims360", "orderby"] == 1
    scene.emulator.options = ServiceOptions(refused=frozenset({"top", "modifiedDate"}))
    scene.world.advance(timedelta(minutes=5))
    run = watched(scene, Metrics(scene.clock, file))
    found = told(file.read_text(encoding="utf-8"))
    assert [key[2:] for key in found if key[0] == families.PAGING] == [("key", "none")]
    assert found[families.RANK, "aims360"] == 4
    assert found[families.LAST_REQUESTS, "aims360"] == run.requests
    capabilities = {key[2]: value for key, value in found.items() if key[0] == families.CAPABILITY}
    assert (capabilities["top"], capabilities["filter_dates"], capabilities["orderby"]) == (0, 0, 1)
    assert capabilities.keys() <= set(CAPABILITIES)


def test_counters_go_on_from_the_file(scene: Scene, file: Path) -> None:
    """Each run is a process of its own: the next adds to what the last one left."""
    watched(scene, Metrics(scene.clock, file))
    before = told(file.read_text(encoding="utf-8"))
    scene.world.add()
    watched(scene, Metrics(scene.clock, file))
    after = told(file.read_text(encoding="utf-8"))
    assert after[families.ROWS, "aims360", "inserted"] == 102
    assert after[families.RUNS, "aims360", "incremental", "succeeded"] == 1
    shrunk = [key for key, value in before.items() if key[0].endswith("_total") and after[key] < value]
    assert shrunk == []


def test_a_file_of_two_sources_keeps_both(scene: Scene, file: Path, db: Connection) -> None:
    """Each run renews its own source's samples and leaves the other's."""
    east = Scene(db, populated(10, seed=2, now=NOW, rate=0), a_source(name="east"))
    watched(scene, Metrics(scene.clock, file))
    watched(east, Metrics(east.clock, file))
    watched(scene, Metrics(scene.clock, file))
    found = told(file.read_text(encoding="utf-8"))
    assert found[families.ROWS, "east", "inserted"] == 10
    assert found[families.ROWS, "aims360", "inserted"] == 101


def test_files_of_two_sources_have_no_sample_in_common(scene: Scene, tmp_path: Path, db: Connection) -> None:
    """node_exporter puts all files together, and refuses them where one sample stands twice."""
    east = Scene(db, populated(10, seed=2, now=NOW, rate=0), a_source(name="east"))
    for each in (scene, east):
        watched(each, Metrics(each.clock, tmp_path / f"{each.source.name}.prom"))
    first, second = (told(file.read_text(encoding="utf-8")) for file in tmp_path.iterdir())
    assert first.keys() & second.keys() == set()


@pytest.mark.parametrize(
    "content", [b"", b"no metrics {", b"\xff\xfe", b'aims360_etl_retries_total{source="aims360"} NaN\n', b"x" * 9_999]
)
def test_a_file_that_cannot_be_read_starts_anew(scene: Scene, file: Path, content: bytes) -> None:
    """Torn, of another program, or nonsense: the run is told of all the same, and counters begin at its own."""
    file.write_bytes(content)
    said: list[str] = []
    watched(scene, Metrics(scene.clock, file, said.append))
    assert len(said) <= 1
    assert told(file.read_text(encoding="utf-8"))[families.ROWS, "aims360", "inserted"] == 101


def test_a_file_that_cannot_be_written_is_said_and_changes_nothing(scene: Scene, tmp_path: Path) -> None:
    """The run is done, and its metrics are known to whoever scrapes."""
    said: list[str] = []
    kept = Metrics(scene.clock, tmp_path / "absent" / "aims360.prom", said.append)
    run = watched(scene, kept)
    assert run.counts.inserted == 101
    assert said == [
        f"metrics: {tmp_path}/absent/aims360.prom can't be written: No such file or directory; the run is not affected"
    ]
    assert {family.name for family in kept.collect()} >= {"aims360_etl_rows"}


def test_a_pipe_or_a_device_is_neither_read_nor_replaced(scene: Scene, tmp_path: Path) -> None:
    """Root's `--metrics-file /dev/null` must leave it to all others, and nobody waits for a pipe."""
    said: list[str] = []
    os.mkfifo(pipe := tmp_path / "pipe")
    assert watched(scene, Metrics(scene.clock, pipe, said.append)).counts.inserted == 101
    assert pipe.is_fifo()
    assert said[-1].endswith("can't be written: it is no regular file; the run is not affected")


def test_a_file_without_end_is_not_read_up(scene: Scene, file: Path) -> None:
    """What is far too large is none of ours: it is replaced, and costs no memory."""
    said: list[str] = []
    with file.open("wb") as sparse:
        sparse.truncate(1 << 30)
    watched(scene, Metrics(scene.clock, file, said.append))
    assert said == [f"metrics: {file} can't be read: it is no Prometheus text; its counters begin anew"]
    assert file.stat().st_size < 20_000


def test_what_another_process_added_meanwhile_stays(scene: Scene, file: Path) -> None:
    """A service and a run by hand share a file: neither takes back what the other counted."""
    service, by_hand = Metrics(scene.clock, file), Metrics(scene.clock, file)
    watched(scene, service)
    scene.world.add()
    watched(scene, by_hand)
    watched(scene, service)
    found = told(file.read_text(encoding="utf-8"))
    assert found[families.ROWS, "aims360", "inserted"] == 102
    assert found[families.RUNS, "aims360", "incremental", "succeeded"] == 2


def test_a_failed_run_is_told_of(scene: Scene, file: Path) -> None:
    """With what it asked of the source; what is known of the mirror stays."""
    watched(scene, Metrics(scene.clock, file))
    before = told(file.read_text(encoding="utf-8"))
    scene.world.advance(timedelta(minutes=5))
    scene.emulator.fail_next("", *["503"] * 40)
    with pytest.raises(EtlError):
        watched(scene, Metrics(scene.clock, file))
    found = told(file.read_text(encoding="utf-8"))
    assert found[families.EXIT_CODE, "aims360"] == 1
    assert found[families.RUNS, "aims360", "incremental", "failed"] == 1
    assert found[families.REQUESTS, "aims360", "503"] > 1
    assert found[families.RETRIES, "aims360"] >= 1
    for name in (families.COMPLETE_THROUGH, families.LAST_SUCCESS, families.OPEN_JOBS):
        assert found[name, "aims360"] == before[name, "aims360"]
    assert found[families.LAG, "aims360"] >= before[families.LAG, "aims360"] + 300


def test_writers_at_once_tear_nothing(file: Path) -> None:
    """Each sees, and leaves, a whole file."""
    clock = Clock(lambda: NOW, lambda: 0.0, lambda _: None)
    said: list[str] = []

    def write(source: str) -> None:
        for _ in range(20):
            Metrics(clock, file, said.append).ended(source, None, None, None)

    writers = [threading.Thread(target=write, args=(f"source {number}",)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert said == []
    assert exporter.parsed(file.read_text(encoding="utf-8"))
    assert list(file.parent.iterdir()) == [file]


def test_a_scrape_sees_the_lag_of_a_service_that_hangs(scene: Scene) -> None:
    """Counters from the first moment; after a run its samples; and a lag that grows while nothing ends."""
    kept = Metrics(scene.clock)
    kept.expect(scene.source.name)
    port = serve_metrics(kept, Heartbeat(scene.clock.monotonic, 60), 0, "127.0.0.1")

    first = scraped(port)
    assert first[families.ROWS, "aims360", "inserted"] == 0
    assert (families.LAG, "aims360") not in first
    watched(scene, kept)
    fresh = scraped(port)
    scene.world.advance(timedelta(hours=1))
    hung = scraped(port)
    assert fresh[families.ROWS, "aims360", "inserted"] == 101
    assert hung[families.LAG, "aims360"] == pytest.approx(fresh[families.LAG, "aims360"] + 3600)
    assert hung[families.COMPLETE_THROUGH, "aims360"] == fresh[families.COMPLETE_THROUGH, "aims360"]
    with pytest.raises(ConfigError, match=f"127.0.0.1 port {port} can't be had"):
        serve_metrics(kept, Heartbeat(scene.clock.monotonic, 60), port, "127.0.0.1")


def test_nothing_told_is_secret_or_personal(scene: Scene, file: Path) -> None:
    """No token, address, job, account or person, whatever happens."""
    watched(scene, Metrics(scene.clock, file))
    text = file.read_text(encoding="utf-8")
    job = scene.world.payload(next(iter(scene.world.jobs())))
    for secret in (TOKEN, scene.source.base_url, *(str(job[k]) for k in ("jobID", "accountCode", "createdBy"))):
        assert secret not in text


def test_names_come_back_as_they_were_written(file: Path) -> None:
    """A source may be called anything that can be seen."""
    clock = Clock(lambda: NOW, lambda: 0.0, lambda _: None)
    name = 'wést "1" \\n {x="y"}'
    for _ in range(2):
        Metrics(clock, file).ended(name, None, None, None)
    assert told(file.read_text(encoding="utf-8"))[families.RUNS, name, "none", "succeeded"] == 2


@pytest.fixture
def command(url: str, tmp_path: Path) -> Iterator[Command]:
    """The command for a pretend service with a hundred jobs."""
    with serve(Emulator(populated(100, seed=1, rate=0), token=TOKEN)) as server:
        yield Command(server.url, url, tmp_path)


def test_commands_tell_of_their_runs_by_a_file(command: Command, file: Path) -> None:
    """sync, purge and reconcile add up in it; a dry run is none; what fails is told of, and exits as ever."""
    wish = ("--metrics-file", str(file))
    for words in (["sync"], ["sync"], ["purge"], ["purge", "--dry-run"], ["reconcile"]):
        code, _, errors = command.run(*words, *wish)
        assert (code, errors) == (0, ""), words
    command.environ["AIMS360_TOKEN"] = "wrong"
    assert command.run("sync", *wish)[0] == 1
    found = told(file.read_text(encoding="utf-8"))
    runs = {key[2:]: value for key, value in found.items() if key[0] == families.RUNS and value}
    assert runs == {
        ("full", "succeeded"): 1,
        ("incremental", "succeeded"): 1,
        ("purge", "succeeded"): 1,
        ("reconcile", "succeeded"): 1,
        ("incremental", "failed"): 1,
    }
    assert found[families.ROWS, "aims360", "inserted"] == 100
    assert found[families.REQUESTS, "aims360", "401"] >= 1


def test_a_sync_that_is_done_is_done_where_its_metrics_cannot_be_written(command: Command) -> None:
    """Exit code 0, and a line."""
    code, output, errors = command.run("sync", "--metrics-file", "absent/aims360.prom")
    assert (code, "100 new" in output) == (0, True)
    assert "metrics: absent/aims360.prom can't be written: No such file or directory" in errors


@contextmanager
def serving(command: Command, port: int, until: str) -> Iterator[Callable[[], int]]:
    """The service, once its log has told of such an event; what is yielded ends it as a service manager does."""
    with command.start("sync", "--every", "1s", "--metrics-port", str(port), "--log-format", "json") as service:

        def ended() -> int:
            service.terminate()
            service.communicate(timeout=60)
            return service.returncode

        try:
            assert service.stderr is not None
            events = (json.loads(line)["event"] for line in service.stderr)
            assert until in events
            yield ended
        finally:
            service.kill()


def test_a_service_is_scraped(command: Command) -> None:
    """From its beginning until SIGTERM; a second one at the same port is told so, and a single run has no port."""
    port = a_free_port()
    with serving(command, port, "run") as end:
        found = scraped(port)
        code, _, errors = command.run("sync", "--every", "1s", "--metrics-port", str(port))
        assert end() == 0
    assert found[families.ROWS, "aims360", "inserted"] == 100
    assert found[families.LAG, "aims360"] > 0
    assert (code, f"127.0.0.1 port {port} can't be had" in errors) == (2, True)
    assert "stopped" not in errors  # it never began
    code, _, errors = command.run("sync", "--metrics-port", str(port))
    assert (code, "--metrics-port goes with --every" in errors) == (2, True)


def test_a_service_that_starts_anew_knows_how_far_the_mirror_is(command: Command) -> None:
    """The source is down: its lag is told all the same, from the first scrape on."""
    assert command.run("sync")[0] == 0
    port = a_free_port()
    command.environ["AIMS360_BASE_URL"] = f"http://127.0.0.1:{a_free_port()}"
    with serving(command, port, "service"):
        found = scraped(port)
    assert found[families.LAG, "aims360"] > 0
    assert (families.LAST_RUN, "aims360") not in found


def scraped(port: int) -> dict[tuple[str, ...], float]:
    """What a service tells."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return told(answer.read().decode())
