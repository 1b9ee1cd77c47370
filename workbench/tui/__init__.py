"""The terminal app: one screen a file, over the same store, slices and analyses as every face."""

from pathlib import Path


def run(store_path: str | Path | None = None) -> None:
    """Open the app on a store and return when the user quits.

    Nothing but Textual is imported before the first frame; a worker brings the rest afterwards.

    Args:
        store_path: the store's file; None looks where `workbench.open` would.
    """
    from workbench.tui.app import WorkbenchApp
    from workbench.tui.leaving import restoring

    app = WorkbenchApp(store_path)
    with restoring(app.leave_terminal):
        app.run()
