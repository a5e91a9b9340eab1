"""The emulator: what it promises to the tests that build on it."""

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.testing.emulator import (
    ABSENT,
    ALL_FAULT_KINDS,
    START,
    Emulator,
    Faults,
    ServiceOptions,
    World,
    populated,
    serve,
)
from etl.testing.emulator.odata_parser import read_query, split_query
from etl.testing.emulator.odata_query import BadQuery
from etl.testing.emulator.sql_datetime import moment_of, nearest_tick, read_hns, read_stored, shown, stored_hns, tick_of
from tests.support.paths import ROOT
from tests.testing.emulator.asking import BEARER, COLLECTION, GOOD_FORM, JOB, TOKEN, ask, ids, in_process, shown_by

SECOND = timedelta(seconds=1)


# -- times -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("06:08:19.64", "06:08:19.64"),
        ("06:09:22.737", "06:09:22.737"),
        ("06:09:22.738", "06:09:22.737"),
        ("06:09:22.7391", "06:09:22.74"),
        ("06:00:00.999", "06:00:01"),
        ("06:00:00", "06:00:00"),
    ],
)
def test_times_are_ticks(text: str, printed: str) -> None:
    """A moment is rounded to 1/300 s and shown in milliseconds without trailing zeros."""
    hns = read_hns(f"2019-06-07T{text}Z")
    assert hns is not None
    assert shown(nearest_tick(hns)) == f"2019-06-07T{printed}Z"


@given(st.integers(0, 300 * 86_400 * 3_000_000))
def test_a_shown_tick_reads_back_as_itself(tick: int) -> None:
    """What is shown names one tick only, and the datetime of a tick falls on it."""
    assert read_stored(shown(tick)) == stored_hns(tick)
    assert tick_of(moment_of(tick)) == tick


def test_offsets_and_fractions_are_read() -> None:
    """0 to 7 digits, Z or an offset; anything else is no timestamp."""
    assert read_hns("2019-06-07T08:00:00.1234567+02:00") == read_hns("2019-06-07T06:00:00.1234567Z")
    for bad in ("2019-06-07", "2019-13-07T00:00:00Z", "2019-06-07T00:00:00.12345678Z", "2019-06-07T00:00:00", "x"):
        assert read_hns(bad) is None


def test_the_two_ways_a_literal_meets_a_tick() -> None:
    """As `datetime` the literal .737 finds the row that shows it; as `datetime2` that row is .7366667 and missed."""
    world = World()
    world.add(modifiedDate=datetime(2019, 6, 7, 6, 9, 22, 737_000, tzinfo=UTC))
    assert world.payload(next(world.jobs()))["modifiedDate"] == "2019-06-07T06:09:22.737Z"
    at = "modifiedDate {} 2019-06-07T06:09:22.737Z"
    assert ids(world, at.format("ge"), comparison="datetime") == ids(world, at.format("eq")) == [1]
    assert (
        ids(world, at.format("ge"), comparison="datetime2") == ids(world, at.format("eq"), comparison="datetime2") == []
    )
    assert ids(world, "modifiedDate eq 2019-06-07T06:09:22.7366667Z", comparison="datetime2") == [1]


# -- the dialect -------------------------------------------------------------------------------------------------------


@pytest.fixture
def five() -> World:
    """Jobs 1 to 5: percent 0, 25, 50, 75, 100; job 2 has no start, job 3 a quote in its text."""
    world = World()
    for number in range(5):
        text = "it's Größe" if number == 2 else f"text {number}"
        world.add(
            percentCompleted=number * 25,
            jobStatusText=text,
            startDate=None if number == 1 else START + number * SECOND,
            jobStatus="Failed" if number % 2 else "Completed",
            overrides={"jobID": f"{'edcba'[number]}-1"},
        )
    return world


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("percentCompleted gt 50", [4, 5]),
        ("50 lt percentCompleted", [4, 5]),
        ("PERCENTCOMPLETED le 25.5", [1, 2]),
        ("jobStatus eq 'failed'", [2, 4]),
        ("jobStatus ne 'Failed' and percentCompleted ne 0", [3, 5]),
        ("jobStatus eq 'Failed' or percentCompleted eq 0 and ID lt 0", [2, 4]),
        ("(jobStatus eq 'Failed' or percentCompleted eq 0) and ID lt 50002", [1]),
        ("not (percentCompleted ge 25)", [1]),
        ("jobStatusText eq 'it''s größe'", [3]),
        ("startDate eq null", [2]),
        ("startDate ne null", [1, 3, 4, 5]),
        ("startDate lt 2099-01-01T00:00:00Z", [1, 3, 4, 5]),
        ("startDate gt null", []),
        ("startDate ge 2026-03-02T10:00:03+01:00", [4, 5]),
        ("jobid gt 'b-1'", [1, 2, 3]),
        ("jobId eq 'A-1' or jobId eq 'c-1' or jobId eq 'nobody'", [3, 5]),
        ("jobId eq 'a-1' or ID eq 50001", [1, 5]),
        ("(ID eq 50001 or ID eq 50003) and ID gt 50001", [3]),
        ("ID gt 50001 and ID le 50003 and percentCompleted gt 25", [3]),
    ],
)
def test_filters(five: World, text: str, found: list[int]) -> None:
    """A filter leaves the rows it says, whichever index answers it, and $count agrees."""
    assert ids(five, text) == found
    assert ask(in_process(Emulator(five)), filter=text, count="true", top="0").json()["@odata.count"] == len(found)


