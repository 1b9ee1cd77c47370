"""The reduce stage and the code that repeats it elsewhere."""

import duckdb
import narwhals as nw
import numpy as np
import polars as pl
import polars.testing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.facts import SCHEMA
from workbench import analysis
from workbench.analysis.catalogue import snippets
from workbench.analysis.core.options import MEASURES
from workbench.analysis.inputs.panel import build
from workbench.analysis.inputs.reduce import reduce_items
from workbench.errors import AnalysisError, SliceError

HOSTILE = """it's "quoted"; DROP TABLE trace_facts; -- \\ {x} % 🙂"""


def random_facts(n: int = 600, seed: int = 0) -> pl.DataFrame:
    """Traces with everything that can be unknown sometimes unknown, failures and hostile names."""
    rng = np.random.default_rng(seed)

    def sometimes(values, share: float = 0.15) -> list:
        return [None if rng.random() < share else v for v in values]

    item = rng.integers(0, 25, n)
    columns = {
        "configuration": rng.choice(["a", "b", HOSTILE], n).tolist(),
        "model": sometimes(rng.choice(["m1", "m2"], n).tolist()),
        "task": [f"t{i % 2}" for i in item],
        "task_id": [f"t{i % 2}" for i in item],
        "item": [str(i) for i in item],
        "item_id": [f"id{i}" for i in item],
        "cluster": [None if i % 3 else f"c{i // 6}" for i in item],
        "passed": sometimes((rng.random(n) < 0.5).tolist()),
        "error_type": [None if rng.random() < 0.9 else "timeout" for _ in range(n)],
        "cost_usd": sometimes(rng.gamma(2, 0.01, n).tolist()),
        "output_tokens": sometimes(rng.integers(1, 5000, n).tolist()),
        "e2e_s": sometimes(rng.gamma(3, 1.0, n).tolist()),
    }
    frame = pl.DataFrame(columns, schema={c: SCHEMA[c] for c in columns})
    frame = frame.with_columns(score=pl.col("passed").cast(pl.Float64) * 0.8)
    missing = [pl.lit(None, d).alias(c) for c, d in SCHEMA.items() if c not in frame.columns]
    return frame.with_columns(missing).select(*SCHEMA)


def relation(frame: pl.DataFrame) -> tuple[duckdb.DuckDBPyConnection, duckdb.DuckDBPyRelation]:
    """The frame as a table of its own in DuckDB."""
    connection = duckdb.connect()
    connection.register("arrow", frame.to_arrow())
    connection.sql("CREATE TABLE trace_facts AS SELECT * FROM arrow")
    return connection, connection.table("trace_facts")


def reduced(source, **options) -> pl.DataFrame:
    """Reduce by configuration with two measures."""
    options = {"measures": ("cost_usd", "output_tokens")} | options
    return reduce_items(nw.from_native(source).lazy(), ("configuration",), **options).frame


