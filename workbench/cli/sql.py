"""`workbench sql`: a read-only SQL query on the store."""

import sys
from pathlib import Path

import click

from workbench.cli.examples import examples
from workbench.cli.options import open_store, output_options, store_option


@click.command(
    epilog=examples(
        "workbench sql 'SELECT model, count(*) AS n FROM trace_facts GROUP BY model'",
        "workbench sql 'FROM runs' --format json",
    ),
)
@click.argument("query")
@store_option
@click.option(
    "--allow-files",
    is_flag=True,
    help="Let the query read and write your files, attach databases and load extensions.",
)
@click.option(
    "--time-limit-s",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds after which the query is interrupted.",
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
    """Run a read-only SQL query on the store.

    QUERY is SQL in DuckDB's dialect, or - to read it from stdin. It can read the store and nothing
    else: no file and no other database, unless you give --allow-files. To list the tables and
    views, run workbench schema; for ten example queries, run workbench schema --examples.
    """
    from workbench.cli.output import Document, check_output, emit

    check_output(output)
    text = sys.stdin.read() if query == "-" else query
    store = open_store(store_path, allow_files=allow_files)
    frame = store.sql(text, time_limit_s=time_limit_s)
    emit(Document.of_frame("sql", frame, store=str(store.path), sql=text), format_, output)