@pytest.mark.parametrize(
    "query",
    ["$filter=" + quote(text) for text in ("", "ID", "ID gt", "ID gt 5 and", "(ID gt 5", "ID gt 5)", "nope eq 5")]
    + ["$filter=" + quote(text) for text in ("ID gt '5'", "jobID gt 5", "modifiedDate ge '2019-06-07'", "5 gt 4")]
    + ["$filter=" + quote(text) for text in ("not ID gt 5", "contains(jobID,'a')", "ID eq 'it's'", "ID gt 5x")]
    + ["$filter=" + quote(text) for text in ("modifiedDate ge 2019-02-30T00:00:00Z", "rowversion gt 'AAAAAAAIJCU='")]
    + ["$filter=" + quote(text) for text in ("(" * 5000 + "ID gt 5", "not (" * 90 + "ID eq 1" + ")" * 90)]
    + ["$filter=" + quote(" or ".join(["ID eq 1"] * 26)), "$filter=ID+gt+5", "$filter=ID%20gt%20%FF"]
    + ["$orderby=nope", "$orderby=ID%20down", "$orderby=", "$top=-1", "$top=x", "$skip=1.5", "$count=yes"]
    + ["$select=nope", "$expand=a", "$filter=ID%20gt%201&$filter=ID%20gt%202"],
)
def test_what_the_service_cannot_read_is_a_400(five: World, query: str) -> None:
    """Bad syntax, unknown names, wrong types, form-encoded blanks and hostile depth get an OData error."""
    long = ServiceOptions(max_query=100_000)
    answer = in_process(Emulator(five, options=long)).get(f"{COLLECTION}?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


@given(
    st.lists(st.sampled_from(["ID", "gt", "'a'", "(", ")", "and", "or", "not", "5", "null", "jobID", ",", "-", "é"]))
)
def test_no_filter_breaks_the_parser(words: list[str]) -> None:
    """Any words at all are read or refused, nothing else."""
    known = {"id": "ID", "jobid": "jobID"}
    try:
        read_query(split_query("$filter=" + quote(" ".join(words))), known)
    except BadQuery as bad:
        assert str(bad)  # noqa: PT017 - to be refused is one of two good ends


@given(st.text(max_size=40))
def test_any_text_can_be_quoted(text: str) -> None:
    """A quote is doubled and everything else stands for itself, percent-encoded."""
    literal = text.replace("'", "''")
    world = World()
    world.add(jobStatusText=text)
    assert ids(world, f"jobStatusText eq '{literal}'") == [1]


def test_orders(five: World) -> None:
    """Several keys, both directions; null sorts lowest; jobID orders as text."""
    emulator = Emulator(five)
    assert shown_by(emulator, orderby="jobID") == [50005, 50004, 50003, 50002, 50001]
    assert shown_by(emulator, orderby="jobStatus desc,percentCompleted") == [50002, 50004, 50001, 50003, 50005]
    assert shown_by(emulator, orderby="startDate")[0] == shown_by(emulator, orderby="startDate desc")[-1] == 50002
    assert shown_by(emulator, orderby="modifiedDate desc,ID desc") == [50005, 50004, 50003, 50002, 50001]
    assert shown_by(emulator, orderby="ID desc", skip="1", top="2", filter="ID lt 50005") == [50003, 50002]


def test_rowversion_is_compared_by_eq_and_ne_only(five: World) -> None:
    """Equality finds the row; an order on binary is refused (see `test_what_the_service_cannot_read…`)."""
    version = five.payload("c-1")["rowversion"]
    assert ids(five, f"rowversion eq '{version}'") == ids(five, f"rowversion eq binary'{version}'") == [3]
    assert ids(five, f"rowversion ne '{version}'") == [1, 2, 4, 5]


def test_select_keeps_annotations() -> None:
    """$select shows the properties named, in any case, and the etag."""
    world = World(generation="2019-08")
    world.add()
    row = ask(in_process(Emulator(world)), select="jobid,jobStatus").json()["value"][0]
    assert row.keys() == {"@odata.etag", "jobID", "jobStatus"}


def test_select_shows_what_whole_rows_show() -> None:
    """Of the newest version, with what was set verbatim or taken away; whatever else was asked for before."""
    world = World()
    job = world.add(jobStatus="Queued", overrides={"odd": 1, "createdBy": ABSENT})
    client = in_process(Emulator(world))
    for status in ("Queued", "Failed"):
        whole = ask(client).json()["value"][0]
        some = ask(client, select="jobStatus,odd,createdBy,response").json()["value"][0]
        assert some == {name: whole[name] for name in ("jobStatus", "odd", "response")}
        assert ask(client, select="ID").json()["value"] == [{"ID": job.number}]
        assert some["jobStatus"] == status
        world.change(job, jobStatus="Failed")


def test_rows_beyond_the_limit_are_made_each_time() -> None:
    """What is kept of rendered rows is bounded, also over several selections; what goes makes room."""
    world = World()
    first, second, third = world.ties(3)
    table = world.table
    table.rendered_at_most = 2
    kept = [table.rendered(first), table.rendered(second, ("ID",))]
    assert [table.rendered(first), table.rendered(second, ("ID",))] == kept
    assert table.rendered(first) is kept[0]
    assert table.rendered(third) is not table.rendered(third)
    world.delete(first)
    assert table.rendered(third) is table.rendered(third)


@given(seed=st.integers(0, 3), low=st.integers(0, 120), back=st.integers(0, 40), data=st.data())
def test_every_index_gives_what_a_full_scan_gives(seed: int, low: int, back: int, data: st.DataObject) -> None:
    """The same filter and order as an oracle over all rows, for whatever index the walk picks."""
    world = populated(120, seed=seed, rate=0)
    since = shown(tick_of(world.now - timedelta(days=back)))
    key = data.draw(st.sampled_from(["ID", "jobID", "createdDate"]))
    emulator = Emulator(world, page_size=1000)
    found = shown_by(emulator, filter=f"modifiedDate ge {since} and ID gt {50_000 + low}", orderby=f"{key} desc")
    oldest = tick_of(world.now - timedelta(days=back))
    rows = [job for job in world.jobs() if job.number > 50_000 + low and (job.modified or 0) >= oldest]
    rows.sort(key=lambda job: {"ID": (job.number,), "jobID": (job.job_id,)}.get(key, (job.created,)), reverse=True)
    assert found == [job.number for job in rows]


# -- payloads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
def test_the_generations_show_the_documented_properties(generation: Any) -> None:
    """Both generations show exactly the names of their documented sample; the newer one's version is in the etag."""
    world = World(generation=generation)
    job = world.add(rowversion=724_714)
    row = job.payload()
    if generation == "2019-06":
        assert next(iter(row)) == "ID"
        assert len(row) == 32
        assert int.from_bytes(b64decode(row["rowversion"])) == 724_714
    else:
        assert row["@odata.etag"] == 'W/"YmluYXJ5J0FBQUFBQUFMRHVvPSc="'
        assert len(row) == 25
        assert "ID" not in row
        assert ask(in_process(Emulator(world)), orderby="ID").status_code == 400
    assert row["jobID"] == row["jobID"].lower()
    assert row["jobID"][37:45] == "20260302"


def test_anything_can_stand_in_a_row() -> None:
    """Wrong types, missing and unknown properties are shown as given; the row is still found by its own key."""
    world = World()
    job = world.add(
        jobID=5, ID=ABSENT, percentCompleted="many", colour={"a": [1]}, modifiedDate="garbage", createdDate=None
    )
    world.add(overrides={"@odata.etag": 'W/"x"', "jobStatusText": "\ud800 and \u0000"})
    rows = ask(in_process(Emulator(world)), orderby="ID").json()["value"]
    assert rows[0]["jobID"] == 5
    assert "ID" not in rows[0]
    assert (rows[0]["percentCompleted"], rows[0]["colour"], rows[0]["modifiedDate"]) == ("many", {"a": [1]}, "garbage")
    assert rows[0]["createdDate"] is None
    assert rows[1]["jobStatusText"] == "\ud800 and \u0000"
    assert shown_by(Emulator(world), "jobID", filter=f"jobID eq '{job.job_id}'") == [5]
    assert world.change(job)["modifiedDate"] == shown(world.tick)


def test_dates_in_text_are_shown_as_written() -> None:
    """0 to 7 digits reach the client untouched, and the filter compares what they mean."""
    world = World()
    world.add(modifiedDate="9999-12-31T23:59:59.9999999Z", startDate="2019-06-07T06:08:19.6Z")
    assert shown_by(Emulator(world), "modifiedDate") == ["9999-12-31T23:59:59.9999999Z"]
    assert ids(world, "modifiedDate gt 2099-01-01T00:00:00Z and startDate lt 2019-06-07T06:08:20Z") == [1]


def test_rows_can_be_served_verbatim() -> None:
    """A page in hand becomes a world: rows as they are, filters on their values, names they don't show unknown."""
    rows = [{"jobID": f"{n}-x", "modifiedDate": f"2019-08-20T14:57:0{n}.023Z", "odd": n} for n in range(3)]
    world = World.serving(rows)
    emulator = Emulator(world)
    answer = ask(in_process(emulator), filter="modifiedDate ge 2019-08-20T14:57:01Z and odd lt 2", orderby="jobID desc")
    assert answer.json()["value"] == [rows[1]]
    assert ask(in_process(emulator), filter="ID gt 1").status_code == 400
    world.change("1-x", odd=7)
    assert world.payload("1-x")["odd"] == 7
    assert world.payload("1-x").keys() == rows[1].keys()


# -- the world ---------------------------------------------------------------------------------------------------------


def content(world: World) -> list[dict[str, Any]]:
    return [job.payload() for job in world.jobs()]


def test_the_same_seed_gives_the_same_world() -> None:
    """Population and life repeat by seed, and differ between seeds."""

    def lived(seed: int) -> list[dict[str, Any]]:
        world = populated(200, seed=seed, rate=400, late_share=0.3)
        world.advance(timedelta(days=2))
        return content(world)

    assert lived(1) == lived(1) != lived(2)


def test_a_world_does_not_care_how_often_its_clock_moves() -> None:
    """Two days in one step or in many are the same two days."""
    one, many = (populated(100, rate=200, late_share=0.2) for _ in range(2))
    one.advance(timedelta(days=2))
    for _ in range(480):
        many.advance(timedelta(minutes=6))
    assert content(one) == content(many)


def test_a_month_is_a_steady_state() -> None:
    """A populated world has the jobs asked for, all within 30 days, some failed or run again, and stays that size."""
    world = populated(3000, seed=3)
    jobs = list(world.jobs())
    assert len(jobs) == 3000
    assert {job.status for job in jobs} >= {"Completed", "Failed"}
    assert any(job.attempts for job in jobs)
    assert all(job.created and world.tick - job.created <= 30 * 86_400 * 300 for job in jobs)
    by_version = sorted(jobs, key=lambda job: job.version)
    assert [job.modified for job in by_version] == sorted(job.modified for job in jobs if job.modified)
    world.advance(timedelta(days=30))
    assert 2700 < len(world) < 3400
    assert len({job.version for job in world.jobs()}) == len(world)


def test_a_job_lives() -> None:
    """Queued, then in progress with rising percent, then over; every change a new version and a later time."""
    world = World(seed=5, rerun_share=0)
    seen = [world.arrive()]
    for _ in range(20_000):
        world.advance(SECOND)
        now = world.get(seen[0].job_id)
        assert now is not None
        if now is not seen[-1]:
            seen.append(now)
    assert seen[0].status == "Queued"
    assert {job.status for job in seen[1:-1]} <= {"Inprogress"}
    assert seen[-1].status in ("Completed", "Failed")
    assert [job.percent for job in seen] == sorted(job.percent for job in seen)
    assert [job.version for job in seen] == sorted({job.version for job in seen})
    assert seen[0]["startDate"] is None
    assert seen[-1].created < seen[-1].started <= seen[-1].completed == seen[-1].modified  # type: ignore[operator]


def test_purge_is_thirty_days_after_creation_unless_put_off() -> None:
    """The row goes at its purge date and not before; an extension and a rerun move it."""
    world = World(rerun_share=0)
    plain, extended, again = world.add(), world.add(), world.add(canReRun="Yes")
    world.advance(timedelta(days=29, hours=23))
    world.extend(extended, days=5)
    world.rerun(again)
    assert len(world) == 3
    world.advance(timedelta(hours=1))
    assert [job.number for job in world.jobs()] == [extended.number, again.number]
    world.advance(timedelta(days=5))
    assert [job.number for job in world.jobs()] == [again.number]
    world.advance(timedelta(days=25))
    assert len(world) == 0
    with pytest.raises(KeyError, match=plain.job_id):
        world.payload(plain)


def test_a_rerun_replaces_outputs() -> None:
    """Same job, Queued, one more attempt, no response, another link; then it runs to an end again."""
    world = World(rerun_share=0)
    before = world.add()
    world.advance(SECOND)
    again = world.rerun(before)
    assert (again.status, again.percent, again.attempts, again["response"]) == ("Queued", 0, 1, None)
    assert again.job_id == before.job_id
    assert again["publishLink"] != before["publishLink"]
    assert again.purge > before.purge  # type: ignore[operator]
    world.advance(timedelta(hours=12))
    assert world.payload(before)["jobStatus"] in ("Completed", "Failed")


def test_a_change_by_hand() -> None:
    """A new version and modifiedDate now; unless untouched, or said otherwise; a status set by hand stays."""
    world = World()
    job = world.arrive()
    world.advance(SECOND / 10)
    changed = world.change(job, jobStatus="Paused", percentCompleted=7)
    assert (changed.version, changed.modified) == (job.version + 1, world.tick)
    assert world.change(job, touch=False, jobStatusText="quiet").modified == changed.modified
    assert world.change(job, modifiedDate=START).modified == tick_of(START)
    assert world.change(job, rowversion=3).version == 3
    world.advance(timedelta(days=1))
    assert world.payload(job)["jobStatus"] == "Paused"


def test_thousands_of_rows_can_share_a_tick() -> None:
    """Ties at birth and in a bulk change, each row with its own version."""
    world = World()
    jobs = world.ties(2500, jobStatus="Queued")
    world.advance(timedelta(minutes=1))
    world.change_many(jobs[:2000], jobStatus="Failed")
    assert len({job.modified for job in world.jobs()}) == 2
    assert len({job.version for job in world.jobs()}) == 2500
    assert len(shown_by(Emulator(world, page_size=5000), filter="jobStatus eq 'Failed'")) == 2000


def test_a_late_commit_is_stamped_early_and_seen_late() -> None:
    """Others commit and are seen meanwhile, with later times and higher versions; then the older one appears."""
    world = World()
    slow, quick = world.add(jobStatus="Queued"), world.add()
    world.advance(SECOND)
    stamped = world.late(slow, 30 * SECOND, jobStatus="Failed")
    unborn = world.late(None, 40 * SECOND)
    world.advance(10 * SECOND)
    passed = world.change(quick, jobStatusText="meanwhile")
    assert world.get(slow) is slow
    assert world.get(unborn) is None
    with pytest.raises(ValueError, match="locked"):
        world.change(slow, jobStatusText="no")
    world.advance(19 * SECOND)
    assert world.get(slow) is slow
    world.advance(1 * SECOND)
    seen = world.get(slow)
    assert seen is stamped
    assert stamped.version < passed.version
    assert stamped.modified < passed.modified  # type: ignore[operator]
    world.advance(10 * SECOND)
    assert [job.number for job in world.jobs()] == [50_001, 50_002, 50_003]


def test_life_waits_for_a_lock() -> None:
    """A job that is due to run or to be purged while a late change holds it goes on after the commit."""
    world = World(rerun_share=0)
    job, doomed = world.arrive(), world.add(purgeDateTime=START + SECOND)
    world.late(job, timedelta(hours=3), jobStatusText="slow")
    world.late(doomed, timedelta(hours=3), purgeDateTime=START + timedelta(days=9))
    world.advance(timedelta(hours=2))
    assert world.payload(job)["jobStatus"] == "Queued"
    world.advance(timedelta(days=1))
    assert world.payload(job)["jobStatus"] in ("Completed", "Failed")
    assert world.get(doomed) is not None


def test_a_restore_takes_everything_back_but_the_clock() -> None:
    """Rows, rowversion counter and identity return; the same backup serves twice; new jobs are other jobs."""
    world = populated(50, rate=0)
    backup, before = world.snapshot(), content(world)
    old = world.add()
    world.change_many(list(world.jobs())[:20], jobStatusText="lost")
    world.late(next(world.jobs()), SECOND, jobStatusText="under way")
    world.delete(list(world.jobs())[30])
    world.advance(timedelta(minutes=5))
    now = world.now
    for _ in range(2):
        world.restore(backup)
        assert content(world) == before
        assert world.now == now
        new = world.add()
        assert (new.number, new.version) == (old.number, old.version)
        assert new.job_id != old.job_id
        world.advance(timedelta(days=1))
        now = world.now


# -- the service -------------------------------------------------------------------------------------------------------


def test_a_token_is_granted_and_runs_out() -> None:
    """The password grant, by a form; a wrong one is invalid_grant; the token ends by the world's clock."""
    emulator = Emulator(World(), token_lifetime=600)
    client = in_process(emulator, Authorization="Bearer nonsense")
    assert ask(client).status_code == 401
    refused = client.post(TOKEN, data={**GOOD_FORM, "password": "wrong"})
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    granted = client.post(TOKEN, data=GOOD_FORM).json()
    assert granted["expires_in"] == 600
    headers = {"Authorization": f"Bearer {granted['access_token']}"}
    assert ask(client, headers).status_code == 200
    emulator.world.advance(timedelta(seconds=600))
    assert ask(client, headers).status_code == 401


def test_the_log_keeps_what_was_asked_but_no_secrets() -> None:
    """Method, path, decoded query, status, fault and time of every call; the token is not in it."""
    emulator = Emulator(World())
    emulator.fail_next("503")
    ask(in_process(emulator), filter="ID gt 5")
    (request,) = emulator.requests
    assert (request.method, request.path, request.query) == ("GET", COLLECTION, {"$filter": "ID gt 5"})
    assert (request.status, request.fault, request.time) == (503, "503", START)
    assert request.headers["authorization"] == "Bearer"
    assert "static-token" not in repr(request)
    emulator.reset_log()
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("habit", "links"),
    [
        ("standard", [True, True, False]),
        ("always", [True, True, True]),
        ("never", [False, False, False]),
        ("foreign", [True, True, False]),
    ],
)
def test_habits_of_the_next_link(habit: Any, links: list[bool]) -> None:
    """Pages of 100 by $skip; a link when more follows, always, or never; a foreign one is on another host."""
    world = World()
    world.ties(250)
    client = in_process(Emulator(world, next_link=habit))
    answers = [ask(client, filter="ID gt 0", orderby="ID", skip=skip).json() for skip in ("0", "100", "200")]
    assert [len(page["value"]) for page in answers] == [100, 100, 50]
    assert ["@odata.nextLink" in page for page in answers] == links
    if links[0]:
        link = httpx.URL(answers[0]["@odata.nextLink"])
        assert link.host == ("elsewhere.example.net" if habit == "foreign" else "aims.test")
        assert unquote(link.query.decode()) == "$filter=ID gt 0&$orderby=ID&$skip=100"
        if habit == "standard":
            assert client.get(link).json() == answers[1]


