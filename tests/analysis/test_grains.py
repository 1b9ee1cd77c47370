"""Which rows an analysis takes: the same question asked in two ways is answered alike, or
refused."""

from pathlib import Path

import polars as pl
import pytest

from tests.support import making
from workbench import analysis
from workbench.errors import AnalysisError
from workbench.schema import VIEWS
from workbench.store import Store, open_store

OF_CALLS = "latency"  # of calls it gives the times of calls


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two configurations on five items, and a trace with calls, tools and energy."""
    return making.small_store(tmp_path_factory.mktemp("grains"))


def _asked(name: str, rows: object, **more: object) -> pl.DataFrame | str:
    """The answer, or why there is none."""
    try:
        return analysis.run(name, rows, by=("model", "task"), **more).frame
    except AnalysisError as error:
        return str(error)


@pytest.mark.parametrize("name", analysis.names())
def test_a_question_asked_in_two_ways_is_answered_alike_or_refused(store: Store, name: str) -> None:
    """The store opens the right rows; frames of the store give the same, or are refused with their
    grain."""
    declared = analysis.get(name)
    with store.facts("", declared.rows) as frame:
        right = _asked(name, frame)
    assert str(_asked(name, store)) == str(right)
    for view, rows in (("trace_facts", store.traces()), ("call_facts", store.calls())):
        if (name, view) == (OF_CALLS, "call_facts"):
            continue
        found = _asked(name, rows)
        if isinstance(found, str):
            wanted = f"wb.analysis.{name.replace('-', '_')}(store"
            same = isinstance(right, str) and found == right
            assert same or all(text in found for text in (declared.rows, view, wanted))
        else:
            assert isinstance(right, pl.DataFrame)
            assert found.equals(right)


@pytest.mark.parametrize(
    "name", ["summary", "process", "energy-by-phase", "kinetics", "tools", "markers"]
)
def test_a_store_answers_as_the_analysis_does(store: Store, name: str) -> None:
    """`store.analyze` is `analysis.run` on the store: one of each grain."""
    asked = analysis.run(name, store, by=("model", "task")).frame

    assert store.analyze(name, by=("model", "task")).frame.equals(asked)
    assert asked.height


@pytest.mark.parametrize("view", [v for v in VIEWS if v.endswith(("_facts", "_outcomes", "_uses"))])
@pytest.mark.parametrize("name", ["summary", "pte", "tools", "energy-by-phase", "markers"])
def test_rows_of_another_grain_are_refused_whatever_they_are(
    store: Store, name: str, view: str
) -> None:
    """No view but those declared is answered from."""
    declared = analysis.get(name)
    if view in {declared.rows, *declared.also_rows} or view == "usage_faults":
        return
    said = r"takes rows of|needs the column|published figures"
    with store.facts("", view) as frame, pytest.raises(AnalysisError, match=said):
        analysis.run(name, frame, by="model")


def test_tools_of_traces_are_refused_and_a_store_gives_the_truth(store: Store) -> None:
    """One trace in 31 called tools; without its calls it looked as if none had."""
    with pytest.raises(AnalysisError, match=r"tool_uses .*wb\.analysis\.tools\(store"):
        analysis.tools(store.traces())

    rows = analysis.tools(store, where="-error:any", by="task").frame

    used = store.sql("SELECT count(DISTINCT trace_id) AS n FROM tool_facts")["n"][0]
    assert used == 1
    assert rows["used_rate"][0] > 0


def test_rows_put_together_by_hand_are_believed_and_unrecorded_calls_are_unknown() -> None:
    """No call is recorded in them, which is not that none was made."""
    frame = pl.DataFrame({"configuration": ["a"], "item_id": ["1"], "passed": [True]})

    result = analysis.tools(frame)

    assert result.frame["calls_per_trace"].to_list() == [None]
    assert result.frame["used_rate"].to_list() == [None]
    assert any("tool_uses" in note for note in result.notes)


def test_a_slice_of_a_frame_is_refused(store: Store) -> None:
    """It would have been passed over."""
    with pytest.raises(AnalysisError, match="give the store in place of the frame"):
        analysis.summary(store.traces(), where="model:gpt*")
    assert analysis.summary(store, where="model:gpt-5").frame.height == 1


def test_published_figures_are_refused_where_they_cannot_answer(tmp_path: Path) -> None:
    """Three analyses take them; the others say so."""
    found = open_store(tmp_path / "s.duckdb", create=True)
    takers = {name for name in analysis.names() if analysis.get(name).aggregates}
    assert takers == {"frontier", "steady-state", "tradeoff"}
    for name in set(analysis.names()) - takers:
        with pytest.raises(AnalysisError, match="published figures"):
            analysis.run(name, found.results())
