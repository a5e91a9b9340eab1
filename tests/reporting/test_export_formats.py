"""What is written can be read back: CSV, JSON and Parquet hold the same answer, and a table fits the terminal."""

import csv
import io
import json
from typing import Any

import pandas as pd
import pytest

from etl.errors import ConfigError
from etl.reporting import export_formats
from etl.reporting.reports import read

ODD = """
    SELECT *
    FROM (VALUES
        (1, 0.125, true, E'=1+1, "a"\\r\\nb \\x1b[31m', 'AZ1', '2026-03-02'::date, '2026-03-02 09:00:00.5'::timestamp,
         '2026-03-02 09:00'::timestamp),
        (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (-20, 'Infinity', false, '送り状 \u202eevil', 'AZ2', '9999-12-31', 'infinity', '2026-03-02 00:00')
    ) AS v (jobs, share, flag, words, account_code, day, at_utc, at_local)
"""
ROWS: list[dict[str, Any]] = [
    {
        "jobs": 1,
        "share": 0.125,
        "flag": True,
        "words": '=1+1, "a"\r\nb \x1b[31m',
        "account_code": "AZ1",
        "day": "2026-03-02",
        "at_utc": "2026-03-02T09:00:00.500000Z",
        "at_local": "2026-03-02T09:00:00",
    },
    dict.fromkeys("jobs share flag words account_code day at_utc at_local".split()),
    {
        "jobs": -20,
        "share": None,
        "flag": False,
        "words": "送り状 \u202eevil",
        "account_code": "AZ2",
        "day": "9999-12-31",
        "at_utc": None,
        "at_local": "2026-03-02T00:00:00",
    },
]


@pytest.fixture
def frame(url: str) -> pd.DataFrame:
    """Three odd rows."""
    return read(url, ODD)


@pytest.fixture
def nothing(url: str) -> pd.DataFrame:
    """The same columns without rows."""
    return read(url, f"{ODD} WHERE false")


def test_json_is_a_list_of_objects(frame: pd.DataFrame, nothing: pd.DataFrame) -> None:
    """Numbers are numbers, times ISO 8601, what JSON has no word for is null."""
    assert json.loads(export_formats.as_json(frame)) == ROWS
    assert json.loads(export_formats.as_json(nothing)) == []


def test_csv_says_the_same(frame: pd.DataFrame, nothing: pd.DataFrame) -> None:
    """RFC 4180: CRLF, quotes doubled, line breaks inside; values are left as they are, a formula too."""
    written = export_formats.as_csv(frame)
    first, second, _ = csv.DictReader(io.StringIO(written.decode(), newline=""))
    assert first == {key: str(value).lower() if value is True else str(value) for key, value in ROWS[0].items()}
    assert set(second.values()) == {""}
    assert written.count(b"\r\n") == 5  # header, three rows, one inside of a value
    again = pd.read_csv(io.BytesIO(written), parse_dates=["at_utc"], dtype={"jobs": "Int64", "flag": "boolean"})
    assert again["jobs"].tolist() == frame["jobs"].tolist()
    assert again["at_utc"].iloc[0] == frame["at_utc"].iloc[0]
    assert export_formats.as_csv(nothing) == b"jobs,share,flag,words,account_code,day,at_utc,at_local\r\n"


def test_parquet_gives_the_same_values_and_types(frame: pd.DataFrame, nothing: pd.DataFrame) -> None:
    """Days are dates there."""
    for given in (frame, nothing):
        again = pd.read_parquet(io.BytesIO(export_formats.as_parquet(given)))
        assert again["day"].dtype.name == "date32[day][pyarrow]"
        assert again["account_code"].dtype.name == ("category" if len(given) else "string")
        again = again.astype({"day": "datetime64[s]", "account_code": "category"})
        pd.testing.assert_frame_equal(again, given, check_categorical=False)
    with pytest.raises(ConfigError, match="with AS"):
        export_formats.as_parquet(frame[["jobs", "jobs"]])


def test_a_table_for_people(frame: pd.DataFrame, nothing: pd.DataFrame) -> None:
    """Numbers to the right, a dash for what isn't known, UTC said, and nothing that steers the terminal."""
    table = export_formats.as_table(frame, None)
    heading, _, first, second, third, _, end = table.splitlines()
    assert (first.split()[0], second.split()) == ("1", ["-"] * 8)
    assert heading.index("jobs") + len("jobs") == third.index("-20") + len("-20")
    assert "2026-03-02 09:00:00Z" in first
    assert "0.125" in first
    assert '=1+1, "a" b  [31m' in first
    assert "\u202e" not in third
    assert end == "3 rows; times with a Z are UTC"
    assert export_formats.as_table(nothing, None).endswith("no rows; times with a Z are UTC")


@pytest.mark.parametrize("width", [200, 120, 110, 40])
def test_a_table_fits_the_terminal(frame: pd.DataFrame, width: int) -> None:
    """Texts are folded; where that would leave threads of letters, a line each value."""
    table = export_formats.as_table(frame, width)
    assert max(map(len, table.splitlines())) <= max(width, 40)
    assert ("jobs          1" in table) == (width == 40)
