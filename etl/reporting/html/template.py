"""The template: content to HTML. Pure; every text is escaped here, and nowhere else is HTML written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import NamedTuple

from etl.reporting.html import formatting
from etl.reporting.html.formatting import Verdict

_TITLE = "AIMS360 background jobs"
# Whoever opens the file can rely on it: the browser itself fetches nothing, and runs nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_SIGNS = {"good": "●", "look": "▲", "bad": "■"}
_MEANINGS = {"good": "well", "look": "worth a look", "bad": "needs someone"}
_PEOPLE = ("Person", "Jobs", "Failed", "Share", "Waited", "Ran")


@dataclass(frozen=True, slots=True)
class Number:
    """A headline number with its name and what to compare it with."""

    name: str
    value: str
    note: str


class Key(NamedTuple):
    """A line of a legend. `colour` is CSS; `sign` is the shape of the marks, none for areas and lines, | for a tick."""

    name: str
    colour: str
    sign: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn figure; `svgs` is our own drawing, the rest is text."""

    title: str
    caption: str
    unit: str
    legend: Sequence[Key]
    svgs: Sequence[str]
    instead: str
    said: Sequence[str]


@dataclass(frozen=True, slots=True)
class Content:
    """What stands on the page; people only where they were asked for."""

    verdicts: Sequence[Verdict]
    numbers: Sequence[Number]
    pictures: Sequence[Picture]
    people: Sequence[tuple[str, ...]] | None


def page(now: datetime, content: Content) -> str:
    """The whole file."""
    written = formatting.moment(now.astimezone(UTC))
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    parts = [
        f"<header><h1>{_TITLE}</h1><p>Written {written}, from the mirror in Postgres.</p></header>",
        _verdicts(content.verdicts),
        _numbers(content.numbers),
        *map(_picture, content.pictures),
        *([] if content.people is None else [_people(content.people)]),
    ]
    body = "\n".join(parts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{_TITLE}, {written}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return '<section class="verdicts"><p class="nothing">Nothing was synced yet: the mirror is empty.</p></section>'
    return f'<section class="verdicts" aria-label="Freshness">{"".join(map(_verdict, verdicts))}</section>'


def _verdict(verdict: Verdict) -> str:
    sign = f'<span class="sign" role="img" aria-label="{_MEANINGS[verdict.state]}">{_SIGNS[verdict.state]}</span>'
    return (
        f'<article class="verdict {verdict.state}">{sign}<h2>{escape(verdict.word)}</h2>'
        f'<p class="source">{escape(verdict.source)}</p><p>{escape(verdict.sentence)}</p>'
        f"{f'<p>{escape(verdict.reading)}</p>' if verdict.reading else ''}</article>"
    )


def _numbers(numbers: Sequence[Number]) -> str:
    items = (
        f"<div><dt>{escape(number.name)}</dt><dd><b>{escape(number.value)}</b><span>{escape(number.note)}</span></dd></div>"
        for number in numbers
    )
    return f'<dl class="numbers">{"".join(items)}</dl>'


def _picture(picture: Picture) -> str:
    shown = "".join(picture.svgs) if picture.svgs else f'<p class="nothing">{escape(picture.instead)}</p>'
    legend = _legend(picture.unit, picture.legend) if picture.svgs else ""
    return (
        f"<figure><h2>{escape(picture.title)}</h2>{legend}{shown}"
        f"<figcaption>{escape(picture.caption)}</figcaption>{_said(picture.said)}</figure>"
    )


def _said(said: Sequence[str]) -> str:
    """What the chart shows, for screen readers, and for fingers, which can't hover."""
    items = "".join(f"<li>{escape(value)}</li>" for value in said)
    return f"<details><summary>In words</summary><ul>{items}</ul></details>" if said else ""


def _legend(unit: str, legend: Sequence[Key]) -> str:
    items = (f"<li>{_sign(key)}{escape(key.name)}</li>" for key in legend)
    return f'<div class="legend"><p>{escape(unit)}</p><ul>{"".join(items)}</ul></div>'


def _sign(key: Key) -> str:
    if key.sign in ("", "|"):
        return f'<i class="{"tick" if key.sign else "chip"}" style="background:{key.colour}"></i>'
    return f'<i style="color:{key.colour}">{key.sign}</i>'


def _people(people: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in _PEOPLE)
    rows = "".join(
        f'<tr><th scope="row">{escape(person)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for person, *cells in people
    )
    caption = (
        "The twenty people whose jobs failed most, of the last 30 days; times are those within which 95% of "
        "their jobs were through. Only jobs that the mirror still holds. Personal data: pass the page on with care."
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    shown = table if people else '<p class="nothing">Nobody asked for a job in the last 30 days.</p>'
    return f"<figure><h2>Who waits longest, and whose jobs fail?</h2>{shown}<figcaption>{caption}</figcaption></figure>"
