"""Timeline of a trace: time, tokens and cost by phase, for the phase bar and the margin.

Every figure is a difference of two recorded figures, and unknown if one of them is.
"""

import collections
import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from workbench.schema import APART

Facts = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """Time, tokens and cost of one phase; None is unknown.

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
    by_phase = {}
    if ttft is not None:
        by_phase["prefill"] = Share("prefill", ttft)
    if thought:
        usd = call["reasoning_cost_usd"]
        # without visible text, the whole time was thinking
        by_phase["thinking"] = Share(
            "thinking", _minus(end if start is None else start, ttft), thinking, usd
        )
    rest = _minus(cost, call["reasoning_cost_usd"]) if thought else cost
    tokens = call["visible_tokens"] if thinking is not None else call["output_tokens"]
    began = start if start is not None or thought else ttft
    by_phase["answer"] = Share(
        "answer", _minus(end, began) if ttft is not None else end, tokens, rest
    )
    return by_phase


def phases(facts: Facts, calls: Iterable[Facts], tool_calls: Iterable[Facts]) -> list[Share]:
    """Divide the time of a trace among its phases; [] if no time is known.

    A moment in which several calls or tools run is divided among their phases, so that the phases
    together never take longer than the trace.

    Args:
        facts: its row of `trace_facts`.
        calls: its rows of `call_facts`.
        tool_calls: its rows of `tool_calls`.
    """
    placed: list[_Span] = []
    seconds: dict[str, float] = {}  # of parts with a length but no start
    tokens: dict[str, int] = {}
    for call in calls:
        if call["role"] in APART:
            continue
        split = shares(call)
        if "prefill" not in split:
            split = {"call": Share("call", call["e2e_s"], call["output_tokens"])}
        _place(call["started_at"], [(s.phase, s.s) for s in split.values()], placed, seconds)
        for phase, share in split.items():
            if share.tokens is not None:
                tokens[phase] = tokens.get(phase, 0) + share.tokens
    for tool in tool_calls:
        _place(tool["started_at"], [("tools", tool["e2e_s"])], placed, seconds)
    for phase, share_s in _divided(placed).items():
        seconds[phase] = seconds.get(phase, 0.0) + share_s
    whole, known = facts["e2e_s"], sum(seconds.values())
    if whole is not None and known > whole:  # parts without a start overlapped
        seconds = {phase: s * whole / known for phase, s in seconds.items()}
    elif whole is not None and seconds and whole - known > 0.02 * whole:
        seconds["other"] = whole - known
    order = ("prefill", "thinking", "answer", "call", "tools", "other")
    return [Share(p, seconds[p], tokens.get(p)) for p in order if p in seconds]


_Span = tuple[float, float, str]  # from, to, phase


def _place(
    began: dt.datetime | None,
    parts: Iterable[tuple[str, float | None]],
    placed: list[_Span],
    seconds: dict[str, float],
) -> None:
    """Add the spans of a call's consecutive parts; add only their length if no start is known."""
    at = None if began is None else began.timestamp()
    for phase, s in parts:
        if s is None:
            at = None  # the start of the following parts is unknown
        elif at is None:
            seconds[phase] = seconds.get(phase, 0.0) + s
        else:
            placed.append((at, at + s, phase))
            at += s


def _divided(spans: Iterable[_Span]) -> dict[str, float]:
    """Divide the time of spans among their phases, each moment equally among those that run."""
    changes = sorted(
        (at, step, phase) for low, high, phase in spans for at, step in ((low, 1), (high, -1))
    )
    running: collections.Counter[str] = collections.Counter()
    seconds: dict[str, float] = {phase: 0.0 for _, _, phase in changes}
    before = 0.0
    for at, step, phase in changes:
        n = running.total()
        for name in running if n else ():
            seconds[name] += (at - before) * running[name] / n
        running[phase] += step
        before = at
    return seconds
