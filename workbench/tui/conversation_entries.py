"""Conversation entries of a trace's messages, with tokens, time and cost in the margin."""

from collections.abc import Mapping, Sequence
from typing import Any

from workbench import formats
from workbench.tui.timeline import Share, shares
from workbench.tui.widgets.conversation import Entry, is_long

Facts = Mapping[str, Any]


class EntryBuilder:
    """Builds conversation entries from messages and the calls that they refer to."""

    def __init__(self, calls: Sequence[Facts], tool_calls: Sequence[Facts]) -> None:
        self._calls = {call["call_id"]: call for call in calls}
        self._tools = {tool["tool_call_id"]: tool for tool in tool_calls}

    def entry(self, message: Facts) -> Entry:
        """Make the entry of one message (a row of `Store.messages`)."""
        kind = _kind(message)
        tool = self._tools.get(message["tool_call_id"])
        failed = kind == "result" and tool is not None and tool["error_type"] is not None
        entry = Entry(
            ordinal=message["ordinal"],
            kind=kind,
            text=message["text"] or "",
            content_id=message["content_id"] or "",
            title=str(tool["tool"]) if tool is not None and kind in {"tool", "result"} else "",
            is_error=failed,
            margin=self._margin(message, kind, tool),
        )
        missing = (message["n_bytes"] or 0) - len(entry.text.encode("utf-8", "replace"))
        entry.more = f"{formats.si(missing, 'B')} more" if missing > 0 else ""
        entry.folded = is_long(entry)
        return entry

    @staticmethod
    def fill(entry: Entry, whole: str, length: int) -> None:
        """Show `length` characters of an entry's text."""
        entry.text = whole[:length]
        rest = len(whole[length:].encode("utf-8", "replace"))
        entry.more = f"{formats.si(rest, 'B')} more" if rest else ""

    def ending(self, facts: Facts, n: int) -> list[Entry]:
        """Make entries of errors that are in no message: those of calls and of the trace."""
        faults = [(c["error_type"], c["error_message"]) for c in self._calls.values()]
        faults.append((facts["error_type"], facts["error_message"]))
        distinct = dict.fromkeys(fault for fault in faults if fault[0] is not None)
        return [
            Entry(n + i, "error", f"{kind}: {message or ''}".strip(": "), is_error=True)
            for i, (kind, message) in enumerate(distinct)
        ]

    def _margin(self, message: Facts, kind: str, tool: Facts | None) -> tuple[str, str, str, str]:
        tokens, share = message["n_tokens"], None
        call = self._calls.get(message["call_id"])
        phase = {"thinking": "thinking", "answer": "answer", "tool": "answer"}.get(kind, "")
        if call is not None and phase and message["is_bearer"]:
            share = shares(call).get(phase)
            tokens = tokens if tokens is not None or share is None else share.tokens
        is_result = tool is not None and kind == "result"
        took = share.s if share is not None else tool["e2e_s"] if tool and is_result else None
        return (
            f"{formats.count(tokens)} tok" if tokens is not None else "",
            _part(share, call) if kind == "thinking" and share and call is not None else "",
            f"{formats.seconds(took)} s" if took is not None else "",
            formats.usd(share.usd) if share and share.usd is not None else "",
        )


def _kind(message: Facts) -> str:
    if message["kind"] == "thinking":
        return "thinking"
    if message["kind"] == "tool_call":
        return "tool"
    if message["kind"] == "tool_result" or message["role"] == "tool":
        return "result"
    return {"system": "system", "user": "user"}.get(str(message["role"]), "answer")


def _part(share: Share, call: Facts) -> str:
    if not share.tokens or not call["output_tokens"]:
        return ""
    return f"{formats.percent(share.tokens / call['output_tokens'], 0)} %"
