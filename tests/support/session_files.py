"""Small sessions of coding agents, as their tools write them; every count is distinct."""

import datetime as dt
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Line = dict[str, Any]
START = dt.datetime(2026, 9, 1, 8, tzinfo=dt.UTC)


def at(second: float) -> str:
    """A time of a line."""
    return (START + dt.timedelta(seconds=second)).isoformat().replace("+00:00", "Z")


def write(path: Path, lines: Iterable[Line]) -> Path:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_bytes(lines))
    return path


def as_bytes(lines: Iterable[Line]) -> bytes:
    """JSON lines."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


# -- Gemini CLI ----------------------------------------------------------------------------------


def gemini_tokens(given: int, output: int, cached: int, thoughts: int, tool: int = 0) -> Line:
    """The tokens of a message."""
    counts = {"input": given, "output": output, "cached": cached, "thoughts": thoughts}
    return counts | {"tool": tool, "total": given + output + thoughts + tool}


def gemini_message(number: int, second: float, kind: str, content: object, **more: Any) -> Line:
    """A message of a session."""
    id = f"00000000-0000-4000-8000-{number:012d}"
    return {"id": id, "timestamp": at(second), "type": kind, "content": content} | more


def gemini_answer(number: int, second: float, content: object, **more: Any) -> Line:
    """A message of the model."""
    return gemini_message(number, second, "gemini", content, model="gemini-2.5-pro", **more)


def gemini_tool(id: str, second: float, output: str, status: str = "success") -> Line:
    """A tool call within a message."""
    response = {"functionResponse": {"id": id, "name": "ls", "response": {"output": output}}}
    return {
        "id": id,
        "name": "ls",
        "args": {"path": id},
        "result": [response],
        "status": status,
        "timestamp": at(second),
        "resultDisplay": "shown",
    }


def gemini_head(session: str = "g1", **more: Any) -> Line:
    """The first line of a session."""
    about = {"sessionId": session, "projectHash": "ab12", "startTime": at(0), "lastUpdated": at(0)}
    return about | {"kind": "main"} | more


def gemini_session() -> list[Line]:
    """A session of two calls: tools are asked for, and their results answered."""
    thought = {"subject": "Plan", "description": "look first", "timestamp": at(4)}
    first = gemini_tokens(9000, 80, 7000, 300, 11)
    tools = [gemini_tool("t1", 9, "a.py"), gemini_tool("t2", 8, "no such folder", "error")]
    asks = gemini_answer(2, 5, "I will look.", thoughts=[thought], tokens=None)
    counted = asks | {"tokens": first}
    responses = [result for tool in tools for result in tool["result"]]
    return [
        gemini_head(),
        gemini_message(0, 0, "user", [{"text": "<session_context>today</session_context>"}]),
        gemini_message(1, 1, "user", [{"text": "what is here?"}]),
        {"$set": {"lastUpdated": at(1)}},
        asks,
        counted,
        counted | {"toolCalls": tools},
        gemini_message(3, 10, "user", responses),
        gemini_answer(4, 13, "One file.", thoughts=[], tokens=gemini_tokens(9500, 20, 9100, 30)),
        {"$set": {"lastUpdated": at(13), "summary": "Listing"}},
    ]


def gemini_document() -> bytes:
    """The session as older versions write it: one document, of the last version of each message."""
    messages = {line["id"]: line for line in gemini_session() if "id" in line}
    about = {"messages": list(messages.values()), "summary": "Listing"}
    return json.dumps(gemini_head() | about, indent=2).encode()


# -- pi ------------------------------------------------------------------------------------------


def pi_usage(given: int, output: int, read: int, written: int, usd: float) -> Line:
    """The usage of an answer."""
    counts = {"input": given, "output": output, "cacheRead": read, "cacheWrite": written}
    return counts | {"totalTokens": given + output + read + written, "cost": {"total": usd}}


def pi_entry(number: int, second: float, kind: str, **more: Any) -> Line:
    """An entry of a session."""
    parent = f"0000000{number - 1}" if number > 1 else None
    return {
        "type": kind,
        "id": f"0000000{number}",
        "parentId": parent,
        "timestamp": at(second),
    } | more


def pi_message(number: int, second: float, began: float, role: str, **more: Any) -> Line:
    """A message of a session; `began` is the second in which it was begun."""
    ms = round((START.timestamp() + began) * 1000)
    return pi_entry(number, second, "message", message={"role": role, "timestamp": ms} | more)


def pi_answer(number: int, second: float, began: float, *content: Line, **more: Any) -> Line:
    """An answer of the model."""
    about = {"provider": "anthropic", "model": "claude-sonnet-4-5", "content": list(content)}
    return pi_message(number, second, began, "assistant", **about | more)


def pi_session(session: str = "p1") -> list[Line]:
    """A session of two calls: a tool is asked for, and its result answered."""
    asks = {"type": "toolCall", "id": "toolu_1", "name": "read", "arguments": {"path": "a"}}
    thought = {"type": "thinking", "thinking": "hm", "thinkingSignature": "s"}
    words = {"type": "text", "text": "I look."}
    first, second = pi_usage(7, 90, 4000, 500, 0.25), pi_usage(5, 30, 4500, 60, 0.5)
    failed = [{"type": "text", "text": "no such file"}]
    done = {"type": "text", "text": "There is none."}
    return [
        {"type": "session", "version": 3, "id": session, "timestamp": at(0), "cwd": "/r"},
        pi_entry(1, 0, "thinking_level_change", thinkingLevel="high"),
        pi_message(2, 1, 1, "user", content=[{"type": "text", "text": "read a"}]),
        pi_answer(3, 6, 2, thought, words, asks, usage=first, stopReason="toolUse"),
        pi_message(4, 8, 8, "toolResult", toolCallId="toolu_1", content=failed, isError=True),
        pi_answer(5, 12, 9, done, usage=second, stopReason="stop"),
        pi_entry(6, 13, "compaction", summary="They looked.", tokensBefore=4595),
        pi_entry(7, 14, "session_info", name="Reading"),
    ]


EXAMPLES = (as_bytes(gemini_session()), gemini_document(), as_bytes(pi_session()))
