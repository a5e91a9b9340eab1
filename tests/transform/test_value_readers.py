"""Values in another form than the documented one: read as what they plainly mean, or kept as they came."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.client import payload
from etl.models import Batch, Job
from etl.transform import value_readers
from etl.transform.flatten import flatten

INTEGERS = {
    "jobCategoryID": "job_category_id",
    "jobSubCategoryID": "job_sub_category_id",
    "percentCompleted": "percent_completed",
    "purgeDays": "purge_days",
    "numberOfAttempts": "number_of_attempts",
}
LABELS = {"categoryName": "category_name", "subCategoryName": "sub_category_name"}
TEXTS = {
    **LABELS,
    "jobDescription": "job_description",
    "clientRequestId": "client_request_id",
    "jobStatusText": "job_status_text",
    "responseType": "response_type",
    "publishLink": "publish_link",
    "publishLinkAccessScope": "publish_link_access_scope",
    "requestURL": "request_url",
    "createdBy": "created_by",
    "modifiedBy": "modified_by",
}
DATES = {
    "startDate": "start_date",
    "completedDate": "completed_date",
    "maximumDateTimeToExecuteJob": "maximum_date_time_to_execute_job",
}
ANSWERS = {"canReRun": "can_rerun", "CanPublish": "can_publish"}
HARMLESS = {**INTEGERS, **TEXTS, **DATES, **ANSWERS}
DECIDING = (
    *("jobID", "ID", "rowversion", "createdDate", "modifiedDate", "purgeDateTime"),
    *("jobStatus", "clientID", "DatabaseName", "accountCode"),
)
OF_DOCUMENTS = (
    "documentName",
    "DownloadLink",
    "SizeInMB",
    "Type",
    "DocumentID",
    "DocumentGUID",
    "ExpiryDate",
    "Version",
)

texts = st.one_of(
    st.text(max_size=200),
    st.sampled_from(
        ["", " ", "30", "99.5", "Yes", "NO", "true", "0", "-1e2", "1e999", "12 of 30", "x" * 151, "Perhaps"]
    ),
    st.sampled_from(
        ["2019-06-07T06:08:19.64Z", "2019-06-07", "0001-01-01T00:00:00+01:00", "9999-12-31T23:00:00-05:00"]
    ),
)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-5, 200),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from([99.5, 100.0, 2**31, -(2**31), 10**4_299]),
        texts,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


def read(**properties: Any) -> Batch:
    """What a page of one row becomes."""
    return flatten([json.dumps({"jobID": "a", **properties}).encode()])


def read_job(**properties: Any) -> Job:
    """The only job of it."""
    [job] = read(**properties).jobs
    return job


def storable(value: Any) -> Any:
    """A value as Postgres can store it."""
    return payload.decode(json.dumps(value))[0]


@pytest.mark.parametrize(
    ("shown", "stored"),
    [
        (99.5, 100),
        (98.5, 98),
        (-0.5, 0),
        (100.0, 100),
        (1e9, 10**9),
        ("30", 30),
        (" 30 ", 30),
        ("99.5", 100),
        ("1e2", 100),
        ("-7", -7),
        (2**31 - 1, 2**31 - 1),
        (-(2**31), -(2**31)),
        ("", None),
        (" ", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("name", INTEGERS)
def test_a_number_is_read_however_it_is_written(name: str, shown: Any, stored: int | None) -> None:
    """A fraction is rounded, half to the even side; an empty text is none."""
    job = read_job(**{name: shown})
    assert (getattr(job.row, INTEGERS[name]), job.row.extra, job.unread) == (stored, None, ())


@pytest.mark.parametrize(
    ("shown", "stored"),
    [
        *((yes, True) for yes in (True, 1, 1.0, "Yes", "YES", " yes ", "true", "1", "y")),
        *((no, False) for no in (False, 0, "No", "no", "False", "0", "N")),
        ("", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_however_it_is_written(name: str, shown: Any, stored: bool | None) -> None:
    """As Yes and No, true and false, 1 and 0, in any letters."""
    job = read_job(**{name: shown})
    assert (getattr(job.row, ANSWERS[name]), job.unread) == (stored, ())


@pytest.mark.parametrize(
    ("shown", "stored"), [(5, "5"), (-1.5, "-1.5"), (10**30, "1" + "0" * 30), ("x", "x"), ("", ""), (None, None)]
)
@pytest.mark.parametrize("name", TEXTS)
def test_a_number_in_the_place_of_a_text_is_its_text(name: str, shown: Any, stored: str | None) -> None:
    """And an empty text stays one."""
    job = read_job(**{name: shown})
    assert (getattr(job.row, TEXTS[name]), job.unread) == (stored, ())


def test_a_number_that_nothing_holds_is_a_text_too() -> None:
    """In a text's place, and where it is kept as it came."""
    [job] = flatten([b'{"jobID": "a", "jobStatusText": 1e999, "purgeDays": 1e999, "priority": [-1e999]}']).jobs
    assert (job.row.job_status_text, job.row.purge_days) == ("1e999", None)
    assert json.loads(job.row.extra or "") == {"purgeDays": "1e999", "priority": ["-1e999"]}
    assert job.unread == (("purgeDays", "number 9a999"),)


@pytest.mark.parametrize("name", DATES)
def test_a_date_is_read_without_the_blanks_around_it(name: str) -> None:
    """What is no date is kept as it came."""
    moment = datetime(2019, 6, 7, 6, 8, 19, tzinfo=UTC)
    assert getattr(read_job(**{name: " 2019-06-07T06:08:19Z"}).row, DATES[name]) == moment
    job = read_job(**{name: 1559887699640})
    assert (getattr(job.row, DATES[name]), job.unread) == (None, ((name, "number 9999999999999"),))


