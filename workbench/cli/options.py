"""Options that commands share, and what they stand for: settings, a store, a slice."""

import datetime as dt
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

F = TypeVar("F", bound=Callable[..., Any])


def _parse_where(ctx: click.Context, parameter: click.Parameter, text: str) -> "Slice":
    """Parse a filter, ages such as `since:7d` counted back from now; a fault is misuse."""
    from workbench.slice import Slice

    try:
        return Slice.parse(text, now=dt.datetime.now(dt.UTC))
    except SliceError as error:
        raise click.BadParameter(str(error), ctx, parameter) from None


def _parse_by(
    ctx: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[str, ...] | None:
    """Split columns and resolve the short names of filters; the analysis checks the rest."""
    if text is None:
        return None
    from workbench.slice.names import split

    names = split(text)
    if not all(names):
        raise click.BadParameter("a column name is missing", ctx, parameter)
    from workbench.slice import lookup

    fields = [(name, lookup(name)) for name in names]
    return tuple(n if f is None or f.kind == "flag" else f.column for n, f in fields)


def amount(unit: str, *, whole: bool = False, lifts: bool = False) -> Callable[[str], float]:
    """Make the type of an option that takes a number as filters have it: 1M, 2k, $3, 30min, 4Wh.

    Args:
        unit: the unit of the result: tokens, count, s, J, USD.
        whole: whether it is a whole number.
        lifts: whether "none" is a value; it is read as -1.
    """

    def number(text: str) -> float:
        from workbench.slice import fields

        none = ', or "none"' if lifts else ""
        if lifts and text == "none":
            return -1.0
        try:
            found = fields.amount(text, "the option", unit)
        except ValueError as error:
            suffixes = ", ".join(fields.suffixes(unit))
            raise click.BadParameter(
                f"{error}; write a number, with {suffixes} if you like{none}"
            ) from None
        if found < 0 or (whole and not found.is_integer()):
            kind = "whole number" if whole else "number"
            raise click.BadParameter(f"{text!r} is no {kind} from 0 on{none}")
        return int(found) if whole else found

    return number


def store_option(command: F) -> F:
    """Add `--store`."""
    text = "The store; by default $WORKBENCH_STORE, else in your data folder."
    return click.option("--store", "store_path", metavar="PATH", help=text)(command)


def where_option(command: F) -> F:
    """Add `--where`."""
    text = "Which traces, for example 'model:gpt* wrong thinking>2k'."
    return click.option("--where", default="", metavar="FILTER", callback=_parse_where, help=text)(
        command
    )


def by_option(command: F) -> F:
    """Add `--by`."""
    text = "What to group by, for example model,task.  [default: configuration]"
    return click.option("--by", metavar="COLUMNS", callback=_parse_by, help=text)(command)


def output_options(command: F) -> F:
    """Add `--format` and `--output`."""
    formats = click.Choice(config.SETTINGS["format"].choices)
    command = click.option(
        "--output",
        "-o",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write a file instead: .parquet .csv .json .md",
    )(command)
    command = click.option(
        "--excel-safe",
        is_flag=True,
        expose_value=False,
        callback=_note_excel_safe,
        help="In CSV, put ' before texts that a spreadsheet would run as formulas.",
    )(command)
    return click.option("--format", "format_", type=formats, help="How to print.")(command)


_EXCEL_SAFE = "workbench.excel_safe"


def _note_excel_safe(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    ctx.meta[_EXCEL_SAFE] = value


def is_excel_safe() -> bool:
    """Whether CSV is to hold no formulas, as `--excel-safe` says."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_EXCEL_SAFE))


def settings(**flags: Any) -> config.Config:
    """Merge the settings with what was typed; `--store` before the command counts too."""
    context = click.get_current_context(silent=True)
    typed = (context.find_object(dict) if context else None) or {}
    if flags.get("store") is None:
        flags["store"] = typed.get("store")
    return config.load(flags)


def open_store(
    path: str | None, *, create: bool = False, take_in: bool = True, allow_files: bool = False
) -> "Store":
    """Open the store that was typed, or set; with `take_in`, ingest what waits in its spool."""
    from workbench import store

    return store.open_store(
        settings(store=path).store, create=create, take_in=take_in, allow_files=allow_files
    )


def talk(text: str) -> None:
    """Say something on stderr, made fit for a terminal."""
    from workbench.safe import safe

    click.echo(safe(text, lines=True), err=True)


def talk_of_unmatched(store: "Store", where: "Slice") -> None:
    """Say on stderr what the slice asks for by name that nothing in the store has, and what is nearest."""
    for sentence in store.unmatched(where):
        talk(f"note: {sentence}")


def is_terminal() -> bool:
    """Whether a person is looking at stdout."""
    return sys.stdout.isatty()


def can_draw() -> bool:
    """Whether the terminal app can be seen and typed to; it reads stdin and draws on stderr."""
    return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()
