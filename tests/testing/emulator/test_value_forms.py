"""Values as other releases of the service write them, rows that are no JSON; and filters that see neither."""

import json
from base64 import b64decode, urlsafe_b64decode
from typing import Any

import httpx
import pytest

from etl.testing.emulator import ABSENT, Drift, Spoilt, World, populated
from tests.testing.emulator.asking import COLLECTION, JOB, ask, served

_AS_BYTES = 0xFBFF_BF00_0000_3FFF  # in base64 it has a plus sign, a slash, and padding
_ROWVERSION = "+/+/AAAAP/8="
_MODIFIED = "2019-06-07T06:09:22.737Z"


def rows_of(client: httpx.Client, **options: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = ask(client, **options).json()["value"]
    return rows


# -- spellings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("habit", "shown"),
    [
        ("Inprogress", ["Inprogress", "Inprogress"]),
        ("InProgress", ["InProgress", "InProgress"]),
        ("mixed", ["Inprogress", "InProgress"]),
    ],
)
def test_how_a_status_is_spelt(habit: str, shown: list[str]) -> None:
    """One way, the other, or both side by side; other statuses as ever, and filters care for none."""
    world = World()
    world.ties(2, jobStatus="Inprogress")
    world.add(jobStatus="Queued")
    client = served(world, status_spelling=habit)
    assert [row["jobStatus"] for row in rows_of(client)] == [*shown, "Queued"]
    assert [
        row["jobStatus"] for row in rows_of(client, filter="jobStatus eq 'inPROGRESS'", select="jobStatus")
    ] == shown
    assert client.get(f"{JOB}/{next(world.jobs()).job_id}").json()["jobStatus"] == shown[0]


@pytest.mark.parametrize("text", [None, "", "0001-01-01T00:00:00Z", "1899-12-30T00:00:00Z"])
def test_how_no_date_is_written(text: str | None) -> None:
    """As null or as what isn't one; dates are dates, other nulls are null, and filters see null."""
    world = World()
    job = world.add(startDate=None, clientRequestId=None)
    client = served(world, no_date=text)
    [row] = rows_of(client, filter="startDate eq null")
    assert row["startDate"] == row["maximumDateTimeToExecuteJob"] == text
    assert (row["createdDate"], row["clientRequestId"]) == (job["createdDate"], None)
    assert rows_of(client, select="startDate,ID") == [{"ID": job.number, "startDate": text}]


@pytest.mark.parametrize(
    ("form", "shown"),
    [("base64", _ROWVERSION), ("base64url", "-_-_AAAAP_8"), ("base64url-padded", "-_-_AAAAP_8=")],
)
def test_how_a_rowversion_is_written(form: str, shown: str) -> None:
    """In the framework's base64, or as the standard has it; a filter takes the former."""
    world = World()
    world.add(rowversion=_AS_BYTES)
    [row] = rows_of(served(world, rowversion_form=form), filter=f"rowversion eq '{_ROWVERSION}'")
    assert row["rowversion"] == shown
    assert int.from_bytes(urlsafe_b64decode(row["rowversion"].replace("+", "-").replace("/", "_") + "==")) == _AS_BYTES


def etag_of(form: str, generation: Any = "2019-08") -> str:
    world = World(generation=generation)
    world.add(rowversion=724_714, modifiedDate=_MODIFIED)
    return str(rows_of(served(world, etag_form=form))[0].get("@odata.etag"))


def test_how_an_etag_is_written() -> None:
    """As documented, with a date in it, as a hash, or in two parts; the older payload has none at all."""
    documented = etag_of("documented")
    assert documented == 'W/"YmluYXJ5J0FBQUFBQUFMRHVvPSc="'
    assert b64decode(etag_of("date")[3:-1]).decode() == _MODIFIED
    assert len(bytes.fromhex(etag_of("hash")[3:-1])) == 16
    first, second = etag_of("two-parts")[3:-1].split(",")
    assert (f'W/"{first}"', b64decode(second)) == (documented, b"0")
    assert etag_of("hash", "2019-06") == "None"


