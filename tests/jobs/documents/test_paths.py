"""Where outputs are put: whatever the source says, a path stays below its folder, and no two outputs share one."""

import re
import unicodedata
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etl.jobs.documents.paths import Place, beside, path

MADE = datetime(2026, 3, 2, tzinfo=UTC)
_PIECES = (
    "..",
    ".",
    "/",
    "\\",
    "\0",
    "C:",
    "con",
    "AUX.txt",
    " ",
    "\u202e",
    "é",
    "e\u0301",
    "ß",
    "SS",
    "~",
    "👕",
    "x" * 300,
)
HOSTILE = st.one_of(st.text(), st.lists(st.sampled_from(_PIECES), max_size=6).map("".join))
PLACES = st.builds(
    Place,
    source=HOSTILE,
    account=st.none() | HOSTILE,
    created=st.none() | st.just(MADE),
    job_id=HOSTILE,
    position=st.none() | st.integers(0, 5),
    name=HOSTILE,
)


def test_what_is_plain_stays_as_it_is() -> None:
    """People find their files by the names they know."""
    made = path(Place("west", "AZ022", MADE, "d29fac30-650a-20190607060819639", 0, "Größen é 送り状.xlsx"))
    assert made == "west/AZ022/2026-03/d29fac30-650a-20190607060819639/0-Größen é 送り状.xlsx"
    made = path(Place("west", None, None, "d", None, "Aging Report"), "application/pdf")
    assert made == "west/no-account/undated/d/publish-Aging Report.pdf"


@given(PLACES)
@example(Place("..", "..", None, "..", 0, "../../etc/passwd"))
@example(Place("/etc", "C:\\Windows", None, "\\\\host\\share", 0, "a:b"))
@example(Place("s", "a", None, "j", 0, "report.xlsx."))
@example(Place("s", "a", None, "con", 0, "\ud800.txt"))
def test_a_path_stays_below_its_folder(place: Place) -> None:
    """Five plain names, each fit for any file system: nothing leads up, away, to a device or to another drive."""
    for made in (path(place), beside(path(place), "0123456789abcdef")):
        pieces = made.split("/")
        assert len(pieces) == 5
        assert Path("/kept", made).resolve() == Path("/kept") / made
        assert PureWindowsPath("C:/kept", *pieces).parts == ("C:\\", "kept", *pieces)
        for piece in pieces:
            assert piece not in ("", ".", "..")
            assert not piece.startswith(".")
            assert piece == piece.rstrip(". ")
            assert len(piece.encode()) <= 255
            assert not re.search(r'[<>:"\\|?*]', piece)
            assert {unicodedata.category(character) for character in piece} & {"Cc", "Cf", "Cs"} == set()
            assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", piece)
            assert unicodedata.normalize("NFC", piece) == piece


@given(st.lists(PLACES, min_size=2, max_size=2, unique_by=lambda place: (place.source, place.job_id, place.position)))
@example([Place("West", "a", MADE, "j", 0, "x"), Place("west", "a", MADE, "j", 0, "x")])
@example([Place("w", "a", MADE, "é", 0, "x"), Place("w", "a", MADE, "e\u0301", 0, "x")])
@example([Place("w", "a", MADE, "a/b", 0, "x"), Place("w", "a", MADE, "a\\b", 0, "x")])
@example([Place("w", "a", MADE, "y" * 300, 0, "x"), Place("w", "a", MADE, "y" * 301, 0, "x")])
def test_no_two_outputs_share_a_path(places: list[Place]) -> None:
    """Also where the file system folds case, or composes characters in its own way."""
    one, other = (unicodedata.normalize("NFC", path(place)).casefold() for place in places)
    assert one != other


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("x" * 400 + ".xlsx", ".xlsx"),
        ("送" * 200 + ".tar.gz", ".gz"),
        ("no ending", ""),
        (".xlsx", ""),
        ("a." + "y" * 90, ""),
    ],
)
def test_a_long_name_keeps_its_ending(name: str, ending: str) -> None:
    """Programs go by it."""
    assert PurePosixPath(path(Place("s", "a", MADE, "j", 0, name))).suffix == ending or not ending


def test_what_looks_like_a_changed_name_is_one() -> None:
    """So that nobody gets the place of another by knowing the digest."""
    changed = path(Place("s", "a", MADE, "a/b", 0, "x")).split("/")[3]
    assert path(Place("s", "a", MADE, changed, 0, "x")).split("/")[3] != changed
