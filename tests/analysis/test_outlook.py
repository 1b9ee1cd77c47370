"""What would it take: which questions are open, how many items would settle them, and at what
cost."""

import dataclasses
import math
import re
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest

from tests.support.facts import facts, two_models
from workbench import analysis
from workbench.analysis.catalogue import sentences, what_would_it_take
from workbench.analysis.core.declaration import Settles
from workbench.analysis.core.result import Result
from workbench.analysis.inputs import cost_history
from workbench.analysis.stats import intervals, sample_size
from workbench.schema import Column

PLAN = "80 % chance"


def plan(result: Result) -> str:
    """The note about what would settle the question; "" if there is none."""
    told = [
        n for n in result.notes if PLAN in n or "no realistic" in n or n == sentences.SINGLE_ITEM
    ]
    assert len(told) <= 1, told
    return "".join(told)


def outcomes(rights: dict[str, list[float]], cost: float | None = None, **more) -> pl.DataFrame:
    """Traces of groups that were tried on the same items: how many of an item's trials are right,
    over `trials`."""
    trials = more.pop("trials", 1)
    return facts(
        *[
            {
                "configuration": g,
                "model": g,
                "task": "t",
                "task_id": "t",
                "item_id": f"{i:05}",
                "item": f"{i}",
                "trial": k,
                "trace_id": f"{g}{i}-{k}",
                "passed": k < right,
                "cost_usd": cost,
            }
            | more
            for g, items in rights.items()
            for i, right in enumerate(items)
            for k in range(trials)
        ]
    )


def made(
    rows: list[dict], settles: Settles | None = None, by=("g",), level=0.95
) -> tuple[str, ...]:
    """What is said of a table with a figure x, asked of no traces."""
    declared = dataclasses.replace(analysis.get("summary"), settles=settles or Settles("x"))
    frame = pl.DataFrame(rows, strict=False)
    columns = tuple(
        Column(c, "text" if frame[c].dtype == pl.String else "float") for c in frame.columns
    )
    result = Result("made", frame, columns, {}, (), {"level": level}, by)
    return what_would_it_take.notes(declared, result, _Nothing())


class _Nothing:
    """A frame without columns, as a narwhals frame would look to the pass over costs."""

    def collect_schema(self):
        """No columns."""
        return self

    def names(self):
        """No columns."""
        return []


def row(g: str, x: float, half: float, n: int | None = 100, **more) -> dict:
    """One row of a table with a figure x and its interval."""
    return {"g": g, "n_items": n, "x": x, "x_low": x - half, "x_high": x + half} | more


# how many


def test_items_are_those_of_the_published_example():
    """Miller 2024: ω² = 1/9 and a difference of 3 points take 969 items at 80 % power, from an
    interval of any n."""
    for n in (50, 969, 20_000):
        half = NormalDist().inv_cdf(0.975) * math.sqrt(1 / 9 / n)
        assert sample_size.items_to_settle(half, 0.03, n) == pytest.approx(968.997, abs=1e-3)
    repeated = NormalDist().inv_cdf(0.975) * math.sqrt((1 / 9 + 2 * (1 / 6) / 10) / 300)
    assert sample_size.items_to_settle(repeated, 0.03, 300) == pytest.approx(1259.7, abs=0.05)
    assert sample_size.items_to_settle(0.1, 0.0, 100) == math.inf


def test_at_a_power_of_one_half_the_interval_would_just_touch():
    """Four times the items halve a width, so that a difference of half the width takes four times
    as many."""
    assert sample_size.items_to_settle(0.2, 0.1, 100, power=0.5) == pytest.approx(400)
    assert sample_size.items_to_settle(0.2, 0.1, 100, level=0.8, power=0.5) == pytest.approx(400)


def test_independent_halves_add_as_squares():
    """The root of the summed squares, with Wilson's ends: Newcombe 1998 (method 10), 56/70 − 48/80
    is 0.0524 to 0.3339."""
    (a_low, a_high), (b_low, b_high) = (intervals.wilson(k / n, n) for k, n in ((56, 70), (48, 80)))
    assert sample_size.difference_half_width(3.0, 4.0) == 5.0
    assert 0.2 - sample_size.difference_half_width(0.8 - a_low, b_high - 0.6) == pytest.approx(
        0.0524, abs=5e-5
    )
    assert 0.2 + sample_size.difference_half_width(a_high - 0.8, 0.6 - b_low) == pytest.approx(
        0.3339, abs=5e-5
    )


