"""Conversion of blocks of a CSV to rows of the store's tables, with Polars.

`table_records` says what a row becomes. Here only blocks are converted whose cells leave no doubt:
plain numbers within their range, times in ISO 8601, attempts that were not there before. A block
with any other cell is left to the reader of rows, so that remarks and errors are written in one
place, and both give the same.
"""

import functools
import hashlib
import io
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Dict
from typing import Any, NamedTuple

import polars as pl

from workbench.errors import ImportFormatError
from workbench.records import AnyRecord, Rows, content_id
from workbench.sources.report import FileReport
from workbench.sources.tables.bulk import csv_blocks
from workbench.sources.tables.bulk.cell_series import TYPES, CellSeries, NotPlainError
from workbench.sources.tables.bulk.csv_blocks import Block
from workbench.sources.tables.columns import Column, Mapping, fields
from workbench.sources.tables.paths import Found
from workbench.sources.tables.table_counts import AMOUNTS, CACHED, WITHOUT_CACHED, WITHOUT_THINKING
from workbench.sources.tables.table_records import (
    CONFIGURATION_FIELDS,
    ITEM_FIELDS,
    NAMES,
    SHARE,
    RowReader,
    metric_field,
)
from workbench.sources.tables.table_rows import csv_head, csv_rows, text_lines
from workbench.sources.tables.trace_groups import (
    CALL_FIELDS,
    MESSAGES,
    SCORER,
    TRACE_FIELDS,
    number_text,
)
from workbench.sources.tables.units import UNITS

BATCH_BYTES = 1 << 26  # of texts in a batch
BATCH_ROWS = 2 * 122_880  # a multiple of what DuckDB writes at once; a rest costs twice as much
_OF_NAMES = (*CONFIGURATION_FIELDS, "task", "task_version", "scorer")
_ESCAPED = r'[\x00-\x1f\x7f"\\]'  # characters that JSON may write otherwise
_NUMBERED = r"^\s*-?(?:0|[1-9][0-9]*)\.0+\s*$"
_BY_ROWS = {"trace", "request_id", "total_tokens", "ended_at"}
Columns = Dict[str, Column]
_INHERITED = ("trace_id", "run_id", "configuration_id", "task_id", "item_id")


def is_plain(mapping: Mapping) -> bool:
    """Return whether each row of a mapping is one trace, made of the row's own cells alone."""
    columns = [column for _, column in mapping.all_columns()]
    is_of_rows = (
        mapping.kind != "traces"
        or mapping.keep != "first"
        or mapping.tokens_column is not None
        or bool(mapping.totals or mapping.where or mapping.unpivot or mapping.joins)
        or bool(mapping.tool_calls)
        or bool({"[", "{"} & set(mapping.rows))
    )
    named = set(mapping.columns) | set(mapping.constants)
    return not (
        is_of_rows
        or named & _BY_ROWS
        or any(c.otherwise or c.join or c.plus or c.default is not None for c in columns)
        or any(c.path.startswith("^") for c in columns)
    )


class _Names(NamedTuple):
    """What the names in a block's rows make: a task, a configuration and a scorer for each row."""

    columns: dict[str, pl.Series]
    records: list[AnyRecord]


