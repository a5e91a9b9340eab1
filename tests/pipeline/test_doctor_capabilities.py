"""What doctor finds of the service: each capability as it is, with its evidence, and how a sync then reads."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from etl.config.settings import DEFAULT_SOURCE
from etl.errors import Unreachable
from etl.models import CAPABILITIES, Capability, Support
from etl.pipeline.doctor.checks import Check, Finding, Outcome, Reading, Standing, failures
from etl.pipeline.doctor.interview import OVER, SECONDS
from etl.pipeline.doctor.keeper import choose_certain
from etl.pipeline.doctor.service import examine_service
from etl.postgres import locks
from etl.postgres.connection import Connection
from etl.state.source_state import State, find
from etl.testing.emulator import Emulator, Generation, World, populated
from etl.testing.emulator.service_options import ServiceOptions
from tests.support.command import Command
from tests.support.gateway import behind
from tests.support.refusal_sets import EACH, Refusals
from tests.support.scene import Scene

HOUR = timedelta(hours=1)
COLLECTION = "GET /jobsmanagement/odata/v1.0/backgroundjob"
HARD = [service for service in EACH if service.name in ("top", "orderby", "dates", "and", "keys, count")] + EACH[-5:]
each = pytest.mark.parametrize("service", EACH, ids=[service.name for service in EACH])
hard = pytest.mark.parametrize("service", HARD, ids=[service.name for service in HARD])


def build(db: Connection, options: dict[str, Any], jobs: int = 130) -> Scene:
    """Return a source of some jobs whose service has a page size of 20; the dates of the first page don't ascend."""
    world = populated(jobs, seed=5, rate=60)
    for job in list(world.jobs())[:20:3]:
        world.change(job, percentCompleted=1)
    return Scene(db, world, page_size=20, options=ServiceOptions(**options))


def examine(scene: Scene, app: Any = None) -> list[Check]:
    """Return the checks of a scene's service. They take less than a minute of its clock."""
    began = scene.clock.monotonic()
    with scene.api(app) as api:
        checks = list(examine_service(api))
    assert scene.clock.monotonic() - began < SECONDS
    return checks


def list_findings(checks: list[Check]) -> dict[str, Finding]:
    """Return what was found, by capability."""
    return {check.evidence.capability: check.evidence for check in checks if isinstance(check.evidence, Finding)}


def find_reading(checks: list[Check]) -> Reading:
    """Return how a sync would read the source."""
    [reading] = [check.evidence for check in checks if isinstance(check.evidence, Reading)]
    return reading


def say(checks: list[Check], name: str) -> str:
    """Return what the checks of one name say."""
    return "\n".join(check.detail for check in checks if check.name == name)


def list_supported(options: ServiceOptions) -> dict[str, bool]:
    """Return what a service of these habits supports, as far as it can be asked for."""
    needs = {
        "top": {"top"},
        "orderby": {"orderby"},
        "filter_dates": {"ge", "modifieddate"},
        "filter_keys": {"gt", "jobid"},
        "filter_id": {"gt", "id"},
        "or": {"or", "eq", "jobid"},
        "and": {"and"},
        "count": {"count"},
        "skip": {"skip"},
        "select": {"select"},
        "largest_list": {"or", "eq", "jobid"},
        "largest_query": {"or", "eq", "jobid"},
        "null_dates": {"eq", "ge", "modifieddate"},
        "job_filter": {"eq", "jobid"},
    }
    supported = {name: not (refused & options.refused) for name, refused in needs.items()}
    supported["orderby_dates"] = supported["orderby"] and "modifieddate" not in options.unsortable
    return supported | {"page_size": False, "plain_path": options.has_plain_path}


def check_findings(service: Refusals, findings: dict[str, Finding]) -> None:
    """Compare what was found with how the service is."""
    assert {*CAPABILITIES} - {"slices"} <= findings.keys()  # which no question shows: a crowded instant does
    for name, is_supported in list_supported(ServiceOptions(**service.options)).items():
        assert (findings[name].outcome is Outcome.SUPPORTED) is is_supported, (name, findings[name])


@each
def test_each_capability_is_found_as_it_is(db: Connection, service: Refusals) -> None:
    """Whatever the service refuses: the words of each refusal, and the paging and window that a sync then uses."""
    scene = build(db, service.options)
    checks = examine(scene)
    findings = list_findings(checks)
    check_findings(service, findings)
    assert {check.standing for check in checks} <= {Standing.FINE, Standing.NOTE}
    for finding in findings.values():
        if finding.outcome is Outcome.REFUSED:
            assert finding.words.startswith("HTTP 4"), finding
    assert len(scene.emulator.requests) <= 24
    reading = find_reading(checks)
    for _ in range(2):
        scene.sync()
        scene.world.advance(HOUR)
        scene.world.add()
    assert scene.rows("SELECT paging, window_by FROM etl.sources") == [(reading.paging, reading.window_by)]
    if service.name != "orderby, default by date":  # nothing changes here, so that the order of dates is that of keys
        assert (reading.paging, reading.window_by) == (service.paging, service.window_by)