def items_named(note: str) -> int:
    """The number of items that a note asks for."""
    (number,) = re.findall(r"about ([\d,]+) (?:more )?items", note)
    return int(number.replace(",", ""))


def test_a_paired_difference_is_seen_as_often_as_said():
    """Draws of as many items as the note names leave 0 out in 80 % of the cases, to 4 points."""
    both = {"a": [1] * 20 + [0] * 12 + [1] * 68, "b": [0] * 20 + [1] * 12 + [1] * 68}
    note = plan(analysis.compare(outcomes(both)))

    n = 100 + items_named(note)
    drawn = np.random.default_rng(1).multinomial(n, (0.20, 0.12, 0.68), size=4000)
    mean = (drawn[:, 0] - drawn[:, 1]) / n
    se = np.sqrt(((drawn[:, 0] + drawn[:, 1]) / n - mean**2) / n)
    low, high = intervals.student(mean, se, n)
    seen = np.mean((low > 0) | (high < 0))
    assert seen == pytest.approx(0.80, abs=0.04)
    assert "may be 0" in note
    assert "if it stays" in note


def test_independent_groups_are_told_apart_as_often_as_said():
    """The same of two groups that were not tried on the same items."""
    rights = {"a": [1] * 60 + [0] * 40, "b": [1] * 50 + [0] * 50}
    frame = outcomes(rights).with_columns(item_id=pl.col("configuration") + pl.col("item_id"))
    note = plan(analysis.summary(frame))

    n = 100 + items_named(note)
    rng = np.random.default_rng(2)
    a, b = rng.binomial(n, 0.6, 4000) / n, rng.binomial(n, 0.5, 4000) / n
    low, high = intervals.wilson(a, n)[0], intervals.wilson(b, n)[1]
    seen = np.mean(a - b > np.hypot(a - low, high - b))
    assert seen == pytest.approx(0.80, abs=0.04)
    assert "highest pass rate: a (0.6), not told apart from b (0.5)" in note


def test_a_ratio_of_means_is_settled_as_often_as_said():
    """Cost over rights with bootstrap intervals: as many items as 40,000 say are needed tell two
    groups apart in 80 %."""

    def drawn(n: int, seed: int) -> pl.DataFrame:
        rng = np.random.default_rng(seed)
        return pl.concat(
            pl.DataFrame(
                {
                    "configuration": g,
                    "task": "t",
                    "item_id": [f"{g}{i}" for i in range(n)],
                    "trial": 0,
                    "passed": rng.random(n) < p,
                    "cost_usd": c * rng.gamma(2, 0.5, n),
                }
            )
            for g, p, c in (("a", 0.6, 1.0), ("b", 0.5, 1.05))
        )

    large = analysis.cost_of_pass(drawn(40_000, 0), resamples=300).frame
    half = (large["cost_of_pass_usd_high"] - large["cost_of_pass_usd_low"]) / 2
    distance = abs(large["cost_of_pass_usd"][0] - large["cost_of_pass_usd"][1])
    n = math.ceil(
        sample_size.items_to_settle(sample_size.difference_half_width(*half), distance, 40_000)
    )
    results = [analysis.cost_of_pass(drawn(n, 100 + s), resamples=300) for s in range(120)]
    assert np.mean([plan(r) == "" for r in results]) == pytest.approx(0.8, abs=0.1)


def test_what_is_seen_in_a_first_sample_is_itself_uncertain():
    """Where a first sample of 100 leaves a true difference open, its plan shows it less often than
    80 %, and more often than half."""
    rng = np.random.default_rng(3)
    first = rng.normal(0.1, 0.1, 20_000)  # one standard error each
    half = NormalDist().inv_cdf(0.975) * 0.1
    open_ = first[(np.abs(first) < half) & (first > 0)]
    needed = np.array([sample_size.items_to_settle(half, d, 100) for d in open_])
    again = rng.normal(0.1, 0.1 * np.sqrt(100 / needed))
    seen = np.mean(np.abs(again) > half * np.sqrt(100 / needed))
    assert 0.5 < seen < 0.8