class FrameReader:
    """Reader of a CSV's blocks; what it cannot convert it yields row by row."""

    def __init__(self, reader: RowReader, delimiter: str) -> None:
        """Bind to the reader of rows, whose state this one shares."""
        self.reader = reader
        self.path = reader.path
        self.mapping = reader.mapping
        self.head = csv_head(self.path, delimiter)
        self._cells = CellSeries(reader, self.head)
        self._number = 0  # rows read so far
        self._waiting: list[dict[str, pl.DataFrame]] = []

    def pieces(self, report: FileReport) -> Iterator[Found | AnyRecord | Rows]:
        """Yield the rows of the file: batches of them, and single ones that need a closer look."""
        head = self.head
        for block in csv_blocks.blocks(self.path, head.start, head.line):
            texts = csv_blocks.frame(block, head.names, head.delimiter)
            if texts is None:
                yield from self._flush()
                yield from self._single(text_lines(self.path, block.start), block, report)
                return
            try:
                named, tables = self._convert(texts, report)
            except NotPlainError:
                yield from self._flush()
                lines = (line.decode() for line in io.BytesIO(block.data))
                yield from self._single(lines, block, report)
                continue
            self._number += texts.height
            yield from named
            self._waiting.append(tables)
            yield from self._full_batches()
            n_bytes = sum(t["contents"]["n_bytes"].sum() for t in self._waiting if "contents" in t)
            if n_bytes >= BATCH_BYTES:
                yield from self._flush()
        yield from self._flush()

    def _single(self, lines: Iterable[str], block: Block, report: FileReport) -> Iterator[Found]:
        for row in csv_rows(self.path, iter(lines), self.head, block.line, report):
            self._number += 1
            yield row._replace(number=self._number)

    def _full_batches(self) -> Iterator[Rows]:
        """Yield batches of exactly BATCH_ROWS traces, where as many wait."""
        while sum(tables["traces"].height for tables in self._waiting) >= BATCH_ROWS:
            last = self._waiting.pop()
            n = BATCH_ROWS - sum(tables["traces"].height for tables in self._waiting)
            self._waiting.append(_cut(last, 0, n))
            yield from self._flush()
            if n < last["traces"].height:
                self._waiting.append(_cut(last, n, last["traces"].height))

    def _flush(self) -> Iterator[Rows]:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        tables = {name: pl.concat([tables[name] for tables in waiting]) for name in waiting[0]}
        if "contents" in tables:
            tables["contents"] = tables["contents"].unique("content_id")
        yield Rows(tables)

    # -- blocks --------------------------------------------------------------------------------

    def _convert(
        self, texts: pl.DataFrame, report: FileReport
    ) -> tuple[list[AnyRecord], dict[str, pl.DataFrame]]:
        """Convert a block; returns tasks and configurations that are new, and a frame a table.

        Raises:
            NotPlainError: a cell needs a closer look; nothing of the block was noted then.
        """
        reader = self.reader
        self._cells.check_marks(texts)
        names = self._names(texts)
        data = pl.DataFrame([*names.columns.values(), *self._values(texts)])
        data = _with_inclusive_tokens(data, self.mapping.tokens)
        _check_contradictions(data)
        data = data.with_columns(_item_ids(data), pl.lit(reader.run_id).alias("run_id"))
        keys = _trace_keys(data)
        data = data.with_columns(pl.Series("trace_id", keys, dtype=pl.Binary).bin.encode("hex"))
        scores = self._scores(texts, data)
        metadata = self._group(texts, self.mapping.metadata, "metadata")
        item_metadata = self._group(texts, self.mapping.item_metadata, "metadata")
        if not reader.add_trials(keys):
            raise NotPlainError
        tables = {
            "items": self._items(data, item_metadata),
            "traces": _traces(data, metadata, scores),
            "calls": _calls(data),
            "scores": _score_rows(scores),
        }
        if "energy_j" in data.columns:
            tables["energy"] = _energy(data)
        if any(name in data.columns for name, _, _ in MESSAGES):
            tables["messages"], tables["contents"] = _messages(data)
        report.rows_in += data.height
        report.rows_out += data.height
        _note_conventions(data, self.mapping.tokens, report)
        return list(reader.unseen(*names.records)), tables  # type: ignore[arg-type]  # no traces

    def _names(self, texts: pl.DataFrame) -> _Names:
        """Make the tasks and configurations of a block, each of different names once."""
        reader, mapping = self.reader, self.mapping
        columns = {n: c for n, c in mapping.columns.items() if n in _OF_NAMES}
        groups = (mapping.strategy_params, mapping.settings)
        paths = [c.path for part in (columns, *groups) for c in part.values()]
        different, which = self._cells.different(texts, paths)
        rows: list[dict[str, Any]] = []
        records: list[Any] = []
        for found in different:
            values = self._cells.of_row(found, columns)
            task = reader.task(values)
            try:
                configuration = reader.configuration(found, values)
            except ImportFormatError:
                raise NotPlainError from None
            records += [task, configuration]
            rows.append(
                {
                    "task_id": task.task_id,
                    "configuration_id": configuration.configuration_id,
                    "provider": configuration.provider,
                    "model": configuration.model,
                    "machine": configuration.machine,
                    "scorer": values.get("scorer") or SCORER,
                }
            )
        chosen = pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.String))[which]
        return _Names({name: chosen[name] for name in chosen.columns}, records)

    def _values(self, texts: pl.DataFrame) -> Iterator[pl.Series]:
        """Convert the other fields."""
        first = self._number + 1
        for name, column in self.mapping.columns.items():
            if name in _OF_NAMES:
                continue
            if name == "trial" and column.path == "@repeat":
                continue
            values = self._cells.column(texts, column, fields()[name], first=first)
            if name in NAMES:
                values = values.str.strip_chars()
            if name == "item" and (values.is_null() | values.str.contains(_NUMBERED)).any():
                raise NotPlainError
            yield values.alias(name)
        for name, value in self.reader.constants.items():
            if name not in _OF_NAMES and name not in self.mapping.columns:
                dtype = TYPES[fields()[name].type]
                yield pl.repeat(value, texts.height, dtype=dtype, eager=True).alias(name)

    def _group(self, texts: pl.DataFrame, columns: Columns, name: str) -> pl.Series | None:
        """Make the JSON text of named columns; None if there are none."""
        if not columns:
            return None
        paths = [column.path for column in columns.values()]
        different, which = self._cells.different(texts, paths, limit=None)
        values = [self._cells.group(found, columns) for found in different]
        return pl.Series(name, values, dtype=pl.String)[which]

    def _items(self, data: pl.DataFrame, metadata: pl.Series | None) -> pl.DataFrame:
        chosen = [n for n in ITEM_FIELDS if n in data.columns]
        items = data.select("item_id", "task_id", *chosen)
        if metadata is not None:
            items = items.with_columns(metadata.alias("metadata"))
        items = items.unique("item_id", keep="first", maintain_order=True)
        return items.filter(
            pl.Series(self.reader.add_ids(items["item_id"].to_list()), dtype=pl.Boolean)
        )

    def _scores(self, texts: pl.DataFrame, data: pl.DataFrame) -> list[pl.DataFrame]:
        """Return the scores by scorer, a row for each trace; those of unknown score among them."""
        found = [_main_score(data)] if {"score", "passed"} & set(data.columns) else []
        mapping, first = self.mapping, self._number + 1
        scorers = set(data["scorer"].unique())
        if scorers & (mapping.scores.keys() | mapping.metrics.keys()):
            raise NotPlainError
        for name, column in mapping.scores.items():
            score = self._cells.column(texts, column, SHARE, first=first)
            found.append(_score_frame(data, name, score=score, passed=score >= 1, value=score))
        for name, column in mapping.metrics.items():
            metric = self._cells.column(texts, column, metric_field(name, column), first=first)
            is_share = (column.low, column.high, column.direction) == (0, 1, "higher")
            unit = UNITS[column.unit].store_unit if column.unit in UNITS else column.unit
            scale = {"scale_low": column.low, "scale_high": column.high}
            found.append(
                _score_frame(
                    data, name, score=metric if is_share else None, value=metric, metric=metric
                ).with_columns(
                    pl.lit(unit or None, dtype=pl.String).alias("unit"),
                    pl.lit(column.direction, dtype=pl.String).alias("direction"),
                    *(pl.lit(v, dtype=pl.Float64).alias(k) for k, v in scale.items()),
                )
            )
        return found


