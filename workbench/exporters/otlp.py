"""Export to OTLP: spans in the conventions of OpenTelemetry for generative AI, as JSON lines.

A trace is a root span of the agent, with a span below it for each call of a model and of a tool.
One line is one export request, as collectors write them. As with a tracer, each call has its
prompt, so the file grows with the square of a conversation's length.

The store keeps each message once, and not which messages a call had before it. A prompt is put
together from the messages of the calls before. Their replies are left out where the times or the
counts of tokens say that the call did not have them, as with samples of one prompt.

What the conventions have no name for has the prefix `workbench.`. Energy, annotations and computed
costs stay behind. A time that is not known is 0, which stands for an unset field.
"""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from workbench import private
from workbench.errors import StoreError
from workbench.records import Call, Message, ToolCall, Trace
from workbench.slice import Slice
from workbench.store import Store, causes, recorded, scratch
from workbench.version import __version__

_encode = msgspec.json.Encoder().encode
_STEP = 1_000  # traces whose names are read at a time
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_HEX = re.compile("[0-9a-f]{32}")
_ERROR, _OK = 2, 1
_NAMES = """SELECT trace_id, task, item, model, provider, strategy, configuration, metadata
    FROM trace_details WHERE trace_id IN (SELECT unnest($ids))"""
_FINISH = {"max_tokens": "length", "tool_calls": "tool_calls", "content_filter": "content_filter"}


class _Exchange(NamedTuple):
    """The messages that are new with one call."""

    prompt: list[Message]
    reply: list[Message]


def write_spans(store: Store, file: Path, where: Slice | str = "") -> tuple[int, int]:
    """Write the traces of a slice as one file; the whole file, or nothing.

    Args:
        store: the store; its spool is not read.
        file: what to write; one that is there is replaced.
        where: the slice.

    Returns:
        The number of traces and of spans.

    Raises:
        StoreError: the file cannot be written.
    """
    with store.facts(where) as frame:
        ids = frame.select("trace_id").collect("polars").to_native()["trace_id"].sort().to_list()
    n_traces = n_spans = 0
    try:
        with scratch.folder(file.parent, f".{file.name}.partial-") as folder:
            partial = folder / "spans"
            with private.only_owner(), partial.open("xb") as lines:
                for trace, names in _traces(store, ids):
                    spans = list(_spans(trace, names))
                    lines.write(_encode(_request(spans, names)) + b"\n")
                    n_traces += 1
                    n_spans += len(spans)
            partial.replace(file)
    except OSError as error:
        raise StoreError(f"cannot write {file}: {causes.reason(error, 'another file')}") from error
    return n_traces, n_spans


def _traces(store: Store, ids: Sequence[str]) -> Iterator[tuple[Trace, Mapping[str, Any]]]:
    for start in range(0, len(ids), _STEP):
        some = list(ids[start : start + _STEP])
        rows = store.sql(_NAMES, {"ids": some}).iter_rows(named=True)
        names = {row["trace_id"]: row for row in rows}
        for trace in recorded.traces(store.path, some):
            yield trace, names[trace.trace_id]


def _request(spans: Sequence[Mapping[str, Any]], names: Mapping[str, Any]) -> dict[str, Any]:
    resource = {"service.name": names["task"], "telemetry.sdk.name": "workbench"}
    scope = {"name": "workbench", "version": __version__}
    of_scope = {"scope": scope, "spans": spans}
    return {
        "resourceSpans": [
            {"resource": {"attributes": _attributes(resource)}, "scopeSpans": [of_scope]}
        ]
    }


