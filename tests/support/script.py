"""A model that answers with texts in turn, and one strategy run with it on one item."""

from typing import Any

from workbench import datasets
from workbench.records import Call
from workbench.runner import strategies
from workbench.runner.attempts.session import Line, Outcome, Reply, Request, Session
from workbench.runner.providers import chat_templates
from workbench.runner.providers.protocol import BegunTurns

ITEM = datasets.TaskItem(task="t", item="1", input="What is 1 + 1?", target="2", scorer="numeric")


EXAMPLES = (
    datasets.Example(input="What is 1 + 2?", target="3", thought="1 + 2 = 3."),
    datasets.Example(input="Pick.", target="B", choices=("x", "y")),
)


def task_set() -> datasets.TaskSet:
    """Make a set of one item and two examples."""
    from workbench import scoring
    from workbench.records import Task

    return datasets.TaskSet(Task(task="t"), [ITEM], scoring.get("numeric"), "Solve it.", EXAMPLES)


class Script:
    """Answers with texts in turn and keeps what was asked; words count as tokens."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = list(texts), []

    async def ask(self, request: Request, role: str) -> tuple[Reply, None]:
        """Give the next text."""
        self.asked.append(request)
        text = self.texts.pop(0)
        call = Call(role=role, output_tokens=len(text.split()) + 1, stop_reason="stop")
        return Reply(text=text, stop_reason="stop", call=call), None

    async def count(self, text: str) -> int:
        """Count words."""
        return len(text.split())

    def session(
        self, endpoint: str = "chat", begun_turns: BegunTurns | None = None, **sampling: Any
    ) -> Session:
        """Bind a session to the script."""
        render = chat_templates.get("question_answer") if endpoint == "completions" else None
        settings = {"max_tokens": 500, **sampling}
        helpers = {
            name: Line(f"{name}-model", self.ask, self.count, "chat", settings)
            for name in ("small", "large", "judge")
        }
        return Session(
            task=task_set(),
            model="m",
            ask=self.ask,
            count=self.count,
            endpoint=endpoint,
            sampling=settings,
            render=render,
            helpers=helpers,
            begun_turns=begun_turns,
        )


async def run(
    name: str,
    *texts: str,
    endpoint: str = "chat",
    begun_turns: BegunTurns | None = None,
    **params: Any,
):
    """Run a strategy on the item; returns outcome, session and script."""
    script = Script(*texts)
    session = script.session(endpoint, begun_turns)
    outcome: Outcome = await strategies.get(name, **params).run(session, ITEM)
    return outcome, session, script
