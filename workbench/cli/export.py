"""`workbench export`: a view as a file, or the whole store as a folder."""

from pathlib import Path

import click

from workbench import formats, schema
from workbench.cli.examples import examples
from workbench.cli.options import (
    open_store,
    output_options,
    print_message,
    print_unmatched,
    store_option,
    where_option,
)
from workbench.slice import Slice

ALL = "all"


@click.command(
    epilog=examples(
        "workbench export trace_facts -o traces.parquet",
        "workbench export all --folder exported --where task:arithmetic",
    ),
)
@click.argument("view", type=click.Choice([ALL, *schema.RELATIONS]), metavar="VIEW")
@store_option
@where_option
@output_options
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="With VIEW all: the folder to write, one Parquet file per table.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="With --folder: replace an export of another store or slice that is there.",
)
def export(
    *,
    view: str,
    store_path: str | None,
    where: Slice,
    format_: str | None,
    output: Path | None,
    folder: Path | None,
    overwrite: bool,
) -> None:
    """Write a view, or the whole store, to files.

    VIEW is a table or view (run workbench schema to list them), or all. With all you get a folder
    of every table in the slice, which workbench import reads back.
    """
    from workbench.cli.output import Document, check_output, emit

    if (view == ALL) != (folder is not None):
        raise click.UsageError("VIEW all needs --folder, and --folder needs VIEW all")
    check_output(output)
    store = open_store(store_path)
    print_unmatched(store, where)
    if folder is not None:
        for table, n in store.export(folder, where, overwrite=overwrite).items():
            print_message(f"{table}: {formats.counted(n, 'row')}")
        print_message(f"wrote {folder}; to read it back, run: workbench import {folder}")
        return
    with store.facts(where, view) as frame:
        rows = frame.collect("polars").to_native()
    document = Document.of_frame(view, rows, store=str(store.path), where=str(where))
    emit(document, format_, output)
