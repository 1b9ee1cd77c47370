"""The Explorer on real stores, without a browser: what Python sets and reads, and what the page
sends."""

import datetime as dt
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.support import ROOT, making
from workbench import analysis
from workbench.errors import MissingExtra, SliceError, StoreMissing
from workbench.records import Configuration, Item, Task
from workbench.slice import Slice
from workbench.store import Store, open_store

pytest.importorskip("ipywidgets", reason="the notebook extra is not installed")

from widgets import Explorer
from widgets.facets import counts, under

EVIL = '<img src=x onerror="alert(1)"><script>alert(2)</script>'
ONE = "gpt-5 direct"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return making.small_store(tmp_path_factory.mktemp("widgets"))


@pytest.fixture
def explorer(store: Store) -> Explorer:
    return Explorer(store)


def ids(frame: pl.DataFrame) -> set[str]:
    return set(frame["trace_id"])


def brush(explorer: Explorer, **interval: list[float]) -> None:
    """Say what the page says when the mouse has dragged over the chart."""
    explorer._chart._chart._vl_selections = {"brush": {"value": interval, "store": []}}


def test_a_path_opens_the_store(store: Store) -> None:
    """A path, as text or as a Path, is as good as a store."""
    assert Explorer(str(store.path)).store.path == Explorer(store.path).store.path == store.path


def test_no_store_at_the_path_is_said(tmp_path: Path) -> None:
    """Opening is where an error belongs."""
    with pytest.raises(StoreMissing):
        Explorer(tmp_path / "none.duckdb")


def test_without_choices_the_view_is_the_store(explorer: Explorer, store: Store) -> None:
    """Nothing chosen asks for all traces."""
    assert explorer.slice == Slice()
    assert ids(explorer.selection) == ids(store.traces().collect())
    assert explorer.error == ""


@pytest.mark.parametrize(
    ("traits", "slice_text"),
    [
        pytest.param({"where": "wrong"}, "wrong", id="slice"),
        pytest.param({"model": ("gpt-5",)}, "model=gpt-5", id="facet"),
        pytest.param({"model": ("gpt-5", "gpt-4o")}, "model=gpt-5,gpt-4o", id="two-values"),
        pytest.param({"strategy": ("cot",), "where": "right"}, "right strategy=cot", id="both"),
        pytest.param({"selected": (ONE,)}, f'config="{ONE}"', id="selection"),
        pytest.param({"task": ("no such task",)}, 'task="no such task"', id="nothing-there"),
        pytest.param({"where": '"Answer: 3"'}, '"Answer: 3"', id="text-in-transcript"),
    ],
)
def test_choices_make_the_slice(
    explorer: Explorer, store: Store, traits: dict[str, object], slice_text: str
) -> None:
    """Slice, facets and selection are one filter, whose rows `.selection` holds."""
    for name, value in traits.items():
        setattr(explorer, name, value)

    assert str(explorer.slice) == str(Slice.parse(slice_text))
    assert explorer.error == ""
    assert ids(explorer.selection) == ids(store.traces(slice_text).collect())


def test_sql_and_polars_give_the_same_rows(explorer: Explorer, store: Store) -> None:
    """What is copied elsewhere is the view."""
    explorer.where, explorer.strategy, explorer.selected = "wrong", ("cot", "direct"), (ONE,)

    by_polars = eval(explorer.polars_code, {"pl": pl, "store": store})

    assert explorer.selection.height > 0
    assert ids(store.sql(explorer.sql)) == ids(by_polars) == ids(explorer.selection)


def test_a_wrong_slice_is_shown_at_its_column(explorer: Explorer) -> None:
    """The caret stands under the fault, and the page stays as it was; who asks for the rows gets
    the error."""
    explorer.where = "right"
    before = explorer._trace_grid.n_rows

    explorer.where = "right tokens>"

    caption, text, caret = explorer.error.splitlines()[:3]
    assert "at column 14" in caption
    assert caret.index("^") - text.index("right") == 13
    assert explorer.error.splitlines()[1] in explorer._fault.value.replace("&gt;", ">")
    assert explorer._trace_grid.n_rows == before
    assert explorer.sql == explorer.polars_code == ""
    with pytest.raises(SliceError, match="at column 14"):
        _ = explorer.selection

    explorer.where = "right tokens>1"
    assert explorer.selection.height > 0
    assert explorer.error == explorer._fault.value == ""


