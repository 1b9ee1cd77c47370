"""Batch results of OpenAI's API, compatible APIs and Anthropic's: JSON lines with a custom_id.

Results and errors are in two files, in any order, and do not repeat the requests. If the file of
requests is in the same folder, each result is joined with its request by the custom_id.
"""

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from workbench.decoding import UNDECODABLE
from workbench.prices import BATCH
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
    text,
    type_of,
)
from workbench.sources.report import FileReport
from workbench.sources.transcript import Transcript
from workbench.usage import Usage, normalise, usage_of

NAME = "batch"
TASK = Task(task=NAME, description="Requests of batches.")
_STOPS = {
    "stop": "stop",
    "length": "max_tokens",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "completed": "stop",
    "max_output_tokens": "max_tokens",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "refusal": "content_filter",
}
# fields of a request that are stored elsewhere, or are no part of a configuration
_PROMPT_FIELDS = {"input", "instructions", "messages", "prompt", "system"}
_OTHER_FIELDS = {
    "metadata",
    "model",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "user",
}
_ANY = msgspec.json.Decoder()


class BatchResults:
    """Source of batches: output and error files, joined with files of requests."""

    name = NAME
    title = "Batch results of OpenAI or Anthropic (.jsonl)"

    def detect(self, path: Path) -> bool:
        """Return whether the first line is a result or a request of a batch."""
        first = heads.lines(path)[:1]
        return bool(first) and (_is_result(first[0]) or _is_request(first[0]))

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield the run and task, then each result's item, configuration and trace."""
        del mapping  # the format defines its fields
        report.format = self.name
        reader = _Reader(path, report)
        yield from reader.records()


SOURCE = BatchResults()


def _is_result(line: Line) -> bool:
    response = line.get("response")
    answered = isinstance(response, dict) and "body" in response
    failed = isinstance(line.get("error"), dict) and response is None
    return isinstance(line.get("custom_id"), str) and (
        answered or failed or text(member(line, "result").get("type")) is not None
    )


def _is_request(line: Line) -> bool:
    has_request = bool(member(line, "params")) or (bool(member(line, "body")) and "url" in line)
    return isinstance(line.get("custom_id"), str) and has_request


class _RequestPlace(NamedTuple):
    """Position of a request: the file, and the byte offset of its line."""

    path: Path
    offset: int


@dataclasses.dataclass(slots=True)
class _Answer:
    """Result of one request, in any provider's format."""

    id: str
    anthropic: bool
    body: Line
    request_id: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    model: str | None = None
    stop: str | None = None
    answer: str | None = None
    created_at: dt.datetime | None = None
    transcript: Transcript = dataclasses.field(default_factory=Transcript)
    tools: list[ToolCall] = dataclasses.field(default_factory=list)


class _Reader:
    """Reader of one file of results."""

    def __init__(self, path: Path, report: FileReport) -> None:
        self.path = path
        self.report = report
        self.requests = _requests_in_folder(path, report)
        self.yielded_ids: set[str] = set()
        self.run_id = ""
        self.n_joined = 0

    def records(self) -> Iterator[AnyRecord]:
        """Yield the run and task, then the records of each result."""
        seen: set[str] = set()
        for number, line in lines(self.path, self.report):
            if _is_request(line):
                continue  # read with its result
            self.report.rows_in += 1
            if not _is_result(line):
                self.report.skipped["lines that are not results of a batch"] += 1
                continue
            answer = _read(line, number)
            if answer.id in seen:
                self.report.duplicates.add(
                    f"line {number}: an earlier line has the id {answer.id!r}"
                )
                continue
            seen.add(answer.id)
            if not self.run_id:
                yield self._run(answer)
                yield TASK
            yield from self._trace(answer, line["custom_id"])
        if not self.report.rows_in:
            self.report.why_empty = "requests of a batch, which are read with its results"
        self._notes()

    def _run(self, first: _Answer) -> Run:
        self.run_id = content_id(NAME, first.id)
        return Run(
            run_id=self.run_id, kind="import", source=NAME, origin=self.path.name, status="done"
        )

    def _notes(self) -> None:
        n = self.report.rows_out
        if n and self.n_joined < n:
            self.report.notes[
                "results without their request: put the file of requests into the same folder to"
                " import the questions, and the models and settings as requested"
            ] += n - self.n_joined

    def _trace(self, answer: _Answer, custom_id: str) -> Iterator[AnyRecord]:
        request = self._request(custom_id)
        question = _question(answer.transcript, request)
        item = Item(task_id=TASK.task_id, item=custom_id, input=question)
        provider = "anthropic" if answer.anthropic else _provider(answer)
        configuration = _configuration(request, answer, provider)
        for record, id in ((item, item.item_id), (configuration, configuration.configuration_id)):
            if id not in self.yielded_ids:
                self.yielded_ids.add(id)
                yield record
        self.report.rows_out += 1
        yield Trace(
            run_id=self.run_id,
            configuration_id=configuration.configuration_id,
            task_id=TASK.task_id,
            item_id=item.item_id,
            trace_id=content_id("trace", NAME, answer.id),
            started_at=answer.created_at,
            answer=answer.answer,
            n_turns=None if answer.error_type else 1,
            error_type=answer.error_type,
            error_message=answer.error_message,
            calls=(self._call(answer, configuration),),
            tool_calls=tuple(answer.tools),
            messages=tuple(answer.transcript.messages),
        )

    def _request(self, custom_id: str) -> Line:
        place = self.requests.get(custom_id)
        if place is None:
            return {}
        with place.path.open("rb") as file:
            file.seek(place.offset)
            line = _ANY.decode(file.readline())
        self.n_joined += 1
        return member(line, "body") or member(line, "params")

    def _call(self, answer: _Answer, configuration: Configuration) -> Call:
        usage = usage_of(answer.body)
        counts = normalise(usage, model=answer.model or "") if not answer.error_type else Usage()
        self.report.conventions[NAME] += usage is not None
        return Call(
            call_id=content_id("call", NAME, answer.id),
            provider=configuration.provider,
            model=configuration.model if configuration.model != _UNKNOWN else None,
            response_model=answer.model,
            started_at=answer.created_at,
            stop_reason="error" if answer.error_type else _stop(answer.stop),
            request_id=answer.request_id,
            response_id=text(answer.body.get("id")),
            service_tier=BATCH,
            error_type=answer.error_type,
            error_message=answer.error_message,
            usage=json_text(usage) if usage is not None else None,
            effort_sent=configuration.effort,
            **counts.known(),
        )


