"""Votes over several replies: the commonest answer, as the item's scorer reads them."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from workbench.datasets import TaskItem
from workbench.errors import TaskError
from workbench.runner.attempts.session import Session
from workbench.scoring.answers import candidate, last_line, plain


class Vote(NamedTuple):
    """The winning text, and its answer's share of all texts, 0..1; None without any answer."""

    place: int
    share: float | None


def majority(session: Session, item: TaskItem, texts: Sequence[str]) -> Vote:
    """Find the first text with the commonest answer.

    Two ways to write one answer count together as far as the scorer sees them as one. Ties go to
    the answer that came first in `texts`. A text without an answer votes for none and still counts
    in the share; where no text has one, the first that says anything stands. Where the scorer needs
    more than the text (a judge, code to run), the spans that hold the answers are compared.
    """
    answers = [_answer(session, item, text) for text in texts]
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        nonempty = (place for place, text in enumerate(texts) if text.strip())
        return Vote(next(nonempty, 0), None)
    winner, n = max(votes.items(), key=lambda vote: vote[1])  # the first of equals
    return Vote(answers.index(winner), n / len(texts))


def _answer(session: Session, item: TaskItem, text: str) -> str | None:
    try:
        return session.task.score(item, text).answer
    except TaskError:
        span, _ = candidate(text)
        return plain(last_line(span)) or None
