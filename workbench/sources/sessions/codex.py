"""Source of Codex' rollouts: one file of JSON lines per thread.

Usage is written in two ways. `token_usage_record` has the usage of one answer with its id.
`token_count`, the only one in older files, has the counters of the last answer and of the thread,
and is repeated whenever the screen is redrawn: a new answer is one that advances the thread's
counter. Forks and sub-agents begin with a copy of the lines of their parent thread. An answer is
identified by its id, else by its turn and counters, so that the store counts it once, for the
thread that began first.
"""

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from workbench.decoding import UNDECODABLE
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
from workbench.sources.report import FileReport, Total
from workbench.sources.transcript import Transcript
from workbench.usage import Usage, count

NAME = "codex"
TASK = Task(task=NAME, description="Threads of Codex.")
_LINE_TYPES = {
    "session_meta",
    "turn_context",
    "response_item",
    "event_msg",
    "token_usage_record",
    "compacted",
}
_TOOL_CALL_TYPES = {
    "function_call",
    "custom_tool_call",
    "local_shell_call",
    "web_search_call",
    "tool_search_call",
    "image_generation_call",
}
_TOOL_RESULT_TYPES = {"function_call_output", "custom_tool_call_output", "tool_search_output"}


class Codex:
    """Source of rollouts of the Codex CLI, desktop app and extension."""

    name = NAME
    title = "Codex rollout (.jsonl)"

    def detect(self, path: Path) -> bool:
        """Return whether one of the first lines is a line of a rollout."""
        return any(map(_is_line, heads.lines(path)))

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, then the thread's task, item, configuration and trace."""
        del mapping  # the format defines its fields
        report.format = self.name
        thread = _Thread(report)
        for _, line in lines(path, report):
            thread.add(line)
        yield from thread.records(path)


SOURCE = Codex()


def _is_line(line: Line) -> bool:
    payload = member(line, "payload")
    if type_of(line) not in _LINE_TYPES or "timestamp" not in line or not payload:
        return False
    is_known = type_of(line) != "event_msg" or type_of(payload) in {
        "token_count",
        "user_message",
        "task_started",
    }
    return bool(is_known)


@dataclasses.dataclass(slots=True)
class _Answer:
    """One answer of the model, from either kind of usage line."""

    key: tuple[object, ...]
    usage: Line
    ended_at: dt.datetime | None
    asked_at: dt.datetime | None
    turn: str | None
    model: str | None
    effort: str | None
    recorded: bool
    tier: str | None = None
    response_id: str | None = None
    parts: list[int] = dataclasses.field(default_factory=list)  # places in the transcript
    tools: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class _Tool:
    """A request to run a tool, and its result once it is read."""

    ordinal: int
    name: str
    arguments: str | None
    asked_at: dt.datetime | None
    place: int | None
    answered_at: dt.datetime | None = None
    result: str | None = None
    failure: str | None = None