def test_a_wrong_slice_to_begin_with_is_refused(store: Store) -> None:
    """All traces of the store are no answer to a question about a model."""
    with pytest.raises(SliceError, match="did you mean model"):
        Explorer(store, "modl:gpt")


def test_ages_count_back_from_the_clock(store: Store) -> None:
    """`since:7d` is a date at the moment that it is asked."""
    explorer = Explorer(store, "since:7d", clock=lambda: making.START + dt.timedelta(days=6))
    assert str(explorer.slice) == "since:2025-12-31T12:00:00"
    assert explorer.selection.height == store.count()

    explorer = Explorer(store, "since:7d", clock=lambda: making.START + dt.timedelta(days=8))
    assert explorer.error == ""
    assert explorer.selection.height == 0


def test_an_axis_that_no_trace_has_is_said_in_words(explorer: Explorer) -> None:
    """An axis without data leaves the tables and says why there is no chart; an unknown one is an
    error."""
    explorer.axis = "billed_cost_usd"
    assert (
        "no configuration of this view has both pass rate and billed cost (USD)"
        in explorer._chart._note.value
    )
    assert explorer.summary is not None
    assert explorer.summary.frame.height == 3

    explorer.axis, before = "no_such_axis", explorer.summary
    assert "no_such_axis" in explorer.error
    explorer.where = "right"
    assert (explorer.summary, str(explorer.slice)) == (before, "")

    explorer.where = ""

    explorer.axis = "output_tokens"
    assert explorer.error == ""
    assert explorer._chart._chart in explorer._chart.panel.children


def test_the_summary_is_the_analysis(explorer: Explorer, store: Store) -> None:
    """The panel computes nothing of its own; intervals are with the figures."""
    explorer.where = "task:sums"
    wanted = analysis.run("summary", store.traces("task:sums").collect())

    assert explorer.summary is not None
    assert explorer.summary.frame.equals(wanted.frame)
    sent = pl.DataFrame(explorer._summary_grid.head).sort("configuration")
    assert {"pass_rate", "pass_rate_low", "pass_rate_high"} <= set(sent.columns)
    assert (
        sent["pass_rate_low"].to_list()
        == wanted.frame.sort("configuration")["pass_rate_low"].to_list()
    )


def test_brushing_the_chart_selects_configurations(explorer: Explorer) -> None:
    """An interval of the page becomes the configurations inside it, and the table their traces."""
    points = explorer.frontier.frame
    dearest = points.sort("cost_usd").row(-1, named=True)
    x, y = dearest["cost_usd"], dearest["pass_rate"]

    brush(explorer, x=[x * 1.01, x * 0.99], y=[y - 0.01, y + 0.01])

    assert explorer.selected == (dearest["configuration"],)
    assert explorer.selection["configuration"].unique().to_list() == [dearest["configuration"]]
    assert explorer._trace_grid.n_rows == explorer.selection.height
    assert {row["configuration"] for row in explorer._trace_grid.head} == set(explorer.selected)
    assert explorer._summary_grid.picked == list(explorer.selected)

    brush(explorer)
    assert explorer.selected == ()
    assert explorer._trace_grid.n_rows == explorer.store.count()


def test_a_refresh_without_news_keeps_the_brush(explorer: Explorer) -> None:
    """The chart is drawn anew, and the interval lost, only where there is something new to draw."""
    brush(explorer, x=[0.0, 1e9], y=[0.0, 1.0])
    drawn, selected = explorer._chart.chart, explorer.selected

    explorer.refresh()

    assert explorer._chart.chart is drawn
    assert explorer.selected == selected != ()


def test_a_brush_over_all_points_selects_all_of_them(explorer: Explorer) -> None:
    """Only configurations with both figures are in the chart."""
    brush(explorer, x=[0.0, 1e9], y=[0.0, 1.0])

    assert set(explorer.selected) == set(explorer.frontier.frame["configuration"])


def test_rows_picked_in_the_summary_select_configurations(explorer: Explorer) -> None:
    """The keyboard's way to what the brush does."""
    explorer._summary_grid.picked = [ONE]

    assert explorer.selected == (ONE,)
    assert explorer._chart._chart.params.picked == [ONE]


