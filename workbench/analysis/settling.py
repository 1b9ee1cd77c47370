"""What it would take to decide a question that an interval leaves open, in words."""

import math

_FAR = 1_000_000  # items beyond which nobody asks


def items(n: int, value: float, low: float, high: float) -> float:
    """Items at which an interval would just leave 0 out, if the value stays: n ((high − low) / 2 |value|)².

    Its width falls with the root of the number of items. Infinite where the value is 0.
    """
    return n * ((high - low) / 2 / abs(value)) ** 2 if value else math.inf


def said(
    what: str, n: int, ends: tuple[float | None, float | None, float | None],
    usd_per_item: float | None = None,
) -> list[str]:  # fmt: skip
    """Say of a difference in accuracy that it is undecided, and how many items would settle it.

    Args:
        what: what differs, as the reader knows it.
        n: the items that there are.
        ends: the difference and its interval; nothing is said where one is unknown, or 0 is outside.
        usd_per_item: what another item costs, all that is compared included.
    """
    value, low, high = ends
    if value is None or low is None or high is None or not low < high or not low <= 0 <= high:
        return []
    said_ = (
        f"{what}: {100 * value:+.1f} points is undecided ({100 * low:+.1f} to {100 * high:+.1f})"
    )
    more = items(n, value, low, high) - n
    if not more < _FAR:
        return [f"{said_}, and no number of items within reach would settle it"]
    price = ""
    if usd_per_item is not None and not math.isnan(usd_per_item):
        price = f", for about ${more * usd_per_item:.3g}"
    return [
        f"{said_}; about {max(math.ceil(more), 1):,} more items would settle it if it stays{price}"
    ]