# -- ids -----------------------------------------------------------------------------------------


def _item_ids(data: pl.DataFrame) -> pl.Series:
    """Hash task, key and input of each row, as `records.Item` does."""
    texts = ["item", *(["input"] if "input" in data.columns else [])]
    if any(data[name].str.contains(_ESCAPED).any() for name in texts):
        rows = data.select("task_id", "item", *texts[1:]).rows()
        ids = [content_id("Item", *row, *([None] if len(row) == 2 else [])) for row in rows]
        return pl.Series("item_id", ids)
    text = pl.lit('"') + pl.col("input") + '"' if texts[1:] else pl.lit("null")
    parts = (
        '["Item","',
        pl.col("task_id"),
        '","',
        pl.col("item"),
        '",',
        text.fill_null("null"),
        "]",
    )
    return pl.Series("item_id", _digests(data, parts), dtype=pl.Binary).bin.encode("hex")


def _trace_keys(data: pl.DataFrame) -> list[bytes]:
    """Hash run, configuration, item and trial of each row, as `records.Trace` does."""
    trial = pl.col("trial").fill_null(0) if "trial" in data.columns else pl.lit(0)
    ids = ("run_id", "configuration_id", "item_id")
    quoted: list[Any] = [part for id in ids for part in (',"', pl.col(id), '"')]
    return _digests(data, ('["Trace"', *quoted, ",", trial.cast(pl.String), "]"))


def _digests(data: pl.DataFrame, parts: tuple[Any, ...]) -> list[bytes]:
    exprs = [pl.lit(part) if isinstance(part, str) else part for part in parts]
    payloads = data.select(pl.concat_str(exprs).cast(pl.Binary)).to_series().to_list()
    blake = functools.partial(hashlib.blake2b, digest_size=12)
    return [blake(payload).digest() for payload in payloads]


