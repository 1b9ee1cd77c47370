"""`workbench faults`: the usage linter."""

from pathlib import Path

import click

from workbench import formats
from workbench.cli.options import open_store, output_options, store_option, talk, where_option
from workbench.slice import Slice


@click.command()
@click.option("--check", is_flag=True, help="Exit with 1 if there is any.")
@store_option
@where_option
@output_options
@click.pass_context
def faults(
    ctx: click.Context,
    *,
    check: bool,
    store_path: str | None,
    where: Slice,
    format_: str | None,
    output: Path | None,
) -> None:
    """List calls whose token counts contradict themselves.

    Parts that do not add up to the total, thinking above output, cached above input, costs below
    zero: one row per call and rule.
    """
    from workbench.cli.output import Document, emit

    store = open_store(store_path)
    with store.facts(where, "usage_faults") as frame:
        rows = frame.collect("polars").to_native().sort("fault", "call_id")
    emit(
        Document.of_frame("faults", rows, store=str(store.path), where=str(where)), format_, output
    )
    if rows.height:
        talk(
            f"{formats.counted(rows.height, 'fault')}; each row says which numbers contradict each other"
        )
        ctx.exit(1 if check else 0)
    talk("every call adds up")
