"""`workbench tui`."""

import click

from workbench.cli.options import can_draw, settings, store_option


@click.command()
@click.argument("store", required=False)
@store_option
def tui(store: str | None, store_path: str | None) -> None:
    """Open the terminal app on a store.

    On an empty or missing store it says what to do next.
    """
    require_terminal()
    from workbench.tui import run

    run(settings(store=store or store_path).store)


def require_terminal() -> None:
    """Refuse to draw where nobody can see it."""
    if not can_draw():
        raise click.UsageError(
            "the terminal app needs a terminal; without one try: workbench analyze summary"
        )
