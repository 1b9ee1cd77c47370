"""Records → one Polars frame a table, with exactly the columns of the schema."""

import datetime as dt
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import polars as pl

from workbench import parameters, schema, spool
from workbench import records as r
from workbench.errors import ImportFormatError
from workbench.store.texts import text_id

_POLARS: dict[str, Any] = {
    "text": pl.String,
    "json": pl.String,
    "int": pl.Int64,
    "float": pl.Float64,
    "bool": pl.Boolean,
    "time": pl.Datetime("us"),
}
# rows per batch: large enough for bulk speed, small enough for flat memory
BATCH_TRACES = 20_000
BATCH_TEXT_BYTES = 64 << 20

Frames = dict[str, pl.DataFrame]


def polars_schema(table: schema.Table) -> dict[str, Any]:
    """The Polars dtype of each column of a table."""
    return {c.name: _POLARS[c.type] for c in table.columns}


def batches(records: Iterable[r.AnyRecord | r.Rows]) -> Iterator[Frames]:
    """Cut a stream of records into frames, holding one batch at a time.

    Frames that come in the stream are batches of their own; they may lack columns.
    """
    growing: set[str] = set()
    batch = _Batch(growing)
    for record in records:
        if isinstance(record, r.Rows):
            if batch.named or batch.traces:
                yield batch.frames()
                batch = _Batch(growing)
            yield dict(record.tables)
            continue
        batch.add(record)
        if len(batch.traces) >= BATCH_TRACES or batch.text_bytes >= BATCH_TEXT_BYTES:
            yield batch.frames()
            batch = _Batch(growing)
    yield batch.frames()


class _Batch:
    def __init__(self, growing: set[str]) -> None:
        self.growing = growing  # imported runs that had not ended when their record was written
        self.named: dict[type, dict[Any, r.AnyRecord]] = {}
        self.traces: dict[str, r.Trace] = {}
        self.text_bytes = 0

    def add(self, record: r.AnyRecord) -> None:
        if isinstance(record, r.Trace):
            known = self.traces.get(record.trace_id)
            if known is not None and not self._replaces(record, known):
                return  # the same trace again, as when a spool segment is read twice
            self.traces[record.trace_id] = record
            self.text_bytes += sum(len(m.text) for m in record.messages)
        elif not isinstance(record, r.Attempt):
            if isinstance(record, r.Run) and record.kind == "import" and record.ended_at is None:
                self.growing.add(record.run_id)
            key = _KEYS[type(record)](record)
            known_named = self.named.setdefault(type(record), {})
            if isinstance(record, r.Configuration) and key in known_named:
                record = _better_named(record, known_named[key])
            known_named[key] = record

    def _replaces(self, new: r.Trace, old: r.Trace) -> bool:
        """Whether a trace replaces one of its id; `sessions.remove_grown` is the same in SQL."""
        if new.run_id not in self.growing:
            return spool.supersedes(new, old)
        run = self.named.get(r.Run, {}).get(new.run_id)
        if isinstance(run, r.Run) and run.ended_at is not None:
            return len(new.messages) >= len(old.messages)
        return (len(new.messages), new.e2e_s or 0.0) > (len(old.messages), old.e2e_s or 0.0)

    def frames(self) -> Frames:
        traces = list(self.traces.values())
        frames = {
            table: _frame(table, list(self.named.get(kind, {}).values()))
            for kind, table in _NAMED.items()
        }
        frames["traces"] = _traces(traces)
        frames["calls"] = _calls(traces)
        frames["tool_calls"] = _tool_calls(traces)
        frames["messages"], frames["contents"] = _messages(traces)
        frames["scores"] = _parts("scores", traces, lambda t: t.scores)
        frames["energy"] = _energy(traces)
        return frames


def _better_named(one: r.Configuration, other: r.AnyRecord) -> r.Configuration:
    """Choose between two records of one configuration, which can only differ in its name."""
    assert isinstance(other, r.Configuration)
    derived = r.derived_name(one.model, one.strategy, one.effort, one.thinking_budget_tokens)
    base = parameters.better_base(one.base_name, other.base_name, derived)
    return one if one.base_name == base else other


_NAMED: dict[type, str] = {
    r.Run: "runs",
    r.Task: "tasks",
    r.Item: "items",
    r.Configuration: "configurations",
    r.EnergyBalance: "energy_balances",
    r.Result: "results",
    r.Price: "prices",
}
_KEYS = {kind: operator.attrgetter(*schema.TABLES[table].key) for kind, table in _NAMED.items()}


def _frame(table: str, rows: Sequence[Any], **given: Sequence[Any]) -> pl.DataFrame:
    """Build a table's frame; columns come from `given`, else from the rows' fields, else null."""
    fields = set(rows[0].__struct_fields__) if rows else set()
    columns = []
    for column in schema.TABLES[table].columns:
        if column.name in given:
            values = given[column.name]
        elif column.name in fields:
            values = [getattr(row, column.name) for row in rows]
        else:
            values = [None] * len(rows)
        columns.append(_series(table, column, values))
    return pl.DataFrame(columns)


