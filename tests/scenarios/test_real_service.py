"""The service as its real clients met it: overload, limits, tokens that end, records and pages that can't be served."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from etl.client.client import Api
from etl.config.secrets import PasswordGrant, Secret
from etl.errors import BrokenPromise, CredentialsRefused, Refused, SignInFailed, Unreachable
from etl.models import Verdict
from etl.pipeline.sync import sync
from etl.postgres.connection import Connection
from etl.testing.emulator import Faults, populated, serve
from etl.testing.emulator.drift import Drift
from etl.testing.emulator.service_options import ServiceOptions
from etl.testing.emulator.spoilt_rows import Spoilt
from tests.support.gateway import behind
from tests.support.scene import GRANT, Scene, a_source

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NOTHING_LEARNT = "SELECT strategy FROM etl.sources"


def a_scene(db: Connection, jobs: int = 900, seed: int = 1, source: Any = None, **options: Any) -> Scene:
    """A scene whose service has these habits."""
    world = populated(jobs, seed=seed, rate=0)
    return Scene(
        db,
        world,
        source or a_source(reread=timedelta(), reconcile_every=timedelta()),
        options=ServiceOptions(**options),
    )


def statuses(scene: Scene) -> Mapping[int, int]:
    """How many answers of each status the service gave."""
    found: dict[int, int] = {}
    for request in scene.emulator.requests:
        found[request.status] = found.get(request.status, 0) + 1
    return found


# -- overload ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "rate"), [("overload", 0.15), ("overload-bare", 0.05)])
def test_an_overloaded_service_is_asked_again_and_teaches_nothing(db: Connection, kind: str, rate: float) -> None:
    """A 400 that means overload: the backfill ends as it began, by key, and loses nothing."""
    scene = a_scene(db, 2_500)
    scene.emulator.set_faults(Faults(rate, (kind,), seed=3))
    run = scene.sync()
    assert (run.verdict, run.strategy, run.notes) == (Verdict.COMPLETE, "ID", ())
    assert statuses(scene)[400] > 0
    assert scene.one(NOTHING_LEARNT) == "key"
    assert scene.differences() == []


def test_an_overload_of_the_first_requests_is_waited_out(db: Connection) -> None:
    """The first four requests of all are refused as overload."""
    scene = a_scene(db, 50)
    scene.emulator.fail_next(*["overload"] * 4)
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.differences() == []


def test_an_outage_gives_up_no_row(db: Connection) -> None:
    """A thousand requests fail in the middle of a backfill: runs fail, the next ones go on, nothing is left out."""
    scene = a_scene(db, 2_000, source=a_source(concurrency=1))
    scene.emulator.between_pages = lambda _: (
        scene.emulator.fail_next(*["500"] * 1_000) if len(scene.emulator.requests) == 8 else None
    )
    failed = 0
    for _ in range(200):
        try:
            run = scene.sync()
        except Unreachable:
            failed += 1
        else:
            break
    assert failed > 10
    assert run.verdict is Verdict.COMPLETE
    assert scene.rows("SELECT * FROM etl.rejects") == []
    assert [said for said in scene.differences() if "is a ghost" not in said] == []  # purge dates passed meanwhile


def test_a_service_that_counts_requests_in_flight_turns_few_away(db: Connection) -> None:
    """Sixteen are set and five allowed: the client finds out with no more than ten refusals in a backfill."""
    scene = a_scene(db, 3_000, source=a_source(concurrency=16, reread=timedelta()), most_in_flight=5)
    scene.emulator.page_size = 50
    with serve(scene.emulator, latency=0.02) as server:
        scene.set(base_url=server.url)
        run = sync(scene.source, lambda: Api(scene.source, scene.clock), db, scene.clock)
    assert run.verdict is Verdict.COMPLETE
    assert scene.emulator.in_flight.peak > 3
    assert statuses(scene).get(403, 0) <= 10
    assert scene.differences() == []


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("long_query", ["iis", "aspnet"])
@pytest.mark.parametrize("cost", ["5n-1", "6n-1"])
def test_deleted_jobs_are_removed_by_short_lists_of_keys(db: Connection, cost: str, long_query: str) -> None:
    """80 nodes and 1,500 bytes allowed: 45 ghosts go all the same, and a quiet source is purged."""
    scene = a_scene(db, 600, max_nodes=80, max_query=1_500, node_cost=cost, long_query=long_query)
    scene.sync()
    for job in list(scene.world.jobs())[100:145]:
        scene.world.delete(job)
    scene.world.advance(HOUR)
    run = scene.reconcile(repair=True)
    assert (run.counts.ghosts, run.counts.repaired, run.notes) == (45, 45, ())
    assert scene.differences() == []
    scene.world.advance(20 * DAY)  # jobs go, and nothing is changed: only by asking is that known
    scene.sync()
    assert scene.one("SELECT count(*) FROM aims360.purged_jobs WHERE reason = 'purged'") > 100
    assert scene.differences() == []


def test_a_query_that_is_too_long_for_the_server_is_split(db: Connection) -> None:
    """Even 400 bytes are enough for lists of keys."""
    scene = a_scene(db, 200, max_query=400)
    scene.sync()
    for job in list(scene.world.jobs())[:30]:
        scene.world.delete(job)
    scene.world.advance(HOUR)
    assert scene.reconcile(repair=True, force=True).counts.repaired == 30
    assert scene.differences() == []


@pytest.mark.parametrize("refused", ["or", "jobid", "jobid eq"])
def test_where_lists_are_refused_jobs_are_asked_for_singly(db: Connection, refused: str) -> None:
    """Without `or` one a request, without a filter on jobID by the plain path; else nothing is removed, and said."""
    scene = a_scene(db, 200, refused=frozenset(refused.split()), has_plain_path="eq" not in refused)
    scene.sync()
    for job in list(scene.world.jobs())[:5]:
        scene.world.delete(job)
    scene.world.advance(HOUR)
    run = scene.reconcile(repair=True)
    if "eq" not in refused:
        assert run.counts.repaired == 5
        assert scene.differences() == []
    else:
        assert run.counts.repaired == 0
        assert any("can't be trusted" in note for note in run.notes)


# -- pages and records that can't be served ----------------------------------------------------------------------------


@pytest.mark.parametrize("prefer", ["honoured", "ignored"])
@pytest.mark.parametrize("pagesize", ["ignored", "honoured"])
@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
def test_pages_that_are_too_large_are_asked_for_smaller(
    db: Connection, generation: Any, pagesize: str, prefer: str
) -> None:
    """More than 20 rows are a 504: by `pagesize`, by `Prefer`, else by narrower ranges of the key."""
    world = populated(400, seed=2, rate=0, generation=generation)
    options = ServiceOptions(most_rows=20, pagesize=pagesize, prefer=prefer)  # type: ignore[arg-type]
    scene = Scene(db, world, a_source(reread=timedelta(), reconcile_every=timedelta()), options=options)
    run = scene.sync()
    assert (run.verdict, run.counts.rejected) == (Verdict.COMPLETE, 0)
    assert scene.differences() == []
    assert statuses(scene)[504] < 25


@pytest.mark.parametrize("status", ["504", "500"])
@pytest.mark.parametrize("default_order", ["key", "modifiedDate"])
@pytest.mark.parametrize(
    "refused", [("orderby",), ("orderby", "top"), ("orderby", "count"), ("orderby", "id", "jobid")]
)
def test_pages_that_are_too_large_are_asked_for_smaller_without_an_order(
    db: Connection, refused: tuple[str, ...], default_order: Any, status: Any
) -> None:
    """Also the first page, which takes the place of the newest row: nothing smaller was answered before it."""
    world = populated(90, seed=2, rate=0)
    options = ServiceOptions(
        most_rows=20,
        too_many_rows=status,
        pagesize="honoured",
        prefer="ignored",
        refused=frozenset(refused),
        default_order=default_order,
    )
    scene = Scene(db, world, a_source(reread=timedelta(), reconcile_every=timedelta()), options=options)
    for _ in range(2):
        assert scene.sync().verdict is Verdict.COMPLETE
        world.advance(timedelta(hours=1))
        world.change_many(list(world.jobs())[:30], percentCompleted=7)
    scene.sync()
    assert scene.differences() == []


def test_time_slices_that_are_too_large_are_asked_for_shorter(db: Connection) -> None:
    """Where keys can't be filtered on, and more than 20 rows are a 504."""
    scene = a_scene(db, 300, most_rows=20, refused=frozenset({"id", "jobid"}))
    run = scene.sync()
    assert (run.verdict, run.strategy) == (Verdict.COMPLETE, "modifiedDate")
    assert scene.differences() == []
    assert statuses(scene)[504] < 80


