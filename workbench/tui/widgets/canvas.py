"""Canvas of terminal cells: braille lines (2 × 4 dots per cell) under text."""

import itertools

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


class Canvas:
    """Text and dots at cells; drawing outside is clipped."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._dots: dict[tuple[int, int], int] = {}
        self._dot_tone: dict[tuple[int, int], str] = {}
        self._text: dict[tuple[int, int], tuple[str, str]] = {}
        self._used: set[int] = set()  # rows that are not empty

    def line(self, x0: float, y0: float, x1: float, y1: float, tone: str) -> None:
        """Draw a straight line between two places given in cells (0.5 is the middle of a cell)."""
        steps = max(1, round(max(abs(x1 - x0) * 2, abs(y1 - y0) * 4)))
        for step in range(steps + 1):
            self._dot(x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps, tone)

    def _dot(self, x: float, y: float, tone: str) -> None:
        column, row = int(x), int(y)
        if 0 <= column < self.width and 0 <= row < self.height:
            place = (column, row)
            bit = _DOTS[min(3, int((y - row) * 4))][min(1, int((x - column) * 2))]
            self._dots[place] = self._dots.get(place, 0) | bit
            self._dot_tone[place] = tone
            self._used.add(row)

    def is_free(self, x: int, y: int, width: int) -> bool:
        """Whether `width` cells from (x, y) lie inside and hold no text yet."""
        inside = x >= 0 and x + width <= self.width and y >= 0 and y < self.height
        return inside and all((x + i, y) not in self._text for i in range(width))

    def dots_under(self, x: int, y: int, width: int) -> int:
        """Count the cells with dots that text there would cover."""
        return sum((x + i, y) in self._dots for i in range(width))

    def write(self, x: int, y: int, text: str, tone: str) -> None:
        """Write text from a cell on; a wide character takes two cells."""
        for character in text:
            size = cell_len(character)
            if x >= 0 and x + size <= self.width and 0 <= y < self.height:
                self._text[x, y] = (character, tone)
                self._used.add(y)
                for i in range(1, size):
                    self._text[x + i, y] = ("", tone)
            x += size

    def strip(self, y: int, ground: Style, tones: dict[str, Style]) -> Strip:
        """Return one row of cells."""
        if y not in self._used:
            return Strip.blank(self.width, ground)
        cells = [self._at(x, y) for x in range(self.width)]
        segments = [
            Segment("".join(text for text, _ in run), ground + tones[tone] if tone else ground)
            for tone, run in itertools.groupby(cells, key=lambda cell: cell[1])
        ]
        return Strip(segments, self.width)

    def _at(self, x: int, y: int) -> tuple[str, str]:
        if (x, y) in self._text:
            return self._text[x, y]
        if (x, y) in self._dots:
            return chr(0x2800 + self._dots[x, y]), self._dot_tone[x, y]
        return " ", ""
