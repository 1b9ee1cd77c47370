"""Labels of points, placed so that they overlap neither each other nor a point."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

CHARACTER, LINE = 5.9, 13.0  # size of a label's letter at 11 px


class Spot(NamedTuple):
    """Point to be labelled, in pixels from the top left."""

    name: str
    x: float
    y: float
    first: bool


class Place(NamedTuple):
    """Position of a label: alignment and offset from its point in pixels."""

    align: Literal["left", "right", "center"]
    dx: int
    dy: int


_AROUND = (
    Place("right", -9, -9),
    Place("left", 9, 11),
    Place("left", 9, -9),
    Place("right", -9, 11),
    Place("left", 11, 0),
    Place("right", -11, 0),
    Place("center", 0, -16),
    Place("center", 0, 17),
    Place("left", 6, -22),
    Place("right", -6, 24),
)
_Box = tuple[float, float, float, float]


def place(
    points: Sequence[tuple[str, float, float, bool]],
    width: float,
    height: float,
    lines: Sequence[_Box] = (),
) -> dict[str, Place]:
    """Label as many points as fit, greedily, those marked `first` before the others.

    Args:
        points: (name, x, y, first) in pixels from the top left.
        width: of the drawing; a label may stick out a little.
        height: of the drawing.
        lines: (left, top, right, bottom) of strokes that labels should keep clear of.
    """
    spots = [Spot(*p) for p in points]
    dots: list[_Box] = [(s.x - 5, s.y - 5, s.x + 5, s.y + 5) for s in spots]
    placed: dict[str, Place] = {}
    taken = [*dots, *lines]
    for spot in sorted(spots, key=lambda s: (not s.first, s.x)):
        for option in _AROUND:
            box = _box(spot, option)
            inside = box[0] > -4 and box[2] < width + 60 and box[1] > -4 and box[3] < height
            if inside and not any(_overlap(box, other) for other in taken):
                placed[spot.name] = option
                taken.append(box)
                break
    return placed


def _box(spot: Spot, option: Place) -> _Box:
    wide = CHARACTER * len(spot.name)
    shift = {"left": 0.0, "right": wide, "center": wide / 2}[option.align]
    left = spot.x + option.dx - shift
    top = spot.y + option.dy - LINE / 2
    return left, top, left + wide, top + LINE


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
