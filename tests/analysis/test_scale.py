"""What makes many rows fast or small changes no result."""

import collections

import duckdb
import narwhals as nw
import numpy as np
import polars as pl
import pytest

from workbench import analysis
from workbench.analysis.inputs import engine, per_trace, reduce, sample
from workbench.analysis.stats import ratios, resampling, survival, trial_patterns

N = 60_000  # rows from which words are held once each


def traces(n: int = N) -> pl.DataFrame:
    """Six groups on the same items, in no order; some failed, some unscored, some in clusters."""
    rng = np.random.default_rng(3)
    item = rng.integers(0, n // 10, n)
    return pl.DataFrame(
        {
            "configuration": pl.Series(["ü long name of a group", "b", "a", "d", "c", "B"]).gather(
                rng.integers(0, 6, n)
            ),
            "item_id": pl.Series([f"item {i * 7919 % n:08}" for i in range(n // 10)]).gather(item),
            "task_id": "t",
            "task": "a task",
            "trial": rng.integers(0, 4, n),
            "cluster": pl.Series(
                [None if i % 3 else f"passage {i % 50}" for i in range(n // 10)]
            ).gather(item),
            "passed": pl.Series(rng.random(n) < 0.5).set(pl.Series(rng.random(n) < 0.05), None),
            "error_type": pl.Series([None, "timeout"]).gather((rng.random(n) < 0.05).astype(int)),
            "answer": pl.Series(["x", "y", None]).gather(rng.integers(0, 3, n)),
            "cost_usd": rng.random(n),
        }
    )


def both(frame: pl.DataFrame) -> list:
    """The same rows in Polars and in DuckDB."""
    connection = duckdb.connect()
    connection.register("facts", frame.to_arrow())
    return [nw.from_native(frame).lazy(), nw.from_native(connection.table("facts")).lazy()]


def test_many_rows_reduce_alike_in_either_engine(monkeypatch):
    """Categories on the way out of DuckDB leave no trace: values, types and order are those of
    Polars."""
    monkeypatch.setattr(engine, "_MIN_ROWS", 1000)
    here, inside = (
        reduce.reduce_items(f, ("configuration",), ("cost_usd",)).frame for f in both(traces())
    )

    assert here.height > 15_000
    exact = [c for c in here.columns if c != "cost_usd_sum"]
    assert here.select(exact).equals(inside.select(exact))
    assert here.schema == inside.schema
    assert np.allclose(here["cost_usd_sum"].fill_null(-1), inside["cost_usd_sum"].fill_null(-1))


def test_fetched_rows_and_their_clusters_are_alike_in_either_engine():
    """Single rows keep their words; items of one cluster have one code, others codes of their
    own."""
    here, inside = (
        per_trace.fetch(
            f, ("configuration",), ("cost_usd",), texts=("answer", "item_id"), flags=("passed",)
        )
        for f in both(traces())
    )

    keys = ["configuration", "_item", "_cost_usd"]
    assert here.sort(keys).equals(inside.select(here.columns).sort(keys))
    plain = traces().select("item_id", pl.coalesce("cluster", "item_id").alias("expected"))
    pairs = here.join(plain.unique(), left_on="_item_id", right_on="item_id").select(
        "_code", "expected"
    )
    assert pairs.unique().height == pairs["_code"].n_unique() == pairs["expected"].n_unique()


def test_rows_that_are_read_on_the_way_are_alike_in_either_engine(monkeypatch):
    """What is made of pieces is what is made of the whole, whatever column of a piece is kept."""
    monkeypatch.setattr(engine, "_TEXT_ROWS", 4096)

    def read(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(length=pl.col("_answer").str.len_chars()).drop("_answer")

    here, inside = (
        per_trace.fetch(f, ("configuration",), ("cost_usd",), texts=("answer",), transform=read)
        for f in both(traces())
    )

    keys = ["configuration", "_item", "_cost_usd"]
    assert "_answer" not in here.columns
    assert here.sort(keys).equals(inside.select(here.columns).sort(keys))


def test_a_sieve_counts_what_each_test_keeps_back():
    """A row is counted at the first test that it fails; what is unknown fails."""
    rows = pl.DataFrame({"a": [1, 2, None, 4], "b": [True, True, True, None]})

    kept, dropped = per_trace.keep_passing(rows, {"small": pl.col("a") > 1, "not b": pl.col("b")})

    assert kept.rows() == [(2, True)]
    assert dropped == {"small": 2, "not b": 1}


@pytest.mark.parametrize("codes", [[], [5], [7, -3, 7, 0, -3], [2, 1, 0]])
def test_numbers_without_gaps_keep_the_order(codes):
    """As NumPy's inverse of the sorted distinct codes."""
    expected = np.unique(np.array(codes, int), return_inverse=True)[1]
    assert ratios.numbered(np.array(codes, int)).tolist() == expected.tolist()


def test_parts_are_the_groups_in_order():
    """One group at a time, by name, null last: the same rows as sorting gives."""
    rows = traces(5000).with_columns(
        configuration=pl.when(pl.col("trial") > 0).then("configuration")
    )

    found = list(per_trace.parts(rows, ("configuration",)))

    assert [key[0] for key, _ in found] == ["B", "a", "b", "c", "d", "ü long name of a group", None]
    assert sum(part.height for _, part in found) == rows.height
    assert all(part["configuration"].n_unique() == 1 for _, part in found)


def test_many_groups_are_sorted():
    """With more groups than are worth taking out singly the parts are the same."""
    rows = traces(5000)

    found = list(per_trace.parts(rows, ("item_id",)))

    assert [key[0] for key, _ in found] == sorted(rows["item_id"].unique())


def test_repeats_average_items_not_traces():
    """An item weighs once in a repeat however many traces it has there; null repeats are none."""
    frame = pl.DataFrame(
        {
            "configuration": "a",
            "item_id": ["1", "1", "1", "2", "2"],
            "trial": [0, 0, 0, 0, None],
            "passed": [True, True, True, False, True],
        }
    )

    for lazy in both(frame):
        assert reduce.mean_repeats(lazy, ("configuration",)).rows() == [("a", "0", 2, 0.5)]


def test_counts_of_fine_groups():
    """Scored traces per answer and item; what failed or has no score is no part."""
    frame = pl.DataFrame(
        {
            "configuration": "a",
            "item_id": ["1", "1", "1", "1"],
            "answer": ["x", "x", "y", "y"],
            "passed": [True, False, None, None],
            "error_type": [None, None, None, "timeout"],
        }
    )

    for lazy in both(frame):
        items = reduce.reduce_items(lazy, ("configuration",))
        found = reduce.reduce_counts(lazy, items, ("answer",), fetched=("answer",))
        assert found.rows(named=True) == [{"answer": "x", "n_scored": 2, "outcome": 1.0, "_at": 0}]
        rows = reduce.scored_rows(lazy, items, ("answer",)).sort("outcome")
        assert rows.select("_at", "answer", "outcome").rows() == [(0, "x", 0.0), (0, "x", 1.0)]
        wrong = reduce.reduce_items(lazy, ("configuration",), errors_as_wrong=True)
        counts = reduce.reduce_counts(lazy, wrong, ())
        assert counts.select("n_scored", "outcome").rows() == [(3, 1.0)]


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


@pytest.mark.parametrize("n", [1, 3999, 4000, 4001, 10_000, 99_999])
def test_bags_are_alike_and_hold_every_cluster_once(n):
    """Few clusters are bags of their own, many share 2,000 to 4,000 of one size but for the
    last."""
    bag = resampling.bags(n, np.random.default_rng(0))

    sizes = np.bincount(bag)
    assert len(bag) == n
    assert set(sizes[:-1].tolist()) <= {sizes[0]}
    assert 1 <= sizes[-1] <= sizes[0]
    assert len(sizes) == n if n <= 4000 else 2000 <= len(sizes) <= 4000


def test_resampled_bags_spread_as_resampled_clusters():
    """Mean, standard error and skewness of a ratio are those of the closed form, of 20,000 skewed
    clusters."""
    rng = np.random.default_rng(5)
    n = 20_000
    cost, tries = rng.lognormal(0, 1, n), rng.integers(1, 6, n).astype(float)
    sums = np.column_stack([cost, tries])

    se = []
    for seed in range(8):
        draws = resampling.resampled_sums(sums, 2000, np.random.default_rng(seed))
        ratio = draws[:, 0] / draws[:, 1]
        se.append(ratio.std())
        assert ratio.mean() == pytest.approx(cost.sum() / tries.sum(), rel=1e-3)
        assert draws[:, 0].std() == pytest.approx(cost.std() * np.sqrt(n), rel=0.1)

    truth = cost.sum() / tries.sum()
    linear = np.sqrt(((cost - truth * tries) ** 2).sum()) / tries.sum()
    assert np.mean(se) == pytest.approx(linear, rel=0.02)


def test_alike_items_are_found_whatever_the_order():
    """Items with the same kinds equally often have one pattern; plain Counters say the same."""
    rng = np.random.default_rng(0)
    at, n, right = rng.integers(0, 300, 900), rng.integers(0, 3, 900), rng.integers(0, 2, 900)

    kind, made = trial_patterns.kinds(n, right)
    place, example = trial_patterns.alike(at, kind, 301)

    assert np.array_equal(made[kind], np.column_stack([n, right]))
    own = [collections.Counter(kind[at == i].tolist()) for i in range(301)]
    assert all((own[i] == own[j]) == (place[i] == place[j]) for i in range(301) for j in range(i))
    assert place[example].tolist() == list(range(len(example)))


def test_a_gamma_fit_to_many_cut_lengths_is_the_exact_one():
    """Classes of cut lengths only lead to the optimum: it is where the likelihood has no slope."""
    rng = np.random.default_rng(0)
    true = rng.gamma(2.0, 300.0, 20_000)
    limit = rng.uniform(100, 2000, len(true))
    cut = true > limit
    assert len(np.unique(limit[cut])) > 1000

    fit = survival.gamma(survival.count_lengths(np.minimum(true, limit), cut))

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
    frame = pl.DataFrame(
        {
            "configuration": "a",
            "item_id": np.repeat(np.arange(50), 7).astype(str),
            "trial": np.tile(np.arange(7), 50),
            "passed": rng.random(350) < 0.3,
            "answer": rng.integers(0, 4, 350).astype(str),
            "cost_usd": 1.0,
        }
    ).with_columns(answer=pl.when("passed").then(pl.lit("right")).otherwise("answer"))

    voted = analysis.run("voting", frame).frame.filter(pl.col("k") == 1)
    gap = analysis.run("coverage", frame).frame.filter(pl.col("k") == 1)

    assert voted.select("gain", "gain_low", "gain_high", "tie_rate").row(0) == (
        0.0,
        None,
        None,
        0.0,
    )
    assert gap["envelope_gap"].to_list() == [0.0]


@pytest.mark.parametrize("also", [(), ("number",)])
def test_words_are_sorted_by_one_number_as_by_themselves(also):
    """Order by several columns of categories is that of their words, null last, whatever else there
    is."""
    rng = np.random.default_rng(5)
    words = pl.DataFrame(
        {
            "group": pl.Series(["b", "a", None, "ä", "B"]).gather(rng.integers(0, 5, 500)),
            "item": [f"item {i}" for i in rng.permutation(500)],
            "number": rng.integers(0, 3, 500),
        }
    )
    keys = ("group", *also, "item")

    placed = engine.sort(words.with_columns(pl.col("group", "item").cast(pl.Categorical)), keys)

    assert engine.spelled(placed).equals(words.sort(keys, nulls_last=True))


@pytest.mark.parametrize("unscored", [False, True])
def test_scored_traces_are_not_reduced_twice_where_all_are(unscored):
    """One pass serves figures of all traces and of the scored ones; with an unscored trace it may
    not."""
    known = pl.col("passed").fill_null(value=True)
    first = pl.int_range(pl.len()) == 0
    frame = traces(2000).with_columns(
        passed=pl.when(~first | (not unscored)).then(known), error_type=pl.lit(None, pl.String)
    )
    options = {"outcome": "passed", "errors_as_wrong": False, "shared": False}
    source = sample.Source(
        nw.from_native(frame).lazy(),
        ("configuration",),
        ("cost_usd",),
        np.random.default_rng(0),
        options,
    )

    every, scored = (source.built(("cost_usd",), scored=s) for s in (False, True))

    assert (every is scored) is not unscored
    assert scored.dropped["unscored traces"] == int(unscored)