# what is said, and what is not


def test_a_settled_question_is_not_spoken_of():
    """Intervals that leave the neutral value out, and groups that are apart, get no note; costs are
    not asked."""
    assert made([row("a", 0.5, 0.1)], Settles("x", 0.0)) == ()
    assert made([row("a", 0.5, 0.1), row("b", 0.2, 0.1)]) == ()
    assert made([row("a", 0.5, 0.1)]) == ()


def test_overlapping_intervals_can_be_apart():
    """Two intervals of ±0.1 overlap at a distance of 0.15, and the difference, ±0.141, is not 0."""
    assert made([row("a", 0.55, 0.1), row("b", 0.4, 0.1)]) == ()
    assert made([row("a", 0.53, 0.1), row("b", 0.4, 0.1)])


def test_the_leader_is_held_against_the_next_and_the_others_are_counted():
    """Which end leads is the declaration's; unequal numbers of items are told."""
    rows = [row("a", 0.50, 0.1), row("b", 0.45, 0.1), row("c", 0.44, 0.1, 400), row("d", 0.1, 0.05)]

    (note,) = made(rows)
    assert note.startswith("highest x: a (0.5), not told apart from b (0.45) and 1 more; about ")
    expected = sample_size.items_to_settle(math.hypot(0.1, 0.1), 0.05, 100) - 100
    assert items_named(note) == pytest.approx(expected, rel=0.05)
    assert "more items each" in note
    assert made(rows, Settles("x", better="less")) == ()  # d is apart from all
    (note,) = made([rows[0], row("c", 0.40, 0.1, 400)], Settles("x", better="less"))
    assert note.startswith("lowest x: c (0.4), not told apart from a (0.5); about 1,100 items each")
    assert "(400 and 100 now)" in note
    (note,) = made([row("a", 0.12345, 0.1), row("b", 0.12335, 0.1)])
    assert "a (0.1235), not told apart from b (0.1234)" in note


def test_no_number_of_items_tells_equal_ones_apart():
    """A tie takes infinitely many; who is further behind is named with what it would take."""
    (note,) = made([row("a", 0.5, 0.1), row("b", 0.5, 0.1)])
    assert note.endswith("no realistic number of items would tell these two apart")
    (note,) = made([row("a", 0.5, 0.1), row("b", 0.4999, 0.1), row("c", 0.4, 0.1)])
    assert "would tell these two apart; c (0.4) would take about 310 more items each, cost" in note
    (note,) = made([row("a", 0.0, 0.1)], Settles("x", 0.0))
    assert "no realistic number of items would settle it" in note


@pytest.mark.parametrize("ends", [(None, None), (math.nan, math.nan), (0.4, 0.4)])
def test_no_interval_no_promise(ends):
    """Null ends and intervals without width are left alone."""
    rows = [{"g": g, "n_items": 9, "x": 0.4, "x_low": ends[0], "x_high": ends[1]} for g in "ab"]
    assert made(rows) == ()
    assert made(rows, Settles("x", 0.4)) == ()


def test_an_infinite_end_is_no_promise_either():
    """An end that lies at infinity plans nothing; where it is on the far side it does not
    matter."""
    far = {"g": "b", "n_items": 100, "x": 3.0, "x_low": 1.5, "x_high": math.inf}
    (note,) = made([row("a", 2.0, 1.0), far], Settles("x", better="less"))
    assert items_named(note) > 0
    (note,) = made([far], Settles("x", 5.0))
    assert "no realistic number" in note
    never = {"g": "c", "n_items": 100, "x": math.inf, "x_low": 2.0, "x_high": math.inf}
    assert made([never, never], Settles("x", better="less")) == ()


def test_one_item_tells_nothing_about_others():
    """With a single item there is no interval, and the note says what is missing."""
    assert plan(analysis.summary(outcomes({"a": [1], "b": [0]}))) == sentences.SINGLE_ITEM
    single = {"g": "a", "n_items": 1, "x": 1.0, "x_low": None, "x_high": None}
    assert made([single, row("b", 0.5, 0.1), row("c", 0.5, 0.1)]) == ()
    several = single | {"n_items": 5}
    (note,) = made([several, row("b", 0.5, 0.1), row("c", 0.4, 0.1)])
    assert "highest x, of those with an interval: b (0.5)" in note


