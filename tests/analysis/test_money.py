"""Cost of pass and price reversal: the published figures, second derivations and traps."""

import itertools
import json
import math

import numpy as np
import polars as pl
import polars.testing
import pytest

from tests.support.facts import facts
from workbench import analysis
from workbench.analysis.stats.rank_correlation import tau_b
from workbench.analysis.stats.shapley import shapley


def trace(group: str, item: str, passed: bool | None = True, cost: float | None = 1.0, **more):
    """One trace of a group on an item."""
    named = {"configuration": group, "model": group, "task": "t", "task_id": "t", "item": item}
    return named | {"item_id": item, "trial": 0, "passed": passed, "cost_usd": cost} | more


@pytest.fixture(scope="module")
def aime(shared_data) -> pl.DataFrame:
    """Eight models on sixty items, as the authors released them, at their listed prices."""
    folder = shared_data / "pricing_reversal"
    info = json.loads((folder / "model_info.json").read_text())["models"]
    price = {m["model_name"]: (m["input_price_per_MTok"], m["output_price_per_MTok"]) for m in info}
    rows = []
    for path in sorted((folder / "aime").glob("*.json")):
        run = json.loads(path.read_text())
        p_in, p_out = price[run["model_name"]]
        rows += [
            trace(
                run["model_name"],
                str(r["index"]),
                r["score"] >= 1,
                (r["prompt_tokens"] * p_in + r["completion_tokens"] * p_out) / 1e6,
                reasoning_cost_usd=r["thinking_tokens"] * p_out / 1e6,
                input_usd_per_mtok=p_in,
                output_usd_per_mtok=p_out,
            )
            for r in run["records"]
        ]
    return facts(*rows)


def value(result, group: str, column: str):
    """The figure of a group."""
    return result.frame.filter(configuration=group)[column].item()


def test_frontier_cost_of_pass_of_aime(aime):
    """.035772 over all eight with an expert of $20, and three models by themselves."""
    result = analysis.cost_of_pass(aime, human_cost_usd=20)

    total = result.more["totals"].row(0, named=True)
    assert total["frontier_cost_of_pass_usd"] == pytest.approx(0.035772, abs=5e-7)
    assert (total["n_items"], total["n_unsolved"], total["n_expert"]) == (60, 0, 0)
    assert total["gain"] == pytest.approx(1 - 0.035772 / 20, abs=1e-7)
    for model, expected in (
        ("gpt-5.2-high", 0.103105),
        ("gpt-5-mini", 3.007157),
        ("MiniMax-M2.5", 18.666811),
    ):
        found = value(result, model, "frontier_cost_of_pass_usd")
        assert found == pytest.approx(expected, abs=5e-7)


def test_essentialness_of_aime(aime):
    """What the frontier loses without GPT-5 Mini, Opus and Gemini Pro."""
    result = analysis.cost_of_pass(aime, human_cost_usd=20)

    expected = {
        "gpt-5-mini": 0.346833,
        "claude-opus-4.6-thinking": 0.169183,
        "gemini-3.1-pro-preview": 0.0,
    }
    for model, share in expected.items():
        assert value(result, model, "essentialness") == pytest.approx(share, abs=5e-7)


def test_ratio_cost_of_pass_is_total_cost_over_solved(aime):
    """With one trial an item it is what was spent over what was solved."""
    result = analysis.cost_of_pass(aime)

    direct = aime.group_by("configuration").agg(v=pl.col("cost_usd").sum() / pl.col("passed").sum())
    both = result.frame.join(direct, on="configuration")
    assert both["cost_of_pass_usd"].to_list() == pytest.approx(both["v"].to_list())
    assert all(both["cost_of_pass_usd_low"] < both["v"])
    assert all(both["v"] < both["cost_of_pass_usd_high"])


def eight_runs() -> pl.DataFrame:
    """Two problems, eight runs each: 6 of 8 right at .003; none right at .005."""
    rows = [trace("m", "p1", k < 6, 0.003, trial=k) for k in range(8)]
    return facts(*rows, *[trace("m", "p2", False, 0.005, trial=k) for k in range(8)])


def test_the_two_forms_on_two_problems():
    """v₁ = .004, v₂ infinite; with an expert of 12 V = 6.002; the ratio is .0106667."""
    result = analysis.cost_of_pass(eight_runs(), human_cost_usd=12)

    assert value(result, "m", "frontier_cost_of_pass_usd") == pytest.approx(6.002)
    assert value(result, "m", "cost_of_pass_usd") == pytest.approx(0.0106667, abs=1e-7)
    best = result.more["items"].sort("item_id")
    assert best["best"].to_list() == ["m", "expert"]
    assert best["task"].null_count() == best["item"].null_count() == 0
    assert best["frontier_cost_of_pass_usd"].to_list() == pytest.approx([0.004, 12])


