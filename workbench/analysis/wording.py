"""Whether words stand in a text, letter case and white space aside."""


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