def test_without_a_number_of_items_it_is_said_as_a_multiple():
    """Rows that do not say how many items they have get a factor; where traces tell the items, a
    number."""
    (note,) = made([row("a", 0.5, 0.1, None), row("b", 0.4, 0.1, None)])
    assert "about 4.1 times as many items would tell" in note


def test_tasks_are_held_apart():
    """Groups meet within a task; the one that takes the least is named, and how many more are
    open."""
    rows = [
        row(g, x, 0.1, task=t)
        for t, gap in (("first", 0.01), ("second", 0.05), ("third", 0.3))
        for g, x in (("a", 0.5), ("b", 0.5 - gap))
    ]
    (note,) = made(rows, by=("g", "task"))
    assert note.startswith("highest x on second: a (0.5), not told apart from b (0.45); about")
    assert note.endswith("; likewise in 1 more task")


def test_rows_of_one_group_are_told_apart_by_what_comes_first():
    """Where a group has several rows, those of one size are held against each other, as pass@k at
    one k."""
    rows = [row(g, x, 0.1) | {"k": k} for k in (1, 2) for g, x in (("a", 0.5 + k), ("b", 0.4 + k))]
    rows = [{key: r[key] for key in ("g", "k", "n_items", "x", "x_low", "x_high")} for r in rows]
    (note,) = made(rows)
    assert note.startswith("highest x, k 1: a (1.5), not told apart from b (1.4)")


def test_the_neutral_value_may_be_an_option_or_a_column():
    """A coverage is held against the level asked for, a saturation against what was seen."""
    rows = [row("a", 0.8, 0.15, most=0.9), row("b", 0.8, 0.15, most=2.0)]
    (note,) = made(rows, Settles("x", "most"))
    assert "a: x 0.8 (0.65 to 0.95) may be 0.9" in note
    assert "as open" not in note
    (note,) = made(rows[:1], Settles("x", "level"))
    assert "may be 0.95" in note


def test_what_shrinks_the_interval_need_not_be_items():
    """Repeats of a fixed set are asked for as repeats, and thousands of them of nobody; an option
    can silence it."""
    settles = Settles("x", unit="repeats", n="n_repeats", unless="all")
    rows = [row("a", 0.5, 0.1) | {"n_repeats": 4}, row("b", 0.45, 0.1) | {"n_repeats": 4}]
    (note,) = made(rows, settles)
    assert "about 62 more repeats each would tell" in note
    assert "no realistic number of repeats" in made([rows[0], rows[1] | {"x": 0.498}], settles)[0]
    assert made(rows, dataclasses.replace(settles, unless="level")) == ()


def test_only_the_rows_that_count_are_looked_at():
    """A condition of the declaration chooses rows: points of the frontier, learned routers."""
    rows = [row("a", 0.5, 0.1, kind="oracle"), row("b", 0.05, 0.1, kind="learned")]
    (note,) = made(rows, Settles("x", 0.0, where=("kind", "learned")))
    assert note.startswith("b: x +0.05 (-0.05 to +0.15) may be 0; about ")


def test_published_figures_have_nothing_to_add():
    """Rows of metric and value have no intervals, and no note."""
    published = pl.DataFrame(
        [
            {"configuration": g, "task": "t", "metric": m, "value": v}
            for g, m, v in (
                ("a", "acc", 0.5),
                ("a", "usd", 1.0),
                ("b", "acc", 0.4),
                ("b", "usd", 2.0),
            )
        ]
    )
    assert plan(analysis.frontier(published, x="usd", y="acc")) == ""


# what it would cost


def test_the_price_is_that_of_the_traces_at_hand():
    """Further items × trials × mean cost, of both groups; an hour is 3,600 s of attempts."""
    frame = outcomes(
        {"a": [2] * 50 + [0] * 50, "b": [1] * 90 + [0] * 10},
        0.01,
        trials=2,
        e2e_s=90.0,
        energy_j=500.0,
    )
    note = plan(analysis.summary(frame))

    more = items_named(note)
    found = re.search(
        r"for about \$([\d.]+), ([\d.]+) (kWh|kJ) and ([\d.]+) h",
        re.sub(r"(\d),(\d)", r"\1\2", note),
    )
    assert found is not None, note
    assert float(found[1]) == pytest.approx(more * 4 * 0.01, rel=0.08)
    joules = float(found[2]) * {"kWh": 3.6e6, "kJ": 1e3}[found[3]]
    assert joules == pytest.approx(more * 4 * 500, rel=0.08)
    assert float(found[4]) == pytest.approx(more * 4 * 90 / 3600, rel=0.08)