@pytest.mark.parametrize("status", ["504", "500"])
def test_jobs_of_the_far_future_that_are_too_many_for_a_page_end_no_scan_never(db: Connection, status: str) -> None:
    """Read by time, with more rows dated 2099 than the service serves at a time."""
    world = populated(60, seed=2, rate=0)
    world.change_many(list(world.jobs())[:15], modifiedDate="2099-12-31T23:59:59Z")
    options = ServiceOptions(most_rows=9, too_many_rows=status, refused=frozenset({"id", "jobid"}))  # type: ignore[arg-type]
    scene = Scene(db, world, a_source(reread=timedelta(), reconcile_every=timedelta()), options=options)
    run = scene.sync()
    assert (run.verdict, run.strategy) == (Verdict.COMPLETE, "modifiedDate")
    assert run.requests < 700
    assert scene.differences() == []


def test_a_smaller_page_is_kept_with_the_open_scan(db: Connection) -> None:
    """A run that ends in the midst leaves the size of its pages to the next one."""
    scene = a_scene(db, 600, source=a_source(concurrency=1), most_rows=20)
    scene.emulator.between_pages = lambda _: (
        scene.emulator.fail_next(*["503"] * 40) if len(scene.emulator.requests) == 20 else None
    )
    with pytest.raises(Unreachable):
        scene.sync()
    scene.emulator.between_pages = None
    scene.emulator.set_faults(Faults())
    [(size,)] = scene.rows("SELECT page_size FROM etl.scans")
    assert 0 < size <= 20
    scene.emulator.reset_log()
    assert scene.sync().verdict is Verdict.COMPLETE
    assert statuses(scene).get(504, 0) < 6
    assert scene.differences() == []


