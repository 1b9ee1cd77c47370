"""`workbench models`: the models in the store and the canonical names of models."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.cli.examples import examples
from workbench.cli.options import (
    open_store,
    output_options,
    print_message,
    store_option,
    where_option,
)
from workbench.slice import Slice

if TYPE_CHECKING:
    import polars as pl

    from workbench.store import Store


@click.group(
    invoke_without_command=True,
    epilog=examples(
        "workbench models",
        "workbench models --where 'model:gpt*' --format md",
    ),
)
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

    The table of names maps each name that was sent to its canonical model, with the rules applied
    and the prices used, or the reason why there are none. You can group by the canonical model with
    --by canonical_model. For names that no rule matches, such as names of deployments, add a file
    of aliases: workbench models add FILE.
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


@models.command(
    epilog=examples(
        "workbench models add aliases.toml",
        "workbench models add aliases.toml --store traces.duckdb",
    ),
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@store_option
def add(file: Path, store_path: str | None) -> None:
    """Add aliases of models, and price their calls again.

    FILE is TOML with [[alias]] tables: model (the name that was sent), canonical_model (the model
    that it means) and, if needed, provider (to limit the alias to one) and priced_as (the model
    whose prices apply).
    """
    from workbench.models import read_aliases

    rows = read_aliases(file)
    renamed, moved = open_store(store_path, create=True).add_aliases(rows)
    print_message(
        f"aliases read: {len(rows):,}; configurations whose model changed: {renamed:,};"
        f" traces whose cost changed: {moved:,}"
    )


def _names(store: "Store", where: Slice) -> "pl.DataFrame":
    """Tabulate the model names of a slice: one row per provider and model."""
    import polars as pl

    from workbench.cli.tables import frame_of
    from workbench.models import find_price_entry, why_unpriced

    aliases = store.model_aliases()
    pairs: set[tuple[str | None, str | None]] = set()
    for view in ("calls", "trace_facts"):
        with store.facts(where, view) as frame:
            names = frame.select("provider", "model").unique().collect("polars").to_native()
            pairs |= set(names.iter_rows())
    rows: list[dict[str, object]] = []
    for provider, model in sorted(pairs, key=str):
        if model is None:
            continue
        name, alias = aliases.canonical(provider, model), aliases.find(provider, model)
        priced_as = (alias.price_provider, alias.price_model) if alias else (provider, model)
        entry = find_price_entry(*priced_as)
        rows.append(
            {
                "model": model,
                "provider": provider,
                "canonical_model": name.model,
                "rules": "; ".join(name.rules) or None,
                "prices": f"{entry.provider.id}: {entry.info.id}" if entry else None,
                "why_not": why_unpriced(*priced_as) or None,
            }
        )
    columns = ["canonical_model", "model", "provider", "rules", "prices", "why_not"]
    return (
        frame_of(rows, columns)
        .with_columns(pl.all().cast(pl.String))
        .sort(pl.all(), nulls_last=True)
    )
