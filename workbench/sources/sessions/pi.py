"""Source of pi's sessions: `~/.pi/agent/sessions/…/*.jsonl`, a header and the entries of a tree.

Each answer of a model is one entry with its usage, whose input excludes cached tokens. Branches
that were left are in the file and were paid for: all entries are read, in the order of the file. A
session that was forked begins with a copy of another's entries under their ids, so that a call is
identified by its entry, and the store counts it once.
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    Item,
    Run,
    Task,
    ToolCall,
    Trace,
    content_id,
    json_text,
)
from workbench.sources import heads
from workbench.sources.heads import Line
from workbench.sources.json_lines import content_text, lines, member, moment, seconds, text, type_of
from workbench.sources.report import FileReport
from workbench.sources.transcript import Transcript
from workbench.usage import Usage, count, normalise

NAME = "pi"
TASK = Task(task=NAME, description="Sessions of pi.")
_STOPS = {"stop": "stop", "length": "max_tokens", "toolUse": "tool_calls"}
_ERRORS = {"error": "api_error", "aborted": "cancelled"}
_NAMES = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cacheRead": "cache_read_input_tokens",
    "cacheWrite": "cache_creation_input_tokens",
    "totalTokens": "total_tokens",
}
_SUMMARIES = {"compaction", "branch_summary"}
_MAX_MS = 1e15
_IGNORED_TYPES = {"custom", "label"}  # state of extensions, bookmarks


class Pi:
    """Source of session files of pi, and of agents that are built on it."""

    name = NAME
    title = "pi session (.jsonl)"

    def detect(self, path: Path) -> bool:
        """Return whether the file begins with the header of a session."""
        first = next(iter(heads.lines(path)), {})
        return (
            type_of(first) == "session"
            and isinstance(first.get("cwd"), str)
            and isinstance(first.get("id"), str)
            and moment(first.get("timestamp")) is not None
        )

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, then the session's task, item, configuration and trace."""
        del mapping  # the format defines its fields
        report.format = self.name
        session = _Session(report)
        for _, line in lines(path, report):
            session.add(line)
        yield from session.records(path)


SOURCE = Pi()


