"""How Sphinx makes the site of these pages: `make site`. Nothing in it is fetched from a network, by builder or reader.

Pages are plain Markdown that reads as well where the repository is hosted: the order of the site is told here alone.
The source folder is the whole repository, so that the changelog, which lies at its top, is a page like the others.
"""

import re
from pathlib import Path

from sphinx.errors import ExtensionError

HOUSE = Path(__file__).parent.parent
NAV = {
    "Start": ["docs/concepts"],
    "In operation": [
        "docs/settings",
        "docs/sources",
        "docs/schedule",
        "docs/fleet",
        "docs/orchestrate",
        "docs/watch",
        "docs/scale",
        "docs/by-hand",
        "docs/commands",
        "docs/completions",
        "docs/upgrading",
    ],
    "Reading the mirror": ["docs/bi", "docs/views", "docs/cookbook"],
    "When in doubt": ["docs/troubleshooting", "docs/correctness"],
    "The project": ["CHANGELOG", "SECURITY", "CONTRIBUTING", "docs/decisions/index"],
}

project = "aims360-etl"
author = "aims360-etl"
version = release = re.findall(r'^__version__ = "(.*)"', (HOUSE / "etl/__init__.py").read_text("utf-8"), re.MULTILINE)[
    0
]
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "docs/decisions/*.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
exclude_patterns = [
    ".*",
    "build",
    "dist",
    "site",
    "etl",
    "migrations",
    "sql",
    "tests",
]  # none has pages: not looked into

myst_heading_anchors = 3  # as where the repository is hosted
myst_linkify_fuzzy_links = False
highlight_language = "none"
smartquotes = False  # what is typed is found

html_theme = "furo"
html_title = f"aims360-etl {version}"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_permalinks_icon = "#"


def _navigation(_app, page, source):  # noqa: ANN001, ANN202 - Sphinx isn't there where types are looked at
    """Puts the order of the pages below the first one, out of sight: the sidebar is made of it."""
    if page == root_doc:
        here = "From nothing to an answer <self>\n"
        for caption, pages in NAV.items():
            listed = here + "".join(f"/{name}\n" for name in pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}```\n"
            here = ""
    if page == "docs/decisions/index":
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n0*\n```\n"


def _front_door(app, failure):  # noqa: ANN001, ANN202
    """Whoever opens the folder is led to the first page; and no page fetches anything from elsewhere."""
    if failure is None:
        fetched = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)="(?:https?:)?//[^"]*')
        for written in Path(app.outdir).rglob("*.html"):
            if found := fetched.search(written.read_text(encoding="utf-8")):
                raise ExtensionError(f"{written.name} needs a network: {found[0]}")
        page = f'<!doctype html><meta charset="utf-8"><title>{project}</title>\n'
        door = f'<meta http-equiv="refresh" content="0; url={root_doc}.html"><a href="{root_doc}.html">{project}</a>\n'
        (Path(app.outdir) / "index.html").write_text(page + door, encoding="utf-8")


def setup(app):  # noqa: ANN001, ANN201
    """What Sphinx calls."""
    app.connect("source-read", _navigation)
    app.connect("build-finished", _front_door)
