"""Source of Claude Code's sessions: a file of JSON lines for each session or sub-agent.

One message of the model is written as several lines, one per content block. Each line repeats the
id of the message and its usage, and the first lines are written before the message is complete. A
call is therefore one message, with the usage of the line that has the most output. Resumed and
forked sessions repeat the lines of earlier ones: a call's id is made from its message's id, so that
the store counts it once.
"""

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from workbench.sources.json_lines import (
    content_text,
    lines,
    member,
    moment,
    seconds,
    text,
    type_of,
)
from workbench.sources.report import FileReport
from workbench.sources.transcript import Transcript
from workbench.usage import count, normalise

NAME = "claude-code"
TASK = Task(task=NAME, description="Sessions of Claude Code.")
_STOPS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "refusal": "content_filter",
}
# types of lines without information on calls, or that repeat other lines
_IGNORED_TYPES = {
    "ai-title",
    "agent-name",
    "attachment",
    "custom-title",
    "file-history-snapshot",
    "last-prompt",
    "mode",
    "permission-mode",
    "pr-link",
    "progress",
    "queue-operation",
    "tag",
}
_UNIQUE_ID_LENGTH = 16  # shorter ids of messages may be repeated by another gateway
_SYNTHETIC = "<synthetic>"


class ClaudeCode:
    """Source of session files, `~/.claude/projects/…/*.jsonl`, including those of sub-agents."""

    name = NAME
    title = "Claude Code session (.jsonl)"

    def detect(self, path: Path) -> bool:
        """Return whether one of the first lines is a line of a session."""
        return any(map(_is_line, heads.lines(path)))

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


SOURCE = ClaudeCode()


def _is_line(line: Line) -> bool:
    is_message = type_of(line) in {"user", "assistant", "system"}
    has_ids = "parentUuid" in line and "uuid" in line
    has_usage = bool(member(member(line, "message"), "usage"))
    return is_message and isinstance(line.get("sessionId"), str) and (has_ids or has_usage)


@dataclasses.dataclass(slots=True)
class _Answer:
    """One message of the model, assembled from its lines."""

    ordinal: int
    key: str
    asked_at: dt.datetime | None  # None if the line that it answers is not in the file
    started_at: dt.datetime | None
    ended_at: dt.datetime | None = None
    model: str | None = None
    request_id: str | None = None
    message_id: str | None = None
    stop: str | None = None
    usage: Line | None = None
    size: tuple[int, int] = (0, 0)  # of the usage: tokens of the output, and of all kinds
    n_lines: int = 0
    blocks: dict[str, int] = dataclasses.field(default_factory=dict)  # kind → place of the last
    last: str = ""


@dataclasses.dataclass(slots=True)
class _ToolUse:
    """A request to run a tool, and its result once it is read."""

    ordinal: int
    id: str
    name: str
    arguments: str | None
    call: int
    asked_at: dt.datetime | None
    answered_at: dt.datetime | None = None
    result: str | None = None
    failed: bool = False


