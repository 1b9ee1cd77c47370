"""`workbench report`: the answers of many analyses as one page, Markdown or LaTeX."""

import datetime as dt
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from workbench.cli.options import (
    by_option,
    open_store,
    store_option,
    talk,
    talk_of_unmatched,
    where_option,
)
from workbench.errors import AnalysisError
from workbench.slice import Slice

SUFFIXES = (".html", ".md", ".tex")  # those of workbench.report, which is not imported for --help


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option(
    "--family",
    "families",
    multiple=True,
    metavar="FAMILY",
    help="All analyses of a family, for example tradeoffs or cost; may be repeated.",
)
@click.option("--all", "all_", is_flag=True, help="All analyses.")
@click.option(
    "--option",
    "-O",
    "typed",
    multiple=True,
    metavar="[NAME.]OPTION=VALUE",
    help="An option of one analysis, or of all that have it, for example frontier.x=energy_j, level=0.9.",
)
@click.option("--title", default="", help="The headline.")
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="Rows of a table at most.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of what is random.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write .html, .md or .tex; Markdown is printed where there is none.",
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

    Without a NAME it is the usual questions. A page is one file with charts that asks the network
    for nothing. Analyses that find nothing to answer from are listed with the reason; the exit
    status is 1 if one failed.
    """
    from workbench import report as reports
    from workbench.cli.output import check_output, replacing

    check_output(output, SUFFIXES)
    suffix = output.suffix.lower() if output is not None else ".md"
    try:
        with warnings.catch_warnings(record=True) as renamed:
            wanted = reports.chosen(names, families, all_=all_)
        for warning in renamed:
            talk(str(warning.message))
        store = open_store(store_path)
        talk_of_unmatched(store, where)
        found = reports.make(
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
            told=_teller(),
        )
    except AnalysisError as error:
        raise click.UsageError(str(error)) from error
    if output is None:
        click.echo(reports.written(found, suffix), nl=False)
    else:
        with replacing(output) as path:
            reports.save(found, path)
        talk(f"wrote {output}: {len(found.answers)} answers, {len(found.unanswered)} without one")
    failed = [f.declared.name for f in found.unanswered if f.failed]
    if failed:
        talk(f"failed: {', '.join(failed)}; the report says why")
    ctx.exit(1 if failed else 0)


def _options(typed: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Read options as typed; those without the name of an analysis stand under ""."""
    from workbench import analysis

    found: dict[str, dict[str, Any]] = {}
    for text in typed:
        option, equals, value = text.partition("=")
        name, dot, of = option.rpartition(".")
        if not equals or not of or (dot and not name):
            raise click.BadParameter(
                f"{text!r} is not [NAME.]OPTION=VALUE", param_hint="'--option'"
            )
        key = analysis.get(name).name if name else ""
        found.setdefault(key, {})[of.replace("-", "_")] = value
    return found


def _teller() -> Callable[[int, int, str], None]:
    """Say on stderr how far it is: one line that is written over on a terminal, else a line an analysis."""
    person = sys.stderr.isatty()

    def tell(done: int, n: int, name: str) -> None:
        if person:
            click.echo(f"\r\x1b[K{f'{done + 1}/{n}  {name}' if name else ''}", nl=False, err=True)
        elif name:
            talk(f"{done + 1}/{n}  {name}")

    return tell
