"""A provider's usage object → inclusive token counts: input with cached, output with thinking.

Providers disagree on what their counters hold; each way of counting is a convention here:

- `chat`: OpenAI's chat completions and all that copy them. Cached tokens are within the prompt,
  thinking within the completion. Gemini's compatible endpoint leaves thinking out of both: only its
  total holds it.
- `chat_beside`: the same words at xAI, but thinking stands beside the completion.
- `chat_flat`: Perplexity's: a flat `reasoning_tokens` and `citation_tokens` beside the completion.
- `responses`: OpenAI's Responses: as chat, in other words.
- `messages`: Anthropic's: input leaves out what was read from a cache or written to one.
- `gemini`: thinking stands beside the candidates, the prompts of tools beside the prompt.
- `bedrock`: as Anthropic's, in other words.
- `cohere`: the tokens used; `cohere_billed`: those that are charged.
- `ollama`: its own API, without any cache.

A total decides, row by row, where servers that use the same words differ: whether the cached tokens
are within the input, and the thinking within the output (`reading`).

A counter that is missing is unknown (None), and so is all that would need it. A 0 is a statement,
except for the flat `reasoning_tokens` of chat, which SGLang fills with 0 where it did not count.

Audio, images and video are counted apart as parts of input, cached input and output, because they
are priced apart.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from workbench.tokens import CACHED, MEDIA

Raw = Mapping[str, Any]


class Usage(NamedTuple):
    """Token counts of a call, under the names of the `calls` table; None is unknown.

    Attributes:
        cache_write_5m_tokens: written to a cache of the shorter lifetime, or of one that is not
            named.
        cache_write_1h_tokens: written to a cache of the longer lifetime.
        total_tokens: as reported; never computed.
        billed_cost_usd: what the provider says it charged.
        tokens_source: "reported"; "derived" where a count was told by others; None without counts.
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
        """Return the fields that are known."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def normalise(usage: Raw | None, convention: str | None = None, *, model: str = "") -> Usage:
    """Read a usage object of any provider.

    Args:
        usage: as received; None and {} are unknown usage.
        convention: one of CONVENTIONS; told from the object itself where None.
        model: the answering model: Gemini's compatible endpoint has a convention of its own.

    Returns:
        Inclusive counts; all None where the object holds none that make sense.
    """
    if not usage:
        return Usage()
    convention = convention or convention_of(usage)
    found = CONVENTIONS[convention](usage)
    if convention == "chat" and "gemini" in model:
        found = _with_hidden_thinking(found)
    counted = any(n is not None for n in found[:7])
    source = (found.tokens_source or "reported") if counted else None
    return found._replace(billed_cost_usd=billed_usd(usage), tokens_source=source)


def usage_of(body: Raw | None) -> Raw | None:
    """Find the usage object in a provider's answer, or in a chunk of its stream.

    It stands at the top in most; Gemini calls it usageMetadata, Moonshot puts it into the choice,
    events of Anthropic and of OpenAI's Responses wrap the answer.
    """
    if not isinstance(body, Mapping):
        return None
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    places = (body, first, body.get("message"), body.get("response"))
    for place in places:
        for name in ("usage", "usageMetadata", "usage_metadata"):
            found = place.get(name) if isinstance(place, Mapping) else None
            if isinstance(found, Mapping) and found:
                return found
    return None


class Reading(NamedTuple):
    """How counters are to be read: what they leave out."""

    input_without_cached: bool = False
    output_without_thinking: bool = False


_INCLUSIVE = Reading()


def reading(
    counts: tuple[int | None, int | None, int | None],
    *,
    cached: int = 0,
    thinking: int = 0,
    usual: Reading = _INCLUSIVE,
) -> Reading | None:
    """Tell from the total what input and output leave out.

    Args:
        counts: input, output and total as reported.
        cached: tokens read from and written to a cache.
        thinking: tokens spent thinking.
        usual: the reading that is taken where it fits, whatever else would.

    Returns:
        The reading whose parts add up to the total; None where none does, or there is no total.
    """
    given, output, total = counts
    if given is None or output is None or total is None:
        return None
    every = (Reading(apart, beside) for beside in (False, True) for apart in (False, True))
    for found in (usual, *every):
        apart, beside = found
        possible = (apart or cached <= given) and (beside or thinking <= output)
        if possible and given + apart * cached + output + beside * thinking == total:
            return found
    return None


def convention_of(usage: Raw) -> str:
    """Return the convention of a usage object, by its field names and by what adds to its total."""
    for convention, words in _WORDS:
        if not usage.keys().isdisjoint(words):
            return "chat_beside" if convention == "chat" and _is_beside(usage) else convention
    apart = "thinking_tokens" in _part(usage, "output_tokens_details")
    return "messages" if apart else "responses"


def count(value: object) -> int | None:
    """Return a token count; None for anything that is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < 2**62 else None


