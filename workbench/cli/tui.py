"""`workbench tui`: the terminal app on a store."""

import click

from workbench.cli.examples import examples
from workbench.cli.options import can_draw, settings, store_option


@click.command(
    epilog=examples(
        "workbench tui",
        "workbench tui traces.duckdb",
    ),
)
@click.argument("store", required=False)
@store_option
def tui(store: str | None, store_path: str | None) -> None:
    """Open the terminal app on a store.

    If the store is empty or missing, the app shows how you fill it.
    """
    require_terminal()
    from workbench.tui import run

    run(settings(store=store or store_path).store)


def require_terminal() -> None:
    """Raise a usage error if stdin, stdout or stderr is no terminal."""
    if not can_draw():
        raise click.UsageError(
            "the terminal app needs a terminal on stdin, stdout and stderr; to print a table"
            " instead, run: workbench analyze summary"
        )
