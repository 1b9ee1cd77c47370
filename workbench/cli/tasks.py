"""`workbench tasks`: tasks of the store, tasks that ship, and previews of task files."""

from pathlib import Path

import click

from workbench.cli.examples import examples
from workbench.cli.options import open_store, output_options, store_option, where_option
from workbench.slice import Slice


@click.command(
    epilog=examples(
        "workbench tasks --shipped",
        "workbench tasks my.csv --set input=question --set target=answer",
    ),
)
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--shipped", is_flag=True, help="List the tasks that ship with workbench.")
@click.option("--scorers", is_flag=True, help="List the scorers that tasks can name.")
@click.option(
    "--set",
    "set_options",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting that FILE lacks, for example input=question; may be repeated.",
)
@click.option(
    "--allow-code",
    is_flag=True,
    help="Import the scorers (module:function) that FILE names, to check that they load.",
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
    scorers: bool,
    set_options: tuple[str, ...],
    allow_code: bool,
    store_path: str | None,
    where: Slice,
    format_: str | None,
    output: Path | None,
) -> None:
    """List the tasks of the store or those that ship, or preview a task file.

    FILE is a .csv, .tsv, .jsonl, .json or .parquet file, or a plan. You see its first items, the
    column that each field is read from, and the problems. The exit status is 1 if there is a
    problem.
    """
    if file is not None:
        from workbench.cli.task_preview import preview

        is_valid = preview(file, set_options, allow_code=allow_code, format_=format_, output=output)
        ctx.exit(0 if is_valid else 1)
    if set_options or allow_code:
        raise click.UsageError("--set and --allow-code need a FILE to preview")
    if scorers:
        _scorers(format_, output)
    elif shipped:
        _shipped(format_, output)
    else:
        _in_store(store_path, where, format_, output)


def _in_store(
    store_path: str | None, where: Slice, format_: str | None, output: Path | None
) -> None:
    from workbench.cli.analyze import answer
    from workbench.cli.output import emit

    emit(answer(open_store(store_path), "summary", where=where, by=("task",)), format_, output)


def _scorers(format_: str | None, output: Path | None) -> None:
    from workbench import scoring
    from workbench.cli.output import Document, emit
    from workbench.cli.tables import frame_of
    from workbench.plugins import SHIPPED, listed

    others = listed("scorer", scoring.names())
    rows = [{"scorer": name, "origin": SHIPPED} for name in scoring.names()]
    rows += [{"scorer": p.name, "origin": p.origin} for p in others]
    notes = tuple(p.problem or p.untrusted for p in others if p.problem or p.untrusted)
    document = Document("scorers", frame_of(rows, ["scorer", "origin"]), notes=notes)
    emit(document, format_, output)


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
