"""What an answer means: each row of api.md's table, "What it refuses, and how", and what nobody foresaw."""

import json
import re
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.client import answers
from etl.client.answers import Answer, Meaning, Question, Reading

HTML = b"<html><head><title>403 - Forbidden</title></head></html>"
BARE = b'{"Message": "An error has occurred."}'
LONG = "$filter=" + "%20or%20".join(f"jobID%20eq%20'{number:054}'" for number in range(15))
KNOWN = Question("$filter=ID%20gt%205&$orderby=ID", is_known=True)
KEYS = "$filter=(jobID%20eq%20'a'%20or%20jobID%20eq%20'b')"
TO_ALLOW = "To allow it, set the 'AllowedQueryOptions' property on EnableQueryAttribute or QueryValidationSettings."
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
OK, RETRY, SIGN_IN = Meaning.OK, Meaning.RETRY, Meaning.SIGN_IN
REFUSED, LESS, FAILED = Meaning.REFUSED, Meaning.LESS, Meaning.FAILED


def said(code: str, message: str = "No.", **also: Any) -> bytes:
    """An error as OData words it."""
    return json.dumps({**also, "error": {"code": code, "message": message}}).encode()


def read(status: int, body: bytes, question: Question = KNOWN) -> Reading:
    """What an answer without headers means."""
    return answers.read_answer(Answer(status, httpx.Headers(), body), question)


@pytest.mark.parametrize("question", [KNOWN, Question(), KNOWN._replace(can_do_without=True, refusals=3)])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, said("Request_ProcessingFailed")),
        (400, said("request_processingFAILED")),
        (403, said("Request_ProcessingFailed")),
        (404, said("Request_ProcessingFailed")),
        (400, BARE),
        (400, b'{"error": null}'),
        (400, b"{}"),
        *((status, body) for status in (408, 429, 500, 502, 503, 504, 520, 529) for body in (b"", HTML, said("any"))),
    ],
)
def test_overload_is_asked_again_with_one_request_in_flight(status: int, body: bytes, question: Question) -> None:
    """Whatever was asked, and whatever the address answered before."""
    reading = read(status, body, question)
    assert (reading.meaning, reading.is_overload, reading.is_doubtful, reading.option) == (RETRY, True, False, None)


@pytest.mark.parametrize("question", [KNOWN, Question(), KNOWN._replace(can_do_without=True, refusals=3)])
@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (401, b"", {}),
        (401, HTML, {}),
        (401, said("Request_ProcessingFailed"), {}),
        (403, said("AuthenticationFailed"), {}),
        (400, said("InvalidAuthenticationInfo"), {}),
        (400, said("AUTHENTICATIONFAILED"), {}),
        (403, HTML, {"WWW-Authenticate": 'Bearer error="invalid_token", error_description="expired"'}),
        (400, b"", {"www-authenticate": "Bearer realm=x, error=INVALID_TOKEN"}),
    ],
)
def test_a_token_that_ended_is_told_in_several_ways(
    status: int, body: bytes, headers: dict[str, str], question: Question
) -> None:
    """By the status, by a code, by a header."""
    answer = Answer(status, httpx.Headers(headers), body)
    assert answers.read_answer(answer, question).meaning is SIGN_IN
    assert answers.is_token_refused(answer)
    assert answers.may_be_token_refused(status)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (403, HTML, {}),
        (403, said("Forbidden", "AuthenticationFailed"), {}),
        (403, b'{"code": "AuthenticationFailed"}', {}),
        (400, said("Request_ProcessingFailed"), {"WWW-Authenticate": "Bearer"}),
        (404, said("AuthenticationFailed"), {}),
        (503, b"", {"WWW-Authenticate": 'Bearer error="invalid_token"'}),
        (200, b"{}", {"WWW-Authenticate": 'Bearer error="invalid_token"'}),
    ],
)
def test_nothing_else_says_so(status: int, body: bytes, headers: dict[str, str]) -> None:
    """A word in a message is none; and what the auth flow doesn't look into is read alike here."""
    answer = Answer(status, httpx.Headers(headers), body)
    assert answers.read_answer(answer, KNOWN).meaning is not SIGN_IN
    assert not answers.is_token_refused(answer)


