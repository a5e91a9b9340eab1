"""The command that prints a shell's completion script."""

from __future__ import annotations

import click
from click import shell_completion

from etl import console
from etl.cli.main import main

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
    console.say(shell_completion.ShellComplete.source(found(main, {}, _PROGRAM, _VARIABLE)).rstrip())
