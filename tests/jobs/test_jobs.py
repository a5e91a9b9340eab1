"""Jobs by hand: found by the beginning of their ids, listed, shown, exported; and the commands as people run them."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.cli import EXIT_CODES, options
from etl.errors import ConfigError, DatabaseError, SchemaError
from etl.jobs import mirror_query
from etl.jobs.mirror_query import Found, Wanted
from etl.postgres import roles
from etl.postgres.connection import Connection
from etl.testing.emulator import Emulator, Job, World, serve
from tests.support.command import Command
from tests.support.logins import a_login, as_role
from tests.support.processes import Child
from tests.support.scene import TOKEN, Scene, a_source

IDS = (
    "aaaaaaaa-1111-4111-a111-111111111111-20260302090000000",
    "aaaaaaaa-2222-4222-a222-222222222222-20260302090000000",
    "AAAA_B%%-3333-4333-A333-333333333333",
    "bbbbbbbb-4444-4444-a444-444444444444-20260302090000000",
)
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
KEY = "Acc3ssKeyOfALink9876543210XYZ"
LINK = f"https://files.example/one/{KEY}"
PUBLISHED = {"responseType": "Publishlink"}
DOCUMENTS = json.dumps([{"documentName": "a.pdf", "DownloadLink": LINK, "SizeInMB": 1.5, "Type": ".pdf"}])


@pytest.fixture
def scene(db: Connection) -> Scene:
    """A mirror of four jobs, an hour apart, the last of which has a document."""
    scene = Scene(db, World(seed=1))
    for number, job_id in enumerate(IDS):
        scene.world.add(
            jobID=job_id,
            jobStatus=("Completed", "Failed", "Queued", "Completed")[number],
            overrides={"accountCode": f"AZ{number}", "categoryName": "Reports", "canReRun": "Yes", **PUBLISHED},
            **({"response": DOCUMENTS, "publishLink": LINK, "requestURL": LINK} if number == 3 else {}),
        )
        scene.world.advance(timedelta(hours=1))
    scene.sync()
    return scene


def found(scene: Scene, given: str, source: str | None = None) -> Found | None:
    """What an id leads to."""
    return mirror_query.find(scene.db, given, source)


def listed(scene: Scene, most: int = 20, **wanted: Any) -> list[str]:
    """The first digits of the ids that are listed."""
    return [str(row["job_id"])[5:13] for row in mirror_query.listed(scene.db, Wanted(**wanted), most, NOW).jobs]


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        (IDS[0], IDS[0]),
        (IDS[0].upper(), IDS[0]),
        ("aaaaaaaa-1", IDS[0]),
        ("BBBB", IDS[3]),
        ("  bbbbb ", IDS[3]),
        ("aaaa_b", IDS[2]),
        ("aaaa_b%%-", IDS[2]),
        ("aaaaaaaa-3", None),
        ("____", None),
        ("bbbb%", None),
    ],
)
def test_an_id_may_be_shortened_to_its_beginning(scene: Scene, given: str, whole: str | None) -> None:
    """Whatever the case of its letters; what SQL would take for a wildcard is a letter like any other."""
    assert found(scene, given) == (None if whole is None else Found("aims360", whole))


def test_a_beginning_of_several_is_said_with_some_of_them(scene: Scene) -> None:
    """How many there are, and a few to choose from."""
    with pytest.raises(ConfigError, match=f"'aaaaaaaa' is the beginning of 2 jobs' ids: {IDS[1]}, {IDS[0]}; give more"):
        found(scene, "aaaaaaaa")
    scene.world.ties(7, overrides={})
    for number in range(7):
        scene.world.add(jobID=f"cccc-{number}")
    scene.sync()
    with pytest.raises(ConfigError, match=r"of 7 jobs' ids: (cccc-\d, ){5}and 2 more; give more of it"):
        found(scene, "cccc")


def test_a_whole_id_is_no_beginning_of_another(scene: Scene) -> None:
    """`batch-1` is one job, though `batch-10` begins like it."""
    for job_id in ("batch-1", "batch-10", "BATCH-2", "batch-2"):
        scene.world.add(jobID=job_id)
    scene.sync()
    assert found(scene, "batch-1") == Found("aims360", "batch-1")
    assert found(scene, "BATCH-10") == Found("aims360", "batch-10")
    assert found(scene, "BATCH-2") == Found("aims360", "BATCH-2")
    with pytest.raises(ConfigError, match="2 jobs"):
        found(scene, "Batch-2")


@pytest.mark.parametrize("given", ["", "abc", "two words", "x" * 251, "\udcff234", "nul\0nul"])
def test_what_can_be_no_id_is_said_before_anything_is_asked(scene: Scene, given: str) -> None:
    """Too short, too long, or of letters that no id has."""
    with pytest.raises(ConfigError, match=r"too short|no job's id"):
        found(scene, given)


def test_of_several_sources_the_one_that_has_it_is_taken(scene: Scene) -> None:
    """Where two have it, --source decides."""
    other = Scene(scene.db, World(seed=2), replace(a_source(), name="east"))
    other.world.add(jobID=IDS[0])
    other.world.add(jobID="dddd-1")
    other.sync()
    assert found(scene, "dddd") == Found("east", "dddd-1")
    with pytest.raises(ConfigError, match=f"{IDS[0]} of aims360.*of east.*--source") as caught:
        found(scene, "aaaaaaaa-1")
    assert "of 2 jobs" in str(caught.value)
    assert found(scene, "aaaaaaaa-1", "east") == Found("east", IDS[0])
    assert found(scene, "dddd", "aims360") is None


@pytest.mark.parametrize(
    ("wanted", "which"),
    [
        ({}, [3, 2, 1, 0]),
        ({"status": "completed"}, [3, 0]),
        ({"status": "Comp%"}, []),
        ({"account": "az1"}, [1]),
        ({"category": "reports", "status": "Queued"}, [2]),
        ({"category": "Exports"}, []),
        ({"since": options.since("2026-03-02T11:00", NOW)}, [3, 2]),
        ({"source": "aims360"}, [3, 2, 1, 0]),
        ({"source": "east"}, []),
    ],
)
def test_jobs_are_listed_newest_first(scene: Scene, wanted: dict[str, Any], which: list[int]) -> None:
    """All conditions count; names whatever the case of their letters, never as patterns."""
    assert listed(scene, **wanted) == [IDS[number][5:13] for number in which]


@pytest.mark.parametrize("hours", [0, 189, 192, 999])
def test_whenever_it_is_the_newest_come_first(scene: Scene, hours: int) -> None:
    """Looked for among those of the last day first, or of the last week: the answer is the same."""
    for most in (1, 2, 3, 4):
        found = mirror_query.listed(scene.db, Wanted(), most, NOW - timedelta(hours=hours))
        assert [row["job_id"] for row in found.jobs] == [*reversed(IDS)][:most]
        assert found.are_more == (most < 4)


def test_a_job_without_a_date_comes_last(scene: Scene) -> None:
    """It isn't newer than all others."""
    scene.world.add(jobID="dateless", createdDate=None)
    scene.sync()
    assert mirror_query.listed(scene.db, Wanted(), 20, NOW).jobs[-1]["job_id"] == "dateless"


