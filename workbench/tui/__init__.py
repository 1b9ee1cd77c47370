"""Terminal app (TUI): one screen per file, over the store, slices and analyses of the CLI."""

from pathlib import Path


def run(store_path: str | Path | None = None) -> None:
    """Open the app on a store and return when the user quits.

    Only Textual is imported before the first frame; a worker thread imports the rest afterwards.

    Args:
        store_path: the store's file; None is the default of `workbench.open`.
    """
    from workbench.tui.app import WorkbenchApp
    from workbench.tui.exit_signals import restoring

    app = WorkbenchApp(store_path)
    with restoring(app.leave_terminal):
        app.run()