def test_top_ends_the_pages() -> None:
    """$top caps what comes, over several pages too, and $count counts everything that matches."""
    world = World()
    world.ties(250)
    client = in_process(Emulator(world))
    first = ask(client, top="120", count="true").json()
    second = client.get(first["@odata.nextLink"]).json()
    assert (len(first["value"]), len(second["value"]), first["@odata.count"]) == (100, 20, 250)
    assert "@odata.nextLink" not in second
    assert "@odata.nextLink" not in ask(client, top="100").json()


def test_a_preference_can_only_shrink_the_page() -> None:
    """odata.maxpagesize below the server's is applied and said; above it is ignored."""
    world = World()
    world.ties(50)
    client = in_process(Emulator(world, page_size=20))
    smaller = ask(client, {"Prefer": "odata.maxpagesize=7"})
    assert (len(smaller.json()["value"]), smaller.headers["Preference-Applied"]) == (7, "odata.maxpagesize=7")
    larger = ask(client, {"Prefer": "odata.maxpagesize=500"})
    assert len(larger.json()["value"]) == 20
    assert "Preference-Applied" not in larger.headers


def test_rows_change_between_pages_on_demand() -> None:
    """The hook runs before every collection request but the first, on the world that is served."""
    world = World()
    client = in_process(Emulator(world, between_pages=World.add))
    assert [len(ask(client).json()["value"]) for _ in range(3)] == [0, 1, 2]


