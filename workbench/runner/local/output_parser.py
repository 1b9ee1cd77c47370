"""The parser of a sequence's output: thinking, visible text and stop texts, incrementally."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

Kind = Literal["text", "thinking"]
Tags = tuple[str, str]
_WINDOW = 5  # tokens of the prompt that decide how the first new one is written
_BROKEN = 12  # tokens after which a character that never completes is let go


class Piece(NamedTuple):
    """Some text that is settled."""

    kind: Kind
    text: str


class Detokenizer:
    """Decodes tokens to text one by one; an incomplete character waits for the next token."""

    def __init__(self, tokenizer: Any, special: Mapping[int, str], prompt: Sequence[int]) -> None:
        """Begin after a prompt; `special` says what is written for special tokens ("" for most)."""
        self._tokenizer, self._special = tokenizer, special
        self._window = [t for t in prompt[-_WINDOW:] if t not in special]
        self._shown = self._decode(self._window)
        self._new: list[int] = []

    def take(self, token: int) -> str:
        """Return the text that a token completes."""
        if token in self._special:
            return self.flush() + self._special[token]
        self._new.append(token)
        text = self._decode(self._window + self._new)
        if text.endswith("\ufffd") and len(self._new) < _BROKEN:
            return ""
        return self._settle(text)

    def flush(self) -> str:
        """Return what waits, broken characters replaced; what follows is written afresh."""
        text = self._settle(self._decode(self._window + self._new)) if self._new else ""
        self._window, self._shown = [], ""
        return text

    def _settle(self, text: str) -> str:
        piece = text[len(self._shown) :]
        self._window, self._new = self._new, []
        self._shown = self._decode(self._window)
        return piece

    def _decode(self, tokens: list[int]) -> str:
        if not tokens:
            return ""
        text: str = self._tokenizer.decode(
            tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text


class Output:
    """The text of one sequence, thinking apart.

    Where the caller began the thinking itself (its chat ends within an opening tag), all text stays
    visible with its tags, for the caller to take apart; it is counted all the same. Texts that end
    the answer are looked for outside of thinking only.

    Attributes:
        length: characters received so far.
        is_thinking: whether the text so far ends within thinking.
        has_tags: whether thinking is looked for.
        stopped: whether a stop text was found; nothing after it is shown.
    """

    def __init__(
        self, tags: Tags | None, stops: Sequence[str], *, thinking: bool, keep_tags: bool
    ) -> None:
        """Begin; `tags` of None looks for no thinking."""
        self._tags, self._stops, self._keep = tags, tuple(stops), keep_tags
        self.has_tags = tags is not None
        self.length = 0
        self.is_thinking = thinking
        self.stopped = False
        self._spans: list[list[float]] = [[0, float("inf")]] if thinking else []
        self._held = ""  # may be the beginning of a tag or of a stop text
        self._trim = thinking  # spaces between the closing tag and the answer are not shown
        self._settled: list[Piece] = []

    def take(self, text: str) -> list[Piece]:
        """Take some text; returns what is settled now."""
        self.length += len(text)
        self._held += text
        while self._held and not self.stopped and self._advance():
            pass
        return self._pop()

    def end(self) -> list[Piece]:
        """Return what was held back: nothing follows."""
        if not self.stopped and not (self._trim and self._held.isspace()):
            self._emit(self._held)
        self._held = ""
        return self._pop()

    def spans_over(self, ends: Sequence[int]) -> int:
        """Count the tokens that lie in thinking, tags included.

        Args:
            ends: characters received after each token.
        """
        count, begin = 0, 0
        for end in ends:
            last = max(end, begin + 1)
            count += any(begin < stop and last > start for start, stop in self._spans)
            begin = end
        return count

    def _advance(self) -> bool:
        """Settle up to the next mark; returns whether there may be more to settle."""
        if self._trim and not self.is_thinking:
            self._held = self._held.lstrip()  # what is not shown is no stop text either
        opening, closing = self._tags or ("", "")
        marks = (closing,) if self.is_thinking else (*self._stops, *([opening] if opening else []))
        place, mark = _first(self._held, marks)
        if mark is None:
            keep = _may_begin(self._held, marks)
            self._emit(self._held[: len(self._held) - keep])
            self._held = self._held[len(self._held) - keep :]
            return False
        self._emit(self._held[:place])
        at = self.length - len(self._held) + place
        self._held = self._held[place + len(mark) :]
        if self.is_thinking:
            self._spans[-1][1] = at + len(mark)
            self._mark(mark)
            self.is_thinking, self._trim = False, not self._keep
        elif mark == opening and mark not in self._stops:
            self._spans.append([at, float("inf")])
            self._mark(mark)
            self.is_thinking = True
        else:
            self.stopped, self._held = True, ""
        return True

    def _mark(self, tag: str) -> None:
        if self._keep:
            self._emit(tag)

    def _emit(self, text: str) -> None:
        kind: Kind = "thinking" if self.is_thinking and not self._keep else "text"
        if text:
            self._trim = self._trim and kind == "thinking"
            self._settled.append(Piece(kind, text))

    def _pop(self) -> list[Piece]:
        settled, self._settled = self._settled, []
        return settled


def _first(text: str, marks: Sequence[str]) -> tuple[int, str | None]:
    """Find the mark that comes first; the longest of those at one place."""
    matches = [(text.find(m), -len(m), m) for m in marks if m and m in text]
    return (min(matches)[0], min(matches)[2]) if matches else (-1, None)


def _may_begin(text: str, marks: Sequence[str]) -> int:
    """Count the characters at the end that may be the beginning of a mark."""
    longest = max((len(m) for m in marks), default=0)
    for size in range(min(longest - 1, len(text)), 0, -1):
        if any(m.startswith(text[-size:]) for m in marks):
            return size
    return 0
