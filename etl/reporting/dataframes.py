"""Rows of Postgres as a pandas DataFrame, read in a transaction that can't write.

A column's dtype follows from its type in Postgres and its name, never from its values: an empty answer has the same.

    smallint, integer, bigint, oid          Int64
    boolean                                 boolean
    numeric, real, double precision         Float64: near enough to plot and to add up, no longer exact
    timestamptz, timestamp named *_utc      datetime64[us, UTC]
    timestamp                               datetime64[us], of whatever zone its name says
    date                                    datetime64[s]
    text of few different values, by name   category
    all else                                string, as Postgres writes it

Unknown is NA or NaT. So are infinity and years that Python doesn't know (before 1, after 9999).
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from etl.postgres.connection import Connection, reading

FEW = frozenset(
    "source account_code database_name category_name sub_category_name job_status previous_status type kind outcome "
    "verdict last_kind last_outcome last_verdict ends_by response_type publish_link_access_scope weekday_name "
    "month_name time_zone purge_mode strategy paging window_by refused".split()
)
"""Columns of `bi` that hold a few different names over and over."""

_Values = list[bytes | None]
_SETTING = "SELECT set_config(%s, %s, true)"


def read(url: str, statement: str, settings: Mapping[str, str] | None = None) -> pd.DataFrame | None:
    """The rows of a statement, None where it gives none. `settings` hold until it ends; they are sent as values.

    Raises DatabaseError where there is no way in, psycopg.Error for what Postgres refuses.
    """
    with reading(url) as db:
        for setting in (settings or {}).items():
            db.execute(_SETTING, setting)
        return _frame(db, statement)


def _frame(db: Connection, statement: str) -> pd.DataFrame | None:
    # Without parameters: a % is a %. In a pipeline it is one statement: of several one could end the transaction.
    with db.pipeline():
        cursor = db.execute(statement.encode())
    result = cursor.pgresult
    if cursor.description is None or result is None:
        return None
    columns = [
        _column(column.name, column.type_code, [result.get_value(row, place) for row in range(result.ntuples)])
        for place, column in enumerate(cursor.description)
    ]
    frame = pd.DataFrame(dict(enumerate(columns)))  # by place: a statement may name two columns alike
    frame.columns = pd.Index([column.name for column in cursor.description])
    return frame


def _column(name: str, oid: int, values: _Values) -> pd.Series:
    make = _BY_OID.get(oid)
    if make is None:
        texts = pd.array(_each(bytes.decode, values), dtype="string")
        return pd.Series(pd.Categorical(texts) if name in FEW else texts)
    made = make(values)
    return _in_utc(made) if make is _timestamps and name.endswith("_utc") else made


def _each(read_one: Callable[[bytes], Any], values: Iterable[bytes | None]) -> list[Any]:
    return [None if value is None else read_one(value) for value in values]


def _integers(values: _Values) -> pd.Series:
    return pd.Series(pd.array(_each(int, values), dtype="Int64"))


def _booleans(values: _Values) -> pd.Series:
    return pd.Series(pd.array(_each(lambda value: value == b"t", values), dtype="boolean"))


def _floats(values: _Values) -> pd.Series:
    return pd.Series(pd.array(_each(float, values), dtype="Float64"))


def _dates(values: _Values) -> pd.Series:
    return pd.Series(np.array(_each(_moment, values), dtype="datetime64[s]"))


def _timestamps(values: _Values) -> pd.Series:
    return pd.Series(np.array(_each(_moment, values), dtype="datetime64[us]"))


def _timestamps_utc(values: _Values) -> pd.Series:
    return _in_utc(_timestamps(values))


def _in_utc(series: pd.Series) -> pd.Series:
    zoned: pd.Series = series.dt.tz_localize("UTC")
    return zoned


def _moment(value: bytes) -> datetime | None:
    """What Postgres writes as ISO date or time; None for what Python has no such thing for."""
    try:
        moment = datetime.fromisoformat(value.decode())
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return None


def _oid(name: str) -> int:
    return psycopg.adapters.types[name].oid


_BY_OID: Mapping[int, Callable[[_Values], pd.Series]] = {
    _oid(name): make
    for names, make in (
        ("int2 int4 int8 oid", _integers),
        ("bool", _booleans),
        ("numeric float4 float8", _floats),
        ("date", _dates),
        ("timestamp", _timestamps),
        ("timestamptz", _timestamps_utc),
    )
    for name in names.split()
}