def test_it_is_infinite_where_nothing_passes():
    """No success: infinity with a finite lower bound, never zero, null or an error."""
    frame = facts(*[trace("m", str(i), False, 0.5) for i in range(20)])

    result = analysis.cost_of_pass(frame)

    row = result.frame.row(0, named=True)
    assert row["cost_of_pass_usd"] == row["cost_of_pass_usd_high"] == math.inf
    assert row["frontier_cost_of_pass_usd"] == math.inf
    # 1 − .05^(1/20) is the one-sided 95 % bound of no success in 20.
    assert row["cost_of_pass_usd_low"] == pytest.approx(0.5 / (1 - 0.05 ** (1 / 20)))
    assert row["essentialness"] is None
    assert any("infinity" in note for note in result.notes)


def test_a_group_that_alone_solves_an_item_is_wholly_essential():
    """Without an expert its loss makes the frontier infinite: essentialness 1, the other's 0."""
    frame = facts(
        *[trace("a", i, True, 0.5) for i in "12"],
        trace("b", "1", True, 1.0),
        trace("b", "2", False, 1.0),
    )

    result = analysis.cost_of_pass(frame)

    assert value(result, "a", "essentialness") == 1
    assert value(result, "b", "essentialness") == 0


def test_the_items_own_expert_is_used():
    """Where no option is given the items say what an expert charges; they can be ignored."""
    frame = facts(
        trace("a", "1", False, 1.0, human_cost_usd=3.0),
        trace("a", "2", True, 1.0, human_cost_usd=5.0),
    )

    with_expert = analysis.cost_of_pass(frame)
    without = analysis.cost_of_pass(frame, expert=False)

    assert with_expert.more["totals"]["frontier_cost_of_pass_usd"].item() == pytest.approx(2.0)
    assert with_expert.more["totals"]["human_cost_usd"].item() == pytest.approx(4.0)
    assert without.more["totals"]["frontier_cost_of_pass_usd"].item() == math.inf


def test_unpriced_and_unscored_traces_are_left_out_of_both_sides():
    """A right answer of unknown cost makes nothing cheaper."""
    frame = facts(
        trace("a", "1", True, 1.0),
        trace("a", "2", False, 1.0),
        trace("a", "3", True, None),
        trace("a", "4", None, 9.0),
        trace("a", "5", None, 9.0, error_type="timeout"),
        trace("free", "1", True, None),
    )

    result = analysis.cost_of_pass(frame)

    assert value(result, "a", "cost_of_pass_usd") == pytest.approx(2.0)
    assert result.dropped == {
        "failed traces": 1,
        "unscored traces": 1,
        "traces without cost_usd": 2,
        "groups without a trace that counts": 1,
    }
    wrong = analysis.cost_of_pass(frame, errors_as_wrong=True)
    assert value(wrong, "a", "cost_of_pass_usd") == pytest.approx(11.0)


def test_a_single_item_has_no_interval():
    """One item says nothing of its spread, and the notes say so."""
    result = analysis.cost_of_pass(facts(trace("a", "1"), trace("b", "1")))

    row = result.frame.row(0, named=True)
    assert row["cost_of_pass_usd_low"] is None
    assert row["frontier_cost_of_pass_usd_high"] is None
    assert any("two items" in note for note in result.notes)


@pytest.mark.parametrize("interval", ["percentile", "bca"])
def test_cost_of_pass_scales_with_the_unit_and_ignores_doubled_trials(interval):
    """Cents are a hundred times dollars; the same trials twice change nothing."""
    rng = np.random.default_rng(1)
    frame = facts(
        *[
            trace(g, str(i), bool(rng.random() < 0.6), rng.uniform(0.1, 1), trial=k)
            for g in "ab"
            for i in range(15)
            for k in range(2)
        ]
    )
    money = [c for c in analysis.cost_of_pass(frame).frame.columns if "_usd" in c]

    plain = analysis.cost_of_pass(frame, interval=interval).frame
    cents = analysis.cost_of_pass(frame.with_columns(pl.col("cost_usd") * 100), interval=interval)
    doubled = analysis.cost_of_pass(pl.concat([frame, frame]), interval=interval).frame

    pl.testing.assert_frame_equal(cents.frame, plain.with_columns(pl.col(money) * 100))
    pl.testing.assert_frame_equal(doubled.drop("n"), plain.drop("n"))


