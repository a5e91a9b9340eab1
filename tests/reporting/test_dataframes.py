"""Rows as DataFrames: dtypes follow from Postgres' types, and what pandas or Python can't hold crashes nothing."""

import pandas as pd
import pytest

from etl.reporting import dataframes
from etl.reporting.reports import read

# One of each type, then rows of what is odd.
KINDS = """
    SELECT *
    FROM (VALUES
        (1::smallint, 1::int, 9007199254740993::bigint, 1.10::numeric, 0.5::float8, true, 'a'::text, 'AZ1'::text,
         '2026-03-02'::date, '2026-03-02 09:00:00.125'::timestamp, '2026-03-02 09:00'::timestamp,
         '2026-03-02 09:00+02'::timestamptz, '{"a": 1}'::jsonb, ARRAY[1, 2], interval '1 day', uuid_nil()),
        (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (NULL, NULL, NULL, 'NaN', '-Infinity', NULL, '', NULL, 'infinity', 'infinity', '-infinity', 'infinity',
         NULL, NULL, NULL, NULL),
        (NULL, NULL, NULL, 1e30, NULL, NULL, NULL, NULL, '10000-01-01', '0044-03-15 BC', '9999-12-31 23:59:59.999999',
         '9999-12-31 23:59:59-12', NULL, NULL, NULL, NULL),
        (NULL, NULL, -1, NULL, NULL, NULL, NULL, NULL, '9999-12-31', '0001-01-01', NULL, '0001-01-01 00:00+02',
         NULL, NULL, NULL, NULL)
    ) AS v (small, middle, large, exact, rough, flag, words, account_code, day, at_utc, at_local, at_zone, answer, list,
            span, guid)
""".replace("uuid_nil()", "'00000000-0000-0000-0000-000000000000'::uuid")
DTYPES = {
    "small": "Int64",
    "middle": "Int64",
    "large": "Int64",
    "exact": "Float64",
    "rough": "Float64",
    "flag": "boolean",
    "words": "string",
    "account_code": "category",
    "day": "datetime64[s]",
    "at_utc": "datetime64[us, UTC]",
    "at_local": "datetime64[us]",
    "at_zone": "datetime64[us, UTC]",
    "answer": "string",
    "list": "string",
    "span": "string",
    "guid": "string",
}


@pytest.mark.parametrize("which", ["", "WHERE small = 1", "WHERE small IS NULL AND large IS NULL", "WHERE false"])
def test_dtypes_follow_from_the_types_whatever_the_values(url: str, which: str) -> None:
    """The same for full, empty and odd answers."""
    frame = read(url, f"{KINDS} {which}")
    assert {name: dtype.name for name, dtype in frame.dtypes.items()} == DTYPES
    assert frame["account_code"].cat.categories.dtype == "string"


def test_values_are_exact_where_they_can_be(url: str) -> None:
    """Large integers, fractions of seconds, zones; JSON, lists and spans as Postgres writes them."""
    row = read(url, KINDS).iloc[0]
    assert (row["large"], row["exact"], row["flag"], row["account_code"]) == (9007199254740993, 1.1, True, "AZ1")
    assert row["at_utc"] == pd.Timestamp("2026-03-02 09:00:00.125", tz="UTC")
    assert row["at_zone"] == pd.Timestamp("2026-03-02 07:00", tz="UTC")
    assert row["day"] == pd.Timestamp("2026-03-02")
    assert [row[name] for name in ("answer", "list", "span")] == ['{"a": 1}', "{1,2}", "1 day"]


def test_what_is_not_a_moment_is_nat_and_the_last_day_is_a_day(url: str) -> None:
    """Infinity, the time before Christ and the year 10000 are unknown; 9999-12-31 is what it is."""
    frame = read(url, KINDS)
    assert frame.loc[[1, 2, 3], "day"].isna().all()
    assert frame.loc[[1, 2, 3], "at_utc"].isna().all()
    assert frame["day"].iloc[4].year == 9999
    assert frame["at_local"].iloc[3].microsecond == 999_999
    assert pd.isna(frame["at_zone"].iloc[3])
    assert pd.isna(frame["at_zone"].iloc[4])
    assert frame["exact"].iloc[3] == 1e30


def test_two_columns_of_one_name_stay_two(url: str) -> None:
    """As in a join with *."""
    assert read(url, "SELECT 1 AS a, 2 AS a").to_numpy().tolist() == [[1, 2]]


def test_settings_are_values_and_end_with_the_statement(url: str) -> None:
    """Whatever is in them."""
    hostile = "'; DROP TABLE aims360.jobs; --"
    ask = "SELECT current_setting('bi.account', true) AS account"
    found = dataframes.read(url, ask, {"bi.account": hostile})
    assert found is not None
    assert found["account"].tolist() == [hostile]
    assert read(url, "SELECT bi.account() AS account")["account"].isna().all()