_UNKNOWN = "unknown"


def _stop(reason: str | None) -> str | None:
    return _STOPS.get(reason, "unknown") if reason else None


# -- results -------------------------------------------------------------------------------------


def _read(line: Line, number: int) -> _Answer:
    result = member(line, "result")
    if result:
        return _read_anthropic(line, result, number)
    response = member(line, "response")
    body = member(response, "body")
    request_id = text(response.get("request_id"))
    id = text(line.get("id")) or request_id or f"{line['custom_id']}/{content_id(line)}"
    answer = _Answer(id, False, body, request_id)
    answer.model = text(body.get("model"))
    answer.created_at = moment(body.get("created") or body.get("created_at"))
    status = response.get("status_code")
    fault = member(line, "error") or member(body, "error")
    if fault or (isinstance(status, int) and status >= 400):
        kind = text(fault.get("type")) or text(fault.get("code")) or f"http_{status}"
        _set_error(answer, kind, text(fault.get("message")))
    elif isinstance(body.get("output"), list):
        _read_response(answer, body)
    else:
        _read_chat(answer, body)
    return answer


def _set_error(answer: _Answer, kind: str, message: str | None) -> None:
    answer.error_type = kind
    answer.error_message = message


def _read_chat(answer: _Answer, body: Line) -> None:
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    message = member(choice, "message")
    answer.stop = text(choice.get("finish_reason")) if isinstance(choice, dict) else None
    thought = text(message.get("reasoning_content")) or text(message.get("reasoning"))
    answer.transcript.add("assistant", "thinking", thought or "", call=0)
    content = content_text(message.get("content")) or text(message.get("refusal"))
    _set_answer(answer, content or (text(choice.get("text")) if isinstance(choice, dict) else None))
    tool_calls = message.get("tool_calls")
    for tool in tool_calls if isinstance(tool_calls, list) else ():
        function = member(tool, "function")
        _add_tool_call(answer, function.get("name"), function.get("arguments"))


def _read_response(answer: _Answer, body: Line) -> None:
    answer.stop = text(member(body, "incomplete_details").get("reason")) or text(body.get("status"))
    texts = []
    for piece in body["output"]:
        kind = type_of(piece)
        if kind == "reasoning":
            thought = content_text(piece.get("summary")) or content_text(piece.get("content"))
            answer.transcript.add("assistant", "thinking", thought, call=0)
        elif kind == "message":
            texts.append(content_text(piece.get("content")))
        elif kind == "function_call":
            _add_tool_call(answer, piece.get("name"), piece.get("arguments"))
    _set_answer(answer, "\n".join(texts))


