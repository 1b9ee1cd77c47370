"""`workbench demo`: the sample traces, in the terminal app or as two tables."""

from pathlib import Path

import click

from workbench import config
from workbench.cli.examples import examples
from workbench.cli.options import can_draw, print_message


@click.command(
    epilog=examples(
        "workbench demo",
        "workbench demo samples.duckdb --print",
    ),
)
@click.argument("path", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--print", "print_", is_flag=True, help="Print the two tables even if you are at a terminal."
)
def demo(path: Path | None, print_: bool) -> None:
    """Open the sample traces in the terminal app.

    The samples are real traces of small models on a laptop's processor. The command writes them to
    a store at PATH, by default in your cache folder, and opens it. Without a terminal it prints
    the analyses summary and frontier.
    """
    from workbench.store import demo_store

    path = path or config.cache_dir() / "demo.duckdb"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        print_message(f"writing the sample store to {path} …")
    store = demo_store(path)
    if can_draw() and not print_:
        from workbench.tui import run

        run(store.path)
        return
    from workbench.cli.analyze import answer
    from workbench.cli.output import emit

    for name in ("summary", "frontier"):
        print_message(f"\n{name}: workbench analyze {name} --store {store.path}")
        emit(answer(store, name), "table")
