"""Conversion of a provider's usage object to inclusive token counts.

Inclusive means that input counts contain cached tokens and output counts contain thinking tokens.
Providers define their counters differently; each definition is a convention here:

- `chat`: OpenAI's chat completions and compatible APIs. The prompt includes cached tokens, the
  completion includes thinking. Gemini's compatible endpoint includes thinking in its total only.
- `chat_beside`: the same field names at xAI, but the completion excludes thinking.
- `chat_flat`: Perplexity. The completion excludes the flat `reasoning_tokens` and
  `citation_tokens`.
- `responses`: OpenAI's Responses: as `chat`, with other field names.
- `messages`: Anthropic. Input excludes tokens read from a cache or written to one.
- `gemini`: candidates exclude thinking, and the prompt excludes the prompts of tools.
- `bedrock`: as `messages`, with other field names.
- `cohere`: the tokens used; `cohere_billed`: the tokens charged.
- `ollama`: Ollama's own API, which reports no cache.

Servers that use the same field names differ in whether input includes cached tokens and whether
output includes thinking. The reported total decides this for each usage object
(`exclusions_by_total`).

A missing counter is unknown (None), and so is every count computed from it. A 0 is a measurement,
except for the flat `reasoning_tokens` of chat, which SGLang sets to 0 when it did not count.

Audio, image and video tokens are separate parts of input, cached input and output, because they
have prices of their own.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from workbench.tokens import CACHED, MEDIA

Raw = Mapping[str, Any]


class Usage(NamedTuple):
    """Token counts of a call, under the names of the `calls` table; None is unknown.

    Attributes:
        cache_write_5m_tokens: written to a cache of the shorter lifetime, or of an unknown one.
        cache_write_1h_tokens: written to a cache of the longer lifetime.
        total_tokens: as reported; never computed.
        billed_cost_usd: the amount that the provider reports as charged.
        tokens_source: "reported"; "derived" if a count was computed from others; None without
            counts.
    """

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    billed_cost_usd: float | None = None
    tokens_source: str | None = None
    input_audio_tokens: int | None = None
    input_image_tokens: int | None = None
    input_video_tokens: int | None = None
    cache_read_audio_tokens: int | None = None
    cache_read_image_tokens: int | None = None
    cache_read_video_tokens: int | None = None
    output_audio_tokens: int | None = None
    output_image_tokens: int | None = None
    output_video_tokens: int | None = None

    def known(self) -> dict[str, Any]:
        """Return the fields that are not None."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def normalise(usage: Raw | None, convention: str | None = None, *, model: str = "") -> Usage:
    """Read a usage object of any provider.

    Args:
        usage: as received; None and {} are unknown usage.
        convention: one of CONVENTIONS; None detects it from the object.
        model: the model that answered: Gemini's compatible endpoint has a convention of its own.

    Returns:
        Inclusive counts; all None if the object holds no valid count.
    """
    if not usage:
        return Usage()
    convention = convention or convention_of(usage)
    counts = CONVENTIONS[convention](usage)
    if convention == "chat" and "gemini" in model:
        counts = _with_hidden_thinking(counts)
    counted = any(n is not None for n in counts[:7])
    source = (counts.tokens_source or "reported") if counted else None
    return counts._replace(billed_cost_usd=billed_usd(usage), tokens_source=source)


def usage_of(body: Raw | None) -> Raw | None:
    """Return the usage object in a provider's response, or in a chunk of its stream.

    Most providers put it at the top level. Gemini calls it usageMetadata, Moonshot puts it into the
    choice, and events of Anthropic and of OpenAI's Responses wrap the response.
    """
    if not isinstance(body, Mapping):
        return None
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    places = (body, first, body.get("message"), body.get("response"))
    for place in places:
        for name in ("usage", "usageMetadata", "usage_metadata"):
            usage = place.get(name) if isinstance(place, Mapping) else None
            if isinstance(usage, Mapping) and usage:
                return usage
    return None


class Exclusions(NamedTuple):
    """Which tokens the input and output counters leave out."""

    input_without_cached: bool = False
    output_without_thinking: bool = False


_INCLUSIVE = Exclusions()


