r"""Scorer of mathematics, `math`: LaTeX or plain answers compared by value: \frac{1}{2} is 0.5.

Equal texts are equal at once; whether others mean the same is for math-verify to say (fractions,
roots, sets, intervals, matrices, expressions, units and percent signs), which whoever runs the
scorer gives to it: it takes a process of its own, as algebra may take for ever on a text that is
made for it.
"""

import dataclasses
import importlib.util
import re
from collections.abc import Callable, Sequence

from workbench.errors import MissingExtra
from workbench.records import Score
from workbench.scoring.answers import WINDOW, boxed, last_line, marked
from workbench.scoring.base import number_option
from workbench.scoring.items import TaskItem
from workbench.scoring.words import need_target

# (targets, answer, seconds of computing) → (whether they are the same, why that could not be found
# out)
Same = Callable[[Sequence[str], str, float], tuple[bool, str | None]]
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox|operatorname)\s?\{([^{}]*)\}")
_SPACING = re.compile(r"\\(?:left|right|displaystyle|[,;:! ])|[\s$]")
_LONGEST = 500  # characters of an answer that are compared


def plain(text: str) -> str:
    r"""Normalise LaTeX that has several spellings of one meaning: spaces, \left, \text, \dfrac.

    >>> plain(r"$\left(\dfrac{1}{2}, \text{Even} \right).$")
    '(\\frac{1}{2},even)'
    """
    text = _SPACING.sub("", _TEXT.sub(r"\1", text)).rstrip(".")
    return text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").casefold()


def read(text: str) -> str | None:
    r"""Find the answer: in the last \boxed{…}, after the last "Answer:", else in the last line."""
    found, mark = boxed(text), marked(text)
    if found is not None and (mark is None or found.end > mark.end):
        answer = found.text
    elif mark is not None:
        answer = mark.text
    else:
        answer = last_line(text[-WINDOW:])
    return answer.strip().strip("*").rstrip(".").strip()[:_LONGEST] or None


@dataclasses.dataclass(frozen=True, slots=True)
class Mathematics:
    """Compares mathematics; metadata: `timeout_s` (5) of computing, further `accepted` targets."""

    name: str = "math"

    @property
    def identity(self) -> None:
        """Ships with the workbench."""
        return

    def check(self, item: TaskItem) -> None:
        """Refuse an item without a target, and a machine without the library."""
        if importlib.util.find_spec("math_verify") is None:
            raise MissingExtra("math-verify", "math")
        need_target(item)
        self._limit_s(item)

    def score(self, item: TaskItem, text: str, same: Same) -> Score:
        """Score a text; what could not be compared has no score, and the explanation says why."""
        answer = read(text)
        why = None
        if answer is None:
            passed, why = False, "no answer found in the text"
        elif plain(answer) in map(plain, item.targets):
            passed = True
        else:
            passed, unknown = same(item.targets, answer, self._limit_s(item))
            if unknown:
                return Score(scorer=self.name, answer=answer, explanation=unknown)
        return Score(
            scorer=self.name,
            score=float(passed),
            passed=passed,
            value="C" if passed else "I",
            answer=answer,
            explanation=why,
        )

    @staticmethod
    def _limit_s(item: TaskItem) -> float:
        return number_option(item, "timeout_s", 5.0, least=0.1, most=600.0)
