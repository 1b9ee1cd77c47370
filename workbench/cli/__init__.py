"""The command line: parses, wires, prints. One command a file; SQL and arithmetic live below."""

from workbench.cli.app import main

__all__ = ["main"]
