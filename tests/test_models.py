"""Names of models: which mean the same, whose price each has, and what no rule may join."""

import random
from pathlib import Path

import pytest

from tests.support import making
from workbench.errors import ConfigError
from workbench.models import canonical, find_price_entry, read_aliases, why_unpriced
from workbench.prices import PriceBook, rows_for
from workbench.records import Call, Configuration
from workbench.store import Store, open_store

# provider as recorded, name as asked, the model it means, and the entry that prices it
NAMES = (
    # OpenRouter: slugs, dated ones of activity exports, variants
    (
        "openrouter",
        "anthropic/claude-sonnet-4.5",
        "claude-sonnet-4-5",
        "openrouter: anthropic/claude-sonnet-4.5",
    ),
    (
        "openrouter",
        "anthropic/claude-4.5-sonnet-20250929",
        "claude-sonnet-4-5",
        "openrouter: anthropic/claude-sonnet-4.5",
    ),
    ("openrouter", "openai/gpt-5-2025-08-07", "gpt-5", "openrouter: openai/gpt-5"),
    ("openrouter", "openai/gpt-4o-2024-08-06", "gpt-4o", "openrouter: openai/gpt-4o"),
    ("openrouter", "deepseek/deepseek-r1", "deepseek-r1", "openrouter: deepseek/deepseek-r1"),
    (
        "openrouter",
        "deepseek/deepseek-r1:free",
        "deepseek-r1:free",
        "openrouter: deepseek/deepseek-r1:free",
    ),
    (
        "openrouter",
        "anthropic/claude-3.7-sonnet:thinking",
        "claude-3-7-sonnet:thinking",
        "openrouter: anthropic/claude-3.7-sonnet",
    ),
    (
        "openrouter",
        "meta-llama/llama-3.3-70b-instruct",
        "llama-3.3-70b-instruct",
        "openrouter: meta-llama/llama-3.3-70b-instruct",
    ),
    (None, "openrouter/openai/gpt-5", "gpt-5", "openrouter: openai/gpt-5"),
    (
        None,
        "deepseek/deepseek-chat:free",
        "deepseek-chat:free",
        "openrouter: deepseek/deepseek-chat:free",
    ),
    # the provider that an activity export names, with OpenRouter's name of the model
    ("OpenAI", "openai/gpt-5-2026", "gpt-5", "openai: gpt-5"),
    (
        "Anthropic",
        "anthropic/claude-4.5-sonnet-20250929",
        "claude-sonnet-4-5",
        "anthropic: claude-sonnet-4-5",
    ),
    ("Google AI Studio", "google/gemini-2.5-pro", "gemini-2.5-pro", "google: gemini-2.5-pro"),
    ("Google", "google/gemini-2.5-flash", "gemini-2.5-flash", "google: gemini-2.5-flash"),
    ("xAI", "x-ai/grok-3", "grok-3", "x-ai: grok-3"),
    ("DeepInfra", "deepseek/deepseek-r1", "deepseek-r1", None),
    # the makers' own
    ("openai", "gpt-4o", "gpt-4o", "openai: gpt-4o"),
    ("openai", "gpt-4o-2024-11-20", "gpt-4o", "openai: gpt-4o"),
    ("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13", "openai: gpt-4o-2024-05-13"),
    ("openai", "gpt-4-0613", "gpt-4-0613", "openai: gpt-4"),
    ("openai", "o3-mini-2025-01-31", "o3-mini", "openai: o3-mini"),
    (
        "openai",
        "ft:gpt-4o-2024-08-06:org::abc",
        "ft:gpt-4o-2024-08-06:org::abc",
        "openai: ft:gpt-4o",
    ),
    ("openai", "gpt-5-of-tomorrow", "gpt-5-of-tomorrow", None),
    (None, "openai:gpt-4o-2024-08-06", "gpt-4o", "openai: gpt-4o"),
    (None, "openai/gpt-4o", "gpt-4o", "openai: gpt-4o"),
    (None, "GPT-4O", "gpt-4o", "openai: gpt-4o"),
    (
        None,
        "ft:gpt-4o-mini-2024-07-18:acme::x1",
        "ft:gpt-4o-mini-2024-07-18:acme::x1",
        "openai: ft:gpt-4o-mini",
    ),
    (None, "gpt-4o-my-finetune", "gpt-4o-my-finetune", None),
    (None, "chatgpt-4o-latest", "chatgpt-4o-latest", None),
    (
        "anthropic",
        "claude-3-5-sonnet-20241022",
        "claude-3-5-sonnet",
        "anthropic: claude-3-5-sonnet",
    ),
    ("anthropic", "claude-3-opus-latest", "claude-3-opus", "anthropic: claude-3-opus-latest"),
    ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4", "anthropic: claude-sonnet-4-0"),
    ("anthropic", "claude-opus-4-1-20250805", "claude-opus-4-1", "anthropic: claude-opus-4-1"),
    ("anthropic", "claude-opus-4-5-20251101[1m]", "claude-opus-4-5", "anthropic: claude-opus-4-5"),
    (
        None,
        "anthropic:claude-3-5-haiku-latest",
        "claude-3-5-haiku",
        "anthropic: claude-3-5-haiku-latest",
    ),
    (None, "anthropic/claude-opus-4.1", "claude-opus-4-1", "anthropic: claude-opus-4-1"),
    (None, "models/gemini-2.5-flash", "gemini-2.5-flash", "google: gemini-2.5-flash"),
    ("google", "gemini-1.5-pro-latest", "gemini-1.5-pro", "google: gemini-1.5-pro"),
    ("google", "gemini-1.5-pro-002", "gemini-1.5-pro-002", "google: gemini-1.5-pro"),
    (None, "gemini/gemini-2.5-pro", "gemini-2.5-pro", "google: gemini-2.5-pro"),
    (None, "mistral/mistral-large-latest", "mistral-large", "mistral: mistral-large"),
    ("mistral", "mistral-large-2411", "mistral-large-2411", "mistral: mistral-large"),
    ("xai", "grok-4-0709", "grok-4-0709", "x-ai: grok-4-0709"),
    ("grok", "grok-3", "grok-3", "x-ai: grok-3"),
    (None, "perplexity/sonar-pro", "sonar-pro", "perplexity: sonar-pro"),
    ("deepseek", "deepseek-chat", "deepseek-chat", "deepseek: deepseek-chat"),
    # Bedrock
    (
        None,
        "anthropic.claude-3-haiku-20240307-v1:0",
        "claude-3-haiku",
        "aws: regional.anthropic.claude-3-haiku-20240307-v1:0",
    ),
    (
        "bedrock",
        "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
        "claude-3-5-sonnet",
        "aws: regional.anthropic.claude-3-5-sonnet-20241022-v2:0",
    ),
    (
        None,
        "bedrock/eu.anthropic.claude-sonnet-4-20250514-v1:0",
        "claude-sonnet-4",
        "aws: regional.anthropic.claude-sonnet-4-20250514-v1:0",
    ),
    (
        None,
        "bedrock/global.anthropic.claude-sonnet-4-20250514-v1:0",
        "claude-sonnet-4",
        "aws: global.anthropic.claude-sonnet-4-20250514-v1:0",
    ),
    (
        None,
        "bedrock/us-east-1/anthropic.claude-3-haiku-20240307-v1:0",
        "claude-3-haiku",
        "aws: regional.anthropic.claude-3-haiku-20240307-v1:0",
    ),
    (None, "bedrock/converse/us.amazon.nova-pro-v1:0", "nova-pro", "aws: amazon.nova-pro-v1:0"),
    (
        "anthropic",
        "bedrock/us.anthropic.claude-3-5-haiku-20241022-v1:0",
        "claude-3-5-haiku",
        "aws: regional.anthropic.claude-3-5-haiku-20241022-v1:0",
    ),
    (
        None,
        "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0",
        "claude-3-haiku",
        "aws: regional.anthropic.claude-3-haiku-20240307-v1:0",
    ),
    (None, "openai.gpt-oss-120b-1:0", "gpt-oss-120b", "aws: openai.gpt-oss-120b-1:0"),
    (
        None,
        "meta.llama3-1-70b-instruct-v1:0",
        "llama3-1-70b-instruct",
        "aws: meta.llama3-1-70b-instruct-v1:0",
    ),
    (
        None,
        "mistral.mistral-7b-instruct-v0:2",
        "mistral-7b-instruct-v0:2",
        "aws: mistral.mistral-7b-instruct-v0:2",
    ),
    ("bedrock", "anthropic.claude-v2:1", "claude-v2:1", None),
    ("Amazon Bedrock", "anthropic/claude-4.5-sonnet-20250929", "claude-sonnet-4-5", None),
    # Vertex
    (None, "claude-3-sonnet@20240229", "claude-3-sonnet", "google: claude-3-sonnet"),
    (
        None,
        "vertex_ai/claude-3-5-sonnet@20240620",
        "claude-3-5-sonnet",
        "google: claude-3-5-sonnet",
    ),
    (None, "vertex_ai/gemini-1.5-pro", "gemini-1.5-pro", "google: gemini-1.5-pro"),
    (
        "vertex",
        "publishers/google/models/gemini-2.5-pro",
        "gemini-2.5-pro",
        "google: gemini-2.5-pro",
    ),
    # Azure
    (None, "azure/gpt-4o", "gpt-4o", "azure: gpt-4o"),
    ("azure", "gpt-4o-2024-08-06", "gpt-4o", "azure: gpt-4o"),
    ("openai", "azure/gpt-4o-mini", "gpt-4o-mini", "azure: gpt-4o-mini"),
    (None, "azure/prod-chat-1", "prod-chat-1", None),
    # Groq, Together, Fireworks, by LiteLLM's names and their own
    (
        None,
        "groq/llama-3.3-70b-versatile",
        "llama-3.3-70b-versatile",
        "groq: llama-3.3-70b-versatile",
    ),
    ("groq", "openai/gpt-oss-120b", "gpt-oss-120b", "groq: openai/gpt-oss-120b"),
    (
        "openai-api",
        "groq/llama-3.3-70b-versatile",
        "llama-3.3-70b-versatile",
        "groq: llama-3.3-70b-versatile",
    ),
    (
        None,
        "together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "llama-3.3-70b-instruct-turbo",
        "together: meta-llama/Llama-3.3-70B-Instruct-Turbo",
    ),
    (
        "together",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "llama-3.3-70b-instruct-turbo",
        "together: meta-llama/Llama-3.3-70B-Instruct-Turbo",
    ),
    (
        None,
        "fireworks_ai/accounts/fireworks/models/gpt-oss-120b",
        "gpt-oss-120b",
        "fireworks: gpt-oss-120b",
    ),
    ("fireworks", "accounts/fireworks/models/kimi-k2p5", "kimi-k2p5", "fireworks: kimi-k2p5"),
    ("litellm", "azure/gpt-4o", "gpt-4o", "azure: gpt-4o"),
    # fits several lists at different prices, or may be a model at hand
    (None, "deepseek/deepseek-chat", "deepseek-chat", None),
    (None, "openai/gpt-oss-120b", "gpt-oss-120b", None),
    (None, "meta-llama/Llama-3.3-70B-Instruct", "llama-3.3-70b-instruct", None),
    ("local", "gpt-4o", "gpt-4o", None),
    ("vllm-openai", "gpt-4o", "gpt-4o", None),
    (None, "my-checkpoint-20250101", "my-checkpoint-20250101", None),
    (None, "someone/Llama-3.3-70B-Instruct", "someone/llama-3.3-70b-instruct", None),
)


