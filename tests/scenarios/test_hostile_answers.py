"""Answers that no well-meaning source gives: nothing freezes, nothing is lost, and no secret is repeated."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import pytest

from etl.client import odata, payload
from etl.config.secrets import PasswordGrant, Secret
from etl.errors import BadAnswer, BrokenPromise, ConfigError, CredentialsRefused, Refused
from etl.models import Verdict
from etl.postgres.connection import Connection
from etl.testing.emulator import Generation, World
from tests.support.gateway import App, behind
from tests.support.refusals import refuse_option
from tests.support.scene import GRANT, Scene, a_source

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MARK = 123456789  # a value that `put` finds in an answer


def put(scene: Scene, value: bytes) -> App:
    """The service, with something in the place of MARK that the emulator itself wouldn't say."""
    return behind(scene, lambda _, body: ("200 OK", body.replace(str(MARK).encode(), value)))


def refusing(message: bytes) -> Callable[[dict[str, Any], bytes], tuple[str, bytes]]:
    """What makes a 403 of every answer but the sign-in's; %s in it becomes the token that was sent."""

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        token = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ")
        said = b'{"error": {"message": "' + message.replace(b"%s", token.encode()) + b'"}}'
        return ("403 Forbidden", said) if token else ("200 OK", body)

    return answer


def test_a_reject_whose_key_can_be_read_holds_the_purge(db: Connection) -> None:
    """Its row isn't decodable as a whole, and says that the purge was put off: the job stays."""
    world = World(seed=1)
    job = world.add(purgeDateTime=world.now + DAY)
    world.add()
    scene = Scene(db, world)
    scene.sync()
    world.advance(HOUR)
    world.change(job, purgeDateTime=world.now + 30 * DAY, weight=MARK)
    assert scene.sync(put(scene, b"NaN")).counts.rejected == 1
    assert scene.one("SELECT job_id FROM etl.rejects") == job["jobID"]
    world.advance(1.5 * DAY)
    world.add()
    assert scene.sync().counts.purged == 0
    world.change(job, weight=1)
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.rows("SELECT * FROM etl.rejects") == []
    assert scene.differences() == []


@pytest.mark.parametrize("neighbour", ["plain", "lone surrogate \ud800", "pair \U0001f600"])
@pytest.mark.parametrize(
    "value", [b"1e999", b"9" * 5_000, b"[" * 5_000 + b"]" * 5_000, b'{"a": ' * 600 + b"1" + b"}" * 600]
)
def test_one_row_that_nothing_can_hold_is_its_own_fault(db: Connection, neighbour: str, value: bytes) -> None:
    """Nesting without end, beside a row with a lone surrogate or not: the rest is loaded. A number is kept as text."""
    world = World(seed=2)
    world.add(weight=MARK)
    world.advance(HOUR)
    world.add(jobStatusText=neighbour)
    scene = Scene(db, world)
    run = scene.sync(put(scene, value))
    text = payload.storable(neighbour)
    assert scene.one("SELECT count(*) FROM aims360.jobs WHERE job_status_text = %s", text) == 1
    assert run.counts.inserted + run.counts.rejected == 2
    assert run.counts.rejected == (1 if value.startswith(b"[") else 0)
    assert run.counts.replaced_characters == ("surrogate" in neighbour)