@hard
@pytest.mark.parametrize("words", ["unnamed", "html-403", "named"])
def test_refusals_in_other_words_are_found_too(db: Connection, service: Refusals, words: str) -> None:
    """Without a reason they count after the plain request was answered; a firewall's page of HTML is one as well."""
    scene = build(db, {**service.options, "refusal_words": words})
    checks = examine(scene)
    findings = list_findings(checks)
    check_findings(service, findings)
    reading = find_reading(checks)
    assert (reading.paging, reading.window_by) == (service.paging, service.window_by)
    if words == "unnamed":
        assert all(not each.is_plain for each in findings.values() if each.outcome is Outcome.REFUSED)


IGNORED = {
    "filter": ("filter_dates", "filter_keys", "filter_id", "and", "or", "job_filter"),
    "orderby": ("orderby", "orderby_dates"),
    "top": ("top",),
    "count": ("count",),
    "skip": ("skip", "next_link"),
    "select": ("select",),
}


@pytest.mark.parametrize("option", sorted(IGNORED))
def test_an_option_that_is_ignored_is_told_by_the_row_that_shows_it(db: Connection, option: str) -> None:
    """It is answered with 200; each answer is held against its question. A sync then reads as doctor says."""
    scene = build(db, {"ignored": frozenset({option})})
    checks = examine(scene)
    ignored = {name for name, each in list_findings(checks).items() if each.outcome is Outcome.IGNORED}
    assert ignored - {"page_size", "largest_list"} == set(IGNORED[option])
    assert all(each.words for each in list_findings(checks).values() if each.outcome is Outcome.IGNORED)
    reading = find_reading(checks)
    if option == "filter":
        assert (reading.paging, reading.window_by, reading.requests) == ("skip", "none", 14)
        scene.sync()
        scene.sync()
        assert scene.rows("SELECT paging, window_by FROM etl.sources") == [("skip", "none")]
        assert scene.differences() == []


@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
def test_a_healthy_service_needs_nothing(db: Connection, generation: Generation) -> None:
    """All is supported, what can't be told is said, and AIMS360 is asked for nothing."""
    world = populated(130, seed=12, rate=60, generation=generation)
    scene = Scene(db, world, page_size=20, options=ServiceOptions(pagesize="honoured"))
    checks = examine(scene)
    unknown = {name for name, each in list_findings(checks).items() if each.outcome is not Outcome.SUPPORTED}
    key = "ID" if generation == "2019-06" else "jobID"
    assert unknown <= ({"default_order"} if key == "ID" else {"default_order", "filter_id"})
    assert say(checks, "strategy") == f"scans go by {key}; a run reads what changed since the last one"
    assert say(checks, "deletions").endswith("held against $count; jobs are asked for in lists of 15 keys")
    assert say(checks, "meaning") + say(checks, "ask AIMS360") == ""


@pytest.mark.parametrize("ignored", [False, True])
def test_keys_of_another_form_are_asked_for_too(db: Connection, ignored: bool) -> None:
    """They can't be compared here: that a filter is ignored shows where the very row comes that was left out."""
    world = World(seed=1, generation="2019-08")
    for number in range(30):
        world.advance(timedelta(minutes=1))
        world.add(jobID=f"job number {number:02d}")
    options = ServiceOptions(ignored=frozenset({"filter"} if ignored else ()))
    findings = list_findings(examine(Scene(db, world, page_size=40, options=replace(options, prefer="ignored"))))
    assert findings["filter_keys"].outcome is (Outcome.IGNORED if ignored else Outcome.SUPPORTED)
    assert findings["and"].outcome is findings["or"].outcome is findings["filter_keys"].outcome


def test_the_end_says_what_each_refusal_costs_and_what_to_ask_for(db: Connection) -> None:
    """As in issue 19: no harm, or each run reads all pages; a sentence each, those that do no harm marked."""
    checks = examine(build(db, {"refused": frozenset({"top", "modifiedDate", "createdDate"}), "pagesize": "honoured"}))
    assert say(checks, "meaning") == (
        "refuses filters on dates: each run reads all pages, about 9 requests; refuses $top: no harm"
    )
    assert say(checks, "strategy") == "scans go by ID; each run reads all pages, about 9 requests"
    wanted, optional = say(checks, "ask AIMS360").splitlines()
    assert wanted == (
        f"Please allow $filter on modifiedDate (ge, lt) on {COLLECTION} (it answers HTTP 400: The property "
        "'modifiedDate' cannot be used in the $filter query option)."
    )
    assert optional.startswith(f"optional: Please allow $top on {COLLECTION} (it answers HTTP 400: The limit of '0'")
    [allowed] = examine_words(build(db, {"refused": frozenset({"filter"})}))
    assert allowed.startswith(
        f"Please allow $filter on modifiedDate (ge, lt) and $filter on ID (gt, le) and $filter on jobID (gt, le) on "
        f"{COLLECTION} (it answers HTTP 400: Query option 'Filter' is not allowed. "
    )


