"""What makes many rows fast or small changes no result."""

import duckdb
import narwhals as nw
import numpy as np
import polars as pl
import pytest

from workbench import analysis
from workbench.analysis import engine, fetched, lengths, reduce, resampling

N = 60_000  # rows from which words are held once each


def traces(n: int = N) -> pl.DataFrame:
    """Six groups on the same items, in no order; some failed, some unscored, some in clusters."""
    rng = np.random.default_rng(3)
    item = rng.integers(0, n // 10, n)
    return pl.DataFrame({
        "configuration": pl.Series(["ü long name of a group", "b", "a", "d", "c", "B"]).gather(rng.integers(0, 6, n)),
        "item_id": pl.Series([f"item {i * 7919 % n:08}" for i in range(n // 10)]).gather(item),
        "task_id": "t", "task": "a task", "trial": rng.integers(0, 4, n),
        "cluster": pl.Series([None if i % 3 else f"passage {i % 50}" for i in range(n // 10)]).gather(item),
        "passed": pl.Series(rng.random(n) < 0.5).set(pl.Series(rng.random(n) < 0.05), None),
        "error_type": pl.Series([None, "timeout"]).gather((rng.random(n) < 0.05).astype(int)),
        "answer": pl.Series(["x", "y", None]).gather(rng.integers(0, 3, n)),
        "cost_usd": rng.random(n),
    })  # fmt: skip


def both(frame: pl.DataFrame) -> list:
    """The same rows in Polars and in DuckDB."""
    connection = duckdb.connect()
    connection.register("facts", frame.to_arrow())
    return [nw.from_native(frame).lazy(), nw.from_native(connection.table("facts")).lazy()]


def test_many_rows_reduce_alike_in_either_engine(monkeypatch):
    """Categories on the way out of DuckDB leave no trace: values, types and order are those of Polars."""
    monkeypatch.setattr(engine, "_MANY", 1000)
    here, inside = (
        reduce.reduce_items(f, ("configuration",), ("cost_usd",)).frame for f in both(traces())
    )

    assert here.height > 15_000
    exact = [c for c in here.columns if c != "cost_usd_sum"]
    assert here.select(exact).equals(inside.select(exact))
    assert here.schema == inside.schema
    assert np.allclose(here["cost_usd_sum"].fill_null(-1), inside["cost_usd_sum"].fill_null(-1))


def test_fetched_rows_and_their_clusters_are_alike_in_either_engine():
    """Single rows keep their words; items of one cluster have one code, others codes of their own."""
    here, inside = (
        fetched.fetch(f, ("configuration",), ("cost_usd",), texts=("answer",), flags=("passed",))
        for f in both(traces())
    )

    keys = ["configuration", "_item", "_cost_usd"]
    assert here.sort(keys).equals(inside.select(here.columns).sort(keys))
    plain = traces().select("item_id", pl.coalesce("cluster", "item_id").alias("expected"))
    pairs = here.join(plain.unique(), left_on="_item", right_on="item_id").select(
        "_code", "expected"
    )
    assert pairs.unique().height == pairs["_code"].n_unique() == pairs["expected"].n_unique()


def test_parts_are_the_groups_in_order():
    """One group at a time, by name, null last: the same rows as sorting gives."""
    rows = traces(5000).with_columns(
        configuration=pl.when(pl.col("trial") > 0).then("configuration")
    )

    found = list(fetched.parts(rows, ("configuration",)))

    assert [key[0] for key, _ in found] == ["B", "a", "b", "c", "d", "ü long name of a group", None]
    assert sum(part.height for _, part in found) == rows.height
    assert all(part["configuration"].n_unique() == 1 for _, part in found)


def test_many_groups_are_sorted():
    """With more groups than are worth taking out singly the parts are the same."""
    rows = traces(5000)

    found = list(fetched.parts(rows, ("item_id",)))

    assert [key[0] for key, _ in found] == sorted(rows["item_id"].unique())


def test_repeats_average_items_not_traces():
    """An item weighs once in a repeat however many traces it has there; null repeats are none."""
    frame = pl.DataFrame({
        "configuration": "a", "item_id": ["1", "1", "1", "2", "2"], "trial": [0, 0, 0, 0, None],
        "passed": [True, True, True, False, True],
    })  # fmt: skip

    for lazy in both(frame):
        assert reduce.mean_repeats(lazy, ("configuration",)).rows() == [("a", "0", 2, 0.5)]


def test_counts_of_fine_groups():
    """Scored traces per answer and item; what failed or has no score is no part."""
    frame = pl.DataFrame({
        "configuration": "a", "item_id": ["1", "1", "1", "1"], "answer": ["x", "x", "y", "y"],
        "passed": [True, False, None, True], "error_type": [None, None, None, "timeout"],
    })  # fmt: skip

    for lazy in both(frame):
        found = reduce.reduce_counts(lazy, ("configuration", "answer"))
        assert found.rows(named=True) == [
            {"configuration": "a", "answer": "x", "item_id": "1", "n_scored": 2, "outcome": 1.0}
        ]
        wrong = reduce.reduce_counts(lazy, ("configuration",), errors_as_wrong=True)
        assert wrong.select("n_scored", "outcome").rows() == [(3, 1.0)]


def test_no_rows_have_columns():
    """An engine that finds nothing still says which columns there are."""
    lazy = both(traces(100))[1].filter(nw.col("configuration") == "nobody")

    assert engine.collect(lazy).columns == traces(10).columns


@pytest.mark.parametrize("shape", [(3, 1), (999, 2), (1001, 70), (30_000, 5)], ids=str)
def test_blocks_of_a_product_are_the_product(shape):
    """Sums of resamples are those of the rows drawn, in whatever blocks they are computed."""
    sums = np.random.default_rng(0).random(shape)

    found = resampling.resampled_sums(sums, 200, np.random.default_rng(1))

    assert found.shape == (200, shape[1])
    # Every resample draws as many clusters as there are.
    ones = resampling.resampled_sums(
        np.column_stack([sums, np.ones(shape[0])]), 200, np.random.default_rng(1)
    )
    assert np.array_equal(ones[:, -1], np.full(200, float(shape[0])))
    assert np.allclose(ones[:, :-1], found, rtol=1e-12)
    assert abs(found.mean(axis=0) / sums.sum(axis=0) - 1).max() < 0.2


def test_a_gamma_fit_to_many_cut_lengths_is_the_exact_one():
    """Classes of cut lengths only lead to the optimum: it is where the likelihood has no slope."""
    rng = np.random.default_rng(0)
    true = rng.gamma(2.0, 300.0, 20_000)
    limit = rng.uniform(100, 2000, len(true))
    cut = true > limit
    assert len(np.unique(limit[cut])) > 1000

    fit = lengths.gamma(np.minimum(true, limit), cut)

    from scipy import stats

    def loss(shape: float, scale: float) -> float:
        law = stats.gamma(shape, scale=scale)
        return -(law.logpdf(true[~cut]).sum() + law.logsf(limit[cut]).sum())

    least = loss(fit.shape, fit.scale)
    for a, b in ((1.001, 1), (0.999, 1), (1, 1.001), (1, 0.999), (1.001, 0.999)):
        assert loss(fit.shape * a, fit.scale * b) > least
    assert fit.shape == pytest.approx(2.0, rel=0.05)


def test_one_vote_gains_nothing():
    """The majority of one is that one answer: gain and ties are 0, not what rounding leaves."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({
        "configuration": "a", "item_id": np.repeat(np.arange(50), 7).astype(str),
        "trial": np.tile(np.arange(7), 50), "passed": rng.random(350) < 0.3,
        "answer": rng.integers(0, 4, 350).astype(str), "cost_usd": 1.0,
    }).with_columns(answer=pl.when("passed").then(pl.lit("right")).otherwise("answer"))  # fmt: skip

    voted = analysis.run("voting", frame).frame.filter(pl.col("k") == 1)
    gap = analysis.run("coverage", frame).frame.filter(pl.col("k") == 1)

    assert voted.select("gain", "gain_low", "gain_high", "tie_rate").row(0) == (
        0.0,
        None,
        None,
        0.0,
    )
    assert gap["envelope_gap"].to_list() == [0.0]