@pytest.mark.parametrize("generation", ["2019-06", "2019-08"])
@pytest.mark.parametrize("text", [b"a\xff", b"a\xed\xa0\x80", b"a\xc3("])
@pytest.mark.parametrize("name", ["clientID", "jobStatusText", "modifiedDate"])
def test_bytes_that_are_no_utf_8_are_their_fields_fault(
    db: Connection, generation: Generation, name: str, text: bytes
) -> None:
    """Stored as U+FFFD, counted and marked, since it may be good when it comes again. In a date, a reject."""
    world = World(seed=12, generation=generation)
    world.add()
    scene = Scene(db, world)
    scene.sync()
    world.advance(timedelta(seconds=1))
    world.add(overrides={name: "MARK"})
    world.add()
    spoilt = behind(scene, lambda _, body: ("200 OK", body.replace(b"MARK", text)))
    run = scene.sync(spoilt)
    assert (run.counts.inserted, run.counts.rejected) == ((1, 1) if name == "modifiedDate" else (2, 0))
    assert run.counts.replaced_characters > 0
    is_loaded = name != "modifiedDate"
    for _ in range(2):
        again = scene.sync(spoilt)
        assert (again.counts.written, again.counts.rejected) == (0, not is_loaded)
        assert scene.rows("SELECT form, settled FROM etl.unread_values") == [("replaced characters", False)] * is_loaded
    if is_loaded:
        assert (scene.sync().counts.updated, scene.rows("SELECT * FROM etl.unread_values")) == (1, [])


@pytest.mark.parametrize("row", [b"[" * 5_000 + b"]" * 5_000, b'{"a":' * 1_200 + b"1" + b"}" * 1_200])
def test_a_deep_row_stops_no_increment(db: Connection, row: bytes) -> None:
    """The newest row, and the last by its key: a reject under its own key, and the scan goes by ID and past it."""
    world = World(seed=13)
    world.add()
    scene = Scene(db, world)
    scene.sync()
    world.advance(timedelta(seconds=1))
    world.add()
    job = world.add(weight=MARK)
    run = scene.sync(put(scene, row))
    assert (run.counts.inserted, run.counts.rejected) == (1, 1)
    assert scene.one("SELECT job_id FROM etl.rejects") == job["jobID"]
    assert scene.sync(put(scene, row)).counts.rejected == 1
    world.change(job, weight=1)
    assert scene.sync().verdict is Verdict.COMPLETE
    assert scene.differences() == []


@pytest.mark.parametrize("row", [b"null", b"1", b"[]"])
def test_a_row_that_is_no_object_stops_no_increment(db: Connection, row: bytes) -> None:
    """It has no date that could lie outside of the window, and it waits among the rejects."""
    world = World(seed=14)
    world.add()
    scene = Scene(db, world)
    scene.sync()
    world.advance(timedelta(seconds=1))
    world.add()
    odd = behind(
        scene, lambda env, body: ("200 OK", body if b"[]" in body else body.replace(b"]}", b"," + row + b"]}"))
    )
    run = scene.sync(odd)
    assert (run.counts.inserted, run.counts.rejected) == (1, 1)


def test_a_page_of_escapes_without_an_end_is_given_up_at_once() -> None:
    """Every character is looked at once, however the page was made."""
    with pytest.raises(BadAnswer):
        payload.parse_page(b'{"value": [' + b"[" * 3_000 + b'"' + b'\\"' * 200_000)


