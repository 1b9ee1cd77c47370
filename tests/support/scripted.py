"""A model in this process for tests of strategies: it says what a script says, at once or in any
order."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from workbench import datasets, scoring
from workbench.errors import ProviderError, ProviderUnavailable
from workbench.records import Call, Task
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
    return datasets.TaskSet(Task(task="t"), [ITEM], scoring.get("numeric"), "Solve it.", EXAMPLES)


HELPERS = ("small", "large", "judge")
Say = Callable[[Request, str], str]


class Asked(NamedTuple):
    """What was asked of whom."""

    role: str
    request: Request

    @property
    def last(self) -> str:
        """The last message."""
        return self.request.messages[-1]["content"] if self.request.messages else ""


class Scripted:
    """Says the texts of a role in the order in which they are asked, or what `say` gives.

    Words, and one for the end, are output tokens. `delays` (an rng) makes replies arrive in any
    order. `fails` are the numbers of calls, from 0, that the server does not answer.
    """

    def __init__(
        self,
        texts: Mapping[str, Sequence[str]] | Say,
        *,
        delays: random.Random | None = None,
        fails: Sequence[int] = (),
        logprobs: Sequence[float | None] = (),
        counts: bool = True,
    ) -> None:
        self.say = texts if callable(texts) else None
        self.left = {} if callable(texts) else {role: list(said) for role, said in texts.items()}
        self.delays, self.fails, self.counts = delays, fails, counts
        self.logprobs = list(logprobs)
        self.asked: list[Asked] = []
        self.in_flight = self.most_in_flight = 0

    async def ask(self, request: Request, role: str) -> tuple[Reply, ProviderError | None]:
        """Answer one call."""
        number = len(self.asked)
        self.asked.append(Asked(role, request))
        text = self.say(request, role) if self.say else self.left[role].pop(0)
        text = stopped(text, request.sampling.get("stop") or ())
        logprob = self.logprobs.pop(0) if self.logprobs else None
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self.delays.random() * 0.004 if self.delays else 0)
        self.in_flight -= 1
        if number in self.fails:
            error = ProviderUnavailable(f"call {number} failed", kind="http_503")
            return Reply(call=Call(model=request.model, error_type="http_503")), error
        tokens = min(len(text.split()) + 1, request.sampling.get("max_tokens") or 1_000_000)
        text = " ".join(text.split(" ")[:tokens])
        cut = tokens == request.sampling.get("max_tokens")
        stop_reason = "max_tokens" if cut else "stop"
        call = Call(
            model=request.model,
            output_tokens=tokens if self.counts else None,
            stop_reason=stop_reason,
            logprob_sum=logprob,
        )
        return Reply(text=text, stop_reason=stop_reason, call=call), None

    async def count(self, text: str) -> int:
        """Count words."""
        return len(text.split())

    def session(
        self,
        *,
        endpoint: str = "chat",
        task: datasets.TaskSet | None = None,
        begun_turns: BegunTurns | None = None,
        **sampling: Any,
    ) -> Session:
        """Bind a session to the model, and to helpers that it plays too."""
        render = chat_templates.get("question_answer") if endpoint == "completions" else None
        helpers = {n: Line(f"{n}-model", self.ask, self.count, "chat", sampling) for n in HELPERS}
        return Session(
            task=task or task_set(),
            model="m",
            ask=self.ask,
            count=self.count,
            endpoint=endpoint,
            sampling=sampling,
            render=render,
            helpers=helpers,
            begun_turns=begun_turns,
            rng=random.Random(7),
        )

    @property
    def requests(self) -> list[Request]:
        """What was asked, in order."""
        return [a.request for a in self.asked]

    @property
    def roles(self) -> str:
        """The first letters of the roles, in the order of asking."""
        return "".join(a.role[0] for a in self.asked)

    @property
    def models(self) -> list[str]:
        """Who was asked."""
        return [a.request.model for a in self.asked]


class InTurn(Scripted):
    """Says texts in turn, whichever role is asked; a reply has room for 500 tokens."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        super().__init__(lambda request, role: self.texts.pop(0))

    def session(self, **settings: Any) -> Session:
        """Bind a session to the texts."""
        return super().session(**{"max_tokens": 500, **settings})


def stopped(text: str, stop: Sequence[str]) -> str:
    """End a text where a stop word begins."""
    return text[: min([text.find(s) for s in stop if s in text], default=len(text))]


async def run(
    name: str,
    texts: Mapping[str, Sequence[str]] | Say,
    *,
    session: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    **params: Any,
) -> tuple[Outcome, Session, Scripted]:
    """Run a strategy on the item; returns outcome, session and model."""
    model = Scripted(texts, **(options or {}))
    bound = model.session(**(session or {}))
    outcome = await strategies.get(name, **params).run(bound, ITEM)
    return outcome, bound, model


async def run_in_turn(
    name: str,
    *texts: str,
    endpoint: str = "chat",
    begun_turns: BegunTurns | None = None,
    **params: Any,
) -> tuple[Outcome, Session, InTurn]:
    """Run a strategy on the item with texts in turn; returns outcome, session and model."""
    model = InTurn(*texts)
    bound = model.session(endpoint=endpoint, begun_turns=begun_turns)
    outcome = await strategies.get(name, **params).run(bound, ITEM)
    return outcome, bound, model
