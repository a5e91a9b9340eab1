"""What a page tells of its rows at a glance."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from etl.client import odata
from etl.load import version_filter
from etl.load.version_filter import Told

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


@pytest.mark.parametrize("shown", [{}, {"ID": 7}, {"rowversion": None, "@odata.etag": ETAG}, {"more": 1}])
def test_a_row_tells_its_version(shown: dict[str, Any]) -> None:
    """By its rowversion, else by its etag; dates are cut to the microsecond, as where all of a row is read."""
    moment = datetime(2026, 3, 1, 11, 30, 0, 123456, tzinfo=UTC) - datetime(2000, 1, 1, tzinfo=UTC)
    assert told(**shown) == Told(["a"], [0x7D1], [moment // timedelta(microseconds=1)], [True])


def test_a_job_is_old_if_it_was_surely_created_before() -> None:
    """One without a date, or of that very moment, isn't."""
    found = [told(createdDate=date) for date in ("2026-03-01T11:59:59.999Z", "2026-03-01T12:00:00Z", None)]
    assert [page.is_old for page in found if page] == [[True], [False], [False]]


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
