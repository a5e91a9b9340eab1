"""Rows of the source as they come, and what is stored of them."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from etl.client import odata, payload
from etl.errors import BadAnswer
from etl.models import Batch, Cursor, JobRow, Page
from etl.transform.flatten import flatten, together

JOB_ID = "d29fac30-650a-4ff2-b2b1-acab3c7472ea-20190607060819639"
DATES = {
    "startDate": "start_date",
    "completedDate": "completed_date",
    "createdDate": "created_date",
    "modifiedDate": "modified_date",
    "purgeDateTime": "purge_date_time",
    "maximumDateTimeToExecuteJob": "maximum_date_time_to_execute_job",
}


def a_batch(**properties: Any) -> Batch:
    """What a page of one row becomes."""
    return flatten([json.dumps({"jobID": JOB_ID, **properties}).encode()])


def a_row(**properties: Any) -> JobRow:
    """The only row of it."""
    batch = a_batch(**properties)
    assert batch.rejects == ()
    return batch.jobs[0].row


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2019-06-07T06:08:19Z", datetime(2019, 6, 7, 6, 8, 19, tzinfo=UTC)),
        ("2019-06-07T06:08:19.6Z", datetime(2019, 6, 7, 6, 8, 19, 600000, tzinfo=UTC)),
        ("2019-07-07T06:09:22.6593866Z", datetime(2019, 7, 7, 6, 9, 22, 659386, tzinfo=UTC)),
        ("9999-12-31T23:59:59.9999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        ("1980-01-01T00:00:00Z", datetime(1980, 1, 1, tzinfo=UTC)),
        ("2019-06-07T06:08:19", datetime(2019, 6, 7, 6, 8, 19, tzinfo=UTC)),
        ("2019-06-07T08:08:19+02:00", datetime(2019, 6, 7, 6, 8, 19, tzinfo=UTC)),
    ],
)
def test_times_are_cut_to_microseconds_never_rounded(text: str, moment: datetime) -> None:
    """Fractions of 0 to 7 digits, UTC."""
    assert a_row(modifiedDate=text).modified_date == moment


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "1899-12-30T00:00:00",
        "1979-12-31T23:59:59.9999999Z",
        "1979-12-31T22:00:00-05:00",
        "1980-01-01T00:00:00+02:00",
    ],
)
@pytest.mark.parametrize(("name", "column"), DATES.items())
def test_null_an_empty_text_and_a_date_before_1980_are_no_date(name: str, column: str, text: str | None) -> None:
    """In any zone, and for each date: above all for that of the purge, or the job would go at once."""
    batch = a_batch(**{name: text})
    assert (batch.rejects, getattr(batch.jobs[0].row, column), batch.jobs[0].unread) == ((), None, ())


def test_a_document_without_an_expiry_date_has_none() -> None:
    """The same as for the job's own dates."""
    response = json.dumps([{"documentName": "a", "ExpiryDate": date} for date in ("", "0001-01-01T00:00:00Z", None)])
    [job] = a_batch(response=response).jobs
    assert ([document.expiry_date for document in job.documents], job.unread) == ([None] * 3, ())


@pytest.mark.parametrize(
    ("shown", "stored"),
    [
        *((text, "Inprogress") for text in ("Inprogress", "InProgress", "INPROGRESS", "inprogress")),
        ("completed", "Completed"),
        ("QUEUED", "Queued"),
        ("failed", "Failed"),
        ("Cancelled by user", "Cancelled by user"),
        ("In progress", "In progress"),
        ("", ""),
        (None, None),
    ],
)
def test_a_known_status_has_the_documented_spelling(shown: str | None, stored: str | None) -> None:
    """However its letters are written; others stay as they came."""
    assert a_row(jobStatus=shown).job_status == stored