@pytest.mark.parametrize(
    ("query", "message", "option"),
    [
        (
            "$top=1",
            "The limit of '0' for Top query has been exceeded. The value from the incoming request is '1'.",
            "top",
        ),
        ("$filter=a%20gt%201&$top=5", f"Query option 'Top' is not allowed. {TO_ALLOW}", "top"),
        ("$orderby=ID&$filter=ID%20gt%201", f"Query option 'OrderBy' is not allowed. {TO_ALLOW}", "orderby"),
        ("$count=true&$top=1", f"Query option 'Count' is not allowed. {TO_ALLOW}", "count"),
        ("$skip=100", f"Query option 'Skip' is not allowed. {TO_ALLOW}", "skip"),
        ("$select=ID", f"Query option 'Select' is not allowed. {TO_ALLOW}", "select"),
        (KEYS, f"Query option 'Filter' is not allowed. {TO_ALLOW}", "filter"),
        (KEYS, f"Logical operator 'Or' is not allowed. {TO_ALLOW}", "or"),
        (KEYS + "&$orderby=jobID", f"Query option 'OrderBy' is not allowed. {TO_ALLOW}", "orderby"),
        ("$filter=ID%20gt%205", "The property 'ID' cannot be used in the $filter query option.", "filter ID"),
        ("$filter=id%20gt%205", "The property 'ID' cannot be used in the $filter query option.", "filter id"),
        (
            "$filter=modifiedDate%20ge%202026-01-01T00:00:00.000Z%20and%20ID%20gt%205",
            "The property 'modifiedDate' cannot be used in the $filter query option.",
            "filter modifiedDate",
        ),
        (
            "$filter=ID%20gt%205&$orderby=ID%20desc",
            "The property 'ID' cannot be used in the $orderby query option.",
            "orderby ID",
        ),
        (
            "$filter=ID%20gt%205&$select=ID",
            "The property 'ID' cannot be used in the $select query option.",
            "select",
        ),
        (
            "$filter=jobID%20eq%20'x'",
            "Could not find a property named 'jobID' on type 'A.BackgroundJob'.",
            "filter jobID",
        ),
        ("$top=1&pagesize=250", "The query parameter 'pagesize' is not supported.", "pagesize"),
    ],
)
@pytest.mark.parametrize("question", [Question(), KNOWN._replace(can_do_without=True, refusals=2)])
@pytest.mark.parametrize("status", [400, 501])
def test_what_the_framework_refuses_is_learnt_from_one_answer(
    status: int, question: Question, query: str, message: str, option: str
) -> None:
    """One of its phrases with a name out of the query, whatever came before."""
    reading = read(
        status, said("", "The query specified in the URI is not valid. " + message), question._replace(query=query)
    )
    assert (reading.meaning, reading.option, reading.is_overload) == (REFUSED, option, False)
    assert message[:40] in reading.said


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("$filter=ID%20gt%205", "Query option 'Top' is not allowed."),
        ("$filter=jobID%20eq%20'top'", "The limit of '0' for Top query has been exceeded."),
        ("$filter=jobID%20eq%20'colour'", "Could not find a property named 'colour' on type 'A.BackgroundJob'."),
        ("$top=1", "Top of the morning."),
        ("$filter=ID%20gt%205", "Invalid value for ID in the filter."),
        (KEYS, "This is not allowed now or later."),
        ("", "Query option 'Top' is not allowed."),
    ],
)
def test_a_refusal_without_phrase_or_name_has_to_come_three_times(query: str, message: str) -> None:
    """With another request answered after each; where the same can be asked otherwise, that is asked at once."""
    question = Question(query)
    for refusals in range(3):
        reading = read(400, said("", message), question._replace(refusals=refusals))
        assert (reading.meaning, reading.is_doubtful, reading.is_overload, reading.option) == (RETRY, True, False, None)
    reading = read(400, said("", message), question._replace(refusals=3))
    assert (reading.meaning, reading.is_doubtful, reading.option) == (REFUSED, False, None)
    assert read(400, said("", message), question._replace(can_do_without=True)).meaning is LESS


def test_too_many_nodes_want_a_shorter_list() -> None:
    """For each key in it some five are counted."""
    message = "The node count limit of '100' has been exceeded. To increase the limit, set the 'MaxNodeCount' property."
    reading = read(400, said("", message), Question(KEYS))
    assert (reading.meaning, reading.option) == (LESS, "filter")
    assert [read(status, b"").meaning for status in (413, 414)] == [LESS] * 2


