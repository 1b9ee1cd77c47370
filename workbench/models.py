"""Names of models: the canonical name of a model, and its entry in a price list.

Services, gateways and libraries write one model in many ways: `gpt-4o`, `openai/gpt-4o-2024-08-06`,
`openai:gpt-4o`, `azure/gpt-4o`. The store keeps the name as requested. `canonical` derives the
model from it and lists the rules applied; `find_price_entry` returns its entry in genai-prices.
Neither guesses: a name that matches entries with different prices has no entry, and a part of a
name that no rule covers stays.
"""

import dataclasses
import difflib
import functools
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from workbench.errors import ConfigError
from workbench.toml_reader import toml

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

RULES = 1  # version of the rules: raise it when a rule changes, so that stores update their names

# names of a service → its id in genai-prices
_SERVICES = {
    "amazon": "aws",
    "amazon bedrock": "aws",
    "amazon-bedrock": "aws",
    "aws": "aws",
    "aws_bedrock": "aws",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "azure": "azure",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "azure-openai": "azure",
    "azureai": "azure",
    "fireworks_ai": "fireworks",
    "fireworks-ai": "fireworks",
    "gemini": "google",
    "google": "google",
    "google ai studio": "google",
    "google vertex": "google",
    "google-ai-studio": "google",
    "google-vertex": "google",
    "google_genai": "google",
    "vertex": "google",
    "vertex_ai": "google",
    "vertex_ai_beta": "google",
    "grok": "x-ai",
    "xai": "x-ai",
    "mistral": "mistral",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "moonshot ai": "moonshotai",
    "openai": "openai",
    "openai_chat": "openai",
    "openai-chat": "openai",
    "openai_responses": "openai",
    "openai-responses": "openai",
    "together": "together",
    "together_ai": "together",
    "togetherai": "together",
    "togethercomputer": "together",
    "z-ai": "zai",
    "z.ai": "zai",
}
# gateways, which forward requests: the rest of the name is the provider
_GATEWAYS = {"litellm", "litellm_proxy", "openai-api", "custom_openai"}
# services that host other makers' models; such a prefix outranks the name of the API used
_HOSTS = {"aws", "azure", "google"}
_MAKERS = {
    "01-ai",
    "ai21",
    "allenai",
    "amazon",
    "anthropic",
    "arcee-ai",
    "baidu",
    "bytedance",
    "bytedance-seed",
    "cohere",
    "cohereforai",
    "deepseek",
    "deepseek-ai",
    "google",
    "huggingfacetb",
    "ibm-granite",
    "inception",
    "inclusionai",
    "liquid",
    "meta",
    "meta-llama",
    "microsoft",
    "minimax",
    "minimaxai",
    "mistral",
    "mistralai",
    "moonshotai",
    "nousresearch",
    "nvidia",
    "openai",
    "perplexity",
    "qwen",
    "stepfun",
    "tencent",
    "upstage",
    "writer",
    "x-ai",
    "xai",
    "xiaomi",
    "z-ai",
    "zai-org",
}
# makers whose price lists decide whether a date names a separate version
_MAKER_LISTS = (
    "openai",
    "anthropic",
    "google",
    "mistral",
    "deepseek",
    "x-ai",
    "cohere",
    "moonshotai",
    "zai",
    "minimax",
    "perplexity",
)
# makers in the names of Bedrock, before a dot
_DOTTED = "ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshotai"
_DOTTED += "|nvidia|openai|qwen|stability|writer|zai"

_REGION = re.compile(rf"^(?:us|eu|apac|ap|au|ca|in|jp|sa|uk|us-gov|global)\.(?=(?:{_DOTTED})\.)")
_DOTTED_MAKER = re.compile(rf"^({_DOTTED})\.(?=[a-z])")
_BEDROCK_VERSION = re.compile(r"(?:-v[1-9]\d*|(?<=\db)-[1-9]):\d+(?::\d+k)?$")
_OWN_VERSION = re.compile(r"claude-(?:instant-)?v\d|nemotron")  # the v2 is the model's own
_PATHS = re.compile(
    r"^(?:accounts/fireworks/models/|(?:projects/[^/]+/locations/[^/]+/)?publishers/[^/]+/models/"
    r"|models/(?=gem)|arn:aws:bedrock:[^/]*/|@cf/)"
)
_PLACE = re.compile(r"^(?:converse|invoke|eu|us|global|global-standard|[a-z]{2}(?:-[a-z]+)+-\d)/")
_VARIANT = re.compile(
    r":(?:batch|beta|exacto|extended|floor|free|nitro|online|thinking)(?=$|:)(?:.*)$"
)
# patterns of names that only one service uses
_PATTERNS_OF_ONE_SERVICE = (
    (_REGION, "aws"),
    (_DOTTED_MAKER, "aws"),
    (re.compile("arn:aws:bedrock:"), "aws"),
    (re.compile(r"publishers/|projects/|models/gem|[^/]+@\d{8}$"), "google"),
    (re.compile("accounts/fireworks/"), "fireworks"),
    (re.compile("ft:gpt-"), "openai"),
)
_CONTEXT = re.compile(r"\[\d+[km]\]$")
_DATE = re.compile(
    r"(?:[-@](?P<a>20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))"
    r"|-(?P<b>20\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))|-(?P<c>202\d)|@default)$"
)
_CLAUDE = re.compile(r"^claude-(?:(\d)(?:[.-](\d))?-([a-z]+)|([a-z]+)-(\d)(?:[.-](\d))?)$")


