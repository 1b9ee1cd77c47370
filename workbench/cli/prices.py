"""`workbench prices`: the price sheet of the store."""

from pathlib import Path

import click

from workbench import formats
from workbench.cli.examples import examples
from workbench.cli.options import open_store, output_options, print_message, store_option


@click.group(
    invoke_without_command=True,
    epilog=examples(
        "workbench prices --model gpt-4o",
        "workbench prices -o prices.csv",
    ),
)
@click.option("--model", default="", help="List only models and machines whose name contains this.")
@store_option
@output_options
@click.pass_context
def prices(
    ctx: click.Context, model: str, store_path: str | None, format_: str | None, output: Path | None
) -> None:
    """List prices, or add a sheet of your own.

    A call's cost is its tokens (or its share of machine time) at the price in force when it ran.
    Your own rows replace the bundled ones from their starts_at date on.
    """
    if ctx.invoked_subcommand is not None:
        return
    import polars as pl

    from workbench.cli.output import Document, check_output, emit

    check_output(output)
    store = open_store(store_path)
    with store.facts("", "prices") as frame:
        rows = frame.collect("polars").to_native()
    named = pl.col("model").str.to_lowercase().str.contains(model.lower(), literal=True)
    rows = rows.filter(named).sort("model", "provider", "starts_at", "min_input_tokens")
    document = Document.of_frame("prices", rows.drop("price_id"), store=str(store.path))
    emit(document, format_, output)


@prices.command(
    epilog=examples(
        "workbench prices add sheet.toml",
        "workbench prices add sheet.csv --store traces.duckdb",
    ),
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@store_option
def add(file: Path, store_path: str | None) -> None:
    """Add the rows of a price sheet and price every call again.

    FILE is TOML or CSV with the columns of the prices table (workbench schema prices), for example
    model, input_usd_per_mtok, output_usd_per_mtok and starts_at. For a machine that you rent or
    own: model (the machine's name) and machine_usd_per_hour.
    """
    from workbench.prices import read_sheet

    rows = list(read_sheet(file))
    new, moved = open_store(store_path, create=True).add_prices(rows)
    print_message(
        f"{formats.counted(len(rows), 'row')} read, {new:,} new;"
        f" the cost of {formats.counted(moved, 'trace')} changed"
    )
