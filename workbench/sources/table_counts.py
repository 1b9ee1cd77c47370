"""Token counts of a table row, converted to our convention; contradictory ones become unknown."""

from collections.abc import Mapping

from workbench import schema
from workbench.sources.report import FileReport
from workbench.sources.table_rows import Row

_CACHED = ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
_AMOUNTS = frozenset({"s", "USD", "J", "tokens", "count", "USD/Mtok", "USD/h"})
_CACHED_APART, _THINKING_APART = "input excludes cached", "output excludes thinking"


def make_inclusive(
    values: Row, conventions: tuple[str, ...], place: str, report: FileReport
) -> None:
    """Make input and output hold cached and thinking tokens, where they do not.

    A row's own total decides, where it has one: exports of routers hold rows of several
    conventions. Without it, or where no convention gives the total, the mapping's word is taken.
    """
    apart = _CACHED_APART in conventions, _THINKING_APART in conventions
    by_total = _by_total(values, apart)
    if by_total is None:
        parts = f"input {values['input_tokens']} + output {values['output_tokens']}"
        report.mismatches.add(f"{place}: {parts} is not the total {values['total_tokens']}")
    elif by_total != apart:
        apart = by_total
        report.conventions["another convention than the mapping's, by the total"] += 1
    if apart[0] and values.get("input_tokens") is not None:
        values["input_tokens"] += _cached(values)
        report.conventions["input excludes cached: added back"] += 1
    if apart[1] and values.get("output_tokens") is not None:
        values["output_tokens"] += values.get("reasoning_tokens") or 0
        report.conventions["thinking beside output: added"] += 1


def _by_total(values: Row, said: tuple[bool, bool]) -> tuple[bool, bool] | None:
    """Choose the convention that gives the row's total; None if none does, or two others do."""
    given, output, total = (
        values.get(name) for name in ("input_tokens", "output_tokens", "total_tokens")
    )
    if given is None or output is None or total is None:
        return said
    parts = _cached(values), values.get("reasoning_tokens") or 0
    beside = total - given - output
    if beside == sum(n for n, apart in zip(parts, said, strict=True) if apart):
        return said
    ways = [
        (cached, thinking)
        for cached in (False, True)
        for thinking in (False, True)
        if (parts[0] or not cached)
        and (parts[1] or not thinking)
        and beside == parts[0] * cached + parts[1] * thinking
    ]
    return ways[0] if len(ways) == 1 else None


def _cached(values: Row) -> int:
    return sum(values.get(name) or 0 for name in _CACHED)


def forget_contradictions(
    values: Row, columns: Mapping[str, schema.Column], place: str, report: FileReport
) -> None:
    """Report impossible values of a call; negative amounts and too early an end become unknown.

    Counts that contradict each other stay as they were reported: they have no cost, and
    `usage_faults` names them.
    """
    forget_negative(values, columns, place, report)
    given, output = values.get("input_tokens"), values.get("output_tokens")
    cached, thinking = _cached(values), values.get("reasoning_tokens")
    if given is not None and cached > given:
        report.mismatches.add(f"{place}: cached {cached} is more than the input {given}; no cost")
    if thinking is not None and output is not None and thinking > output:
        report.mismatches.add(f"{place}: thinking {thinking} is more than the output {output}")
    end = values.get("e2e_s")
    for name in ("ttft_s", "answer_start_s"):
        if end is not None and (values.get(name) or 0) > end:
            report.mismatches.add(
                f"{place}: {name} {values[name]:g} is after the end, {end:g} s; taken as unknown"
            )
            values[name] = None


def forget_negative(
    values: Row, columns: Mapping[str, schema.Column], place: str, report: FileReport
) -> None:
    """Make amounts below zero unknown, and report them."""
    for name, value in values.items():
        if isinstance(value, (int, float)) and value < 0 and columns[name].unit in _AMOUNTS:
            report.mismatches.add(f"{place}: {name} is {value:g}, below 0; taken as unknown")
            values[name] = None
