"""Choosing the trace that another is compared with: of the same item, the nearest configuration first."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from workbench import formats
from workbench.safe import one_line
from workbench.tui import slices
from workbench.tui.asking import AskingScreen, StatusScreen, once
from workbench.tui.trace_columns import COLUMNS, FETCHED
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.key_bar import KeyBar
from workbench.tui.widgets.rows import ListRows, Row
from workbench.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from workbench.store import Cancel, Store

MOST = 1000  # traces of an item that are listed
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


def compare(screen: AskingScreen, facts: Mapping[str, Any]) -> None:
    """Compare a trace with the one that is marked, or with one that is chosen.

    Args:
        screen: where the key was pressed.
        facts: the trace; its columns `trace_id`, `task`, `item` and those of its configuration.
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
    """The traces of an item; hands over the id of one, or None."""

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
        self.ask("traces", once, lambda _, c: others(store, facts, marked, c), self._show)

    def _show(self, found: tuple[int, list[Row]]) -> None:
        n, rows = found
        grid = self.query_one(Grid)
        grid.empty_text = "no other trace of this item; m marks one of another to compare with"
        grid.show(ListRows(rows))
        left = f"the first {formats.count(MOST)} of {formats.count(n)} traces; " if n > MOST else ""
        self.say(f"{left}marked ones first, then by how much of the configuration is the same")

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Hand the trace over."""
        self.dismiss(str(message.row["trace_id"]))

    def action_open(self) -> None:
        """Choose the row under the cursor."""
        self.query_one(Grid).action_open()

    def action_leave(self) -> None:
        """Choose none."""
        self.dismiss(None)


def others(
    store: "Store", facts: Mapping[str, Any], marked: frozenset[str], cancel: "Cancel"
) -> tuple[int, list[Row]]:
    """Return how many traces an item has, and the other ones, the nearest first; runs in a thread."""
    text = slices.narrowed("", task=facts["task"], item=facts["item"])
    columns = dict.fromkeys((*FETCHED, *OF_CONFIGURATION))
    with store.snapshot(cancel=cancel) as held:
        frame = held.page(text, columns=tuple(columns), limit=MOST)
        n = held.count(text)
    rows = [row for row in frame.rows(named=True) if row["trace_id"] != facts["trace_id"]]

    def distance(row: Row) -> tuple[Any, ...]:
        apart = sum(row[name] != facts[name] for name in OF_CONFIGURATION)
        other = (
            row["model"] != facts["model"]
        )  # of two that are as near, the same model comes first
        name = row["configuration"] or ""
        return row["trace_id"] not in marked, apart, other, name, row["trial"] or 0

    return n, sorted(rows, key=distance)