def _read_anthropic(line: Line, result: Line, number: int) -> _Answer:
    message = member(result, "message")
    id = text(message.get("id")) or f"{line['custom_id']}/{content_id(line)}"
    answer = _Answer(id, True, message, text(message.get("id")))
    answer.model = text(message.get("model"))
    answer.stop = text(message.get("stop_reason"))
    if result["type"] != "succeeded":
        fault = member(result, "error")
        fault = member(fault, "error") or fault
        _set_error(
            answer, text(fault.get("type")) or str(result["type"]), text(fault.get("message"))
        )
        return answer
    texts = []
    content = message.get("content")
    for block in content if isinstance(content, list) else ():
        kind = type_of(block)
        if kind == "thinking":
            answer.transcript.add("assistant", "thinking", str(block.get("thinking") or ""), call=0)
        elif kind == "text":
            texts.append(str(block.get("text") or ""))
        elif kind == "tool_use":
            _add_tool_call(answer, block.get("name"), block.get("input"))
    _set_answer(answer, "\n".join(texts))
    return answer


def _set_answer(answer: _Answer, text: str | None) -> None:
    answer.answer = text or None
    answer.transcript.add("assistant", "text", text or "", call=0)


def _add_tool_call(answer: _Answer, name: object, arguments: object) -> None:
    shown = arguments if isinstance(arguments, str) else json_text(arguments or {})
    ordinal = len(answer.tools)
    tool = ToolCall(ordinal=ordinal, tool=text(name) or "unknown", call_ordinal=0, arguments=shown)
    answer.tools.append(tool)
    called = f"{tool.tool}({shown})"
    answer.transcript.add("assistant", "tool_call", called, call=0, tool=ordinal)


# -- requests ------------------------------------------------------------------------------------


def _requests_in_folder(path: Path, report: FileReport) -> dict[str, _RequestPlace]:
    """Locate the requests in the folder of a file of results, by custom_id."""
    places: dict[str, _RequestPlace] = {}
    n_repeats: Counter[str] = Counter()
    for other in sorted(path.parent.glob("*.jsonl")):
        first = heads.lines(other)[:1] if other != path and other.is_file() else []
        if not first or not _is_request(first[0]):
            continue
        for id, place in _places(other):
            n_repeats[id] += id in places
            places[id] = place
    ambiguous = [id for id, n in n_repeats.items() if n]
    for id in ambiguous:
        del places[id]
    if ambiguous:
        report.notes["custom_ids that occur in several files of requests: not joined"] += len(
            ambiguous
        )
    return places


def _places(path: Path) -> Iterator[tuple[str, _RequestPlace]]:
    offset = 0
    with path.open("rb") as file:
        for line in file:
            try:
                value = _ANY.decode(line)
            except UNDECODABLE:
                value = None
            if isinstance(value, dict) and _is_request(value):
                yield value["custom_id"], _RequestPlace(path, offset)
            offset += len(line)


def _question(transcript: Transcript, request: Line) -> str | None:
    """Join the texts of a request in order, the question last; None without a request."""
    texts = [("system", content_text(request.get(name))) for name in ("system", "instructions")]
    texts = [(role, text) for role, text in texts if text]
    for name in ("messages", "input", "prompt"):
        value = request.get(name)
        if isinstance(value, str):
            texts.append(("user", value))
        for message in value if isinstance(value, list) else ():
            if isinstance(message, dict):
                role = str(message.get("role") or "user")
                texts.append(
                    (
                        "system" if role == "developer" else role,
                        content_text(message.get("content")),
                    )
                )
    transcript.put_before(texts)
    has_roles = len({role for role, _ in texts}) > 1
    return "\n\n".join(f"{role}: {text}" if has_roles else text for role, text in texts) or None


def _provider(answer: _Answer) -> str | None:
    """Return the provider by the result's id: only OpenAI's begin with batch_req_."""
    return "openai" if answer.id.startswith("batch_req_") else None


def _configuration(request: Line, answer: _Answer, provider: str | None) -> Configuration:
    """Return the configuration of a request; without one, only the model that answered."""
    fields: dict[str, Any] = {}
    reasoning = member(request, "reasoning")
    thinking = member(request, "thinking")
    fields["effort"] = text(request.get("reasoning_effort")) or text(reasoning.get("effort"))
    fields["thinking_budget_tokens"] = _whole(thinking.get("budget_tokens"))
    caps = ("max_completion_tokens", "max_output_tokens", "max_tokens")
    fields["max_tokens"] = next(
        (n for n in map(_whole, map(request.get, caps)) if n is not None), None
    )
    for name in ("temperature", "top_p"):
        value = request.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            fields[name] = float(value)
    recorded = {
        *_PROMPT_FIELDS,
        *_OTHER_FIELDS,
        *caps,
        "temperature",
        "top_p",
        "reasoning_effort",
        "reasoning",
        "thinking",
    }
    rest = {
        name: value for name, value in request.items() if name not in recorded and value is not None
    }
    return Configuration(
        model=text(request.get("model")) or answer.model or _UNKNOWN,
        provider=provider,
        strategy="direct" if request else None,
        settings=json_text(rest) if rest else None,
        **fields,
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