def test_an_unknown_price_is_said_to_be_unknown():
    """Never 0; one group without a price makes the whole unknown, and what is known stays."""
    frame = outcomes({"a": [1] * 60 + [0] * 40, "b": [1] * 50 + [0] * 50})
    assert ", cost unknown" in plan(analysis.summary(frame))
    half = frame.with_columns(
        cost_usd=pl.when(pl.col("model") == "a").then(0.1).otherwise(None), e2e_s=pl.lit(7.2)
    )
    note = plan(analysis.summary(half))
    assert re.search(r"for about [\d.]+ h, dollars unknown", note)


def test_a_gain_over_a_baseline_is_paid_for_both():
    """Further items are tried by the group and by the baseline; a pair is named by its labels."""
    frame = outcomes({"a": [1] * 20 + [0] * 20, "b": [0] * 6 + [1] * 18 + [0] * 16}).with_columns(
        cost_usd=pl.when(pl.col("model") == "a").then(0.25).otherwise(1.0)
    )
    for result in (analysis.tradeoff(frame, x="cost_usd"), analysis.compare(frame)):
        note = plan(result)
        price = re.search(r"for about \$([\d.,]+)", note)
        assert price is not None, result.notes
        paid = float(price[1].replace(",", ""))
        assert paid == pytest.approx(items_named(note) * 1.25, rel=0.08), note


def test_a_trace_of_several_tool_calls_is_paid_once():
    """Rows of tool calls repeat the cost of their trace."""
    import narwhals as nw

    calls = pl.DataFrame(
        {
            "configuration": ["a"] * 5,
            "item_id": ["1", "1", "1", "2", "2"],
            "trace_id": ["x", "x", "x", "y", "z"],
            "tool_call_id": ["1", "2", "3", "4", None],
            "trace_cost_usd": [0.5, 0.5, 0.5, 0.25, None],
        }
    )
    (found,) = cost_history.attempt_costs(
        nw.from_native(calls).lazy(),
        ("configuration",),
        [cost_history.Group({"configuration": "a"})],
        None,
    )

    assert found is not None
    assert found.items == 2
    assert (found.rows, found.per_row) == (3, {"usd": pytest.approx(0.375)})


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_noise_of_trials_is_that_of_the_item_means(engine):
    """Mean over items of the sample variance over the number of trials, over the number of
    items."""
    import duckdb
    import narwhals as nw

    rng = np.random.default_rng(4)
    trials = [rng.integers(0, 2, k) for k in (2, 3, 4, 4, 1)]
    frame = pl.DataFrame(
        [
            {"model": "m", "task": None, "item_id": str(i), "passed": bool(x), "cost_usd": 1.0}
            for i, xs in enumerate(trials)
            for x in xs
        ],
        schema_overrides={"task": pl.String},
    )
    connection = duckdb.connect()
    connection.register("frame", frame.to_arrow())
    native = frame if engine == "polars" else connection.table("frame")
    groups = [cost_history.Group({"model": "m", "task": None}), cost_history.Group({}, "m · —")]
    for group in groups:
        (found,) = cost_history.attempt_costs(
            nw.from_native(native).lazy(), ("model", "task"), [group], "passed"
        )
        assert found is not None
        expected = np.mean([xs.var(ddof=1) / len(xs) for xs in trials[:-1]]) / 5
        assert found.noise == pytest.approx(expected)
        assert found.trials == pytest.approx(14 / 5)
        assert (found.rows, found.items, found.per_row) == (14, 5, {"usd": 1.0})


