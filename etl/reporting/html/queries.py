"""What the page asks: the statements in `sql/page/`, all answered from one snapshot, so that its numbers agree."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from etl.postgres.connection import reading, refusal
from etl.postgres.package_data import folder

Row = dict[str, Any]
_LONGEST = 160


@dataclass(frozen=True, slots=True)
class Answers:
    """The rows of each statement, named like its file."""

    freshness: list[Row]
    headline: list[Row]
    jobs_per_day: list[Row]
    failures_by_category: list[Row]
    times_per_day: list[Row]
    busy_hours: list[Row]
    documents_expiring: list[Row]
    runs: list[Row]
    people: list[Row] | None = None
    """None where nobody asked for people: the statement isn't run then."""


NAMES = tuple(Answers.__slots__)


def statement(name: str) -> str:
    """The text of `sql/page/NAME.sql`."""
    return (folder("sql") / "page" / f"{name}.sql").read_text(encoding="utf-8")


def ask(url: str, with_people: bool = False) -> Answers:
    """All answers, from one snapshot of the database at `url`. Raises SchemaError, DatabaseError."""
    names = [name for name in NAMES if with_people or name != "people"]
    try:
        with reading(url) as db, db.cursor(row_factory=dict_row) as cursor:
            return Answers(**{name: _rows(cursor.execute(statement(name).encode()).fetchall()) for name in names})
    except psycopg.Error as error:
        raise refusal(url, error) from None


def _rows(rows: list[Row]) -> list[Row]:
    return [{name: clean(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows]


def clean(text: str) -> str:
    """A name that can be drawn: no control character (XML can't hold them), no turned direction, no endless length."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    shown = " ".join(shown.split())
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
