"""Where an output is put: a path made of what the source says, of which nothing is trusted. Pure.

    SOURCE/ACCOUNT/YYYY-MM/JOB/POSITION-NAME

Every piece is a plain name on any file system, and none of them can lead elsewhere. What had to be changed in one
carries a digest of the original, so that no two outputs get the same path.
"""

import re
import unicodedata
from datetime import datetime
from hashlib import sha256
from pathlib import PurePosixPath
from typing import NamedTuple

_LONGEST = 200  # bytes of UTF-8; most file systems take 255, and digests are still to come
_LONGEST_ENDING = 20
_DEVICES = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])\s*(?:\..*)?", re.IGNORECASE | re.DOTALL
)
_MARK = re.compile(r"~[0-9a-f]{10}(?:\.[^.]*)?$")
# Control and format characters, lone surrogates, line ends: unseen, they would let one name look like another.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_ENDINGS = {
    "application/json": ".json",
    "application/pdf": ".pdf",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/xml": ".xml",
    "application/zip": ".zip",
    "text/csv": ".csv",
    "text/plain": ".txt",
    "text/xml": ".xml",
}


class Place(NamedTuple):
    """What a path is made of. `position` is null for the job's publishLink, which has no name of its own."""

    source: str
    account: str | None
    created: datetime | None
    job_id: str
    position: int | None
    name: str


def path(place: Place, content_type: str = "") -> str:
    """The path of an output below the folder that was asked for, its pieces parted by slashes."""
    month = "undated" if place.created is None else f"{place.created:%Y-%m}"
    folders = [_folder(place.source), _plain(place.account or "no-account"), month, _folder(place.job_id)]
    if place.position is None:
        leaf = f"publish-{_plain(place.name)}{_ENDINGS.get(content_type, '')}"
    else:
        leaf = f"{place.position}-{_plain(place.name)}"
    return "/".join([*folders, leaf])


def beside(path: str, digest: str) -> str:
    """Another path in the same folder, for content of that digest (hex): what is at the first stays as it is."""
    folder, _, leaf = path.rpartition("/")
    stem, ending = _parted(leaf)
    return f"{folder}/{stem}~{digest[:10]}{ending}"


def _folder(text: str) -> str:
    """A folder for this text alone, also where the file system can't tell A from a."""
    return _plain(text, is_changed=text != text.casefold())


def _plain(text: str, is_changed: bool = False) -> str:
    """The text as a name that is one on any file system; with a digest of it where it had to be changed."""
    name = unicodedata.normalize("NFC", "".join(_fit(character) for character in text))
    name = re.sub(r"^\.+", "_", name.strip()).rstrip(". ")
    if _DEVICES.fullmatch(name):
        name = f"_{name}"
    stem, ending = _parted(name)
    stem = _cut(stem, _LONGEST - len(ending.encode())) or "_"
    name = stem + ending
    if name == text and not is_changed and not _MARK.search(text):
        return name
    return f"{stem}~{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}{ending}"


def _fit(character: str) -> str:
    if character in '<>:"/\\|?*' or unicodedata.category(character) in _UNSEEN:
        return "_"
    return " " if unicodedata.category(character) == "Zs" else character


def _parted(name: str) -> tuple[str, str]:
    """A name without its ending, and that, where it has one that looks like one."""
    ending = PurePosixPath(name).suffix
    if not 1 < len(ending.encode()) <= _LONGEST_ENDING:
        return name, ""
    return name.removesuffix(ending), ending


def _cut(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore").rstrip(". ")
