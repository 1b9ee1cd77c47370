"""`workbench version`: the installed version."""

import click

from workbench import __version__
from workbench.cli.examples import examples


@click.command(
    epilog=examples(
        "workbench version",
        "workbench --version",
    ),
)
def version() -> None:
    """Print the installed version."""
    click.echo(f"workbench {__version__}")
