"""Options that commands share, and helpers to open a store and print to stderr."""

import datetime as dt
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from workbench import config
from workbench.errors import SliceError

if TYPE_CHECKING:
    from workbench.slice import Slice
    from workbench.store import Store

PASSPHRASE_VARIABLE = "WORKBENCH_PASSPHRASE"  # noqa: S105  # a name, no passphrase
F = TypeVar("F", bound=Callable[..., Any])


def _parse_where(ctx: click.Context, parameter: click.Parameter, text: str) -> "Slice":
    """Parse a filter; ages such as `since:7d` count back from now."""
    from workbench.slice import Slice

    try:
        return Slice.parse(text, now=dt.datetime.now(dt.UTC))
    except SliceError as error:
        raise click.BadParameter(str(error), ctx, parameter) from None


def _parse_by(
    ctx: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[str, ...] | None:
    """Split a list of columns and resolve filter names; the analysis checks the columns."""
    if text is None:
        return None
    from workbench.slice.names import split

    names = split(text)
    if not all(names):
        raise click.BadParameter("a column name is empty; write it as model,task", ctx, parameter)
    from workbench.slice import lookup

    fields = [(name, lookup(name)) for name in names]
    return tuple(n if f is None or f.kind == "flag" else f.column for n, f in fields)


def amount(unit: str, *, whole: bool = False, lifts: bool = False) -> Callable[[str], float]:
    """Make the type of an option that takes numbers with units: 1M, 2k, $3, 30min, 4Wh.

    Args:
        unit: the unit of the result: tokens, count, s, J, USD.
        whole: accept whole numbers only.
        lifts: accept "none", which removes a limit; it is returned as -1.
    """

    def number(text: str) -> float:
        from workbench.slice import fields

        none = ', or "none"' if lifts else ""
        if lifts and text == "none":
            return -1.0
        try:
            value = fields.amount(text, "the option", unit)
        except ValueError as error:
            suffixes = ", ".join(fields.suffixes(unit))
            raise click.BadParameter(
                f"{error}; write a number, with or without a suffix ({suffixes}){none}"
            ) from None
        if value < 0 or (whole and not value.is_integer()):
            kind = "whole number" if whole else "number"
            raise click.BadParameter(f"{text!r} is not a {kind} of 0 or more{none}")
        return int(value) if whole else value

    return number


def store_option(command: F) -> F:
    """Add `--store`."""
    text = "Path of the store; by default $WORKBENCH_STORE, else one in your data folder."
    return click.option("--store", "store_path", metavar="PATH", help=text)(command)


def where_option(command: F) -> F:
    """Add `--where`."""
    text = "Use only traces that match, for example 'model:gpt* wrong thinking>2k'."
    return click.option("--where", default="", metavar="FILTER", callback=_parse_where, help=text)(
        command
    )


def by_option(command: F) -> F:
    """Add `--by`."""
    text = "Columns to group by, for example model,task.  [default: configuration]"
    return click.option("--by", metavar="COLUMNS", callback=_parse_by, help=text)(command)


def output_options(command: F) -> F:
    """Add `--format` and `--output`."""
    formats = click.Choice(config.SETTINGS["format"].choices)
    command = click.option(
        "--output",
        "-o",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write a file in place of printing: .parquet, .csv, .json or .md",
    )(command)
    command = click.option(
        "--excel-safe",
        is_flag=True,
        expose_value=False,
        callback=_note_excel_safe,
        help="In CSV, put ' before texts that a spreadsheet would run as formulas.",
    )(command)
    return click.option("--format", "format_", type=formats, help="Format to print in.")(command)


_EXCEL_SAFE = "workbench.excel_safe"


def _note_excel_safe(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    ctx.meta[_EXCEL_SAFE] = value


def is_excel_safe() -> bool:
    """Whether `--excel-safe` was given."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_EXCEL_SAFE))


def settings(**flags: Any) -> config.Config:
    """Merge settings and flags; `--store` may also stand before the command."""
    context = click.get_current_context(silent=True)
    typed = (context.find_object(dict) if context else None) or {}
    if flags.get("store") is None:
        flags["store"] = typed.get("store")
    return config.load(flags)


def open_store(
    path: str | None, *, create: bool = False, take_in: bool = True, allow_files: bool = False
) -> "Store":
    """Open the store at `path`, or the one of the settings; with `take_in`, ingest its spool."""
    from workbench import store

    return store.open_store(
        settings(store=path).store, create=create, take_in=take_in, allow_files=allow_files
    )


def ask_passphrase(*, new: bool = False) -> str:
    """Return the passphrase of the environment, or ask for it; one that is new is asked twice."""
    if known := os.environ.get(PASSPHRASE_VARIABLE):
        return known
    text: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True)
    return text


def print_message(text: str) -> None:
    """Print a message to stderr, with control characters escaped."""
    from workbench.safe import safe

    click.echo(safe(text, lines=True), err=True)


def print_unmatched(store: "Store", where: "Slice") -> None:
    """Print the names in a filter that match nothing in the store, with the nearest ones."""
    for sentence in store.unmatched(where):
        print_message(f"note: {sentence}")


def is_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def can_draw() -> bool:
    """Whether the terminal app can run: it reads stdin and draws on stdout and stderr."""
    return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()