def test_more_than_was_asked_for_is_known(scene: Scene) -> None:
    """So many at most, and whether there are more."""
    assert [mirror_query.listed(scene.db, Wanted(), most, NOW).are_more for most in (3, 4)] == [True, False]
    assert len(mirror_query.listed(scene.db, Wanted(), 3, NOW).jobs) == 3


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2d", "2026-03-08T12:00:00"),
        ("90m", "2026-03-10T10:30:00"),
        ("2026-03-01", "2026-03-01T00:00:00"),
        ("2026-03-01T08:00", "2026-03-01T08:00:00"),
        ("2026-03-01T08:00+02:00", "2026-03-01T06:00:00"),
    ],
)
def test_since_is_a_day_a_moment_or_how_long_ago(text: str, moment: str) -> None:
    """UTC, unless it says otherwise."""
    assert options.since(text, NOW).isoformat() == f"{moment}+00:00"


@pytest.mark.parametrize("text", ["yesterday", "2", "999999999d", "2026-02-30", ""])
def test_what_is_no_time_is_said(text: str) -> None:
    """With what would be one."""
    with pytest.raises(ConfigError, match="--since"):
        options.since(text, NOW)


def test_all_that_is_held_is_shown_but_links(scene: Scene) -> None:
    """Job, documents, history, attempts; links only when they are asked for, request address and response never."""
    scene.world.rerun(IDS[3])
    scene.sync()
    held = mirror_query.held(scene.db, Found("aims360", IDS[3]))
    value = json.dumps(mirror_query.as_value(Found("aims360", IDS[3]), held), default=str)
    assert KEY not in value
    assert "links" not in json.loads(value)
    assert [row["job_status"] for row in held.history] == ["Completed", "Queued"]
    assert [row["attempt"] for row in held.attempts] == [0, 1]
    assert (held.tombstone, held.archived) == (None, [])
    scene.world.change(IDS[3], response=DOCUMENTS, publishLink=LINK, requestURL=f"{LINK}/request")
    scene.sync()
    held = mirror_query.held(scene.db, Found("aims360", IDS[3]), with_links=True)
    assert [(link["kind"], link["link"]) for link in held.links or []] == [("publish", LINK), ("document", LINK)]
    assert "request" not in str(held.links)
    [document] = held.documents
    assert (document["document_name"], str(document["size_in_mb"])) == ("a.pdf", "1.5")


