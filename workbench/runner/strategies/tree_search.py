"""Strategy `tree_search`: a tree of thoughts, grown at the best values (arXiv 2305.10601)."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from workbench.datasets import TaskItem
from workbench.runner.attempts.session import Outcome, Session
from workbench.runner.strategies.few_shot import Turn
from workbench.runner.strategies.parallel import together
from workbench.runner.strategies.parameters import Parameters
from workbench.runner.strategies.reply_scores import Mark, mark
from workbench.runner.strategies.steps import cut, finish, first_step, has_answer, next_step

_VALUE = (
    "Somebody was told: {prompt}\n\nQuestion:\n{question}\n\nTheir steps so far:\n{reply}\n\nHow"
    " likely do these steps lead to the right answer? Check them, then write 'Score:' and a number"
    " from 0 (surely not) to 10 (surely)."
)
_ORDERS = ("breadth", "best")
_UNKNOWN = Mark()


@dataclasses.dataclass(frozen=True, slots=True)
class Thought:
    """A node: steps from the root to here, and the value that they were given."""

    steps: str = ""
    value: Mark = _UNKNOWN
    depth: int = 0
    stop_reason: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether its last step states the answer."""
        return has_answer(self.steps)


@dataclasses.dataclass(frozen=True, slots=True)
class TreeSearch(Parameters):
    """Grow a tree of steps: propose next steps, value them, continue the best, answer from it.

    After Tree of Thoughts. Proposals (role "draft") are sampled at once, `branches` for every
    thought that is grown; every different one is valued 0..1 (role "verifier"), by the model's own
    mark. Order "breadth" grows all thoughts of a level and keeps the `width` best, a beam; "best"
    grows the one best thought of the whole tree (the paper itself searches in breadth and in
    depth). Equal values go to the earlier thought, a value that cannot be read is below all. A
    thought that states the answer is grown no further. Where the best one does not state it, the
    model is asked for it (role "subject"); a tree without any thought is one chain of thought. The
    trace's metadata has the nodes made and the depth of the best.

    Attributes:
        order: "breadth" or "best".
        branches: proposals for a thought.
        width: thoughts that are kept of a level, where the order is breadth.
        depth: steps of a thought, at most.
        nodes: proposals in all, at most; each is a call, and a second one values it.
        delimiter: what ends a step, sent as a stop word; "" where the service takes none: then a
            reply, cut by `step_tokens`, is a step.
        step_tokens: cap of a proposal.
        temperature: of the proposals, in place of the plan's.
    """

    name: ClassVar[str] = "tree_search"
    shots: int = 5
    order: str = dataclasses.field(default="breadth", metadata={"choices": _ORDERS})
    branches: int = dataclasses.field(default=3, metadata={"least": 1})
    width: int = dataclasses.field(default=2, metadata={"least": 1})
    depth: int = dataclasses.field(default=4, metadata={"least": 1})
    nodes: int = dataclasses.field(default=24, metadata={"least": 1})
    delimiter: str = dataclasses.field(default="\n\n", metadata={"empty": True})
    step_tokens: int = dataclasses.field(default=256, metadata={"least": 1})
    temperature: float = 0.7

    @property
    def most_calls(self) -> int:
        """Every node proposed and valued, and the answer."""
        beam = self.branches * (1 + self.width * (self.depth - 1))
        nodes = min(self.nodes, beam) if self.order == "breadth" else self.nodes
        return 2 * nodes + 1

    async def run(self, session: Session, item: TaskItem) -> Outcome:
        """Answer one item."""
        chat = first_step(session, item, self.shots)
        tree = _Tree(self, session, item, chat)
        best = await (tree.by_level() if self.order == "breadth" else tree.by_value())
        metadata = {"nodes": tree.n_asked, "depth": best.depth}
        if best.is_done:
            return Outcome(
                best.steps,
                verifier_score=best.value.score,
                stop_reason=best.stop_reason,
                metadata=metadata,
            )
        last = await session.generate(finish(chat, best.steps))
        parts = [part for part in (best.steps, last.text) if part.strip()]
        return Outcome(
            (self.delimiter or "\n").join(parts),
            verifier_score=best.value.score,
            stop_reason=last.stop_reason,
            metadata=metadata,
        )


class _Tree:
    """A tree of one attempt."""

    def __init__(
        self, how: TreeSearch, session: Session, item: TaskItem, chat: Sequence[Turn]
    ) -> None:
        self.how, self.session, self.item, self.chat = how, session, item, chat
        self.n_asked = 0

    async def by_level(self) -> Thought:
        """Grow level by level; returns the best thought of the last beam."""
        beam = [Thought()]
        for _ in range(self.how.depth):
            grown = await self.grow([t for t in beam if not t.is_done])
            if not grown:
                break
            beam = _ranked([*(t for t in beam if t.is_done), *grown])[: self.how.width]
        return beam[0]

    async def by_value(self) -> Thought:
        """Grow the best thought repeatedly; returns the best final one, else the best one left."""
        leaves = [Thought()]
        while True:
            best = _ranked(leaves)[0]
            if best.is_done or best.depth >= self.how.depth:
                return best
            grown = await self.grow([best])
            if not grown and self.n_asked >= self.how.nodes:
                return best
            rest = [t for t in leaves if t is not best]
            if not grown and not rest:
                return best
            leaves = [*rest, *grown]

    async def grow(self, thoughts: Sequence[Thought]) -> list[Thought]:
        """Propose next steps for thoughts, within what is left of the nodes, and value them."""
        parents = [t for t in thoughts for _ in range(self.how.branches)]
        parents = parents[: self.how.nodes - self.n_asked]
        self.n_asked += len(parents)
        delimiter = self.how.delimiter
        capped: dict[str, Any] = {"stop": [delimiter]} if delimiter else {}
        replies = await together(
            self.session.generate(
                next_step(self.chat, parent.steps),
                role="draft",
                max_tokens=self.how.step_tokens,
                temperature=self.how.temperature,
                **capped,
            )
            for parent in parents
        )
        distinct: dict[str, Thought] = {}
        for parent, reply in zip(parents, replies, strict=True):
            if step := cut(reply.text, delimiter):
                steps = (delimiter or "\n").join(s for s in (parent.steps, step) if s)
                distinct.setdefault(
                    steps, Thought(steps, depth=parent.depth + 1, stop_reason=reply.stop_reason)
                )
        values = await mark(self.session, self.item, list(distinct), ask=_VALUE)
        return [
            dataclasses.replace(thought, value=value)
            for thought, value in zip(distinct.values(), values, strict=True)
        ]


def _ranked(thoughts: Sequence[Thought]) -> list[Thought]:
    """Sort thoughts by value, the best first; equal ones keep their order."""
    return sorted(thoughts, key=lambda thought: -thought.value.rank)
