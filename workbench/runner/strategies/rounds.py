"""Rounds of a refinement, scored for the trace's metadata; the model never sees the scores."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from workbench.datasets import TaskItem
from workbench.errors import TaskError
from workbench.records import Call
from workbench.runner.attempts.session import Outcome, Reply, Session
from workbench.runner.strategies.few_shot import Turn

Revise = Callable[[Reply], Awaitable[Reply | None]]


async def refined(
    session: Session, item: TaskItem, chat: list[Turn], *, rounds: int, revise: Revise
) -> Outcome:
    """Answer, then improve the answer `rounds` times; an empty revision ends it before."""
    answer = await session.generate(chat)
    noted = Rounds(session, item)
    noted.add(answer.text)
    for _ in range(rounds):
        if not answer.text.strip():
            break
        revised = await revise(answer)
        if revised is None or not revised.text.strip():
            break
        answer = revised
        noted.add(answer.text)
    noted.close()
    return Outcome(answer.text, stop_reason=answer.stop_reason, metadata=noted.metadata)


class Rounds:
    """The answers of an attempt, round by round, each scored like the last one.

    A round has: `answer`, as the scorer reads it; `passed`; `input_tokens` and `output_tokens` of
    the calls made for it, all roles, null where a call does not report them. Where the scorer needs
    more than the text (a judge, code to run), answer and passed are null: a round is not worth
    another model's time.
    """

    def __init__(self, session: Session, item: TaskItem) -> None:
        """Start before the first answer is added; the session's calls so far count for it."""
        self._session, self._item = session, item
        self._rounds: list[dict[str, Any]] = []
        self._counted = 0

    def add(self, text: str) -> None:
        """Note the answer that stands after a round."""
        try:
            score = self._session.task.score(self._item, text)
        except TaskError:
            answer = passed = None
        else:
            answer, passed = score.answer, score.passed
        self._rounds.append({"answer": answer, "passed": passed, **self._tokens()})

    def close(self) -> None:
        """Assign calls without an answer (a last critique) to the last round."""
        if self._counted == len(self._session.calls):
            return
        last, more = self._rounds[-1], self._tokens()
        for name, n in more.items():
            last[name] = None if last[name] is None or n is None else last[name] + n

    @property
    def metadata(self) -> dict[str, Any]:
        """The rounds, as the trace keeps them."""
        return {"rounds": self._rounds}

    def _tokens(self) -> dict[str, int | None]:
        """Count the calls since the last round."""
        calls = self._session.calls[self._counted :]
        self._counted = len(self._session.calls)
        return {
            "input_tokens": _sum(calls, "input_tokens"),
            "output_tokens": _sum(calls, "output_tokens"),
        }


def _sum(calls: Sequence[Call], name: str) -> int | None:
    """Add up a count; null as soon as one call lacks it."""
    counts = [getattr(call, name) for call in calls]
    return None if None in counts else sum(counts)