class _Session:
    """Assembles one session, line by line."""

    def __init__(self, report: FileReport) -> None:
        self.report = report
        self.answers: dict[str, _Answer] = {}
        self.tools: dict[str, _ToolUse] = {}
        self.transcript = Transcript()
        self.seen: set[str] = set()
        self.times: dict[str, dt.datetime] = {}  # of lines to which a model may answer
        self.session: str | None = None  # of the last line: the first ones may be copied
        self.agent: str | None = None
        self.facts: dict[str, str] = {}
        self.versions: set[str] = set()
        self.first_at: dt.datetime | None = None
        self.last_at: dt.datetime | None = None
        self.prompt: str | None = None
        self.error: str | None = None
        self.n_lines = 0
        self.n_compacted = 0
        self.n_repeated = 0
        self.n_sidechain = 0
        self.n_message_lines = 0
        self.n_agent_lines = 0
        self.n_sidechain_lines = 0
        self.first_uuid: str | None = None
        self.stated_usd: float | None = None

    def add(self, line: Line) -> None:
        """Add one line."""
        self.n_lines += 1
        kind = type_of(line)
        uuid = text(line.get("uuid"))
        if uuid is not None:
            if uuid in self.seen:
                self.report.notes["lines that repeat an earlier line"] += 1
                return
            self.seen.add(uuid)
        at = moment(line.get("timestamp"))
        if kind in {"user", "assistant"}:
            self._read_common_fields(line, at)
        if kind == "assistant":
            self._read_assistant(line, at)
        elif kind == "user":
            self._read_user(line, at)
            if uuid is not None and at is not None:
                self.times[uuid] = at
        elif kind == "system":
            self.n_compacted += line.get("subtype") == "compact_boundary"
        elif kind == "summary":
            self.facts.setdefault("title", str(line.get("summary")))
        elif kind not in _IGNORED_TYPES:
            self.report.notes[f"lines of type {kind!r}, skipped"] += 1

    def _read_common_fields(self, line: Line, at: dt.datetime | None) -> None:
        self.n_message_lines += 1
        self.n_sidechain_lines += line.get("isSidechain") is True
        self.first_uuid = self.first_uuid or text(line.get("uuid"))
        self.session = text(line.get("sessionId")) or self.session
        if agent := text(line.get("agentId")):
            self.agent = agent
            self.n_agent_lines += 1
        if version := text(line.get("version")):
            self.versions.add(version)
        for name in ("cwd", "gitBranch"):
            if value := text(line.get(name)):
                self.facts.setdefault(name, value)
        if at is not None:
            self.first_at = min(at, self.first_at or at)
            self.last_at = max(at, self.last_at or at)

    # -- lines of the model ----------------------------------------------------------------------

    def _read_assistant(self, line: Line, at: dt.datetime | None) -> None:
        message = member(line, "message")
        if message.get("model") == _SYNTHETIC or line.get("isApiErrorMessage"):
            self.report.notes["messages written by Claude Code itself: no calls"] += 1
            self.error = (
                content_text(message.get("content")) if line.get("isApiErrorMessage") else None
            )
            return
        self.error = None
        answer = self._answer(line, message, at)
        answer.n_lines += 1
        answer.ended_at = at or answer.ended_at
        answer.model = text(message.get("model")) or answer.model
        answer.request_id = text(line.get("requestId")) or answer.request_id
        answer.message_id = text(message.get("id")) or answer.message_id
        answer.stop = text(message.get("stop_reason")) or answer.stop
        self._keep_usage(answer, message.get("usage"))
        if isinstance(cost := line.get("costUSD"), (int, float)) and not isinstance(cost, bool):
            self.stated_usd = (self.stated_usd or 0) + cost
        content = message.get("content")
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
        for block in blocks:
            if isinstance(block, dict):
                self._add_block(answer, block, at)

    def _answer(self, line: Line, message: Line, at: dt.datetime | None) -> _Answer:
        key = text(message.get("id")) or text(line.get("requestId")) or text(line.get("uuid"))
        key = key or f"line {self.n_lines}"
        answer = self.answers.get(key)
        if answer is None:
            asked_at = self.times.get(str(line.get("parentUuid")))
            answer = _Answer(len(self.answers), key, asked_at, asked_at or at)
            self.answers[key] = answer
            self.n_sidechain += bool(line.get("isSidechain")) and not line.get("agentId")
        return answer

    def _keep_usage(self, answer: _Answer, usage: object) -> None:
        """Keep the usage with the most output; the last one if several are equal."""
        if not isinstance(usage, dict):
            return
        if answer.usage is not None:
            self.n_repeated += 1
        size = _size(usage)
        if answer.usage is None or size >= answer.size:
            answer.usage = usage
            answer.size = size

    def _add_block(self, answer: _Answer, block: Line, at: dt.datetime | None) -> None:
        kind = type_of(block)
        if kind == "text":
            self._add_text(answer, "text", str(block.get("text") or ""))
        elif kind == "thinking":
            thought = str(block.get("thinking") or "")
            self._add_text(answer, "thinking", thought)
            if not thought and block.get("signature"):
                self.report.notes["thinking whose text is not in the file"] += 1
        elif kind == "redacted_thinking":
            self.report.notes["thinking whose text is not in the file"] += 1
        elif kind in {"tool_use", "server_tool_use"}:
            self._add_tool_use(answer, block, at)
        elif kind.endswith("_tool_result"):
            self._add_tool_result(block, at)
        else:
            self.report.notes[f"message parts of type {kind!r}: only the type is stored"] += 1

    def _add_text(self, answer: _Answer, kind: str, content: str) -> None:
        """Append a text; one that begins with the call's previous text replaces it."""
        place = answer.blocks.get(kind)
        if place is not None and answer.last == kind:
            before = self.transcript.messages[place].text
            if content.startswith(before):
                self.transcript.change(place, text=content)
                return
            if before.startswith(content):
                return
        place = self.transcript.add("assistant", kind, content, call=answer.ordinal)
        if place is not None:
            answer.blocks[kind] = place
            answer.last = kind

    def _add_tool_use(self, answer: _Answer, block: Line, at: dt.datetime | None) -> None:
        id = text(block.get("id")) or f"{answer.key}/{len(self.tools)}"
        if id in self.tools:
            return
        arguments = json_text(block.get("input")) if block.get("input") is not None else None
        name = str(block.get("name") or "unknown")
        self.tools[id] = tool = _ToolUse(len(self.tools), id, name, arguments, answer.ordinal, at)
        shown = f"{name}({arguments or ''})"
        self.transcript.add("assistant", "tool_call", shown, call=answer.ordinal, tool=tool.ordinal)
        answer.last = "tool_call"

    # -- lines of others -------------------------------------------------------------------------

    def _read_user(self, line: Line, at: dt.datetime | None) -> None:
        role = "system" if line.get("isMeta") or line.get("isCompactSummary") else "user"
        content = member(line, "message").get("content")
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
        for block in blocks:
            kind = type_of(block)
            if kind == "tool_result":
                self._add_tool_result(block, at)
            elif kind == "text":
                user_text = str(block.get("text") or "")
                self.transcript.add(role, "text", user_text)
                if role == "user" and user_text and self.prompt is None:
                    self.prompt = user_text
            else:
                self.report.notes[f"message parts of type {kind!r}: only the type is stored"] += 1

    def _add_tool_result(self, block: Line, at: dt.datetime | None) -> None:
        tool = self.tools.get(str(block.get("tool_use_id")))
        result = content_text(block.get("content"))
        self.transcript.add("tool", "tool_result", result, tool=tool.ordinal if tool else None)
        if tool is None:
            self.report.notes["results of tools without a request in this file"] += 1
        elif tool.result is None:
            tool.result = result
            tool.answered_at = at
            tool.failed = bool(block.get("is_error"))

    # -- records ---------------------------------------------------------------------------------

    def records(self, path: Path) -> Iterator[AnyRecord]:
        """Yield the session's records; none if no model was called."""
        if not self.answers:
            self.report.why_empty = "a session in which no model was called"
            return
        self.report.rows_in += 1
        self._notes()
        session = self.session or path.stem
        agent = self._agent_id()
        key = f"{session}/{agent}" if agent else session
        run_id = content_id(NAME, session, agent)
        calls = tuple(map(self._call, self.answers.values()))
        about: dict[str, Any] = {
            **self.facts,
            "session": session,
            "agent": agent,
            "n_compactions": self.n_compacted or None,
            "stated_cost_usd": self.stated_usd,
        }
        item = Item(
            task_id=TASK.task_id, item=key, input=self.prompt, cluster=self.facts.get("cwd")
        )
        configuration = _configuration(calls)
        yield Run(
            run_id=run_id,
            kind="import",
            source=NAME,
            origin=path.name,
            started_at=self.first_at,
            versions=json_text({NAME: sorted(self.versions)}) if self.versions else None,
        )
        yield from (TASK, item, configuration)
        texts = [
            m.text for m in self.transcript.messages if m.role == "assistant" and m.kind == "text"
        ]
        self.report.rows_out += 1
        yield Trace(
            run_id=run_id,
            configuration_id=configuration.configuration_id,
            task_id=TASK.task_id,
            item_id=item.item_id,
            trace_id=content_id("trace", NAME, session, agent),
            started_at=self.first_at,
            e2e_s=seconds(self.first_at, self.last_at),
            answer=texts[-1] if texts else None,
            n_turns=len(calls),
            error_type="api_error" if self.error else None,
            error_message=self.error,
            metadata=json_text({k: v for k, v in about.items() if v is not None}),
            calls=calls,
            tool_calls=tuple(map(_tool_call, self.tools.values())),
            messages=tuple(self.transcript.messages),
        )

    def _agent_id(self) -> str | None:
        """Return the id of the sub-agent whose file this is; None for a session's own file.

        Its lines bear the id of the session. Where they name no agent, the first line stands for
        it.
        """
        if self.n_agent_lines == self.n_message_lines:
            return self.agent
        return self.first_uuid if self.n_sidechain_lines == self.n_message_lines else None

    def _notes(self) -> None:
        notes = self.report.notes
        notes[f"{self.n_lines:,} lines are {len(self.answers):,} calls"] += 1
        notes[
            "times of calls and tools are those of the lines; they include waits for permission"
        ] += 1
        if self.n_repeated:
            notes["lines that repeat a call's usage, counted once"] += self.n_repeated
        if self.n_sidechain:
            notes["calls of sub-agents inside the session"] += self.n_sidechain
        small = sum(
            (count(member({"u": a.usage}, "u").get("output_tokens")) or 0) <= 5
            for a in self.answers.values()
        )
        if small * 2 > len(self.answers) > 3:
            notes[
                "calls with an output of 5 tokens or fewer: "
                "the program may have logged half of them"
            ] += small

    def _call(self, answer: _Answer) -> Call:
        usage = answer.usage
        if usage is not None and not any(answer.size):
            self.report.notes["calls whose usage is all zeros: treated as unknown"] += 1
            usage = None
        counts = normalise(usage, "messages")
        if usage is not None:
            self.report.conventions["messages"] += 1
            self._usage_notes(usage)
        fast = usage is not None and usage.get("speed") == "fast"
        tier = "fast" if fast else text((usage or {}).get("service_tier"))
        identity = (
            [answer.key]
            if len(answer.key) >= _UNIQUE_ID_LENGTH
            else [answer.key, str(answer.started_at)]
        )
        return Call(
            ordinal=answer.ordinal,
            call_id=content_id("call", NAME, *identity),
            provider=_provider(answer.key, answer.model),
            model=answer.model,
            response_model=answer.model,
            started_at=answer.started_at,
            e2e_s=seconds(answer.asked_at, answer.ended_at),
            stop_reason=_STOPS.get(answer.stop, "unknown") if answer.stop else None,
            request_id=answer.request_id,
            response_id=answer.message_id,
            service_tier=tier,
            usage=json_text(usage) if usage is not None else None,
            **counts.known(),
        )

    def _usage_notes(self, usage: Line) -> None:
        notes = self.report.notes
        if usage.get("cache_creation_input_tokens") and not member(usage, "cache_creation"):
            notes[
                "cache writes of unknown lifetime, priced as those of 5 minutes:"
                " costs are a lower bound"
            ] += 1
        searches = count(member(usage, "server_tool_use").get("web_search_requests"))
        if searches:
            notes["web searches, which are billed separately; costs exclude them"] += searches