def exclusions_by_total(
    counts: tuple[int | None, int | None, int | None],
    *,
    cached: int = 0,
    thinking: int = 0,
    usual: Exclusions = _INCLUSIVE,
) -> Exclusions | None:
    """Derive from the reported total what the input and output counters leave out.

    Args:
        counts: input, output and total as reported.
        cached: tokens read from and written to a cache.
        thinking: thinking tokens.
        usual: preferred if several alternatives add up to the total.

    Returns:
        The alternative that adds up to the total; None if none does, or if a count is missing.
    """
    prompt, output, total = counts
    if prompt is None or output is None or total is None:
        return None
    alternatives = (
        Exclusions(without_cached, without_thinking)
        for without_thinking in (False, True)
        for without_cached in (False, True)
    )
    for exclusions in (usual, *alternatives):
        without_cached, without_thinking = exclusions
        possible = (without_cached or cached <= prompt) and (without_thinking or thinking <= output)
        if (
            possible
            and prompt + without_cached * cached + output + without_thinking * thinking == total
        ):
            return exclusions
    return None


def convention_of(usage: Raw) -> str:
    """Return the convention of a usage object, by its field names and its total."""
    for convention, fields in _FIELDS_BY_CONVENTION:
        if not usage.keys().isdisjoint(fields):
            return (
                "chat_beside"
                if convention == "chat" and _has_thinking_beside(usage)
                else convention
            )
    has_thinking_tokens = "thinking_tokens" in _part(usage, "output_tokens_details")
    return "messages" if has_thinking_tokens else "responses"


def count(value: object) -> int | None:
    """Return a token count; None if the value is not a whole number of at least 0."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < 2**62 else None


def billed_usd(usage: Raw | None) -> float | None:
    """Return the reported charge in USD; None if it is missing or negative."""
    cost = (usage or {}).get("cost")
    if isinstance(cost, Mapping):  # Perplexity itemises the cost
        cost = cost.get("total_cost")
    usable = isinstance(cost, int | float) and not isinstance(cost, bool) and math.isfinite(cost)
    return float(cost) if usable and cost is not None and cost >= 0 else None


def from_timings(timings: Raw | None) -> Usage:
    """Read llama.cpp's timings if usage is missing; their `prompt_n` excludes cached tokens."""
    fresh, cached, output = (
        count((timings or {}).get(name)) for name in ("prompt_n", "cache_n", "predicted_n")
    )
    if fresh is None or output is None:
        return Usage()
    return Usage(
        input_tokens=fresh + (cached or 0),
        cache_read_tokens=cached,
        output_tokens=output,
        tokens_source="derived",
    )


def _part(usage: Raw, name: str) -> Raw:
    value = usage.get(name)
    return value if isinstance(value, Mapping) else {}


def _first(*values: object) -> int | None:
    return next((n for n in map(count, values) if n is not None), None)


def _add_known(base: int | None, *more: int | None) -> int | None:
    """Add the known ones of `more` to `base`; None if `base` is unknown."""
    return None if base is None else base + sum(n or 0 for n in more)


def _reasoning_tokens(usage: Raw) -> int | None:
    detailed = _part(usage, "completion_tokens_details").get("reasoning_tokens")
    return _first(detailed, count(usage.get("reasoning_tokens")) or None)


def _has_thinking_beside(usage: Raw) -> bool:
    """Whether the total includes thinking in addition to prompt and completion."""
    prompt = count(usage.get("prompt_tokens"))
    completion = count(usage.get("completion_tokens"))
    total = count(usage.get("total_tokens"))
    thought = _reasoning_tokens(usage)
    if not thought:
        return False
    cached = _first(_part(usage, "prompt_tokens_details").get("cached_tokens")) or 0
    exclusions = exclusions_by_total((prompt, completion, total), cached=cached, thinking=thought)
    return exclusions is not None and exclusions.output_without_thinking


def _with_cached_input(counts: Usage) -> Usage:
    """Add the cached tokens to an input count if the total shows that it excludes them."""
    cached = sum(getattr(counts, name) or 0 for name in CACHED)
    reported = (counts.input_tokens, counts.output_tokens, counts.total_tokens)
    exclusions = exclusions_by_total(reported, cached=cached, thinking=counts.reasoning_tokens or 0)
    if exclusions is None or not exclusions.input_without_cached:
        return counts
    return counts._replace(input_tokens=_add_known(counts.input_tokens, cached))


def _media(field: str, details: Raw) -> dict[str, Any]:
    """Read the audio, image and video tokens of an OpenAI details object."""
    return {f"{field}_{kind}_tokens": count(details.get(f"{kind}_tokens")) for kind in MEDIA}


def _cached_media(details: Raw) -> dict[str, Any]:
    return _media("cache_read", _part(details, "cached_tokens_details"))


