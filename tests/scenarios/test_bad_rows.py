"""Rows that nobody should send: what is stored of each, and that the others beside it are none the worse."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from etl.models import Verdict
from etl.postgres.connection import Connection
from etl.testing.chaos.oracle import TEXTS, TIMES
from etl.testing.emulator import ABSENT, Generation, World
from tests.support.scene import Scene

by_generation = pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
by_strategy = pytest.mark.parametrize("refuse", [frozenset(), frozenset({"ID", "jobID"})], ids=["by key", "by time"])
DOCUMENT = {"documentName": "a.xlsx", "DownloadLink": "https://x/a", "SizeInMB": 1.5, "DocumentID": "d"}
# A value that can't be read: of a property that decides, and of any other.
DECIDING: dict[str, Any] = {
    **{name: {"an": "object"} for name in ("jobID", "jobStatus", "clientID", "DatabaseName", "accountCode")},
    "rowversion": {"an": "object"},
    **dict.fromkeys(("createdDate", "modifiedDate", "purgeDateTime", "ID"), "a text"),
}
HARMLESS: dict[str, Any] = {
    **{name: {"an": "object"} for name in (*TEXTS.values(), *TIMES.values()) if name not in DECIDING},
    **dict.fromkeys(("jobCategoryID", "jobSubCategoryID", "percentCompleted", "purgeDays"), "a text"),
    "canReRun": 5,
    "CanPublish": "Perhaps",
    "numberOfAttempts": [1],
}


def stored(db: Connection, response: Any, **properties: Any) -> tuple[Scene, tuple[Any, ...]]:
    """A mirror of one job with this response, and the response's columns."""
    world = World(seed=1)
    world.add(overrides={"response": response, "responseType": "Publishlink", **properties})
    scene = Scene(db, world)
    scene.sync()
    [columns] = scene.rows("SELECT response_json, response_text FROM aims360.jobs")
    return scene, columns


@by_strategy
@by_generation
def test_a_deciding_value_that_cannot_be_read_makes_a_reject_that_leaves_when_it_loads(
    db: Connection, generation: Generation, refuse: frozenset[str]
) -> None:
    """One row a property: each waits with its reason, the good row loads, and all leave once they are mended."""
    world = World(seed=2, generation=generation)
    bad = {name: world.add(overrides={name: value}) for name, value in DECIDING.items()}
    world.add()
    scene = Scene(db, world, refuse=refuse)
    run = scene.sync()
    assert (run.verdict, run.counts.inserted) == (Verdict.COMPLETE_WITH_REJECTS, 1)
    assert scene.one("SELECT count(*) FROM etl.rejects") == len(DECIDING)
    reasons = dict(scene.rows("SELECT job_id, reason FROM etl.rejects"))
    for name, job in bad.items():
        if name != "jobID":
            assert name in reasons[str(world.get(job).job_id)]  # type: ignore[union-attr]
    assert sum(key.startswith("sha256:") for key in reasons) == 1
    world.advance(timedelta(seconds=1))
    for name, job in bad.items():
        mended = {"rowversion": ABSENT, "modifiedDate": world.now}.get(name)
        if name != "jobID":
            world.change(job, overrides={name: mended})
    world.delete(bad["jobID"])
    run = scene.sync()
    assert (run.counts.rejected, run.counts.inserted) == (0, len(DECIDING) - 1)
    assert scene.one("SELECT count(*) FROM etl.rejects WHERE job_id NOT LIKE 'sha256:%%'") == 0
    assert scene.differences() == []


MARKS = "SELECT property, settled FROM etl.unread_values ORDER BY property"


@by_strategy
@by_generation
def test_any_other_value_that_cannot_be_read_costs_its_job_nothing_else(
    db: Connection, generation: Generation, refuse: frozenset[str]
) -> None:
    """One row a property: each loads at once and is marked, and is written again once it is mended."""
    world = World(seed=2, generation=generation)
    bad = {name: world.add(overrides={name: value}) for name, value in HARMLESS.items()}
    scene = Scene(db, world, refuse=refuse)
    run = scene.sync()
    assert (run.verdict, run.counts.inserted, run.counts.rejected) == (Verdict.COMPLETE, len(HARMLESS), 0)
    assert scene.rows(MARKS) == [(name, False) for name in sorted(HARMLESS)]
    assert scene.differences() == []
    assert scene.sync().counts.updated == 0
    assert scene.rows(MARKS) == [(name, False) for name in sorted(HARMLESS)]
    world.advance(timedelta(seconds=1))
    for name, job in bad.items():
        world.change(job, overrides={name: None})
    assert scene.sync().counts.updated == len(HARMLESS)
    assert (scene.rows(MARKS), scene.differences()) == ([], [])


@pytest.mark.parametrize(
    ("rowversion", "reason"),
    [("AAA=", "2 bytes"), ("no base64!", "base64"), ("gAAAAAAAAAA=", "2^63"), ("/" * 11 + "8=", "")],
)
def test_a_rowversion_that_cannot_be_read_is_a_reject(db: Connection, rowversion: str, reason: str) -> None:
    """Short, no base64, beyond bigint: the row waits, unread."""
    world = World(seed=3)
    job = world.add(overrides={"rowversion": rowversion})
    scene = Scene(db, world)
    scene.sync()
    [(job_id, said)] = scene.rows("SELECT job_id, reason FROM etl.rejects")
    assert (job_id, reason in said) == (job["jobID"], True)


