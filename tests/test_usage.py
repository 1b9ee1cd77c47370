"""Usage objects of every provider, against published vectors, real bodies and another's prices."""

import datetime as dt
import json

import genai_prices
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.prices import PriceBook
from workbench.records import Call
from workbench.tokens import COUNTS, MEDIA, is_media
from workbench.usage import (
    CONVENTIONS,
    Usage,
    billed_usd,
    convention_of,
    from_timings,
    normalise,
    usage_of,
)

WHEN = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC)
ELSEWHERE = {  # thinking beside the completion; and what Cohere charges
    ("x-ai", "chat"): "chat_beside",
    ("x-ai", "default"): "chat_flat",
    ("perplexity", "default"): "chat_flat",
    ("cohere", "default"): "cohere_billed",
    ("cohere", "embeddings"): "cohere_billed",
}
FLAVOURS = {  # how genai-prices calls what a body is read as
    "chat": "chat",
    "embeddings": "chat",
    "responses": "responses",
    "anthropic": "messages",
    "tokens": "cohere",
}
DEFAULTS = {
    "anthropic": "messages",
    "minimax": "messages",
    "google": "gemini",
    "aws": "bedrock",
    "groq": "chat",
    "mistral": "chat",
}

_THEIR_NAMES = {f"cache_read_{kind}_tokens": f"cache_{kind}_read_tokens" for kind in MEDIA}

VECTORS = [
    (
        "anthropic",
        {
            "input_tokens": 10,
            "cache_read_input_tokens": 200,
            "cache_creation_input_tokens": 50,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
            "output_tokens": 9,
            "output_tokens_details": {"thinking_tokens": 4},
        },
        Usage(260, 200, 20, 30, 9, 4, None),
    ),
    (
        "anthropic, older",
        {
            "input_tokens": 10,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 50,
            "output_tokens": 9,
        },
        Usage(60, 0, 50, None, 9, None, None),
    ),
    (
        "anthropic, details alone",
        {
            "input_tokens": 10,
            "cache_creation": {"ephemeral_1h_input_tokens": 5},
            "output_tokens": 1,
        },
        Usage(15, None, None, 5, 1, None, None),
    ),
    (
        "responses",
        {
            "input_tokens": 30,
            "input_tokens_details": {
                "cached_tokens": 12,
                "cache_write_tokens": 9,
                "cache_write_tokens_details": {"ttl_30m_tokens": 5, "ttl_12h_tokens": 4},
            },
            "output_tokens": 8,
            "output_tokens_details": {"reasoning_tokens": 6},
            "total_tokens": 38,
        },
        Usage(30, 12, 5, 4, 8, 6, 38),
    ),
    (
        "gemini",
        {
            "promptTokenCount": 100,
            "cachedContentTokenCount": 60,
            "candidatesTokenCount": 7,
            "thoughtsTokenCount": 20,
            "toolUsePromptTokenCount": 5,
            "totalTokenCount": 132,
        },
        Usage(105, 60, None, None, 27, 20, 132),
    ),
    (
        "gemini, thinking ate the budget",
        {"promptTokenCount": 3, "thoughtsTokenCount": 20, "totalTokenCount": 23},
        Usage(3, None, None, None, 20, 20, 23),
    ),
    (
        "gemini, python names",
        {"prompt_token_count": 3, "candidates_token_count": 2, "total_token_count": 5},
        Usage(3, None, None, None, 2, None, 5),
    ),
    (
        "openrouter",
        {
            "prompt_tokens": 11,
            "completion_tokens": 7,
            "total_tokens": 18,
            "cost": 0.25,
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
        Usage(11, None, None, None, 7, 3, 18, 0.25),
    ),
    (
        "xai, told by the total",
        {
            "prompt_tokens": 11,
            "completion_tokens": 7,
            "total_tokens": 21,
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
        Usage(11, None, None, None, 10, 3, 21),
    ),
    (
        "bedrock",
        {
            "inputTokens": 4,
            "outputTokens": 5,
            "totalTokens": 26,
            "cacheReadInputTokens": 6,
            "cacheReadInputTokenCount": 6,
            "cacheWriteInputTokens": 11,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 3}, {"ttl": "5m", "inputTokens": 8}],
        },
        Usage(21, 6, 8, 3, 5, None, 26),
    ),
    (
        "cohere",
        {
            "billed_units": {"input_tokens": 2, "output_tokens": 3},
            "tokens": {"input_tokens": 70, "output_tokens": 3},
        },
        Usage(70, None, None, None, 3),
    ),
    ("ollama", {"prompt_eval_count": 26, "eval_count": 298}, Usage(26, None, None, None, 298)),
]