OPTIONS = [
    {},
    {"errors_as_wrong": True},
    {"require": ("cost_usd",)},
    {"scored": False},
    {"outcome": "score"},
    {"errors_as_wrong": True, "require": ("output_tokens",), "scored": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_reduce_stage_equals_a_plain_loop(options):
    """Every cell of every item, by going through the traces one at a time."""
    frame = random_facts()
    wrong, scored = options.get("errors_as_wrong", False), options.get("scored", True)
    outcome, require = options.get("outcome", "passed"), options.get("require", ())
    expected: dict = {}
    for t in frame.iter_rows(named=True):
        cell = expected.setdefault(
            (t["configuration"], t["item_id"]),
            {
                "n_traces": 0,
                "n_failed": 0,
                "n_unscored": 0,
                "n_missing": 0,
                "n": 0,
                "n_scored": 0,
                "outcome": 0.0,
                "cost": [],
            },
        )
        failed = t["error_type"] is not None and t["passed"] is None and t["score"] is None
        value = 0.0 if failed and wrong else t[outcome]
        done = wrong or not failed
        cell["n_traces"] += 1
        cell["n_failed"] += failed
        cell["n_unscored"] += done and value is None
        if not done or (scored and value is None):
            continue
        if any(t[m] is None for m in require):
            cell["n_missing"] += 1
            continue
        cell["n"] += 1
        if value is not None:
            cell["n_scored"] += 1
            cell["outcome"] += value
        if t["cost_usd"] is not None:
            cell["cost"].append(t["cost_usd"])

    found = {
        (r["configuration"], r["item_id"]): r
        for r in reduced(frame, **options).iter_rows(named=True)
    }

    assert set(found) == set(expected)
    for key, cell in expected.items():
        costs, got = cell.pop("cost"), found[key]
        assert got["cost_usd_known"] == len(costs)
        assert got["cost_usd_sum"] == (pytest.approx(sum(costs)) if costs else None)
        if not cell["n_scored"]:
            cell["outcome"] = None
        assert {k: got[k] for k in cell} == {
            k: pytest.approx(v) if v is not None else None for k, v in cell.items()
        }


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_engines_reduce_alike(options):
    """DuckDB, eager and lazy Polars agree in values, types and order."""
    frame = random_facts()
    _, table = relation(frame)

    expected = reduced(frame, **options)

    for source in (frame.lazy(), table):
        pl.testing.assert_frame_equal(reduced(source, **options), expected)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=15)
def test_counts_add_up(seed):
    """Each trace is used, failed, unscored or without a required measure: never twice, never
    lost."""
    found = reduced(random_facts(80, seed), require=("cost_usd",))

    parts = found.select(pl.sum("n", "n_failed", "n_unscored", "n_missing")).row(0)
    assert sum(parts) == found["n_traces"].sum() == 80
    assert (found["cost_usd_known"] == found["n"]).all()


def test_absent_columns_are_unknown():
    """A frame without errors, clusters or a measure reduces as if they were null."""
    frame = random_facts().select("configuration", "item_id", "passed")

    found = reduced(frame)

    assert found["cost_usd_sum"].null_count() == found.height
    assert found["cost_usd_known"].sum() == 0
    assert found["n_failed"].sum() == 0
    assert reduced(frame, require=("cost_usd",))["n"].sum() == 0


@pytest.mark.parametrize(
    "column", ["item_id", "item", "cluster", "trial", "started_at", "temperature"]
)
def test_any_column_can_be_grouped_by(column):
    """Even what the reduce stage itself uses names a group unchanged."""
    frame = random_facts()

    result = analysis.summary(frame, by=(column,))

    assert set(result.frame[column]) == set(frame[column])


def test_clusters_are_apart_between_tasks():
    """The same cluster's name in two tasks is two clusters."""
    frame = random_facts().with_columns(cluster=pl.lit("one"))

    ((_, panel),) = build(reduce_items(nw.from_native(frame).lazy(), ("configuration",))).parts

    assert panel.n_clusters == 2


def test_too_many_cells_are_refused_in_words(monkeypatch):
    """A grouping that no machine can compare says what to do instead."""
    monkeypatch.setattr("workbench.analysis.inputs.panel._MAX_CELLS", 10)

    with pytest.raises(AnalysisError, match="narrow the slice"):
        analysis.frontier(random_facts())


def test_no_common_item_is_said():
    """Two groups without a common item give no rows and name the smaller."""
    frame = random_facts().with_columns(
        configuration=pl.when(pl.col("item_id") == "id3").then(pl.lit("a")).otherwise(pl.lit("b"))
    )

    result = analysis.cost_of_pass(frame, shared=True)

    assert result.frame.height == 0
    assert any("the fewest has a" in note for note in result.notes)


def test_a_frame_without_the_outcome_is_unscored():
    """No column for the outcome: nothing scored, and every trace told."""
    result = analysis.frontier(random_facts().drop("passed"))

    assert result.frame.height == 0
    assert result.dropped["unscored traces"] > 400


def test_measures_are_the_numeric_columns_of_a_trace():
    """Costs, times, tokens and energy can be averaged; prices, budgets and ids cannot."""
    assert {"cost_usd", "e2e_s", "ttft_s", "output_tokens", "reasoning_tokens", "energy_j"} <= set(
        MEASURES
    )
    assert not {"input_usd_per_mtok", "thinking_budget_tokens", "human_cost_usd", "trial"} & set(
        MEASURES
    )


# --- the same view elsewhere ---

VIEWS = [
    (None, "", ("configuration",), {}),
    ("summary", "task:t1", ("configuration", "model"), {"errors_as_wrong": True}),
    ("summary", "", ("task",), {"outcome": "score"}),
    ("frontier", "output_tokens>100", ("configuration",), {"x": "output_tokens"}),
    ("frontier", "", ("configuration",), {"x": "e2e_s", "y": "score"}),
    ("cost-of-pass", "", ("configuration", "task"), {}),
    ("compare", "-failed", ("configuration",), {}),
]


def means(name, frame: pl.DataFrame, by, options) -> pl.DataFrame:
    """Group means straight from the reduce stage."""
    declared = analysis.get(name or "summary")
    plan = declared.reduction(declared.parse(options))
    items = reduce_items(
        nw.from_native(frame).lazy(),
        by,
        plan.measures,
        outcome=plan.outcome,
        require=plan.require,
        scored=plan.scored,
        errors_as_wrong=options.get("errors_as_wrong", False),
    ).frame.filter(pl.col("n") > 0)
    return (
        items.group_by(by)
        .agg(
            pl.len().cast(pl.Int64).alias("n_items"),
            pl.col("n").sum(),
            (pl.col("outcome") / pl.col("n_scored")).fill_nan(None).mean(),
            *[(pl.col(f"{m}_sum") / pl.col(f"{m}_known")).mean().alias(m) for m in plan.measures],
        )
        .sort(by, nulls_last=True)
    )


@pytest.mark.parametrize(("name", "where", "by", "options"), VIEWS, ids=str)
def test_sql_and_polars_code_give_the_group_means(name, where, by, options):
    """The copied code runs as it stands and agrees with the reduce stage."""
    from workbench.slice import Slice

    frame = random_facts()
    connection, _ = relation(frame)
    expected = means(name, frame.filter(Slice.parse(where).polars()), by, options)

    sql = connection.sql(snippets.as_sql(name, where, by, options)).pl()
    space = {"traces": frame}
    exec(snippets.as_polars(name, where, by, options), space)

    order = expected.columns
    for found in (sql, space["means"]):
        plain = found.select(order).sort(by, nulls_last=True)
        pl.testing.assert_frame_equal(plain, expected, check_dtypes=False)


@pytest.mark.parametrize("write", [snippets.as_sql, snippets.as_polars])
def test_code_is_written_only_of_known_columns(write):
    """Nothing that is not a column of trace_facts reaches the code."""
    with pytest.raises(AnalysisError, match="configuration"):
        write("summary", "", ('configuration"; DROP TABLE x; --',))
    with pytest.raises(AnalysisError, match="column of trace_facts"):
        write("frontier", "", ("model",), {"x": "1); DROP"})
    with pytest.raises(SliceError):
        write("summary", "nonsense:::")
