"""Source of Arize Phoenix: its SQLite database, and frames of spans saved as Parquet or CSV.

The attributes of a span are those of OpenInference, nested in the database and flat in a frame.
Annotations are scores. Sums that Phoenix keeps of a span and all below it are not read.
"""

import contextlib
import datetime as dt
import itertools
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import ImportFormatError
from workbench.records import AnyRecord
from workbench.sources import heads
from workbench.sources.heads import Line
from workbench.sources.json_lines import moment, text
from workbench.sources.report import FileReport
from workbench.sources.spans.span import Span, SpanEvent, SpanScore
from workbench.sources.spans.traces import TraceBuilder
from workbench.sources.spans.values import decoded, real

NAME = "phoenix"
_TABLES = {"spans", "traces", "projects"}
_PREFIX = "attributes."
_DEPTH = 32
_FRAME_LIMIT = 1000  # rows that `get_spans_dataframe` returns unless it is told otherwise
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Phoenix:
    """Source of databases and frames."""

    name = NAME
    title = "Arize Phoenix database (.db) or spans (.parquet, .csv)"

    def detect(self, path: Path) -> bool:
        """Return whether the file is a database with spans, or a frame of them."""
        if heads.is_sqlite(path):
            return _tables(path) >= _TABLES
        start = heads.start(path)
        if start[:4] == b"PAR1":
            return {"context.trace_id", "span_kind"} <= _parquet_columns(path)
        header = start.partition(b"\n")[0].split(b",")
        return {b"context.trace_id", b"span_kind"} <= {name.strip(b'"\r ') for name in header}

    def read(
        self, path: Path, *, report: FileReport, mapping: str | Path | None = None
    ) -> Iterator[AnyRecord]:
        """Yield for each trace its run, task, configuration, item and trace.

        Raises:
            ImportFormatError: the file is damaged.
        """
        del mapping  # the format defines its fields
        report.format = self.name
        builder = TraceBuilder(self.name, path.name, report)
        is_database = heads.is_sqlite(path)
        traces = _of_database(path) if is_database else _of_frame(path, report)
        for spans in traces:
            yield from builder.records(spans)


SOURCE = Phoenix()


# -- the database ------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database to read it only; what waits in its write-ahead log is read too."""
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise ImportFormatError(f"{path} cannot be opened: {error}") from error
    try:
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.row_factory = sqlite3.Row
        yield connection
    except sqlite3.Error as error:
        raise ImportFormatError(
            f"{path} cannot be read as a database of Phoenix: {error}; if Phoenix is running, copy"
            " the database with its -wal file, or close Phoenix"
        ) from error
    finally:
        connection.close()


def _tables(path: Path) -> set[str]:
    with contextlib.suppress(ImportFormatError), _opened(path) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {row["name"] for row in rows}
    return set()


def _of_database(path: Path) -> Iterator[list[Span]]:
    with _opened(path) as connection:
        scores = _annotations(connection, "span_annotations", "span_rowid")
        of_traces = _annotations(connection, "trace_annotations", "trace_rowid")
        rows = connection.execute(
            """SELECT s.*, t.trace_id AS trace_key, p.name AS project_name
            FROM spans s JOIN traces t ON t.id = s.trace_rowid
            JOIN projects p ON p.id = t.project_rowid ORDER BY s.trace_rowid, s.id"""
        )
        for trace, group in itertools.groupby(rows, lambda row: row["trace_rowid"]):
            spans = []
            for row in group:
                span = _span(dict(row), row["trace_key"], row["project_name"])
                span.scores += scores.get(row["id"], [])
                spans.append(span)
            spans[0].scores += of_traces.get(trace, [])
            yield spans


def _annotations(
    connection: sqlite3.Connection, table: str, key: str
) -> dict[int, list[SpanScore]]:
    names = {row["name"] for row in connection.execute(f"PRAGMA table_info({table})")}
    if not {key, "name", "score"} <= names:
        return {}
    scores: dict[int, list[SpanScore]] = {}
    for row in connection.execute(f"SELECT * FROM {table} ORDER BY id"):
        fields = dict(row)
        score = SpanScore(
            name=str(fields["name"]),
            value=real(fields["score"]),
            label=text(fields.get("label")),
            explanation=text(fields.get("explanation")),
        )
        scores.setdefault(fields[key], []).append(score)
    return scores


