"""What is copied from a screen gives what is on the screen, cell by cell: it is run and
compared."""

import ast
import csv
import io
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from textual.pilot import Pilot
from textual.widgets import Input

from tests.support.screens import opened, press, settle, write
from tests.support.tui_records import everything
from workbench import analysis
from workbench import records as r
from workbench.analysis.catalogue import forms
from workbench.cli import main
from workbench.slice import Slice
from workbench.store import Store, open_store
from workbench.tui.app import WorkbenchApp
from workbench.tui.catalogue import CatalogueScreen
from workbench.tui.compare import CompareScreen
from workbench.tui.configurations import COLUMNS
from workbench.tui.copying import CopyScreen, Texts
from workbench.tui.runs import RunsScreen
from workbench.tui.sql import SqlScreen
from workbench.tui.trace import TraceScreen
from workbench.tui.traces import TracesScreen

Rows = Sequence[Mapping[str, Any]]


def same(a: Any, b: Any) -> bool:
    """Whether two cells are equal, numbers but for the last digits."""
    if isinstance(a, str) and a in {"inf", "-inf"}:  # as JSON writes them
        a = float(a)
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b or str(a) == str(b)


def assert_same(found: Rows, screen: Rows, keys: Sequence[str], columns: Sequence[str]) -> None:
    """The rows are those of the screen, and each of the columns has the same in every row."""
    by_key = {tuple(str(row[k]) for k in keys): row for row in found}
    assert len(by_key) == len(found) == len(screen)
    for row in screen:
        other = by_key[tuple(str(row[k]) for k in keys)]
        differ = {c: (other[c], row[c]) for c in columns if not same(other[c], row[c])}
        assert not differ


def ran(code: str) -> dict[str, Any]:
    """Run copied Python in an empty namespace; the value of the last line is `_`."""
    tree = ast.parse(code)
    if isinstance(last := tree.body[-1], ast.Expr):
        tree.body[-1] = ast.Assign([ast.Name("_", ast.Store())], last.value)
    space: dict[str, Any] = {}
    exec(compile(ast.fix_missing_locations(tree), "copied", "exec"), space)
    return space


