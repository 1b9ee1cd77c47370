"""Saturation and refinement: published figures, plain second derivations, real strategies,
traps."""

import json
import math

import duckdb
import numpy as np
import polars as pl
import polars.testing
import pytest
from scipy import optimize

from tests.support.making import COT, ITEMS, TASK, run, trace
from tests.support.scripted import run as run_strategy
from workbench import analysis
from workbench.analysis.families.sampling.saturation import fit, law, saturates_at
from workbench.analysis.inputs import joint_resampling
from workbench.errors import AnalysisError
from workbench.store import open_store


def attempt(item: str, passed: bool, trial: int = 0, group: str = "a", **more) -> dict:
    """One trace of a group."""
    named = {"configuration": group, "model": "m", "task": "t", "task_id": "t", "item": item}
    named |= {"item_id": item, "trial": trial, "passed": passed, "cost_usd": 1.0, "answer": None}
    return named | {"error_type": None, "metadata": None, "strategy_params": None} | more


def frame(rows: list[dict]) -> pl.DataFrame:
    """Rows of trace_details; columns without any value are text."""
    texts = dict.fromkeys(("error_type", "metadata", "strategy_params", "answer"), pl.String)
    return pl.DataFrame(rows, schema_overrides=texts)


def noted(item: str, answers: str, right: str, trial: int = 0, **more) -> dict:
    """A trace that notes its rounds: one letter per answer, one digit per score."""
    rounds = [
        {"answer": a, "passed": r == "1", "input_tokens": 10, "output_tokens": 5}
        for a, r in zip(answers, right, strict=True)
    ]
    facts = json.dumps({"rounds": rounds}, separators=(",", ":"))
    return attempt(item, right[-1] == "1", trial, metadata=facts, **more)


# --- saturation: the law ---