@pytest.mark.parametrize(("provider", "name", "meant", "entry"), NAMES)
def test_a_name_means_one_model_and_finds_its_price_or_none(
    provider: str | None, name: str, meant: str, entry: str | None
) -> None:
    """Over the forms of OpenRouter, LiteLLM, Inspect, Bedrock, Vertex, Azure, Groq, Together,
    Fireworks."""
    found = find_price_entry(provider, name)

    assert canonical(name).model == meant
    assert (f"{found.provider.id}: {found.info.id}" if found else None) == entry
    assert bool(rows_for(provider, name)) == (entry is not None)
    assert bool(why_unpriced(provider, name)) == (entry is None)
    if meant != name:
        assert canonical(name).rules


@pytest.mark.parametrize("name", [name for _, name, _, _ in NAMES])
def test_a_canonical_name_means_itself(name: str) -> None:
    """Reading a name again takes nothing more from it."""
    meant = canonical(name).model

    assert canonical(meant).model == meant


def test_a_free_variant_has_not_the_price_of_the_paid_one() -> None:
    """genai-prices alone reads deepseek-r1:free as DeepSeek's paid model."""
    assert rows_for(None, "deepseek-r1:free") == ()
    assert rows_for("google", "gemini-2.5-flash-preview:thinking") == ()


