"""Whether words stand in a text, letter case and white space aside."""

import polars as pl


def plain(text: str | None) -> str:
    """Write a text in lower case and with single spaces; nothing is the empty text."""
    return " ".join((text or "").split()).casefold()


def stands(words: str, text: str) -> bool:
    """Whether words stand in a text as whole words, both as `plain` writes them.

    >>> stands("paris", "in paris."), stands("paris", "parisian")
    (True, False)
    """
    at = text.find(words)
    while at >= 0:
        end = at + len(words)
        before, after = text[at - 1 : at], text[end : end + 1]
        if not (before.isalnum() or after.isalnum() or before == "_" or after == "_"):
            return True
        at = text.find(words, at + 1)
    return False


def standing(words: pl.Series, texts: pl.Series) -> pl.Series:
    """Whether words stand in texts, row by row; null where there are no words or no text.

    Rows repeat each other: every pair is looked at once. A full stop about the words says nothing.
    """
    rows = pl.DataFrame({"words": words, "text": texts})
    pairs = rows.unique()
    found = pl.Series("found", [_held(w, t) for w, t in pairs.iter_rows()], pl.Boolean)
    told = pairs.with_columns(found)
    keys = ["words", "text"]
    return rows.join(told, on=keys, how="left", nulls_equal=True, maintain_order="left")["found"]


def _held(words: str | None, text: str | None) -> bool | None:
    wanted = plain(words).strip(" .")
    if not wanted or text is None:
        return None
    # White space matters only if the words have any.
    return stands(wanted, plain(text) if " " in wanted else text.casefold())