class Name(NamedTuple):
    """Canonical name of a model, and how it was derived.

    Attributes:
        model: the canonical name, in lower case and without provider, region and date.
        rules: the parts removed from the name as requested, in order; () if none was.
    """

    model: str
    rules: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Alias:
    """User's declaration of the model behind a name, such as a deployment on Azure.

    Attributes:
        model: the name as requested, in any case.
        provider: the provider that the alias is limited to; None for all.
        canonical_model: the model that the name stands for.
        priced_as: "provider/model", or a name that implies its provider; None for the canonical
            one.
        sheet: name of the file that declares the alias.
    """

    model: str
    provider: str | None
    canonical_model: str
    priced_as: str | None
    sheet: str

    @property
    def key(self) -> tuple[str, str | None]:
        """Name and provider in lower case, to compare aliases."""
        return self.model.lower(), self.provider.lower() if self.provider else None

    @property
    def price_provider(self) -> str | None:
        """The provider whose list has the price; None derives it from the name."""
        return None if self.priced_as else self.provider

    @property
    def price_model(self) -> str:
        """The name to look up in the price list."""
        return self.priced_as or self.canonical_model


class Entry(NamedTuple):
    """A model's entry in a price list of genai-prices."""

    provider: "Provider"
    info: "ModelInfo"


@functools.lru_cache(maxsize=4096)
def canonical(model: str) -> Name:
    """Derive the canonical name of a model.

    A date is dropped if the price lists have the undated name and no separate entry for the dated
    one: `gpt-4o-2024-08-06` is gpt-4o, `gpt-4o-2024-05-13` is not, and the name of a private
    checkpoint that ends in a date is unchanged. Variants (`:free`, `:thinking`) stay.

    >>> canonical("openrouter/anthropic/claude-4.5-sonnet-20250929").model
    'claude-sonnet-4-5'
    >>> canonical("us.anthropic.claude-3-5-sonnet-20241022-v2:0").rules[-1]
    'date -20241022'
    """
    rules: list[str] = []
    name = model.strip()
    if name != name.lower():
        name = name.lower()
        rules.append("upper case")
    name, variant = _cut(_VARIANT, name)
    name = _without_prefixes(name, rules)
    name, context = _cut(_CONTEXT, name)
    if context:
        rules.append(f"context size {context}")
    name = _undated(name, rules)
    name = _without_latest(name, rules)
    ordered = _claude(name)
    if ordered != name:
        rules.append(f"order of words in {name}")
    return Name((ordered or model) + variant, tuple(rules))


@functools.lru_cache(maxsize=4096)
def find_price_entry(provider: str | None, model: str) -> Entry | None:
    """Return the entry of genai-prices by which a model is billed.

    Args:
        provider: the provider as recorded; None derives it from the name.
        model: the model as recorded.

    Returns:
        None if no list has the name, or if lists that match differ in their prices.
    """
    name = model.strip().lower()
    service = service_of(provider) if provider else None
    if provider and service is None and provider.lower() not in _GATEWAYS:
        return None
    head, rest = _split(name)
    if service is None:
        return _entry_without_prefix(name) or (
            _entry_with_prefix(head, name, rest) if head else None
        )
    if (entry := _exact_entry(service, name)) is not None:
        return entry
    hosted = _service(head) if head else None
    if hosted in _HOSTS - {service} and service != "openrouter":
        return _in_list(hosted, rest)  # Inspect's openai/azure/gpt-4o
    return _in_list(service, name) or (_in_list(service, rest) if hosted == service else None)


def service_of(provider: str) -> str | None:
    """Return the id of a provider in genai-prices; None if it has none."""
    word = provider.strip().lower()
    return None if word in _GATEWAYS else _service(word) or _recognised_service(word)