# -- counts --------------------------------------------------------------------------------------


def _with_inclusive_tokens(data: pl.DataFrame, conventions: tuple[str, ...]) -> pl.DataFrame:
    """Add cached and thinking tokens to counts that exclude them; see `make_inclusive`."""
    if WITHOUT_CACHED in conventions and "input_tokens" in data.columns:
        data = data.with_columns(pl.col("input_tokens") + _cached(data))
    if WITHOUT_THINKING in conventions and {"output_tokens", "reasoning_tokens"} <= set(
        data.columns
    ):
        data = data.with_columns(pl.col("output_tokens") + pl.col("reasoning_tokens").fill_null(0))
    return data


def _note_conventions(data: pl.DataFrame, conventions: tuple[str, ...], report: FileReport) -> None:
    notes = (
        (WITHOUT_CACHED, "input_tokens", "input excludes cached: added back"),
        (WITHOUT_THINKING, "output_tokens", "output excludes thinking: added"),
    )
    for convention, column, note in notes:
        if convention in conventions and column in data.columns:
            n = data.height - data[column].null_count()
            if n:
                report.conventions[note] += n


def _cached(data: pl.DataFrame) -> pl.Expr:
    columns = [pl.col(name).fill_null(0) for name in CACHED if name in data.columns]
    return pl.sum_horizontal(columns) if columns else pl.lit(0, dtype=pl.Int64)


def _check_contradictions(data: pl.DataFrame) -> None:
    """Refuse what `clear_contradictions` reports.

    Raises:
        NotPlainError: an amount is below zero, or two contradict each other.
    """
    known = set(data.columns)
    amounts = [n for n in known & set(fields()) if fields()[n].unit in AMOUNTS]
    wrong = [pl.col(name) < 0 for name in amounts if data[name].dtype.is_numeric()]
    if "input_tokens" in known and known & set(CACHED):
        wrong.append(_cached(data) > pl.col("input_tokens"))
    if {"reasoning_tokens", "output_tokens"} <= known:
        wrong.append(pl.col("reasoning_tokens") > pl.col("output_tokens"))
    if "e2e_s" in known:
        starts = [name for name in ("ttft_s", "answer_start_s") if name in known]
        wrong += [pl.col(name) > pl.col("e2e_s") for name in starts]
    if wrong and data.select(pl.any_horizontal(wrong).any()).item():
        raise NotPlainError


def _cut(tables: dict[str, pl.DataFrame], start: int, end: int) -> dict[str, pl.DataFrame]:
    """Return the traces from `start` to `end` with their parts; items go with the first."""
    traces = tables["traces"].slice(start, end - start)
    parts = {
        name: frame.join(traces.select("trace_id"), on="trace_id", how="semi")
        for name, frame in tables.items()
        if name not in {"items", "traces", "contents"}
    }
    items = tables["items"] if not start else tables["items"].clear()
    contents = {name: tables[name] for name in tables.keys() & {"contents"}}
    return {"items": items, "traces": traces, **parts, **contents}


# -- tables --------------------------------------------------------------------------------------


def _traces(
    data: pl.DataFrame, metadata: pl.Series | None, scores: list[pl.DataFrame]
) -> pl.DataFrame:
    chosen = [name for name in TRACE_FIELDS if name in data.columns and name != "trial"]
    trial = pl.col("trial").fill_null(0) if "trial" in data.columns else pl.lit(0, dtype=pl.Int64)
    said = [pl.col(name).is_not_null() for name, _, _ in MESSAGES if name in data.columns]
    n_messages = pl.sum_horizontal(said).cast(pl.Int64) if said else pl.lit(0, dtype=pl.Int64)
    zero = [pl.lit(0, dtype=pl.Int64).alias(name) for name in ("n_tool_calls", "n_tool_errors")]
    traces = data.select(
        *_INHERITED, trial.alias("trial"), *chosen, *zero, n_messages.alias("n_messages")
    )
    if metadata is not None:
        traces = traces.with_columns(metadata)
    main = [frame for frame in scores if "metric" not in frame.columns]
    if main:
        traces = traces.with_columns(
            pl.coalesce([frame[name] for frame in main]).alias(name) for name in ("score", "passed")
        )
    return traces