def test_a_selection_that_leaves_the_view_is_dropped(explorer: Explorer) -> None:
    """What a facet takes away cannot stay selected."""
    explorer.selected = (ONE,)
    explorer.model = ("gpt-4o",)

    assert explorer.selected == ()
    assert set(explorer.selection["model"]) == {"gpt-4o"}


def test_picking_a_trace_names_it(explorer: Explorer, store: Store) -> None:
    """The id is at hand for `store.messages`."""
    first = explorer._trace_grid.head[0]["trace_id"]
    explorer._trace_grid.picked = [first]

    assert explorer.trace == first
    assert store.messages(explorer.trace).height == 2


def test_facets_count_under_the_other_facets(explorer: Explorer, store: Store) -> None:
    """A facet's own choice does not hide its other values."""
    explorer.strategy = ("cot",)
    cube = counts(store, Slice(), ("task", "model", "strategy"))

    models = dict(under(cube, "model", {"strategy": ("cot",), "model": ("gpt-4o",)}).iter_rows())

    rows = store.traces("strategy:cot").collect()
    assert models == dict(rows.group_by("model").len().iter_rows())
    shown = dict(explorer.facets["model"]._list.options)
    assert set(shown.values()) == {"gpt-4o", "nobody-knows"}
    assert {label.rsplit("  ", 1)[1] for label in shown} == {"(10)"}


def test_facet_lists_and_traits_are_one(explorer: Explorer) -> None:
    """Choosing in the list is setting the trait, and the reverse."""
    explorer.facets["model"]._list.value = ("gpt-5",)
    assert explorer.model == ("gpt-5",)

    explorer.model = ()
    assert explorer.facets["model"]._list.value == ()


def test_an_unknown_strategy_can_be_chosen(tmp_path: Path) -> None:
    """Null is a value of a facet, shown as a dash."""
    store = open_store(tmp_path / "t.duckdb", create=True)
    bare = Configuration(model="m")
    store.ingest([making.run(), making.TASK, *making.ITEMS, bare, making.DIRECT])
    store.ingest(making.trace(c, making.ITEMS[0]) for c in (bare, making.DIRECT))
    explorer = Explorer(store)

    explorer.strategy = (None,)

    assert explorer.selection["configuration"].to_list() == ["m"]
    assert ("—  (1)", None) in explorer.facets["strategy"]._list.options


def test_new_traces_show_on_refresh(tmp_path: Path) -> None:
    """The panel holds no file: a writer is never kept out, and refresh reads what it wrote."""
    store = making.small_store(tmp_path)
    explorer = Explorer(store)
    before = explorer.selection.height
    script = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('CREATE TABLE w (x INTEGER)')"
    subprocess.run([sys.executable, "-c", script, str(store.path)], check=True, timeout=60)
    store.ingest([making.run(), making.trace(making.DIRECT, making.ITEMS[0], trial=7)])

    explorer.refresh()

    assert explorer._trace_grid.n_rows == explorer.selection.height == before + 1


def test_a_store_that_vanishes_is_an_error_in_words(tmp_path: Path) -> None:
    """The page never sees a traceback."""
    store = making.small_store(tmp_path)
    explorer = Explorer(store)
    store.path.unlink()

    explorer.where = "right"
    assert "there is no store at" in explorer.error

    explorer.error = ""
    explorer._trace_grid.sort = "cost_usd"
    assert "there is no store at" in explorer.error


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    """No traces is no error."""
    explorer = Explorer(open_store(tmp_path / "t.duckdb", create=True))

    assert explorer.error == ""
    assert explorer.selection.height == 0
    assert "workbench import PATH" in explorer._trace_grid.caption


def hostile_store(folder: Path) -> Store:
    """A store whose every name and answer is markup, with an answer of ten megabytes."""
    store = open_store(folder / "t.duckdb", create=True)
    task = Task(task=EVIL)
    item = Item(task_id=task.task_id, item=EVIL, input="?")
    configuration = Configuration(model=EVIL, strategy="'; DROP TABLE traces; --")
    trace = making.trace(
        configuration,
        making.ITEMS[0],
        task_id=task.task_id,
        item_id=item.item_id,
        answer=EVIL + "x" * 10_000_000,
    )
    store.ingest([making.run(), task, item, configuration, trace])
    return store


