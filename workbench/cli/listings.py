"""`workbench tasks | models`: what is in the store."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.cli.options import open_store, output_options, store_option, talk, where_option
from workbench.slice import Slice

if TYPE_CHECKING:
    import polars as pl

    from workbench.store import Store


@click.command()
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--shipped", is_flag=True, help="Those that ship, to collect.")
@click.option(
    "--set",
    "told",
    multiple=True,
    metavar="NAME=VALUE",
    help="What FILE does not say of itself, for example input=question; may be repeated.",
)
@click.option(
    "--allow-code",
    is_flag=True,
    help="Import scorers (module:function) that FILE names, to see whether they load.",
)
@store_option
@where_option
@output_options
@click.pass_context
def tasks(
    ctx: click.Context,
    /,
    *,
    file: Path | None,
    shipped: bool,
    told: tuple[str, ...],
    allow_code: bool,
    store_path: str | None,
    where: Slice,
    format_: str | None,
    output: Path | None,
) -> None:
    """List tasks: those in the store, those that ship, or a file of your own as it is understood.

    FILE is a .csv, .tsv, .jsonl, .json or .parquet file, or a plan. Shown are its first items,
    which columns became what, and what is wrong. For example: workbench tasks my.csv --set
    input=question
    """
    if file is not None:
        from workbench.cli.task_preview import preview

        sound = preview(file, told, allow_code=allow_code, format_=format_, output=output)
        ctx.exit(0 if sound else 1)
    if told or allow_code:
        raise click.UsageError("--set and --allow-code are about a FILE; name one")
    if shipped:
        _shipped(format_, output)
    else:
        _summary("task", store_path, where, format_, output)


@click.group(invoke_without_command=True)
@store_option
@where_option
@output_options
@click.pass_context
def models(
    ctx: click.Context,
    *,
    store_path: str | None,
    where: Slice,
    format_: str | None,
    output: Path | None,
) -> None:
    """List the models in the store, and what their names mean.

    The table of names has each name as asked, the model that it means, by which rules, and whose
    prices it has, or why none. Group by it with --by canonical_model. Names that no rule explains,
    as of deployments, are explained by a file of yours: workbench models add FILE.
    """
    if ctx.invoked_subcommand is not None:
        return
    from workbench.cli.analyze import answer
    from workbench.cli.output import check_output, emit

    check_output(output)
    store = open_store(store_path)
    summary = answer(store, "summary", where=where, by=("model",))
    names = _names(store, where)
    more = {**summary.more, "names": names} if names.height else summary.more
    emit(dataclasses.replace(summary, more=more), format_, output)


@models.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@store_option
def add(file: Path, store_path: str | None) -> None:
    """Explain names of models, and price their calls again.

    FILE is TOML with [[alias]] tables: model (the name as asked), canonical_model (the model it
    means), and where needed provider (only there) and priced_as (the name whose prices it has).
    """
    from workbench.models import read_aliases

    rows = read_aliases(file)
    renamed, moved = open_store(store_path, create=True).add_aliases(rows)
    talk(
        f"names explained: {len(rows):,}; configurations with another model now: {renamed:,}; "
        f"traces whose cost changed: {moved:,}"
    )


def _names(store: "Store", where: Slice) -> "pl.DataFrame":
    """Tabulate the names of a slice: one row per provider and model asked."""
    import polars as pl

    from workbench.cli.tables import frame_of
    from workbench.models import find, why_unpriced

    aliases = store.model_aliases()
    pairs: set[tuple[str | None, str | None]] = set()
    for view in ("calls", "trace_facts"):
        with store.facts(where, view) as frame:
            asked = frame.select("provider", "model").unique().collect("polars").to_native()
            pairs |= set(asked.iter_rows())
    rows: list[dict[str, object]] = []
    for provider, model in sorted(pairs, key=str):
        if model is None:
            continue
        name, alias = aliases.canonical(provider, model), aliases.find(provider, model)
        asked_as = (alias.price_provider, alias.price_model) if alias else (provider, model)
        entry = find(*asked_as)
        rows.append(
            {
                "model": model,
                "provider": provider,
                "canonical_model": name.model,
                "rules": "; ".join(name.rules) or None,
                "prices": f"{entry.provider.id}: {entry.info.id}" if entry else None,
                "why_not": why_unpriced(*asked_as) or None,
            }
        )
    columns = ["canonical_model", "model", "provider", "rules", "prices", "why_not"]
    return (
        frame_of(rows, columns)
        .with_columns(pl.all().cast(pl.String))
        .sort(pl.all(), nulls_last=True)
    )


def _summary(
    column: str, store_path: str | None, where: Slice, format_: str | None, output: Path | None
) -> None:
    from workbench.cli.analyze import answer
    from workbench.cli.output import emit

    emit(answer(open_store(store_path), "summary", where=where, by=(column,)), format_, output)


def _shipped(format_: str | None, output: Path | None) -> None:
    from workbench import datasets
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of

    rows = []
    for name in datasets.task_names():
        task = datasets.load_task(name)
        about = task.task
        rows.append(
            {
                "task": about.task,
                "n_items": len(task.items),
                "scorer": about.scorer,
                "description": about.description,
            }
        )
    frame = frame_of(rows, ["task", "n_items", "scorer", "description"])
    emit(Document.of_frame("tasks", frame), format_, output)
