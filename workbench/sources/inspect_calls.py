"""Model and tool events of an Inspect sample → calls and tool calls; graders' are told by span."""

import datetime as dt
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from workbench import usage as usages
from workbench.records import Call, ToolCall
from workbench.sources.inspect_messages import Attachments
from workbench.sources.inspect_schema import (
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
from workbench.sources.inspect_schema import RESPONSE as RESPONSE_DECODER
from workbench.sources.inspect_usage import Tokens, normalise
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
    """What all samples of a log share."""

    run_id: str
    configuration_id: str
    task_id: str
    version: tuple[int, ...]


def walk(events: list[Event], *, judge: bool = False) -> Iterator[tuple[Event, bool]]:
    """Yield model and tool events with whether a scorer made them, nested ones of old logs too.

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
            inside = judge or steps > 0 or event.span_id in scoring
            yield from walk(EVENTS.decode(event.events), judge=inside)


def is_judge(event: Event) -> bool:
    """Whether the event's own role says that it grades."""
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
    """Build the call of a model event, and give its usage as logged.

    Its seconds are those of the request that answered, without retries and waits for a slot.
    """
    error = text_of(event.error) or output.error
    stop = output.choices[0].stop_reason if output.choices else None
    response = _response(event)
    reply_id = _name(response.id or response.response_id or response.responseId)
    usage = _usage(event, output, report)
    tokens: dict[str, Any] = {}
    if event.cache == "read":  # nothing was sent, nothing was spent
        tokens = {"n_requests": 0, "input_tokens": 0, "output_tokens": 0}
    else:
        own, name = _provider_usage(response), str(event.model)
        tokens = _tokens(usage, own, model=name, log=log, where=where, report=report)
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
        e2e_s=first_duration(output.time, event.working_time, _between(event)),
        **tokens,
        stop_reason="error" if error else _STOPS.get(stop or "", "unknown"),
        n_retries=event.retries,
        error_type=_kind(error, event),
        error_message=error,
        request_id=_name(response.id),
        response_id=None if event.cache == "read" else reply_id,  # else one bill has two calls
        service_tier=_name(response.service_tier),
    )
    return call, usage


def _tokens(
    usage: ModelUsage | None,
    own: Raw | None,
    *,
    model: str,
    log: Log,
    where: str,
    report: FileReport,
) -> dict[str, Any]:
    """Return a call's token fields: from the provider's own usage object, else from Inspect's.

    Inspect's summary leaves out what a provider's adapter does not look for (Groq's cached and
    thinking tokens), so it only fills in what the object does not say. An object that does not add
    up to its own total is not understood, and left to Inspect.
    """
    found = usages.normalise(own, model=split(model)[1])
    fields = {k: v for k, v in found.known().items() if k != "tokens_source"}
    said = {"usage": msgspec.json.encode(own).decode()} if own else {}
    theirs = None if usage is None else normalise(usage, model, log.version)
    if not _is_whole(found, theirs):
        # what an answer says beside its totals holds whatever they are
        beside = {k: v for k, v in fields.items() if k in _BESIDE}
        summary = {} if usage is None else tokens_of(usage, model, log, where, report)
        return summary | beside | said
    report.conventions[f"the provider's own usage, read as {usages.convention_of(own or {})}"] += 1
    summary = {} if theirs is None else _fields(theirs)
    if theirs is not None and (theirs.input, theirs.output) != (
        found.input_tokens,
        found.output_tokens,
    ):
        report.notes[
            "calls whose provider counts otherwise than Inspect: the provider's count"
        ] += 1
        summary = {}
    tokens = summary | fields | said | {"tokens_source": found.tokens_source}
    _contradicts(tokens, where, report)
    return tokens


_BESIDE = ("cache_write_5m_tokens", "cache_write_1h_tokens", "billed_cost_usd")


