"""How often the intervals hold the truth: simulated studies through the real analyses; prints a
table.

Run as `python tests/benchmarks/bench_coverage.py`, with names of cases to take only those;
`--studies N` for more of them than 1,000, `--items 30,100,500` for other sizes, `--level 0.95`.
Every study has items of its own difficulty, and what an attempt costs goes with it. The truth is
that of a million items. An interval is as good as the share of studies in which it holds the truth;
`±` is two standard errors of that share, `below` and `above` are how often the truth was there.
Studies without an interval are counted in `none`.
"""

import argparse
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from workbench import analysis
from workbench.analysis.families.sampling.coverage import power_law
from workbench.analysis.families.sampling.saturation import fit as saturating
from workbench.analysis.stats import swiss_rounds

Floats = npt.NDArray[np.float64]
Rows = Callable[[np.random.Generator, int, int], pl.DataFrame]
TRIALS = 4
_TRUTH_ITEMS = 1_000_000
_AT_ONCE = 250  # studies that go through an analysis as its groups
_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class World:
    """Attempts on items: (…, items, trials) each.

    Attributes:
        p: (…, items) chance that an attempt passes.
        passed, cost, tokens, seconds, joules, sure: of the attempts.
    """

    p: Floats
    passed: npt.NDArray[np.bool_]
    cost: Floats
    tokens: Floats
    seconds: Floats
    joules: Floats
    sure: Floats


def world(rng: np.random.Generator, shape: tuple[int, ...], trials: int) -> World:
    """Make attempts: hard items are passed rarely and cost more; lengths are log-normal."""
    ease = rng.normal(0.3, 1.3, shape)
    p = 1 / (1 + np.exp(-ease))
    whole = (*shape, trials)
    passed = rng.random(whole) < p[..., None]
    length = (
        6 - 0.35 * ease[..., None] + rng.normal(0, 0.35, (*shape, 1)) + rng.normal(0, 0.45, whole)
    )
    tokens = np.round(np.exp(length))
    cost = (0.3e-3 + 1e-5 * tokens) * rng.lognormal(0, 0.1, whole)
    seconds = 0.5 + 0.02 * tokens * rng.lognormal(0, 0.25, whole)
    joules = 30 + 0.8 * tokens * rng.lognormal(0, 0.2, whole)
    sure = 1 / (1 + np.exp(-(0.6 * ease[..., None] + 0.8 * passed + rng.normal(0, 1, whole))))
    return World(p, passed, cost, tokens, seconds, joules, sure)


@functools.cache
def everything() -> World:
    """The population, near enough."""
    return world(np.random.default_rng(99), (_TRUTH_ITEMS,), 2)