@pytest.mark.parametrize("encode", [lambda v: v, json.dumps, lambda v: json.dumps(json.dumps(v))])
def test_documents_come_as_a_list_in_a_string_or_in_two(db: Connection, encode: Any) -> None:
    """All three are documents."""
    scene, columns = stored(db, encode([DOCUMENT]))
    assert columns == (None, None)
    assert scene.rows("SELECT document_name, size_in_mb FROM aims360.job_documents") == [("a.xlsx", Decimal("1.5"))]


@pytest.mark.parametrize(
    ("response", "columns"),
    [
        ({"an": "object"}, ({"an": "object"}, None)),
        ('{"an": "object"}', ({"an": "object"}, None)),
        (5, (5, None)),
        ("true", (True, None)),
        ("[1, 2]", ([1, 2], None)),
        ("[Warning]", (None, "[Warning]")),
        ("NaN", (None, "NaN")),
        ("", (None, None)),
        ("null", (None, None)),
    ],
)
def test_any_other_response_is_json_or_text(db: Connection, response: Any, columns: tuple[Any, ...]) -> None:
    """Objects, scalars, lists of other things as JSON; what is no JSON as text."""
    assert stored(db, response)[1] == columns


def test_a_response_of_five_megabytes_is_stored_whole(db: Connection) -> None:
    """As text and as JSON."""
    text = "x" * 5_000_000
    assert stored(db, text)[1] == (None, text)


@by_generation
def test_a_document_that_is_listed_twice_is_stored_twice(db: Connection, generation: Generation) -> None:
    """By its place; one without a name is kept by its link, and unknown properties are kept and told once."""
    world = World(seed=4, generation=generation)
    unnamed = {"DownloadLink": "https://x/b", "SizeInMB": "0.25", "Pages": 3}
    world.add(responseType="Publishlink", response=json.dumps([DOCUMENT, DOCUMENT, unnamed]))
    scene = Scene(db, world)
    run = scene.sync()
    rows = scene.rows("SELECT position, document_name, size_in_mb, extra FROM aims360.job_documents ORDER BY position")
    assert [row[:3] for row in rows] == [
        (0, "a.xlsx", Decimal("1.5")),
        (1, "a.xlsx", Decimal("1.5")),
        (2, None, Decimal("0.25")),
    ]
    assert rows[2][3] == {"Pages": 3}
    assert sum("response.Pages" in note for note in run.notes) == 1
    world.add(responseType="Publishlink", response=json.dumps([unnamed]))
    assert scene.sync().notes == ()


@pytest.mark.parametrize("size", ["big", True, "1e999", {}])
def test_a_size_that_is_none_is_kept_with_its_document(db: Connection, size: Any) -> None:
    """Never a guess: the document has no size, and what stood there is in its `extra`."""
    world = World(seed=5)
    world.add(responseType="Publishlink", response=json.dumps([{**DOCUMENT, "SizeInMB": size}]))
    scene = Scene(db, world)
    assert scene.sync().counts.rejected == 0
    assert scene.rows("SELECT size_in_mb, extra FROM aims360.job_documents") == [(None, {"SizeInMB": size})]
    assert scene.rows(MARKS) == [("response.SizeInMB", False)]


def test_a_response_that_was_cut_short_is_a_reject(db: Connection) -> None:
    """It begins as documents do: without them the job would be thought to have none."""
    world = World(seed=7)
    job = world.add(responseType="Publishlink", response=json.dumps([DOCUMENT])[:-9])
    scene = Scene(db, world)
    assert scene.sync().counts.rejected == 1
    assert scene.one("SELECT reason FROM etl.rejects") == "response begins like JSON, and is none"
    world.advance(timedelta(seconds=1))
    world.change(job, response=json.dumps([DOCUMENT]))
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.differences() == []


@pytest.mark.parametrize("bad", ["\x00", "\ud800"])
@by_strategy
def test_characters_that_cannot_be_stored_are_replaced_wherever_they_stand(
    db: Connection, bad: str, refuse: frozenset[str]
) -> None:
    """In the key, a text, the response, a document's name: U+FFFD, counted, and the same the next time.

    What is no character may have been spoilt on its way: it is read once more, by the next run at the latest.
    """
    world = World(seed=6, generation="2019-08")
    documents = json.dumps([{**DOCUMENT, "documentName": f"n{bad}"}])
    world.add(jobID="zz\x00", jobStatusText=f"t{bad}", responseType="Publishlink", response=documents)
    world.add(response=f"plain {bad}", responseType="Publishlink")
    scene = Scene(db, world, refuse=refuse)
    assert scene.sync().counts.replaced_characters in (6, 12)  # of the page that was read by key too
    assert scene.one("SELECT count(*) FROM aims360.jobs WHERE job_id = 'zz\ufffd' AND job_status_text = 't\ufffd'") == 1
    assert scene.rows("SELECT document_name FROM aims360.job_documents") == [("n\ufffd",)]
    assert scene.rows("SELECT response_text FROM aims360.jobs WHERE response_text <> ''") == [("plain \ufffd",)]
    assert scene.sync().counts.written == (1 if refuse and bad != "\x00" else 0)
    assert scene.sync().counts.written == 0