@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("body", [HTML, b"", b"Bad Request - Invalid URL", b'{"error": {"code": "Reque'])
def test_a_page_for_people_means_what_the_address_answered_before(status: int, body: bytes) -> None:
    """On one that never answered: a wrong address or a missing right. On another: too many at a time, or the query."""
    assert read(status, body, Question("$top=1")).meaning is FAILED
    for refusals in range(3):
        reading = read(status, body, KNOWN._replace(refusals=refusals))
        assert (reading.meaning, reading.is_doubtful, reading.is_overload) == (RETRY, True, True)
    refused = KNOWN._replace(refusals=3)
    assert read(status, body, refused).meaning is REFUSED
    assert read(status, body, refused._replace(can_do_without=True)).meaning is LESS
    is_maybe_too_long = status in (400, 404)
    assert read(status, body, refused._replace(query=LONG)).meaning is (LESS if is_maybe_too_long else REFUSED)
    assert Question(LONG).is_long
    assert not KNOWN.is_long


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, said("Forbidden", "Access denied.")),
        (404, said("NotFound")),
        (405, b""),
        (409, said("Conflict")),
        (301, b""),
        (302, said("Request_ProcessingFailed")),
        (505, b""),
    ],
)
def test_whatever_else_the_service_says_is_final(status: int, body: bytes) -> None:
    """But that a 404 may mean the way in which a job was asked for."""
    assert read(status, body).meaning is FAILED
    assert read(404, said("NotFound"), KNOWN._replace(can_do_without=True)).meaning is LESS


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("9f6f3c1e-0d0b-4c7b-9d43-0a7d7e1c2b3a", True),
        ("0HMVD9:00000001", True),
        ("x" * 80, True),
        ("x" * 81, False),
        ("", False),
        ("two words", False),
        ("a\nb", False),
        ("a\u001b[31m", False),
        ("ä", False),
        (5, False),
        (None, False),
        (["a"], False),
    ],
)
def test_a_request_id_is_told_if_it_looks_like_one(given: object, meant: bool) -> None:
    """It is for a message and a ledger, and comes from elsewhere."""
    reading = read(400, said("Request_ProcessingFailed", "No.", requestId=given))
    assert reading.meaning is RETRY
    assert reading.request_id == (given if meant else None)
    assert reading.said == (f"HTTP 400: No. (requestId {given})" if meant else "HTTP 400: No.")


@pytest.mark.parametrize(
    ("body", "meaning"),
    [
        (b'{"error": {"code": ["AuthenticationFailed"], "message": {"value": "No."}}}', REFUSED),
        (b'{"error": {"code": 5, "message": 6}}', REFUSED),
        (b'{"error": {"error": {"code": "Request_ProcessingFailed"}}}', REFUSED),
        (b'{"error": "Request_ProcessingFailed"}', REFUSED),
        (b'{"error": "invalid_request", "error_description": "No."}', REFUSED),
        (b'{"error": []}', REFUSED),
        (b'{"error": ""}', REFUSED),
        (b'{"error": false}', REFUSED),
        (b'{"error": {"code": null, "message": null}}', REFUSED),
        (b'\xef\xbb\xbf{"error": {"code": "Request_ProcessingFailed"}}', RETRY),
        ('{"error": {"code": "Request_ProcessingFailed"}}'.encode("utf-16"), RETRY),
        (b'{"odata.error": {"code": ""}}', RETRY),
        (b'{"error": {"code": "", "message": "' + b"9" * 5_000 + b'"}}', REFUSED),
        (b'{"error": ' + b"9" * 5_000 + b"}", REFUSED),
        (b'{"error":' * 50_000, REFUSED),
        (b"[" * 100_000, REFUSED),
        (b"[]", REFUSED),
        (b'"AuthenticationFailed"', REFUSED),
        (b"null", REFUSED),
        (b"NaN", REFUSED),
    ],
)
def test_an_error_of_any_form_is_read(body: bytes, meaning: Meaning) -> None:
    """Neither a deep nor a foreign one goes wrong; what has an error steers like one, what is no object like a page."""
    assert read(400, body, KNOWN._replace(refusals=3)).meaning is meaning


def test_an_error_that_is_a_text_is_looked_at_too() -> None:
    """As OAuth2 and some gateways have it."""
    body = json.dumps({"error": "Query option 'Top' is not allowed."}).encode()
    assert read(400, body, Question("$top=1")).option == "top"


