"""A row of a table that sums up a run of many turns is not one call: in the store and in every law
of calls."""

import pytest

from workbench import analysis
from workbench.sources import FileReport, read
from workbench.store import open_store

MAPPING = """
[constants]
task = "t"
[columns]
item = "item"
model = "model"
passed = "ok"
n_turns = "steps"
input_tokens = "in"
output_tokens = "out"
billed_cost_usd = "cost"
e2e_s = "s"
ttft_s = "first"
"""
ROWS = """item,model,ok,steps,in,out,cost,s,first
1,davinci,true,20,20000,1000,1.0,60,0.5
2,davinci,false,5,5000,500,0.4,30,0.5
3,davinci,true,,900,100,0.1,3,0.5
4,davinci,true,1,900,101,0.1,3,1.0
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Runs of 20, 5, an unknown number and 1 turn, from a table."""
    folder = tmp_path_factory.mktemp("turns")
    (folder / "rows.csv").write_text(ROWS)
    (folder / "map.toml").write_text(MAPPING)
    store = open_store(folder / "s.duckdb", create=True)
    path = folder / "rows.csv"
    store.ingest(read(path, report=FileReport(path), mapping=folder / "map.toml"))
    return store


@pytest.fixture(params=["call_outcomes", "trace_facts"])
def frame(store, request):
    """The same runs as calls, and as traces put together by hand."""
    rows = store.sql(f"SELECT * FROM {request.param}")
    return rows if request.param == "call_outcomes" else rows.drop("configuration_id")


def test_a_row_says_how_many_requests_it_sums_up(store):
    """And has no pace of a single one."""
    rows = store.sql(
        "SELECT item, n_requests, tpot_s, output_tokens_per_s FROM call_facts ORDER BY item"
    ).rows()

    assert rows[0] == ("1", 20, None, None)
    assert rows[1] == ("2", 5, None, None)
    assert rows[2][:2] == ("3", None)
    assert rows[3] == ("4", 1, pytest.approx(0.02), pytest.approx(101 / 3))


def test_prefill_equivalents_of_many_turns_are_an_approximation_and_say_so(frame):
    """γ · (I + O) · O / turns, the same of calls and of traces."""
    result = analysis.run("pte", frame, gamma=0.01)

    work = [20000 + 0.01 * 21000 * 1000 / 20, 5000 + 0.01 * 5500 * 500 / 5]
    work += [900 + 0.01 * 1000 * 100, 900 + 0.01 * 1001 * 101]
    row = result.frame.row(0, named=True)
    assert row["pte"] == pytest.approx(sum(work) / 4)
    assert (row["n"], row["n_approximate"]) == (4, 2)
    assert "2 traces of several calls are counted from totals" in " ".join(result.notes)


@pytest.mark.parametrize(
    ("name", "options", "known"),
    [
        ("idealized-runtime", {"deployment": "davinci"}, "n_modelled"),
        ("latency-model", {"law": "DSR1-Llama-8B"}, "n_timed"),
    ],
)
def test_a_law_of_single_calls_leaves_sums_out_and_says_so(frame, name, options, known):
    """Two of the four runs are known to be several calls."""
    result = analysis.run(name, frame, **options)

    row = result.frame.row(0, named=True)
    assert (row["n"], row[known]) == (4, 2)
    assert any(note.startswith("the law is of a call:") for note in result.notes)


def test_kinetics_leaves_sums_out_and_says_so(frame):
    """A square of a sum is no sum of squares."""
    result = analysis.run("kinetics", frame, model="Qwen3-8B")

    assert result.dropped["traces without a shape or token counts"] == 2
    assert any(note.startswith("the law is of a call:") for note in result.notes)


def test_turn_control_counts_the_turns_that_the_rows_state(frame):
    """20, 5 and 1; a run whose turns nobody recorded is left out and counted."""
    result = analysis.run("turn-control", frame, limits="5")

    turns = result.more["turns"].row(0, named=True)
    assert (turns["mean_turns"], turns["most_turns"]) == (pytest.approx(26 / 3), 20)
    assert result.dropped["traces whose turns nobody recorded"] == 1
    assert "1 : 2 : 3" in " ".join(result.notes)
    assert not any("one turn" in note for note in result.notes)


def test_latency_has_no_pace_of_runs_of_many_turns(frame):
    """Only the run of one turn, or of nobody knows how many, has a time per token."""
    rows = {r["measure"]: r for r in analysis.run("latency", frame).frame.iter_rows(named=True)}

    assert rows["tpot_s"]["n"] == 2
