"""No analysis drops a column that it was asked to group by: it is in the result, or the result says
why not."""

import itertools

import numpy as np
import polars as pl
import pytest

from tests.support.facts import facts
from workbench import analysis

# Rows of these are about several groups; a group is a label there: "m1 · direct".
LABELLED = {
    "allocation",
    "cascade",
    "compare",
    "power",
    "price-reversal",
    "routing",
}
FACTORS = "explained-variance"  # a row per column of `by`


@pytest.fixture(scope="module")
def traces() -> pl.DataFrame:
    """Two models with two strategies each, on the items of two tasks, all trials right or wrong by
    chance."""
    rng = np.random.default_rng(3)
    places = itertools.product(("m1", "m2"), ("direct", "cot"), ("t1", "t2"), range(8), range(2))
    return facts(
        *[
            {
                "configuration": f"{model} {strategy}",
                "model": model,
                "strategy": strategy,
                "task": task,
                "task_id": task,
                "item": str(i),
                "item_id": f"{task}{i}",
                "trial": k,
                "passed": bool(rng.random() < 0.5),
                "confidence": rng.random(),
                "cost_usd": (1 + (model == "m2")) * rng.uniform(0.01, 0.02),
                "reasoning_cost_usd": 0.001,
                "answer": str(i),
                "input_usd_per_mtok": 1.0 + (model == "m2"),
                "output_usd_per_mtok": 3.0 + (model == "m2"),
                "e2e_s": 2.0,
                "input_tokens": 10,
                "output_tokens": int(rng.integers(5, 50)),
                "reasoning_tokens": 3,
                "n_calls": 1,
                "n_turns": 1,
            }
            for model, strategy, task, i, k in places
        ]
    )


@pytest.mark.parametrize(
    "by", [("model", "task"), ("task", "model"), ("model", "strategy", "task")]
)
@pytest.mark.parametrize("name", analysis.names())
def test_every_column_to_group_by_is_in_the_result(
    traces: pl.DataFrame, name: str, by: tuple[str, ...]
) -> None:
    """As a column of its own, in the labels of what is compared, or in a note."""
    result = analysis.run(name, traces, by=by)

    notes = " ".join(result.notes)
    for column in by:
        if name == FACTORS:
            assert column in result.frame["factor"].to_list()
        elif column in result.frame.columns or column in notes:
            continue
        else:
            assert name in LABELLED
            assert column != "task"
            cells = " ".join(str(v) for row in result.frame.iter_rows() for v in row)
            assert result.frame.is_empty() or traces[column][0] in cells


def test_aggregates_are_kept_apart_by_task(traces: pl.DataFrame) -> None:
    """Each is of its own task, and only groups of the same task are compared."""
    apart = analysis.aggregate(traces, by=("model", "task"), resamples=100)

    assert apart.frame.select("model", "task").n_unique() == apart.frame.height == 4
    alone = analysis.aggregate(traces.filter(task="t1"), by="model", resamples=100).frame
    own = apart.frame.filter(task="t1").select("model", "mean", "n").sort("model")
    assert own.equals(alone.select("model", "mean", "n").sort("model"))
    assert apart.more["improvement"].height == 2