def traces(made: World, first: int = 0) -> pl.DataFrame:
    """Rows of trace_facts: every study is a configuration, all on items of the same names."""
    k, n, trials = made.passed.shape
    study, item, trial = (x.ravel() for x in np.indices((k, n, trials)))
    wrong = np.random.default_rng(first).integers(0, 3, study.size)
    passed = made.passed.ravel()
    return pl.DataFrame(
        {
            "configuration": pl.Series(study + first).cast(pl.String).str.zfill(6),
            "model": "m",
            "task": "t",
            "task_id": "t",
            "item": pl.Series(item).cast(pl.String),
            "item_id": pl.Series(item).cast(pl.String),
            "trial": trial,
            "passed": passed,
            "score": passed.astype(float),
            "cost_usd": made.cost.ravel(),
            "e2e_s": made.seconds.ravel(),
            "input_tokens": 100,
            "output_tokens": made.tokens.ravel().astype(int),
            "reasoning_tokens": (0.7 * made.tokens.ravel()).astype(int),
            "energy_j": made.joules.ravel(),
            "energy_method": "measured",
            "confidence": made.sure.ravel(),
            "answer": np.where(passed, "right", np.array(["a", "b", "c"])[wrong]),
            "target": "right",
            "trace_id": pl.Series(np.arange(study.size)).cast(pl.String),
        }
    ).with_columns(
        error_type=pl.lit(None, pl.String),
        cluster=pl.lit(None, pl.String),
        metadata=pl.lit(None, pl.String),
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """A figure of an analysis and its true value.

    Attributes:
        analysis, column: whose interval.
        truth: the true value; of the number of items where it depends on it.
        options: of the analysis.
        table: of `more`, if it is not the first one.
        pick: which row of a study, by the value of a column.
        trials: of every item.
        rows: what makes the frame of some studies, where it is not `traces` of a `world`.
        heavy: as many times fewer studies.
        at_once: how many studies at most are groups of one frame; with 1 a study is a frame.
        sizes: of the studies, where they are not numbers of items.
    """

    analysis: str
    column: str
    truth: Callable[[], float]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    table: str | None = None
    pick: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trials: int = TRIALS
    rows: Rows | None = None
    heavy: int = 1
    at_once: int = _AT_ONCE
    sizes: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Found:
    """How often an interval held the truth.

    Attributes:
        studies: with an interval; none: without.
        held, below, above: shares of studies: truth inside, under the low end, over the high end.
        width: the median.
    """

    studies: int
    none: int
    held: float
    below: float
    above: float
    width: float

    @property
    def error(self) -> float:
        """Two standard errors of the share."""
        return 2 * float(np.sqrt(max(self.held * (1 - self.held), 1e-4) / max(self.studies, 1)))


def measure(case: Case, n_items: int, studies: int, seed: int = 0, level: float = 0.95) -> Found:
    """Simulate studies of so many items, and count."""
    studies = max(studies // case.heavy, 50)
    asked = tuple(sorted(case.options.items()))
    ends, truth = [], case.truth()
    simulated = (case.rows, case.trials, n_items, studies, seed, case.at_once)
    for result, size in _answers(case.analysis, asked, simulated, level):
        table = result.frame if case.table is None else result.more[case.table]
        for column, value in case.pick.items():
            table = table.filter(pl.col(column) == value)
        if table.height != size:
            message = f"{case.analysis}: {table.height} rows of {size} studies"
            raise ValueError(message)
        ends.append(table.select(low=f"{case.column}_low", high=f"{case.column}_high"))
    return counted(pl.concat(ends), truth)


@functools.lru_cache(maxsize=4)  # figures of one analysis stand side by side
def _answers(
    name: str,
    asked: tuple[tuple[str, Any], ...],
    simulated: tuple[Rows | None, int, int, int, int, int],
    level: float,
) -> list[tuple[Any, int]]:
    """Run the analysis on studies, some at once as its groups: the results, and how many."""
    rows, trials, n_items, studies, seed, most = simulated
    options = dict(asked) | {"level": level}
    if any(o.name == "resamples" for o in analysis.get(name).options):
        options.setdefault("resamples", _RESAMPLES)
    at_once, found = min(most, max(200_000 // (n_items * trials), 25)), []
    for first in range(0, studies, at_once):
        rng, size = np.random.default_rng([seed, n_items, first]), min(at_once, studies - first)
        if rows is not None:
            frame = rows(rng, size, n_items)
        else:
            frame = traces(world(rng, (size, n_items), trials), first)
        result = analysis.run(name, frame, by="configuration", rng=rng, **options)
        found.append((result, size))
    return found


def counted(ends: pl.DataFrame, truth: float) -> Found:
    """Count where the truth lies."""
    known = ends.drop_nulls()
    low, high = known["low"].to_numpy(), known["high"].to_numpy()
    with np.errstate(invalid="ignore"):
        width = float(np.median(high - low)) if len(low) else float("nan")
    return Found(
        len(low),
        ends.height - len(low),
        float(((low <= truth) & (truth <= high)).mean()),
        float((truth < low).mean()),
        float((truth > high).mean()),
        width,
    )


# --- true values, each by its definition ---


def _mean(values: Floats) -> float:
    return float(values.mean())


def _value(figure: Callable[[World], float]) -> Callable[[], float]:
    return functools.cache(lambda: figure(everything()))


def _vote() -> float:
    """The commonest of three answers, ties by lot: right with two, or alone among three unlike."""
    p = everything().p
    q = 1 - p
    alone = p * q**2 * 3 * (2 / 3) / 3  # one right, two unlike wrong ones: one in three
    return _mean(p**3 + 3 * p**2 * q + alone)


def _auc(w: World) -> float:
    rng = np.random.default_rng(3)
    right, wrong = w.sure[w.passed], w.sure[~w.passed]
    pairs = 4_000_000
    return _mean(rng.choice(right, pairs) > rng.choice(wrong, pairs))


def _wrong_extra(w: World) -> float:
    thinking = np.floor(0.7 * w.tokens)
    return _mean(thinking[~w.passed]) - _mean(thinking[w.passed])


def _far(w: World) -> float:
    ks = [1, 2, 3, 4]
    curve = np.array([_mean(1 - (1 - w.p) ** k) for k in ks])
    a, b = power_law(ks, curve)
    return float(np.exp(a * 16.0**b))


def _plateau(w: World) -> float:
    ks = np.array([1.0, 2, 3, 4])
    curve = np.array([_mean(1 - (1 - w.p) ** k) for k in ks])
    return float(saturating(ks, curve[None])[0][0])


# --- other studies ---

_TASKS = np.array([0.35, 0.5, 0.6, 0.75, 0.85])


def repeats(rng: np.random.Generator, studies: int, n: int) -> pl.DataFrame:
    """Five tasks whose scores differ; n repeats of each, graded."""
    score = np.clip(_TASKS[:, None] + rng.normal(0, 0.08, (studies, 5, n)), 0, 1)
    study, task, trial = (x.ravel() for x in np.indices(score.shape))
    name = pl.Series(task).cast(pl.String)
    return pl.DataFrame(
        {
            "configuration": pl.Series(study).cast(pl.String),
            "task": name,
            "task_id": name,
            "item": name,
            "item_id": name,
            "trial": trial,
            "score": score.ravel(),
            "passed": None,
        }
    ).with_columns(
        error_type=pl.lit(None, pl.String),
        cluster=pl.lit(None, pl.String),
        passed=pl.lit(None, pl.Boolean),
    )


def _two(ease: Floats, rng: np.random.Generator) -> list[tuple[Floats, Floats, Floats]]:
    """A cheap model and one that is better and dearer on the same items: right, cost,
    confidence."""
    found = []
    for skill, price in ((0.0, 1.0), (1.0, 5.0)):
        right = rng.random(ease.shape) < 1 / (1 + np.exp(-ease - skill))
        cost = price * np.exp(-0.35 * ease + rng.normal(0, 0.6, ease.shape))
        found.append((right, cost, 1 / (1 + np.exp(-ease - rng.normal(0, 1, ease.shape)))))
    return found


def pair(rng: np.random.Generator, _: int, n: int) -> pl.DataFrame:
    """One study of two models."""
    parts = []
    for name, (right, cost, sure) in zip("ab", _two(rng.normal(0.3, 1.3, n), rng), strict=True):
        item = pl.Series(range(n)).cast(pl.String)
        parts.append(
            pl.DataFrame(
                {
                    "configuration": name,
                    "model": name,
                    "task": "t",
                    "task_id": "t",
                    "item": item,
                    "item_id": item,
                    "trial": 0,
                    "passed": right,
                    "score": right.astype(float),
                    "cost_usd": cost,
                    "confidence": sure,
                    "trace_id": name + item,
                }
            )
        )
    return pl.concat(parts).with_columns(
        error_type=pl.lit(None, pl.String),
        cluster=pl.lit(None, pl.String),
        metadata=pl.lit(None, pl.String),
    )


@functools.cache
def _pair() -> tuple[float, float, float]:
    """Difference of rates, ratio of costs, and area of the cascade from cheap to dear."""
    rng = np.random.default_rng(8)
    (a, cost_a, sure), (b, cost_b, _) = _two(rng.normal(0.3, 1.3, _TRUTH_ITEMS), rng)
    order = np.argsort(sure)
    gained = np.cumsum((b.astype(float) - a)[order]) / len(order)
    return (
        float(a.mean() - b.mean()),
        float(cost_a.mean() / cost_b.mean()),
        float(a.mean() + gained.mean()),
    )


_BUDGETS = np.array([100, 200, 400, 800, 1600, 3200])


def budgets(rng: np.random.Generator, _: int, n: int) -> pl.DataFrame:
    """One study of six token budgets on the same items, whose rates follow a law exactly."""
    rate = 0.85 - 3 * _BUDGETS**-0.45
    u = rng.random((len(_BUDGETS), n))
    parts = []
    for k, tokens in enumerate(_BUDGETS.tolist()):
        item = pl.Series(range(n)).cast(pl.String)
        parts.append(
            pl.DataFrame(
                {
                    "configuration": f"b{k}",
                    "model": "m",
                    "task": "t",
                    "task_id": "t",
                    "item": item,
                    "item_id": item,
                    "trial": 0,
                    "passed": u[k] < rate[k],
                    "output_tokens": tokens,
                    "trace_id": f"b{k}-" + item,
                }
            )
        )
    return pl.concat(parts).with_columns(
        error_type=pl.lit(None, pl.String), cluster=pl.lit(None, pl.String)
    )


def _named(study: Any, item: Any, **more: Any) -> pl.DataFrame:
    """Rows of single attempts, of a study's configuration on an item."""
    name = pl.Series(item).cast(pl.String)
    rows = pl.DataFrame(
        {
            "configuration": pl.Series(study).cast(pl.String),
            "model": "m",
            "task": "t",
            "task_id": "t",
            "item": name,
            "item_id": name,
            "trial": 0,
            **more,
        }
    )
    blank = {
        c: pl.lit(None, pl.String) for c in ("error_type", "cluster", "metadata") if c not in more
    }
    number = pl.int_range(pl.len()).cast(pl.String)
    return rows.with_columns(trace_id=number, **blank)


def texts(rng: np.random.Generator, studies: int, n: int) -> pl.DataFrame:
    """Texts of 10 words and more, of which those of wrong answers hedge more."""
    study, item = (x.ravel() for x in np.indices((studies, n)))
    passed, hedges, words = _texts(rng, len(study))
    text = [
        ("maybe " * h + "so " * (w - h)).strip()
        for h, w in zip(hedges.tolist(), words.tolist(), strict=True)
    ]
    return _named(
        study,
        item,
        passed=passed,
        output_text=text,
        thinking_text=pl.Series([None] * len(text), dtype=pl.String),
        input="how many",
        output_tokens=words,
    )


def _texts(rng: np.random.Generator, n: int) -> tuple[Any, Any, Any]:
    passed = rng.random(n) < 0.6
    words = 10 + rng.negative_binomial(2, 0.05, n)
    return passed, rng.binomial(words, np.where(passed, 0.03, 0.06) * rng.uniform(0, 2, n)), words


@functools.cache
def _hedges() -> tuple[float, float, float]:
    """Words, hedges per 100 words, and those of wrong texts minus those of right ones."""
    passed, hedges, words = _texts(np.random.default_rng(4), 4 * _TRUTH_ITEMS)
    wrong, right = (100 * hedges[of].sum() / words[of].sum() for of in (~passed, passed))
    return float(words.mean()), float(100 * hedges.sum() / words.sum()), float(wrong - right)


def formats(rng: np.random.Generator, studies: int, n: int) -> pl.DataFrame:
    """Two number formats of a model on the same items, the coarser one a little worse, and
    cheaper."""
    study, item = (x.ravel() for x in np.indices((studies, n)))
    ease = rng.normal(0.3, 1.3, len(study))
    (b, cost_b, _), (a, cost_a, _) = _two(ease, rng)
    fine = _named(study, item, precision="bf16", passed=a, cost_usd=cost_a)
    coarse = _named(study, item, precision="int4", passed=b, cost_usd=cost_b)
    return pl.concat([fine, coarse]).with_columns(score=pl.col("passed").cast(float))


def levels(rng: np.random.Generator, _: int, n: int) -> pl.DataFrame:
    """One study: a curve of three efforts, and a baseline above none and below one of them."""
    ease, parts = rng.normal(0, 1.3, n), []
    for name, effort, skill, price in _LEVELS:
        right = rng.random(n) < 1 / (1 + np.exp(-ease - skill))
        cost = price * np.exp(-0.2 * ease + rng.normal(0, 0.4, n))
        parts.append(_named([name] * n, np.arange(n), effort=effort, passed=right, cost_usd=cost))
    return pl.concat(parts).with_columns(score=pl.col("passed").cast(float))


_LEVELS = (
    ("a", "low", -0.8, 1.0),
    ("a", "medium", 0.3, 2.0),
    ("a", "high", 1.3, 4.0),
    ("b", "low", 0.6, 3.0),
)


@functools.cache
def _levels() -> tuple[float, float]:
    """Ratio of costs at the baseline's quality, and gain at its cost, along straight lines."""
    ease = np.random.default_rng(6).normal(0, 1.3, _TRUTH_ITEMS)
    rates = [_mean(1 / (1 + np.exp(-ease - skill))) for _, _, skill, _ in _LEVELS]
    prices = [price for *_, price in _LEVELS]  # all times one factor, which cancels
    ratio = np.interp(rates[3], rates[:3], prices[:3]) / prices[3]
    return float(ratio), float(np.interp(prices[3], prices[:3], rates[:3]) - rates[3])


def runs(rng: np.random.Generator, studies: int, n: int) -> pl.DataFrame:
    """Runs of 1 to 30 turns, of which the long ones rarely pass; a turn reads all that went
    before."""
    study, item = (x.ravel() for x in np.indices((studies, n)))
    passed, turns = _runs(rng, len(study))
    cost = 1e-3 * turns * (turns + 1) / 2
    return _named(
        study, item, passed=passed, n_turns=turns, cost_usd=cost, score=passed.astype(float)
    )


def _runs(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
    turns = np.minimum(1 + rng.poisson(rng.gamma(2, 2, n)), 30)
    return rng.random(n) < 0.9 * 0.88**turns, turns


@functools.cache
def _capped() -> tuple[float, float]:
    """Accuracy kept and cost saved by a cap of four turns."""
    passed, turns = _runs(np.random.default_rng(7), 4 * _TRUTH_ITEMS)
    most = np.minimum(turns, 4)
    return _mean(passed & (turns <= 4)), 1 - (most * (most + 1)).sum() / (turns * (turns + 1)).sum()


def revisions(rng: np.random.Generator, studies: int, n: int) -> pl.DataFrame:
    """Answers of none, one and two rounds of revision on the same items, attempts of their own."""
    study, item = (x.ravel() for x in np.indices((studies, n)))
    ease = rng.normal(0.3, 1.3, len(study))
    parts = [
        _named(
            study,
            item,
            passed=rng.random(len(study)) < 1 / (1 + np.exp(-ease - skill)),
            strategy="self_refine",
            strategy_params=f'{{"rounds": {k}}}',
            cost_usd=0.01 * (k + 1),
        )
        for k, skill in enumerate(_SKILLS)
    ]
    return pl.concat(parts).with_columns(score=pl.col("passed").cast(float))


_SKILLS = (0.0, 0.4, 0.6)


@functools.cache
def _revised() -> tuple[float, float]:
    """Accuracy after two rounds minus that of the first answer, and the slope."""
    ease = np.random.default_rng(9).normal(0.3, 1.3, _TRUTH_ITEMS)
    rates = [_mean(1 / (1 + np.exp(-ease - skill))) for skill in _SKILLS]
    return rates[2] - rates[0], float(np.polyfit(range(3), rates, 1)[0])


@functools.cache
def _pair_of_formats() -> tuple[float, float, float]:
    """Loss of the coarser format, score recovered, and factor of cost."""
    rng = np.random.default_rng(10)
    (b, cost_b, _), (a, cost_a, _) = _two(rng.normal(0.3, 1.3, 4 * _TRUTH_ITEMS), rng)
    return _mean(a) - _mean(b), _mean(b) / _mean(a), _mean(cost_b) / _mean(cost_a)


@functools.cache
def _heaviest(k: int) -> float:
    """The answer of the greatest sum of confidences, of k attempts: right, or one of three wrong
    ones."""
    made, rng = world(np.random.default_rng(11), (_TRUTH_ITEMS,), k), np.random.default_rng(12)
    answer = np.where(made.passed, 0, 1 + rng.integers(0, 3, made.passed.shape))
    sums = np.stack([np.where(answer == a, made.sure, 0.0).sum(axis=1) for a in range(4)])
    return _mean(sums.argmax(axis=0) == 0)


@functools.cache
def _threshold() -> tuple[float, float, float]:
    """Right among the accepted, accepted, and handled right, at the threshold that makes 80 %
    right."""
    w = everything()
    order = np.argsort(w.sure.ravel())[::-1]
    right = w.passed.ravel()[order]
    share = np.cumsum(right) / np.arange(1, len(right) + 1)
    n = int(np.flatnonzero(share >= 0.8)[-1]) + 1
    handled = (right[:n].sum() + (~right[n:]).sum()) / len(right)
    return float(share[n - 1]), n / len(right), float(handled)


def rounds(rng: np.random.Generator, _: int, n: int) -> pl.DataFrame:
    """One study of four models on three tasks of n items each."""
    parts = []
    for task, rates in enumerate(_RATES):
        for model, rate in enumerate(rates):
            rows = _named(np.full(n, model), task * n + np.arange(n), passed=rng.random(n) < rate)
            parts.append(rows.with_columns(task=pl.lit(f"t{task}"), task_id=pl.lit(f"t{task}")))
    return pl.concat(parts).with_columns(score=pl.col("passed").cast(float))


_RATES = ((0.45, 0.5, 0.55, 0.7), (0.5, 0.6, 0.45, 0.65), (0.6, 0.5, 0.55, 0.75))


@functools.cache
def _points() -> float:
    """Expected points of the second model, from the true rates."""
    scores = np.array(_RATES).T[None]
    return float(swiss_rounds.play(scores, 1, 100_000, np.random.default_rng(1))[0][0, 1])


@functools.cache
def _iqm() -> float:
    rng = np.random.default_rng(5)
    pooled = np.sort(np.clip(_TASKS[:, None] + rng.normal(0, 0.08, (5, 400_000)), 0, 1).ravel())
    return _mean(pooled[len(pooled) // 4 : -(len(pooled) // 4)])


def _c(name: str, column: str, truth: Callable[[World], float], **more: Any) -> Case:
    return Case(name, column, _value(truth), **more)


def _rate(w: World) -> float:
    return _mean(w.p)


CASES: dict[str, Case] = {
    "pass rate, Wilson, 1 trial": _c("summary", "pass_rate", _rate, trials=1),
    "pass rate, Wilson, 4 trials": _c("summary", "pass_rate", _rate),
    "pass rate, t, 4 trials": _c("summary", "pass_rate", _rate, options={"interval": "t"}),
    "mean cost, t": _c("summary", "cost_usd", lambda w: _mean(w.cost)),
    "cost of pass, bootstrap": _c(
        "cost-of-pass", "cost_of_pass_usd", lambda w: _mean(w.cost) / _rate(w), trials=1
    ),
    "cost of pass, BCa": _c(
        "cost-of-pass",
        "cost_of_pass_usd",
        lambda w: _mean(w.cost) / _rate(w),
        trials=1,
        options={"interval": "bca"},
    ),
    "E³ (A²/T)": _c("efficiency-scores", "e3", lambda w: 1e4 * _rate(w) ** 2 / _mean(w.tokens)),
    "rate per dollar": _c(
        "efficiency-scores", "rate_per_dollar", lambda w: 100 * _rate(w) / _mean(w.cost), trials=1
    ),
    "joules per trace": _c("energy", "energy_j", lambda w: _mean(w.joules), trials=1),
    "joules per token": _c(
        "energy", "energy_per_token", lambda w: _mean(w.joules) / _mean(w.tokens), trials=1
    ),
    "joules per right answer": _c(
        "energy", "energy_per_pass_j", lambda w: _mean(w.joules) / _rate(w), trials=1
    ),
    "margin per run": _c(
        "economics",
        "margin_usd",
        lambda w: 0.02 * _rate(w) - _mean(w.cost),
        options={"value_usd": 0.02},
    ),
    "pass@2": _c("coverage", "pass_at_k", lambda w: _mean(1 - (1 - w.p) ** 2), pick={"k": 2}),
    "pass^2": _c("coverage", "pass_all_k", lambda w: _mean(w.p**2), pick={"k": 2}),
    "envelope gap at 2": _c(
        "coverage", "envelope_gap", lambda w: _mean(2 * w.p * (1 - w.p)), pick={"k": 2}
    ),
    "pass@16 by power law": _c(
        "coverage", "far_pass_at_k", _far, options={"far_k": 16}, table="fit"
    ),
    "majority of 3": Case("voting", "vote_rate", functools.cache(_vote), pick={"k": 3}),
    "median latency": _c("latency", "p50_s", lambda w: float(np.median(w.seconds))),
    "90th percentile of latency": _c(
        "latency", "p90_s", lambda w: float(np.quantile(w.seconds, 0.9))
    ),
    "goodput": _c(
        "latency",
        "goodput",
        lambda w: _mean(w.seconds <= 10.0),
        options={"max_e2e_s": 10.0},
        table="goodput",
    ),
    "AUC of a confidence": _c("calibration", "auc", _auc),
    "variance within": _c("variance", "within", lambda w: _mean(w.p * (1 - w.p))),
    "variance between": _c("variance", "between", lambda w: float(w.p.var())),
    "ICC": _c(
        "variance", "icc", lambda w: float(w.p.var()) / (float(w.p.var()) + _mean(w.p * (1 - w.p)))
    ),
    "median thinking": _c(
        "thinking-length", "p50_tokens", lambda w: float(np.median(np.floor(0.7 * w.tokens)))
    ),
    "thinking, wrong minus right": _c("thinking-length", "wrong_extra_tokens", _wrong_extra),
    "plateau over trials": _c("saturation", "plateau", _plateau, options={"select": "any"}),
    "paired difference, t": Case(
        "compare",
        "difference",
        lambda: _pair()[0],
        rows=pair,
        options={"a": "a"},
        heavy=2,
        at_once=1,
    ),
    "paired difference, bootstrap": Case(
        "compare",
        "difference",
        lambda: _pair()[0],
        rows=pair,
        options={"a": "a", "interval": "percentile"},
        heavy=2,
        at_once=1,
    ),
    "ratio of costs, paired": Case(
        "compare",
        "cost_ratio",
        lambda: _pair()[1],
        rows=pair,
        options={"a": "a"},
        heavy=2,
        at_once=1,
    ),
    "area of a cascade": Case(
        "cascade",
        "area",
        lambda: _pair()[2],
        rows=pair,
        options={"small": "a", "large": "b"},
        heavy=4,
        at_once=1,
    ),
    "law of budgets, twice as far": Case(
        "scaling-law",
        "predicted",
        lambda: 0.85 - 3 * 6400**-0.45,
        rows=budgets,
        options={"x": "output_tokens", "at": 2.0},
        table="laws",
        heavy=4,
        at_once=1,
    ),
    "words": Case("markers", "words", lambda: _hedges()[0], rows=texts, heavy=2),
    "hedges per 100 words": Case("markers", "hedges", lambda: _hedges()[1], rows=texts, heavy=2),
    "hedges, wrong minus right": Case(
        "markers", "hedged_wrong_extra", lambda: _hedges()[2], rows=texts, heavy=2
    ),
    "loss of a number format": Case(
        "quantization",
        "change",
        lambda: -_pair_of_formats()[0],
        rows=formats,
        pick={"precision": "int4"},
        heavy=2,
    ),
    "score recovered": Case(
        "quantization",
        "recovered",
        lambda: _pair_of_formats()[1],
        rows=formats,
        pick={"precision": "int4"},
        heavy=2,
    ),
    "factor of cost": Case(
        "quantization",
        "cost_factor",
        lambda: _pair_of_formats()[2],
        rows=formats,
        pick={"precision": "int4"},
        heavy=2,
    ),
    "cost at equal quality": Case(
        "tradeoff",
        "cost_ratio",
        lambda: _levels()[0],
        rows=levels,
        options={"baseline": "b", "points": "effort"},
        pick={"configuration": "a"},
        heavy=2,
        at_once=1,
    ),
    "quality at equal cost": Case(
        "tradeoff",
        "gain",
        lambda: _levels()[1],
        rows=levels,
        options={"baseline": "b", "points": "effort"},
        pick={"configuration": "a"},
        heavy=2,
        at_once=1,
    ),
    "accuracy under a cap": Case(
        "turn-control",
        "rate",
        lambda: _capped()[0],
        rows=runs,
        options={"limits": "4"},
        pick={"rule": "limit"},
        heavy=2,
    ),
    "cost saved by a cap": Case(
        "turn-control",
        "saving",
        lambda: _capped()[1],
        rows=runs,
        options={"limits": "4"},
        pick={"rule": "limit"},
        heavy=2,
    ),
    "gain by revisions": Case(
        "refinement", "whole_gain", lambda: _revised()[0], rows=revisions, table="totals", heavy=2
    ),
    "slope of revisions": Case(
        "refinement", "slope", lambda: _revised()[1], rows=revisions, table="totals", heavy=2
    ),
    "right above a threshold": Case(
        "thresholds", "precision_common", lambda: _threshold()[0], options={"wanted": 0.8}, heavy=2
    ),
    "accepted above it": Case(
        "thresholds", "accepted_common", lambda: _threshold()[1], options={"wanted": 0.8}, heavy=2
    ),
    "handled right by it": Case(
        "thresholds", "utility_common", lambda: _threshold()[2], options={"wanted": 0.8}, heavy=2
    ),
    "points in Swiss rounds": Case(
        "swiss",
        "points",
        _points,
        rows=rounds,
        options={"times": 400},
        pick={"configuration": "1"},
        heavy=2,
        at_once=1,
    ),
    "weighted vote of 3": Case(
        "voting",
        "weighted_rate",
        lambda: _heaviest(3),
        options={"weight": "confidence"},
        pick={"k": 3},
        heavy=2,
    ),
    "IQM of repeats": Case(
        "aggregate",
        "iqm",
        _iqm,
        rows=repeats,
        options={"outcome": "score"},
        heavy=2,
        at_once=8,
        sizes=(3, 5, 10),
    ),
    "mean of repeats": Case(
        "aggregate",
        "mean",
        lambda: float(np.mean(_TASKS)),
        rows=repeats,
        options={"outcome": "score"},
        heavy=2,
        at_once=8,
        sizes=(3, 5, 10),
    ),
}


_PER_CLUSTER = 10


def clustered(
    rng: np.random.Generator, studies: int, n: int, *, rate: float, icc: float
) -> pl.DataFrame:
    """Studies of n clusters of ten items each, tried once: beta-binomial right answers."""
    p = np.full((studies, n), rate)
    if icc > 0:
        spread = (1 - icc) / icc
        p = rng.beta(rate * spread, (1 - rate) * spread, (studies, n))
    passed = rng.random((studies, n, _PER_CLUSTER)) < p[..., None]
    study, cluster, place = (x.ravel() for x in np.indices(passed.shape))
    name = pl.Series(cluster).cast(pl.String)
    return _named(
        study, _PER_CLUSTER * cluster + place, passed=passed.ravel(), cluster=name
    ).with_columns(score=pl.col("passed").cast(float))


CASES |= {
    f"clustered rate {rate}, ICC {icc}": Case(
        "summary",
        "pass_rate",
        functools.partial(float, rate),
        rows=functools.partial(clustered, rate=rate, icc=icc),
        trials=_PER_CLUSTER,
        sizes=(5, 10, 20),
    )
    for rate in (0.5, 0.8, 0.95)
    for icc in (0.0, 0.1, 0.3)
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="cases (the start of their names)")
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--items", default="30,100,500")
    parser.add_argument("--level", type=float, default=0.95)
    asked = parser.parse_args()
    sizes = [int(n) for n in asked.items.split(",")]
    names = [c for c in CASES if not asked.names or any(c.startswith(n) for n in asked.names)]
    if not names:
        sys.exit(f"no such case; there are: {', '.join(CASES)}")
    print(
        f"{'estimator':34} {'items':>6} {'held %':>7} {'±':>4}"
        f" {'below':>6} {'above':>6} {'none':>5} {'s':>6}"
    )
    for name in names:
        for n in CASES[name].sizes or sizes:
            start = time.perf_counter()
            studies = asked.studies if n * CASES[name].trials <= 400 else asked.studies // 2
            found = measure(CASES[name], n, studies, level=asked.level)
            said = (
                f"{100 * found.held:7.1f} {100 * found.error:4.1f}"
                f" {100 * found.below:6.1f} {100 * found.above:6.1f} {found.none:5}"
            )
            flag = "" if found.held >= asked.level - 0.02 - found.error / 2 else "  <"
            print(f"{name:34} {n:6} {said} {time.perf_counter() - start:6.1f}{flag}", flush=True)


if __name__ == "__main__":
    main()