def _priced(folder: Path, pairs: list[tuple[str | None, str]]) -> Store:
    store = open_store(folder / "s.duckdb", create=True)
    records: list[object] = [making.run(), making.TASK, making.ITEMS[0]]
    for provider, model in pairs:
        configuration = Configuration(model=model, provider=provider)
        call = Call(
            provider=provider,
            model=model,
            started_at=making.START,
            input_tokens=1000,
            output_tokens=100,
        )
        records += [configuration, making.trace(configuration, making.ITEMS[0], calls=(call,))]
    store.ingest(records)  # type: ignore[arg-type]  # a list of several kinds
    return store


def test_twins_are_one_model_in_the_store_and_keep_their_names(tmp_path: Path) -> None:
    """`canonical_model` joins them; model and provider stay as asked, and each has a cost."""
    pairs: list[tuple[str | None, str]] = [
        ("openai", "gpt-4o-2024-08-06"),
        (None, "openai:gpt-4o"),
        ("azure", "gpt-4o"),
        ("openrouter", "openai/gpt-4o"),
        ("openai", "gpt-4o-2024-05-13"),
    ]
    store = _priced(tmp_path, pairs)

    rows = store.sql(
        "SELECT canonical_model, count(*) AS n, count(DISTINCT model) AS names, count(cost_usd)"
        " AS priced "
        "FROM trace_facts GROUP BY 1 ORDER BY n DESC"
    ).rows()

    assert rows == [("gpt-4o", 4, 4, 4), ("gpt-4o-2024-05-13", 1, 1, 1)]
    assert store.count('canonical_model:"gpt-4o"') == 4