@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
@pytest.mark.parametrize("spares_keys", [True, False])
@pytest.mark.parametrize("pagesize", ["ignored", "honoured"])
def test_a_record_that_cannot_be_served_costs_that_record_alone(
    db: Connection, generation: Any, spares_keys: bool, pagesize: str
) -> None:
    """It is a reject under its own name, or under the range that it lies in; all others are there."""
    world = populated(450, seed=5, rate=0, generation=generation)
    lost = list(world.jobs())[220]
    options = ServiceOptions(
        poisoned=frozenset({lost.job_id}),
        poison_spares_keys=spares_keys,
        pagesize=pagesize,  # type: ignore[arg-type]
    )
    scene = Scene(db, world, a_source(concurrency=1, reread=timedelta(), reconcile_every=timedelta()), options=options)
    run = scene.sync()
    assert (run.verdict, run.counts.rejected) == (Verdict.COMPLETE_WITH_REJECTS, 1)
    assert scene.one("SELECT count(*) FROM aims360.jobs") == 449
    [(job_id, key_name, after, before)] = scene.rows("SELECT job_id, key_name, key_after, key_before FROM etl.rejects")
    if spares_keys:
        assert job_id == lost.job_id
    elif key_name == "ID":
        assert int(after) < lost.number < int(before)
    else:
        assert after < lost.job_id < before
    assert [said for said in scene.differences() if lost.job_id not in said] == []


def test_a_poisoned_newest_record_hides_none_of_the_others(db: Connection) -> None:
    """The probe takes the next one, and the record waits as a reject."""
    world = populated(120, seed=6, rate=0)
    world.advance(HOUR)
    newest = world.add()
    options = ServiceOptions(poisoned=frozenset({newest.job_id}))
    scene = Scene(db, world, a_source(concurrency=1, reread=timedelta(), reconcile_every=timedelta()), options=options)
    run = scene.sync()
    assert run.verdict is Verdict.COMPLETE_WITH_REJECTS
    assert scene.one("SELECT count(*) FROM aims360.jobs") == len(world) - 1