# -- drift -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drift", "shown"),
    [
        (("percentCompleted", "fraction"), {"percentCompleted": 29.5}),
        (("percentCompleted", "float"), {"percentCompleted": 30.0}),
        (("percentCompleted", "text"), {"percentCompleted": "30"}),
        (("percentCompleted", "boolean"), {"percentCompleted": True}),
        (("percentCompleted", "list"), {"percentCompleted": [30]}),
        (("percentCompleted", "object"), {"percentCompleted": {"value": 30}}),
        (("canReRun", "boolean"), {"canReRun": True}),
        (("canReRun", "number"), {"canReRun": 1}),
        (("yes-no", "boolean"), {"canReRun": True, "CanPublish": True}),
        (("rowversion", "number"), {"rowversion": 77}),
        (("modifiedDate", "number"), {"modifiedDate": 1_559_887_762_737}),
        (("modifiedDate", "offset"), {"modifiedDate": "2019-06-07T06:09:22.737+00:00"}),
        (("modifiedDate", "no-zone"), {"modifiedDate": "2019-06-07T06:09:22.737"}),
        (("dates", "empty"), {"modifiedDate": "", "startDate": "", "maximumDateTimeToExecuteJob": ""}),
        (("numbers", "text"), {"ID": "50001", "jobCategoryID": "1002", "purgeDays": "30", "numberOfAttempts": "0"}),
        (("jobStatusText", "null"), {"jobStatusText": None}),
        (("jobStatusText", "absent"), {"jobStatusText": ABSENT}),
        (("jobStatusText", "fraction"), {}),
        (("startDate", "no-zone"), {}),
    ],
)
def test_a_property_changes_its_form(drift: tuple[str, Any], shown: dict[str, Any]) -> None:
    """In every row, alone or as one of a group; a value that has no such form stays; filters see the row as it is."""
    world = World()
    job = world.add(
        percentCompleted=30,
        canReRun="Yes",
        rowversion=77,
        modifiedDate=_MODIFIED,
        startDate=None,
        jobStatusText="text",
        jobCategoryID=1002,
        CanPublish="Yes",
    )
    [row] = rows_of(served(world, drift=(drift,)), filter="percentCompleted eq 30 and startDate eq null")
    for name, value in shown.items():
        assert (row.get(name, ABSENT), type(row.get(name, ABSENT))) == (value, type(value))
    others = job.payload().keys() - shown.keys()
    if drift[0] not in ("dates", "numbers"):
        assert all(row[name] == job[name] for name in others)


@pytest.mark.parametrize(
    ("drift", "shown"),
    [
        (("response.SizeInMB", "text"), {"SizeInMB": "0.25"}),
        (("response.SizeInMB", "absent"), {"SizeInMB": ABSENT}),
        (("response.ExpiryDate", "offset"), {"ExpiryDate": "2019-07-07T06:09:18.0212529+00:00"}),
        (("response.Version", "number"), {}),
    ],
)
def test_a_property_of_the_documents_changes_its_form(drift: tuple[str, Any], shown: dict[str, Any]) -> None:
    """In each document of a row's list; a response that lists none stays."""
    world = World()
    documents: list[dict[str, Any]] = [
        {"documentName": "a.csv", "SizeInMB": 0.25, "ExpiryDate": "2019-07-07T06:09:18.0212529Z"},
        {"SizeInMB": 1},
    ]
    world.add(response=json.dumps(documents))
    world.add(response="plain text")
    world.add(response=None)
    listed, plain, none = rows_of(served(world, drift=(drift,)))
    first, second = json.loads(listed["response"])
    wanted = {**documents[0], **shown}
    assert first == {name: value for name, value in wanted.items() if value is not ABSENT}
    assert second.keys() <= {"SizeInMB"}
    assert (plain["response"], none["response"]) == ("plain text", None)


