"""A chart as SVG for the page: colours are the page's variables, so that one picture serves light, dark and print."""

from typing import Any
from xml.etree import ElementTree as ET

import altair as alt
import vl_convert

WIDE, NARROW = 820, 340
"""Widths in pixels: a screen or a sheet of paper, and a phone. Text has the same size on both."""

_SVG = "{http://www.w3.org/2000/svg}"
_SAYS = "aria-label"
_DROPPED = ("aria-roledescription", "role", "aria-hidden", _SAYS, "font-family", "pointer-events")

_AXIS = {
    "domain": False,
    "ticks": False,
    "labelColor": "var(--soft)",
    "labelFontSize": 12,
    "labelPadding": 6,
    "gridColor": "var(--line)",
}
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "padding": {"left": 0, "right": 0, "top": 4, "bottom": 2},
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": _AXIS,
    "axisX": {"grid": False},
    "text": {"color": "var(--ink)", "fontSize": 12},
}


def svg(chart: alt.TopLevelMixin, title: str, kind: str) -> str:
    """The picture: named for readers who can't see it, its values as hover texts."""
    spec = {**chart.to_dict(), "config": CONFIG}
    # What is parsed is our own drawing, made in the line before.
    root = ET.fromstring(vl_convert.vegalite_to_svg(spec))  # noqa: S314
    width, height = root.attrib.pop("width"), root.attrib.pop("height")
    root.attrib.pop("version", None)
    for element in root.iter():
        _simplify(element)
    root.attrib.update({"class": kind, "role": "img", _SAYS: title, "viewBox": f"0 0 {width} {height}"})
    return _text(root)


def _simplify(element: ET.Element) -> None:
    """The label of a mark becomes its hover text; what else is there for readers of charts with scripts goes."""
    said = element.get(_SAYS)
    if said and element.get("aria-roledescription", "").endswith("mark") and element.tag != f"{_SVG}g":
        title = ET.Element(f"{_SVG}title")
        title.text = said
        element.insert(0, title)
    for name in _DROPPED:
        element.attrib.pop(name, None)


def _text(root: ET.Element) -> str:
    """As HTML has it: without namespaces, which it knows by itself."""
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)
