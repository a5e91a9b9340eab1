"""The commands of the program, walked through."""

from collections.abc import Iterator

import click

from etl.cli import main


def commands(group: click.Group = main, words: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command with its words."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} ")
        else:
            yield words + name, command