def test_a_server_can_lie_with_a_200() -> None:
    """Options it ignores change nothing; a property it refuses is a 400 in a filter and fine in an order."""
    world = World()
    world.ties(3)
    lying = Emulator(world, ignore={"filter", "orderby", "count"})
    answer = ask(in_process(lying), filter="ID gt 50002", orderby="ID desc", count="true").json()
    assert [row["ID"] for row in answer["value"]] == [50_001, 50_002, 50_003]
    assert "@odata.count" not in answer
    refusing = in_process(Emulator(world, refuse={"ID"}))
    assert ask(refusing, filter="jobStatus eq 'Queued' and not (id gt 5)").status_code == 400
    assert ask(refusing, orderby="ID").status_code == 200


def test_one_job_and_its_rerun() -> None:
    """One job by key, 404 for none; a rerun only where canReRun says so, answered as documented."""
    world = World()
    yes, no = world.add(canReRun="Yes"), world.add(canReRun="No")
    client = in_process(Emulator(world))
    assert client.get(f"{JOB}/{yes.job_id.upper()}").json() == yes.payload()
    assert client.get(f"{JOB}/nobody").status_code == 404
    answer = client.post(f"{JOB}/{yes.job_id}/rerun").json()
    assert answer.keys() == {"jobId", "jobStatus", "publishLink", "publishLinkAccessScope"}
    assert (answer["jobId"], answer["jobStatus"]) == (yes.job_id, "Queued")
    assert client.post(f"{JOB}/{no.job_id}/rerun").status_code == 400
    assert world.payload(no)["jobStatus"] == "Completed"


