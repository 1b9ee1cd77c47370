"""Choice of the trace to compare with: the item's traces, nearest configuration first."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from workbench import formats
from workbench.safe import one_line
from workbench.tui import slice_edits
from workbench.tui.queries import QueryScreen, StatusScreen, always_current
from workbench.tui.trace_columns import COLUMNS, FETCHED
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.key_bar import KeyBar
from workbench.tui.widgets.rows import ListRows, Row
from workbench.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from workbench.store import Cancel, Store

MAX_TRACES = 1000  # of an item, listed
OF_CONFIGURATION = (
    "model",
    "provider",
    "strategy",
    "effort",
    "thinking_budget_tokens",
    "temperature",
    "precision",
    "configuration",
)
HIDDEN = ("task", "item")


def compare(screen: QueryScreen, facts: Mapping[str, Any]) -> None:
    """Compare a trace with the marked one, or with one that the user selects.

    Args:
        screen: the screen on which the key was pressed.
        facts: `trace_id`, `task`, `item` and the configuration's columns of the trace.
    """
    from workbench.tui.diff import DiffScreen

    here = str(facts["trace_id"])
    marked = screen.app.marked - {here}
    if len(marked) == 1:
        screen.app.push_screen(DiffScreen(here, *marked))
        return

    def chosen(other: str | None) -> None:
        if other is not None:
            screen.app.push_screen(DiffScreen(here, other))

    screen.app.push_screen(ChoiceScreen(facts), chosen)


class ChoiceScreen(StatusScreen):
    """List of an item's traces; returns the id of one, or None."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "compare with it", show=True),
        Binding("escape", "leave", "back"),
    ]

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__()
        self._facts = facts

    def compose(self) -> ComposeResult:
        """Build the list."""
        where = f"{one_line(self._facts['task'], 40)}/{one_line(self._facts['item'], 40)}"
        yield TopBar([("compare with…  ", "primary"), (where, "")])
        yield Grid([column for column in COLUMNS if column.key not in HIDDEN], id="traces")
        yield Static(id="status", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        """Ask for the traces."""
        grid = self.query_one(Grid)
        grid.identity = lambda row: str(row["trace_id"])
        grid.marked = self.app.marked
        grid.focus()
        facts, store, marked = self._facts, self.app.store, frozenset(self.app.marked)
        self.run_query(
            "traces", always_current, lambda _, c: others(store, facts, marked, c), self._show
        )

    def _show(self, result: tuple[int, list[Row]]) -> None:
        n, rows = result
        grid = self.query_one(Grid)
        grid.empty_text = "no other trace of this item; m marks one of another to compare with"
        grid.show(ListRows(rows))
        cut = (
            f"the first {formats.count(MAX_TRACES)} of {formats.count(n)} traces; "
            if n > MAX_TRACES
            else ""
        )
        self.say(f"{cut}marked ones first, then by how much of the configuration is the same")

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Return the trace's id."""
        self.dismiss(str(message.row["trace_id"]))

    def action_open(self) -> None:
        """Select the row under the cursor."""
        self.query_one(Grid).action_open()

    def action_leave(self) -> None:
        """Close the list without a result."""
        self.dismiss(None)


def others(
    store: "Store", facts: Mapping[str, Any], marked: frozenset[str], cancel: "Cancel"
) -> tuple[int, list[Row]]:
    """Return the number of an item's traces, and the other traces; runs in a thread."""
    text = slice_edits.narrowed("", task=facts["task"], item=facts["item"])
    columns = dict.fromkeys((*FETCHED, *OF_CONFIGURATION))
    with store.snapshot(cancel=cancel) as snapshot:
        frame = snapshot.page(text, columns=tuple(columns), limit=MAX_TRACES)
        n = snapshot.count(text)
    rows = [row for row in frame.rows(named=True) if row["trace_id"] != facts["trace_id"]]

    def distance(row: Row) -> tuple[Any, ...]:
        n_different = sum(row[name] != facts[name] for name in OF_CONFIGURATION)
        is_other_model = row["model"] != facts["model"]  # breaks ties
        name = row["configuration"] or ""
        is_unmarked = row["trace_id"] not in marked
        return is_unmarked, n_different, is_other_model, name, row["trial"] or 0

    return n, sorted(rows, key=distance)