@pytest.mark.parametrize(
    ("properties", "number"),
    [
        ({"rowversion": "AAAAAAAIJCU="}, 533541),
        ({"@odata.etag": 'W/"YmluYXJ5J0FBQUFBQUFMRHVvPSc="'}, 724714),
        ({"@etag": 'W/"YmluYXJ5J0FBQUFBQUFMRHVvPSc="'}, 724714),
        ({"rowversion": None, "@odata.etag": None, "@etag": 'W/"YmluYXJ5J0FBQUFBQUFMRHVvPSc="'}, 724714),
        ({"@odata.etag": '"something else"'}, None),
        ({"@odata.etag": 5}, None),
        ({"rowversion": "f/////////8="}, 2**63 - 1),
        ({"rowversion": "f_________8"}, 2**63 - 1),
        ({"rowversion": "AAAAAAAIJCU=", "@odata.etag": 'W/"of another form"'}, 533541),
        ({}, None),
    ],
)
def test_rowversions(properties: dict[str, str], number: int | None) -> None:
    """An unsigned big-endian number out of the property, else out of the etag; an etag of another form says nothing."""
    assert a_row(**properties).row_version == number


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"ID": "x"}, "$.ID"),
        ({"ID": 2**63}, "$.ID"),
        ({"jobID": 5}, "$.jobID"),
        ({"jobStatus": "x" * 200}, "$.jobStatus"),
        ({"modifiedDate": "yesterday"}, "modifiedDate"),
        ({"purgeDateTime": "2026-13-01T00:00:00Z"}, "purgeDateTime"),
        ({"createdDate": 1559887699640}, "$.createdDate"),
        ({"jobStatus": ["Failed"]}, "$.jobStatus"),
        ({"clientID": 5}, "$.clientID"),
        ({"DatabaseName": False}, "$.DatabaseName"),
        ({"accountCode": 22}, "$.accountCode"),
        ({"rowversion": -1}, "$.rowversion"),
        ({"rowversion": 533541.5}, "$.rowversion"),
        ({"rowversion": 2**63}, "$.rowversion"),
        ({"rowversion": "gAAAAAAAAAA="}, "2^63"),
        ({"rowversion": "gAAAAAAAAAA"}, "2^63"),
        ({"rowversion": "AAA="}, "bytes"),
        ({"rowversion": "%%%"}, "base64"),
        ({"response": '[{"documentName": "a"'}, "response begins like JSON"),
        ({"response": '{"a": NaN}', "responseType": "In-line JSON"}, "response begins like JSON"),
        ({"response": json.dumps('[{"documentName": "a"')}, "response begins like JSON"),
    ],
)
def test_a_row_that_cannot_be_read_is_a_reject_with_its_reason(properties: dict[str, Any], reason: str) -> None:
    """Never an exception, never a guess: the raw row is kept."""
    batch = a_batch(**properties)
    assert batch.jobs == ()
    [reject] = batch.rejects
    assert reason in reject.reason
    assert json.loads(reject.raw).items() >= properties.items()


@pytest.mark.parametrize("raw", [b"5", b"null", b'"text"', b"[]", b'{"ID": 4}', b'{"jobID": ""}', b'{"jobID": null}'])
def test_a_row_without_a_key_is_kept_under_its_digest(raw: bytes) -> None:
    """Even what isn't an object."""
    [reject] = flatten([raw]).rejects
    assert reject.job_id.startswith("sha256:")


def test_a_row_is_kept_under_its_key_even_where_the_rest_is_no_json() -> None:
    """The key can be found, so the job's next version takes the reject's place."""
    for spoilt in (b"NaN", b'"a\tb"', rb'"it\'s"', b"0100", b"1,", b"[" * 5_000 + b"]" * 5_000):
        raw = b'{"jobID": "a", "purgeDateTime": "2026-04-01T00:00:00Z", "extra": ' + spoilt + b"}"
        [reject] = flatten([raw]).rejects
        assert (reject.job_id, reject.purge_date_time) == ("a", datetime(2026, 4, 1, tzinfo=UTC))


def test_the_response_is_documents_json_or_text() -> None:
    """A list of documents in a string, in two strings or plain; other JSON; text."""
    documents = [{"documentName": "a.xlsx", "SizeInMB": 0.1, "DocumentGUID": "g", "Version": 2}]
    for response in (documents, json.dumps(documents), json.dumps(json.dumps(documents))):
        [document] = a_batch(response=response).jobs[0].documents
        assert (document.document_name, document.size_in_mb, document.version) == ("a.xlsx", Decimal("0.1"), "2")
        assert document.document_id == "g"
    assert a_row(response='{"a": 1}').response_json == '{"a":1}'
    assert a_row(response=json.dumps(documents), responseType="In-line JSON").response_json is not None
    assert a_row(response="5").response_json == "5"
    assert a_row(response="{}", responseType="In-line JSON").response_json == "{}"
    assert a_row(response="plain text").response_text == "plain text"
    assert a_row(response="1e999").response_text == "1e999"
    assert a_row(response='{"a": 1e999}').response_json == '{"a":"1e999"}'
    for text in ("[Warning] 3 rows", "{0} rows of {1}", "[1, 2", "5 rows", "NaN", '"quoted" text', "[" * 5_000):
        assert a_row(response=text).response_text == text
    for nothing in (None, "", "null", "[]"):
        row = a_row(response=nothing)
        assert (row.response_json, row.response_text) == (None, None)