def test_the_shared_option_compares_on_common_items():
    """Without it the note names the gap; with it the rest is counted as left out."""
    frame = facts(
        trace("a", "1"), trace("a", "2"), trace("a", "3"), trace("b", "1"), trace("b", "2")
    )

    own, shared = analysis.cost_of_pass(frame), analysis.cost_of_pass(frame, shared=True)

    assert any("different items" in note for note in own.notes)
    assert shared.frame["n_items"].to_list() == [2, 2]
    assert shared.dropped == {"items that not every group was tried on": 1}


def test_price_reversals_of_aime(aime):
    """5 of 28, τ .642857; with free thinking 2 and .857143."""
    result = analysis.price_reversal(aime, by="model")

    total = result.more["totals"].row(0, named=True)
    assert (total["n_reversed"], total["n_pairs"]) == (5, 28)
    assert total["kendall_tau"] == pytest.approx(0.642857, abs=5e-7)
    assert total["n_reversed_without_thinking"] == 2
    assert total["kendall_tau_without_thinking"] == pytest.approx(0.857143, abs=5e-7)
    assert total["n_reversed_low"] <= 5 <= total["n_reversed_high"]
    assert total["n_reversed_surely"] <= 5
    assert result.dropped == {}


def test_bills_of_aime_to_the_cent(aime):
    """Totals of three models, and the listed sums."""
    groups = analysis.price_reversal(aime, by="model").more["groups"]

    bills = dict(groups.select("model", "cost_usd").iter_rows())
    assert bills["gpt-5.2-high"] == pytest.approx(6.186315, abs=5e-7)
    assert bills["MiniMax-M2.5"] == pytest.approx(0.1496, abs=5e-5)
    assert bills["claude-opus-4.6-thinking"] == pytest.approx(9.4496, abs=5e-5)
    listed = dict(groups.select("model", "list_usd_per_mtok").iter_rows())
    assert listed["gpt-5.2-high"] == pytest.approx(15.75)


def test_reversals_equal_counting_pairs(aime):
    """Every pair by hand: (L_i < L_j) differs from (A_i < A_j)."""
    result = analysis.price_reversal(aime, by="model")

    rows = result.more["groups"].rows(named=True)
    expected = {
        frozenset((a["model"], b["model"])): max(a["cost_usd"], b["cost_usd"])
        / min(a["cost_usd"], b["cost_usd"])
        for a, b in itertools.combinations(rows, 2)
        if (a["list_usd_per_mtok"] < b["list_usd_per_mtok"]) != (a["cost_usd"] < b["cost_usd"])
    }
    found = result.frame.filter("reversed")
    assert {
        frozenset(p): r for *p, r in found.select("cheaper", "dearer", "cost_ratio").iter_rows()
    } == (pytest.approx(expected))
    assert found["cost_ratio"].is_sorted(descending=True)


@pytest.mark.parametrize("seed", range(6))
def test_tau_b_agrees_with_scipy(seed):
    """Ties on both sides included."""
    from scipy import stats

    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, 12).astype(float), rng.integers(0, 5, (3, 12)).astype(float)

    expected = [stats.kendalltau(a, row).statistic for row in b]

    assert tau_b(a, b) == pytest.approx(expected)


def priced(group: str, item: str, cost: float | None, listed: float | None, **more) -> dict:
    """One trace with a listed price, half for input and half for output."""
    half = None if listed is None else listed / 2
    return trace(group, item, None, cost, input_usd_per_mtok=half, output_usd_per_mtok=half, **more)


def test_pairs_of_equal_price_are_left_out():
    """A tie in the list price is neither a reversal nor a pair."""
    frame = facts(
        priced("a", "1", 1.0, 2.0), priced("b", "1", 2.0, 2.0), priced("c", "1", 0.5, 4.0)
    )

    result = analysis.price_reversal(frame)

    assert result.more["totals"].select("n_pairs", "n_reversed").row(0) == (2, 2)
    assert result.dropped == {"pairs of equal listed price": 1}