def test_more_than_three_records_in_a_row_fail_the_run(db: Connection) -> None:
    """That is no bad record, but a service that is broken: the watermark stays."""
    world = populated(200, seed=7, rate=0)
    lost = frozenset(job.job_id for job in list(world.jobs())[100:105])
    scene = Scene(db, world, a_source(concurrency=1), options=ServiceOptions(poisoned=lost, poison_spares_keys=True))
    with pytest.raises(Unreachable, match="in a row"):
        scene.sync()
    assert scene.one("SELECT watermark FROM etl.sources") is None


@pytest.mark.parametrize("habit", ["ignored", "honoured", "capped", "refused"])
def test_larger_pages_are_taken_where_they_are_offered(db: Connection, habit: str) -> None:
    """`pagesize=250` is asked for; where it is refused it is asked without, and by key all the same."""
    scene = a_scene(db, 1_000, source=a_source(concurrency=1), pagesize=habit)
    run = scene.sync()
    assert (run.strategy, run.notes) == ("ID", ())
    assert run.pages == {"ignored": 11, "honoured": 5, "capped": 6, "refused": 11}[habit]
    assert scene.differences() == []


# -- tokens ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ended", ["401", "401-invalid-token", "403", "400"])
def test_an_ended_token_is_replaced(db: Connection, ended: str) -> None:
    """Whatever the service says of it; the scan goes on."""
    scene = a_scene(db, 300, source=a_source(credentials=GRANT), ended_token=ended)
    scene.emulator.fail_next("", "", "", "expired-token")
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.differences() == []


WRONG = PasswordGrant("client", Secret("secret"), "operator@example.com", Secret("a typo"))


def test_refused_credentials_are_paused_for_longer_each_time(db: Connection) -> None:
    """A sync each minute signs in after 1, 2, 4 … 30 minutes: an account with a wrong password isn't locked."""
    scene = a_scene(db, 20, source=a_source(credentials=WRONG))
    asked = []
    for minute in range(40):
        before = len(scene.emulator.requests)
        with pytest.raises(CredentialsRefused):
            scene.sync()
        if len(scene.emulator.requests) > before:
            asked.append(minute)
        scene.world.advance(MINUTE)
    assert asked == [0, 1, 3, 7, 15, 31]
    scene.world.advance(25 * MINUTE)
    with pytest.raises(CredentialsRefused):
        scene.sync()
    assert scene.one("SELECT sign_in_not_before FROM etl.sources") - scene.world.now == 30 * MINUTE
    assert "a typo" not in str(scene.rows("SELECT * FROM etl.sources")) + str(scene.rows("SELECT error FROM etl.runs"))


def test_changed_credentials_are_tried_at_once(db: Connection) -> None:
    """And a sign-in that works forgets the refusals."""
    scene = a_scene(db, 20, source=a_source(credentials=WRONG))
    for _ in range(2):
        with pytest.raises(CredentialsRefused):
            scene.sync()
    assert len(scene.emulator.requests) == 1
    scene.set(credentials=GRANT)
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.rows("SELECT sign_in_failures, sign_in_not_before, sign_in_hash FROM etl.sources") == [(0, None, None)]


def test_other_wrong_credentials_are_paused_too(db: Connection) -> None:
    """They are tried at once, once: whoever guesses would lock the account."""
    scene = a_scene(db, 20, source=a_source(credentials=WRONG))
    for password in ("a typo", "another"):
        scene.set(credentials=PasswordGrant("client", Secret("secret"), "operator@example.com", Secret(password)))
        for _ in range(3):
            with pytest.raises(CredentialsRefused):
                scene.sync()
    assert len(scene.emulator.requests) == 2


def test_a_token_that_is_never_accepted_is_not_signed_in_for_again_and_again(db: Connection) -> None:
    """Each new token is refused: the run signs in once more, and fails."""
    scene = a_scene(db, 20, source=a_source(credentials=GRANT))
    refused = lambda env, body: ("200 OK", body) if env["REQUEST_METHOD"] == "POST" else ("401 No", b"{}")  # noqa: E731
    with pytest.raises(SignInFailed):
        scene.sync(behind(scene, refused))
    assert sum(request.method == "POST" for request in scene.emulator.requests) == 2