@pytest.mark.parametrize(
    ("scope", "owner", "without", "with_token"),
    [
        ("Public", "a@example.com", 200, 200),
        ("PUBLIC", "a@example.com", 200, 200),
        ("PeopleInOrganization", "a@example.com", 401, 200),
        ("Private", "a@example.com", 401, 403),
        ("Private", "operator@example.com", 401, 200),
    ],
)
def test_documents_by_scope(scope: str, owner: str, without: int, with_token: int) -> None:
    """Public needs no token, another user's private output is denied; a rerun kills the old link."""
    world = World()
    job = world.add(publishLinkAccessScope=scope, createdBy=owner)
    link = job["publishLink"]
    emulator = Emulator(world)
    assert in_process(emulator, Accept="*/*").get(link).status_code == without
    assert in_process(emulator).get(link).status_code == with_token
    world.rerun(job)
    assert in_process(emulator).get(link).status_code == 404


def test_a_clock_can_drive_the_world() -> None:
    """With a clock the world lives up to it before each request, and Date tells its time."""
    moments = iter([START + timedelta(days=1), START])
    emulator = Emulator(World(rate=50), clock=lambda: next(moments))
    answer = ask(in_process(emulator))
    assert parsedate_to_datetime(answer.headers["Date"]) == START + timedelta(days=1)
    assert answer.json()["value"]
    assert ask(in_process(emulator)).json() == answer.json()


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_faults_on_demand() -> None:
    """Each kind answers as it is named, one call each, in order; then all is well."""
    world = World()
    world.ties(5)
    emulator = Emulator(world)
    client = in_process(emulator)
    emulator.fail_next("429-seconds", "429-date", "429-bare", "500", "502", "503", "504", "html", "error-in-200", "cut")
    answers = [ask(client) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [429, 429, 429, 500, 502, 503, 504, 200, 200, 200, 200]
    assert answers[0].headers["Retry-After"] == "2"
    assert parsedate_to_datetime(answers[1].headers["Retry-After"]) == START + 2 * SECOND
    assert "Retry-After" not in answers[2].headers
    assert answers[7].text.startswith("<!DOCTYPE html>")
    assert "error" in answers[8].json()
    with pytest.raises(json.JSONDecodeError):
        answers[9].json()
    assert len(answers[10].json()["value"]) == 5


def test_a_reset_without_a_socket_is_the_error_one_asks_for() -> None:
    """`reset` raises ConnectionResetError, or what the test's client takes for a transport error."""
    for emulator, error in (
        (Emulator(World()), ConnectionResetError),
        (Emulator(World(), reset=httpx.ReadError), httpx.ReadError),
    ):
        emulator.fail_next("reset")
        with pytest.raises(error):
            ask(in_process(emulator))


def test_an_expired_token_is_forgotten() -> None:
    """401 for the call, and granted tokens are gone; the operator's own token holds."""
    emulator = Emulator(World())
    client = in_process(emulator)
    granted = {"Authorization": "Bearer " + client.post(TOKEN, data=GOOD_FORM).json()["access_token"]}
    assert ask(client, granted).status_code == 200
    emulator.fail_next("expired-token")
    assert [ask(client, granted).status_code for _ in range(2)] == [401, 401]
    assert ask(client).status_code == 200


def test_a_lost_answer_to_a_rerun_is_a_rerun() -> None:
    """Refusals (503) leave the job alone; faults of the answer (504) don't."""
    world = World()
    job = world.add(canReRun="Yes")
    emulator = Emulator(world)
    emulator.fail_next("503", "504")
    statuses = []
    for _ in range(2):
        in_process(emulator).post(f"{JOB}/{job.job_id}/rerun")
        statuses.append(world.payload(job)["jobStatus"])
    assert statuses == ["Completed", "Queued"]


def test_faults_by_chance_repeat_by_seed() -> None:
    """A rate of faults is the same sequence for the same seed; token grants are spared; unknown kinds are refused."""

    def run(seed: int) -> list[str]:
        emulator = Emulator(World(), faults=Faults(rate=0.3, kinds=("500", "html"), seed=seed))
        for _ in range(60):
            ask(in_process(emulator))
        return [request.fault for request in emulator.requests]

    assert run(1) == run(1) != run(2)
    assert 5 < sum(map(bool, run(1))) < 35
    with pytest.raises(ValueError, match="no such fault"):
        Emulator(World()).fail_next("flood")
    with pytest.raises(ValueError, match="no such fault"):
        Emulator(World(), faults=Faults(0.1, ("flood",)))


# -- on a socket -------------------------------------------------------------------------------------------------------


@pytest.fixture
def wire() -> Iterator[tuple[Emulator, httpx.Client, Callable[[], httpx.Response]]]:
    """An emulator of 300 jobs on a real socket, a client that keeps its connection, and a call for a page."""
    emulator = Emulator(populated(300, rate=0))
    with serve(emulator, drip=0) as server, httpx.Client(base_url=server.url, headers=BEARER, timeout=10) as client:
        yield emulator, client, lambda: ask(client, orderby="ID")


Wire = tuple[Emulator, httpx.Client, Callable[[], httpx.Response]]


def test_the_socket_serves_what_the_app_serves(wire: Wire) -> None:
    """Same rows over a kept connection; bodies of a POST and encoded paths arrive too."""
    emulator, client, page = wire
    rows = [row for skip in ("0", "100", "200") for row in ask(client, orderby="ID", skip=skip).json()["value"]]
    assert rows == content(emulator.world)
    assert client.post(TOKEN, data=GOOD_FORM).status_code == 200
    assert client.get(f"{JOB}/{quote(rows[0]['jobID'].replace('-', '%2D'), safe='%')}").json() == rows[0]
    assert page().headers["Date"]


def test_faults_of_the_wire(wire: Wire) -> None:
    """A reset and a cut body are transport errors to a client, a slow body is only slow; the server goes on."""
    emulator, _, page = wire
    whole = page().content
    emulator.fail_next("reset", "cut", "slow")
    for _ in range(2):
        with pytest.raises(httpx.TransportError):
            page()
    assert page().content == whole == page().content
    assert [request.fault for request in emulator.requests] == ["", "reset", "cut", "slow", ""]


def test_every_fault_can_happen_on_a_socket(wire: Wire) -> None:
    """Whatever goes wrong, the next call is fine."""
    emulator, _, page = wire
    for kind in ALL_FAULT_KINDS:
        emulator.fail_next(kind)
        try:
            page()
        except httpx.TransportError:
            assert kind in ("reset", "cut")
        assert page().status_code == 200


def test_a_closed_server_is_gone() -> None:
    """close() ends it, open connections too, and can be said twice."""
    server = serve(Emulator(World()))
    with httpx.Client(base_url=server.url, headers=BEARER) as client:
        assert ask(client).status_code == 200
        server.close()
        server.close()
        with pytest.raises(httpx.TransportError):
            ask(client)


def test_the_emulator_knows_nothing_of_the_rest() -> None:
    """It imports the standard library and itself, so that a shared mistake can't cancel out."""
    for source in (ROOT / "etl" / "testing" / "emulator").glob("*.py"):
        lines = [line for line in source.read_text().splitlines() if line.startswith(("from ", "import "))]
        assert all("etl" not in line.split() and "etl.testing.emulator" in line for line in lines if "etl" in line), (
            source
        )
        assert not any(name in line for line in lines for name in ("httpx", "msgspec", "sqlalchemy")), source
