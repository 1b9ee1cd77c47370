"""`workbench analyze`: one command per analysis, with options made from its declaration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench import analysis
from workbench.cli.examples import examples, of_analysis
from workbench.cli.options import (
    by_option,
    open_store,
    output_options,
    print_message,
    print_unmatched,
    store_option,
    where_option,
)
from workbench.errors import AnalysisError, ConfigError
from workbench.external_code import is_external
from workbench.plugins import SHIPPED
from workbench.safe import safe
from workbench.slice import Slice

if TYPE_CHECKING:
    from workbench.analysis import Analysis, Option, Result
    from workbench.cli.output import Document
    from workbench.store import Store

CHART_SUFFIXES = (".svg", ".png", ".html")
_MAX_METRICS = 8  # named in a message


class Analyses(click.Group):
    """Group with one command per analysis of the catalogue."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the analyses without importing them."""
        return list(analysis.names())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Make the command of one analysis from its declaration."""
        try:
            if is_external(cmd_name):
                return _command(analysis.load(cmd_name, is_typed=True))
            return _command(analysis.get(cmd_name))
        except (AnalysisError, ConfigError) as error:
            ctx.fail(str(error))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the analyses by family."""
        for title, analyses in analysis.by_family().items():
            with formatter.section(title):
                formatter.write_dl([(a.name, _with_origin(a)) for a in analyses])
        problems = analysis.problems()
        if problems:
            with formatter.section("Plug-ins that cannot be used"):
                formatter.write_dl([(safe(n), safe(text)) for n, text in problems.items()])


def _with_origin(declared: "Analysis") -> str:
    """Return the question of an analysis, with the distribution of a plug-in."""
    where = analysis.origin(declared.name)
    return declared.question if where == SHIPPED else safe(f"{declared.question} ({where})")


def _list(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of

    rows = [
        {
            "family": family,
            "name": a.name,
            "question": a.question,
            "source": a.source,
            "origin": analysis.origin(a.name),
        }
        for family, analyses in analysis.by_family().items()
        for a in analyses
    ]
    columns = ["family", "name", "question", "source", "origin"]
    notes = tuple(analysis.problems().values())
    emit(Document("analyses", frame_of(rows, columns), notes=notes))
    ctx.exit()


@click.group(
    cls=Analyses,
    no_args_is_help=True,
    subcommand_metavar="NAME [OPTIONS]",
    epilog=examples(
        "workbench analyze --list",
        "workbench analyze frontier --by model,task --where task:arithmetic",
    ),
)
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list,
    help="List the analyses with the questions that they answer.",
)
def analyze() -> None:
    """Answer a question about the traces.

    NAME is an analysis of the list, which includes those of installed plug-ins. You name an
    analysis of your own by its file or module, file.py:NAME or module:NAME; this command imports
    it.

    Every analysis takes --where, --by and options of its own: run workbench analyze NAME --help.
    """


def _command(declared: "Analysis") -> click.Command:
    """Make the command of an analysis, with a flag for each of its options."""

    def callback(
        *,
        store_path: str | None,
        where: Slice,
        by: tuple[str, ...] | None,
        aggregates: bool,
        seed: int,
        as_: str | None,
        format_: str | None,
        output: Path | None,
        **options: Any,
    ) -> None:
        from workbench.cli.output import SUFFIXES, check_output, emit

        check_output(output, (*SUFFIXES, *CHART_SUFFIXES))
        given = _checked(declared, options)
        store = open_store(store_path)
        if as_ is not None:
            click.echo(_snippet(as_, store, declared.name, where=where, by=by, options=given))
            return
        print_unmatched(store, where)
        result = ask(
            store,
            declared.name,
            where=where,
            by=by,
            aggregates=aggregates,
            seed=seed,
            options=given,
        )
        if result.frame.is_empty():
            print_message(
                "no trace has what this analysis needs; to see what the store contains, run:"
                f" workbench runs --store {store.path}"
            )
        if output is not None and output.suffix.lower() in CHART_SUFFIXES:
            _draw(result, output)
        else:
            emit(_document(store, result, where, seed), format_, output)

    text = declared.question
    if declared.source:
        text += f"\n\nSource: {declared.source}"
    command = click.Command(
        declared.name,
        callback=callback,
        help=text,
        short_help=declared.title,
        epilog=of_analysis(declared),
        params=[_option(option) for option in declared.options],
    )
    snippets = click.Choice(["sql", "polars", "cell"])
    shared = (
        click.option(
            "--as",
            "as_",
            type=snippets,
            help="Print code that computes this in place of the answer.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Seed of the random numbers.",
        ),
        click.option(
            "--aggregates",
            is_flag=True,
            hidden=not declared.aggregates,
            help="Use published figures (the results table) in place of traces.",
        ),
        output_options,
        by_option,
        where_option,
        store_option,
    )
    for option in shared:
        command = option(command)
    return command


