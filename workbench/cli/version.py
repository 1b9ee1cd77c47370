"""`workbench version`."""

import click

from workbench import __version__


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(f"workbench {__version__}")
