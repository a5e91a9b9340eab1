"""Versions and dates of the source, in all the forms that they come in."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.client import odata

numbers = st.integers(0, 2**63 - 1)


def forms(raw: bytes) -> list[str]:
    """Bytes in each of the forms of base64."""
    padded = [base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()]
    return [*padded, *(text.rstrip("=") for text in padded)]


@given(numbers)
def test_a_rowversion_is_the_same_number_in_each_form(number: int) -> None:
    """Base64 or base64url, padded or not; in the property, and in the etag, which is written in such a form itself."""
    for text in forms(number.to_bytes(8, "big")):
        assert odata.rowversion(text) == number
        for inner in forms(f"binary'{text}'".encode()):
            assert odata.etag_rowversion(f'W/"{inner}"') == odata.etag_rowversion(f'"{inner}"') == number


@given(st.integers(2**63, 2**64 - 1))
def test_a_rowversion_beyond_bigint_cannot_be_read(number: int) -> None:
    """In no form."""
    for text in forms(number.to_bytes(8, "big")):
        with pytest.raises(ValueError, match=r"2\^63"):
            odata.rowversion(text)
        for inner in forms(f"binary'{text}'".encode()):
            with pytest.raises(ValueError, match=r"2\^63"):
                odata.etag_rowversion(f'W/"{inner}"')


@pytest.mark.parametrize(
    "text", ["", "AAAAAAAIJCU==", "AAAAAAAIJC", "AAAA AAAIJCU=", "AAAAAAAIJCU=\n", "%%%", "AAAAAAAIJCé"]
)
def test_what_is_no_rowversion_cannot_be_read(text: str) -> None:
    """Not eight bytes, or no base64."""
    with pytest.raises(ValueError, match="rowversion"):
        odata.rowversion(text)


def coded(text: str) -> str:
    """A text as the framework codes a part of an etag."""
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "etag",
    [
        "",
        "*",
        'W/""',
        'W/"0a1b2c3d"',
        'W/"d41d8cd98f00b204e9800998ecf8427e"',
        f'W/"{coded("2019-06-07T06:08:19.64Z")}"',
        f'W/"{coded("null")}"',
        f'W/"{coded("binary" + chr(39) + "AAAAAAALDuo=" + chr(39))},{coded("0")}"',
        f'W/"{coded("binary" + chr(39) + coded("a hash of other length") + chr(39))}"',
        f'W/"{coded("binary" + chr(39) + "no base64!" + chr(39))}"',
        f'W/"{coded("binary" + chr(39))}"',
        "W/\"binary'AAAAAAALDuo='\"",
        f"W/{coded('x')}",
    ],
)
def test_an_etag_of_another_form_is_no_rowversion(etag: str) -> None:
    """A date, a hash, two parts: such a row has no version, which is no fault of it."""
    assert odata.etag_rowversion(etag) is None


@given(st.text(max_size=60))
def test_any_text_may_be_an_etag(text: str) -> None:
    """Nothing is raised for one."""
    odata.etag_rowversion(text)
    odata.etag_rowversion(f'W/"{text}"')


# hypothesis wants its bounds without a zone
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001


@given(moments, st.integers(-14 * 60, 14 * 60))
def test_a_date_from_1980_on_is_stored_as_it_is_and_any_other_is_none(moment: datetime, minutes: int) -> None:
    """In whatever zone it is written."""
    text = moment.isoformat()
    assert odata.read_date(text) == (moment if moment.year >= 1980 else None)
    shifted = (moment.replace(tzinfo=None) + timedelta(minutes=minutes)).isoformat()
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    local = f"{shifted}{sign}{hours:02}:{rest:02}"
    found = odata.read_date(local)
    assert found == moment if moment.year >= 1980 and local >= "1980" else found is None


@pytest.mark.parametrize("text", ["soon", "1.5.2019", "0000-00-00", "2019-02-30", "9999-12-31T23:59:59-01:00", " "])
def test_what_is_no_date_is_not_taken_for_none(text: str) -> None:
    """Else a job whose date nobody can read would be taken for one without."""
    with pytest.raises(ValueError, match=r"."):
        odata.read_date(text)
    assert odata.find_date(text) is None


def test_for_filters_and_the_watermark_a_date_counts_as_it_is_written() -> None:
    """1899 is before any lower bound, though it is stored as none."""
    row = b'{"modifiedDate":"1899-12-30T00:00:00Z","createdDate":"0001-01-01T00:00:00Z"}'
    stamp = odata.stamp(row)
    assert (stamp.modified, stamp.created) == (datetime(1899, 12, 30, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC))


def test_what_steers_a_run_is_found_in_a_row_that_is_no_json() -> None:
    """Its key and its dates, at its top level; its version isn't, and never what it doesn't show."""
    row = {
        "ID": 7,
        "jobID": "b",
        "modifiedDate": "2026-03-01T11:30:00Z",
        "createdDate": "2026-03-01T11:00:00Z",
        "purgeDateTime": "2026-04-01T11:00:00Z",
        "rowversion": "AAAAAAAIJCU=",
        "clientID": "c",
        "more": {"ID": 9, "jobID": "z"},
    }
    raw = json.dumps({**row, "jobStatusText": "@"}).replace('"@"', "NaN").encode()
    stamp = odata.stamp(raw)
    assert (stamp.key("ID"), stamp.key("jobID")) == (7, "b")
    assert (stamp.modified, stamp.created) == (
        datetime(2026, 3, 1, 11, 30, tzinfo=UTC),
        datetime(2026, 3, 1, 11, tzinfo=UTC),
    )
    assert stamp.purgeDateTime == row["purgeDateTime"]
    assert (stamp.rowversion, stamp.etag, stamp.clientID) == (None, None, None)
    good = json.dumps({**row, "ID": 6}).encode()
    assert [place.key("ID") for place in odata.places([good, raw])] == [6, 7]


@pytest.mark.parametrize(
    "raw", [b'{"ID":7,"t":NaN}', b'{"ID":7,"t":NaN,"modifiedDate":null}', b'{"ID":7,"t":"5" wide"}', b"[]", b""]
)
def test_a_row_that_is_no_json_has_a_date_that_cannot_be_read_rather_than_none(raw: bytes) -> None:
    """No date would say that the source ignores the window."""
    stamp = odata.stamp(raw)
    assert (stamp.modified, stamp.modifiedDate is None) == (None, False)


def test_the_etag_is_known_by_either_name() -> None:
    """As OData 4.0 and 4.01 call it."""
    assert odata.stamp(b'{"@odata.etag":"x"}').etag == odata.stamp(b'{"@etag":"x"}').etag == "x"
    assert odata.stamp(b'{"@odata.etag":"x","@etag":"y"}').etag == "x"
    assert odata.stamp(b"{}").etag is None
