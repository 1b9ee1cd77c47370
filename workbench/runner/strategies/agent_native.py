"""The agent loop with native tool calls of an API."""

from collections.abc import Sequence
from typing import Any

from workbench.datasets import TaskItem
from workbench.errors import ProviderRejected
from workbench.records import json_text
from workbench.runner.attempts.session import ChatMessage, Outcome, Reply, ToolSpec
from workbench.runner.strategies.agent_tools import AgentTools, ToolRequest, format_lessons

_ASK = (
    "{prompt} Use the tools as often as you need, and think about what each answer means before"
    " the next. When you know the answer, write 'Answer:' and the answer.{lessons}"
)
_LETTERS_PER_TOKEN = 6.5  # no tokenizer packs text and JSON so densely


async def act(agent_tools: AgentTools, item: TaskItem, lessons: Sequence[str]) -> Outcome:
    """Let the model call tools until it answers or hits a limit.

    Raises:
        ProviderRejected: the tools never reached the model.
    """
    session, specs = agent_tools.session, agent_tools.specs
    system = _ASK.format(prompt=session.task.prompt, lessons=format_lessons(lessons))
    chat: list[ChatMessage] = [
        {"role": "system", "content": system},
        {"role": "user", "content": item.question},
    ]
    more: dict[str, Any] = {}
    while True:
        reply = await session.generate(
            chat, tools=specs, most_tokens=agent_tools.most_tokens, **more
        )
        tool_calls = [ToolRequest(tool.tool, tool.arguments) for tool in reply.tool_calls]
        if not tool_calls or more:
            if not agent_tools.account.turns:
                _see_that_tools_arrived(reply, chat, specs)
            agent_tools.refuse_all(reply, tool_calls, in_text=False)
            return agent_tools.outcome(reply.text, reply, protocol="native")
        results = await agent_tools.use(reply, tool_calls, in_text=False)
        answers = [
            {
                "role": "tool",
                "tool_call_id": tool_id,
                "name": called.record.tool,
                "content": called.text,
                "error": called.record.error_type is not None,
            }
            for tool_id, called in zip(reply.tool_ids, results, strict=True)
        ]
        # within the last answer: some chat templates allow no message of the user's there
        answers[-1]["content"] = f"{answers[-1]['content']}{agent_tools.notes()}"
        chat += [reply.turn, *answers]
        if agent_tools.account.limit():
            more = {"tool_choice": "none"}


def _see_that_tools_arrived(
    reply: Reply, chat: Sequence[ChatMessage], specs: Sequence[ToolSpec]
) -> None:
    """Compare the sent characters with the counted tokens, as some templates drop tools."""
    sent = sum(len(str(m["content"])) for m in chat)
    sent += sum(len(s.description) + len(json_text(dict(s.parameters))) for s in specs)
    arrived = reply.call.input_tokens
    if arrived is not None and sent > _LETTERS_PER_TOKEN * arrived:
        raise ProviderRejected(
            f"the tools did not reach the model: {sent} characters were sent and {arrived} tokens"
            " arrived; its chat template has no place for tools; set protocol = 'text'",
            kind="tools_dropped",
        )