@pytest.mark.parametrize(("_name", "raw", "expected"), VECTORS, ids=[v[0] for v in VECTORS])
def test_each_convention_becomes_inclusive(_name, raw, expected):
    """Input with the cached, output with the thinking; what was not said stays unknown."""
    assert normalise(raw) == expected._replace(tokens_source="reported")


def test_what_other_counts_tell_is_called_derived():
    """Gemini leaves counters of 0 out; its compatible endpoint hides thinking in the total."""
    silent = normalise({"promptTokenCount": 9, "totalTokenCount": 9})
    hidden = normalise(
        {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109},
        model="gemini-2.5-flash",
    )

    assert (silent.output_tokens, silent.tokens_source) == (0, "derived")
    assert (hidden.output_tokens, hidden.reasoning_tokens, hidden.tokens_source) == (
        74,
        62,
        "derived",
    )
    assert from_timings({"cache_n": 87, "prompt_n": 690, "predicted_n": 64}).input_tokens == 777


def test_nothing_is_unknown_and_not_zero():
    """No object, an empty one, and one without counters."""
    assert normalise(None) == normalise({}) == normalise({"service_tier": "flex"}) == Usage()
    assert normalise({"input_tokens": None, "cache_read_input_tokens": 3}).input_tokens is None


def test_charges_are_read_however_they_are_wrapped():
    """OpenRouter's number, Perplexity's parts."""
    assert billed_usd({"cost": 0.5}) == billed_usd({"cost": {"total_cost": 0.5}}) == 0.5
    assert billed_usd({"cost": {"request": 1}}) is billed_usd({"cost": -0.5}) is None


