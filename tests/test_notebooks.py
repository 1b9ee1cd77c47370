"""Every notebook runs from top to bottom, is kept without outputs, and asks DuckDB for no more than
it shows."""

import contextlib
import datetime as dt
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.support import ROOT, making
from workbench.store import Cancel, Store, database

# imported by the tests: it takes seconds, and every worker imports every test module
if importlib.util.find_spec("nbformat") is None:
    pytest.skip("the notebook extra is not installed", allow_module_level=True)

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_S = 20.0  # a cell that takes longer is no first look

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_is_a_notebook() -> None:
    """The tests below cannot pass by finding nothing."""
    assert "01_first_look" in {path.stem for path in NOTEBOOKS}


@each
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    """Outputs are made by running; kept ones would grow the history and go stale."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)

    for cell in notebook.cells:
        assert not cell.metadata, cell.source
        if cell.cell_type == "code":
            assert cell.outputs == [], cell.source
            assert cell.execution_count is None, cell.source


@pytest.mark.slow
@each
def test_notebooks_run(path: Path, tmp_path: Path) -> None:
    """Every cell runs in a fresh kernel, in reasonable time, and the panel leaves its still."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )

    client.execute()

    shown = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert {"text/html", "image/svg+xml", "application/vnd.jupyter.widget-view+json"} <= kinds
    assert any("wb-still-" in output.get("data", {}).get("text/html", "") for output in shown)
    assert not [o.text for o in shown if o.output_type == "stream" and o.name == "stderr"]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert _seconds(cell.metadata["execution"]) < MOST_S, cell.source


def _seconds(execution: dict[str, str]) -> float:
    began, ended = (
        dt.datetime.fromisoformat(execution[key])
        for key in ("iopub.execute_input", "shell.execute_reply")
    )
    return (ended - began).total_seconds()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return making.small_store(tmp_path_factory.mktemp("lazy"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], str]:
    """What DuckDB's own profiler says that the last query was; letting the file go asks once
    more."""
    profile = tmp_path / "profile.json"
    reading = database.reading
    queries = [""]

    @contextlib.contextmanager
    def watched(path: Path, cancel: Cancel | None = None) -> Iterator[object]:
        # the profiler writes a file, which a store's own connections may not
        with reading(path, cancel, permissions=database.Permissions(all_files=True)) as connection:
            connection.execute("PRAGMA enable_profiling = 'json'")
            connection.execute(f"PRAGMA profiling_output = '{profile}'")
            yield connection
            queries.append(profile.read_text())

    monkeypatch.setattr(database, "reading", watched)
    return lambda: queries[-1]


def test_traces_are_a_lazy_polars_frame(store: Store) -> None:
    """Nothing is read until it is collected; the schema is known before."""
    traces = store.traces("model:gpt-5")

    assert isinstance(traces, pl.LazyFrame)
    assert traces.collect_schema()["cost_usd"] == pl.Float64


@pytest.mark.parametrize(
    ("ask", "seen", "rows"),
    [
        pytest.param(lambda s: s.traces("strategy:cot wrong"), "regexp_extract", 8, id="slice"),
        pytest.param(
            lambda s: s.traces().filter(pl.col("model") == "gpt-4o"),
            "= 'gpt-4o'",
            10,
            id="equality",
        ),
        pytest.param(
            lambda s: s.traces().filter(pl.col("output_tokens") > 29), "> 29", 30, id="comparison"
        ),
        pytest.param(lambda s: s.traces().head(3), "LIMIT 3", 3, id="head"),
    ],
)
def test_filters_run_inside_duckdb(
    store: Store,
    asked: Callable[[], str],
    ask: Callable[[Store], pl.LazyFrame],
    seen: str,
    rows: int,
) -> None:
    """The engine itself reports the filter in the query that it ran."""
    frame = ask(store).collect()

    assert frame.height == rows
    assert seen in asked().replace("\\'", "'")


def test_only_the_columns_asked_for_leave_duckdb(store: Store, asked: Callable[[], str]) -> None:
    """A narrow question reads narrow columns."""
    store.traces().select("model", "cost_usd").collect()

    query = asked()
    assert '\\"cost_usd\\"' in query
    assert "output_tokens" not in query
