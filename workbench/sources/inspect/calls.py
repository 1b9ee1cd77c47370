"""Conversion of an Inspect sample's model and tool events to calls and tool calls."""

import datetime as dt
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from workbench import usage as usages
from workbench.records import Call, ToolCall
from workbench.sources.inspect.log_schema import (
    ANY,
    CALL,
    EVENTS,
    FAULT,
    USAGE,
    Event,
    Fault,
    ModelUsage,
    Output,
    Response,
)
from workbench.sources.inspect.log_schema import RESPONSE as RESPONSE_DECODER
from workbench.sources.inspect.messages import Attachments
from workbench.sources.inspect.model_usage import Tokens, normalise
from workbench.sources.report import FileReport
from workbench.tokens import contradiction
from workbench.usage import Raw

_SCORING = {"scorer", "scorers"}
_JUDGES = {"grader", "judge", "scorer"}
_STOPS = {
    "stop": "stop",
    "max_tokens": "max_tokens",
    "model_length": "max_tokens",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
}


class Log(NamedTuple):
    """Ids and Inspect version of a log, shared by all its samples."""

    run_id: str
    configuration_id: str
    task_id: str
    version: tuple[int, ...]


def walk(events: list[Event], *, judge: bool = False) -> Iterator[tuple[Event, bool]]:
    """Yield (event, whether a scorer made it) of model and tool events, also of nested ones.

    Newer logs mark scorers by spans, older ones by steps that begin and end.
    """
    scoring: set[str] = set()
    steps = 0
    for event in events:
        if event.event in {"model", "tool"}:
            yield event, judge or steps > 0 or event.span_id in scoring
        elif event.event == "span_begin":
            if event.type in _SCORING or event.parent_id in scoring:
                scoring.add(str(event.id))
        elif event.event == "step" and (event.type in _SCORING or steps):
            steps += 1 if event.action == "begin" else -1
        if len(event.events) > len("[]"):
            nested_judge = judge or steps > 0 or event.span_id in scoring
            yield from walk(EVENTS.decode(event.events), judge=nested_judge)


def is_judge(event: Event) -> bool:
    """Return whether the event's role is that of a grader."""
    return event.role in _JUDGES


def call_of(
    event: Event,
    output: Output,
    *,
    ordinal: int,
    judge: bool,
    log: Log,
    where: str,
    report: FileReport,
) -> tuple[Call, ModelUsage | None]:
    """Build the call of a model event; return it with its usage as logged.

    Its duration is that of the successful request, without retries and waits for a slot.
    """
    error = text_of(event.error) or output.error
    stop = output.choices[0].stop_reason if output.choices else None
    response = _response(event)
    reply_id = _text_or_none(response.id or response.response_id or response.responseId)
    usage = _usage(event, output, report)
    tokens: dict[str, Any] = {}
    if event.cache == "read":  # no request was sent
        tokens = {"n_requests": 0, "input_tokens": 0, "output_tokens": 0}
    else:
        provider_usage = _provider_usage(response)
        name = str(event.model)
        tokens = _tokens(usage, provider_usage, model=name, log=log, where=where, report=report)
        if tokens and "usage" not in tokens:
            tokens["usage"] = msgspec.json.format(bytes(output.usage), indent=-1).decode()
    provider, model = split(str(event.model))
    call = Call(
        ordinal=ordinal,
        role="judge" if judge else "subject",
        provider=provider,
        model=model,
        response_model=output.model,
        started_at=utc(event.timestamp),
        e2e_s=first_duration(output.time, event.working_time, _elapsed_s(event)),
        **tokens,
        stop_reason="error" if error else _STOPS.get(stop or "", "unknown"),
        n_retries=event.retries,
        error_type=_error_type(error, event),
        error_message=error,
        request_id=_text_or_none(response.id),
        response_id=None if event.cache == "read" else reply_id,  # else two calls match one bill
        service_tier=_text_or_none(response.service_tier),
    )
    return call, usage


def _tokens(
    usage: ModelUsage | None,
    provider_usage: Raw | None,
    *,
    model: str,
    log: Log,
    where: str,
    report: FileReport,
) -> dict[str, Any]:
    """Return a call's token fields, from the provider's usage object or from Inspect's summary.

    Inspect's summary lacks counts that the provider's adapter ignores (Groq's cached and thinking
    tokens), so that it only fills gaps of the provider's object. If the object does not add up to
    its own total, the summary is used instead.
    """
    reported = usages.normalise(provider_usage, model=split(model)[1])
    fields = {k: v for k, v in reported.known().items() if k != "tokens_source"}
    raw = {"usage": msgspec.json.encode(provider_usage).decode()} if provider_usage else {}
    logged = None if usage is None else normalise(usage, model, log.version)
    if not _is_complete(reported, logged):
        # these fields are valid even if the totals are not
        extra = {k: v for k, v in fields.items() if k in _KEPT_ALWAYS}
        summary = {} if usage is None else tokens_of(usage, model, log, where, report)
        return summary | extra | raw
    report.conventions[
        f"the provider's own usage, read as {usages.convention_of(provider_usage or {})}"
    ] += 1
    summary = {} if logged is None else _fields(logged)
    if logged is not None and (logged.input, logged.output) != (
        reported.input_tokens,
        reported.output_tokens,
    ):
        report.notes[
            "calls whose provider and Inspect differ in tokens: the provider's counts are used"
        ] += 1
        summary = {}
    tokens = summary | fields | raw | {"tokens_source": reported.tokens_source}
    _report_contradiction(tokens, where, report)
    return tokens