def test_of_a_purged_job_its_traces_are_found(scene: Scene) -> None:
    """The tombstone, and what was fetched before; the job itself is gone."""
    source_id = scene.one("SELECT source_id FROM etl.sources")
    scene.db.execute(
        """
        INSERT INTO aims360.document_archive (source_id, job_id, position, document_name, link_sha256, path, bytes,
                                              sha256, fetched_at)
        VALUES (%s, %s, 0, 'a.pdf', 'x', '/kept/a.pdf', 5, 'y', now())
        """,
        (source_id, IDS[3]),
    )
    scene.world.advance(timedelta(days=31))
    scene.world.ties(1)
    scene.sync()
    gone = found(scene, "bbbb")
    assert gone == Found("aims360", IDS[3], is_here=False)
    held = mirror_query.held(scene.db, gone)
    assert held.job is None
    assert held.tombstone is not None
    assert (held.tombstone["reason"], held.tombstone["account_code"]) == ("purged", "AZ3")
    assert [row["path"] for row in held.archived or []] == ["/kept/a.pdf"]


def test_a_role_that_reads_bi_is_enough(scene: Scene, url: str) -> None:
    """It lists, finds and shows; links want a right of their own, and what is gone it doesn't see."""
    with a_login(scene.db, "reader") as reader, a_login(scene.db, "trusted") as trusted:
        roles.grant(scene.db, reader, False, None, ())
        roles.grant(scene.db, trusted, True, None, ())
        with mirror_query.mirror(as_role(url, reader)) as db:
            one = mirror_query.find(db, "bbbb")
            assert one is not None
            assert len(mirror_query.listed(db, Wanted(), 20, NOW).jobs) == 4
            held = mirror_query.held(db, one)
            assert (len(held.documents), held.archived) == (1, None)
        with (
            pytest.raises(DatabaseError, match=r"job_links.*--links"),
            mirror_query.mirror(as_role(url, reader), mirror_query.LINKS_RIGHTS) as db,
        ):
            mirror_query.held(db, one, with_links=True)
        with mirror_query.mirror(as_role(url, trusted)) as db:
            assert len(mirror_query.held(db, one, with_links=True).links or []) == 2


def test_a_role_that_is_held_to_an_account_finds_no_other(scene: Scene, url: str) -> None:
    """Neither listed nor by its whole id."""
    with a_login(scene.db, "tenant") as tenant:
        roles.grant(scene.db, tenant, False, None, ("AZ1",))
        with mirror_query.mirror(as_role(url, tenant)) as db:
            assert [row["account_code"] for row in mirror_query.listed(db, Wanted(), 20, NOW).jobs] == ["AZ1"]
            assert mirror_query.find(db, IDS[3]) is None


