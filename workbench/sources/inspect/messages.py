"""Messages of an Inspect sample: parts in order, thinking separated, references resolved."""

import re
from collections import Counter

import msgspec

from workbench.records import Message
from workbench.sources.inspect.log_schema import ANY, NOTHING, ChatMessage, Part

_REFERENCE = "attachment://"
_QUOTED = re.compile(rb'"attachment://([0-9a-f]+)"')
_ENCODE = msgspec.json.Encoder()


class Attachments:
    """Long strings that a log stores once and refers to; unknown references stay as they are."""

    def __init__(self, texts: dict[str, str]) -> None:
        """Store the strings, by hash."""
        self._texts = texts

    def text(self, text: str) -> str:
        """Return the string that a text refers to; the text itself if it is not a reference."""
        if text.startswith(_REFERENCE):
            return self._texts.get(text[len(_REFERENCE) :], text)
        return text

    def json(self, raw: msgspec.Raw) -> str | None:
        """Write raw JSON as compact text with references resolved; None without JSON."""
        data = bytes(raw)
        if data in {b"", b"null"}:
            return None
        if b"attachment://" in data:
            data = _QUOTED.sub(self._resolve, data)
        return msgspec.json.format(data, indent=-1).decode()

    def plain(self, raw: msgspec.Raw) -> str:
        """Return a tool's result as text: text parts are joined, other values are JSON."""
        data = bytes(raw)
        if data in {b"", b"null"}:
            return ""
        if data[:1] == b'"':
            return self.text(str(ANY.decode(data)))
        if data[:1] == b"[":
            parts = ANY.decode(data)
            if all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in parts):
                return "\n".join(self.text(p["text"]) for p in parts)
        return self.json(raw) or ""

    def _resolve(self, match: re.Match[bytes]) -> bytes:
        text = self._texts.get(match[1].decode())
        return match[0] if text is None else _ENCODE.encode(text)


class Conversation:
    """The messages of one sample, without repetitions.

    Every input repeats the conversation so far. A message is identified by its id, and in old logs
    without ids by its position and text.
    """

    def __init__(self, attachments: Attachments, tools: dict[str, int]) -> None:
        """Start empty.

        Args:
            attachments: the strings of the sample.
            tools: id of a tool call → its ordinal in the trace.
        """
        self.messages: list[Message] = []
        self.answered_tools: set[str] = set()
        self.omitted_parts: Counter[str] = Counter()
        self._attachments = attachments
        self._tools = tools
        self._seen: set[object] = set()

    def add(self, message: ChatMessage, place: int, call: int | None = None) -> None:
        """Append a message's parts, unless the message was added before.

        Args:
            message: as logged.
            place: its position in the conversation.
            call: ordinal of the call that produced it.
        """
        key: object = message.id
        if key is None:
            parts = message.content if isinstance(message.content, str) else repr(message.content)
            key = (place, message.role, parts)
        if key in self._seen:
            return
        self._seen.add(key)
        tool = self._tool_of(message)
        kind = "tool_result" if message.role == "tool" else "text"
        content = message.content
        if isinstance(content, str):
            self._append(message.role, kind, content, call, tool)
        for part in content if isinstance(content, list) else ():
            self._add_part(message.role, kind, part, call, tool)
        if message.error is not None and not content:
            self._append(message.role, kind, message.error.message, call, tool)
        for request in message.tool_calls or ():
            arguments = self._attachments.json(request.arguments) or ""
            text = f"{request.function}({arguments})"
            self._append(message.role, "tool_call", text, call, self._tools.get(request.id))

    def result(self, tool_call_id: str, ordinal: int, text: str) -> None:
        """Append a tool's result that is in no message, such as that of a final submit."""
        if tool_call_id not in self.answered_tools:
            self._append("tool", "tool_result", text, None, ordinal)

    def _tool_of(self, message: ChatMessage) -> int | None:
        if message.role != "tool" or not isinstance(message.tool_call_id, str):
            return None
        self.answered_tools.add(message.tool_call_id)
        return self._tools.get(message.tool_call_id)

    def _add_part(
        self, role: str, kind: str, part: Part, call: int | None, tool: int | None
    ) -> None:
        if part.type == "text":
            self._append(role, kind, part.text or "", call, tool)
        elif part.type == "reasoning":
            text = part.summary if part.redacted else part.reasoning or part.summary
            self._append(role, "thinking", text or "", call, tool)
        elif part.type == "tool_use":
            arguments = self._attachments.plain(part.arguments)
            self._append(role, "tool_call", f"{part.name}({arguments})", call, None)
            if part.result is not NOTHING:
                text = self._attachments.plain(part.result)
                self._append("tool", "tool_result", text, call, None)
        else:  # of pictures and other media only the type is stored
            self.omitted_parts[part.type] += 1
            self._append(role, kind, f"[{part.type}]", call, tool)

    def _append(self, role: str, kind: str, text: str, call: int | None, tool: int | None) -> None:
        if not text:
            return
        self.messages.append(
            Message(
                ordinal=len(self.messages),
                role=role,
                kind=kind,
                text=self._attachments.text(text),
                call_ordinal=call,
                tool_call_ordinal=tool,
            )
        )
