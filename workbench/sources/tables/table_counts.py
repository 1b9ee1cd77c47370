"""Token counts of table rows: conversion to inclusive counts, and checks for contradictions."""

from collections.abc import Mapping

from workbench import schema
from workbench.sources.report import FileReport
from workbench.sources.tables.paths import Row

CACHED = ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
AMOUNTS = frozenset({"s", "USD", "J", "tokens", "count", "USD/Mtok", "USD/h"})
WITHOUT_CACHED = "input excludes cached"
WITHOUT_THINKING = "output excludes thinking"


def make_inclusive(
    values: Row, conventions: tuple[str, ...], place: str, report: FileReport
) -> None:
    """Add cached and thinking tokens to input and output that exclude them.

    Exports of routers contain rows of several conventions, so that the row's total decides. The
    mapping's convention applies to rows without a total, and to those where none gives the total.
    """
    excludes = WITHOUT_CACHED in conventions, WITHOUT_THINKING in conventions
    by_total = _by_total(values, excludes)
    if by_total is None:
        parts = f"input {values['input_tokens']} + output {values['output_tokens']}"
        report.mismatches.add(f"{place}: {parts} is not the total {values['total_tokens']}")
    elif by_total != excludes:
        excludes = by_total
        report.conventions["a convention other than the mapping's, by the total"] += 1
    if excludes[0] and values.get("input_tokens") is not None:
        values["input_tokens"] += _cached(values)
        report.conventions["input excludes cached: added back"] += 1
    if excludes[1] and values.get("output_tokens") is not None:
        values["output_tokens"] += values.get("reasoning_tokens") or 0
        report.conventions["output excludes thinking: added"] += 1


def _by_total(values: Row, declared: tuple[bool, bool]) -> tuple[bool, bool] | None:
    """Return the convention that gives the row's total; None if none does, or several do."""
    prompt, output, total = (
        values.get(name) for name in ("input_tokens", "output_tokens", "total_tokens")
    )
    if prompt is None or output is None or total is None:
        return declared
    part_counts = _cached(values), values.get("reasoning_tokens") or 0
    excluded = total - prompt - output
    if excluded == sum(n for n, apart in zip(part_counts, declared, strict=True) if apart):
        return declared
    fitting = [
        (cached, thinking)
        for cached in (False, True)
        for thinking in (False, True)
        if (part_counts[0] or not cached)
        and (part_counts[1] or not thinking)
        and excluded == part_counts[0] * cached + part_counts[1] * thinking
    ]
    return fitting[0] if len(fitting) == 1 else None


def _cached(values: Row) -> int:
    return sum(values.get(name) or 0 for name in CACHED)


def clear_contradictions(
    values: Row, columns: Mapping[str, schema.Column], place: str, report: FileReport
) -> None:
    """Report impossible values of a call; negative amounts and times after its end become unknown.

    Counts that contradict each other stay as reported: the call has no cost, and `usage_faults`
    lists it.
    """
    clear_negative(values, columns, place, report)
    prompt = values.get("input_tokens")
    output = values.get("output_tokens")
    cached = _cached(values)
    thinking = values.get("reasoning_tokens")
    if prompt is not None and cached > prompt:
        report.mismatches.add(f"{place}: cached {cached} is more than the input {prompt}; no cost")
    if thinking is not None and output is not None and thinking > output:
        report.mismatches.add(f"{place}: thinking {thinking} is more than the output {output}")
    end = values.get("e2e_s")
    for name in ("ttft_s", "answer_start_s"):
        if end is not None and (values.get(name) or 0) > end:
            report.mismatches.add(
                f"{place}: {name} {values[name]:g} is after the end, {end:g} s; stored as unknown"
            )
            values[name] = None


def clear_negative(
    values: Row, columns: Mapping[str, schema.Column], place: str, report: FileReport
) -> None:
    """Make amounts below zero unknown, and report them."""
    for name, value in values.items():
        if isinstance(value, (int, float)) and value < 0 and columns[name].unit in AMOUNTS:
            report.mismatches.add(f"{place}: {name} is {value:g}, below 0; stored as unknown")
            values[name] = None