def printed(command: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Run copied commands line by line; their JSON."""
    found = []
    for line in command.splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words.pop(0) == "workbench"
            at = words.index("--") if "--" in words else len(words)
            capsys.readouterr()
            assert main([*words[:at], "--format", "json", *words[at:]]) == 0
            found.append(json.loads(capsys.readouterr().out))
    return found


async def copied(pilot: Pilot[None]) -> Texts:
    """Press y and take what is offered."""
    await press(pilot, "y")
    assert isinstance(pilot.app.screen, CopyScreen)
    texts = pilot.app.screen.texts
    await press(pilot, "escape")
    return texts


async def asked(pilot: Pilot[None], name: str, **fields: str) -> CatalogueScreen:
    """Choose an analysis of the catalogue, fill in its form, and run it."""
    screen = pilot.app.screen
    assert isinstance(screen, CatalogueScreen)
    screen.analyses.choose(name)
    for _ in range(600):
        await settle(pilot)
        form = {f.name: f for f in screen.query_one("#form").query(Input)}
        if screen.analysis.name == name and {"by", *fields} <= form.keys():
            break
    for field, value in fields.items():
        form[field].value = value
    await press(pilot, "f5")
    assert screen.result is not None
    return screen


def of_csv(text: str) -> dict[str, str]:
    """Read the copied row."""
    (row,) = csv.DictReader(io.StringIO(text))
    return dict(row)


async def test_the_first_screen(
    app: WorkbenchApp, store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cell and commands give every column, the frontier over the axes that are shown; SQL says what
    it lacks."""
    async with opened(app) as pilot:
        await write(pilot, "task:logic,strings", "enter", "x", "X")
        texts = await copied(pilot)
        rows, current = app.screen.rows, app.screen.grid.current
        assert app.screen.shown.x == "e2e_s"
    shown = [c.key for c in COLUMNS]
    means = ["n", "n_items", "cost_usd", "output_tokens", "reasoning_tokens", "energy_j"]

    sql = open_store(store_path).sql(texts["SQL"][0]).rename({"outcome": "pass_rate"})
    assert_same(sql.rows(named=True), rows, ["configuration"], [*means, "pass_rate"])
    assert "estimates are not among them" in texts["SQL"][0]
    polars = ran(texts["Polars"][0])["means"].rename({"outcome": "pass_rate"})
    assert_same(polars.rows(named=True), rows, ["configuration"], [*means, "pass_rate"])
    table = ran(texts["notebook cell"][0])["table"]
    assert_same(table.rows(named=True), rows, ["configuration"], [*shown, "on_frontier"])
    told: dict[str, dict[str, Any]] = {}
    for document in printed(texts["command"][0], capsys):
        for row in document["rows"]:
            told.setdefault(row["configuration"], {}).update(row)
    assert_same([*told.values()], rows, ["configuration"], [*shown, "on_frontier"])
    assert of_csv(texts["this row as CSV"][0])["configuration"] == current["configuration"]
    assert texts["filter"][0] == "task:logic,strings"


async def test_what_is_copied_is_the_slice_that_is_shown(app: WorkbenchApp) -> None:
    """A slice that the store refuses is in the bar; the table, and so the copy, are of the one
    before."""
    async with opened(app) as pilot:
        await write(pilot, "task:logic", "enter")
        await write(pilot, "params.nothing>1", "enter")
        texts = await copied(pilot)

    assert texts["filter"][0] == "task:logic"


@pytest.mark.parametrize(("key", "descending"), [("started_at", False), ("cost_usd", True)])
async def test_the_list_of_traces(
    app: WorkbenchApp,
    store_path: Path,
    capsys: pytest.CaptureFixture[str],
    key: str,
    descending: bool,
) -> None:
    """All forms give its rows, SQL and Python in its order."""
    async with opened(app) as pilot:
        app.push_screen(TracesScreen("task:logic -failed"))
        await settle(pilot)
        app.screen.grid.sort_by(key, descending=descending)
        await settle(pilot)
        texts = await copied(pilot)
        grid = app.screen.grid
        rows = [grid.rows.get(i) for i in range(grid.rows.n)]
    columns = [c for c in rows[0] if c != "started_at"]
    ids = [row["trace_id"] for row in rows]

    for found in (
        open_store(store_path).sql(texts["SQL"][0]),
        ran(texts["Polars"][0])["traces"].collect(),
        ran(texts["notebook cell"][0])["_"],
    ):
        assert found["trace_id"].to_list() == ids
        assert_same(found.rows(named=True), rows, ["trace_id"], columns)
    (document,) = printed(texts["command"][0], capsys)
    assert_same(document["rows"], rows, ["trace_id"], columns)
    assert of_csv(texts["this row as CSV"][0])["trace_id"] == ids[0]


async def test_a_trace(
    app: WorkbenchApp, store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its row of the facts, its id, the message under the cursor."""
    async with opened(app) as pilot:
        app.push_screen(TraceScreen(app.store.page("wrong")["trace_id"][3]))
        await settle(pilot)
        texts = await copied(pilot)
        facts, entry = app.screen.detail.facts, app.screen.conversation.current
    columns = [c for c in facts if c != "started_at"]

    assert texts["trace id"][0] == facts["trace_id"]
    assert texts["this message"][0] == entry.text
    for found in (
        open_store(store_path).sql(texts["SQL"][0]),
        ran(texts["Polars"][0])["traces"].collect(),
        ran(texts["notebook cell"][0])["_"],
    ):
        assert_same(found.rows(named=True), [facts], ["trace_id"], columns)
    (document,) = printed(texts["command"][0], capsys)
    assert_same(document["rows"], [facts], ["trace_id"], columns)


FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "summary": ("model, task", {"outcome": "score", "level": "0.9", "errors_as_wrong": "true"}),
    "frontier": ("model,strategy", {"x": "output_tokens", "y": "score"}),
    "cost-of-pass": ("strategy", {}),
    "tradeoff": ("model", {}),
    "latency": ("strategy", {}),
    "tools": ("model", {}),
    "explained-variance": ("configuration", {}),
}


@pytest.mark.parametrize("name", FORMS)
async def test_the_catalogue(
    app: WorkbenchApp, store_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Every form keeps groups and options, and gives the table that is shown."""
    by, options = FORMS[name]
    async with opened(app) as pilot:
        await write(pilot, "-task:strings", "enter", "a")
        screen = await asked(pilot, name, by=by, **options)
        texts = await copied(pilot)
        frame, more = screen.result.frame, screen.result.more
        others = {}
        for table in more:
            await press(pilot, "n")
            others[table] = await copied(pilot)
    keys = [c for c in frame.columns if frame.schema[c] == pl.String][:3]
    keys = keys if frame.select(keys).n_unique() == frame.height else frame.columns

    rows = frame.rows(named=True)
    result = ran(texts["notebook cell"][0])["result"]
    assert_same(result.frame.rows(named=True), rows, keys, frame.columns)
    (document,) = printed(texts["command"][0], capsys)
    assert_same(document["rows"], rows, keys, frame.columns)
    sql = open_store(store_path).sql(texts["SQL"][0])
    python = ran(texts["Polars"][0])
    if name in forms.MEANS:
        outcome = "score" if "score" in options.values() else "pass_rate"
        groups = [g.strip() for g in by.split(",")]
        for means in (sql, python["means"]):
            found = means.rename({"outcome": outcome})
            columns = [c for c in found.columns if c in frame.columns]
            assert {"n", outcome} <= {*columns}
            assert_same(found.rows(named=True), rows, groups, columns)
    else:
        assert f"The rows that {name} takes" in texts["SQL"][0]
        assert sql["trace_id"].n_unique() > 0
        assert_same(python["table"].rows(named=True), rows, keys, frame.columns)
    for table, forms_of in others.items():
        assert_frame_equal(ran(forms_of["Polars"][0])["table"], more[table])
        assert_frame_equal(ran(forms_of["notebook cell"][0])["_"], more[table])
        assert f"does not give the table {table}" in forms_of["SQL"][0]


async def test_a_comparison_copies_its_own_pair(
    app: WorkbenchApp, store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the pair that the analysis would choose by itself."""
    async with opened(app) as pilot:
        await press(pilot, "down", "m", "G", "c")
        screen = app.screen
        assert isinstance(screen, CompareScreen)
        texts = await copied(pilot)
        verdict, flips = screen.result.frame, screen.result.more["flips"]
        pair = (screen.a, screen.b)
    with open_store(store_path).facts() as facts:
        default = analysis.run("compare", facts).frame
    assert default.select("a", "b").row(0) != pair

    rows = verdict.rows(named=True)
    cell = ran(texts["notebook cell"][0])["result"]
    assert_same(cell.frame.rows(named=True), rows, ["a", "b"], verdict.columns)
    table = ran(texts["Polars"][0])["table"]
    assert_same(table.rows(named=True), rows, ["a", "b"], verdict.columns)
    (document,) = printed(texts["command"][0], capsys)
    assert_same(document["rows"], rows, ["a", "b"], verdict.columns)
    assert_same(document["more"]["flips"], flips.rows(named=True), ["task", "item"], flips.columns)
    assert "The rows that compare takes" in texts["SQL"][0]
    assert open_store(store_path).sql(texts["SQL"][0]).height == 289


async def test_a_run(
    app: WorkbenchApp, store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its line in the list, and what tells of it on the command line."""
    async with opened(app) as pilot:
        await press(pilot, "r")
        assert isinstance(app.screen, RunsScreen)
        texts = await copied(pilot)
        row = app.screen.grid.current
    found = open_store(store_path).sql(texts["SQL"][0])

    columns = [c for c in found.columns if not c.endswith("_at")]
    assert_same(found.rows(named=True), [row], ["run_id"], columns)
    cell = ran(texts["notebook cell"][0])["_"]
    assert_same(cell.rows(named=True), [row], ["run_id"], columns)
    assert open_store(store_path).count(texts["filter"][0]) == row["n_traces"]
    (document,) = printed(texts["command"][0], capsys)
    assert_same(document["rows"], [row], ["run_id"], columns)
    assert shlex.split(texts["plan"][0])[1:4] == ["runs", "show", row["run_id"]]
    assert of_csv(texts["this row as CSV"][0])["run_id"] == row["run_id"]


async def test_a_statement(
    app: WorkbenchApp, store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one that the table answers, also where another is being written."""
    async with opened(app) as pilot:
        await press(pilot, "colon")
        screen = app.screen
        assert isinstance(screen, SqlScreen)
        screen.editor.text = "SELECT model, count(*) AS n FROM trace_facts GROUP BY ALL ORDER BY n"
        await press(pilot, "f5")
        screen.editor.text = "-- not run\nSELECT 1"
        screen.query_one("#sql-result").focus()
        texts = await copied(pilot)
        frame = screen.frame

    assert_frame_equal(open_store(store_path).sql(texts["SQL"][0]), frame)
    assert_frame_equal(ran(texts["notebook cell"][0])["_"], frame)
    (document,) = printed(texts["command"][0], capsys)
    assert_same(document["rows"], frame.rows(named=True), ["model"], frame.columns)


# -- fields of the store's own ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of an ablation: how many documents were given, under two settings of the sampling."""
    task = r.Task(task="t")
    items = [r.Item(task_id=task.task_id, item=str(i)) for i in range(8)]
    records: list[r.AnyRecord] = [r.Run(run_id="r", kind="collect", source="x"), task, *items]
    for docs in (1, 3, 9):
        for top_p in (0.5, 1.0):
            config = r.Configuration(
                model="m",
                strategy="rag",
                strategy_params=f'{{"docs": {docs}}}',
                top_p=top_p,
                max_tokens=64,
            )
            records.append(config)
            for i, item in enumerate(items):
                right = i < docs
                score = r.Score(
                    scorer="rubric", score=None, metric=float(i), scale_low=0, scale_high=10
                )
                records.append(
                    r.Trace(
                        run_id="r",
                        configuration_id=config.configuration_id,
                        task_id=task.task_id,
                        item_id=item.item_id,
                        passed=right,
                        score=float(right),
                        scores=(score,),
                    )
                )
    path = tmp_path_factory.mktemp("varied") / "t.duckdb"
    open_store(path, create=True).ingest(records)
    return path


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("params.docs", {(1,), (3,), (9,)}),
        ("top_p, max_tokens", {(0.5, 64), (1.0, 64)}),
        ("params.docs,top_p", {(d, p) for d in (1, 3, 9) for p in (0.5, 1.0)}),
    ],
)
async def test_groups_and_slices_of_what_was_varied(
    varied: Path, capsys: pytest.CaptureFixture[str], by: str, groups: set[tuple[float, ...]]
) -> None:
    """Parameters are groups in the catalogue, fields in the slice bar, and stay both in every
    copy."""
    app = WorkbenchApp(varied)
    async with opened(app) as pilot:
        await write(pilot, "params.docs>2", "enter")
        assert app.screen.n == 32
        await press(pilot, "u", "a")
        screen = await asked(pilot, "summary", by=by)
        texts = await copied(pilot)
        frame = screen.result.frame
    keys = [g.strip() for g in by.split(",")]

    assert {tuple(map(float, row)) for row in frame.select(keys).rows()} == groups
    rows = frame.rows(named=True)
    cell = ran(texts["notebook cell"][0])["result"].frame
    assert_same(cell.rows(named=True), rows, keys, frame.columns)
    (document,) = printed(texts["command"][0], capsys)
    assert_same(document["rows"], rows, keys, frame.columns)
    for found in (open_store(varied).sql(texts["SQL"][0]), ran(texts["Polars"][0])["means"]):
        means = found.rename({"outcome": "pass_rate"})
        assert_same(means.rows(named=True), rows, keys, ["n", "n_items", "pass_rate"])


async def test_a_metric_on_its_own_scale_is_copied_as_it_is_shown(
    varied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The outcome of the form is a scorer's metric."""
    app = WorkbenchApp(varied)
    async with opened(app) as pilot:
        await write(pilot, "metrics.rubric>=2", "enter", "a")
        screen = await asked(pilot, "summary", outcome="metrics.rubric")
        texts = await copied(pilot)
        frame = screen.result.frame
    rows, keys = frame.rows(named=True), ["configuration"]

    cell = ran(texts["notebook cell"][0])["result"].frame
    assert_same(cell.rows(named=True), rows, keys, frame.columns)
    (document,) = printed(texts["command"][0], capsys)
    assert_same(document["rows"], rows, keys, frame.columns)
    for found in (open_store(varied).sql(texts["SQL"][0]), ran(texts["Polars"][0])["means"]):
        assert_same(found.rows(named=True), rows, keys, ["n", "n_items"])
        scores = frame.columns[frame.columns.index("n_unpriced") + 1]
        means = found.rename({"outcome": scores})
        assert_same(means.rows(named=True), rows, keys, [scores])


# -- every analysis --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that every analysis can be asked of."""
    store = open_store(tmp_path_factory.mktemp("tiny") / "t.duckdb", create=True)
    store.ingest(everything(3))
    return store


@pytest.mark.parametrize("name", analysis.names())
def test_the_query_of_an_analysis_gives_what_it_says(tiny: Store, name: str) -> None:
    """Counts and means are those of its table; the rows are those that it takes."""
    question = forms.AnalysisRequest(name, Slice.parse("-failed"), ("strategy",))
    query = forms.sql(question)

    found = tiny.sql(query)

    with tiny.facts(question.where, question.declared.rows) as rows:
        taken = rows.collect("polars").to_native()
        if name not in forms.MEANS:
            assert found.height == taken.height
            assert found.columns == taken.columns
            return
        frame = analysis.run(name, rows, by=question.by).frame
    found = found.rename({"outcome": "pass_rate"})
    columns = [c for c in found.columns if c in frame.columns]
    assert {"n", "n_items"} <= {*columns}
    assert_same(found.rows(named=True), frame.rows(named=True), ["strategy"], columns)


def test_hostile_text_stays_text() -> None:
    """Quotes and line ends of paths, values and names end no string."""
    path = 'it\'s\n"my" $store.duckdb'
    where = Slice().where(model="x'\"; DROP TABLE traces; --\n")
    question = forms.AnalysisRequest("frontier", where, ("model",), {"x": "e2e_s", "log_x": "no"})

    compile(forms.cell(question, path), "cell", "exec")
    compile(forms.polars(question, path), "polars", "exec")
    assert repr(path) in forms.cell(question, path)
    words = shlex.split(forms.command(question, path))
    assert words[words.index("--store") + 1] == path
    assert Slice.parse(words[words.index("--where") + 1]) == where
    assert "log_x" not in forms.cell(question, path)
