"""Lines of append-only session logs, one JSON object each: streamed, with a torn end tolerated."""

import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.records import Message
from workbench.sources.report import FileReport

Line = dict[str, Any]

_HEAD_LINES = 40
_HEAD_BYTES = 8 << 20  # a first line may hold a picture
_ANY = msgspec.json.Decoder()
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_BOM = b"\xef\xbb\xbf"


def head(path: Path) -> list[Line]:
    """Read the objects of a file's first lines, to tell its format; broken ones are passed over."""
    found: list[Line] = []
    left = _HEAD_BYTES
    try:
        with path.open("rb") as file:
            for _ in range(_HEAD_LINES):
                raw = file.readline(left)
                left -= len(raw)
                line = raw.removeprefix(_BOM).strip()
                if not raw or left <= 0 or (line and line[:1] != b"{"):
                    break
                with contextlib.suppress(*UNDECODABLE):
                    found.append(_OBJECT.decode(line))
    except OSError:
        return []
    return found


def lines(path: Path, report: FileReport) -> Iterator[tuple[int, Line]]:
    """Yield (number, object) of each line.

    A last line without its end is what a live session was writing: it is left out and said. Any
    other line that is no JSON object is left out, counted and named.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            line = raw.removeprefix(_BOM).strip() if number == 1 else raw.strip()
            if not line:
                continue
            try:
                value = _ANY.decode(line)
            except UNDECODABLE as error:
                if not raw.endswith(b"\n"):
                    report.notes[_TORN] += 1
                else:
                    _leave_out(report, f"line {number} is no JSON: {error}")
                continue
            if isinstance(value, dict):
                yield number, value
            else:
                _leave_out(report, f"line {number} is no JSON object")


_TORN = "the last line is not whole: the session was still written to; import it again later"


def _leave_out(report: FileReport, text: str) -> None:
    if report.skip_bad_rows:
        report.bad_row(text)
    else:
        report.lacks(f"{text}: not taken")


def moment(value: object) -> dt.datetime | None:
    """Read a time, in ISO form or in Unix seconds, as UTC; None where it is none."""
    try:
        if isinstance(value, str):
            found = dt.datetime.fromisoformat(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found = dt.datetime.fromtimestamp(value, dt.UTC)
        else:
            return None
        found = found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found
        return found.astimezone(dt.UTC)
    except (ValueError, OverflowError, OSError):
        return None


def seconds(start: dt.datetime | None, end: dt.datetime | None) -> float | None:
    """The time between two moments; None where one is unknown or they are out of order."""
    if start is None or end is None or end < start:
        return None
    return (end - start).total_seconds()


def part(value: object, name: str) -> Line:
    """A member that is an object; {} where it is not."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def kind_of(value: object) -> str:
    """The type that an object says it is of; "" where it says none."""
    found = value.get("type") if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def text(value: object) -> str | None:
    """A value that is a text with something in it; else None."""
    return value if isinstance(value, str) and value else None


def plain(content: object) -> str:
    """The text of a message's content: itself, or that of its text parts; other parts are named."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return msgspec.json.encode(content).decode()
    found = []
    for piece in content:
        if isinstance(piece, dict) and isinstance(piece.get("text"), str):
            found.append(piece["text"])
        elif isinstance(piece, str):
            found.append(piece)
        else:
            found.append(f"[{kind_of(piece) or type(piece).__name__}]")
    return "\n".join(found)


class Transcript:
    """The messages of a session in order; the text of the last of a call may still grow."""

    def __init__(self) -> None:
        """Start empty."""
        self.messages: list[Message] = []

    def add(
        self, role: str, kind: str, text: str, *, call: int | None = None, tool: int | None = None
    ) -> int | None:
        """Append a message and give its place; None where there is no text."""
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
        """Put other values in place of a message's."""
        self.messages[place] = msgspec.structs.replace(self.messages[place], **fields)

    def put_before(self, given: list[tuple[str, str]]) -> None:
        """Put (role, text) before all messages."""
        answered = self.messages
        self.messages = []
        for role, said in given:
            self.add(role, "text", said)
        first = len(self.messages)
        self.messages += [
            msgspec.structs.replace(m, ordinal=first + n) for n, m in enumerate(answered)
        ]