def test_usage_is_found_wherever_providers_put_it():
    """At the top, in the choice of a stream (Moonshot), under Gemini's name, in an event."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2}

    assert usage_of({"usage": usage}) == usage_of({"choices": [{"usage": usage}]}) == usage
    assert usage_of({"usageMetadata": usage}) == usage_of({"message": {"usage": usage}}) == usage
    assert usage_of({"usage": None, "choices": [{"usage": usage}]}) == usage
    assert usage_of({"choices": []}) is usage_of(None) is usage_of({"usage": {}}) is None


@pytest.mark.parametrize(
    ("raw", "input_tokens", "output_tokens"),
    [
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 80},
            },
            100,
            50,
        ),
        (
            {
                "prompt_tokens": 20,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 80},
            },
            100,
            50,
        ),
        (
            {
                "prompt_tokens": 20,
                "completion_tokens": 30,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 80},
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            100,
            50,
        ),
        (
            {
                "input_tokens": 20,
                "output_tokens": 50,
                "total_tokens": 150,
                "input_tokens_details": {"cached_tokens": 80},
            },
            100,
            50,
        ),
        (
            {
                "input_tokens": 100,
                "output_tokens": 50,
                "total_tokens": 150,
                "cache_read_input_tokens": 80,
            },
            100,
            50,
        ),
        (
            {
                "input_tokens": 20,
                "output_tokens": 50,
                "total_tokens": 150,
                "cache_read_input_tokens": 80,
            },
            100,
            50,
        ),
        ({"input_tokens": 20, "output_tokens": 50, "cache_read_input_tokens": 80}, 100, 50),
    ],
    ids=[
        "within",
        "apart",
        "both apart",
        "responses apart",
        "messages within",
        "messages apart",
        "no total",
    ],
)
def test_the_total_decides_what_the_counters_leave_out(raw, input_tokens, output_tokens):
    """Row by row: servers that use the same words count differently."""
    found = normalise(raw)

    assert (found.input_tokens, found.output_tokens) == (input_tokens, output_tokens)
    assert found.cache_read_tokens == 80


def test_audio_images_and_video_are_counted_apart():
    """OpenAI's realtime and Gemini's lists; a document is read as images."""
    realtime = normalise(
        {
            "input_tokens": 90,
            "output_tokens": 30,
            "total_tokens": 120,
            "input_token_details": {
                "audio_tokens": 60,
                "image_tokens": 10,
                "cached_tokens": 20,
                "cached_tokens_details": {"audio_tokens": 15},
            },
            "output_token_details": {"audio_tokens": 25, "text_tokens": 5},
        }
    )
    gemini = normalise(
        {
            "prompt_token_count": 50,
            "candidates_token_count": 9,
            "total_token_count": 59,
            "prompt_tokens_details": [
                {"modality": "MediaModality.AUDIO", "token_count": 7},
                {"modality": "DOCUMENT", "token_count": 11},
                {"modality": "IMAGE", "token_count": 4},
            ],
            "candidates_tokens_details": [{"modality": "IMAGE", "token_count": 9}],
        }
    )

    assert (realtime.input_audio_tokens, realtime.input_image_tokens) == (60, 10)
    assert (realtime.cache_read_audio_tokens, realtime.output_audio_tokens) == (15, 25)
    assert (gemini.input_audio_tokens, gemini.input_image_tokens) == (7, 15)
    assert (gemini.output_image_tokens, gemini.input_video_tokens) == (9, None)


_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
_words = st.sampled_from(sorted({w for _, raw, _ in VECTORS for w in raw})) | st.text(max_size=3)
_objects = st.dictionaries(
    _words, st.recursive(_leaves, lambda s: st.lists(s) | st.dictionaries(_words, s), max_leaves=6)
)


@settings(deadline=None, max_examples=60)
@given(_objects, st.sampled_from([None, *CONVENTIONS]))
def test_no_object_of_a_stranger_breaks_it(raw, convention):
    """Any JSON gives counts that are None or at least 0."""
    assert all(n is None or n >= 0 for n in normalise(raw, convention)[:7])


def _bodies(shared_data):
    for entry in json.loads((shared_data / "genai_prices" / "usages_even.json").read_text()):
        body = entry["body"]
        raw = body.get("usage") or body.get("usageMetadata") or body["meta"]
        yield entry, raw


def _flat(found: Usage) -> dict[str, int]:
    """Our counts in genai-prices' words; like there, 0 is left out."""
    flat = {
        "input_tokens": found.input_tokens,
        "cache_read_tokens": found.cache_read_tokens,
        "cache_write_tokens": (found.cache_write_5m_tokens or 0)
        + (found.cache_write_1h_tokens or 0),
        "cache_write_5m_tokens": found.cache_write_5m_tokens,
        "cache_write_1h_tokens": found.cache_write_1h_tokens,
        "output_tokens": found.output_tokens,
        "output_reasoning_tokens": found.reasoning_tokens,
    }
    for name in filter(is_media, COUNTS):
        flat[_THEIR_NAMES.get(name, name)] = getattr(found, name)
    return {name: n for name, n in flat.items() if n}


def _convention(provider: str, flavour: str) -> str:
    if (provider, flavour) in ELSEWHERE:
        return ELSEWHERE[provider, flavour]
    return DEFAULTS[provider] if flavour == "default" else FLAVOURS[flavour]


def test_every_reading_of_every_real_body_is_ours(shared_data):
    """789 bodies, each as all the APIs that could have sent it: every count that is published is
    the same."""
    wrong, n_readings = [], 0
    for entry, raw in _bodies(shared_data):
        for group in entry["extracted"]:
            for reader in group["extractors"]:
                n_readings += 1
                mine = _flat(
                    normalise(raw, _convention(reader["provider_id"], reader["api_flavor"]))
                )
                theirs = {k: v for k, v in group["usage"].items() if k in _COUNTED and v}
                if not theirs.items() <= mine.items():
                    wrong.append((reader, raw, theirs, mine))

    assert n_readings > 9000
    assert wrong == []