def _lifetimes(details: Raw) -> tuple[int | None, int | None]:
    """Read OpenAI's cache writes as (shorter lifetime, longer)."""
    by_lifetime = _part(details, "cache_write_tokens_details")
    written = count(details.get("cache_write_tokens"))
    long = count(by_lifetime.get("ttl_12h_tokens"))
    if written is None:
        return count(by_lifetime.get("ttl_30m_tokens")), long
    return max(written - (long or 0), 0), long


def _chat(usage: Raw) -> Usage:
    prompt = _part(usage, "prompt_tokens_details")
    short, long = _lifetimes(prompt)
    counts = Usage(
        input_tokens=count(usage.get("prompt_tokens")),
        cache_read_tokens=_first(
            prompt.get("cached_tokens"),
            usage.get("prompt_cache_hit_tokens"),
            usage.get("num_cached_tokens"),
            usage.get("cached_tokens"),
            usage.get("cache_read_input_tokens"),
        ),
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        output_tokens=count(usage.get("completion_tokens")),
        reasoning_tokens=_reasoning_tokens(usage),
        total_tokens=count(usage.get("total_tokens")),
        **_media("input", prompt),
        **_cached_media(prompt),
        **_media("output", _part(usage, "completion_tokens_details")),
    )
    return _with_cached_input(counts)


def _chat_beside(usage: Raw) -> Usage:
    counts = _chat(usage)
    return counts._replace(output_tokens=_add_known(counts.output_tokens, counts.reasoning_tokens))


def _chat_flat(usage: Raw) -> Usage:
    counts = _chat(usage)
    excluded = [count(usage.get(name)) for name in ("reasoning_tokens", "citation_tokens")]
    return counts._replace(output_tokens=_add_known(counts.output_tokens, *excluded))


def _with_hidden_thinking(counts: Usage) -> Usage:
    """Add to the output the thinking tokens that only the total includes."""
    prompt = counts.input_tokens
    output = counts.output_tokens
    total = counts.total_tokens
    if counts.reasoning_tokens is not None or prompt is None or output is None or total is None:
        return counts
    hidden = total - prompt - output
    if hidden <= 0:
        return counts
    return counts._replace(
        output_tokens=output + hidden, reasoning_tokens=hidden, tokens_source="derived"
    )


def _responses(usage: Raw) -> Usage:
    # the plural is that of responses and images, the singular that of realtime and transcriptions
    details = _part(usage, "input_tokens_details") or _part(usage, "input_token_details")
    generated = _part(usage, "output_tokens_details") or _part(usage, "output_token_details")
    short, long = _lifetimes(details)
    counts = Usage(
        input_tokens=count(usage.get("input_tokens")),
        cache_read_tokens=_first(
            details.get("cached_tokens"), details.get("cache_read_input_tokens")
        ),
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        output_tokens=count(usage.get("output_tokens")),
        reasoning_tokens=count(generated.get("reasoning_tokens")),
        total_tokens=count(usage.get("total_tokens")),
        **_media("input", details),
        **_cached_media(details),
        **_media("output", generated),
    )
    return _with_cached_input(counts)


def _messages(usage: Raw) -> Usage:
    read = count(usage.get("cache_read_input_tokens"))
    lifetimes = _part(usage, "cache_creation")
    short, long, written = _split_cache_writes(
        count(usage.get("cache_creation_input_tokens")),
        count(lifetimes.get("ephemeral_5m_input_tokens")),
        count(lifetimes.get("ephemeral_1h_input_tokens")),
    )
    details = _part(usage, "output_tokens_details")
    prompt = count(usage.get("input_tokens"))
    total = count(usage.get("total_tokens"))
    output = count(usage.get("output_tokens"))
    cached = (read or 0) + (written or 0)
    usual = Exclusions(input_without_cached=True)
    exclusions = exclusions_by_total((prompt, output, total), cached=cached, usual=usual) or usual
    return Usage(
        input_tokens=_add_known(prompt, read, written)
        if exclusions.input_without_cached
        else prompt,
        cache_read_tokens=read,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        output_tokens=output,
        reasoning_tokens=_first(details.get("thinking_tokens"), details.get("reasoning_tokens")),
        total_tokens=total,
    )