def _calls(data: pl.DataFrame) -> pl.DataFrame:
    given = {"ordinal", "role", "n_requests", "tokens_source"}
    chosen = [name for name in CALL_FIELDS if name in data.columns and name not in given]
    requests = [pl.col("n_requests")] if "n_requests" in data.columns else []
    if "n_turns" in data.columns:
        requests.append(pl.when(pl.col("n_turns") != 0).then(pl.col("n_turns")))
    return data.select(
        (pl.col("trace_id") + "-0").alias("call_id"),
        *_INHERITED,
        *chosen,
        *(["energy_j"] if "energy_j" in data.columns else []),
        pl.lit(0, dtype=pl.Int64).alias("ordinal"),
        pl.lit("subject").alias("role"),
        pl.lit("reported").alias("tokens_source"),
        pl.coalesce(requests or [pl.lit(None, dtype=pl.Int64)]).alias("n_requests"),
    )


def _messages(data: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the messages of each row in their order, and their texts, each once."""
    parts: list[pl.DataFrame] = []
    before = pl.lit(0, dtype=pl.Int64)  # messages of the row so far
    for name, role, kind in MESSAGES:
        if name not in data.columns:
            continue
        is_answer = role == "assistant"
        part = data.select(
            "trace_id",
            before.alias("ordinal"),
            pl.lit(role).alias("role"),
            pl.lit(kind).alias("kind"),
            (pl.col("trace_id") + "-0" if is_answer else pl.lit(None, pl.String)).alias("call_id"),
            pl.col(name).alias("text"),
        )
        parts.append(part.filter(pl.col("text").is_not_null()))
        before = before + pl.col(name).is_not_null().cast(pl.Int64)
    messages = pl.concat(parts)
    texts = messages["text"].unique()
    ids = _hexes(texts.cast(pl.Binary).to_list())
    contents = pl.DataFrame({"content_id": ids, "n_bytes": texts.str.len_bytes(), "text": texts})
    shown = messages.join(contents.select("content_id", "text"), on="text", how="left")
    return shown.drop("text"), contents.with_columns(pl.col("n_bytes").cast(pl.Int64))


def _hexes(payloads: list[bytes]) -> pl.Series:
    digests = [hashlib.blake2b(payload, digest_size=12).digest() for payload in payloads]
    return pl.Series(digests, dtype=pl.Binary).bin.encode("hex")


def _energy(data: pl.DataFrame) -> pl.DataFrame:
    return data.filter(pl.col("energy_j").is_not_null()).select(
        "trace_id",
        (pl.col("trace_id") + "-0").alias("call_id"),
        pl.lit("all").alias("device"),
        pl.lit("reported").alias("method"),
        "energy_j",
    )


def _main_score(data: pl.DataFrame) -> pl.DataFrame:
    """Return the score of each row, by its value or by whether it passed."""
    nothing = pl.lit(None)
    score = pl.col("score") if "score" in data.columns else nothing.cast(pl.Float64)
    passed = pl.col("passed") if "passed" in data.columns else nothing.cast(pl.Boolean)
    score = pl.coalesce(score, passed.cast(pl.Float64))
    found = data.select(score.alias("score"), pl.coalesce(passed, score >= 1).alias("passed"))
    frame = _score_frame(
        data, None, score=found["score"], passed=found["passed"], value=found["score"]
    )
    texts = [name for name in ("answer", "explanation") if name in data.columns]
    return frame.with_columns(data[name] for name in texts)


def _score_frame(
    data: pl.DataFrame,
    scorer: str | None,
    *,
    score: pl.Series | None,
    value: pl.Series,
    passed: pl.Series | None = None,
    metric: pl.Series | None = None,
) -> pl.DataFrame:
    columns = [
        data["trace_id"],
        data["scorer"] if scorer is None else pl.repeat(scorer, data.height, eager=True),
        *([score] if score is not None else []),
    ]
    names = ["trace_id", "scorer", *(["score"] if score is not None else [])]
    for name, series in (("passed", passed), ("metric", metric)):
        if series is not None:
            columns.append(series)
            names.append(name)
    frame = pl.DataFrame([c.alias(n) for c, n in zip(columns, names, strict=True)])
    different = value.unique().drop_nulls()
    written = pl.Series([number_text(v) for v in different], dtype=pl.String)
    texts = value.replace_strict(different, written, default=None, return_dtype=pl.String)
    return frame.with_columns(texts.alias("value"))


def _score_rows(scores: list[pl.DataFrame]) -> pl.DataFrame:
    known = [frame.filter(pl.col("value").is_not_null()) for frame in scores]
    empty = pl.DataFrame(schema={"trace_id": pl.String, "scorer": pl.String})
    return pl.concat([empty, *known], how="diagonal")
