"""`workbench demo`: the sample traces, in the app or, without a terminal, as two tables."""

from pathlib import Path

import click

from workbench import config
from workbench.cli.options import can_draw, talk


@click.command()
@click.argument("path", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--print", "print_", is_flag=True, help="Print the tables even on a terminal.")
def demo(path: Path | None, print_: bool) -> None:
    """Open the sample traces in the terminal app.

    The store is made at PATH, by default in your cache folder, from the traces that ship: real
    ones, of small models on a laptop's processor. Without a terminal, print summary and frontier.
    """
    from workbench.store import demo_store

    path = path or config.cache_dir() / "demo.duckdb"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        talk(f"making the sample store at {path} …")
    store = demo_store(path)
    if can_draw() and not print_:
        from workbench.tui import run

        run(store.path)
        return
    from workbench.cli.analyze import answer
    from workbench.cli.output import emit

    for name in ("summary", "frontier"):
        talk(f"\n{name}: workbench analyze {name} --store {store.path}")
        emit(answer(store, name), "table")
