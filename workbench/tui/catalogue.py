"""The catalogue: every analysis with its question, a form made from its options, and its answer."""

from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Input, Label, OptionList, Static
from textual.widgets.option_list import Option

from workbench.tui import formats, results
from workbench.tui.asking import AskingScreen
from workbench.tui.safe import one_line, safe
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.key_bar import KeyBar
from workbench.tui.widgets.rows import ListRows
from workbench.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    import polars as pl

    from workbench.analysis import Analysis, Result
    from workbench.analysis import Option as Setting
    from workbench.store import Cancel, Store
    from workbench.tui.app import WorkbenchApp

BY = "configuration"


class CatalogueScreen(AskingScreen):
    """Choose a question, set its options, read the answer."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5,ctrl+r", "run", "run"),
        Binding("y", "copy", "copy as…"),
        Binding("tab", "app.focus_next", "options, table", show=True),
        Binding("n", "table", "next table"),
        Binding("escape", "back", "back"),
    ]
    app: "WorkbenchApp"

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self._catalogue: dict[str, Analysis] = {}
        self.analysis: Analysis | None = None
        self.result: Result | None = None
        self._shown = ""  # which of the result's tables, "" for the main one

    def compose(self) -> ComposeResult:
        """Build the frame."""
        left = [
            ("analyse  ", "primary"),
            (self.app.store_name, ""),
            (f"  {self._text or 'all traces'}", ""),
        ]
        yield TopBar(left)
        with Horizontal():
            yield OptionList(id="analyses", markup=False, compact=True)
            with Vertical():
                yield Static(id="question", markup=False)
                yield VerticalScroll(id="form")
                yield Static(id="sql-status", markup=False)
                yield Grid(id="answer")
                yield Static(id="result-notes", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        """Read the declarations."""
        self.query_one("#analyses").focus()
        self.ask("catalogue", lambda _: _catalogue(), self._list)

    def _list(self, found: "dict[str, Analysis]") -> None:
        self._catalogue = found
        listing = self.query_one("#analyses", OptionList)
        width = max(16, listing.size.width - 4)
        for analysis in found.values():
            line = Text()
            line.append(one_line(analysis.title, width) + "\n", "bold")
            line.append(safe(analysis.question) + "\n", "dim")
            listing.add_option(Option(line))
        listing.highlighted = 0

    async def on_option_list_option_highlighted(
        self, message: OptionList.OptionHighlighted
    ) -> None:
        """Show the question and its form."""
        chosen = list(self._catalogue.values())[message.option_index]
        if chosen is self.analysis:
            return
        self.analysis, self.result, self._shown = chosen, None, ""
        self.query_one("#question", Static).update(safe(chosen.question))
        form = self.query_one("#form", VerticalScroll)
        await form.remove_children()
        group = _field("by", BY, "columns that name a group, with commas")
        await form.mount(group, *[_option(option) for option in chosen.options])
        self.query_one(Grid).show(ListRows(), [])
        self.query_one("#result-notes", Static).update(f"source: {safe(chosen.source)}")
        self._status("enter or F5 runs it")

    def on_option_list_option_selected(self) -> None:
        """Run the chosen analysis."""
        self.action_run()

    def on_input_submitted(self) -> None:
        """Run with what was typed."""
        self.action_run()

    def action_run(self) -> None:
        """Run the analysis with the options of the form."""
        if self.analysis is None:
            return
        form = {f.name or "": f.value.strip() for f in self.query_one("#form").query(Input)}
        store, text, name = self.app.store, self._text, self.analysis.name
        self.ask("analysis", lambda cancel: _run(store, text, name, form, cancel), self._show)

    def _show(self, result: "Result") -> None:
        self.result, self._shown = result, ""
        self._status(f"{formats.count(result.frame.height)} rows{self._others()}")
        notes = results.said(result.dropped, [*result.notes, f"source: {result.source}"])
        self.query_one("#result-notes", Static).update(safe(notes, lines=True))
        self._show_table()
        self.query_one(Grid).focus()

    def _others(self) -> str:
        names = list(self.result.more) if self.result else []
        return f" · n shows {', '.join(names)}" if names else ""

    def _frame(self) -> "pl.DataFrame":
        assert self.result is not None
        return self.result.more[self._shown] if self._shown else self.result.frame

    def _show_table(self) -> None:
        assert self.result is not None
        grid, frame = self.query_one(Grid), self._frame()
        grid.empty_text = "no rows"
        grid.show(
            results.ordered(frame, "", descending=False),
            results.grid_columns(frame, self.result.columns),
        )

    def _status(self, text: str, *, is_fault: bool = False) -> None:
        shown = self.query_one("#sql-status", Static)
        shown.set_class(is_fault, "-fault")
        shown.update(safe(text, lines=True))

    def running_changed(self, *, running: bool) -> None:
        """Say so above the table."""
        if running:
            self._status("running…  esc cancels")

    def was_cancelled(self, group: str) -> None:
        """Say so above the table."""
        self._status(f"cancelled: {group}")

    def has_failed(self, group: str, error: Exception) -> None:
        """Say what went wrong above the table."""
        self._status(str(error), is_fault=True)

    def on_grid_sorted(self, message: Grid.Sorted) -> None:
        """Bring the rows in order."""
        if self.result is not None:
            message.grid.show(
                results.ordered(self._frame(), message.key, descending=message.descending)
            )

    def action_table(self) -> None:
        """Show the next of the result's tables."""
        if self.result is not None and self.result.more:
            names = ["", *self.result.more]
            self._shown = names[(names.index(self._shown) + 1) % len(names)]
            rows = formats.count(self._frame().height)
            self._status(f"{self._shown or self.result.name}: {rows} rows · n shows the next table")
            self._show_table()

    def action_copy(self) -> None:
        """Copy the analysis as SQL, Polars or a notebook cell."""
        from workbench.tui.copying import CopyScreen, view_texts

        if self.analysis is not None:
            row = self.query_one(Grid).current
            self.app.push_screen(
                CopyScreen(view_texts(self.app.store.path, self._text, self.analysis.name, row))
            )

    def action_back(self) -> None:
        """Cancel what runs; else go back."""
        if not self.stop_asking():
            self.app.pop_screen()


def _field(name: str, value: str, help: str) -> Horizontal:
    return Horizontal(
        Label(name, markup=False),
        Input(value, name=name, compact=True),
        Label(help, classes="help", markup=False),
        classes="field",
    )


def _option(option: "Setting") -> Horizontal:
    value = str(option.default).lower() if option.type == "flag" else option.default
    choices = f" ({', '.join(option.choices)})" if option.type == "choice" else ""
    return _field(option.name, "" if value is None else str(value), option.help + choices)


def _catalogue() -> "dict[str, Analysis]":
    from workbench import analysis

    return analysis.catalogue()


def _run(store: "Store", text: str, name: str, form: dict[str, str], cancel: "Cancel") -> "Result":
    """Run an analysis with what a form holds; an empty field leaves the option's default."""
    from workbench import analysis
    from workbench.store import reference

    by = tuple(part.strip() for part in form.get("by", BY).split(",") if part.strip())
    options: dict[str, Any] = {k: value for k, value in form.items() if k != "by" and value}
    rows = analysis.get(name).rows
    with store.facts(text, rows, cancel=cancel) as facts, reference.in_force(store):
        return analysis.run(name, facts, by=by, **options)
