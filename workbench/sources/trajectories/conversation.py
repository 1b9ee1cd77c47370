"""Parts of an agent's trajectory, in order: texts, requests to run tools, and their results.

The id of a tool call may be missing, or used again: a result belongs to the first request with its
id that has no result yet.
"""

import datetime as dt
import math
from typing import Any

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.records import Message, Score, ToolCall, json_text
from workbench.sources.heads import Line
from workbench.sources.json_lines import content_text, member, seconds, text
from workbench.sources.transcript import Transcript

PASS = 1 - 1e-6  # rewards are sums of floats: one of 0.9999999 is a pass


class Conversation:
    """Messages and tool calls of one trajectory.

    Attributes:
        n_unmatched: results of tools whose request is not in the trajectory.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._transcript = Transcript()
        self._tool_calls: list[ToolCall] = []
        self._open: dict[str, list[int]] = {}  # id → tool calls without a result, in order
        self.n_unmatched = 0

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages so far."""
        return tuple(self._transcript.messages)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls so far."""
        return tuple(self._tool_calls)

    def say(self, role: str, kind: str, content: str, *, call: int | None = None) -> None:
        """Add a text; an empty one is none."""
        self._transcript.add(role, kind, content, call=call)

    def ask(
        self,
        tool: str,
        arguments: object,
        *,
        id: str | None = None,
        call: int | None = None,
        at: dt.datetime | None = None,
        role: str = "assistant",
    ) -> int:
        """Add a request to run a tool and return the ordinal of the tool call.

        Args:
            tool: its name.
            arguments: as received; a text that is JSON is kept as it is.
            id: the id by which the result names it.
            call: the call in which the model made the request.
            at: when it was made.
            role: who made it.
        """
        ordinal = len(self._tool_calls)
        written = json_arguments(arguments)
        self._tool_calls.append(
            ToolCall(
                ordinal=ordinal, tool=tool, call_ordinal=call, arguments=written, started_at=at
            )
        )
        if id is not None:
            self._open.setdefault(id, []).append(ordinal)
        shown = f"{tool}({written or ''})"
        self._transcript.add(role, "tool_call", shown, call=call, tool=ordinal)
        return ordinal

    def start(self, ordinal: int, at: dt.datetime | None) -> None:
        """Set when a tool call was started, where that is known only later."""
        self._tool_calls[ordinal] = msgspec.structs.replace(
            self._tool_calls[ordinal], started_at=at
        )

    def time(self, ordinal: int, seconds: float) -> None:
        """Set how long a tool call took, where the file states it."""
        self._tool_calls[ordinal] = msgspec.structs.replace(
            self._tool_calls[ordinal], e2e_s=seconds
        )

    def answer(
        self,
        id: str | int | None,
        content: str,
        *,
        at: dt.datetime | None = None,
        error: str | None = None,
    ) -> None:
        """Add the result of a tool call.

        Args:
            id: the id of its request, or the ordinal of the tool call.
            content: the result.
            at: when it was there.
            error: what failed; None if nothing did.
        """
        ordinal = id if isinstance(id, int) else self._claim(id)
        self._transcript.add("tool", "tool_result", content, tool=ordinal)
        if ordinal is None:
            self.n_unmatched += 1
            return
        asked = self._tool_calls[ordinal]
        self._tool_calls[ordinal] = msgspec.structs.replace(
            asked,
            e2e_s=seconds(asked.started_at, at),
            result_bytes=len(content.encode(errors="replace")),
            error_type=None if error is None else "failed",
            error_message=error,
        )

    def _claim(self, id: str | None) -> int | None:
        waiting = self._open.get(id) if id is not None else None
        return waiting.pop(0) if waiting else None

    def add_chat_message(
        self,
        message: Line,
        *,
        call: int | None = None,
        at: dt.datetime | None = None,
        role: str | None = None,
    ) -> None:
        """Add a message of a chat API: its thinking, its text, its requests to run tools.

        Args:
            message: with the fields of OpenAI's chat completions; tools may be written flat.
            call: the call that produced it.
            at: when it was written.
            role: the role in the record; None takes the message's own.
        """
        own = str(message.get("role"))
        content = content_text(message.get("content"))
        if own in {"tool", "function"}:
            failed = message.get("error") is True
            self.answer(
                text(message.get("tool_call_id")) or text(message.get("id")),
                content,
                at=at,
                error=content or "failed" if failed else None,
            )
            return
        role = role or _ROLES.get(own, "user")
        thinking = message.get("reasoning_content") or message.get("reasoning")
        self.say(role, "thinking", content_text(thinking), call=call)
        self.say(role, "text", content, call=call)
        for request in requests(message):
            function = member(request, "function") or request
            self.ask(
                text(function.get("name")) or "unknown",
                function.get("arguments"),
                id=text(request.get("id")),
                call=call,
                at=at,
                role=role,
            )

    def last_text(self, role: str = "assistant") -> str | None:
        """Return the last text of a role."""
        texts = (m.text for m in reversed(self.messages) if m.role == role and m.kind == "text")
        return next(texts, None)


_ROLES = {"assistant": "assistant", "system": "system", "developer": "system", "user": "user"}


def requests(message: Line) -> list[Line]:
    """Return the requests to run tools of a chat message, old function calls among them."""
    asked = message.get("tool_calls")
    found = [r for r in asked if isinstance(r, dict)] if isinstance(asked, list) else []
    old = message.get("function_call")
    return [*found, old] if isinstance(old, dict) else found


def objects(value: object) -> list[Line]:
    """Return the objects of a list; [] if the value is no list."""
    return [inner for inner in value if isinstance(inner, dict)] if isinstance(value, list) else []


def json_arguments(value: object) -> str | None:
    """Write arguments as JSON; a text that is JSON stays, another becomes a JSON string."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            msgspec.json.decode(value)
        except UNDECODABLE:
            return json_text(value)
        return value
    return json_text(value)


def number(value: object) -> float | None:
    """Return a finite number; None for all other values, booleans among them."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        converted = float(value)
    except OverflowError:
        return None
    return converted if math.isfinite(converted) else None


def amount(value: object) -> float | None:
    """Return a finite number of at least 0; None for all other values."""
    known = number(value)
    return known if known is not None and known >= 0 else None


def rewarded(scorer: str, reward: object, **fields: Any) -> Score | None:
    """Return the score of a reward: 1 is a pass; None if it is no number.

    A reward outside 0..1 is a metric: nothing says what a pass would be.
    """
    value = number(reward)
    if value is None:
        return None
    if not 0 <= value <= 1 + (1 - PASS):
        return Score(scorer=scorer, metric=value, direction="higher", **fields)
    return Score(scorer=scorer, score=min(value, 1.0), passed=value >= PASS, **fields)