def _size(usage: Line) -> tuple[int, int]:
    """Return the tokens of the output, and those of all kinds."""
    output = count(usage.get("output_tokens")) or 0
    given = count(usage.get("input_tokens")) or 0
    read = count(usage.get("cache_read_input_tokens")) or 0
    written = count(usage.get("cache_creation_input_tokens")) or 0
    return output, output + given + read + written


def _provider(message: str, model: str | None) -> str | None:
    """Return the provider by the form of a message's id; the log does not contain it."""
    if message.startswith("msg_bdrk_"):
        return "bedrock"
    if message.startswith("msg_vrtx_"):
        return "vertex"
    return "anthropic" if (model or "").startswith("claude-") else None


def _configuration(calls: tuple[Call, ...]) -> Configuration:
    """Return the configuration of a session: the model with the most output tokens."""
    written: Counter[tuple[str | None, str]] = Counter()
    for call in calls:
        written[call.provider, call.model or "unknown"] += call.output_tokens or 0
    provider, model = max(written, key=lambda pair: (written[pair], str(pair)))
    return Configuration(model=model, provider=provider, strategy=NAME)


def _tool_call(tool: _ToolUse) -> ToolCall:
    failure: dict[str, Any] = {}
    if tool.failed:
        failure = {"error_type": "failed", "error_message": tool.result}
    return ToolCall(
        ordinal=tool.ordinal,
        tool=tool.name,
        call_ordinal=tool.call,
        arguments=tool.arguments,
        tool_call_id=content_id("tool call", NAME, tool.id, str(tool.asked_at)),
        started_at=tool.asked_at,
        e2e_s=seconds(tool.asked_at, tool.answered_at),
        result_bytes=None if tool.result is None else len(tool.result.encode(errors="replace")),
        **failure,
    )
