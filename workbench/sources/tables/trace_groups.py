"""Traces made of the rows of a table: one row, or several that have the same id."""

import dataclasses
import datetime as dt
from collections.abc import Iterator
from typing import Any

import msgspec

from workbench.records import (
    Call,
    Configuration,
    EnergyReading,
    Item,
    Score,
    Task,
    ToolCall,
    Trace,
    attempt_id,
    json_text,
)
from workbench.sources.report import FileReport
from workbench.sources.tables.columns import fields
from workbench.sources.tables.paths import Row
from workbench.sources.transcript import Transcript

SCORER = "reported"  # scorer of rows whose mapping has none
MESSAGES = (
    ("system_prompt", "system", "text"),
    ("prompt", "user", "text"),
    ("thinking", "assistant", "thinking"),
    ("output", "assistant", "text"),
)


def _names(record: type[msgspec.Struct], *without: str) -> tuple[str, ...]:
    return tuple(f for f in record.__struct_fields__ if f in fields() and f not in without)


TRACE_FIELDS = _names(Trace, "score", "passed")
CALL_FIELDS = _names(Call)
_LAST_ROW = ("error_type", "error_message", "stop_reason", "limit_type")


@dataclasses.dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool call of a row, with its result."""

    place: str
    tool: str
    arguments: str | None = None
    result: str | None = None
    started_at: dt.datetime | None = None
    e2e_s: float | None = None
    result_tokens: int | None = None
    cost_usd: float | None = None
    error_type: str | None = None
    error_message: str | None = None

    def record(self, ordinal: int, call_ordinal: int | None) -> ToolCall:
        """Build the record."""
        return ToolCall(
            ordinal=ordinal,
            tool=self.tool,
            call_ordinal=call_ordinal,
            arguments=self.arguments,
            started_at=self.started_at,
            e2e_s=self.e2e_s,
            result_tokens=self.result_tokens,
            result_bytes=None if self.result is None else len(self.result.encode(errors="replace")),
            cost_usd=self.cost_usd,
            error_type=self.error_type,
            error_message=self.error_message,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """What one row adds to a trace.

    Attributes:
        place: place of the row.
        values: fields of the row.
        tools: its tool calls.
        is_call: whether the row is a call of a model; else it is a tool call only.
    """

    place: str
    values: Row
    tools: tuple[ToolUse, ...] = ()
    scores: tuple[Score, ...] = ()
    metadata: str | None = None
    is_call: bool = False


@dataclasses.dataclass(slots=True)
class Group:
    """The rows of one trace, and what they are about.

    Attributes:
        name: id of the trace in the file; "" if the trace is one row without an id.
        parts: what the rows add.
    """

    name: str
    parts: list[Part] = dataclasses.field(default_factory=list)
    task: Task | None = None
    item: Item | None = None
    configuration: Configuration | None = None

    @property
    def records(self) -> tuple[Task, Item, Configuration] | tuple[()]:
        """What the trace refers to; nothing without a row of a call."""
        if self.task is None or self.item is None or self.configuration is None:
            return ()
        return self.task, self.item, self.configuration

    def add(
        self,
        part: Part,
        task: Task,
        item: Item,
        configuration: Configuration,
        report: FileReport,
    ) -> None:
        """Add a row of a call; the first one says what the trace is about."""
        self.parts.append(part)
        if self.item is None:
            self.task, self.item, self.configuration = task, item, configuration
            return
        if configuration != self.configuration:
            report.notes["rows of another configuration than the first of their trace"] += 1
        if (task.task_id, item.item) != (self.item.task_id, self.item.item):
            report.mismatches.add(
                f"{part.place}: trace {self.name!r} is of item {self.item.item!r}, but this row"
                f" says {item.item!r}; the first holds"
            )

    def trace(self, run_id: str) -> Trace:
        """Build the trace."""
        task, item, configuration = self.records  # type: ignore[misc]  # the caller has looked
        parts = self._in_order()
        calls: list[Call] = []
        tools: list[ToolCall] = []
        energy: list[EnergyReading] = []
        said = Transcript()
        for part in parts:
            ordinal = len(calls) if part.is_call else len(calls) - 1
            at = ordinal if ordinal >= 0 else None
            if part.is_call:
                calls.append(_call(part.values, ordinal))
                energy += _energy(part.values, ordinal)
                _say(said, part.values, ordinal)
            for tool in part.tools:
                _say_tool(said, tool, len(tools), at)
                tools.append(tool.record(len(tools), at))
        scores = {score.scorer: score for part in parts for score in part.scores}
        main = next((s for s in scores.values() if s.metric is None), None)
        values = self._of_trace(parts)
        started = [part.values.get("started_at") for part in parts]
        first = started[0] if started else None
        return Trace(
            run_id=run_id,
            configuration_id=configuration.configuration_id,
            task_id=task.task_id,
            item_id=item.item_id,
            trace_id=self._id(item, values, first) if self.name else "",
            **values,
            score=main.score if main else None,
            passed=main.passed if main else None,
            metadata=next((p.metadata for p in reversed(parts) if p.metadata), None),
            calls=tuple(calls),
            tool_calls=tuple(tools),
            messages=tuple(said.messages),
            scores=tuple(scores.values()),
            energy=tuple(energy),
        )

    def _id(self, item: Item, values: Row, first: dt.datetime | None) -> str:
        began = None if first is None else first.isoformat()
        return attempt_id(
            "table", json_text([item.item_id, values.get("trial") or 0, self.name, began])
        )

    def _in_order(self) -> list[Part]:
        """Sort the rows by time if all have one; else they are in the order of the file."""
        if all(part.values.get("started_at") is not None for part in self.parts):
            return sorted(self.parts, key=lambda part: part.values["started_at"])
        return self.parts

    def _of_trace(self, parts: list[Part]) -> Row:
        """Return the fields of the trace: for each the last known value, errors of the last row."""
        if len(parts) == 1:
            return pick(parts[0].values, TRACE_FIELDS)
        values: Row = {}
        calls = [part.values for part in parts if part.is_call]
        for row in calls:
            values |= pick(row, TRACE_FIELDS)
        values |= {name: calls[-1].get(name) for name in _LAST_ROW}
        values["trial"] = calls[0].get("trial") or 0
        values["started_at"] = parts[0].values.get("started_at")
        values["e2e_s"] = _duration_s([*calls, *_tool_times(parts)])
        values.setdefault("n_turns", len(calls))
        return values


def _tool_times(parts: list[Part]) -> Iterator[Row]:
    for part in parts:
        for tool in part.tools:
            if tool.started_at is not None and tool.e2e_s is not None:
                yield {"started_at": tool.started_at, "e2e_s": tool.e2e_s}


def _duration_s(rows: list[Row]) -> float | None:
    """Return the seconds from the first start to the last end; None if a time is unknown."""
    if any(row.get("started_at") is None or row.get("e2e_s") is None for row in rows):
        return None
    first = min(row["started_at"] for row in rows)
    ends: list[float] = [(r["started_at"] - first).total_seconds() + r["e2e_s"] for r in rows]
    return max(ends)


def number_text(value: float) -> str:
    """Write a number with the digits that it has."""
    return f"{value:.15g}"


def pick(values: Row, names: tuple[str, ...]) -> Row:
    """Return the known values of some fields."""
    return {name: values[name] for name in names if values.get(name) is not None}


def scores_of(values: Row) -> Iterator[Score]:
    """Read the score of a row."""
    score = values.get("score")
    passed = values.get("passed")
    if score is None and passed is None:
        return
    score = float(passed is True) if score is None else score
    yield Score(
        scorer=values.get("scorer") or SCORER,
        score=score,
        passed=score >= 1 if passed is None else passed,
        value=number_text(score),
        answer=values.get("answer"),
        explanation=values.get("explanation"),
    )


def _call(values: Row, ordinal: int) -> Call:
    """Build one call with a row's totals, of as many requests as the row has turns."""
    call: Row = {"tokens_source": "reported", "n_requests": values.get("n_turns") or None}
    return Call(**(call | pick(values, CALL_FIELDS) | {"ordinal": ordinal}))


def _say(said: Transcript, values: Row, ordinal: int) -> None:
    """Add the messages of a call; a system prompt that is the same again is said once."""
    for name, role, kind in MESSAGES:
        text: Any = values.get(name)
        repeats = role == "system" and any(m.role == role and m.text == text for m in said.messages)
        if text and not repeats:
            said.add(role, kind, text, call=ordinal if role == "assistant" else None)


def _say_tool(said: Transcript, tool: ToolUse, ordinal: int, call: int | None) -> None:
    request = f"{tool.tool}({tool.arguments or ''})"
    said.add("assistant", "tool_call", request, call=call, tool=ordinal)
    said.add("tool", "tool_result", tool.result or "", tool=ordinal)


def _energy(values: Row, ordinal: int) -> Iterator[EnergyReading]:
    joules = values.get("energy_j")
    if joules is not None:
        yield EnergyReading(call_ordinal=ordinal, device="all", method="reported", energy_j=joules)
