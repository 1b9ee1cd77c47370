"""Source of Gemini CLI's sessions: chats/session-*.jsonl, in older versions session-*.json.

The lines of a session are versions of its messages: a message is written again when its tokens or
tool calls are known, and the last version counts. A rewind or a compression removes messages from
the conversation. Their calls were paid for all the same, so every message that the file ever had is
kept. A session that was continued by a newer version is in both kinds of files, under one id.
"""

import dataclasses
import datetime as dt
import re
from collections import Counter
from collections.abc import Iterable, Iterator
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
from workbench.sources import heads, json_bytes
from workbench.sources.heads import Line
from workbench.sources.json_lines import content_text, lines, member, moment, seconds, text, type_of
from workbench.sources.report import FileReport
from workbench.sources.transcript import Transcript
from workbench.usage import Usage, count, normalise

NAME = "gemini-cli"
TASK = Task(task=NAME, description="Sessions of Gemini CLI.")
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_SESSION_KEYS = {"sessionId", "projectHash"}
_PROMPTS = re.compile(rb'\s*\[\s*\{\s*"sessionId":\s*"[^"]*",\s*"messageId":\s*\d')
_UNIQUE_ID_LENGTH = 16  # shorter ids of messages may be used in another session too
_FAILURES = {"error": "failed", "cancelled": "cancelled"}
_NAMES = {
    "input": "promptTokenCount",
    "output": "candidatesTokenCount",
    "cached": "cachedContentTokenCount",
    "thoughts": "thoughtsTokenCount",
    "tool": "toolUsePromptTokenCount",
    "total": "totalTokenCount",
}


class GeminiCli:
    """Source of session files, `~/.gemini/tmp/…/chats/`, including those of sub-agents."""

    name = NAME
    title = "Gemini CLI session (.jsonl, .json)"

    def detect(self, path: Path) -> bool:
        """Return whether the file begins as a session, or is the log of prompts."""
        if _PROMPTS.match(heads.start(path)):
            return True
        return set(heads.keys(path)) >= _SESSION_KEYS or any(map(_is_line, heads.lines(path)))

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run, then the session's task, item, configuration and trace.

        Raises:
            ImportFormatError: an older file is truncated or of another layout.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        if _PROMPTS.match(heads.start(path)):
            report.why_empty = "a log of prompts, which the files of the sessions repeat"
            return
        session = _Session(report)
        if heads.lines(path):
            for _, line in lines(path, report):
                session.add(line)
        else:
            document = json_bytes.document(path)
            session.add(json_bytes.decode(_OBJECT, document, str(path), report))
        yield from session.records(path)


SOURCE = GeminiCli()


def _is_line(line: Line) -> bool:
    return line.keys() >= _SESSION_KEYS or (
        type_of(line) == "gemini" and isinstance(line.get("id"), str) and "timestamp" in line
    )


@dataclasses.dataclass(slots=True)
class _Answer:
    """A call: a message of the model with its tokens, and messages that continue it."""

    message: Line
    asked_at: dt.datetime | None
    ended_at: dt.datetime | None
    id: str