def test_the_law_is_found_again():
    """F_max = .8, p = .1 at N = 1 … 32 gives .08 … .772531, and the fit gives them back."""
    levels = np.array([1, 2, 4, 8, 16, 32.0])

    values = law(levels, np.array([0.8]), np.array([0.1]))
    plateau, step = fit(levels, values)

    expected = [0.08, 0.152, 0.27512, 0.455626, 0.651758, 0.772531]
    assert values[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert (plateau[0], step[0]) == pytest.approx((0.8, 0.1), abs=1e-6)


def test_saturation_of_the_worked_example():
    """(F_max, p, ε) = (1, .3, .01) saturates at 9.5358, rounded up to 10."""
    assert saturates_at(np.array([1.0]), np.array([0.3]), 0.01)[0] == 10
    assert math.log(0.01 / 0.3) / math.log(0.7) == pytest.approx(9.5358, abs=1e-4)


@pytest.mark.parametrize(
    ("plateau", "step", "gain", "expected"),
    [
        (0.5, 0.1, 0.05, 0),
        (0.5, 0.1, 0.2, 0),
        (0.8, 1.0, 0.01, 1),
        (0.8, 1e-9, 1e-12, None),
        (0.5, 0.5, 0.0, math.inf),
    ],
)
def test_saturation_at_the_edges(plateau, step, gain, expected):
    """0 where the first unit gains too little, 1 where it gains all, endless where nothing must be
    gained."""
    found = saturates_at(np.array([plateau]), np.array([step]), gain)[0]

    if expected is None:
        assert found > 1e8
    else:
        assert found == expected


@pytest.mark.parametrize("seed", range(4))
def test_the_fit_is_that_of_a_general_optimiser(seed):
    """Least squares by scipy from many starting points finds no better sum."""
    rng = np.random.default_rng(seed)
    levels = np.array([1, 2, 3, 5, 8.0])
    rate = np.sort(rng.random(5)) * 0.8

    def squares(point):
        return ((point[0] * (1 - (1 - point[1]) ** levels) - rate) ** 2).sum()

    starts = [(f, p) for f in (0.2, 0.5, 0.9) for p in (0.05, 0.3, 0.8)]
    bounds = [(0, 1), (1e-6, 1 - 1e-9)]
    best = min(optimize.minimize(squares, s, bounds=bounds, tol=1e-14).fun for s in starts)
    plateau, step = fit(levels, rate[None])
    rough = fit(levels, rate[None], roughly=True)

    assert squares((plateau[0], step[0])) <= best + 1e-8
    assert rough[1][0] == pytest.approx(step[0], rel=0.02)


def test_the_marginal_gain_at_saturation_is_just_small_enough():
    """F(N* + 1) − F(N*) ≤ ε < F(N*) − F(N* − 1)."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        f, p, gain = rng.uniform(0.1, 1), rng.uniform(0.01, 0.9), rng.uniform(1e-4, 1e-2)
        n = saturates_at(np.array([f]), np.array([p]), gain)[0]
        if n == 0:
            continue
        value = [law(np.array([k]), np.array([f]), np.array([p]))[0, 0] for k in (n - 1, n, n + 1)]
        assert value[2] - value[1] <= gain + 1e-12
        assert value[1] - value[0] > gain - 1e-12 or n == 1


# --- saturation: traces ---


def test_coverage_of_equal_items_follows_the_law():
    """Ten trials of one kind of item: pass@N over thousands of items has p as its step, 1 as its
    plateau."""
    rng = np.random.default_rng(1)
    rows = [attempt(str(i), bool(rng.random() < 0.3), k) for i in range(600) for k in range(8)]

    result = analysis.saturation(frame(rows), select="any")

    row = result.frame.row(0, named=True)
    assert row["what"] == "one of N right"
    assert row["step_low"] <= 0.3 <= row["step_high"]
    assert row["plateau"] == pytest.approx(1, abs=0.02)
    assert row["is_beyond"]  # 10 by the worked example, and eight were tried
    assert row["n_star"] in {9, 10, 11}
    assert row["law_holds"]
    assert "not saturated at N = 8" in " ".join(result.notes)


def test_votes_are_taken_where_answers_are_recorded():
    """Half the items are always right, half always wrong: saturated by one answer, nothing to
    gain."""
    rows = [attempt(str(i), i < 10, k, answer=str(i)) for i in range(20) for k in range(5)]

    result = analysis.saturation(frame(rows))

    row = result.frame.row(0, named=True)
    assert row["what"] == "majority of N"
    assert (row["plateau"], row["n_star"], row["is_beyond"]) == (pytest.approx(0.5), 1, False)
    assert row["last_gain"] == 0
    curve = result.more["curve"]
    assert curve["rate"].to_list() == pytest.approx([0.5] * 5)
    assert curve["cost_usd"].to_list() == pytest.approx([1, 2, 3, 4, 5])


def test_mixed_items_are_said_to_break_the_law():
    """Very easy and very hard items bend the curve otherwise than one p can: the check says so."""
    rng = np.random.default_rng(2)
    rates = np.where(np.arange(2000) % 2 == 0, 0.9, 0.02)
    rows = [
        attempt(str(i), bool(rng.random() < p), k) for i, p in enumerate(rates) for k in range(8)
    ]

    result = analysis.saturation(frame(rows), select="any")

    assert result.frame["law_holds"].to_list() == [False]
    assert "not of the law's shape" in " ".join(result.notes)


def test_levels_of_a_parameter_and_a_value_of_an_answer():
    """Samples 1, 2, 4, 8 at a dollar each: a right answer worth 100 dollars asks 1 % per sample."""
    rng = np.random.default_rng(3)
    rows = [
        attempt(
            str(i),
            bool(rng.random() < 0.8 * (1 - 0.6**n)),
            group=f"n{n}",
            cost_usd=float(n),
            strategy_params=json.dumps({"samples": n, "shots": 5}),
        )
        for n in (1, 2, 4, 8)
        for i in range(400)
    ]

    result = analysis.run("saturation", frame(rows), by=("model",), axis="samples", value_usd=100)

    row = result.frame.row(0, named=True)
    assert result.more["curve"]["level"].to_list() == [1, 2, 4, 8]
    assert row["must_gain"] == pytest.approx(0.01)
    assert row["plateau_low"] <= 0.8 <= row["plateau_high"]
    assert row["step_low"] <= 0.4 <= row["step_high"]
    assert (
        row["n_star"] == saturates_at(np.array([row["plateau"]]), np.array([row["step"]]), 0.01)[0]
    )


def test_levels_must_be_left_out_of_the_groups():
    """A group with one level has no curve, and is told how to get one; the column itself is
    refused."""
    rows = [attempt(str(i), passed=True, strategy_params='{"samples": 3}') for i in range(3)]

    single = analysis.run("saturation", frame(rows), axis="samples")
    none = analysis.run("saturation", frame(rows), axis="depth")

    assert single.frame.is_empty()
    assert "only one level of samples" in " ".join(single.notes)
    assert "no trace has a number in depth" in " ".join(none.notes)
    with pytest.raises(AnalysisError, match="what varies"):
        analysis.run("saturation", frame(rows), by=("strategy_params",), axis="samples")
    with pytest.raises(AnalysisError, match="unit"):
        analysis.run("saturation", frame(rows), axis="samples", unit=0)


def test_nothing_ever_right_has_no_fit():
    """All wrong, or two levels: the curve is there, plateau and N* are null."""
    wrong = analysis.saturation(frame([attempt("1", passed=False, trial=k) for k in range(4)]))
    short = analysis.saturation(frame([attempt("1", passed=True, trial=k) for k in range(2)]))

    assert wrong.frame.select("plateau", "step", "n_star", "is_beyond").row(0) == (None,) * 4
    assert short.frame["plateau"].to_list() == [None]
    assert "the law needs three" in " ".join(short.notes)
    assert short.more["curve"]["rate"].to_list() == [1, 1]


def test_the_interval_of_the_plateau_covers_it():
    """Of 300 samples of 80 items, about 95 % have the true plateau within the interval."""
    rng = np.random.default_rng(0)
    levels = np.array([1, 2, 4, 8, 16.0])
    truth = law(levels, np.array([0.7]), np.array([0.4]))[0]
    parts = []
    for _ in range(300):
        right = rng.random((80, 1)) < truth  # one draw per item: levels go together, as pass@k does
        parts.append(joint_resampling.Part("", pl.Series(range(80)), right.astype(float)))
    covered = 0
    for drawn in (joint_resampling.resample_jointly([part], 200, rng)[0] for part in parts):
        low, high = np.quantile(fit(levels, drawn.draws, roughly=True)[0], [0.025, 0.975])
        covered += low <= 0.7 <= high

    assert 0.91 <= covered / 300 <= 0.98


# --- refinement ---


def test_the_worked_example_of_revisions():
    """Six rounds, changed three times: ORR .6, success .666667, slope .0285714, accuracy .5."""
    result = analysis.refinement(frame([noted(str(i), "aabccd", "011001") for i in range(3)]))

    totals = result.more["totals"].row(0, named=True)
    assert totals["change_rate"] == pytest.approx(0.6)
    assert totals["success_rate"] == pytest.approx(0.666667, abs=1e-6)
    assert totals["slope"] == pytest.approx(0.0285714, abs=1e-7)
    assert result.frame["rate"].mean() == pytest.approx(0.5)
    assert totals["harmful_share"] == pytest.approx(1 / 3)  # b → c
    assert totals["best_round"] == 1
    assert totals["source"] == "noted in traces"


def test_rounds_by_hand():
    """Four attempts of which one ends early: what is mended, broken, still made, and what it
    costs."""
    rows = [
        noted("1", "ab", "01"),
        noted("1", "aa", "11", 1),
        noted("2", "ab", "10"),
        noted("2", "a", "0", 1),
    ]

    result = analysis.refinement(frame(rows))

    first, second = result.frame.to_dicts()
    assert (first["rate"], second["rate"]) == (0.5, 0.5)
    assert (first["made_rate"], second["made_rate"]) == (1, 0.75)
    assert second["correction_rate"] == 1  # the one wrong answer that was revised
    assert second["overcorrection_rate"] == 0.5
    # Two rounds cost half of the dollar each; the attempt of one round all of it at once.
    assert first["cost_usd"] == pytest.approx((0.5 * 3 + 1) / 4)
    assert second["cost_usd"] == pytest.approx(1)
    assert math.isinf(second["per_point_usd"])
    totals = result.more["totals"].row(0, named=True)
    assert (totals["mended"], totals["broken"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert totals["extra_usd"] == pytest.approx(0.375)


def test_what_cannot_be_read_is_counted():
    """Hostile or foreign metadata, unscored rounds and failures are left out and told; a number of
    rounds is none."""
    rows = [
        noted("1", "ab", "01"),
        attempt("2", passed=True, metadata='{"rounds":[{"answer":3,"passed":"yes"}]}'),
        attempt("3", passed=True, metadata='{"rounds":[{"answer":"x","passed":null}]}'),
        attempt("4", passed=True, metadata='{"rounds":3,"best_round":3}'),
        attempt("5", passed=True, metadata='not json with "rounds" in it'),
        attempt("6", passed=True, metadata='{"rounds":[]}'),
        noted("7", "ab", "01", error_type="timeout") | {"passed": None},
        attempt("8", passed=True, group="b"),
    ]

    result = analysis.refinement(frame(rows))

    assert result.frame["n"].to_list() == [1, 1]
    assert result.dropped == {
        "traces whose rounds cannot be read": 2,
        "traces with a round without a score": 1,
        "groups whose traces note no rounds": 1,
    }


def test_configurations_of_different_rounds_are_followed_by_expectation():
    """Levels 1 and 3: mended (1 − a) b and broken a (1 − b) item by item, what changed is
    unknown."""
    rows = [
        attempt(
            str(i),
            passed,
            k,
            group=f"r{level}",
            cost_usd=float(level),
            strategy_params=json.dumps({"rounds": level}),
        )
        for level, rights in ((1, [1, 1]), (3, [2, 0]))
        for i, n in enumerate(rights)
        for k, passed in enumerate([j < n for j in range(2)])
    ]

    result = analysis.run("refinement", frame(rows), by=("model",))

    second = result.frame.row(1, named=True)
    assert result.frame["round"].to_list() == [1, 3]
    assert second["correction_rate"] == pytest.approx((0.5 * 1 + 0.5 * 0) / 1)
    assert second["overcorrection_rate"] == pytest.approx((0.5 * 0 + 0.5 * 1) / 1)
    totals = result.more["totals"].row(0, named=True)
    assert totals["change_rate"] is None
    assert totals["source"] == "levels of a parameter"
    assert "chance alone" in " ".join(result.notes)


def test_without_rounds_there_is_the_answer_alone():
    """One row per group, no gain; the reason is told; a single item has no interval."""
    result = analysis.refinement(frame([attempt("1", passed=True)]))

    row = result.frame.row(0, named=True)
    assert (row["round"], row["rate"], row["rate_low"], row["gain"]) == (0, 1, None, None)
    assert "no trace notes its rounds" in " ".join(result.notes)


def test_an_unknown_cost_leaves_the_cost_null():
    """Accuracy stays; no part of a sum is a sum."""
    rows = [noted("1", "ab", "01"), noted("2", "ab", "01", cost_usd=None)]

    result = analysis.refinement(frame(rows))

    assert result.frame["cost_usd"].to_list() == [None, None]
    assert result.frame["rate"].to_list() == [0, 1]
    assert result.frame["per_point_usd"].to_list() == [None, None]


def test_costs_are_shared_out_by_tokens_at_their_prices():
    """100 in and 10 out at 1 : 5, then 300 in and 20 out: 150 of 550."""
    rounds = [
        {"answer": "a", "passed": False, "input_tokens": 100, "output_tokens": 10},
        {"answer": "b", "passed": True, "input_tokens": 300, "output_tokens": 20},
    ]
    prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 5.0}
    rows = [attempt("1", passed=True, metadata='{"rounds":' + json.dumps(rounds) + "}", **prices)]

    costs = analysis.refinement(frame(rows)).frame["cost_usd"].to_list()

    assert costs == pytest.approx([150 / 550, 1])


def test_engines_and_orders_agree():
    """DuckDB and Polars, shuffled or not, give the same tables; saturation over rounds reads the
    same notes."""
    rng = np.random.default_rng(0)
    rows = [
        noted(str(i), "abc", "".join(str(int(rng.random() < p)) for p in (0.3, 0.5, 0.6)), k)
        for i in range(12)
        for k in range(2)
    ]
    table = frame(rows)
    connection = duckdb.connect()
    connection.register("facts", table.to_arrow())

    one = analysis.refinement(table)
    other = analysis.refinement(connection.table("facts"))
    shuffled = analysis.refinement(table.sample(fraction=1, shuffle=True, seed=1))
    saturated = analysis.saturation(table, axis="rounds")

    polars.testing.assert_frame_equal(one.frame, other.frame)
    polars.testing.assert_frame_equal(one.frame, shuffled.frame)
    assert saturated.more["curve"]["rate"].to_list() == pytest.approx(one.frame["rate"].to_list())
    assert saturated.more["curve"]["level"].to_list() == [1, 2, 3]


# --- from the strategy to the answer ---


@pytest.mark.parametrize(
    ("strategy", "texts", "params", "answers"),
    [
        (
            "self_refine",
            {"subject": ["Answer: 5", "Answer: 2"], "verifier": ["It is not 5.", "No mistakes."]},
            {"rounds": 2},
            ["5", "2"],
        ),
        (
            "sequential_refinement",
            {"subject": ["Answer: 5", "Answer: 4", "Answer: 2"]},
            {"rounds": 2},
            ["5", "4", "2"],
        ),
        (
            "parallel_distill_refine",
            {"draft": ["Answer: 3", "Answer: 3", "notes"], "subject": ["Answer: 2"]},
            {"rounds": 1, "drafts": 2},
            ["3", "2"],
        ),
    ],
    ids=["self_refine", "sequential_refinement", "parallel_distill_refine"],
)
async def test_strategies_note_every_round(strategy, texts, params, answers):
    """The answer after each round, whether it is right, and the tokens of all calls, each once."""
    outcome, session, _ = await run_strategy(strategy, texts, shots=1, **params)

    rounds = outcome.metadata["rounds"]
    assert [r["answer"] for r in rounds] == answers
    assert [r["passed"] for r in rounds] == [a == "2" for a in answers]
    for tokens in ("input_tokens", "output_tokens"):
        counts = [getattr(call, tokens) for call in session.calls]
        told = [r[tokens] for r in rounds]
        assert None in told if None in counts else sum(told) == sum(counts)


def test_a_store_answers_from_noted_rounds(tmp_path):
    """Metadata and parameters come through the view `trace_details`."""
    store = open_store(tmp_path / "traces.duckdb", create=True)
    told = noted("0", "ab", "01")["metadata"]
    traces = [trace(COT, item, metadata=told) for item in ITEMS]
    store.ingest([run(), TASK, *ITEMS, COT, *traces])

    with store.facts(view="trace_details") as facts:
        result = analysis.refinement(facts)
    details = store.sql("SELECT input, strategy_params FROM trace_details ORDER BY item")

    assert result.frame["rate"].to_list() == [0, 1]
    assert details["input"].to_list() == [f"{n}+1?" for n in range(5)]