def test_a_page_is_good_only_as_a_200_with_a_list() -> None:
    """Cut, HTML or an error inside: asked again, and a sign of overload. Another success is no page."""

    def page(status: int, body: bytes) -> tuple[Reading, object]:
        return answers.read_page(Answer(status, httpx.Headers(), body), KNOWN)

    reading, rows = page(200, b'{"value": [{"ID": 1}]}')
    assert (reading.meaning, rows is not None) == (OK, True)
    for body in (b"", HTML, b'{"value": [{"ID"', said("x"), b"{}", b'{"value": {}}'):
        reading, rows = page(200, body)
        assert (reading.meaning, reading.is_overload, reading.is_doubtful, rows) == (RETRY, True, False, None)
    reading, _ = page(200, said("InternalError", "No.", requestId="abc"))
    assert (reading.meaning, reading.request_id) == (RETRY, "abc")
    for status in (201, 204, 206):
        assert page(status, b'{"value": []}')[0].meaning is FAILED
    assert page(503, b'{"value": []}') == (read(503, b'{"value": []}'), None)


def test_the_plain_path_of_a_job_says_that_there_is_none_by_a_404_with_json() -> None:
    """A page for people, an overload and what isn't one job say nothing."""

    def job(status: int, body: bytes) -> tuple[Meaning, bytes | None]:
        reading, row = answers.read_job(
            Answer(status, httpx.Headers(), body), Question(is_known=True, can_do_without=True)
        )
        return reading.meaning, row

    row = b'{"@odata.context": "x", "jobID": "a-1", "jobStatus": "Queued"}'
    assert job(200, row) == (OK, row)
    assert job(404, said("NotFound")) == (OK, None)
    assert job(404, b'{"Message": "no such job"}') == (OK, None)
    for status, body in ((404, said("Request_ProcessingFailed")), (404, HTML), (404, b""), (500, b""), (403, HTML)):
        assert job(status, body) == (RETRY, None)
    for body in (b"", HTML, b"[]", b"{}", row[:-5], b'{"jobID": "a-1", "error": {}}', b'{"value": []}'):
        assert job(200, body) == (RETRY, None)
    assert job(400, said("BadRequest")) == (LESS, None)
    assert job(403, said("Forbidden")) == (FAILED, None)
    assert job(401, said("Unauthorized")) == (SIGN_IN, None)


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (200, b"", OK),
        (429, b"", RETRY),
        *((status, HTML, RETRY) for status in (500, 501, 502, 503, 504, 520)),
        (400, said("Request_ProcessingFailed"), RETRY),
        (400, b'{"error": "invalid_grant"}', FAILED),
        (400, BARE, FAILED),
        (400, HTML, FAILED),
        *((status, b"", FAILED) for status in (201, 204, 302, 401, 403, 404, 405, 407, 408)),
    ],
)
def test_a_sign_in_is_retried_for_overload_alone(status: int, body: bytes, meaning: Meaning) -> None:
    """Any other answer is final, or the account may be locked."""
    assert answers.read_sign_in(Answer(status, httpx.Headers(), body)).meaning is meaning


def test_what_a_sign_in_or_a_download_says_is_never_quoted() -> None:
    """It may hold the token, or a link."""
    answer = Answer(500, httpx.Headers(), said("x", "a-secret", requestId="r-1"))
    assert answers.read_sign_in(answer).said == "signing in: HTTP 500 (requestId r-1)"
    assert answers.read_download(answer).said == "HTTP 500"
    assert [answers.read_download(answer._replace(status=status)).meaning for status in (401, 403, 404, 503)] == [
        SIGN_IN,
        FAILED,
        FAILED,
        RETRY,
    ]


JSONS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20) | st.sampled_from(["x", "No."]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "message", "requestId", "value", "jobID"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
BODIES = st.binary(max_size=200) | JSONS.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
QUESTIONS = st.builds(
    Question, st.text(max_size=50) | st.just(KEYS), st.booleans(), st.booleans(), st.integers(min_value=0, max_value=4)
)


@given(st.integers(min_value=200, max_value=599), BODIES, QUESTIONS)
def test_any_answer_is_read(status: int, body: bytes, question: Question) -> None:
    """Nothing goes wrong, and nothing beyond a success is one."""
    answer = Answer(status, httpx.Headers(), body)
    page, rows = answers.read_page(answer, question)
    job, row = answers.read_job(answer, question)
    assert (page.meaning is OK) == (rows is not None) <= (status == 200)
    assert (row is not None) <= (status == 200)
    readings = [answers.read_answer(answer, question), answers.read_sign_in(answer), page]
    readings += [answers.read_download(answer)] * (status >= 300)
    for reading in (*readings, *[job] * (status != 404)):
        assert (reading.meaning is OK) <= (status < 300)
        assert not CONTROL.search(reading.said)
        assert reading.said.encode()
        assert reading.option is None or reading.meaning in (REFUSED, LESS)
        assert not reading.is_doubtful or reading.meaning is RETRY