def test_bills_are_of_shared_items_with_trials_averaged():
    """An item that one model lacks does not enter, and twice the trials cost no more."""
    frame = facts(
        priced("a", "1", 1.0, 2.0),
        priced("a", "1", 3.0, 2.0, trial=1),
        priced("a", "2", 50.0, 2.0),
        priced("b", "1", 1.5, 4.0),
        priced("c", "1", 1.0, None),
    )

    result = analysis.price_reversal(frame)

    assert result.more["groups"]["cost_usd"].to_list() == [2.0, 1.5]
    assert result.frame["cost_ratio"].item() == pytest.approx(2 / 1.5)
    assert result.dropped["items that not every group was tried on"] == 1
    assert result.dropped["groups without a trace that counts"] == 1
    assert result.frame["p_reversed"].item() is None  # a single item


def test_unknown_thinking_leaves_the_ablation_unknown():
    """Where one bill's thinking is unknown the ablation is null, not zero."""
    frame = facts(
        priced("a", "1", 1.0, 2.0, reasoning_cost_usd=0.5),
        priced("b", "1", 0.5, 4.0),
        priced("a", "2", 1.0, 2.0, reasoning_cost_usd=0.5),
        priced("b", "2", 0.5, 4.0, reasoning_cost_usd=0.1),
    )

    result = analysis.price_reversal(frame)

    assert result.frame["reversed"].item() is True
    assert result.frame["reversed_without_thinking"].item() is None
    assert result.more["totals"]["n_reversed_without_thinking"].item() is None


def test_tasks_are_judged_apart_and_summed():
    """Two tasks, one reversed: a total of 1 of 2, τ averaged to 0."""
    other = {"task": "u", "task_id": "u"}
    frame = facts(
        priced("a", "1", 1.0, 2.0),
        priced("b", "1", 2.0, 4.0),
        priced("a", "9", 3.0, 2.0, **other),
        priced("b", "9", 2.0, 4.0, **other),
    )

    totals = analysis.price_reversal(frame).more["totals"]

    assert totals["task"].to_list() == ["t", "u", "(all tasks)"]
    assert totals["n_reversed"].to_list() == [0, 1, 1]
    assert totals["kendall_tau"].to_list() == pytest.approx([1, -1, 0])


def test_a_reversal_within_the_noise_is_not_sure():
    """Bills that differ by one dear item reverse in some resamples only."""
    rng = np.random.default_rng(0)
    rows = [priced("a", str(i), float(rng.exponential(1.0)), 1.0) for i in range(20)]
    rows += [priced("b", str(i), float(rng.exponential(0.9)), 2.0) for i in range(20)]

    result = analysis.price_reversal(facts(*rows))

    assert 0.02 < result.frame["p_reversed"].item() < 0.98
    assert result.more["totals"]["n_reversed_surely"].item() == 0


def test_a_price_that_changed_is_noted():
    """Two listed prices of one model are averaged, and the reader is told."""
    frame = facts(
        priced("a", "1", 1.0, 2.0),
        priced("a", "2", 1.0, 4.0),
        priced("b", "1", 1.0, 9.0),
        priced("b", "2", 1.0, 9.0),
    )

    result = analysis.price_reversal(frame)

    assert result.more["groups"]["list_usd_per_mtok"].to_list() == [3.0, 9.0]
    assert any("listed price of a" in note for note in result.notes)


def test_shapley_values_of_a_product():
    """C = T x, A = (2, 3), B = (1, 1): of a difference of 5 T makes 2 and x 3."""
    found = shapley(
        lambda f: f["T"] * f["x"],
        {"T": np.array([2.0]), "x": np.array([3.0])},
        {"T": np.array([1.0]), "x": np.array([1.0])},
    )

    assert {k: v.item() for k, v in found.items()} == {"T": 2, "x": 3}


def test_shapley_values_equal_the_mean_over_all_orders():
    """Four factors join one after the other, in each of the 24 orders."""
    rng = np.random.default_rng(2)
    one, other = ({f: rng.uniform(1, 5, 3) for f in "abcd"} for _ in range(2))

    def cost(f):
        return f["a"] * (f["b"] * f["c"] + f["d"]) + np.sqrt(f["c"])

    total = dict.fromkeys("abcd", 0.0)
    for order in itertools.permutations("abcd"):
        now = dict(other)
        for factor in order:
            before = cost(now)
            now[factor] = one[factor]
            total[factor] = total[factor] + (cost(now) - before) / 24

    found = shapley(cost, one, other)

    assert {f: found[f] == pytest.approx(total[f]) for f in "abcd"} == dict.fromkeys("abcd", True)
    assert sum(found.values()) == pytest.approx(cost(one) - cost(other))