def _option(option: "Option") -> click.Option:
    flag = option.name.replace("_", "-")
    if option.type == "flag":
        names, kind = [f"--{flag}/--no-{flag}", option.name], None
    else:
        names, kind = [f"--{flag}", option.name], click.STRING
    bounds = [f"{w} {b:g}" for w, b in (("from", option.low), ("to", option.high)) if b is not None]
    choices = f"one of {', '.join(option.choices)}" if option.choices else ""
    extra = "; ".join(t for t in (choices, " ".join(bounds)) if t)
    default = "" if option.default is None else f"  [default: {option.default}]"
    text = option.help + (f" ({extra})" if extra else "") + default
    return click.Option(
        names,
        type=kind,
        default=None,
        help=text,
        metavar=None if kind is None else option.type.upper(),
    )


def _checked(declared: "Analysis", options: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the options that were typed; the others keep their defaults.

    Raises:
        click.UsageError: a value is not valid for its option.
    """
    typed = {k: v for k, v in options.items() if v is not None}
    try:
        declared.parse(typed)
        return {o.name: o.parse(typed[o.name]) for o in declared.options if o.name in typed}
    except AnalysisError as error:
        raise click.UsageError(str(error)) from error


def ask(
    store: "Store",
    name: str,
    *,
    where: Slice = Slice(),  # noqa: B008 (frozen)
    by: Sequence[str] | None = None,
    aggregates: bool = False,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> "Result":
    """Run an analysis on a slice of a store, or on its published figures."""
    import numpy as np

    given: dict[str, Any] = dict(options or {})
    if by:
        given["by"] = tuple(by)
    rng = np.random.default_rng(seed)
    if aggregates:
        if where:
            raise click.UsageError("--where filters traces; leave it out with --aggregates")
        if not analysis.get(name).aggregates:
            raise click.UsageError(
                f"{name} needs traces; analyses of published figures are {_on_aggregates()}"
            )
        if not store.overview().n_results:
            raise AnalysisError(
                f"{store.path} has no published figures; leave --aggregates out to use its traces"
            )
        return analysis.run(name, store.results(), rng=rng, **given)
    if not store.count() and (hint := _figures_hint(store)):
        raise AnalysisError(hint)
    return analysis.run(name, store, where=where, rng=rng, **given)


def _figures_hint(store: "Store") -> str:
    """Name the commands for a store without traces but with published figures; else ""."""
    metrics = store.sql(
        "SELECT metric, count(*) AS n, max(unit) AS unit FROM results"
        " GROUP BY metric ORDER BY n DESC, metric"
    )
    if metrics.is_empty():
        return ""
    named = list(metrics["metric"])
    listed = ", ".join(named[:_MAX_METRICS]) + (", …" if len(named) > _MAX_METRICS else "")
    units = dict(metrics.select("metric", "unit").iter_rows())
    x = next((m for m in named if units[m] == "USD" or "cost" in m), named[0])
    gains = [m for m in named if m != x]
    y = next((m for m in gains if units[m] == "0..1"), gains[0] if gains else "METRIC")
    return (
        f"{store.path} has no traces, only {int(metrics['n'].sum())} published figures ({listed});"
        f" run: workbench analyze frontier --aggregates --x {x} --y {y} --store {store.path}"
        f" (likewise {_on_aggregates('frontier')}),"
        f" or: workbench sql 'FROM result_facts' --store {store.path}"
    )


def _on_aggregates(but: str = "") -> str:
    """Name the analyses that can use published figures, except `but`."""
    return ", ".join(
        a.name for a in analysis.catalogue().values() if a.aggregates and a.name != but
    )


def _document(store: "Store", result: "Result", where: Slice, seed: int) -> "Document":
    from workbench.cli.output import Document

    return Document.of_result(
        result, store=str(store.path), where=str(where), predicate=where.sql(), seed=seed
    )


def answer(
    store: "Store",
    name: str,
    *,
    where: Slice = Slice(),  # noqa: B008 (frozen)
    by: Sequence[str] | None = None,
) -> "Document":
    """Run an analysis with its defaults, and make a document of the result."""
    return _document(store, ask(store, name, where=where, by=by), where, 0)


def _draw(result: "Result", output: Path) -> None:
    from workbench import charts
    from workbench.cli.output import replacing

    with replacing(output) as path:
        charts.save(charts.chart(result), path)
    print_message(f"wrote {output}")


def _snippet(
    kind: str,
    store: "Store",
    name: str,
    *,
    where: Slice,
    by: Sequence[str] | None,
    options: Mapping[str, Any],
) -> str:
    from workbench.analysis.catalogue import forms

    request = forms.AnalysisRequest(name, where, tuple(by or ("configuration",)), options)
    path = str(store.path)
    fields = store.fields(request.own) if request.own else {}
    if kind == "cell":
        return forms.cell(request, path)
    return forms.sql(request, fields) if kind == "sql" else forms.polars(request, path, fields)