def a_row_that_cannot_be_read(scene: Scene, job_id: str, raw: str = "{}") -> None:
    """Add a row to etl.rejects that was asked for twice, and is asked for again in four runs."""
    scene.db.execute(
        """
        INSERT INTO etl.rejects (source_id, job_id, run_id, reason, raw, first_seen_at, times_asked, runs_to_wait,
                                 asked_at)
        SELECT source_id, %s, 1, 'jobStatus is no text', %s, %s, 2, 4, %s FROM etl.sources
        """,
        (job_id, raw, NOW, NOW + timedelta(minutes=5)),
    )


def test_a_job_that_waits_among_the_rejects_is_found(scene: Scene) -> None:
    """With its reason and dates, and without the raw row, which may hold links; the mirror's version is shown too."""
    a_row_that_cannot_be_read(scene, "eeee-new", raw=LINK)
    a_row_that_cannot_be_read(scene, IDS[3], raw=LINK)
    new = found(scene, "EEEE")
    assert new == Found("aims360", "eeee-new", is_here=False)
    held = mirror_query.held(scene.db, new)
    assert (held.job, held.documents) == (None, [])
    assert held.reject == {
        "reason": "jobStatus is no text",
        "first_seen_at": NOW,
        "asked_at": NOW + timedelta(minutes=5),
        "times_asked": 2,
        "runs_to_wait": 4,
        "key_name": None,
        "key_after": None,
        "key_before": None,
    }
    old = found(scene, "bbbb")
    assert old == Found("aims360", IDS[3])
    held = mirror_query.held(scene.db, old)
    assert (held.job is None, held.reject is None) == (False, False)
    assert KEY not in json.dumps(mirror_query.as_value(old, held), default=str)
    assert mirror_query.held(scene.db, Found("aims360", IDS[0])).reject is None


def test_a_role_that_may_not_read_rejects_is_told_nothing_of_them(scene: Scene, url: str) -> None:
    """A reader of bi finds no job that only waits there, and sees the mirror's version of another as ever."""
    a_row_that_cannot_be_read(scene, "eeee-new")
    a_row_that_cannot_be_read(scene, IDS[3])
    with a_login(scene.db, "reader") as reader:
        roles.grant(scene.db, reader, False, None, ())
        with mirror_query.mirror(as_role(url, reader)) as db:
            assert mirror_query.find(db, "eeee") is None
            held = mirror_query.held(db, Found("aims360", IDS[3]))
            assert (held.job is None, held.reject) == (False, None)


def test_a_mirror_that_is_read_is_not_written(url: str) -> None:
    """Whoever's rights it has."""
    with pytest.raises(DatabaseError, match="read-only"), mirror_query.mirror(url) as db:
        db.execute("DELETE FROM etl.runs")


def test_a_database_without_a_mirror_is_said(empty_database: str) -> None:
    """With what makes one."""
    with pytest.raises(SchemaError, match="migrate"), mirror_query.mirror(empty_database) as db:
        mirror_query.listed(db, Wanted(), 20, NOW)


def test_ids_are_shortened_as_far_as_they_stay_apart() -> None:
    """Eight digits mostly; more where two begin alike; whole where nothing else would do."""
    assert mirror_query.shortened([IDS[0], IDS[3]]) == ["aaaaaaaa", "bbbbbbbb"]
    assert mirror_query.shortened([IDS[0], IDS[1]]) == ["aaaaaaaa-1111", "aaaaaaaa-2222"]
    assert mirror_query.shortened([IDS[0], IDS[0][:-1] + "1"]) == [IDS[0], IDS[0][:-1] + "1"]


# -- the commands ----------------------------------------------------------------------------------------------------


@pytest.fixture
def emulator(scene: Scene) -> Emulator:
    """The source of that mirror."""
    return Emulator(scene.world, token=TOKEN)


def ended(scene: Scene, status: str, text: str = "") -> Job:
    """A job of the source that has ended like that, not yet in the mirror."""
    return scene.world.add(jobStatus=status, jobStatusText=text, percentCompleted=100 if status == "Completed" else 40)


