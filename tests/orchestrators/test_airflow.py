"""The DAGs of deploy/airflow under a real Airflow, with the installed program, pretend sources and a real Postgres."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from psycopg import conninfo

from etl.postgres import locks, migrations
from etl.postgres.connection import connect
from etl.testing.emulator import Emulator, World, populated, serve
from tests.conftest import a_database
from tests.orchestrators.installed import Home, State

EAST = "t0ken-of-the-east-0123456789"
WEST = "t0ken-of-the-west-0123456789"
STALE = "t0ken-that-was-withdrawn-0123"
_FILE = """
[sources.east]
base_url = "{east}"
token_env = "EAST_TOKEN"

[sources.west]
base_url = "{west}"
token_file = "west.token"

[sources.stale]
base_url = "{east}"
token_file = "stale.token"

[sources.held]
base_url = "{west}"
token_file = "west.token"

[sources.off]
base_url = "{west}"
token_file = "west.token"
disabled = true
"""


class Story(NamedTuple):
    """How two runs of `aims360`, and one of `after_aims360`, left everything: jobs with their status, what was said."""

    home: Home
    there: set[tuple[object, ...]]
    here: set[tuple[object, ...]]
    said: str
    secrets: tuple[str, ...]


@pytest.fixture(scope="module")
def story(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """In the first run a token is stale, a source is held, and a row can't be read; before the second all is mended."""
    folder = tmp_path_factory.mktemp("orchestrated")
    east, west = a_world(1), a_world(2)
    with (
        contextmanager(a_database)(server_url, "airflow") as url,
        serve(Emulator(east, token=EAST)) as east_server,
        serve(Emulator(west, token=WEST)) as west_server,
        connect(url) as db,
    ):
        migrations.migrate(url)
        config = folder / "aims360.toml"
        config.write_text(_FILE.format(east=east_server.url, west=west_server.url), encoding="utf-8")
        secret_file(folder / "west.token", WEST)
        secret_file(folder / "stale.token", STALE)
        home = Home(folder / "home", {"DATABASE_URL": url, "AIMS360_CONFIG": str(config), "EAST_TOKEN": EAST})
        done(home, "aims360-etl", "sync", "--source", "held")
        unread = west.add(overrides={"accountCode": 22})
        with home.running() as airflow:
            with held(db, "held"):
                done(home, "airflow", "dags", "unpause", "aims360")
                airflow.end("aims360")
            done(home, "airflow", "dags", "unpause", "after_aims360")
            airflow.wait("Rescheduling task")
            secret_file(folder / "stale.token", EAST)
            west.change(unread, overrides={"accountCode": "AZ022"})
            done(home, "airflow", "dags", "trigger", "aims360")
            airflow.end("aims360", 2)
            airflow.end("after_aims360")
        worlds = {"east": east, "stale": east, "west": west, "held": west}
        there: set[tuple[object, ...]] = {(source, *job) for source, world in worlds.items() for job in jobs(world)}
        here = set(db.execute("SELECT source, job_id, job_status FROM bi.jobs").fetchall())
        password = str(conninfo.conninfo_to_dict(url)["password"])
        yield Story(home, there, here, "".join(airflow.said), (EAST, WEST, STALE, password))


def a_world(seed: int) -> World:
    """Jobs that stand still, of which none is purged before the test ends."""
    return populated(200, seed=seed, rate=0, days=20, now=datetime.now(UTC))


def jobs(world: World) -> Iterator[tuple[str, str]]:
    """What a source shows."""
    for job in world.jobs():
        shown = world.payload(job)
        yield shown["jobID"], shown["jobStatus"]


def secret_file(file: Path, secret: str) -> None:
    """Of which nobody else can read."""
    file.touch(mode=0o600)
    file.write_text(secret, encoding="utf-8")


def done(home: Home, *words: str) -> None:
    """A command succeeded."""
    code, said = home.run(*words)
    assert code == 0, said


@contextmanager
def held(db: psycopg.Connection[tuple[object, ...]], source: str) -> Iterator[None]:
    """Another run is at work on a source."""
    row = db.execute("SELECT source_id FROM etl.sources WHERE name = %s", (source,)).fetchone()
    assert row
    with locks.held(db, source, int(str(row[0]))):
        yield


def of_sources(states: dict[str, State]) -> dict[str, State]:
    """Without the tasks that list them, and shards without a source."""
    return {name: state for name, state in states.items() if not name.startswith("shard_")}


def test_each_source_has_a_task_instance_and_fails_or_is_left_out_alone(story: Story) -> None:
    """The stale token was tried three times, what another holds and what is disabled wasn't touched."""
    assert of_sources(story.home.states("aims360", 1)) == {
        "east": State("success", 1),
        "west": State("success", 1),
        "stale": State("failed", 3),
        "held": State("skipped", 1),
    }
    assert "the service refuses the token" in story.home.logs("*.sync")


def test_the_next_run_brings_what_was_missing_and_nothing_twice(story: Story) -> None:
    """All succeeded; what was here already was not read as new, and the mirror holds what the sources show."""
    well = dict.fromkeys(("east", "west", "stale", "held"), State("success", 1))
    assert of_sources(story.home.states("aims360", 2)) == well
    inserted = {source: run["counts"]["inserted"] for source, run in story.home.results("aims360", 2).items()}
    assert inserted == {"east": 0, "west": 1, "stale": 200, "held": 1}
    assert story.here == story.there


def test_other_tasks_see_what_a_run_came_to(story: Story) -> None:
    """Counts and complete_through, of each source that was synced; rows that can't be read are warned of."""
    results = story.home.results("aims360", 1)
    assert {source: run["counts"]["inserted"] for source, run in results.items()} == {"east": 200, "west": 200}
    assert all(datetime.fromisoformat(run["complete_through"]).tzinfo for run in results.values())
    assert "west: done, but not all is well" in story.home.logs("*.sync")


def test_the_sensor_waits_until_every_source_is_fresh(story: Story) -> None:
    """It looked in vain while a token was stale; then it passed, and what waited for it ran."""
    states = story.home.states("after_aims360", 1)
    assert {task: state.state for task, state in states.items()} == {"fresh": "success", "growth": "success"}
    looks = story.home.logs("fresh")
    assert "Rescheduling task" in looks
    assert "stale is complete up to" in looks


def test_no_secret_is_in_any_log_or_in_the_metadata_database(story: Story) -> None:
    """Nor anywhere else in Airflow's home, nor in what its processes say."""
    files = [file for file in story.home.folder.rglob("*") if file.is_file() and file.name != "aims360-etl"]
    assert {"airflow.db", "attempt=3.log"} <= {file.name for file in files}
    everything = story.said.encode() + b"".join(file.read_bytes() for file in files)
    assert [secret for secret in story.secrets if secret.encode() in everything] == []


def test_a_wrong_setting_fails_without_another_try(tmp_path: Path) -> None:
    """Exit code 2, by `airflow dags test`."""
    home = Home(tmp_path / "home", {"AIMS360_TOKE": "a name that is no setting"})
    done(home, "airflow", "db", "migrate")
    code, said = home.run("airflow", "dags", "test", "aims360")
    assert code == 1
    assert "AIMS360_TOKE: no such setting" in said
    states = home.states("aims360", 1)
    assert {state for task, state in states.items() if task.endswith(".sources")} == {State("failed", 1)}
    assert {state.state for task, state in states.items() if task.endswith(".sync")} == {"upstream_failed"}
