"""Catalogue screen: every analysis with its question, a form of its options, and its answer."""

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Input, Label, Static

from workbench.safe import safe
from workbench.slice.names import columns
from workbench.tui import result_grid, slice_edits
from workbench.tui.queries import Query, StatusScreen, always_current
from workbench.tui.widgets.analyses import Analyses
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.key_bar import KeyBar
from workbench.tui.widgets.notes import Notes
from workbench.tui.widgets.rows import ListRows
from workbench.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    import polars as pl

    from workbench.analysis import Analysis, Result
    from workbench.analysis import Option as Setting
    from workbench.analysis.catalogue.forms import AnalysisRequest
    from workbench.store import Cancel, Store

BY = "configuration"
CHANGED = "the options were changed; enter or F5 runs the analysis"


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A slice, an analysis, and the fields of its form as text."""

    text: str
    name: str
    form: tuple[tuple[str, str], ...]

    @property
    def by(self) -> tuple[str, ...]:
        """The columns that name a group."""
        return columns(dict(self.form).get("by", BY))

    @property
    def options(self) -> dict[str, str]:
        """The options that differ from their defaults; an empty field is the default."""
        from workbench import analysis

        defaults = {o.name: _written(o) for o in analysis.get(self.name).options}
        return {
            name: value
            for name, value in self.form
            if name != "by" and value not in ("", defaults[name])
        }

    def as_shown(self, table: str) -> "AnalysisRequest":
        """Return the request whose answer is one of the result's tables."""
        from workbench.analysis.catalogue.forms import AnalysisRequest

        return AnalysisRequest(self.name, slice_edits.read(self.text), self.by, self.options, table)