def _is_whole(found: usages.Usage, theirs: Tokens | None) -> bool:
    """Whether a provider's usage object tells all, and not zeros where Inspect counted some."""
    given, output, total = found.input_tokens, found.output_tokens, found.total_tokens
    if given is None or output is None or total not in {None, given + output}:
        return False
    return given + output > 0 or theirs is None or not (theirs.input or theirs.output)


def tokens_of(
    usage: ModelUsage, model: str, log: Log, where: str, report: FileReport
) -> dict[str, Any]:
    """Give the token fields of a call in our convention; the report learns what was found."""
    found = normalise(usage, model, log.version)
    report.conventions[found.convention] += 1
    tokens = _fields(found)
    if found.fault:
        report.mismatches.add(f"{where}: {found.fault}")
    else:
        _contradicts(tokens, where, report)
    return tokens | {"tokens_source": "reported"}


def _contradicts(tokens: dict[str, Any], where: str, report: FileReport) -> None:
    fault = contradiction(tokens)
    if fault:
        report.mismatches.add(f"{where}: {fault}; the call has no cost")


def _fields(found: Tokens) -> dict[str, Any]:
    return {
        "input_tokens": found.input,
        "cache_read_tokens": found.cache_read,
        "cache_write_5m_tokens": found.cache_write,
        "output_tokens": found.output,
        "reasoning_tokens": found.reasoning,
        "total_tokens": found.total,
    }


def tool_call_of(
    event: Event, *, ordinal: int, call: int | None, attachments: Attachments
) -> tuple[ToolCall, str]:
    """Build the tool call of a tool event, and give its result as text."""
    result = attachments.plain(event.result)
    fault = FAULT.decode(event.error) if _given(event.error) else None
    if fault is None and event.failed:
        fault = Fault(type="failed")
    tool_call = ToolCall(
        ordinal=ordinal,
        tool=event.function or "unknown",
        call_ordinal=call,
        arguments=attachments.json(event.arguments),
        started_at=utc(event.timestamp),
        e2e_s=first_duration(event.working_time, _between(event)),
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
    """Move a time to UTC; one without a zone is taken to be UTC."""
    if moment is None:
        return None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def text_of(raw: msgspec.Raw) -> str | None:
    """Read a field that is text in most events and an object in some."""
    if not _given(raw):
        return None
    value = ANY.decode(raw)
    return value if isinstance(value, str) else str(value.get("message", value))


def _given(raw: msgspec.Raw) -> bool:
    return len(raw) > 0 and bytes(raw) != b"null"


def _usage(event: Event, output: Output, report: FileReport) -> ModelUsage | None:
    if event.cache == "read":
        report.notes["calls answered from Inspect's cache, at no tokens"] += 1
        return None
    return USAGE.decode(output.usage) if _given(output.usage) else None


def _response(event: Event) -> Response:
    if not _given(event.call):
        return Response()
    raw = CALL.decode(event.call).response
    return RESPONSE_DECODER.decode(raw) if bytes(raw)[:1] == b"{" else Response()


def _provider_usage(response: Response) -> Raw | None:
    """Find the provider's usage object in its answer."""
    body = {
        "usage": response.usage,
        "usage_metadata": response.usage_metadata,
        "usageMetadata": response.usageMetadata,
    }
    found = usages.usage_of(body)
    if found is None and _given(response.choices):
        found = usages.usage_of({"choices": ANY.decode(response.choices)})
    return found


def _kind(error: str | None, event: Event) -> str | None:
    if error:
        return "cancelled" if error.startswith("Cancelled by") else "model_error"
    return "interrupted" if event.pending else None


def _between(event: Event) -> float | None:
    if event.timestamp is None or event.completed is None:
        return None
    return (utc_exactly(event.completed) - utc_exactly(event.timestamp)).total_seconds()


def utc_exactly(moment: dt.datetime) -> dt.datetime:
    """Give a known time a zone, so that two can be subtracted."""
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment


def first_duration(*values: float | None) -> float | None:
    """The first duration that is known; one below 0 is a clock that was set back."""
    return next((v for v in values if v is not None and v >= 0), None)


def _name(value: object) -> str | None:
    return None if value is None else str(value)
