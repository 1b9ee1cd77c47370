"""`workbench tasks | models`: what is in the store."""

from pathlib import Path

import click

from workbench.cli.options import open_store, output_options, store_option, where_option
from workbench.slice import Slice


@click.command()
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--shipped", is_flag=True, help="Those that ship, to collect.")
@click.option(
    "--set", "told", multiple=True, metavar="NAME=VALUE",
    help="What FILE does not say of itself, for example input=question; may be repeated.",
)  # fmt: skip
@click.option(
    "--allow-code", is_flag=True, help="Import scorers (module:function) that FILE names."
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

    FILE is a .csv, .tsv, .jsonl, .json or .parquet file, or a plan. Shown are its first items, which columns
    became what, and what is wrong. For example: workbench tasks my.csv --set input=question
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


@click.command()
@store_option
@where_option
@output_options
def models(store_path: str | None, where: Slice, format_: str | None, output: Path | None) -> None:
    """List the models in the store."""
    _summary("model", store_path, where, format_, output)


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
        rows.append({
            "task": about.task, "n_items": len(task.items), "scorer": about.scorer,
            "description": about.description,
        })  # fmt: skip
    frame = frame_of(rows, ["task", "n_items", "scorer", "description"])
    emit(Document.of_frame("tasks", frame), format_, output)
