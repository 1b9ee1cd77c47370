"""Wrapping of long text into lines of a width, with a fast path for ASCII."""

from rich.cells import cell_len, chop_cells

from workbench.safe import safe


def wrap(text: str, width: int) -> list[str]:
    """Escape control characters and break text into lines of `width` cells, at spaces if any."""
    width = max(8, width)
    lines: list[str] = []
    for line in safe(text, lines=True).split("\n"):
        lines.extend(_wrap_line(line, width))
    while len(lines) > 1 and not lines[-1]:
        lines.pop()
    return lines


def _wrap_line(line: str, width: int) -> list[str]:
    if len(line) <= width and (line.isascii() or cell_len(line) <= width):
        return [line]
    lines = []
    while line:
        head = line[:width] if line.isascii() else chop_cells(line[: width + 1], width)[0]
        if len(head) < len(line) and line[len(head)] != " " and " " in head.strip():
            head = head[: head.rindex(" ") + 1]
        lines.append(head.rstrip())
        line = line[len(head) :].removeprefix(" ")
    return lines