def _span(row: Line, trace_id: str, project: str) -> Span:
    attributes = decoded(row.get("attributes"))
    flat = dict(_flattened(attributes if isinstance(attributes, dict) else {}))
    kind = text(row.get("span_kind"))
    if kind:
        flat.setdefault("openinference.span.kind", kind)
    is_error = row.get("status_code") == "ERROR"
    return Span(
        trace_id=str(trace_id).lower(),
        span_id=str(row.get("span_id")).lower(),
        parent_id=str(row.get("parent_id") or "").lower(),
        name=text(row.get("name")) or "",
        attributes=flat,
        resource={"openinference.project.name": project},
        scope=NAME,
        start_ns=_ns(row.get("start_time")),
        end_ns=_ns(row.get("end_time")),
        error=(text(row.get("status_message")) or "error") if is_error else None,
        events=list(_events(decoded(row.get("events")))),
    )


def _flattened(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Write nested attributes with dots, as OpenInference names them; lists by their indexes."""
    children: Iterable[tuple[Any, Any]] | None = value.items() if isinstance(value, dict) else None
    if isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        children = ((str(place), inner) for place, inner in enumerate(value))
    if children is None or depth > _DEPTH:
        yield name, value
        return
    for key, inner in children:
        yield from _flattened(inner, f"{name}.{key}" if name else str(key), depth + 1)


def _events(listed: Any) -> Iterator[SpanEvent]:
    for event in listed if isinstance(listed, list) else ():
        if isinstance(event, dict):
            attributes = event.get("attributes")
            known = dict(attributes) if isinstance(attributes, Mapping) else {}
            yield SpanEvent(str(event.get("name")), known, _ns(event.get("timestamp")))


# -- frames ------------------------------------------------------------------------------------


def _parquet_columns(path: Path) -> set[str]:
    import polars as pl
    from polars.exceptions import PolarsError

    try:
        return set(pl.read_parquet_schema(path))
    except (PolarsError, OSError):
        return set()


def _of_frame(path: Path, report: FileReport) -> Iterator[list[Span]]:
    import polars as pl
    from polars.exceptions import PolarsError

    is_parquet = heads.start(path)[:4] == b"PAR1"
    try:
        frame = pl.read_parquet(path) if is_parquet else pl.read_csv(path, infer_schema=False)
    except (PolarsError, OSError) as error:
        raise ImportFormatError(f"{path} cannot be read: {error}") from error
    if frame.height == _FRAME_LIMIT:
        report.notes[
            "the frame has 1,000 rows, the limit of get_spans_dataframe: spans may be missing"
        ] += 1
    by_trace: dict[str, list[Span]] = {}
    for row in frame.iter_rows(named=True):
        fields = {
            name.removeprefix(_PREFIX): _cell(name, value)
            for name, value in row.items()
            if name.startswith(_PREFIX) and value is not None
        }
        nested = dict(_flattened(fields))
        trace_id = str(row.get("context.trace_id"))
        flat = row | {"attributes": nested, "span_id": row.get("context.span_id")}
        by_trace.setdefault(trace_id, []).append(_span(flat, trace_id, NAME))
    yield from by_trace.values()


def _cell(name: str, value: Any) -> Any:
    """Return a cell: counts became floats, NaN where there is none, and CSV holds texts."""
    if isinstance(value, str) and ".token_count." in name:
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return int(value) if value.is_integer() else value
    return decoded(value)


# -- times -------------------------------------------------------------------------------------


def _ns(value: Any) -> int | None:
    """Convert a time, which is text without a zone in the database: it is UTC."""
    time = value if isinstance(value, dt.datetime) else None
    if isinstance(value, str):
        time = moment(value.replace(" ", "T", 1))
    if time is None:
        return None
    passed = (time if time.tzinfo else time.replace(tzinfo=dt.UTC)) - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 10**9 + passed.microseconds * 1000
