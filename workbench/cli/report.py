"""`workbench report`: many analyses in one HTML page, Markdown or LaTeX file."""

import datetime as dt
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from workbench.cli.examples import examples
from workbench.cli.options import (
    by_option,
    open_store,
    print_message,
    print_unmatched,
    store_option,
    where_option,
)
from workbench.errors import AnalysisError
from workbench.slice import Slice

SUFFIXES = (".html", ".md", ".tex")  # of workbench.report, which --help must not import


@click.command(
    epilog=examples(
        "workbench report -o report.html",
        "workbench report frontier cost-of-pass --by model,task",
    ),
)
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option(
    "--family",
    "families",
    multiple=True,
    metavar="FAMILY",
    help="Include all analyses of a family, for example tradeoffs or cost; may be repeated.",
)
@click.option("--all", "all_", is_flag=True, help="Include all analyses.")
@click.option(
    "--option",
    "-O",
    "typed",
    multiple=True,
    metavar="[NAME.]OPTION=VALUE",
    help="An option of one analysis, or of all that have it: frontier.x=energy_j, level=0.9.",
)
@click.option("--title", default="", help="Title of the report.")
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="Rows of a table, at most.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the random numbers.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File to write: .html, .md or .tex; without it, Markdown is printed.",
)
@by_option
@where_option
@store_option
@click.pass_context
def report(
    ctx: click.Context,
    *,
    names: tuple[str, ...],
    families: tuple[str, ...],
    all_: bool,
    typed: tuple[str, ...],
    title: str,
    rows: int,
    seed: int,
    output: Path | None,
    by: tuple[str, ...] | None,
    where: Slice,
    store_path: str | None,
) -> None:
    """Write the answers of many analyses as one page, Markdown or LaTeX tables.

    Without a NAME you get a standard set of analyses. An HTML page is one file with its charts, and
    loads nothing from the network. Analyses that your traces cannot answer are listed with the
    reason. The exit status is 1 if one failed.
    """
    from workbench import report as reports
    from workbench.cli.output import check_output, replacing

    check_output(output, SUFFIXES)
    suffix = output.suffix.lower() if output is not None else ".md"
    try:
        with warnings.catch_warnings(record=True) as renamed:
            wanted = reports.select_analyses(names, families, all_=all_)
        for warning in renamed:
            print_message(str(warning.message))
        store = open_store(store_path)
        print_unmatched(store, where)
        document = reports.make(
            store,
            wanted,
            where=where,
            by=by or ("configuration",),
            options=_options(typed),
            seed=seed,
            title=title,
            now=dt.datetime.now(dt.UTC),
            draw=suffix == ".html",
            most=rows,
            on_progress=_progress_printer(),
        )
    except AnalysisError as error:
        raise click.UsageError(str(error)) from error
    if output is None:
        click.echo(reports.written(document, suffix), nl=False)
    else:
        with replacing(output) as path:
            reports.save(document, path)
        n, without = len(document.answers), len(document.unanswered)
        print_message(f"wrote {output}: {n} answers, {without} analyses without an answer")
    failed = [f.declared.name for f in document.unanswered if f.failed]
    if failed:
        print_message(f"failed: {', '.join(failed)}; the report gives the reasons")
    ctx.exit(1 if failed else 0)


def _options(typed: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Parse options by analysis; those without the name of an analysis are under the key ""."""
    from workbench import analysis

    options: dict[str, dict[str, Any]] = {}
    for text in typed:
        target, equals, value = text.partition("=")
        name, dot, option = target.rpartition(".")
        if not equals or not option or (dot and not name):
            raise click.BadParameter(
                f"{text!r} is not [NAME.]OPTION=VALUE, such as frontier.x=energy_j",
                param_hint="'--option'",
            )
        key = analysis.get(name).name if name else ""
        options.setdefault(key, {})[option.replace("-", "_")] = value
    return options


def _progress_printer() -> Callable[[int, int, str], None]:
    """Make a function that prints progress to stderr, on one line if that is a terminal."""
    is_terminal = sys.stderr.isatty()

    def show(done: int, n: int, name: str) -> None:
        if is_terminal:
            click.echo(f"\r\x1b[K{f'{done + 1}/{n}  {name}' if name else ''}", nl=False, err=True)
        elif name:
            print_message(f"{done + 1}/{n}  {name}")

    return show