def _series(table: str, column: schema.Column, values: Sequence[Any]) -> pl.Series:
    dtype = _POLARS[column.type]
    if column.type == "time":
        values = [_utc(v) for v in values]
    try:
        return pl.Series(column.name, values, dtype=dtype)
    except UnicodeEncodeError:
        return pl.Series(
            column.name, [None if v is None else clean(v) for v in values], dtype=dtype
        )
    except (OverflowError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        bad = next((v for v in values if not _fits(v, dtype)), None)
        shown = repr(bad)[:80]
        raise ImportFormatError(
            f"{table}.{column.name} takes {column.type}, but got {shown}; correct it at the source"
        ) from error


def _fits(value: Any, dtype: Any) -> bool:
    try:
        pl.Series([value], dtype=dtype)
    except Exception:  # noqa: BLE001 - any failure marks the value that does not fit
        return False
    return True


def clean(text: str) -> str:
    """Make text storable: lone surrogates become visible escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _utc(value: dt.datetime | None) -> dt.datetime | None:
    if value is None or value.tzinfo is None:
        return value
    return value.astimezone(dt.UTC).replace(tzinfo=None)


def _parent(
    traces: Sequence[r.Trace], parts: Callable[[r.Trace], Sequence[Any]], field: str
) -> list[Any]:
    return [getattr(trace, field) for trace in traces for _ in parts(trace)]


def _parts(
    table: str,
    traces: Sequence[r.Trace],
    parts: Callable[[r.Trace], Sequence[Any]],
    **given: Sequence[Any],
) -> pl.DataFrame:
    rows = [part for trace in traces for part in parts(trace)]
    return _frame(table, rows, trace_id=_parent(traces, parts, "trace_id"), **given)


def call_id(trace: r.Trace, ordinal: int | None) -> str | None:
    """Return the id of a trace's call: the one its source gave, else one derived from the trace."""
    if ordinal is None:
        return None
    given = trace.calls[ordinal] if 0 <= ordinal < len(trace.calls) else None
    if given is not None and given.call_id and given.ordinal == ordinal:
        return given.call_id
    return f"{trace.trace_id}-{ordinal}"


def _tool_call_id(trace: r.Trace, ordinal: int | None) -> str | None:
    if ordinal is None:
        return None
    given = trace.tool_calls[ordinal] if 0 <= ordinal < len(trace.tool_calls) else None
    if given is not None and given.tool_call_id and given.ordinal == ordinal:
        return given.tool_call_id
    return f"{trace.trace_id}-t{ordinal}"


def _traces(traces: Sequence[r.Trace]) -> pl.DataFrame:
    return _frame(
        "traces",
        traces,
        stop_reason=[
            t.stop_reason
            or next((c.stop_reason for c in reversed(t.calls) if c.retried_as is None), None)
            for t in traces
        ],
        n_tool_calls=[sum(c.error_type != r.NOT_RUN for c in t.tool_calls) for t in traces],
        n_tool_errors=[
            sum(c.error_type not in {None, r.NOT_RUN} for c in t.tool_calls) for t in traces
        ],
        n_messages=[len(t.messages) for t in traces],
    )


def _calls(traces: Sequence[r.Trace]) -> pl.DataFrame:
    def parts(trace: r.Trace) -> Sequence[r.Call]:
        return trace.calls

    inherited = ("run_id", "configuration_id", "task_id", "item_id")
    energy = [
        _known_sum(
            [
                e.energy_j
                for e in t.energy
                if e.call_ordinal == c.ordinal and e.method != "estimated"
            ]
        )
        for t in traces
        for c in t.calls
    ]
    return _parts(
        "calls",
        traces,
        parts,
        call_id=[c.call_id or call_id(t, c.ordinal) for t in traces for c in t.calls],
        energy_j=energy,
        **{field: _parent(traces, parts, field) for field in inherited},
    )


def _known_sum(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if known and len(known) == len(values) else None


def _tool_calls(traces: Sequence[r.Trace]) -> pl.DataFrame:
    pairs = [(t, c) for t in traces for c in t.tool_calls]
    return _parts(
        "tool_calls",
        traces,
        lambda t: t.tool_calls,
        tool_call_id=[c.tool_call_id or _tool_call_id(t, c.ordinal) for t, c in pairs],
        call_id=[call_id(t, c.call_ordinal) for t, c in pairs],
    )


def _energy(traces: Sequence[r.Trace]) -> pl.DataFrame:
    ids = [call_id(t, e.call_ordinal) for t in traces for e in t.energy]
    return _parts("energy", traces, lambda t: t.energy, call_id=ids)


def _messages(traces: Sequence[r.Trace]) -> tuple[pl.DataFrame, pl.DataFrame]:
    pairs = [(t, m) for t in traces for m in t.messages]
    contents: dict[str, tuple[int, str]] = {}
    ids: list[str] = []
    known: dict[str, str] = {}
    for _, message in pairs:
        content_id = known.get(message.text)
        if content_id is None:
            data = message.text.encode("utf-8", "backslashreplace")
            content_id = text_id(data)
            known[message.text] = content_id
            contents[content_id] = (len(data), data.decode())
        ids.append(content_id)
    frame = _parts(
        "messages",
        traces,
        lambda t: t.messages,
        content_id=ids,
        call_id=[call_id(t, m.call_ordinal) for t, m in pairs],
        tool_call_id=[_tool_call_id(t, m.tool_call_ordinal) for t, m in pairs],
    )
    texts = pl.DataFrame(
        {
            "content_id": list(contents),
            "n_bytes": [n for n, _ in contents.values()],
            "text": [text for _, text in contents.values()],
        },
        schema=polars_schema(schema.CONTENTS),
    )
    return frame, texts
