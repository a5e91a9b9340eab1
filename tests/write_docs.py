"""`make docs`: writes down what the views of `bi` are, from a database that was migrated.

`sql/contract.txt` is the promise to those who build on them: names and types, in order, which only ever grow at the end
of a view. `docs/views.md` says what they mean, from the headers of the views and the comments on their columns.
"""

import re
import tempfile
from pathlib import Path

from etl import embedded, schema, settings
from etl.database import Connection, connect, sibling

HOUSE = Path(__file__).parent.parent
CONTRACT, PAGE = HOUSE / "sql" / "contract.txt", HOUSE / "docs" / "views.md"
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
    text = (HOUSE / "sql" / "views" / f"{name}.sql").read_text(encoding="utf-8")
    header = " ".join(line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("--"))
    question, grain, columns, notes = re.split(r"\s*(?:Question|Grain|Columns|Notes):\s*", header)[1:5]
    said = f"- Grain: {grain}\n- Columns: {columns}\n- Notes: {notes}\n"
    table = "| column | type | meaning |\n| --- | --- | --- |\n"
    return f"\n## {name}\n{question[0].upper()}{question[1:]}\n\n{said}\n{table}"


def main() -> None:
    """Writes both files."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            url = settings.libpq_url(embedded.start(Path(folder)).url)
            with connect(url) as server:
                server.execute("CREATE DATABASE docs")
            schema.migrate(sibling(url, "docs"))
            with connect(sibling(url, "docs")) as db:
                CONTRACT.write_text(contract(db), encoding="utf-8")
                PAGE.write_text(page(db), encoding="utf-8")
        finally:
            embedded.remove(Path(folder))


if __name__ == "__main__":
    main()