def why_unpriced(provider: str | None, model: str) -> str:
    """Explain why `find_price_entry` returns no entry; "" if it returns one."""
    if find_price_entry(provider, model) is not None:
        return ""
    if provider is None:
        return "no provider is recorded, and the name matches no price list, or several that differ"
    service = service_of(provider)
    if service is None:
        return f"genai-prices has no list of provider {provider!r}"
    return f"the list of {service} has no {canonical(model).model!r}"


_ALIAS_FIELDS = {"model", "provider", "canonical_model", "priced_as"}


def read_aliases(path: Path) -> list[Alias]:
    """Read the user's aliases: TOML with `[[alias]]` tables.

    ```toml
    [[alias]]
    model = "prod-chat-1"         # the name as requested
    provider = "azure"            # optional; without it, at any provider
    canonical_model = "gpt-4o"    # the model that the name stands for
    priced_as = "azure/gpt-4o"    # optional; default: the canonical name at the provider
    ```

    Raises:
        ConfigError: naming the file, the entry and the field.
    """
    try:
        rows = toml(path.read_text(encoding="utf-8")).get("alias", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the aliases of {path}: {error}") from error
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{path} holds no [[alias]] entry; give at least one")
    return [_alias(path, number, row) for number, row in enumerate(rows, 1)]


def _alias(path: Path, number: int, row: object) -> Alias:
    where = f"alias {number} of {path}"
    if not isinstance(row, dict):
        raise ConfigError(f"{where} is no table; write [[alias]]")
    for key, value in row.items():
        if key not in _ALIAS_FIELDS:
            near = difflib.get_close_matches(key, _ALIAS_FIELDS, 1)
            hint = (
                f"did you mean {near[0]}?"
                if near
                else f"known are {', '.join(sorted(_ALIAS_FIELDS))}"
            )
            raise ConfigError(f"{where} has an unknown field {key!r}; {hint}")
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{where}: {key} = {value!r} must be a name in quotes")
    for key in ("model", "canonical_model"):
        if key not in row:
            raise ConfigError(
                f"{where} has no {key}; give the requested name, and the model it stands for"
            )
    alias = Alias(
        row["model"],
        row.get("provider"),
        canonical(row["canonical_model"]).model,
        row.get("priced_as"),
        path.name,
    )
    if alias.priced_as and find_price_entry(None, alias.priced_as) is None:
        reason = why_unpriced(None, alias.priced_as)
        raise ConfigError(f"{where}: priced_as = {alias.priced_as!r} has no price: {reason}")
    return alias


# -- names ---------------------------------------------------------------------------------------


def _cut(pattern: re.Pattern[str], text: str) -> tuple[str, str]:
    match = pattern.search(text)
    return (text[: match.start()], match[0]) if match else (text, "")


def _split(name: str) -> tuple[str | None, str]:
    """Split off the prefix of a provider or maker: `azure/x`, `openai:x`; None without one."""
    match = re.match(r"([a-z0-9_.-]+)([/:])(.+)$", name)
    if not match or not (_service(match[1]) or match[1] in _MAKERS | _GATEWAYS | {"openrouter"}):
        return None, name
    if match[2] == ":" and "/" in match[3]:
        return None, name
    return match[1], match[3]


def _without_prefixes(name: str, rules: list[str]) -> str:
    """Drop the prefixes of services, regions and makers."""
    bedrock = False
    while True:
        before = name
        if match := _PATHS.match(name):
            name = name[match.end() :]
            bedrock = bedrock or match[0].startswith("arn:")
            rules.append(f"path {match[0]}")
            continue
        head, rest = _split(name)
        if head is not None:
            rules.append(f"prefix {name[: len(name) - len(rest)]}")
            bedrock = bedrock or _service(head) == "aws"
            name = rest
            if place := _PLACE.match(name):
                rules.append(f"place {place[0]}")
                name = name[place.end() :]
        if match := _REGION.match(name):
            rules.append(f"region {match[0]}")
            name = name[match.end() :]
        if match := _DOTTED_MAKER.match(name):
            rules.append(f"prefix {match[0]}")
            name = name[match.end() :]
            bedrock = True
        if name == before:
            break
    if bedrock and not _OWN_VERSION.match(name):
        name, version = _cut(_BEDROCK_VERSION, name)
        if version:
            rules.append(f"version {version}")
    return name


def _undated(name: str, rules: list[str]) -> str:
    """Drop a date unless the price lists have a separate entry for the dated name."""
    match = _DATE.search(name)
    if not match:
        return name
    bare = name[: match.start()]
    known = _listed_by_maker(_claude(bare)) or _listed_by_maker(bare)
    if known is None:
        return name
    dated = _listed_by_maker(name)
    if dated is not None and dated != known:
        return name
    rules.append(f"date {match[0]}")
    return bare


def _without_latest(name: str, rules: list[str]) -> str:
    bare = name.removesuffix("-latest")
    if (
        bare == name
        or _listed_by_maker(name) is None
        or _listed_by_maker(name) != _listed_by_maker(bare)
    ):
        return name
    rules.append("suffix -latest")
    return bare


def _claude(name: str) -> str:
    """Order a Claude name as Anthropic does: claude-3-5-sonnet, from 4 on claude-sonnet-4-5."""
    match = _CLAUDE.match(name)
    if not match:
        return name
    major, minor, kind = (
        (match[1], match[2], match[3]) if match[1] else (match[5], match[6], match[4])
    )
    if minor == "0":
        minor = None
    number = "-".join(filter(None, (major, minor)))
    return f"claude-{number}-{kind}" if int(major) < 4 else f"claude-{kind}-{number}"


def _listed_by_maker(name: str) -> tuple[str, str] | None:
    """Look a name up in the lists of model makers: (list, entry)."""
    for provider in _MAKER_LISTS:
        price_list = _price_lists().get(provider)
        info = price_list.find_model(name) if price_list is not None else None
        if info is not None:
            return provider, info.id
    return None


# -- price lists ---------------------------------------------------------------------------------


@functools.cache
def _price_lists() -> "dict[str, Provider]":
    from genai_prices.data_snapshot import get_snapshot

    return {p.id: p for p in get_snapshot().providers}


def _service(word: str) -> str | None:
    return _SERVICES.get(word) or (word if word in _price_lists() else None)


def _recognised_service(word: str) -> str | None:
    """Let genai-prices match a provider's name; servers with a compatible API match none."""
    from genai_prices.data_snapshot import find_provider_by_id

    if re.search(r"compat|local|vllm|sglang|ollama|llama\.?cpp|proxy", word):
        return None
    provider = find_provider_by_id(list(_price_lists().values()), word)
    return provider.id if provider else None


def _exact_entry(provider: str, name: str) -> Entry | None:
    """Look a name up in one list; a variant without an entry of its own has no known price."""
    price_list = _price_lists().get(provider)
    if price_list is None:
        return None
    info = price_list.find_model(name, all_providers=list(_price_lists().values()))
    if info is None or (_VARIANT.search(name) and provider != "openrouter" and ":" not in info.id):
        return None
    return Entry(price_list, info)


def _in_list(provider: str, name: str) -> Entry | None:
    """Look a name up in one list, with prefixes, context size and date removed step by step."""
    entries = (_exact_entry(provider, spelling) for spelling in _spellings(provider, name))
    return next((entry for entry in entries if entry is not None), None)


def _spellings(provider: str, name: str) -> list[str]:
    spellings = [name]
    if _VARIANT.search(name):
        return spellings
    bare, _ = _cut(_CONTEXT, _PLACE.sub("", _PATHS.sub("", name)))
    spellings.append(bare)
    if provider == "openrouter":
        maker, _, rest = bare.partition("/")
        return [*spellings, f"{maker}/{_undated(rest, [])}"] if rest else spellings
    _, rest = _split(bare)
    spellings += [rest, _undated(rest, [])]
    if provider != "aws":  # Bedrock's prices differ by the region and version in the name
        spellings.append(canonical(name).model)
    return list(dict.fromkeys(spellings))


def _entry_without_prefix(name: str) -> Entry | None:
    """Look up a name without prefix in the list of the provider that it implies."""
    for pattern, service in _PATTERNS_OF_ONE_SERVICE:
        if pattern.match(name):
            return _in_list(service, name)
    price_list = next(
        (p for p in _price_lists().values() if p.model_match and p.model_match.is_match(name)), None
    )
    if price_list is not None and "/" in name:
        return _exact_entry(price_list.id, name)
    return _in_list(price_list.id, name) if price_list is not None else None


def _entry_with_prefix(head: str, name: str, rest: str) -> Entry | None:
    """Look up a name with the prefix of a service, or of a maker as OpenRouter writes it."""
    if head in _GATEWAYS:
        return find_price_entry(None, rest)
    if _VARIANT.search(name):
        return _in_list("openrouter", name.removeprefix("openrouter/"))
    service = _service(head)
    entry = _in_list(service, rest) if service else None
    if entry is None or head not in _MAKERS or name[len(head)] == ":":
        return entry  # a maker without an API may also prefix a model that is served locally
    routed = _in_list("openrouter", name)
    return entry if routed is None or _rates(entry) == _rates(routed) else None


def _rates(entry: Entry) -> tuple[object, object]:
    """Return the newest rates of input and output, to compare the prices of two entries."""
    prices = entry.info.prices
    newest = prices[-1].prices if isinstance(prices, list) else prices
    return getattr(newest, "input_mtok", None), getattr(newest, "output_mtok", None)
