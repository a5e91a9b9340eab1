"""SQL to pandas. The only room that knows it."""

from dataclasses import dataclass

import pandas as pd
import sqlalchemy as sa

from etl.schema import engine, folder


@dataclass(frozen=True, slots=True)
class Report:
    """A question, asked with one of the statements in `sql/reports/`, and its answer."""

    name: str
    question: str
    answer: pd.DataFrame


def ask(url: str, name: str) -> Report:
    """The answer of `sql/reports/NAME.sql`; the question is the first line of its header."""
    statement = (folder("sql") / "reports" / f"{name}.sql").read_text(encoding="utf-8")
    question = statement.splitlines()[0].removeprefix("-- Question:").strip()
    with engine(url).connect() as connection:
        return Report(name, question, pd.read_sql_query(sa.text(statement), connection))