def test_an_overloaded_token_endpoint_is_asked_again(db: Connection) -> None:
    """429, 5xx, no answer and Request_ProcessingFailed are no refusal."""
    scene = a_scene(db, 20, source=a_source(credentials=GRANT))
    scene.emulator.fail_sign_in("429-bare", "503", "overload", "reset")
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.one("SELECT sign_in_failures FROM etl.sources") == 0


# -- page sizes and lists ----------------------------------------------------------------------------------------------


def test_a_page_size_that_is_refused_costs_two_requests(db: Connection) -> None:
    """The vendor's parameter was only offered: nobody waits to learn that it is refused."""
    scene = a_scene(db, 900, pagesize="refused")
    before = scene.world.now
    run = scene.sync()
    assert (run.verdict, run.retries, scene.world.now - before < MINUTE) == (Verdict.COMPLETE, 0, True)
    assert statuses(scene)[400] <= 2


def test_what_waits_is_asked_for_in_few_requests_where_lists_are_refused(db: Connection) -> None:
    """A refused length isn't tried again in a run, and no more than three answers are asked for."""
    scene = a_scene(db, 60, source=a_source(concurrency=1, reread=timedelta(), reconcile_every=timedelta()))
    ids = [job.job_id for job in scene.world.jobs()][:12]
    scene.emulator.options = ServiceOptions(spoilt=(Spoilt("nan", tuple(ids)),), refused=frozenset({"or"}))
    scene.sync()
    asked = []
    for _ in range(4):
        scene.world.advance(MINUTE)
        scene.emulator.reset_log()
        scene.sync()
        asked.append(sum("jobID eq" in request.query.get("$filter", "") for request in scene.emulator.requests))
    assert (max(asked) <= 8, min(asked) > 0) == (True, True), asked


# -- forms -------------------------------------------------------------------------------------------------------------

_FORMS: dict[str, dict[str, Any]] = {
    "InProgress": {"status_spelling": "InProgress"},
    "mixed": {"status_spelling": "mixed"},
    "1899": {"no_date": "1899-12-30T00:00:00Z"},
    "year 1": {"no_date": "0001-01-01T00:00:00Z"},
    "empty": {"no_date": ""},
    "base64url": {"rowversion_form": "base64url"},
    "base64url-padded": {"rowversion_form": "base64url-padded"},
    "4.01": {"odata_version": "minimal-4.01"},
    "gzip": {"gzip": True},
}


@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
@pytest.mark.parametrize("form", list(_FORMS))
def test_each_form_of_a_value_is_read_as_what_it_means(db: Connection, generation: Any, form: str) -> None:
    """Mirror and source are equal, and a comparison finds nothing to do."""
    world = populated(250, seed=8, rate=0, generation=generation)
    source = a_source(reread=timedelta(), reconcile_every=timedelta())
    scene = Scene(db, world, source, options=ServiceOptions(**_FORMS[form]))
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.differences() == []
    world.advance(HOUR)
    scene.sync()
    found = scene.reconcile(repair=True)
    assert (found.counts.differences, found.counts.repaired) == (0, 0)
    assert scene.differences() == []


@pytest.mark.parametrize("form", ["date", "hash", "two-parts"])
def test_an_etag_of_another_form_is_no_rowversion(db: Connection, form: str) -> None:
    """Rows are judged by modifiedDate then; a comparison doesn't call them stale."""
    world = populated(250, seed=9, rate=0, generation="2019-08")
    source = a_source(reread=timedelta(), reconcile_every=timedelta())
    scene = Scene(db, world, source, options=ServiceOptions(etag_form=form))  # type: ignore[arg-type]
    assert scene.sync().verdict is Verdict.COMPLETE
    world.advance(HOUR)
    assert scene.reconcile(repair=True).counts.differences == 0


