"""What a screen may know of the app it is shown in: the store, and what is kept while the app is open.

Screens name this class and never the app itself, which names the first screen.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App

if TYPE_CHECKING:
    from workbench.store import Store


class Host(App[None]):
    """An app over one store.

    Attributes:
        store_path: the file as it was asked for; None looks where `workbench.open` would.
        opened: the store, once the first screen's worker has opened it.
        sql_history: the statements run since the app began, the newest last.
        stamp: of the newest moment at which all that waited in the spool was known to be taken in;
            a screen that shows the store later than that has at least what it stands for.
        marked: ids of the traces that are marked for comparing; forgotten when the app ends.
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
        """The store; screens that ask for it are shown only once it is open."""
        assert self.opened is not None
        return self.opened

    @property
    def store_name(self) -> str:
        """The store's file, for headings."""
        path = self.opened.path if self.opened else self.store_path
        return Path(path).name if path else "traces.duckdb"
