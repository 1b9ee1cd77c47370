"""Conversion of Inspect's usage objects to inclusive token counts, as in `workbench.usage`.

Inspect changed its convention in 0.3.184 and its providers differ. What the counts include is
derived from the total, and from provider and version only if the total does not decide.
"""

import re
from typing import NamedTuple

from workbench.sources.inspect.log_schema import ModelUsage
from workbench.usage import Exclusions, exclusions_by_total

EXCLUDING_SINCE = (0, 3, 184)  # from this version on, input_tokens excludes cached tokens
_DISJOINT = ("anthropic", "bedrock")  # input_tokens of these services excludes cached tokens


class Tokens(NamedTuple):
    """Inclusive token counts.

    Attributes:
        convention: what the logged counts excluded, in words; for the report.
        fault: how the counts contradict each other; "" if they do not.
    """

    input: int | None
    cache_read: int | None
    cache_write: int | None
    output: int | None
    reasoning: int | None
    total: int | None
    convention: str
    fault: str = ""


def version_of(text: str | None) -> tuple[int, ...]:
    """Read the leading numbers of a version: 0.3.95.dev16 → (0, 3, 95)."""
    match = re.match(r"\d+(?:\.\d+)*", text or "")
    return tuple(int(n) for n in match[0].split(".")) if match else ()


def normalise(usage: ModelUsage, model: str, version: tuple[int, ...]) -> Tokens:
    """Convert one usage object to inclusive token counts.

    Args:
        usage: as logged.
        model: Inspect's name of the model, provider first.
        version: the version of inspect-ai that wrote the log.
    """
    prompt = usage.input_tokens
    output = usage.output_tokens
    total = usage.total_tokens
    read = usage.input_tokens_cache_read
    write = usage.input_tokens_cache_write
    thinking = usage.reasoning_tokens
    if prompt is None or output is None:
        return Tokens(prompt, read, write, output, thinking, total, "tokens are not reported")
    cached = (read or 0) + (write or 0)
    excludes_cached, excludes_thinking = _exclusions(usage, cached, model, version)
    words = ["no cached input"]
    if cached:
        words = [
            "input excludes cached: added back" if excludes_cached else "input includes cached"
        ]
    if excludes_thinking:
        words.append("output excludes thinking: added")
    inputs = prompt + (cached if excludes_cached else 0)
    outputs = output + ((thinking or 0) if excludes_thinking else 0)
    fault = ""
    if total is not None and inputs + outputs != total:
        fault = f"input {inputs} + output {outputs} is not the total {total}"
    return Tokens(inputs, read, write, outputs, thinking, total, ", ".join(words), fault)


def _exclusions(usage: ModelUsage, cached: int, model: str, version: tuple[int, ...]) -> Exclusions:
    """Return what input and output exclude, by the total, else by provider and version."""
    prompt = usage.input_tokens or 0
    output = usage.output_tokens or 0
    thinking = usage.reasoning_tokens or 0
    # the totals of these services are no evidence: 0.3.77 to 0.3.88 count thinking twice in them,
    # though the output always includes it
    disjoint = model.startswith(_DISJOINT)
    excludes_cached = cached > 0 and (disjoint or cached > prompt or version >= EXCLUDING_SINCE)
    usual = Exclusions(excludes_cached, thinking > output)
    if disjoint:
        return usual
    counts = (usage.input_tokens, usage.output_tokens, usage.total_tokens)
    return exclusions_by_total(counts, cached=cached, thinking=thinking, usual=usual) or usual
