"""SQL screen: an editor, the documented tables beside it, and the result as a table."""

import importlib.util
import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import OptionList, Static, TextArea
from textual.widgets.option_list import Option

from workbench import formats
from workbench.safe import masked
from workbench.schema import RELATIONS, VIEWS, Column
from workbench.tui import result_grid
from workbench.tui.queries import StatusScreen, always_current
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.key_bar import KeyBar
from workbench.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    import polars as pl

    from workbench.store import Cancel, Store

FIRST_STATEMENT = (
    "SELECT configuration, count(*) AS n, avg(passed::INT) AS passed\n"
    "FROM trace_facts\nGROUP BY ALL\nORDER BY n DESC"
)


class Editor(TextArea):
    """Text area that masks pasted control characters."""

    def get_line(self, line_index: int) -> Text:
        """Return a line with its control characters masked."""
        line = super().get_line(line_index)
        line.plain = masked(line.plain)
        return line


class SqlScreen(StatusScreen):
    """Read-only SQL over the store."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5,ctrl+enter,ctrl+j,ctrl+r", "run", "run", key_display="F5", priority=True),
        Binding(
            "ctrl+up,alt+up,f7", "recall(-1)", "statement before", key_display="F7", priority=True
        ),
        Binding("ctrl+down,alt+down,f8", "recall(1)", "statement after", show=False, priority=True),
        Binding("y", "copy", "copy"),
        Binding("escape", "back", "back", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.frame: pl.DataFrame | None = None
        self.statement = ""  # the statement that `frame` is the result of
        self._place = 0
        self._opened: set[str] = {"trace_facts"}
        self._listed: list[str] = []

    def compose(self) -> ComposeResult:
        """Build the frame."""
        yield TopBar([("SQL  ", "primary"), (self.app.store_name, "")])
        with Horizontal(id="sql-body"):
            yield OptionList(id="sql-side", markup=False, compact=True)
            with Vertical():
                yield _editor()
                yield Static(id="status", markup=False)
                yield Grid(id="sql-result")
        yield KeyBar()

    @property
    def history(self) -> list[str]:
        """The statements run since the app began."""
        return self.app.sql_history

    @property
    def editor(self) -> TextArea:
        """The editor."""
        return self.query_one(TextArea)

    def on_mount(self) -> None:
        """List the tables and show the newest statement."""
        self._place = len(self.history)
        self.editor.text = self.history[-1] if self.history else FIRST_STATEMENT
        self.editor.focus()
        self._list_schema()
        self.say(
            "F5 runs · F7 and F8 go through the statements of this session · nothing can be changed"
            " here"
        )

    # -- the tables
    # ----------------------------------------------------------------------------------

    def _list_schema(self) -> None:
        listing = self.query_one("#sql-side", OptionList)
        highlighted = listing.highlighted
        listing.clear_options()
        self._listed = []
        for name in [*VIEWS, *(n for n in RELATIONS if n not in VIEWS)]:
            is_open = name in self._opened
            line = Text(f"{'▾' if is_open else '▸'} {name}")
            line.stylize("bold" if name in VIEWS else "")
            self._add(listing, name, line)
            for column in RELATIONS[name].columns if is_open else ():
                entry = Text(f"  {column.name}")
                entry.append(f"  {kind(column)}", "dim")
                self._add(listing, column.name, entry)
        listing.highlighted = highlighted

    def _add(self, listing: OptionList, name: str, line: Text) -> None:
        line.no_wrap = True
        self._listed.append(name)
        listing.add_option(Option(line))

    def on_option_list_option_highlighted(self, message: OptionList.OptionHighlighted) -> None:
        """Show what a table or column means."""
        from workbench.schema import columns_by_name

        name = self._listed[message.option_index]
        if name in RELATIONS:
            self.say(f"{name}: {RELATIONS[name].grain}")
        elif self.query_one("#sql-side").has_focus:
            column = columns_by_name()[name]
            self.say(f"{name}: {column.doc} Null: {column.null}.")

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Open a table, or insert a column's name at the cursor."""
        name = self._listed[message.option_index]
        if name in RELATIONS:
            self._opened ^= {name}
            self._list_schema()
        else:
            self.editor.insert(name)
            self.editor.focus()

    # -- running
    # ---------------------------------------------------------------------------------------

    def action_run(self) -> None:
        """Run the statement."""
        query = self.editor.text.strip().rstrip(";")
        if not query:
            return
        if not self.history or self.history[-1] != query:
            self.history.append(query)
        self._place = len(self.history)
        store = self.app.store
        self.run_query(
            "SQL",
            always_current,
            lambda _, cancel: _run(store, query, cancel),
            partial(self._show, query),
        )

    def _show(self, query: str, result: "tuple[pl.DataFrame, float]") -> None:
        self.statement = query
        self.frame, took = result
        rows = formats.counted(self.frame.height, "row")
        columns = formats.counted(self.frame.width, "column")
        self.say(f"{rows} × {columns} in {formats.seconds(took)} s")
        grid = self.query_one(Grid)
        grid.empty_text = "no rows"
        grid.sort_key = ""
        grid.show(
            result_grid.ordered(self.frame, "", descending=False),
            result_grid.grid_columns(self.frame),
        )
        grid.focus()

    def on_grid_sorted(self, message: Grid.Sorted) -> None:
        """Sort the rows."""
        if self.frame is not None:
            rows = result_grid.ordered(self.frame, message.key, descending=message.descending)
            message.grid.show(rows)

    # -- keys
    # ------------------------------------------------------------------------------------------

    def action_recall(self, by: int) -> None:
        """Go through the statements of this session."""
        if self.history:
            self._place = max(0, min(self._place + by, len(self.history) - 1))
            self.editor.text = self.history[self._place]

    def action_copy(self) -> None:
        """Copy the statement of the table, code that runs it, or the row."""
        from workbench.tui.copying import CopyScreen, row_texts, statement_texts

        query = self.statement or self.editor.text.strip()
        texts = statement_texts(self.app.store.path, query)
        self.app.push_screen(CopyScreen(texts | row_texts(self.query_one(Grid).current)))

    def action_back(self) -> None:
        """Cancel the running query; else go back."""
        if not self.cancel_queries():
            self.app.pop_screen()


def kind(column: Column) -> str:
    """Return a column's unit, or its type where it has none."""
    return column.unit if column.unit not in {"", "count"} else column.type


def _editor() -> TextArea:
    """Build the editor; colours need Textual's syntax extra and are left out without it."""
    coloured = importlib.util.find_spec("tree_sitter_sql") is not None
    language = "sql" if coloured else None
    return Editor(id="sql-editor", language=language, tab_behavior="focus")


def _run(store: "Store", query: str, cancel: "Cancel") -> "tuple[pl.DataFrame, float]":
    began = time.perf_counter()
    frame = store.sql(query, cancel=cancel)
    return frame, time.perf_counter() - began