def test_jobs_list_says_what_it_leaves_out(command: Command) -> None:
    """A table with its times in UTC, whole ids in a pipe, a note on stderr where there are more; JSON as one array."""
    code, output, errors = command.run("jobs", "list", "--limit", "2")
    assert code == 0
    assert [line.split()[0] for line in output.splitlines()] == ["job", IDS[3], IDS[2]]
    assert "created (UTC)" in output
    assert "there are more: --limit" in errors
    code, output, errors = command.run("jobs", "list", "--json", "--status", "failed", "--since", "2026-03-01")
    [job] = json.loads(output)
    assert (code, errors, job["job_id"], job["created_at_utc"]) == (0, "", IDS[1], "2026-03-02T10:00:00Z")
    assert command.run("jobs", "list", "--account", "nobody")[:2] == (0, "no job of the mirror is like that\n")
    assert command.run("jobs", "list", "--account", "nobody", "--json")[:2] == (0, "[]\n")
    assert command.run("jobs", "list", "--since", "soon")[0] == 2


def test_jobs_show_and_export_keep_secrets(command: Command, tmp_path: Path) -> None:
    """The same job for people and as JSON; links only on demand; a file is written whole."""
    code, output, errors = command.run("jobs", "show", "BBBB")
    assert (code, errors) == (0, "")
    assert "a.pdf, 1.5 MB" in output
    assert KEY not in output
    code, output, _ = command.run("jobs", "show", "bbbb", "--links")
    assert (code, output.count(LINK)) == (0, 2)
    file = tmp_path / "job.json"
    assert command.run("jobs", "export", "bbbb", "--output", str(file))[:2] == (0, "")
    _, printed, _ = command.run("jobs", "export", "bbbb")
    value = json.loads(file.read_text(encoding="utf-8"))
    assert value == json.loads(printed)
    assert (value["job"]["job_id"], len(value["documents"]), KEY in printed) == (IDS[3], 1, False)
    assert KEY in command.run("jobs", "export", "bbbb", "--links")[1]
    for words in (("show", "ffff"), ("export", "ffff"), ("show", "aaaaaaaa"), ("show", "bbbb", "--live", "--links")):
        assert command.run("jobs", *words)[0] == 2


def test_jobs_show_says_that_a_row_could_not_be_read(scene: Scene, command: Command) -> None:
    """Exit code 0, as for any job that is found; for people and as JSON: why, since when, and when it is asked for."""
    scene.world.change(IDS[3], overrides={"createdDate": "what is no date"})
    scene.world.add(jobID="eeee-new", overrides={"createdDate": "what is no date"})
    scene.sync()
    code, output, errors = command.run("jobs", "show", "eeee")
    assert (code, errors) == (0, "")
    assert output.startswith(
        "eeee-new, source aims360\n  the source's row could not be read, and waits in etl.rejects\n"
    )
    reason = scene.one("SELECT reason FROM etl.rejects WHERE job_id = 'eeee-new'")
    assert re.search(rf"^  why +{re.escape(reason)}$", output, re.MULTILINE)
    assert re.search(rf"^  since +{scene.world.now:%Y-%m-%d %H:%M:%S} UTC$", output, re.MULTILINE)
    assert re.search(r"^  asked for again +(by the next run|in \d+ runs)$", output, re.MULTILINE)
    code, output, _ = command.run("jobs", "show", "bbbb")
    assert (code, output.splitlines()[0].endswith("source aims360: Completed, 100 %")) == (0, True)
    assert "the source's newer row could not be read" in output
    code, output, _ = command.run("jobs", "show", "eeee", "--json")
    value = json.loads(output)
    assert (code, value["job"], value["reject"]["reason"]) == (0, None, reason)
    assert value["reject"].keys() >= {"reason", "first_seen_at", "asked_at", "times_asked", "runs_to_wait"}
    assert "raw" not in value["reject"]


def test_a_row_without_a_readable_id_is_shown_and_cannot_be_asked_for(scene: Scene, command: Command) -> None:
    """It goes by a digest or its ID: there is no job to wait for."""
    a_row_that_cannot_be_read(scene, f"sha256:{'0' * 64}")
    code, output, _ = command.run("jobs", "show", "sha256:00")
    assert (code, "jobStatus is no text" in output) == (0, True)
    assert "never, since its key is unknown" in output
    a_row_that_cannot_be_read(scene, "ID:17")
    assert command.run("jobs", "show", "ID:17")[0] == 0
    for words in (["show", "sha256:00", "--live"], ["wait", "sha256:00"], ["wait", "id:17"]):
        code, _, errors = command.run("jobs", *words)
        assert (code, "is a row without a readable jobID" in errors) == (2, True)


