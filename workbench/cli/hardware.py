"""`workbench hardware`: reference rows of models, accelerators and grids."""

from pathlib import Path

import click

from workbench.cli.examples import examples
from workbench.cli.options import open_store, output_options, print_message, store_option

_KINDS = ("models", "accelerators", "grids", "latencies")


@click.group(
    invoke_without_command=True,
    epilog=examples(
        "workbench hardware --kind accelerators",
        "workbench hardware --kind grids --format csv",
    ),
)
@click.option(
    "--kind",
    type=click.Choice(_KINDS),
    default="models",
    show_default=True,
    help="The kind of rows to list.",
)
@store_option
@output_options
@click.pass_context
def hardware(
    ctx: click.Context, kind: str, store_path: str | None, format_: str | None, output: Path | None
) -> None:
    """List models' shapes, accelerators and grids, or add rows of your own.

    Analyses look these up: parameters and heads of a model, FLOP/s and watts of an accelerator,
    grams of carbon of a grid. A row that you add replaces the bundled row of the same name, field
    by field.
    """
    if ctx.invoked_subcommand is not None:
        return
    from workbench.cli.output import Document, check_output, emit
    from workbench.cli.tables import frame_of
    from workbench.hardware import bundled
    from workbench.store import reference

    check_output(output)
    store = open_store(store_path)
    records = getattr(bundled() + reference.rows(store.sql), kind)
    fields = list(records[0].__struct_fields__)
    table = [{field: getattr(row, field) for field in fields} for row in records]
    emit(Document.of_frame(kind, frame_of(table, fields), store=str(store.path)), format_, output)


@hardware.command(
    epilog=examples(
        "workbench hardware add machines.toml",
        "workbench hardware add machines.toml --store traces.duckdb",
    ),
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@store_option
def add(file: Path, store_path: str | None) -> None:
    """Add the rows of a file to the store, and replace those of the same name.

    FILE is TOML with [[model]], [[accelerator]] or [[grid]] tables. Their fields are the columns of
    the tables models, accelerators and grids (see workbench schema models).
    """
    from workbench.hardware import read
    from workbench.store import reference

    rows = read(file)
    added = reference.add(open_store(store_path, create=True).lease(), rows)
    print_message(", ".join(f"{n:,} {name}" for name, n in added.items()) + " written")
    if rows.latencies:
        print_message(
            "latency laws were not written: the store has no table for them; give the file to the"
            " analysis as its option reference"
        )
    if any(row.head_dim or row.d_ff or row.vocab_size for row in rows.models):
        print_message(
            "head_dim, d_ff and vocab_size were not written: the table models has no such columns;"
            " if an analysis needs them, give it the file as its option reference"
        )
