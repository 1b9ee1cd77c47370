"""Source of Langfuse's exports: the observations of traces, as spans.

Five shapes have the same fields under two spellings: tables of observations (JSON lines, a JSON
list, CSV, Parquet) with names_like_this, and the API and the downloads of the interface with
namesLikeThis. An observation that occurs twice counts once, in its latest version. Usage is in
disjoint buckets; a cost of 0 is an unknown price.
"""

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, json_text
from workbench.sources import heads, json_bytes
from workbench.sources.heads import Line
from workbench.sources.json_lines import lines, member, moment, text
from workbench.sources.report import FileReport, Total
from workbench.sources.spans.span import Span, SpanScore
from workbench.sources.spans.traces import TraceBuilder
from workbench.sources.spans.values import decoded, real
from workbench.usage import count

NAME = "langfuse"
_any = msgspec.json.Decoder()
_SNAKE = re.compile(r"_([a-z])")
_PARENT = (b'"parentObservationId"', b'"parent_observation_id"')
_TRACE = (b'"traceId"', b'"trace_id"')
_HEADER = re.compile(rb"[^\n]*\btrace_?id\b[^\n]*\bparent_?observation_?id\b", re.IGNORECASE)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Langfuse:
    """Source of observations in JSON, JSON lines, CSV and Parquet."""

    name = NAME
    title = "Langfuse observations or traces (.json, .jsonl, .csv, .parquet)"

    def detect(self, path: Path) -> bool:
        """Return whether the file has observations with a trace and a parent."""
        start = heads.start(path)
        if start[:4] == b"PAR1":
            return _is_parquet(path)
        if start.lstrip()[:1] in {b"{", b"["}:
            return any(p in start for p in _PARENT) and any(t in start for t in _TRACE)
        return bool(_HEADER.match(start))

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield for each trace its run, task, configuration, item and trace.

        Raises:
            ImportFormatError: the file is truncated or has no observations.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        builder = TraceBuilder(self.name, path.name, report)
        for trace_id, (trace, observations) in _traces(path, report).items():
            spans = _spans(trace_id, trace, observations)
            yield from builder.records(spans)
            report.totals += _totals(trace_id, trace, spans)


SOURCE = Langfuse()


def _traces(path: Path, report: FileReport) -> dict[str, tuple[Line, dict[str, Line]]]:
    """Group the observations by trace: (the trace's own fields, observations by id)."""
    traces: dict[str, tuple[Line, dict[str, Line]]] = {}
    for row in _rows(path, report):
        fields = _camel(row)
        if "observations" in fields and "parentObservationId" not in fields:
            trace = _camel(member(fields, "trace")) or fields
            listed = [fields["observations"], trace.get("observations")]
            for one in listed:
                for observation in one if isinstance(one, list) else ():
                    if isinstance(observation, dict):
                        _add(traces, _camel(observation), trace, report)
        else:
            _add(traces, fields, {}, report)
    return traces


def _add(
    traces: dict[str, tuple[Line, dict[str, Line]]], fields: Line, trace: Line, report: FileReport
) -> None:
    id_ = text(fields.get("id"))
    trace_id = text(fields.get("traceId")) or text(trace.get("id"))
    if id_ is None or trace_id is None:
        report.skip("rows without an id or a trace", str(fields.get("name"))[:60])
        return
    known_trace, observations = traces.setdefault(trace_id, (trace, {}))
    known_trace.update({name: value for name, value in trace.items() if name not in known_trace})
    known = observations.get(id_)
    if known is None or str(fields.get("updatedAt")) >= str(known.get("updatedAt")):
        observations[id_] = fields


def _rows(path: Path, report: FileReport) -> Iterator[Line]:
    start = heads.start(path)
    if start[:4] == b"PAR1":
        yield from _table_rows(path, is_parquet=True)
    elif start.lstrip()[:1] not in {b"{", b"["}:
        yield from _table_rows(path, is_parquet=False)
    elif len(heads.lines(path)) > 1:
        for _, line in lines(path, report):
            yield line
    else:
        document = json_bytes.decode(_any, json_bytes.document(path), str(path), report)
        data = document.get("data") if isinstance(document, dict) else None
        rows = data if isinstance(data, list) else document
        for row in rows if isinstance(rows, list) else [rows]:
            if isinstance(row, dict):
                yield row


def _table_rows(path: Path, *, is_parquet: bool) -> Iterator[Line]:
    import polars as pl
    from polars.exceptions import PolarsError

    try:
        frame = pl.read_parquet(path) if is_parquet else pl.read_csv(path, infer_schema=False)
    except (PolarsError, OSError) as error:
        raise ImportFormatError(f"{path} cannot be read: {error}") from error
    yield from frame.iter_rows(named=True)


def _is_parquet(path: Path) -> bool:
    import polars as pl
    from polars.exceptions import PolarsError

    try:
        names = {_camel_name(name) for name in pl.read_parquet_schema(path)}
    except (PolarsError, OSError):
        return False
    return {"traceId", "parentObservationId"} <= names


def _camel(row: Mapping[str, Any]) -> Line:
    return {_camel_name(name): value for name, value in row.items()}


def _camel_name(name: str) -> str:
    return _SNAKE.sub(lambda match: match[1].upper(), name)