def examine_words(scene: Scene) -> list[str]:
    """Return the sentence about filters."""
    return [text for text in say(examine(scene), "ask AIMS360").splitlines() if "modifiedDate (ge" in text]


@pytest.mark.parametrize(
    ("options", "asked", "limit"),
    [
        ({}, "in lists of 15 keys", 15),
        ({"max_nodes": 40}, "in lists of 7 keys", 7),
        ({"max_query": 600}, "in lists of 7 keys", 7),
        ({"max_query": 300, "long_query": "aspnet"}, "in lists of 3 keys", 3),
        ({"max_nodes": 10}, "in lists of 2 keys", 2),
        ({"refused": frozenset({"or"})}, "one by one, by a filter", 1),
        ({"max_nodes": 5}, "one by one, by a filter", 1),
        ({"property_names": "jobId"}, "one by one, by a filter", None),
        ({"refused": frozenset({"jobID"})}, "one by one, by their path", None),
        ({"refused": frozenset({"eq"})}, "one by one, by their path", None),
    ],
)
def test_how_single_jobs_can_be_asked_for(db: Connection, options: dict[str, Any], asked: str, limit: int) -> None:
    """The longest list that is answered, else a filter, else the path."""
    checks = examine(build(db, options))
    assert say(checks, "deletions").endswith(f"jobs are asked for {asked}")
    assert list_findings(checks)["largest_list"].limit == limit


@pytest.mark.parametrize("unknown_job", ["404-html", "400"])
def test_a_path_that_does_not_say_that_a_job_is_gone_is_of_no_use(db: Connection, unknown_job: str) -> None:
    """Only a 404 with JSON means it; where nothing else can be asked, deletions can't be followed, and it is said."""
    scene = build(db, {"refused": frozenset({"eq"}), "unknown_job": unknown_job})
    checks = examine(scene)
    assert say(checks, "deletions").startswith("can't be followed: the service answers no question about a single job")
    assert "with HTTP 404 and JSON where there is no such job" in say(checks, "ask AIMS360")


def test_a_refused_eq_null_does_no_harm_while_all_jobs_have_a_date(db: Connection) -> None:
    """Time slices need it for jobs without one; the counts say whether there are some."""
    scene = build(db, {"refused": frozenset({"ID", "jobID", "eq"})})
    checks = examine(scene)
    assert find_reading(checks).paging_of_all_rows == "time"
    scene.world.add(modifiedDate=None)
    assert find_reading(examine(scene)).paging_of_all_rows == "skip"


def test_where_no_way_is_left_the_check_fails(db: Connection) -> None:
    """Exit code 1: no sync could read all jobs."""
    refused = frozenset({"gt", "ge", "lt", "skip", "and", "orderby", "count"})
    checks = examine(build(db, {"refused": refused, "next_link": "never"}))
    [strategy] = [check for check in checks if check.name == "strategy"]
    assert strategy.standing is Standing.FAILED
    assert "no way is left to read all jobs" in strategy.detail
    assert f"Please send a nextLink with each page of {COLLECTION}" in say(checks, "ask AIMS360")


# -- time, and a busy service ------------------------------------------------------------------------------------------


def test_a_slow_service_is_asked_for_a_minute(db: Connection) -> None:
    """What isn't asked by then is said; what was found so far has its meaning."""
    scene = build(db, {"refused": frozenset({"orderby"})})
    scene.emulator.between_pages = lambda world: world.advance(timedelta(seconds=7))
    began = scene.clock.monotonic()
    with scene.api() as api:
        checks = list(examine_service(api))
    assert scene.clock.monotonic() - began < SECONDS + 4 * 7
    outcomes = list_findings(checks)
    assert outcomes["orderby"].outcome is Outcome.REFUSED
    assert outcomes["plain_path"] == Finding("plain_path", Outcome.UNKNOWN, OVER)
    assert say(checks, "strategy").startswith("scans go by ")


@pytest.mark.parametrize("kind", ["503", "overload", "429-long"])
def test_a_busy_service_refuses_nothing(db: Connection, kind: str) -> None:
    """Overload teaches nothing: it isn't known what the service supports, and why not is said."""
    scene = build(db, {})

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        if "$count" not in environ["QUERY_STRING"]:
            return "200 OK", body
        if kind == "overload":
            error = {"requestId": "1", "error": {"code": "Request_ProcessingFailed", "message": "busy"}}
            return "400 Bad Request", json.dumps(error).encode()
        return ("503 Unavailable" if kind == "503" else "429 Too Many"), b"{}"

    finding = list_findings(examine(scene, behind(scene, answer)))["count"]
    assert finding.outcome is Outcome.UNKNOWN
    assert finding.words.startswith("HTTP ")


