"""Conventions of span attributes: what a span is, and where its facts stand.

Read are the OpenTelemetry conventions for generative AI (`gen_ai.*`, of all versions),
OpenInference (`llm.*`), OpenLLMetry (`traceloop.*`), the Vercel AI SDK (`ai.*`), and what Langfuse
and MLflow write as attributes. A fact is taken from the first convention that states it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from workbench.sources.prompts import canonical
from workbench.sources.spans.span import Attributes, Span, SpanScore
from workbench.sources.spans.values import (
    count_in,
    decoded,
    first_in,
    number_in,
    real,
    shown,
    text_in,
    unquoted,
)
from workbench.usage import Usage, count, exclusions_by_total

LLM, TOOL, AGENT, OTHER = "llm", "tool", "agent", "other"
_ROLES = {"subject", "judge", "verifier", "draft", "user"}
_OPERATIONS = {
    "chat": LLM,
    "generate_content": LLM,
    "text_completion": LLM,
    "completion": LLM,
    "execute_tool": TOOL,
    "invoke_agent": AGENT,
    "create_agent": AGENT,
    "invoke_workflow": AGENT,
    "embeddings": OTHER,
}
_KINDS = {  # OpenInference, OpenLLMetry, Langfuse, MLflow
    "llm": LLM,
    "generation": LLM,
    "chat_model": LLM,
    "tool": TOOL,
    "agent": AGENT,
    "workflow": AGENT,
    "chain": OTHER,
    "task": OTHER,
    "span": OTHER,
    "event": OTHER,
    "retriever": OTHER,
    "reranker": OTHER,
    "embedding": OTHER,
    "evaluator": OTHER,
    "guardrail": OTHER,
    "parser": OTHER,
    "unknown": OTHER,
}
_KIND_NAMES = (
    "openinference.span.kind",
    "langfuse.observation.type",
    "mlflow.spanType",
    "traceloop.span.kind",
)
_MODELS = (
    "gen_ai.request.model",
    "llm.model_name",
    "ai.model.id",
    "langfuse.observation.model.name",
    "mlflow.llm.model",
    "llm.request.model",
    "embedding.model_name",
)
_RESPONSE_MODELS = ("gen_ai.response.model", "ai.response.model", "llm.response.model")
_PROVIDERS = ("gen_ai.provider.name", "llm.provider", "gen_ai.system", "llm.system")
_SESSIONS = (
    "gen_ai.conversation.id",
    "session.id",
    "langfuse.session.id",
    "traceloop.association.properties.session_id",
    "mlflow.trace.session",
)
_COUNTS: Mapping[str, tuple[str, ...]] = {
    "input": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "llm.usage.prompt_tokens",
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
    ),
    "output": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "llm.usage.completion_tokens",
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
    ),
    "total": (
        "gen_ai.usage.total_tokens",
        "llm.usage.total_tokens",
        "llm.token_count.total",
        "ai.usage.totalTokens",
    ),
    "cache_read": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.input_tokens.cached",
        "llm.token_count.prompt_details.cache_read",
        "ai.usage.cachedInputTokens",
    ),
    "cache_write": (
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.input_tokens.cache_write",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.output_tokens.reasoning",
        "llm.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
        "ai.usage.reasoningTokens",
    ),
}
# name → (count, place among its names), so that a span's names are looked through once
_PLACES = {
    name: (counted, place) for counted, names in _COUNTS.items() for place, name in enumerate(names)
}
_COUNTED = _PLACES.keys() | {"mlflow.chat.tokenUsage", "langfuse.observation.usage_details"}
_COSTS = ("gen_ai.usage.cost", "llm.cost.total", "langfuse.observation.cost_details")
_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "temperature": ("gen_ai.request.temperature", "ai.settings.temperature"),
    "top_p": ("gen_ai.request.top_p", "ai.settings.topP"),
    "max_tokens": ("gen_ai.request.max_tokens", "ai.settings.maxOutputTokens"),
}
_STOPS = {
    "stop": "stop",
    "end_turn": "stop",
    "completed": "stop",
    "stop_sequence": "stop",
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "tool_calls": "tool_calls",
    "tool_call": "tool_calls",
    "tool-calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "content-filter": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
    "error": "error",
}


class ToolFacts(NamedTuple):
    """What a span says of a tool call; empty where it does not say."""

    name: str
    id: str
    arguments: str | None
    result: str | None


def kind_of(span: Span) -> str:
    """Return what a span is: LLM, TOOL, AGENT or OTHER.

    A span without a word for it is a call if it names a requested model and counts tokens.
    """
    attributes = span.attributes
    for name in _KIND_NAMES:
        word = unquoted(attributes.get(name))
        kind = _KINDS.get(word.lower()) if isinstance(word, str) else None
        # OpenLLMetry calls what is no workflow, agent or tool a task
        if kind is not None and (kind != OTHER or name != "traceloop.span.kind"):
            return kind
    operation = attributes.get("gen_ai.operation.name")
    if isinstance(operation, str) and operation in _OPERATIONS:
        return _OPERATIONS[operation]
    vercel = attributes.get("ai.operationId")
    if isinstance(vercel, str):
        if vercel.endswith((".doGenerate", ".doStream")):
            return LLM
        return TOOL if vercel == "ai.toolCall" else OTHER
    if "llm.request.type" in attributes:
        return OTHER if attributes["llm.request.type"] in {"embedding", "rerank"} else LLM
    has_counts = any(name in attributes for name in _COUNTS["output"])
    return LLM if has_counts and any(name in attributes for name in _MODELS) else OTHER


def model_of(span: Span) -> tuple[str | None, str | None]:
    """Return the model that was asked for, and the one that answered."""
    attributes = span.attributes
    asked, answered = text_in(attributes, _MODELS), text_in(attributes, _RESPONSE_MODELS)
    return asked or answered, answered


def provider_of(span: Span) -> str | None:
    """Return the provider by its name in price sheets, as far as it is known."""
    word = text_in(span.attributes, _PROVIDERS)
    if word is None:
        vercel = span.attributes.get("ai.model.provider")
        word = vercel.partition(".")[0] if isinstance(vercel, str) else None
    return None if word is None else _PROVIDER_NAMES.get(word.lower(), word.lower())


_PROVIDER_NAMES = {
    "az.ai.openai": "azure",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "aws.bedrock": "aws",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "vertex_ai": "google",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "x_ai": "x-ai",
    "xai": "x-ai",
}


def session_of(span: Span) -> str | None:
    """Return the session or conversation that a span belongs to."""
    return text_in(span.attributes, _SESSIONS)


def usage_of(span: Span) -> tuple[Usage, str, dict[str, int]]:
    """Return inclusive counts, what the stated ones excluded in words, and the stated ones.

    Whether input includes cached tokens and output thinking differs among instrumentations: the
    total decides, else whether the parts can be parts at all.
    """
    attributes = span.attributes
    stated = _stated(attributes)
    stated |= _details(attributes, stated)
    prompt, output, total = stated["input"], stated["output"], stated["total"]
    read, write, thinking = stated["cache_read"], stated["cache_write"], stated["reasoning"]
    cached = (read or 0) + (write or 0)
    without_cached, without_thinking = False, False
    exclusions = exclusions_by_total((prompt, output, total), cached=cached, thinking=thinking or 0)
    if exclusions is not None:
        without_cached, without_thinking = exclusions
    else:
        without_cached = prompt is not None and cached > prompt
        without_thinking = output is not None and (thinking or 0) > output
    words = [
        "input excludes cached" if without_cached and cached else "",
        "output excludes thinking" if without_thinking and thinking else "",
    ]
    known = prompt is not None or output is not None
    usage = Usage(
        input_tokens=None if prompt is None else prompt + without_cached * cached,
        cache_read_tokens=read,
        cache_write_5m_tokens=write,
        output_tokens=None if output is None else output + without_thinking * (thinking or 0),
        reasoning_tokens=thinking,
        total_tokens=total,
        billed_cost_usd=_cost(attributes),
        tokens_source="reported" if known else None,
    )
    return usage, ", ".join(filter(None, words)), {k: v for k, v in stated.items() if v is not None}


def has_counts(span: Span) -> bool:
    """Return whether a span states counts of tokens."""
    return not _COUNTED.isdisjoint(span.attributes)


def _stated(attributes: Attributes) -> dict[str, int | None]:
    stated: dict[str, int | None] = dict.fromkeys(_COUNTS)
    names = _PLACES.keys() & attributes.keys()
    for name in sorted(names, key=_PLACES.__getitem__, reverse=True):  # the first one wins
        if (number := count_in(attributes, (name,))) is not None:
            stated[_PLACES[name][0]] = number
    return stated


def _details(attributes: Attributes, stated: Mapping[str, int | None]) -> dict[str, int | None]:
    """Read counts that stand in one attribute as JSON, as Langfuse and MLflow write them."""
    if stated["input"] is not None or stated["output"] is not None:
        return {}
    usage = decoded(attributes.get("mlflow.chat.tokenUsage"))
    if isinstance(usage, dict):
        return {
            "input": count(usage.get("input_tokens")),
            "output": count(usage.get("output_tokens")),
            "total": count(usage.get("total_tokens")),
            "cache_read": count(usage.get("cache_read_input_tokens")),
            "cache_write": count(usage.get("cache_creation_input_tokens")),
        }
    buckets = decoded(attributes.get("langfuse.observation.usage_details"))
    return bucket_counts(buckets) if isinstance(buckets, dict) else {}


def bucket_counts(buckets: Mapping[str, Any]) -> dict[str, int | None]:
    """Read Langfuse's usage: disjoint buckets, whose names begin with input, output or cache.

    Where the total is the sum of input and output although there are cache buckets, input includes
    them.
    """
    counts = {name: n for name, value in buckets.items() if (n := count(value)) is not None}
    total = counts.pop("total", None)
    read = sum_of(counts, "cache_read", "input_cache", "input_cached")
    write = sum_of(counts, "cache_creation", "input_cache_creation")
    thinking = sum_of(counts, "output_reasoning", "reasoning")
    prompt, output = counts.get("input"), counts.get("output")
    if prompt is None and output is None:
        return {"total": total}
    inclusive = total is not None and total == (prompt or 0) + (output or 0)
    if not inclusive:
        prompt = sum(n for name, n in counts.items() if name.startswith(("input", "cache")))
        output = sum(n for name, n in counts.items() if name.startswith(("output", "reasoning")))
    return {
        "input": prompt,
        "output": output,
        "total": total,
        "cache_read": read,
        "cache_write": write,
        "reasoning": thinking,
    }


def sum_of(counts: Mapping[str, int], *beginnings: str) -> int | None:
    """Sum the counts whose names begin with one of some words; None if there is none."""
    longer = [b for b in ("cache_creation", "input_cache_creation") if b not in beginnings]
    values = [
        n
        for name, n in counts.items()
        if name.startswith(beginnings) and not name.startswith(tuple(longer))
    ]
    return sum(values) if values else None


def _cost(attributes: Attributes) -> float | None:
    for name in _COSTS:
        value = decoded(attributes.get(name))
        if isinstance(value, dict):
            value = value.get("total")
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9:
            return float(value)
    return None


def settings_of(span: Span) -> dict[str, Any]:
    """Return temperature, top_p, max_tokens, effort and thinking budget, as far as given."""
    attributes = span.attributes
    given: dict[str, Any] = {
        name: number_in(attributes, names) for name, names in _SETTINGS.items()
    }
    parameters = decoded(attributes.get("llm.invocation_parameters"))
    if isinstance(parameters, dict):
        for name in ("temperature", "top_p", "max_tokens"):
            value = parameters.get(name, parameters.get("max_completion_tokens"))
            if given[name] is None and name in parameters:
                given[name] = real(parameters[name])
            elif given[name] is None and name == "max_tokens":
                given[name] = real(value)
        effort = parameters.get("reasoning_effort")
        given["effort"] = effort if isinstance(effort, str) else None
    effort = attributes.get("gen_ai.request.reasoning_effort")
    if isinstance(effort, str):
        given["effort"] = effort
    if given["max_tokens"] is not None:
        given["max_tokens"] = int(given["max_tokens"])
    return {name: value for name, value in given.items() if value is not None}


def stop_of(span: Span) -> str | None:
    """Return why the model stopped, in the words of the `calls` table."""
    attributes = span.attributes
    for name in (
        "gen_ai.response.finish_reasons",
        "gen_ai.completion.0.finish_reason",
        "llm.finish_reason",
        "ai.response.finishReason",
        "llm.response.finish_reason",
    ):
        value = decoded(attributes.get(name))
        if isinstance(value, list):
            value = value[0] if value else None
        if isinstance(value, str) and value:
            return _STOPS.get(value.lower(), "unknown")
    return None


def first_token_s(span: Span) -> float | None:
    """Return seconds to the first chunk."""
    attributes = span.attributes
    seconds = number_in(
        attributes, ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token")
    )
    if seconds is not None:
        return seconds
    if (ms := number_in(attributes, ("ai.response.msToFirstChunk",))) is not None:
        return ms / 1000
    for event in span.events:
        is_first = event.name in {"gen_ai.content.completion.chunk", "First Token Stream Event"}
        if is_first and event.time_ns is not None and span.start_ns is not None:
            return max(event.time_ns - span.start_ns, 0) / 1e9
    return None


def response_id_of(span: Span) -> str | None:
    """Return the provider's id of the reply."""
    return text_in(span.attributes, ("gen_ai.response.id", "ai.response.id", "llm.response.id"))