def _bedrock(usage: Raw) -> Usage:
    read = _first(usage.get("cacheReadInputTokens"), usage.get("cacheReadInputTokenCount"))
    by_lifetime: dict[str, int] = {}
    details = usage.get("cacheDetails")
    for entry in details if isinstance(details, list) else ():
        if isinstance(entry, Mapping) and (n := count(entry.get("inputTokens"))) is not None:
            lifetime = str(entry.get("ttl"))
            by_lifetime[lifetime] = by_lifetime.get(lifetime, 0) + n
    short, long, written = _split_cache_writes(
        _first(usage.get("cacheWriteInputTokens"), usage.get("cacheWriteInputTokenCount")),
        by_lifetime.get("5m"),
        by_lifetime.get("1h"),
    )
    return Usage(
        input_tokens=_add_known(count(usage.get("inputTokens")), read, written),
        cache_read_tokens=read,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        output_tokens=count(usage.get("outputTokens")),
        total_tokens=count(usage.get("totalTokens")),
    )


def _split_cache_writes(
    written: int | None, short: int | None, long: int | None
) -> tuple[int | None, int | None, int | None]:
    """Split cache writes: (5 minutes, 1 hour, both); an unnamed lifetime counts as 5 minutes."""
    if written is None:
        known = [n for n in (short, long) if n is not None]
        return short, long, sum(known) if known else None
    return max(written - (long or 0), 0), long, written


def _gemini(usage: Raw) -> Usage:
    usage = {_camel(name): value for name, value in usage.items()}
    candidates, thought = (
        count(usage.get(name)) for name in ("candidatesTokenCount", "thoughtsTokenCount")
    )
    total = count(usage.get("totalTokenCount"))
    prompt = _add_known(
        count(usage.get("promptTokenCount")), count(usage.get("toolUsePromptTokenCount"))
    )
    output = thought if candidates is None else _add_known(candidates, thought)
    source = None
    if output is None and prompt is not None and total == prompt:
        # Gemini omits counters of 0
        output = 0
        source = "derived"
    return Usage(
        input_tokens=prompt,
        cache_read_tokens=count(usage.get("cachedContentTokenCount")),
        output_tokens=output,
        reasoning_tokens=thought,
        total_tokens=total,
        tokens_source=source,
        **_modalities("input", usage, "promptTokensDetails", "toolUsePromptTokensDetails"),
        **_modalities("cache_read", usage, "cacheTokensDetails"),
        **_modalities("output", usage, "candidatesTokensDetails"),
    )


_MODALITIES = {"AUDIO": "audio", "IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video"}


def _modalities(field: str, usage: Raw, *names: str) -> dict[str, Any]:
    """Read Gemini's counts by modality; documents are tokenised and priced as images."""
    tokens: dict[str, Any] = {}
    for name in names:
        entries = usage.get(name)
        for entry in entries if isinstance(entries, list) else ():
            fields = {_camel(k): v for k, v in entry.items()} if isinstance(entry, Mapping) else {}
            modality = str(fields.get("modality")).rpartition(".")[2].upper()
            kind = _MODALITIES.get(modality)
            n = count(fields.get("tokenCount"))
            if kind is not None and n is not None:
                column = f"{field}_{kind}_tokens"
                tokens[column] = (tokens.get(column) or 0) + n
    return tokens


def _camel(name: str) -> str:
    """Convert a field name of Google's Python client to that of its API."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _cohere(usage: Raw) -> Usage:
    counts = _cohere_billed({"billed_units": _part(usage, "tokens")})
    return counts._replace(cache_read_tokens=count(usage.get("cached_tokens")))


def _cohere_billed(usage: Raw) -> Usage:
    units = _part(usage, "billed_units")
    return Usage(
        input_tokens=count(units.get("input_tokens")),
        output_tokens=count(units.get("output_tokens")),
    )


def _ollama(usage: Raw) -> Usage:
    return Usage(
        input_tokens=count(usage.get("prompt_eval_count")),
        output_tokens=count(usage.get("eval_count")),
    )


_FIELDS_BY_CONVENTION = (  # fields that only this convention uses; the first match counts
    ("gemini", {"promptTokenCount", "prompt_token_count", "totalTokenCount", "total_token_count"}),
    ("bedrock", {"inputTokens", "outputTokens"}),
    ("ollama", {"prompt_eval_count", "eval_count"}),
    ("cohere", {"tokens"}),
    ("cohere_billed", {"billed_units"}),
    ("chat", {"prompt_tokens", "completion_tokens"}),
    (
        "messages",
        {
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
            "cache_creation",
            "server_tool_use",
        },
    ),
)
CONVENTIONS: Mapping[str, Callable[[Raw], Usage]] = {
    "chat": _chat,
    "chat_beside": _chat_beside,
    "chat_flat": _chat_flat,
    "responses": _responses,
    "messages": _messages,
    "gemini": _gemini,
    "bedrock": _bedrock,
    "cohere": _cohere,
    "cohere_billed": _cohere_billed,
    "ollama": _ollama,
}
