"""`workbench faults`: calls with contradictory token counts (the usage linter)."""

from pathlib import Path

import click

from workbench import formats
from workbench.cli.examples import examples
from workbench.cli.options import (
    open_store,
    output_options,
    print_message,
    store_option,
    where_option,
)
from workbench.slice import Slice


@click.command(
    epilog=examples(
        "workbench faults",
        "workbench faults --where task:arithmetic --check",
    ),
)
@click.option("--check", is_flag=True, help="Exit with status 1 if there is a fault.")
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

    The rules: parts add up to their total, thinking tokens are at most the output tokens, cached
    tokens are at most the input tokens, costs are not negative. You get one row per call and
    broken rule.
    """
    from workbench.cli.output import Document, emit

    store = open_store(store_path)
    with store.facts(where, "usage_faults") as frame:
        rows = frame.collect("polars").to_native().sort("fault", "call_id")
    emit(
        Document.of_frame("faults", rows, store=str(store.path), where=str(where)), format_, output
    )
    if rows.height:
        faults_text = formats.counted(rows.height, "fault")
        print_message(f"{faults_text}; each row names the numbers that contradict each other")
        ctx.exit(1 if check else 0)
    print_message("no faults: the token counts of every call agree")