def test_documents_are_known_without_their_list_and_in_other_letters() -> None:
    """One document by itself, and names in any case; the documented spelling comes first."""
    one = {"documentName": "a.xlsx", "DownloadLink": "https://x/a", "SizeInMB": "0.1"}
    other = {"DocumentName": "a.xlsx", "downloadlink": "https://x/a", "SIZEINMB": 0.1}
    for response in (one, [other], other):
        batch = a_batch(response=json.dumps(response))
        [document] = batch.jobs[0].documents
        assert (document.document_name, document.download_link) == ("a.xlsx", "https://x/a")
        assert (document.size_in_mb, document.extra, batch.unknown) == (Decimal("0.1"), None, frozenset())
    [document] = a_batch(response=json.dumps([{"documentname": "b", "documentName": "a"}])).jobs[0].documents
    assert (document.document_name, document.extra) == ("a", '{"documentname":"b"}')
    assert a_batch(response=json.dumps(one), responseType="In-line JSON").jobs[0].documents == ()
    assert a_row(response='{"name": "a.xlsx"}').response_json == '{"name":"a.xlsx"}'


def test_characters_that_postgres_cannot_store_are_replaced_and_counted() -> None:
    """NUL and lone surrogates become U+FFFD; a pair of surrogates is a character."""
    page = payload.parse_page(rb'{"value": [{"jobID": "a", "jobStatusText": "\ud83d\ude00 \ud800 \u0000"}]}')
    batch = flatten(page.rows, page.replaced_characters)
    assert batch.jobs[0].row.job_status_text == "\U0001f600 \ufffd \ufffd"
    assert batch.replaced_characters == 2
    inner = a_batch(response='[{"documentName": "a\\u0000\\ud800"}]')
    assert inner.jobs[0].documents[0].document_name == "a\ufffd\ufffd"
    assert inner.replaced_characters == 2


def test_of_two_versions_in_a_page_the_newer_is_kept_in_either_order() -> None:
    """No error, and counted."""
    rows = [json.dumps({"jobID": "a", "rowversion": f"AAAAAAAAAA{n}="}).encode() for n in ("I", "Q")]
    for order in (rows, rows[::-1]):
        batch = flatten(order)
        assert (batch.jobs[0].row.row_version, batch.duplicates) == (4, 1)


def test_unknown_properties_are_kept_in_extra() -> None:
    """Of the job and of its documents; OData's own annotations are not."""
    batch = a_batch(priority="high", **{"@odata.type": "x"}, response='[{"documentName": "a", "Pages": 3}]')
    assert batch.jobs[0].row.extra == '{"priority":"high"}'
    assert batch.jobs[0].documents[0].extra == '{"Pages":3}'
    assert batch.unknown == {"priority", "response.Pages"}
    assert a_batch(**{"@odata.etag": 'W/"x"', "@etag": 'W/"x"', "@odata.id": "y"}).unknown == frozenset()


@pytest.mark.parametrize(
    ("scope", "stored"), [("PUBLIC", "Public"), ("peopleinorganization", "PeopleInOrganization"), ("Other", "Other")]
)
def test_the_scope_has_one_spelling(scope: str, stored: str) -> None:
    """And what isn't known stays as it came."""
    assert a_row(publishLinkAccessScope=scope).publish_link_access_scope == stored


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Bad gateway</body></html>",
        b'{"value": [{"jobID": "a"}',
        b'{"value": {}}',
        b'{"value": 5}',
        b"[]",
        b"{}",
        b'{"error": {"code": "x", "message": "see https://host/secret"}, "value": []}',
        b'{"value": [NaN]}',
        b'{"value": [{"jobID": "a"},]}',
        b'{"value": [{"jobID": "a"}, {"jobID": "b", "x": NaN}, null]}',
        b'{"value": [{"jobID": "a", "x": NaN}, {"jobID": "b"}',
        b'{"value": [{"jobID": "a", "x": NaN}], "@odata.nextLink": NaN}',
        b'{"value": [{"jobID": "a", "x": "5" wide"}, {"jobID": "b"}]}',
        b'{"value": [{"jobID": "a", "x": NaN}]} {}',
        b'{"value": [], "more": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"value": [' + b"[" * 5_000 + b"]}",
    ],
)
def test_an_answer_that_is_no_page_is_refused_whole(body: bytes) -> None:
    """Cut bodies, HTML, errors in a 200: nothing of it is loaded, and no address is repeated."""
    with pytest.raises(BadAnswer) as caught:
        payload.parse_page(body)
    assert "secret" not in str(caught.value)