def _spans(trace: Trace, names: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    trace_id = _trace_id(trace, names)
    root_id = _span_id(trace_id, 0)
    start, end = _times(trace.started_at, trace.e2e_s)
    yield _span(
        trace_id,
        root_id,
        names["strategy"] or "agent",
        _root_attributes(trace, names),
        parent=None,
        times=(start, end),
        error=(trace.error_type, trace.error_message),
        events=[_evaluation(score) for score in trace.scores],
    )
    exchanges = _exchanges(trace)
    for place, call in enumerate(trace.calls, start=1):
        yield _span(
            trace_id,
            _span_id(trace_id, place),
            f"chat {call.model or 'unknown'}",
            _call_attributes(call, trace, exchanges),
            parent=root_id,
            times=_times(call.started_at, call.e2e_s),
            error=(call.error_type, call.error_message),
        )
    for place, tool in enumerate(trace.tool_calls, start=1 + len(trace.calls)):
        yield _span(
            trace_id,
            _span_id(trace_id, place),
            f"execute_tool {tool.tool}",
            _tool_attributes(tool, trace),
            parent=root_id,
            times=_times(tool.started_at, tool.e2e_s),
            error=(tool.error_type, tool.error_message),
        )


def _root_attributes(trace: Trace, names: Mapping[str, Any]) -> dict[str, Any]:
    first = next((m.text for m in trace.messages if m.role == "user"), None)
    metadata = _decoded(names["metadata"])
    session = metadata.get("session") if isinstance(metadata, dict) else None
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": names["strategy"],
        "gen_ai.conversation.id": session if isinstance(session, str) else None,
        "dataset.item.id": names["item"],
        "input.value": first,
        "output.value": trace.answer,
        "workbench.trace_id": trace.trace_id,
        "workbench.configuration": names["configuration"],
        "workbench.trial": trace.trial,
    }


def _call_attributes(
    call: Call, trace: Trace, exchanges: Mapping[int, _Exchange]
) -> dict[str, Any]:
    write = None
    if call.cache_write_5m_tokens is not None or call.cache_write_1h_tokens is not None:
        write = (call.cache_write_5m_tokens or 0) + (call.cache_write_1h_tokens or 0)
    stop = call.stop_reason
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": call.provider,
        "gen_ai.request.model": call.model,
        "gen_ai.response.model": call.response_model,
        "gen_ai.response.id": call.response_id,
        "gen_ai.response.finish_reasons": [_FINISH.get(stop, stop)] if stop else None,
        "gen_ai.response.time_to_first_chunk": call.ttft_s,
        "gen_ai.usage.input_tokens": call.input_tokens,
        "gen_ai.usage.output_tokens": call.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": call.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": write,
        "gen_ai.usage.reasoning.output_tokens": call.reasoning_tokens,
        "gen_ai.usage.cost": call.billed_cost_usd,
        "gen_ai.input.messages": _written(trace, _prompt(trace, call, exchanges)),
        "gen_ai.output.messages": _written(trace, exchanges[call.ordinal].reply),
        "workbench.role": call.role if call.role != "subject" else None,
    }


def _tool_attributes(tool: ToolCall, trace: Trace) -> dict[str, Any]:
    results = (
        m.text for m in trace.messages if m.role == "tool" and m.tool_call_ordinal == tool.ordinal
    )
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": tool.tool,
        "gen_ai.tool.call.id": _tool_id(tool),
        "gen_ai.tool.call.arguments": tool.arguments,
        "gen_ai.tool.call.result": next(results, None),
    }


def _tool_id(tool: ToolCall) -> str:
    return tool.tool_call_id or f"tool-call-{tool.ordinal}"


def _exchanges(trace: Trace) -> dict[int, _Exchange]:
    """Share the messages among the calls; one without a call belongs to the next one's prompt."""
    own: dict[int, list[Message]] = {call.ordinal: [] for call in trace.calls}
    waiting: list[Message] = []
    last: int | None = None
    for message in trace.messages:
        waiting.append(message)
        if message.call_ordinal in own:
            last = message.call_ordinal
            own[last] += waiting
            waiting = []
    if waiting and own:
        own[max(own) if last is None else last] += waiting
    return {ordinal: _exchange(messages) for ordinal, messages in own.items()}


def _exchange(messages: list[Message]) -> _Exchange:
    """Split at the last message that the model did not write: examples are part of a prompt."""
    ends = [place for place, m in enumerate(messages, start=1) if m.role != "assistant"]
    end = ends[-1] if ends else 0
    return _Exchange(messages[:end], messages[end:])


def _prompt(trace: Trace, call: Call, exchanges: Mapping[int, _Exchange]) -> list[Message]:
    messages: list[Message] = []
    for earlier in trace.calls:
        if earlier.ordinal < call.ordinal and earlier.role == call.role:
            messages += exchanges[earlier.ordinal].prompt
            if _can_have_read(call, earlier):
                messages += exchanges[earlier.ordinal].reply
    return messages + exchanges[call.ordinal].prompt


