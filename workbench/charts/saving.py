"""Saving of charts to files, offline: SVG, PNG, HTML or JSON."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import private
from workbench.errors import AnalysisError

if TYPE_CHECKING:
    import altair as alt

SUFFIXES = (".svg", ".png", ".html", ".json")
_LESS = "\ue0fe\ue0ff\ue0fe"  # private use characters, which no text contains


def save(chart: "alt.TopLevelMixin", path: str | Path) -> Path:
    """Write a chart in the format of the suffix; a page needs no other files.

    Raises:
        AnalysisError: a suffix that is not one of `SUFFIXES`, or a file that cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise AnalysisError(f"cannot draw to {target.name!r}; end it in {', '.join(SUFFIXES)}")
    content = _render(chart.to_dict(), suffix)
    try:
        private.write_bytes(target, content)
    except OSError as error:
        raise AnalysisError(f"cannot write {target}: {error.strerror}") from error
    return target


def svg(chart: "alt.TopLevelMixin") -> str:
    """Draw a chart as an SVG document."""
    # Tests hold every chart to the schema; here that would take as long as the drawing.
    return svg_of(chart.to_dict(validate=False))


def svg_of(specification: dict[str, Any]) -> str:
    """Draw a specification of Vega-Lite as an SVG document."""
    return _render(specification, ".svg").decode()


def _render(specification: dict[str, Any], suffix: str) -> bytes:
    if suffix == ".json":
        return json.dumps(specification, indent=1, ensure_ascii=False).encode()
    import vl_convert

    match suffix:
        case ".svg":
            return vl_convert.vegalite_to_svg(specification).encode()
        case ".png":
            return bytes(vl_convert.vegalite_to_png(specification, scale=2))
    # Text of a trace may hold "</script>", and vl-convert writes it as it is: a stand-in takes the
    # place of every "<" on the way through, and its escape the stand-in's place in the page.
    text = json.dumps(specification, ensure_ascii=False).replace("<", _LESS)
    return vl_convert.vegalite_to_html(text, bundle=True).replace(_LESS, "\\u003c").encode()
