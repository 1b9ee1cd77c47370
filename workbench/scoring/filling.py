"""Filling of templates, "{context}, {question}": names are looked up, nothing is evaluated."""

import re
from collections.abc import Callable

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def blanks(template: str) -> list[str]:
    """List the names in braces, in order; ValueError for an unpaired brace ("{{" writes one)."""
    names = []
    for piece in _PIECE.finditer(template):
        if piece[0] in {"{", "}"} or piece[1] == "":
            raise ValueError(
                f"a brace stands alone at character {piece.start() + 1}; write {{{{ or }}}}"
            )
        if piece[1] is not None:
            names.append(piece[1])
    return names


def fill(template: str, value: Callable[[str], str]) -> str:
    """Put the value of each name into its blank; what the values hold is never filled again."""

    def one(piece: re.Match[str]) -> str:
        return value(piece[1]) if piece[1] is not None else piece[0][0]

    return _PIECE.sub(one, template)
