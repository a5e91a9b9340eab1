"""The page in a real browser: on a phone and on a screen, light, dark and printed.

The pictures are kept where SHOTS=folder says, for people to look at.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.postgres.connection import Connection
from etl.reporting import html
from etl.testing.emulator import World, populated
from tests.clients.browser import Browser, Scheme
from tests.support.scene import Scene

NOW = datetime.now(UTC)
_PHONE = 400  # pixels
WIDTHS = (_PHONE, 1200)
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
CHARTS = 6
_SMALLEST = 10  # pixels a letter

_SHOWN = "[...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width > 0)"
_BEYOND = """
    [...document.querySelectorAll('main *')]
        .map(element => [element.getBoundingClientRect(), element.textContent.slice(0, 40)])
        .filter(([box]) => box.width > 0 && (box.left < -1 || box.right > innerWidth + 1))
        .map(([, text]) => text)
"""
# The height of a letter as it is seen: its size in the picture, times what the picture is stretched or shrunk by.
_LETTERS = f"""
    {_SHOWN}.flatMap(svg => [...svg.querySelectorAll('text')].map(text =>
        parseFloat(getComputedStyle(text).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width))
"""
_GROUND = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all tests of this file."""
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where the pictures go."""
    folder = Path(os.environ.get("SHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def lively(db: Connection) -> None:
    """A mirror with everything: failures, unknown statuses, stuck jobs, endless names, documents about to expire."""
    scene = Scene(db, populated(600, seed=1, now=NOW))
    for number in range(8):
        failed: dict[str, Any] = {"createdDate": NOW - timedelta(hours=30), "jobStatus": "Failed"}
        scene.world.add(**failed, subCategoryName=f"{'A name without an end ' * 5}{number}", categoryName="x" * 150)
        scene.world.add(
            createdDate=NOW - timedelta(days=number), jobStatus=f"Status {number}, which nobody has heard of"
        )
    scene.world.add(createdDate=NOW - timedelta(hours=5), modifiedDate=NOW - timedelta(hours=5), jobStatus="Queued")
    scene.sync()


def empty(_: Connection) -> None:
    """A mirror into which nothing was synced."""


def single(db: Connection) -> None:
    """A mirror of one job."""
    world = World(seed=1, now=NOW)
    world.add(createdDate=NOW - timedelta(hours=3), jobStatus="Failed")
    Scene(db, world).sync()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("mirror", [lively, single, empty])
def test_the_page_is_whole_and_asks_for_nothing(
    url: str, db: Connection, tmp_path: Path, shots: Path, browser: Browser, mirror: Any, width: int, scheme: Scheme
) -> None:
    """No request, no error, nothing beyond the edge, text that can be read, and each chart once."""
    mirror(db)
    path = html.write(url, tmp_path / "page.html", NOW, with_people=True)
    browser.show(path, width, scheme)
    browser.photograph(shots / f"{mirror.__name__}-{width}-{scheme}.png")
    assert browser.troubles() == []
    assert browser.ask("innerWidth") == width
    assert browser.ask("document.scrollingElement.scrollWidth") <= width
    assert browser.ask(_BEYOND) == []
    assert min(browser.ask(_LETTERS), default=_SMALLEST) >= _SMALLEST
    ground = browser.ask(_GROUND)
    assert max(ground) < 64 if scheme == "dark" else min(ground) > 230
    if mirror is lively:
        kinds = browser.ask(f"{_SHOWN}.map(svg => svg.getAttribute('class'))")
        assert kinds == ["narrow" if width == _PHONE else "wide"] * CHARTS
        assert browser.ask("document.querySelectorAll('svg title').length") > 300


def test_it_prints_light_on_few_sheets(url: str, db: Connection, tmp_path: Path, shots: Path, browser: Browser) -> None:
    """Also where the reader's screen is dark."""
    lively(db)
    browser.show(html.write(url, tmp_path / "page.html", NOW), 1200, "dark")
    browser.print(shots / "page.pdf")
    assert (shots / "page.pdf").read_bytes().count(b"/Type /Page\n") in range(2, 6)
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert min(browser.ask(_GROUND)) > 230
    browser.call("Emulation.setEmulatedMedia", media="")
