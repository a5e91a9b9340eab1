"""What a page tells of its rows at a glance."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.client import odata
from etl.load import version_filter
from etl.load.version_filter import Told
from etl.models import JobRow
from etl.transform.flatten import flatten

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROW = {
    "jobID": "a",
    "createdDate": "2026-03-01T11:00:00Z",
    "modifiedDate": "2026-03-01T11:30:00.1234567Z",
    "purgeDateTime": "9999-12-31T23:59:59.9999999Z",
    "rowversion": "AAAAAAAAB9E=",
}
ETAG = 'W/"YmluYXJ5J0FBQUFBQUFBQjlFPSc="'


def told(**properties: Any) -> Told | None:
    """What a page of one row tells."""
    return version_filter.told([json.dumps({**ROW, **properties}).encode()], NOON)


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"ID": 7},
        {"rowversion": None, "@odata.etag": ETAG},
        {"rowversion": None, "@etag": ETAG},
        {"rowversion": "AAAAAAAAB9E"},
        {"more": 1, "percentCompleted": "half"},
    ],
)
def test_a_row_tells_its_version(shown: dict[str, Any]) -> None:
    """By its rowversion, else by its etag; dates are cut to the microsecond, as where all of a row is read."""
    moment = datetime(2026, 3, 1, 11, 30, 0, 123456, tzinfo=UTC) - datetime(2000, 1, 1, tzinfo=UTC)
    assert told(**shown) == Told(["a"], [0x7D1], [moment // timedelta(microseconds=1)], [True])


def test_a_job_is_old_if_it_was_surely_created_before() -> None:
    """One without a date, or of that very moment, isn't. A date counts as it is written: the source counts by it."""
    dates = ("2026-03-01T11:59:59.999Z", "2026-03-01T12:00:00Z", None, "", "1899-12-30T00:00:00Z")
    found = [told(createdDate=date) for date in dates]
    assert [page.is_old for page in found if page] == [[True], [False], [False], [False], [True]]


@pytest.mark.parametrize(
    "date", [None, "", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "1899-12-30T00:00:00Z"]
)
def test_a_row_without_a_date_tells_none(date: str | None) -> None:
    """However that is written: it is stored as none."""
    assert told(modifiedDate=date) == Told(["a"], [0x7D1], [None], [True])


@pytest.mark.parametrize(
    "shown",
    [
        {"jobID": 12},
        {"jobID": ""},
        {"jobID": "a\x00"},
        {"ID": 2**63},
        {"createdDate": "soon"},
        {"modifiedDate": "soon"},
        {"purgeDateTime": 12},
        {"rowversion": None},
        {"rowversion": "AAAAAAAA"},
        {"rowversion": "//////////8="},
        {"rowversion": "__________8"},
        {"rowversion": 2001},
        {"rowversion": ""},
        {"rowversion": None, "@odata.etag": 'W/"of another form"'},
    ],
)
def test_a_row_that_cannot_be_told_has_its_page_looked_at(shown: dict[str, Any]) -> None:
    """Whatever `flatten` makes a reject of, or stores otherwise; and where no version is shown."""
    assert told(**shown) is None


def test_a_row_without_its_date_has_its_page_looked_at() -> None:
    """It was left out of $select, which is another thing than null."""
    assert version_filter.told([b'{"jobID": "a", "rowversion": "AAAAAAAAB9E="}'], NOON) is None


def test_versions_are_told_as_they_are_read() -> None:
    """The number in the rowversion and in the etag is the one that `odata` reads."""
    found = [told(), told(rowversion=None, **{"@odata.etag": ETAG})]
    assert [page.row_versions for page in found if page] == [[odata.rowversion(str(ROW["rowversion"]))]] * 2


def test_a_job_that_comes_twice_has_its_page_looked_at() -> None:
    """Perhaps in two versions; and duplicates are counted."""
    row = json.dumps(ROW).encode()
    assert version_filter.told([row, row], NOON) is None


dates = st.sampled_from(
    [None, "", "soon", 5, "1899-12-30T00:00:00Z", "0001-01-01T00:00:00+01:00", "2026-03-01T13:30:00.1234567+02:00"]
)
VERSIONS = [None, "", "AAAAAAAAB9E=", "AAAAAAAAB9E", "AAAAAAAH-_8", "AAAAAAAH+/8=", "__________8=", "AAAAAAAAAAA=", 7]
ETAGS = [None, "", ETAG, ETAG.replace("=", ""), 'W/"0a1b"', 5]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "jobID": st.sampled_from(["a", "", "a\x00", 5]),
            "ID": st.sampled_from([None, 7, 2**63, "7"]),
            "rowversion": st.sampled_from(VERSIONS),
            "@odata.etag": st.sampled_from(ETAGS),
            "@etag": st.sampled_from(ETAGS),
            "modifiedDate": dates,
            "createdDate": dates,
            "purgeDateTime": dates.filter(
                lambda date: date != "soon"
            ),  # of the same version it is the same, whatever it is
        },
    )
)
def test_what_is_told_at_a_glance_is_what_is_stored(shown: dict[str, Any]) -> None:
    """Version and date are those that `flatten` reads; what it can't read, or without a version, isn't told."""
    if page := told(**shown):
        [job] = flatten([json.dumps({**ROW, **shown}).encode()]).jobs
        assert told_of(job.row) == (page.job_ids, page.row_versions, page.modified)


def told_of(row: JobRow) -> tuple[list[str], list[int | None], list[int | None]]:
    """What a row tells."""
    start = datetime(2000, 1, 1, tzinfo=UTC)
    modified = None if row.modified_date is None else (row.modified_date - start) // timedelta(microseconds=1)
    return [row.job_id], [row.row_version], [modified]
