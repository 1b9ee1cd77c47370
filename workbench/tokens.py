"""Token counts of a call: which counts are parts of others, and a check for contradictions.

Counts are inclusive: input includes cached tokens and those of every medium, output includes
thinking.
"""

from collections.abc import Mapping

MEDIA = ("audio", "image", "video")
CACHED = ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
# a count, and parts of it that do not overlap
PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("input_tokens", CACHED),
    ("input_tokens", tuple(f"input_{kind}_tokens" for kind in MEDIA)),
    ("cache_read_tokens", tuple(f"cache_read_{kind}_tokens" for kind in MEDIA)),
    *((f"input_{kind}_tokens", (f"cache_read_{kind}_tokens",)) for kind in MEDIA),
    ("output_tokens", ("reasoning_tokens", *(f"output_{kind}_tokens" for kind in MEDIA))),
)
COUNTS = tuple(dict.fromkeys(name for whole, parts in PARTS for name in (whole, *parts)))


def is_media(name: str) -> bool:
    """Whether a count is of audio, images or video."""
    return any(f"_{kind}_" in name for kind in MEDIA)


def contradiction(counts: Mapping[str, int | None]) -> str:
    """Describe the first contradiction between counts; "" if there is none.

    Args:
        counts: by name as in `COUNTS` and the `calls` table; null and absent are unknown.
    """
    known = {name: n for name in COUNTS if (n := counts.get(name)) is not None}
    for name, n in known.items():
        if n < 0:
            return f"{name} is {n}"
    for whole, parts in PARTS:
        if whole in known and sum(known.get(part, 0) for part in parts) > known[whole]:
            named = " + ".join(f"{part} {known[part]}" for part in parts if known.get(part))
            return f"{named} is more than {whole} {known[whole]}"
    return ""