def billed_usd(usage: Raw | None) -> float | None:
    """Return what the provider says it charged, in USD; None where it does not, or below 0."""
    cost = (usage or {}).get("cost")
    if isinstance(cost, Mapping):  # Perplexity takes it apart
        cost = cost.get("total_cost")
    usable = isinstance(cost, int | float) and not isinstance(cost, bool) and math.isfinite(cost)
    return float(cost) if usable and cost is not None and cost >= 0 else None


def from_timings(timings: Raw | None) -> Usage:
    """Read llama.cpp's timings, where usage is missing; their `prompt_n` omits cached tokens."""
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


def _plus(base: int | None, *more: int | None) -> int | None:
    """Add what is known to a count that must be."""
    return None if base is None else base + sum(n or 0 for n in more)


def _thought(usage: Raw) -> int | None:
    said = _part(usage, "completion_tokens_details").get("reasoning_tokens")
    return _first(said, count(usage.get("reasoning_tokens")) or None)


def _is_beside(usage: Raw) -> bool:
    """Whether the total holds the thinking on top of prompt and completion."""
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    total, thought = count(usage.get("total_tokens")), _thought(usage)
    if not thought:
        return False
    cached = _first(_part(usage, "prompt_tokens_details").get("cached_tokens")) or 0
    found = reading((prompt, completion, total), cached=cached, thinking=thought)
    return found is not None and found.output_without_thinking


def _with_apart(found: Usage) -> Usage:
    """Add the cached tokens to an input that leaves them out, as the total tells."""
    cached = sum(getattr(found, name) or 0 for name in CACHED)
    counts = (found.input_tokens, found.output_tokens, found.total_tokens)
    told = reading(counts, cached=cached, thinking=found.reasoning_tokens or 0)
    if told is None or not told.input_without_cached:
        return found
    return found._replace(input_tokens=_plus(found.input_tokens, cached))


def _media(field: str, details: Raw) -> dict[str, Any]:
    """Read how many tokens of some are audio, images and video, from an object of OpenAI's."""
    return {f"{field}_{kind}_tokens": count(details.get(f"{kind}_tokens")) for kind in MEDIA}


def _cached_media(details: Raw) -> dict[str, Any]:
    return _media("cache_read", _part(details, "cached_tokens_details"))


def _lifetimes(details: Raw) -> tuple[int | None, int | None]:
    """Read OpenAI's cache writes as (shorter lifetime, longer)."""
    by_lifetime = _part(details, "cache_write_tokens_details")
    written, long = (
        count(details.get("cache_write_tokens")),
        count(by_lifetime.get("ttl_12h_tokens")),
    )
    if written is None:
        return count(by_lifetime.get("ttl_30m_tokens")), long
    return max(written - (long or 0), 0), long


def _chat(usage: Raw) -> Usage:
    prompt = _part(usage, "prompt_tokens_details")
    short, long = _lifetimes(prompt)
    found = Usage(
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
        reasoning_tokens=_thought(usage),
        total_tokens=count(usage.get("total_tokens")),
        **_media("input", prompt),
        **_cached_media(prompt),
        **_media("output", _part(usage, "completion_tokens_details")),
    )
    return _with_apart(found)


