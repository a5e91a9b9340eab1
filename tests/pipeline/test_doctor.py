"""What doctor says of the rows of a page: how many can't be read and why, and never a value of theirs."""

import json
from collections.abc import Mapping

from etl.models import Batch, Job, JobRow
from etl.pipeline.doctor import service
from etl.pipeline.doctor.checks import Check, Standing
from etl.postgres.connection import Connection
from etl.testing.emulator import Faults, World, populated
from etl.testing.emulator.service_options import ServiceOptions
from etl.transform.flatten import flatten
from tests.support.command import Command
from tests.support.scene import Scene

SECRET = "https://files.example/a?key=Acc3ssKey"


def judged(*rows: Mapping[str, object]) -> list[tuple[str, Standing, str]]:
    """Return what is said of these rows."""
    raw = [json.dumps(row).encode() for row in rows]
    return [(check.name, check.standing, check.detail) for check in service.judge_rows(len(raw), flatten(raw))]


def examine(scene: Scene) -> dict[str, Check]:
    """Return the checks of a scene's service, by name."""
    with scene.api() as api:
        return {check.name: check for check in service.examine_service(api)}


def test_a_page_that_can_be_read_is_fine() -> None:
    """One line, with how many rows were looked at."""
    assert judged({"jobID": "a"}, {"jobID": "b"}) == [("rows", Standing.FINE, "all 2 rows of a page can be read")]


def test_rows_that_cannot_be_read_fail_with_the_reasons_of_each_property() -> None:
    """The most frequent first; the value may be a link, and is not told."""
    bad = [{"jobID": f"{number}", "createdDate": SECRET} for number in range(3)]
    [(name, standing, said)] = judged(*bad, {"jobID": "x", "purgeDateTime": SECRET}, {"jobID": "y"})
    assert (name, standing) == ("rows", Standing.FAILED)
    assert said.startswith("4 of 5 rows of a page can't be read, so they will be missing: createdDate is ")
    assert " (3 times), purgeDateTime is " in said
    assert "Acc3ssKey" not in said


def test_of_many_reasons_some_are_told() -> None:
    """A line stays a line."""
    rows = [{"jobID": f"{number}", "rowversion": "A" * 4 * number} for number in range(1, 12)]
    [(_, standing, said)] = judged(*rows)
    assert standing is Standing.FAILED
    assert "rowversion has " in said
    assert ", and " in said
    assert len(said) < 500


def test_a_service_whose_rows_changed_their_form_fails(command: Command, world: World) -> None:
    """As a sync would: each row of the page is read as a sync reads it."""
    assert "ok      rows " in command.run("doctor")[1]
    for job in list(world.jobs()):
        world.change(job, overrides={"createdDate": {"at": SECRET}})
    code, output, _ = command.run("doctor")
    assert code == 1
    assert "100 of 100 rows of a page can't be read" in output
    assert "createdDate" in output
    assert "Acc3ssKey" not in output


def test_the_newest_rows_are_looked_at() -> None:
    """Their form is today's; the first page of a service shows its oldest rows."""
    world = populated(130, seed=1, rate=0)
    last = max(world.jobs(), key=lambda job: world.payload(job)["modifiedDate"])
    scene = Scene(None, world, page_size=20)  # type: ignore[arg-type]
    world.change(last, overrides={"createdDate": "yesterday"})
    assert examine(scene)["rows"].detail.startswith("1 of 20 rows of a page can't be read")


def test_a_smaller_page_is_looked_at_where_a_whole_one_is_too_large(db: Connection) -> None:
    """Asked for in each way that there is: here the vendor's parameter alone is heeded."""
    options = ServiceOptions(pagesize="honoured", prefer="ignored", most_rows=20)
    scene = Scene(db, populated(90, seed=1, rate=0), options=options)
    assert examine(scene)["rows"].detail == "all 20 rows of a page can be read"


def test_a_service_that_is_down_fails(db: Connection) -> None:
    """One line with the reason; nothing else is asked."""
    scene = Scene(db, populated(10, seed=1, rate=0))
    scene.emulator.set_faults(Faults(rate=1.0, kinds=("503",)))
    checks = examine(scene)
    assert checks.keys() == {"service"}
    assert (checks["service"].standing, "HTTP 503" in checks["service"].detail) == (Standing.FAILED, True)


def test_values_that_cannot_be_read_are_a_note_with_their_form() -> None:
    """The row is loaded without them: nothing is missing but the value, which is not told."""
    row = JobRow._make([None] * len(JobRow._fields))._replace(job_id="a")
    unread = (("percentCompleted", "object"), ("purgeDays", "text of 3"))
    batch = Batch(jobs=(Job(row, (), unread), Job(row._replace(job_id="b"), (), unread[:1]), Job(row, ())))
    said = (
        "2 of 3 rows have values that can't be read, and are loaded without them: percentCompleted: object (2 times), "
        "purgeDays: text of 3; the values stay in the column `extra`"
    )
    checks = [(check.name, check.standing, check.detail) for check in service.judge_rows(3, batch)]
    assert checks == [
        ("rows", Standing.FINE, "all 3 rows of a page can be read"),
        ("values", Standing.NOTE, said),
    ]