class _Thread:
    """Assembles one thread, line by line."""

    def __init__(self, report: FileReport) -> None:
        self.report = report
        self.answers: list[_Answer] = []
        self.tools: dict[str, _Tool] = {}
        self.transcript = Transcript()
        self.event_transcript = Transcript()  # used in files without items, whose texts it repeats
        self.meta: Line = {}
        self.parents: list[str] = []
        self.turn: str | None = None
        self.model: str | None = None
        self.effort: str | None = None
        self.tier: str | None = None
        self.provider: str | None = None
        self.total: int | None = None  # last total of the whole thread
        self.baseline: int | None = None
        self.chain: str | None = None
        self.keys: set[str] = set()
        self.input_at: dt.datetime | None = None
        self.first_at: dt.datetime | None = None
        self.last_at: dt.datetime | None = None
        self.parts: list[int] = []
        self.tool_ids: list[str] = []
        self.prompt: str | None = None
        self.start: Line = {}
        self.n_lines = 0
        self.n_repeated = 0
        self.n_compacted = 0
        self.has_items = False

    def add(self, line: Line) -> None:
        """Add one line."""
        self.n_lines += 1
        self.start = self.start or line
        at = moment(line.get("timestamp"))
        if at is not None:
            self.first_at = min(at, self.first_at or at)
            self.last_at = max(at, self.last_at or at)
        payload = member(line, "payload")
        kind = type_of(line)
        if kind == "session_meta":
            self._read_meta(payload)
        elif kind == "turn_context":
            self.turn = text(payload.get("turn_id"))
            self.model = text(payload.get("model")) or self.model
            self.effort = text(payload.get("effort")) or self.effort
        elif kind == "response_item":
            self._read_item(payload, at)
        elif kind == "event_msg":
            self._read_event(payload, at)
        elif kind == "token_usage_record":
            self._read_usage_record(payload, at)
        elif kind == "compacted":
            self.n_compacted += 1

    def _read_meta(self, payload: Line) -> None:
        """Read a session_meta: the first describes the thread, later ones begin copied lines."""
        if not self.meta:
            self.meta = payload
            self.provider = text(payload.get("model_provider"))
        elif (id := text(payload.get("id"))) and id not in (self.meta.get("id"), *self.parents):
            self.parents.append(id)

    # -- usage -----------------------------------------------------------------------------------

    def _read_usage_record(self, payload: Line, at: dt.datetime | None) -> None:
        usage = member(payload, "usage")
        if not usage:
            return
        turn = text(payload.get("turn_id")) or self.turn
        response = text(payload.get("response_id"))
        key = ("response", response) if response else ("record", turn, usage, str(at))
        if (known := content_id(*key)) in self.keys:
            self.n_repeated += 1
            return
        self.keys.add(known)
        self._add_answer(key, usage, at, turn, recorded=True)
        self.answers[-1].tier = text(payload.get("service_tier")) or self.tier
        self.answers[-1].response_id = response

    def _read_token_count(self, payload: Line, at: dt.datetime | None) -> None:
        info = member(payload, "info")
        last = member(info, "last_token_usage")
        thread = member(info, "total_token_usage")
        if not last and not thread:
            return  # the line has rate limits only
        total = _total(thread)
        if total is not None and total == self.total:
            self.n_repeated += 1
            return
        if not last:
            self.report.notes["counts of the thread without those of the answer: skipped"] += 1
            self.total = total
            return
        self.model = text(info.get("model")) or self.model
        if total is None:
            self.report.notes[
                "answers without a counter of the thread: repeats cannot be detected"
            ] += 1
        elif self.total is None:
            self.baseline = total - (_total(last) or 0)
        elif total < self.total:
            self.report.notes["decreases of the thread's counter"] += 1
            self.baseline = None
        self.total = total
        identity = (last, thread, self.turn)
        before = (self.chain or self._parent_thread()) if self.turn is None else None
        self.chain = content_id(before, *identity)
        self._add_answer(("count", self.chain), last, at, self.turn, recorded=False)

    def _parent_thread(self) -> str | None:
        """Return the thread whose counter this one continues: its parent, else itself."""
        if self.parents:
            return self.parents[-1]
        return text(self.meta.get("forked_from_id")) or text(self.meta.get("id"))

    def _add_answer(
        self,
        key: tuple[object, ...],
        usage: Line,
        at: dt.datetime | None,
        turn: str | None,
        *,
        recorded: bool,
    ) -> None:
        self.answers.append(
            _Answer(
                key,
                usage,
                at,
                self.input_at,
                turn,
                self.model,
                self.effort,
                recorded,
                self.tier,
                None,
                self.parts,
                self.tool_ids,
            )
        )
        self.parts = []
        self.tool_ids = []

    # -- messages and tools ----------------------------------------------------------------------

    def _read_event(self, payload: Line, at: dt.datetime | None) -> None:
        kind = type_of(payload)
        if kind == "token_count":
            self._read_token_count(payload, at)
        elif kind == "thread_settings_applied":
            self.tier = text(payload.get("service_tier")) or self.tier
        elif kind in {"user_message", "agent_message", "agent_reasoning"}:
            role = "user" if kind == "user_message" else "assistant"
            content = text(payload.get("message")) or text(payload.get("text")) or ""
            self.event_transcript.add(
                role, "thinking" if kind == "agent_reasoning" else "text", content
            )
            if kind == "user_message":
                self.input_at = at
                self.prompt = self.prompt or content

    def _read_item(self, item: Line, at: dt.datetime | None) -> None:
        self.has_items = True
        kind = type_of(item)
        if kind == "message":
            self._read_message(item, at)
        elif kind == "reasoning":
            thought = content_text(item.get("summary")) or content_text(item.get("content"))
            self._add_part(self.transcript.add("assistant", "thinking", thought))
            if not thought and item.get("encrypted_content"):
                self.report.notes["thinking whose text is not in the file"] += 1
        elif kind in _TOOL_CALL_TYPES:
            self._add_tool_call(item, at)
        elif kind in _TOOL_RESULT_TYPES:
            self._add_tool_result(item, at)
        elif kind != "compaction":
            self.report.notes[f"items of type {kind!r}: only the type is stored"] += 1

    def _read_message(self, item: Line, at: dt.datetime | None) -> None:
        role = str(item.get("role"))
        content = content_text(item.get("content"))
        if role == "assistant":
            self._add_part(self.transcript.add(role, "text", content))
            return
        self.input_at = at
        injected = role != "user" or content.lstrip().startswith(("<", "# AGENTS.md"))
        self.transcript.add("system" if injected else "user", "text", content)
        if not injected:
            self.prompt = self.prompt or content or None

    def _add_part(self, place: int | None) -> None:
        if place is not None:
            self.parts.append(place)

    def _add_tool_call(self, item: Line, at: dt.datetime | None) -> None:
        id = text(item.get("call_id")) or text(item.get("id")) or f"tool {len(self.tools)}"
        if id in self.tools:
            return
        raw_arguments = next(
            (item[k] for k in ("arguments", "input", "action") if item.get(k) is not None), None
        )
        arguments = _json_arguments(raw_arguments)
        name = text(item.get("name")) or type_of(item).removesuffix("_call")
        name = ".".join(filter(None, (text(item.get("namespace")), name)))
        place = self.transcript.add(
            "assistant", "tool_call", f"{name}({arguments or ''})", tool=len(self.tools)
        )
        self.tools[id] = _Tool(len(self.tools), name, arguments, at, place)
        self._add_part(place)
        self.tool_ids.append(id)

    def _add_tool_result(self, item: Line, at: dt.datetime | None) -> None:
        self.input_at = at
        tool = self.tools.get(str(item.get("call_id")))
        result, failure = _result(item.get("output"))
        self.transcript.add("tool", "tool_result", result, tool=tool.ordinal if tool else None)
        if tool is None:
            self.report.notes["results of tools without a request in this file"] += 1
        elif tool.result is None:
            tool.result = result
            tool.answered_at = at
            tool.failure = failure

    # -- records ---------------------------------------------------------------------------------

    def records(self, path: Path) -> Iterator[AnyRecord]:
        """Yield the thread's records; none if no model was called."""
        answers = self._final_answers()
        if not answers:
            self.report.why_empty = "a thread in which no model was called"
            return
        self.report.rows_in += 1
        began = moment(self.meta.get("timestamp")) or self.first_at  # copied lines may be older
        thread = text(self.meta.get("id")) or content_id(NAME, self.start)
        calls = tuple(self._call(n, answer) for n, answer in enumerate(answers))
        run_id = content_id(NAME, thread)
        item = Item(
            task_id=TASK.task_id, item=thread, input=self.prompt, cluster=text(self.meta.get("cwd"))
        )
        configuration = _configuration(calls)
        version = text(self.meta.get("cli_version"))
        yield Run(
            run_id=run_id,
            kind="import",
            source=NAME,
            origin=path.name,
            started_at=began,
            versions=json_text({NAME: version}) if version else None,
            commit_sha=text(member(self.meta, "git").get("commit_hash")),
        )
        yield from (TASK, item, configuration)
        messages = (self.transcript if self.has_items else self.event_transcript).messages
        texts = [m.text for m in messages if m.role == "assistant" and m.kind == "text"]
        self.report.rows_out += 1
        yield Trace(
            run_id=run_id,
            configuration_id=configuration.configuration_id,
            task_id=TASK.task_id,
            item_id=item.item_id,
            trace_id=content_id("trace", NAME, thread),
            started_at=began,
            e2e_s=seconds(began, self.last_at),
            answer=texts[-1] if texts else None,
            n_turns=len(calls),
            metadata=self._metadata(),
            calls=calls,
            tool_calls=self._tool_calls(answers),
            messages=tuple(messages),
        )

    def _final_answers(self) -> list[_Answer]:
        """Return the answers, of turns with usage records only those; check the thread's total."""
        turns = {a.turn for a in self.answers if a.recorded}
        answers = [a for a in self.answers if a.recorded or a.turn not in turns]
        self._notes(len(answers))
        has_records = any(a.recorded for a in answers)
        if not has_records and self.total is not None and self.baseline is not None:
            added = sum(_total(a.usage) or 0 for a in answers)
            self.report.totals.append(
                Total("tokens of the thread", self.total - self.baseline, added)
            )
        if self.baseline and not self.parents and not has_records:
            self.report.notes[
                "tokens that the thread had before its first answer here, from a parent thread"
            ] += self.baseline
        return answers

    def _notes(self, n_calls: int) -> None:
        notes = self.report.notes
        notes[f"{self.n_lines:,} lines are {n_calls:,} calls"] += 1
        notes[
            "times of calls and tools are those of the lines; they include waits for approval"
        ] += 1
        if self.n_repeated:
            notes["repeated counts, counted once"] += self.n_repeated
        if self.parents:
            notes[
                "parent threads, whose answers this one repeats:"
                " counted once if both are in the store"
            ] += len(self.parents)

    def _call(self, ordinal: int, answer: _Answer) -> Call:
        for place in answer.parts:
            self.transcript.change(place, call_ordinal=ordinal)
        counts, convention = _usage(answer.usage)
        self.report.conventions[convention] += 1
        return Call(
            ordinal=ordinal,
            call_id=content_id("call", NAME, *answer.key),
            provider=self.provider,
            model=answer.model,
            response_model=None,
            started_at=answer.asked_at or answer.ended_at,
            e2e_s=seconds(answer.asked_at, answer.ended_at),
            request_id=answer.response_id,
            response_id=answer.response_id,
            service_tier=answer.tier,
            effort_sent=answer.effort,
            usage=json_text(answer.usage),
            **counts.known(),
        )

    def _tool_calls(self, answers: list[_Answer]) -> tuple[ToolCall, ...]:
        call_by_tool_id = {id: n for n, answer in enumerate(answers) for id in answer.tools}
        return tuple(
            _tool_call(id, tool, call_by_tool_id.get(id)) for id, tool in self.tools.items()
        )

    def _metadata(self) -> str:
        source = self.meta.get("source")
        about = {
            "cwd": self.meta.get("cwd"),
            "originator": self.meta.get("originator"),
            "branch": member(self.meta, "git").get("branch"),
            "source": source,
            "forked_from": self.meta.get("forked_from_id"),
            "copied_from": self.parents,
            "n_compactions": self.n_compacted,
        }
        return json_text({name: value for name, value in about.items() if value})


