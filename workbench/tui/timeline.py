"""Where a trace's time, tokens and money went: shares of its calls, for the phase bar and the margin.

Every figure is a difference of two recorded ones, and unknown where either is.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

Facts = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """What one phase took; None is unknown.

    Attributes:
        phase: prefill, thinking, answer, tools, call (a call without phase times) or other.
        s: seconds.
    """

    phase: str
    s: float | None = None
    tokens: int | None = None
    usd: float | None = None


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else max(0.0, a - b)


def shares(call: Facts) -> dict[str, Share]:
    """Split one call (a row of `call_facts`) into prefill, thinking and answer, as far as known."""
    ttft, start, end = call["ttft_s"], call["answer_start_s"], call["e2e_s"]
    thinking, cost = call["reasoning_tokens"], call["cost_usd"]
    thought = bool(thinking) or (thinking is None and _minus(start, ttft) not in {None, 0.0})
    found = {}
    if ttft is not None:
        found["prefill"] = Share("prefill", ttft)
    if thought:
        usd = call["reasoning_cost_usd"]
        # all of it was thinking where no visible text ever came
        found["thinking"] = Share(
            "thinking", _minus(end if start is None else start, ttft), thinking, usd
        )
    rest = _minus(cost, call["reasoning_cost_usd"]) if thought else cost
    tokens = call["visible_tokens"] if thinking is not None else call["output_tokens"]
    began = start if start is not None or thought else ttft
    found["answer"] = Share("answer", _minus(end, began) if ttft is not None else end, tokens, rest)
    return found


def phases(facts: Facts, calls: Iterable[Facts], tool_calls: Iterable[Facts]) -> list[Share]:
    """Add up what the phases of a trace took; [] where no time is known.

    Args:
        facts: its row of `trace_facts`.
        calls: its rows of `call_facts`.
        tool_calls: its rows of `tool_calls`.
    """
    seconds: dict[str, float] = {}
    tokens: dict[str, int] = {}
    for call in calls:
        if call["role"] == "judge":
            continue
        split = shares(call)
        if "prefill" not in split:
            split = {"call": Share("call", call["e2e_s"], call["output_tokens"])}
        for phase, share in split.items():
            if share.s is not None:
                seconds[phase] = seconds.get(phase, 0.0) + share.s
            if share.tokens is not None:
                tokens[phase] = tokens.get(phase, 0) + share.tokens
    tools = [t["e2e_s"] for t in tool_calls if t["e2e_s"] is not None]
    if tools:
        seconds["tools"] = sum(tools)
    other = _minus(facts["e2e_s"], sum(seconds.values()))
    if other is not None and seconds and other > 0.02 * facts["e2e_s"]:
        seconds["other"] = other
    order = ("prefill", "thinking", "answer", "call", "tools", "other")
    return [Share(p, seconds[p], tokens.get(p)) for p in order if p in seconds]
