"""The questions of `sql/reports/`, asked with their limits, answered as pandas DataFrames.

    from etl.reports import Asked, ask, describe, names, read
    ask(url, "failing_reports", Asked(since=date(2026, 3, 1), account="AZ022")).answer
    read(url, "SELECT * FROM bi.jobs WHERE is_failed")

`etl/reporting/dataframes.py` says which dtypes come. A role that reads schema `bi` is enough, but for reports with a
line `Rights`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import psycopg

from etl.errors import ConfigError
from etl.postgres.connection import refusal
from etl.postgres.package_data import folder

if TYPE_CHECKING:
    import pandas as pd

_NO_ACCOUNT = "SELECT 1 AS known FROM bi.job_daily WHERE account_code = bi.account() LIMIT 1"


@dataclass(frozen=True, slots=True)
class Asked:
    """Limits of a question: from `since` on, up to but without `until`, one account. None: the report's own.

    A date is its midnight, a datetime without a zone is UTC. What they limit is said in the report's notes.
    """

    since: date | None = None
    until: date | None = None
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What the header of a report says. `takes`: which limits it knows, of since, until and account."""

    name: str
    question: str
    grain: str
    columns: tuple[str, ...]
    notes: str
    rights: str
    takes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A question, asked with one of the statements in `sql/reports/`, and its answer."""

    name: str
    question: str
    answer: pd.DataFrame


def names() -> list[str]:
    """The reports, in the order of the alphabet."""
    return sorted(path.stem for path in (folder("sql") / "reports").glob("*.sql"))


def describe(name: str) -> Description:
    """What a report answers. Raises ConfigError for one that doesn't exist."""
    statement = _statement(name)
    return Description(
        name,
        _said("Question", statement),
        _said("Grain", statement),
        tuple(_said("Columns", statement).removesuffix(".").split(", ")),
        _said("Notes", statement),
        _said("Rights", statement),
        tuple(limit for limit in ("since", "until", "account") if f"bi.{limit}(" in statement),
    )


def ask(url: str, name: str, asked: Asked = Asked()) -> Report:
    """The answer of `sql/reports/NAME.sql` within these limits.

    Raises ConfigError for a report that doesn't exist or a limit that makes no sense for it, SchemaError where the
    database has no such views, DatabaseError where the role may not read them.
    """
    report = describe(name)
    settings = _settings(asked)
    if beside := [f"--{limit}" for limit in settings if limit not in report.takes]:
        raise ConfigError(
            f"{name} takes no {' and no '.join(beside)}; `aims360-etl report --list` says what each takes"
        )
    return Report(name, report.question, _read(url, _statement(name), settings, report.rights.partition(". ")[0]))


def read(url: str, statement: str) -> pd.DataFrame:
    """The answer of a statement of your own, with the same dtypes. It can't write. Raises EtlError."""
    return _read(url, statement, {}, "")


def knows_account(url: str, account: str) -> bool:
    """Whether the mirror has, or had, jobs of an account."""
    return len(_read(url, _NO_ACCOUNT, _settings(Asked(account=account)), "")) > 0


def _read(url: str, statement: str, limits: Mapping[str, str], rights: str) -> pd.DataFrame:
    from etl.reporting import dataframes  # pandas takes a second to load: who asks for the list doesn't wait for it

    try:
        frame = dataframes.read(url, statement, {f"bi.{name}": value for name, value in limits.items()})
    except psycopg.Error as error:
        raise refusal(url, error, rights) from None
    if frame is None:
        raise ConfigError("the statement gives no rows; it must be a query, such as SELECT … FROM bi.jobs")
    return frame


def _statement(name: str) -> str:
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "`aims360-etl report --list` names them"
        raise ConfigError(f"no report is called {name!r}; {hint}")
    return (folder("sql") / "reports" / f"{name}.sql").read_text(encoding="utf-8")


def _said(word: str, statement: str) -> str:
    """What the header says after a word, in a line; empty where it doesn't."""
    found = re.search(rf"^-- {word}: *(.*(?:\n-- {{3,}}.*)*)", statement, re.MULTILINE)
    return re.sub(r"\s*\n-- +", " ", found[1]) if found else ""


def _settings(asked: Asked) -> dict[str, str]:
    """The limits as Postgres is told them. Raises ConfigError for those that make no sense."""
    since, until = _moment(asked.since), _moment(asked.until)
    if since and until and since >= until:
        raise ConfigError("--since must come before --until, which isn't in it any more")
    if asked.account is not None and (not asked.account or re.search(r"[\0\ud800-\udfff]", asked.account)):
        raise ConfigError("--account: is empty, or holds what no account code can")
    found = {"since": since, "until": until}
    moments = {name: moment.isoformat() for name, moment in found.items() if moment is not None}
    return moments if asked.account is None else {**moments, "account": asked.account}


def _moment(day: date | None) -> datetime | None:
    """Midnight of a day, or a moment, in UTC; without its zone, as the views write times."""
    if not isinstance(day, datetime):
        return None if day is None else datetime(day.year, day.month, day.day)  # noqa: DTZ001
    return day.astimezone(UTC).replace(tzinfo=None) if day.tzinfo else day