def _total(usage: Line) -> int | None:
    stated = count(usage.get("total_tokens"))
    prompt = count(usage.get("input_tokens"))
    output = count(usage.get("output_tokens"))
    return stated if stated is not None or prompt is None or output is None else prompt + output


def _usage(usage: Line) -> tuple[Usage, str]:
    """Read Codex' counters: input includes cached tokens; the total decides about thinking."""
    prompt, output, thinking, total = (
        count(usage.get(name))
        for name in ("input_tokens", "output_tokens", "reasoning_output_tokens", "total_tokens")
    )
    convention = "responses"
    if (
        thinking
        and prompt is not None
        and output is not None
        and prompt + output + thinking == total
    ):
        output += thinking
        convention = "output excludes thinking"
    counts = Usage(
        input_tokens=prompt,
        cache_read_tokens=count(usage.get("cached_input_tokens")),
        cache_write_5m_tokens=count(usage.get("cache_write_input_tokens")),
        output_tokens=output,
        reasoning_tokens=thinking,
        total_tokens=total,
        tokens_source="reported",
    )
    return counts, convention


def _json_arguments(value: object) -> str | None:
    """Write arguments as JSON; text that is JSON stays, other text becomes a JSON string."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            msgspec.json.decode(value)
        except UNDECODABLE:
            return json_text(value)
        return value
    return json_text(value)


def _result(output: object) -> tuple[str, str | None]:
    """Return a tool's output as (text, failure); some versions write both as JSON in the text."""
    value = output
    if isinstance(output, str) and output.lstrip()[:1] == "{":
        try:
            value = msgspec.json.decode(output)
        except UNDECODABLE:
            value = output
    if not isinstance(value, dict):
        return content_text(value), None
    text_value = value.get("output", value.get("content"))
    result = content_text(text_value) if text_value is not None else content_text(output)
    code = member(value, "metadata").get("exit_code", value.get("exit_code"))
    if isinstance(code, int) and code != 0:
        return result, f"exit code {code}"
    return result, "failed" if value.get("success") is False else None


def _tool_call(id: str, tool: _Tool, call: int | None) -> ToolCall:
    failure: dict[str, Any] = {}
    if tool.failure:
        failure = {"error_type": "failed", "error_message": tool.failure}
    return ToolCall(
        ordinal=tool.ordinal,
        tool=tool.name,
        call_ordinal=call,
        arguments=tool.arguments,
        tool_call_id=content_id("tool call", NAME, id, tool.arguments),
        started_at=tool.asked_at,
        e2e_s=seconds(tool.asked_at, tool.answered_at),
        result_bytes=None if tool.result is None else len(tool.result.encode(errors="replace")),
        **failure,
    )


def _configuration(calls: tuple[Call, ...]) -> Configuration:
    """Return the configuration of a thread: the model and effort with the most output tokens."""
    written: Counter[tuple[str | None, str, str | None]] = Counter()
    for call in calls:
        written[call.provider, call.model or "unknown", call.effort_sent] += call.output_tokens or 0
    provider, model, effort = max(written, key=lambda three: (written[three], str(three)))
    return Configuration(model=model, provider=provider, strategy=NAME, effort=effort)