def test_a_share_of_the_rows_drifts() -> None:
    """The same rows each time, in whatever order they come; another property drifts in others."""
    world = populated(400, rate=0)
    client = served(world, drift=(Drift("percentCompleted", "text", 0.3), Drift("purgeDays", "text", 0.3)))

    def drifting(name: str, **options: str) -> set[int]:
        pages = (rows_of(client, skip=str(skip), **options) for skip in range(0, 400, 100))
        return {row["ID"] for rows in pages for row in rows if isinstance(row[name], str)}

    some = drifting("percentCompleted")
    assert 80 < len(some) < 160
    assert drifting("percentCompleted", orderby="jobID desc") == some != drifting("purgeDays")


# -- rows that are no JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "raw"),
    [
        ("tab", b'"half	"'),
        ("newline", b'"half\n"'),
        ("escape", b'"half\\\'"'),
        ("latin-1", b'"half\xe9"'),
        ("nan", b"NaN"),
        ("infinity", b"-Infinity"),
        ("octal", b"0100"),
    ],
)
def test_a_row_that_is_no_json(form: Any, raw: bytes) -> None:
    """Of one job, wherever it is served; others are whole, and so is what doesn't ask for the property."""
    world = World()
    good, bad = world.ties(2, jobStatusText="half")
    client = served(world, spoilt=[Spoilt(form, [bad.job_id.upper()])])
    for answer in (ask(client), ask(client, filter=f"ID eq {bad.number}"), client.get(f"{JOB}/{bad.job_id}")):
        assert answer.content.count(b'"jobStatusText":' + raw + b",") == 1
        with pytest.raises(ValueError, match=r".+"):
            json.loads(answer.content, parse_constant=int)
    assert rows_of(client, filter=f"ID eq {good.number}") == [good.payload()]
    assert rows_of(client, select="ID,jobStatus") == [{"ID": n.number, "jobStatus": "Completed"} for n in (good, bad)]


def test_a_row_may_be_spoilt_once_on_its_way() -> None:
    """The first so many times that it is served, of each job; then it is whole for good, also in its next version."""
    world = World()
    first, second = world.ties(2)
    client = served(world, spoilt=[Spoilt("nan", {first.job_id, second.job_id}, times=2, name="percentCompleted")])

    def is_whole(job: int) -> bool:
        return b"NaN" not in ask(client, filter=f"ID eq {job}").content

    assert [is_whole(first.number) for _ in range(3)] == [False, False, True]
    assert ask(client, select="ID").content.count(b"NaN") == 0  # nor is that one of the two times
    assert [is_whole(second.number) for _ in range(3)] == [False, False, True]
    world.change(first, jobStatusText="later")
    assert rows_of(client) == [world.payload(first), world.payload(second)]


def test_a_share_of_the_rows_is_spoilt() -> None:
    """Any job may be, by chance, the same ones each time."""
    world = populated(200, rate=0)
    client = served(world, spoilt=(("tab", (), 0.1),))
    pages = [[ask(client, skip=skip).content for skip in ("0", "100")] for _ in range(2)]
    assert pages[0] == pages[1]
    assert 5 < sum(page.count(b'\t"') for page in pages[0]) < 45


def test_forms_add_up() -> None:
    """Spellings, drift and damage of one row, two of them in one value after another."""
    world = World()
    job = world.add(jobStatus="Inprogress", startDate=None)
    spoilt = [Spoilt("tab", {job.job_id}), Spoilt("octal", {job.job_id}, name="percentCompleted")]
    options: dict[str, Any] = {"status_spelling": "InProgress", "no_date": "", "spoilt": spoilt}
    content = served(world, **options, drift=[("numbers", "text")]).get(COLLECTION).content
    assert b'"jobStatus":"InProgress"' in content
    assert b'"startDate":""' in content
    assert b'"numberOfAttempts":"0"' in content
    assert b'"percentCompleted":0100,' in content
    assert b'\t"' in content