def test_hostile_text_is_text_everywhere(tmp_path: Path) -> None:
    """No HTML of the data reaches a place that renders HTML; long texts are cut; SQL stays SQL."""
    import ipywidgets

    explorer = Explorer(hostile_store(tmp_path))
    explorer.model, explorer.task = (EVIL,), (EVIL,)
    explorer.selected = tuple(explorer.summary.frame["configuration"].to_list())
    rendered: list[str] = [explorer._repr_mimebundle_()["text/html"]]
    rows = explorer._trace_grid.head
    shown = explorer.selection.height
    explorer.where = f"{EVIL}"
    rendered.append(explorer._repr_mimebundle_()["text/html"])
    waiting = [explorer]
    while waiting:
        widget = waiting.pop()
        waiting += getattr(widget, "children", ())
        if isinstance(widget, ipywidgets.HTML):
            rendered.append(widget.value)

    assert shown == 1
    assert explorer.error
    assert len(rendered) > 5
    for page in rendered:
        assert "<script" not in page
        assert 'onerror="' not in page
    assert rows[0]["answer"].startswith(EVIL)
    assert len(rows[0]["answer"]) <= 300


def test_the_page_writes_values_as_text_only() -> None:
    """The grid's script never parses HTML, evaluates text or fetches anything."""
    script = (ROOT / "widgets" / "grid.js").read_text()

    assert "textContent" in script
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "fetch(",
        "http",
    ):
        assert way not in script


def test_the_brush_is_on_the_axes_that_it_is_read_on(explorer: Explorer) -> None:
    """The page names an interval's ends after the fields of the layer that carries the brush."""
    drawn = explorer._chart.chart.to_dict()
    brush = next(param for param in drawn["params"] if param["name"] == "brush")
    (layer,) = [part for part in drawn["layer"] if part.get("name") in brush["views"]]

    assert [layer["encoding"][axis]["field"] for axis in ("x", "y")] == ["x", "y"]


def test_the_chart_needs_no_network(explorer: Explorer) -> None:
    """Vega travels with the widget."""
    script = explorer._chart._chart._esm

    assert len(script) > 500_000
    assert "esm.sh" not in script
    assert "cdn.jsdelivr" not in script


def test_a_still_is_left_where_there_is_no_kernel(explorer: Explorer) -> None:
    """Text and a table with the picture: what a saved or converted notebook can show."""
    explorer.where = "task:sums"
    bundle = explorer._repr_mimebundle_()

    assert {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"} <= set(bundle)
    for page in (bundle["text/plain"], bundle["text/html"]):
        assert "task:sums" in page
        assert ONE in page
        assert "—" in page  # the cost of a model that nobody prices is unknown, not 0
    assert "data:image/svg+xml;base64," in bundle["text/html"]


def test_the_still_of_a_saved_notebook_is_the_last_state(store: Store) -> None:
    """What a later cell, or the mouse, changed is in the output of the cell that displayed the
    panel."""
    nbclient, nbformat = (
        pytest.importorskip(name, reason=f"{name} is not installed")
        for name in ("nbclient", "nbformat")
    )
    cells = [
        f"from widgets import Explorer\nexplorer = Explorer({str(store.path)!r})\nexplorer",
        "explorer.where = 'model:gpt-4o'",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()

    pages = [o["data"]["text/html"] for o in notebook.cells[0].outputs if "text/html" in o["data"]]
    assert len(pages) == 1
    assert "model:gpt-4o" in pages[0]
    assert ONE not in pages[0]


def test_importing_the_package_loads_no_notebook_library() -> None:
    """`import widgets` is free; the panel pays."""
    script = "import sys, widgets; assert not {'ipywidgets', 'altair', 'polars'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_missing_library_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ipywidgets the error says what to install."""
    import widgets

    for name in ("widgets.explorer", "widgets.grid", "widgets.facets", "widgets.frontier_chart"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)

    with pytest.raises(MissingExtra, match=r"pip install 'trace-workbench\[notebook\]'"):
        _ = widgets.Explorer


def test_an_unknown_panel_is_an_attribute_error() -> None:
    """The lazy namespace behaves as a module does."""
    import widgets

    assert {"Explorer", "Grid"} <= set(dir(widgets))
    with pytest.raises(AttributeError, match="no attribute 'Explores'"):
        _ = widgets.Explores
