"""Patterns of trials: groups items whose trials are alike.

Of many items with a few trials each only some hundred patterns differ.
"""

import numpy as np

from workbench.analysis.stats.arrays import Ints

_BITS = 36  # of a random number: sums of up to 100,000 of them are exact in float64


def alike(at: Ints, kind: Ints, n_rows: int) -> tuple[Ints, Ints]:
    """Find the items that have the same kinds of things equally often.

    Every kind has two random numbers; items with equal sums of both are treated as alike. Among a
    million different items the probability of a collision is 10⁻¹⁰.

    Args:
        at: (m,) the item that each thing belongs to, from 0.
        kind: (m,) of each thing, from 0.
        n_rows: how many items.

    Returns:
        (n_rows,) the pattern of each item, from 0; and (n_patterns,) an item of each pattern.
    """
    rng = np.random.default_rng(0)
    numbers = rng.integers(1, 1 << _BITS, (2, int(kind.max(initial=0)) + 1)).astype(float)
    first, second = (np.bincount(at, number[kind], n_rows) for number in numbers)
    _, example, place = np.unique(first + 1j * second, return_index=True, return_inverse=True)
    return np.asarray(place), np.asarray(example)


def kinds(*parts: Ints) -> tuple[Ints, Ints]:
    """Number the combinations of whole numbers from 0 up.

    Returns:
        (m,) the kind of each, and (n_kinds, len(parts)) what it is made of, in rising order.
    """
    widths = [int(part.max(initial=0)) + 1 for part in parts]
    codes = np.zeros(len(parts[0]), np.int64)
    for part, width in zip(parts, widths, strict=True):
        codes *= width
        codes += part
    size = int(np.prod(widths, dtype=float))
    if size > max(len(codes), 1_000_000):
        listed, place = np.unique(codes, return_inverse=True)
    else:
        here = np.zeros(size, bool)
        here[codes] = True
        listed = np.flatnonzero(here)
        place = (np.cumsum(here) - 1)[codes]
    parts_of_kind = []
    rest = listed
    for width in reversed(widths):
        rest, part = np.divmod(rest, width)
        parts_of_kind.append(part)
    return np.asarray(place), np.column_stack(parts_of_kind[::-1])