class CatalogueScreen(StatusScreen):
    """Screen to select an analysis, set its options and read the result."""

    CSS_PATH = "screens.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5,ctrl+r", "run", "run"),
        Binding("slash", "find", "find"),
        Binding("y", "copy", "copy as…"),
        Binding("tab", "app.focus_next", "options, table", show=True),
        Binding("n", "table", "next table"),
        Binding("escape", "back", "back"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self.analysis: Analysis | None = None
        self.result: Result | None = None
        self.answered: Question | None = None  # the question of `result`
        self._shown = ""  # the result's table on screen; "" for the main one

    def compose(self) -> ComposeResult:
        """Build the frame."""
        title = [
            ("analyse  ", "primary"),
            (self.app.store_name, ""),
            (f"  {self._text or 'all traces'}", ""),
        ]
        yield TopBar(title)
        with Horizontal():
            yield Analyses(id="analyses")
            with Vertical():
                yield Static(id="question", markup=False)
                yield VerticalScroll(id="form")
                yield Static(id="status", markup=False)
                yield Grid(id="answer")
                yield Notes()
        yield KeyBar()

    def on_mount(self) -> None:
        """List the analyses."""
        self.analyses.listing.focus()
        self.run_query("catalogue", always_current, lambda *_: _families(), self.analyses.show)

    @property
    def analyses(self) -> Analyses:
        """The list on the left."""
        return self.query_one(Analyses)

    async def on_analyses_highlighted(self, message: Analyses.Highlighted) -> None:
        """Show the question and its form."""
        analysis = message.analysis
        if analysis is self.analysis:
            return
        self.analysis, self.result, self._shown, self.answered = analysis, None, "", None
        self.query_one("#question", Static).update(safe(analysis.question))
        form = self.query_one("#form", VerticalScroll)
        await form.remove_children()
        group = _field("by", BY, "columns that name a group, with commas")
        await form.mount(group, *[_option(option) for option in analysis.options])
        self.remove_class("-answered")
        grid = self.query_one(Grid)
        grid.sort_key = ""
        grid.show(ListRows(), [])
        self.query_one(Notes).show(f"source: {analysis.source}")
        self.say("enter or F5 runs it")

    def on_analyses_chosen(self) -> None:
        """Run the chosen analysis."""
        self.action_run()

    def action_find(self) -> None:
        """Search for an analysis by words."""
        self.analyses.find()

    def on_input_submitted(self) -> None:
        """Run with what was typed."""
        self.action_run()

    def action_run(self) -> None:
        """Run the analysis with the options of the form."""
        if self.analysis is None:
            return
        self.run_query("analysis", self.wanted, partial(_run, self.app.store), self._show)

    def wanted(self) -> Question | None:
        """Return the question of the screen: slice, analysis and the fields of its form."""
        if self.analysis is None:
            return None
        form = [(f.name or "", f.value.strip()) for f in self.query_one("#form").query(Input)]
        return Question(self._text, self.analysis.name, tuple(form))

    def was_overtaken(self, query: Query) -> None:
        """Do not run again: the user may still be typing."""
        self.say(CHANGED)

    def on_input_changed(self) -> None:
        """Show that the table is not the answer to the form's present fields."""
        if self.result is not None:
            self._say_height() if self.wanted() == self.answered else self.say(CHANGED)

    def _show(self, result: "Result") -> None:
        self.result, self._shown, self.answered = result, "", self.wanted()
        self.add_class("-answered")
        self._say_height()
        notes = [*result.notes, f"source: {result.source}"]
        self.query_one(Notes).show(result_grid.notes_text(result.dropped, notes))
        self._show_table()
        self.query_one(Grid).focus()

    def _say_height(self) -> None:
        assert self.result is not None
        names = list(self.result.more)
        if self._shown:
            shown = f"{self._shown}: {result_grid.height(self._frame())} · n shows the next table"
        else:
            others = f" · n shows {', '.join(names)}" if names else ""
            shown = result_grid.height(self._frame()) + others
        self.say(shown)

    def _frame(self) -> "pl.DataFrame":
        assert self.result is not None
        return self.result.more[self._shown] if self._shown else self.result.frame

    def _show_table(self) -> None:
        assert self.result is not None
        grid, frame, known = self.query_one(Grid), self._frame(), self.result.columns
        grid.empty_text = "no rows"
        if frame.height == 1:
            grid.sort_key = ""
            grid.show(*result_grid.record(frame, known, grid.size.width // 2 - 1))
            return
        if grid.sort_key not in frame.columns:
            grid.sort_key = ""
        rows = result_grid.ordered(frame, grid.sort_key, descending=grid.descending)
        grid.show(rows, result_grid.grid_columns(frame, known))

    def on_grid_sorted(self) -> None:
        """Sort the rows."""
        if self.result is not None:
            self._show_table()

    def action_table(self) -> None:
        """Show the next of the result's tables."""
        if self.result is not None and self.result.more:
            names = ["", *self.result.more]
            self._shown = names[(names.index(self._shown) + 1) % len(names)]
            self._say_height()
            self._show_table()

    def action_copy(self) -> None:
        """Copy the table on screen as SQL, Polars, a notebook cell or a command, or the row."""
        from workbench.tui.copying import offer_answer

        question, row = self.answered or self.wanted(), self.query_one(Grid).current
        if question is not None:
            if self.result is not None and self._frame().height == 1:
                row = self._frame().row(0, named=True)  # it is shown transposed
            offer_answer(self, partial(question.as_shown, self._shown), row)

    def action_back(self) -> None:
        """Cancel the running query; else go back."""
        if not self.cancel_queries():
            self.app.pop_screen()


def _field(name: str, value: str, help: str) -> Horizontal:
    return Horizontal(
        Label(name, markup=False),
        Input(value, name=name, compact=True),
        Label(help, classes="help", markup=False),
        classes="field",
    )


def _option(option: "Setting") -> Horizontal:
    choices = f" ({', '.join(option.choices)})" if option.type == "choice" else ""
    return _field(option.name, _written(option), option.help + choices)


def _written(option: "Setting") -> str:
    """Write an option's default as text of its field."""
    if option.type == "flag":
        return str(option.default).lower()
    return "" if option.default is None else str(option.default)


def _families() -> "dict[str, list[Analysis]]":
    from workbench import analysis

    return analysis.by_family()


def _run(store: "Store", question: Question | None, cancel: "Cancel") -> "Result":
    """Run an analysis with the options of a form."""
    from workbench import analysis

    assert question is not None
    options: dict[str, Any] = {**question.options}
    where = slice_edits.read(question.text)
    with store.snapshot(cancel=cancel) as snapshot:
        return analysis.run(question.name, snapshot, where=where, by=question.by, **options)
