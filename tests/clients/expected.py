"""What every client must see of schema `bi`: its views, their columns and types, and the rows as psycopg reads them."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from tests.support.paths import ROOT

LINKS = "job_links"
VIEWS = sorted({path.stem for path in (ROOT / "sql" / "views").glob("*.sql")} - {LINKS})

# They tell the time between now and then, so two clients can't read the same.
MOVING = {"lag_seconds", "expires_in_days"}

_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), col_description(a.attrelid, a.attnum)
    FROM pg_attribute AS a
    JOIN pg_class AS c ON c.oid = a.attrelid
    WHERE c.relnamespace = 'bi'::regnamespace AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
"""


class Kind(NamedTuple):
    """A type of `bi` as clients know it: in Python, in JDBC's metadata, and as the Java class that comes."""

    python: type
    jdbc: str
    java: str


# No view has a column of another type: these are what all BI tools read.
KINDS = {
    "text": Kind(str, "text", "java.lang.String"),
    "timestamp without time zone": Kind(datetime, "timestamp", "java.sql.Timestamp"),
    "date": Kind(date, "date", "java.sql.Date"),
    "numeric": Kind(Decimal, "numeric", "java.math.BigDecimal"),
    "integer": Kind(int, "int4", "java.lang.Integer"),
    "bigint": Kind(int, "int8", "java.lang.Long"),
    "boolean": Kind(bool, "bool", "java.lang.Boolean"),
}


class Column(NamedTuple):
    """A column of a view, and what is said of it."""

    name: str
    kind: Kind
    comment: str


class Login(NamedTuple):
    """A way in."""

    host: str
    port: str
    database: str
    user: str
    password: str

    @property
    def url(self) -> str:
        """For psycopg."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"


def columns(login: Login, view: str) -> list[Column]:
    """The view's columns, in order; KeyError where one is of a type that BI tools may not know."""
    with psycopg.connect(login.url) as db:
        found = db.execute(_COLUMNS, (view,)).fetchall()
    assert found, f"there is no bi.{view}"
    return [Column(name, KINDS[kind], comment) for name, kind, comment in found]


def all_of(view: str) -> str:
    """The statement that reads a view."""
    return sql.SQL("SELECT * FROM bi.{}").format(sql.Identifier(view)).as_string()


def rows(login: Login, view: str) -> list[tuple[Any, ...]]:
    """The view's rows, as they should come."""
    with psycopg.connect(login.url) as db:
        return db.execute(all_of(view).encode()).fetchall()


def comparable(names: Sequence[str], given: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Rows that can be compared: in one order, without what moves with the clock, each value beside its type."""
    places = [place for place, name in enumerate(names) if name not in MOVING]
    return sorted((tuple((type(row[place]).__name__, row[place]) for place in places) for row in given), key=repr)