def test_live_says_in_what_the_mirror_differs(scene: Scene, command: Command) -> None:
    """Asked at the source, which is left as it was; a job that the mirror doesn't know is asked for by its whole id."""
    code, output, _ = command.run("jobs", "show", "bbbb", "--live")
    assert (code, "the mirror holds it as it is" in output, KEY in output) == (0, True, False)
    scene.world.change(IDS[3], jobStatus="Failed", response=None)
    code, output, _ = command.run("jobs", "show", "bbbb", "--live")
    assert (code, "job_status: Completed here, Failed there" in output) == (0, True)
    assert "document 0: a.pdf, 1.5 MB here, nothing there" in output
    code, output, _ = command.run("jobs", "show", "bbbb", "--live", "--json")
    value = json.loads(output)
    assert value["job"]["job_status"] == "Failed"
    assert ["job_status", "Completed", "Failed"] in [list(d) for d in value["differences"]]
    new = ended(scene, "Completed")
    code, output, _ = command.run("jobs", "show", new.job_id.upper(), "--live")
    assert (code, "the mirror doesn't hold the job" in output) == (0, True)
    code, _, errors = command.run("jobs", "show", new.job_id[:8], "--live")
    assert (code, "give the whole id" in errors) == (2, True)
    scene.world.delete(IDS[3])
    code, _, errors = command.run("jobs", "show", "bbbb", "--live")
    assert (code, "the source has no job" in errors, "the mirror still holds it" in errors) == (1, True, True)


def test_jobs_wait_exits_by_the_end_of_the_job(scene: Scene, command: Command) -> None:
    """0 completed, 4 failed with what the source says of it and nothing secret, 5 timed out; the mirror has it."""
    good = ended(scene, "Completed")
    code, output, errors = command.run("jobs", "wait", good.job_id)
    assert (code, errors) == (0, f"{good.job_id}: Completed, 100 %\n")
    assert "completed, seen after 0 s\nthe mirror holds the job as it is now\n" in output
    bad = ended(scene, "Failed", f"Out of paper, see {LINK}\nand more")
    code, output, _ = command.run("jobs", "wait", bad.job_id)
    assert (code, "failed, seen after 0 s: Out of paper, see (withheld)" in output) == (4, True)
    assert KEY not in output
    code, output, _ = command.run("jobs", "wait", bad.job_id[:8], "--json")
    value = json.loads(output)
    assert (code, value["outcome"], value["job"]["job_status"]) == (4, "failed", "Failed")
    code, output, _ = command.run("jobs", "wait", "aaaa_b", "--timeout", "1s")
    assert (code, "has not ended after 1 s: it is Queued" in output) == (5, True)
    assert {code for code, _ in EXIT_CODES} >= {0, 4, 5}
    assert scene.rows("SELECT count(*) FROM etl.runs WHERE kind = 'job' AND outcome = 'succeeded'") == [(4,)]
    assert command.run("jobs", "wait", "aaaa_b", "--timeout", "soon")[0] == 2


def test_a_reader_of_bi_may_wait_and_the_mirror_stays(scene: Scene, command: Command, url: str) -> None:
    """What the job did doesn't depend on rights in the mirror: said, and exit code 0."""
    with a_login(scene.db, "reader") as reader:
        roles.grant(scene.db, reader, False, None, ())
        command.environ["DATABASE_URL"] = as_role(url, reader)
        code, output, _ = command.run("jobs", "wait", "bbbb")
    assert (code, "the mirror doesn't follow now, the next sync brings it" in output) == (0, True)