def role_of(span: Span) -> str:
    """Return the role of a call that an export of a store names; else it is the agent's own."""
    role = text_in(span.attributes, ("workbench.role",))
    return role if role in _ROLES else "subject"


def error_of(span: Span) -> tuple[str, str] | None:
    """Return (type, message) of a span's error; None without one."""
    kind = text_in(span.attributes, ("error.type", "exception.type"))
    message = span.error
    for event in span.events:
        if event.name == "exception":
            kind = kind or text_in(event.attributes, ("exception.type",))
            message = message or text_in(event.attributes, ("exception.message",))
    if span.error is None and kind is None and message is None:
        return None
    kind = (kind or "error").rpartition(".")[2]
    return kind or "error", message or kind


def tool_of(span: Span) -> ToolFacts:
    """Return what a tool's span says of the call."""
    attributes = span.attributes
    name = text_in(
        attributes,
        ("gen_ai.tool.name", "tool.name", "ai.toolCall.name", "traceloop.entity.name"),
    )
    id_ = text_in(attributes, ("gen_ai.tool.call.id", "tool.id", "tool_call.id", "ai.toolCall.id"))
    arguments = first_in(
        attributes,
        (
            "gen_ai.tool.call.arguments",
            "ai.toolCall.args",
            "tool.parameters",
            "input.value",
            "traceloop.entity.input",
            "langfuse.observation.input",
            "mlflow.spanInputs",
        ),
    )
    result = first_in(
        attributes,
        (
            "gen_ai.tool.call.result",
            "ai.toolCall.result",
            "output.value",
            "traceloop.entity.output",
            "langfuse.observation.output",
            "mlflow.spanOutputs",
        ),
    )
    return ToolFacts(
        name or span.name.removeprefix("execute_tool "),
        id_ or "",
        canonical(arguments),
        None if result is None else shown(result),
    )


def scores_of(span: Span) -> Iterator[SpanScore]:
    """Yield the scores of a span: those of the file, of attributes and of events."""
    yield from span.scores
    if score := _score(span.attributes, "evaluation"):
        yield score
    for event in span.events:
        is_score = event.name.startswith("gen_ai.evaluation")
        if is_score and (score := _score(event.attributes, "gen_ai.evaluation")):
            yield score


def _score(attributes: Attributes, prefix: str) -> SpanScore | None:
    name = text_in(attributes, (f"{prefix}.name",))
    if name is None:
        return None
    return SpanScore(
        name,
        number_in(attributes, (f"{prefix}.score.value", f"{prefix}.score")),
        text_in(attributes, (f"{prefix}.score.label", f"{prefix}.label")),
        text_in(attributes, (f"{prefix}.explanation",)),
    )
