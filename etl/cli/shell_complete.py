"""What a shell is offered for words that only we know.

It asks with each TAB, and shows whatever is printed: so nothing here looks into a database, imports much, or says what
is wrong with the settings. Where they can't be read there is nothing to offer.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from pathlib import Path

import click
from click import shell_completion


def sources(_ctx: click.Context, _option: click.Parameter, begun: str) -> list[str]:
    """The sources that are configured, if a shell can take their names as a word."""
    from etl.config import settings
    from etl.errors import EtlError

    try:
        found = settings.read(os.environ, Path.cwd()).sources
    except (EtlError, OSError):
        return []
    return [name for name in found if name.startswith(begun) and name == shlex.quote(name)]


def reports(_ctx: click.Context, _argument: click.Parameter, begun: str) -> list[shell_completion.CompletionItem[str]]:
    """The reports that can be asked, with their questions. etl.reports would be a third of a second to load."""
    from etl.postgres.package_data import folder

    found = sorted((folder("sql") / "reports").glob(f"{glob.escape(begun)}*.sql"))
    return [shell_completion.CompletionItem(path.stem, help=_question(path)) for path in found]


def _question(report: Path) -> str | None:
    found = re.search(r"^-- Question: *(.*)", report.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else None