def test_jobs_rerun_asks_or_is_told_not_to(scene: Scene, emulator: Emulator, command: Command) -> None:
    """Without a terminal it wants --yes; the mirror follows at once; a job that runs is not sent again."""
    code, _, errors = command.run("jobs", "rerun", "bbbb")
    assert (code, "add --yes" in errors, emulator.requests) == (2, True, [])
    code, output, errors = command.run("jobs", "rerun", "bbbb", "--yes")
    assert (code, errors) == (0, "")
    assert output == f"job {IDS[3]} was accepted\nthe mirror holds the job as it is now\n"
    assert scene.one("SELECT job_status FROM bi.jobs WHERE job_id = %s", IDS[3]) == "Queued"
    code, _, errors = command.run("jobs", "rerun", "bbbb", "--yes")
    assert (code, "it is Queued, so it runs already" in errors) == (2, True)
    assert sum(request.method == "POST" for request in emulator.requests) == 1


def test_jobs_rerun_waits_if_it_is_wished(scene: Scene, emulator: Emulator, command: Command) -> None:
    """It goes on to the new end, not the old one; the mirror has that too."""
    emulator.clock = lambda: scene.world.now + timedelta(minutes=30)  # half an hour with each request
    code, output, _ = command.run("jobs", "rerun", "bbbb", "--yes", "--wait", "--json")
    value = json.loads(output)
    assert (value["rerun"], value["mirror"]) == ("accepted", "the mirror holds the job as it is now")
    assert (code, value["outcome"]) in ((0, "completed"), (4, "failed"))
    assert value["job"]["number_of_attempts"] == 1
    state = "SELECT job_status, number_of_attempts FROM bi.jobs WHERE job_id = %s"
    assert scene.rows(state, IDS[3]) == [(value["job"]["job_status"], 1)]


def test_a_rerun_whose_answer_is_lost_is_told_by_the_job(scene: Scene, emulator: Emulator, command: Command) -> None:
    """Accepted where the job shows it, exit code 1 where it doesn't; sent once each time."""
    emulator.fail_next("", "reset")
    code, output, _ = command.run("jobs", "rerun", "bbbb", "--yes")
    assert (code, "was accepted (it shows; no answer came)" in output) == (0, True)
    assert sum(request.method == "POST" for request in emulator.requests) == 1


@pytest.mark.parametrize(("answer", "code", "sent"), [("y", 0, 1), ("n", 1, 0)])
def test_somebody_at_a_terminal_is_asked(
    command: Command, emulator: Emulator, answer: str, code: int, sent: int
) -> None:
    """Named with what the job is; a no sends nothing."""
    ours, theirs = os.openpty()
    with Child(
        [sys.executable, "-m", "etl", "jobs", "rerun", "bbbb"],
        env=command.environ,
        cwd=command.folder,
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ) as process:
        said = b""
        while b"[y/N]" not in said:
            said += os.read(ours, 1000)
        os.write(ours, f"{answer}\n".encode())
        process.wait(timeout=60)
    os.close(theirs)
    os.close(ours)
    assert process.returncode == code
    assert f"Run {IDS[3]} again".encode() in said
    assert sum(request.method == "POST" for request in emulator.requests) == sent


def test_ctrl_c_ends_the_waiting(command: Command, emulator: Emulator, db: Connection) -> None:
    """In the midst of a pause; the job goes on by itself."""
    with command.start("jobs", "wait", "aaaa_b") as process:
        while not emulator.requests:
            db.execute("SELECT pg_sleep(0.01)")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in errors) == (1, False)


def test_ctrl_c_while_it_is_sent_is_told_truly(scene: Scene, emulator: Emulator, url: str, tmp_path: Path) -> None:
    """The request is on its way, and nobody waits for its answer any more: what became of it can't be told."""
    is_there, may_go_on = threading.Event(), threading.Event()

    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["REQUEST_METHOD"] == "POST":
            is_there.set()
            may_go_on.wait(60)
        return emulator(environ, start_response)

    with serve(slow) as server:
        command = Command(server.url, url, tmp_path)
        with command.start("jobs", "rerun", "bbbb", "--yes") as process:
            assert is_there.wait(60)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
        may_go_on.set()
    assert (process.returncode, output) == (1, "")
    assert f"it can't be told whether the source runs job {IDS[3]} again" in errors
    assert "it was not sent a second time" in errors
