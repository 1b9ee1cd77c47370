"""Charts as SVG that may stand inside a page: drawings and text only, names that are theirs alone."""

import re
import xml.etree.ElementTree as ET

from workbench.analysis import Result

_SVG = "http://www.w3.org/2000/svg"
# What Vega draws with; anything else, and above all what could run or load, is left out.
_DRAWN = {
    "svg",
    "g",
    "path",
    "rect",
    "line",
    "circle",
    "text",
    "tspan",
    "title",
    "defs",
    "clipPath",
    "linearGradient",
    "radialGradient",
    "stop",
}
_KEPT = re.compile(
    r"(d|x|y|[xyr]?[12]?|cx|cy|rx|ry|dx|dy|width|height|viewBox|transform|id|offset|gradientUnits"
    r"|fill(-.+)?|stroke(-.+)?|opacity|font(-.+)?|text-anchor|clip-path|clip-rule|stop-.+|display)"
)
_FONT = "font-family"  # every text has the same: said once, on the outermost element
_USUAL = {("opacity", "1"), ("transform", "translate(0,0)")}
_OWN = re.compile(r"url\(#([\w-]+)\)")


def picture(result: Result, name: str) -> str:
    """Draw a result as an SVG element that scales with its page.

    Args:
        result: what is drawn.
        name: of letters, digits and dashes, and unlike those of other pictures of the page: it
            marks the ids.
    """
    from workbench import charts

    return inline(charts.svg(charts.chart(result)), name)


def inline(svg: str, name: str) -> str:
    """Clean an SVG document to an element for a page; see `picture`."""
    root = ET.fromstring(svg)  # noqa: S314 (written by our own renderer, without a DTD)
    font = next((e.get(_FONT, "") for e in root.iter() if e.get(_FONT)), "")
    _clean(root, name, font)
    if font:
        root.set(_FONT, font)
    root.set("aria-hidden", "true")  # the figure around it says what it shows
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode", short_empty_elements=True)


def _clean(element: ET.Element, name: str, font: str) -> None:
    given = dict(element.attrib)
    element.attrib.clear()
    for key, value in given.items():
        own = _OWN.sub(rf"url(#{name}-\1)", f"{name}-{value}" if key == "id" else value)
        is_foreign = "url(" in value and not _OWN.fullmatch(value)
        if _KEPT.fullmatch(key) and not is_foreign and (key, value) not in {(_FONT, font), *_USUAL}:
            element.set(key, own)
    for child in list(element):
        if _is_drawn(child):
            _clean(child, name, font)
        else:
            element.remove(child)


def _is_drawn(element: ET.Element) -> bool:
    """Whether an element draws, and draws anything."""
    if element.tag.removeprefix(f"{{{_SVG}}}") not in _DRAWN or element.get("display") == "none":
        return False
    return not (element.tag == f"{{{_SVG}}}path" and element.get("d") in {"", "M0,0h0v0h0Z"})