class _Session:
    """Assembles one session from its lines."""

    def __init__(self, report: FileReport) -> None:
        self.report = report
        self.about: Line = {}
        self.messages: dict[str, Line] = {}  # every message that the session ever had, in order
        self.current: dict[str, None] = {}  # ids of those that it still has
        self.n_lines = 0
        self.n_rewound = 0
        self.names_models = False
        self.n_compacted = 0
        self.transcript = Transcript()
        self.answers: list[_Answer] = []
        self.tools: dict[str, ToolCall] = {}
        self.prompt: str | None = None
        self.error: str | None = None
        self.first_at: dt.datetime | None = None
        self.last_at: dt.datetime | None = None

    def add(self, line: Line) -> None:
        """Add one line: a message, a change of the session, or the session as a whole."""
        self.n_lines += 1
        if isinstance(line.get("$rewindTo"), str):
            self._rewind(line["$rewindTo"])
        elif isinstance(line.get("id"), str):
            self._add_message(line)
        elif "$set" in line:
            self._set(member(line, "$set"))
        elif isinstance(line.get("sessionId"), str):
            self._set(line)
        else:
            self.report.notes["lines of an unknown kind, skipped"] += 1

    def _add_message(self, message: Line) -> None:
        known = self.messages.get(message["id"], {})
        tokens = {} if message.get("tokens") else {"tokens": known.get("tokens")}
        self.messages[message["id"]] = message | tokens
        self.current[message["id"]] = None

    def _set(self, fields: Line) -> None:
        """Change the session; a list of messages replaces those that it has."""
        listed = fields.get("messages")
        if isinstance(listed, list):
            self.n_compacted += not self.current.keys() <= _ids(listed)
            self.current.clear()
            for message in listed:
                if isinstance(message, dict) and isinstance(message.get("id"), str):
                    # a message that is known may be masked here
                    if message["id"] not in self.messages:
                        self._add_message(message)
                    self.current[message["id"]] = None
        for name, value in fields.items():
            if name != "messages" and (name != "sessionId" or name not in self.about):
                self.about[name] = value

    def _rewind(self, id: str) -> None:
        ids = list(self.current)
        removed = ids[ids.index(id) :] if id in self.current else ids
        self.n_rewound += len(removed)
        for one in removed:
            del self.current[one]

    # -- records ---------------------------------------------------------------------------------

    def records(self, path: Path) -> Iterator[AnyRecord]:
        """Yield the session's records; none if no model was called."""
        self._read_messages()
        if not self.answers:
            self.report.why_empty = "a session in which no model was called"
            return
        self.report.rows_in += 1
        self._notes()
        first_id = next(iter(self.messages))
        session = text(self.about.get("sessionId")) or content_id(NAME, first_id)
        started_at = moment(self.about.get("startTime")) or self.first_at
        run_id = content_id(NAME, session)
        calls = tuple(self._call(n, session, answer) for n, answer in enumerate(self.answers))
        project = text(self.about.get("projectHash"))
        item = Item(task_id=TASK.task_id, item=session, input=self.prompt, cluster=project)
        configuration = _configuration(calls)
        yield Run(
            run_id=run_id, kind="import", source=NAME, origin=path.name, started_at=started_at
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
            trace_id=content_id("trace", NAME, session),
            started_at=started_at,
            e2e_s=seconds(started_at, self.last_at),
            answer=texts[-1] if texts else None,
            n_turns=len(calls),
            error_type="api_error" if self.error else None,
            error_message=self.error,
            metadata=self._metadata(session),
            calls=calls,
            tool_calls=tuple(self.tools.values()),
            messages=tuple(self.transcript.messages),
        )

    def _metadata(self, session: str) -> str:
        is_agent = self.about.get("kind") == "subagent"
        about = {
            "session": session,
            "agent": session if is_agent else None,
            "project": self.about.get("projectHash"),
            "directories": self.about.get("directories"),
            "title": text(self.about.get("summary")),
            "n_compactions": self.n_compacted,
            "n_rewound_messages": self.n_rewound,
        }
        return json_text({name: value for name, value in about.items() if value})

    def _notes(self) -> None:
        notes = self.report.notes
        notes[f"{self.n_lines:,} lines are {len(self.answers):,} calls"] += 1
        notes[
            "times of calls and tools are those of the lines; they include waits for approval"
        ] = 1
        removed = len(self.messages) - len(self.current)
        if removed:
            notes[
                "messages that a rewind or a compression removed: kept, since they were paid for"
            ] += removed

    def _read_messages(self) -> None:
        """Assemble calls, tool calls and the transcript, message by message."""
        self.names_models = any(text(m.get("model")) for m in self.messages.values())
        run: list[Line] = []
        before: dt.datetime | None = None  # when the model had all that it answers
        for message in self.messages.values():
            if type_of(message) == "gemini":
                run.append(message)
                continue
            before = self._read_run(run, before)
            run = []
            before = self._read_other(message) or before
        self._read_run(run, before)

    def _time(self, value: object) -> dt.datetime | None:
        at = moment(value)
        if at is not None:
            self.first_at = min(at, self.first_at or at)
            self.last_at = max(at, self.last_at or at)
        return at

    def _read_other(self, message: Line) -> dt.datetime | None:
        """Read what the model did not write; returns the time of what it answers."""
        kind = type_of(message)
        at = self._time(message.get("timestamp"))
        content = message.get("content")
        if kind == "user":
            parts = content if isinstance(content, list) else [content]
            others = [p for p in parts if not member(p, "functionResponse")]
            for part in parts:
                id = text(member(part, "functionResponse").get("id"))
                if id is not None and id not in self.tools:
                    self.transcript.add("tool", "tool_result", _result(part) or "")
                    self.report.notes["results of tools without a request in this file"] += 1
            if others or not parts:
                prompt = content_text(others if isinstance(content, list) else content)
                is_injected = prompt.startswith("<session_context>")
                self.transcript.add("system" if is_injected else "user", "text", prompt)
                if not is_injected:
                    self.prompt = self.prompt or prompt or None
            return at
        if kind == "error":
            self.error = content_text(content) or "error"
        elif kind not in {"info", "warning"}:
            self.report.notes[f"messages of type {kind!r}, skipped"] += 1
        return None

    def _read_run(self, run: list[Line], before: dt.datetime | None) -> dt.datetime | None:
        """Read messages of the model in a row; one without tokens belongs to its neighbour."""
        has_tokens = any(_counted(m) for m in run)
        n_before = len(self.answers)
        waiting: list[Line] = []
        for message in run:
            is_call = _counted(message) if has_tokens else self._is_answer(message)
            if is_call:
                at = self._time(message.get("timestamp"))
                self.answers.append(_Answer(message, before, at, message["id"]))
                self.error = None
            if len(self.answers) > n_before:
                for one in (*waiting, message):
                    before = self._read_content(one, len(self.answers) - 1) or before
                waiting = []
            else:
                waiting.append(message)
        for message in waiting:  # as the summary of a compression: no call is known
            before = self._read_content(message, None) or before
        return before

    def _is_answer(self, message: Line) -> bool:
        """Return whether a message without tokens is of a model; the earliest versions name none.

        The summary of a compression is a message of the same type without a model.
        """
        return bool(text(message.get("model"))) or not self.names_models

    def _read_content(self, message: Line, call: int | None) -> dt.datetime | None:
        """Read thoughts, text and tool calls; returns when the last tool ended."""
        at = self._time(message.get("timestamp"))
        for thought in _dicts(message.get("thoughts")):
            words = (text(thought.get("subject")), text(thought.get("description")))
            self.transcript.add("assistant", "thinking", "\n".join(filter(None, words)), call=call)
        content = message.get("content")
        if isinstance(content, list):
            content = [p for p in content if not member(p, "functionCall")]
        if content:
            self.transcript.add("assistant", "text", content_text(content), call=call)
        by_id = {
            text(tool.get("id")) or f"tool {n}": tool
            for n, tool in enumerate(_dicts(message.get("toolCalls")), len(self.tools))
        }
        new = {id: tool for id, tool in by_id.items() if id not in self.tools}
        first = len(self.tools)
        ended = [self._add_tool(id, tool, call, at) for id, tool in new.items()]
        for ordinal, tool in enumerate(new.values(), first):
            result = _result(tool.get("result")) or ""
            self.transcript.add("tool", "tool_result", result, tool=ordinal)
        return max(filter(None, (*ended, at)), default=None)

    def _add_tool(
        self, id: str, tool: Line, call: int | None, asked_at: dt.datetime | None
    ) -> dt.datetime | None:
        """Add a tool call; returns when it ended."""
        ended_at = self._time(tool.get("timestamp"))
        ordinal = len(self.tools)
        name = text(tool.get("name")) or "unknown"
        arguments = json_text(tool["args"]) if tool.get("args") is not None else None
        shown = f"{name}({arguments or ''})"
        self.transcript.add("assistant", "tool_call", shown, call=call, tool=ordinal)
        result = _result(tool.get("result"))
        failure: dict[str, Any] = {}
        if error_type := _FAILURES.get(str(tool.get("status"))):
            failure = {"error_type": error_type, "error_message": result}
        self.tools[id] = ToolCall(
            ordinal=ordinal,
            tool=name,
            call_ordinal=call,
            arguments=arguments,
            tool_call_id=content_id("tool call", NAME, id, str(tool.get("timestamp"))),
            started_at=asked_at,
            e2e_s=seconds(asked_at, ended_at),
            result_bytes=None if result is None else len(result.encode(errors="replace")),
            **failure,
        )
        return ended_at

    def _call(self, ordinal: int, session: str, answer: _Answer) -> Call:
        model = text(answer.message.get("model"))
        tokens = member(answer.message, "tokens")
        counts, convention = _usage(tokens)
        if convention:
            self.report.conventions[convention] += 1
        if tokens and not _adds_up(counts):
            self.report.mismatches.add(
                f"message {ordinal + 1} of the model: its tokens do not add up to their total"
            )
        is_unique = len(answer.id) >= _UNIQUE_ID_LENGTH
        return Call(
            ordinal=ordinal,
            call_id=content_id("call", NAME, answer.id if is_unique else [session, answer.id]),
            provider="google" if (model or "").startswith("gemini") else None,
            model=model,
            response_model=None,
            started_at=answer.asked_at or answer.ended_at,
            e2e_s=seconds(answer.asked_at, answer.ended_at),
            usage=json_text(tokens) if tokens else None,
            **counts.known(),
        )