# -- rows that can't be read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["tab", "newline", "escape", "latin-1", "nan", "infinity", "octal"])
@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
def test_a_row_that_was_spoilt_once_is_there_after_the_next_run(db: Connection, generation: Any, form: Any) -> None:
    """A bad gateway spoils a tenth of the rows once: the others are there at once, and these with the runs after."""
    world = populated(150, seed=10, rate=0, generation=generation)
    source = a_source(reread=timedelta(), reconcile_every=timedelta(), concurrency=1)
    scene = Scene(db, world, source, options=ServiceOptions(spoilt=(Spoilt(form, share=0.1, times=1),)))
    first = scene.sync()
    if form == "latin-1":  # is loaded with a character in the place of the bad byte, and marked
        assert scene.one("SELECT count(*) FROM etl.unread_values") > 2
        assert first.counts.replaced_characters > 2
    else:
        assert first.is_unwell
        assert first.counts.rejected > 2
    assert first.counts.inserted + first.counts.rejected == 150
    for _ in range(3):
        world.advance(MINUTE)
        run = scene.sync()
        assert not run.is_unwell  # nothing new
    assert (run.verdict, scene.rows("SELECT * FROM etl.rejects")) == (Verdict.COMPLETE, [])
    assert scene.rows("SELECT * FROM etl.unread_values") == []
    assert scene.differences() == []


def test_a_row_that_is_spoilt_for_good_is_asked_for_less_and_less_often(db: Connection) -> None:
    """After 1, 2, 4 and 8 runs, then once a day; the verdict says so all the while, and it leaves when it is mended."""
    world = populated(40, seed=11, rate=0)
    world.advance(HOUR)
    bad = world.add(purgeDateTime=world.now + 90 * DAY)
    options = ServiceOptions(spoilt=(Spoilt("tab", (bad.job_id,)),))
    scene = Scene(db, world, a_source(reread=timedelta(), reconcile_every=timedelta()), options=options)
    scene.sync()
    world.advance(HOUR)
    world.add()
    asked = []
    for number in range(1, 41):
        scene.emulator.reset_log()
        run = scene.sync()
        assert run.verdict is Verdict.COMPLETE_WITH_REJECTS
        if any(bad.job_id in request.raw_query for request in scene.emulator.requests):
            asked.append(number)
        world.advance(MINUTE)
    assert asked == [1, 3, 7, 15]
    world.advance(DAY)
    scene.emulator.options = ServiceOptions()
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.one("SELECT count(*) FROM aims360.jobs WHERE job_id = %s", bad.job_id) == 1


def test_a_reject_that_the_source_no_longer_shows_leaves_after_two_looks(db: Connection) -> None:
    """And the run's notes name it."""
    world = populated(40, seed=12, rate=0)
    bad = list(world.jobs())[-1]
    options = ServiceOptions(spoilt=(Spoilt("nan", (bad.job_id,)),))
    scene = Scene(db, world, a_source(reread=timedelta(), reconcile_every=timedelta()), options=options)
    scene.sync()
    world.delete(bad)
    notes: list[str] = []
    runs = 0
    while scene.rows("SELECT FROM etl.rejects"):
        world.advance(MINUTE)
        world.add()
        notes = list(scene.sync().notes)
        runs += 1
    assert runs == 3
    assert any(bad.job_id in note for note in notes)


_OTHER_FORMS = (("percentCompleted", "fraction"), ("dates", "offset"), ("numbers", "float"), ("yes-no", "boolean"))


@pytest.mark.parametrize(("name", "form"), [*_OTHER_FORMS, ("startDate", "empty"), ("percentCompleted", "object")])
def test_a_property_of_another_form_keeps_no_row_out(db: Connection, name: str, form: Any) -> None:
    """All rows load; what can't be read is NULL, and kept as it came."""
    world = populated(120, seed=13, rate=0)
    options = ServiceOptions(drift=(Drift(name, form),))
    scene = Scene(db, world, a_source(reread=timedelta(), reconcile_every=timedelta()), options=options)
    run = scene.sync()
    assert (run.verdict, run.counts.inserted, run.counts.rejected) == (Verdict.COMPLETE, 120, 0)
    marked = scene.one("SELECT count(DISTINCT job_id) FROM etl.unread_values")
    assert (marked > 0) == (form == "object")
    if form == "object":
        kept = "SELECT count(*) FROM aims360.jobs WHERE percent_completed IS NULL AND extra ? 'percentCompleted'"
        assert scene.one(kept) == marked
    noted = [note for note in run.notes if "could not be read" in note]
    assert [f"percentCompleted: object ({marked} times)" in note for note in noted] == [True] * (form == "object")


