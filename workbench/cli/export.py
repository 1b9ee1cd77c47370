"""`workbench export`."""

from pathlib import Path

import click

from workbench import formats, schema
from workbench.cli.options import (
    open_store,
    output_options,
    store_option,
    talk,
    talk_of_unmatched,
    where_option,
)
from workbench.slice import Slice

ALL = "all"


@click.command()
@click.argument("view", type=click.Choice([ALL, *schema.RELATIONS]), metavar="VIEW")
@store_option
@where_option
@output_options
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="With VIEW all: write one Parquet file per table there.",
)
def export(
    *,
    view: str,
    store_path: str | None,
    where: Slice,
    format_: str | None,
    output: Path | None,
    folder: Path | None,
) -> None:
    """Write a view, or the whole store, to files.

    VIEW is a table or view (workbench schema lists them), or all: everything in a slice, as a
    folder that `workbench import` reads back.
    """
    from workbench.cli.output import Document, check_output, emit

    if (view == ALL) != (folder is not None):
        raise click.UsageError("VIEW all and --folder go together")
    check_output(output)
    store = open_store(store_path)
    talk_of_unmatched(store, where)
    if folder is not None:
        for table, n in store.export(folder, where).items():
            talk(f"{table}: {formats.counted(n, 'row')}")
        talk(f"wrote {folder}; read it back with: workbench import {folder}")
        return
    with store.facts(where, view) as frame:
        rows = frame.collect("polars").to_native()
    document = Document.of_frame(view, rows, store=str(store.path), where=str(where))
    emit(document, format_, output)