@pytest.fixture(scope="module")
def repeated(shared_data) -> pl.DataFrame:
    """The scored runs of AIME as trial 0, and five repeats for three models."""
    folder = shared_data / "pricing_reversal"
    rows = {}
    for path in sorted(folder.rglob("aime*/*.json")) + sorted(folder.rglob("run*.json")):
        run = json.loads(path.read_text())
        trial = run["run_index"] + 1 if "run_index" in run else 0
        for r in run["records"]:  # two indices stand twice in a repeat; the first counts
            key = run["model_name"], r["index"], trial
            rows.setdefault(
                key,
                trace(
                    run["model_name"],
                    str(r["index"]),
                    None,
                    r["cost"] or None,
                    trial=trial,
                    n_calls=1,
                    input_tokens=r["prompt_tokens"],
                    output_tokens=r["completion_tokens"],
                    reasoning_tokens=r["thinking_tokens"],
                    input_usd_per_mtok=1.0,
                    output_usd_per_mtok=1.0,
                ),
            )
    return facts(*rows.values())


@pytest.mark.parametrize(
    ("pooled", "expected"),
    [
        (False, {"gpt-5.2-high": 7.9538, "gpt-5-mini": 5.4324, "gemini-3-flash-preview": 3.2286}),
        (True, {"gpt-5.2-high": 16.9113, "gpt-5-mini": 5.4324, "gemini-3-flash-preview": 4.6980}),
    ],
    ids=["five repeats", "with the scored run"],
)
def test_repeats_of_aime_differ_in_thinking(repeated, pooled, expected):
    """Most over least thinking on one item: 7.95, 5.43 and 3.23 times; GPT-5.2's item 26, or 18 if
    pooled."""
    frame = repeated if pooled else repeated.filter(pl.col("trial") > 0)

    found = analysis.price_reversal(frame, resamples=100).more["repeats"]

    ratios = dict(found.select("configuration", "widest_ratio").iter_rows())
    assert ratios == pytest.approx(expected, abs=5e-5)
    item = found.filter(configuration="gpt-5.2-high")["widest_item"].item()
    assert item == ("18" if pooled else "26")
    assert found["n_repeated"].to_list() == [60, 60, 60]


def test_the_spread_of_repeats_by_hand():
    """1200, 300 and 0 of 600: a ratio of 4, of 600 with 0 as 1; sd over mean of the thoughtful item
    .8485."""
    rows = [
        trace(
            "a",
            item,
            None,
            1.0,
            trial=k,
            reasoning_tokens=n,
            input_usd_per_mtok=1.0,
            output_usd_per_mtok=1.0,
        )
        for item, counts in (("x", (1200, 300)), ("y", (0, 600)), ("z", (5,)))
        for k, n in enumerate(counts)
    ]

    [found] = analysis.price_reversal(facts(*rows)).more["repeats"].rows(named=True)

    assert (found["n_repeated"], found["widest_ratio"], found["widest_item"]) == (2, 600, "y")
    assert found["median_ratio"] == 302
    assert found["variation"] == pytest.approx((0.848528 + math.sqrt(2)) / 2, abs=1e-6)


def test_differences_of_bills_are_shared_out(aime):
    """Six factors and a rest add up to the difference; tokens alone explain bills at list
    prices."""
    tokens = aime.with_columns(
        n_calls=pl.lit(1),
        reasoning_tokens=(pl.col("reasoning_cost_usd") / pl.col("output_usd_per_mtok") * 1e6)
        .round()
        .cast(pl.Int64),
        input_tokens=pl.lit(200),
        output_tokens=(
            (pl.col("cost_usd") * 1e6 - 200 * pl.col("input_usd_per_mtok"))
            / pl.col("output_usd_per_mtok")
        )
        .round()
        .cast(pl.Int64),
    )

    result = analysis.price_reversal(tokens, resamples=100)

    parts = result.more["attribution"]
    bills = dict(result.more["groups"].select("configuration", "cost_usd").iter_rows())
    for (cheap, dear), part in parts.group_by("cheaper", "dearer"):
        assert part["effect_usd"].sum() == pytest.approx(bills[cheap] - bills[dear])
        assert part.filter(factor="rest")["effect_usd"].item() == pytest.approx(0, abs=2e-3)
    worst = result.frame.row(0, named=True)
    mine = parts.filter(cheaper=worst["cheaper"], dearer=worst["dearer"])
    assert mine.sort("effect_usd")["factor"][-1] == "thinking per call"
    lost = tokens.with_columns(reasoning_tokens=pl.lit(None, pl.Int64))
    unknown = analysis.price_reversal(lost, resamples=100).more["attribution"]
    assert unknown["effect_usd"].null_count() == unknown.height