@pytest.mark.parametrize(
    ("name", "value", "form"),
    [
        ("percentCompleted", "most of it", "text a a a"),
        ("percentCompleted", 2**31, "number 9999999999"),
        ("percentCompleted", True, "boolean"),
        ("purgeDays", [30], "list"),
        ("purgeDays", {"days": 30}, "object"),
        ("canReRun", "Perhaps", "text a"),
        ("canReRun", 5, "number 9"),
        ("startDate", "7.6.2019 06:08", "text 9.9.9999 99:99"),
        ("categoryName", "ab " * 60, "text a a a a a a a a a a a a a a a a a a"),
        ("publishLink", False, "boolean"),
        ("createdBy", ["someone@example.com"], "list"),
        ("jobStatusText", {"text": "x"}, "object"),
    ],
)
def test_a_value_that_cannot_be_read_is_kept_as_it_came(name: str, value: Any, form: str) -> None:
    """Its column is empty, and the job says which property it was, in which form; that is no unknown property."""
    batch = read(**{name: value}, more=1)
    [job] = batch.jobs
    assert getattr(job.row, HARMLESS[name]) is None
    assert json.loads(job.row.extra or "") == {"more": 1, name: value}
    assert job.unread == ((name, form),)
    assert batch.unknown == {"more"}


def test_the_values_of_a_document_are_read_likewise() -> None:
    """What can't be read is kept with the document, and is told once for the job."""
    documents = [
        {"documentName": 5, "SizeInMB": "0.25", "Version": 2},
        {"documentName": "b", "SizeInMB": "", "DocumentID": 17, "Type": None, "Pages": 3},
        {"documentName": "c", "SizeInMB": "big", "ExpiryDate": "soon", "DownloadLink": ["https://x/c"]},
        {"documentName": "d", "SizeInMB": True, "Version": {"major": 1}},
    ]
    batch = read(response=json.dumps(documents), percentCompleted="half")
    [job] = batch.jobs
    assert [document.document_name for document in job.documents] == ["5", "b", "c", "d"]
    assert [document.size_in_mb for document in job.documents] == [Decimal("0.25"), None, None, None]
    assert [document.document_id for document in job.documents] == [None, "17", None, None]
    assert [json.loads(document.extra or "null") for document in job.documents] == [
        None,
        {"Pages": 3},
        {"SizeInMB": "big", "ExpiryDate": "soon", "DownloadLink": ["https://x/c"]},
        {"SizeInMB": True, "Version": {"major": 1}},
    ]
    assert job.unread == (
        ("percentCompleted", "text a"),
        ("response.SizeInMB", "text a"),
        ("response.ExpiryDate", "text a"),
        ("response.DownloadLink", "list"),
        ("response.Version", "object"),
    )
    assert batch.unknown == {"response.Pages"}


@given(st.sampled_from(sorted(HARMLESS)), values)
def test_a_harmless_property_never_costs_the_row(name: str, value: Any) -> None:
    """In whatever form it comes: its column says what it means, or `extra` has it and the job says so."""
    batch = read(**{name: value})
    assert (batch.rejects, batch.unknown) == ((), frozenset())
    [job] = batch.jobs
    column = getattr(job.row, HARMLESS[name])
    if job.unread:
        assert job.unread == ((name, value_readers.describe_form(storable(value))),)
        assert column is None
        assert json.loads(job.row.extra or "") == {name: storable(value)}
    else:
        assert job.row.extra is None
        assert column is not None or not str(value or "").strip() or name in DATES


@given(st.sampled_from(DECIDING), values)
def test_a_deciding_property_is_read_or_the_row_is_a_reject(name: str, value: Any) -> None:
    """The row is there in one way or the other, and nothing of it is left to `extra`."""
    batch = read(**{name: value})
    assert len(batch.jobs) + len(batch.rejects) == 1
    assert all(job.row.extra is None and job.unread == () for job in batch.jobs)
    for reject in batch.rejects:
        assert reject.reason
        assert json.loads(reject.raw)[name] == value


@given(values)
def test_a_response_is_read_or_the_row_is_a_reject(value: Any) -> None:
    """As documents, JSON or text; never lost."""
    batch = read(response=value)
    assert len(batch.jobs) + len(batch.rejects) == 1


@given(st.lists(st.dictionaries(st.sampled_from(OF_DOCUMENTS), values), min_size=1, max_size=3))
def test_a_document_never_costs_the_row(documents: list[dict[str, Any]]) -> None:
    """Whatever its values are: each is in a column or in its `extra`."""
    for document in documents:
        document.setdefault("documentName", "a")
    [job] = read(response=json.dumps(documents)).jobs
    assert len(job.documents) == len(documents)
    told = {name.removeprefix("response.") for name, _ in job.unread}
    assert told == {name for row in job.documents for name in json.loads(row.extra or "{}")}


@given(st.dictionaries(st.sampled_from([*sorted(HARMLESS), *DECIDING, "response"]), values))
def test_a_row_is_read_the_same_beside_an_unknown_property(properties: dict[str, Any]) -> None:
    """The quick way and the careful one agree, value by value."""
    plain, beside = read(**properties), read(**properties, unknownToUs=1)
    assert len(plain.jobs) == len(beside.jobs)
    for one, other in zip(plain.jobs, beside.jobs, strict=True):
        assert one.row._replace(extra=None) == other.row._replace(extra=None)
        assert (one.documents, one.unread) == (other.documents, other.unread)


@given(values)
def test_a_form_says_nothing_of_the_value(value: Any) -> None:
    """Of words, digits, blanks and a few marks, and short."""
    form = value_readers.describe_form(value)
    assert re.fullmatch(r"(text|number)( [a9 .,:/+?-]*)?|boolean|list|object", form)
    assert len(form) <= value_readers.LONGEST_FORM
