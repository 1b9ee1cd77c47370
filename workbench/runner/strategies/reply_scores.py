"""Scores of replies: marks that a model gives, and the likelihood of their tokens."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from workbench.datasets import TaskItem
from workbench.errors import ProviderRejected
from workbench.records import Call
from workbench.runner.attempts.grading import grade
from workbench.runner.attempts.session import Session
from workbench.runner.strategies.parallel import together

_SCORE = re.compile(r"(?i)\bscore[*_\s]{0,4}[:=][*_\s]{0,8}(\d{1,2}(?:\.\d{1,4})?)(?!\d|\.\d)")
_ASK = (
    "Somebody was told: {prompt}\n\nQuestion:\n{question}\n\nTheir reply:\n{reply}\n\nIs the reply"
    " right? Check it step by step, then write 'Score:' and a number from 0 (surely wrong) to 10"
    " (surely right)."
)


class Mark(NamedTuple):
    """A verifier's score of a reply, 0..1 (None where it cannot be read), and its text."""

    score: float | None = None
    text: str = ""

    @property
    def rank(self) -> float:
        """Sort key among marks; an unknown score is below all."""
        return -1.0 if self.score is None else self.score


async def mark(
    session: Session,
    item: TaskItem,
    texts: Sequence[str],
    *,
    model: str | None = None,
    ask: str = _ASK,
) -> list[Mark]:
    """Have every different text marked once, all at once, at temperature 0, in the role "verifier".

    Args:
        session: whose model marks.
        item: the question.
        texts: the replies; an empty one has no mark and is not asked about.
        model: name of the helper model that marks; None is the configuration's own.
        ask: the request, with {prompt}, {question} and {reply}.
    """
    different = list(dict.fromkeys(text for text in texts if text.strip()))
    replies = await together(
        session.generate(
            [
                {
                    "role": "user",
                    "content": ask.format(
                        prompt=session.task.prompt, question=item.question, reply=text
                    ),
                }
            ],
            role="verifier",
            model=model,
            temperature=0.0,
        )
        for text in different
    )
    marks = {
        text: Mark(read_mark(reply.text), reply.text)
        for text, reply in zip(different, replies, strict=True)
    }
    return [marks.get(text, Mark()) for text in texts]


async def verified(
    session: Session, item: TaskItem, texts: Sequence[str], *, by: str, judge: str
) -> list[Mark]:
    """Mark texts by helper `judge` ("judge"), the item's scorer ("oracle"), or as in `mark`."""
    if by == "oracle":
        graded = [await grade(session, session.task, item, text) for text in texts]
        return [Mark(scores[0].score) for scores in graded]
    return await mark(session, item, texts, model=judge if by == "judge" else None)


def read_mark(text: str) -> float | None:
    """Read the last mark of 0 to 10 as 0..1; None where there is none."""
    matches = _SCORE.findall(text)
    return float(matches[-1]) / 10 if matches and float(matches[-1]) <= 10 else None


def likelihood(call: Call) -> float | None:
    """Return the geometric mean probability of a call's output tokens; None without logprobs."""
    if call.logprob_sum is None or not call.output_tokens:
        return None
    return math.exp(call.logprob_sum / call.output_tokens)


def without_logprobs(strategy: str) -> ProviderRejected:
    """Return the error of a strategy that needs log probabilities and got none."""
    return ProviderRejected(
        f"{strategy} chooses by log probabilities and the replies came without; ask for them in the"
        " provider's own words with extra_body (logprobs = true for a chat), or choose another way",
        kind="no_logprobs",
    )