def test_configuration_ids_do_not_know_the_canonical_name() -> None:
    """Rules may change; what is compared stays what it was."""
    assert "canonical_model" not in Configuration.__struct_fields__


ALIASES = """
[[alias]]
model = "Prod-Chat-1"
provider = "azure"
canonical_model = "gpt-4o"

[[alias]]
model = "teacher"
canonical_model = "claude-opus-4-5"
priced_as = "anthropic/claude-opus-4-5"
"""


def test_a_file_of_the_users_explains_names_and_prices_them(tmp_path: Path) -> None:
    """Before or after the calls arrive, in any case; another provider's deployment is not meant."""
    path = tmp_path / "names.toml"
    path.write_text(ALIASES)
    store = _priced(tmp_path, [("azure", "prod-chat-1"), ("local", "prod-chat-1")])

    assert store.add_aliases(read_aliases(path)) == (1, 1)
    late = Configuration(model="teacher", provider="mine")
    call = Call(provider="mine", model="teacher", input_tokens=1000, output_tokens=100)
    store.ingest([late, making.trace(late, making.ITEMS[0], calls=(call,))])

    rows = store.sql(
        "SELECT provider, canonical_model, cost_usd FROM trace_facts ORDER BY 1"
    ).rows()
    assert rows == [
        ("azure", "gpt-4o", pytest.approx(0.0035)),
        ("local", "prod-chat-1", None),
        ("mine", "claude-opus-4-5", pytest.approx(0.0075)),
    ]


def test_an_alias_that_changes_takes_its_old_prices_along(tmp_path: Path) -> None:
    """The last word counts."""
    path = tmp_path / "names.toml"
    store = _priced(tmp_path, [("azure", "prod")])
    for meant in ("gpt-4o", "gpt-4o-mini"):
        path.write_text(
            f'[[alias]]\nmodel = "prod"\ncanonical_model = "{meant}"\npriced_as = "azure/{meant}"'
        )
        store.add_aliases(read_aliases(path))

    rows = store.sql("SELECT canonical_model, cost_usd FROM trace_facts").rows()

    assert rows == [("gpt-4o-mini", pytest.approx(0.00021))]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no .*alias.* entry"),
        ("[[alias]]\nmodel = 'x'", "no canonical_model"),
        ("[[alias]]\nmodel = 3\ncanonical_model = 'gpt-4o'", "must be a name in quotes"),
        ("[[alias]]\nmodle = 'x'\ncanonical_model = 'gpt-4o'", "did you mean model"),
        (
            "[[alias]]\nmodel = 'x'\ncanonical_model = 'y'\npriced_as = 'nobody/knows'",
            "has no price",
        ),
        ("[[alias", "cannot read"),
    ],
)
def test_a_wrong_alias_is_named(tmp_path: Path, text: str, fault: str) -> None:
    """With file and entry."""
    path = tmp_path / "names.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=fault):
        read_aliases(path)


def test_a_budget_and_the_store_price_every_form_alike(tmp_path: Path) -> None:
    """The runner's book and the store's view find the same rows."""
    pairs = [(provider, name) for provider, name, _, _ in NAMES]
    random.Random(1).shuffle(pairs)
    store = _priced(tmp_path, pairs)
    book = PriceBook()

    found = store.sql("SELECT call_provider, call_model, cost_usd FROM call_facts").rows()

    for provider, model, cost in found:
        call = Call(
            provider=provider,
            model=model,
            started_at=making.START,
            input_tokens=1000,
            output_tokens=100,
        )
        expected = book.cost(call)
        assert cost == (None if expected is None else pytest.approx(expected)), (provider, model)


def test_every_name_that_genai_prices_lists_is_found() -> None:
    """Nothing that it prices by its own id at its own provider is lost."""
    from genai_prices.data_snapshot import get_snapshot

    lost = [
        (listed.id, info.id)
        for listed in get_snapshot().providers
        for info in listed.models
        if listed.find_model(info.id.lower()) and find_price_entry(listed.id, info.id) is None
    ]

    assert [name for _, name in lost if ":" not in name] == []
