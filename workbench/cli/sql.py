"""`workbench sql`."""

import sys
from pathlib import Path

import click

from workbench.cli.options import open_store, output_options, store_option


@click.command()
@click.argument("query")
@store_option
@output_options
def sql(query: str, store_path: str | None, format_: str | None, output: Path | None) -> None:
    """Run a query on the store; nothing can be changed.

    QUERY is SQL as DuckDB reads it, or - for stdin. The tables and views that keep their names,
    and ten examples: workbench schema --examples
    """
    from workbench.cli.output import Document, check_output, emit

    check_output(output)
    text = sys.stdin.read() if query == "-" else query
    store = open_store(store_path)
    frame = store.sql(text)
    emit(Document.of_frame("sql", frame, store=str(store.path), sql=text), format_, output)