def test_a_surrogate_is_told_from_a_backslash_before_its_letters() -> None:
    r"""`\\ud800` in JSON is a backslash and five letters; `\ud83d\ude00` a character; `\ud800` alone is none."""
    page = payload.parse_page(rb'{"value": [{"a": "\\ud800 \ud83d\ude00 \ud800 \udc00\ud800 \\\ud800"}]}')
    assert payload.decode(page.rows[0])[0] == {"a": "\\ud800 \U0001f600 \ufffd \ufffd\ufffd \\\ufffd"}
    assert page.replaced_characters == 4


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_page_in_another_encoding_of_json_is_read(encoding: str) -> None:
    """As Python's json reads it."""
    page = payload.parse_page('{"value": [{"jobID": "ä"}], "error": null}'.encode(encoding))
    assert [odata.stamp(row).jobID for row in page.rows] == ["ä"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"the token %s may not", "the token *** may not"),
        (b"see api.example.rest/documentmanagement/v1.0/j/ACCESSKEY", "see (withheld)"),
        (b"see ftp://host/KEY, or sftp://host/KEY", "see (withheld) or (withheld)"),
        (b"see https:\\/\\/host\\/doc?key=KEY", "see (withheld)"),
        (b"see https%3A%2F%2Fhost%2Fdoc%2FKEY", "see (withheld)"),
        (b"see /documentmanagement/v1.0?key=KEY", "see (withheld)"),
        (b"see localhost:8000/doc/KEY", "see (withheld)"),
        (b"see api.example.rest?sig=KEY&se=KEY", "see (withheld)"),
        (b"given sig=KEY, Bearer: KEY", "given (withheld) (withheld)"),
        (b"maximumDateTimeToExecuteJob: System.InvalidOperationException", "maximumDateTimeToExecuteJob: System.Inva"),
        (b"key eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3", "key (withheld)"),
        (b"a\\ud800b\\u0000c", "a\ufffdb\ufffdc"),
        (b"two\\nlines", "two lines"),
    ],
)
@pytest.mark.parametrize("credentials", [Secret("static-token"), GRANT])
def test_what_an_error_repeats_is_said_without_secrets(
    db: Connection, credentials: Secret | PasswordGrant, text: bytes, said: str
) -> None:
    """Neither the message nor the ledger has tokens and links of an error answer; both have the failure."""
    scene = Scene(db, World(seed=3), a_source(credentials=credentials))
    with pytest.raises(Refused) as caught:
        scene.sync(behind(scene, refusing(text)))
    assert f"HTTP 403: {said}" in str(caught.value)
    [[outcome, error]] = scene.rows("SELECT outcome, error FROM etl.runs")
    assert (outcome, said in error) == ("failed", True)
    for secret in ("static-token", "granted-token", "KEY", "eyJ"):
        assert secret not in str(caught.value) + error


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"message": "no such account"}', "no such account"),
        (b'{"Message": "no such account"}', "no such account"),
        (b'{"error": "no such account", "error_description": "at all"}', "no such account at all"),
        (b"no such account", "no such account"),
        (b'{"error": {"message": null}}', "no message"),
        (b"[]", "no message"),
        (b"<html>no such account</html>", "an HTML page"),
    ],
)
def test_whoever_says_no_is_heard(body: bytes, said: str) -> None:
    """The service, a gateway, a framework: each has its own form."""
    assert payload.error_message(body) == said


@pytest.mark.parametrize("before", [b"", b"word " * 56, b"https://host/" + b"x" * 1_900 + b" word "])
def test_half_a_secret_is_never_said(before: bytes) -> None:
    """A long message is cut between words, so that a token in it is there whole, and masked, or not at all."""
    said = payload.error_message(b'{"message": "' + before + b"not-much-of-a-secret " * 200 + b'"}')
    assert len(said) <= 300
    masked = Secret("not-much-of-a-secret").hidden_in(said)
    assert "not" not in masked
    assert masked.endswith(("***", "…"))


def test_an_error_of_any_length_is_read_in_no_time() -> None:
    """Neither a word of a million letters nor one of half a million parts is looked at whole."""
    for word in (b"a" * 1_000_000, b"a." * 500_000, b"a/" * 500_000, b"?a=" * 300_000):
        assert len(payload.error_message(word)) <= 300
        assert len(payload.error_message(b'{"message": "' + word + b'"}')) <= 300


def test_a_short_secret_is_a_word_and_not_a_letter() -> None:
    """Hidden where it stands alone, not in the middle of every other word."""
    assert Secret("a").hidden_in("failed at a host") == "failed at *** host"
    assert Secret("sesame").hidden_in("opensesameplease") == "open***please"


def test_a_nul_in_a_key_or_a_client_id_stops_nothing(db: Connection) -> None:
    """Stored as U+FFFD, asked for as it is, and recognised."""
    world = World(seed=4, generation="2019-08")
    world.add(clientID="c\x00")
    world.add(jobID="zz\x00z", clientID="c\x00")
    scene = Scene(db, world)
    assert scene.sync().counts.inserted == 2
    world.advance(timedelta(seconds=1))
    world.add(clientID="c\x00")
    assert scene.sync().counts.inserted == 1
    assert scene.one("SELECT count(*) FROM aims360.jobs WHERE job_id = %s", "zz\ufffdz") == 1
    world.advance(timedelta(seconds=1))
    world.add(clientID="d\x00")
    with pytest.raises(ConfigError, match="client d\ufffd"):
        scene.sync()


