"""Output of commands: documents as a table, JSON, CSV or Markdown on stdout, or as a file.

Control characters and markup are escaped for terminals and Markdown; JSON and files keep the text.
"""

import contextlib
import dataclasses
import datetime as dt
import decimal
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import polars as pl

from workbench.analysis.core.result import plain
from workbench.cli.options import is_excel_safe, is_terminal, print_message, settings
from workbench.cli.tables import lines, markdown
from workbench.errors import WorkbenchError
from workbench.schema import Column, columns_by_name
from workbench.version import __version__

if TYPE_CHECKING:
    from workbench.analysis import Result

SUFFIXES = (".parquet", ".csv", ".json", ".md")
# json.dumps leaves these raw: control characters, and marks that reorder text on a terminal
_ACTIVE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """A table with its columns' descriptions, notes and provenance.

    Attributes:
        name: name of the command, view or analysis.
        frame: the rows.
        columns: descriptions by column name; only columns of the schema or the analysis.
        dropped: number of rows left out, by reason.
        notes: sentences for the reader.
        more: further tables by name.
        provenance: store, filter, options and version that the rows were made with.
    """

    name: str
    frame: pl.DataFrame
    columns: Mapping[str, Column] = dataclasses.field(default_factory=dict)
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    more: Mapping[str, pl.DataFrame] = dataclasses.field(default_factory=dict)
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_frame(cls, name: str, frame: pl.DataFrame, **provenance: Any) -> "Document":
        """Make a document of a frame; columns that the schema has are described."""
        known = columns_by_name()
        columns = {c: known[c] for c in frame.columns if c in known}
        return cls(name, frame, columns, provenance=provenance)

    @classmethod
    def of_result(cls, result: "Result", **provenance: Any) -> "Document":
        """Make a document of the result of an analysis."""
        known = {"by": list(result.by), "options": result.options, "source": result.source}
        columns = {c.name: c for c in result.columns}
        return cls(
            result.name,
            result.frame,
            columns,
            result.dropped,
            result.notes,
            result.more,
            known | provenance,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that every command prints with --format json."""
        names = dict.fromkeys(c for f in (self.frame, *self.more.values()) for c in f.columns)
        described = {n: self.columns.get(n) or Column(n, "text") for n in names}
        document = {
            "name": self.name,
            "rows": _rows(self.frame),
            "columns": {n: {"title": c.title or n, "unit": c.unit} for n, c in described.items()},
            "dropped": dict(self.dropped),
            "notes": list(self.notes),
            "provenance": plain({"workbench": __version__, **self.provenance}),
        }
        more = {name: _rows(frame) for name, frame in self.more.items()}
        return document | ({"more": more} if more else {})


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [{k: plain(v) for k, v in row.items()} for row in frame.iter_rows(named=True)]


def _other(value: object) -> Any:
    """Convert decimals, bytes and intervals of DuckDB for `json.dumps`."""
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    return str(value)


def json_text(document: Document) -> str:
    """Write the JSON object, with characters that a terminal interprets escaped."""
    text = json.dumps(
        document.as_json(), ensure_ascii=False, allow_nan=False, indent=1, default=_other
    )
    escaped = _ACTIVE.sub(lambda m: f"\\u{ord(m[0]):04x}", text)
    return escaped.encode("utf-8", "backslashreplace").decode() + "\n"


def _csv(frame: pl.DataFrame, *, has_header: bool = True) -> str:
    nested = [
        name for name, dtype in frame.schema.items() if dtype.is_nested() or dtype == pl.Binary
    ]
    for name in nested:
        values = [
            None if v is None else json.dumps(plain(v), default=_other)
            for v in frame[name].to_list()
        ]
        frame = frame.with_columns(pl.Series(name, values, pl.String))
    frame = _without_formulas(frame) if is_excel_safe() else frame
    return frame.write_csv(include_header=has_header)


def _without_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """Put an apostrophe before texts and column names that a spreadsheet runs as formulas."""
    pattern = r"^([=+\-@\t\r])"
    escaped = frame.with_columns(
        pl.col(pl.String, pl.Categorical, pl.Enum).cast(pl.String).str.replace(pattern, "'$1")
    )
    return escaped.rename({c: re.sub(pattern, r"'\1", c) for c in frame.columns})


def _tables(document: Document) -> Iterator[tuple[str, pl.DataFrame]]:
    yield "", document.frame
    yield from document.more.items()


def _print_tables(document: Document, *, as_markdown: bool) -> None:
    width = shutil.get_terminal_size().columns if is_terminal() else None
    bold = is_terminal() and not os.environ.get("NO_COLOR")
    for name, frame in _tables(document):
        if name:
            sys.stdout.write(f"\n## {name}\n\n" if as_markdown else f"\n{name}\n")
        written = (
            markdown(frame, document.columns)
            if as_markdown
            else lines(frame, document.columns, width=width, bold=bold)
        )
        for line in written:
            sys.stdout.write(line + "\n")


def emit(document: Document, format_: str | None = None, output: Path | None = None) -> None:
    """Print a document, or write it to a file; notes and dropped rows go to stderr."""
    if output is not None:
        write_file(document, output)
        print_message(f"wrote {output}")
    else:
        _print(document, format_ or settings().format)
    for reason, n in document.dropped.items():
        print_message(f"left out: {n:,} {reason}")
    for note in document.notes:
        print_message(f"note: {note}")


def _print(document: Document, format_: str) -> None:
    if format_ == "json":
        sys.stdout.write(json_text(document))
    elif format_ == "csv":
        text = _csv(document.frame)
        sys.stdout.write(_shown(text) if is_terminal() else text)
        for name in document.more:
            print_message(
                f"note: CSV has room for one table only; for {name} as well, use --format json"
            )
    else:
        _print_tables(document, as_markdown=format_ == "md")
    sys.stdout.flush()


def _shown(text: str) -> str:
    from workbench.safe import safe

    return safe(text, lines=True)


def check_output(output: Path | None, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Raise a usage error, before the work starts, if the file cannot be written."""
    if output is None:
        return
    if output.suffix.lower() not in suffixes:
        raise click.BadParameter(
            f"{output.name} has no known suffix; use one of {' '.join(suffixes)}",
            param_hint="'--output'",
        )
    if not output.parent.is_dir():
        raise click.BadParameter(f"there is no folder {output.parent}", param_hint="'--output'")


def write_file(document: Document, output: Path) -> None:
    """Write a file in the format of its suffix, atomically."""
    check_output(output)
    suffix = output.suffix.lower()
    with replacing(output) as path:
        if suffix == ".parquet":
            document.frame.write_parquet(path)
        elif suffix == ".csv":
            path.write_text(_csv(document.frame), encoding="utf-8", newline="")
        elif suffix == ".json":
            path.write_text(json_text(document), encoding="utf-8")
        else:
            text = [f"# {document.name}", ""]
            for name, frame in _tables(document):
                text += ["", f"## {name}", ""] if name else []
                text += markdown(frame, document.columns)
            path.write_text("\n".join(text) + "\n", encoding="utf-8")


STREAMED = (".parquet", ".csv", ".jsonl")


def write_batches(batches: Iterable[pl.DataFrame], output: Path) -> int:
    """Write frames of equal columns to one Parquet, CSV or JSONL file, atomically.

    Args:
        batches: at least one, which may be without rows; one of them is in memory at a time.
        output: the file; its suffix is one of `STREAMED`.

    Returns:
        How many rows were written.
    """
    n_rows = 0
    suffix = output.suffix.lower()
    with replacing(output) as path, contextlib.ExitStack() as stack:
        parquet = None
        file = None if suffix == ".parquet" else stack.enter_context(path.open("wb"))
        for place, batch in enumerate(batches):
            if file is None:
                if parquet is None:
                    parquet = stack.enter_context(_parquet(path, batch))
                parquet.write_table(batch.to_arrow())
            elif suffix == ".csv":
                file.write(_csv(batch, has_header=place == 0).encode())
            else:
                _json_times(batch).write_ndjson(file)
            n_rows += batch.height
    return n_rows


def _parquet(path: Path, batch: pl.DataFrame) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(path, batch.to_arrow().schema, compression="zstd")


def _json_times(frame: pl.DataFrame) -> pl.DataFrame:
    """Write times as `datetime.isoformat` does: microseconds only where there are any."""
    seconds = "%Y-%m-%dT%H:%M:%S"
    times = (pl.col(name) for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime))
    return frame.with_columns(
        pl.when(time.dt.microsecond() == 0)
        .then(time.dt.strftime(seconds))
        .otherwise(time.dt.strftime(f"{seconds}%.6f"))
        for time in times
    )


@contextlib.contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `output` if the block does not raise.

    Raises:
        WorkbenchError: the file cannot be written; the previous one is unchanged.
    """
    from polars.exceptions import PolarsError

    from workbench.store import causes, scratch

    try:
        with scratch.folder(output.parent, ".writing-") as folder:
            path = folder / output.name
            yield path
            path.replace(output)
    except (OSError, PolarsError, WorkbenchError) as error:
        cause = error.__cause__ if isinstance(error, WorkbenchError) else error
        if isinstance(cause, PolarsError):  # it carries no errno
            cause = causes.refusal(output.parent)
        if not isinstance(cause, OSError) or not causes.is_of_disk(cause):
            raise
        raise WorkbenchError(
            f"cannot write {output}: {causes.reason(cause, 'another file')};"
            " the previous file is unchanged"
        ) from error