class _Session:
    """Assembles one session, entry by entry."""

    def __init__(self, report: FileReport) -> None:
        self.report = report
        self.header: Line = {}
        self.calls: list[Call] = []
        self.tools: dict[str, ToolCall] = {}
        self.transcript = Transcript()
        self.effort: str | None = None
        self.title: str | None = None
        self.prompt: str | None = None
        self.first_at: dt.datetime | None = None
        self.last_at: dt.datetime | None = None
        self.n_lines = 0
        self.n_compacted = 0
        self.stated_usd: float | None = None

    def add(self, line: Line) -> None:
        """Add one line."""
        self.n_lines += 1
        kind = type_of(line)
        at = moment(line.get("timestamp"))
        if at is not None:
            self.first_at = min(at, self.first_at or at)
            self.last_at = max(at, self.last_at or at)
        if kind == "session":
            self.header = self.header or line
            self.effort = text(line.get("thinkingLevel")) or self.effort
        elif kind == "message":
            self._read_message(line, member(line, "message"), at)
        elif kind == "thinking_level_change":
            self.effort = text(line.get("thinkingLevel"))
        elif kind in _SUMMARIES:
            self.n_compacted += kind == "compaction"
            self.transcript.add("system", "text", text(line.get("summary")) or "")
        elif kind == "custom_message":
            self.transcript.add("system", "text", content_text(line.get("content")))
        elif kind == "session_info":
            self.title = text(line.get("name")) or self.title
        elif kind != "model_change" and kind not in _IGNORED_TYPES:
            self.report.notes[f"entries of type {kind!r}, skipped"] += 1

    def _read_message(self, line: Line, message: Line, at: dt.datetime | None) -> None:
        role = message.get("role")
        if role == "assistant":
            self._add_answer(line, message, at)
        elif role == "toolResult":
            self._add_result(message, at)
        elif role == "user":
            content = content_text(message.get("content"))
            self.transcript.add("user", "text", content)
            self.prompt = self.prompt or content or None
        elif role == "bashExecution":  # a command that the user ran
            texts = (text(message.get("command")), text(message.get("output")))
            self.transcript.add("user", "text", "\n".join(filter(None, texts)))
        else:
            words = message.get("content", message.get("summary"))
            self.transcript.add("system", "text", content_text(words))

    def _add_answer(self, line: Line, message: Line, ended_at: dt.datetime | None) -> None:
        ordinal = len(self.calls)
        tokens = member(message, "usage")
        counts = _usage(tokens)
        if counts.tokens_source:
            self.report.conventions["messages"] += 1
            self._check(ordinal, counts)
        asked_at = _milliseconds(message.get("timestamp"))
        failure: dict[str, Any] = {}
        if error_type := _ERRORS.get(str(message.get("stopReason"))):
            error = text(message.get("errorMessage"))
            failure = {"error_type": error_type, "error_message": error}
        cost = member(tokens, "cost").get("total")
        if isinstance(cost, (int, float)) and not isinstance(cost, bool):
            self.stated_usd = (self.stated_usd or 0.0) + cost
        identity = (line.get("id"), line.get("timestamp"), message.get("timestamp"), tokens)
        self.calls.append(
            Call(
                ordinal=ordinal,
                call_id=content_id("call", NAME, *identity),
                provider=text(message.get("provider")),
                model=text(message.get("model")),
                response_model=None,
                started_at=asked_at or ended_at,
                e2e_s=seconds(asked_at, ended_at),
                stop_reason=_STOPS.get(str(message.get("stopReason"))),
                response_id=text(message.get("responseId")),
                effort_sent=self.effort,
                usage=json_text(tokens) if tokens else None,
                **counts.known(),
                **failure,
            )
        )
        content = message.get("content")
        for block in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            if isinstance(block, dict):
                self._add_block(block, ordinal, ended_at)

    def _check(self, ordinal: int, counts: Usage) -> None:
        known = counts.input_tokens is not None and counts.output_tokens is not None
        added = (counts.input_tokens or 0) + (counts.output_tokens or 0)
        if known and counts.total_tokens not in {None, added}:
            self.report.mismatches.add(
                f"answer {ordinal + 1}: its tokens do not add up to their total"
            )

    def _add_block(self, block: Line, call: int, at: dt.datetime | None) -> None:
        kind = type_of(block)
        if kind == "text":
            self.transcript.add("assistant", "text", text(block.get("text")) or "", call=call)
        elif kind == "thinking":
            thought = text(block.get("thinking"))
            self.transcript.add("assistant", "thinking", thought or "", call=call)
            if thought is None and block.get("thinkingSignature"):
                self.report.notes["thinking whose text is not in the file"] += 1
        elif kind == "toolCall":
            ordinal = len(self.tools)
            id = text(block.get("id")) or f"tool {ordinal}"
            if id in self.tools:
                return
            arguments = block.get("arguments")
            shown = json_text(arguments) if arguments is not None else None
            name = text(block.get("name")) or "unknown"
            self.tools[id] = ToolCall(
                ordinal=ordinal,
                tool=name,
                call_ordinal=call,
                arguments=shown,
                tool_call_id=content_id("tool call", NAME, id, str(at)),
                started_at=at,
            )
            self.transcript.add(
                "assistant", "tool_call", f"{name}({shown or ''})", call=call, tool=ordinal
            )
        else:
            self.report.notes[f"message parts of type {kind!r}: only the type is stored"] += 1

    def _add_result(self, message: Line, at: dt.datetime | None) -> None:
        id = text(message.get("toolCallId")) or ""
        tool = self.tools.get(id)
        result = content_text(message.get("content"))
        place = tool.ordinal if tool is not None else None
        self.transcript.add("tool", "tool_result", result, tool=place)
        if tool is None:
            self.report.notes["results of tools without a request in this file"] += 1
        elif tool.result_bytes is None:
            failure: dict[str, Any] = {}
            if message.get("isError") is True:
                failure = {"error_type": "failed", "error_message": result}
            self.tools[id] = msgspec.structs.replace(
                tool,
                e2e_s=seconds(tool.started_at, at),
                result_bytes=len(result.encode(errors="replace")),
                **failure,
            )

    # -- records ---------------------------------------------------------------------------------

    def records(self, path: Path) -> Iterator[AnyRecord]:
        """Yield the session's records; none if no model was called."""
        if not self.calls:
            self.report.why_empty = "a session in which no model was called"
            return
        self.report.rows_in += 1
        self.report.notes[f"{self.n_lines:,} lines are {len(self.calls):,} calls"] += 1
        if any(call.cache_write_5m_tokens for call in self.calls):
            self.report.notes["cache writes of unknown lifetime, priced as those of 5 minutes"] = 1
        session = text(self.header.get("id")) or content_id(NAME, self.calls[0].call_id)
        run_id = content_id(NAME, session)
        folder = text(self.header.get("cwd"))
        item = Item(task_id=TASK.task_id, item=session, input=self.prompt, cluster=folder)
        configuration = _configuration(self.calls)
        yield Run(
            run_id=run_id, kind="import", source=NAME, origin=path.name, started_at=self.first_at
        )
        yield from (TASK, item, configuration)
        texts = [
            m.text for m in self.transcript.messages if m.role == "assistant" and m.kind == "text"
        ]
        last = self.calls[-1]
        self.report.rows_out += 1
        yield Trace(
            run_id=run_id,
            configuration_id=configuration.configuration_id,
            task_id=TASK.task_id,
            item_id=item.item_id,
            trace_id=content_id("trace", NAME, session),
            started_at=self.first_at,
            e2e_s=seconds(self.first_at, self.last_at),
            answer=texts[-1] if texts else None,
            n_turns=len(self.calls),
            error_type=last.error_type,
            error_message=last.error_message,
            metadata=self._metadata(session),
            calls=tuple(self.calls),
            tool_calls=tuple(self.tools.values()),
            messages=tuple(self.transcript.messages),
        )

    def _metadata(self, session: str) -> str:
        about = {
            "session": session,
            "cwd": text(self.header.get("cwd")),
            "forked_from": text(self.header.get("parentSession")),
            "title": self.title,
            "n_compactions": self.n_compacted or None,
            "stated_cost_usd": self.stated_usd,
        }
        return json_text({name: value for name, value in about.items() if value is not None})


def _usage(tokens: Line) -> Usage:
    """Read the counters; pi writes zeros for what a provider did not report."""
    counters = {_NAMES[name]: n for name, n in tokens.items() if name in _NAMES}
    if not any(count(n) for n in counters.values()):
        return Usage()
    return normalise(counters, "messages")


def _milliseconds(value: object) -> dt.datetime | None:
    """Parse a time in Unix milliseconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MAX_MS:
        return moment(value / 1000)
    return None


def _configuration(calls: list[Call]) -> Configuration:
    """Return the configuration of a session: the model and effort with the most output tokens."""
    written: Counter[tuple[str | None, str, str | None]] = Counter()
    for call in calls:
        written[call.provider, call.model or "unknown", call.effort_sent] += call.output_tokens or 0
    provider, model, effort = max(written, key=lambda three: (written[three], str(three)))
    return Configuration(model=model, provider=provider, strategy=NAME, effort=effort)