def test_a_value_that_reads_again_loses_its_mark(db: Connection) -> None:
    """The same version of a marked job is written anew when its value can be read."""
    world = populated(60, seed=14, rate=0)
    source = a_source(reread=timedelta(), reconcile_every=timedelta())
    scene = Scene(db, world, source, options=ServiceOptions(drift=(Drift("percentCompleted", "list", 0.2),)))
    scene.sync()
    assert scene.one("SELECT count(*) FROM etl.unread_values") > 5
    scene.emulator.options = ServiceOptions()
    for _ in range(4):
        world.advance(MINUTE)
        scene.sync()
    assert scene.rows("SELECT * FROM etl.unread_values") == []
    assert scene.differences() == []


def test_a_comparison_reads_again_what_was_marked(db: Connection) -> None:
    """All that can be read by now, and not a few in each run."""
    world = populated(120, seed=16, rate=0)
    source = a_source(reread=timedelta(), reconcile_every=timedelta())
    scene = Scene(db, world, source, options=ServiceOptions(drift=(Drift("percentCompleted", "list"),)))
    scene.sync()
    assert scene.one("SELECT count(*) FROM etl.unread_values WHERE property = 'percentCompleted'") > 100
    scene.emulator.options = ServiceOptions()
    assert scene.reconcile(repair=True).counts.updated > 100
    assert (scene.rows("SELECT * FROM etl.unread_values"), scene.differences()) == ([], [])


def test_a_form_that_the_source_writes_for_a_day_is_not_asked_for_again(db: Connection) -> None:
    """Nothing is written meanwhile, and a run is as cheap as before; a job that is new is no news."""
    world = populated(60, seed=14, rate=0)
    scene = Scene(db, world, a_source(reread=timedelta(), reconcile_every=timedelta()))
    scene.sync()
    scene.sync()
    quiet = scene.sync().requests
    scene = Scene(db, world, scene.source, options=ServiceOptions(drift=(Drift("percentCompleted", "list"),)))
    for _ in range(5):
        world.add()
    assert "percentCompleted: list (5 times)" in str(scene.sync().notes)
    for _ in range(20):  # it is asked for in the second of them, then after 2, 4 and 8
        world.advance(3 * HOUR)
        assert scene.sync().counts.written == 0
    world.add()
    assert (scene.sync().notes, scene.one("SELECT count(*) FROM etl.unread_values WHERE NOT settled")) == ((), 0)
    assert scene.sync().requests == quiet


def test_a_source_whose_rows_have_changed_their_form_fails_the_run(db: Connection) -> None:
    """More than half of the rows can't be read: exit code 1, and the watermark stays."""
    world = populated(100, seed=15, rate=0)
    scene = Scene(db, world, options=ServiceOptions(drift=(Drift("createdDate", "list", 0.7),)))
    with pytest.raises(BrokenPromise, match="form of the source's rows has changed"):
        scene.sync()
    assert scene.one("SELECT watermark FROM etl.sources") is None
    scene.emulator.options = ServiceOptions()
    assert scene.sync().kind == "full"
    assert scene.differences() == []


# -- support -----------------------------------------------------------------------------------------------------------


def test_the_request_id_of_a_failure_is_told_and_kept(db: Connection) -> None:
    """It is what AIMS360's support looks a call up by: in the message, and in the ledger."""
    scene = a_scene(db, 10)
    scene.emulator.fail_next(*["overload"] * 60)
    with pytest.raises(Unreachable, match="requestId") as caught:
        scene.sync()
    [(request_id, error)] = scene.rows("SELECT request_id, error FROM etl.runs")
    assert request_id
    assert request_id in error
    assert request_id in str(caught.value)


# -- rights ------------------------------------------------------------------------------------------------------------


def test_a_page_of_html_in_place_of_the_first_answer_is_an_address_or_a_right(db: Connection) -> None:
    """On an address that never answered a 403 with HTML is no overload: the run fails at once, and says what to do."""
    scene = a_scene(db, 10)
    app = _always("403 Forbidden", b"<html><body>no</body></html>")
    with pytest.raises(Refused, match="have AIMS360 let this user read background jobs"):
        scene.sync(app)


def _always(status: str, body: bytes) -> Any:
    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(status, [("Content-Type", "text/html"), ("Content-Length", str(len(body)))])
        return [body]

    return app