def _chat_beside(usage: Raw) -> Usage:
    found = _chat(usage)
    return found._replace(output_tokens=_plus(found.output_tokens, found.reasoning_tokens))


def _chat_flat(usage: Raw) -> Usage:
    found = _chat(usage)
    beside = [count(usage.get(name)) for name in ("reasoning_tokens", "citation_tokens")]
    return found._replace(output_tokens=_plus(found.output_tokens, *beside))


def _with_hidden_thinking(found: Usage) -> Usage:
    """Take the thinking that only the total holds into the output."""
    prompt, output, total = found.input_tokens, found.output_tokens, found.total_tokens
    if found.reasoning_tokens is not None or prompt is None or output is None or total is None:
        return found
    hidden = total - prompt - output
    if hidden <= 0:
        return found
    return found._replace(
        output_tokens=output + hidden, reasoning_tokens=hidden, tokens_source="derived"
    )


def _responses(usage: Raw) -> Usage:
    # the plural is that of responses and images, the singular that of realtime and transcriptions
    details = _part(usage, "input_tokens_details") or _part(usage, "input_token_details")
    generated = _part(usage, "output_tokens_details") or _part(usage, "output_token_details")
    short, long = _lifetimes(details)
    found = Usage(
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
    return _with_apart(found)


def _messages(usage: Raw) -> Usage:
    read = count(usage.get("cache_read_input_tokens"))
    lifetimes = _part(usage, "cache_creation")
    short, long, written = _written(
        count(usage.get("cache_creation_input_tokens")),
        count(lifetimes.get("ephemeral_5m_input_tokens")),
        count(lifetimes.get("ephemeral_1h_input_tokens")),
    )
    details = _part(usage, "output_tokens_details")
    given, total = count(usage.get("input_tokens")), count(usage.get("total_tokens"))
    output, cached = count(usage.get("output_tokens")), (read or 0) + (written or 0)
    apart = Reading(input_without_cached=True)
    told = reading((given, output, total), cached=cached, usual=apart) or apart
    return Usage(
        input_tokens=_plus(given, read, written) if told.input_without_cached else given,
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
    short, long, written = _written(
        _first(usage.get("cacheWriteInputTokens"), usage.get("cacheWriteInputTokenCount")),
        by_lifetime.get("5m"),
        by_lifetime.get("1h"),
    )
    return Usage(
        input_tokens=_plus(count(usage.get("inputTokens")), read, written),
        cache_read_tokens=read,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        output_tokens=count(usage.get("outputTokens")),
        total_tokens=count(usage.get("totalTokens")),
    )


def _written(
    written: int | None, short: int | None, long: int | None
) -> tuple[int | None, int | None, int | None]:
    """Share cache writes out: (5 minutes, 1 hour, both); what names no lifetime lives 5 minutes."""
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
    given = _plus(count(usage.get("promptTokenCount")), count(usage.get("toolUsePromptTokenCount")))
    output = thought if candidates is None else _plus(candidates, thought)
    source = None
    if output is None and given is not None and total == given:
        output, source = 0, "derived"  # counters of 0 are left out
    return Usage(
        input_tokens=given,
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
    """Read Gemini's counts by modality; a document is read, and priced, as images."""
    found: dict[str, Any] = {}
    for name in names:
        entries = usage.get(name)
        for entry in entries if isinstance(entries, list) else ():
            told = {_camel(k): v for k, v in entry.items()} if isinstance(entry, Mapping) else {}
            modality = str(told.get("modality")).rpartition(".")[2].upper()
            kind, n = _MODALITIES.get(modality), count(told.get("tokenCount"))
            if kind is not None and n is not None:
                column = f"{field}_{kind}_tokens"
                found[column] = (found.get(column) or 0) + n
    return found


def _camel(name: str) -> str:
    """Turn the names of Google's Python client into those of its API."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _cohere(usage: Raw) -> Usage:
    found = _cohere_billed({"billed_units": _part(usage, "tokens")})
    return found._replace(cache_read_tokens=count(usage.get("cached_tokens")))


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


_WORDS = (  # that only this convention uses, looked for in this order
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
