"""Inspect's token counts → inclusive totals: input holds cached tokens, output holds thinking.

Inspect changed its convention in 0.3.184 and its providers differ, so the counts are read by what
adds up to the total, and by provider and version only where that does not decide.
"""

import re
from typing import NamedTuple

from workbench.sources.inspect_schema import ModelUsage
from workbench.usage import Reading, reading

EXCLUDING_SINCE = (0, 3, 184)  # input_tokens leaves cached tokens out from then on
_DISJOINT = ("anthropic", "bedrock")  # their services always count cached tokens apart


class Tokens(NamedTuple):
    """Token counts in our convention.

    Attributes:
        convention: what was found, in words; for the report.
        fault: why the counts contradict each other, or "".
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
    """Turn one usage object into inclusive totals.

    Args:
        usage: as logged.
        model: Inspect's name of the model, provider first.
        version: of inspect-ai that wrote the log.
    """
    given, output, total = usage.input_tokens, usage.output_tokens, usage.total_tokens
    read, write = usage.input_tokens_cache_read, usage.input_tokens_cache_write
    thinking = usage.reasoning_tokens
    if given is None or output is None:
        return Tokens(given, read, write, output, thinking, total, "tokens are not reported")
    cached = (read or 0) + (write or 0)
    excluded, beside = _reading(usage, cached, model, version)
    words = ["no cached input"]
    if cached:
        words = ["input excludes cached: added back" if excluded else "input includes cached"]
    if beside:
        words.append("thinking beside output: added")
    inputs = given + (cached if excluded else 0)
    outputs = output + ((thinking or 0) if beside else 0)
    fault = ""
    if total is not None and inputs + outputs != total:
        fault = f"input {inputs} + output {outputs} is not the total {total}"
    return Tokens(inputs, read, write, outputs, thinking, total, ", ".join(words), fault)


def _reading(usage: ModelUsage, cached: int, model: str, version: tuple[int, ...]) -> Reading:
    """Return what input and output leave out, by the total, else by provider and version."""
    given, output = usage.input_tokens or 0, usage.output_tokens or 0
    thinking = usage.reasoning_tokens or 0
    # of these services' totals some (0.3.77 to 0.3.88) count thinking twice, which is always in the
    # output
    disjoint = model.startswith(_DISJOINT)
    apart = cached > 0 and (disjoint or cached > given or version >= EXCLUDING_SINCE)
    usual = Reading(apart, thinking > output)
    if disjoint:
        return usual
    counts = (usage.input_tokens, usage.output_tokens, usage.total_tokens)
    return reading(counts, cached=cached, thinking=thinking, usual=usual) or usual
