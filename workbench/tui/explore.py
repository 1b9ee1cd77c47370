"""Explore screen: slice, facets, configurations and their frontier, of the same traces."""

import contextlib
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.widgets import Static

from workbench import formats
from workbench.errors import StoreError, StoreLocked, StoreMissing
from workbench.tui.configurations import AXES, COLUMNS, Row, axis, note, ordered, points
from workbench.tui.queries import always_current
from workbench.tui.slice_screen import SliceScreen
from workbench.tui.store_watch import POLL_EVERY_S, updated_stamp
from workbench.tui.widgets.facets import Facets
from workbench.tui.widgets.grid import Grid
from workbench.tui.widgets.key_bar import KeyBar
from workbench.tui.widgets.rows import ListRows
from workbench.tui.widgets.scatter import Scatter
from workbench.tui.widgets.slice_bar import SliceBar
from workbench.tui.widgets.top_bar import Parts, TopBar

if TYPE_CHECKING:
    from workbench.store import Cancel, Overview, Store
    from workbench.tui.overview import Part, Question

    View = Callable[[Question, Cancel], Generator[Part, None, None]]

NOWHERE: Row = dict.fromkeys(("x", "y", "on_frontier", "p_on_frontier", "dominated_by"))


class ExploreScreen(SliceScreen):
    """First screen of the app; every part shows the slice of the slice bar."""

    SLICED = frozenset({"configurations", "frontier", "facets"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "traces", show=True),
        Binding("c", "compare", "compare"),
        Binding("a", "analyses", "analyse"),
        Binding("r", "runs", "runs"),
        Binding("x", "axis('x', 1)", "axis"),
        Binding("X", "axis('y', 1)", "outcome axis", show=False),
        Binding("y", "copy", "copy"),
        Binding("s", "save", "save slice"),
        Binding("S", "saved", "saved slices", show=False),
        Binding("m,space", "mark", "mark for comparing", show=False),
        Binding("f", "part('facets')", "show or hide facets", show=False),
        Binding("v", "part('chart')", "show or hide the chart", show=False),
        Binding("escape", "stop", "cancel the query, back to the table", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.overview: Overview | None = None
        self.rows: list[Row] = []
        self.x, self.y = AXES["cost_usd"], AXES["pass_rate"]  # as chosen by the user
        self.shown: Question | None = None  # the question that table and chart answer
        self._moment = ""  # the snapshot that table and chart are read from
        self._overview_moment = ""  # the snapshot that the top bar is read from
        self._stamp = ""
        self._facets_of = ("", "")  # slice and snapshot of the facets
        self._first_traces_timer: Timer | None = None  # polls an empty store

    def compose(self) -> ComposeResult:
        """Build the frame, before the store is open."""
        yield TopBar([("workbench", "bold"), ("  ", ""), (self.app.store_name, "foreground")])
        yield SliceBar(id="slice")
        with Horizontal(id="body"):
            yield Facets(id="facets")
            with Vertical(id="main"):
                yield Grid(COLUMNS, id="configurations")
                yield Static(id="notes", markup=False)
                yield Scatter(id="chart")
        yield KeyBar()

    def on_mount(self) -> None:
        """Prepare the table, and open the store after the first frame."""
        grid = self.grid
        grid.identity = lambda row: str(row["configuration"])
        grid.is_dim = lambda row: bool(row.get("dominated_by"))
        grid.sort_key, grid.descending = "pass_rate", True
        grid.empty_text = "opening the store…"
        grid.focus()
        self.call_after_refresh(self.set_timer, 0.02, self.load)

    # -- the store ---------------------------------------------------------------------------------

    def load(self) -> None:
        """Open the store in a thread."""
        path = self.app.store_path
        self.run_query("open", always_current, lambda _, cancel: _open(path, cancel), self._opened)

    def _opened(self, opened: "Opened") -> None:
        self.app.opened, self._stamp, self._overview_moment, self.overview = opened
        self.app.stamp = self._stamp
        self.total = self.overview.n_traces
        if not self.overview.n_traces:
            self._show_next_steps()
            return
        self.refresh_bindings()
        self._show_overview()
        self.refresh_view()
        self.set_interval(POLL_EVERY_S, self._poll)

    def has_failed(self, group: str, error: Exception) -> None:
        """Show a failure to open the store as a page, one to poll it as a warning."""
        if group == "open":
            self._show_next_steps(error)
        elif group == "look":
            self.warn(error)
        else:
            super().has_failed(group, error)

    def _show_next_steps(self, error: Exception | None = None) -> None:
        from workbench.tui.empty import EmptyScreen

        missing = isinstance(error, StoreMissing)
        n_results = self.overview.n_results if self.overview else 0
        self.grid.empty_text = ""
        if self.app.opened is not None and error is None:
            self._first_traces_timer = self.set_interval(POLL_EVERY_S, self._poll_first_traces)
        self.app.push_screen(EmptyScreen(None if missing else error, n_results), self._again)

    def _again(self, _: None) -> None:
        if self._first_traces_timer is not None:
            self._first_traces_timer.stop()
        self.load()

    def _poll_first_traces(self) -> None:
        """Close the page of next steps once a collection has written traces."""
        if not self.is_open("look"):
            store = self.app.store
            self.run_query(
                "look",
                self._current_stamp,
                partial(_first_traces, store),
                self._on_first_traces,
                quiet=True,
            )

    def _on_first_traces(self, result: tuple[str, int] | None) -> None:
        from workbench.tui.empty import EmptyScreen

        self.has_looked()
        if result is not None:
            self._stamp, n = result
            if n and isinstance(self.app.screen, EmptyScreen):
                self.app.screen.dismiss()

    def _current_stamp(self) -> str:
        return self._stamp

    def _poll(self) -> None:
        if self.is_on_top and not self.is_querying and not self.is_open("look"):
            store = self.app.store
            self.run_query(
                "look", self._current_stamp, partial(_changed, store), self._on_changed, quiet=True
            )

    def _on_changed(self, stamp: str | None) -> None:
        self.has_looked()
        if stamp is not None:
            self._stamp = self.app.stamp = stamp
            self.refresh_view()

    def _show_overview(self) -> None:
        known = self.overview
        assert known is not None
        name: Parts = [("workbench", "primary"), ("  ", ""), (self.app.store_name, "foreground")]
        facts = [
            formats.counted(known.n_traces, "trace"),
            f"{formats.count(known.n_runs)} run{'' if known.n_runs == 1 else 's'}",
        ]
        facts += [formats.usd(known.cost_usd)] if known.cost_usd is not None else []
        facts += [formats.si(known.energy_j, "J")] if known.energy_j is not None else []
        right: Parts = [(" · ".join(facts), "")]
        if known.n_faults:
            right.append((f"   ⚠ {formats.counted(known.n_faults, 'fault')}", "warning"))
        self.query_one(TopBar).show(name, right)

    # -- the slice
    # ----------------------------------------------------------------------

    @property
    def shown_slice(self) -> str | None:
        """The slice that the table and the chart show."""
        return None if self.shown is None else self.shown.text

    def wanted(self) -> "Question":
        """Return the question of the screen: the slice in force and the axes."""
        from workbench.tui.overview import Question

        return Question(self.bar.text, self.x.name, self.y.name)

    def refresh_view(self) -> None:
        """Run all queries for the slice; a slice that is shown already is replaced in one step."""
        from workbench.tui import overview

        facets = self.query_one(Facets).display
        view = partial(
            overview.view, self.app.store, known=self._overview_moment, with_facets=facets
        )
        is_shown = self.shown is not None and self.shown.text == self.bar.text
        work = partial(_together if is_shown else _one_by_one, view)
        self.run_query("configurations", self.wanted, work, self._show_parts)

    def _show_parts(self, parts: "Sequence[Part]") -> None:
        for part in parts:
            self._store_part(part)
        self._show_table()
        self._show_chart()

    def _store_part(self, part: "Part") -> None:
        """Store a part of the view; if it is of another snapshot than the rest, run all queries."""
        if part.rows is None and part.moment != self._moment:
            self.refresh_view()
            return
        if part.rows is not None:
            self.n, self.total, self.rows = part.n, part.total, part.rows
            self._moment, self.shown = part.moment, part.question
            self.bar.show_fault(None)
            self.has_changed()
            empty = ("no trace matches; u brings the slice before back", *part.unmatched)
            self.grid.empty_text = "\n".join(empty)
        if part.whole is not None:
            self.overview, self._overview_moment = part.whole, part.moment
            self._show_overview()
        if part.frontier is not None:
            self.shown = part.question
            for row in self.rows:
                row.update(part.frontier.get(str(row["configuration"]), NOWHERE))
        if part.costs is not None:
            for row in self.rows:
                cost = part.costs.get(str(row["configuration"]), {})
                row["cost_of_pass_usd"] = cost.get("cost_of_pass_usd")
        if part.facets is not None:
            self._facets_of = (part.question.text, part.moment)
            self.query_one(Facets).show(*part.facets)

    def _show_part(self, part: "Part") -> None:
        self._show_parts((part,))

    def _ask_frontier(self) -> None:
        """Query the frontier for other axes; run all queries if the slice is changing."""
        from workbench.tui import overview

        if self.shown is None or self.shown.text != self.bar.text or self.is_open("configurations"):
            self.refresh_view()
        else:
            work = partial(overview.frontier, self.app.store)
            self.run_query("frontier", self.wanted, work, self._show_part)

    def _ask_facets(self) -> None:
        """Query the facets if they are in view and out of date."""
        from workbench.tui import overview

        if (
            self.shown is None
            or self.is_open("configurations")
            or self._facets_of == (self.shown.text, self._moment)
            or not self.query_one(Facets).display
        ):
            return
        work = partial(overview.facets, self.app.store)
        self.run_query("facets", self._on_screen, work, self._show_part, quiet=True)

    def _on_screen(self) -> "Question":
        assert self.shown is not None
        return self.shown

    def on_resize(self) -> None:
        """Query the facets when there is room for them again."""
        if self.rows:
            self.call_after_refresh(self._ask_facets)

    def _show_table(self) -> None:
        grid = self.grid
        rows = ordered(self.rows, grid.sort_key, descending=grid.descending)
        grid.show(ListRows(rows), keep=True)
        self._show_note()

    def _show_note(self) -> None:
        x = self.x if self.shown is None else AXES[self.shown.x]
        text = note(self.rows, x, len(self._marked()))
        self.query_one("#notes", Static).update(text)

    def _show_chart(self) -> None:
        chart = self.query_one(Scatter)
        if self.shown is None:
            return
        x, y = AXES[self.shown.x], AXES[self.shown.y]
        is_known = any("on_frontier" in row for row in self.rows) or not self.rows
        nothing = f"no configuration has both {x.title} and {y.title}"
        chart.empty_text = nothing if is_known else "finding the frontier…"
        chart.show(points(self.rows), axis(x), axis(y))

    def was_cancelled(self, group: str) -> None:
        """Show the next steps if opening the store was cancelled."""
        if group == "open":
            self._show_next_steps(StoreError("opening was cancelled; press r to try again"))
        else:
            super().was_cancelled(group)

    # -- messages --------------------------------------------------------------------------------

    def on_facets_toggled(self, message: Facets.Toggled) -> None:
        """Edit the slice."""
        from workbench.tui import slice_edits

        self.bar.apply(slice_edits.toggled(self.bar.text, message.field, message.value))

    def on_grid_highlighted(self, message: Grid.Highlighted) -> None:
        """Emphasise the configuration on the chart."""
        if message.row is not None:
            self.query_one(Scatter).choose(str(message.row["configuration"]))

    def on_grid_sorted(self) -> None:
        """Sort the rows."""
        self._show_table()

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Show the configuration's traces."""
        from workbench.tui import slice_edits
        from workbench.tui.traces import TracesScreen

        name = str(message.row["configuration"])
        self.app.push_screen(TracesScreen(slice_edits.narrowed(self.bar.text, configuration=name)))

    def on_scatter_chosen(self, message: Scatter.Chosen) -> None:
        """Go to the configuration that was clicked."""
        for index in range(self.grid.rows.n):
            row = self.grid.rows.get(index)
            if row is not None and row["configuration"] == message.key:
                self.grid.cursor = index

    # -- keys --------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        """Cancel what runs; else go back to the table."""
        if not self.cancel_queries():
            self.grid.focus()

    def action_mark(self) -> None:
        """Mark the configuration for comparing, or take the mark away."""
        self.grid.toggle_mark()
        self._show_note()

    def _marked(self) -> set[str]:
        """Return the marked configurations that are in the table."""
        return self.grid.marked & {str(row["configuration"]) for row in self.rows}

    def action_part(self, id: str) -> None:
        """Show or hide a part of the screen."""
        part = self.query_one(f"#{id}")
        hide = part.display
        part.set_class(hide, "-hidden").set_class(not hide, "-shown")
        self.call_after_refresh(self._ask_facets)

    def action_axis(self, which: str, by: int) -> None:
        """Select the next measure for an axis."""
        names = [name for name, a in AXES.items() if a.is_outcome == (which == "y")]
        current = self.x if which == "x" else self.y
        following = AXES[names[(names.index(current.name) + by) % len(names)]]
        if which == "x":
            self.x = following
        else:
            self.y = following
        if self.app.opened is not None:
            self._ask_frontier()

    def action_compare(self) -> None:
        """Compare the two marked configurations, or the marked one with that under the cursor."""
        from workbench.tui.compare import CompareScreen

        names = sorted(self._marked())
        here = self.grid.current
        if len(names) == 1 and here is not None and here["configuration"] not in names:
            names.append(str(here["configuration"]))
        if len(names) != 2:
            self.app.notify("mark two configurations with m, then press c", markup=False)
            return
        self.app.push_screen(CompareScreen(self.bar.text, names[0], names[1]))

    def action_analyses(self) -> None:
        """Open the catalogue."""
        from workbench.tui.catalogue import CatalogueScreen

        if self.app.opened is not None:
            self.app.push_screen(CatalogueScreen(self.bar.text))

    def action_runs(self) -> None:
        """Open the list of runs, live ones on top."""
        from workbench.tui.runs import RunsScreen

        if self.app.opened is not None:
            self.app.push_screen(RunsScreen(self.bar.apply))

    def action_copy(self) -> None:
        """Copy the view as SQL, Polars, a notebook cell or a command, or the row."""
        from workbench.tui.copying import CopyScreen, overview_texts, row_texts

        if (shown := self.shown) is not None:
            texts = overview_texts(self.app.store.path, shown.text, shown.x, shown.y)
            self.app.push_screen(CopyScreen(texts | row_texts(self.grid.current)))

    def action_save(self) -> None:
        """Save the slice under a name."""
        from workbench.tui.saved_slices import NameScreen

        if self.app.opened is not None:
            self.app.push_screen(NameScreen(self.bar.text), self._save)

    def _save(self, name: str | None) -> None:
        if name:
            store, text = self.app.store, self.bar.text
            self.run_query(
                "save",
                always_current,
                lambda *_: store.save_slice(name, text),
                lambda _: self._saved(name),
            )

    def _saved(self, name: str) -> None:
        self.app.notify(f"saved as {name}; S lists saved slices", markup=False, timeout=3)

    def action_saved(self) -> None:
        """Choose among the saved slices."""
        if self.app.opened is not None:
            store = self.app.store
            self.run_query(
                "saved slices", always_current, lambda *_: store.saved_slices(), self._choose_saved
            )

    def _choose_saved(self, saved: dict[str, str]) -> None:
        from workbench.tui.saved_slices import SavedScreen

        self.app.push_screen(
            SavedScreen(saved),
            lambda text: self.bar.apply(text) if text is not None else None,
        )


Opened = tuple["Store", str, str, "Overview"]  # store, stamp, moment of the overview, overview


def _open(path: Any, cancel: "Cancel") -> Opened:
    from workbench.store import open_store
    from workbench.tui.overview import at_a_glance

    store, stamp = open_store(path, cancel=cancel), ""
    with contextlib.suppress(StoreLocked):  # another process writes; the next poll retries
        stamp = updated_stamp(store, "") or ""
    return store, stamp, *at_a_glance(store)


def _changed(store: "Store", stamp: str, _: "Cancel") -> str | None:
    return updated_stamp(store, stamp)


def _first_traces(store: "Store", stamp: str, cancel: "Cancel") -> tuple[str, int] | None:
    newer_stamp = updated_stamp(store, stamp)
    return None if newer_stamp is None else (newer_stamp, store.count(cancel=cancel))


def _together(view: "View", question: "Question", cancel: "Cancel") -> "list[Part]":
    return [*view(question, cancel)]


def _one_by_one(
    view: "View", question: "Question", cancel: "Cancel"
) -> "Generator[list[Part], None, None]":
    yield from ([part] for part in view(question, cancel))
