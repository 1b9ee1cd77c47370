"""`workbench sql`."""

import sys
from pathlib import Path

import click

from workbench.cli.options import open_store, output_options, store_option


@click.command()
@click.argument("query")
@store_option
@click.option(
    "--allow-files",
    is_flag=True,
    help="Let the query read and write files, attach databases and load extensions, as you may.",
)
@click.option(
    "--time-limit-s",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    show_default=True,
    help="How long the query may run.",
)
@output_options
def sql(
    query: str,
    *,
    store_path: str | None,
    allow_files: bool,
    time_limit_s: float,
    format_: str | None,
    output: Path | None,
) -> None:
    """Run a query on the store; nothing can be changed.

    It reads the store and nothing else: no file, no other database, unless --allow-files is given.

    QUERY is SQL as DuckDB reads it, or - for stdin. The tables and views that keep their names,
    and ten examples: workbench schema --examples
    """
    from workbench.cli.output import Document, check_output, emit

    check_output(output)
    text = sys.stdin.read() if query == "-" else query
    store = open_store(store_path, allow_files=allow_files)
    frame = store.sql(text, time_limit_s=time_limit_s)
    emit(Document.of_frame("sql", frame, store=str(store.path), sql=text), format_, output)