def test_trials_help_where_the_spread_is_theirs():
    """Items alike: more trials do what more items do. Items all right or all wrong: no number of
    trials does."""
    alike = noisy({"a": 0.6, "b": 0.5}, 30, 5, seed=1)
    note = plan(analysis.summary(alike))
    found = re.search(r"so would about ([\d,]+) trials of each in place of 5", note)
    assert found is not None, note

    fixed = outcomes({"a": [2] * 24 + [0] * 16, "b": [2] * 20 + [0] * 20}, trials=2)
    assert "more trials of the same items hardly would" in plan(analysis.summary(fixed))
    single = outcomes({"a": [1] * 24 + [0] * 16, "b": [1] * 20 + [0] * 20})
    assert "trials" not in plan(analysis.summary(single))  # one trial tells nothing of trials


def noisy(rates: dict[str, float], n: int, trials: int, seed: int) -> pl.DataFrame:
    """Traces whose items are all alike: chance is all there is."""
    rng = np.random.default_rng(seed)
    return outcomes({g: list(rng.binomial(trials, p, n)) for g, p in rates.items()}, trials=trials)


def test_the_number_of_trials_is_that_of_the_power_formula():
    """z² (ω² + σ² / K) / n = δ² solved for K (Miller 2024), with ω² and σ² found in another way."""
    frame = noisy({"a": 0.6, "b": 0.5}, 60, 5, seed=6)
    result = analysis.compare(frame)
    found = re.search(r"about ([\d,]+) trials of each", plan(result))
    assert found is not None, result.notes

    items = frame.group_by("item_id", "model").agg(pl.col("passed").mean().alias("p"))
    wide = items.pivot("model", index="item_id", values="p")
    within = sum(float((wide[g] * (1 - wide[g])).mean()) * 5 / 4 for g in "ab")
    observed = float(((wide["a"] - wide["b"]).to_numpy()).var(ddof=1))
    difference = abs(result.frame["difference"][0])
    test = (0.05, sample_size.POWER)
    expected = sample_size.trials(max(observed - within / 5, 0.0), within, 60, difference, test)
    assert float(found[1]) == pytest.approx(expected, rel=0.15)  # t for z, and rounded up


# every analysis


def test_every_declaration_names_columns_that_exist():
    """Figures, counts, groups and neutral values are columns or options of the analysis."""
    for name, declared in analysis.catalogue().items():
        settles = declared.settles
        if settles is None:
            continue
        columns = {c.name for c in declared.columns}
        options = {o.name: o.default for o in declared.options}
        if settles.column:
            assert settles.column in columns | set(options.values()), name
        if settles.n != "n_items":
            assert settles.n in columns, name
        if isinstance(settles.neutral, str):
            assert settles.neutral in columns | set(options), name
        if settles.where is not None:
            assert settles.where[0] in columns, name
        assert not settles.unless or settles.unless in options, name
        assert what_would_it_take.describe_note(declared).endswith("what they would cost."), name


@pytest.mark.parametrize("name", analysis.names())
def test_every_analysis_says_one_sentence_at_most(name):
    """One note, of bounded length, without a nan or an unknown."""
    note = plan(analysis.run(name, two_models(8), by=("model", "task")))

    assert len(note) < 500
    assert "nan" not in note.lower()
    assert "None" not in note


@pytest.mark.parametrize(
    "name", ["summary", "compare", "cost-of-pass", "voting", "explained-variance"]
)
def test_the_engine_does_not_matter(name):
    """A DuckDB relation and a Polars frame give the same sentence."""
    import duckdb

    frame = two_models(8)
    connection = duckdb.connect()
    connection.register("facts", frame.to_arrow())

    for by in (("model",), ("model", "task")):
        note = plan(analysis.run(name, frame, by=by))
        assert plan(analysis.run(name, connection.table("facts"), by=by)) == note


def test_items_are_not_dropped_from_the_plan_by_clusters():
    """Twice the items of the same clusters: the same clusters decide, so twice the items are asked
    for."""
    base = outcomes({"a": [1] * 24 + [0] * 16, "b": [1] * 20 + [0] * 20})
    base = base.with_columns(cluster=pl.col("item_id"))
    twin = pl.concat([base, base.with_columns(item_id=pl.col("item_id") + "x")])

    once, twice = (items_named(plan(analysis.summary(frame))) for frame in (base, twin))
    assert twice == pytest.approx(2 * once, rel=0.1)
