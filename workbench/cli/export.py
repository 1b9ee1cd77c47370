"""`workbench export`: a view as a file, or the whole store as a folder or a bundle."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench import formats, schema
from workbench.cli.examples import examples
from workbench.cli.options import (
    PASSPHRASE_VARIABLE,
    ask_passphrase,
    open_store,
    output_options,
    print_message,
    print_unmatched,
    store_option,
    where_option,
)
from workbench.slice import Slice

if TYPE_CHECKING:
    import polars as pl

    from workbench.store import Store

ALL = "all"
_BATCH_ROWS = 50_000
_BUNDLES = (".zip", ".age")


@click.command(
    epilog=examples(
        "workbench export trace_facts -o traces.parquet",
        "workbench export calls -o calls.jsonl --where task:arithmetic",
        "workbench export all --folder exported --where task:arithmetic",
        "workbench export all -o slice.zip --where task:arithmetic",
        "workbench export --as inspect --folder inspect-logs --where task:arithmetic",
        "workbench export --as otlp -o spans.jsonl --where task:arithmetic",
    ),
)
@click.argument(
    "view", type=click.Choice([ALL, *schema.RELATIONS]), metavar="VIEW", default=ALL, required=False
)
@store_option
@where_option
@output_options
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="With VIEW all: the folder to write, one Parquet file per table.",
)
@click.option(
    "--as",
    "tool",
    type=click.Choice(["inspect", "otlp"]),
    help="Write the traces in the format of another tool. inspect, with --folder: logs that inspect"
    " view and inspect_ai.log.read_eval_log read. otlp, with -o FILE.jsonl: spans in the"
    " conventions of OpenTelemetry for generative AI.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="With --folder: replace an export of another store or slice that is there.",
)
@click.option(
    "--encrypt",
    is_flag=True,
    help="With VIEW all and -o FILE.zip.age: encrypt the file with a passphrase, which you are"
    f" asked for, or which stands in {PASSPHRASE_VARIABLE}.",
)
def export(
    *,
    view: str,
    store_path: str | None,
    where: Slice,
    format_: str | None,
    output: Path | None,
    folder: Path | None,
    tool: str | None,
    overwrite: bool,
    encrypt: bool,
) -> None:
    """Write a view, or the whole store, to files.

    VIEW is a table or view (run workbench schema to list them), or all. With all you get every
    table in the slice, as a folder (--folder) or as one file (-o NAME.zip, or NAME.zip.age
    encrypted), which workbench import reads back.

    A view is written row by row to .parquet, .csv and .jsonl, however many rows there are; .json
    and .md are put together in memory.
    """
    suffix = "" if output is None else output.suffix.lower()
    if tool is not None and (view != ALL or overwrite or encrypt):
        raise click.UsageError(
            "--as takes --where, and --folder or -o; no VIEW and no other option"
        )
    if view != ALL and (folder is not None or overwrite or encrypt):
        raise click.UsageError("--folder, --overwrite and --encrypt need VIEW all")
    if encrypt != (suffix == ".age"):
        raise click.UsageError("--encrypt and -o NAME.zip.age need each other")
    if tool == "otlp":
        _export_spans(store_path, where, folder, output)
    elif tool == "inspect":
        _export_logs(store_path, where, folder, output)
    elif view == ALL:
        _export_all(store_path, where, folder, output, overwrite=overwrite, encrypt=encrypt)
    else:
        _export_view(store_path, view, where, format_, output)


def _export_spans(
    store_path: str | None, where: Slice, folder: Path | None, output: Path | None
) -> None:
    from workbench.cli.output import check_output
    from workbench.exporters import otlp

    if folder is not None or output is None:
        raise click.UsageError("--as otlp needs -o FILE.jsonl")
    check_output(output, (".jsonl",))
    store = open_store(store_path)
    print_unmatched(store, where)
    n_traces, n_spans = otlp.write_spans(store, output, where)
    traces, spans = formats.counted(n_traces, "trace"), formats.counted(n_spans, "span")
    print_message(f"wrote {output}: {spans} of {traces}")


def _export_logs(
    store_path: str | None, where: Slice, folder: Path | None, output: Path | None
) -> None:
    from workbench.exporters import inspect_log

    if folder is None or output is not None:
        raise click.UsageError("--as inspect needs --folder FOLDER, a new one")
    store = open_store(store_path)
    print_unmatched(store, where)
    files = inspect_log.write_logs(store, folder, where)
    samples = formats.counted(sum(file.n_samples for file in files), "sample")
    print_message(f"wrote {samples} in {formats.counted(len(files), 'log')} to {folder}")


def _export_all(
    store_path: str | None,
    where: Slice,
    folder: Path | None,
    output: Path | None,
    *,
    overwrite: bool,
    encrypt: bool,
) -> None:
    from workbench.cli.output import check_output

    if (folder is None) == (output is None or output.suffix.lower() not in _BUNDLES):
        raise click.UsageError("VIEW all needs --folder FOLDER, or -o NAME.zip or NAME.zip.age")
    check_output(output, _BUNDLES)
    store = open_store(store_path)
    print_unmatched(store, where)
    if folder is not None:
        for table, n in store.export(folder, where, overwrite=overwrite).items():
            print_message(f"{table}: {formats.counted(n, 'row')}")
        print_message(f"wrote {folder}; to read it back, run: workbench import {folder}")
    elif output is not None:
        passphrase = ask_passphrase(new=True) if encrypt else None
        rows = store.export_bundle(output, where, passphrase=passphrase)
        traces = formats.counted(rows["traces"], "trace")
        print_message(f"wrote {output}: {traces}; to read it back, run: workbench import {output}")


def _export_view(
    store_path: str | None, view: str, where: Slice, format_: str | None, output: Path | None
) -> None:
    from workbench.cli.output import STREAMED, SUFFIXES, check_output

    check_output(output, tuple(dict.fromkeys(SUFFIXES + STREAMED)))
    store = open_store(store_path)
    print_unmatched(store, where)
    if output is not None and output.suffix.lower() in STREAMED:
        _stream(store, view, where, output)
    else:
        _emit(store, view, where, format_, output)


def _stream(store: "Store", view: str, where: Slice, output: Path) -> None:
    """Write a view in batches, so that it need not fit in memory."""
    from workbench.cli.output import write_batches

    n_rows = write_batches(_batches(store, view, where), output)
    print_message(f"wrote {output}: {formats.counted(n_rows, 'row')}")


def _batches(store: "Store", view: str, where: Slice) -> "Iterator[pl.DataFrame]":
    import polars as pl
    import pyarrow as pa

    with store.facts(where, view) as frame:
        reader = frame.to_native().to_arrow_reader(_BATCH_ROWS)
        yield pl.DataFrame(pa.Table.from_batches([], reader.schema))  # its columns
        for batch in reader:
            yield pl.DataFrame(pa.Table.from_batches([batch]))


def _emit(
    store: "Store", view: str, where: Slice, format_: str | None, output: Path | None
) -> None:
    from workbench.cli.output import Document, emit

    with store.facts(where, view) as frame:
        rows = frame.collect("polars").to_native()
    document = Document.of_frame(view, rows, store=str(store.path), where=str(where))
    emit(document, format_, output)
