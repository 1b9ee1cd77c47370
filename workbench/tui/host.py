"""Host app as its screens see it: the store, and state that lives as long as the app.

Screens import this class and never the app itself, which imports the first screen.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App

if TYPE_CHECKING:
    from workbench.store import Store


class Host(App[None]):
    """An app over one store.

    Attributes:
        store_path: the file as the user gave it; None is the default of `workbench.open`.
        opened: the store, once the first screen's worker has opened it.
        sql_history: the statements run since the app started, the newest last.
        stamp: stamp of the newest state whose spool was ingested completely; a screen that reads
            the store later shows at least that state.
        marked: ids of the traces that are marked for comparison, until the app ends.
    """

    def __init__(self, store_path: str | Path | None = None) -> None:
        super().__init__()
        self.store_path = store_path
        self.opened: Store | None = None
        self.stamp = ""
        self.sql_history: list[str] = []
        self.marked: set[str] = set()

    @property
    def store(self) -> "Store":
        """The store; screens that need it are shown only after it was opened."""
        assert self.opened is not None
        return self.opened

    @property
    def store_name(self) -> str:
        """The store's file, for headings."""
        path = self.opened.path if self.opened else self.store_path
        return Path(path).name if path else "traces.duckdb"
