"""Spans as OpenTelemetry's exporters write them, made by hand: every field is distinct."""

import base64
import json
from typing import Any

TRACE = "0af7651916cd43dd8448eb211c80319c"
START_NS = 1_780_000_000_000_000_000


def value(plain: Any) -> dict[str, Any]:
    """One value, as the JSON of OTLP writes it."""
    if isinstance(plain, bool):
        return {"boolValue": plain}
    if isinstance(plain, int):
        return {"intValue": str(plain)}
    if isinstance(plain, float):
        return {"doubleValue": plain}
    if isinstance(plain, list):
        return {"arrayValue": {"values": [value(v) for v in plain]}}
    if isinstance(plain, dict):
        return {"kvlistValue": {"values": attributes(plain)}}
    return {"stringValue": plain}


def attributes(plain: dict[str, Any]) -> list[dict[str, Any]]:
    """A list of attributes."""
    return [{"key": name, "value": value(v)} for name, v in plain.items()]


def span(
    number: int,
    name: str,
    plain: dict[str, Any],
    *,
    parent: int | None = 1,
    start_s: float = 0.0,
    end_s: float = 1.0,
    events: tuple[tuple[str, dict[str, Any]], ...] = (),
    error: str | None = None,
    trace: str = TRACE,
) -> dict[str, Any]:
    """One span; number 1 is the root of its trace."""
    written = {
        "traceId": trace,
        "spanId": f"{number:016x}",
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(START_NS + int(start_s * 1e9)),
        "endTimeUnixNano": str(START_NS + int(end_s * 1e9)),
        "attributes": attributes(plain),
        "events": [
            {"name": n, "timeUnixNano": str(START_NS), "attributes": attributes(a)}
            for n, a in events
        ],
        "status": {"code": 2, "message": error} if error else {},
    }
    if number != 1 and parent is not None:
        written["parentSpanId"] = f"{parent:016x}"
    return written


def request(*spans: dict[str, Any], service: str = "helpdesk") -> dict[str, Any]:
    """One export request."""
    resource = {"attributes": attributes({"service.name": service, "service.version": "1.2"})}
    scope = {"name": "openinference.instrumentation.openai", "version": "0.1"}
    return {
        "resourceSpans": [
            {"resource": resource, "scopeSpans": [{"scope": scope, "spans": list(spans)}]}
        ]
    }


def lines(*spans: dict[str, Any]) -> bytes:
    """A file with a request a span, children first, as SDKs write them."""
    ordered = sorted(spans, key=lambda s: "parentSpanId" not in s)
    return b"".join(json.dumps(request(s)).encode() + b"\n" for s in ordered)


def base64_ids(written: Any) -> Any:
    """Write ids as protobuf's own JSON does."""
    if isinstance(written, list):
        return [base64_ids(v) for v in written]
    if not isinstance(written, dict):
        return written
    return {
        name: base64.b64encode(bytes.fromhex(v)).decode()
        if name in {"traceId", "spanId", "parentSpanId"}
        else base64_ids(v)
        for name, v in written.items()
    }


def agent_run() -> list[dict[str, Any]]:
    """An agent that calls a model, a tool, and the model again, in OpenInference's words."""
    call = "llm.output_messages.0.message.tool_calls.0.tool_call"
    first = {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-4o",
        "llm.provider": "openai",
        "llm.token_count.prompt": 100,
        "llm.token_count.completion": 20,
        "llm.token_count.total": 120,
        "llm.token_count.prompt_details.cache_read": 40,
        "llm.token_count.completion_details.reasoning": 8,
        "llm.invocation_parameters": '{"temperature": 0.5, "max_tokens": 300}',
        "llm.finish_reason": "tool_calls",
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "You are a clerk.",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.content": "List the files.",
        "llm.output_messages.0.message.role": "assistant",
        f"{call}.id": "call_7f3a9c01",
        f"{call}.function.name": "ls",
        f"{call}.function.arguments": '{"path": "/", "all": true}',
    }
    tool = {
        "openinference.span.kind": "TOOL",
        "tool.name": "ls",
        "tool_call.id": "call_7f3a9c01",
        "input.value": '{"path": "/", "all": true}',
        "output.value": "a.txt",
    }
    second = first | {
        "llm.token_count.prompt": 150,
        "llm.token_count.completion": 11,
        "llm.token_count.total": 161,
        "llm.token_count.prompt_details.cache_read": 90,
        "llm.token_count.completion_details.reasoning": 3,
        "llm.finish_reason": "stop",
        "llm.input_messages.2.message.role": "assistant",
        "llm.input_messages.2.message.tool_calls.0.tool_call.id": "call_7f3a9c01",
        "llm.input_messages.2.message.tool_calls.0.tool_call.function.name": "ls",
        "llm.input_messages.3.message.role": "tool",
        "llm.input_messages.3.message.tool_call_id": "call_7f3a9c01",
        "llm.input_messages.3.message.content": "a.txt",
        "llm.output_messages.0.message.content": "There is a.txt.",
    }
    second = {name: v for name, v in second.items() if not name.startswith(call)}
    root = {
        "openinference.span.kind": "AGENT",
        "input.value": "List the files.",
        "output.value": "There is a.txt.",
        "session.id": "s-17",
        "user.id": "u-5",
    }
    score = {
        "gen_ai.evaluation.name": "correct",
        "gen_ai.evaluation.score.value": 1.0,
        "gen_ai.evaluation.explanation": "It is.",
    }
    return [
        span(1, "answer", root, end_s=10.0, events=(("gen_ai.evaluation.result", score),)),
        span(2, "ChatCompletion", first, start_s=1.0, end_s=3.0),
        span(3, "ls", tool, start_s=3.5, end_s=5.5),
        span(4, "ChatCompletion", second, start_s=6.0, end_s=9.0),
    ]
