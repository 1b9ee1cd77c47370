"""Transcript of a session: its messages in order, whose later versions replace earlier ones."""

from typing import Any

import msgspec

from workbench.records import Message


class Transcript:
    """The messages of a session in order; a message may be replaced by a later version."""

    def __init__(self) -> None:
        """Start empty."""
        self.messages: list[Message] = []

    def add(
        self, role: str, kind: str, text: str, *, call: int | None = None, tool: int | None = None
    ) -> int | None:
        """Append a message and return its place; None if there is no text."""
        if not text:
            return None
        place = len(self.messages)
        self.messages.append(
            Message(
                ordinal=place,
                role=role,
                kind=kind,
                text=text,
                call_ordinal=call,
                tool_call_ordinal=tool,
            )
        )
        return place

    def change(self, place: int, **fields: Any) -> None:
        """Replace fields of a message."""
        self.messages[place] = msgspec.structs.replace(self.messages[place], **fields)

    def put_before(self, texts: list[tuple[str, str]]) -> None:
        """Insert (role, text) pairs before all messages."""
        later = self.messages
        self.messages = []
        for role, text in texts:
            self.add(role, "text", text)
        first = len(self.messages)
        self.messages += [
            msgspec.structs.replace(m, ordinal=first + n) for n, m in enumerate(later)
        ]