def test_a_key_of_any_length_stops_nothing(db: Connection) -> None:
    """Longer than an address can be: a reject like any other row without a key."""
    world = World(seed=5, generation="2019-08")
    world.add(jobID="0" * 70_000)
    world.add()
    scene = Scene(db, world)
    run = scene.sync()
    assert (run.counts.inserted, run.counts.rejected) == (1, 1)


def test_a_throttled_sign_in_is_left_alone_for_as_long_as_it_says(db: Connection) -> None:
    """An account that is signed in to again and again may be locked."""
    world = World(seed=6)
    scene = Scene(db, world, a_source(credentials=GRANT))
    asked: list[datetime] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["REQUEST_METHOD"] == "POST":
            asked.append(world.now)
            if len(asked) < 3:
                start_response("429 Too Many Requests", [("Retry-After", "300")])
                return [b""]
        return scene.emulator(environ, start_response)

    scene.sync(app)
    assert all(later - earlier >= timedelta(seconds=300) for earlier, later in pairwise(asked))
    assert len(asked) == 3


def test_an_answer_about_purges_that_is_not_believed_is_asked_for_at_most_hourly(db: Connection) -> None:
    """An untrusted answer is no reason to ask at every run."""
    world = World(seed=7)
    world.add(purgeDateTime=world.now + DAY)
    world.add()
    scene = Scene(db, world)
    scene.sync()
    world.advance(2 * DAY)
    hiding = behind(
        scene, lambda env, body: ("200 OK", b'{"value": []}' if "jobID%20eq" in env["QUERY_STRING"] else body)
    )
    scene.emulator.reset_log()
    for minutes in (1, 1, 60):
        assert scene.sync(hiding).counts.purged == 0
        world.advance(timedelta(minutes=minutes))
    scene.sync(hiding)
    assert sum("jobID eq" in request.query.get("$filter", "") for request in scene.emulator.requests) == 2


def test_a_source_that_refuses_to_count_is_read_all_the_same(db: Connection) -> None:
    """$count only serves the progress shown and the ranges."""
    world = World(seed=8)
    world.ties(300)
    scene = Scene(db, world)

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        return ("400 Bad Request", refuse_option("Count")) if "$count" in environ["QUERY_STRING"] else ("200 OK", body)

    assert scene.sync(behind(scene, answer)).counts.inserted == 300


def test_the_last_day_of_time_can_be_read(db: Connection) -> None:
    """East of UTC it is the year 10000's, which Python can't hold."""
    world = World(seed=9)
    world.add(createdDate="9999-12-31T23:59:59.9999999Z", purgeDateTime=world.now + DAY)
    scene = Scene(db, world, a_source(time_zone="Asia/Tokyo"))
    scene.sync()
    last = datetime(9999, 12, 31, tzinfo=UTC).date()
    assert scene.rows("SELECT day, jobs FROM bi.job_daily") == [(last, 1)]
    world.advance(2 * DAY)
    world.add(createdDate=None)
    scene.sync()
    assert scene.rows("SELECT day FROM aims360.purged_daily") == [(last,)]
    assert scene.rows("SELECT day, jobs FROM bi.job_daily ORDER BY day") == [(last, 1), (None, 1)]


def a_world_of_other_keys(rows: int) -> World:
    """jobIDs that can't be compared here: the end of a scan is held against the source's own count."""
    world = World(seed=10, generation="2019-08")
    for number in range(rows):
        world.add(jobID=f"Job_{number:04d}")
    return world


