"""Explorer widget: facets, frontier chart, summary and traces of one store."""

import datetime as dt
import html
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets
import polars as pl
import traitlets

from widgets import frontier_chart, static_view
from widgets.facets import Facet, counts, under
from widgets.grid import Grid, Row
from workbench import analysis, schema
from workbench.analysis.core.result import Result
from workbench.errors import WorkbenchError
from workbench.slice import Slice, names
from workbench.store import Store, open_store

FACETS = ("task", "model", "strategy")
AXES = ("cost_usd", "output_tokens", "reasoning_tokens", "e2e_s", "energy_j")
_SUMMARY = (
    "configuration",
    "n",
    "pass_rate",
    "cost_usd",
    "total_cost_usd",
    "output_tokens",
    "reasoning_tokens",
    "e2e_p50_s",
    "energy_j",
    "n_errors",
    "n_unscored",
)
_TRACES = (
    "configuration",
    "task",
    "item",
    "trial",
    "passed",
    "answer",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "e2e_s",
    "stop_reason",
    "error_type",
    "started_at",
)


class Explorer(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets carries no types
    """Panel to explore a store: filter by facet and slice, brush configurations, read traces.

    All state is in traits that Python can set and read; the page only shows it.

    Attributes:
        where: the slice as text; if it does not parse, `error` is set and the page keeps its view.
        task, model, strategy: values selected in the facets, with None for unknown; () is all.
        further: values selected in further facets, by field; see `facets` of the constructor.
        axis: the cost axis of the frontier: any measure of a trace, for example "energy_j", or a
            column of the store's own, as "metrics.rubric".
        selected: configurations brushed in the chart or selected in the summary; () is all.
        slice: the view with facets and selection, for `store.traces`, the CLI and the terminal app.
        sql, polars_code: the view as a query and as source code with `store` in scope; ""
            with an `error`.
        trace: id of the trace selected in the table, "" if none is.
        error: message of an error in the slice or the store, "" without one.
    """

    where = traitlets.Unicode("").tag(sync=True)
    task = traitlets.Tuple().tag(sync=True)
    model = traitlets.Tuple().tag(sync=True)
    strategy = traitlets.Tuple().tag(sync=True)
    further = traitlets.Dict().tag(sync=True)
    axis = traitlets.Unicode(AXES[0]).tag(sync=True)
    selected = traitlets.Tuple().tag(sync=True)
    trace = traitlets.Unicode("").tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)
    sql = traitlets.Unicode("").tag(sync=True)
    polars_code = traitlets.Unicode("").tag(sync=True)
    slice = traitlets.Instance(Slice, args=())

    def __init__(
        self,
        store: Store | str | Path,
        where: Slice | str = "",
        *,
        facets: Sequence[str] = (),
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        """Open the panel.

        Args:
            store: a store, or the path of one.
            where: the slice to begin with.
            facets: further fields to list the values of: columns of `trace_facts`, or of the
                store's own, as "params.docs" (see `store.fields()`).
            clock: returns the time that ages such as `since:7d` count back from.

        Raises:
            StoreMissing: there is no store at the path.
            SliceError: `where` does not parse.
        """
        Slice.of(where, now=clock())
        self.store = store if isinstance(store, Store) else open_store(store)
        self._clock = clock
        self._view = Slice()
        self._counted: tuple[Slice, str] | None = None
        self._cube: pl.DataFrame | None = None
        self._refused: WorkbenchError | None = None
        self._static: Any = None  # the handle of its output, once it is displayed
        self._pictured: tuple[Any, str] | None = None  # a chart and its picture
        self.summary: Result | None = None
        self.frontier: Result | None = None
        self._fields = (*FACETS, *names.columns(tuple(facets)))
        self._make_parts()
        super().__init__(layout={"width": "100%"})
        self.add_class("wb-explorer")
        self.children = self._layout_children()
        self.where = str(where)
        self._link()
        self.refresh()

    # -- queries -----------------------------------------------------------------------------------

    @property
    def selection(self) -> pl.DataFrame:
        """The traces of the view, with facets and selection: one row per trace of `trace_facts`.

        Raises:
            WorkbenchError: the error of the present filter, as in `error`; the page still shows the
                previous view.
        """
        if self._refused is not None:
            raise self._refused
        return self.store.traces(self.slice).collect()

    def refresh(self) -> None:
        """Read the store again and update the panel."""
        try:
            base = Slice.parse(self.where, self._clock())
            view = base.where(**{name: chosen for name, chosen in self._chosen.items() if chosen})
            self._query(base, view)
        except WorkbenchError as error:
            self._refused, self.error = error, str(error)
            self.sql = self.polars_code = ""
        else:
            self._refused, self.error = None, ""
            self._show()

    @property
    def _chosen(self) -> dict[str, Sequence[str | None]]:
        chosen: dict[str, Sequence[str | None]] = {f: getattr(self, f) for f in FACETS}
        return chosen | self.further

    def _query(self, base: Slice, view: Slice) -> None:
        """Run all queries of a view; keep the results only if every one succeeds."""
        counted, cube = (base, self.store.stamp()), self._cube
        if cube is None or counted != self._counted:
            cube = counts(self.store, base, self._fields)
        fields = names.own_fields((), {"x": self.axis})
        with self.store.facts(view, fields=fields) as traces:
            summary = analysis.run("summary", traces)
            frontier = analysis.run("frontier", traces, x=self.axis)
        self._counted, self._cube, self._view = counted, cube, view
        self.summary, self.frontier = summary, frontier

    # -- display -----------------------------------------------------------------------------------

    def _make_parts(self) -> None:
        columns = schema.columns_by_name()
        self.facets = {field: Facet(field) for field in self._fields}
        self._slice_box = ipywidgets.Text(
            description="slice",
            placeholder='wrong thinking>2000 cost>0.1 "text in transcript"',
            continuous_update=False,
            layout={"flex": "1 1 auto"},
        )
        self._axis_box = ipywidgets.Dropdown(
            description="cost axis",
            options=[(columns[a].heading, a) for a in AXES],
            layout={"width": "320px"},
        )
        self._again = ipywidgets.Button(
            icon="refresh", tooltip="read the store again", layout={"width": "40px"}
        )
        self._clear = ipywidgets.Button(description="all configurations", tooltip="select none")
        self._fault = ipywidgets.HTML()
        self._chart = frontier_chart.FrontierChart()
        described = {c.name: c for c in analysis.get("summary").columns} | {
            "configuration": columns["configuration"]
        }
        self._summary_grid = Grid(
            [described[c] for c in _SUMMARY], key="configuration", intervals=("pass_rate",), lines=8
        )
        self._trace_grid = Grid(
            [schema.TRACE_FACTS[c] for c in _TRACES],
            self._traces,
            key="trace_id",
            lines=11,
            several=False,
        )
        self._code = {
            n: ipywidgets.Textarea(disabled=True, rows=4, layout={"width": "auto"})
            for n in ("sql", "polars_code")
        }

    def _layout_children(self) -> list[ipywidgets.Widget]:
        code = ipywidgets.Accordion(list(self._code.values()))
        code.titles = ("the same view as SQL", "the same view as Polars code")
        hide = ipywidgets.HTML(f"<style>.{self._static_class} {{ display: none }}</style>")
        bar = ipywidgets.HBox([self._slice_box, self._again])
        facets = ipywidgets.HBox([f.panel for f in self.facets.values()])
        return [
            bar,
            self._fault,
            facets,
            ipywidgets.HBox([self._axis_box, self._clear]),
            self._chart.panel,
            self._summary_grid,
            self._trace_grid,
            code,
            hide,
        ]

    def _link(self) -> None:
        traitlets.link((self, "where"), (self._slice_box, "value"))
        for field, facet in self.facets.items():
            if field in FACETS:
                traitlets.link((self, field), (facet, "chosen"))
            else:
                facet.observe(partial(self._choose_further, field), "chosen")
        traitlets.link((self, "selected"), (self._chart, "selected"))
        traitlets.dlink((self, "sql"), (self._code["sql"], "value"))
        traitlets.dlink((self, "polars_code"), (self._code["polars_code"], "value"))
        self._axis_box.observe(lambda c: self.set_trait("axis", c["new"]), "value")
        self._again.on_click(lambda _: self.refresh())
        self._clear.on_click(lambda _: self.set_trait("selected", ()))
        self._summary_grid.observe(lambda c: self.set_trait("selected", tuple(c["new"])), "picked")
        self._trace_grid.observe(lambda c: self.set_trait("trace", "".join(c["new"])), "picked")
        self.observe(lambda _: self.refresh(), ["where", "axis", "further", *FACETS])
        self.observe(lambda _: self._show_selection(), "selected")
        self.observe(lambda _: self._show_error(), "error")

    def _choose_further(self, field: str, change: Mapping[str, Any]) -> None:
        rest = {name: chosen for name, chosen in self.further.items() if name != field}
        self.further = rest | ({field: tuple(change["new"])} if change["new"] else {})

    def _show(self) -> None:
        assert self.summary is not None
        assert self.frontier is not None
        assert self._cube is not None
        for field, facet in self.facets.items():
            if field not in FACETS:
                facet.chosen = tuple(self.further.get(field, ()))
            facet.show(under(self._cube, field, self._chosen))
        if self.axis in AXES:
            self._axis_box.value = self.axis
        self._chart.show(self.frontier)
        present = self.summary.frame["configuration"].to_list()
        self._summary_grid.show(len(present), fetch=self._summaries)
        remaining = tuple(c for c in self.selected if c in present)
        if remaining != self.selected:
            self.selected = remaining  # its observer shows the traces
        else:
            self._show_selection()

    def _show_selection(self) -> None:
        chosen = {"configuration": self.selected} if self.selected else {}
        self.slice = self._view.where(**chosen)
        self.sql = f"SELECT * FROM trace_facts\nWHERE {self.slice.sql()}"
        self.polars_code = f"store.traces().filter(\n    {self.slice.polars_code()}\n).collect()"
        self._summary_grid.picked = list(self.selected)
        self._trace_grid.picked = []
        try:
            n = self.store.count(self.slice)
            of = self.store.count()
            which = f"{len(self.selected)} selected" if self.selected else "all"
            caption = f"traces of {which} configurations: {n:,} of {of:,} in the store"
            if not of:
                command = f"workbench import PATH --store {self.store.path}"
                caption = f"this store has no traces yet; to add some, run: {command}"
            self._trace_grid.show(n, caption)
        except WorkbenchError as error:
            self.error = str(error)
        self._update_static_view()

    def _show_error(self) -> None:
        text = html.escape(self.error)
        self._fault.value = f'<pre style="color:#b3261e;margin:0">{text}</pre>' if text else ""

    def _summaries(self, start: int, limit: int, sort: str, descending: bool) -> Sequence[Row]:
        assert self.summary is not None
        frame = self.summary.frame
        if sort:
            frame = frame.sort(sort, descending=descending, nulls_last=True, maintain_order=True)
        return frame[start : start + limit].to_dicts()

    def _traces(self, start: int, limit: int, sort: str, descending: bool) -> Sequence[Row]:
        try:
            page = self.store.page(
                self.slice,
                columns=("trace_id", *_TRACES),
                order_by=sort or "started_at",
                descending=descending,
                offset=start,
                limit=limit,
            )
        except WorkbenchError as error:
            self.error = str(error)
            return []
        return page.to_dicts()

    def _title(self) -> str:
        chosen = str(self.slice) or "all traces"
        return f"Explorer of {self.store.path.name}: {chosen}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Return the live panel, and a static view for readers without a kernel."""
        live: dict[str, Any] = super()._repr_mimebundle_(**kwargs) or {}
        return live | self._bundle()

    def _bundle(self) -> dict[str, str]:
        """Write the static view; a chart is drawn once, because drawing it is slow."""
        if self._pictured is None or self._pictured[0] is not self._chart.chart:
            self._pictured = self._chart.chart, static_view.picture(self._chart.chart)
        return static_view.bundle(self._title(), self.summary, self._pictured[1])

    def _ipython_display_(self) -> None:
        """Display the panel, and its static view as a separate output.

        A notebook that is reopened or converted shows the live panel of an output, or an error in
        its place, and ignores the other formats of that output. The live panel hides the static
        view.
        """
        import IPython.display

        display: Any = IPython.display.display  # untyped there
        bundle = self._repr_mimebundle_()
        page = bundle.pop("text/html")
        display(bundle, raw=True)
        self._static = display(self._static_output(page), raw=True, display_id=True)

    def _static_output(self, page: str) -> dict[str, str]:
        """Wrap the HTML of a static view in the class that the live panel hides."""
        hint = "<p><em>A static view: run the cell again for the live panel.</em></p>"
        return {
            "text/html": f'<div class="{self._static_class}">{page}{hint}</div>',
            "text/plain": "",
        }

    def _update_static_view(self) -> None:
        """Replace the static view in the notebook by the present state."""
        if self._static is not None:
            self._static.update(self._static_output(self._bundle()["text/html"]), raw=True)

    @property
    def _static_class(self) -> str:
        return f"wb-still-{self.model_id}"
