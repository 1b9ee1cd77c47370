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
    type=click.Choice(["inspect"]),
    help="With --folder: write the traces in the format of another tool. inspect: logs that inspect"
    " view and inspect_ai.log.read_eval_log read.",
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
    from workbench.cli.output import STREAMED, SUFFIXES, check_output

    suffix = "" if output is None else output.suffix.lower()
    if view == ALL and (folder is None) == (suffix not in _BUNDLES):
        raise click.UsageError("VIEW all needs --folder FOLDER, or -o NAME.zip or NAME.zip.age")
    if view != ALL and (folder is not None or overwrite or encrypt):
        raise click.UsageError("--folder, --overwrite and --encrypt need VIEW all")
    if tool is not None and (view != ALL or folder is None or overwrite):
        raise click.UsageError("--as needs --folder FOLDER, a new one, and no VIEW")
    if encrypt != (suffix == ".age"):
        raise click.UsageError("--encrypt and -o NAME.zip.age need each other")
    check_output(output, _BUNDLES if view == ALL else tuple(dict.fromkeys(SUFFIXES + STREAMED)))
    store = open_store(store_path)
    print_unmatched(store, where)
    if tool is not None and folder is not None:
        _export_as(store, where, folder)
    elif folder is not None:
        for table, n in store.export(folder, where, overwrite=overwrite).items():
            print_message(f"{table}: {formats.counted(n, 'row')}")
        print_message(f"wrote {folder}; to read it back, run: workbench import {folder}")
    elif view == ALL and output is not None:
        passphrase = ask_passphrase(new=True) if encrypt else None
        rows = store.export_bundle(output, where, passphrase=passphrase)
        traces = formats.counted(rows["traces"], "trace")
        print_message(f"wrote {output}: {traces}; to read it back, run: workbench import {output}")
    elif output is not None and suffix in STREAMED:
        _stream(store, view, where, output)
    else:
        _emit(store, view, where, format_, output)


def _export_as(store: "Store", where: Slice, folder: Path) -> None:
    from workbench.exporters import inspect_log

    files = inspect_log.write_logs(store, folder, where)
    samples = formats.counted(sum(file.n_samples for file in files), "sample")
    print_message(f"wrote {samples} in {formats.counted(len(files), 'log')} to {folder}")


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
