"""A chart as SVG for the page: colours are the page's variables, so that one picture serves light, dark and print."""

from collections.abc import Iterator
from itertools import count
from typing import Any
from xml.etree import ElementTree as ET

import altair as alt
import vl_convert

WIDE, NARROW = 820, 340
"""Widths in pixels: a screen or a sheet of paper, and a phone. Text has the same size on both."""

_SVG = "{http://www.w3.org/2000/svg}"
_SAYS = "aria-label"
_DROPPED = ("aria-roledescription", "role", "aria-hidden", _SAYS, "font-family", "pointer-events")
_REFERS = ("clip-path", "fill", "stroke")

_AXIS = {
    "domain": False,
    "ticks": False,
    "labelColor": "var(--soft)",
    "labelFontSize": 12,
    "labelPadding": 6,
    "titleColor": "var(--soft)",
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "gridColor": "var(--line)",
}
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": _AXIS,
    "axisX": {"grid": False},
    # The unit stands above the axis, level: a turned title costs width that a phone doesn't have.
    "axisY": {"titleAngle": 0, "titleAlign": "left", "titleAnchor": "end", "titleX": 0, "titleY": -12},
    "text": {"color": "var(--ink)", "fontSize": 12},
}


def svg(chart: alt.TopLevelMixin, title: str, kind: str, names: Iterator[int]) -> str:
    """The picture: named for readers who can't see it, values as hover texts, ids that no other picture has."""
    spec = {**chart.to_dict(), "config": CONFIG}
    # What is parsed is our own drawing, made in the line before.
    root = ET.fromstring(vl_convert.vegalite_to_svg(spec))  # noqa: S314
    width, height = root.attrib.pop("width"), root.attrib.pop("height")
    root.attrib.pop("version", None)
    for element in root.iter():
        _simplify(element)
    _rename(root, f"c{next(names)}")
    root.attrib.update({"class": kind, "role": "img", _SAYS: title, "viewBox": f"0 0 {width} {height}"})
    return _text(root)


def names() -> Iterator[int]:
    """Numbers for the pictures of one page."""
    return count(1)


def _simplify(element: ET.Element) -> None:
    """The label of a mark becomes its hover text; what else is there for readers of charts with scripts goes."""
    said = element.get(_SAYS)
    if said and element.get("aria-roledescription", "").endswith("mark") and element.tag != f"{_SVG}g":
        title = ET.Element(f"{_SVG}title")
        title.text = said
        element.insert(0, title)
    for name in _DROPPED:
        element.attrib.pop(name, None)


def _rename(root: ET.Element, prefix: str) -> None:
    for element in root.iter():
        if name := element.get("id"):
            element.set("id", f"{prefix}-{name}")
        for attribute in _REFERS:
            value = element.get(attribute, "")
            if value.startswith("url(#"):
                element.set(attribute, value.replace("url(#", f"url(#{prefix}-"))


def _text(root: ET.Element) -> str:
    """As HTML has it: without namespaces, which it knows by itself."""
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)
