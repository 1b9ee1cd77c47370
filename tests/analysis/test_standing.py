"""Which traces count: tries that were made again do not, attempts that were scored do."""

from pathlib import Path

import msgspec
import polars as pl
import pytest

from tests.support import making
from workbench import analysis
from workbench.analysis.catalogue import snippets
from workbench.analysis.inputs.counted_traces import REPLACED
from workbench.errors import AnalysisError
from workbench.records import ToolCall, Trace
from workbench.store import Store, open_store


def _trace(number: int, **fields: object) -> Trace:
    tool = ToolCall(ordinal=0, tool="search", call_ordinal=0, arguments="{}")
    given = {"tool_calls": (tool,), "trace_id": f"t{number}"} | fields
    return making.trace(making.DIRECT, making.ITEMS[number % 5], trial=number // 5, **given)


def _store(folder: Path, *traces: Trace) -> Store:
    store = open_store(folder / "s.duckdb", create=True)
    store.ingest([making.run(), making.TASK, *making.ITEMS, making.DIRECT, *traces])
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four attempts that count (one timed out, and passed); a failure; a try that was made
    again."""
    none = {"score": None, "passed": None, "scores": ()}
    return _store(
        tmp_path,
        *(_trace(n, passed=n == 0, score=float(n == 0)) for n in range(3)),
        _trace(3, passed=True, score=1.0, error_type="timeout"),
        _trace(4, error_type="crash", **none),
        _trace(5, error_type="crash", is_replaced=True, **none),
    )


def test_a_scored_attempt_counts_whatever_ended_it(store: Store) -> None:
    """terminal-bench's .40 is 32 of 80, five of which timed out and resolved."""
    with store.facts() as facts:
        result = analysis.run("summary", facts)

    row = result.frame.row(0, named=True)
    assert (row["n"], row["pass_rate"], row["n_errors"]) == (4, 0.5, 1)


def test_a_try_that_was_made_again_is_left_out_and_said(store: Store) -> None:
    """Also where failures count as wrong; and of the views of calls and of tools."""
    with store.facts() as facts:
        result = analysis.run("summary", facts, errors_as_wrong=True)
    with store.facts("", "tool_uses") as facts:
        tools = analysis.run("tools", facts)

    assert result.frame["pass_rate"][0] == pytest.approx(2 / 5)
    assert result.dropped["tries that were made again"] == 1
    assert tools.dropped["tries that were made again"] == 1
    views = ("call_outcomes", "tool_facts", "tool_uses", "message_facts")
    for view in views:
        frame = store.sql(f"SELECT DISTINCT trace_id FROM {view} WHERE is_replaced")
        assert frame["trace_id"].to_list() == ["t5"], view


def test_what_was_made_again_was_paid(store: Store) -> None:
    """Sums of money hold it; a slice finds it."""
    paid = store.sql("SELECT sum(cost_usd) AS usd FROM traces")["usd"][0]

    assert store.overview().cost_usd == pytest.approx(paid)
    assert store.sql("SELECT cost_usd FROM run_summary")["cost_usd"][0] == pytest.approx(paid)
    assert store.traces("replaced").collect()["trace_id"].to_list() == ["t5"]
    assert store.count("-replaced") == 5
    with store.facts() as facts:
        total = analysis.run("summary", facts).frame["total_cost_usd"][0]
    assert total < paid


@pytest.mark.parametrize("options", [{}, {"errors_as_wrong": True}], ids=str)
def test_the_code_that_is_copied_counts_alike(store: Store, options: dict[str, bool]) -> None:
    """As SQL and as Polars code: the rate of the analysis."""
    with store.facts() as facts:
        rate = analysis.run("summary", facts, **options).frame["pass_rate"][0]

    sql = store.sql(snippets.as_sql("summary", options=options))
    scope = {"traces": store.traces()}
    exec(snippets.as_polars("summary", options=options), scope)

    means = scope["means"]
    assert isinstance(means, pl.DataFrame)
    assert sql["outcome"][0] == pytest.approx(rate)
    assert means["outcome"][0] == pytest.approx(rate)


def test_a_facet_shows_the_share_of_what_counts(store: Store) -> None:
    """The timed-out pass is one."""
    assert store.facet("model")["pass_share"].to_list() == [0.5]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store]:
    """A store, and one that has tries which were made again beside the same traces."""
    bare, more = (making.small_store(tmp_path_factory.mktemp("twin")) for _ in range(2))
    again = {
        "is_replaced": True,
        "error_type": "crash",
        "score": None,
        "passed": None,
        "scores": (),
    }
    tries = [
        making.trace(c, item, trial=7, trace_id=f"again-{c.configuration_id}-{item.item}", **again)
        for c in making.CONFIGURATIONS
        for item in making.ITEMS
    ]
    rich = msgspec.structs.replace(making.rich_trace(), trace_id="again-rich", **again)
    more.ingest([rich, *tries])
    return bare, more


@pytest.mark.parametrize("name", analysis.names())
def test_no_analysis_sees_what_was_made_again(twins: tuple[Store, Store], name: str) -> None:
    """Each answers as if the tries were not there, or refuses for the same reason."""
    bare, more = twins

    assert _answer(more, name) == _answer(bare, name)


def _answer(store: Store, name: str) -> object:
    view = analysis.get(name).rows
    with store.facts("", view) as facts:
        try:
            result = analysis.run(name, facts)
        except AnalysisError as error:
            return str(error)
    result.dropped.pop(REPLACED, None)
    return result.as_json()
