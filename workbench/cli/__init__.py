"""The command line: parses arguments, calls the packages below, prints. One command a file."""

from workbench.cli.app import main

__all__ = ["main"]