def test_queries_are_written_as_the_service_reads_them() -> None:
    """Spaces as %20, quotes doubled, dates bare."""
    since = f"modifiedDate ge {odata.literal(datetime(2019, 6, 7, 6, 9, 22, 737999, tzinfo=UTC))}"
    query = odata.query([since, f"jobID gt {odata.literal(chr(39) + '+&')}"], "jobID")
    assert query == (
        "$filter=modifiedDate%20ge%202019-06-07T06:09:22.737Z%20and%20jobID%20gt%20'''%2B%26'&$orderby=jobID"
    )


NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def a_page(
    *job_ids: str, part: int = 0, minute: int = 0, repeated: int = 0, opaque: bool = False
) -> tuple[Page, Batch]:
    """A page of these jobs, and what it becomes; "!" marks a row that can't be read."""
    rows = tuple(
        json.dumps({"jobID": key.strip("!"), "clientID": 5 if "!" in key else "c"}).encode() for key in job_ids
    )
    at = NOON + timedelta(minutes=minute)
    return Page(rows, Cursor(part, job_ids[-1], None), at, opaque=opaque, repeated=repeated), flatten(rows)


@pytest.mark.parametrize(
    ("pages", "sizes"),
    [
        ([], []),
        ([a_page("a", "b")], [1]),
        ([a_page("a", "b"), a_page("c"), a_page("d", part=1)], [3]),
        ([a_page("a", "b"), a_page("b", "c"), a_page("d")], [1, 2]),  # b comes again: perhaps in another version
        ([a_page("a!"), a_page("a"), a_page("a!")], [1, 1, 1]),
        ([a_page("a"), a_page("a", "b", repeated=1), a_page("c"), a_page("d")], [1, 1, 2]),
        ([a_page("a"), a_page("b", opaque=True), a_page("c", opaque=True)], [1, 1, 1]),
    ],
)
def test_pages_are_loaded_as_one_unless_one_brings_again_what_another_brought(
    pages: list[tuple[Page, Batch]], sizes: list[int]
) -> None:
    """Each page is in one of them, in its order, and no job is twice in one."""
    found = list(together(pages))
    assert [len(each.pages) for each in found] == sizes
    assert [page for each in found for page in each.pages] == [page for page, _ in pages]
    for each in found:
        keys = [job.row.job_id for job in each.batch.jobs] + [reject.job_id for reject in each.batch.rejects]
        assert len(keys) == len(set(keys)) == sum(len(page.rows) for page in each.pages)


def test_pages_that_are_loaded_as_one_were_read_by_the_time_of_the_latest() -> None:
    """A version was there by then: the history's bound stays true for all of them."""
    [found] = together([a_page("a", minute=5), a_page("b", part=1, minute=3)])
    assert found.page.answered_at == NOON + timedelta(minutes=5)
    assert found.page.cursor.part == 1


def test_escaped_characters_are_the_characters_themselves() -> None:
    """ASP.NET escapes quotes and ampersands: such rows are as quick to read, and as right, as others."""
    plain = json.dumps({"jobID": "a", "jobStatusText": "<&>", "response": json.dumps([{"documentName": "d & 'e'"}])})
    escaped = plain.replace('\\"', "\\u0022").replace("&", "\\u0026").replace("'", "\\u0027")
    assert "\\u0022documentName" in escaped
    assert flatten([escaped.encode()]) == flatten([plain.encode()])


@pytest.mark.parametrize(
    "nul", [r"\\u0000", r"\\\u00750000", r"\\u\u0030000", r"\\u0\u003000", r"\u005cu\u0030000", r"\u005c\u00750000"]
)
def test_a_nul_of_a_document_is_replaced_however_it_is_escaped(nul: str) -> None:
    """The row's own escapes may hide that of the JSON inside: Postgres would refuse the whole page."""
    raw = r'{"jobID": "a", "response": "[{\"documentName\": \"xNULy\"}]"}'.replace("NUL", nul)
    batch = flatten([raw.encode()])
    assert [document.document_name for job in batch.jobs for document in job.documents] == ["x\ufffdy"]
    assert batch.replaced_characters == 1


@pytest.mark.parametrize(
    ("properties", "column", "value"),
    [
        ({"rowversion": 533541}, "row_version", 533541),
        ({"rowversion": 0}, "row_version", 0),
        ({"ID": 52714.0}, "id", 52714),
        ({"ID": "52714"}, "id", 52714),
    ],
)
def test_a_key_or_version_of_another_form_is_read_as_the_number_that_it_is(
    properties: dict[str, Any], column: str, value: int
) -> None:
    """Services of another framework write a rowversion as a number, and an ID as a text."""
    [job] = a_batch(**properties).jobs
    assert getattr(job.row, column) == value
    assert job.unread == ()