def test_a_refusal_without_a_reason_needs_an_answer_beside_it(db: Connection) -> None:
    """Where nothing is answered any more, the question says nothing of what the service supports."""
    scene = build(db, {})
    no = json.dumps({"error": {"code": "BadRequest", "message": "no"}}).encode()
    is_over = False

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        nonlocal is_over
        is_over = is_over or "$count" in environ["QUERY_STRING"]
        return ("400 Bad Request", no) if is_over else ("200 OK", body)

    finding = list_findings(examine(scene, behind(scene, answer)))["count"]
    assert finding.outcome is Outcome.UNKNOWN
    assert finding.words == "the service answers nothing at the moment (HTTP 400: no)"


def test_no_error_that_doctor_prints_says_to_run_doctor(db: Connection) -> None:
    """Where each request is refused there is nobody to ask but AIMS360."""
    scene = build(db, {})
    no = json.dumps({"error": {"code": "BadRequest", "message": "no"}}).encode()
    [check] = examine_refused(scene, no)
    assert check.standing is Standing.FAILED
    assert "doctor" not in check.detail
    assert check.detail.endswith("ask AIMS360 why: there is no plainer request than this one")
    [check] = failures("database", Unreachable("permission denied; `aims360-etl doctor` says which rights are missing"))
    assert check.detail == "permission denied"


def examine_refused(scene: Scene, body: bytes) -> list[Check]:
    """Return the checks of a service that refuses every request."""
    with scene.api(behind(scene, lambda environ, _: ("400 Bad Request", body))) as api:
        return list(examine_service(api))


# -- what the next sync knows of it ------------------------------------------------------------------------------------


def find_state(db: Connection) -> State:
    """Return what is stored of the command's source."""
    state = find(db, DEFAULT_SOURCE)
    assert state is not None
    return state


def test_what_is_certain_is_kept_for_the_next_sync(command: Command, emulator: Emulator, db: Connection) -> None:
    """Refusals that name what they refuse, and what is heeded; a refusal without a reason is left to the run."""
    assert command.run("sync")[0] == 0
    emulator.options = ServiceOptions(refused=frozenset({"top"}), pagesize="refused")
    code, output, _ = command.run("doctor", "--json")
    assert code == 0
    [top] = [each for each in json.loads(output) if each["name"] == "$top"]
    assert top["evidence"]["outcome"] == "refused"
    assert top["evidence"]["words"].startswith("HTTP 400: ")
    assert top["evidence"]["asked"] == "$top=3"
    known = find_state(db).capabilities
    assert (known["top"].support, known["count"].support) == (Support.NO, Support.YES)
    assert "page_size" not in known
    emulator.reset_log()
    assert command.run("sync")[0] == 0
    assert all("$top" not in request.query for request in emulator.requests)


def test_only_what_is_certain_is_chosen_to_be_kept() -> None:
    """No refusal without a reason, nothing that does no harm, nothing that isn't known or that runs learn better."""
    now = World().now
    findings = [
        Finding("top", Outcome.REFUSED, "no"),
        Finding("skip", Outcome.REFUSED, "no", is_plain=False),
        Finding("null_dates", Outcome.REFUSED, "no", is_binding=False),
        Finding("filter_keys", Outcome.REFUSED, "no", is_binding=False),
        Finding("orderby", Outcome.IGNORED, "a row shows it"),
        Finding("count", Outcome.UNKNOWN, OVER),
        Finding("select", Outcome.SUPPORTED),
        Finding("largest_list", Outcome.REFUSED, "no", limit=7),
        Finding("prefer", Outcome.SUPPORTED),
    ]
    assert choose_certain(findings, now) == {
        "top": Capability(Support.NO, "no", now),
        "orderby": Capability(Support.NO, "a row shows it", now),
        "select": Capability(Support.YES, "answered", now),
    }


def test_nothing_is_kept_while_a_run_is_at_work(command: Command, emulator: Emulator, db: Connection) -> None:
    """It goes on as it began."""
    command.run("sync")
    emulator.options = ServiceOptions(refused=frozenset({"top"}))
    before = find_state(db)
    with locks.held(db, DEFAULT_SOURCE, before.source_id):
        assert command.run("doctor")[0] == 0
        assert find_state(db) == before


def test_a_source_that_was_never_synced_gets_no_row(command: Command, db: Connection, world: World) -> None:
    """Doctor registers nothing."""
    assert len(world) == 300
    assert command.run("doctor")[0] == 0
    assert find(db, DEFAULT_SOURCE) is None
