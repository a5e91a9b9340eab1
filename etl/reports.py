"""The questions of `sql/reports/`, asked with their limits, answered as pandas DataFrames; and a page of charts.

    from etl.reports import Asked, ask, describe, names, read
    ask(url, "failing_reports", Asked(since=date(2026, 3, 1), account="AZ022")).answer
    read(url, "SELECT * FROM bi.jobs WHERE is_failed")

`etl/frames.py` says which dtypes come. A role that reads schema `bi` is enough, but for reports with a line `Rights`.
The page stands alone: no script, no font and no picture from elsewhere, light and dark.
"""

import difflib
import html
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import psycopg
from psycopg import errors

from etl import frames
from etl.database import masked, said
from etl.errors import ConfigError, DatabaseError, SchemaError
from etl.schema import folder

_PALETTE = {"Completed": "#2f9e6e", "Failed": "#d9483b", "Inprogress": "#3b82d9", "Queued": "#b7a13a"}
_OTHER_COLOURS = ("#8b6fc9", "#4aa5a5", "#c77ba0", "#8a8f98")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 900, 240, 46, 26
_ABSENT = (errors.InvalidSchemaName, errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction)
_RIGHTS = "USAGE on schema bi and SELECT on its views (`aims360-etl grant --bi ROLE` gives them)"
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
    try:
        frame = frames.read(url, statement, {f"bi.{name}": value for name, value in limits.items()})
    except _ABSENT as error:
        how = "run `aims360-etl migrate` if that is one of ours"
        raise SchemaError(f"{masked(url)}: {said(error)}; {how}") from None
    except errors.InsufficientPrivilege as error:
        raise DatabaseError(f"{masked(url)}: {said(error)}; needed are {rights or _RIGHTS}") from None
    except psycopg.Error as error:
        raise DatabaseError(f"{masked(url)}: {said(error)}") from None
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


def page(url: str, path: Path, title: str) -> Path:
    """Writes the page of charts and gives its path."""
    runs, times = ask(url, "runs_per_day"), ask(url, "times_by_category")
    body = [f"<h1>{html.escape(title)}</h1>"]
    body += [_figure(runs.question, _stacked_bars(runs.answer)), _figure(times.question, _paired_bars(times.answer))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_PAGE.replace("{title}", html.escape(title)).replace("{body}", "\n".join(body)), encoding="utf-8")
    return path


def _figure(question: str, picture: str) -> str:
    return f"<figure><figcaption>{html.escape(question)}</figcaption>{picture}</figure>"


def _colours(names: list[str]) -> dict[str, str]:
    others = iter(_OTHER_COLOURS * (len(names) + 1))
    return {name: _PALETTE.get(name) or next(others) for name in names}


def _legend(colours: dict[str, str]) -> str:
    items = (f'<span><i style="background:{c}"></i>{html.escape(n)}</span>' for n, c in colours.items())
    return f'<div class="legend">{"".join(items)}</div>'


def _stacked_bars(frame: pd.DataFrame) -> str:
    """Jobs by day, one stack a day, a colour a status."""
    table = frame.pivot_table(index="day", columns="job_status", values="jobs", aggfunc="sum", fill_value=0)
    colours = _colours([str(name) for name in table.columns])
    highest = max(1, int(table.sum(axis=1).max())) if len(table) else 1
    step = (_WIDTH - _LEFT - 16) / max(1, len(table))
    marks: list[str] = []
    for place, (day, row) in enumerate(table.iterrows()):
        left, top = _LEFT + place * step + step * 0.1, float(_HEIGHT - _BOTTOM)
        for status, jobs in row.items():
            tall = int(jobs) / highest * (_HEIGHT - _BOTTOM - 12)
            top -= tall
            said = html.escape(f"{day}: {int(jobs)} {status}")
            colour = colours[str(status)]
            marks.append(_rect(left, top, step * 0.8, tall, colour, said))
        if place % max(1, len(table) // 8) == 0:
            marks.append(_text(left + step * 0.4, _HEIGHT - 8, f"{day:%d %b}", "middle"))
    marks.append(_text(_LEFT - 6, 18, f"{highest:,}", "end"))
    marks.append(_text(_LEFT - 6, _HEIGHT - _BOTTOM, "0", "end"))
    return _legend(colours) + _svg(_HEIGHT, marks, "jobs by day and status")


def _paired_bars(frame: pd.DataFrame) -> str:
    """Mean queue and run time, two bars a category; none where the time isn't known."""
    colours = {"in the queue": "#b7a13a", "running": "#3b82d9"}
    times = frame[["mean_queued_seconds", "mean_run_seconds"]].astype(float)
    longest = max([1.0, *times.stack().dropna()])
    marks: list[str] = []
    for place, (category, pair) in enumerate(zip(frame["category_name"], times.itertuples(index=False), strict=True)):
        top = 8 + place * 46
        marks.append(_text(0, top + 11, str(category), "start"))
        for line, ((what, colour), seconds) in enumerate(zip(colours.items(), map(float, pair), strict=True)):
            length = 0.0 if math.isnan(seconds) else max(1.0, seconds / longest * (_WIDTH - 300))
            said = f"{seconds:,.1f} s {what}" if length else f"not known {what}"
            marks += [_rect(150, top + line * 16, length, 13, colour, said)] if length else []
            marks.append(_text(156 + length, top + 11 + line * 16, said, "start"))
    return _legend(colours) + _svg(16 + 46 * len(frame), marks, "queue and run time by category")


def _rect(left: float, top: float, width: float, height: float, colour: str, said: str) -> str:
    place = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{colour}"><title>{html.escape(said)}</title></rect>'


def _text(left: float, top: float, said: str, anchor: str) -> str:
    return f'<text x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}">{html.escape(said)}</text>'


def _svg(height: float, marks: list[str], said: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{html.escape(said)}">{"".join(marks)}</svg>'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root { color-scheme: light dark; --ink: #1d2129; --soft: #667; --ground: #fbfaf7; --card: #fff; --line: #e4e2dc; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e6e1; --soft: #a5a8b0; --ground: #16181c; --card: #1e2126; --line: #33363d; }
}
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1rem 4rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; }
figure { margin: 1.5rem 0; padding: 1.25rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .75rem; }
figcaption { font-weight: 600; margin-bottom: .5rem; }
svg { width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
.legend { display: flex; gap: 1rem; flex-wrap: wrap; color: var(--soft); font-size: .85rem; margin-bottom: .5rem; }
.legend i { display: inline-block; width: .75rem; height: .75rem; border-radius: .2rem; margin-right: .35rem; }
</style>
</head>
<body>
{body}
</body>
</html>
"""
