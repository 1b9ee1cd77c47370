"""`workbench runs | tasks | models`: what is in the store."""

from pathlib import Path

import click

from workbench.cli.options import open_store, output_options, store_option, where_option
from workbench.slice import Slice


@click.command()
@store_option
@output_options
def runs(store_path: str | None, format_: str | None, output: Path | None) -> None:
    """List what was collected or imported."""
    from workbench.cli.output import Document, emit

    store = open_store(store_path)
    with store.facts("", "run_summary") as frame:
        rows = frame.collect("polars").to_native().sort("started_at", "run_id", nulls_last=True)
    emit(Document.of_frame("runs", rows, store=str(store.path)), format_, output)


@click.command()
@click.option("--shipped", is_flag=True, help="Those that ship, to collect.")
@store_option
@where_option
@output_options
def tasks(
    shipped: bool, store_path: str | None, where: Slice, format_: str | None, output: Path | None
) -> None:
    """List the tasks in the store, or those that ship."""
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
