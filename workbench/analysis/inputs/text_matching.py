"""Text matching of words, ignoring letter case and white space."""

import polars as pl


def plain(text: str | None) -> str:
    """Write a text in lower case and with single spaces; nothing is the empty text."""
    return " ".join((text or "").split()).casefold()


def contains_words(words: str, text: str) -> bool:
    """Whether words stand in a text as whole words, both as `plain` writes them.

    >>> contains_words("paris", "in paris."), contains_words("paris", "parisian")
    (True, False)
    """
    at = text.find(words)
    while at >= 0:
        end = at + len(words)
        before = text[at - 1 : at]
        after = text[end : end + 1]
        if not (before.isalnum() or after.isalnum() or before == "_" or after == "_"):
            return True
        at = text.find(words, at + 1)
    return False


def contain_words(words: pl.Series, texts: pl.Series) -> pl.Series:
    """Whether words stand in texts, row by row; null where there are no words or no text.

    Rows repeat each other: every pair is looked at once. A full stop about the words says nothing.
    """
    rows = pl.DataFrame({"words": words, "text": texts})
    pairs = rows.unique()
    matches = pl.Series("matches", [_held(w, t) for w, t in pairs.iter_rows()], pl.Boolean)
    matched = pairs.with_columns(matches)
    keys = ["words", "text"]
    return rows.join(matched, on=keys, how="left", nulls_equal=True, maintain_order="left")[
        "matches"
    ]


def _held(words: str | None, text: str | None) -> bool | None:
    wanted = plain(words).strip(" .")
    if not wanted or text is None:
        return None
    # White space matters only if the words have any.
    return contains_words(wanted, plain(text) if " " in wanted else text.casefold())
