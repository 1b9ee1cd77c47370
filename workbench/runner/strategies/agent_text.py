"""The agent loop in text, after ReAct: Thought, Action, Action Input, Observation.

The model never writes an observation itself. For base models the whole attempt is one growing text;
in a chat every observation is a user message.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from workbench.datasets import TaskItem
from workbench.records import json_text
from workbench.runner.attempts.session import ChatMessage, Outcome, Reply, ToolSpec
from workbench.runner.strategies.agent_tools import AgentTools, ToolRequest, format_lessons

OBSERVATION = "\nObservation:"
_STOP = (OBSERVATION, "\nQuestion:")
_ASK = """{prompt} You can use tools. Write in steps, each of these three lines:
Thought: what to do next
Action: the name of one tool
Action Input: its arguments as JSON
Then stop: the tool's answer is given to you as an Observation. When you know the answer, write:
Thought: how you know
Answer: the answer

The tools:
{tools}{lessons}"""
_ACTION = re.compile(r"^[ \t]*Action[ \t]*:[ \t]*(.*)$", re.MULTILINE | re.IGNORECASE)
_INPUT = re.compile(r"^[ \t]*Action Input[ \t]*:[ \t]*", re.MULTILINE | re.IGNORECASE)
_ANSWER = re.compile(r"^[ \t]*(?:Final )?Answer[ \t]*:", re.MULTILINE | re.IGNORECASE)
_NEXT = re.compile(
    r"^[ \t]*(?:Thought|Action|(?:Final )?Answer|Question)[ \t]*:", re.MULTILINE | re.IGNORECASE
)
_CALL = re.compile(r"([A-Za-z_]\w*)[ \t]*(?:\[(.*)\]|\((.*)\))[ \t]*$")  # the paper's search[query]


class Step(NamedTuple):
    """What a model wrote in one turn.

    Attributes:
        text: as far as it is kept: to the end of the first action, or of the answer.
        tool_request: the tool it asks for; None where it asks for none.
    """

    text: str
    tool_request: ToolRequest | None


def read_step(text: str) -> Step:
    r"""Read one turn; what follows an observation of the model's own invention is dropped.

    >>> read_step("Thought: add\nAction: calculator\nAction Input: {}\nObservation: 4").tool_request
    ToolRequest(name='calculator', arguments='{}')
    """
    text = f"\n{text}".partition(OBSERVATION)[0][1:]
    action, answer = _ACTION.search(text), _ANSWER.search(text)
    if action is None or (answer is not None and answer.start() < action.start()):
        # base models go on with a next question of their own
        return Step(text.partition("\nQuestion:")[0].rstrip(), None)
    called = _CALL.match(action[1].strip())
    if called is not None:
        arguments = called[2] if called[2] is not None else called[3]
        return Step(text[: action.end()].rstrip(), ToolRequest(called[1], arguments))
    name = action[1].strip().strip("`*\"'")
    given = _INPUT.match(text, action.end() + 1)
    if given is None:
        return Step(text[: action.end()].rstrip(), ToolRequest(name, None))
    following = _NEXT.search(text, given.end())
    end = following.start() if following else len(text)
    arguments = _first_object(text[given.end() : end]).strip()
    return Step(text[: given.end()] + arguments, ToolRequest(name, arguments))


def _first_object(text: str) -> str:
    """Drop what follows a JSON object; any other text stays whole."""
    if not text.startswith("{"):
        return text
    try:
        return text[: json.JSONDecoder().raw_decode(text)[1]]
    except (ValueError, RecursionError):
        return text


async def act(
    agent_tools: AgentTools, item: TaskItem, lessons: Sequence[str], shots: int
) -> Outcome:
    """Let the model write steps until it answers or hits a limit."""
    is_base = agent_tools.session.endpoint == "completions"
    chat = await _opening(agent_tools, item, lessons, shots, is_base=is_base)
    more: dict[str, Any] = {}
    if (
        agent_tools.session.endpoint != "responses"
    ):  # which takes no stop words; the text is cut in any case
        more["stop"] = list(_STOP)
    begun = "Thought:" if is_base else ""
    while True:
        prefill = [{"role": "assistant", "content": begun}] if is_base else []
        reply = await agent_tools.session.generate(
            [*chat, *prefill], most_tokens=agent_tools.most_tokens, **more
        )
        step = read_step(_new(reply, begun))
        if step.tool_request is None or agent_tools.account.limit():
            agent_tools.refuse_all(
                reply, [step.tool_request] if step.tool_request else [], in_text=True
            )
            # a number among a tool's arguments is no answer
            return agent_tools.outcome(
                "" if step.tool_request else step.text, reply, protocol="text"
            )
        called = (await agent_tools.use(reply, [step.tool_request], in_text=True))[0]
        seen = f"Observation: {called.text}{agent_tools.notes()}"
        if is_base:
            following = "Answer:" if agent_tools.account.limit() else "Thought:"
            begun = f"{_kept(begun, step.text)}\n{seen}\n{following}"
        else:
            chat += [{"role": "assistant", "content": step.text}, {"role": "user", "content": seen}]


def _new(reply: Reply, begun: str) -> str:
    """Return the step that a reply ends with; the last line of its beginning belongs to it."""
    label = begun.rpartition("\n")[2]
    return label + reply.text[len(begun) :] if begun else reply.text


def _kept(begun: str, step: str) -> str:
    """Put a step in the place of the label that it began with."""
    before, newline, _ = begun.rpartition("\n")
    return f"{before}{newline}{step}"


async def _opening(
    agent_tools: AgentTools, item: TaskItem, lessons: Sequence[str], shots: int, *, is_base: bool
) -> list[ChatMessage]:
    """Write the rules, worked examples with real observations, and the question."""
    tools = "\n".join(_described(spec) for spec in agent_tools.specs)
    rules = _ASK.format(
        prompt=agent_tools.session.task.prompt, tools=tools, lessons=format_lessons(lessons)
    )
    chat: list[ChatMessage] = [{"role": "system", "content": rules}]
    for tool in list(agent_tools.toolbox.tools.values())[:shots]:
        shown = tool.example
        arguments = json.dumps(dict(shown.arguments))
        step = f"Thought: {shown.thought}\nAction: {tool.spec.name}\nAction Input: {arguments}"
        seen = f"Observation: {(await tool.run(shown.arguments)).text}"
        end = f"Thought: The answer is in the observation.\nAnswer: {shown.answer}"
        parts = [f"{step}\n{seen}\n{end}"] if is_base else [step, seen, end]
        roles = ("assistant", "user", "assistant")
        chat.append({"role": "user", "content": shown.question})
        chat += [{"role": r, "content": p} for r, p in zip(roles, parts, strict=False)]
    return [*chat, {"role": "user", "content": item.question}]


def _described(spec: ToolSpec) -> str:
    arguments = {
        n: p.get("description", p["type"]) for n, p in spec.parameters["properties"].items()
    }
    return f"- {spec.name}: {spec.description} Arguments: {json_text(arguments)}"
