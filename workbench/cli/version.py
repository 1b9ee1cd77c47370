"""`workbench version`: the installed version."""

import click

from workbench.cli.examples import examples
from workbench.version import __version__


@click.command(
    epilog=examples(
        "workbench version",
        "workbench --version",
    ),
)
def version() -> None:
    """Print the installed version."""
    click.echo(f"workbench {__version__}")
