"""docs/troubleshooting.md has a heading for each message that the program can say, found in the code itself."""

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.errors import EtlError
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^### `(.*)`$", PAGE, re.MULTILINE)
_GAP = "…"  # in a message what is filled in, in a heading what is left out
_TOLD = 10  # letters; a message of fewer passes on another
_ENOUGH = 8  # characters of a message that nobody takes for another


def kinds(of: type[EtlError] = EtlError) -> Iterator[str]:
    """The names of our errors, and of what becomes a reason in etl.rejects."""
    yield of.__name__
    for below in of.__subclasses__():
        yield from kinds(below)


class Room:
    """A module: what its constants hold, and what it can say."""

    def __init__(self, path: Path) -> None:
        self.name = str(path.relative_to(ROOT))
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.constants = {
            target.id: node.value
            for node in self.tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }

    def said(self, others: dict[str, ast.expr]) -> Iterator[tuple[str, list[str]]]:
        """Each message with its place, in all its forms."""
        names = {*kinds(), "ValueError"}
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
            if called in names or called == "problems.append" or called.endswith(".notes.append"):
                words = node.args[0]
            elif called == "wrong":
                words = node.args[1]
            else:
                continue
            yield f"{self.name}:{node.lineno}", list(self._read(words, {**others, **self.constants}))

    def _read(self, node: ast.expr, constants: dict[str, ast.expr]) -> Iterator[str]:
        """The text of an expression, with gaps where it isn't known from here."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield from map("".join, itertools.product(*(list(self._read(part, constants)) for part in node.values)))
        elif isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name):
            yield from self._read(node.value, constants)
        elif isinstance(node, ast.BinOp):
            sides = (list(self._read(side, constants)) for side in (node.left, node.right))
            yield from map("".join, itertools.product(*sides))
        elif isinstance(node, ast.IfExp):
            yield from self._read(node.body, constants)
            yield from self._read(node.orelse, constants)
        elif isinstance(node, ast.Name) and node.id in constants and not isinstance(constants[node.id], ast.Name):
            yield from self._read(constants[node.id], constants)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.GeneratorExp):
            yield from self._read(node.args[0].elt, constants)
        else:
            yield _GAP


# What `demo` and `prove` play, and the pretend service, fail as our own tests do: with a traceback.
ROOMS = [Room(path) for path in sorted((ROOT / "etl").rglob("*.py")) if not {"emulator", "chaos"} & set(path.parts)]
CONSTANTS = {name: value for room in ROOMS for name, value in room.constants.items()}
MESSAGES = [(place, forms) for room in ROOMS for place, forms in room.said(CONSTANTS)]
TEXTS = [
    node.value
    for room in ROOMS
    for node in ast.walk(room.tree)
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
]


def pieces(heading: str) -> list[str]:
    """What a heading repeats of a message, between its gaps."""
    return [piece for piece in heading.split(_GAP) if piece.strip()]


def covers(heading: str, message: str) -> bool:
    """Whether a heading is of a message: its pieces stand there, in their order."""
    begin = 0
    for piece in pieces(heading):
        found = message.find(piece, begin)
        if found < 0:
            return False
        begin = found + len(piece)
    return True


@pytest.mark.parametrize(("place", "forms"), MESSAGES, ids=[place for place, _ in MESSAGES])
def test_each_message_has_its_heading(place: str, forms: list[str]) -> None:
    """Whoever searches the page for what a command said finds cause and cure."""
    for message in forms:
        if len(re.findall(r"[a-z]", message)) >= _TOLD:
            assert any(covers(heading, message) for heading in HEADINGS), f"docs/troubleshooting.md lacks: {message}"


@pytest.mark.parametrize("heading", HEADINGS)
def test_each_heading_is_of_something_that_is_said(heading: str) -> None:
    """No message that is gone, or was reworded, stays on the page; each can be told from others, and has its text."""
    assert sum(map(len, pieces(heading))) >= _ENOUGH
    assert all(any(piece in text for text in TEXTS) for piece in pieces(heading))
    assert HEADINGS.count(heading) == 1
    assert re.search(rf"^### `{re.escape(heading)}`\n\S", PAGE, re.MULTILINE)
