"""The pages: what is written from the code is as the code is, links lead somewhere, the changelog keeps its form."""

import ast
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from etl import __version__
from etl.cli import main
from etl.postgres.connection import Connection
from etl.testing.emulator import populated
from tests.support.paths import ROOT
from tests.support.scene import Scene
from tests.tools import write_docs

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
NOT_ON_THE_SITE = {"README"}  # it leads there
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
_KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Upgrade"}  # the last one is ours
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """A page without its blocks of code, and without what is quoted in a line."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """The addresses of a page's headings, as the repository's host and Sphinx make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#{1,3} (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def navigation() -> Iterator[str]:
    """The pages that docs/conf.py puts in order."""
    tree = ast.parse((ROOT / "docs" / "conf.py").read_text(encoding="utf-8"))
    [nav] = [node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NAV"]
    for pages in ast.literal_eval(nav).values():
        yield from pages


def test_pages_of_settings_and_commands_are_as_the_code_is() -> None:
    """`make docs` would change nothing: every setting, command, option and exit code is there with its meaning."""
    for page, text in write_docs.written().items():
        assert page.read_text(encoding="utf-8") == text, f"{page.name}: make docs"


def test_every_page_is_in_the_navigation() -> None:
    """Once each; and none is named that doesn't exist. Decisions have a list of their own."""
    pages = {str(page.relative_to(ROOT).with_suffix("")) for page in PAGES if page not in DECISIONS} - NOT_ON_THE_SITE
    named = list(navigation())
    assert sorted(["docs/index", *named]) == sorted(pages)


def test_every_decision_is_in_the_list_under_its_title() -> None:
    """docs/decisions/index.md lists each record once, by its number and by the title that it has."""
    index = (ROOT / "docs" / "decisions" / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[(\d{4})\]\((\1-[\w-]+\.md)\) (.*)$", index, re.MULTILINE)
    titles = {path.name: path.read_text(encoding="utf-8").splitlines()[0] for path in DECISIONS}
    assert len(listed) == len(DECISIONS)
    assert {name: f"# {int(number)}. {title}" for number, name, title in listed} == titles


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_between_pages_and_to_files_resolve(page: Path) -> None:
    """Where the repository is hosted and on the site alike: a link leads to a file, and to a heading that is there."""
    for link in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link
        # The site has no other pages: a link to one would be a file to download.
        assert page.stem in NOT_ON_THE_SITE or target.stem not in NOT_ON_THE_SITE, link


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_pages_that_are_named_exist(page: Path) -> None:
    """In a line of text, `docs/bi.md` is a promise too."""
    for name in re.findall(r"`(docs/[\w-]+\.md|[A-Z]+\.md)`", page.read_text(encoding="utf-8")):
        assert (ROOT / name).is_file(), name


def test_the_first_question_has_an_answer(db: Connection) -> None:
    """The statement that docs/index.md ends with counts the mirror's jobs."""
    Scene(db, populated(200, seed=1, now=datetime.now(UTC))).sync()
    [question] = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"), re.DOTALL)
    assert sum(int(str(row[1])) for row in db.execute(question).fetchall()) == 200


def test_the_changelog_keeps_its_form() -> None:
    """Unreleased first, then versions with their dates, newest first; each says what kind of change it is."""
    titles = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert titles[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d\d-\d\d)", title) for title in titles[1:]]
    assert all(released)
    found = [(tuple(map(int, each.groups()[:3])), each[4]) for each in released if each]
    assert found == sorted(found, reverse=True)
    assert set(re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE)) <= _KINDS


def test_the_version_stands_in_one_place() -> None:
    """What is installed, what --version says and what the service hears are read from there."""
    assert version("aims360-etl") == __version__
    assert CliRunner().invoke(main, ["--version"]).output == f"aims360-etl {__version__}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]


def test_the_changelog_knows_this_version_and_every_migration() -> None:
    """What is installed is told there, with what its migrations take."""
    assert f"## [{__version__}] - " in CHANGELOG
    notes = " ".join(re.findall(r"^### Upgrade\n(.*?)(?=^##|\Z)", CHANGELOG, re.MULTILINE | re.DOTALL))
    migrations = {path.name[:4] for path in (ROOT / "migrations" / "versions").glob("[0-9]*.py")}
    assert migrations <= set(re.findall(r"\b\d{4}\b", notes))


def test_sections_that_the_code_names_are_there() -> None:
    """A docstring that refers to a section of a page leads somewhere."""
    named = [
        (page, " ".join(section.split()))
        for path in sorted((ROOT / "etl").rglob("*.py"))
        for page, section in re.findall(r'(docs/[a-z-]+\.md), "([^"]+)"', path.read_text("utf-8"))
    ]
    assert len(named) > 10
    for page, section in named:
        headings = re.findall(r"^#+ (.*?)(?: \(`.*)?$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
        assert section in headings, f"{page} has no section {section!r}"
    everywhere = "".join(path.read_text("utf-8") for path in (ROOT / "etl").rglob("*.py"))
    assert re.findall(r"(?<!docs/)correctness\.md", everywhere) == []