_KEPT_ALWAYS = ("cache_write_5m_tokens", "cache_write_1h_tokens", "billed_cost_usd")


def _is_complete(reported: usages.Usage, logged: Tokens | None) -> bool:
    """Whether a provider's usage object adds up, and is not all zeros if Inspect counted some."""
    prompt = reported.input_tokens
    output = reported.output_tokens
    total = reported.total_tokens
    if prompt is None or output is None or total not in {None, prompt + output}:
        return False
    return prompt + output > 0 or logged is None or not (logged.input or logged.output)


def tokens_of(
    usage: ModelUsage, model: str, log: Log, where: str, report: FileReport
) -> dict[str, Any]:
    """Return the inclusive token fields of a call; note the convention in the report."""
    counts = normalise(usage, model, log.version)
    report.conventions[counts.convention] += 1
    tokens = _fields(counts)
    if counts.fault:
        report.mismatches.add(f"{where}: {counts.fault}")
    else:
        _report_contradiction(tokens, where, report)
    return tokens | {"tokens_source": "reported"}


def _report_contradiction(tokens: dict[str, Any], where: str, report: FileReport) -> None:
    fault = contradiction(tokens)
    if fault:
        report.mismatches.add(f"{where}: {fault}; the call has no cost")


def _fields(counts: Tokens) -> dict[str, Any]:
    return {
        "input_tokens": counts.input,
        "cache_read_tokens": counts.cache_read,
        "cache_write_5m_tokens": counts.cache_write,
        "output_tokens": counts.output,
        "reasoning_tokens": counts.reasoning,
        "total_tokens": counts.total,
    }


def tool_call_of(
    event: Event, *, ordinal: int, call: int | None, attachments: Attachments
) -> tuple[ToolCall, str]:
    """Build the tool call of a tool event; return it with its result as text."""
    result = attachments.plain(event.result)
    fault = FAULT.decode(event.error) if _has_value(event.error) else None
    if fault is None and event.failed:
        fault = Fault(type="failed")
    tool_call = ToolCall(
        ordinal=ordinal,
        tool=event.function or "unknown",
        call_ordinal=call,
        arguments=attachments.json(event.arguments),
        started_at=utc(event.timestamp),
        e2e_s=first_duration(event.working_time, _elapsed_s(event)),
        result_bytes=len(result.encode()),
        error_type=(fault.type or "unknown") if fault else None,
        error_message=attachments.text(fault.message) if fault else None,
    )
    return tool_call, result or (attachments.text(fault.message) if fault else "")


def split(model: str) -> tuple[str | None, str]:
    """Split Inspect's model name: openai/gpt-4o → (openai, gpt-4o); no slash, no provider."""
    provider, slash, name = model.partition("/")
    return (provider, name) if slash else (None, model)


def utc(moment: dt.datetime | None) -> dt.datetime | None:
    """Convert a time to UTC; a time without a zone is UTC."""
    if moment is None:
        return None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def text_of(raw: msgspec.Raw) -> str | None:
    """Read a field that is a text in most events and an object with a message in some."""
    if not _has_value(raw):
        return None
    value = ANY.decode(raw)
    return value if isinstance(value, str) else str(value.get("message", value))


def _has_value(raw: msgspec.Raw) -> bool:
    return len(raw) > 0 and bytes(raw) != b"null"


def _usage(event: Event, output: Output, report: FileReport) -> ModelUsage | None:
    if event.cache == "read":
        report.notes["calls answered from Inspect's cache: no tokens"] += 1
        return None
    return USAGE.decode(output.usage) if _has_value(output.usage) else None


def _response(event: Event) -> Response:
    if not _has_value(event.call):
        return Response()
    raw = CALL.decode(event.call).response
    return RESPONSE_DECODER.decode(raw) if bytes(raw)[:1] == b"{" else Response()


def _provider_usage(response: Response) -> Raw | None:
    """Return the provider's usage object in its response."""
    body = {
        "usage": response.usage,
        "usage_metadata": response.usage_metadata,
        "usageMetadata": response.usageMetadata,
    }
    usage = usages.usage_of(body)
    if usage is None and _has_value(response.choices):
        usage = usages.usage_of({"choices": ANY.decode(response.choices)})
    return usage


def _error_type(error: str | None, event: Event) -> str | None:
    if error:
        return "cancelled" if error.startswith("Cancelled by") else "model_error"
    return "interrupted" if event.pending else None


def _elapsed_s(event: Event) -> float | None:
    if event.timestamp is None or event.completed is None:
        return None
    return (with_zone(event.completed) - with_zone(event.timestamp)).total_seconds()


def with_zone(moment: dt.datetime) -> dt.datetime:
    """Add UTC to a time without a zone, so that two times can be subtracted."""
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment


def first_duration(*values: float | None) -> float | None:
    """Return the first known duration; a negative one is ignored: the clock was set back."""
    return next((v for v in values if v is not None and v >= 0), None)


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)
