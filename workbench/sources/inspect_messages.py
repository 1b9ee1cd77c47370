"""Messages of an Inspect sample: parts in order, thinking apart, references resolved."""

import re
from collections import Counter

import msgspec

from workbench.records import Message
from workbench.sources.inspect_schema import ANY, NOTHING, ChatMessage, Part

_REFERENCE = "attachment://"
_QUOTED = re.compile(rb'"attachment://([0-9a-f]+)"')
_ENCODE = msgspec.json.Encoder()


class Attachments:
    """Long strings that a log keeps once and refers to; a reference that leads nowhere stays."""

    def __init__(self, found: dict[str, str]) -> None:
        """Keep the strings by hash."""
        self._found = found

    def text(self, text: str) -> str:
        """Put the string in the place of a reference to it."""
        if text.startswith(_REFERENCE):
            return self._found.get(text[len(_REFERENCE) :], text)
        return text

    def json(self, raw: msgspec.Raw) -> str | None:
        """Write raw JSON as compact text, references resolved; None where there is none."""
        data = bytes(raw)
        if data in {b"", b"null"}:
            return None
        if b"attachment://" in data:
            data = _QUOTED.sub(self._quoted, data)
        return msgspec.json.format(data, indent=-1).decode()

    def plain(self, raw: msgspec.Raw) -> str:
        """Read a tool's result: text as it is, text parts joined, anything else as JSON."""
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

    def _quoted(self, found: re.Match[bytes]) -> bytes:
        text = self._found.get(found[1].decode())
        return found[0] if text is None else _ENCODE.encode(text)


class Conversation:
    """Collects the messages of one sample; a message met again is passed over.

    Later inputs repeat the whole conversation so far, so a message is told by its id, and in old
    logs without ids by its place and text.
    """

    def __init__(self, attachments: Attachments, tools: dict[str, int]) -> None:
        """Start empty.

        Args:
            attachments: of the sample.
            tools: id of a tool call → its ordinal in the trace.
        """
        self.messages: list[Message] = []
        self.answered: set[str] = set()
        self.left_out: Counter[str] = Counter()
        self._attachments, self._tools = attachments, tools
        self._seen: set[object] = set()

    def add(self, message: ChatMessage, place: int, call: int | None = None) -> None:
        """Append a message's parts, unless it is there already.

        Args:
            message: as logged.
            place: its position in the input, or where the output comes to stand.
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
            self._put(message.role, kind, content, call, tool)
        for part in content if isinstance(content, list) else ():
            self._part(message.role, kind, part, call, tool)
        if message.error is not None and not content:
            self._put(message.role, kind, message.error.message, call, tool)
        for request in message.tool_calls or ():
            arguments = self._attachments.json(request.arguments) or ""
            text = f"{request.function}({arguments})"
            self._put(message.role, "tool_call", text, call, self._tools.get(request.id))

    def result(self, tool_call_id: str, ordinal: int, text: str) -> None:
        """Append a tool's result that no message carries, as that of a final submit."""
        if tool_call_id not in self.answered:
            self._put("tool", "tool_result", text, None, ordinal)

    def _tool_of(self, message: ChatMessage) -> int | None:
        if message.role != "tool" or not isinstance(message.tool_call_id, str):
            return None
        self.answered.add(message.tool_call_id)
        return self._tools.get(message.tool_call_id)

    def _part(self, role: str, kind: str, part: Part, call: int | None, tool: int | None) -> None:
        if part.type == "text":
            self._put(role, kind, part.text or "", call, tool)
        elif part.type == "reasoning":
            text = part.summary if part.redacted else part.reasoning or part.summary
            self._put(role, "thinking", text or "", call, tool)
        elif part.type == "tool_use":
            arguments = self._attachments.plain(part.arguments)
            self._put(role, "tool_call", f"{part.name}({arguments})", call, None)
            if part.result is not NOTHING:
                text = self._attachments.plain(part.result)
                self._put("tool", "tool_result", text, call, None)
        else:  # pictures and other media are named, not kept
            self.left_out[part.type] += 1
            self._put(role, kind, f"[{part.type}]", call, tool)

    def _put(self, role: str, kind: str, text: str, call: int | None, tool: int | None) -> None:
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