_COUNTED = set(_flat(Usage(*[1] * len(Usage._fields))))


def test_a_body_tells_its_own_convention(shared_data):
    """Without being told: one of the published readings, all of it and nothing else, for each
    body."""
    wrong = []
    for entry, raw in _bodies(shared_data):
        mine = _flat(normalise(raw))
        published = [
            {k: v for k, v in g["usage"].items() if k in _COUNTED and v} for g in entry["extracted"]
        ]
        lifetimes = [
            p | {k: mine[k] for k in _LIFETIMES & mine.keys()} if p.get("cache_write_tokens") else p
            for p in published
        ]
        if "num_cached_tokens" in raw:  # Mistral's, which they do not read
            assert mine.pop("cache_read_tokens", 0) == raw["num_cached_tokens"]
        if mine not in lifetimes:
            wrong.append((raw, mine, published))

    assert wrong == []


_LIFETIMES = {"cache_write_5m_tokens", "cache_write_1h_tokens"}


def test_prices_are_genai_prices_own(shared_data):
    """Our counts at our price rows, theirs at theirs; but for what tokens alone do not price.

    Audio that has no price there is charged as text there, and unknown here.
    """
    book, n_priced, n_apart, n_unknown, n_media = PriceBook(), 0, 0, 0, 0
    for entry, raw in _bodies(shared_data):
        for group in entry["extracted"]:
            for reader in group["extractors"]:
                provider, model = reader["provider_id"], entry.get("model")
                theirs = _their_price(group["usage"], provider, model)
                if not theirs:
                    # not known there; or, once, a model without prices, which is free there
                    continue
                if "embedding" in model or any(
                    w in n for n in group["usage"] for w in _PRICED_APART
                ):
                    n_apart += 1
                    continue
                found = normalise(raw, _convention(provider, reader["api_flavor"]))
                call = Call(
                    provider=provider,
                    model=model,
                    started_at=WHEN,
                    **_as_read(found, group["usage"]),
                )
                n_media += any(map(is_media, group["usage"]))
                if "audio" in model and group["usage"].get("input_audio_tokens"):
                    n_unknown += 1
                    assert book.cost(call) is None
                    continue
                n_priced += 1
                assert book.cost(call) == pytest.approx(theirs, rel=1e-9), (reader, raw)

    assert n_priced > 1500
    assert n_apart < 50
    assert n_media >= 59
    assert n_unknown == 2  # the audio model at Azure and at OpenAI


_PRICED_APART = ("web_searches",)


def _as_read(found: Usage, theirs: dict) -> dict:
    """Our counts, less what that reader of theirs does not read."""
    known = found.known()
    known.pop("billed_cost_usd", None)
    if "output_tokens" not in theirs:
        known["output_tokens"] = 0  # an embedding
        known.pop("reasoning_tokens", None)
    for mine, name in (("reasoning_tokens", "output_reasoning_tokens"), ("cache_read_tokens",) * 2):
        if name not in theirs:
            known.pop(mine, None)
    known = {k: v for k, v in known.items() if not is_media(k) or _THEIR_NAMES.get(k, k) in theirs}
    if "cache_write_tokens" not in theirs:
        known = {k: v for k, v in known.items() if k not in _LIFETIMES}
    return known


def _their_price(usage: dict, provider: str, model: str | None) -> float | None:
    if model is None:
        return None
    try:
        price = genai_prices.calc_price(
            genai_prices.Usage(**usage), model, provider_id=provider, genai_request_timestamp=WHEN
        )
    except LookupError:
        return None
    return float(price.total_price)


def test_conventions_are_told_apart_by_their_words():
    """The words of each are its own."""
    assert [convention_of(raw) for _, raw, _ in VECTORS] == [
        "messages",
        "messages",
        "messages",
        "responses",
        "gemini",
        "gemini",
        "gemini",
        "chat",
        "chat_beside",
        "bedrock",
        "cohere",
        "ollama",
    ]
