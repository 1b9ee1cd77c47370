"""Compare screen: two configurations on their shared items: verdict, figures, differing items."""

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from workbench import formats
from workbench.tui import result_grid, slice_edits
from workbench.tui.queries import QueryScreen, always_current
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.key_bar import KeyBar
from workbench.tui.widgets.notes import Notes
from workbench.tui.widgets.painted import Painted
from workbench.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from workbench.analysis import Result
    from workbench.analysis.catalogue.forms import AnalysisRequest
    from workbench.store import Cancel, Store

HIDDEN = ("a", "b", "item_id")


class CompareScreen(QueryScreen):
    """The verdict on top, the items with different outcomes below."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "traces of the item", show=True),
        Binding("y", "copy", "copy as…"),
        Binding("escape", "back", "back"),
    ]

    def __init__(self, text: str, a: str, b: str) -> None:
        super().__init__()
        self._text, self.a, self.b = text, a, b
        self.result: Result | None = None

    def compose(self) -> ComposeResult:
        """Build the frame."""
        yield TopBar(
            [
                ("compare  ", "primary"),
                ("A ", "accent"),
                (f"{self.a}  ", ""),
                ("B ", "accent"),
                (self.b, ""),
            ]
        )
        yield Painted(id="verdict")
        yield Static("items on which they differ", classes="title", markup=False)
        yield Grid(id="flips")
        yield Notes()
        yield KeyBar()

    def on_mount(self) -> None:
        """Run the comparison."""
        self.query_one(Grid).focus()
        store, text, a, b = self.app.store, self._text, self.a, self.b
        self.run_query(
            "compare", always_current, lambda _, c: _compare(store, text, a, b, c), self._show
        )

    def _show(self, result: "Result") -> None:
        self.result = result
        self.query_one("#verdict", Painted).show(partial(self._verdict, result))
        self.query_one(Notes).show(result_grid.notes_text(result.dropped, result.notes))
        grid = self.query_one(Grid)
        grid.empty_text = "they did the same on every shared item"
        flips = result.more.get("flips")
        if flips is not None:
            columns = result_grid.grid_columns(flips.drop(HIDDEN), result.columns)
            grid.show(result_grid.ordered(flips, "", descending=False), columns)

    def _verdict(self, result: "Result") -> Table:
        row = result.frame.row(0, named=True)
        colours = self.app.theme_variables
        table = Table.grid(padding=(0, 3))
        verdict = Text(str(row["verdict"]), f"bold {colours['accent']}")
        table.add_row(verdict)
        table.add_row("")
        numbers = Table.grid(padding=(0, 3))
        for _ in range(4):
            numbers.add_column(justify="right")
        numbers.add_row("", *(Text(t, "dim") for t in ("pass %", "$ per trace", "items better")))
        for side in ("a", "b"):
            rate, cost = row[f"rate_{side}"], row[f"cost_{side}_usd"]
            better = formats.count(row[f"n_{side}_better"])
            numbers.add_row(side.upper(), formats.percent(rate), formats.usd(cost), better)
        numbers.add_row(
            "A − B", self._interval(row), self._ratio(row), f"{formats.count(row['n_same'])} same"
        )
        table.add_row(numbers)
        table.add_row("")
        items = formats.counted(row["n_items"], "shared item")
        traces = formats.counted(row["n"], "trace")
        test = f" by {row['test']}" if row["test"] else ""
        table.add_row(f"{items}, {traces} · p = {formats.decimal(row['p_value'])}{test}")
        return table

    @staticmethod
    def _interval(row: dict[str, Any]) -> str:
        low, high = row["difference_low"], row["difference_high"]
        ends = f" [{formats.percent(low)}, {formats.percent(high)}]" if low is not None else ""
        return formats.percent(row["difference"]) + ends

    @staticmethod
    def _ratio(row: dict[str, Any]) -> str:
        ratio = row["cost_ratio"]
        return formats.UNKNOWN if ratio is None else f"× {formats.decimal(ratio, 2)}"

    def on_grid_sorted(self, message: Grid.Sorted) -> None:
        """Sort the items."""
        flips = self.result.more.get("flips") if self.result else None
        if flips is not None:
            grid = message.grid
            grid.show(result_grid.ordered(flips, message.key, descending=message.descending))

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Open the traces of both configurations on the item."""
        from workbench.tui.traces import TracesScreen

        where = slice_edits.read(self._text).where(
            configuration=[self.a, self.b], task=message.row["task"], item=message.row["item"]
        )
        self.app.push_screen(TracesScreen(str(where)))

    def action_open(self) -> None:
        """Open the row under the cursor."""
        self.query_one(Grid).action_open()

    def action_copy(self) -> None:
        """Copy the comparison."""
        from workbench.tui.copying import offer_answer

        if self.result is not None:
            offer_answer(self, self._request, self.query_one(Grid).current)

    def _request(self) -> "AnalysisRequest":
        from workbench.analysis.catalogue.forms import AnalysisRequest

        assert self.result is not None
        where = slice_edits.read(self._text)
        return AnalysisRequest("compare", where, self.result.by, self.result.options)

    def action_back(self) -> None:
        """Cancel the running query; else go back."""
        if not self.cancel_queries():
            self.app.pop_screen()


def _compare(store: "Store", text: str, a: str, b: str, cancel: "Cancel") -> "Result":
    from workbench import analysis

    with store.facts(text, cancel=cancel) as facts:
        return analysis.run("compare", facts, a=a, b=b)
