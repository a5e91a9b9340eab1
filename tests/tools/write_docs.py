"""`make docs`: writes down what the views of `bi` are, from a database that was migrated, and what the program takes.

`sql/contract.txt` is the promise to those who build on them: names and types, in order, which only ever grow at the end
of a view. `docs/views.md` says what they mean, from the headers of the views and the comments on their columns.
`docs/settings.md` and `docs/commands.md` are written by hand around the tables that come from the code.
"""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from etl.cli import EXIT_CODES
from etl.cli import main as program
from etl.config import settings
from etl.postgres import embedded, migrations
from etl.postgres.connection import Connection, connect, sibling
from tests.support.paths import ROOT

CONTRACT, PAGE = ROOT / "sql" / "contract.txt", ROOT / "docs" / "views.md"
SETTINGS, COMMANDS = ROOT / "docs" / "settings.md", ROOT / "docs" / "commands.md"
_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum)
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'bi'::regnamespace AND c.relkind = 'v'
ORDER BY c.relname, a.attnum
"""
_HEAD = """# The views of `bi`

Written by `make docs` from the views themselves: the same texts stand as comments in the database, where BI tools show
them. Times in columns named `_utc` are UTC, without a zone; seconds are numbers with a fraction; shares are 0 to 1.
"""


def contract(db: Connection) -> str:
    """Each column of each view with its type, a line each."""
    return "".join(f"{view} {column} {kind}\n" for view, column, kind, _ in db.execute(_COLUMNS).fetchall())


def page(db: Connection) -> str:
    """What each view answers, its grain and its notes, and what its columns mean."""
    parts, last = [_HEAD], None
    for view, column, kind, said in db.execute(_COLUMNS).fetchall():
        if view != last:
            parts.append(_view(str(view)))
            last = view
        parts.append(f"| `{column}` | {kind} | {said} |\n")
    return "".join(parts)


def _view(name: str) -> str:
    text = (ROOT / "sql" / "views" / f"{name}.sql").read_text(encoding="utf-8")
    header = " ".join(line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("--"))
    question, grain, columns, notes = re.split(r"\s*(?:Question|Grain|Columns|Notes):\s*", header)[1:5]
    said = f"- Grain: {grain}\n- Columns: {columns}\n- Notes: {notes}\n"
    table = "| column | type | meaning |\n| --- | --- | --- |\n"
    return f"\n## {name}\n{question[0].upper()}{question[1:]}\n\n{said}\n{table}"


def filled(page: str, parts: dict[str, str]) -> str:
    """A page with what comes from the code put in anew, each between its marker and the next end."""
    for name, part in parts.items():
        marker = f"<!-- {name}: written by make docs -->\n"
        before, after = page.split(marker)
        page = f"{before}{marker}{part}<!-- end -->{after.partition('<!-- end -->')[2]}"
    return page


def written() -> dict[Path, str]:
    """The pages that need no database, as they are to be."""
    parts = {
        SETTINGS: {"settings": _settings()},
        COMMANDS: {"exit codes": _exit_codes(), "commands": "".join(_commands(program, "aims360-etl"))},
    }
    return {path: filled(path.read_text(encoding="utf-8"), each) for path, each in parts.items()}


def _settings() -> str:
    lines = [f"| `{each.name}` | {each.default} | {each.help} |\n" for each in settings.SETTINGS]
    return "| setting | default | meaning |\n| --- | --- | --- |\n" + "".join(lines)


def _exit_codes() -> str:
    return "| code | meaning |\n| --- | --- |\n" + "".join(f"| {code} | {said} |\n" for code, said in EXIT_CODES)


def _commands(group: click.Group, words: str) -> Iterator[str]:
    for name in group.list_commands(click.Context(group)):
        command = group.commands[name]
        if isinstance(command, click.Group):
            yield from _commands(command, f"{words} {name}")
        else:
            yield _command(f"{words} {name}", command)


def _command(words: str, command: click.Command) -> str:
    """A command as a section: its line, its help, and what its options mean."""
    ctx = click.Context(command, info_name=words)
    usage = command.get_usage(ctx).removeprefix("Usage: ").replace("\n", " ")
    said = "\n\n".join(re.sub(r"\s+", " ", part).strip() for part in (command.help or "").split("\n\n"))
    options = [each for each in command.params if isinstance(each, click.Option) and each.name != "debug"]
    rows = "".join(f"| {_spelt(each, ctx)} | {_meant(each, ctx)} |\n" for each in options)
    table = f"\n| option | meaning |\n| --- | --- |\n{rows}" if rows else ""
    return f"\n## {words}\n```\n{re.sub(' +', ' ', usage)}\n```\n{said}\n{table}"


def _spelt(option: click.Option, ctx: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    return names if option.is_flag or isinstance(option.type, click.Choice) else f"{names} {option.make_metavar(ctx)}"


def _meant(option: click.Option, ctx: click.Context) -> str:
    """Its help, and what it can be."""
    notes = []
    if isinstance(option.type, click.Choice):
        notes.append("one of " + ", ".join(f"`{choice}`" for choice in option.type.choices))
    if option.required:
        notes.append("required")
    default = option.get_default(ctx)
    if not option.is_flag and not option.multiple and isinstance(default, str | int | float):
        notes.append(f"default {default}")
    return " ".join([option.help or "", *(f"({note})" for note in notes)]).replace("|", "\\|")


def main() -> None:
    """Writes all of them."""
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        try:
            url = settings.libpq_url(embedded.start(Path(folder)).url)
            with connect(url) as server:
                server.execute("CREATE DATABASE docs")
            migrations.migrate(sibling(url, "docs"))
            with connect(sibling(url, "docs")) as db:
                CONTRACT.write_text(contract(db), encoding="utf-8")
                PAGE.write_text(page(db), encoding="utf-8")
        finally:
            embedded.remove(Path(folder))


if __name__ == "__main__":
    main()
