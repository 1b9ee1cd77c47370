"""Pictures of a page: charts as inline SVG, with drawing elements only and unique ids."""

import re
import xml.etree.ElementTree as ET

from workbench.analysis import Result

_SVG = "http://www.w3.org/2000/svg"
# The elements that Vega draws with. All others are removed, above all those that run or load.
_ELEMENTS = {
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
_ATTRIBUTES = re.compile(
    r"(d|x|y|[xyr]?[12]?|cx|cy|rx|ry|dx|dy|width|height|viewBox|transform|id|offset|gradientUnits"
    r"|fill(-.+)?|stroke(-.+)?|opacity|font(-.+)?|text-anchor|clip-path|clip-rule|stop-.+|display)"
)
_FONT = "font-family"  # the same on every text: moved to the outermost element
_DEFAULTS = {("opacity", "1"), ("transform", "translate(0,0)")}
_REFERENCE = re.compile(r"url\(#([\w-]+)\)")


def picture(result: Result, name: str) -> str:
    """Draw a result as an SVG element that scales with its page.

    Args:
        result: the result to draw.
        name: prefix of the ids: letters, digits and dashes, unique in the page.
    """
    from workbench import charts

    return inline(charts.svg(charts.chart(result)), name)


def inline(svg: str, name: str) -> str:
    """Reduce an SVG document to an element for a page; see `picture`."""
    root = ET.fromstring(svg)  # noqa: S314 (written by our own renderer, without a DTD)
    font = next((e.get(_FONT, "") for e in root.iter() if e.get(_FONT)), "")
    _clean(root, name, font)
    if font:
        root.set(_FONT, font)
    root.set("aria-hidden", "true")  # the figure around it has a label
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode", short_empty_elements=True)


def _clean(element: ET.Element, name: str, font: str) -> None:
    """Prefix ids, and remove unknown attributes, defaults and references out of the picture."""
    redundant = {(_FONT, font), *_DEFAULTS}
    attributes = dict(element.attrib)
    element.attrib.clear()
    for key, value in attributes.items():
        prefixed = _REFERENCE.sub(rf"url(#{name}-\1)", f"{name}-{value}" if key == "id" else value)
        is_foreign = "url(" in value and not _REFERENCE.fullmatch(value)
        if _ATTRIBUTES.fullmatch(key) and not is_foreign and (key, value) not in redundant:
            element.set(key, prefixed)
    for child in list(element):
        if _is_drawn(child):
            _clean(child, name, font)
        else:
            element.remove(child)


def _is_drawn(element: ET.Element) -> bool:
    """Whether an element is of a drawing kind, visible and not empty."""
    if element.tag.removeprefix(f"{{{_SVG}}}") not in _ELEMENTS or element.get("display") == "none":
        return False
    return not (element.tag == f"{{{_SVG}}}path" and element.get("d") in {"", "M0,0h0v0h0Z"})
