"""Charts to files, offline: vector, picture, page or specification."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import AnalysisError

if TYPE_CHECKING:
    import altair as alt

SUFFIXES = (".svg", ".png", ".html", ".json")


def save(chart: "alt.TopLevelMixin", path: str | Path) -> Path:
    """Write a chart; the suffix says how. A page holds everything that it needs inside.

    Raises:
        AnalysisError: a suffix that is not one of `SUFFIXES`, or a file that cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise AnalysisError(f"cannot draw to {target.name!r}; end it in {', '.join(SUFFIXES)}")
    content = _render(chart.to_dict(), suffix)
    try:
        target.write_bytes(content)
    except OSError as error:
        raise AnalysisError(f"cannot write {target}: {error.strerror}") from error
    return target


def _render(specification: dict[str, Any], suffix: str) -> bytes:
    if suffix == ".json":
        return json.dumps(specification, indent=1, ensure_ascii=False).encode()
    import vl_convert

    match suffix:
        case ".svg":
            return vl_convert.vegalite_to_svg(specification).encode()
        case ".png":
            return bytes(vl_convert.vegalite_to_png(specification, scale=2))
    # Text of a trace may hold "</script>": no "<" is left in what the page's script embeds.
    text = json.dumps(specification).replace("<", "\\u003c")
    return vl_convert.vegalite_to_html(text, bundle=True).encode()