def _spans(trace_id: str, trace: Line, observations: Mapping[str, Line]) -> list[Span]:
    spans = [_span(trace_id, trace, row) for row in observations.values()]
    by_id = {span.span_id: span for span in spans}
    roots = [span for span in spans if not span.parent_id or span.parent_id not in by_id]
    for score in _scores(trace.get("scores")):
        target = by_id.get((text(score.get("observationId")) or "").lower())
        owner = target or (roots or spans)[0]
        owner.scores.append(_score(score))
    if roots:
        about = {
            "langfuse.trace.input": trace.get("input"),
            "langfuse.trace.output": trace.get("output"),
        }
        known = {name: value for name, value in about.items() if value is not None}
        roots[0].attributes = known | dict(roots[0].attributes)
    return spans


def _span(trace_id: str, trace: Line, row: Line) -> Span:
    metadata = decoded(row.get("metadata"))
    resource = decoded(metadata.get("resourceAttributes")) if isinstance(metadata, dict) else None
    started = _time(row.get("startTime"))
    ended = _time(row.get("endTime"))
    if ended is None and started is not None and (latency := _latency_s(row)) is not None:
        ended = started + dt.timedelta(seconds=latency)
    is_error = row.get("level") == "ERROR"
    return Span(
        trace_id=trace_id.lower(),
        span_id=str(row["id"]).lower(),
        parent_id=(text(row.get("parentObservationId")) or "").lower(),
        name=text(row.get("name")) or text(row.get("type")) or "",
        attributes=_attributes(trace, row, started),
        resource=resource if isinstance(resource, dict) else {},
        scope=NAME,
        start_ns=_ns(started),
        end_ns=_ns(ended),
        error=(text(row.get("statusMessage")) or "error") if is_error else None,
    )


def _attributes(trace: Line, row: Line, started: dt.datetime | None) -> dict[str, Any]:
    """Write a row in the words that Langfuse has for attributes of spans."""
    model = row.get("model") or row.get("providedModelName") or row.get("internalModel")
    parameters = decoded(row.get("modelParameters"))
    first_token = _first_token_s(row, started)
    attributes = {
        "langfuse.observation.type": row.get("type"),
        "langfuse.observation.model.name": model,
        "langfuse.observation.usage_details": _usage(row),
        "langfuse.observation.cost_details": _cost(row),
        "langfuse.observation.input": row.get("input"),
        "langfuse.observation.output": row.get("output"),
        "llm.invocation_parameters": json_text(parameters) if parameters else None,
        "gen_ai.response.time_to_first_chunk": first_token,
        "session.id": row.get("sessionId") or trace.get("sessionId"),
        "user.id": row.get("userId") or trace.get("userId"),
    }
    if str(row.get("type")).upper() == "TOOL":
        attributes["tool.name"] = row.get("name")
    return {name: value for name, value in attributes.items() if value not in (None, "")}


def _usage(row: Line) -> Any:
    """Return the buckets of a row; older rows have three counts under other names."""
    details = decoded(row.get("usageDetails"))
    if isinstance(details, dict) and details:
        return _whole(details)
    old = decoded(row.get("usage"))
    named = old if isinstance(old, dict) else {}
    counts = {
        "input": named.get("input", row.get("promptTokens", row.get("inputTokens"))),
        "output": named.get("output", row.get("completionTokens", row.get("outputTokens"))),
        "total": named.get("total", row.get("totalTokens")),
    }
    known = _whole(counts)
    return known if any(known.values()) else None


def _whole(counts: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts; CSV holds them as text."""
    numbers = {
        name: int(value) if isinstance(value, str) and value.isdecimal() else value
        for name, value in counts.items()
    }
    return {name: n for name, value in numbers.items() if (n := count(value)) is not None}


def _cost(row: Line) -> Any:
    details = decoded(row.get("costDetails"))
    total = details.get("total") if isinstance(details, dict) else None
    for value in (total, row.get("totalCost"), row.get("calculatedTotalCost")):
        if cost := _number(value):
            return {"total": cost}
    return None


def _first_token_s(row: Line, started: dt.datetime | None) -> float | None:
    first = _time(row.get("completionStartTime"))
    if first is not None and started is not None and first >= started:
        return (first - started).total_seconds()
    if (ms := _number(row.get("timeToFirstTokenMs"))) is not None:
        return ms / 1000
    return _number(row.get("timeToFirstToken"))


def _latency_s(row: Line) -> float | None:
    if (ms := _number(row.get("latencyMs"))) is not None:
        return ms / 1000
    return _number(row.get("latency"))


def _scores(value: Any) -> Iterable[Line]:
    listed = decoded(value)
    return [_camel(s) for s in listed if isinstance(s, dict)] if isinstance(listed, list) else []


def _score(score: Line) -> SpanScore:
    return SpanScore(
        name=text(score.get("name")) or "score",
        value=_number(score.get("value")),
        label=text(score.get("stringValue")),
        explanation=text(score.get("comment")),
    )


def _totals(trace_id: str, trace: Line, spans: Iterable[Span]) -> Iterator[Total]:
    """Compare the cost that a trace states with those of its observations."""
    stated = _number(trace.get("totalCost"))
    if stated:
        costs = (span.attributes.get("langfuse.observation.cost_details") for span in spans)
        computed = sum(cost["total"] for cost in costs if cost)
        yield Total(f"cost of {trace_id[:16]} in USD", stated, computed, 1e-9 + 1e-6 * stated)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    number = real(value)
    return number if number is not None and number >= 0 else None


def _time(value: Any) -> dt.datetime | None:
    if isinstance(value, dt.datetime):
        return value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    return moment(value.replace(" ", "T", 1)) if isinstance(value, str) else None


def _ns(value: dt.datetime | None) -> int | None:
    if value is None:
        return None
    passed = value - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 10**9 + passed.microseconds * 1000
