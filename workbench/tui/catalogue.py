"""The catalogue: every analysis with its question, a form made from its options, and its answer."""

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Input, Label, Static

from workbench.safe import safe
from workbench.slice.names import columns
from workbench.tui import results, slices
from workbench.tui.asking import StatusScreen, Ticket, once
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
CHANGED = "the question was changed; enter or F5 asks it"


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A slice, an analysis, and the fields of its form as they are written."""

    text: str
    name: str
    form: tuple[tuple[str, str], ...]

    @property
    def by(self) -> tuple[str, ...]:
        """The columns that name a group."""
        return columns(dict(self.form).get("by", BY))

    @property
    def options(self) -> dict[str, str]:
        """The options that were chosen: a field that is empty, or as the form had it, leaves the default."""
        from workbench import analysis

        defaults = {o.name: _written(o) for o in analysis.get(self.name).options}
        return {
            name: value
            for name, value in self.form
            if name != "by" and value not in ("", defaults[name])
        }

    def as_shown(self, table: str) -> "AnalysisRequest":
        """Return the question of one of the tables of its answer."""
        from workbench.analysis.catalogue.forms import AnalysisRequest

        return AnalysisRequest(self.name, slices.read(self.text), self.by, self.options, table)


class CatalogueScreen(StatusScreen):
    """Choose a question, set its options, read the answer."""

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
        self.asked: Question | None = None  # that the result answers
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
            yield Analyses(id="analyses")
            with Vertical():
                yield Static(id="question", markup=False)
                yield VerticalScroll(id="form")
                yield Static(id="status", markup=False)
                yield Grid(id="answer")
                yield Notes()
        yield KeyBar()

    def on_mount(self) -> None:
        """Read the declarations."""
        self.analyses.listing.focus()
        self.ask("catalogue", once, lambda *_: _families(), self.analyses.show)

    @property
    def analyses(self) -> Analyses:
        """The list on the left."""
        return self.query_one(Analyses)

    async def on_analyses_highlighted(self, message: Analyses.Highlighted) -> None:
        """Show the question and its form."""
        chosen = message.analysis
        if chosen is self.analysis:
            return
        self.analysis, self.result, self._shown, self.asked = chosen, None, "", None
        self.query_one("#question", Static).update(safe(chosen.question))
        form = self.query_one("#form", VerticalScroll)
        await form.remove_children()
        group = _field("by", BY, "columns that name a group, with commas")
        await form.mount(group, *[_option(option) for option in chosen.options])
        self.remove_class("-answered")
        grid = self.query_one(Grid)
        grid.sort_key = ""
        grid.show(ListRows(), [])
        self.query_one(Notes).show(f"source: {chosen.source}")
        self.say("enter or F5 runs it")

    def on_analyses_chosen(self) -> None:
        """Run the chosen analysis."""
        self.action_run()

    def action_find(self) -> None:
        """Look for an analysis by its words."""
        self.analyses.find()

    def on_input_submitted(self) -> None:
        """Run with what was typed."""
        self.action_run()

    def action_run(self) -> None:
        """Run the analysis with the options of the form."""
        if self.analysis is None:
            return
        self.ask("analysis", self.wanted, partial(_run, self.app.store), self._show)

    def wanted(self) -> Question | None:
        """The question of the screen: slice, analysis and what its form holds."""
        if self.analysis is None:
            return None
        form = [(f.name or "", f.value.strip()) for f in self.query_one("#form").query(Input)]
        return Question(self._text, self.analysis.name, tuple(form))

    def was_overtaken(self, ticket: Ticket) -> None:
        """Leave it to the user to ask what is only half written, perhaps."""
        self.say(CHANGED)

    def on_input_changed(self) -> None:
        """Say that the table is no answer to what the form holds now."""
        if self.result is not None:
            self._say_height() if self.wanted() == self.asked else self.say(CHANGED)

    def _show(self, result: "Result") -> None:
        self.result, self._shown, self.asked = result, "", self.wanted()
        self.add_class("-answered")
        self._say_height()
        notes = [*result.notes, f"source: {result.source}"]
        self.query_one(Notes).show(results.said(result.dropped, notes))
        self._show_table()
        self.query_one(Grid).focus()

    def _say_height(self) -> None:
        assert self.result is not None
        names = list(self.result.more)
        if self._shown:
            shown = f"{self._shown}: {results.height(self._frame())} · n shows the next table"
        else:
            others = f" · n shows {', '.join(names)}" if names else ""
            shown = results.height(self._frame()) + others
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
            grid.show(*results.record(frame, known, grid.size.width // 2 - 1))
            return
        if grid.sort_key not in frame.columns:
            grid.sort_key = ""
        rows = results.ordered(frame, grid.sort_key, descending=grid.descending)
        grid.show(rows, results.grid_columns(frame, known))

    def on_grid_sorted(self) -> None:
        """Bring the rows in order."""
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
        """Copy the table that is shown as SQL, Polars, a notebook cell, a command, or the row."""
        from workbench.tui.copying import offer_answer

        question, row = self.asked or self.wanted(), self.query_one(Grid).current
        if question is not None:
            if self.result is not None and self._frame().height == 1:
                row = self._frame().row(0, named=True)  # it is shown on its side
            offer_answer(self, partial(question.as_shown, self._shown), row)

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
    choices = f" ({', '.join(option.choices)})" if option.type == "choice" else ""
    return _field(option.name, _written(option), option.help + choices)


def _written(option: "Setting") -> str:
    """Write an option's default as its field shows it."""
    if option.type == "flag":
        return str(option.default).lower()
    return "" if option.default is None else str(option.default)


def _families() -> "dict[str, list[Analysis]]":
    from workbench import analysis

    return analysis.by_family()


def _run(store: "Store", question: Question | None, cancel: "Cancel") -> "Result":
    """Run an analysis with what a form holds."""
    from workbench import analysis

    assert question is not None
    options: dict[str, Any] = {**question.options}
    where = slices.read(question.text)
    with store.snapshot(cancel=cancel) as held:
        return analysis.run(question.name, held, where=where, by=question.by, **options)
