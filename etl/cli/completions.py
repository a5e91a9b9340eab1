"""What a shell completes: the command that prints its script, and what is offered for words that only we know.

A shell asks with each TAB, and shows whatever is printed: so nothing here looks into a database, imports much, or says
what is wrong with the settings. Where they can't be read there is nothing to offer.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from pathlib import Path

import click
from click import shell_completion

from etl import terminal
from etl.cli.program import main

_SHELLS = ("bash", "zsh", "fish")
_PROGRAM, _VARIABLE = "aims360-etl", "_AIMS360_ETL_COMPLETE"


@main.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completions(shell: str) -> None:
    """Print the script that completes words in a shell.

    SHELL is bash (4.4 or newer), zsh or fish. Commands, options, their choices, reports and sources are completed;
    docs/completions.md says where each shell wants the script.
    """
    found = shell_completion.get_completion_class(shell)
    assert found is not None
    # Not the class's own way for bash: it asks the bash of this machine for its version, and complains where it is old.
    terminal.say(shell_completion.ShellComplete.source(found(main, {}, _PROGRAM, _VARIABLE)).rstrip())


def sources(_ctx: click.Context, _option: click.Parameter, begun: str) -> list[str]:
    """The sources that are configured, if a shell can take their names as a word."""
    from etl import settings
    from etl.errors import EtlError

    try:
        found = settings.read(os.environ, Path.cwd()).sources
    except (EtlError, OSError):
        return []
    return [name for name in found if name.startswith(begun) and name == shlex.quote(name)]


def reports(_ctx: click.Context, _argument: click.Parameter, begun: str) -> list[shell_completion.CompletionItem[str]]:
    """The reports that can be asked, with their questions. etl.reports would be a third of a second to load."""
    from etl.shipped import folder

    found = sorted((folder("sql") / "reports").glob(f"{glob.escape(begun)}*.sql"))
    return [shell_completion.CompletionItem(path.stem, help=_question(path)) for path in found]


def _question(report: Path) -> str | None:
    found = re.search(r"^-- Question: *(.*)", report.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else None