def _can_have_read(call: Call, earlier: Call) -> bool:
    """Return False where a call began before the earlier one's reply, or its prompt is no longer.

    Unknown times and counts rule nothing out.
    """
    _, ended = _times(earlier.started_at, earlier.e2e_s)
    began, _ = _times(call.started_at, None)
    if began is not None and ended is not None and began < ended:
        return False
    if call.input_tokens is None or earlier.input_tokens is None:
        return True
    return call.input_tokens > earlier.input_tokens


def _written(trace: Trace, messages: Sequence[Message]) -> str | None:
    written: list[dict[str, Any]] = []
    for message in messages:
        part = _part(trace, message)
        joins = (
            written
            and message.role == "assistant"
            and written[-1]["role"] == "assistant"
            and written[-1]["call"] == message.call_ordinal
        )
        if joins:
            written[-1]["parts"].append(part)
        else:
            written.append({"role": message.role, "call": message.call_ordinal, "parts": [part]})
    for entry in written:
        del entry["call"]
    return json.dumps(written, ensure_ascii=False) if written else None


def _part(trace: Trace, message: Message) -> dict[str, Any]:
    place = message.tool_call_ordinal
    tool = trace.tool_calls[place] if place is not None else None
    if message.kind == "thinking":
        return {"type": "reasoning", "content": message.text}
    if message.kind == "tool_call" and tool is not None:
        arguments = _decoded(tool.arguments)
        return {
            "type": "tool_call",
            "id": _tool_id(tool),
            "name": tool.tool,
            "arguments": arguments,
        }
    if message.role == "tool":
        named = {"id": _tool_id(tool)} if tool is not None else {}
        return {"type": "tool_call_response", "response": message.text} | named
    return {"type": "text", "content": message.text}


def _evaluation(score: Any) -> dict[str, Any]:
    value = score.score if score.score is not None else score.metric
    named = {
        "gen_ai.evaluation.name": score.scorer,
        "gen_ai.evaluation.score.value": None if value is None else float(value),
        "gen_ai.evaluation.score.label": score.value,
        "gen_ai.evaluation.explanation": score.explanation,
    }
    return {"name": "gen_ai.evaluation.result", "attributes": _attributes(named)}


def _span(
    trace_id: str,
    span_id: str,
    name: str,
    attributes: Mapping[str, Any],
    *,
    parent: str | None,
    times: tuple[int | None, int | None],
    error: tuple[str | None, str | None],
    events: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    kind, message = error
    start, end = times
    about = dict(attributes) | ({"error.type": kind} if kind else {})
    span: dict[str, Any] = {
        "traceId": trace_id,
        "spanId": span_id,
        "name": name,
        "kind": 1 if parent is None else 3,
        "startTimeUnixNano": str(start or 0),
        "endTimeUnixNano": str(end or 0),
        "attributes": _attributes(about),
        "events": [{"timeUnixNano": str(end or start or 0), **event} for event in events],
        "status": {"code": _ERROR, "message": message or kind} if kind else {"code": _OK},
    }
    return span | ({"parentSpanId": parent} if parent else {})


def _attributes(named: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(v)} for name, v in named.items() if v is not None]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(v) for v in value]}}
    return {"stringValue": str(value)}


def _trace_id(trace: Trace, names: Mapping[str, Any]) -> str:
    """Return the tracer's id where the trace came as spans, else a hash of its own."""
    metadata = _decoded(names["metadata"])
    known = metadata.get("trace") if isinstance(metadata, dict) else None
    if isinstance(known, str) and _HEX.fullmatch(known):
        return known
    return hashlib.blake2b(trace.trace_id.encode(), digest_size=16).hexdigest()


def _span_id(trace_id: str, place: int) -> str:
    """Return an id that sorts by place: readers order spans of unknown or equal starts by id."""
    return f"{trace_id[:10]}{place:06x}"


def _times(start: dt.datetime | None, seconds: float | None) -> tuple[int | None, int | None]:
    if start is None:
        return None, None
    passed = (start if start.tzinfo else start.replace(tzinfo=dt.UTC)) - _EPOCH
    began = (passed.days * 86_400 + passed.seconds) * 10**9 + passed.microseconds * 1000
    return began, None if seconds is None else began + round(seconds * 1e9)


def _decoded(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text