def _ids(messages: Iterable[object]) -> set[str]:
    return {m["id"] for m in messages if isinstance(m, dict) and isinstance(m.get("id"), str)}


def _dicts(value: object) -> list[Line]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _counted(message: Line) -> bool:
    """Return whether a message has tokens; Gemini CLI writes 0 for a counter that it lacks."""
    return any(count(n) for n in member(message, "tokens").values())


def _usage(tokens: Line) -> tuple[Usage, str]:
    """Read the counters: input contains cached tokens, thoughts are beside the output.

    An early version wrote the input without cached tokens, which the total shows.
    """
    counters = {_NAMES[name]: n for name, n in tokens.items() if name in _NAMES}
    counters = {name: n for name, n in counters.items() if n or name != "totalTokenCount"}
    if not any(count(n) for n in counters.values()):
        return Usage(), ""
    usage = normalise(counters, "gemini")
    cached = usage.cache_read_tokens
    if cached and not _adds_up(usage):
        net = usage._replace(input_tokens=(usage.input_tokens or 0) + cached)
        if _adds_up(net):
            return net, "gemini, input without cached tokens"
    return usage, "gemini"


def _adds_up(usage: Usage) -> bool:
    if usage.total_tokens is None or usage.input_tokens is None or usage.output_tokens is None:
        return True
    return usage.input_tokens + usage.output_tokens == usage.total_tokens


def _result(value: object) -> str | None:
    """Return the text of a tool's result: what its function responses contain."""
    if value is None:
        return None
    parts = value if isinstance(value, list) else [value]
    texts = []
    for part in parts:
        response = member(member(part, "functionResponse"), "response")
        if response:
            output = response.get("output", response.get("error"))
            texts.append(output if isinstance(output, str) else json_text(response))
        elif part is not None:
            texts.append(content_text([part]))
    return "\n".join(texts)


def _configuration(calls: tuple[Call, ...]) -> Configuration:
    """Return the configuration of a session: the model with the most output tokens."""
    written: Counter[tuple[str | None, str]] = Counter()
    for call in calls:
        written[call.provider, call.model or "unknown"] += call.output_tokens or 0
    provider, model = max(written, key=lambda pair: (written[pair], str(pair)))
    return Configuration(model=model, provider=provider, strategy=NAME)