def hiding(rows: int, scans: int) -> Callable[[dict[str, Any], bytes], tuple[str, bytes]]:
    """What keeps back the last rows of a source of one page, as often as it is scanned from the beginning."""
    begun = 0

    def answer(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        nonlocal begun
        query = unquote(environ["QUERY_STRING"])
        begun += "$top" not in query and " gt " not in query
        if "$top" in query or begun > scans:
            return "200 OK", body
        page = json.loads(body)
        kept = [] if " gt " in query else page["value"][:-rows]
        return "200 OK", json.dumps({**page, "value": kept}).encode()

    return answer


def test_rows_that_are_counted_and_not_shown_are_looked_for_once_more(db: Connection) -> None:
    """Commits that came late are there the second time."""
    scene = Scene(db, a_world_of_other_keys(50))
    assert scene.sync(behind(scene, hiding(2, scans=1))).counts.inserted == 50
    assert scene.differences() == []


def test_a_source_that_goes_on_hiding_rows_is_not_believed(db: Connection) -> None:
    """The run fails, says how many are missing, and the watermark stays."""
    scene = Scene(db, a_world_of_other_keys(50))
    with pytest.raises(BrokenPromise, match="counts 2 rows in the window that its pages never showed"):
        scene.sync(behind(scene, hiding(2, scans=2)))
    assert scene.rows("SELECT watermark, complete_through FROM etl.sources") == [(None, None)]
    assert scene.sync().counts.inserted == 2
    assert scene.differences() == []


def test_a_comparison_claims_no_check_that_it_did_not_make(db: Connection) -> None:
    """What it reads isn't held against the source's count: where keys can't be compared, the ledger says nothing."""
    scene = Scene(db, a_world_of_other_keys(50))
    assert scene.sync().checks == ("count",)
    assert scene.reconcile().checks == ()


def test_keys_that_nobody_can_order_or_count_are_an_error(db: Connection) -> None:
    """Nothing would say that all rows came."""
    scene = Scene(db, a_world_of_other_keys(5))
    uncounted = behind(scene, lambda _, body: ("200 OK", body.replace(b'"@odata.count"', b'"count"')))
    with pytest.raises(BrokenPromise, match=r"answers no \$count"):
        scene.sync(uncounted)


def test_pages_that_come_in_circles_are_an_error(db: Connection) -> None:
    """First, second, first: a key that can't be compared here doesn't show it at once."""
    scene = Scene(db, a_world_of_other_keys(300))
    pages: list[bytes] = []

    def circling(environ: dict[str, Any], body: bytes) -> tuple[str, bytes]:
        if "$top" not in unquote(environ["QUERY_STRING"]):
            pages.append(body if len(pages) < 2 else pages[len(pages) % 2])
            return "200 OK", pages[-1]
        return "200 OK", body

    with pytest.raises(BrokenPromise, match="in circles"):
        scene.sync(behind(scene, circling))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"token": "x"}', b'{"access_token": "two words"}', b"<html>"])
def test_a_sign_in_without_a_token_is_final_and_told(db: Connection, body: bytes) -> None:
    """And what it says isn't repeated: it may be half a token."""
    scene = Scene(db, World(seed=11), a_source(credentials=GRANT))
    with pytest.raises(CredentialsRefused, match="the answer holds no token") as caught:
        scene.sync(behind(scene, lambda env, said: ("200 OK", body if env["REQUEST_METHOD"] == "POST" else said)))
    assert "two words" not in str(caught.value)
    assert len(scene.emulator.requests) == 1


def test_what_the_source_says_steers_no_terminal() -> None:
    """Errors end up in the ledger and in `status`, where they are only read."""
    said = payload.error_message(b'{"error": {"message": "no\\u001b]0;mine\\u0007 \\u202eway\\u009b2J"}}')
    assert said == "no ]0;mine way 2J"


def test_a_flood_of_unknown_properties_makes_a_short_note(db: Connection) -> None:
    """Of thousands of names some are told, without what steers a terminal; all of them are in `extra`."""
    scene = Scene(db, World(seed=1))
    scene.world.add(overrides={"esc\x1b]0;mine\x07": 1, **{f"unknown{number}": number for number in range(5_000)}})
    [note] = scene.sync().notes
    assert len(note) < 500
    assert note.isprintable()
    assert scene.one("SELECT count(*) FROM aims360.jobs, jsonb_object_keys(extra)") == 5_001
